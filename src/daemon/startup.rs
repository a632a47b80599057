//! Building the parts, in the order in which they need each other.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use tokio::sync::watch;

use super::engine::{Engine, Identity, Others, Parts, Threads};
use super::heartbeat;
use super::lock::{self, DataLock, LockError};
use super::namesake;
use super::numbers::Numbers;
use super::place::{self, PlaceError};
use super::predecessor::{self, Before};
use super::standing::Standing;
use super::{FailureKind, audit_source, supervisor};
use crate::api::{self, ServeError};
use crate::audit::writer::AuditError;
use crate::audit::{AuditHealth, Rewound, rewound};
use crate::catalog::{Catalog, ReloadReport, Watcher, Watching};
use crate::clock::{CautiousClock, SharedClock, SystemClock};
use crate::config::Settings;
use crate::jobs::RunPaths;
use crate::jobs::cleanup::CleanupHandler;
use crate::jobs::command::{CommandHandler, Keepers, kill_leftovers};
use crate::jobs::data_sync::DataSyncHandler;
use crate::jobs::http::HttpHandler;
use crate::jobs::kb_validation::KbValidationHandler;
use crate::jobs::ports;
use crate::jobs::ports::process::Spared;
use crate::jobs::stats_report::StatsReportHandler;
use crate::queue::Signals;
use crate::scheduler::TickerError;
use crate::store::{DatabaseUrl, Store, StoreError, durability};
use crate::telemetry::{self, Metrics, Telemetry};
use crate::upkeep::{self, History};
use crate::worker::Registry;

/// How long programs of a daemon that was killed have to end before they are killed as well.
const LEFTOVER_GRACE: Duration = Duration::from_secs(5);

/// Why the daemon could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Where the data is, and whose it is.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The database lacks what the audit log has told of.
    #[error(
        "the database {database} lacks what the audit log in {} has told of: {lacks}. Its write-ahead log was removed, or an older \
         copy or an empty database took its place. No job was touched. Put the files back as they were; or accept what is there \
         with `sexton db backup FILE` and `sexton db restore FILE`; or, to begin anew, move the audit log away",
        audit.display()
    )]
    Rewound {
        /// The database.
        database: String,
        /// The directory of the audit log.
        audit: PathBuf,
        /// The rows.
        lacks: Rewound,
    },
    /// The database.
    #[error("cannot open the store")]
    Store(#[from] StoreError),
    /// The name.
    #[error(
        "a node named `{name}` (number {number}, process {pid} on its machine) is alive on this database: give this one another name with \
         `node.name`, or stop that one first"
    )]
    Namesake {
        /// The name.
        name: String,
        /// The other node.
        number: i64,
        /// Its process.
        pid: i64,
    },
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
            Self::Lock(LockError::Taken { .. } | LockError::DatabaseTaken { .. })
            | Self::Namesake { .. } => FailureKind::Taken,
            Self::Store(StoreError::Unsound { .. }) | Self::Rewound { .. } => FailureKind::Data,
            _ => FailureKind::Other,
        }
    }
}

/// The running logs, which several parts ask about.
pub(super) type SharedTelemetry = Arc<Telemetry>;

/// A running daemon: the engine, and what ties it to this machine.
pub(super) struct Daemon {
    pub(super) settings: Arc<Settings>,
    pub(super) engine: Engine,
    pub(super) keepers: Keepers,
    pub(super) telemetry: SharedTelemetry,
    pub(super) standing: Standing,
    pub(super) _locks: (DataLock, Option<DataLock>),
}

