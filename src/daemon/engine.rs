//! The engine: everything that decides, queues, runs and records, without what ties it to a machine.
//!
//! `startup` puts the lock, the logs, the watcher, the sockets and the signals around it, which are what makes a process a daemon. A
//! simulation puts a driven clock, scripted handlers and faults around the same engine.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::{Notify, broadcast, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::company::Company;
use super::essentials::Essentials;
use super::heartbeat::{Heartbeat, rescue};
use super::startup::StartError;
use super::{audit_source, schedule_defaults};
use crate::api::{App, Live};
use crate::audit::writer::{self as audit_writer, AuditError};
use crate::audit::{AuditHandle, AuditHealth};
use crate::catalog::{Catalog, LookOn, Reading, ReloadReport, Reloader};
use crate::clock::{CautiousClock, DatabaseClock, SharedClock};
use crate::config::Settings;
use crate::jobs::command::{CommandHandler, Keepers, KeptAttempt};
use crate::jobs::{DeclaredHandler, KINDS, RunPaths, kind};
use crate::model::{Actor, AttemptName, AuditEvent, Chain, Event, JobId, NodeId, NodeIdentity};
use crate::queue::{Ageing, Limits, Signals};
use crate::scheduler::{Alarm, Draws, Enqueuer, Scheduler, Ticker};
use crate::store::adopt::{Adopted, Adoption, adopt};
use crate::store::audit::append_event;
use crate::store::jobs::SubmitContext;
use crate::store::nodes::NewNode;
use crate::store::wakeups::{News, Wakeups};
use crate::store::{
    Condition, Conn, DatabaseUrl, Store, StoreError, batch_orders, breakers, nodes,
};
use crate::upkeep::{History, Upkeep};
use crate::worker::{
    Departure, Draw, Find, FindLimits, LearnedDurations, Pool, PoolHandle, PoolSettings, Registry,
    TakenOver,
};

/// How many events a slow listener may be behind before it misses some.
const EVENTS_KEPT: usize = 4096;

/// How much of an attempt's output is kept on disk, in bytes.
const MAX_OUTPUT_BYTES: u64 = 10 << 20;

/// How long an attempt may go on after it was told to stop: longer than any kind's own grace period.
const STOP_GRACE: Duration = Duration::from_secs(60);

/// How long whoever is served has to go when the engine has stopped.
const SERVING_GRACE: Duration = Duration::from_secs(5);

/// From look to look at a store that refuses when there is nothing left to wait for but the record of what has ended.
const UNRECORDED_PATIENCE: Duration = Duration::from_secs(3);

/// Whether the engine has threads beside the runtime's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// For the audit log, for reading directories, and the scheduling crate's ticker.
    Own,
    /// Everything is a task, and the ticker a plain one of this period: what happens depends on nothing but the runtime.
    None {
        /// From tick to tick.
        tick: Duration,
    },
}

/// Who this run of the engine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// By what it can be chosen.
    pub node: NodeIdentity,
    /// A name that no other run has.
    pub instance: String,
    /// Becomes the seed of jitter where the database has none yet.
    pub fresh_seed: String,
}

/// What an engine is built from.
pub struct Parts {
    /// How it is set up.
    pub settings: Arc<Settings>,
    /// What time it is.
    pub clock: SharedClock,
    /// The same clock, where it is put right by the one of a database that other nodes use as well.
    pub database_clock: Option<Arc<DatabaseClock>>,
    /// Where everything stays.
    pub store: Store,
    /// Who it is.
    pub identity: Identity,
    /// Where things are kept.
    pub paths: Arc<RunPaths>,
    /// Who does which kind.
    pub registry: Registry,
    /// Who keeps programs beyond the end of this engine, and has those of earlier ones.
    pub keepers: Keepers,
    /// Deletes jobs with their logs.
    pub history: Arc<History>,
    /// What time it is for what is deleted by age.
    pub ages: Arc<CautiousClock>,
    /// Where the jitter of retries comes from.
    pub draw: Draw,
    /// What it may run on.
    pub threads: Threads,
}

