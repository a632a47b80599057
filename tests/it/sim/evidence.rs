//! What is known about what happened in a world, whatever it consists of. The checker goes by this and by the database alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use sexton::catalog::Reloader;
use sexton::schedule::{Defaults, Schedule};
use sexton::scheduler::rule_of;
use tempfile::TempDir;

use super::files::Files;
use super::handlers::Log;
use super::history;
use super::people::Promises;
use super::time::{Course, SimClock};
use super::trace::Trace;

/// Everything that was written down while a world ran, and where it ran.
pub(super) struct Evidence {
    pub(super) notes: Notes,
    pub(super) audit_logs: Vec<AuditLog>,
    /// Which change was the last one at which time, by the database's clock, where somebody has looked.
    pub(super) looks: Vec<(i64, Timestamp)>,
    /// How many workers of each node are kept for urgent jobs.
    pub(super) reserved_high: u16,
    /// How things stood in the quiet life when everything that was due had been decided.
    pub(super) settled: Option<Settled>,
    /// Where all of it is, and for how long.
    _folder: TempDir,
}

/// What everybody in a world writes to and goes by. Cheap to clone.
#[derive(Clone)]
pub(super) struct Notes {
    pub(super) course: Course,
    /// By which it is decided what is due.
    pub(super) clock: SimClock,
    pub(super) trace: Trace,
    pub(super) files: Arc<Mutex<Files>>,
    pub(super) promises: Arc<Mutex<Promises>>,
    pub(super) log: Arc<Mutex<Log>>,
    pub(super) sightings: Arc<Mutex<Vec<Sighting>>>,
    pub(super) database: PathBuf,
}

/// An audit log.
pub(super) struct AuditLog {
    /// Its name among the anchors.
    pub(super) name: String,
    pub(super) path: PathBuf,
}

/// The rules that were in force when somebody looked.
pub(super) struct Sighting {
    /// The last change that had been recorded.
    pub(super) seq: i64,
    /// By schedule, see `scheduler::rule_of`.
    pub(super) rules: BTreeMap<String, String>,
}

/// How things stood when everything that was due had been decided.
pub(super) struct Settled {
    pub(super) at: Timestamp,
    /// The last change that had been recorded.
    pub(super) seq: i64,
    /// The schedules that were in force.
    pub(super) in_force: Vec<Arc<Schedule>>,
}

impl Evidence {
    /// Of a world that begins at that time in an empty folder.
    pub(super) fn new(beginning: Timestamp, defaults: Defaults, folder: TempDir) -> Self {
        let course = Course::new();
        let schedules = folder.path().join("schedules");
        let notes = Notes {
            clock: SimClock::new(&course, beginning),
            trace: Trace::new(course.clone()),
            files: Arc::new(Mutex::new(Files::new(schedules, defaults))),
            promises: Arc::default(),
            log: Arc::default(),
            sightings: Arc::default(),
            database: database_in(folder.path()),
            course,
        };
        Self {
            notes,
            audit_logs: Vec::new(),
            looks: Vec::new(),
            reserved_high: 0,
            settled: None,
            _folder: folder,
        }
    }
}

impl Notes {
    pub(super) fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the database is in a world's folder.
pub(super) fn database_in(folder: &Path) -> PathBuf {
    folder.join("sexton.db")
}

impl Sighting {
    pub(super) fn of(reloader: &Reloader, database: &Path) -> Self {
        let catalog = reloader.current();
        let rules =
            catalog.schedules.values().map(|schedule| (schedule.id.to_string(), rule_of(schedule)));
        Self { seq: history::last_change(database), rules: rules.collect() }
    }
}

impl Settled {
    pub(super) fn now(at: Timestamp, reloader: &Reloader, database: &Path) -> Self {
        let in_force = reloader.current().schedules.values().cloned().collect();
        Self { at, seq: history::last_change(database), in_force }
    }
}

/// On a file system in memory where there is one: a process crash loses nothing that the kernel has, so syncs are only time.
pub(super) fn folder() -> TempDir {
    let memory = PathBuf::from("/dev/shm");
    let made = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    made.or_else(|_not_there| tempfile::tempdir()).expect("a temporary folder")
}
