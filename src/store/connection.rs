//! One connection to one of two databases.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection, SqliteConnection};

use super::{StoreError, secrecy};

/// A connection to either database. The enum is closed at two, so there is no trait over the back-ends.
#[derive(diesel::MultiConnection)]
pub enum Conn {
    /// Embedded, the default.
    Sqlite(SqliteConnection),
    /// For several nodes.
    Postgres(PgConnection),
}

/// Expands an expression once per backend, for what does not compile on the enum (`ON CONFLICT`, batch inserts) and for
/// hot statements, which Diesel caches only on a concrete connection.
macro_rules! on_each_backend {
    ($conn:expr, |$inner:ident| $body:expr) => {
        match $conn {
            $crate::store::Conn::Sqlite($inner) => $body,
            $crate::store::Conn::Postgres($inner) => $body,
        }
    };
}
pub(super) use on_each_backend;

/// Where the database is.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// A file.
    Sqlite(PathBuf),
    /// A server; the whole URL, password included.
    Postgres(String),
}

impl FromStr for DatabaseUrl {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if !path.is_empty() && path != ":memory:" {
                return Ok(Self::Sqlite(PathBuf::from(path)));
            }
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            // libpq would read a part of such a password as host or port, and say so.
            return match has_plain_password(text) {
                true => Ok(Self::Postgres(text.to_owned())),
                false => Err(StoreError::UrlPassword),
            };
        }
        // Of a mistyped server's URL no part can be told from the password for certain.
        Err(StoreError::Url(match text.split_once([':', '@']) {
            Some((start, _)) => format!("{start}…"),
            None => text.to_owned(),
        }))
    }
}

/// Whether nothing in user and password means something else in a URL.
fn has_plain_password(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    // libpq takes the first @ before any / for the end of user and password, also where a ? stands before it.
    let first_at = rest.find(['@', '/']).filter(|&at| rest[at..].starts_with('@'));
    if first_at.is_some_and(|at| rest[..at].contains('?')) {
        return false;
    }
    let Some((secret, _host)) = rest.split('?').next().unwrap_or(rest).rsplit_once('@') else {
        return true;
    };
    let is_coded =
        |code: &str| code.len() >= 2 && u8::from_str_radix(code.get(..2).unwrap_or(""), 16).is_ok();
    !secret.contains(['/', '@', '#']) && secret.split('%').skip(1).all(is_coded)
}

impl fmt::Display for DatabaseUrl {
    /// Without user and password, so that it can be logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => f.write_str(&secrecy::shown(url)),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The one writer.
    Write,
    /// Reading snapshots.
    Read,
}

/// How long SQLite waits for another process's lock before it gives up, in milliseconds.
const BUSY_TIMEOUT_MS: u32 = 5000;

/// The write-ahead log's length, in 4 KiB pages, at which the writer itself checkpoints. The checkpointer does so long before;
/// this is the safety net for when it cannot.
const WRITER_CHECKPOINT_PAGES: u32 = 25_000;

/// How much of the database the writer keeps in memory. The pages it needs again are the ends of tables and indexes, so this holds
/// them for a backlog of any length; SQLite takes it only as it is used.
const WRITER_CACHE_KIB: u32 = 2 * 1024;

/// The same for each connection that reads. What one reads again soon is the tops of trees; the rest is in the system's page cache
/// anyway, from where a page comes in a microsecond or two. With 16 MiB the audit log and every long list left that much behind.
const READER_CACHE_KIB: u32 = 1024;

impl DatabaseUrl {
    /// The file, where the database is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(path) => Some(path),
            Self::Postgres(_) => None,
        }
    }

    /// Opens a connection. The enum's own `establish` would hide the cause of a failure, so the variant is chosen here.
    ///
    /// # Errors
    /// When the file or the server cannot be opened or prepared.
    pub fn connect(&self, purpose: Purpose) -> Result<Conn, StoreError> {
        match self {
            Self::Sqlite(path) => connect_sqlite(path, purpose).map(Conn::Sqlite),
            Self::Postgres(url) => {
                let open = |error| StoreError::Open {
                    url: self.to_string(),
                    source: secrecy::untold(error),
                };
                let mut conn = PgConnection::establish(&with_patience(url)).map_err(open)?;
                conn.batch_execute(postgres_session(purpose))?;
                Ok(Conn::Postgres(conn))
            }
        }
    }
}

/// Where SQLite keeps what was committed and is not in the database file yet.
pub(super) fn wal_of(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}

