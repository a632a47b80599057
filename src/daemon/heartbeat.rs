//! Shows that this node lives, and gives back what dead ones left running.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::lease::{OwnLease, Seen};
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

/// How often to look whether a beat is due where other nodes wait for it. A timer stands still while the machine sleeps, so a longer one
/// would leave the node in the belief that it lives for just as long after it woke up.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Heartbeat {
    /// Renews the lease until `stop`. A node that cannot renew in time is presumed dead by others, which then run its jobs: it stops its
    /// own attempts before that.
    pub(super) async fn run(self, stop: CancellationToken) {
        let is_shared = matches!(self.store.url(), DatabaseUrl::Postgres(_));
        let every = self.lease.heartbeat.get();
        let mut look = tokio::time::interval(if is_shared { every.min(LOOK_EVERY) } else { every });
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut others = Seen::default();
        let mut lease = OwnLease { renewed: self.clock.since_boot(), settings: &self.lease };
        let mut tried = None;
        let mut is_refused = false;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = look.tick() => {}
            }
            let now = self.clock.since_boot();
            if tried.is_some_and(|tried| now.saturating_sub(tried) < every) && is_shared {
                continue;
            }
            tried = Some(now);
            // Before anything is written: after a sleep the lease is over, and others may have the jobs already.
            if is_shared && lease.is_nearly_over(now) {
                tracing::warn!("the lease is over or nearly so; what this node runs is given back");
                self.pool.interrupt();
            }
            match self.beat(is_shared).await {
                Ok(true) => {
                    lease.renewed = now;
                    is_refused = false;
                }
                Ok(false) => {
                    is_refused = false;
                    tracing::error!("this node was declared dead; what it runs is given back");
                    self.pool.interrupt();
                    lease.renewed = now;
                }
                Err(error) => {
                    // Once: a store that refuses for hours is no better for a line every few seconds.
                    if !std::mem::replace(&mut is_refused, true) {
                        tracing::warn!(error = %Chain(&error), "the lease could not be renewed; it is tried again at every beat");
                    }
                }
            }
            // On SQLite the lock on the data directory shows that there is nobody else.
            if is_shared && let Err(error) = self.rescue_silent(&mut others).await {
                tracing::warn!(error = %Chain(&error), "lost nodes could not be looked for");
            }
        }
    }

    async fn beat(&self, is_shared: bool) -> Result<bool, StoreError> {
        let (node, now) = (self.node, self.clock.now());
        let until = now + self.lease.duration.get();
        let beat = move |conn: &mut Conn| nodes::heartbeat(conn, node, until);
        // Where others write as well, it is also the moment at which the audit log looks for what they have done.
        if is_shared { self.store.write(beat).await } else { self.store.write_quietly(beat).await }
    }

    /// Gives back what nodes left running that have been silent for longer than a lease.
    async fn rescue_silent(&self, others: &mut Seen) -> Result<(), StoreError> {
        let (me, now) = (self.node, self.clock.now());
        let alive = self.store.read(move |conn| nodes::others(conn, me)).await?;
        let silent = others.silent(&alive, self.clock.since_boot(), self.lease.duration.get());
        if silent.is_empty() {
            return Ok(());
        }
        let rescued = self
            .store
            .write(move |conn| {
                let mut rescued = Vec::new();
                for other in nodes::others(conn, me)? {
                    // One that has spoken in the meantime is alive.
                    if silent.contains(&other) {
                        rescued.extend(rescue(conn, NodeId(other.id), now)?);
                    }
                }
                Ok(rescued)
            })
            .await?;
        if !rescued.is_empty() {
            tracing::warn!(jobs = rescued.len(), "jobs of a lost node were given back");
            self.signals.work();
        }
        Ok(())
    }
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
