//! How urgent a job is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// 1 to 10, higher first. Names: low 2, normal 5, high 8, critical 10.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Priority(u8);

impl Priority {
    /// 2.
    pub const LOW: Self = Self(2);
    /// 5, the default.
    pub const NORMAL: Self = Self(5);
    /// 8.
    pub const HIGH: Self = Self(8);
    /// 10.
    pub const CRITICAL: Self = Self(10);

    /// A priority from its level.
    ///
    /// # Errors
    /// When `level` is outside 1 to 10.
    pub fn new(level: i64) -> Result<Self, PriorityError> {
        match u8::try_from(level) {
            Ok(small @ 1..=10) => Ok(Self(small)),
            _ => Err(PriorityError(level.to_string())),
        }
    }

    /// The level, 1 to 10.
    #[must_use]
    pub fn level(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::NORMAL
    }
}

/// Why something is not a priority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a priority: use low, normal, high, critical or a number from 1 to 10", .0.escape_default())]
pub struct PriorityError(String);

impl FromStr for Priority {
    type Err = PriorityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "low" => Ok(Self::LOW),
            "normal" | "medium" => Ok(Self::NORMAL),
            "high" => Ok(Self::HIGH),
            "critical" | "urgent" => Ok(Self::CRITICAL),
            other => {
                let level = other.parse().map_err(|_parse| PriorityError(other.to_owned()))?;
                Self::new(level)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Priority {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "expected low, normal, high, critical or a number from 1 to 10"
        )]
        enum Raw {
            Level(i64),
            Name(String),
        }
        match Raw::deserialize(deserializer)? {
            Raw::Level(level) => Self::new(level),
            Raw::Name(name) => name.parse(),
        }
        .map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::LOW => f.write_str("low"),
            Self::NORMAL => f.write_str("normal"),
            Self::HIGH => f.write_str("high"),
            Self::CRITICAL => f.write_str("critical"),
            Self(level) => level.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_mean_the_same() {
        for (text, level) in [("low", 2), ("medium", 5), ("urgent", 10), ("7", 7)] {
            assert_eq!(text.parse::<Priority>().unwrap().level(), level);
        }
        for bad in ["0", "11", "-1", "", "High", "5.0"] {
            assert!(bad.parse::<Priority>().is_err(), "{bad}");
        }
    }
}
