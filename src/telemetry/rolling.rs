//! A log file that is changed for a new one when it is too large or too old, and when somebody moves it.
//!
//! tracing-appender's own rolling file knows no sizes, writes on into a file that logrotate has renamed, and deletes by
//! prefix what is not its own. Its non-blocking writer is used over this one.
//!
//! The current file is `sexton.log`; an old one gets the time at which it was put away: `sexton.log.20261123T023000Z`, with
//! `-1`, `-2`, … where several were within a second. Only files with exactly such names are ever deleted.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::clock::SharedClock;
use crate::config::{LogSettings, Rotation};

/// The current file's name.
pub const FILE_NAME: &str = "sexton.log";

/// How often the path is looked at to see whether the file was moved.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What others can ask and tell a file that a writing thread owns.
#[derive(Debug, Default)]
pub struct FileState {
    /// Bytes written since the start.
    pub bytes: AtomicU64,
    /// Writes that the system refused; their lines are lost.
    pub errors: AtomicU64,
    reopen: AtomicBool,
}

impl FileState {
    /// Asks for the file to be opened anew before the next line, as after logrotate's rename.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Release);
    }
}

/// The file as something to write lines to.
#[derive(Debug)]
pub struct RollingFile {
    path: PathBuf,
    rotation: Rotation,
    keep: usize,
    /// 0: never.
    max_size: u64,
    clock: SharedClock,
    open: Open,
    state: Arc<FileState>,
}

#[derive(Debug)]
struct Open {
    file: File,
    size: u64,
    /// What it belongs to: the hour or day of its first line.
    period: i64,
    looked: Duration,
}

impl RollingFile {
    /// Opens or makes the file, and its directory.
    ///
    /// # Errors
    /// When that is refused.
    pub fn open(settings: &LogSettings, clock: SharedClock) -> io::Result<Self> {
        std::fs::create_dir_all(&settings.dir)?;
        let path = settings.dir.join(FILE_NAME);
        let open = open(&path, settings.rotation, &clock)?;
        let rolling = Self {
            path,
            rotation: settings.rotation,
            keep: usize::from(settings.keep.get()),
            max_size: settings.max_size.0,
            clock,
            open,
            state: Arc::default(),
        };
        // The settings may keep fewer than the last run did.
        rolling.prune()?;
        Ok(rolling)
    }

    /// What others can ask and tell.
    #[must_use]
    pub fn state(&self) -> Arc<FileState> {
        Arc::clone(&self.state)
    }

    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        self.follow_path()?;
        let period = period_of(self.rotation, self.clock.now());
        let too_large = self.max_size > 0 && self.open.size + line.len() as u64 > self.max_size;
        if self.open.size > 0 && (too_large || period != self.open.period) {
            self.roll()?;
        }
        self.open.file.write_all(line)?;
        self.open.size += line.len() as u64;
        self.state.bytes.fetch_add(line.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Goes on in the file that is at the path now, where it is another one.
    fn follow_path(&mut self) -> io::Result<()> {
        let asked = self.state.reopen.swap(false, Ordering::AcqRel);
        let now = self.clock.since_boot();
        if !asked && now.saturating_sub(self.open.looked) < LOOK_EVERY {
            return Ok(());
        }
        self.open.looked = now;
        let moved = match std::fs::symlink_metadata(&self.path) {
            Ok(found) => identity(&found) != identity(&self.open.file.metadata()?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(error),
        };
        if moved || asked {
            if let Some(folder) = self.path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            self.open = open(&self.path, self.rotation, &self.clock)?;
        }
        Ok(())
    }

    /// Puts the file away and begins a new one.
    fn roll(&mut self) -> io::Result<()> {
        let newest = self.old_files()?.pop().map(|(age, _)| age);
        let to = self.path.with_file_name(Age::of_next(newest, self.clock.now()).name());
        std::fs::rename(&self.path, &to)?;
        self.open = open(&self.path, self.rotation, &self.clock)?;
        self.prune()
    }

    /// Deletes the oldest of our own old files.
    fn prune(&self) -> io::Result<()> {
        let old = self.old_files()?;
        let surplus = old.len().saturating_sub(self.keep);
        for (_, path) in old.into_iter().take(surplus) {
            std::fs::remove_file(path)?;
        }
        Ok(())
    }

    /// Our own old files, oldest first.
    fn old_files(&self) -> io::Result<Vec<(Age, PathBuf)>> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let mut old = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if let Some(age) = entry.file_name().to_str().and_then(Age::of_name) {
                old.push((age, entry.path()));
            }
        }
        old.sort();
        Ok(old)
    }
}

