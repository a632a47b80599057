//! The items of a batch as people are shown them: each with what its job says now.

use std::collections::HashMap;

use diesel::prelude::*;

use super::hot::{LatestAttempt, load_each};
use super::jobs::from_json;
use super::schema::{batch_items, job_results, jobs, jobs_blocked, jobs_running, jobs_scheduled};
use super::{Conn, StoreError};
use crate::model::{JobId, JobState};

/// An item as people are shown it.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemRecord {
    /// Its place in the batch, from 0.
    pub position: i32,
    /// Its name.
    pub name: String,
    /// Its job; none where that was deleted.
    pub job: Option<JobId>,
    /// Where its job is; where that was deleted, how the batch has counted the item.
    pub state: JobState,
    /// Executions of its job begun so far; where one run does all items, the attempt that said last what came of it.
    pub attempts: Option<i32>,
    /// Why it did not end well; of one that waits for its next attempt, why the last one failed.
    pub error: Option<String>,
    /// What came of it.
    pub result: Option<serde_json::Value>,
}

/// How a job ended: its state, its attempts, why not well, and what came of it.
type Ended = (String, i32, Option<String>, Option<String>);

/// An item and what the tables say of where its job is.
#[derive(Debug, Queryable)]
struct Row {
    position: i32,
    name: String,
    counted: Option<String>,
    job: Option<i64>,
    ended: Option<Ended>,
    running: Option<i32>,
    scheduled: Option<i32>,
    blocked: Option<i64>,
}

/// A page of a batch's items in order, those after `after`, of that state where one is given.
///
/// # Errors
/// When the database refuses, or a row cannot be read.
pub fn items(
    conn: &mut Conn,
    batch: JobId,
    state: Option<JobState>,
    after: Option<i32>,
    limit: i64,
) -> Result<Vec<ItemRecord>, StoreError> {
    let mut query = batch_items::table
        .left_join(jobs::table.on(jobs::id.eq(batch_items::job_id)))
        .left_join(job_results::table.on(job_results::job_id.eq(batch_items::job_id)))
        .left_join(jobs_running::table.on(jobs_running::job_id.eq(batch_items::job_id)))
        .left_join(jobs_scheduled::table.on(jobs_scheduled::job_id.eq(batch_items::job_id)))
        .left_join(jobs_blocked::table.on(jobs_blocked::job_id.eq(batch_items::job_id)))
        .filter(batch_items::batch_id.eq(batch.0))
        .order(batch_items::position)
        .limit(limit)
        .select((
            batch_items::position,
            batch_items::name,
            batch_items::state,
            jobs::id.nullable(),
            (job_results::state, job_results::attempts, job_results::error, job_results::result)
                .nullable(),
            jobs_running::number.nullable(),
            jobs_scheduled::number.nullable(),
            jobs_blocked::job_id.nullable(),
        ))
        .into_boxed();
    if let Some(after) = after {
        query = query.filter(batch_items::position.gt(after));
    }
    let is_retrying = jobs_scheduled::number.nullable().gt(0);
    query = match state {
        None => query,
        Some(JobState::Running) => query.filter(jobs_running::job_id.nullable().is_not_null()),
        Some(JobState::Retrying) => query.filter(is_retrying),
        Some(JobState::Blocked) => query.filter(jobs_blocked::job_id.nullable().is_not_null()),
        Some(JobState::Pending) => query
            .filter(jobs::id.nullable().is_not_null())
            .filter(job_results::job_id.nullable().is_null())
            .filter(jobs_running::job_id.nullable().is_null())
            .filter(jobs_blocked::job_id.nullable().is_null())
            .filter(
                jobs_scheduled::number
                    .nullable()
                    .is_null()
                    .or(jobs_scheduled::number.nullable().eq(0)),
            ),
        Some(over) => {
            let is_gone = jobs::id.nullable().is_null();
            query.filter(
                job_results::state
                    .nullable()
                    .eq(over.as_str())
                    .or(is_gone.and(batch_items::state.eq(over.as_str()))),
            )
        }
    };
    let rows: Vec<Row> = query.load(conn)?;
    let live = rows.iter().filter(|row| row.ended.is_none()).filter_map(|row| row.job);
    let latest: Vec<(i64, i32, Option<String>)> =
        load_each(conn, live.map(|job_id| LatestAttempt { job_id }))?;
    let mut latest: HashMap<i64, (i32, Option<String>)> =
        latest.into_iter().map(|(job, number, error)| (job, (number, error))).collect();
    let record = |row: Row| {
        let latest = row.job.and_then(|job| latest.remove(&job));
        record(row, latest)
    };
    rows.into_iter().map(record).collect()
}

/// The item. `latest` is the last finished attempt of its job, where that is not over.
fn record(row: Row, latest: Option<(i32, Option<String>)>) -> Result<ItemRecord, StoreError> {
    let read = |state: &str| {
        state.parse().map_err(|detail| StoreError::Damaged { what: "item's state", detail })
    };
    let Row { position, name, counted, job, ended, running, scheduled, blocked } = row;
    let (finished, last_error) = latest.unwrap_or_default();
    let (state, attempts, error, result) = match (job, ended) {
        (None, _) => {
            let counted = counted.as_deref().map(read).transpose()?;
            (counted.unwrap_or(JobState::Pending), None, None, None)
        }
        (_, Some((state, attempts, error, result))) => {
            (read(&state)?, Some(attempts), error, result)
        }
        _ if running.is_some() => (JobState::Running, running, None, None),
        _ if scheduled.is_some_and(|number| number > 0) => {
            (JobState::Retrying, scheduled, last_error, None)
        }
        _ if blocked.is_some() => (JobState::Blocked, Some(finished), None, None),
        _ => (JobState::Pending, Some(finished), None, None),
    };
    let result = result.map(|text| from_json("job's result", &text)).transpose()?;
    Ok(ItemRecord { position, name, job: job.map(JobId), state, attempts, error, result })
}
