//! The time by which things are old enough to be deleted.
//!
//! A wall clock that is set ten years ahead by mistake makes everything ten years older at once, and whoever deletes by age deletes
//! everything. So deleting does not believe a jump at once: for a day it goes by the time that the monotonic clock says it would be
//! without the jump. Nothing stops meanwhile, and nothing goes that would not have gone anyway. If the clock is put right within
//! that day, the jump is forgotten; if not, it is taken for the truth.
//!
//! It never runs ahead of the wall clock: one that was set back makes things younger, which harms nobody.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Clock, EARLIEST_PLAUSIBLE, SharedClock, Sleep};

/// How far the wall clock may move against the monotonic one without being doubted. Clock discipline and a virtual machine that
/// is held for a moment stay below it.
const TOLERANCE: SignedDuration = SignedDuration::from_hours(1);

/// The same for the first look after a start: for so long the daemon may have been down.
const PLAUSIBLE_DOWNTIME: SignedDuration = SignedDuration::from_hours(30 * 24);

/// How long a jump is doubted.
const DOUBTED_FOR: Duration = Duration::from_secs(24 * 3600);

/// What outlives the process, so that a restart after a jump does not make the jump the truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// The time without the jump.
    pub believed: Timestamp,
    /// The jump that was not believed.
    pub doubted: Option<Doubted>,
}

/// A jump that an earlier daemon did not believe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubted {
    /// What the wall clock showed when the doubt began.
    pub since: Timestamp,
    /// By how much the wall clock was ahead of the time without the jump.
    pub ahead_by: SignedDuration,
}

/// A jump of the wall clock that is not believed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doubt {
    /// By how much the wall clock is ahead of the time without the jump; negative when it is behind.
    pub ahead_by: SignedDuration,
    /// How long it will be doubted, unless it is put right before.
    pub remaining: Duration,
}

/// A clock for whoever deletes by age. See the module.
#[derive(Debug)]
pub struct CautiousClock {
    clock: SharedClock,
    line: Mutex<Line>,
}

/// Time as it goes on without jumps, from a point on both clocks.
#[derive(Debug, Clone, Copy)]
struct Line {
    wall: Timestamp,
    since_boot: Duration,
    /// How far the wall clock may be off the line and still be believed.
    slack: SignedDuration,
    off: Option<Off>,
}

/// That the wall clock is off the line.
#[derive(Debug, Clone, Copy)]
struct Off {
    by: SignedDuration,
    /// Since when, on the monotonic clock. Negative: since before the boot.
    since: SignedDuration,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.remaining.as_secs() / 60;
        let (ahead, direction) = if self.ahead_by.is_negative() {
            (-self.ahead_by, "back")
        } else {
            (self.ahead_by, "ahead")
        };
        write!(
            f,
            "the clock was set {direction} by {ahead:#} and is not believed for another {}h {}m where things are deleted by age; put it right if it is wrong",
            minutes / 60,
            minutes % 60
        )
    }
}

impl CautiousClock {
    /// On top of `clock`, with what an earlier daemon remembered.
    #[must_use]
    pub fn new(clock: SharedClock, remembered: Option<Remembered>) -> Arc<Self> {
        let (now, since_boot) = (clock.now(), clock.since_boot());
        let Some(Remembered { believed, doubted }) = remembered else {
            let line = Line { wall: now, since_boot, slack: TOLERANCE, off: None };
            return Arc::new(Self { clock, line: Mutex::new(line) });
        };
        let by = now.duration_since(believed);
        // A day of doubt goes on while the daemon is down. What the wall clock is ahead by more than that and the downtime
        // is another jump, by which the age of the doubt cannot be told either: it would be as old as the jump is long.
        let is_same_jump = |doubted: &Doubted| {
            let downtime = by - doubted.ahead_by;
            downtime >= -TOLERANCE && downtime <= PLAUSIBLE_DOWNTIME
        };
        let off = doubted.filter(is_same_jump).map(|doubted| Off {
            by,
            since: signed(since_boot) - now.duration_since(doubted.since).max(SignedDuration::ZERO),
        });
        let slack = if off.is_some() { TOLERANCE } else { PLAUSIBLE_DOWNTIME };
        let line = Line { wall: believed, since_boot, slack, off };
        Arc::new(Self { clock, line: Mutex::new(line) })
    }