/// A running engine. Its parts end when they are told to, or with the runtime.
pub struct Engine {
    settings: Arc<Settings>,
    clock: SharedClock,
    store: Store,
    paths: Arc<RunPaths>,
    draws: Arc<Draws>,
    first: Arc<ReloadReport>,
    node: NodeId,
    pool: PoolHandle,
    reloader: Arc<Reloader>,
    enqueuer: Enqueuer,
    ledger_changed: Arc<Notify>,
    clock_doubt: watch::Receiver<Option<String>>,
    company: watch::Receiver<Vec<String>>,
    alarm: Arc<Alarm>,
    ticker: Ticker,
    audit: AuditHandle,
    /// Ends what makes new work: the scheduler, the watcher, upkeep.
    stop_scheduling: CancellationToken,
    /// Ends everything else: listeners, heartbeat, watchdog.
    stop: CancellationToken,
    durations: LearnedDurations,
    scheduling: Vec<JoinHandle<()>>,
    serving: Vec<JoinHandle<()>>,
    essentials: Essentials,
}

impl Engine {
    /// Registers as a node, gives back what dead ones left running, and starts every part.
    ///
    /// # Errors
    /// When the store, the audit log or the ticker cannot be used. What was started ends with the runtime.
    pub async fn start(parts: Parts) -> Result<Self, StartError> {
        let Parts {
            settings,
            clock,
            database_clock,
            store,
            identity,
            paths,
            registry,
            keepers,
            history,
            ages,
            draw,
            threads,
        } = parts;
        let node_identity = identity.node.clone();
        let Joined { node, draws, taken_over } =
            join(&store, &clock, &settings, identity, &keepers).await?;
        let audit_options = audit_writer::Options {
            folder: settings.audit.dir.clone(),
            source: audit_source(&settings),
            jobs: settings.audit.jobs,
        };
        let audit = start_audit(&store, &clock, audit_options, threads).await?;

        let (stop_scheduling, stop) = (CancellationToken::new(), CancellationToken::new());
        let reading = Reading {
            defaults: schedule_defaults(&settings),
            kinds: KINDS,
            kind_dirs: settings.kind_dirs.clone(),
        };
        let look_on = match threads {
            Threads::Own => LookOn::BlockingThread,
            Threads::None { .. } => LookOn::Caller,
        };
        let (reloader, first) = Reloader::start(
            settings.schedule_dirs.clone(),
            reading,
            Arc::clone(&clock),
            look_on,
            stop_scheduling.clone(),
        )
        .await;

        let limits = declared_limits(Arc::clone(&settings), Arc::clone(&reloader));
        let taken_over = held_to_breakers(&store, limits(), taken_over).await?;
        let commands = CommandHandler::keeping(keepers.clone());
        let registry = registry.or_find(declared_kinds(Arc::clone(&reloader), commands));
        let (events, _) = broadcast::channel(EVENTS_KEPT);
        let (work, called, ledger_changed) =
            (Arc::<Notify>::default(), Arc::<Notify>::default(), Arc::<Notify>::default());
        let others = match &database_clock {
            Some(_) => listen(&store, [&work, &called, &ledger_changed])?,
            None => None,
        };
        let (signals, signal_receiver) = Signals::among(work, others);
        let pool = Pool {
            store: store.clone(),
            node,
            identity: node_identity,
            clock: Arc::clone(&clock),
            registry,
            paths: Arc::clone(&paths),
            settings: pool_settings(&settings),
            signals: signal_receiver,
            events: events.clone(),
            draw,
            limits,
            keepers,
            taken_over,
        }
        .spawn();

        let alarm = Alarm::new(Arc::clone(&clock));
        let ticker = match threads {
            Threads::Own => Ticker::start(Arc::clone(&alarm)).await?,
            Threads::None { tick } => Ticker::plain(Arc::clone(&alarm), tick),
        };
        let enqueuer = Enqueuer {
            store: store.clone(),
            clock: Arc::clone(&clock),
            node,
            ageing: Ageing::new(settings.workers.ageing.get()),
            signals: signals.clone(),
            events,
        };
        go_on_with_batches(&enqueuer).await?;
        let (doubt, clock_doubt) = watch::channel(None);
        let scheduler = Scheduler {
            enqueuer: enqueuer.clone(),
            alarm: Arc::clone(&alarm),
            reloader: Arc::clone(&reloader),
            draws: Arc::clone(&draws),
            ledger_changed: Arc::clone(&ledger_changed),
            doubt,
        };
        let essentials = Essentials::default();
        let scheduler = scheduler.start(stop_scheduling.clone()).await?;
        let mut scheduling = vec![essentials.follow("the scheduler", scheduler)];
        let upkeep = Upkeep {
            store: store.clone(),
            node,
            clock: ages,
            retention: settings.retention.clone(),
            history,
            audit: audit.health(),
        };
        let upkeep = tokio::spawn(upkeep.run(stop_scheduling.clone()));
        scheduling.push(essentials.follow("the upkeep", upkeep));
        let (complain, company) = watch::channel(Vec::new());
        let ledger = Arc::clone(&ledger_changed);
        let heartbeat = Heartbeat {
            store: store.clone(),
            clock: Arc::clone(&clock),
            node,
            lease: settings.lease.clone(),
            pool: pool.clone(),
            signals,
            reloader: Arc::clone(&reloader),
            company: database_clock.map(|clock| Company::new(clock, called, ledger, complain)),
        };
        let heartbeat = tokio::spawn(heartbeat.run(stop.clone()));
        let serving = vec![essentials.follow("the heartbeat", heartbeat)];

        let durations = LearnedDurations::default();
        let learning =
            durations.clone().follow(store.clone(), enqueuer.events.subscribe(), stop.clone());
        tokio::spawn(learning);

        record_start(&store, &clock, node, &reloader.current()).await?;
        Ok(Self {
            settings,
            clock,
            store,
            paths,
            draws,
            first,
            node,
            pool,
            reloader,
            enqueuer,
            ledger_changed,
            clock_doubt,
            company,
            alarm,
            ticker,
            audit,
            stop_scheduling,
            stop,
            durations,
            scheduling,
            serving,
            essentials,
        })
    }

