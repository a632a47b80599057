//! A database of its own for each test.

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection, SqliteConnection};
use sexton::store::{DatabaseUrl, Store};
use tempfile::TempDir;

/// Where `scripts/with-postgres` says that a server is: the URL of a database whose user may make others.
const SERVER: &str = "SEXTON_TEST_POSTGRES_URL";

/// An empty database that goes when this is dropped, together with whatever still holds on to it.
pub(crate) struct TestDatabase {
    url: DatabaseUrl,
    place: Place,
}

enum Place {
    Folder(TempDir),
    Server { url: String, name: String },
}

impl TestDatabase {
    /// A file in a temporary folder. In memory, every connection would have a database of its own.
    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = DatabaseUrl::Sqlite(folder.path().join("sexton.db"));
        Self { url, place: Place::Folder(folder) }
    }

    /// A database with a random name on the test server; `None`, with a message, where there is no server and none is
    /// promised. In CI one is promised.
    pub(crate) fn postgres() -> Option<Self> {
        Self::postgres_made("")
    }

    /// The same, made with these options of `CREATE DATABASE`.
    pub(crate) fn postgres_made(options: &str) -> Option<Self> {
        let Ok(server) = std::env::var(SERVER) else {
            assert!(
                std::env::var("CI").is_err(),
                "{SERVER} is not set: in CI the tests on PostgreSQL must not be skipped"
            );
            println!("skipped: {SERVER} is not set; scripts/test provides a server");
            return None;
        };
        let name = format!("sexton_test_{}", uuid::Uuid::new_v4().simple());
        let mut conn = PgConnection::establish(&server).expect("the test server answers");
        conn.batch_execute(&format!("CREATE DATABASE {name} {options}")).expect("a fresh database");
        let url = DatabaseUrl::Postgres(in_database(&server, &name));
        Some(Self { url, place: Place::Server { url: server, name } })
    }

    pub(crate) fn url(&self) -> &DatabaseUrl {
        &self.url
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        matches!(self.url, DatabaseUrl::Sqlite(_))
    }

    /// Opens it as a daemon does.
    pub(crate) fn open(&self) -> Store {
        Store::open(&self.url).expect("the test database opens")
    }

    /// Runs statements on a connection of its own, as another program would.
    pub(crate) fn execute(&self, sql: &str) {
        let done = match &self.url {
            DatabaseUrl::Sqlite(path) => {
                let mut conn =
                    SqliteConnection::establish(&path.to_string_lossy()).expect("a connection");
                conn.batch_execute(&format!("PRAGMA busy_timeout = 5000; {sql}"))
            }
            DatabaseUrl::Postgres(url) => {
                PgConnection::establish(url).expect("a connection").batch_execute(sql)
            }
        };
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        match &self.place {
            // The folder removes itself.
            Place::Folder(_folder) => {}
            Place::Server { url, name } => {
                let dropped = PgConnection::establish(url).map(|mut conn| {
                    conn.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
                });
                if !matches!(dropped, Ok(Ok(()))) {
                    println!("the test database {name} could not be dropped");
                }
            }
        }
    }
}

/// The URL of another database on the same server.
fn in_database(server: &str, name: &str) -> String {
    let (place, options) = match server.split_once('?') {
        Some((place, options)) => (place, format!("?{options}")),
        None => (server, String::new()),
    };
    let (host, _database) = place.rsplit_once('/').expect("a URL with a database");
    format!("{host}/{name}{options}")
}
