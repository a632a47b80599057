//! The pool: one task that owns the slots.
//!
//! What it needs of the world is here. [`state`] is the task, [`handle`] is what others have of it, [`round`] is its side of a round
//! trip to the store, [`ahead`] is what was claimed and waits for a worker, [`start`] makes attempts of claimed jobs, [`progress`] is what
//! those tell meanwhile, and [`announce`] tells the world.

mod ahead;
mod announce;
mod handle;
mod progress;
mod round;
mod start;
mod state;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc};

use self::ahead::Ahead;
pub use self::handle::PoolHandle;
use self::state::State;
use super::outlook::Outlook;
use super::registry::Registry;
use super::status::Board;
use crate::clock::SharedClock;
use crate::jobs::RunPaths;
use crate::jobs::command::Keepers;
use crate::model::{Event, NodeId, NodeIdentity};
use crate::queue::{Limits, SignalReceiver};
use crate::store::Store;
use crate::store::adopt::Adopted;

/// Gives a random number from 0 up to 1 each time.
pub type Draw = Arc<dyn Fn() -> f64 + Send + Sync>;

/// Tells what files limit. Asked for each claim, because files change.
pub type FindLimits = Arc<dyn Fn() -> Limits + Send + Sync>;

/// How the pool is to work.
#[derive(Debug, Clone)]
pub struct PoolSettings {
    /// How many attempts run at once.
    pub slots: usize,
    /// How many of them are kept for jobs of high priority.
    pub reserved_high: usize,
    /// The longest an attempt may take when its job does not say; per queue, then for all.
    pub queue_timeouts: BTreeMap<String, Duration>,
    /// The same for all other queues.
    pub timeout: Option<Duration>,
    /// How long an attempt may go on after it was told to stop.
    pub stop_grace: Duration,
    /// How much output of an attempt is kept, in bytes.
    pub max_output: u64,
}

/// Everything the pool needs of the world.
pub struct Pool {
    /// Where the queue is.
    pub store: Store,
    /// Who we are.
    pub node: NodeId,
    /// By what we can be chosen.
    pub identity: NodeIdentity,
    /// What time it is.
    pub clock: SharedClock,
    /// Who does which kind.
    pub registry: Registry,
    /// Where the daemon keeps things.
    pub paths: Arc<RunPaths>,
    /// How to work.
    pub settings: PoolSettings,
    /// Tells of work and of cancelled jobs.
    pub signals: SignalReceiver,
    /// Where to announce what happens.
    pub events: broadcast::Sender<Event>,
    /// Where the jitter of retries comes from.
    pub draw: Draw,
    /// What files limit.
    pub limits: FindLimits,
    /// Who keeps programs beyond the end of this daemon.
    pub keepers: Keepers,
    /// What earlier daemons have begun and this one goes on with.
    pub taken_over: Vec<TakenOver>,
}

/// An attempt that an earlier daemon has begun, and whose program goes on or has ended meanwhile.
#[derive(Debug, Clone, PartialEq)]
pub struct TakenOver {
    /// The attempt, which belongs to this node by now.
    pub attempt: Adopted,
    /// How long ago it began.
    pub elapsed: Duration,
}

/// What becomes of kept programs when a pool ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Departure {
    /// Nobody comes after this daemon: they end as everything else does.
    #[default]
    Stop,
    /// The next daemon goes on with them.
    HandOver,
}

impl Pool {
    /// Starts the pool.
    #[must_use]
    pub fn spawn(mut self) -> PoolHandle {
        let (orders, order_receiver) = mpsc::unbounded_channel();
        let (done, done_receiver) = mpsc::unbounded_channel();
        let board = Arc::new(Board::new(self.settings.slots, self.keepers.clone()));
        let taken_over = std::mem::take(&mut self.taken_over);
        let mut state = State {
            pool: self,
            running: BTreeMap::new(),
            ahead: Ahead::default(),
            unbegun: Vec::new(),
            ended: Vec::new(),
            unrecorded: BTreeMap::new(),
            round: None,
            cancelled_meanwhile: Vec::new(),
            looks: true,
            reports: false,
            outlook: Outlook::default(),
            done,
            drained: Vec::new(),
            is_held: false,
            works_until: None,
            next_due: None,
            board: Arc::clone(&board),
            retry_at: None,
            agreed: 0,
        };
        taken_over.into_iter().for_each(|attempt| state.go_on(attempt));
        tokio::spawn(state.run(order_receiver, done_receiver));
        PoolHandle { orders, board }
    }
}

impl PoolSettings {
    /// Settings for tests and examples: `slots` attempts at once, no limits.
    #[must_use]
    pub fn plain(slots: usize) -> Self {
        Self {
            slots,
            reserved_high: 0,
            queue_timeouts: BTreeMap::new(),
            timeout: None,
            stop_grace: Duration::from_secs(30),
            max_output: 10 << 20,
        }
    }
}
