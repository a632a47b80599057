//! The only place that names diesel: connections, migrations, rows and queries, for `SQLite` and `PostgreSQL`.
//!
//! A [`Store`] is a handle on two lanes of threads (see `lane`): one that writes in groups, one that reads snapshots. The
//! functions in the modules below, one a noun, take a connection and do one thing; [`Store::write`] and [`Store::read`]
//! carry them to the right thread.

mod buckets;
mod checkpoint;
mod condition;
mod connection;
mod driven;
pub mod encoding;
mod error;
mod hot;
pub mod idempotency;
mod identity;
mod lane;
pub mod limits;
mod opening;
mod reconnect;
mod reserve;
mod secrecy;
mod sequences;
mod soundness;
mod submissions;
mod time;
mod vacuum;
pub mod wakeups;
mod whereabouts;

pub mod adopt;
pub mod audit;
pub mod bare;
mod batch_list;
pub mod batch_orders;
pub mod batches;
pub mod breakers;
pub mod by_hand;
pub mod claim;
pub mod copy;
pub mod dependencies;
pub mod durability;
pub mod finish;
pub mod history;
pub mod holds;
pub mod jobs;
pub mod maintenance;
pub mod meta;
pub mod migrations;
pub mod nodes;
pub mod priorities;
pub mod prune;
pub mod put_back;
pub mod queues;
pub mod removal;
pub mod replacement;
pub mod schedules;
pub mod schema;
pub mod statistics;
#[cfg(test)]
pub(crate) mod testing;
pub mod tokens;
pub mod whole_batches;

use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{oneshot, watch};

use crate::model::NewJob;

pub use condition::{Condition, Fault, Tally};
pub use connection::{Conn, DatabaseUrl, Purpose};
pub use driven::{Pace, Step};
pub use error::StoreError;
pub use time::Micros;

use checkpoint::Checkpointer;
use condition::{Tallies, Watched};
use connection::on_each_backend;
use jobs::{SubmitContext, Submitted};
use lane::{Class, Lane, Operation, Reader, Threads, Writer};
use reserve::Reserve;
use submissions::Submissions;
use vacuum::Vacuuming;

/// How many threads read.
const READERS: usize = 3;

/// A handle on the database. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    url: DatabaseUrl,
    writer: Option<Lane>,
    readers: Lane,
    commits: watch::Sender<u64>,
    condition: watch::Receiver<Condition>,
    tallies: Tallies,
    threads: Arc<Mutex<Lanes>>,
}

/// Looks after the database beside the writer, which pokes it after each commit.
enum Upkeep {
    Sqlite(Checkpointer),
    Postgres(Vacuuming),
}

impl Upkeep {
    fn of(url: &DatabaseUrl, watched: &Watched, readers: &Lane) -> Result<Self, StoreError> {
        match url {
            DatabaseUrl::Sqlite(path) => {
                Checkpointer::spawn(url, path, watched.clone()).map(Self::Sqlite)
            }
            DatabaseUrl::Postgres(_) => Ok(Self::Postgres(Vacuuming::on(readers.downgrade()))),
        }
    }

    fn poke(&self) {
        match self {
            Self::Sqlite(checkpointer) => checkpointer.poke(),
            Self::Postgres(vacuuming) => vacuuming.poke(),
        }
    }
}

/// The threads of both lanes.
#[derive(Default)]
struct Lanes {
    writer: Threads,
    readers: Threads,
}

impl Store {
    /// Opens the database, brings its schema up to date, and starts the threads.
    ///
    /// # Errors
    /// When it cannot be opened, is damaged, is newer than this binary, or cannot be migrated.
    pub fn open(url: &DatabaseUrl) -> Result<Self, StoreError> {
        Self::open_with(url, None)
    }

    /// The same, with room kept on the disk of an SQLite database in which results can be written when the disk is full. Where it is full
    /// already, that room is given up at once, and only results are written until there is more.
    ///
    /// # Errors
    /// As those of [`Self::open`].
    pub fn open_with_reserve(url: &DatabaseUrl) -> Result<Self, StoreError> {
        Self::open_with(url, url.file())
    }

