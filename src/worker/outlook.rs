//! How many jobs to claim ahead of the workers. Pure.
//!
//! A worker is free when its attempt has ended, but its next job comes with the next exchange with the store. Where attempts are
//! shorter than an exchange, workers would wait for the store most of their time. So as many jobs are claimed ahead as the workers are
//! expected to start until the second exchange from now has brought more: the one that is about to begin has to be bridged, and so has the one
//! after it. Where attempts are longer than an exchange, nothing is.
//!
//! See docs/decisions/0012-claiming-ahead.md.

use std::time::Duration;

/// How many jobs are ahead at the most.
pub(super) const MOST_AHEAD: usize = 512;

/// How much memory the params of what is ahead may take, as text, by the size of what was claimed lately.
const MOST_BYTES_AHEAD: usize = 32 << 20;

/// How many exchanges are bridged.
const EXCHANGES: u32 = 2;

/// How far it is looked ahead, however long exchanges take: by then what is ahead is expected to have been started, long before it is put back.
const FARTHEST: Duration = Duration::from_millis(50);

/// How long a job waits ahead before it is put back, because it turned out that the workers have longer jobs to do.
pub(super) const PATIENCE: Duration = Duration::from_millis(100);

/// No attempt is taken to be shorter, so that a clock that stands still makes no enormous numbers.
const SHORTEST: Duration = Duration::from_micros(1);

/// What was seen lately. It begins without having seen anything, and then nothing is claimed ahead.
#[derive(Debug, Clone, Default)]
pub(super) struct Outlook {
    /// How long an attempt keeps its worker.
    attempt: Option<Duration>,
    /// How long the store takes for an exchange.
    exchange: Option<Duration>,
    /// How many bytes the params of a job have.
    bytes: Option<usize>,
}

impl Outlook {
    /// Attempts that have ended kept their workers for so long, all together.
    pub(super) fn saw_attempts(&mut self, together: Duration, count: usize) {
        let Some(count) = u32::try_from(count).ok().filter(|count| *count > 0) else { return };
        self.attempt = Some(closer(self.attempt, together / count));
    }

    /// An exchange took so long.
    pub(super) fn saw_exchange(&mut self, took: Duration) {
        self.exchange = Some(closer(self.exchange, took));
    }

    /// Jobs that were claimed have params of so many bytes, all together.
    pub(super) fn saw_params(&mut self, bytes: usize, count: usize) {
        let Some(bytes) = bytes.checked_div(count) else { return };
        self.bytes = Some(self.bytes.map_or(bytes, |seen| (seen * 3 + bytes) / 4));
    }

    /// Jobs had to be put back, because the attempts that keep the workers go on and on.
    pub(super) fn was_too_bright(&mut self) {
        self.attempt = Some(self.attempt.map_or(PATIENCE, |seen| seen.max(PATIENCE)));
    }

    /// Whether an attempt that has been going on for so long may be one of the short ones, so that its worker is free again soon.
    pub(super) fn is_short(&self, elapsed: Duration) -> bool {
        self.exchange.is_some_and(|exchange| elapsed <= exchange)
    }

    /// How many jobs should be ahead when `workers` start one short job after the other.
    pub(super) fn ahead(&self, workers: usize) -> usize {
        let (Some(attempt), Some(exchange)) = (self.attempt, self.exchange) else { return 0 };
        if attempt >= exchange {
            return 0;
        }
        let horizon = (exchange * EXCHANGES).min(FARTHEST).as_nanos();
        let starts = workers as u128 * horizon / attempt.max(SHORTEST).as_nanos();
        let most = match self.bytes {
            Some(bytes) if bytes > 0 => MOST_AHEAD.min(MOST_BYTES_AHEAD / bytes),
            _ => MOST_AHEAD,
        };
        usize::try_from(starts).unwrap_or(usize::MAX).min(most)
    }
}

