//! From committed rows to lines.
//!
//! Each table's rows keep the order of their ids; between tables, the earlier time goes first. The tables are read a page at a
//! time, and a row is held back while another table's next page may still hold an earlier one.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::chain::{Head, Record, Upto, write_text};
use crate::config::AuditJobs;

/// A due instant and what was decided about it. It stands for the job it made, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OccurrenceRow {
    /// The row.
    pub id: i64,
    /// Whose instant it is.
    pub schedule: String,
    /// The instant.
    pub nominal_at: Timestamp,
    /// What was decided: `enqueued`, `skipped_overlap`, …
    pub decision: String,
    /// Why.
    pub reason: String,
    /// The job that was made.
    pub job: Option<i64>,
    /// When it was decided.
    pub decided_at: Timestamp,
    /// The schedule's content hash at that time.
    pub revision: String,
    /// How many instants the row stands for.
    pub instants: i64,
    /// Who caused it.
    pub actor: String,
}

/// One call that submitted jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubmissionRow {
    /// The first job.
    pub first: i64,
    /// The last job.
    pub last: i64,
    /// How many jobs there were.
    pub count: u64,
    /// The first job's kind.
    pub kind: String,
    /// The first job's queue.
    pub queue: String,
    /// The first job's priority.
    pub priority: i16,
    /// When.
    pub created_at: Timestamp,
    /// On whose order.
    pub actor: String,
}

/// A finished attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRow {
    /// The row.
    pub id: i64,
    /// The job.
    pub job: i64,
    /// Which execution of it.
    pub number: i32,
    /// How it ended.
    pub outcome: String,
    /// The node that ran it.
    pub node: i64,
    /// When it began.
    pub started_at: Timestamp,
    /// When it had ended.
    pub finished_at: Timestamp,
    /// The program's exit code.
    pub exit_code: Option<i32>,
    /// Why it did not succeed.
    pub error: Option<String>,
    /// The job's kind.
    pub kind: String,
    /// The schedule that made the job.
    pub schedule: Option<String>,
    /// On whose order the job was made.
    pub actor: String,
    /// The job's final state, where this was its last attempt.
    pub ended_as: Option<String>,
}

/// Something that has no row of its own elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    /// The row.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// What: `schedules.reloaded`.
    pub event: String,
    /// On whose order.
    pub actor: String,
    /// To what.
    pub subject: String,
    /// A JSON object.
    pub detail: String,
}

/// What one snapshot of the database holds after a resume point, each table's rows by id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rows {
    /// The ledger.
    pub occurrences: Vec<OccurrenceRow>,
    /// Calls that submitted jobs.
    pub submissions: Vec<SubmissionRow>,
    /// Finished attempts.
    pub attempts: Vec<AttemptRow>,
    /// Everything else.
    pub events: Vec<EventRow>,
    /// The greatest id that was looked at in each table; rows in between that are not here need no line.
    pub seen: Upto,
    /// Whether a table has more rows than were read: occurrences, jobs, attempts, events.
    pub more: [bool; 4],
}

impl Rows {
    /// Whether nothing new was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.occurrences.is_empty()
            && self.submissions.is_empty()
            && self.attempts.is_empty()
            && self.events.is_empty()
    }

    /// Whether reading again would find more.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.more.contains(&true)
    }
}

/// Appends the lines of `rows` to `buffer` and moves `head` on. Returns how far the tables are projected now, which can be
/// further than the last line says: rows that need no line.
pub fn project(
    rows: &Rows,
    policy: AuditJobs,
    after: Upto,
    head: &mut Head,
    buffer: &mut Vec<u8>,
) -> Upto {
    let mut lanes = [
        Lane::new(rows.occurrences.iter().map(Row::Occurrence).collect(), rows.more[0]),
        Lane::new(rows.submissions.iter().map(Row::Submission).collect(), rows.more[1]),
        Lane::new(rows.attempts.iter().map(Row::Attempt).collect(), rows.more[2]),
        Lane::new(rows.events.iter().map(Row::Event).collect(), rows.more[3]),
    ];
    // A table that has more may go on at the time of its last row here, so later rows of other tables have to wait.
    let horizon = lanes.iter().filter(|lane| lane.has_more).filter_map(Lane::last).min();
    let mut upto: [i64; 4] = after.into();
    let mut line = Line::default();
    while let Some((lane, row)) = next(&mut lanes, horizon) {
        upto[lane] = row.last_id();
        if row.is_wanted(policy) {
            head.append(buffer, &line.record(row), upto.into());
        }
    }
    let seen: [i64; 4] = rows.seen.into();
    for ((upto, seen), lane) in upto.iter_mut().zip(seen).zip(&lanes) {
        if lane.rest.is_empty() {
            *upto = seen.max(*upto);
        }
    }
    upto.into()
}

/// The earliest row that is not beyond the horizon, and its table.
fn next<'a>(lanes: &mut [Lane<'a>; 4], horizon: Option<Timestamp>) -> Option<(usize, Row<'a>)> {
    let (index, lane) = lanes
        .iter_mut()
        .enumerate()
        .filter(|(_, lane)| lane.time().is_some_and(|time| horizon.is_none_or(|end| time <= end)))
        .min_by_key(|(_, lane)| lane.time())?;
    Some((index, lane.take()?))
}

/// A table's rows that have no line yet.
struct Lane<'a> {
    rest: std::collections::VecDeque<Row<'a>>,
    has_more: bool,
    /// The latest time so far. A clock that was set back must not let one table's later rows overtake its earlier ones.
    floor: Timestamp,
}

impl<'a> Lane<'a> {
    fn new(rest: std::collections::VecDeque<Row<'a>>, has_more: bool) -> Self {
        Self { rest, has_more, floor: Timestamp::MIN }
    }

