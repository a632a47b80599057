//! Which programs run, written down for the next daemon.
//!
//! A daemon that is killed leaves its programs running, and the jobs they belong to are run again. So that nothing
//! runs twice at once, each attempt leaves a record while its program runs, and the next daemon ends what the records
//! name before it claims a job. Under systemd there is nothing left to end, because the service's cgroup goes with
//! the daemon.
//!
//! The record is there before the program is, so that no program runs without one. It is not synced to disk: a power
//! cut that takes it takes the program too.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::jobs::ports::process::{Ended, Family, ProcessName, boot_id};
use crate::jobs::{JobInfo, RunPaths};
use crate::model::JobId;

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
    pub(super) fn create(paths: &RunPaths, job: &JobInfo, key: &str) -> io::Result<Self> {
        let folder = paths.running();
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{}-{}.pid", job.id, job.attempt));
        let mut record = Self { file: File::create(&path)?, path };
        let attempt =
            Attempt { job: job.id.0, attempt: job.attempt, key: key.to_owned(), boot: boot_id() };
        record.add(&attempt)?;
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

/// Ends what an earlier daemon of this data directory left running, and removes its records. Blocks for up to `grace` and
/// a little more for each attempt that had something running.
///
/// To be called at start, when this daemon has the data directory for itself and before it takes a job. Attempts without
/// any process left are not in the answer.
///
/// # Errors
/// When the records cannot be listed.
pub fn kill_leftovers(paths: &RunPaths, grace: Duration) -> io::Result<Vec<Leftover>> {
    let entries = match std::fs::read_dir(paths.running()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    let boot = boot_id();
    // One thread each: what ignores SIGTERM must not make the others wait. There are no more of them than the earlier
    // daemon had workers.
    let leftovers = std::thread::scope(|threads| {
        let ending: Vec<_> = paths
            .iter()
            // A record that cannot be read was cut short by a full disk, and its program was not started.
            .filter_map(|path| parse(&std::fs::read_to_string(path).ok()?))
            .filter(|(attempt, _)| attempt.boot == boot)
            .map(|(attempt, main)| threads.spawn(move || end(attempt, main, grace)))
            .collect();
        ending.into_iter().filter_map(|thread| thread.join().ok().flatten()).collect()
    });
    for path in &paths {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(leftovers)
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
