//! What becomes of a job when an attempt has ended. Pure.

use std::time::Duration;

use jiff::Timestamp;

use crate::jobs::RetryAdvice;
use crate::model::{AfterAttempt, Backoff, FinalState, MAX_RETRY_DELAY, Outcome, RetryPolicy};

/// The shortest wait after which a snoozed job comes back. Snoozes are not charged, so without it a job that always snoozes would do nothing else.
pub const MIN_SNOOZE: Duration = Duration::from_secs(1);

/// An attempt that has ended, as far as the next step depends on it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttemptEnd {
    /// How it ended.
    pub outcome: Outcome,
    /// When.
    pub finished_at: Timestamp,
    /// What the handler knows about trying again.
    pub advice: RetryAdvice,
    /// For [`Outcome::Skipped`]: how long to snooze.
    pub snooze: Duration,
    /// Charged attempts of this job before this one.
    pub charged_before: u32,
    /// When the time for all attempts is over.
    pub deadline: Option<Timestamp>,
}

impl AttemptEnd {
    /// Whether the time for all attempts is over by then.
    fn is_too_late(&self, next: Timestamp) -> bool {
        self.deadline.is_some_and(|deadline| next >= deadline)
    }
}

/// Decides what becomes of the job. `draw` is a random number from 0 up to 1, for jitter.
#[must_use]
pub fn after_attempt(end: &AttemptEnd, policy: &RetryPolicy, draw: f64) -> AfterAttempt {
    match end.outcome {
        Outcome::Success | Outcome::Cancelled => AfterAttempt::End(FinalState::from(end.outcome)),
        Outcome::Interrupted => AfterAttempt::GiveBack,
        Outcome::Skipped => {
            let at = end.finished_at + end.snooze.clamp(MIN_SNOOZE, MAX_RETRY_DELAY);
            if end.is_too_late(at) {
                AfterAttempt::End(FinalState::Failed)
            } else {
                AfterAttempt::SnoozeUntil(at)
            }
        }
        Outcome::Failure | Outcome::Error | Outcome::Timeout => {
            let charged = end.charged_before.saturating_add(1);
            let wait = match end.advice {
                RetryAdvice::Never => return AfterAttempt::End(FinalState::Failed),
                _ if charged >= policy.max_attempts => {
                    return AfterAttempt::End(FinalState::Failed);
                }
                RetryAdvice::ByPolicy => retry_delay(&policy.backoff, charged, draw),
                RetryAdvice::After(asked) => asked.max(retry_delay(&policy.backoff, charged, draw)),
            };
            let at = end.finished_at + wait.min(MAX_RETRY_DELAY);
            if end.is_too_late(at) {
                AfterAttempt::End(FinalState::Failed)
            } else {
                AfterAttempt::RetryAt(at)
            }
        }
    }
}