fn connect_sqlite(path: &Path, purpose: Purpose) -> Result<SqliteConnection, StoreError> {
    let file = |source| StoreError::File { path: path.to_owned(), source };
    if purpose == Purpose::Write
        && let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::create_dir_all(folder).map_err(file)?;
    }
    if purpose == Purpose::Read {
        // SQLite would make an empty database where there is none.
        std::fs::metadata(path).map_err(file)?;
    }
    let open = |source| StoreError::Open { url: format!("sqlite:{}", path.display()), source };
    let mut conn = SqliteConnection::establish(&path.to_string_lossy()).map_err(open)?;
    // The time-out comes first: setting the journal mode takes a lock when several connections open at once.
    conn.batch_execute(&format!("PRAGMA busy_timeout = {BUSY_TIMEOUT_MS};"))?;
    match purpose {
        // FULL, not NORMAL: with NORMAL a power cut takes back commits that were already acknowledged.
        Purpose::Write => conn.batch_execute(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
             PRAGMA wal_autocheckpoint = {WRITER_CHECKPOINT_PAGES}; PRAGMA journal_size_limit = 67108864; \
             PRAGMA cache_size = -{WRITER_CACHE_KIB}; PRAGMA temp_store = MEMORY;"
        ))?,
        Purpose::Read => conn.batch_execute(&format!(
            "PRAGMA query_only = ON; PRAGMA cache_size = -{READER_CACHE_KIB};"
        ))?,
    }
    Ok(conn)
}

/// What a connection is told where its URL does not: nobody waits for ever for a server that is gone without a word. A network that loses
/// everything is noticed within half a minute, on connections that are in use and on those that wait.
const PATIENCE: [(&str, &str); 6] = [
    ("application_name", "sexton"),
    ("connect_timeout", "10"),
    ("keepalives_idle", "10"),
    ("keepalives_interval", "5"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "20000"),
];

fn with_patience(url: &str) -> String {
    let mut told = url.to_owned();
    for (key, value) in PATIENCE {
        let is_said = |sign: char| url.contains(&format!("{sign}{key}="));
        if !is_said('?') && !is_said('&') {
            told.push(if told.contains('?') { '&' } else { '?' });
            told.push_str(&format!("{key}={value}"));
        }
    }
    told
}

/// A node that is frozen in a transaction holds up all others that want the same rows, and its machine goes on answering for it. So the
/// server ends such a session; the node runs the group again when it goes on.
fn postgres_session(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Write => {
            "SET synchronous_commit = on; SET idle_in_transaction_session_timeout = '20s'; SET client_min_messages = warning;"
        }
        // A read is a snapshot over several statements, as it is on SQLite.
        Purpose::Read => {
            "SET default_transaction_isolation = 'repeatable read'; SET default_transaction_read_only = on; \
             SET client_min_messages = warning;"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        let url: DatabaseUrl =
            "postgres://me:s3cret@db.example:5432/sexton?sslmode=require".parse().unwrap();
        assert_eq!(url.to_string(), "postgres://db.example:5432/sexton");
        assert!(!format!("{url:?}").contains("s3cret"));
    }

    #[test]
    fn a_password_that_breaks_the_url_is_refused_without_a_part_of_it() {
        for password in ["s3cr/et", "s3cr?et", "s3cr@et", "s3cr#et", "s3cr%et", "s3cr%4"] {
            let url = format!("postgres://me:{password}@db.example/sexton");
            let error = url.parse::<DatabaseUrl>().unwrap_err().to_string();
            assert!(error.contains("%40") && !error.contains("s3cr"), "{error}");
        }
        let error = "mysql://me:s3cr@et@db.example/x".parse::<DatabaseUrl>().unwrap_err();
        assert!(!error.to_string().contains("et@"), "{error}");
        for fine in [
            "postgres://me:s3c%40%2Fret@h/x",
            "postgres://h/x",
            "postgres:///x?host=/tmp/a@b",
            "postgres://u@h?application_name=a@b/c",
        ] {
            fine.parse::<DatabaseUrl>().unwrap();
        }
    }

    #[test]
    fn m3_a_connection_gives_up_on_a_silent_server_unless_its_url_says_otherwise() {
        let told =
            with_patience("postgres://me@db/sexton?keepalives_idle=99&application_name=mine");
        assert!(told.contains("?keepalives_idle=99&application_name=mine&connect_timeout=10"));
        assert!(told.ends_with("&tcp_user_timeout=20000") && !told.contains("keepalives_idle=10"));
        assert!(with_patience("postgres://db/x").starts_with("postgres://db/x?application_name"));
    }

    #[test]
    fn an_unknown_scheme_is_refused_with_the_ones_that_work() {
        for bad in ["mysql://x", "sqlite:", "sqlite::memory:", "", "var/sexton.db"] {
            let error = bad.parse::<DatabaseUrl>().unwrap_err().to_string();
            assert!(error.contains("sqlite:PATH"), "{error}");
        }
    }
}