    fn time(&self) -> Option<Timestamp> {
        self.rest.front().map(|row| row.time().max(self.floor))
    }

    fn last(&self) -> Option<Timestamp> {
        self.rest.iter().map(Row::time).max()
    }

    fn take(&mut self) -> Option<Row<'a>> {
        let row = self.rest.pop_front()?;
        self.floor = self.floor.max(row.time());
        Some(row)
    }
}

#[derive(Clone, Copy)]
enum Row<'a> {
    Occurrence(&'a OccurrenceRow),
    Submission(&'a SubmissionRow),
    Attempt(&'a AttemptRow),
    Event(&'a EventRow),
}

impl Row<'_> {
    fn time(&self) -> Timestamp {
        match self {
            Self::Occurrence(row) => row.decided_at,
            Self::Submission(row) => row.created_at,
            Self::Attempt(row) => row.finished_at,
            Self::Event(row) => row.at,
        }
    }

    fn last_id(&self) -> i64 {
        match self {
            Self::Occurrence(row) => row.id,
            Self::Submission(row) => row.last,
            Self::Attempt(row) => row.id,
            Self::Event(row) => row.id,
        }
    }

    fn is_wanted(&self, policy: AuditJobs) -> bool {
        match (self, policy) {
            (Self::Attempt(row), AuditJobs::Failures) => row.outcome != "success",
            _ => true,
        }
    }
}

/// The texts of one line, kept from line to line so that a line costs no allocation.
#[derive(Default)]
struct Line {
    event: String,
    subject: String,
    detail: Vec<u8>,
}

impl Line {
    fn record<'s>(&'s mut self, row: Row<'s>) -> Record<'s> {
        self.event.clear();
        self.subject.clear();
        self.detail.clear();
        let actor = match row {
            Row::Occurrence(row) => self.occurrence(row),
            Row::Submission(row) => self.submission(row),
            Row::Attempt(row) => self.attempt(row),
            Row::Event(row) => self.event(row),
        };
        Record {
            time: row.time(),
            event: &self.event,
            actor,
            subject: &self.subject,
            detail: std::str::from_utf8(&self.detail).unwrap_or("{}"),
        }
    }

    fn occurrence<'r>(&mut self, row: &'r OccurrenceRow) -> &'r str {
        let _ = write!(self.event, "schedule.{}", row.decision);
        let _ = write!(self.subject, "schedule:{}", row.schedule);
        self.time("nominal_at", row.nominal_at);
        if let Some(job) = row.job {
            self.number("job", job);
        }
        self.text("reason", &row.reason);
        self.text("revision", &row.revision);
        if row.instants != 1 {
            self.number("instants", row.instants);
        }
        self.close();
        &row.actor
    }

    fn submission<'r>(&mut self, row: &'r SubmissionRow) -> &'r str {
        self.event.push_str("job.submitted");
        let _ = write!(self.subject, "job:{}", row.first);
        if row.count > 1 {
            let _ = write!(self.subject, "-{}", row.last);
            self.number("count", row.count);
        }
        self.text("kind", &row.kind);
        self.text("queue", &row.queue);
        self.number("priority", i64::from(row.priority));
        self.close();
        &row.actor
    }

    fn attempt<'r>(&mut self, row: &'r AttemptRow) -> &'r str {
        self.event.push_str("attempt.finished");
        let _ = write!(self.subject, "job:{}", row.job);
        self.number("number", i64::from(row.number));
        self.text("outcome", &row.outcome);
        self.text("kind", &row.kind);
        if let Some(schedule) = &row.schedule {
            self.text("schedule", schedule);
        }
        if let Some(state) = &row.ended_as {
            self.text("job_state", state);
        }
        self.time("started_at", row.started_at);
        let micros = row.finished_at.as_microsecond() - row.started_at.as_microsecond();
        self.number("duration_us", micros);
        if let Some(code) = row.exit_code {
            self.number("exit_code", i64::from(code));
        }
        if let Some(error) = &row.error {
            self.text("error", shortened(error));
        }
        self.number("node", row.node);
        self.close();
        &row.actor
    }

    fn event<'r>(&mut self, row: &'r EventRow) -> &'r str {
        self.event.push_str(&row.event);
        self.subject.push_str(&row.subject);
        // It goes into the line as it is, so it must be JSON.
        if serde_json::from_str::<serde::de::IgnoredAny>(&row.detail).is_ok() {
            self.detail.extend_from_slice(row.detail.as_bytes());
        } else {
            self.text("text", &row.detail);
            self.close();
        }
        &row.actor
    }

    fn name(&mut self, name: &str) {
        self.detail.extend_from_slice(if self.detail.is_empty() { b"{\"" } else { b",\"" });
        self.detail.extend_from_slice(name.as_bytes());
        self.detail.extend_from_slice(b"\":");
    }

    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        write_text(&mut self.detail, value);
    }

    fn number(&mut self, name: &str, value: impl std::fmt::Display) {
        use std::io::Write as _;
        self.name(name);
        let _ = write!(self.detail, "{value}");
    }

    fn time(&mut self, name: &str, value: Timestamp) {
        use std::io::Write as _;
        self.name(name);
        let _ = write!(self.detail, "\"{value:.6}\"");
    }

    fn close(&mut self) {
        self.detail.push(b'}');
    }
}

/// The longest error text in a line, in bytes. The whole text is in the database for as long as the job is.
const MAX_ERROR_BYTES: usize = 500;

fn shortened(error: &str) -> &str {
    let fits = |end: &usize| *end <= error.len() && error.is_char_boundary(*end);
    (0..=MAX_ERROR_BYTES).rev().find(fits).map_or("", |end| &error[..end])
}

#[cfg(test)]
#[path = "project_tests.rs"]
mod tests;
