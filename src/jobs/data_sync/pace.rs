//! A limit on bytes a second: a token bucket. Pure; the caller knows what time it is and does the waiting.

use std::time::Duration;

/// The bucket. It holds what may be sent in one second and starts full.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    per_second: u64,
    /// Tokens, in bytes. Negative after a part that was larger than what was left.
    level: i128,
    last: Duration,
}

impl Bucket {
    /// A full bucket at the monotonic instant `now`.
    pub(super) fn new(per_second: u64, now: Duration) -> Self {
        Self { per_second: per_second.max(1), level: i128::from(per_second.max(1)), last: now }
    }

    /// Takes out `bytes` that were just transferred, and says how long to wait before the next part.
    pub(super) fn take(&mut self, bytes: u64, now: Duration) -> Duration {
        let passed = now.saturating_sub(self.last);
        self.last = now;
        let capacity = i128::from(self.per_second);
        let gained = capacity * i128::try_from(passed.as_nanos()).unwrap_or(i128::MAX / capacity)
            / 1_000_000_000;
        self.level = (self.level.saturating_add(gained)).min(capacity) - i128::from(bytes);
        if self.level >= 0 {
            return Duration::ZERO;
        }
        let nanos = (-self.level * 1_000_000_000 + capacity - 1) / capacity;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_second_of_burst_is_free_and_the_rest_waits() {
        let mut bucket = Bucket::new(1000, Duration::ZERO);
        assert_eq!(bucket.take(1000, Duration::ZERO), Duration::ZERO);
        assert_eq!(bucket.take(500, Duration::ZERO), Duration::from_millis(500));
        assert_eq!(bucket.take(0, Duration::from_millis(500)), Duration::ZERO);
        assert_eq!(bucket.take(1000, Duration::from_secs(60)), Duration::ZERO);
        assert_eq!(bucket.take(1000, Duration::from_secs(60)), Duration::from_secs(1));
    }

    proptest! {
        #[test]
        fn the_rate_is_kept_over_any_transfer(
            rate in 1_u64..1_000_000,
            parts in prop::collection::vec(0_u64..1_000_000, 1..50),
        ) {
            let mut bucket = Bucket::new(rate, Duration::ZERO);
            let mut now = Duration::ZERO;
            for part in &parts {
                now += bucket.take(*part, now);
            }
            let total: u64 = parts.iter().sum();
            let least = total.saturating_sub(rate) as f64 / rate as f64;
            prop_assert!(now.as_secs_f64() >= least - 1e-6, "{total} bytes in {now:?}");
            prop_assert!(now.as_secs_f64() <= least + 1e-3, "{total} bytes in {now:?}");
        }
    }
}