    /// What is to be remembered for the next daemon.
    #[must_use]
    pub fn remember(&self) -> Remembered {
        let now = self.clock.now();
        let (believed, doubt) = self.look();
        let doubted_for = |doubt: Doubt| DOUBTED_FOR.saturating_sub(doubt.remaining);
        let doubted = |doubt: Doubt| Doubted {
            since: now.checked_sub(doubted_for(doubt)).unwrap_or(now),
            ahead_by: doubt.ahead_by,
        };
        Remembered { believed, doubted: doubt.map(doubted) }
    }

    /// The jump that is not believed yet, if there is one.
    #[must_use]
    pub fn doubt(&self) -> Option<Doubt> {
        self.look().1
    }

    /// The time without the jump, and the jump.
    fn look(&self) -> (Timestamp, Option<Doubt>) {
        let mut line = self.line();
        // Both clocks under the lock, so that looks are in order.
        let (now, since_boot) = (self.clock.now(), self.clock.since_boot());
        let expected = line.at(since_boot);
        let by = now.duration_since(expected);
        // A doubt is about one jump; the next one is doubted afresh.
        let known = line.off.filter(|off| (off.by - by).abs() <= TOLERANCE);
        let off_for = known.map_or(Duration::ZERO, |off| {
            Duration::try_from(signed(since_boot) - off.since).unwrap_or(Duration::ZERO)
        });
        // After a boot in 1970 without anything remembered, whatever comes is better.
        let was_set = line.wall >= EARLIEST_PLAUSIBLE;
        if by.abs() <= line.slack || off_for >= DOUBTED_FOR || !was_set {
            if line.off.is_some() {
                tracing::warn!(now = %now, "the wall clock is believed again where things are deleted by age");
            }
            *line = Line { wall: now, since_boot, slack: TOLERANCE, off: None };
            return (now, None);
        }
        if known.is_none() {
            tracing::error!(
                jump = %format_args!("{by:#}"),
                now = %now,
                "the wall clock jumped and is not believed for a day where things are deleted by age; put it right if it is wrong"
            );
            line.off = Some(Off { by, since: signed(since_boot) });
        }
        (expected, Some(Doubt { ahead_by: by, remaining: DOUBTED_FOR.saturating_sub(off_for) }))
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn at(&self, since_boot: Duration) -> Timestamp {
        let passed = since_boot.saturating_sub(self.since_boot);
        self.wall.checked_add(passed).unwrap_or(Timestamp::MAX)
    }
}

impl Clock for CautiousClock {
    fn now(&self) -> Timestamp {
        let now = self.clock.now();
        self.look().0.min(now)
    }

    fn since_boot(&self) -> Duration {
        self.clock.since_boot()
    }

    fn is_synchronised(&self) -> bool {
        self.clock.is_synchronised()
    }

    fn sleep(&self, wait: Duration) -> Sleep {
        self.clock.sleep(wait)
    }
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::ManualClock;

    const HOUR: Duration = Duration::from_secs(3600);
    const YEAR: SignedDuration = SignedDuration::from_hours(365 * 24);

    fn start() -> Timestamp {
        "2026-06-15T12:00:00Z".parse().unwrap()
    }

    fn clocks(remembered: Option<Remembered>) -> (ManualClock, Arc<CautiousClock>) {
        let clock = ManualClock::new(start());
        (clock.clone(), CautiousClock::new(Arc::new(clock), remembered))
    }

    #[test]
    fn d4_a_jump_of_ten_years_makes_nothing_older_for_a_day() {
        let (wall, cautious) = clocks(None);
        wall.step_to(start() + 10 * YEAR);
        assert_eq!(cautious.now(), start());
        wall.advance(HOUR);
        assert_eq!(cautious.now(), start() + HOUR);
        let doubt = cautious.doubt().unwrap();
        assert_eq!((doubt.ahead_by, doubt.remaining), (10 * YEAR, 23 * HOUR));
        wall.advance(23 * HOUR);
        assert_eq!((cautious.now(), cautious.doubt()), (wall.now(), None));
    }

