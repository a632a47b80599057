//! Threads that own connections, and the operations that travel to them.
//!
//! Blocking database work never runs on the async runtime's threads. A caller sends an operation (a closure over a
//! connection) down a lane and awaits its answer.
//!
//! *The write lane* has one thread. It takes what is waiting, up to a bound, runs each operation in a savepoint inside one
//! transaction, commits once, and only then answers all of them: an acknowledged write is a durable write, and many
//! writers share one `fsync`. A lone operation is committed at once. A failed operation takes back its own savepoint only.
//!
//! *The read lane* has a few threads, each with a connection that cannot write; one operation is one snapshot.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use diesel::connection::{AnsiTransactionManager, SimpleConnection, TransactionManager};
use diesel::{Connection, PgConnection, SqliteConnection};
use tokio::sync::mpsc;

use super::connection::{DatabaseUrl, Purpose};
use super::{Conn, StoreError};
use crate::model::Chain;

/// How many operations may wait in a lane before senders have to wait too.
const LANE_DEPTH: usize = 8192;

/// How many operations at the most share one commit. It bounds how long the first of them waits for its answer.
const MAX_GROUP: usize = 1024;

/// How long to wait before a lost connection is opened again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

/// How often a transaction that finds the database locked is begun again; SQLite itself waits five seconds each time.
const BEGIN_ATTEMPTS: u32 = 12;

/// Tells an operation's caller how the commit went.
pub(super) type Acknowledge = Box<dyn FnOnce(Result<(), &str>) + Send>;

/// An operation: does its work on the connection and leaves its answer to be sent after the commit. Without a connection it
/// only has an error to pass on.
pub(super) type Operation = Box<dyn FnOnce(Result<&mut Conn, StoreError>) -> Acknowledge + Send>;

/// The sending end of a lane.
#[derive(Clone)]
pub(super) struct Lane(mpsc::Sender<Operation>);

impl Lane {
    pub(super) async fn send(&self, operation: Operation) -> Result<(), StoreError> {
        self.0.send(operation).await.map_err(|_closed| StoreError::Closed)
    }
}

/// Threads that end when every sender of their lane is gone.
pub(super) type Threads = Vec<thread::JoinHandle<()>>;

/// Starts the write lane. `committed` is called after each commit.
pub(super) fn spawn_writer(
    url: DatabaseUrl,
    conn: Conn,
    committed: impl Fn() + Send + 'static,
) -> Result<(Lane, Threads), StoreError> {
    let (sender, mut receiver) = mpsc::channel::<Operation>(LANE_DEPTH);
    let mut writer = Writer { url, conn: Some(conn) };
    let thread = start("sexton-writer", move || {
        while let Some(first) = receiver.blocking_recv() {
            let mut group = vec![first];
            while group.len() < MAX_GROUP
                && let Ok(next) = receiver.try_recv()
            {
                group.push(next);
            }
            writer.commit(group);
            committed();
        }
    })?;
    Ok((Lane(sender), vec![thread]))
}

/// Starts a read lane with `count` threads.
pub(super) fn spawn_readers(
    url: &DatabaseUrl,
    count: usize,
) -> Result<(Lane, Threads), StoreError> {
    let (sender, receiver) = mpsc::channel::<Operation>(LANE_DEPTH);
    let receiver = Arc::new(Mutex::new(receiver));
    let mut threads = Vec::new();
    for _ in 0..count {
        let receiver = Arc::clone(&receiver);
        let mut reader = Reader { url: url.clone(), conn: None };
        threads.push(start("sexton-reader", move || {
            loop {
                // One thread waits for the next operation while it holds the lock, the others wait for the lock.
                let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
                let Some(operation) = next else { break };
                reader.run(operation);
            }
        })?);
    }
    Ok((Lane(sender), threads))
}

fn start(
    name: &str,
    run: impl FnOnce() + Send + 'static,
) -> Result<thread::JoinHandle<()>, StoreError> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(run);
    spawned.map_err(|source| StoreError::File { path: format!("(thread {name})").into(), source })
}

struct Writer {
    url: DatabaseUrl,
    conn: Option<Conn>,
}

