//! Shows that this node lives, and gives back what dead ones left running.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::api::TICK_OVERDUE;
use crate::clock::SharedClock;
use crate::config::LeaseSettings;
use crate::model::{Chain, JobId, NodeId};
use crate::queue::{Signals, after_loss};
use crate::scheduler::Alarm;
use crate::store::{Conn, DatabaseUrl, Store, StoreError, finish, nodes};
use crate::worker::PoolHandle;

/// What the heartbeat works with.
pub(super) struct Heartbeat {
    pub(super) store: Store,
    pub(super) clock: SharedClock,
    pub(super) node: NodeId,
    pub(super) lease: LeaseSettings,
    pub(super) pool: PoolHandle,
    pub(super) signals: Signals,
}

impl Heartbeat {
    /// Renews the lease until `stop`. A node that cannot renew in time is presumed dead by others, which then run its jobs: it stops its
    /// own attempts before that.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut beat = tokio::time::interval(self.lease.heartbeat.get());
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut renewed = self.clock.since_boot();
        let mut is_refused = false;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = beat.tick() => {}
            }
            match self.beat().await {
                Ok(true) => {
                    renewed = self.clock.since_boot();
                    is_refused = false;
                }
                Ok(false) => {
                    is_refused = false;
                    tracing::error!("this node was declared dead; what it runs is given back");
                    self.pool.interrupt();
                }
                Err(error) => {
                    // Once: a store that refuses for hours is no better for a line every few seconds.
                    if !std::mem::replace(&mut is_refused, true) {
                        tracing::warn!(error = %Chain(&error), "the lease could not be renewed; it is tried again at every beat");
                    }
                }
            }
            let margin = self.lease.heartbeat.get();
            if self.clock.since_boot().saturating_sub(renewed) + margin >= self.lease.duration.get()
                && matches!(self.store.url(), DatabaseUrl::Postgres(_))
            {
                self.pool.interrupt();
            }
        }
    }

    async fn beat(&self) -> Result<bool, StoreError> {
        let (node, now) = (self.node, self.clock.now());
        let until = now + self.lease.duration.get();
        let shared = matches!(self.store.url(), DatabaseUrl::Postgres(_));
        let (alive, rescued) = self
            .store
            .write(move |conn| {
                let alive = nodes::heartbeat(conn, node, until)?;
                // On SQLite the lock on the data directory shows that there is nobody else.
                let rescued = if shared { rescue_lost(conn, node, now)? } else { Vec::new() };
                Ok((alive, rescued))
            })
            .await?;
        if !rescued.is_empty() {
            tracing::warn!(jobs = rescued.len(), "jobs of a lost node were given back");
            self.signals.work();
        }
        Ok(alive)
    }
}

/// Gives back what nodes whose lease is over left running.
fn rescue_lost(conn: &mut Conn, me: NodeId, now: Timestamp) -> Result<Vec<JobId>, StoreError> {
    let mut rescued = Vec::new();
    for other in nodes::others(conn, me)? {
        if Timestamp::from(other.lease_until) < now {
            rescued.extend(rescue(conn, NodeId(other.id), now)?);
        }
    }
    Ok(rescued)
}

/// Gives back what a dead node left running, and notes that it is dead.
pub(super) fn rescue(
    conn: &mut Conn,
    dead: NodeId,
    now: Timestamp,
) -> Result<Vec<JobId>, StoreError> {
    let why = "interrupted: the daemon ended without finishing it";
    let rescued = finish::rescue(conn, dead, now, why, |loss| after_loss(loss, now))?;
    nodes::mark_stopped(conn, dead, now)?;
    Ok(rescued)
}

/// Feeds systemd's watchdog, but only while the scheduler ticks and the store answers.
pub(super) async fn watchdog(
    period: Duration,
    alarm: Arc<Alarm>,
    store: Store,
    stop: CancellationToken,
    feed: impl Fn(),
) {
    let mut tick = tokio::time::interval(period / 2);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let answered =
            tokio::time::timeout(period / 2, store.read(|conn| nodes::list(conn, 1).map(|_| ())))
                .await;
        // A store that says no is alive, and a restart would not help it; one that says nothing is not.
        if is_alive(answered.is_ok(), alarm.since_last_tick()) {
            feed();
        }
    }
}

/// Whether the daemon still does what it is there for.
fn is_alive(store_answers: bool, since_last_tick: Duration) -> bool {
    store_answers && since_last_tick < TICK_OVERDUE
}

#[cfg(test)]
#[path = "heartbeat_tests.rs"]
mod tests;
