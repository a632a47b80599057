//! Threads that own connections, and the operations that travel to them.
//!
//! Blocking database work never runs on the async runtime's threads. A caller sends an operation (a closure over a
//! connection) down a lane and awaits its answer.
//!
//! *The write lane* has one thread. It takes what is waiting, up to a bound, runs all of it in one transaction, together with what
//! arrives meanwhile, commits once, and only then answers: an acknowledged write is a durable write, and many writers
//! share one `fsync`. A lone operation is committed at once.
//!
//! An operation that fails takes back what it did and nothing else. A savepoint for each would do that, and costs more than
//! most operations: SQLite copies every page that is touched again after each savepoint. So a group is run without
//! them first, and where one operation fails, rolled back and run again with them. Operations can therefore run twice.
//!
//! Where an operation fails because of what is below the database (a full disk), the whole group is given up: SQLite may have rolled
//! back the transaction by itself, and what ran then would be committed on its own, whatever its caller is told.
//!
//! *The read lane* has a few threads, each with a connection that cannot write; one operation is one snapshot.
//!
//! A simulation drives the same lanes without threads, see `driven`.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use diesel::connection::{AnsiTransactionManager, SimpleConnection, TransactionManager};
use diesel::result::Error as DieselError;
use diesel::{Connection, PgConnection};
use tokio::sync::mpsc;

use super::condition::{Fault, Watched};
use super::connection::{DatabaseUrl, Purpose};
use super::identity::Identity;
use super::reserve::Reserve;
use super::{Conn, StoreError, reconnect, reserve};
use crate::model::Chain;

/// How many operations may wait in a lane before senders have to wait too.
const LANE_DEPTH: usize = 8192;

/// How many operations at the most share one commit. It bounds how long the first of them waits for its answer.
const MAX_GROUP: usize = 1024;

/// How long to wait before a lost connection is opened again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

/// How often a transaction that finds the database locked is begun again; SQLite itself waits five seconds each time.
const BEGIN_ATTEMPTS: u32 = 12;

/// After how many groups PostgreSQL makes new plans for its prepared statements. A plan that was made while a table was empty reads all of
/// it, and would be kept until the server has looked at the table the next time, which can take a minute.
const GROUPS_A_PLAN: u32 = 64;

/// How often a group is run whose connection is lost or that waits for another group which waits for it.
const GROUP_ATTEMPTS: u32 = 5;

/// What sets an operation apart from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Nothing.
    Plain,
    /// Nobody who follows commits needs to hear of it.
    Quiet,
    /// It records what came of work that was done, or is needed by a daemon that is to do so, and may take the room that is kept for that.
    Results,
    /// It reads, and not in a snapshot.
    Bare,
}

/// Work for a connection, together with the caller who waits for its answer.
pub(super) trait Operation: Any + Send {
    /// Does the work and keeps the answer. Returns whether it worked. It may be called again after what it did was rolled back.
    fn run(&mut self, conn: &mut Conn) -> bool;

    /// The same in a savepoint of its own, after something has failed. What was one with others is done by itself here.
    fn run_apart(&mut self, conn: &mut Conn) -> bool {
        self.run(conn)
    }

    /// Makes an operation that waits behind this one, and has not run either, a part of it. Gives it back where that cannot be.
    fn take_up(&mut self, next: Box<dyn Operation>) -> Option<Box<dyn Operation>> {
        Some(next)
    }

    /// What is wrong below the database, where its last run has met that.
    fn fault(&self) -> Option<&Fault>;

    /// Whether its last run was refused because another node was at the same rows: a run of the whole group may do better.
    fn is_in_the_way(&self) -> bool;

    /// What sets it apart from others.
    fn class(&self) -> Class;

    /// Sends the answer, or what hindered it.
    fn answer(self: Box<Self>, hindrance: Option<StoreError>);
}

/// The sending end of a lane.
#[derive(Clone)]
pub(super) struct Lane(mpsc::Sender<Box<dyn Operation>>);

impl Lane {
    pub(super) async fn send(&self, operation: Box<dyn Operation>) -> Result<(), StoreError> {
        self.0.send(operation).await.map_err(|_closed| StoreError::Closed)
    }

    pub(super) fn downgrade(&self) -> WeakLane {
        WeakLane(self.0.downgrade())
    }
}

/// A sending end that does not keep the lane open.
pub(super) struct WeakLane(mpsc::WeakSender<Box<dyn Operation>>);

impl WeakLane {
    /// Hands an operation in, unless the lane is full or closed.
    pub(super) fn offer(&self, operation: Box<dyn Operation>) {
        if let Some(lane) = self.0.upgrade() {
            let _full_or_closed = lane.try_send(operation);
        }
    }
}

