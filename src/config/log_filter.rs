//! Which log lines are kept.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// A level, or levels by module: `info`, `warn,sexton::scheduler=debug`.
///
/// It is checked here, so that a mistake is reported with its key and place; `telemetry` turns it into a filter.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct LogFilter(String);

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Why a text is not such a filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a log level: use off, error, warn, info, debug or trace, or MODULE=LEVEL", .0.escape_default())]
pub struct LogFilterError(String);

impl LogFilter {
    /// The filter as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for LogFilter {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl FromStr for LogFilter {
    type Err = LogFilterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        for part in text.split(',') {
            let (module, level) = part.split_once('=').unwrap_or(("sexton", part));
            let is_module = !module.is_empty()
                && module.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
            if !is_module || !LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level)) {
                return Err(LogFilterError(part.chars().take(100).collect()));
            }
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for LogFilter {
    type Error = LogFilterError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_modules_are_understood() {
        for good in ["info", "WARN", "info,sexton::scheduler=debug", "off,sexton=trace"] {
            assert!(good.parse::<LogFilter>().is_ok(), "{good}");
        }
        for bad in ["", "loud", "info,", "=debug", "sexton=", "a b=info"] {
            assert!(bad.parse::<LogFilter>().is_err(), "{bad}");
        }
    }
}
