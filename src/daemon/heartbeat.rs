//! Shows that this node lives, and gives back what dead ones left running.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::company::Company;
use super::lease::{Allows, OwnLease, Seen};
use crate::api::TICK_OVERDUE;
use crate::catalog::Reloader;
use crate::clock::SharedClock;
use crate::config::LeaseSettings;
use crate::model::{Chain, JobId, NodeId};
use crate::queue::{Signals, after_loss};
use crate::scheduler::Alarm;
use crate::store::nodes::Beat;
use crate::store::{Conn, Store, StoreError, finish, nodes};
use crate::worker::PoolHandle;

/// What the heartbeat works with.
pub(super) struct Heartbeat {
    pub(super) store: Store,
    pub(super) clock: SharedClock,
    pub(super) node: NodeId,
    pub(super) lease: LeaseSettings,
    pub(super) pool: PoolHandle,
    pub(super) signals: Signals,
    pub(super) reloader: Arc<Reloader>,
    /// What there is only where other nodes can be.
    pub(super) company: Option<Company>,
}

/// How often to look whether a beat is due where other nodes wait for it. A timer stands still while the machine sleeps, so a longer one
/// would leave the node in the belief that it lives for just as long after it woke up.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Heartbeat {
    /// Renews the lease until `stop`. A node that cannot renew in time is presumed dead by others, which then run its jobs: it stops its
    /// own attempts before that.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        match self.company.take() {
            None => self.run_alone(stop).await,
            Some(company) => self.run_among_others(company, stop).await,
        }
    }

    /// The lock on an SQLite database shows that there is nobody else.
    async fn run_alone(self, stop: CancellationToken) {
        let mut look = ticks(self.lease.heartbeat.get());
        let mut refused = Once::default();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = look.tick() => {}
            }
            let beaten = self.beat(None).await;
            refused.tell(beaten.err());
        }
    }

    async fn run_among_others(self, mut company: Company, stop: CancellationToken) {
        let now = self.clock.since_boot();
        let (renewed, seen) = watch::channel(now);
        self.pool.work_until(self.lease_from(now).work_until());
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            // First, before anything is written: after a sleep the lease is over, and others may have the jobs already.
            never = self.guard(seen) => match never {},
            never = self.beat_on(&mut company, &renewed) => match never {},
        }
    }

    /// Sees to it that nothing runs here when others may run it. It asks nobody: a database that says nothing must not keep it from that.
    async fn guard(&self, mut renewed: watch::Receiver<Duration>) -> Infallible {
        let mut is_told = false;
        loop {
            let now = self.clock.since_boot();
            let lease = self.lease_from(*renewed.borrow_and_update());
            let allows = lease.allows(now);
            if allows != Allows::Work && !is_told {
                tracing::warn!("the lease is nearly over; what this node runs is given back");
            }
            is_told = allows != Allows::Work;
            match allows {
                Allows::Work => {}
                Allows::Ending => self.pool.interrupt_all(),
                Allows::Nothing => self.pool.kill_all(),
            }
            let wait = lease.unchanged_for(now).unwrap_or(LOOK_EVERY).min(LOOK_EVERY);
            tokio::select! {
                biased;
                _ = renewed.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    fn lease_from(&self, renewed: Duration) -> OwnLease<'_> {
        OwnLease { renewed, settings: &self.lease }
    }

    async fn beat_on(
        &self,
        company: &mut Company,
        renewed: &watch::Sender<Duration>,
    ) -> Infallible {
        let every = self.lease.heartbeat.get();
        // Finer than the beats, or one that is missed by a hair is as late as a whole one.
        let mut look = ticks((every / 4).min(LOOK_EVERY));
        let mut tried = None;
        let mut refused = Once::default();
        let called = Arc::clone(&company.called);
        loop {
            tokio::select! {
                biased;
                _ = look.tick() => {}
                () = called.notified() => {
                    company.obey(self).await;
                    continue;
                }
            }
            let now = self.clock.since_boot();
            if tried.is_some_and(|tried| now.saturating_sub(tried) < every) {
                continue;
            }
            tried = Some(now);
            // A server that says nothing must not keep this node from trying again.
            match tokio::time::timeout(every, self.beat(company.skew())).await {
                Ok(Ok(was_alive)) => {
                    if !was_alive {
                        tracing::error!("this node was declared dead; what it runs is given back");
                        self.pool.kill_all();
                    }
                    // The pool hears of it here and nowhere else: as long as no beat arrives, nothing begins.
                    self.pool.work_until(self.lease_from(now).work_until());
                    renewed.send_replace(now);
                    refused.tell(None);
                }
                Ok(Err(error)) => refused.tell(Some(error)),
                Err(_silent) => {
                    let why = format!("the database has not answered for {}", self.lease.heartbeat);
                    refused.tell(Some(StoreError::NotCommitted(why)));
                    continue;
                }
            }
            let _silent = tokio::time::timeout(every, company.look_around(self)).await;
        }
    }

    /// Returns whether this node still counted as alive.
    async fn beat(&self, clock_skew_us: Option<i64>) -> Result<bool, StoreError> {
        let node = self.node;
        let beat = Beat {
            lease_until: self.clock.now() + self.lease.duration.get(),
            revision: self.reloader.current().revision.short().to_owned(),
            clock_skew_us,
        };
        let write = move |conn: &mut Conn| nodes::heartbeat(conn, node, &beat);
        // Where others write as well, it is also the moment at which the audit log looks for what they have done.
        match self.signals.is_alone() {
            true => self.store.write_quietly(write).await,
            false => self.store.write(write).await,
        }
    }

    /// Gives back what nodes left running that have been silent for longer than a lease.
    pub(super) async fn rescue_silent(&self, others: &mut Seen) -> Result<(), StoreError> {
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
                        rescued.extend(rescue(conn, NodeId(other.id), now, finish::NODE_SILENT)?);
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

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks
}

/// Tells of a refusal once: a store that refuses for hours is no better for a line every few seconds.
#[derive(Default)]
struct Once(bool);

impl Once {
    fn tell(&mut self, refusal: Option<StoreError>) {
        let is_told = std::mem::replace(&mut self.0, refusal.is_some());
        if let Some(error) = refusal.filter(|_| !is_told) {
            tracing::warn!(error = %Chain(&error), "the lease could not be renewed; it is tried again at every beat");
        }
    }
}

/// Gives back what a dead node left running, and notes that it is dead. `why` is what the attempts are told to have ended of.
pub(super) fn rescue(
    conn: &mut Conn,
    dead: NodeId,
    now: Timestamp,
    why: &str,
) -> Result<Vec<JobId>, StoreError> {
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
