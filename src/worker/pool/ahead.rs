//! What was claimed and waits for a worker.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{AttemptName, JobId};
use crate::store::claim::ClaimedJob;
use crate::worker::outlook::PATIENCE;

/// Claimed jobs in the order in which they are to start.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    waiting: BTreeMap<(i64, JobId), Waiting>,
    /// No job waits for too long before then.
    late_from: Duration,
}

/// A job that waits for a worker.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) job: ClaimedJob,
    /// How often everything had been told to stop when it was asked for.
    pub(super) interrupts: u64,
    /// Since when it waits, on the clock that nobody sets.
    pub(super) since: Duration,
}

impl Waiting {
    pub(super) fn name(&self) -> AttemptName {
        AttemptName { job: self.job.id, number: self.job.number }
    }
}

impl Ahead {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = AttemptName> {
        self.waiting.values().map(Waiting::name)
    }

    pub(super) fn add(&mut self, waiting: Waiting) {
        if self.waiting.is_empty() {
            self.late_from = waiting.since + PATIENCE;
        }
        self.waiting.insert((waiting.job.rank, waiting.job.id), waiting);
    }

    /// Takes the first one that may start.
    pub(super) fn next(&mut self, may_start: impl Fn(&ClaimedJob) -> bool) -> Option<Waiting> {
        let key = *self.waiting.iter().find(|(_, waiting)| may_start(&waiting.job))?.0;
        self.waiting.remove(&key)
    }

    /// How long there is nothing to be put back; `None` while nothing waits.
    pub(super) fn patience(&self, now: Duration) -> Option<Duration> {
        (!self.is_empty()).then(|| self.late_from.saturating_sub(now))
    }

    /// Takes those that have waited for too long.
    pub(super) fn take_late(&mut self, now: Duration) -> Vec<AttemptName> {
        if self.is_empty() || now < self.late_from {
            return Vec::new();
        }
        let late = self.take(|waiting| waiting.since + PATIENCE <= now);
        let oldest = self.waiting.values().map(|waiting| waiting.since).min();
        self.late_from = oldest.unwrap_or(now) + PATIENCE;
        late
    }

    /// Takes those for which this holds.
    pub(super) fn take(&mut self, mut is_meant: impl FnMut(&Waiting) -> bool) -> Vec<AttemptName> {
        let mut taken = Vec::new();
        self.waiting.retain(|_, waiting| {
            let is_taken = is_meant(waiting);
            if is_taken {
                taken.push(waiting.name());
            }
            !is_taken
        });
        taken
    }
}
