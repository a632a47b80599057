//! Fresh databases for tests: a temporary SQLite file, and a database of its own on the PostgreSQL server that
//! `SEXTON_TEST_POSTGRES_URL` names, where it is set.

use diesel::connection::SimpleConnection;
use tempfile::TempDir;

use super::{DatabaseUrl, Purpose, Store};

/// A database that goes away with this value.
pub(crate) struct TestDatabase {
    store: Option<Store>,
    _folder: TempDir,
    on_server: Option<OnServer>,
}

struct OnServer {
    admin: DatabaseUrl,
    name: String,
}

/// One empty database on each backend there is.
pub(crate) fn databases() -> Vec<TestDatabase> {
    let server = std::env::var("SEXTON_TEST_POSTGRES_URL").ok();
    std::iter::once(sqlite()).chain(server.as_deref().map(postgres)).collect()
}

/// An empty SQLite database.
pub(crate) fn sqlite() -> TestDatabase {
    let folder = tempfile::tempdir().unwrap();
    let url = DatabaseUrl::Sqlite(folder.path().join("sexton.db"));
    TestDatabase { store: Some(Store::open(&url).unwrap()), _folder: folder, on_server: None }
}

fn postgres(server: &str) -> TestDatabase {
    let admin: DatabaseUrl = server.parse().unwrap();
    let name = format!("sexton_test_{}", uuid::Uuid::new_v4().simple());
    execute(&admin, &format!("CREATE DATABASE {name}"));
    let (address, options) = server.split_once('?').unwrap_or((server, ""));
    let (host, _database) = address.rsplit_once('/').unwrap();
    let url = DatabaseUrl::Postgres(format!("{host}/{name}?{options}"));
    TestDatabase {
        store: Some(Store::open(&url).unwrap()),
        _folder: tempfile::tempdir().unwrap(),
        on_server: Some(OnServer { admin, name }),
    }
}

fn execute(url: &DatabaseUrl, sql: &str) {
    url.connect(Purpose::Write).unwrap().batch_execute(sql).unwrap();
}

impl TestDatabase {
    /// The store on it.
    pub(crate) fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    /// Lets it seem that the writer has a new connection, to a server that may lack the last moment.
    pub(crate) fn reopen(&self) {
        self.store().tallies.reopenings.add();
    }

    /// Runs statements that both databases understand.
    pub(crate) async fn sql(&self, statements: &str) {
        let statements = statements.to_owned();
        self.store().write(move |conn| Ok(conn.batch_execute(&statements)?)).await.unwrap();
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        if let Some(store) = self.store.take() {
            store.close();
        }
        if let Some(OnServer { admin, name }) = &self.on_server {
            execute(admin, &format!("DROP DATABASE {name} WITH (FORCE)"));
        }
    }
}
