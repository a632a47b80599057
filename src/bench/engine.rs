//! The engine as the daemon uses it: store, pool, signals and audit log, with a handler that does nothing.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, try_join_all};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, Semaphore, broadcast};
use tokio_util::sync::CancellationToken;

use super::BenchError;
use super::figure::milliseconds;
use super::memory::resident;
use crate::audit::writer::{self, AuditHandle};
use crate::clock::{Clock, SharedClock, SystemClock};
use crate::config::AuditJobs;
use crate::jobs::command::Keepers;
use crate::jobs::{Answer, Context, Handler, RunPaths};
use crate::model::{Actor, Event, JsonText, NewJob, NodeId, NodeIdentity};
use crate::queue::{Ageing, Limits, Signals};
use crate::store::audit::AuditSource;
use crate::store::jobs::SubmitContext;
use crate::store::{DatabaseUrl, Purpose, Store, StoreError, maintenance, nodes};
use crate::worker::{Departure, Pool, PoolHandle, PoolSettings, Registry};

/// How many jobs of a backlog are submitted in a call. Few, because the memory that a call takes counts as the engine's.
const BACKLOG_CALL: usize = 1000;

/// How long an engine is left alone before the next job comes, so that it is idle.
const QUIET: Duration = Duration::from_millis(5);

/// A database of its own, and a node.
pub struct Engine {
    runtime: Runtime,
    store: Store,
    node: NodeId,
    stop: CancellationToken,
    /// Of the audit log.
    folder: TempDir,
}

/// What many callers saw.
#[derive(Debug, Clone, PartialEq)]
pub struct Submissions {
    /// How long each waited, in milliseconds.
    pub waits: Vec<f64>,
    took: Duration,
}

impl Submissions {
    /// Jobs a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.waits.len() as f64 / self.took.as_secs_f64()
    }
}

/// What a drain came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drained {
    /// Jobs a second.
    pub rate: f64,
    /// By how much the database has grown for each job.
    pub bytes_per_job: f64,
    /// How much memory this process had when all of them were waiting, in bytes.
    pub resident_bytes: u64,
}

/// Counts what ended, and lets those wait who want to know.
#[derive(Default)]
struct Count {
    started: AtomicUsize,
    started_some: Notify,
}

/// Does nothing, and counts.
struct Noop(Arc<Count>);

impl Handler for Noop {
    fn run(&self, _context: Context) -> BoxFuture<'_, Answer> {
        self.0.started.fetch_add(1, Ordering::Relaxed);
        self.0.started_some.notify_one();
        Box::pin(std::future::ready(Answer::Done(Value::Null)))
    }
}

/// A pool at work on the engine's queue.
struct Workers {
    pool: PoolHandle,
    signals: Signals,
    events: broadcast::Sender<Event>,
    count: Arc<Count>,
    audit: AuditHandle,
    /// When the pool was started, since the boot.
    began: Duration,
}

impl Engine {
    /// An engine on an empty database. When `stop` is cancelled, whatever is measured ends soon with [`BenchError::Stopped`].
    ///
    /// # Errors
    /// When the database or a folder for the audit log cannot be made.
    pub fn open(url: &DatabaseUrl, stop: CancellationToken) -> Result<Self, BenchError> {
        // On the same disk as the database, where that has one here.
        let folder = match url {
            DatabaseUrl::Sqlite(path) => match path.parent() {
                Some(parent) => tempfile::tempdir_in(parent)?,
                None => tempfile::tempdir()?,
            },
            DatabaseUrl::Postgres(_) => tempfile::tempdir()?,
        };
        let runtime = Runtime::new()?;
        let store = Store::open(url)?;
        let now = SystemClock.now();
        let new =
            nodes::NewNode { identity: NodeIdentity::default(), instance: "bench".to_owned() };
        let register = store.write(move |conn| nodes::register(conn, &new, now, now));
        let node = runtime.block_on(register)?;
        Ok(Self { runtime, store, node, stop, folder })
    }