    /// The reserve is made when nothing speaks against the database any more: beside one that is refused, nothing is changed.
    fn open_with(url: &DatabaseUrl, reserve_beside: Option<&Path>) -> Result<Self, StoreError> {
        let conn = match opening::prepare(url) {
            Err(StoreError::Fault(Fault::NotWritable(_)))
                if reserve_beside.is_some_and(reserve::give_up_beside) =>
            {
                opening::prepare(url)?
            }
            prepared => prepared?,
        };
        let reserve = reserve_beside.map_or_else(Reserve::none, Reserve::beside);
        let (commits, _) = watch::channel(0);
        let watched = Watched::new(url);
        if reserve.is_spent() {
            watched.met(&reserve::only_for_results());
        }
        let (readers, reading) = lane::spawn_readers(url, READERS, &watched)?;
        let upkeep = Upkeep::of(url, &watched, &readers)?;
        let announce = commits.clone();
        let (writer, writing) =
            lane::spawn_writer(url.clone(), conn, watched.clone(), reserve, move |is_quiet| {
                announce_unless(is_quiet, &announce);
                upkeep.poke();
            })?;
        let threads = Lanes { writer: writing, readers: reading };
        soundness::check_meanwhile(url, watched.clone())?;
        let (condition, tallies) = (watched.follow(), watched.tallies());
        let (url, writer, threads) = (url.clone(), Some(writer), Arc::new(Mutex::new(threads)));
        Ok(Self { url, writer, readers, commits, condition, tallies, threads })
    }

    /// Opens the database without threads: the returned future does their work, at the given pace, until every handle is gone.
    ///
    /// # Errors
    /// When it cannot be opened, is newer than this binary, or cannot be migrated.
    pub fn driven(
        url: &DatabaseUrl,
        pace: Arc<dyn Pace>,
    ) -> Result<(Self, impl Future<Output = ()> + Send + use<>), StoreError> {
        let mut conn = url.connect(Purpose::Write)?;
        migrations::migrate(&mut conn)?;
        let (commits, _) = watch::channel(0);
        let (writer, operations) = lane::lane();
        let (readers, reads) = lane::lane();
        let announce = commits.clone();
        let watched = Watched::new(url);
        let (condition, tallies) = (watched.follow(), watched.tallies());
        let write = driven::write(
            Writer::new(url.clone(), conn, watched.clone(), Reserve::none()),
            operations,
            Arc::clone(&pace),
            move |is_quiet| announce_unless(is_quiet, &announce),
        );
        let read = driven::read(Reader::new(url.clone(), watched), reads, pace);
        let threads = Arc::default();
        let writer = Some(writer);
        let url = url.clone();
        let store = Self { url, writer, readers, commits, condition, tallies, threads };
        Ok((store, async move {
            tokio::join!(write, read);
        }))
    }

    /// Opens an existing database for reading only: nothing is made, migrated or changed.
    ///
    /// # Errors
    /// When it cannot be opened or its schema is not this binary's.
    pub fn open_read_only(url: &DatabaseUrl) -> Result<Self, StoreError> {
        let mut conn = url.connect(Purpose::Read)?;
        migrations::require_current(&mut conn)?;
        let watched = Watched::new(url);
        let (readers, reading) = lane::spawn_readers(url, 1, &watched)?;
        let threads = Lanes { readers: reading, ..Lanes::default() };
        let (commits, _) = watch::channel(0);
        let (condition, tallies) = (watched.follow(), watched.tallies());
        let (url, threads) = (url.clone(), Arc::new(Mutex::new(threads)));
        Ok(Self { url, writer: None, readers, commits, condition, tallies, threads })
    }

    /// Where the database is.
    #[must_use]
    pub fn url(&self) -> &DatabaseUrl {
        &self.url
    }