impl Write for RollingFile {
    /// Takes a whole line. What cannot be written is counted and lost: a full disk must not stop the work, and to report
    /// it here would be to write a line about it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.write_line(line).is_err() {
            self.state.errors.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn open(path: &Path, rotation: Rotation, clock: &SharedClock) -> io::Result<Open> {
    let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
    let found = file.metadata()?;
    let now = clock.now();
    let begun = if found.len() == 0 { now } else { modified(&found).unwrap_or(now) };
    let period = period_of(rotation, begun);
    Ok(Open { file, size: found.len(), period, looked: clock.since_boot() })
}

fn modified(found: &Metadata) -> Option<Timestamp> {
    Timestamp::from_second(found.mtime()).ok()
}

fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

/// The number of the hour or day (UTC) that `now` is in.
fn period_of(rotation: Rotation, now: Timestamp) -> i64 {
    match rotation {
        Rotation::Never => 0,
        Rotation::Hourly => now.as_second().div_euclid(3600),
        Rotation::Daily => now.as_second().div_euclid(24 * 3600),
    }
}

/// When a file was put away, as its name says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Age {
    /// `20261123T023000Z`
    stamp: String,
    /// Tells files apart that were put away within a second.
    number: u32,
}

impl Age {
    /// The age of a file that is put away now, after `newest`. It is always the greater one, also when the clock was set back
    /// since or the name was given before and deleted, so that the oldest file is always the one that is deleted.
    fn of_next(newest: Option<Self>, now: Timestamp) -> Self {
        let stamp = now.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string();
        match newest {
            Some(newest) if newest.stamp >= stamp => Self { number: newest.number + 1, ..newest },
            _ => Self { stamp, number: 0 },
        }
    }

    fn name(&self) -> String {
        match self.number {
            0 => format!("{FILE_NAME}.{}", self.stamp),
            number => format!("{FILE_NAME}.{}-{number}", self.stamp),
        }
    }

