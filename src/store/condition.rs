//! How the database is, by what its writer has met, and what that means for everybody else.
//!
//! Two kinds of trouble are told apart, because they ask for opposite things. A disk that is full or read-only takes nothing away: what
//! was committed is there, and writing goes on when there is space. After a failed write or sync it is *not known* what is on the
//! disk: the kernel may have dropped the pages, and a second sync "succeeds" without them (PostgreSQL's lesson of 2018). Then nothing
//! may be written or acknowledged any more; the daemon ends, and its next start reads what is really there.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use tokio::sync::watch;

use super::connection::{DatabaseUrl, wal_of};

/// How the database is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Condition {
    /// Writes are committed.
    #[default]
    Sound,
    /// The disk is full, over quota or read-only, as it says. Nothing is lost by waiting, and the writer goes on trying.
    NotWritable(String),
    /// It is not known what is on the disk, or it is not our database any more. Nothing is written again by this process.
    Lost(String),
}

/// How often something has happened to the writer. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tally(Arc<AtomicU64>);

impl Tally {
    /// How often until now. Inside an operation, of reopenings: until the connection was opened that it runs on.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// What is counted of the writer. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Tallies {
    /// Its connection was opened again.
    pub(super) reopenings: Tally,
    /// It waited for another process's lock as long as SQLite waits, in vain.
    pub(super) lock_waits: Tally,
}

/// A condition that everybody can follow. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    condition: watch::Sender<Condition>,
    /// The database's file, where it is one.
    path: Option<PathBuf>,
    tallies: Tallies,
}

impl Watched {
    pub(super) fn new(url: &DatabaseUrl) -> Self {
        let path = url.file().map(Path::to_owned);
        Self { condition: watch::Sender::default(), path, tallies: Tallies::default() }
    }

    /// Notes that the writer has a new connection.
    pub(super) fn reopened(&self) {
        self.tallies.reopenings.add();
    }

    /// Notes that another process had the lock for longer than SQLite waits for it.
    pub(super) fn waited_for_lock(&self) {
        self.tallies.lock_waits.add();
    }

    pub(super) fn tallies(&self) -> Tallies {
        self.tallies.clone()
    }

    pub(super) fn follow(&self) -> watch::Receiver<Condition> {
        self.condition.subscribe()
    }

    /// Why nothing may be written any more, where that is so.
    pub(super) fn lost(&self) -> Option<String> {
        match &*self.condition.borrow() {
            Condition::Lost(why) => Some(why.clone()),
            Condition::Sound | Condition::NotWritable(_) => None,
        }
    }

    /// Notes that something was written and is on the disk.
    pub(super) fn committed(&self) {
        self.turn(Condition::Sound);
    }

    /// Notes that something below the database is wrong. Returns whether the disk is short of something.
    pub(super) fn met(&self, fault: &Fault) -> bool {
        let Some(condition) = fault.condition(self.path.as_deref()) else { return false };
        let was_short = matches!(&*self.condition.borrow(), Condition::NotWritable(_));
        match (&condition, fault) {
            // A shortage that ended between the failure and the look at the disk. If it was something else, the next write tells.
            (Condition::Lost(_), Fault::Disk(_)) if was_short => self.turn(Condition::Sound),
            _ => self.turn(condition),
        }
        matches!(&*self.condition.borrow(), Condition::NotWritable(_))
    }

    /// Gives the database up.
    pub(super) fn lose(&self, why: String) {
        self.turn(Condition::Lost(why));
    }

    /// Logs changes only: a full disk is not made better by lines about it.
    fn turn(&self, next: Condition) {
        self.condition.send_if_modified(|now| {
            let changes = match (&*now, &next) {
                // What is lost stays lost until the next start.
                (Condition::Lost(_), _)
                | (Condition::Sound, Condition::Sound)
                | (Condition::NotWritable(_), Condition::NotWritable(_)) => false,
                (_, Condition::NotWritable(why)) => {
                    tracing::error!(
                        why,
                        "the database cannot be written; nothing new is taken until it can"
                    );
                    true
                }
                (_, Condition::Lost(why)) => {
                    tracing::error!(why, "the database is given up");
                    true
                }
                (_, Condition::Sound) => {
                    tracing::info!("the database can be written again");
                    true
                }
            };
            if changes {
                *now = next;
            }
            changes
        });
    }
}

