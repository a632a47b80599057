//! Schedules that follow others: which ends of jobs make an instant, and what one was made by.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{FinalState, JobId, ScheduleId};

/// Which ends of another schedule's jobs make this one due.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum OnEnd {
    /// Those of jobs that completed.
    #[default]
    Success,
    /// Those of jobs that failed for good. A cancelled job has not failed: somebody wanted that.
    Failure,
    /// All of them, cancelled jobs included.
    Finished,
}

impl OnEnd {
    /// Every choice.
    pub const ALL: [Self; 3] = [Self::Success, Self::Failure, Self::Finished];

    /// The word used in files and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Finished => "finished",
        }
    }

    /// As a verb in the past: "after `backup` succeeded".
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            Self::Success => "succeeded",
            Self::Failure => "failed",
            Self::Finished => "ended",
        }
    }

    /// The narrowest choice that means jobs that ended so.
    #[must_use]
    pub fn of(end: FinalState) -> Self {
        match end {
            FinalState::Completed => Self::Success,
            FinalState::Failed => Self::Failure,
            FinalState::Cancelled => Self::Finished,
        }
    }
}

impl fmt::Display for OnEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for OnEnd {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|on| on.as_str() == text)
            .ok_or_else(|| format!("`{}` is not success, failure or finished", text.escape_debug()))
    }
}

/// The end of a schedule's job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEnd {
    /// When.
    pub at: Timestamp,
    /// Whose job it was.
    pub schedule: ScheduleId,
    /// The job.
    pub job: JobId,
    /// How it ended.
    pub state: FinalState,
}

impl fmt::Display for JobEnd {
    /// "job 12 of `backup` completed".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { schedule, job, state, .. } = self;
        let verb = match state {
            FinalState::Completed => "completed",
            FinalState::Failed => "failed",
            FinalState::Cancelled => "was cancelled",
        };
        write!(f, "job {job} of `{schedule}` {verb}")
    }
}

/// What made an instant, which says what remembers that it is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The rule's calendar or period: the ledger's high-water mark moves to it.
    Rule,
    /// The end of another schedule's job, which was noted and is forgotten now. Ends come in any order, so the mark stays.
    End,
    /// It waited for its requirements and has a row already.
    Wait,
    /// Somebody asked for it.
    Hand,
}
