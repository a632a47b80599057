//! Which programs run, written down for the next daemon.
//!
//! A daemon that is killed leaves programs running that nobody keeps (see [`mod@super::keep`]), and the jobs they belong to are run again. So
//! that nothing runs twice at once, each attempt leaves a record while its program runs, and the next daemon ends what the records
//! name before it claims a job.
//!
//! The record is there before the program is, so that no program runs without one. It is not synced to disk: a power
//! cut that takes it takes the program too.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::jobs::RunPaths;
use crate::jobs::ports::process::{Ended, Family, ProcessName, boot_id};
use crate::model::{AttemptName, JobId};

/// What the name of a record's file ends with.
const EXTENSION: &str = "pid";

/// What the name of a file with the items of its run ends with.
const ITEMS_EXTENSION: &str = "items";

/// The first line of a record's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Attempt {
    job: i64,
    attempt: u32,
    key: String,
    boot: String,
}

/// The second line, once the program was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Main {
    pid: i32,
    /// In clock ticks since boot, from `/proc/PID/stat`.
    started: u64,
}

/// The record of one running attempt. It goes away when this is dropped.
#[derive(Debug)]
pub(super) struct RunRecord {
    path: PathBuf,
    file: File,
}

impl RunRecord {
    /// Written before the program is started.
    pub(super) fn create(paths: &RunPaths, attempt: AttemptName, key: &str) -> io::Result<Self> {
        let folder = paths.running();
        std::fs::create_dir_all(&folder)?;
        let path = path(&folder, attempt);
        let mut record = Self { file: File::create(&path)?, path };
        let AttemptName { job, number } = attempt;
        record.add(&Attempt {
            job: job.0,
            attempt: number,
            key: key.to_owned(),
            boot: boot_id(),
        })?;
        Ok(record)
    }

    /// Adds the process, by which the program is found even if it has cleared its environment.
    pub(super) fn started(&mut self, main: ProcessName) -> io::Result<()> {
        self.add(&Main { pid: main.pid, started: main.started })
    }

    /// Only ever adds, so that no crash can leave less than there was.
    fn add(&mut self, line: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(line)?;
        line.push(b'\n');
        self.file.write_all(&line)
    }
}

impl Drop for RunRecord {
    fn drop(&mut self) {
        // A record that stays is looked at once at the next start, and then finds nothing.
        let _gone = std::fs::remove_file(&self.path);
    }
}

/// What a daemon that was killed had left running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The job.
    pub job: JobId,
    /// Which execution of it.
    pub attempt: u32,
    /// What became of its processes.
    pub ended: Ended,
}

/// Ends what an earlier daemon of this data directory left running, and removes its records; the programs of `kept` go on. Blocks for
/// up to `grace` and a little more for each attempt that had something running.
///
/// To be called at start, when this daemon has the data directory for itself and before it takes a job. Attempts without
/// any process left are not in the answer.
///
/// # Errors
/// When the records cannot be listed.
pub fn kill_leftovers(
    paths: &RunPaths,
    kept: &[AttemptName],
    grace: Duration,
) -> io::Result<Vec<Leftover>> {
    let folder = paths.running();
    let entries = match std::fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let kept: BTreeSet<PathBuf> = kept.iter().map(|attempt| path(&folder, *attempt)).collect();
    let is_record = |path: &PathBuf| path.extension().is_some_and(|name| name == EXTENSION);
    let paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    let paths: Vec<PathBuf> =
        paths.into_iter().filter(|path| is_record(path) && !kept.contains(path)).collect();
    // One thread each: what ignores SIGTERM must not make the others wait. There are no more of them than the earlier
    // daemon had workers.
    let leftovers = std::thread::scope(|threads| {
        let ending: Vec<_> =
            paths.iter().map(|path| threads.spawn(move || end_recorded(path, grace))).collect();
        ending.into_iter().filter_map(|thread| thread.join().ok().flatten()).collect()
    });
    for path in &paths {
        remove(path)?;
        remove(&path.with_extension(ITEMS_EXTENSION))?;
    }
    Ok(leftovers)
}

/// The same for a single attempt.
pub(super) fn end_one(paths: &RunPaths, attempt: AttemptName, grace: Duration) {
    let path = path(&paths.running(), attempt);
    end_recorded(&path, grace);
    // One that stays is looked at once at the next start, and then finds nothing.
    let _gone = remove(&path).and_then(|()| remove(&path.with_extension(ITEMS_EXTENSION)));
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn path(folder: &Path, attempt: AttemptName) -> PathBuf {
    folder.join(format!("{attempt}.{EXTENSION}"))
}

/// Where the items of a run are, for a program that does not get them as its input. The file lives no longer than the record.
pub(super) fn items_file(paths: &RunPaths, attempt: AttemptName) -> PathBuf {
    path(&paths.running(), attempt).with_extension(ITEMS_EXTENSION)
}

/// Ends what a record names. One that cannot be read was cut short by a full disk, and its program was not started.
fn end_recorded(path: &Path, grace: Duration) -> Option<Leftover> {
    let (attempt, main) = parse(&std::fs::read_to_string(path).ok()?)?;
    if attempt.boot == boot_id() { end(attempt, main, grace) } else { None }
}

fn parse(text: &str) -> Option<(Attempt, Option<Main>)> {
    let mut lines = text.lines();
    let attempt = serde_json::from_str(lines.next()?).ok()?;
    let main = lines.next().and_then(|line| serde_json::from_str(line).ok());
    Some((attempt, main))
}

fn end(attempt: Attempt, main: Option<Main>, grace: Duration) -> Option<Leftover> {
    let main = main.map(|main| ProcessName { pid: main.pid, started: main.started });
    let ended = Family { key: attempt.key, main }.end(grace);
    let found = ended.asked + ended.killed + ended.survivors.len();
    let (job, attempt) = (JobId(attempt.job), attempt.attempt);
    (found > 0).then_some(Leftover { job, attempt, ended })
}
