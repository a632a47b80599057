//! Looks at an SQLite database before anything is written to it.
//!
//! A damaged file that is opened for writing gets worse: SQLite applies the log to it, the daemon registers itself, rows are moved
//! between broken pages. So it is looked at through a connection that can change nothing, and left as it is when something is wrong.
//!
//! The check reads the whole file. While it is small that is a matter of milliseconds and comes before everything else; a large one is
//! checked beside the running daemon, which stops when damage is found.

use std::path::Path;

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Bool;

use super::condition::Watched;
use super::connection::{DatabaseUrl, wal_of};
use super::maintenance::quick_check;
use super::schema::meta;
use super::{Fault, StoreError, nodes};
use crate::model::Chain;

/// Up to which size a database is checked before the daemon starts.
const CHECKED_FIRST_BYTES: u64 = 64 << 20;

/// Refuses a database that is missing next to its log, damaged, or no database. One that cannot be read is none of that: what is on the
/// disk may be sound, and is read again at the next start.
pub(super) fn check_before_use(url: &DatabaseUrl) -> Result<(), StoreError> {
    let DatabaseUrl::Sqlite(path) = url else { return Ok(()) };
    let unsound = |why: String| StoreError::Unsound { path: path.clone(), why };
    let length = length(path);
    if length == 0 {
        let log = wal_of(path);
        // SQLite would make an empty database and delete the log, with all that it holds.
        return match self::length(&log) {
            0 => Ok(()),
            _ => Err(unsound(format!(
                "it is missing or empty, but its write-ahead log {} is there",
                log.display()
            ))),
        };
    }
    if length > CHECKED_FIRST_BYTES {
        return Ok(());
    }
    match look(path) {
        Ok(()) => Ok(()),
        Err(StoreError::Fault(Fault::Damaged(why))) => Err(unsound(why)),
        // Somebody else is writing just now; whoever opens it next waits for that.
        Err(StoreError::Busy) => Ok(()),
        Err(other) => Err(other),
    }
}

/// Whether a file is missing, empty, or a database that nobody but Sexton has made tables in.
pub(super) fn is_new_or_ours(url: &DatabaseUrl) -> Result<bool, StoreError> {
    let DatabaseUrl::Sqlite(path) = url else { return Ok(true) };
    if length(path) == 0 {
        return Ok(true);
    }
    let ours = "NOT EXISTS (SELECT 1 FROM sqlite_master) OR EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'meta')";
    Ok(diesel::select(sql::<Bool>(ours)).get_result(&mut open_unchanged(path, "mode=ro")?)?)
}

/// Checks a database that was too large to be checked first, on a thread of its own.
pub(super) fn check_meanwhile(url: &DatabaseUrl, condition: Watched) -> Result<(), StoreError> {
    let DatabaseUrl::Sqlite(path) = url else { return Ok(()) };
    if length(path) <= CHECKED_FIRST_BYTES {
        return Ok(());
    }
    let path = path.clone();
    let run = move || match look(&path) {
        Ok(()) => tracing::info!("the database was checked and is sound"),
        Err(StoreError::Fault(fault @ Fault::Damaged(_))) => {
            condition.met(&fault);
        }
        Err(other) => tracing::warn!(error = %Chain(&other), "the database could not be checked"),
    };
    // It is not waited for when the store is closed: it changes nothing and may take long.
    let thread = std::thread::Builder::new().name("sexton-check".to_owned()).spawn(run);
    let failed = |source| StoreError::File { path: "(thread sexton-check)".into(), source };
    thread.map(drop).map_err(failed)
}

fn look(path: &Path) -> Result<(), StoreError> {
    let mut conn = open_unchanged(path, "mode=ro")?;
    if let (Some(bare), Some(with_log)) = (name_without_log(path), name_of(&mut conn)?)
        && bare != with_log
    {
        return Err(Fault::Damaged(format!(
            "{} is the write-ahead log of another database",
            wal_of(path).display()
        ))
        .into());
    }
    match quick_check(&mut conn)? {
        None => Ok(()),
        Some(damage) => Err(Fault::Damaged(damage).into()),
    }
}

/// What the database was named at its first start, as it stands in the file itself. SQLite takes any log for its own that has the right
/// place; ours has the same name in it as the file. A file that was never moved into has none yet.
fn name_without_log(path: &Path) -> Option<String> {
    name_of(&mut open_unchanged(path, "immutable=1").ok()?).ok().flatten()
}

fn name_of(conn: &mut SqliteConnection) -> Result<Option<String>, StoreError> {
    let has_names: bool =
        diesel::select(sql::<Bool>("EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'meta')"))
            .get_result(conn)?;
    if !has_names {
        return Ok(None);
    }
    let seed = meta::table.find(nodes::JITTER_SEED).select(meta::value).first(conn).optional()?;
    Ok(seed)
}

/// A connection that changes nothing, not even when it closes: an ordinary one would move the log into the file then.
fn open_unchanged(path: &Path, how: &str) -> Result<SqliteConnection, StoreError> {
    let uri = format!("file:{}?{how}", escaped(&path.to_string_lossy()));
    let open = |source| StoreError::Open { url: format!("sqlite:{}", path.display()), source };
    let mut conn = SqliteConnection::establish(&uri).map_err(open)?;
    conn.batch_execute("PRAGMA busy_timeout = 5000")?;
    Ok(conn)
}

/// A path as part of a URI: what means something there is written as a number.
fn escaped(path: &str) -> String {
    path.replace('%', "%25").replace('?', "%3f").replace('#', "%23")
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |found| found.len())
}
