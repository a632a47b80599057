//! Cron expressions: five to seven fields, read strictly.
//!
//! Fields and the day-of-month/day-of-week rule are cronie's; steps and ranges are as strict as OCPS 1.0
//! (`5/15` and `5-1` are refused); seconds, years, `L`, `W` and `#` are those of its drafts; `H` is Jenkins'.

mod bits;
mod days;
mod describe;
mod error;
mod field;
mod list;
mod parse;
mod piece;
mod search;
mod years;

#[cfg(test)]
mod tests;

use std::fmt;

use days::Days;
pub use error::CronError;
use years::Years;

/// A checked cron expression, as bit sets of about 56 bytes and the text it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CronExpression {
    text: Box<str>,
    seconds: u64,
    minutes: u64,
    hours: u32,
    months: u16,
    days: Days,
    /// `None` means every year.
    years: Option<Box<Years>>,
    follows_elapsed_time: bool,
}

impl CronExpression {
    /// Reads an expression. `hash_seed` (the schedule's id) chooses the slots that `H` stands for.
    ///
    /// # Errors
    ///
    /// Says what is wrong with which bytes of the text.
    pub fn parse(text: &str, hash_seed: &str) -> Result<Self, CronError> {
        parse::expression(text, hash_seed)
    }

    /// The text as written, with single spaces.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// A phrase in words, without the zone: "at 02:30 on Monday to Friday".
    #[must_use]
    pub fn describe(&self) -> String {
        describe::describe(self)
    }

    /// Whether the minute or the hour starts with a star, so that the rule keeps its pace through clock changes
    /// instead of naming times of the day. This is cronie's distinction.
    #[must_use]
    pub fn follows_elapsed_time(&self) -> bool {
        self.follows_elapsed_time
    }
}

impl fmt::Display for CronExpression {
    /// The text as written, with single spaces.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
