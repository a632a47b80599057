//! The rows of a stretch of time, in pages that continue after the last row's time and id. The indexes on these times lead
//! there directly.

use diesel::prelude::*;
use jiff::Timestamp;

use crate::model::{Decision, FinalState, JobId, Outcome};
use crate::store::history::is_real;
use crate::store::schema::{attempts, job_results, jobs, occurrences};
use crate::store::{Conn, Micros, StoreError};

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

impl AttemptFact {
    /// How long it took; nothing where a clock that was set back makes it look negative.
    #[must_use]
    pub fn duration_us(&self) -> u64 {
        micros_between(self.started_at, self.finished_at)
    }

    /// How long the job waited for this attempt, if it was its first: since it was both accepted and due. A job that was
    /// due before it was accepted (a catch-up) could not wait before it existed.
    #[must_use]
    pub fn wait_us(&self) -> Option<u64> {
        let since = self.run_at.max(self.created_at);
        (self.number == 1).then(|| micros_between(since, self.started_at))
    }

    /// How long after its nominal instant the job started, if this was its first attempt.
    #[must_use]
    pub fn lateness_us(&self) -> Option<u64> {
        let nominal_at = self.nominal_at.filter(|_| self.number == 1)?;
        Some(micros_between(nominal_at, self.started_at))
    }
}

fn micros_between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.as_microsecond().saturating_sub(from.as_microsecond())).unwrap_or(0)
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
pub struct FactPage<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// `None` after the last page.
    pub next: Option<Cursor>,
}

/// Which rows to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// The first instant that belongs to it.
    pub from: Timestamp,
    /// The first instant that does not.
    pub to: Timestamp,
    /// Where the page before ended.
    pub after: Option<Cursor>,
    /// How many rows at the most.
    pub limit: i64,
}

impl Slice {
    /// Where to look from: the database seeks to this time.
    fn start(&self) -> i64 {
        self.after.map_or(self.from, |cursor| cursor.at).as_microsecond()
    }

    /// Rows of the starting time itself count only beyond this id.
    fn start_id(&self) -> i64 {
        self.after.map_or(i64::MIN, |cursor| cursor.id)
    }

    fn end(&self) -> i64 {
        self.to.as_microsecond()
    }

    fn page<R, T>(
        &self,
        rows: Vec<R>,
        place: impl Fn(&R) -> (Micros, i64),
        read: impl Fn(R) -> Result<T, StoreError>,
    ) -> Result<FactPage<T>, StoreError> {
        let is_full = i64::try_from(rows.len()).unwrap_or(i64::MAX) >= self.limit;
        let last = rows.last().map(place).filter(|_| is_full);
        let next = last.map(|(at, id)| Cursor { at: at.into(), id });
        Ok(FactPage { rows: rows.into_iter().map(read).collect::<Result<_, _>>()?, next })
    }
}

#[derive(Queryable)]
struct AttemptRow {
    id: i64,
    job_id: i64,
    number: i32,
    outcome: String,
    started_at: Micros,
    finished_at: Micros,
    kind: String,
    schedule: Option<String>,
    nominal_at: Option<Micros>,
    run_at: Micros,
    created_at: Micros,
}

/// Attempts that ended in the slice, in order of that time.
///
/// # Errors
/// When the database refuses, or a row cannot be read.
pub fn attempts(conn: &mut Conn, slice: Slice) -> Result<FactPage<AttemptFact>, StoreError> {
    let rows: Vec<AttemptRow> = attempts::table
        .inner_join(jobs::table.on(jobs::id.eq(attempts::job_id)))
        .filter(is_real())
        .filter(attempts::finished_at.ge(slice.start()))
        .filter(attempts::finished_at.lt(slice.end()))
        .filter(attempts::finished_at.gt(slice.start()).or(attempts::id.gt(slice.start_id())))
        .order((attempts::finished_at, attempts::id))
        .limit(slice.limit)
        .select((
            attempts::id,
            attempts::job_id,
            attempts::number,
            attempts::outcome,
            attempts::started_at,
            attempts::finished_at,
            jobs::kind,
            jobs::schedule,
            jobs::nominal_at,
            jobs::run_at,
            jobs::created_at,
        ))
        .load(conn)?;
    slice.page(rows, |row| (row.finished_at, row.id), attempt_fact)
}

