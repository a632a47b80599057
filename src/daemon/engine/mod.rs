//! The engine: everything that decides, queues, runs and records, without what ties it to a machine.
//!
//! `startup` puts the lock, the logs, the watcher, the sockets and the signals around it, which are what makes a process a daemon. A
//! simulation puts a driven clock, scripted handlers and faults around the same engine.

mod join;
mod start;
mod stop;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{Notify, broadcast, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::essentials::Essentials;
use crate::api::{App, Live};
use crate::audit::{AuditHandle, AuditHealth};
use crate::catalog::{Catalog, ReloadReport, Reloader};
use crate::clock::{CautiousClock, SharedClock};
use crate::config::Settings;
use crate::jobs::RunPaths;
use crate::jobs::command::Keepers;
use crate::model::{Event, NodeId, NodeIdentity};
use crate::queue::Signals;
use crate::scheduler::{Alarm, Draws, Enqueuer, Ticker};
use crate::store::Store;
use crate::upkeep::History;
use crate::worker::{Draw, LearnedDurations, PoolHandle, Registry};

pub use super::others::{AskTime, OpenWire, Others};
pub(super) use stop::report_panic;

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
    /// That of the run which had the same data before and is over for certain.
    pub predecessor: Option<String>,
    /// Becomes the seed of jitter where the database has none yet.
    pub fresh_seed: String,
}

/// What an engine is built from.
pub struct Parts {
    /// How it is set up.
    pub settings: Arc<Settings>,
    /// What time it is.
    pub clock: SharedClock,
    /// How it meets the other nodes of its database, where there can be any. What time it is then follows from theirs.
    pub others: Option<Others>,
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
}
