//! Commands about the database.

use std::path::PathBuf;

use clap::Subcommand;

/// `db`.
#[derive(Debug, Subcommand)]
pub enum Db {
    /// Bring the schema up to date.
    Migrate,
    /// Which migrations are applied and which are missing.
    Status,
    /// Write a consistent copy, also while the daemon runs.
    Backup {
        /// The copy; it must not exist.
        file: PathBuf,
    },
    /// Put a copy in place of the database; the daemon must not run. The old one is kept beside it.
    Restore {
        /// The copy.
        file: PathBuf,
    },
    /// Copy a whole history into an empty database: from SQLite to PostgreSQL, or any other way. No daemon may use the source. The copy is
    /// there as a whole or not at all.
    Copy {
        /// The database that is copied: sqlite:PATH or postgres://USER@HOST/NAME. A password is better kept in PGPASSFILE.
        from: String,
        /// The empty database that it is copied to.
        to: String,
    },
    /// Look for damage.
    Check,
}