impl Writer {
    /// Runs a group of operations in one transaction. Whatever goes wrong with the transaction itself is told to all of them.
    fn commit(&mut self, group: Vec<Operation>) {
        let mut conn = match self.begin() {
            Ok(conn) => conn,
            Err(error) => return refuse(group, &error),
        };
        let mut acknowledgements = Vec::with_capacity(group.len());
        for operation in group {
            let Ok(acknowledge) = catch_unwind(AssertUnwindSafe(|| operation(Ok(&mut conn))))
            else {
                // What the operation left behind is unknown, so nothing of the group is kept and the connection is given up.
                tracing::error!(
                    "a database operation panicked; its group of writes was taken back"
                );
                return acknowledge_all(
                    acknowledgements,
                    Err("another write of the group panicked"),
                );
            };
            acknowledgements.push(acknowledge);
        }
        match commit(&mut conn) {
            Ok(()) => {
                self.conn = Some(conn);
                acknowledge_all(acknowledgements, Ok(()));
            }
            Err(error) => {
                // The connection is dropped, which rolls back: after a failed commit its state is not to be trusted.
                let error = StoreError::from(error);
                tracing::error!(error = %Chain(&error), "a group of writes could not be committed");
                acknowledge_all(acknowledgements, Err(&Chain(&error).to_string()));
            }
        }
    }

    fn begin(&mut self) -> Result<Conn, StoreError> {
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.url.connect(Purpose::Write)?,
        };
        let mut attempt = 1;
        loop {
            match begin_write(&mut conn).map_err(StoreError::from) {
                Ok(()) => return Ok(conn),
                Err(StoreError::Busy) if attempt < BEGIN_ATTEMPTS => attempt += 1,
                Err(StoreError::Busy) => {
                    self.conn = Some(conn);
                    return Err(StoreError::Busy);
                }
                Err(first) => {
                    // A server that was restarted leaves a dead connection behind: one fresh attempt decides.
                    tracing::warn!(error = %Chain(&first), "reopening the database connection");
                    pause();
                    conn = self.url.connect(Purpose::Write)?;
                    begin_write(&mut conn)?;
                    return Ok(conn);
                }
            }
        }
    }
}

struct Reader {
    url: DatabaseUrl,
    conn: Option<Conn>,
}

impl Reader {
    fn run(&mut self, operation: Operation) {
        let mut conn = match self.open() {
            Ok(conn) => conn,
            Err(error) => return refuse(vec![operation], &error),
        };
        let Ok(acknowledge) = catch_unwind(AssertUnwindSafe(|| operation(Ok(&mut conn)))) else {
            tracing::error!("a database read panicked");
            return;
        };
        // Ends the snapshot. A connection that cannot even do that is not used again.
        if conn.batch_execute("COMMIT").is_ok() {
            self.conn = Some(conn);
        }
        acknowledge(Ok(()));
    }

    /// A connection inside a fresh snapshot.
    fn open(&mut self) -> Result<Conn, StoreError> {
        if let Some(mut conn) = self.conn.take()
            && conn.batch_execute("BEGIN").is_ok()
        {
            return Ok(conn);
        }
        let mut conn = self.url.connect(Purpose::Read)?;
        conn.batch_execute("BEGIN")?;
        Ok(conn)
    }
}

/// Every write transaction is IMMEDIATE on SQLite: one that starts by reading fails at once when another writer is active,
/// whatever the busy time-out says.
fn begin_write(conn: &mut Conn) -> diesel::QueryResult<()> {
    match conn {
        Conn::Sqlite(conn) => {
            AnsiTransactionManager::begin_transaction_sql(conn, "BEGIN IMMEDIATE")
        }
        Conn::Postgres(conn) => {
            <PgConnection as Connection>::TransactionManager::begin_transaction(conn)
        }
    }
}

fn commit(conn: &mut Conn) -> diesel::QueryResult<()> {
    match conn {
        Conn::Sqlite(conn) => {
            <SqliteConnection as Connection>::TransactionManager::commit_transaction(conn)
        }
        Conn::Postgres(conn) => {
            <PgConnection as Connection>::TransactionManager::commit_transaction(conn)
        }
    }
}

fn acknowledge_all(acknowledgements: Vec<Acknowledge>, outcome: Result<(), &str>) {
    for acknowledge in acknowledgements {
        acknowledge(outcome);
    }
}

/// Answers operations that could not be run.
fn refuse(group: Vec<Operation>, error: &StoreError) {
    for operation in group {
        let told = match error {
            StoreError::Busy => StoreError::Busy,
            other => StoreError::NotCommitted(Chain(other).to_string()),
        };
        operation(Err(told))(Ok(()));
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this thread has nothing else to do until the server is back"
)]
fn pause() {
    thread::sleep(RECONNECT_PAUSE);
}