/// What was seen until now, a quarter of the way to what is seen now: one stall of a disk or one long job changes little, and many change it soon.
fn closer(until_now: Option<Duration>, now: Duration) -> Duration {
    until_now.map_or(now, |seen| (seen * 3 + now) / 4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn micros(count: u64) -> Duration {
        Duration::from_micros(count)
    }

    fn after(attempt: Duration, exchange: Duration) -> Outlook {
        let mut outlook = Outlook::default();
        outlook.saw_attempts(attempt, 1);
        outlook.saw_exchange(exchange);
        outlook
    }

    #[test]
    fn nothing_is_claimed_ahead_before_anything_was_seen() {
        let mut outlook = Outlook::default();
        assert_eq!(outlook.ahead(16), 0);
        outlook.saw_exchange(micros(1500));
        assert_eq!(outlook.ahead(16), 0);
        outlook.saw_attempts(micros(0), 0);
        assert_eq!(outlook.ahead(16), 0);
    }

    #[test]
    fn as_many_are_ahead_as_start_during_two_exchanges() {
        assert_eq!(after(micros(500), micros(1500)).ahead(16), 16 * 6);
        assert_eq!(after(micros(1000), micros(1500)).ahead(4), 12);
        assert_eq!(after(micros(10), micros(1500)).ahead(16), MOST_AHEAD);
    }

    #[test]
    fn jobs_that_take_longer_than_an_exchange_are_not_claimed_ahead() {
        assert_eq!(after(micros(1500), micros(1500)).ahead(1000), 0);
        assert_eq!(after(Duration::from_secs(60), micros(1500)).ahead(1000), 0);
        let mut outlook = after(micros(20), micros(1500));
        // Half of the latest ones took a second.
        outlook.saw_attempts(Duration::from_secs(8), 16);
        assert_eq!(outlook.ahead(16), 0);
        (0..40).for_each(|_| outlook.saw_attempts(micros(320), 16));
        assert_eq!(outlook.ahead(16), MOST_AHEAD, "one long job is forgotten within moments");
    }

    #[test]
    fn what_had_to_be_put_back_ends_it_until_short_attempts_are_seen_again() {
        let mut outlook = after(micros(20), micros(1500));
        outlook.was_too_bright();
        assert_eq!(outlook.ahead(16), 0);
        (0..40).for_each(|_| outlook.saw_attempts(micros(20), 1));
        assert!(outlook.ahead(16) > 0);
    }

    #[test]
    fn large_params_are_not_collected_in_memory() {
        let mut outlook = after(micros(10), micros(1500));
        outlook.saw_params(3 << 20, 3);
        assert_eq!(outlook.ahead(16), 32);
        outlook.saw_params(0, 0);
        assert_eq!(outlook.ahead(16), 32);
        outlook.saw_params(1 << 30, 1);
        assert_eq!(outlook.ahead(16), 0);
    }

    proptest! {
        #[test]
        fn what_is_ahead_is_expected_to_start_before_two_exchanges_are_over_and_long_before_it_is_put_back(
            attempts in prop::collection::vec((0_u64..10_000_000, 1_usize..100), 0..20),
            exchanges in prop::collection::vec(0_u64..10_000_000, 0..20), workers in 0_usize..2000,
        ) {
            let mut outlook = Outlook::default();
            for (together, count) in attempts {
                outlook.saw_attempts(micros(together), count);
            }
            for took in exchanges {
                outlook.saw_exchange(micros(took));
            }
            let ahead = outlook.ahead(workers);
            prop_assert!(ahead <= MOST_AHEAD);
            if ahead > 0 {
                let (attempt, exchange) = (outlook.attempt.unwrap(), outlook.exchange.unwrap());
                prop_assert!(attempt < exchange);
                let until_last_starts = attempt.as_nanos() * ahead as u128 / workers as u128;
                prop_assert!(until_last_starts <= (exchange * EXCHANGES).as_nanos());
                prop_assert!(until_last_starts * 2 <= PATIENCE.as_nanos());
            }
        }

        #[test]
        fn more_workers_never_lead_to_fewer_jobs_ahead(attempt in 0_u64..5_000, exchange in 0_u64..5_000, workers in 0_usize..500) {
            let outlook = after(micros(attempt), micros(exchange));
            prop_assert!(outlook.ahead(workers) <= outlook.ahead(workers + 1));
        }
    }
}
