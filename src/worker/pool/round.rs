//! The pool's side of a round trip to the store.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;

use super::ahead::Waiting;
use super::state::State;
use crate::model::{AttemptName, Chain, FinishedAttempt};
use crate::store::StoreError;
use crate::store::claim::ClaimRequest;
use crate::worker::cycle::{Delivery, Pickup, Receipt, Recorded, Results, deliver};

/// A round trip that is under way. Meanwhile attempts end and begin.
pub(super) struct Round {
    /// Shared with the store and not given to it: what it refuses to record has to be offered again.
    ended: Arc<Vec<FinishedAttempt>>,
    /// The same for what is put back.
    unbegun: Vec<AttemptName>,
    /// When it began, on the clock that nobody sets.
    began: Duration,
    /// How often everything had been told to stop then.
    interrupts: u64,
    receipt: BoxFuture<'static, Receipt>,
}

/// Returns when the round trip is over, where there is one.
pub(super) async fn answered(round: &mut Option<Round>) -> Receipt {
    match round {
        Some(round) => round.receipt.as_mut().await,
        None => std::future::pending().await,
    }
}

impl State {
    /// Sets out for the store where there is a reason to, and nobody is on the way.
    pub(super) fn begin_round(&mut self) {
        if self.round.is_some() || !(self.looks || self.reports) {
            return;
        }
        let (looks, reports) = (std::mem::take(&mut self.looks), std::mem::take(&mut self.reports));
        let now = self.pool.clock.now();
        let due = self.next_due.is_none_or(|at| at <= now);
        let is_refusing = self.retry_at.is_some();
        let reopenings = self.pool.store.reopenings();
        let is_unsure = is_refusing || self.agreed != reopenings.count();
        let progress = if reports { self.changed_progress() } else { Vec::new() };
        let brings = !self.ended.is_empty() || !self.unbegun.is_empty() || !progress.is_empty();
        // A store that refuses is asked again at each tick, or attempts that say nothing would keep the pool from ever claiming again.
        let finds = looks && (self.has_room() || due);
        if !(brings || finds || reports && is_unsure) {
            return;
        }
        let delivery = Delivery {
            node: self.pool.node,
            results: self.take_results(),
            unbegun: std::mem::take(&mut self.unbegun),
            progress,
            known: self.known(),
            is_unsure: is_refusing,
            reopenings,
            agreed: self.agreed,
            claim: self.claim_request(now),
            now,
        };
        self.round = Some(Round {
            ended: Arc::clone(&delivery.results.ended),
            unbegun: delivery.unbegun.clone(),
            began: self.pool.clock.since_boot(),
            interrupts: self.board.seen().interrupts,
            receipt: Box::pin(deliver(self.pool.store.clone(), delivery, is_refusing)),
        });
    }

    /// What has ended, for the store.
    fn take_results(&mut self) -> Results {
        let ended = Arc::new(std::mem::take(&mut self.ended));
        let held_to = ended.iter().filter_map(|attempt| {
            let held_to = &self.unrecorded.get(&attempt.name())?.held_to;
            (!held_to.is_empty()).then(|| (attempt.job, held_to.clone()))
        });
        Results { held_to: held_to.collect(), ended }
    }

    /// What this node has claimed and whose end is not recorded.
    fn known(&self) -> Vec<AttemptName> {
        let running = self.running.keys().chain(self.unrecorded.keys()).copied();
        running.chain(self.ahead.names()).collect()
    }

    /// What there is room for, if anything.
    fn claim_request(&self, now: Timestamp) -> Option<ClaimRequest> {
        if !self.takes_new() {
            return None;
        }
        let slots = self.free();
        let ahead = self.outlook.ahead(self.brisk_workers()).saturating_sub(self.ahead.len());
        (slots + ahead > 0).then(|| ClaimRequest {
            node: self.pool.node,
            identity: self.pool.identity.clone(),
            now,
            slots,
            normal_slots: slots.saturating_sub(self.kept()),
            ahead,
            limits: (self.pool.limits)(),
        })
    }

    /// How many workers have no long job to do.
    fn brisk_workers(&self) -> usize {
        let now = self.pool.clock.since_boot();
        let age = |began: Duration| now.saturating_sub(began);
        let brisk = |running: &&super::state::Running| self.outlook.is_short(age(running.began));
        self.running.values().filter(brisk).count() + self.free()
    }

    pub(super) fn settle(&mut self, Receipt { recorded, pickup }: Receipt) {
        let Some(Round { ended, mut unbegun, began, interrupts, receipt }) = self.round.take()
        else {
            return;
        };
        drop(receipt);
        let mut ended = Arc::unwrap_or_clone(ended);
        match recorded {
            Some(recorded) => self.record_ends(ended, recorded),
            None => {
                // What has ended is kept and recorded later.
                ended.append(&mut self.ended);
                self.ended = ended;
            }
        }
        match pickup {
            Ok(pickup) => {
                self.outlook.saw_exchange(self.pool.clock.since_boot().saturating_sub(began));
                self.accepted();
                if !unbegun.is_empty() {
                    // It may be for others.
                    self.pass_on();
                }
                self.take_home(pickup, interrupts);
            }
            Err(error) => {
                unbegun.append(&mut self.unbegun);
                self.unbegun = unbegun;
                self.cancelled_meanwhile.clear();
                self.refused(&error);
            }
        }
    }

    /// `interrupts` is how often everything had been told to stop when the store was asked.
    fn take_home(&mut self, pickup: Pickup, interrupts: u64) {
        self.agreed = pickup.reopenings;
        self.lose(&pickup.lost);
        self.next_due = pickup.next_due;
        self.looks |= pickup.more_due;
        self.outlook.saw_params(pickup.params_bytes, pickup.claimed.len());
        let has_taken = !pickup.claimed.is_empty();
        let since = self.pool.clock.since_boot();
        for job in pickup.claimed {
            self.ahead.add(Waiting { job, interrupts, since });
        }
        if !self.takes_new() {
            let all = self.ahead.take(|_| true);
            self.leave_unbegun(all);
        }
        let cancelled = std::mem::take(&mut self.cancelled_meanwhile);
        self.cancel(cancelled);
        self.start_what_may();
        if has_taken && !self.has_room() {
            // Where all workers have become busy there may be more.
            self.pass_on();
        }
    }

    fn accepted(&mut self) {
        if self.retry_at.take().is_some() {
            let mut seen = self.board.seen();
            (seen.store_error, seen.unrecorded, seen.not_put_back) = (None, 0, 0);
            drop(seen);
            tracing::info!("the store answers again");
        }
    }

    /// Notes that the store refuses, and says so once.
    fn refused(&mut self, error: &StoreError) {
        let error = Chain(error).to_string();
        if self.retry_at.is_none() {
            tracing::error!(error, "the store refuses; claiming is paused until it answers");
        }
        let mut seen = self.board.seen();
        seen.store_error = Some(error);
        (seen.unrecorded, seen.not_put_back) = (self.ended.len(), self.unbegun.len());
        drop(seen);
        self.retry_at = Some(self.after_store_pause());
    }

    fn record_ends(&mut self, ended: Vec<FinishedAttempt>, recorded: Recorded) {
        let Recorded { finished, turned } = recorded;
        for (attempt, finished) in ended.into_iter().zip(finished) {
            let job = self.unrecorded.remove(&attempt.name()).map(|unrecorded| unrecorded.job);
            self.pool.keepers.forget(attempt.name());
            self.announce_end(&attempt, &finished, job.as_deref());
        }
        turned.into_iter().for_each(|turned| self.announce_turn(turned));
    }
}
