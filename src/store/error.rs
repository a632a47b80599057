//! What can go wrong in the store, by what the caller can do about it.

use diesel::result::{DatabaseErrorKind, Error as DieselError};

use super::condition::Fault;
use crate::model::Chain;

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
    /// The URL cannot be taken apart.
    #[error(
        "a user or password in a database URL has / as %2F, ? as %3F, @ as %40, # as %23 and % as %25"
    )]
    UrlPassword,
    /// The database cannot keep every text.
    #[error(
        "the database {url} has the encoding {encoding}, in which it cannot keep every text of jobs: make one with \
         `CREATE DATABASE sexton ENCODING 'UTF8' TEMPLATE template0`, and bring what is there along with `sexton db copy`"
    )]
    Encoding {
        /// Where it is, without a password.
        url: String,
        /// Its encoding, as PostgreSQL names it.
        encoding: String,
    },
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
    /// Somebody else holds what was to be changed: another process SQLite's write lock, or another node rows that wait for ours.
    #[error("the database is locked by another process; nothing was changed, try again")]
    Busy,
    /// Something between us and PostgreSQL gives our statements to other connections of its own.
    #[error(
        "{0}: there is a pooler in between that works by transaction and does not know prepared statements. Let it pool by session, take one \
         that knows them (PgBouncer from 1.21 on, with `max_prepared_statements`), or give `database.url` a way around it"
    )]
    Pooler(String),
    /// Something is wrong below the database.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The database was found to be damaged or missing before anything was written to it.
    #[error(
        "the database {} is not sound: {why}; nothing was changed. Keep the files as they are, and restore a backup with \
         `sexton db restore FILE`, or give it another `database.url`",
        path.display()
    )]
    Unsound {
        /// Its file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The store gave up its database for good; the daemon is about to stop.
    #[error("{0}")]
    Lost(String),
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
    /// A text in it cannot be kept.
    #[error("text must not contain NUL (U+0000), which PostgreSQL cannot keep")]
    Nul,
    /// Any other answer of the database.
    #[error("the database refused the operation")]
    Database(#[source] DieselError),
    /// The transaction that this operation was grouped into could not be committed; nothing of it was kept.
    #[error("the group of writes that this one belonged to was not committed: {0}")]
    NotCommitted(String),
    /// The database does not answer. Nothing of the operation was kept.
    #[error("the database cannot be reached; nothing was changed, try again when it can: {0}")]
    Unreachable(String),
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Whether trying again in a moment may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        use DatabaseErrorKind::{ClosedConnection, UnableToSendCommand};
        match self {
            // The next look opens another connection.
            Self::Database(DieselError::DatabaseError(kind, _)) => {
                matches!(kind, ClosedConnection | UnableToSendCommand)
            }
            Self::Busy
            | Self::NotCommitted(_)
            | Self::Unreachable(_)
            | Self::Fault(Fault::NotWritable(_)) => true,
            _ => false,
        }
    }

    /// What an operation is told that was not written because of this, which concerns its whole group.
    pub(super) fn of_the_group(&self) -> Self {
        match self {
            Self::Busy => Self::Busy,
            Self::NotCommitted(why) => Self::NotCommitted(why.clone()),
            Self::Unreachable(why) => Self::Unreachable(why.clone()),
            Self::Open { .. } => Self::Unreachable(Chain(self).to_string()),
            other => Self::NotCommitted(Chain(other).to_string()),
        }
    }

    /// What this says about the database as a whole, where it says anything.
    pub(super) fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Fault(fault) => Some(fault),
            _ => None,
        }
    }
}

/// What SQLite, and PostgreSQL about the disk of its server, say when there is no room or the file is read-only.
const NOT_WRITABLE: [&str; 3] = ["disk is full", "readonly database", "No space left on device"];

/// Whether a message of a database says that.
pub(super) fn is_no_room(message: &str) -> bool {
    NOT_WRITABLE.iter().any(|phrase| message.contains(phrase))
}

/// What SQLite says of a file that is no database any more.
const DAMAGED: [&str; 3] =
    ["database disk image is malformed", "file is not a database", "malformed database schema"];

/// What SQLite says while another process writes, and PostgreSQL to one of two transactions that wait for each other or when it waits for a
/// lock no longer than it was told to.
const LOCKED: [&str; 4] = [
    "database is locked",
    "database table is locked",
    "deadlock detected",
    "canceling statement due to lock timeout",
];

impl From<DieselError> for StoreError {
    /// SQLite reports everything but broken constraints under the kind `Unknown`; only the message tells what it is.
    fn from(error: DieselError) -> Self {
        // SQLite has rolled back by itself, so that Diesel could not; why is in the first of the two.
        if let DieselError::RollbackErrorOnCommit { commit_error, .. } = error {
            return Self::from(*commit_error);
        }
        let DieselError::DatabaseError(kind, information) = &error else {
            return Self::Database(error);
        };
        let text = information.message().to_owned();
        let says = |phrases: &[&str]| phrases.iter().any(|phrase| text.contains(phrase));
        if matches!(kind, DatabaseErrorKind::ReadOnlyTransaction) || is_no_room(&text) {
            Self::Fault(Fault::NotWritable(text))
        } else if text.starts_with("invalid byte sequence for encoding") && text.ends_with(": 0x00")
        {
            Self::Nul
        } else if text.starts_with("prepared statement \"__diesel") {
            Self::Pooler(text)
        } else if matches!(kind, DatabaseErrorKind::SerializationFailure) || says(&LOCKED) {
            Self::Busy
        } else if text == "disk I/O error" {
            Self::Fault(Fault::Disk(text))
        } else if says(&DAMAGED) {
            Self::Fault(Fault::Damaged(text))
        } else {
            Self::Database(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(message: &str) -> StoreError {
        let information = Box::new(message.to_owned());
        DieselError::DatabaseError(DatabaseErrorKind::Unknown, information).into()
    }

    #[test]
    fn m5_a_pooler_that_loses_prepared_statements_is_named_with_what_to_do() {
        for what in ["already exists", "does not exist"] {
            let error = refused(&format!("prepared statement \"__diesel_stmt_1\" {what}"));
            assert!(matches!(error, StoreError::Pooler(_)), "{error:?}");
            assert!(error.to_string().contains("max_prepared_statements"), "{error}");
        }
    }

    #[test]
    fn text_with_nul_is_told_from_other_refusals() {
        let nul = refused("invalid byte sequence for encoding \"UTF8\": 0x00");
        assert!(matches!(nul, StoreError::Nul), "{nul:?}");
        let other = refused("invalid byte sequence for encoding \"UTF8\": 0xc3 0x00");
        assert!(matches!(other, StoreError::Database(_)), "{other:?}");
    }

    #[test]
    fn a_read_whose_connection_was_lost_can_be_tried_again() {
        let lost = |kind| {
            let information = Box::new("server closed the connection unexpectedly".to_owned());
            StoreError::from(DieselError::DatabaseError(kind, information))
        };
        assert!(lost(DatabaseErrorKind::ClosedConnection).is_transient());
        assert!(lost(DatabaseErrorKind::UnableToSendCommand).is_transient());
        assert!(!refused("no such table: jobs").is_transient());
    }

    #[test]
    fn two_nodes_in_each_others_way_are_told_from_a_refusal() {
        assert!(matches!(refused("deadlock detected"), StoreError::Busy));
        assert!(matches!(refused("something else"), StoreError::Database(_)));
    }
}
