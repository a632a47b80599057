//! A histogram that answers percentiles within a known error, in memory that does not grow with the number of values.

use std::collections::BTreeMap;

/// Each power of two is divided into `2^7` buckets of equal width, so a bucket is at most 1/128 of its values wide and
/// its middle at most 1/256 (0.4 %) away from any of them. Values below 128 have a bucket each and are exact.
const PRECISION_BITS: u32 = 7;
const BUCKETS_PER_OCTAVE: u64 = 1 << PRECISION_BITS;

/// Counts values in buckets whose width grows with the value.
///
/// Percentiles are off by at most [`Histogram::RELATIVE_ERROR`]; count, total, smallest and largest value are exact. It
/// holds at most 7,424 buckets, however many values are recorded, and only those that are not empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Histogram {
    buckets: BTreeMap<u16, u64>,
    count: u64,
    total: u128,
    min: u64,
    max: u64,
}

impl Histogram {
    /// How far a percentile can be from the value it stands for, as a share of that value.
    pub const RELATIVE_ERROR: f64 = 1.0 / 256.0;

    /// Adds a value.
    pub fn record(&mut self, value: u64) {
        self.min = if self.count == 0 { value } else { self.min.min(value) };
        self.max = self.max.max(value);
        self.count += 1;
        self.total += u128::from(value);
        *self.buckets.entry(bucket_of(value)).or_default() += 1;
    }

    /// How many values were added.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The largest value, exact.
    #[must_use]
    pub fn max(&self) -> Option<u64> {
        (self.count > 0).then_some(self.max)
    }

    /// The mean, exact but for rounding down.
    #[must_use]
    pub fn mean(&self) -> Option<u64> {
        let mean = self.total.checked_div(u128::from(self.count))?;
        u64::try_from(mean).ok()
    }

    /// The smallest value that at least `percent` of all values do not exceed (the nearest-rank definition).
    #[must_use]
    pub fn percentile(&self, percent: u8) -> Option<u64> {
        let hundredths = u128::from(self.count) * u128::from(percent.min(100));
        let rank = u64::try_from(hundredths.div_ceil(100)).ok()?.max(1);
        let mut seen = 0;
        for (bucket, count) in &self.buckets {
            seen += count;
            if seen >= rank {
                // The extremes are known exactly, and no percentile may lie beyond them.
                return Some(middle_of(*bucket).clamp(self.min, self.max));
            }
        }
        None
    }
}

fn bucket_of(value: u64) -> u16 {
    if value < BUCKETS_PER_OCTAVE {
        return value as u16;
    }
    let shift = value.ilog2() - PRECISION_BITS;
    let within = (value >> shift) - BUCKETS_PER_OCTAVE;
    (u64::from(shift + 1) * BUCKETS_PER_OCTAVE + within) as u16
}

fn middle_of(bucket: u16) -> u64 {
    let octave = u64::from(bucket) / BUCKETS_PER_OCTAVE;
    let within = u64::from(bucket) % BUCKETS_PER_OCTAVE;
    let Some(shift) = octave.checked_sub(1) else { return within };
    let first = (BUCKETS_PER_OCTAVE + within) << shift;
    let width = 1 << shift;
    first + (width - 1) / 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn exact(values: &[u64], percent: u8) -> u64 {
        let mut sorted = values.to_vec();
        sorted.sort_unstable();
        let rank = (sorted.len() * usize::from(percent)).div_ceil(100).max(1);
        sorted[rank - 1]
    }

    fn histogram(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        values.iter().for_each(|value| histogram.record(*value));
        histogram
    }

    #[test]
    fn nothing_recorded_has_no_percentiles() {
        let empty = Histogram::default();
        assert_eq!((empty.percentile(50), empty.max(), empty.mean()), (None, None, None));
    }

    #[test]
    fn a_million_values_take_a_bounded_number_of_buckets() {
        let mut histogram = Histogram::default();
        let mut value = 1_u64;
        for _ in 0..1_000_000 {
            // Knuth's MMIX generator: spreads over the whole range without drawing randomness in a test.
            value = value
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            histogram.record(value >> (value % 64));
        }
        assert_eq!(histogram.count(), 1_000_000);
        assert!(histogram.buckets.len() <= 7424, "{}", histogram.buckets.len());
    }

    #[test]
    fn the_last_bucket_holds_the_largest_value() {
        assert_eq!(bucket_of(u64::MAX), 7423);
        assert!(histogram(&[u64::MAX, u64::MAX]).percentile(50) == Some(u64::MAX));
    }

    fn any_values() -> impl Strategy<Value = Vec<u64>> {
        let any_size = (0_u32..64, any::<u64>()).prop_map(|(shift, value)| value >> shift);
        proptest::collection::vec(any_size, 1..200)
    }

    proptest! {
        #[test]
        fn percentiles_are_within_the_stated_error(values in any_values(), percent in 0_u8..=100) {
            let found = histogram(&values).percentile(percent).unwrap();
            let wanted = exact(&values, percent);
            let allowed = wanted as f64 * Histogram::RELATIVE_ERROR;
            prop_assert!(found.abs_diff(wanted) as f64 <= allowed, "{found} is not {wanted}");
        }

        #[test]
        fn small_values_and_extremes_are_exact(values in proptest::collection::vec(0_u64..128, 1..100), percent in 0_u8..=100) {
            let found = histogram(&values);
            prop_assert_eq!(found.percentile(percent).unwrap(), exact(&values, percent));
            prop_assert_eq!(found.max(), values.iter().copied().max());
            prop_assert_eq!(found.mean().unwrap(), values.iter().sum::<u64>() / values.len() as u64);
        }

        #[test]
        fn greater_values_are_in_later_buckets(a in any::<u64>(), b in any::<u64>()) {
            let (small, large) = (a.min(b), a.max(b));
            prop_assert!(bucket_of(small) <= bucket_of(large));
            prop_assert_eq!(bucket_of(middle_of(bucket_of(a))), bucket_of(a));
        }
    }
}