    fn context(&self) -> SubmitContext {
        SubmitContext { now: SystemClock.now(), node: self.node, ageing: Ageing::DEFAULT }
    }

    async fn submit(&self, count: usize) -> Result<(), BenchError> {
        if self.stop.is_cancelled() {
            return Err(BenchError::Stopped);
        }
        let context = self.context();
        let params = JsonText::from(&params());
        let jobs: Vec<NewJob> = (0..count)
            .map(|_| NewJob::new("noop", params.clone(), context.now, Actor::named("bench")))
            .collect();
        self.store.submit(Arc::new(jobs), context).await?;
        Ok(())
    }

    async fn unless_stopped<T>(
        &self,
        what: impl Future<Output = Result<T, BenchError>>,
    ) -> Result<T, BenchError> {
        self.stop.run_until_cancelled(what).await.unwrap_or(Err(BenchError::Stopped))
    }

    /// Measures, and lets go of the database. What runs in the runtime has handles on the store, so that goes first.
    fn measure<T>(
        self,
        what: impl AsyncFnOnce(&Self) -> Result<T, BenchError>,
    ) -> Result<T, BenchError> {
        let measured = self.runtime.block_on(what(&self));
        let Self { runtime, store, .. } = self;
        drop(runtime);
        store.close();
        measured
    }

    /// Each of `callers` submits `rounds` jobs, one after the other.
    ///
    /// # Errors
    /// When the store refuses, or it is stopped.
    pub fn submit_from(self, callers: usize, rounds: usize) -> Result<Submissions, BenchError> {
        self.measure(async |engine| {
            let start = SystemClock.since_boot();
            let one = || async {
                let mut waits = Vec::with_capacity(rounds);
                for _ in 0..rounds {
                    let start = SystemClock.since_boot();
                    engine.submit(1).await?;
                    waits.push(milliseconds(since(start)));
                }
                Ok::<_, BenchError>(waits)
            };
            let waits = try_join_all((0..callers).map(|_| one())).await?.concat();
            Ok(Submissions { waits, took: since(start) })
        })
    }

    /// `calls` calls of `count` jobs each. Returns jobs a second.
    ///
    /// # Errors
    /// When the store refuses, or it is stopped.
    pub fn submit_bulk(self, count: usize, calls: usize) -> Result<f64, BenchError> {
        self.measure(async |engine| {
            let start = SystemClock.since_boot();
            for _ in 0..calls {
                engine.submit(count).await?;
            }
            Ok((count * calls) as f64 / since(start).as_secs_f64())
        })
    }

    async fn work(&self, slots: usize) -> Result<Workers, BenchError> {
        let count = Arc::new(Count::default());
        let (signals, receiver) = Signals::new();
        let (events, _) = broadcast::channel(4096);
        let clock: SharedClock = Arc::new(SystemClock);
        let source = AuditSource::Everything;
        let options =
            writer::Options { folder: self.folder.path().to_owned(), source, jobs: AuditJobs::All };
        let audit = writer::start(self.store.clone(), Arc::clone(&clock), options).await?;
        let pool = Pool {
            identity: NodeIdentity::default(),
            store: self.store.clone(),
            node: self.node,
            clock,
            registry: Registry::default().with("noop", Arc::new(Noop(Arc::clone(&count)))),
            draw: Arc::new(|| 0.5),
            limits: Arc::new(Limits::default),
            paths: Arc::new(RunPaths::under(self.folder.path())),
            settings: PoolSettings::plain(slots),
            signals: receiver,
            events: events.clone(),
            keepers: Keepers::none(),
            taken_over: Vec::new(),
        };
        let began = SystemClock.since_boot();
        Ok(Workers { audit, began, pool: pool.spawn(), signals, events, count })
    }

