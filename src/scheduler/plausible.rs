//! Whether the wall clock can be believed at the start. Pure.
//!
//! Machines without a battery boot in 1970, or at the time at which their system was built, and are put right by a time server some
//! seconds later. What is decided before that is decided about the wrong instants: schedules would run for 1970, and new ones would
//! owe half a century of runs a moment later. So nothing is decided, and no schedule is adopted, until the clock is plausible.
//!
//! A clock behind what was decided already is not always the one that is wrong: the one before may have been years ahead. So it is
//! waited for only for a while, and not at all when a time server has set it.

use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::due::CORRECTION_AFTER;
use crate::clock::EARLIEST_PLAUSIBLE;

/// How long a clock that is behind the ledgers is waited for. Long enough for a network and a time server to appear.
const WAIT_AT_MOST: Duration = Duration::from_secs(3600);

/// Why nothing is decided yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Implausible {
    /// The clock shows a time from before the program was written.
    TooEarly,
    /// The clock is that far behind what was decided already.
    Behind(SignedDuration),
}

/// What is known when somebody asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evidence {
    /// What the clock shows.
    pub(super) now: Timestamp,
    /// The latest mark in the ledgers of the schedules that are loaded.
    pub(super) decided_until: Option<Timestamp>,
    /// For how long the clock has been waited for.
    pub(super) waited: Duration,
    /// Whether a time server has set it.
    pub(super) is_synchronised: bool,
}

impl Evidence {
    /// What speaks against the clock, if something does.
    pub(super) fn doubt(&self) -> Option<Implausible> {
        if self.now < EARLIEST_PLAUSIBLE {
            return Some(Implausible::TooEarly);
        }
        let is_believed = self.is_synchronised || self.waited >= WAIT_AT_MOST;
        let behind = self.decided_until?.duration_since(self.now);
        let is_far = SignedDuration::try_from(CORRECTION_AFTER).is_ok_and(|limit| behind > limit);
        (is_far && !is_believed).then_some(Implausible::Behind(behind))
    }
}

impl fmt::Display for Implausible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the clock is not believed, and nothing is scheduled until it is set: ")?;
        match self {
            Self::TooEarly => f.write_str("it shows a time from before this program was written"),
            Self::Behind(by) => write!(
                f,
                "it is {by:#} behind what was decided already; if it is right, scheduling goes on within an hour by itself"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn evidence(now: &str, decided_until: Option<&str>) -> Evidence {
        let decided_until = decided_until.map(at);
        Evidence { now: at(now), decided_until, waited: Duration::ZERO, is_synchronised: false }
    }

    #[test]
    fn d7_a_clock_before_this_program_is_never_believed() {
        let boot = Evidence {
            waited: Duration::from_secs(1 << 30),
            is_synchronised: true,
            ..evidence("1970-01-01T00:00:30Z", None)
        };
        assert_eq!(boot.doubt(), Some(Implausible::TooEarly));
        assert_eq!(evidence("2026-01-01T00:00:00Z", None).doubt(), None);
    }

    #[test]
    fn d7_a_clock_behind_the_ledgers_is_waited_for_and_in_the_end_believed() {
        let behind = evidence("2026-05-01T00:00:00Z", Some("2026-05-01T03:00:01Z"));
        let lag = SignedDuration::from_secs(3 * 3600 + 1);
        assert_eq!(behind.doubt(), Some(Implausible::Behind(lag)));
        assert_eq!(evidence("2026-05-01T00:00:00Z", Some("2026-05-01T03:00:00Z")).doubt(), None);
        assert_eq!(Evidence { is_synchronised: true, ..behind }.doubt(), None);
        assert_eq!(Evidence { waited: WAIT_AT_MOST, ..behind }.doubt(), None);
    }
}