/// Threads that end when every sender of their lane is gone.
pub(super) type Threads = Vec<thread::JoinHandle<()>>;

/// Operations that share a transaction.
pub(super) type Group = Vec<Box<dyn Operation>>;

/// A lane and its receiving end.
pub(super) fn lane() -> (Lane, Waiting) {
    let (sender, receiver) = mpsc::channel(LANE_DEPTH);
    (Lane(sender), receiver)
}

/// The receiving end of a lane.
pub(super) type Waiting = mpsc::Receiver<Box<dyn Operation>>;

/// An operation with those that wait behind it, up to the bound of a group.
pub(super) fn group(first: Box<dyn Operation>, waiting: &mut Waiting) -> Group {
    let mut group = vec![first];
    join(&mut group, 0, waiting);
    group
}

/// Joins what waits to a group of which those that are not `new` have run. Neighbours that can be one become one, so that nothing overtakes
/// anything.
fn join(group: &mut Group, new: usize, waiting: &mut Waiting) {
    for _ in group.len()..MAX_GROUP {
        let Ok(next) = waiting.try_recv() else { break };
        let rest = match group[new..].last_mut() {
            Some(last) => last.take_up(next),
            None => Some(next),
        };
        group.extend(rest);
    }
}

/// Starts the write lane. `committed` is called after each group, with whether all of it was quiet.
pub(super) fn spawn_writer(
    url: DatabaseUrl,
    conn: Conn,
    condition: Watched,
    reserve: Reserve,
    committed: impl Fn(bool) + Send + 'static,
) -> Result<(Lane, Threads), StoreError> {
    let (lane, mut receiver) = lane();
    let mut writer = Writer::new(url, conn, condition, reserve);
    let thread = start("sexton-writer", move || {
        while let Some(first) = receiver.blocking_recv() {
            let Some(open) = writer.run(group(first, &mut receiver), &mut receiver) else {
                committed(false);
                continue;
            };
            let is_quiet = open.is_quiet();
            writer.commit(open).acknowledge();
            committed(is_quiet);
        }
        // With it goes the checkpointer, so that the writer's connection is the last one: it moves the log into the database.
        drop(committed);
    })?;
    Ok((lane, vec![thread]))
}