/// The wait after the `failures`-th charged failure (from 1). `draw` is a random number from 0 up to 1.
#[must_use]
pub fn retry_delay(backoff: &Backoff, failures: u32, draw: f64) -> Duration {
    match backoff {
        Backoff::Fixed { delay } => delay.get(),
        Backoff::Delays { delays } => {
            let index = (failures.max(1) as usize - 1).min(delays.len().saturating_sub(1));
            delays.get(index).map_or(Duration::ZERO, |delay| delay.get())
        }
        Backoff::Exponential { base, factor, max_delay, jitter } => {
            // In floating-point seconds, where growing past the end of the range is infinity and not a panic.
            let exponent = f64::from(failures.saturating_sub(1));
            let grown = base.get().as_secs_f64() * factor.max(1.0).powf(exponent);
            let wait = grown.min(max_delay.get().as_secs_f64());
            let drawn = if *jitter { wait * (0.5 + draw.clamp(0.0, 1.0) / 2.0) } else { wait };
            Duration::try_from_secs_f64(drawn).unwrap_or(max_delay.get())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::HumanDuration;

    fn end(outcome: Outcome) -> AttemptEnd {
        AttemptEnd {
            outcome,
            finished_at: "2026-01-01T00:00:00Z".parse().unwrap(),
            advice: RetryAdvice::ByPolicy,
            snooze: Duration::ZERO,
            charged_before: 0,
            deadline: None,
        }
    }

    /// What they come back to is held by a limit on their key; here it is that they do not come back together.
    #[test]
    fn i1_ten_thousand_jobs_that_fail_at_once_come_back_evenly_over_half_of_the_wait() {
        const JOBS: u32 = 10_000;
        let (base, max_delay) = (HumanDuration::from_secs(60), HumanDuration::from_secs(3600));
        let backoff = Backoff::Exponential { base, factor: 2.0, max_delay, jitter: true };
        let mut in_second = [0_u32; 60];
        for job in 0..JOBS {
            let wait = retry_delay(&backoff, 1, f64::from(job) / f64::from(JOBS));
            in_second[wait.as_secs() as usize] += 1;
        }
        let (early, late) = in_second.split_at(30);
        assert!(early.iter().all(|count| *count == 0), "{in_second:?}");
        assert!(late.iter().all(|count| (330..=340).contains(count)), "{in_second:?}");
    }

    #[test]
    fn an_explicit_list_of_delays_is_used_exactly() {
        let delays = [0, 30, 300].map(HumanDuration::from_secs).to_vec();
        let backoff = Backoff::Delays { delays };
        let waits: Vec<u64> = (1..=5).map(|n| retry_delay(&backoff, n, 0.9).as_secs()).collect();
        assert_eq!(waits, [0, 30, 300, 300, 300]);
    }

    #[test]
    fn an_interrupted_attempt_is_given_back_whatever_the_policy_says() {
        let next = after_attempt(&end(Outcome::Interrupted), &RetryPolicy::never(), 0.0);
        assert_eq!(next, AfterAttempt::GiveBack);
    }

    #[test]
    fn a_final_answer_is_not_tried_again() {
        let end = AttemptEnd { advice: RetryAdvice::Never, ..end(Outcome::Failure) };
        assert_eq!(
            after_attempt(&end, &RetryPolicy::default(), 0.0),
            AfterAttempt::End(FinalState::Failed)
        );
    }

    #[test]
    fn no_attempt_starts_after_the_deadline_for_all_of_them() {
        for outcome in [Outcome::Error, Outcome::Skipped] {
            let mut end = AttemptEnd { snooze: Duration::from_secs(10), ..end(outcome) };
            end.deadline = Some(end.finished_at + Duration::from_secs(10));
            assert_eq!(
                after_attempt(&end, &RetryPolicy::default(), 0.0),
                AfterAttempt::End(FinalState::Failed),
                "{outcome}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_snoozed_job_comes_back_after_a_second_at_the_earliest_and_a_week_at_the_latest(millis in 0_u64..) {
            let end = AttemptEnd { snooze: Duration::from_millis(millis), ..end(Outcome::Skipped) };
            let AfterAttempt::SnoozeUntil(at) = after_attempt(&end, &RetryPolicy::never(), 0.0) else { panic!("it ended") };
            let wait = Duration::try_from(at - end.finished_at).unwrap();
            prop_assert_eq!(wait, end.snooze.clamp(MIN_SNOOZE, MAX_RETRY_DELAY));
            prop_assert!(wait >= Duration::from_secs(1));
        }

        #[test]
        fn an_exponential_wait_stays_within_its_bounds(
            base in 0_u64..100_000, factor in -5.0_f64..1e9, max in 0_u64..1_000_000, failures in 0_u32.., draw in 0.0_f64..1.0,
        ) {
            let max_delay = HumanDuration::from_secs(max);
            let backoff = Backoff::Exponential { base: HumanDuration::from_secs(base), factor, max_delay, jitter: true };
            prop_assert!(retry_delay(&backoff, failures, draw) <= max_delay.get());
        }

        #[test]
        fn a_failing_job_is_tried_exactly_as_often_as_it_may(max_attempts in 1_u32..20) {
            let policy = RetryPolicy { max_attempts, ..RetryPolicy::default() };
            let mut attempts = 1;
            while let AfterAttempt::RetryAt(_) =
                after_attempt(&AttemptEnd { charged_before: attempts - 1, ..end(Outcome::Failure) }, &policy, 0.5)
            {
                attempts += 1;
            }
            prop_assert_eq!(attempts, max_attempts);
        }

        #[test]
        fn a_retry_after_is_never_answered_too_early_nor_in_more_than_a_week(seconds in 0_u64..) {
            let end = AttemptEnd { advice: RetryAdvice::After(Duration::from_secs(seconds)), ..end(Outcome::Error) };
            let AfterAttempt::RetryAt(at) = after_attempt(&end, &RetryPolicy::default(), 0.0) else { panic!("no retry") };
            let wait = Duration::try_from(at - end.finished_at).unwrap();
            prop_assert!(wait <= MAX_RETRY_DELAY && wait >= Duration::from_secs(seconds).min(MAX_RETRY_DELAY));
        }
    }
}
