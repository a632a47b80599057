//! Identifiers.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Identifies a job: increasing, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub i64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for JobId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Identifies one run of one daemon. A restarted daemon is a new node, so that what the old one held
/// can be told from what the new one holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub i64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A schedule's name: its file's stem, or `id` in a `[[schedule]]` entry.
///
/// Lower-case letters, digits, `-` and `_`, 1 to 64 bytes, starting with a letter or digit: it turns up in file
/// names, metric labels and log lines, so nothing in it may need quoting there.
///
/// A copy shares the text: the scheduler, the catalog and each decision hold the same name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScheduleId(Arc<str>);

impl ScheduleId {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 64;

    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is not a schedule's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{}` cannot be a schedule's name: use 1 to 64 of a-z, 0-9, `-` and `_`, starting with a letter or digit",
    .0.escape_default()
)]
pub struct ScheduleIdError(String);

impl FromStr for ScheduleId {
    type Err = ScheduleIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let starts_well = text.bytes().next().is_some_and(legal);
        let all_legal = text.bytes().all(|byte| legal(byte) || byte == b'-' || byte == b'_');
        if starts_well && all_legal && text.len() <= Self::MAX_BYTES {
            Ok(Self(text.into()))
        } else {
            Err(ScheduleIdError(text.chars().take(100).collect()))
        }
    }
}

impl TryFrom<String> for ScheduleId {
    type Error = ScheduleIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl Serialize for ScheduleId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ScheduleId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl AsRef<str> for ScheduleId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ScheduleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Content hash of a loaded set of schedules, as lower-case hex. Stamped on occurrences and audit records.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub String);

impl Revision {
    /// The first twelve digits, which is what people are shown.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_id_needs_no_quoting_anywhere() {
        for good in ["a", "cleanup-tmp", "kb_2", "0day"] {
            assert!(good.parse::<ScheduleId>().is_ok(), "{good}");
        }
        let long = "x".repeat(65);
        for bad in ["", "A", "a b", "a/b", "../a", "-a", "é", "a\u{202e}", long.as_str()] {
            assert!(bad.parse::<ScheduleId>().is_err(), "{bad}");
        }
    }
}
