//! The task of the pool: what it knows, and what wakes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use super::Pool;
use super::ahead::Ahead;
use super::handle::Order;
use super::round::{Round, answered};
use crate::jobs::{JobInfo, Output, ProgressReport, StopReason};
use crate::model::{AttemptName, FinishedAttempt, JobId, JsonText, is_high};
use crate::store::breakers::HeldTo;
use crate::store::wakeups::News;
use crate::worker::attempt::StopOrder;
use crate::worker::cycle::Receipt;
use crate::worker::outlook::Outlook;
use crate::worker::status::Board;

/// How long the pool sleeps at the most when nothing wakes it: the safety net for a wake-up that was lost, and for a wall clock that
/// was set while it slept.
const SLOW_POLL: Duration = Duration::from_secs(15);

/// How long to wait before the store is tried again after it refused.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// How often the progress of running attempts is stored.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Every reason for which the pool wakes.
enum Wake {
    Work,
    Ended(FinishedAttempt),
    Answered(Receipt),
    Ordered(Option<Order>),
    Cancelled(Vec<JobId>),
    ProgressDue,
    TimeIsUp,
}

pub(super) struct Running {
    pub(super) job: Arc<JobInfo>,
    pub(super) stop: StopOrder,
    pub(super) progress: watch::Receiver<ProgressReport>,
    pub(super) output: Output,
    pub(super) started_at: Timestamp,
    /// Since when it has its worker, on the clock that nobody sets.
    pub(super) began: Duration,
    /// The last checkpoint that was stored.
    pub(super) kept: Option<JsonText>,
    /// The breakers that its end counts for.
    pub(super) held_to: HeldTo,
    /// Whether the store does not know it. It was told to stop, and nothing is claimed until it has.
    pub(super) is_lost: bool,
}

/// What is still needed of an attempt that has ended.
pub(super) struct Unrecorded {
    pub(super) job: Arc<JobInfo>,
    pub(super) held_to: HeldTo,
}

pub(super) struct State {
    pub(super) pool: Pool,
    /// Each has a worker. In an order of its own, so that whoever goes through it does so in the same order each time.
    pub(super) running: BTreeMap<AttemptName, Running>,
    /// Claimed, and waiting for a worker.
    pub(super) ahead: Ahead,
    /// Claimed, and not to be started here: to be put back with the next round.
    pub(super) unbegun: Vec<AttemptName>,
    /// To be recorded with the next round.
    pub(super) ended: Vec<FinishedAttempt>,
    /// More of those, and of those that are being recorded.
    pub(super) unrecorded: BTreeMap<AttemptName, Unrecorded>,
    /// The round trip to the store that is under way.
    pub(super) round: Option<Round>,
    /// What was cancelled since it began: it may bring one of them.
    pub(super) cancelled_meanwhile: Vec<JobId>,
    /// Whether there may be something to bring to the store or to take from it.
    pub(super) looks: bool,
    /// Whether progress is to be stored.
    pub(super) reports: bool,
    pub(super) outlook: Outlook,
    pub(super) done: mpsc::UnboundedSender<FinishedAttempt>,
    /// Who waits for the drain; while somebody does, nothing new is taken.
    pub(super) drained: Vec<oneshot::Sender<()>>,
    /// Whether somebody wants that nothing new is taken here for now.
    pub(super) is_held: bool,
    /// From when on nothing may begin here, on the clock that nobody sets; `None` where there is no lease that could run out.
    pub(super) works_until: Option<Duration>,
    pub(super) next_due: Option<Timestamp>,
    pub(super) board: Arc<Board>,
    /// When the store is asked again, while it refuses. A moment and not a pause: whatever wakes the pool meanwhile would begin a pause anew, and
    /// a store that refuses is busy with just those who do.
    pub(super) retry_at: Option<Duration>,
    /// How many connections of the store there had been when it and we last agreed about what runs here.
    pub(super) agreed: u64,
}

