//! The time that several nodes have in common: that of the database they share.
//!
//! Two machines whose clocks are minutes apart would fire the same schedule minutes apart, and each would promote the other's retries too
//! early or too late. So a node measures how far its own clock is off the database's and goes by its own, put right by that.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Clock, SharedClock, Sleep};

/// How far the clocks may be apart without anything being put right: what synchronised clocks are apart by, and what a slow answer makes
/// it look like. Below it two nodes decide at different moments and of the same instants.
const TOLERANCE: SignedDuration = SignedDuration::from_millis(250);

/// From how far apart on somebody should know of it.
pub const WORTH_TELLING: SignedDuration = SignedDuration::from_secs(1);

/// What the database's clock showed, between two looks at our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Our own clock when it was asked.
    pub asked_at: Timestamp,
    /// What it said.
    pub database: Timestamp,
    /// Our own clock when the answer was there.
    pub answered_at: Timestamp,
}

impl Sample {
    /// How far the database's clock is ahead of ours.
    #[must_use]
    pub fn ahead_by(&self) -> SignedDuration {
        let middle = self.asked_at + self.round_trip() / 2;
        self.database.duration_since(middle)
    }

    /// Nothing is known more exactly than by half of this.
    fn round_trip(&self) -> SignedDuration {
        self.answered_at.duration_since(self.asked_at).max(SignedDuration::ZERO)
    }
}

/// This machine's clock, put right by the database's.
#[derive(Debug)]
pub struct DatabaseClock {
    own: SharedClock,
    correction_us: AtomicI64,
}

impl DatabaseClock {
    /// On top of `own`, which is right until a sample says otherwise.
    #[must_use]
    pub fn new(own: SharedClock) -> Self {
        Self { own, correction_us: AtomicI64::new(0) }
    }

    /// This machine's clock as it is.
    #[must_use]
    pub fn own(&self) -> &SharedClock {
        &self.own
    }

    /// Takes a sample over where it contradicts what is known. Returns the new correction then.
    pub fn learn(&self, sample: Sample) -> Option<SignedDuration> {
        let known = self.correction();
        let correction = corrected(known, sample)?;
        let micros = i64::try_from(correction.as_micros()).unwrap_or(0);
        self.correction_us.store(micros, Ordering::Release);
        Some(correction)
    }

    /// What is added to this machine's clock.
    #[must_use]
    pub fn correction(&self) -> SignedDuration {
        SignedDuration::from_micros(self.correction_us.load(Ordering::Acquire))
    }
}

/// The correction after a sample, where it has to change. One that was needed goes back to none at all when the clocks agree again, and
/// not to the last few milliseconds.
fn corrected(known: SignedDuration, sample: Sample) -> Option<SignedDuration> {
    let measured = sample.ahead_by();
    let doubt = TOLERANCE + sample.round_trip() / 2;
    let is_contradicted = (measured - known).abs() > doubt;
    let is_needless = !known.is_zero() && measured.abs() <= TOLERANCE;
    match (is_contradicted, measured.abs() <= doubt) {
        (true, true) => Some(SignedDuration::ZERO),
        (true, false) => Some(measured),
        (false, _) => is_needless.then_some(SignedDuration::ZERO),
    }
}

impl Clock for DatabaseClock {
    fn now(&self) -> Timestamp {
        let now = self.own.now();
        now.checked_add(self.correction()).unwrap_or(now)
    }

    fn since_boot(&self) -> Duration {
        self.own.since_boot()
    }

    fn is_synchronised(&self) -> bool {
        self.own.is_synchronised()
    }

    fn sleep(&self, wait: Duration) -> Sleep {
        self.own.sleep(wait)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::clock::ManualClock;

    fn ms(ms: i64) -> SignedDuration {
        SignedDuration::from_millis(ms)
    }

    fn sample(ahead_ms: i64, round_trip_ms: i64) -> Sample {
        let asked_at: Timestamp = "2026-06-15T12:00:00Z".parse().unwrap();
        Sample {
            asked_at,
            database: asked_at + ms(round_trip_ms / 2) + ms(ahead_ms),
            answered_at: asked_at + ms(round_trip_ms),
        }
    }

    #[test]
    fn m6_a_clock_five_minutes_off_is_put_right_by_the_databases() {
        let own = ManualClock::new("2026-06-15T12:00:00Z".parse().unwrap());
        let clock = DatabaseClock::new(Arc::new(own.clone()));
        assert_eq!(clock.learn(sample(-300_000, 2)), Some(ms(-300_000)));
        assert_eq!(clock.now(), "2026-06-15T11:55:00Z".parse().unwrap());
        assert_eq!(clock.since_boot(), own.since_boot(), "lengths of time are nobody else's");
    }

    #[test]
    fn clocks_that_agree_are_left_alone_and_a_slow_answer_proves_nothing() {
        assert_eq!(corrected(ms(0), sample(200, 2)), None);
        assert_eq!(corrected(ms(0), sample(2_000, 4_000)), None, "it may all be the way there");
        assert_eq!(corrected(ms(5_000), sample(5_100, 2)), None);
    }

    #[test]
    fn a_correction_that_is_not_needed_any_more_is_dropped() {
        assert_eq!(corrected(ms(-300_000), sample(3, 2)), Some(ms(0)));
        assert_eq!(corrected(ms(260), sample(240, 2)), Some(ms(0)));
    }

    proptest! {
        #[test]
        fn after_a_sample_the_clock_is_no_further_off_than_can_be_told(
            known in -400_000_i64..400_000, ahead in -400_000_i64..400_000, round_trip in 0_i64..3_000,
        ) {
            let sample = sample(ahead, round_trip * 2);
            let after = corrected(ms(known), sample).unwrap_or(ms(known));
            prop_assert!((after - ms(ahead)).abs() <= TOLERANCE + ms(round_trip));
        }
    }
}
