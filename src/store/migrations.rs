//! Bringing a database to this version's schema, and refusing one that is ahead of it.

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::migration::{Migration, MigrationSource};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::{Conn, Fault, StoreError};

/// The migrations for SQLite.
pub const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
/// The migrations for PostgreSQL: the same numbers and names.
pub const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// Where a database's schema stands.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SchemaStatus {
    /// Versions that were applied, oldest first.
    pub applied: Vec<String>,
    /// Versions that this binary has and the database lacks.
    pub pending: Vec<String>,
}

fn failed(error: impl std::fmt::Display) -> StoreError {
    let why = error.to_string();
    match super::error::is_no_room(&why) {
        true => Fault::NotWritable(why).into(),
        false => StoreError::Migration(why),
    }
}

/// The key of PostgreSQL's lock for whoever migrates: the first bytes of "sexton migrate".
const LOCK_KEY: i64 = 0x7365_7874_6f6e_6d69;

/// The key under which the database says which programs may use it, see [`status`].
const OLDEST_USABLE: &str = "oldest_usable_schema";

/// Applies what is missing: on SQLite each migration in a transaction of its own, on PostgreSQL all in one, because several nodes may be
/// starting and only one is to do it.
///
/// # Errors
/// When the database is too new for this binary, or a migration fails.
pub fn migrate(conn: &mut Conn) -> Result<Vec<String>, StoreError> {
    if status(conn)?.pending.is_empty() {
        return Ok(Vec::new());
    }
    match conn {
        Conn::Sqlite(conn) => {
            let run = conn.run_pending_migrations(SQLITE).map_err(failed)?;
            Ok(run.iter().map(ToString::to_string).collect())
        }
        Conn::Postgres(conn) => conn.transaction(|conn| {
            diesel::sql_query("SELECT pg_advisory_xact_lock($1)")
                .bind::<BigInt, _>(LOCK_KEY)
                .execute(conn)?;
            let run = conn.run_pending_migrations(POSTGRES).map_err(failed)?;
            Ok(run.iter().map(ToString::to_string).collect())
        }),
    }
}

/// Refuses a database whose schema is not this binary's.
///
/// # Errors
/// When it is older or newer, or cannot be asked.
pub(super) fn require_current(conn: &mut Conn) -> Result<(), StoreError> {
    match status(conn)?.pending.first() {
        None => Ok(()),
        Some(missing) => Err(StoreError::Migration(format!(
            "it lacks {missing}: start the daemon once, or run `sexton db migrate`"
        ))),
    }
}

/// Takes every migration back, newest first. It deletes everything; only tests and a fresh start want it.
///
/// # Errors
/// When a `down.sql` fails.
pub fn revert_all(conn: &mut Conn) -> Result<(), StoreError> {
    match conn {
        Conn::Sqlite(conn) => conn.revert_all_migrations(SQLITE).map_err(failed)?,
        Conn::Postgres(conn) => conn.revert_all_migrations(POSTGRES).map_err(failed)?,
    };
    Ok(())
}

/// Takes away everything that migrations ever made, and the note of them, where there is any.
///
/// # Errors
/// When a `down.sql` fails.
pub fn remove(conn: &mut Conn) -> Result<(), StoreError> {
    if !applied_versions(conn)?.is_empty() {
        revert_all(conn)?;
    }
    conn.batch_execute("DROP TABLE IF EXISTS __diesel_schema_migrations")?;
    Ok(())
}

/// Tells what was applied and what is missing.
///
/// A database may have migrations that this binary does not know: while nodes are brought to a newer version one after the other, the
/// others go on, and one of them may have to start again. Migrations only ever add, so that is right until the database says that it is
/// not: its `oldest_usable_schema` is the oldest migration that a program may know as its newest and still use it.
///
/// # Errors
/// When the database is too new for this binary, or cannot be asked.
pub fn status(conn: &mut Conn) -> Result<SchemaStatus, StoreError> {
    let known = match conn {
        Conn::Sqlite(_) => versions(&SQLITE)?,
        Conn::Postgres(_) => versions_postgres()?,
    };
    let applied = applied_versions(conn)?;
    let newest = known.last().cloned().unwrap_or_default();
    if let Some(found) = applied.iter().rfind(|version| !known.contains(version)) {
        let oldest_usable = oldest_usable(conn)?;
        if oldest_usable.is_none_or(|oldest| oldest > newest) {
            return Err(StoreError::TooNew { found: found.clone(), known: newest });
        }
    }
    let pending = known.into_iter().filter(|version| !applied.contains(version)).collect();
    Ok(SchemaStatus { applied, pending })
}

fn oldest_usable(conn: &mut Conn) -> Result<Option<String>, StoreError> {
    use super::schema::meta;
    Ok(meta::table.find(OLDEST_USABLE).select(meta::value).first(conn).optional()?)
}

fn versions(source: &EmbeddedMigrations) -> Result<Vec<String>, StoreError> {
    let migrations: Vec<Box<dyn Migration<diesel::sqlite::Sqlite>>> =
        source.migrations().map_err(failed)?;
    Ok(sorted(migrations.iter().map(|migration| migration.name().version().to_string())))
}

fn versions_postgres() -> Result<Vec<String>, StoreError> {
    let migrations: Vec<Box<dyn Migration<diesel::pg::Pg>>> =
        POSTGRES.migrations().map_err(failed)?;
    Ok(sorted(migrations.iter().map(|migration| migration.name().version().to_string())))
}

diesel::table! {
    /// Where Diesel notes what it has applied.
    __diesel_schema_migrations (version) {
        /// The number of a migration that was applied.
        version -> Text,
    }
}

/// Diesel's own `applied_migrations` makes its table where it is missing, which a connection for reading must not, and on
/// PostgreSQL cannot even try.
fn applied_versions(conn: &mut Conn) -> Result<Vec<String>, StoreError> {
    let exists = match conn {
        Conn::Sqlite(conn) => diesel::select(sql::<Bool>(
            "EXISTS (SELECT 1 FROM sqlite_master WHERE name = '__diesel_schema_migrations')",
        ))
        .get_result::<bool>(conn)?,
        Conn::Postgres(conn) => {
            diesel::select(sql::<Bool>("to_regclass('__diesel_schema_migrations') IS NOT NULL"))
                .get_result(conn)?
        }
    };
    if !exists {
        return Ok(Vec::new());
    }
    let versions = __diesel_schema_migrations::table
        .select(__diesel_schema_migrations::version)
        .order(__diesel_schema_migrations::version)
        .load(conn)?;
    Ok(versions)
}

fn sorted(versions: impl Iterator<Item = String>) -> Vec<String> {
    let mut versions: Vec<String> = versions.collect();
    versions.sort();
    versions
}