    /// What the API serves of this engine. Two things come from outside of it: complaints of other parts, and the numbers for
    /// Prometheus.
    #[must_use]
    pub fn app(
        &self,
        complaints: Box<dyn Fn() -> Vec<String> + Send + Sync>,
        metrics: Box<dyn Fn() -> BoxFuture<'static, String> + Send + Sync>,
    ) -> App {
        let live = Live {
            node: self.node,
            started_at: self.clock.now(),
            enqueuer: self.enqueuer.clone(),
            signals: self.enqueuer.signals.clone(),
            ledger_changed: Arc::clone(&self.ledger_changed),
            pool: self.pool.clone(),
            reloader: Arc::clone(&self.reloader),
            alarm: Arc::clone(&self.alarm),
            events: self.enqueuer.events.clone(),
            durations: self.durations.clone(),
            complaints,
            metrics,
            stopping: self.stop.clone(),
        };
        App {
            store: self.store.clone(),
            clock: Arc::clone(&self.clock),
            settings: Arc::clone(&self.settings),
            paths: Arc::clone(&self.paths),
            offline_catalog: Arc::new(Catalog::empty()),
            draws: Arc::clone(&self.draws),
            live: Some(Arc::new(live)),
        }
    }

    /// What the first look at the schedules found.
    #[must_use]
    pub fn first_report(&self) -> &ReloadReport {
        &self.first
    }

    /// What records decisions, and makes jobs.
    #[must_use]
    pub(crate) fn enqueuer(&self) -> &Enqueuer {
        &self.enqueuer
    }

    /// What the workers do.
    #[must_use]
    pub fn pool(&self) -> &PoolHandle {
        &self.pool
    }

    /// The schedules.
    #[must_use]
    pub fn reloader(&self) -> &Arc<Reloader> {
        &self.reloader
    }