    #[test]
    fn d4_a_clock_that_is_put_right_within_the_day_is_believed_at_once() {
        let (wall, cautious) = clocks(None);
        wall.step_to(start() + 10 * YEAR);
        assert!(cautious.doubt().is_some());
        wall.advance(HOUR);
        wall.step_to(start() + HOUR);
        assert_eq!((cautious.now(), cautious.doubt()), (start() + HOUR, None));
        wall.step_to(start() + 10 * YEAR);
        assert_eq!(cautious.doubt().unwrap().remaining, DOUBTED_FOR, "another jump, another day");
    }

    #[test]
    fn d4_a_restart_does_not_make_a_jump_the_truth() {
        let (wall, cautious) = clocks(None);
        wall.step_to(start() + 10 * YEAR);
        let remembered = cautious.remember();
        assert_eq!(remembered.believed, start());
        wall.advance(HOUR);
        let again = CautiousClock::new(Arc::new(wall.clone()), Some(remembered));
        assert!(again.now() <= start() + HOUR);
        assert_eq!(again.doubt().unwrap().remaining, 23 * HOUR);
        // The day goes on while nobody looks.
        wall.advance(24 * HOUR);
        let later = CautiousClock::new(Arc::new(wall.clone()), Some(remembered));
        assert_eq!(later.now(), wall.now());
    }

    #[test]
    fn d4_a_jump_that_was_doubted_before_says_nothing_for_a_longer_one() {
        let (wall, cautious) = clocks(None);
        wall.step_to(start() + 2 * HOUR);
        let remembered = cautious.remember();
        assert!(remembered.doubted.is_some());
        wall.step_to(start() + 10 * YEAR);
        let again = CautiousClock::new(Arc::new(wall.clone()), Some(remembered));
        assert_eq!(again.now(), start());
        assert_eq!(again.doubt().unwrap().remaining, DOUBTED_FOR);
    }

    #[test]
    fn d4_a_wrong_clock_at_the_start_is_told_from_a_long_downtime() {
        let remembered =
            |ago: SignedDuration| Some(Remembered { believed: start() - ago, doubted: None });
        let (_, after_holidays) = clocks(remembered(SignedDuration::from_hours(29 * 24)));
        assert_eq!(after_holidays.now(), start());
        let ahead = ManualClock::new(start() + 10 * YEAR);
        let after_years = CautiousClock::new(Arc::new(ahead), remembered(SignedDuration::ZERO));
        assert_eq!(after_years.now(), start());
    }

    #[test]
    fn d7_a_boot_in_1970_and_the_right_time_after_it_are_no_jump() {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        let remembered = Remembered { believed: start(), doubted: None };
        let cautious = CautiousClock::new(Arc::new(clock.clone()), Some(remembered));
        assert_eq!(cautious.now(), Timestamp::UNIX_EPOCH, "it never runs ahead of the wall clock");
        clock.advance(Duration::from_secs(30));
        clock.step_to(start() + HOUR);
        assert_eq!((cautious.now(), cautious.doubt()), (start() + HOUR, None));

        let first_boot = ManualClock::new(Timestamp::UNIX_EPOCH);
        let cautious = CautiousClock::new(Arc::new(first_boot.clone()), None);
        first_boot.step_to(start());
        assert_eq!((cautious.now(), cautious.doubt()), (start(), None));
    }

    #[test]
    fn d6_a_suspended_machine_wakes_up_without_a_doubt() {
        let (wall, cautious) = clocks(None);
        wall.advance(100 * HOUR);
        assert_eq!((cautious.now(), cautious.doubt()), (start() + 100 * HOUR, None));
    }

    proptest! {
        #[test]
        fn d4_whatever_the_wall_clock_does_within_a_day_nothing_gets_older_than_it_is(
            steps in proptest::collection::vec((-400_000_000_i64..400_000_000, 0_u64..3000), 1..20),
        ) {
            let (wall, cautious) = clocks(None);
            let mut passed = Duration::ZERO;
            for (jump, seconds) in steps {
                wall.step_to(wall.now() + SignedDuration::from_secs(jump));
                wall.advance(Duration::from_secs(seconds));
                passed += Duration::from_secs(seconds);
                prop_assert!(cautious.now() <= wall.now());
                // Each look may let it move by as much as is tolerated.
                prop_assert!(cautious.now() <= start() + passed + 20 * HOUR);
            }
        }
    }
}
