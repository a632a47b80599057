//! What the handlers share.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use jiff::Timestamp;

use super::problem::Problem;
use crate::catalog::{Catalog, Reloader};
use crate::clock::SharedClock;
use crate::config::Settings;
use crate::jobs::RunPaths;
use crate::model::{Actor, Event, NodeId};
use crate::queue::Signals;
use crate::scheduler::{Alarm, Draws, Enqueuer};
use crate::store::Store;
use crate::worker::{LearnedDurations, PoolHandle};
use tokio::sync::broadcast;

/// Everything a request may need. The same routes serve the running daemon and, without [`Live`], a command line that reads the
/// database while the daemon is down.
#[derive(Clone)]
pub struct App {
    /// The database.
    pub store: Store,
    /// What time it is.
    pub clock: SharedClock,
    /// The settings.
    pub settings: Arc<Settings>,
    /// Where the daemon keeps things.
    pub paths: Arc<RunPaths>,
    /// The schedules, where no daemon holds them.
    pub offline_catalog: Arc<Catalog>,
    /// What offsets and jitter are drawn from.
    pub draws: Arc<Draws>,
    /// The running daemon; `None` when there is none.
    pub live: Option<Arc<Live>>,
}

/// The parts of a running daemon that requests act on.
pub struct Live {
    /// Who we are.
    pub node: NodeId,
    /// When we started.
    pub started_at: Timestamp,
    /// Makes jobs of schedules.
    pub enqueuer: Enqueuer,
    /// Wakes the pool.
    pub signals: Signals,
    /// Tells the scheduler that a ledger was changed by hand.
    pub ledger_changed: Arc<tokio::sync::Notify>,
    /// What the workers do.
    pub pool: PoolHandle,
    /// Loads schedules.
    pub reloader: Arc<Reloader>,
    /// The scheduler's sign of life.
    pub alarm: Arc<Alarm>,
    /// What happens.
    pub events: broadcast::Sender<Event>,
    /// How long jobs take.
    pub durations: LearnedDurations,
    /// What is wrong right now, from parts that have their own health (the audit log, the diagnostic log).
    pub complaints: Box<dyn Fn() -> Vec<String> + Send + Sync>,
    /// Numbers for Prometheus, as OpenMetrics text.
    pub metrics: Box<dyn Fn() -> BoxFuture<'static, String> + Send + Sync>,
    /// Closed when the daemon stops, so that endless answers end.
    pub stopping: tokio_util::sync::CancellationToken,
}

impl App {
    /// The schedules that are in force.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        match &self.live {
            Some(live) => live.reloader.current(),
            None => Arc::clone(&self.offline_catalog),
        }
    }

    /// The running daemon.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn live(&self) -> Result<&Arc<Live>, Problem> {
        self.live.as_ref().ok_or_else(Problem::needs_daemon)
    }
}

/// Where a request came from, as the kernel vouches for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// Over the Unix socket, from a process of this user.
    Local {
        /// The user's number.
        uid: u32,
        /// Its name, looked up once for a connection: a request must not cost the reading of a file.
        name: Option<Arc<str>>,
    },
    /// Over TCP, from this address.
    Remote(std::net::SocketAddr),
    /// In this process.
    InProcess,
}

impl Peer {
    /// The user of this number on this machine.
    #[must_use]
    pub fn local(uid: u32) -> Self {
        Self::Local { uid, name: user_name(uid).map(Arc::from) }
    }

    /// How the audit log names it.
    #[must_use]
    pub fn actor(&self) -> Actor {
        match self {
            Self::Local { uid, name } => Actor::named(match name {
                Some(name) => format!("local:{name}({uid})"),
                None => format!("local:uid={uid}"),
            }),
            Self::Remote(address) => Actor::named(format!("remote:{}", address.ip())),
            Self::InProcess => Actor::named("local:in-process"),
        }
    }
}

/// The name of a user of this machine, as far as it is in `/etc/passwd`.
pub(crate) fn user_name(uid: u32) -> Option<String> {
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    let number = uid.to_string();
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then(|| name.to_owned())
    })
}
