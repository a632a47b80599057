//! What a daemon and a keeper say to each other: one JSON object a line.
//!
//! The keeper may be of an older version than the daemon, or of a newer one after a downgrade. What either does not understand it leaves
//! alone: a program that cannot be taken over is ended by its record, and its job runs again. Only an order to run and the end of an attempt are
//! never left alone, because somebody waits for what comes of them: what cannot be read then is a failure of the attempt.

use std::io;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::super::protocol::LogLine;
use super::super::work::Work;
use crate::jobs::command::protocol::present;
use crate::jobs::{Answer, Failure, ProgressReport};
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
#[serde(from = "Parts")]
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
    /// Why not all of it could be read, and so the answer is a failure.
    #[serde(skip)]
    pub(super) unread: Option<String>,
}

/// An [`End`] as it comes. Each part is read by itself: somebody waits for the end, so one that cannot be read (of another version,
/// damaged, nested too deep) must not keep the others from saying that there is one.
#[derive(Deserialize)]
struct Parts {
    answer: Box<RawValue>,
    items: Option<Box<RawValue>>,
    tail: Option<String>,
    report: Box<RawValue>,
    took: Duration,
    database: String,
}

impl From<Parts> for End {
    fn from(parts: Parts) -> Self {
        let Parts { tail, took, database, .. } = parts;
        let mut unread = None;
        let items = parts.items.and_then(|items| part(&items, &mut unread)).unwrap_or_default();
        let report = part(&parts.report, &mut unread).unwrap_or_default();
        let answer = part(&parts.answer, &mut unread);
        let answer = match (answer, &unread) {
            (Some(answer), None) => answer,
            (_, why) => {
                let why = why.as_deref().unwrap_or_default();
                Failure::error(format!("what came of its program cannot be read: {why}")).into()
            }
        };
        Self { answer, items, tail, report, took, database, unread }
    }
}

fn part<T: DeserializeOwned>(text: &RawValue, unread: &mut Option<String>) -> Option<T> {
    serde_json::from_str(text.get()).map_err(|error| *unread = Some(error.to_string())).ok()
}

/// What can be read of an [`Order::Run`] that cannot be read as a whole.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum UnreadOrder {
    Run { work: Whose, database: String },
}

#[derive(Debug, Deserialize)]
pub(super) struct Whose {
    pub(super) attempt: AttemptName,
}

/// A [`ProgressReport`] on its way.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Report {
    percent: Option<u8>,
    message: String,
    /// Left out where there is none: `null` is a checkpoint like any other.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
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

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_checkpoint_of_null_is_one_also_on_its_way() {
        for checkpoint in [None, Some(JsonText::from(&Value::Null))] {
            let report = Report { checkpoint, ..Report::default() };
            let said = serde_json::to_string(&report).unwrap();
            assert_eq!(serde_json::from_str::<Report>(&said).unwrap(), report, "{said}");
        }
    }
}