impl State {
    pub(super) async fn run(
        mut self,
        mut orders: mpsc::UnboundedReceiver<Order>,
        mut done: mpsc::UnboundedReceiver<FinishedAttempt>,
    ) {
        let work = Arc::clone(&self.pool.signals.work);
        let heard = Arc::clone(&self.pool.signals.heard);
        let mut progress = tokio::time::interval(PROGRESS_EVERY);
        progress.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.begin_round();
            if self.is_drained() {
                break;
            }
            let has_room = self.has_room() && self.retry_at.is_none();
            // What the round that is under way does not bring, the next one does.
            let may_ask = self.round.is_none();
            // Work for which there is no room here is for others.
            let hears_of_work = may_ask && (has_room || self.pool.signals.others.is_some());
            let pause = self.pause();
            let reason = tokio::select! {
                biased;
                order = orders.recv() => Wake::Ordered(order),
                Some(jobs) = self.pool.signals.cancels.recv() => Wake::Cancelled(jobs),
                receipt = answered(&mut self.round) => Wake::Answered(receipt),
                Some(ended) = done.recv() => Wake::Ended(ended),
                () = work.notified(), if hears_of_work => Wake::Work,
                () = heard.notified(), if may_ask && has_room => Wake::Work,
                _ = progress.tick(), if !self.running.is_empty() => Wake::ProgressDue,
                () = tokio::time::sleep(pause) => Wake::TimeIsUp,
            };
            match reason {
                Wake::Work if !has_room => self.pass_on(),
                Wake::Work => self.looks = true,
                Wake::TimeIsUp => {
                    self.looks = true;
                    self.retry_at = self.retry_at.map(|_passed| self.after_store_pause());
                    self.put_back_late();
                }
                Wake::ProgressDue => {
                    self.surface_outputs();
                    self.reports = true;
                }
                Wake::Answered(receipt) => self.settle(receipt),
                Wake::Ended(first) => {
                    let others = std::iter::from_fn(|| done.try_recv().ok());
                    self.free_workers(std::iter::once(first).chain(others));
                }
                Wake::Cancelled(jobs) => self.cancel(jobs),
                Wake::Ordered(Some(order)) => self.obey(order),
                // Every handle is gone: nobody can drain the pool, so it gives back what it has.
                Wake::Ordered(None) => return,
            }
        }
        for drained in self.drained {
            let _nobody_waits = drained.send(());
        }
    }

    /// How long the pool may sleep.
    fn pause(&self) -> Duration {
        let until_round = match (&self.round, self.retry_at) {
            (Some(_), _) => SLOW_POLL,
            (None, Some(at)) => at.saturating_sub(self.pool.clock.since_boot()),
            (None, None) => self.until_due(),
        };
        let patience = self.ahead.patience(self.pool.clock.since_boot());
        patience.map_or(until_round, |patience| patience.min(until_round))
    }

    pub(super) fn after_store_pause(&self) -> Duration {
        self.pool.clock.since_boot() + STORE_PAUSE
    }

    /// From now, and not from when the store was asked: what comes at a rate would be late by each answer's time.
    fn until_due(&self) -> Duration {
        let now = self.pool.clock.now();
        let until_due = self.next_due.map_or(SLOW_POLL, |at| {
            Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
        });
        until_due.min(SLOW_POLL)
    }

    /// Tells other nodes that there may be work.
    pub(super) fn pass_on(&self) {
        if let Some(others) = &self.pool.signals.others {
            others.tell(News::Work);
        }
    }

    fn is_draining(&self) -> bool {
        !self.drained.is_empty()
    }

    /// Whether nothing is left to be done here but what is the next daemon's.
    fn is_drained(&self) -> bool {
        self.is_draining()
            && self.round.is_none()
            && self.ended.is_empty()
            && self.ahead.is_empty()
            && self.unbegun.is_empty()
            && self.running.keys().all(|attempt| self.board.is_left(*attempt))
    }

    pub(super) fn takes_new(&self) -> bool {
        let has_lost = self.running.values().any(|running| running.is_lost);
        !self.is_lease_over() && !self.is_draining() && !self.is_held && !has_lost
    }

    /// Whether others may run what would begin here now. The pool looks at the clock itself: whoever is to tell it may have been frozen with it.
    pub(super) fn is_lease_over(&self) -> bool {
        self.works_until.is_some_and(|until| until <= self.pool.clock.since_boot())
    }

    pub(super) fn has_room(&self) -> bool {
        self.takes_new() && self.free() > 0
    }

    /// Workers that have nothing to do.
    pub(super) fn free(&self) -> usize {
        self.pool.settings.slots.saturating_sub(self.running.len())
    }

    /// How many of those are kept for jobs of high priority.
    pub(super) fn kept(&self) -> usize {
        match self.pool.settings.reserved_high {
            0 => 0,
            reserved => reserved.saturating_sub(self.high_running()),
        }
    }

    /// How many attempts run for which workers are reserved.
    fn high_running(&self) -> usize {
        self.running.values().filter(|running| is_high(running.job.priority)).count()
    }

    /// Notes attempts that have ended, and gives their workers the next jobs. The record of the ends follows.
    fn free_workers(&mut self, ended: impl Iterator<Item = FinishedAttempt>) {
        let now = self.pool.clock.since_boot();
        let (mut together, mut count) = (Duration::ZERO, 0);
        for attempt in ended {
            let name = attempt.name();
            if let Some(Running { job, began, held_to, .. }) = self.running.remove(&name) {
                self.board.seen().running.remove(&name);
                together += now.saturating_sub(began);
                count += 1;
                self.unrecorded.insert(name, Unrecorded { job, held_to });
            }
            self.ended.push(attempt);
        }
        self.outlook.saw_attempts(together, count);
        self.looks = true;
        self.start_what_may();
    }

    pub(super) fn cancel(&mut self, jobs: Vec<JobId>) {
        let meant: BTreeSet<JobId> = jobs.iter().copied().collect();
        for (_, running) in self.running.iter().filter(|(attempt, _)| meant.contains(&attempt.job))
        {
            running.stop.give(StopReason::Cancelled);
        }
        // The store knows of the cancel, and ends them instead.
        let unbegun = self.ahead.take(|waiting| meant.contains(&waiting.job.id));
        self.leave_unbegun(unbegun);
        if self.round.is_some() {
            self.cancelled_meanwhile.extend(jobs);
        }
    }

    /// Puts back what has waited for a worker for too long: the workers have longer jobs to do than those that it was claimed for.
    fn put_back_late(&mut self) {
        let late = self.ahead.take_late(self.pool.clock.since_boot());
        if !late.is_empty() {
            tracing::debug!(jobs = late.len(), "jobs that no worker was free for are put back");
            self.outlook.was_too_bright();
            self.leave_unbegun(late);
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Drain(answer) => {
                self.board.seen().draining = true;
                self.drained.push(answer);
            }
            Order::Hold(is_held) => {
                self.is_held = is_held;
                self.board.seen().draining = is_held || self.is_draining();
            }
            Order::WorkUntil(until) => {
                let was_over = self.is_lease_over();
                self.works_until = Some(until);
                // Each beat says another time, and only after an outage there is something to look for.
                if !was_over && !self.is_lease_over() {
                    return;
                }
            }
        }
        self.looks = true;
        if !self.takes_new() {
            let all = self.ahead.take(|_| true);
            self.leave_unbegun(all);
        }
    }

    /// Ends what the store does not know. Its job may be begun again elsewhere, and by us once this has ended; what it comes to is refused.
    pub(super) fn lose(&mut self, lost: &[AttemptName]) {
        self.ahead.take(|waiting| lost.contains(&waiting.name()));
        // Nothing was claimed with this round.
        self.looks |= !lost.is_empty();
        for attempt in lost {
            let Some(running) = self.running.get_mut(attempt) else { continue };
            tracing::warn!(
                job.id = attempt.job.0,
                attempt = attempt.number,
                "the database does not know that this attempt runs here (it may be a standby that lacks the last moment); it is ended"
            );
            running.is_lost = true;
            running.stop.give(StopReason::Shutdown);
        }
    }

    /// Has what was claimed put back.
    pub(super) fn leave_unbegun(&mut self, attempts: impl IntoIterator<Item = AttemptName>) {
        self.unbegun.extend(attempts);
        self.looks |= !self.unbegun.is_empty();
    }
}
