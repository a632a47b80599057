//! What is wrong with a schedule file, where, and what to do about it.

mod code;
mod render;

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

pub use code::Code;
pub use render::{Look, render, render_all};

/// Whether a finding keeps a file from being used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The file is not used, or a directory could not be.
    Error,
    /// The file is used, and probably does not do what its author meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// A range of text in a file. Lines and columns count from 1, columns in characters; the end is just behind the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Place {
    /// The line of the first character.
    pub line: u32,
    /// Its column.
    pub col: u32,
    /// The line of the last character.
    pub end_line: u32,
    /// The column behind it.
    pub end_col: u32,
}

/// The text around a finding, kept with it because the file may have changed by the time the finding is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Excerpt {
    /// A few lines at most.
    pub(super) text: String,
    /// The number of its first line.
    pub(super) first_line: u32,
    /// The marked bytes of it.
    pub(super) marked: Range<usize>,
}

/// One finding about one file or directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Its stable name.
    pub code: Code,
    /// The file or directory it is about.
    #[serde(serialize_with = "as_text")]
    pub file: PathBuf,
    /// Where in the file; none when it is about the file as a whole.
    #[serde(flatten)]
    pub place: Option<Place>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    #[serde(skip)]
    pub(super) excerpt: Option<Excerpt>,
}

/// serde refuses paths that are not UTF-8, and a report about such a file must still come out.
fn as_text<S: Serializer>(path: &std::path::Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

impl Diagnostic {
    /// A finding about a file or directory as a whole.
    #[must_use]
    pub fn about(
        file: impl Into<PathBuf>,
        severity: Severity,
        code: Code,
        message: impl Into<String>,
    ) -> Self {
        let (file, message) = (file.into(), message.into());
        Self { severity, code, file, place: None, message, help: None, excerpt: None }
    }

    /// The same, at a place in the file.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// The same, with what to do about it.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Whether it keeps its file from being used.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Diagnostic {
    /// On one line: `schedules/a.toml:3:8: error[S014]: unknown key ... (did you mean ...?)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(place) = self.place {
            write!(f, ":{}:{}", place.line, place.col)?;
        }
        write!(f, ": {}[{}]: {}", self.severity, self.code, self.message)?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}
