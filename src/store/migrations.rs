//! Bringing a database to this version's schema, and refusing one that is ahead of it.

use diesel::dsl::sql;
use diesel::migration::{Migration, MigrationSource};
use diesel::prelude::*;
use diesel::sql_types::Bool;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::{Conn, StoreError};

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
    StoreError::Migration(error.to_string())
}

/// Applies what is missing, each migration in a transaction of its own.
///
/// # Errors
/// When the database is newer than this binary, or a migration fails.
pub fn migrate(conn: &mut Conn) -> Result<Vec<String>, StoreError> {
    status(conn)?;
    let run = match conn {
        Conn::Sqlite(conn) => conn.run_pending_migrations(SQLITE).map_err(failed)?,
        Conn::Postgres(conn) => conn.run_pending_migrations(POSTGRES).map_err(failed)?,
    };
    Ok(run.iter().map(ToString::to_string).collect())
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

/// Tells what was applied and what is missing.
///
/// # Errors
/// When the database is newer than this binary, or cannot be asked.
pub fn status(conn: &mut Conn) -> Result<SchemaStatus, StoreError> {
    let known = match conn {
        Conn::Sqlite(_) => versions(&SQLITE)?,
        Conn::Postgres(_) => versions_postgres()?,
    };
    let applied = applied_versions(conn)?;
    let newest = known.last().cloned().unwrap_or_default();
    match applied.iter().find(|version| !known.contains(version)) {
        Some(found) => Err(StoreError::TooNew { found: found.clone(), known: newest }),
        None => {
            let pending = known.into_iter().filter(|version| !applied.contains(version)).collect();
            Ok(SchemaStatus { applied, pending })
        }
    }
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
