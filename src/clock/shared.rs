//! The time that several nodes have in common: that of the database they share.
//!
//! Two machines whose clocks are minutes apart would fire the same schedule minutes apart, and each would promote the other's retries too
//! early or too late. So a node measures how far its own clock is off the database's and goes by its own, put right by that.
//!
//! Between two measurements it goes by the clock that never steps, not by the one on the wall: one that is set there would make the node
//! run in a moment what is due in the next hours, and nobody could take that back.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Clock, SharedClock, Sleep};

/// How far the clocks may be apart without anything being put right: what synchronised clocks are apart by, and what a slow answer makes
/// it look like. Below it two nodes decide at different moments and of the same instants.
const TOLERANCE: SignedDuration = SignedDuration::from_millis(250);

/// From how far apart on somebody should know of it.
pub const WORTH_TELLING: SignedDuration = SignedDuration::from_secs(1);

/// What the database's clock showed, between two looks at the shared one as we know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// The shared time, as we knew it, when it was asked.
    pub asked_at: Timestamp,
    /// What it said.
    pub database: Timestamp,
    /// The shared time, as we knew it, when the answer was there.
    pub answered_at: Timestamp,
    /// What the clock on this machine's wall showed then.
    pub machine: Timestamp,
}

impl Sample {
    /// How far the database's clock is ahead of what we knew.
    #[must_use]
    pub fn ahead_by(&self) -> SignedDuration {
        let middle = self.asked_at + self.round_trip() / 2;
        self.database.duration_since(middle)
    }

    /// How far the clock on this machine's wall is ahead of the database's.
    #[must_use]
    pub fn machine_ahead_by(&self) -> SignedDuration {
        self.machine.duration_since(self.database + self.round_trip() / 2)
    }

    /// Nothing is known more exactly than by half of this.
    fn round_trip(&self) -> SignedDuration {
        self.answered_at.duration_since(self.asked_at).max(SignedDuration::ZERO)
    }

    /// By how much what we knew was wrong, where that can be told.
    fn correction(&self) -> Option<SignedDuration> {
        let measured = self.ahead_by();
        let doubt = TOLERANCE + self.round_trip() / 2;
        (measured.abs() > doubt).then_some(measured)
    }
}

/// The database's clock, as it goes on here from the last time that it was asked.
#[derive(Debug)]
pub struct DatabaseClock {
    own: SharedClock,
    /// Its time minus the time since this machine booted, in microseconds.
    offset_us: AtomicI64,
}

impl DatabaseClock {
    /// On top of `own`, which is right until a sample says otherwise.
    #[must_use]
    pub fn new(own: SharedClock) -> Self {
        let offset_us = own.now().as_microsecond().saturating_sub(micros(own.since_boot()));
        Self { own, offset_us: AtomicI64::new(offset_us) }
    }

    /// This machine's clock as it is.
    #[must_use]
    pub fn own(&self) -> &SharedClock {
        &self.own
    }

    /// Takes a sample over where it contradicts what is known. Returns by how much the time changes then.
    pub fn learn(&self, sample: Sample) -> Option<SignedDuration> {
        let correction = sample.correction()?;
        let by = i64::try_from(correction.as_micros()).unwrap_or(0);
        self.offset_us.fetch_add(by, Ordering::AcqRel);
        Some(correction)
    }
}

impl Clock for DatabaseClock {
    fn now(&self) -> Timestamp {
        let at = self.offset_us.load(Ordering::Acquire).saturating_add(micros(self.since_boot()));
        Timestamp::from_microsecond(at).unwrap_or_else(|_out_of_range| self.own.now())
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

fn micros(uptime: Duration) -> i64 {
    i64::try_from(uptime.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::clock::ManualClock;

    const NOON: &str = "2026-06-15T12:00:00Z";

    fn ms(ms: i64) -> SignedDuration {
        SignedDuration::from_millis(ms)
    }

    fn sample(ahead_ms: i64, round_trip_ms: i64) -> Sample {
        let asked_at: Timestamp = NOON.parse().unwrap();
        let answered_at = asked_at + ms(round_trip_ms);
        let database = asked_at + ms(round_trip_ms / 2) + ms(ahead_ms);
        Sample { asked_at, database, answered_at, machine: answered_at }
    }

    #[test]
    fn m6_a_clock_five_minutes_off_is_put_right_by_the_databases() {
        let own = ManualClock::new(NOON.parse().unwrap());
        let clock = DatabaseClock::new(Arc::new(own.clone()));
        assert_eq!(sample(-300_000, 2).machine_ahead_by(), ms(300_000));
        assert_eq!(clock.learn(sample(-300_000, 2)), Some(ms(-300_000)));
        assert_eq!(clock.now(), "2026-06-15T11:55:00Z".parse().unwrap());
        assert_eq!(clock.since_boot(), own.since_boot(), "lengths of time are nobody else's");
    }

    #[test]
    fn m6_a_clock_that_is_set_between_two_samples_changes_nothing() {
        let own = ManualClock::new(NOON.parse().unwrap());
        let clock = DatabaseClock::new(Arc::new(own.clone()));
        own.step_to("2026-06-15T15:00:00Z".parse().unwrap());
        assert_eq!(clock.now(), NOON.parse().unwrap(), "or three hours would be due at once");
        own.advance(Duration::from_secs(60));
        assert_eq!(clock.now(), "2026-06-15T12:01:00Z".parse().unwrap());
    }

    #[test]
    fn clocks_that_agree_are_left_alone_and_a_slow_answer_proves_nothing() {
        assert_eq!(sample(200, 2).correction(), None);
        assert_eq!(sample(2_000, 4_000).correction(), None, "it may all be the way there");
        assert_eq!(sample(-3_000, 2).correction(), Some(ms(-3_000)));
    }

    proptest! {
        #[test]
        fn after_a_sample_the_clock_is_no_further_off_than_can_be_told(
            ahead in -400_000_i64..400_000, round_trip in 0_i64..3_000,
        ) {
            let own = ManualClock::new(NOON.parse().unwrap());
            let clock = DatabaseClock::new(Arc::new(own));
            clock.learn(sample(ahead, round_trip * 2));
            let right: Timestamp = NOON.parse::<Timestamp>().unwrap() + ms(ahead);
            let off = clock.now().duration_since(right).abs();
            prop_assert!(off <= TOLERANCE + ms(round_trip));
        }
    }
}