/// Starts a read lane with `count` threads.
pub(super) fn spawn_readers(
    url: &DatabaseUrl,
    count: usize,
    condition: &Watched,
) -> Result<(Lane, Threads), StoreError> {
    let (lane, receiver) = lane();
    let receiver = Arc::new(Mutex::new(receiver));
    let mut threads = Vec::new();
    for _ in 0..count {
        let receiver = Arc::clone(&receiver);
        let mut reader = Reader::new(url.clone(), condition.clone());
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
    identity: Identity,
    condition: Watched,
    reserve: Reserve,
    /// How many groups the plans of prepared statements have served.
    groups_planned: u32,
}

/// A group of operations that have run in a transaction which is not committed yet. Dropped, it is rolled back.
pub(super) struct Open {
    conn: Conn,
    group: Group,
}

/// A group whose transaction is over, with what its callers are to be told: nothing is wrong, or what is.
pub(super) struct Ended {
    group: Group,
    pub(super) outcome: Result<(), String>,
}

/// What came of running a group.
enum Run {
    /// All of it ran; the transaction is open.
    Through(Conn),
    /// The connection was lost, and what was done on it with it.
    Disconnected(DieselError),
}

impl Open {
    /// Whether nobody who follows commits needs to hear of it.
    pub(super) fn is_quiet(&self) -> bool {
        self.group.iter().all(|operation| operation.class() == Class::Quiet)
    }

    /// Gives up what a group has done, as when the commit fails: the connection is dropped, which rolls back.
    pub(super) fn take_back(self, why: String) -> Ended {
        Ended { group: self.group, outcome: Err(why) }
    }
}

impl Ended {
    /// Tells the callers.
    pub(super) fn acknowledge(self) {
        for operation in self.group {
            operation.answer(self.outcome.clone().err().map(StoreError::NotCommitted));
        }
    }
}

impl Writer {
    pub(super) fn new(url: DatabaseUrl, conn: Conn, condition: Watched, reserve: Reserve) -> Self {
        let identity = Identity::of(&url);
        Self { url, conn: Some(conn), identity, condition, reserve, groups_planned: 0 }
    }

    /// Runs a group of operations in one transaction and leaves it open. Those that arrive while it runs belong to it; those that arrive
    /// while they run do not, so that it has an end. Where something is wrong with the transaction itself, all of them have been told,
    /// and there is nothing to commit.
    pub(super) fn run(&mut self, group: Group, waiting: &mut Waiting) -> Option<Open> {
        let mut group = self.admitted(group)?;
        self.renew_plans();
        match self.try_run(&mut group, waiting) {
            Ok(conn) => Some(Open { conn, group }),
            Err(error) => {
                refuse(group, &error);
                None
            }
        }
    }

    /// What of a group may be written at all: when the disk is full, and the room that was kept for results is given up, only they.
    fn admitted(&mut self, group: Group) -> Option<Group> {
        if self.reserve.retake() {
            return Some(group);
        }
        let (results, others): (Group, Group) =
            group.into_iter().partition(|operation| operation.class() == Class::Results);
        refuse(others, &reserve::only_for_results().into());
        (!results.is_empty()).then_some(results)
    }

    /// Lets PostgreSQL plan again from time to time.
    fn renew_plans(&mut self) {
        self.groups_planned += 1;
        if self.groups_planned >= GROUPS_A_PLAN
            && let Some(Conn::Postgres(conn)) = &mut self.conn
        {
            self.groups_planned = 0;
            // A connection that cannot do that is gone, which the transaction will find out.
            let _gone = conn.batch_execute("DISCARD PLANS");
        }
    }

    /// Notes what is wrong below the database.
    fn met(&mut self, fault: &Fault) {
        if self.condition.met(fault) {
            self.reserve.release();
        }
    }

    /// Nothing of a group is kept until it is committed, so it can be run again when something between us and the server has gone wrong:
    /// the connection was lost, or two groups of two nodes wait for each other's rows, of which the server ends one.
    fn try_run(&mut self, group: &mut Group, waiting: &mut Waiting) -> Result<Conn, StoreError> {
        for _ in 1..GROUP_ATTEMPTS {
            match self.try_once(group, waiting)? {
                Run::Through(mut conn) => {
                    if !group.iter().any(|operation| operation.is_in_the_way()) {
                        return Ok(conn);
                    }
                    roll_back(&mut conn)?;
                    self.conn = Some(conn);
                }
                Run::Disconnected(_) => {}
            }
        }
        match self.try_once(group, waiting)? {
            Run::Through(conn) => Ok(conn),
            Run::Disconnected(error) => Err(error.into()),
        }
    }

    fn try_once(&mut self, group: &mut Group, waiting: &mut Waiting) -> Result<Run, StoreError> {
        let mut conn = self.begin()?;
        let early = group.len();
        if run_together(&mut conn, group, 0) {
            if !self.reserve.is_spent() {
                join(group, early, waiting);
            }
            if run_together(&mut conn, group, early) {
                return Ok(Run::Through(conn));
            }
        }
        self.look_for_fault(group)?;
        // A connection that cannot even do that is gone.
        if let Err(error) = roll_back(&mut conn) {
            return Ok(Run::Disconnected(error));
        }
        self.conn = Some(conn);
        let mut conn = self.begin()?;
        let ran = run_apart(&mut conn, group);
        self.look_for_fault(group)?;
        Ok(match ran {
            Ok(()) => Run::Through(conn),
            Err(error) => Run::Disconnected(error),
        })
    }

    /// Gives the group up where one of it has met something below the database.
    fn look_for_fault(&mut self, group: &Group) -> Result<(), StoreError> {
        match group.iter().find_map(|operation| operation.fault()) {
            None => Ok(()),
            Some(fault) => {
                self.met(fault);
                Err(fault.clone().into())
            }
        }
    }

    /// Commits what a group has done.
    pub(super) fn commit(&mut self, open: Open) -> Ended {
        let Open { mut conn, group } = open;
        let outcome = match commit(&mut conn) {
            Ok(()) => {
                self.conn = Some(conn);
                self.confirm()
            }
            Err(error) => {
                // The connection is dropped, which rolls back: after a failed commit its state is not to be trusted.
                drop(conn);
                let error = StoreError::from(error);
                match error.fault() {
                    Some(fault) => self.met(fault),
                    None => {
                        tracing::error!(error = %Chain(&error), "a group of writes could not be committed");
                    }
                }
                Err(Chain(&error).to_string())
            }
        };
        Ended { group, outcome }
    }

    /// Whether what was committed is where the next start will look for it.
    fn confirm(&mut self) -> Result<(), String> {
        match self.identity.lost() {
            None => {
                if !self.reserve.is_spent() {
                    self.condition.committed();
                }
                Ok(())
            }
            Some(why) => {
                self.condition.lose(why.clone());
                Err(why)
            }
        }
    }

    fn begin(&mut self) -> Result<Conn, StoreError> {
        if let Some(why) = self.condition.lost() {
            return Err(StoreError::Lost(why));
        }
        let begun = self.begin_or_reopen();
        if let Some(fault) = begun.as_ref().err().and_then(StoreError::fault) {
            self.met(fault);
        }
        begun
    }

    /// Opens the database again, which must not make a new one where it was removed.
    fn reopen(&mut self) -> Result<Conn, StoreError> {
        if let Some(why) = self.identity.lost_database() {
            self.condition.lose(why.clone());
            return Err(StoreError::Lost(why));
        }
        let conn = self.url.connect(Purpose::Write)?;
        self.condition.reopened();
        self.identity.forget_log();
        Ok(conn)
    }

    fn begin_or_reopen(&mut self) -> Result<Conn, StoreError> {
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.reopen()?,
        };
        let mut attempt = 1;
        loop {
            match begin_write(&mut conn).map_err(StoreError::from) {
                Ok(()) => return Ok(conn),
                Err(StoreError::Busy) => {
                    self.condition.waited_for_lock();
                    if attempt == BEGIN_ATTEMPTS {
                        self.conn = Some(conn);
                        return Err(StoreError::Busy);
                    }
                    attempt += 1;
                }
                Err(first) if first.fault().is_some() => return Err(first),
                Err(first) => {
                    // A server that was restarted leaves a dead connection behind: one fresh attempt decides.
                    tracing::warn!(error = %Chain(&first), "reopening the database connection");
                    reconnect::wait(RECONNECT_PAUSE);
                    conn = self.reopen()?;
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
    condition: Watched,
}

impl Reader {
    pub(super) fn new(url: DatabaseUrl, condition: Watched) -> Self {
        Self { url, conn: None, condition }
    }

    /// Runs an operation, on a snapshot of its own unless it says otherwise.
    pub(super) fn run(&mut self, mut operation: Box<dyn Operation>) {
        let is_bare = operation.class() == Class::Bare;
        let mut conn = match if is_bare { self.bare() } else { self.open() } {
            Ok(conn) => conn,
            Err(error) => return refuse(vec![operation], &error),
        };
        if catch_unwind(AssertUnwindSafe(|| operation.run(&mut conn))).is_err() {
            tracing::error!("a database read panicked");
            return;
        }
        // Of what a reader meets, only damage concerns everybody. It is refused to write, and that is no fault.
        if let Some(fault @ Fault::Damaged(_)) = operation.fault() {
            self.condition.met(fault);
        }
        // Ends the snapshot. A connection that cannot even do that is not used again.
        if is_bare || conn.batch_execute("COMMIT").is_ok() {
            self.conn = Some(conn);
        }
        operation.answer(None);
    }

    fn bare(&mut self) -> Result<Conn, StoreError> {
        match self.conn.take() {
            Some(conn) => Ok(conn),
            None => self.url.connect(Purpose::Read),
        }
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
    <Conn as Connection>::TransactionManager::commit_transaction(conn)
}

/// The innermost savepoint, or the transaction where there is none.
fn roll_back(conn: &mut Conn) -> diesel::QueryResult<()> {
    <Conn as Connection>::TransactionManager::rollback_transaction(conn)
}

/// Runs the operations from the one at `first` on until one fails. Returns whether none did.
fn run_together(conn: &mut Conn, group: &mut Group, first: usize) -> bool {
    for index in first..group.len() {
        match catch_unwind(AssertUnwindSafe(|| group[index].run(conn))) {
            Ok(true) => {}
            Ok(false) => return false,
            Err(_panic) => {
                // It is not given another try. Its caller learns that it did not run to its end.
                tracing::error!("a database operation panicked; what it wrote was taken back");
                group.remove(index);
                return false;
            }
        }
    }
    true
}

/// Runs each operation in a savepoint of its own.
fn run_apart(conn: &mut Conn, group: &mut Group) -> Result<(), DieselError> {
    let mut index = 0;
    while index < group.len() {
        let operation = &mut group[index];
        let run = AssertUnwindSafe(|| {
            conn.transaction(|conn| match operation.run_apart(conn) {
                true => Ok(()),
                false => Err(DieselError::RollbackTransaction),
            })
        });
        match catch_unwind(run) {
            Ok(Ok(()) | Err(DieselError::RollbackTransaction)) => index += 1,
            Ok(Err(lost)) => return Err(lost),
            Err(_panic) => {
                tracing::error!("a database operation panicked; what it wrote was taken back");
                roll_back(conn)?;
                group.remove(index);
            }
        }
    }
    Ok(())
}

/// Answers operations that could not be run.
pub(super) fn refuse(group: Group, error: &StoreError) {
    for operation in group {
        operation.answer(Some(error.of_the_group()));
    }
}
