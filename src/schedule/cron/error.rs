//! What is wrong with an expression, and where.

/// Why a text is not a cron expression: which bytes of it are wrong, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CronError {
    /// Where the wrong part starts, in bytes from the start of the text.
    pub offset: usize,
    /// How long the wrong part is, in bytes; 0 where something is missing.
    pub len: usize,
    /// What is wrong, in a phrase: "hour 25 is outside 0-23".
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl CronError {
    pub(super) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}
