//! What is remembered of a schedule between its instants.

use jiff::Timestamp;

/// What is remembered of a schedule between its instants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    /// Every nominal instant up to here is decided.
    pub decided_until: Timestamp,
    /// When its last job ended.
    pub last_end: Option<Timestamp>,
    /// When a job of it last completed, dry runs left out. It outlives the job's rows.
    pub last_success: Option<Timestamp>,
    /// Whether it is paused. Apart, because few are, and the scheduler keeps a ledger for each schedule.
    pub pause: Option<Box<Pause>>,
}

/// A schedule that is held back by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// Since when.
    pub since: Timestamp,
    /// Until when; `None` until somebody resumes it.
    pub until: Option<Timestamp>,
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: String,
}

impl Pause {
    /// Whether it has not ended by itself yet.
    #[must_use]
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}
