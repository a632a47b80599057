//! The task of the pool: what it knows, and what wakes it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use super::Pool;
use super::handle::Order;
use crate::jobs::{JobInfo, Output, ProgressReport, StopReason};
use crate::model::{FinishedAttempt, JobId, JsonText};
use crate::store::wakeups::News;
use crate::worker::attempt::StopOrder;
use crate::worker::status::Board;

/// How long the pool sleeps at the most when nothing wakes it: the safety net for a wake-up that was lost, and for a wall clock that
/// was set while it slept.
pub(super) const SLOW_POLL: Duration = Duration::from_secs(15);

/// How often the progress of running attempts is stored.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Every reason for which the pool wakes.
pub(super) enum Wake {
    Work,
    Ended(FinishedAttempt),
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
    /// The last checkpoint that was stored.
    pub(super) kept: Option<JsonText>,
}

pub(super) struct State {
    pub(super) pool: Pool,
    /// In an order of its own, so that whoever goes through it does so in the same order each time.
    pub(super) running: BTreeMap<JobId, Running>,
    pub(super) ended: Vec<FinishedAttempt>,
    pub(super) done: mpsc::UnboundedSender<FinishedAttempt>,
    /// Who waits for the drain; while somebody does, nothing new is taken.
    pub(super) drained: Vec<oneshot::Sender<()>>,
    /// Whether somebody wants that nothing new is taken here for now.
    pub(super) is_held: bool,
    pub(super) next_due: Option<Timestamp>,
    pub(super) board: Arc<Board>,
    pub(super) store_error: Option<String>,
}

impl State {
    pub(super) async fn run(
        mut self,
        mut orders: mpsc::UnboundedReceiver<Order>,
        mut done: mpsc::UnboundedReceiver<FinishedAttempt>,
    ) {
        let work = Arc::clone(&self.pool.signals.work);
        let mut progress = tokio::time::interval(PROGRESS_EVERY);
        progress.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut report_progress = false;
        loop {
            let pause = self.exchange(report_progress).await;
            report_progress = false;
            if self.is_draining()
                && self.ended.is_empty()
                && self.running.values().all(|running| self.is_left(running))
            {
                break;
            }
            let has_room = self.has_room() && self.store_error.is_none();
            // Work for which there is no room here is for others.
            let hears_of_work = has_room || self.pool.signals.others.is_some();
            let reason = tokio::select! {
                biased;
                order = orders.recv() => Wake::Ordered(order),
                Some(jobs) = self.pool.signals.cancels.recv() => Wake::Cancelled(jobs),
                Some(ended) = done.recv() => Wake::Ended(ended),
                () = work.notified(), if hears_of_work => Wake::Work,
                _ = progress.tick(), if !self.running.is_empty() => Wake::ProgressDue,
                () = tokio::time::sleep(pause) => Wake::TimeIsUp,
            };
            match reason {
                Wake::Work if !has_room => self.pass_on(),
                Wake::Work | Wake::TimeIsUp => {}
                Wake::ProgressDue => {
                    self.surface_outputs();
                    report_progress = true;
                }
                Wake::Ended(first) => {
                    self.ended.push(first);
                    while let Ok(next) = done.try_recv() {
                        self.ended.push(next);
                    }
                }
                Wake::Cancelled(jobs) => self.cancel(&jobs),
                Wake::Ordered(Some(order)) => self.obey(order),
                // Every handle is gone: nobody can drain the pool, so it gives back what it has.
                Wake::Ordered(None) => return,
            }
        }
        for drained in self.drained {
            let _nobody_waits = drained.send(());
        }
    }

    /// Tells other nodes that there may be work.
    pub(super) fn pass_on(&self) {
        if let Some(others) = &self.pool.signals.others {
            others.tell(News::Work);
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        !self.drained.is_empty()
    }

    /// Whether an attempt is the next daemon's.
    pub(super) fn is_left(&self, running: &Running) -> bool {
        self.board.is_left(running.job.name())
    }

    pub(super) fn has_room(&self) -> bool {
        !self.is_draining() && !self.is_held && self.occupied() < self.pool.settings.slots
    }

    /// Slots that are taken. One whose attempt has ended becomes free in the transaction that records it.
    pub(super) fn occupied(&self) -> usize {
        self.running.len().saturating_sub(self.ended.len())
    }

    pub(super) fn cancel(&self, jobs: &[JobId]) {
        for running in jobs.iter().filter_map(|job| self.running.get(job)) {
            running.stop.give(StopReason::Cancelled);
        }
    }

    pub(super) fn obey(&mut self, order: Order) {
        match order {
            Order::Drain(answer) => {
                self.board.seen().draining = true;
                self.drained.push(answer);
            }
            Order::Hold(is_held) => {
                self.is_held = is_held;
                self.board.seen().draining = is_held || self.is_draining();
            }
        }
    }
}
