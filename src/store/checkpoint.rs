//! Moves SQLite's write-ahead log into the database file, off the writer.
//!
//! A checkpoint syncs the database file and takes 10 to 20 ms. Done by the writer, that is the p99 of every commit; done
//! here, on a connection of its own, commits go on meanwhile.
//!
//! Somebody who reads for long (a shell left in a transaction, a backup) pins the log: it cannot be moved past what the reader
//! sees, and grows. That is no fault, but a disk can fill up with it, so it is said when the log has become long.

use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::StoreError;
use super::condition::{Fault, Watched};
use super::connection::{Conn, DatabaseUrl, Purpose, wal_of};
use crate::model::{ByteSize, Chain};

/// How much must be in the log and not in the database for a checkpoint to be worth its syncs. More makes the next start after a
/// crash read more.
const CHECKPOINT_AT_BYTES: u64 = 16 << 20;

/// The length of what could not be moved at which somebody should know. SQLite cuts the log back to this when it starts anew.
const PINNED_BYTES: u64 = 64 << 20;

/// A page, as all our databases have it, with its header in the log.
const FRAME_BYTES: u64 = 4096 + 24;

/// Wakes the checkpointer, and ends it when this is dropped.
pub(super) struct Checkpointer {
    sender: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Starts it for the SQLite database at `path`.
    ///
    /// An I/O error is no reason to give the database up: the pages are still in the log, and the next checkpoint writes them again.
    pub(super) fn spawn(
        url: &DatabaseUrl,
        path: &Path,
        condition: Watched,
    ) -> Result<Self, StoreError> {
        let mut conn = url.connect(Purpose::Write)?;
        let log = wal_of(path);
        let (sender, receiver) = sync_channel(1);
        let run = move || {
            let mut last = State::Fine;
            while receiver.recv().is_ok() {
                let state = match checkpoint(&mut conn, &log) {
                    Ok(left) => State::of(left, PINNED_BYTES),
                    Err(error) => {
                        if let Some(fault @ Fault::Damaged(_)) = error.fault() {
                            condition.met(fault);
                        }
                        State::Failing(Chain(&error).to_string())
                    }
                };
                state.tell(&last);
                last = state;
            }
        };
        let thread = std::thread::Builder::new().name("sexton-checkpoint".to_owned()).spawn(run);
        let failed =
            |source| StoreError::File { path: "(thread sexton-checkpoint)".into(), source };
        Ok(Self { sender: Some(sender), thread: Some(thread.map_err(failed)?) })
    }

    /// Says that something was committed.
    pub(super) fn poke(&self) {
        if let Some(sender) = &self.sender {
            // A full channel means that it is awake already.
            let _already_awake = sender.try_send(());
        }
    }
}

impl Drop for Checkpointer {
    /// Waits for the thread: its connection must be closed before a clean stop ends, or the log stays beside the database.
    fn drop(&mut self) {
        drop(self.sender.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the checkpointer's thread had panicked");
        }
    }
}

/// How the last checkpoint went.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Fine,
    /// So many bytes of the log could not be moved.
    Pinned(u64),
    Failing(String),
}

impl State {
    fn of(left: u64, limit: u64) -> Self {
        if left > limit { Self::Pinned(left) } else { Self::Fine }
    }

    /// Logs what is new: a disk that is full would otherwise be told of with every commit.
    fn tell(&self, before: &Self) {
        match (before, self) {
            (Self::Failing(_), Self::Failing(_)) | (Self::Pinned(_), Self::Pinned(_)) => {}
            (Self::Fine, Self::Fine) => {}
            (_, Self::Failing(error)) => {
                tracing::warn!(
                    error,
                    "the write-ahead log could not be checkpointed; it is tried again after each commit"
                );
            }
            (_, Self::Pinned(left)) => tracing::warn!(
                bytes = left,
                "somebody has been reading the database for long: {} of the write-ahead log cannot be moved into it until they \
                 end; look for shells and backups that have it open (`fuser -v` on the -wal file)",
                ByteSize(*left)
            ),
            (_, Self::Fine) => tracing::info!("the write-ahead log could be checkpointed again"),
        }
    }
}

#[derive(QueryableByName)]
struct Checkpointed {
    #[diesel(sql_type = BigInt)]
    log: i64,
    #[diesel(sql_type = BigInt)]
    checkpointed: i64,
}

/// Moves what can be moved, where it is worth it. Returns how many bytes of the log are left.
///
/// The length of the file does not say whether it is worth it: SQLite starts the log anew from its beginning and leaves the file as
/// long as it was. To go by it made a checkpoint, with its syncs, after each commit, once the log had been long.
fn checkpoint(conn: &mut Conn, log: &Path) -> Result<u64, StoreError> {
    let length = std::fs::metadata(log).map(|metadata| metadata.len()).unwrap_or(0);
    if length < CHECKPOINT_AT_BYTES {
        return Ok(0);
    }
    let left = ask(conn, "PRAGMA wal_checkpoint(NOOP)")?;
    if left < CHECKPOINT_AT_BYTES {
        return Ok(left);
    }
    // PASSIVE never waits for anybody and nobody waits for it.
    ask(conn, "PRAGMA wal_checkpoint(PASSIVE)")
}

/// Runs a kind of checkpoint (`NOOP` only looks), and returns how many bytes of the log are not in the database afterwards.
fn ask(conn: &mut Conn, checkpoint: &str) -> Result<u64, StoreError> {
    let Conn::Sqlite(conn) = conn else { return Ok(0) };
    let state: Checkpointed = diesel::sql_query(checkpoint).get_result(conn)?;
    Ok(u64::try_from(state.log - state.checkpointed).unwrap_or(0) * FRAME_BYTES)
}

#[cfg(test)]
mod tests {
    use diesel::connection::SimpleConnection;

    use super::*;

    fn execute(conn: &mut Conn, sql: &str) {
        conn.batch_execute(sql).unwrap();
    }

    #[test]
    fn c2_a_long_reader_pins_the_log_and_its_end_lets_it_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sexton.db");
        let url = DatabaseUrl::Sqlite(path.clone());
        let [mut writer, mut checkpointer] = [(); 2].map(|()| url.connect(Purpose::Write).unwrap());
        execute(&mut writer, "CREATE TABLE t (x BLOB)");
        let mut reader = url.connect(Purpose::Read).unwrap();
        execute(&mut reader, "BEGIN; SELECT count(*) FROM t");
        execute(&mut writer, "INSERT INTO t VALUES (randomblob(20000000))");

        let left = checkpoint(&mut checkpointer, &wal_of(&path)).unwrap();
        assert!(left >= 20_000_000, "only {left} bytes are pinned");
        assert_eq!(State::of(left, 15_000_000), State::Pinned(left));
        assert_eq!(State::of(left, PINNED_BYTES), State::Fine, "small logs are nobody's business");
        execute(&mut writer, "INSERT INTO t VALUES (x'00')");

        execute(&mut reader, "COMMIT");
        assert_eq!(checkpoint(&mut checkpointer, &wal_of(&path)).unwrap(), 0);
        // From here on the file is long and there is next to nothing in it, which is not worth a checkpoint.
        execute(&mut writer, "INSERT INTO t VALUES (x'00')");
        let left = checkpoint(&mut checkpointer, &wal_of(&path)).unwrap();
        assert!((1..1_000_000).contains(&left), "{left} bytes were left alone");
    }
}
