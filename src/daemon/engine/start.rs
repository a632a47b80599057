//! Putting the parts together, in the order in which they need each other.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::{Notify, broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::join::{Joined, join};
use super::{Engine, Others, Parts, Threads};
use crate::audit::AuditHandle;
use crate::audit::writer::{self as audit_writer, AuditError};
use crate::catalog::{Catalog, LookOn, Reading, Reloader};
use crate::clock::SharedClock;
use crate::config::Settings;
use crate::daemon::company::Company;
use crate::daemon::essentials::Essentials;
use crate::daemon::heartbeat::Heartbeat;
use crate::daemon::startup::StartError;
use crate::daemon::{audit_source_of, schedule_defaults};
use crate::jobs::command::CommandHandler;
use crate::jobs::{DeclaredHandler, KINDS, kind};
use crate::model::{Actor, AuditEvent, Chain, JobId, NodeId};
use crate::queue::{Ageing, Limits, Signals};
use crate::scheduler::{Alarm, Enqueuer, Looks, Scheduler, Ticker};
use crate::store::audit::append_event;
use crate::store::jobs::SubmitContext;
use crate::store::wakeups::{Heard, News};
use crate::store::{Store, StoreError, batch_orders, breakers};
use crate::upkeep::Upkeep;
use crate::worker::{Find, FindLimits, LearnedDurations, Pool, PoolSettings, TakenOver};

/// How many events a slow listener may be behind before it misses some.
const EVENTS_KEPT: usize = 4096;

/// How much of an attempt's output is kept on disk, in bytes.
const MAX_OUTPUT_BYTES: u64 = 10 << 20;

/// How long an attempt may go on after it was told to stop: longer than any kind's own grace period.
const STOP_GRACE: Duration = Duration::from_secs(60);

impl Engine {
    /// Registers as a node, gives back what dead ones left running, and starts every part.
    ///
    /// # Errors
    /// When the store, the audit log or the ticker cannot be used. What was started ends with the runtime.
    pub async fn start(parts: Parts) -> Result<Self, StartError> {
        let Parts {
            settings,
            clock,
            others,
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
            join(&store, &clock, &settings, identity, &keepers, others.is_none()).await?;
        let audit_options = audit_writer::Options {
            folder: settings.audit.dir.clone(),
            source: audit_source_of(others.is_none(), &settings),
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
        let (heard, called, ledger_changed) =
            (Arc::<Notify>::default(), Arc::<Notify>::default(), Arc::<Notify>::default());
        let (time, wakeups) = match others {
            Some(Others { time, wire }) => {
                (Some(time), Some(wire(listener([&heard, &called, &ledger_changed]))?))
            }
            None => (None, None),
        };
        let (signals, signal_receiver) = Signals::among(heard, wakeups);
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
            looks: Looks::default(),
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
            company: time.map(|time| Company::new(time, called, ledger, complain)),
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
}

/// Hears of what happens on the other nodes of the database.
fn listener([work, called, ledger_changed]: [&Arc<Notify>; 3]) -> Heard {
    let wakes = [(News::Work, work), (News::Orders, called), (News::Ledger, ledger_changed)];
    let wakes = wakes.map(|(news, wakes)| (news, Arc::clone(wakes)));
    Box::new(move |heard| {
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

/// What files limit, as they say at the moment of the claim.
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
    store.write_results(move |conn| append_event(conn, node, &event)).await
}
