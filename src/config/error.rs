//! What is wrong with settings, and where each value came from.

use std::fmt;
use std::path::PathBuf;

use crate::model::inert;

/// Where a setting's value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A line of a file.
    File {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
    },
    /// An environment variable.
    Environment {
        /// Its name.
        variable: String,
    },
    /// An option on the command line.
    Flag {
        /// As it is written there, such as `--data-dir`.
        option: String,
    },
}

impl Origin {
    /// The line of the file, to put problems in the order of reading.
    pub(super) fn line(&self) -> usize {
        match self {
            Self::File { line, .. } => *line,
            Self::Default | Self::Environment { .. } | Self::Flag { .. } => 0,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line, column } => {
                write!(f, "{}:{line}:{column}", inert(&path.to_string_lossy()))
            }
            // Whoever starts the program may set any name.
            Self::Environment { variable } => f.write_str(&inert(variable)),
            Self::Flag { option } => f.write_str(option),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsProblem {
    /// Where the value came from.
    pub origin: Origin,
    /// The setting's name; empty where it is about a file as a whole.
    pub key: String,
    /// What is wrong and what is expected.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The line of the file with the value marked, ready to print.
    pub excerpt: Option<String>,
}

impl fmt::Display for SettingsProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key.escape_default())?;
        }
        f.write_str(&self.message)?;
        if let Some(help) = &self.help {
            write!(f, " ({})", inert(help))?;
        }
        match &self.excerpt {
            Some(excerpt) => write!(f, "\n{excerpt}"),
            None => Ok(()),
        }
    }
}

/// Settings that cannot be used. `Display` has a paragraph for each problem.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file that was asked for, or the one in `/etc`, cannot be read.
    #[error("cannot read the settings file {}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// They can be read and are wrong.
    #[error("{}", all(.0))]
    Invalid(Vec<SettingsProblem>),
    /// The layers could not be put together, although each was checked.
    #[error("cannot merge the settings")]
    Merge(#[source] Box<dyn std::error::Error + Send + Sync>),
}

fn all(problems: &[SettingsProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