/// What can be wrong below the database, as opposed to with an operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// There is no room, or the file may not be written.
    #[error("the database cannot be written: {0}")]
    NotWritable(String),
    /// Reading, writing or syncing failed. SQLite does not say which, nor why.
    #[error("the disk failed under the database: {0}")]
    Disk(String),
    /// What was read is not what was written.
    #[error("the database is damaged: {0}; restore a backup with `sexton db restore FILE`")]
    Damaged(String),
}

impl Fault {
    /// The condition of a database whose file is at `path`, or on a server, after its writer has met this. `None`: as it was before.
    pub(super) fn condition(&self, path: Option<&Path>) -> Option<Condition> {
        match (self, path) {
            (Self::NotWritable(why), _) => Some(Condition::NotWritable(why.clone())),
            // A server looks after its disk itself, and stops when it has to.
            (Self::Disk(_) | Self::Damaged(_), None) => None,
            (Self::Damaged(_), Some(_)) => Some(Condition::Lost(self.to_string())),
            (Self::Disk(_), Some(path)) => Some(match shortage(path) {
                Some(why) => Condition::NotWritable(why),
                None => Condition::Lost(format!(
                    "{self}; whether the last writes are on the disk is not known, so nothing more is written, and the next \
                     start reads what is there"
                )),
            }),
        }
    }
}

/// Whether the disk is merely short of something, asked of the disk itself: SQLite answers "disk I/O error" to an exceeded quota, an
/// exceeded file size limit and a file system that has become read-only as well as to a broken disk.
pub(super) fn shortage(database: &Path) -> Option<String> {
    let folder = database.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    match write_and_sync(folder) {
        Err(error) => is_shortage(&error).then(|| format!("{error} in {}", folder.display())),
        Ok(()) => is_at_size_limit(database).then(|| {
            "this process has reached its limit for the size of a file (RLIMIT_FSIZE)".to_owned()
        }),
    }
}

fn is_shortage(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOSPC | Errno::DQUOT | Errno::ROFS | Errno::FBIG)
    )
}

/// What SQLite may have wanted to add in one write: a page of the log with its header, or a piece of the file that connections share.
const NEXT_WRITE_BYTES: usize = 64 << 10;

fn write_and_sync(folder: &Path) -> io::Result<()> {
    use std::io::Write as _;
    let mut probe = tempfile::tempfile_in(folder)?;
    probe.write_all(&[0; NEXT_WRITE_BYTES])?;
    probe.sync_all()
}

fn is_at_size_limit(database: &Path) -> bool {
    let Some(limit) = getrlimit(Resource::Fsize).current else { return false };
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
    length(database).max(length(&wal_of(database))).saturating_add(NEXT_WRITE_BYTES as u64) > limit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b4_a_failing_disk_that_can_be_written_otherwise_is_lost_and_a_shortage_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sexton.db");
        let failed = Fault::Disk("disk I/O error".to_owned());
        assert!(matches!(failed.condition(Some(&path)), Some(Condition::Lost(_))));
        let full = Fault::NotWritable("database or disk is full".to_owned());
        assert!(matches!(full.condition(Some(&path)), Some(Condition::NotWritable(_))));
    }

    #[test]
    fn b7_the_last_failure_of_a_shortage_is_not_taken_for_a_broken_disk_and_the_next_one_is() {
        let folder = tempfile::tempdir().unwrap();
        let watched = Watched::new(&DatabaseUrl::Sqlite(folder.path().join("sexton.db")));
        let now = watched.follow();
        watched.met(&Fault::NotWritable("database or disk is full".to_owned()));
        assert!(matches!(*now.borrow(), Condition::NotWritable(_)));
        let failed = Fault::Disk("disk I/O error".to_owned());
        watched.met(&failed);
        assert_eq!(*now.borrow(), Condition::Sound);
        watched.met(&failed);
        assert!(matches!(*now.borrow(), Condition::Lost(_)));
        watched.committed();
        assert!(watched.lost().is_some(), "what is lost stays lost");
    }

    #[test]
    fn b3_b7_what_passes_by_itself_is_told_from_what_does_not() {
        for shortage in [Errno::NOSPC, Errno::DQUOT, Errno::ROFS, Errno::FBIG] {
            assert!(is_shortage(&shortage.into()), "{shortage}");
        }
        for failure in [Errno::IO, Errno::NOENT, Errno::STALE] {
            assert!(!is_shortage(&failure.into()), "{failure}");
        }
    }
}
