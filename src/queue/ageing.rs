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

    /// Who starts at which second in a queue that starts one job a second, of those that have come the one of the smallest rank.
    fn starts(ageing: Ageing, mut jobs: Vec<(i64, i64)>) -> Vec<((i64, i64), i64)> {
        jobs.sort_unstable();
        let rank =
            |(came, level): &(i64, i64)| ageing.rank(at(*came), Priority::new(*level).unwrap());
        let mut started = Vec::with_capacity(jobs.len());
        let mut second = 0;
        while !jobs.is_empty() {
            let has_come = jobs.iter().position(|(came, _)| *came > second).unwrap_or(jobs.len());
            let next = (0..has_come).min_by_key(|place| rank(&jobs[*place]));
            started.extend(next.map(|place| (jobs.remove(place), second)));
            second += 1;
        }
        started
    }

    #[test]
    fn the_least_urgent_job_starts_under_an_endless_stream_of_the_most_urgent_ones() {
        let stream = (0..1000).map(|second| (second, 10));
        let started = starts(
            Ageing::new(Duration::from_secs(60)),
            [(0, 1)].into_iter().chain(stream).collect(),
        );
        let (_, second) = started.iter().find(|((_, level), _)| *level == 1).unwrap();
        assert_eq!(*second, 9 * 60, "when it has waited for nine levels");
    }

    proptest! {
        #[test]
        fn nothing_starves(
            jobs in prop::collection::vec((0_i64..60, 1_i64..=10), 1..100), per_level in 0_i64..8,
        ) {
            let ageing = Ageing::new(Duration::from_secs(per_level.unsigned_abs()));
            let started = starts(ageing, jobs.clone());
            prop_assert_eq!(started.len(), jobs.len());
            for ((came, level), second) in started {
                let in_front = jobs.iter().filter(|(other, _)| *other <= came + 9 * per_level).count();
                let waited = second - came;
                prop_assert!(waited < i64::try_from(in_front).unwrap(), "{} {} waited {}", came, level, waited);
            }
        }

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
