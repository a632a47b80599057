//! The pool's side of a round trip to the store.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::state::{SLOW_POLL, State};
use crate::model::{AttemptName, Chain, FinishedAttempt, is_high};
use crate::store::StoreError;
use crate::store::claim::ClaimRequest;
use crate::store::finish::{Finished, finish};
use crate::worker::cycle::{Delivery, Pickup, exchange};

/// How long to wait before the store is tried again after it refused.
const STORE_PAUSE: Duration = Duration::from_secs(1);

impl State {
    /// One round trip to the store. Returns how long the pool may sleep.
    pub(super) async fn exchange(&mut self, report_progress: bool) -> Duration {
        let now = self.pool.clock.now();
        let due = self.next_due.is_none_or(|at| at <= now);
        let has_news = report_progress || !self.ended.is_empty();
        if !has_news && !self.has_room() && !due {
            return SLOW_POLL;
        }
        if self.store_error.is_some() && !self.ended.is_empty() {
            let delivered = self.deliver_results().await;
            if let Err(error) = delivered {
                return self.refused(&error);
            }
        }
        let progress = if report_progress { self.changed_progress() } else { Vec::new() };
        // A store that refuses is asked again at each tick, or attempts that say nothing would keep the pool from ever claiming again.
        let has_nothing_to_say = progress.is_empty() && self.ended.is_empty();
        if report_progress && has_nothing_to_say && self.store_error.is_none() {
            return self.sleep_until_due();
        }
        let claim = self.has_room().then(|| self.claim_request(now));
        let known = self.store_error.is_some().then(|| {
            self.running.values().map(|running| (running.job.id, running.job.attempt)).collect()
        });
        // Shared with the store and not given to it: what it refuses to record has to be offered again.
        let ended = Arc::new(std::mem::take(&mut self.ended));
        let node = self.pool.node;
        let interrupts = self.board.seen().interrupts;
        let delivery = Delivery { node, ended: Arc::clone(&ended), progress, known, claim, now };
        let answer = self.pool.store.write(move |conn| exchange(conn, &delivery)).await;
        let kept = Arc::unwrap_or_clone(ended);
        match answer {
            Ok(pickup) => {
                if self.store_error.take().is_some() {
                    let mut seen = self.board.seen();
                    (seen.store_error, seen.unrecorded) = (None, 0);
                    drop(seen);
                    tracing::info!("the store answers again; claiming goes on");
                }
                self.settle(kept, pickup, interrupts)
            }
            Err(error) => {
                // What has ended is kept and recorded later; nothing is claimed meanwhile.
                self.ended = kept;
                self.refused(&error)
            }
        }
    }

    /// Offers results alone to a store that refuses: on a full disk there is room for them when there is none for anything else.
    pub(super) async fn deliver_results(&mut self) -> Result<(), StoreError> {
        let ended = Arc::new(std::mem::take(&mut self.ended));
        let (node, results) = (self.pool.node, Arc::clone(&ended));
        let answer = self.pool.store.write_results(move |conn| finish(conn, node, &results)).await;
        let kept = Arc::unwrap_or_clone(ended);
        match answer {
            Ok(finished) => {
                self.board.seen().unrecorded = 0;
                self.record_ends(kept, finished);
                Ok(())
            }
            Err(error) => {
                self.ended = kept;
                Err(error)
            }
        }
    }

    /// Notes that the store refuses, and says so once. Returns how long to wait before it is tried again.
    pub(super) fn refused(&mut self, error: &StoreError) -> Duration {
        let error = Chain(error).to_string();
        if self.store_error.is_none() {
            tracing::error!(error, "the store refuses; claiming is paused until it answers");
        }
        let mut seen = self.board.seen();
        (seen.store_error, seen.unrecorded) = (Some(error.clone()), self.ended.len());
        drop(seen);
        self.store_error = Some(error);
        STORE_PAUSE
    }

    /// `interrupts` is how often everything had been told to stop when the store was asked.
    pub(super) fn settle(
        &mut self,
        ended: Vec<FinishedAttempt>,
        pickup: Pickup,
        interrupts: u64,
    ) -> Duration {
        self.record_ends(ended, pickup.finished);
        self.next_due = pickup.next_due;
        let has_taken = !pickup.claimed.is_empty();
        for job in pickup.claimed {
            self.start(job, interrupts);
        }
        if has_taken && !self.has_room() {
            // Where all workers have become busy there may be more.
            self.pass_on();
        }
        if pickup.more_due { Duration::ZERO } else { self.sleep_until_due() }
    }

    pub(super) fn record_ends(&mut self, ended: Vec<FinishedAttempt>, finished: Vec<Finished>) {
        for (attempt, finished) in ended.into_iter().zip(finished) {
            let running = self.running.remove(&attempt.job);
            self.board.seen().running.remove(&attempt.job);
            self.pool.keepers.forget(AttemptName { job: attempt.job, number: attempt.number });
            self.announce_end(&attempt, &finished, running.as_ref());
        }
    }

    /// From now, and not from when the store was asked: what comes at a rate would be late by each answer's time.
    pub(super) fn sleep_until_due(&self) -> Duration {
        let now = self.pool.clock.now();
        let until_due = self.next_due.map_or(SLOW_POLL, |at| {
            Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
        });
        until_due.min(SLOW_POLL)
    }

    pub(super) fn claim_request(&self, now: Timestamp) -> ClaimRequest {
        let slots = self.pool.settings.slots.saturating_sub(self.occupied());
        let reserved = self.pool.settings.reserved_high;
        let kept = if reserved > 0 { reserved.saturating_sub(self.high_running()) } else { 0 };
        ClaimRequest {
            node: self.pool.node,
            identity: self.pool.identity.clone(),
            now,
            slots,
            normal_slots: slots.saturating_sub(kept),
            limits: (self.pool.limits)(),
        }
    }

    /// How many attempts run for which workers are reserved.
    pub(super) fn high_running(&self) -> usize {
        self.running.values().filter(|running| is_high(running.job.priority)).count()
    }
}
