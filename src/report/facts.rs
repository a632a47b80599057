//! What a report is made of: the rows of a window, in pages.

use std::error::Error;

use futures_util::future::BoxFuture;
use jiff::Timestamp;

use super::Window;
use crate::model::{Decision, FinalState, JobId, Outcome};

/// An attempt that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptFact {
    /// Whose attempt it was.
    pub job: JobId,
    /// Which execution of the job, from 1.
    pub number: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// When the handler was started.
    pub started_at: Timestamp,
    /// When it had ended.
    pub finished_at: Timestamp,
    /// The job's kind.
    pub kind: String,
    /// The schedule that made the job.
    pub schedule: Option<String>,
    /// The instant the job was made for.
    pub nominal_at: Option<Timestamp>,
    /// The job was not to run before then.
    pub run_at: Timestamp,
    /// When the job was accepted.
    pub created_at: Timestamp,
}

/// A job that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultFact {
    /// The job.
    pub job: JobId,
    /// How it ended.
    pub state: FinalState,
    /// When.
    pub finished_at: Timestamp,
    /// How many of its attempts were charged.
    pub charged: u32,
    /// Why it did not complete, in words for people.
    pub error: Option<String>,
    /// Its kind.
    pub kind: String,
    /// The schedule that made it.
    pub schedule: Option<String>,
}

/// A decision about due instants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OccurrenceFact {
    /// Whose instants they were.
    pub schedule: String,
    /// The instant, the oldest one where the row stands for several.
    pub nominal_at: Timestamp,
    /// What was decided.
    pub decision: Decision,
    /// Why, in words for people.
    pub reason: String,
    /// For how many instants.
    pub instants: u64,
}

/// Where the next page begins: after the row at this time with this id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// The last row's time.
    pub at: Timestamp,
    /// The last row's id, which orders rows of the same time.
    pub id: i64,
}

/// Some rows, and where to go on if there may be more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// `None` after the last page.
    pub next: Option<Cursor>,
}

/// The rows of a period could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the {what} of the period")]
pub struct SourceError {
    /// Which rows.
    pub what: &'static str,
    /// Why not.
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}

/// A page of rows, once it has been read.
pub type FuturePage<'a, T> = BoxFuture<'a, Result<Page<T>, SourceError>>;

/// Where the rows of a window come from.
///
/// Rows are asked for in pages and never held together, so a report over a million attempts needs the memory of one page.
/// Rows that end while a report is being made may or may not be in it; every row that had ended before is.
pub trait Source: Send + Sync + 'static {
    /// Attempts that ended in the window, in order of that time.
    fn attempts(&self, window: Window, after: Option<Cursor>) -> FuturePage<'_, AttemptFact>;

    /// Jobs that ended in the window, in order of that time.
    fn results(&self, window: Window, after: Option<Cursor>) -> FuturePage<'_, ResultFact>;

    /// Decisions that were made in the window, in order of that time.
    fn occurrences(&self, window: Window, after: Option<Cursor>) -> FuturePage<'_, OccurrenceFact>;
}
