//! Building the parts, in the order in which they need each other.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::{Notify, broadcast};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::heartbeat::{self, Heartbeat, rescue};
use super::lock::{self, DataLock, LockError};
use super::numbers::Numbers;
use super::{FailureKind, audit_source, host_name, schedule_defaults, supervisor};
use crate::api::{self, App, Live, ServeError};
use crate::audit::writer::{self as audit_writer, AuditError};
use crate::audit::{AuditHandle, AuditHealth};
use crate::catalog::{Catalog, Reading, ReloadReport, Reloader, Watcher, Watching};
use crate::clock::{SharedClock, SystemClock};
use crate::config::Settings;
use crate::jobs::cleanup::CleanupHandler;
use crate::jobs::command::{CommandHandler, kill_leftovers};
use crate::jobs::data_sync::DataSyncHandler;
use crate::jobs::http::HttpHandler;
use crate::jobs::kb_validation::KbValidationHandler;
use crate::jobs::ports;
use crate::jobs::stats_report::StatsReportHandler;
use crate::jobs::{KINDS, RunPaths};
use crate::model::AuditEvent;
use crate::model::{Actor, Chain, JobId, NodeId};
use crate::queue::{Ageing, Signals};
use crate::scheduler::{Alarm, Draws, Enqueuer, Scheduler, Ticker, TickerError};
use crate::store::audit::append_event;
use crate::store::{Conn, Store, StoreError, nodes};
use crate::telemetry::{self, Metrics, Telemetry};
use crate::upkeep::{History, Upkeep};
use crate::worker::{Pool, PoolHandle, PoolSettings, Registry};

/// How many events a slow listener may be behind before it misses some.
const EVENTS_KEPT: usize = 4096;

/// How much of an attempt's output is kept on disk, in bytes.
const MAX_OUTPUT_BYTES: u64 = 10 << 20;

/// How long programs of a daemon that was killed have to end before they are killed as well.
const LEFTOVER_GRACE: Duration = Duration::from_secs(5);

/// How long an attempt may go on after it was told to stop: longer than any kind's own grace period.
const STOP_GRACE: Duration = Duration::from_secs(60);

