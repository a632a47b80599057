//! Rows of the ledger.

use diesel::dsl::{exists, not};
use diesel::prelude::*;
use jiff::Timestamp;

use super::{JobFilter, Page, is_real};
use crate::model::{JobId, JobState};
use crate::store::schema::{jobs, occurrences};
use crate::store::{Conn, Micros, StoreError};

/// Which rows of the ledger to list; everything that is set must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OccurrenceFilter {
    /// Of this schedule.
    pub schedule: Option<String>,
    /// Nominal at or after.
    pub from: Option<Timestamp>,
    /// Nominal before.
    pub until: Option<Timestamp>,
    /// With this decision.
    pub decision: Option<String>,
}

/// A row of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = occurrences)]
pub struct OccurrenceRecord {
    /// The row's number, for paging.
    pub id: i64,
    /// Whose instant it is.
    pub schedule: String,
    /// The instant.
    pub nominal_at: Micros,
    /// What was decided.
    pub decision: String,
    /// Why.
    pub reason: String,
    /// The job that was made.
    pub job_id: Option<i64>,
    /// When it was decided.
    pub decided_at: Micros,
    /// The schedule's content hash at that time.
    pub revision: String,
    /// How many instants the row stands for.
    pub instants: i64,
    /// Who caused it.
    pub actor: String,
}

/// A page of the ledger, newest row first.
///
/// # Errors
/// When the database refuses.
pub fn occurrences(
    conn: &mut Conn,
    filter: &OccurrenceFilter,
    page: Page,
) -> Result<Vec<OccurrenceRecord>, StoreError> {
    let mut query = occurrences::table
        .select(OccurrenceRecord::as_select())
        .order(occurrences::id.desc())
        .limit(page.limit)
        .into_boxed();
    if let Some(before) = page.before {
        query = query.filter(occurrences::id.lt(before));
    }
    if let Some(schedule) = &filter.schedule {
        query = query.filter(occurrences::schedule.eq(schedule));
    }
    if let Some(from) = filter.from {
        query = query.filter(occurrences::nominal_at.ge(from.as_microsecond()));
    }
    if let Some(until) = filter.until {
        query = query.filter(occurrences::nominal_at.lt(until.as_microsecond()));
    }
    if let Some(decision) = &filter.decision {
        query = query.filter(occurrences::decision.eq(decision));
    }
    Ok(query.load(conn)?)
}

/// The last thing that happened to a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastRun {
    /// The newest row of its ledger.
    pub occurrence: OccurrenceRecord,
    /// The state of the newest job it made.
    pub job: Option<(JobId, JobState, Option<Timestamp>)>,
}

/// The last thing that happened to a schedule; a dry run is nothing.
///
/// # Errors
/// When the database refuses.
pub fn last_run(conn: &mut Conn, schedule: &str) -> Result<Option<LastRun>, StoreError> {
    let its_job = jobs::table.filter(jobs::id.nullable().eq(occurrences::job_id));
    let is_dry_run = exists(its_job.filter(not(is_real())));
    let newest = occurrences::table
        .filter(occurrences::schedule.eq(schedule).and(not(is_dry_run)))
        .order(occurrences::nominal_at.desc())
        .select(OccurrenceRecord::as_select())
        .first::<OccurrenceRecord>(conn)
        .optional()?;
    let Some(occurrence) = newest else { return Ok(None) };
    let filter = JobFilter {
        schedule: Some(schedule.to_owned()),
        without_dry_runs: true,
        ..JobFilter::default()
    };
    let job = super::jobs(conn, &filter, Page { limit: 1, before: None })?.pop();
    let job = job.map(|job| (job.id, job.state, job.finished_at));
    Ok(Some(LastRun { occurrence, job }))
}