fn attempt_fact(row: AttemptRow) -> Result<AttemptFact, StoreError> {
    Ok(AttemptFact {
        job: JobId(row.job_id),
        number: unsigned("attempt's number", row.number)?,
        outcome: parse("outcome", &row.outcome)?,
        started_at: row.started_at.into(),
        finished_at: row.finished_at.into(),
        kind: row.kind,
        schedule: row.schedule,
        nominal_at: row.nominal_at.map(Into::into),
        run_at: row.run_at.into(),
        created_at: row.created_at.into(),
    })
}

#[derive(Queryable)]
struct ResultRow {
    job_id: i64,
    finished_at: Micros,
    charged: i32,
    error: Option<String>,
    kind: String,
    schedule: Option<String>,
}

/// Jobs that ended in the slice, in order of that time.
///
/// The index on the time of ending begins with the state. Each state is therefore read on its own, and the page is the
/// merge of the three; asking for all of them at once would make the database sort the whole period for every page.
///
/// # Errors
/// When the database refuses, or a row cannot be read.
pub fn results(conn: &mut Conn, slice: Slice) -> Result<FactPage<ResultFact>, StoreError> {
    let mut rows: Vec<(FinalState, ResultRow)> = Vec::new();
    for state in [FinalState::Completed, FinalState::Failed, FinalState::Cancelled] {
        rows.extend(results_in(conn, slice, state)?.into_iter().map(|row| (state, row)));
    }
    rows.sort_unstable_by_key(|(_, row)| (row.finished_at, row.job_id));
    rows.truncate(usize::try_from(slice.limit).unwrap_or(0));
    slice.page(
        rows,
        |(_, row)| (row.finished_at, row.job_id),
        |(state, row)| {
            Ok(ResultFact {
                job: JobId(row.job_id),
                state,
                finished_at: row.finished_at.into(),
                charged: unsigned("number of charged attempts", row.charged)?,
                error: row.error,
                kind: row.kind,
                schedule: row.schedule,
            })
        },
    )
}

fn results_in(
    conn: &mut Conn,
    slice: Slice,
    state: FinalState,
) -> Result<Vec<ResultRow>, StoreError> {
    let at = job_results::finished_at;
    let rows = job_results::table
        .inner_join(jobs::table.on(jobs::id.eq(job_results::job_id)))
        .filter(is_real())
        .filter(job_results::state.eq(state.state().as_str()))
        .filter(at.ge(slice.start()))
        .filter(at.lt(slice.end()))
        .filter(at.gt(slice.start()).or(job_results::job_id.gt(slice.start_id())))
        .order((at, job_results::job_id))
        .limit(slice.limit)
        .select((
            job_results::job_id,
            at,
            job_results::charged,
            job_results::error,
            jobs::kind,
            jobs::schedule,
        ))
        .load(conn)?;
    Ok(rows)
}

#[derive(Queryable)]
struct OccurrenceRow {
    id: i64,
    schedule: String,
    nominal_at: Micros,
    decision: String,
    reason: String,
    decided_at: Micros,
    instants: i64,
}

/// Decisions that were made in the slice, in order of that time.
///
/// # Errors
/// When the database refuses, or a row cannot be read.
pub fn occurrences(conn: &mut Conn, slice: Slice) -> Result<FactPage<OccurrenceFact>, StoreError> {
    let at = occurrences::decided_at;
    let rows: Vec<OccurrenceRow> = occurrences::table
        .filter(at.ge(slice.start()))
        .filter(at.lt(slice.end()))
        .filter(at.gt(slice.start()).or(occurrences::id.gt(slice.start_id())))
        .order((at, occurrences::id))
        .limit(slice.limit)
        .select((
            occurrences::id,
            occurrences::schedule,
            occurrences::nominal_at,
            occurrences::decision,
            occurrences::reason,
            at,
            occurrences::instants,
        ))
        .load(conn)?;
    slice.page(
        rows,
        |row| (row.decided_at, row.id),
        |row| {
            Ok(OccurrenceFact {
                schedule: row.schedule,
                nominal_at: row.nominal_at.into(),
                decision: parse("decision", &row.decision)?,
                reason: row.reason,
                instants: unsigned("number of instants", row.instants)?,
            })
        },
    )
}

fn parse<T: std::str::FromStr<Err = String>>(
    what: &'static str,
    text: &str,
) -> Result<T, StoreError> {
    text.parse().map_err(|detail| StoreError::Damaged { what, detail })
}

fn unsigned<I: Copy + std::fmt::Display, U: TryFrom<I>>(
    what: &'static str,
    number: I,
) -> Result<U, StoreError> {
    U::try_from(number)
        .map_err(|_negative| StoreError::Damaged { what, detail: format!("{number} is negative") })
}
