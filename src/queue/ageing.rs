//! A job's place in its queue, as one number that never changes.

use std::time::Duration;

use jiff::Timestamp;

use crate::model::Priority;

/// How long a job has to wait to be worth one priority level more.
///
/// The rank of a job is its `run_at` minus its priority times this, in microseconds; the smallest rank goes first. So within a level jobs
/// go in order of `run_at`, a higher level goes before a lower one, and a job that has waited this much longer than another
/// one level above it goes first. No job can be overtaken by one that came more than nine times this later. The rank is
/// fixed at submission: nothing has to be re-sorted as time passes, and a retried or interrupted job gets its old
/// place back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ageing {
    per_level_micros: i64,
}

impl Ageing {
    /// An hour a level: nothing urgent waits for old routine work, and nothing waits for ever.
    pub const DEFAULT: Self = Self { per_level_micros: 3_600_000_000 };

    /// Ageing with `per_level` of waiting worth one level. At most a year, which is as good as never.
    #[must_use]
    pub fn new(per_level: Duration) -> Self {
        const YEAR: Duration = Duration::from_secs(366 * 86_400);
        let micros = per_level.min(YEAR).as_micros();
        Self { per_level_micros: i64::try_from(micros).unwrap_or(i64::MAX / 20) }
    }

    /// The rank of a job, in microseconds; smaller goes first.
    #[must_use]
    pub fn rank(self, run_at: Timestamp, priority: Priority) -> i64 {
        run_at.as_microsecond() - i64::from(priority.level()) * self.per_level_micros
    }
}

impl Default for Ageing {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    proptest! {
        #[test]
        fn a_job_is_never_overtaken_by_one_that_comes_nine_levels_of_ageing_later(
            second in 0_i64..4_000_000_000, hours in 0_u64..100, low in 1_i64..=10, high in 1_i64..=10, later in 1_i64..1_000_000,
        ) {
            let ageing = Ageing::new(Duration::from_secs(hours * 3600));
            let bound = i64::try_from(hours * 3600 * 9).unwrap();
            let old = ageing.rank(at(second), Priority::new(low).unwrap());
            let new = ageing.rank(at(second + bound + later), Priority::new(high).unwrap());
            prop_assert!(old < new);
        }

        #[test]
        fn within_a_level_the_earlier_goes_first(second in 0_i64..4_000_000_000, later in 1_i64..1_000_000, level in 1_i64..=10) {
            let priority = Priority::new(level).unwrap();
            prop_assert!(Ageing::DEFAULT.rank(at(second), priority) < Ageing::DEFAULT.rank(at(second + later), priority));
        }

        #[test]
        fn at_the_same_time_the_higher_level_goes_first(second in 0_i64..4_000_000_000, low in 1_i64..10) {
            let rank = |level| Ageing::DEFAULT.rank(at(second), Priority::new(level).unwrap());
            prop_assert!(rank(low + 1) < rank(low));
        }
    }
}
