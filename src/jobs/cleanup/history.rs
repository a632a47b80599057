//! Deleting finished jobs from the daemon's own tables.

use std::error::Error;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::params::History;

/// Which finished jobs may go, as instants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryRule {
    /// Completed jobs that finished before this; `None` keeps them.
    pub completed_before: Option<Timestamp>,
    /// Failed jobs that finished before this.
    pub failed_before: Option<Timestamp>,
    /// Cancelled jobs that finished before this.
    pub cancelled_before: Option<Timestamp>,
    /// The last so many finished jobs of each schedule stay, however old.
    pub keep_last_per_schedule: u32,
}

/// How many jobs went, or would go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct HistoryCounts {
    /// Completed ones.
    pub completed: u64,
    /// Failed ones.
    pub failed: u64,
    /// Cancelled ones.
    pub cancelled: u64,
}

/// Why the history could not be pruned.
pub type HistoryError = Box<dyn Error + Send + Sync>;

/// The daemon's tables, as far as this kind needs them. Both calls block, and are made from a thread for blocking work.
pub trait HistoryPruner: Send + Sync + 'static {
    /// How many jobs [`HistoryPruner::prune`] would delete now. Changes nothing.
    ///
    /// # Errors
    /// When the database does not answer.
    fn count(&self, rule: &HistoryRule) -> Result<HistoryCounts, HistoryError>;

    /// Deletes those jobs with all that belongs to them, in batches that do not hold up the queue, and asks `must_stop`
    /// between two batches. Returns what was deleted by then.
    ///
    /// # Errors
    /// When the database does not answer; what was deleted before stays deleted.
    fn prune(
        &self,
        rule: &HistoryRule,
        must_stop: &dyn Fn() -> bool,
    ) -> Result<HistoryCounts, HistoryError>;
}

impl HistoryCounts {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.completed + self.failed + self.cancelled
    }
}

impl History {
    /// The rule at an instant.
    #[must_use]
    pub fn rule(&self, now: Timestamp) -> HistoryRule {
        // Further back than time begins there is nothing to delete.
        let before = |age: Duration| now.checked_sub(age).unwrap_or(Timestamp::MIN);
        HistoryRule {
            completed_before: self.completed.map(|age| before(age.get())),
            failed_before: self.failed.map(|age| before(age.get())),
            cancelled_before: self.cancelled.map(|age| before(age.get())),
            keep_last_per_schedule: self.keep_last_per_schedule,
        }
    }
}