/// Starts everything. What was built before a failure is dropped, and the process ends.
pub(super) async fn start(settings: Settings) -> Result<Daemon, StartError> {
    let settings = Arc::new(settings);
    let clock: SharedClock = Arc::new(SystemClock);
    place::check(&settings)?;
    api::check_socket(&settings.api.socket)?;
    let locks =
        (lock::take(&settings.data_dir).await?, lock::take_database(&settings.database).await?);
    let telemetry = Arc::new(telemetry::init(&settings.log, Arc::clone(&clock))?);
    let paths = Arc::new(RunPaths::under(&settings.data_dir));
    make_directories(&settings, &paths)?;
    // Before this is a node that has jobs: what it cannot do without it should find out first. Who calls is answered when there are answers.
    let listener = match &settings.api.listen {
        Some(listen) => Some(api::bind_tcp(listen.0).await?),
        None => None,
    };
    if let Err(error) = ports::process::adopt_orphans() {
        tracing::warn!(%error, "orphans of jobs cannot be adopted; a job that daemonises may outlive its attempt");
    }
    // Jobs run as the same user: without this they could read the settings in the environment, with the database's password, and
    // the secrets of other jobs in memory.
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "jobs can read the memory of the daemon");
    }
    let before = predecessor::find(&settings.data_dir);
    if before == Before::Copied {
        forget_programs(&paths)?;
    }
    let keepers = Keepers::find(Arc::clone(&paths), patience(&settings)).await;
    end_leftovers(&paths, &keepers).await;
    end_strays(Spared::Trees(keepers.pids())).await;

    let store = open_store(&settings).await?;
    let others = Others::of(&store, &clock).await?;
    let clock = others.as_ref().map_or(clock, Others::clock);
    let history = Arc::new(History::new(store.clone(), Arc::clone(&paths)));
    let ages = CautiousClock::new(Arc::clone(&clock), upkeep::remembered_clock(&store).await?);
    let identity = identity(&settings, before);
    if others.is_some() {
        namesake::wait_for(&store, &clock, &identity).await?;
    }
    let instance = identity.instance.clone();
    let mut engine = Engine::start(Parts {
        settings: Arc::clone(&settings),
        clock: Arc::clone(&clock),
        others,
        store: store.clone(),
        identity,
        paths,
        registry: registry(&store, &history, &ages, &keepers),
        keepers: keepers.clone(),
        history,
        ages: Arc::clone(&ages),
        draw: Arc::new(rand::random),
        threads: Threads::Own,
    })
    .await?;
    predecessor::note(&settings.data_dir, &instance);
    let reloader = Arc::clone(engine.reloader());
    let wake_reloader = Arc::clone(&reloader);
    let watcher = Watcher::spawn(
        settings.schedule_dirs.iter().chain(&settings.kind_dirs).cloned().collect(),
        move || wake_reloader.wake(),
        engine.stop_scheduling(),
    );

    let numbers = Arc::new(Numbers {
        metrics: Metrics::new(),
        store: store.clone(),
        clock: Arc::clone(&clock),
        pool: engine.pool().clone(),
        reloader: Arc::clone(&reloader),
        telemetry: Arc::clone(&telemetry),
        audit: engine.audit_health(),
    });
    let counting = Arc::clone(&numbers).run(engine.events(), engine.stop_token());
    engine.keep("the keeper of the metrics", tokio::spawn(counting));
    // Ends by being dropped with the runtime: there is nothing to finish.
    tokio::spawn(ports::process::reap_orphans());
    if let Some(period) = supervisor::watchdog_period() {
        let (alarm, stop) = (engine.alarm(), engine.stop_token());
        let fed = heartbeat::watchdog(period, alarm, store, stop, supervisor::watchdog);
        engine.keep("the watchdog's feeder", tokio::spawn(fed));
    }

    let clocks = (engine.clock_doubt(), ages);
    let others = (engine.company(), engine.signals().clone());
    let complaints =
        complaints(engine.audit_health(), watcher, Arc::clone(&telemetry), clocks, others);
    let metrics = move || {
        let numbers = Arc::clone(&numbers);
        async move { numbers.text().await }.boxed()
    };
    let app = engine.app(complaints, Box::new(metrics));
    let standing = Standing::new(app.clone());
    let router = api::router(app);
    let socket = api::bind_socket(&settings.api.socket)?;
    let served = api::serve_socket(socket, router.clone(), engine.stop_token());
    engine.keep("the listener on the socket", tokio::spawn(served));
    if let Some(listener) = listener {
        let served = api::serve_tcp(listener, router, engine.stop_token());
        engine.keep("the listener on TCP", tokio::spawn(served));
    }

    announce(&settings, engine.first_report(), &reloader.current(), &standing, &clock);
    supervisor::ready(&standing.line());
    let telling = tokio::spawn(standing.clone().keep_told(engine.stop_scheduling()));
    engine.keep("the teller of systemd", telling);
    Ok(Daemon { settings, engine, keepers, telemetry, standing, _locks: locks })
}

/// Opens the database, unless it is older than its audit log.
pub(super) async fn open_store(settings: &Settings) -> Result<Store, StartError> {
    let url = settings.database.clone();
    let store = match tokio::task::spawn_blocking(move || Store::open_with_reserve(&url)).await {
        Ok(opened) => opened?,
        Err(_panicked) => return Err(StoreError::Closed.into()),
    };
    refuse_rewound(&store, settings).await?;
    for doubt in store.read(durability::doubts).await? {
        tracing::warn!(doubt, "the database may lose what it has acknowledged");
    }
    Ok(store)
}

/// A database that is older than its audit log has lost commits that were acknowledged. PostgreSQL's are not held to it: a standby that
/// takes over may lack the last moment, by its operator's choice.
async fn refuse_rewound(store: &Store, settings: &Settings) -> Result<(), StartError> {
    if !matches!(store.url(), DatabaseUrl::Sqlite(_)) {
        return Ok(());
    }
    match rewound(store, &settings.audit.dir, &audit_source(settings)).await? {
        None => Ok(()),
        Some(lacks) => Err(StartError::Rewound {
            database: store.url().to_string(),
            audit: settings.audit.dir.clone(),
            lacks,
        }),
    }
}