    /// What happens.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.enqueuer.events.subscribe()
    }

    /// How the audit log is doing.
    #[must_use]
    pub fn audit_health(&self) -> watch::Receiver<AuditHealth> {
        self.audit.health()
    }

    /// Why nothing is scheduled, while the clock is not believed.
    #[must_use]
    pub fn clock_doubt(&self) -> watch::Receiver<Option<String>> {
        self.clock_doubt.clone()
    }

    /// What does not fit together among the nodes of the database.
    #[must_use]
    pub fn company(&self) -> watch::Receiver<Vec<String>> {
        self.company.clone()
    }

    /// What tells the pool, here and on other nodes, that there is something to do.
    #[must_use]
    pub fn signals(&self) -> &Signals {
        &self.enqueuer.signals
    }

    /// The scheduler's sign of life.
    #[must_use]
    pub fn alarm(&self) -> Arc<Alarm> {
        Arc::clone(&self.alarm)
    }

    /// Cancelled when nothing new is to be made.
    #[must_use]
    pub fn stop_scheduling(&self) -> CancellationToken {
        self.stop_scheduling.clone()
    }

    /// Cancelled when everything is to end.
    #[must_use]
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Takes over a task that ends with [`stop_token`](Self::stop_token), so that stopping waits for it. If it
    /// panics, that [breaks](Self::broken) the engine.
    pub fn keep(&mut self, name: &'static str, task: JoinHandle<()>) {
        self.serving.push(self.essentials.follow(name, task));
    }

    /// Waits for something after which the engine must not go on, and says what it is. It is not to be drained then: nothing that
    /// happens now could be recorded.
    pub async fn broken(&self) -> String {
        let mut condition = self.store.condition();
        let lost = async {
            match condition.wait_for(|now| matches!(now, Condition::Lost(_))).await.as_deref() {
                Ok(Condition::Lost(why)) => why.clone(),
                _ => "the threads of the database have ended".to_owned(),
            }
        };
        let mut audit = self.audit.health();
        tokio::select! {
            biased;
            why = lost => why,
            what = self.essentials.broken() => what,
            () = self.pool.ended() => "the pool of workers has ended".to_owned(),
            _ = audit.wait_for(|_| false) => "the audit log's writer has ended".to_owned(),
        }
    }

    /// Takes nothing new, and waits until what runs has ended or is the next daemon's; when `patience` ends before that, what still runs
    /// is given back. Returns what `patience` said then.
    pub async fn drain(
        &self,
        departure: Departure,
        patience: impl Future<Output = &'static str>,
    ) -> Option<&'static str> {
        self.stop_scheduling.cancel();
        let mut drained = std::pin::pin!(self.pool.drain(departure));
        let cut_short = tokio::select! {
            biased;
            () = &mut drained => None,
            why = patience => Some(why),
        };
        if let Some(why) = cut_short {
            let running = self.pool.status().running.len();
            tracing::warn!(why, running, "giving back what still runs");
            self.pool.interrupt();
            tokio::select! {
                biased;
                () = &mut drained => {}
                unrecorded = self.record_is_hopeless() => tracing::error!(
                    unrecorded,
                    "the ends of attempts could not be recorded; those of kept programs are recorded at the next start, the other jobs are marked interrupted and run again at the next start"
                ),
            }
        }
        cut_short
    }

    /// Returns when all that the drain waits for is a store that refuses and goes on refusing. Without this, a full disk would keep
    /// the daemon from stopping.
    async fn record_is_hopeless(&self) -> usize {
        let mut was_stuck = false;
        loop {
            tokio::time::sleep(UNRECORDED_PATIENCE).await;
            let now = self.pool.status();
            let is_stuck = now.store_error.is_some()
                && now.unrecorded + now.not_put_back > 0
                && now.running.is_empty();
            if is_stuck && was_stuck {
                return now.unrecorded;
            }
            was_stuck = is_stuck;
        }
    }

    /// Ends every part of a drained engine, and records that and why it stopped. Returns the store, which is for the caller to close.
    pub async fn finish(mut self, reason: &str, cut_short: bool) -> Store {
        for task in self.scheduling.drain(..) {
            report_panic(task.await);
        }
        let detail = json!({ "reason": reason, "cut_short": cut_short });
        self.record_event("daemon.stopped", detail).await;
        // The heartbeat ends first: a beat after the next line would say that this node was declared dead.
        self.stop.cancel();
        let (node, now) = (self.node, self.clock.now());
        let stopped = self.store.write_results(move |conn| nodes::mark_stopped(conn, node, now));
        if let Err(error) = stopped.await {
            tracing::error!(error = %Chain(&error), "the store does not know that this node stopped");
        }
        if let Err(error) = self.audit.stop().await {
            tracing::error!(error = %Chain(&error), "the audit log lacks lines; the next start writes them");
        }
        let all = futures_util::future::join_all(self.serving.drain(..));
        match tokio::time::timeout(SERVING_GRACE, all).await {
            Ok(ended) => ended.into_iter().for_each(report_panic),
            Err(_late) => tracing::warn!("some answers were cut off"),
        }
        self.ticker.stop().await;
        self.store
    }

    /// Puts an event of the daemon itself into the audit log; a store that refuses is only reported, because nobody waits for it.
    async fn record_event(&self, event: &'static str, detail: serde_json::Value) {
        let new = AuditEvent::new(event, &Actor::system(), "daemon", &detail, self.clock.now());
        let node = self.node;
        if let Err(error) = self.store.write(move |conn| append_event(conn, node, &new)).await {
            tracing::error!(error = %Chain(&error), event, "the audit log lacks an event");
        }
    }
}

