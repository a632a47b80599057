//! A due instant of a schedule and what was decided about it.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{JobId, ScheduleId};

/// What was decided about a due instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// A job was made.
    Enqueued,
    /// A later instant stands for this one too.
    Coalesced,
    /// The previous job still ran or waited.
    SkippedOverlap,
    /// The schedule was paused.
    SkippedPaused,
    /// It fell into a blackout, or outside `not_before`/`not_after`.
    SkippedBlackout,
    /// A requirement was not met.
    SkippedRequirement,
    /// A requirement is not met yet, and the instant waits for it. What becomes of it replaces this.
    Waiting,
    /// It passed while nobody could act on it; the reason says why.
    Missed,
    /// The schedule's file was invalid and there was no earlier good version.
    InvalidFile,
}

impl Decision {
    /// Every decision, in the order people are shown them.
    pub const ALL: [Self; 9] = [
        Self::Enqueued,
        Self::Coalesced,
        Self::SkippedOverlap,
        Self::SkippedPaused,
        Self::SkippedBlackout,
        Self::SkippedRequirement,
        Self::Waiting,
        Self::Missed,
        Self::InvalidFile,
    ];

    /// The word used in the database, the API and the logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enqueued => "enqueued",
            Self::Coalesced => "coalesced",
            Self::SkippedOverlap => "skipped_overlap",
            Self::SkippedPaused => "skipped_paused",
            Self::SkippedBlackout => "skipped_blackout",
            Self::SkippedRequirement => "skipped_requirement",
            Self::Waiting => "waiting",
            Self::Missed => "missed",
            Self::InvalidFile => "invalid_file",
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Decision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|decision| decision.as_str() == text)
            .ok_or_else(|| format!("`{}` is not a decision", text.escape_default()))
    }
}

/// Whether a schedule's new job may join those that are still live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OverlapVerdict {
    /// It may.
    Enqueue,
    /// It may, once these are over.
    EnqueueAfter(Vec<JobId>),
    /// These are cancelled, and it follows them.
    CancelThenEnqueueAfter(Vec<JobId>),
    /// It may not, for this reason.
    Skip(String),
}

/// A row of the ledger: `(schedule, nominal_at)` is unique, so an instant is decided once, on one node or on ten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occurrence {
    /// Whose instant it is.
    pub schedule: ScheduleId,
    /// The instant the rule names, before offset and jitter.
    pub nominal_at: Timestamp,
    /// What was decided.
    pub decision: Decision,
    /// Why, in words for people.
    pub reason: String,
    /// The job that was made.
    pub job: Option<JobId>,
    /// When it was decided.
    pub decided_at: Timestamp,
    /// The schedule's content hash at that time.
    pub revision: String,
    /// How many instants the row stands for: 1, or more where a long gap is summarised in its oldest row.
    pub instants: i64,
}