pub(super) fn identity(settings: &Settings, before: Before) -> Identity {
    let random = || uuid::Uuid::new_v4().to_string();
    Identity {
        node: settings.node.clone(),
        instance: random(),
        predecessor: before.dead(),
        fresh_seed: random(),
    }
}

pub(super) fn make_directories(settings: &Settings, paths: &RunPaths) -> Result<(), StartError> {
    // Scratch space for jobs; the shipped cleanup empties it.
    let scratch = paths.data.join("tmp");
    let (log, audit) = (&settings.log.dir, &settings.audit.dir);
    for path in [&paths.runs, &paths.reports, &paths.state, &scratch, log, audit] {
        std::fs::create_dir_all(path)
            .map_err(|source| StartError::Directory { path: path.clone(), source })?;
    }
    Ok(())
}

/// Ends what programs of an earlier daemon, or of this one when it stops, have left in the service where no record finds it.
pub(super) async fn end_strays(spared: Spared) {
    // It only fails when the runtime stops.
    let ended = tokio::task::spawn_blocking(move || ports::process::end_strays(&spared)).await;
    if let Ok(processes @ 1..) = ended {
        tracing::warn!(processes, "processes that jobs had left in the service were ended");
    }
}

/// Forgets the programs of which a copied data directory has records: they are those of the daemon that has the original, and no business of this one.
fn forget_programs(paths: &RunPaths) -> Result<(), StartError> {
    let running = paths.running();
    tracing::warn!(
        "the data directory is a copy of one that is still there; programs that run there are left alone"
    );
    match std::fs::remove_dir_all(&running) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(StartError::Directory { path: running, source })
        }
        _ => Ok(()),
    }
}

/// How long programs go on without a daemon. On PostgreSQL other nodes run their jobs when a lease has passed without one, so they must
/// have ended by then; on SQLite nobody else does.
fn patience(settings: &Settings) -> Option<Duration> {
    let lease = &settings.lease;
    match settings.database {
        DatabaseUrl::Sqlite(_) => None,
        // The last beat may be one heartbeat ago, and ending takes time as well.
        DatabaseUrl::Postgres(_) => {
            Some(lease.duration.get().saturating_sub(2 * lease.heartbeat.get()))
        }
    }
}

/// Programs that a killed daemon left running, and that nobody keeps, are ended before their jobs run again, so that nothing runs twice at
/// once.
async fn end_leftovers(paths: &Arc<RunPaths>, keepers: &Keepers) {
    let paths = Arc::clone(paths);
    let kept: Vec<_> = keepers.attempts().iter().map(|attempt| attempt.name).collect();
    let killing = move || kill_leftovers(&paths, &kept, LEFTOVER_GRACE);
    match tokio::task::spawn_blocking(killing).await {
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

fn registry(
    store: &Store,
    history: &Arc<History>,
    ages: &Arc<CautiousClock>,
    keepers: &Keepers,
) -> Registry {
    let http = ports::http::client();
    let cleanup = CleanupHandler::new(Arc::clone(history) as _, Arc::clone(ages) as _);
    Registry::default()
        .with("cleanup", Arc::new(cleanup))
        .with("kb_validation", Arc::new(KbValidationHandler))
        .with("stats_report", Arc::new(StatsReportHandler::new(Arc::new(store.clone()))))
        .with("data_sync", Arc::new(DataSyncHandler::new(Arc::clone(&http))))
        .with("command", Arc::new(CommandHandler::keeping(keepers.clone())))
        .with("http", Arc::new(HttpHandler::new(http)))
}

/// What parts with a health of their own complain about.
fn complaints(
    audit: watch::Receiver<AuditHealth>,
    watcher: Watcher,
    telemetry: SharedTelemetry,
    (clock_doubt, ages): (watch::Receiver<Option<String>>, Arc<CautiousClock>),
    (company, signals): (watch::Receiver<Vec<String>>, Signals),
) -> Box<dyn Fn() -> Vec<String> + Send + Sync> {
    Box::new(move || {
        let mut complaints = Vec::new();
        complaints.extend(clock_doubt.borrow().clone());
        if let Some(doubt) = ages.doubt() {
            complaints.push(doubt.to_string());
        }
        complaints.extend(company.borrow().iter().cloned());
        complaints.extend(signals.trouble());
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

/// Says on stdout what was loaded, what comes next, and where to look. It is for the person who has just started it; the log says it
/// in its own words.
fn announce(
    settings: &Settings,
    first: &ReloadReport,
    catalog: &Catalog,
    standing: &Standing,
    clock: &SharedClock,
) {
    let now = clock.now();
    let mut text = format!("sexton {} serves {}\n", env!("CARGO_PKG_VERSION"), standing.line());
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