    /// How long single jobs wait for their start in an idle engine, in milliseconds from the call of submit.
    ///
    /// # Errors
    /// When the store or the audit log refuses, or it is stopped.
    pub fn pickup(self, jobs: usize) -> Result<Vec<f64>, BenchError> {
        self.measure(async |engine| {
            let workers = engine.work(2).await?;
            let waits = engine.unless_stopped(async {
                let mut waits = Vec::with_capacity(jobs);
                for _ in 0..jobs {
                    tokio::time::sleep(QUIET).await;
                    let start = SystemClock.since_boot();
                    workers.signals.work_of(engine.submit(1)).await?;
                    workers.count.started_some.notified().await;
                    waits.push(milliseconds(since(start)));
                }
                Ok(waits)
            });
            let waits = waits.await;
            workers.end().await?;
            waits
        })
    }

    /// Works off a backlog, from the start of the pool until the last end is recorded and the audit log has all lines.
    ///
    /// # Errors
    /// When the store or the audit log refuses, or it is stopped.
    pub fn drain(self, jobs: usize, slots: usize) -> Result<Drained, BenchError> {
        self.measure(async |engine| {
            let empty = engine.bytes()?;
            let mut left = jobs;
            while left > 0 {
                let call = left.min(BACKLOG_CALL);
                engine.submit(call).await?;
                left -= call;
            }
            let resident_bytes = resident()?;
            let workers = engine.work(slots).await?;
            let (began, count) = (workers.began, Arc::clone(&workers.count));
            let started = engine.unless_stopped(async {
                while count.started.load(Ordering::Relaxed) < jobs {
                    count.started_some.notified().await;
                }
                Ok(())
            });
            let started = started.await;
            workers.end().await?;
            started?;
            let rate = jobs as f64 / since(began).as_secs_f64();
            let grown = engine.bytes()?.saturating_sub(empty);
            Ok(Drained { rate, bytes_per_job: grown as f64 / jobs as f64, resident_bytes })
        })
    }

    fn bytes(&self) -> Result<u64, StoreError> {
        maintenance::size(&mut self.store.url().connect(Purpose::Read)?)
    }

    /// `outstanding` callers submit a job each as soon as their last one has ended. Returns jobs a second.
    ///
    /// # Errors
    /// When the store or the audit log refuses, or it is stopped.
    pub fn life_cycle(self, outstanding: usize, jobs: usize) -> Result<f64, BenchError> {
        self.measure(async |engine| {
            let workers = engine.work(outstanding).await?;
            let going = engine.go_round(&workers, outstanding, jobs);
            let rate = engine.unless_stopped(going).await;
            workers.end().await?;
            rate
        })
    }

    async fn go_round(
        &self,
        workers: &Workers,
        outstanding: usize,
        jobs: usize,
    ) -> Result<f64, BenchError> {
        let mut events = workers.events.subscribe();
        let free = Semaphore::new(outstanding);
        let counting = async {
            let mut left = jobs;
            while left > 0 {
                match events.recv().await {
                    Ok(Event::AttemptFinished { .. }) => {
                        free.add_permits(1);
                        left -= 1;
                    }
                    Ok(_) => {}
                    Err(lost) => return Err(BenchError::Io(std::io::Error::other(lost))),
                }
            }
            Ok(())
        };
        let start = SystemClock.since_boot();
        let submitting = try_join_all((0..outstanding.min(jobs)).map(|caller| {
            let free = &free;
            let own = jobs / outstanding + usize::from(caller < jobs % outstanding);
            async move {
                for _ in 0..own {
                    if let Ok(permit) = free.acquire().await {
                        permit.forget();
                    }
                    workers.signals.work_of(self.submit(1)).await?;
                }
                Ok(())
            }
        }));
        tokio::try_join!(submitting, counting)?;
        Ok(jobs as f64 / since(start).as_secs_f64())
    }
}

impl Workers {
    async fn end(self) -> Result<(), BenchError> {
        self.pool.drain(Departure::Stop).await;
        Ok(self.audit.stop().await?)
    }
}

/// About two hundred bytes of params, as in the comparison with other queues.
fn params() -> Value {
    json!({ "input": { "text": "x".repeat(180) } })
}

/// The params of every job that is measured.
#[must_use]
pub fn params_text() -> String {
    params().to_string()
}

fn since(start: Duration) -> Duration {
    SystemClock.since_boot().saturating_sub(start)
}
