//! What can go wrong in the store, by what the caller can do about it.

use diesel::result::{DatabaseErrorKind, Error as DieselError};

/// Why a read or a write did not happen.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database could not be opened at all.
    #[error("cannot open the database {url}")]
    Open {
        /// Where it is, without a password.
        url: String,
        /// Why.
        #[source]
        source: diesel::ConnectionError,
    },
    /// The URL is of no kind that is known.
    #[error("`{0}` is not a database URL: use sqlite:PATH or postgres://USER@HOST/NAME")]
    Url(String),
    /// The file or its folder cannot be used.
    #[error("cannot use the database file {path}")]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The schema could not be brought up to date.
    #[error("cannot bring the database to this version's schema: {0}")]
    Migration(String),
    /// A newer version of the program has written this database.
    #[error(
        "the database has schema {found}, which is newer than {known}, the newest that this version knows: \
         start the newer version again, or restore a backup from before the upgrade"
    )]
    TooNew {
        /// The newest migration that was applied.
        found: String,
        /// The newest migration in this binary.
        known: String,
    },
    /// Another process holds the database's write lock.
    #[error("the database is locked by another process; nothing was changed, try again")]
    Busy,
    /// The disk is full or cannot be written.
    #[error("the database cannot be written")]
    NotWritable(#[source] DieselError),
    /// Somebody else has finished or taken over what was to be changed.
    #[error("{0}")]
    Conflict(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// A stored value makes no sense to this version.
    #[error("the database holds a {what} that cannot be read: {detail}")]
    Damaged {
        /// What it is a value of.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// Any other answer of the database.
    #[error("the database refused the operation")]
    Database(#[source] DieselError),
    /// The transaction that this operation was grouped into could not be committed; nothing of it was kept.
    #[error("the group of writes that this one belonged to was not committed: {0}")]
    NotCommitted(String),
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Whether trying again in a moment may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Busy | Self::NotWritable(_) | Self::NotCommitted(_))
    }
}

impl From<DieselError> for StoreError {
    /// SQLite reports "database is locked" and a full disk under the kind `Unknown`; only the message tells them apart.
    fn from(error: DieselError) -> Self {
        let text = match &error {
            DieselError::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, _) => {
                return Self::NotWritable(error);
            }
            DieselError::DatabaseError(_, information) => information.message().to_owned(),
            _ => String::new(),
        };
        if text.contains("database is locked") || text.contains("database table is locked") {
            Self::Busy
        } else if ["disk is full", "readonly database", "disk I/O error", "No space left"]
            .iter()
            .any(|phrase| text.contains(phrase))
        {
            Self::NotWritable(error)
        } else {
            Self::Database(error)
        }
    }
}
