//! What others have of a running pool.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::Departure;
use crate::worker::status::{Board, PoolStatus};

/// The handle on a running pool.
#[derive(Clone)]
pub struct PoolHandle {
    pub(super) orders: mpsc::UnboundedSender<Order>,
    pub(super) board: Arc<Board>,
}

pub(super) enum Order {
    /// Take nothing new; answer when the last attempt has ended and is recorded, or goes on without this daemon.
    Drain(oneshot::Sender<()>),
    /// Take nothing new for as long as this says so.
    Hold(bool),
    /// Begin nothing from then on, on the clock that nobody sets.
    WorkUntil(Duration),
}

impl PoolHandle {
    /// Takes nothing new and returns when the last running attempt is recorded, or is the next daemon's.
    pub async fn drain(&self, departure: Departure) {
        let (sender, receiver) = oneshot::channel();
        self.board.seen().departure = departure;
        if self.orders.send(Order::Drain(sender)).is_ok() {
            let _pool_gone = receiver.await;
        }
    }

    /// Tells everything that runs to stop; attempts are given back and not charged.
    pub fn interrupt(&self) {
        self.board.interrupt();
    }

    /// Lets attempts begin until then, on the clock that nobody sets, or until this says another time. Whoever never says it sets no limit.
    pub fn work_until(&self, until: Duration) {
        let _gone = self.orders.send(Order::WorkUntil(until));
    }

    /// The same as [`Self::interrupt`] for a node whose lease runs out: what would go on without this daemon stops as well, because others will
    /// run its jobs.
    pub fn interrupt_all(&self) {
        self.board.interrupt_all();
    }

    /// The same without any patience: what still runs is killed.
    pub fn kill_all(&self) {
        self.board.kill_all();
    }

    /// Takes nothing new until it is told otherwise; what runs goes on.
    pub fn hold(&self, is_held: bool) {
        let _gone = self.orders.send(Order::Hold(is_held));
    }

    /// Returns when the pool is no more: after a drain, or because it panicked.
    pub async fn ended(&self) {
        self.orders.closed().await;
    }

    /// What the pool is doing.
    #[must_use]
    pub fn status(&self) -> PoolStatus {
        self.board.status()
    }
}