/// Hears of what happens on the other nodes of the database.
fn listen(
    store: &Store,
    [work, called, ledger_changed]: [&Arc<Notify>; 3],
) -> Result<Option<Wakeups>, StoreError> {
    let wakes = [(News::Work, work), (News::Orders, called), (News::Ledger, ledger_changed)];
    let wakes = wakes.map(|(news, wakes)| (news, Arc::clone(wakes)));
    Wakeups::open(store.url(), move |heard| {
        wakes.iter().filter(|(news, _)| *news == heard).for_each(|(_, wakes)| wakes.notify_one());
    })
}

async fn start_audit(
    store: &Store,
    clock: &SharedClock,
    options: audit_writer::Options,
    threads: Threads,
) -> Result<AuditHandle, AuditError> {
    match threads {
        Threads::Own => audit_writer::start(store.clone(), Arc::clone(clock), options).await,
        Threads::None { .. } => {
            let opened = audit_writer::open(store.clone(), Arc::clone(clock), options).await;
            let (handle, run) = opened?;
            tokio::spawn(run);
            Ok(handle)
        }
    }
}

/// What a node has when it has joined.
struct Joined {
    node: NodeId,
    draws: Arc<Draws>,
    taken_over: Vec<TakenOver>,
}

/// Registers this node, takes over what goes on, gives back what dead nodes left running beside that, and reads the seed that all nodes
/// share.
async fn join(
    store: &Store,
    clock: &SharedClock,
    settings: &Settings,
    identity: Identity,
    keepers: &Keepers,
) -> Result<Joined, StoreError> {
    let now = clock.now();
    let lease_until = now + settings.lease.duration.get();
    let Identity { node: identity, instance, fresh_seed } = identity;
    let host = identity.name.clone();
    let new = NewNode { identity, instance };
    let alone = matches!(store.url(), DatabaseUrl::Sqlite(_));
    let kept = keepers.attempts();
    let known = kept.clone();
    let (node, seed, adoption, rescued) = store
        .write(move |conn: &mut Conn| {
            let node = nodes::register(conn, &new, now, lease_until)?;
            let seed = nodes::jitter_seed_or(conn, &fresh_seed)?;
            // The seed is random, and so names the database.
            let (mine, foreign): (Vec<_>, Vec<_>) =
                known.iter().partition(|attempt| attempt.database == seed);
            let names = |attempts: Vec<&KeptAttempt>| -> Vec<AttemptName> {
                attempts.iter().map(|attempt| attempt.name).collect()
            };
            let mut adoption = adopt(conn, node, &names(mine))?;
            adoption.refused.extend(names(foreign));
            for attempt in &adoption.refused {
                append_event(conn, node, &refusal(*attempt, now))?;
            }
            let mut rescued: Vec<JobId> = Vec::new();
            // Where others may be alive, the heartbeat finds out who is not.
            let dead = if alone { nodes::others(conn, node)? } else { Vec::new() };
            for other in dead {
                rescued.extend(rescue(conn, NodeId(other.id), now)?);
            }
            Ok((node, seed, adoption, rescued))
        })
        .await?;
    keepers.belong_to(&seed);
    if !rescued.is_empty() {
        tracing::warn!(
            jobs = rescued.len(),
            "jobs that were interrupted by a crash are given back"
        );
    }
    let Adoption { adopted, refused } = adoption;
    for attempt in &refused {
        tracing::warn!(
            job.id = attempt.job.0,
            attempt = attempt.number,
            "what a program came to is refused, and the program ended: its job was given to another attempt, or is in another database"
        );
    }
    let elapsed = |attempt: &Adopted| {
        let name = AttemptName { job: attempt.job.id, number: attempt.job.number };
        kept.iter().find(|kept| kept.name == name).map(|kept| kept.elapsed)
    };
    let taken_over: Vec<TakenOver> = adopted
        .into_iter()
        .filter_map(|attempt| Some(TakenOver { elapsed: elapsed(&attempt)?, attempt }))
        .collect();
    let is_taken = |name: AttemptName| {
        taken_over.iter().any(|TakenOver { attempt: Adopted { job, .. }, .. }| {
            (job.id, job.number) == (name.job, name.number)
        })
    };
    kept.iter().filter(|kept| !is_taken(kept.name)).for_each(|kept| keepers.forget(kept.name));
    Ok(Joined { node, draws: Arc::new(Draws { host, seed }), taken_over })
}

