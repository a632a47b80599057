//! What a daemon and a keeper say to each other: one JSON object a line.
//!
//! The keeper may be of an older version than the daemon, or of a newer one after a downgrade. What either does not understand it leaves
//! alone: a program that cannot be taken over is ended by its record, and its job runs again.

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::protocol::LogLine;
use super::super::work::Work;
use crate::jobs::{Answer, ProgressReport};
use crate::model::{AttemptName, ItemReport, JsonText};

/// What is sent: a message with the end of its line.
pub(super) type Line = Vec<u8>;

/// Makes a line of a message.
///
/// # Errors
/// When a path in it is no text.
pub(super) fn line(message: &impl Serialize) -> io::Result<Line> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// From the daemon to the keeper.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    /// The first one on each connection.
    Hello {
        /// How long programs go on without a daemon before they are ended; `None`: until their own time is up.
        patience: Option<Duration>,
    },
    /// Run a program.
    Run {
        /// The program.
        work: Box<Work>,
        /// How long it may take.
        limit: Option<Duration>,
        /// The database that the attempt is in.
        database: String,
    },
    /// End a program.
    Stop(AttemptName),
    /// What was last said of its items is recorded.
    Recorded(AttemptName),
    /// What came of an attempt is recorded, or nobody's business any more.
    Forget(AttemptName),
    /// The last one: the daemon goes.
    Leave,
}

/// From the keeper to the daemon.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    /// The answer to [`Order::Hello`].
    Holding {
        /// The keeper's process.
        pid: i32,
        /// What it has.
        attempts: Vec<Held>,
    },
    /// How far an attempt is.
    Progress(AttemptName, Report),
    /// A line for the daemon's log.
    Log(AttemptName, LogLine),
    /// What a program said of its items. It is said again on the next connection until it is recorded, and nothing is said behind it before.
    Items(AttemptName, Vec<ItemReport>),
    /// An attempt is over. It is said again on the next connection until it is forgotten.
    Ended(AttemptName, Box<End>),
}

impl Word {
    /// Which attempt it is about.
    pub(super) fn attempt(&self) -> Option<AttemptName> {
        match self {
            Self::Holding { .. } => None,
            Self::Progress(attempt, _)
            | Self::Log(attempt, _)
            | Self::Items(attempt, _)
            | Self::Ended(attempt, _) => Some(*attempt),
        }
    }
}

/// An attempt that a keeper has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    pub(super) attempt: AttemptName,
    /// How long ago it began.
    pub(super) elapsed: Duration,
    /// The database that it is in.
    pub(super) database: String,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) answer: Answer,
    /// What it said of its items that is not recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) items: Vec<ItemReport>,
    /// The end of its output.
    pub(super) tail: Option<String>,
    /// Its last word on how far it was.
    pub(super) report: Report,
    /// How long it took.
    pub(super) took: Duration,
    /// The database that it is in.
    pub(super) database: String,
}

/// A [`ProgressReport`] on its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Report {
    percent: Option<u8>,
    message: String,
    checkpoint: Option<JsonText>,
}

impl From<&ProgressReport> for Report {
    fn from(report: &ProgressReport) -> Self {
        Self {
            percent: report.percent,
            message: report.message.clone(),
            checkpoint: report.checkpoint.clone(),
        }
    }
}

impl From<Report> for ProgressReport {
    fn from(report: Report) -> Self {
        Self { percent: report.percent, message: report.message, checkpoint: report.checkpoint }
    }
}
