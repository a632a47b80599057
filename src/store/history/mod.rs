//! Looking back: jobs, attempts and occurrences, by filter and page.

mod attempts;
mod occurrences;
mod record;

use diesel::dsl::sql;
use diesel::expression::SqlLiteral;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use jiff::Timestamp;

use super::schema::{
    job_labels, job_replacements, job_results, jobs, jobs_blocked, jobs_ready, jobs_running,
    jobs_scheduled,
};
use super::{Conn, StoreError, batches};
use crate::model::JobState;

pub use attempts::{
    AttemptRecord, DayNumbers, attempts, day_numbers, latest_durations, output_tail,
};
pub use occurrences::{LastRun, OccurrenceFilter, OccurrenceRecord, last_run, occurrences};
pub(in crate::store) use record::attempts_so_far;
pub use record::{JobRecord, by_ids, job};

/// Where jobs are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Among {
    /// Those in this state.
    State(JobState),
    /// The batches that are not over. To people they are running.
    OpenBatches,
}

impl Among {
    /// The state of all of them.
    #[must_use]
    pub fn state(self) -> JobState {
        match self {
            Self::State(state) => state,
            Self::OpenBatches => JobState::Running,
        }
    }
}

/// Which jobs to list; everything that is set must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobFilter {
    /// Among any of these; where there are none, among all.
    pub among: Vec<Among>,
    /// Of this kind.
    pub kind: Option<String>,
    /// Made by this schedule.
    pub schedule: Option<String>,
    /// In this queue.
    pub queue: Option<String>,
    /// With these marks, each as `key=value`.
    pub labels: Vec<String>,
    /// Submitted then or later.
    pub since: Option<Timestamp>,
    /// Submitted before.
    pub until: Option<Timestamp>,
    /// Leaving out those whose work another job does with other params.
    pub without_replaced: bool,
    /// Leaving out those that only told what they would do.
    pub without_dry_runs: bool,
    /// Leaving out the items of batches that pass as well.
    pub without_items_of_found: bool,
}

/// That a job is no dry run, in terms of the table `jobs`. Its settings are written by [`crate::model::JobSettings`], in which a quotation mark
/// within a text is escaped, so no text in them looks like this.
pub(in crate::store) const IS_REAL: &str =
    "(jobs.settings IS NULL OR jobs.settings NOT LIKE '%\"dry_run\":true%')";

/// That a job is no dry run.
pub(in crate::store) fn is_real() -> SqlLiteral<Bool> {
    sql(IS_REAL)
}

/// A page of a list that is ordered by falling id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// How many rows at the most.
    pub limit: i64,
    /// Only rows with a smaller id than this.
    pub before: Option<i64>,
}

/// A page of the jobs that pass the filter, newest first.
///
/// # Errors
/// When the database refuses, or a row cannot be read.
pub fn jobs(conn: &mut Conn, filter: &JobFilter, page: Page) -> Result<Vec<JobRecord>, StoreError> {
    let ids = job_ids(conn, filter, page)?;
    by_ids(conn, &ids)
}

