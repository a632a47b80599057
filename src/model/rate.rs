//! How many jobs may start in a length of time.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::HumanDuration;
use super::written::from_text;

/// A rate: `10/s`, `60/m`, `1000/h`, `5/10s`, and with a burst `60/m burst 10`.
///
/// Jobs start evenly spaced: `60/m` is one a second and not sixty at the beginning of each minute. After a time in which fewer came, up to
/// `burst` may start at once. So in any length of time no more start than the burst and what the rate allows for that time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    count: NonZeroU32,
    per: HumanDuration,
    burst: Option<NonZeroU32>,
}

impl Rate {
    /// The shortest time between two starts: ten thousand a second. What is faster than that needs no limit, and in whole microseconds
    /// it would become another rate.
    const MIN_INTERVAL_MICROS: u128 = 100;

    /// The longest time that an empty bucket may take to be full again.
    const MAX_FILLING: Duration = Duration::from_secs(366 * 86_400);

    /// Without a burst of its own, as many may start at once as come in this time (but one at the least): a node could not keep a fast
    /// rate if it had to start one job at a time.
    const DEFAULT_BURST_MICROS: i64 = 100_000;

    /// The time between two starts, in microseconds; rounded up, so that no rate is exceeded.
    #[must_use]
    pub fn interval_micros(self) -> i64 {
        let micros = self.per.get().as_micros().div_ceil(u128::from(self.count.get()));
        i64::try_from(micros).unwrap_or(i64::MAX)
    }

    /// How many may start at once when none has started for long.
    #[must_use]
    pub fn burst(self) -> u32 {
        let by_default = Self::DEFAULT_BURST_MICROS / self.interval_micros();
        self.burst.map_or_else(|| u32::try_from(by_default.max(1)).unwrap_or(1), NonZeroU32::get)
    }

    /// How long it takes until as many may start at once again, when none may now, in microseconds.
    #[must_use]
    pub fn filling_micros(self) -> i64 {
        self.interval_micros().saturating_mul(i64::from(self.burst()))
    }

    /// What is wrong with it, if anything is.
    fn problem(self) -> Option<&'static str> {
        if self.per.get().is_zero() {
            return Some("nothing can be counted in no time");
        }
        if self.per.get().as_micros() < Self::MIN_INTERVAL_MICROS * u128::from(self.count.get()) {
            return Some("above 10000 a second there is nothing to limit");
        }
        let longest = i64::try_from(Self::MAX_FILLING.as_micros()).unwrap_or(i64::MAX);
        (self.filling_micros() > longest)
            .then_some("what may start at once would take more than a year to come together")
    }
}

/// Why a text is not a rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a rate: {reason}; write it like 60/m, 10/s, 5/10s or 60/m burst 10", .text.escape_default())]
pub struct RateError {
    text: String,
    reason: &'static str,
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |reason| RateError { text: text.chars().take(100).collect(), reason };
        let (count, rest) = text.split_once('/').ok_or_else(|| refuse("it has no `/`"))?;
        let (per, burst) = match rest.split_once("burst") {
            Some((per, burst)) => (per, Some(burst)),
            None => (rest, None),
        };
        let number = |text: &str, reason| {
            let text = text.trim();
            let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u32>().ok().filter(|_| is_plain).ok_or_else(|| refuse(reason))
        };
        let count = number(count, "before the `/` stands how many, a whole number")?;
        let count = NonZeroU32::new(count)
            .ok_or_else(|| refuse("none at all is a pause, or a limit of 0 at once"))?;
        let burst = burst
            .map(|burst| {
                let reason = "after `burst` stands how many at once, a whole number from 1";
                NonZeroU32::new(number(burst, reason)?).ok_or_else(|| refuse(reason))
            })
            .transpose()?;
        let per = per.trim();
        let is_unit = !per.is_empty() && per.bytes().all(|byte| byte.is_ascii_alphabetic());
        let per = if is_unit { format!("1{per}") } else { per.to_owned() };
        let per = per.parse().map_err(|_duration| {
            refuse("after the `/` stands a length of time like s, m, h or 10s")
        })?;
        let rate = Self { count, per, burst };
        match rate.problem() {
            Some(reason) => Err(refuse(reason)),
            None => Ok(rate),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = self.per.to_string();
        let unit =
            per.strip_prefix('1').filter(|unit| unit.bytes().all(|b| b.is_ascii_alphabetic()));
        write!(f, "{}/{}", self.count, unit.unwrap_or(&per))?;
        match self.burst {
            Some(burst) => write!(f, " burst {burst}"),
            None => Ok(()),
        }
    }
}

impl Serialize for Rate {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "a rate like \"60/m\", \"10/s\", \"5/10s\" or \"60/m burst 10\"")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(text: &str) -> Rate {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn what_people_write_is_understood() {
        for (text, interval_micros, burst) in [
            ("60/m", 1_000_000, 1),
            ("10/s", 100_000, 1),
            ("1000/h", 3_600_000, 1),
            ("5/10s", 2_000_000, 1),
            ("60 / m burst 10", 1_000_000, 10),
            ("60/min", 1_000_000, 1),
            ("1/1h 30m", 5_400_000_000, 1),
            ("1/d", 86_400_000_000, 1),
            ("7/s", 142_858, 1),
            ("1000/s", 1000, 100),
            ("10000/s burst 1", 100, 1),
        ] {
            let rate = rate(text);
            assert_eq!((rate.interval_micros(), rate.burst()), (interval_micros, burst), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_a_reason() {
        for (text, reason) in [
            ("", "no `/`"),
            ("60", "no `/`"),
            ("60 per minute", "no `/`"),
            ("/m", "how many"),
            ("-5/m", "how many"),
            ("+5/m", "how many"),
            ("1.5/s", "how many"),
            ("99999999999/h", "how many"),
            ("0/m", "a pause"),
            ("60/", "a length of time"),
            ("60/0s", "in no time"),
            ("60/5", "a length of time"),
            ("60/parsec", "a length of time"),
            ("60/month", "a length of time"),
            ("60/.5", "a length of time"),
            ("60/m/s", "a length of time"),
            ("60/m burst", "after `burst`"),
            ("60/m burst 0", "after `burst`"),
            ("60/m burst -1", "after `burst`"),
            ("60/m, 10", "a length of time"),
            ("10001/s", "above 10000 a second"),
            ("1/d burst 400", "a year"),
            ("1/2000 weeks", "a year"),
        ] {
            let error = text.parse::<Rate>().expect_err(text).to_string();
            assert!(error.contains(reason) && error.contains("write it like"), "{text}: {error}");
        }
    }

    #[test]
    fn it_prints_as_people_write_it() {
        for text in ["60/m", "5/10s", "60/m burst 10", "1/1h 30m", "3/d", "1/11s"] {
            assert_eq!(rate(text).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn printing_and_parsing_are_inverse(
            count in 1_u32..100_000, micros in 1_u64..4_000_000_000_000, burst in prop::option::of(1_u32..1000),
        ) {
            let per = HumanDuration(Duration::from_micros(micros));
            let rate = Rate { count: NonZeroU32::new(count).unwrap(), per, burst: burst.and_then(NonZeroU32::new) };
            prop_assume!(rate.problem().is_none());
            prop_assert_eq!(rate.to_string().parse::<Rate>().unwrap(), rate);
        }
    }
}