/// Why the daemon could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The database.
    #[error("cannot open the store")]
    Store(#[from] StoreError),
    /// The logs.
    #[error("cannot write the log")]
    Telemetry(#[from] telemetry::TelemetryError),
    /// The audit log.
    #[error("cannot keep the audit log")]
    Audit(#[from] AuditError),
    /// The scheduler's ticker.
    #[error(transparent)]
    Ticker(#[from] TickerError),
    /// A listener.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// Signals.
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
    /// A directory.
    #[error("cannot make the directory {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl StartError {
    /// What it means for whoever started the daemon.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Lock(LockError::Taken { .. }) => FailureKind::Taken,
            _ => FailureKind::Other,
        }
    }
}

/// The running logs, which several parts ask about.
pub(super) type SharedTelemetry = Arc<Telemetry>;

/// A running daemon.
pub(super) struct Daemon {
    pub(super) settings: Arc<Settings>,
    pub(super) clock: SharedClock,
    pub(super) store: Store,
    pub(super) node: NodeId,
    pub(super) pool: PoolHandle,
    pub(super) reloader: Arc<Reloader>,
    pub(super) ticker: Ticker,
    pub(super) audit: AuditHandle,
    pub(super) telemetry: SharedTelemetry,
    /// Ends what makes new work: the scheduler, the watcher, upkeep.
    pub(super) stop_scheduling: CancellationToken,
    /// Ends everything else: listeners, heartbeat, watchdog.
    pub(super) stop: CancellationToken,
    pub(super) scheduling: Vec<JoinHandle<()>>,
    pub(super) serving: Vec<JoinHandle<()>>,
    pub(super) _lock: DataLock,
}

/// Starts everything. What was built before a failure is dropped, and the process ends.
pub(super) async fn start(settings: Settings) -> Result<Daemon, StartError> {
    let settings = Arc::new(settings);
    let clock: SharedClock = Arc::new(SystemClock);
    let lock = lock::take(&settings.data_dir).await?;
    let telemetry = Arc::new(telemetry::init(&settings.log, Arc::clone(&clock))?);
    let paths = Arc::new(RunPaths::under(&settings.data_dir));
    make_directories(&settings, &paths)?;
    if let Err(error) = ports::process::adopt_orphans() {
        tracing::warn!(%error, "orphans of jobs cannot be adopted; a job that daemonises may outlive its attempt");
    }
    end_leftovers(&paths).await;

    let url = settings.database.clone();
    let store = match tokio::task::spawn_blocking(move || Store::open(&url)).await {
        Ok(opened) => opened?,
        Err(_panicked) => return Err(StoreError::Closed.into()),
    };
    let (node, draws) = join(&store, &clock, &settings).await?;
    let audit_options = audit_writer::Options {
        folder: settings.audit.dir.clone(),
        source: audit_source(store.url()),
        jobs: settings.audit.jobs,
    };
    let audit = audit_writer::start(store.clone(), Arc::clone(&clock), audit_options).await?;

    let (stop_scheduling, stop) = (CancellationToken::new(), CancellationToken::new());
    let reading = Reading { defaults: schedule_defaults(&settings), kinds: KINDS };
    let directories = settings.schedule_dirs.clone();
    let (reloader, first) =
        Reloader::start(directories.clone(), reading, Arc::clone(&clock), stop_scheduling.clone())
            .await;
    let wake_reloader = Arc::clone(&reloader);
    let watcher =
        Watcher::spawn(directories, move || wake_reloader.wake(), stop_scheduling.clone());

    let (events, _) = broadcast::channel(EVENTS_KEPT);
    let (signals, signal_receiver) = Signals::new();
    let history = Arc::new(History::new(store.clone(), Arc::clone(&paths)));
    let pool = Pool {
        store: store.clone(),
        node,
        clock: Arc::clone(&clock),
        registry: registry(&store, &history),
        paths: Arc::clone(&paths),
        settings: pool_settings(&settings),
        signals: signal_receiver,
        events: events.clone(),
    }
    .spawn();

    let alarm = Alarm::new(Arc::clone(&clock));
    let ticker = Ticker::start(Arc::clone(&alarm)).await?;
    let enqueuer = Enqueuer {
        store: store.clone(),
        clock: Arc::clone(&clock),
        node,
        ageing: Ageing::new(settings.workers.ageing.get()),
        signals: signals.clone(),
        events: events.clone(),
    };
    let ledger_changed = Arc::new(Notify::new());
    let scheduler = Scheduler {
        enqueuer: enqueuer.clone(),
        alarm: Arc::clone(&alarm),
        reloader: Arc::clone(&reloader),
        draws: Arc::clone(&draws),
        ledger_changed: Arc::clone(&ledger_changed),
    };
    let mut scheduling = vec![scheduler.start(stop_scheduling.clone()).await?];
    let upkeep = Upkeep {
        store: store.clone(),
        clock: Arc::clone(&clock),
        retention: settings.retention.clone(),
        history,
        audit: audit.health(),
    };
    scheduling.push(tokio::spawn(upkeep.run(stop_scheduling.clone())));

    let metrics = Arc::new(Metrics::new());
    let numbers = Numbers {
        metrics: Arc::clone(&metrics),
        store: store.clone(),
        clock: Arc::clone(&clock),
        pool: pool.clone(),
        reloader: Arc::clone(&reloader),
        telemetry: Arc::clone(&telemetry),
        audit: audit.health(),
    };
    let mut serving = vec![tokio::spawn(numbers.run(events.subscribe(), stop.clone()))];
    // Ends by being dropped with the runtime: there is nothing to finish.
    tokio::spawn(ports::process::reap_orphans());
    let heartbeat = Heartbeat {
        store: store.clone(),
        clock: Arc::clone(&clock),
        node,
        lease: settings.lease.clone(),
        pool: pool.clone(),
        signals: signals.clone(),
    };
    serving.push(tokio::spawn(heartbeat.run(stop.clone())));
    if let Some(period) = supervisor::watchdog_period() {
        let fed = heartbeat::watchdog(period, Arc::clone(&alarm), store.clone(), stop.clone());
        serving.push(tokio::spawn(fed));
    }

    let live = Live {
        node,
        started_at: clock.now(),
        enqueuer,
        signals,
        ledger_changed,
        pool: pool.clone(),
        reloader: Arc::clone(&reloader),
        alarm,
        events,
        complaints: complaints(audit.health(), watcher, Arc::clone(&telemetry)),
        metrics: Box::new(move || metrics.encode()),
        stopping: stop.clone(),
    };
    let app = App {
        store: store.clone(),
        clock: Arc::clone(&clock),
        settings: Arc::clone(&settings),
        paths,
        offline_catalog: Arc::new(Catalog::empty()),
        draws,
        live: Some(Arc::new(live)),
    };
    let router = api::router(app);
    let socket = api::bind_socket(&settings.api.socket)?;
    serving.push(tokio::spawn(api::serve_socket(socket, router.clone(), stop.clone())));
    if let Some(listen) = &settings.api.listen {
        let listener = api::bind_tcp(listen.0).await?;
        serving.push(tokio::spawn(api::serve_tcp(listener, router, stop.clone())));
    }

    record_start(&store, &clock, node, &reloader.current()).await?;
    announce(&settings, &first, &reloader.current(), &clock);
    supervisor::ready(&status_line(&reloader.current()));
    Ok(Daemon {
        settings,
        clock,
        store,
        node,
        pool,
        reloader,
        ticker,
        audit,
        telemetry,
        stop_scheduling,
        stop,
        scheduling,
        serving,
        _lock: lock,
    })
}

fn make_directories(settings: &Settings, paths: &RunPaths) -> Result<(), StartError> {
    // Scratch space for jobs; the shipped cleanup empties it.
    let scratch = paths.data.join("tmp");
    let (log, audit) = (&settings.log.dir, &settings.audit.dir);
    for path in [&paths.runs, &paths.reports, &paths.state, &scratch, log, audit] {
        std::fs::create_dir_all(path)
            .map_err(|source| StartError::Directory { path: path.clone(), source })?;
    }
    Ok(())
}

/// Programs that a killed daemon left running are ended before their jobs run again, so that nothing runs twice at once.
async fn end_leftovers(paths: &Arc<RunPaths>) {
    let paths = Arc::clone(paths);
    match tokio::task::spawn_blocking(move || kill_leftovers(&paths, LEFTOVER_GRACE)).await {
        Ok(Ok(leftovers)) => {
            for leftover in leftovers {
                tracing::warn!(
                    job.id = leftover.job.0,
                    attempt = leftover.attempt,
                    "processes that an earlier daemon left running were ended"
                );
            }
        }
        Ok(Err(error)) => {
            tracing::error!(%error, "what an earlier daemon left running could not be looked for");
        }
        Err(_panicked) => {
            tracing::error!("what an earlier daemon left running could not be looked for");
        }
    }
}

/// Registers this node, gives back what dead ones left running, and reads the seed that all nodes share.
async fn join(
    store: &Store,
    clock: &SharedClock,
    settings: &Settings,
) -> Result<(NodeId, Arc<Draws>), StartError> {
    let now = clock.now();
    let lease_until = now + settings.lease.duration.get();
    let host = host_name();
    let name = host.clone();
    let alone = matches!(store.url(), crate::store::DatabaseUrl::Sqlite(_));
    let (node, seed, rescued) = store
        .write(move |conn: &mut Conn| {
            let instance = uuid::Uuid::new_v4().to_string();
            let fresh_seed = uuid::Uuid::new_v4().to_string();
            let node = nodes::register(conn, &name, &instance, now, lease_until)?;
            let seed = nodes::jitter_seed_or(conn, &fresh_seed)?;
            let mut rescued: Vec<JobId> = Vec::new();
            for other in nodes::others(conn, node)? {
                if alone || jiff::Timestamp::from(other.lease_until) < now {
                    rescued.extend(rescue(conn, NodeId(other.id), now)?);
                }
            }
            Ok((node, seed, rescued))
        })
        .await?;
    if !rescued.is_empty() {
        tracing::warn!(
            jobs = rescued.len(),
            "jobs that were interrupted by a crash are given back"
        );
    }
    Ok((node, Arc::new(Draws { host, seed })))
}

fn registry(store: &Store, history: &Arc<History>) -> Registry {
    let http = ports::http::client();
    Registry::default()
        .with("cleanup", Arc::new(CleanupHandler::new(Arc::clone(history) as _)))
        .with("kb_validation", Arc::new(KbValidationHandler))
        .with("stats_report", Arc::new(StatsReportHandler::new(Arc::new(store.clone()))))
        .with("data_sync", Arc::new(DataSyncHandler::new(Arc::clone(&http))))
        .with("command", Arc::new(CommandHandler::new()))
        .with("http", Arc::new(HttpHandler::new(http)))
}

fn pool_settings(settings: &Settings) -> PoolSettings {
    let slots: BTreeMap<String, usize> = settings
        .queues
        .iter()
        .filter_map(|(name, queue)| Some((name.clone(), usize::from(queue.workers?.get()))))
        .collect();
    let timeouts = settings
        .queues
        .iter()
        .filter_map(|(name, queue)| Some((name.clone(), queue.timeout?.get())))
        .collect();
    PoolSettings {
        slots: usize::from(settings.workers.count.get()),
        queue_slots: slots,
        queue_timeouts: timeouts,
        timeout: Some(settings.defaults.timeout.get()),
        stop_grace: STOP_GRACE,
        max_output: MAX_OUTPUT_BYTES,
    }
}

/// What parts with a health of their own complain about.
fn complaints(
    audit: tokio::sync::watch::Receiver<AuditHealth>,
    watcher: Watcher,
    telemetry: SharedTelemetry,
) -> Box<dyn Fn() -> Vec<String> + Send + Sync> {
    Box::new(move || {
        let mut complaints = Vec::new();
        if let Some(why) = &audit.borrow().failing {
            complaints.push(format!("the audit log cannot be written: {why}"));
        }
        if let Watching::Polling(why) = watcher.status() {
            complaints.push(format!("schedule files are polled for changes: {why}"));
        }
        let (dropped, refused) = (telemetry.dropped_lines(), telemetry.write_errors());
        if dropped + refused > 0 {
            complaints.push(format!(
                "the log lacks {dropped} lines that came too fast and {refused} that the disk refused"
            ));
        }
        complaints
    })
}

async fn record_start(
    store: &Store,
    clock: &SharedClock,
    node: NodeId,
    catalog: &Catalog,
) -> Result<(), StoreError> {
    let detail = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "schedules": catalog.schedules.len(),
        "revision": catalog.revision.short(),
    });
    let event = AuditEvent::new("daemon.started", &Actor::system(), "daemon", detail, clock.now());
    store.write(move |conn| append_event(conn, node, &event)).await
}

