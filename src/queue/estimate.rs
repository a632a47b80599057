//! How long jobs take: learned from those that are over. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

/// What the newest duration counts for, against all before it. With a fifth, ten runs forget nine tenths of what was before.
const NEWEST: f64 = 0.2;

/// How long successful attempts take, by kind.
#[derive(Debug, Clone, Default)]
pub struct Durations(BTreeMap<String, f64>);

impl Durations {
    /// Learns from an attempt that has just ended well.
    pub fn learn(&mut self, kind: &str, took: Duration) {
        let took = took.as_secs_f64();
        match self.0.get_mut(kind) {
            Some(mean) => *mean += NEWEST * (took - *mean),
            None => {
                self.0.insert(kind.to_owned(), took);
            }
        }
    }

    /// How long the next one will take; none before the first.
    #[must_use]
    pub fn of(&self, kind: &str) -> Option<Duration> {
        self.0.get(kind).and_then(|mean| Duration::try_from_secs_f64(*mean).ok())
    }
}

/// When an attempt that runs will be over: by how far it says it is, else by how long others took. None where neither is known, or it
/// has taken longer already.
#[must_use]
pub fn expected_end(
    started_at: Timestamp,
    now: Timestamp,
    percent: Option<u8>,
    usual: Option<Duration>,
) -> Option<Timestamp> {
    let so_far = Duration::try_from(now.duration_since(started_at)).ok()?;
    let left = match percent.filter(|percent| (1..=100).contains(percent)) {
        Some(percent) => so_far.mul_f64(f64::from(100 - percent) / f64::from(percent)),
        None => usual?.checked_sub(so_far)?,
    };
    now.checked_add(left).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_is_learned_follows_what_happens() {
        let mut durations = Durations::default();
        assert_eq!(durations.of("pdf"), None);
        durations.learn("pdf", Duration::from_secs(10));
        assert_eq!(durations.of("pdf"), Some(Duration::from_secs(10)));
        for _ in 0..30 {
            durations.learn("pdf", Duration::from_secs(100));
        }
        let learned = durations.of("pdf").unwrap().as_secs_f64();
        assert!((99.0..=100.0).contains(&learned), "{learned}");
        assert_eq!(durations.of("other"), None);
    }

    #[test]
    fn what_a_job_says_of_itself_counts_before_what_others_took() {
        let minute = Some(Duration::from_secs(60));
        assert_eq!(expected_end(at(0), at(10), Some(25), minute), Some(at(40)));
        assert_eq!(expected_end(at(0), at(10), None, minute), Some(at(60)));
        assert_eq!(expected_end(at(0), at(10), Some(0), None), None);
        assert_eq!(expected_end(at(0), at(70), None, minute), None, "it is late already");
    }

    proptest! {
        #[test]
        fn the_expected_end_is_never_past(start in 0_i64..1000, after in 0_i64..1000, percent in prop::option::of(0_u8..=100), usual in prop::option::of(0_u64..2000)) {
            let now = at(start + after);
            if let Some(end) = expected_end(at(start), now, percent, usual.map(Duration::from_secs)) {
                prop_assert!(end >= now);
            }
        }
    }
}
