//! What happens after an attempt that failed. The delay itself is computed in `queue::retry`, which is pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::HumanDuration;

/// The longest wait that anything can ask for: a week. A `Retry-After` beyond it is a mistake or an attack.
pub const MAX_RETRY_DELAY: Duration = Duration::from_secs(7 * 86_400);

/// How often a job is tried, and how long it waits in between.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Attempts in all, the first included; at least 1. Interrupted and snoozed attempts do not count.
    pub max_attempts: u32,
    /// How long to wait before the next attempt.
    pub backoff: Backoff,
}

impl RetryPolicy {
    /// One attempt and no more.
    #[must_use]
    pub fn never() -> Self {
        Self { max_attempts: 1, backoff: Backoff::default() }
    }
}

impl Default for RetryPolicy {
    /// Three attempts, exponential from 30 seconds to 10 minutes, with jitter.
    fn default() -> Self {
        Self { max_attempts: 3, backoff: Backoff::default() }
    }
}

/// The wait before the next attempt, by the number of charged attempts that failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "backoff", rename_all = "snake_case", deny_unknown_fields)]
pub enum Backoff {
    /// `base * factor^(n-1)`, at most `max_delay`.
    Exponential {
        /// The wait after the first failure.
        #[serde(default = "usual_base")]
        base: HumanDuration,
        /// What each further failure multiplies the wait by, at least 1.
        #[serde(default = "usual_factor")]
        factor: f64,
        /// The longest wait.
        #[serde(default = "usual_max_delay")]
        max_delay: HumanDuration,
        /// Draw uniformly between half of the wait and all of it, so that many jobs that failed together do not come back together.
        #[serde(default = "usual_jitter")]
        jitter: bool,
    },
    /// Always the same wait.
    Fixed {
        /// The wait.
        delay: HumanDuration,
    },
    /// The n-th failure waits the n-th delay; past the end, the last one again.
    Delays {
        /// The waits in order; not empty.
        delays: Vec<HumanDuration>,
    },
}

impl Default for Backoff {
    fn default() -> Self {
        Self::Exponential {
            base: usual_base(),
            factor: usual_factor(),
            max_delay: usual_max_delay(),
            jitter: usual_jitter(),
        }
    }
}

fn usual_base() -> HumanDuration {
    HumanDuration::from_secs(30)
}

fn usual_factor() -> f64 {
    2.0
}

fn usual_max_delay() -> HumanDuration {
    HumanDuration::from_secs(600)
}

fn usual_jitter() -> bool {
    true
}
