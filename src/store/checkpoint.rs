//! Moves SQLite's write-ahead log into the database file, off the writer.
//!
//! A checkpoint syncs the database file and takes 10 to 20 ms. Done by the writer, that is the p99 of every commit; done
//! here, on a connection of its own, commits go on meanwhile.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};

use diesel::connection::SimpleConnection;

use super::StoreError;
use super::connection::{Conn, DatabaseUrl, Purpose};
use crate::model::Chain;

/// The log's length at which a checkpoint is worth its sync.
const CHECKPOINT_AT_BYTES: u64 = 4 << 20;

/// Wakes the checkpointer. Its thread ends when this is dropped.
pub(super) struct Checkpointer(Option<SyncSender<()>>);

impl Checkpointer {
    /// Says that something was committed.
    pub(super) fn poke(&self) {
        if let Some(sender) = &self.0 {
            // A full channel means that it is awake already.
            let _already_awake = sender.try_send(());
        }
    }
}

/// Starts the checkpointer of an SQLite database; PostgreSQL looks after itself.
pub(super) fn spawn(url: &DatabaseUrl) -> Result<Checkpointer, StoreError> {
    let DatabaseUrl::Sqlite(path) = url else { return Ok(Checkpointer(None)) };
    let mut conn = url.connect(Purpose::Write)?;
    let log = log_file(path);
    let (sender, receiver) = sync_channel(1);
    let run = move || {
        while receiver.recv().is_ok() {
            if let Err(error) = checkpoint(&mut conn, &log) {
                tracing::warn!(error = %Chain(&error), "the write-ahead log could not be checkpointed");
            }
        }
    };
    let thread = std::thread::Builder::new().name("sexton-checkpoint".to_owned()).spawn(run);
    thread
        .map_err(|source| StoreError::File { path: "(thread sexton-checkpoint)".into(), source })?;
    Ok(Checkpointer(Some(sender)))
}

fn checkpoint(conn: &mut Conn, log: &Path) -> Result<(), StoreError> {
    let length = std::fs::metadata(log).map(|metadata| metadata.len()).unwrap_or(0);
    if length < CHECKPOINT_AT_BYTES {
        return Ok(());
    }
    // PASSIVE never waits for anybody and nobody waits for it.
    conn.batch_execute("PRAGMA wal_checkpoint(PASSIVE)")?;
    Ok(())
}

fn log_file(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}