    /// Counts commits that were not quiet, so that others (the audit log) can follow them.
    #[must_use]
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.commits.subscribe()
    }

    /// How often the writer has lost its connection and opened another one.
    ///
    /// Behind a new connection may be another server, a standby that lacks the last moment. Whoever remembers what was committed looks
    /// again.
    #[must_use]
    pub fn reopenings(&self) -> Tally {
        self.tallies.reopenings.clone()
    }

    /// How often the writer has waited five seconds for a lock of another process, in vain: a backup tool or a shell that keeps an SQLite
    /// database locked.
    #[must_use]
    pub fn lock_waits(&self) -> Tally {
        self.tallies.lock_waits.clone()
    }

    /// How the database is, by what its writer has met last.
    #[must_use]
    pub fn condition(&self) -> watch::Receiver<Condition> {
        self.condition.clone()
    }

    /// The length of SQLite's write-ahead log, in bytes; zero when there is none.
    #[must_use]
    pub fn wal_bytes(&self) -> u64 {
        match &self.url {
            DatabaseUrl::Sqlite(path) => {
                std::fs::metadata(connection::wal_of(path)).map_or(0, |found| found.len())
            }
            DatabaseUrl::Postgres(_) => 0,
        }
    }

    /// Runs `what` in the next group of writes and returns once that is on disk.
    ///
    /// It may run twice, when another write of its group fails and what was done is rolled back for that. So it must do
    /// nothing but work on the connection; only what its last run returns is seen by anybody.
    ///
    /// # Errors
    /// What `what` says, with everything taken back that it wrote; or that the group could not be committed, in which case
    /// nothing of it was kept.
    pub async fn write<T, F>(&self, what: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut Conn) -> Result<T, StoreError> + Send + 'static,
    {
        self.hand_in(what, Class::Plain).await
    }

    /// The same for what leaves no trace in the history: those who follow commits are not woken for it.
    ///
    /// # Errors
    /// As those of [`Self::write`].
    pub async fn write_quietly<T, F>(&self, what: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut Conn) -> Result<T, StoreError> + Send + 'static,
    {
        self.hand_in(what, Class::Quiet).await
    }

    /// The same for what came of work that was done, and for what a daemon has to note before it can record any of that: it is written
    /// even while the disk is full, as long as the room lasts that is kept for it.
    ///
    /// # Errors
    /// As those of [`Self::write`].
    pub async fn write_results<T, F>(&self, what: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut Conn) -> Result<T, StoreError> + Send + 'static,
    {
        self.hand_in(what, Class::Results).await
    }

    /// Enqueues jobs: all of them or, on an error, none. What several callers submit at the same time is written together.
    ///
    /// # Errors
    /// As those of [`jobs::submit`] and [`Self::write`].
    pub async fn submit(
        &self,
        jobs: Arc<Vec<NewJob>>,
        context: SubmitContext,
    ) -> Result<Vec<Submitted>, StoreError> {
        let writer = self.writer.as_ref().ok_or(StoreError::Closed)?;
        let (caller, answer) = oneshot::channel();
        self.seen_by_caller(
            round_trip(writer, Box::new(Submissions::one(jobs, context, caller)), answer).await,
        )
    }

    async fn hand_in<T, F>(&self, what: F, class: Class) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut Conn) -> Result<T, StoreError> + Send + 'static,
    {
        let writer = self.writer.as_ref().ok_or(StoreError::Closed)?;
        self.seen_by_caller(call(writer, what, class).await)
    }

    /// An answer with what is known of the database beside it.
    fn seen_by_caller<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        // Those whose write was only near the trouble are told of it too: the client of a full disk should hear of the disk.
        match (answer, &*self.condition.borrow()) {
            (Err(StoreError::NotCommitted(_)), Condition::NotWritable(why)) => {
                Err(Fault::NotWritable(why.clone()).into())
            }
            (Err(StoreError::NotCommitted(_)), Condition::Lost(why)) => {
                Err(StoreError::Lost(why.clone()))
            }
            (answer, _) => answer,
        }
    }

    /// Runs `what` on a snapshot.
    ///
    /// # Errors
    /// What `what` says, or that no connection could be had.
    pub async fn read<T, F>(&self, what: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Conn) -> Result<T, StoreError> + Send + 'static,
    {
        let mut what = Some(what);
        let once = move |conn: &mut Conn| match what.take() {
            Some(what) => what(conn),
            None => Err(StoreError::Closed),
        };
        call(&self.readers, once, Class::Plain).await
    }

    /// Whether this handle can write.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.writer.is_none()
    }

    /// Lets go of the database: waits until every accepted write is committed and every thread has ended, provided that
    /// this is the last handle.
    ///
    /// One after the other: SQLite moves its log into the file when the last connection closes, and of two that close at the same
    /// time each takes the other for one that stays.
    pub fn close(self) {
        let Self { writer, readers, threads, .. } = self;
        let Some(threads) = Arc::into_inner(threads) else { return };
        let threads = threads.into_inner().unwrap_or_else(PoisonError::into_inner);
        drop(readers);
        join(threads.readers);
        drop(writer);
        join(threads.writer);
    }
}

