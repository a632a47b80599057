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
//!
//! A simulation drives the same lanes without threads, see `driven`.

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

/// A lane and its receiving end.
pub(super) fn lane() -> (Lane, mpsc::Receiver<Operation>) {
    let (sender, receiver) = mpsc::channel(LANE_DEPTH);
    (Lane(sender), receiver)
}

/// An operation with those that wait behind it, up to the bound of a group.
pub(super) fn group(first: Operation, waiting: &mut mpsc::Receiver<Operation>) -> Vec<Operation> {
    let mut group = vec![first];
    while group.len() < MAX_GROUP
        && let Ok(next) = waiting.try_recv()
    {
        group.push(next);
    }
    group
}

/// Starts the write lane. `committed` is called after each commit.
pub(super) fn spawn_writer(
    url: DatabaseUrl,
    conn: Conn,
    committed: impl Fn() + Send + 'static,
) -> Result<(Lane, Threads), StoreError> {
    let (lane, mut receiver) = lane();
    let mut writer = Writer::new(url, conn);
    let thread = start("sexton-writer", move || {
        while let Some(first) = receiver.blocking_recv() {
            if let Some(open) = writer.run(group(first, &mut receiver)) {
                writer.commit(open).acknowledge();
            }
            committed();
        }
    })?;
    Ok((lane, vec![thread]))
}

/// Starts a read lane with `count` threads.
pub(super) fn spawn_readers(
    url: &DatabaseUrl,
    count: usize,
) -> Result<(Lane, Threads), StoreError> {
    let (lane, receiver) = lane();
    let receiver = Arc::new(Mutex::new(receiver));
    let mut threads = Vec::new();
    for _ in 0..count {
        let receiver = Arc::clone(&receiver);
        let mut reader = Reader::new(url.clone());
        threads.push(start("sexton-reader", move || {
            loop {
                // One thread waits for the next operation while it holds the lock, the others wait for the lock.
                let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
                let Some(operation) = next else { break };
                reader.run(operation);
            }
        })?);
    }
    Ok((lane, threads))
}

fn start(
    name: &str,
    run: impl FnOnce() + Send + 'static,
) -> Result<thread::JoinHandle<()>, StoreError> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(run);
    spawned.map_err(|source| StoreError::File { path: format!("(thread {name})").into(), source })
}

/// Owns the connection that writes.
pub(super) struct Writer {
    url: DatabaseUrl,
    conn: Option<Conn>,
}

/// A group of operations that have run in a transaction which is not committed yet. Dropped, it is rolled back.
pub(super) struct Open {
    conn: Conn,
    acknowledgements: Vec<Acknowledge>,
}

/// A group whose transaction is over, with what its callers are to be told: nothing is wrong, or what is.
pub(super) struct Ended {
    acknowledgements: Vec<Acknowledge>,
    pub(super) outcome: Result<(), String>,
}

impl Open {
    /// Gives up what a group has done, as when the commit fails: the connection is dropped, which rolls back.
    pub(super) fn take_back(self, why: String) -> Ended {
        Ended { acknowledgements: self.acknowledgements, outcome: Err(why) }
    }
}

impl Ended {
    /// Tells the callers.
    pub(super) fn acknowledge(self) {
        for acknowledge in self.acknowledgements {
            acknowledge(self.outcome.as_ref().map(|()| ()).map_err(String::as_str));
        }
    }
}

impl Writer {
    pub(super) fn new(url: DatabaseUrl, conn: Conn) -> Self {
        Self { url, conn: Some(conn) }
    }

    /// Runs a group of operations in one transaction and leaves it open. Where something is wrong with the transaction itself, all of
    /// them have been told, and there is nothing to commit.
    pub(super) fn run(&mut self, group: Vec<Operation>) -> Option<Open> {
        let mut conn = match self.begin() {
            Ok(conn) => conn,
            Err(error) => {
                refuse(group, &error);
                return None;
            }
        };
        let mut acknowledgements = Vec::with_capacity(group.len());
        for operation in group {
            let Ok(acknowledge) = catch_unwind(AssertUnwindSafe(|| operation(Ok(&mut conn))))
            else {
                // What the operation left behind is unknown, so nothing of the group is kept and the connection is given up.
                tracing::error!(
                    "a database operation panicked; its group of writes was taken back"
                );
                let outcome = Err("another write of the group panicked".to_owned());
                Ended { acknowledgements, outcome }.acknowledge();
                return None;
            };
            acknowledgements.push(acknowledge);
        }
        Some(Open { conn, acknowledgements })
    }

    /// Commits what a group has done.
    pub(super) fn commit(&mut self, open: Open) -> Ended {
        let Open { mut conn, acknowledgements } = open;
        let outcome = match commit(&mut conn) {
            Ok(()) => {
                self.conn = Some(conn);
                Ok(())
            }
            Err(error) => {
                // The connection is dropped, which rolls back: after a failed commit its state is not to be trusted.
                let error = StoreError::from(error);
                tracing::error!(error = %Chain(&error), "a group of writes could not be committed");
                Err(Chain(&error).to_string())
            }
        };
        Ended { acknowledgements, outcome }
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

/// Owns a connection that reads.
pub(super) struct Reader {
    url: DatabaseUrl,
    conn: Option<Conn>,
}

impl Reader {
    pub(super) fn new(url: DatabaseUrl) -> Self {
        Self { url, conn: None }
    }

    /// Runs an operation on a snapshot of its own.
    pub(super) fn run(&mut self, operation: Operation) {
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

/// Answers operations that could not be run.
pub(super) fn refuse(group: Vec<Operation>, error: &StoreError) {
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
