//! What can be seen of the pool from outside.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::attempt::StopOrder;
use super::pool::Departure;
use crate::jobs::command::Keepers;
use crate::jobs::{JobInfo, StopReason};
use crate::model::{AttemptName, JobId, ScheduleId};

/// What is known of the pool from outside. It is a lock and not a channel, because a status is a list of everything that
/// runs, and making one for each exchange cost as much as the attempts themselves.
#[derive(Debug)]
pub(super) struct Board {
    slots: usize,
    keepers: Keepers,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) running: BTreeMap<AttemptName, OnBoard>,
    /// What becomes of kept programs.
    pub(super) departure: Departure,
    /// How often everything that runs was told to stop.
    pub(super) interrupts: u64,
    /// How many have ended and could not be recorded yet.
    pub(super) unrecorded: usize,
    /// How many were claimed ahead, are not to be started here, and could not be put back yet.
    pub(super) not_put_back: usize,
    pub(super) draining: bool,
    pub(super) store_error: Option<String>,
}

impl Seen {
    fn interrupt(&mut self, reason: StopReason, is_meant: impl Fn(&OnBoard) -> bool) {
        self.interrupts += 1;
        let told = self.running.values().filter(|one| is_meant(one));
        told.for_each(|one| one.stop.give(reason));
    }
}

/// An attempt that runs.
#[derive(Debug)]
pub(super) struct OnBoard {
    pub(super) job: Arc<JobInfo>,
    pub(super) started_at: Timestamp,
    pub(super) stop: StopOrder,
}

impl Board {
    pub(super) fn new(slots: usize, keepers: Keepers) -> Self {
        Self { slots, keepers, seen: Mutex::default() }
    }

    /// Whether an attempt is the next daemon's.
    pub(super) fn is_left(&self, attempt: AttemptName) -> bool {
        self.seen().departure == Departure::HandOver && self.keepers.holds(attempt)
    }

    pub(super) fn status(&self) -> PoolStatus {
        let seen = self.seen();
        let mut running: Vec<RunningAttempt> =
            seen.running.values().map(|one| RunningAttempt::of(&one.job, one.started_at)).collect();
        running.sort_by_key(|attempt| (attempt.started_at, attempt.job));
        PoolStatus {
            slots: self.slots,
            unrecorded: seen.unrecorded,
            not_put_back: seen.not_put_back,
            running,
            draining: seen.draining,
            store_error: seen.store_error.clone(),
        }
    }

    /// Puts an attempt up whose claim was asked for when everything had been told to stop `interrupts` times. Where that has happened
    /// again since, it must not begin, and this returns false: the answer may have been late, and the job another node's by now.
    #[must_use]
    pub(super) fn begin(&self, one: OnBoard, interrupts: u64) -> bool {
        let mut seen = self.seen();
        let may_begin = seen.interrupts == interrupts;
        if may_begin {
            seen.running.insert(one.job.name(), one);
        }
        may_begin
    }

    /// Puts up an attempt that an earlier daemon has begun.
    pub(super) fn go_on(&self, one: OnBoard) {
        self.seen().running.insert(one.job.name(), one);
    }

    /// Tells everything that runs to stop, but for what is the next daemon's. It does not go through the pool, which may be waiting for a
    /// database that says nothing, and that is just when nothing must run on.
    pub(super) fn interrupt(&self) {
        let mut seen = self.seen();
        let hands_over = seen.departure == Departure::HandOver;
        seen.interrupt(StopReason::Shutdown, |one| {
            !(hands_over && self.keepers.holds(one.job.name()))
        });
    }

    /// The same without exceptions, because others are about to run its jobs.
    pub(super) fn interrupt_all(&self) {
        self.seen().interrupt(StopReason::LeaseOver, |_| true);
    }

    /// The same, and has everything that runs killed.
    pub(super) fn kill_all(&self) {
        let mut seen = self.seen();
        seen.interrupt(StopReason::LeaseOver, |_| true);
        seen.running.values().for_each(|one| one.stop.kill());
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the pool is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PoolStatus {
    /// How many attempts may run at once.
    pub slots: usize,
    /// The attempts that run, oldest first.
    pub running: Vec<RunningAttempt>,
    /// How many have ended and could not be recorded yet, because the store refuses.
    pub unrecorded: usize,
    /// How many were claimed ahead of the workers, are not to be started here, and could not be put back yet, because the store refuses.
    pub not_put_back: usize,
    /// Whether nothing new is taken.
    pub draining: bool,
    /// Why the store refused the last time, while it does.
    pub store_error: Option<String>,
}

/// An attempt that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningAttempt {
    /// Its job.
    pub job: JobId,
    /// The job's kind.
    pub kind: String,
    /// The lane it came from.
    pub queue: String,
    /// The schedule that made it.
    pub schedule: Option<ScheduleId>,
    /// Which execution it is.
    pub attempt: u32,
    /// When it began.
    pub started_at: Timestamp,
}

impl RunningAttempt {
    fn of(job: &JobInfo, started_at: Timestamp) -> Self {
        Self {
            job: job.id,
            kind: job.kind.clone(),
            queue: job.queue.clone(),
            schedule: job.schedule.as_ref().map(|(id, _)| id.clone()),
            attempt: job.attempt,
            started_at,
        }
    }
}