/// The ids of a page of the jobs that pass the filter, newest first.
///
/// # Errors
/// When the database refuses.
pub fn job_ids(conn: &mut Conn, filter: &JobFilter, page: Page) -> Result<Vec<i64>, StoreError> {
    let mut query =
        jobs::table.select(jobs::id).order(jobs::id.desc()).limit(page.limit).into_boxed();
    // First, because each of them is joined by `or` to all that was asked for before.
    for among in &filter.among {
        query = match among {
            Among::State(JobState::Running) => {
                let running = jobs_running::table.select(jobs_running::job_id);
                query.or_filter(jobs::id.eq_any(running).or(jobs::id.eq_any(batches::open_ids())))
            }
            Among::State(JobState::Blocked) => {
                query.or_filter(jobs::id.eq_any(jobs_blocked::table.select(jobs_blocked::job_id)))
            }
            Among::State(JobState::Retrying) => {
                let retrying = jobs_scheduled::table.filter(jobs_scheduled::number.gt(0));
                query.or_filter(jobs::id.eq_any(retrying.select(jobs_scheduled::job_id)))
            }
            Among::State(JobState::Pending) => {
                let ready = jobs_ready::table.select(jobs_ready::job_id);
                let ahead = jobs_scheduled::table
                    .filter(jobs_scheduled::number.eq(0))
                    .select(jobs_scheduled::job_id);
                query.or_filter(jobs::id.eq_any(ready).or(jobs::id.eq_any(ahead)))
            }
            Among::State(over) => {
                let results = job_results::table.filter(job_results::state.eq(over.as_str()));
                query.or_filter(jobs::id.eq_any(results.select(job_results::job_id)))
            }
            Among::OpenBatches => query.or_filter(jobs::id.eq_any(batches::open_ids())),
        };
    }
    if let Some(before) = page.before {
        query = query.filter(jobs::id.lt(before));
    }
    if let Some(kind) = &filter.kind {
        query = query.filter(jobs::kind.eq(kind));
    }
    if let Some(schedule) = &filter.schedule {
        query = query.filter(jobs::schedule.eq(schedule));
    }
    if let Some(queue) = &filter.queue {
        query = query.filter(jobs::queue.eq(queue));
    }
    for label in &filter.labels {
        let marked =
            job_labels::table.filter(job_labels::label.eq(label)).select(job_labels::job_id);
        query = query.filter(jobs::id.eq_any(marked));
    }
    if let Some(since) = filter.since {
        query = query.filter(jobs::created_at.ge(since.as_microsecond()));
    }
    if let Some(until) = filter.until {
        query = query.filter(jobs::created_at.lt(until.as_microsecond()));
    }
    if filter.without_replaced {
        let replaced = job_replacements::table.select(job_replacements::job_id);
        query = query.filter(jobs::id.ne_all(replaced));
    }
    if filter.without_dry_runs {
        query = query.filter(is_real());
    }
    if filter.without_items_of_found {
        query = query.filter(is_no_item_of_found(filter));
    }
    Ok(query.load(conn)?)
}

/// That a job is no item of a batch that passes the filter as well. An item has the kind, the queue and the marks of its batch and no schedule, so
/// only their states and times can differ.
fn is_no_item_of_found(filter: &JobFilter) -> SqlLiteral<Bool> {
    let mut batch = String::new();
    if !filter.among.is_empty() {
        let states: Vec<&str> = filter.among.iter().map(|among| among.state().as_str()).collect();
        let states = states.join("', '");
        batch = format!(" AND COALESCE(r.state, 'running') IN ('{states}')");
    }
    // All of it is ours.
    for (is, instant) in [(">=", filter.since), ("<", filter.until)] {
        let instant = instant.map(Timestamp::as_microsecond);
        batch.extend(instant.map(|instant| format!(" AND b.created_at {is} {instant}")));
    }
    sql(&format!(
        "NOT EXISTS (SELECT 1 FROM batch_items i JOIN jobs b ON b.id = i.batch_id \
         LEFT JOIN job_results r ON r.job_id = b.id WHERE i.job_id = jobs.id{batch})"
    ))
}

/// How many jobs are in each state.
///
/// # Errors
/// When the database refuses.
pub fn counts(conn: &mut Conn) -> Result<Vec<(JobState, i64)>, StoreError> {
    let mut counts = live_counts(conn)?;
    for state in [JobState::Completed, JobState::Failed, JobState::Cancelled] {
        let over: i64 = job_results::table
            .filter(job_results::state.eq(state.as_str()))
            .count()
            .get_result(conn)?;
        counts.push((state, over));
    }
    Ok(counts)
}

/// How many jobs are in each state that is not final. Unlike the others these are never many for long, so it costs little.
///
/// # Errors
/// When the database refuses.
pub fn live_counts(conn: &mut Conn) -> Result<Vec<(JobState, i64)>, StoreError> {
    let ready: i64 = jobs_ready::table.count().get_result(conn)?;
    let ahead: i64 =
        jobs_scheduled::table.filter(jobs_scheduled::number.eq(0)).count().get_result(conn)?;
    let retrying: i64 =
        jobs_scheduled::table.filter(jobs_scheduled::number.gt(0)).count().get_result(conn)?;
    let running: i64 = jobs_running::table.count().get_result(conn)?;
    let blocked: i64 = jobs_blocked::table.count().get_result(conn)?;
    Ok(vec![
        (JobState::Blocked, blocked),
        (JobState::Pending, ready + ahead),
        (JobState::Running, running),
        (JobState::Retrying, retrying),
    ])
}
