//! The engine as the daemon uses it: store, pool, signals and audit log, with a handler that does nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, join_all};
use serde_json::{Value, json};
use sexton::audit::writer::{self, AuditHandle};
use sexton::clock::{Clock, SharedClock, SystemClock};
use sexton::config::AuditJobs;
use sexton::jobs::{Answer, Context, Handler, RunPaths};
use sexton::model::{Actor, JsonText, NewJob, NodeId, NodeIdentity};
use sexton::queue::{Ageing, Limits, Signals};
use sexton::store::audit::AuditSource;
use sexton::store::jobs::{SubmitContext, submit};
use sexton::store::{DatabaseUrl, Store, nodes};
use sexton::worker::{Pool, PoolHandle, PoolSettings, Registry};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, Semaphore, broadcast};

use crate::figures::milliseconds;

/// About two hundred bytes of params, as in the comparison with other queues.
fn params() -> Value {
    json!({ "input": { "text": "x".repeat(180) } })
}

pub(crate) fn params_text() -> String {
    params().to_string()
}

/// A database of its own, and a node.
pub(crate) struct Engine {
    // First, so that what runs in it is gone before its folder is.
    runtime: Runtime,
    store: Store,
    node: NodeId,
    folder: TempDir,
}

/// What many callers saw.
pub(crate) struct Submissions {
    /// How long each waited, in milliseconds.
    pub(crate) waits: Vec<f64>,
    took: Duration,
}

impl Submissions {
    pub(crate) fn rate(&self) -> f64 {
        self.waits.len() as f64 / self.took.as_secs_f64()
    }
}

/// What a drain came to.
pub(crate) struct Drained {
    pub(crate) rate: f64,
    pub(crate) bytes_per_job: Option<f64>,
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
    events: broadcast::Sender<sexton::model::Event>,
    count: Arc<Count>,
    audit: AuditHandle,
    /// When the pool was started.
    began: Instant,
}

impl Engine {
    /// A fresh database: a file in a temporary folder, or a new one on the server of `SEXTON_TEST_POSTGRES_URL`.
    pub(crate) fn open(postgres: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let url = if postgres {
            fresh_postgres()
        } else {
            DatabaseUrl::Sqlite(folder.path().join("sexton.db"))
        };
        let runtime = Runtime::new().expect("a runtime");
        let store = Store::open(&url).expect("a database");
        let now = SystemClock.now();
        let new =
            nodes::NewNode { identity: NodeIdentity::default(), instance: "bench".to_owned() };
        let register = store.write(move |conn| nodes::register(conn, &new, now, now));
        let node = runtime.block_on(register).expect("a node");
        Self { runtime, store, node, folder }
    }

    fn context(&self) -> SubmitContext {
        SubmitContext { now: SystemClock.now(), node: self.node, ageing: Ageing::DEFAULT }
    }

    async fn submit(&self, count: usize) {
        let context = self.context();
        let jobs: Vec<NewJob> = (0..count)
            .map(|_| {
                NewJob::new("noop", JsonText::from(&params()), context.now, Actor::named("bench"))
            })
            .collect();
        self.store.write(move |conn| submit(conn, &jobs, context)).await.expect("a submission");
    }

    /// Each of `callers` submits `rounds` jobs, one after the other.
    pub(crate) fn submit_from(&self, callers: usize, rounds: usize) -> Submissions {
        let start = Instant::now();
        let one = || async {
            let mut waits = Vec::with_capacity(rounds);
            for _ in 0..rounds {
                let start = Instant::now();
                self.submit(1).await;
                waits.push(milliseconds(start.elapsed()));
            }
            waits
        };
        let waits = self.runtime.block_on(join_all((0..callers).map(|_| one()))).concat();
        Submissions { waits, took: start.elapsed() }
    }

    /// `calls` calls of `count` jobs each. Returns jobs a second.
    pub(crate) fn submit_bulk(&self, count: usize, calls: usize) -> f64 {
        let start = Instant::now();
        self.runtime.block_on(async {
            for _ in 0..calls {
                self.submit(count).await;
            }
        });
        (count * calls) as f64 / start.elapsed().as_secs_f64()
    }

