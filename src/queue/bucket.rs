//! What a rate has left: pure, given what is stored and the time.
//!
//! It is the generic cell rate algorithm. A bucket holds as many tokens as may start at once and gains one each interval; a start takes one.
//! All of that is one instant: when the bucket is full again if nothing more starts.

use jiff::Timestamp;

use crate::model::Rate;

/// Tokens that come within this time are waited for together, as far as the bucket holds so many, in microseconds: a node that woke for
/// each of a thousand a second would be busy with waking.
const TOGETHER_MICROS: i64 = 10_000;

/// The tokens of one rate at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    rate: Rate,
    now: i64,
    stored: Option<i64>,
    full_at: i64,
}

/// Why a bucket does not hold as many tokens as are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TooFew {
    /// Others have taken them. There are as many at this instant, if nobody takes one before.
    Until(Timestamp),
    /// It never holds as many.
    Ever,
}

impl Bucket {
    /// The bucket of a rate, which was stored with the instant from which it is full; one that was never stored is full.
    ///
    /// No bucket takes longer to fill than an empty one. What is stored may say so all the same, after the clock was set back or the
    /// rate was raised; the bucket is empty then, and [`to_store`](Self::to_store) says so, or it would stay so until the old instant.
    #[must_use]
    pub fn new(rate: Rate, full_at: Option<Timestamp>, now: Timestamp) -> Self {
        let stored = full_at.map(Timestamp::as_microsecond);
        let now = now.as_microsecond();
        let latest = now.saturating_add(rate.filling_micros());
        Self { rate, now, stored, full_at: stored.unwrap_or(now).clamp(now, latest) }
    }

    /// How many tokens it holds.
    #[must_use]
    pub fn left(&self) -> u32 {
        let gained = self.now.saturating_add(self.rate.filling_micros()) - self.full_at;
        u32::try_from(gained / self.rate.interval_micros()).unwrap_or(0)
    }

    /// Takes a token, if there is one.
    pub fn take(&mut self) -> bool {
        self.take_together(1).is_ok()
    }

    /// Takes so many tokens, or none.
    ///
    /// # Errors
    /// Why there are not as many.
    pub fn take_together(&mut self, count: u32) -> Result<(), TooFew> {
        if count > self.rate.burst() {
            return Err(TooFew::Ever);
        }
        let cost = self.rate.interval_micros() * i64::from(count);
        if self.left() < count {
            return Err(TooFew::Until(instant(self.full_at + cost - self.rate.filling_micros())));
        }
        self.full_at = self.full_at.saturating_add(cost);
        Ok(())
    }

    /// When to look at it again, where it holds no token: when it gets the next one, or of a fast rate the next few.
    #[must_use]
    pub fn next_at(&self) -> Option<Timestamp> {
        let interval = self.rate.interval_micros();
        let few = (TOGETHER_MICROS / interval).clamp(1, i64::from(self.rate.burst().div_ceil(2)));
        let all_but_few = self.rate.filling_micros() - few * interval;
        (self.left() == 0).then(|| instant(self.full_at - all_but_few))
    }

    /// The instant to store, where another one is stored.
    #[must_use]
    pub fn to_store(&self) -> Option<Timestamp> {
        let before = self.stored.unwrap_or(self.now).max(self.now);
        (self.full_at != before).then(|| instant(self.full_at))
    }
}

