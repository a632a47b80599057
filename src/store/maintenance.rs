//! Looking after the database as a whole: damage, copies, copies put back.

use std::path::{Path, PathBuf};

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Text};
use jiff::Timestamp;

use super::connection::Purpose;
use super::{Conn, StoreError, migrations, nodes, on_each_backend};
use crate::store::DatabaseUrl;

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    line: String,
}

/// What is damaged; empty when nothing is. PostgreSQL checks its pages itself as it reads them.
///
/// # Errors
/// When the database cannot even be asked.
pub fn check(conn: &mut Conn) -> Result<Vec<String>, StoreError> {
    let Conn::Sqlite(conn) = conn else { return Ok(Vec::new()) };
    let lines: Vec<Line> =
        diesel::sql_query("SELECT integrity_check AS line FROM pragma_integrity_check")
            .load(conn)?;
    Ok(lines.into_iter().map(|row| row.line).filter(|line| line != "ok").collect())
}

/// The first damage that a look at every page finds; unlike [`check`] it does not compare indexes with their tables, which takes
/// several times as long.
///
/// # Errors
/// When the database cannot even be asked, which damage can be the reason for.
pub(super) fn quick_check(conn: &mut SqliteConnection) -> Result<Option<String>, StoreError> {
    let first: Line =
        diesel::sql_query("SELECT quick_check AS line FROM pragma_quick_check LIMIT 1")
            .get_result(conn)?;
    Ok(Some(first.line).filter(|line| line != "ok"))
}

/// Whether there is nothing in the database at all, not even a table.
///
/// # Errors
/// When the database cannot be asked.
pub fn is_blank(conn: &mut Conn) -> Result<bool, StoreError> {
    let is_blank = match conn {
        Conn::Sqlite(_) => "NOT EXISTS (SELECT 1 FROM sqlite_master)",
        Conn::Postgres(_) => {
            "NOT EXISTS (SELECT 1 FROM pg_class WHERE relnamespace = current_schema()::regnamespace)"
        }
    };
    Ok(on_each_backend!(conn, |inner| diesel::select(sql::<Bool>(is_blank)).get_result(inner)?))
}

/// How much room the database takes on its disk, in bytes, without a write-ahead log.
///
/// # Errors
/// When the database cannot be asked.
pub fn size(conn: &mut Conn) -> Result<u64, StoreError> {
    let size = match conn {
        Conn::Sqlite(_) => {
            "(SELECT page_count * page_size FROM pragma_page_count, pragma_page_size)"
        }
        Conn::Postgres(_) => "pg_database_size(current_database())",
    };
    let bytes: i64 =
        on_each_backend!(conn, |inner| diesel::select(sql::<BigInt>(size)).get_result(inner)?);
    Ok(bytes.unsigned_abs())
}

/// Writes a consistent copy to a file that does not exist yet; the daemon may go on writing meanwhile.
///
/// # Errors
/// When the file exists or cannot be written, or the database is not a file.
pub fn backup(conn: &mut Conn, to: &Path) -> Result<(), StoreError> {
    let Conn::Sqlite(conn) = conn else {
        return Err(StoreError::Conflict("back up a PostgreSQL database with pg_dump".to_owned()));
    };
    if to.exists() {
        return Err(StoreError::Conflict(format!("{} exists already", to.display())));
    }
    // VACUUM INTO counts as writing although it only writes elsewhere.
    conn.batch_execute("PRAGMA query_only = OFF")?;
    diesel::sql_query("VACUUM INTO ?").bind::<Text, _>(to.to_string_lossy()).execute(conn)?;
    let sync = std::fs::File::open(to).and_then(|file| file.sync_all());
    sync.map_err(|source| StoreError::File { path: to.to_owned(), source })
}

/// Puts a copy in place of the database, after looking that it is sound and not from a newer version. The database that was there is kept
/// beside it, and its new name is returned. `audited` is the last record of the audit log, which may know of more than the copy does.
///
/// # Errors
/// When the copy is damaged or too new, or a file cannot be moved; the database is as it was then.
pub fn restore(
    from: &Path,
    database: &Path,
    audited: u64,
    now: Timestamp,
) -> Result<Option<PathBuf>, StoreError> {
    let mut copy = DatabaseUrl::Sqlite(from.to_owned()).connect(Purpose::Read)?;
    if let Some(damage) = check(&mut copy)?.first() {
        return Err(StoreError::Conflict(format!("{} is damaged: {damage}", from.display())));
    }
    migrations::status(&mut copy)?;
    drop(copy);
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| StoreError::File { path, source }
    };
    let staged = with_suffix(database, ".restoring");
    for suffix in ["-wal", "-shm"] {
        // Left by a restore that was killed, it would be taken for the log of this one.
        match std::fs::remove_file(with_suffix(&staged, suffix)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(file(&staged)(error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    std::fs::copy(from, &staged).map_err(file(&staged))?;
    nodes::set_restored_at(
        &mut DatabaseUrl::Sqlite(staged.clone()).connect(Purpose::Write)?,
        audited,
    )?;
    std::fs::File::open(&staged).and_then(|file| file.sync_all()).map_err(file(&staged))?;
    let stamp = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let aside = |suffix: &str| with_suffix(database, &format!(".before-restore-{stamp}{suffix}"));
    let kept = database.exists().then(|| aside(""));
    // The log also where it is alone: beside the copy, it would be taken for the copy's.
    for suffix in ["", "-wal", "-shm"] {
        let old = with_suffix(database, suffix);
        if old.exists() {
            std::fs::rename(&old, aside(suffix)).map_err(file(&old))?;
        }
    }
    std::fs::rename(&staged, database).map_err(file(database))?;
    Ok(kept)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