    async fn work(&self, slots: usize) -> Workers {
        let count = Arc::new(Count::default());
        let (signals, receiver) = Signals::new();
        let (events, _) = broadcast::channel(4096);
        let clock: SharedClock = Arc::new(SystemClock);
        let source = AuditSource::Everything;
        let options =
            writer::Options { folder: self.folder.path().to_owned(), source, jobs: AuditJobs::All };
        let audit = writer::start(self.store.clone(), Arc::clone(&clock), options);
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
        };
        let audit = audit.await.expect("a log");
        Workers { audit, began: Instant::now(), pool: pool.spawn(), signals, events, count }
    }

    /// How long single jobs wait for their start in an idle engine, in milliseconds from the call of submit.
    pub(crate) fn pickup(self, jobs: usize) -> Vec<f64> {
        self.runtime.block_on(async {
            let workers = self.work(2).await;
            let mut waits = Vec::with_capacity(jobs);
            for _ in 0..jobs {
                tokio::time::sleep(Duration::from_millis(5)).await;
                let start = Instant::now();
                workers.signals.work_of(self.submit(1)).await;
                workers.count.started_some.notified().await;
                waits.push(milliseconds(start.elapsed()));
            }
            workers.end().await;
            waits
        })
    }

    /// Works off a backlog, from the start of the pool until the last end is recorded and the audit log has all lines.
    pub(crate) fn drain(self, jobs: usize, slots: usize) -> Drained {
        let rate = self.runtime.block_on(async {
            for _ in 0..jobs.div_ceil(10_000) {
                self.submit(jobs.min(10_000)).await;
            }
            let workers = self.work(slots).await;
            let began = workers.began;
            while workers.count.started.load(Ordering::Relaxed) < jobs {
                workers.count.started_some.notified().await;
            }
            workers.end().await;
            jobs as f64 / began.elapsed().as_secs_f64()
        });
        let path = match self.store.url() {
            DatabaseUrl::Sqlite(path) => Some(path.clone()),
            DatabaseUrl::Postgres(_) => None,
        };
        self.store.close();
        // The last connection has moved the write-ahead log into the file.
        let size = path.and_then(|path| std::fs::metadata(path).ok()).map(|file| file.len());
        Drained { rate, bytes_per_job: size.map(|bytes| bytes as f64 / jobs as f64) }
    }

    /// `outstanding` callers submit a job each as soon as their last one has ended. Returns jobs a second.
    pub(crate) fn life_cycle(self, outstanding: usize, jobs: usize) -> f64 {
        self.runtime.block_on(async {
            let workers = self.work(outstanding).await;
            let mut events = workers.events.subscribe();
            let free = Arc::new(Semaphore::new(outstanding));
            let ended = Arc::clone(&free);
            let counting = tokio::spawn(async move {
                let mut left = jobs;
                while left > 0 {
                    match events.recv().await {
                        Ok(sexton::model::Event::AttemptFinished { .. }) => {
                            ended.add_permits(1);
                            left -= 1;
                        }
                        Ok(_) => {}
                        Err(lost) => panic!("an end was not seen: {lost}"),
                    }
                }
            });
            let start = Instant::now();
            let engine = &self;
            let submitting = (0..outstanding.min(jobs)).map(|caller| {
                let (free, workers) = (Arc::clone(&free), &workers);
                let own = jobs / outstanding + usize::from(caller < jobs % outstanding);
                async move {
                    for _ in 0..own {
                        free.acquire().await.expect("it is open").forget();
                        workers.signals.work_of(engine.submit(1)).await;
                    }
                }
            });
            let submitting: Vec<_> = submitting.collect();
            join_all(submitting).await;
            counting.await.expect("all ends are seen");
            let rate = jobs as f64 / start.elapsed().as_secs_f64();
            workers.end().await;
            rate
        })
    }
}

impl Workers {
    async fn end(self) {
        self.pool.drain().await;
        self.audit.stop().await.expect("the log is complete");
    }
}

fn fresh_postgres() -> DatabaseUrl {
    use diesel::Connection;
    use diesel::connection::SimpleConnection;
    let server =
        std::env::var("SEXTON_TEST_POSTGRES_URL").expect("SEXTON_TEST_POSTGRES_URL names a server");
    let name = format!("sexton_bench_{}", uuid::Uuid::new_v4().simple());
    let mut conn = diesel::PgConnection::establish(&server).expect("the server answers");
    conn.batch_execute(&format!("CREATE DATABASE {name}")).expect("a fresh database");
    let (place, options) = server.split_once('?').unwrap_or((&server, ""));
    let (host, _database) = place.rsplit_once('/').expect("a URL with a database");
    format!("{host}/{name}?{options}").parse().expect("a URL")
}