fn instant(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_microsecond(1_800_000_000_000_000 + micros).unwrap()
    }

    fn any_rate() -> impl Strategy<Value = Rate> {
        let units = prop::sample::select(vec!["s", "10s", "m", "h"]);
        (1_u32..50, units, prop::option::of(1_u32..6)).prop_map(|(count, unit, burst)| {
            let burst = burst.map(|burst| format!(" burst {burst}")).unwrap_or_default();
            format!("{count}/{unit}{burst}").parse().unwrap()
        })
    }

    fn fast_rate() -> impl Strategy<Value = Rate> {
        let burst = prop::option::of(1_u32..300);
        (100_u32..10_000, burst).prop_map(|(count, burst)| {
            let burst = burst.map(|burst| format!(" burst {burst}")).unwrap_or_default();
            format!("{count}/s{burst}").parse().unwrap()
        })
    }

    #[test]
    fn a_fast_rate_is_looked_at_a_hundred_times_a_second_and_no_more_often() {
        let mut bucket = Bucket::new("1000/s".parse().unwrap(), None, at(0));
        while bucket.take() {}
        assert_eq!(bucket.next_at(), Some(at(10_000)));
    }

    /// Steps of time as shares of what the bucket takes to fill, in thousandths, and how many want to start after each.
    fn any_demand() -> impl Strategy<Value = Vec<(i64, u32)>> {
        prop::collection::vec((prop_oneof![Just(0_i64), 1_i64..2500], 0_u32..9), 1..40)
    }

    /// A bucket as it goes through the database: read at one instant, used and stored.
    struct Kept(Rate, Option<Timestamp>);

    impl Kept {
        fn take(&mut self, micros: i64, wanted: u32) -> u32 {
            let mut bucket = Bucket::new(self.0, self.1, at(micros));
            let taken = (0..wanted).filter(|_| bucket.take()).count();
            self.1 = bucket.to_store().or(self.1);
            u32::try_from(taken).unwrap()
        }

        fn left(&self, micros: i64) -> u32 {
            Bucket::new(self.0, self.1, at(micros)).left()
        }
    }

    /// How many more than at this instant may start by the bound itself, which is known from all earlier starts and from nothing else.
    fn allowed(rate: Rate, starts: &[i64], now: i64) -> i64 {
        let (interval, burst) = (rate.interval_micros(), i64::from(rate.burst()));
        let in_window = |from: usize| {
            let started = i64::try_from(starts.len() - from).unwrap();
            burst + (now - starts[from]) / interval - started
        };
        (0..starts.len()).map(in_window).min().unwrap_or(burst).min(burst)
    }

    proptest! {
        #[test]
        fn what_starts_in_any_length_of_time_is_no_more_than_the_burst_and_the_rate_and_no_less(
            rate in any_rate(), demand in any_demand(),
        ) {
            let mut kept = Kept(rate, None);
            let (mut now, mut starts) = (0, Vec::new());
            for (share, wanted) in demand {
                now += rate.filling_micros() * share / 1000;
                let allowed = u32::try_from(allowed(rate, &starts, now)).unwrap();
                let taken = kept.take(now, wanted);
                prop_assert_eq!(taken, wanted.min(allowed), "at {}", now);
                starts.extend((0..taken).map(|_| now));
            }
        }

        #[test]
        fn the_next_tokens_come_when_they_are_said_to_come(
            rate in prop_oneof![any_rate(), fast_rate()], demand in any_demand(),
        ) {
            let mut kept = Kept(rate, None);
            let mut now = 0;
            for (share, wanted) in demand {
                now += rate.filling_micros() * share / 1000;
                kept.take(now, wanted);
                let Some(next) = Bucket::new(rate, kept.1, at(now)).next_at() else { continue };
                let next = next.as_microsecond() - at(0).as_microsecond();
                let few = kept.left(next);
                prop_assert_eq!(kept.left(next - 1), few - 1);
                prop_assert!(few == 1 || (few <= rate.burst().div_ceil(2) && next - now <= TOGETHER_MICROS));
                prop_assert!(now < next && next <= now + i64::from(few) * rate.interval_micros());
            }
        }

        #[test]
        fn after_a_clock_that_went_back_or_another_rate_a_bucket_is_full_when_an_empty_one_would_be(
            rates in prop::collection::vec(any_rate(), 1..5), looks in prop::collection::vec((-10_000_000_000_i64..10_000_000_000, 0_u32..9), 1..20),
        ) {
            let mut kept = Kept(rates[0], None);
            for (position, (now, wanted)) in looks.into_iter().enumerate() {
                kept.0 = rates[position % rates.len()];
                kept.take(now, wanted);
                let filling = kept.0.filling_micros();
                prop_assert_eq!(kept.left(now + filling), kept.0.burst());
                prop_assert!(kept.left(now + kept.0.interval_micros()) >= 1, "and there is a token after one interval");
            }
        }
    }

    proptest! {
        #[test]
        fn tokens_are_taken_together_or_not_at_all_and_are_there_when_it_is_said(
            rate in any_rate(), taken in 0_u32..6, wanted in 1_u32..9,
        ) {
            let mut kept = Kept(rate, None);
            let left = rate.burst() - kept.take(0, taken);
            let mut bucket = Bucket::new(rate, kept.1, at(0));
            let came = bucket.take_together(wanted);
            prop_assert_eq!(bucket.left(), if came.is_ok() { left - wanted } else { left });
            match came {
                Ok(()) => {}
                Err(TooFew::Ever) => prop_assert!(wanted > rate.burst()),
                Err(TooFew::Until(then)) => {
                    let then = then.as_microsecond() - at(0).as_microsecond();
                    prop_assert!(kept.left(then - 1) < wanted && kept.left(then) == wanted);
                }
            }
        }
    }

    #[test]
    fn d5_a_clock_set_back_by_a_year_holds_nothing_up_for_longer_than_an_interval() {
        let year = 366 * 86_400 * 1_000_000;
        let mut kept = Kept("6/m burst 3".parse().unwrap(), None);
        assert_eq!(kept.take(year, 9), 3);
        assert_eq!(kept.take(0, 9), 0, "as if all had just started");
        assert_eq!(kept.take(9_999_999, 9), 0);
        assert_eq!(kept.take(10_000_000, 9), 1);
    }

    #[test]
    fn a_bucket_that_nobody_uses_is_not_stored() {
        let rate = "6/m burst 3".parse().unwrap();
        for stored in [None, Some(at(-5)), Some(at(7))] {
            assert_eq!(Bucket::new(rate, stored, at(0)).to_store(), None, "{stored:?}");
        }
        let mut bucket = Bucket::new(rate, None, at(0));
        assert!(bucket.take());
        assert_eq!(bucket.to_store(), Some(at(10_000_000)));
    }
}
