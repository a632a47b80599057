//! One execution of a job.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{JobId, JsonText};

/// How an attempt ended, in OpenTelemetry's words for CI/CD runs plus `interrupted`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It did what it was asked to.
    Success,
    /// It ran and the answer is no: the job's fault.
    Failure,
    /// It could not be run properly: our fault or the environment's.
    Error,
    /// It took longer than it was allowed to.
    Timeout,
    /// Somebody cancelled it.
    Cancelled,
    /// A shutdown or a lost node ended it; it is given back and not charged.
    Interrupted,
    /// It decided that there was nothing to do now (a snooze).
    Skipped,
}

impl Outcome {
    /// Every outcome, in the order people are shown them.
    pub const ALL: [Self; 7] = [
        Self::Success,
        Self::Failure,
        Self::Error,
        Self::Timeout,
        Self::Cancelled,
        Self::Interrupted,
        Self::Skipped,
    ];

    /// Whether the attempt counts against `max_attempts`.
    #[must_use]
    pub fn is_charged(self) -> bool {
        !matches!(self, Self::Interrupted | Self::Skipped)
    }

    /// The word used in the database, the API and the logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Error => "error",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
            Self::Skipped => "skipped",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Outcome {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|outcome| outcome.as_str() == text)
            .ok_or_else(|| format!("`{}` is not an outcome", text.escape_default()))
    }
}

/// Names one execution of a job, for good: no other execution of it ever has the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptName {
    /// The job.
    pub job: JobId,
    /// Which execution of it, from 1.
    pub number: u32,
}

impl fmt::Display for AttemptName {
    /// `JOB-NUMBER`, as in the names of files.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.job, self.number)
    }
}

/// What a worker reports when an attempt has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct FinishedAttempt {
    /// The job that was executed.
    pub job: JobId,
    /// Which execution of the job this was, from 1. It is the fencing token: the store finishes an attempt only
    /// while the job is still running under this number.
    pub number: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// When the handler was started.
    pub started_at: Timestamp,
    /// When it had ended.
    pub finished_at: Timestamp,
    /// The program's exit code, where there was one.
    pub exit_code: Option<i32>,
    /// Why it did not succeed, in words for people.
    pub error: Option<String>,
    /// The machine-readable result, of success and of findings alike.
    pub result: Option<serde_json::Value>,
    /// The last part of the output.
    pub output_tail: Option<String>,
    /// Where the job's next attempt can go on, if this one has said so and there is another.
    pub checkpoint: Option<JsonText>,
    /// What becomes of the job. Decided by `queue::retry::after_attempt`.
    pub next: super::job::AfterAttempt,
}

impl FinishedAttempt {
    /// This very execution.
    #[must_use]
    pub fn name(&self) -> AttemptName {
        AttemptName { job: self.job, number: self.number }
    }
}