/// What the audit log tells of an attempt that came too late.
fn refusal(attempt: AttemptName, now: Timestamp) -> AuditEvent {
    let detail = json!({ "number": attempt.number });
    let subject = format!("job:{}", attempt.job);
    AuditEvent::new("attempt.refused", &Actor::system(), &subject, &detail, now)
}

fn pool_settings(settings: &Settings) -> PoolSettings {
    let timeouts = settings
        .queues
        .iter()
        .filter_map(|(name, queue)| Some((name.clone(), queue.timeout?.get())))
        .collect();
    PoolSettings {
        slots: usize::from(settings.workers.count.get()),
        reserved_high: usize::from(settings.workers.reserved_high),
        queue_timeouts: timeouts,
        timeout: Some(settings.defaults.timeout.get()),
        stop_grace: STOP_GRACE,
        max_output: MAX_OUTPUT_BYTES,
    }
}

/// What files limit, as they say at the moment of the claim.
/// Takes the steps that are left with batches that were cancelled or retried when a daemon ended. They are not waited for.
async fn go_on_with_batches(enqueuer: &Enqueuer) -> Result<(), StoreError> {
    let unfinished = enqueuer.store.read(batch_orders::unfinished).await?;
    if unfinished.is_empty() {
        return Ok(());
    }
    let Enqueuer { store, clock, node, ageing, signals, .. } = enqueuer.clone();
    tokio::spawn(async move {
        for batch in unfinished {
            let context = SubmitContext { now: clock.now(), node, ageing };
            let stop = |jobs| {
                signals.cancel(jobs);
                signals.work();
            };
            if let Err(error) = batch_orders::finish(&store, batch, context, stop).await {
                tracing::error!(error = %Chain(&error), job.id = batch.0, "what was ordered of a batch is not finished; the next start goes on with it");
            }
        }
    });
    Ok(())
}

/// Attempts of an earlier daemon with the breakers that their ends count for.
async fn held_to_breakers(
    store: &Store,
    declared: Limits,
    mut taken_over: Vec<TakenOver>,
) -> Result<Vec<TakenOver>, StoreError> {
    if taken_over.is_empty() {
        return Ok(taken_over);
    }
    let jobs: Vec<JobId> = taken_over.iter().map(|one| one.attempt.job.id).collect();
    let mut held_to = store.read(move |conn| breakers::of_running(conn, &declared, &jobs)).await?;
    for TakenOver { attempt, .. } in &mut taken_over {
        attempt.job.held_to = held_to.remove(&attempt.job.id).unwrap_or_default();
    }
    Ok(taken_over)
}

fn declared_limits(settings: Arc<Settings>, reloader: Arc<Reloader>) -> FindLimits {
    Arc::new(move || settings.limits(reloader.current().kinds()))
}

/// The handlers of the kinds that files declare, as they are at the moment of the attempt.
fn declared_kinds(reloader: Arc<Reloader>, commands: CommandHandler) -> Find {
    Arc::new(move |name| {
        let declared = Arc::clone(kind(reloader.current().kinds(), name)?.declared()?);
        Some(Arc::new(DeclaredHandler::new(declared, commands.clone())))
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
    let event = AuditEvent::new("daemon.started", &Actor::system(), "daemon", &detail, clock.now());
    store.write(move |conn| append_event(conn, node, &event)).await
}

/// A part that panicked has ended, which is said once, here.
pub(super) fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a part of the daemon had panicked");
    }
}
