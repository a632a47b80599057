//! After how many failures nothing starts for a while.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::HumanDuration;
use super::written::from_text;

/// A breaker: `5 for 10m`, and with a time in which the failures must come `5 in 1m for 10m`.
///
/// After so many failed attempts in a row it trips, and nothing starts under its name for the time it says. Then one job is let through to
/// find out whether it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    failures: NonZeroU32,
    within: Option<HumanDuration>,
    rest: HumanDuration,
}

impl Breaker {
    /// Each of the failures is remembered, and more of them say nothing that these do not.
    const MAX_FAILURES: u32 = 100;

    /// What rests for less protects nothing, and would be looked at all the time.
    const MIN_REST: Duration = Duration::from_millis(100);

    const MAX_TIME: Duration = Duration::from_secs(366 * 86_400);

    /// After how many failures in a row it trips.
    #[must_use]
    pub fn failures(self) -> usize {
        self.failures.get() as usize
    }

    /// In which time they must come; `None`: however long it takes.
    #[must_use]
    pub fn within(self) -> Option<Duration> {
        self.within.map(HumanDuration::get)
    }

    /// How long nothing starts after it has tripped.
    #[must_use]
    pub fn rest(self) -> Duration {
        self.rest.get()
    }

    /// What is wrong with it, if anything is.
    fn problem(self) -> Option<&'static str> {
        if self.failures.get() > Self::MAX_FAILURES {
            return Some("it trips after at most 100 failures");
        }
        if self.rest() < Self::MIN_REST {
            return Some("it rests for 100ms at the least");
        }
        if self.within().is_some_and(|within| within.is_zero()) {
            return Some("nothing fails in no time");
        }
        let longest = self.within().unwrap_or_default().max(self.rest());
        (longest > Self::MAX_TIME).then_some("a year is the longest time")
    }
}

/// Why a text is not a breaker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a breaker: {reason}; write it like \"5 in 1m for 10m\" or \"5 for 10m\"", .text.escape_default())]
pub struct BreakerError {
    text: String,
    reason: &'static str,
}

impl FromStr for Breaker {
    type Err = BreakerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |reason| BreakerError { text: text.chars().take(100).collect(), reason };
        let (failures, rest) = text.split_once(" for ").ok_or_else(|| {
            refuse("it does not say for how long nothing starts once it has tripped")
        })?;
        let (count, within) = match failures.split_once(" in ") {
            Some((count, within)) => (count.trim(), Some(within)),
            None => (failures.trim(), None),
        };
        let is_plain = count.bytes().all(|byte| byte.is_ascii_digit());
        let failures = count.parse().ok().filter(|_| is_plain).and_then(NonZeroU32::new);
        let failures = failures.ok_or_else(|| {
            refuse("it begins with after how many failures it trips, a whole number from 1")
        })?;
        let length = |text: &str, reason| {
            text.trim().parse::<HumanDuration>().map_err(|_duration| refuse(reason))
        };
        let within = within
            .map(|within| length(within, "after `in` stands a length of time like 1m"))
            .transpose()?;
        let rest = length(rest, "after `for` stands a length of time like 10m")?;
        let breaker = Self { failures, within, rest };
        match breaker.problem() {
            Some(reason) => Err(refuse(reason)),
            None => Ok(breaker),
        }
    }
}

impl fmt::Display for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.failures)?;
        if let Some(within) = self.within {
            write!(f, " in {within}")?;
        }
        write!(f, " for {}", self.rest)
    }
}

impl Serialize for Breaker {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Breaker {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "a breaker like \"5 in 1m for 10m\" or \"5 for 10m\"")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_people_write_is_understood() {
        let minutes = |count: u64| Duration::from_secs(count * 60);
        for (text, failures, within, rest) in [
            ("5 in 1m for 10m", 5, Some(minutes(1)), minutes(10)),
            ("5 for 10m", 5, None, minutes(10)),
            (" 1  in 1h 30m  for 2 h", 1, Some(minutes(90)), minutes(120)),
            ("100 for 100ms", 100, None, Duration::from_millis(100)),
        ] {
            let breaker: Breaker = text.parse().unwrap_or_else(|error| panic!("{error}"));
            let read = (breaker.failures(), breaker.within(), breaker.rest());
            assert_eq!(read, (failures, within, rest), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_a_reason() {
        for (text, reason) in [
            ("", "for how long"),
            ("5", "for how long"),
            ("5 in 1m", "for how long"),
            ("5 in 1m, 10m", "for how long"),
            ("5 for", "for how long"),
            ("5 for ten minutes", "after `for`"),
            ("5 for 10", "after `for`"),
            ("5 in for 10m", "how many failures"),
            ("5 in one minute for 10m", "after `in`"),
            ("0 for 10m", "from 1"),
            ("-5 for 10m", "from 1"),
            ("+5 for 10m", "from 1"),
            ("five for 10m", "from 1"),
            (" for 10m", "from 1"),
            ("99999999999 for 10m", "from 1"),
            ("101 for 10m", "at most 100"),
            ("5 in 0s for 10m", "in no time"),
            ("5 for 0s", "100ms"),
            ("5 for 400d", "a year"),
            ("5 in 400d for 1m", "a year"),
        ] {
            let error = text.parse::<Breaker>().expect_err(text).to_string();
            assert!(error.contains(reason) && error.contains("write it like"), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn printing_and_parsing_are_inverse(
            failures in 1_u32..=100, within in prop::option::of(1_u64..4_000_000_000_000), rest in 100_000_u64..4_000_000_000_000,
        ) {
            let micros = |micros| HumanDuration(Duration::from_micros(micros));
            let failures = NonZeroU32::new(failures).unwrap();
            let breaker = Breaker { failures, within: within.map(micros), rest: micros(rest) };
            prop_assert_eq!(breaker.to_string().parse::<Breaker>().unwrap(), breaker);
        }
    }
}
