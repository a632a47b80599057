//! The contract between the queue and the code that does a kind's work.

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Context, StopReason};

/// The code behind a kind.
///
/// A handler is shared by all workers, so it holds no state of one run. It may be run more than once for one job
/// (at-least-once): a crash between the work and its record leads to another attempt.
pub trait Handler: Send + Sync + 'static {
    /// Does the work of one attempt.
    ///
    /// It watches [`Context::stop`] and returns [`Answer::Stopped`] soon after it was cancelled; the worker knows why
    /// (cancelled, out of time, shutdown) and records that. A panic costs this attempt and nothing else.
    fn run(&self, context: Context) -> BoxFuture<'_, Answer>;
}

/// How a handler says what came of an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// It worked. The value is the machine-readable result, `Value::Null` for none.
    Done(Value),
    /// It did not work.
    Failed(Failure),
    /// Not now: come back after `delay`. The attempt is not charged. If that would be after the job's total timeout, it fails instead.
    Snooze {
        /// How long to wait: from [`MIN_SNOOZE`](crate::queue::MIN_SNOOZE) to [`MAX_RETRY_DELAY`](crate::model::MAX_RETRY_DELAY). What is
        /// beyond is cut.
        delay: Duration,
        /// Why, in words for people.
        reason: String,
    },
    /// It stopped early because it was told to.
    Stopped {
        /// What had been done by then, for the record.
        result: Option<Value>,
    },
    /// Whoever keeps its program stopped it, perhaps while no daemon was there to say so.
    Ended {
        /// Why. What the worker knows comes first.
        reason: StopReason,
        /// What had been done by then, for the record.
        result: Option<Value>,
    },
}

/// An attempt that did not work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// True when the job's own answer is no (a finding, a limit, a non-zero exit); false when it could not be run
    /// properly (a program missing, a disk error). It decides between the outcomes `failure` and `error`.
    pub is_answer: bool,
    /// Why, in words for people: what failed, on what, and what to do.
    pub message: String,
    /// Whether and when to try again.
    pub retry: RetryAdvice,
    /// The program's exit code, where there was one.
    pub exit_code: Option<i32>,
    /// The machine-readable result (findings, the plan), where there is one.
    pub result: Option<Value>,
}

/// What a handler knows about trying again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RetryAdvice {
    /// As the job's retry policy says.
    ByPolicy,
    /// Not before this much time has passed (`Retry-After`), as long as the policy has attempts left.
    After(Duration),
    /// Trying again cannot help.
    Never,
}

impl Failure {
    /// Our fault or the environment's: outcome `error`, retried by policy.
    #[must_use]
    pub fn error(message: impl Into<String>) -> Self {
        Self {
            is_answer: false,
            message: message.into(),
            retry: RetryAdvice::ByPolicy,
            exit_code: None,
            result: None,
        }
    }

    /// The job's own answer is no: outcome `failure`, retried by policy.
    #[must_use]
    pub fn answer(message: impl Into<String>) -> Self {
        Self { is_answer: true, ..Self::error(message) }
    }

    /// The same, and trying again cannot help.
    #[must_use]
    pub fn for_good(mut self) -> Self {
        self.retry = RetryAdvice::Never;
        self
    }

    /// The same, with a machine-readable result.
    #[must_use]
    pub fn with_result(mut self, result: Value) -> Self {
        self.result = Some(result);
        self
    }

    /// The same, with the exit code of the program that said so.
    #[must_use]
    pub fn with_exit_code(mut self, code: Option<i32>) -> Self {
        self.exit_code = code;
        self
    }
}

impl From<Failure> for Answer {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}