    /// `None` for every file that is not exactly one of ours.
    fn of_name(name: &str) -> Option<Self> {
        let rest = name.strip_prefix(FILE_NAME)?.strip_prefix('.')?;
        let (stamp, number) = rest.split_once('-').unwrap_or((rest, "0"));
        let shape = b"00000000T000000Z";
        let is_stamp = stamp.len() == shape.len()
            && stamp.bytes().zip(shape).all(|(byte, like)| match like {
                b'0' => byte.is_ascii_digit(),
                letter => byte == *letter,
            });
        let age = Self { stamp: stamp.to_owned(), number: number.parse().ok()? };
        // `-0`, `-07` and `-+7` are spellings that we never write.
        (is_stamp && age.name() == name).then_some(age)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::*;
    use crate::clock::ManualClock;
    use crate::config::{LogFilter, LogFormat};
    use crate::model::ByteSize;

    struct Bench {
        folder: tempfile::TempDir,
        clock: ManualClock,
    }

    impl Bench {
        fn new() -> Self {
            let clock = ManualClock::new("2026-11-23T02:30:00Z".parse().unwrap());
            Self { folder: tempfile::tempdir().unwrap(), clock }
        }

        fn open(&self, rotation: Rotation, keep: u16, max_size: u64) -> RollingFile {
            let settings = LogSettings {
                dir: self.folder.path().join("log"),
                format: LogFormat::Auto,
                level: LogFilter::default(),
                rotation,
                keep: NonZeroU16::new(keep).unwrap(),
                max_size: ByteSize(max_size),
            };
            RollingFile::open(&settings, Arc::new(self.clock.clone())).unwrap()
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("log").join(FILE_NAME)
        }

        fn names(&self) -> Vec<String> {
            let entries = std::fs::read_dir(self.folder.path().join("log")).unwrap();
            let mut names: Vec<String> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }

        fn current(&self) -> String {
            std::fs::read_to_string(self.path()).unwrap()
        }
    }

    #[test]
    fn a_file_that_would_become_too_large_is_put_away_whole() {
        let bench = Bench::new();
        let mut file = bench.open(Rotation::Never, 9, 10);
        for line in ["first\n", "last\n", "next\n"] {
            file.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(bench.names(), ["sexton.log", "sexton.log.20261123T023000Z"]);
        let old = bench.path().with_file_name("sexton.log.20261123T023000Z");
        assert_eq!(std::fs::read_to_string(old).unwrap(), "first\n");
        assert_eq!(bench.current(), "last\nnext\n");
        // A line longer than the limit has a file of its own rather than none.
        file.write_all(b"a very long line\n").unwrap();
        assert_eq!(bench.current(), "a very long line\n");
        assert_eq!(bench.names().len(), 3);
    }

    #[test]
    fn a_new_day_begins_a_new_file_and_the_hour_does_when_asked_to() {
        for (rotation, hours) in [(Rotation::Daily, 24), (Rotation::Hourly, 1)] {
            let bench = Bench::new();
            let mut file = bench.open(rotation, 9, 0);
            file.write_all(b"one\n").unwrap();
            bench.clock.advance(Duration::from_secs(60));
            file.write_all(b"two\n").unwrap();
            assert_eq!(bench.names().len(), 1);
            bench.clock.advance(Duration::from_secs(hours * 3600));
            file.write_all(b"three\n").unwrap();
            assert_eq!(bench.names().len(), 2);
            assert_eq!(bench.current(), "three\n");
        }
    }

    #[test]
    fn only_our_own_old_files_are_deleted() {
        let bench = Bench::new();
        let folder = bench.folder.path().join("log");
        std::fs::create_dir(&folder).unwrap();
        let foreign = [
            "sexton.log.notes",
            "sexton.log.1",
            "sexton.log.20261123T023000Z.gz",
            "sexton.log.20261123T023000Z-x",
            "sexton.log.20261123T023000Z-07",
            "audit.jsonl",
        ];
        for name in foreign {
            std::fs::write(folder.join(name), "").unwrap();
        }
        let mut file = bench.open(Rotation::Never, 2, 4);
        for _ in 0..12 {
            bench.clock.advance(Duration::from_secs(1));
            file.write_all(b"line\n").unwrap();
        }
        let mut expected = foreign.map(str::to_owned).to_vec();
        expected.extend(
            ["sexton.log", "sexton.log.20261123T023011Z", "sexton.log.20261123T023012Z"]
                .map(str::to_owned),
        );
        expected.sort();
        assert_eq!(bench.names(), expected);
    }

    #[test]
    fn files_put_away_within_a_second_are_kept_in_order() {
        let bench = Bench::new();
        let mut file = bench.open(Rotation::Never, 3, 4);
        for number in 0..15 {
            file.write_all(format!("{number:04}\n").as_bytes()).unwrap();
        }
        let kept: Vec<String> = bench
            .names()
            .iter()
            .map(|name| std::fs::read_to_string(bench.path().with_file_name(name)).unwrap())
            .collect();
        assert_eq!(kept.len(), 4);
        for newest in ["0014\n", "0013\n", "0012\n", "0011\n"] {
            assert!(kept.iter().any(|text| text == newest), "{kept:?}");
        }
    }

    #[test]
    fn d_a_clock_set_back_does_not_make_new_files_the_oldest() {
        let bench = Bench::new();
        let mut file = bench.open(Rotation::Never, 2, 4);
        for number in 0..6 {
            bench.clock.step_to(Timestamp::from_second(1_780_000_000 - number * 3600).unwrap());
            file.write_all(format!("{number:04}\n").as_bytes()).unwrap();
        }
        let read = |name: &String| std::fs::read_to_string(bench.path().with_file_name(name));
        let kept: Vec<String> = bench.names().iter().map(|name| read(name).unwrap()).collect();
        assert_eq!(kept, ["0005\n", "0003\n", "0004\n"]);
    }

    #[test]
    fn a_file_that_logrotate_moved_is_left_within_a_second() {
        let bench = Bench::new();
        let mut file = bench.open(Rotation::Never, 9, 0);
        file.write_all(b"before\n").unwrap();
        std::fs::rename(bench.path(), bench.path().with_extension("moved")).unwrap();
        bench.clock.advance(LOOK_EVERY);
        file.write_all(b"after\n").unwrap();
        assert_eq!(bench.current(), "after\n");
    }

    #[test]
    fn g_usr1_reopens_the_file_at_once() {
        let bench = Bench::new();
        let mut file = bench.open(Rotation::Never, 9, 0);
        file.write_all(b"before\n").unwrap();
        std::fs::rename(bench.path(), bench.path().with_extension("moved")).unwrap();
        file.state().reopen();
        file.write_all(b"after\n").unwrap();
        assert_eq!(bench.current(), "after\n");
    }

    #[test]
    fn b2_what_cannot_be_written_is_counted_and_does_not_stop_anything() {
        let bench = Bench::new();
        let mut file = bench.open(Rotation::Never, 9, 0);
        file.open.file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        file.write_all(b"lost\n").unwrap();
        assert_eq!(file.state().errors.load(Ordering::Relaxed), 1);
        assert_eq!(file.state().bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_restart_goes_on_in_the_same_file() {
        let bench = Bench::new();
        bench.open(Rotation::Never, 9, 0).write_all(b"one\n").unwrap();
        bench.open(Rotation::Never, 9, 0).write_all(b"two\n").unwrap();
        assert_eq!(bench.current(), "one\ntwo\n");
    }
}
