//! Lengths of time as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo};
use serde::{Deserialize, Serialize};

use super::written::from_text;

/// A length of time: `90s`, `15m`, `1h 30m`, `7d`, `2 weeks`, `PT15M`. A day is 24 hours, a week seven days.
///
/// Months and years have no fixed length and are refused, and so is a bare number, whose unit is anybody's guess. What is read
/// is in whole microseconds, as the database keeps it, so that it is printed and stored without loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct HumanDuration(pub Duration);

impl HumanDuration {
    /// The longest length that is taken: a thousand years.
    pub const MAX: Duration = Duration::from_secs(1000 * 366 * 24 * 3600);

    /// A length of whole seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// As the standard library's type.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

/// Why a text is not a length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a length of time: {reason}; write it like 90s, 15m, 1h 30m or 7d", .text.escape_default())]
pub struct DurationError {
    text: String,
    reason: String,
}

impl FromStr for HumanDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |reason: &str| DurationError {
            text: text.chars().take(100).collect(),
            reason: reason.to_owned(),
        };
        let trimmed = text.trim();
        if !trimmed.is_empty() && trimmed.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
        {
            return Err(refuse("it has no unit"));
        }
        let span: Span =
            trimmed.parse().map_err(|_jiff: jiff::Error| refuse("it cannot be read"))?;
        if span.get_months() != 0 || span.get_years() != 0 {
            return Err(refuse("months and years have no fixed length"));
        }
        let signed: SignedDuration = span
            .to_duration(SpanRelativeTo::days_are_24_hours())
            .map_err(|_jiff| refuse("it is too long"))?;
        let length = Duration::try_from(signed).map_err(|_negative| refuse("it is negative"))?;
        if length > Self::MAX {
            return Err(refuse("it is longer than a thousand years"));
        }
        if length.subsec_nanos() % 1000 != 0 {
            return Err(refuse("it is finer than a microsecond"));
        }
        Ok(Self(length))
    }
}

impl fmt::Display for HumanDuration {
    /// The shortest exact spelling in days, hours, minutes, seconds, milli- and microseconds, at most two of them
    /// where the rest is zero: `1h 30m`, `7d`, `250ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let micros = u64::from(self.0.subsec_micros());
        let parts = [
            (seconds / 86_400, "d"),
            (seconds / 3600 % 24, "h"),
            (seconds / 60 % 60, "m"),
            (seconds % 60, "s"),
            (micros / 1000, "ms"),
            (micros % 1000, "us"),
        ];
        let mut separator = "";
        for (amount, unit) in parts.into_iter().filter(|(amount, _)| *amount > 0) {
            write!(f, "{separator}{amount}{unit}")?;
            separator = " ";
        }
        if separator.is_empty() { f.write_str("0s") } else { Ok(()) }
    }
}

impl From<HumanDuration> for Duration {
    fn from(duration: HumanDuration) -> Self {
        duration.0
    }
}

impl From<Duration> for HumanDuration {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "a length of time like \"90s\", \"15m\", \"1h 30m\" or \"7d\"")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_people_write_is_understood() {
        for (text, seconds) in [
            ("90s", 90),
            ("15m", 900),
            ("1h 30m", 5400),
            ("7d", 604_800),
            ("2 weeks", 1_209_600),
            ("PT15M", 900),
        ] {
            assert_eq!(
                text.parse::<HumanDuration>().unwrap(),
                HumanDuration::from_secs(seconds),
                "{text}"
            );
        }
    }

    #[test]
    fn what_has_no_fixed_length_is_refused() {
        for text in ["", "90", "1.5", "-5m", "1 month", "2y", "soon", "5 parsecs"] {
            assert!(text.parse::<HumanDuration>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_would_be_stored_as_something_else_is_refused() {
        for text in ["1ns", "999ns", "1s 1ns", "0.0000001s", "1.5us"] {
            assert!(text.parse::<HumanDuration>().is_err(), "{text}");
        }
        for text in ["1us", "1000ns", "0.000001s", "1.5ms"] {
            assert!(text.parse::<HumanDuration>().is_ok(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn printing_and_parsing_are_inverse(micros in 0_u64..4_000_000_000_000_000) {
            let duration = HumanDuration(Duration::from_micros(micros));
            prop_assert_eq!(duration.to_string().parse::<HumanDuration>().unwrap(), duration);
        }
    }
}