fn join(threads: Threads) {
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a database thread had panicked");
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Some work, its answer once it has run, and who waits for that.
struct Call<T, F> {
    what: F,
    class: Class,
    answer: Option<Result<T, StoreError>>,
    caller: oneshot::Sender<Answer<T, F>>,
}

/// The answer, and the work itself: what it holds (a thousand submissions) is for the caller to drop, not for the writer.
type Answer<T, F> = (Result<T, StoreError>, F);

impl<T, F> Operation for Call<T, F>
where
    T: Send + 'static,
    F: FnMut(&mut Conn) -> Result<T, StoreError> + Send + 'static,
{
    fn run(&mut self, conn: &mut Conn) -> bool {
        let answer = (self.what)(conn);
        self.answer.insert(answer).is_ok()
    }

    fn fault(&self) -> Option<&Fault> {
        self.answer.as_ref()?.as_ref().err()?.fault()
    }

    fn is_in_the_way(&self) -> bool {
        matches!(self.answer, Some(Err(StoreError::Busy)))
    }

    fn class(&self) -> Class {
        self.class
    }

    fn answer(self: Box<Self>, hindrance: Option<StoreError>) {
        let has_met_fault = self.fault().is_some();
        let answer = match (hindrance, self.answer) {
            // Its own word on what is wrong below the database says more than the group's.
            (Some(_), Some(answer)) if has_met_fault => answer,
            (Some(error), _) => Err(error),
            (None, Some(answer)) => answer,
            (None, None) => Err(did_not_end()),
        };
        // A caller that has gone away no longer wants to know.
        let _gone = self.caller.send((answer, self.what));
    }
}

fn did_not_end() -> StoreError {
    StoreError::NotCommitted("the operation did not run to its end".to_owned())
}

fn announce_unless(is_quiet: bool, commits: &watch::Sender<u64>) {
    if !is_quiet {
        commits.send_modify(|count| *count += 1);
    }
}

async fn call<T, F>(lane: &Lane, what: F, class: Class) -> Result<T, StoreError>
where
    T: Send + 'static,
    F: FnMut(&mut Conn) -> Result<T, StoreError> + Send + 'static,
{
    let (caller, answer) = oneshot::channel();
    round_trip(lane, Box::new(Call { what, class, answer: None, caller }), answer).await
}

async fn round_trip<T, F>(
    lane: &Lane,
    operation: Box<dyn Operation>,
    answer: oneshot::Receiver<Answer<T, F>>,
) -> Result<T, StoreError> {
    lane.send(operation).await?;
    match answer.await {
        Ok((answer, _what)) => answer,
        Err(_dropped) => Err(did_not_end()),
    }
}
