//! One daemon for one data directory, and for one SQLite database.
//!
//! The database has a lock of its own beside it, because `database.url` can name the same file under two data directories; the second
//! daemon would give back what the first one is running.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::store::DatabaseUrl;

/// How long to wait for a lock that somebody has.
///
/// A daemon that was killed while it started a program can leave a child that has forked and not executed yet. Until it does, the
/// child shares the lock with the dead (the descriptor is closed at exec). Without this wait, a restart right after a kill was
/// refused now and then, with the number of a process that no longer existed. Locks that children do not share (`fcntl`) are no
/// way out: they do not hold against this process itself, and are lost with any other descriptor of the file.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often to try meanwhile.
const RETRY: Duration = Duration::from_millis(20);

/// The lock of a data directory.
pub(super) const FILE_NAME: &str = "sexton.lock";

/// Held as long as the daemon runs; the kernel lets go of it however the process ends.
#[derive(Debug)]
pub struct DataLock(#[expect(dead_code, reason = "it is held, not used")] File);

/// Why the data directory could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody has it.
    #[error(
        "another sexton, process {pid}, runs on {}: stop it first, or give this one a `data_dir` of its own",
        dir.display()
    )]
    Taken {
        /// The directory.
        dir: PathBuf,
        /// The other process, as it wrote it down.
        pid: String,
    },
    /// Somebody has the database.
    #[error(
        "another sexton, process {pid}, uses the database {}: stop it first, or give this one a `database.url` of its own",
        database.display()
    )]
    DatabaseTaken {
        /// Its file.
        database: PathBuf,
        /// The other process, as it wrote it down.
        pid: String,
    },
    /// It cannot be written.
    #[error("cannot use {}", path.display())]
    Unusable {
        /// The directory, or the lock.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Takes the data directory, which is made when it is not there.
///
/// # Errors
/// When another daemon has it and does not let go within a few seconds, or it cannot be written.
pub async fn take(dir: &Path) -> Result<DataLock, LockError> {
    make(dir)?;
    match lock(&dir.join(FILE_NAME)).await? {
        Ok(taken) => Ok(taken),
        Err(pid) => Err(LockError::Taken { dir: dir.to_owned(), pid }),
    }
}

/// Takes the file of an SQLite database, which need not be there yet. On PostgreSQL many daemons share one.
///
/// # Errors
/// When another daemon has it and does not let go within a few seconds, or its folder cannot be written.
pub async fn take_database(url: &DatabaseUrl) -> Result<Option<DataLock>, LockError> {
    let DatabaseUrl::Sqlite(database) = url else { return Ok(None) };
    if let Some(folder) = database.parent() {
        make(folder)?;
    }
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    match lock(Path::new(&name)).await? {
        Ok(taken) => Ok(Some(taken)),
        Err(pid) => Err(LockError::DatabaseTaken { database: database.clone(), pid }),
    }
}

/// Params, results and output of jobs are in it, and they are nobody else's business.
fn make(dir: &Path) -> Result<(), LockError> {
    let made = DirBuilder::new().recursive(true).mode(0o750).create(dir);
    made.map_err(|source| LockError::Unusable { path: dir.to_owned(), source })
}

/// Takes a lock, or tells which process has it.
async fn lock(path: &Path) -> Result<Result<DataLock, String>, LockError> {
    let unusable = |source| LockError::Unusable { path: path.to_owned(), source };
    let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let mut file = options.map_err(unusable)?;
    if !is_locked_in_time(&file).await {
        let mut pid = String::new();
        // Only for the message; an empty file says "unknown".
        let _unread = (&file).take(20).read_to_string(&mut pid);
        let pid = if pid.trim().is_empty() { "unknown" } else { pid.trim() };
        return Ok(Err(pid.to_owned()));
    }
    // Only for the message, too: a disk that is full must not keep the daemon from starting to read.
    let written = file
        .set_len(0)
        .and_then(|()| file.seek(SeekFrom::Start(0)))
        .and_then(|_| writeln!(file, "{}", std::process::id()));
    drop(written);
    Ok(Ok(DataLock(file)))
}

async fn is_locked_in_time(file: &File) -> bool {
    let try_lock = async {
        while flock(file, FlockOperation::NonBlockingLockExclusive).is_err() {
            tokio::time::sleep(RETRY).await;
        }
    };
    tokio::time::timeout(PATIENCE, try_lock).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a1_a_lock_that_a_dying_process_still_shares_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let held = take(folder.path()).await.unwrap();
        let dying = async {
            tokio::time::sleep(RETRY * 3).await;
            drop(held);
        };
        let (taken, ()) = tokio::join!(take(folder.path()), dying);
        taken.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a10_a_second_daemon_on_the_same_directory_is_refused_and_told_who_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let held = take(folder.path()).await.unwrap();
        let refused = take(folder.path()).await.unwrap_err().to_string();
        assert!(refused.contains(&std::process::id().to_string()), "{refused}");
        drop(held);
        take(folder.path()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a10_a_second_daemon_on_the_same_database_is_refused_wherever_its_data_is() {
        let folder = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::Sqlite(folder.path().join("shared/sexton.db"));
        let held = take_database(&url).await.unwrap();
        assert!(held.is_some());
        let refused = take_database(&url).await.unwrap_err().to_string();
        assert!(refused.contains("shared/sexton.db"), "{refused}");
        drop(held);
        take_database(&url).await.unwrap();
        let server = "postgres://db.example/sexton".parse().unwrap();
        assert!(take_database(&server).await.unwrap().is_none());
    }
}