/// One line for `systemctl status`.
pub(super) fn status_line(catalog: &Catalog) -> String {
    let trouble = match catalog.stale.len() + catalog.invalid.len() {
        0 => String::new(),
        count => format!(", {count} files broken"),
    };
    format!("{} schedules, revision {}{trouble}", catalog.schedules.len(), catalog.revision.short())
}

/// Says on stdout what was loaded, what comes next, and where to look. It is for the person who has just started it; the log says it
/// in its own words.
fn announce(settings: &Settings, first: &ReloadReport, catalog: &Catalog, clock: &SharedClock) {
    let now = clock.now();
    let mut text =
        format!("sexton {} serves {}\n", env!("CARGO_PKG_VERSION"), status_line(catalog));
    let mut next: Vec<(jiff::Timestamp, &str)> = catalog
        .schedules
        .values()
        .filter(|schedule| schedule.enabled)
        .filter_map(|schedule| {
            Some((schedule.when.rule.next_after(now, Some(now))?, schedule.id.as_str()))
        })
        .collect();
    next.sort_unstable();
    for (at, id) in next.iter().take(10) {
        let local = at.to_zoned(settings.defaults.timezone.clone());
        text.push_str(&format!("  next     {}  {id}\n", local.strftime("%a %d %b %H:%M:%S %Z")));
    }
    for (label, place) in [
        ("socket", &settings.api.socket),
        ("data", &settings.data_dir),
        ("logs", &settings.log.dir),
    ] {
        text.push_str(&format!("  {label:<8} {}\n", place.display()));
    }
    text.push_str("  look     sexton status, sexton schedules, sexton jobs, sexton why ID\n");
    // A closed stdout is no reason not to serve.
    let written = std::io::stdout().write_all(text.as_bytes());
    drop(written);
    for diagnostic in &first.diagnostics {
        if diagnostic.is_error() {
            tracing::error!("{diagnostic}");
        } else {
            tracing::warn!("{diagnostic}");
        }
    }
    tracing::info!(
        schedules = catalog.schedules.len(),
        revision = catalog.revision.short(),
        socket = %settings.api.socket.display(),
        database = %settings.database,
        "serving"
    );
}

/// Puts an event of the daemon itself into the audit log; a store that refuses is only reported, because nobody waits for it.
pub(super) async fn record_event(daemon: &Daemon, event: &'static str, detail: serde_json::Value) {
    let new = AuditEvent::new(event, &Actor::system(), "daemon", detail, daemon.clock.now());
    let node = daemon.node;
    if let Err(error) = daemon.store.write(move |conn| append_event(conn, node, &new)).await {
        tracing::error!(error = %Chain(&error), event, "the audit log lacks an event");
    }
}
