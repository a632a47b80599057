//! Batches whose items are done in one run: a job like any other, with a list of items that its attempts work off.
//!
//! An item's row holds what the program has said of it. What it has said nothing about shares the end of the job, so nothing has to be written when
//! the job ends or is brought back.

use std::collections::HashMap;

use diesel::prelude::*;

use super::batches::ItemRecord;
use super::hot::{InsertWholeItem, UpdateWholeItem, execute_each};
use super::schema::{jobs_running, whole_batch_items, whole_batches};
use super::{Conn, StoreError, on_each_backend};
use crate::model::{
    BatchCounts, FinalState, ItemEnd, ItemReport, JobId, JobState, JsonText, NewItem, NodeId,
    OpenItem,
};

/// Notes the items of a job that was just inserted.
pub(super) fn submit_items<'a>(
    conn: &mut Conn,
    id: i64,
    items: &'a [NewItem],
) -> Result<(), StoreError> {
    open(conn, id, i32::try_from(items.len()).unwrap_or(i32::MAX))?;
    let row = |(position, item): (i32, &'a NewItem)| {
        let params = Some(item.params.as_str()).filter(|params| *params != "{}");
        InsertWholeItem { job_id: id, position, name: &item.name, params }
    };
    execute_each(conn, (0_i32..).zip(items).map(row))?;
    Ok(())
}

fn open(conn: &mut Conn, id: i64, total: i32) -> Result<(), StoreError> {
    let row = (
        whole_batches::job_id.eq(id),
        whole_batches::total.eq(total),
        whole_batches::completed.eq(0),
        whole_batches::failed.eq(0),
    );
    diesel::insert_into(whole_batches::table).values(row).execute(conn)?;
    Ok(())
}

/// Gives the items that are not completed to another job as well, which does the work of this one.
pub(super) fn hand_over(conn: &mut Conn, from: i64, to: i64) -> Result<(), StoreError> {
    // Both numbers are ours.
    let copy = format!(
        "INSERT INTO whole_batch_items (job_id, position, name, params) \
         SELECT {to}, position, name, params FROM whole_batch_items \
         WHERE job_id = {from} AND (state IS NULL OR state <> 'completed')"
    );
    let total = diesel::sql_query(copy).execute(conn)?;
    open(conn, to, i32::try_from(total).unwrap_or(i32::MAX))
}

/// The items of a job that are not completed and stand behind `after`, in order.
///
/// # Errors
/// When the database refuses.
pub fn open_items(
    conn: &mut Conn,
    job: JobId,
    after: Option<i32>,
    limit: i64,
) -> Result<Vec<OpenItem>, StoreError> {
    let completed = JobState::Completed.as_str();
    let rows: Vec<(i32, String, Option<String>)> = whole_batch_items::table
        .filter(whole_batch_items::job_id.eq(job.0))
        .filter(whole_batch_items::position.gt(after.unwrap_or(-1)))
        .filter(whole_batch_items::state.is_null().or(whole_batch_items::state.ne(completed)))
        .order(whole_batch_items::position)
        .limit(limit)
        .select((whole_batch_items::position, whole_batch_items::name, whole_batch_items::params))
        .load(conn)?;
    let item = |(position, name, params): (i32, String, Option<String>)| {
        let params = params.map(|text| {
            super::jobs::from_json::<serde_json::Value>("item's params", &text)
                .map(|params| JsonText::from(&params))
        });
        Ok(OpenItem { position, name, params: params.transpose()? })
    };
    rows.into_iter().map(item).collect()
}

/// Keeps what an attempt says of items. One that no longer owns the job says nothing. Returns whether it does.
///
/// # Errors
/// When the database refuses.
pub fn record(
    conn: &mut Conn,
    node: NodeId,
    job: JobId,
    attempt: u32,
    reports: &[ItemReport],
) -> Result<bool, StoreError> {
    let number = i32::try_from(attempt).unwrap_or(i32::MAX);
    let owner: Option<i64> = jobs_running::table
        .find(job.0)
        .filter(jobs_running::number.eq(number))
        .filter(jobs_running::node_id.eq(node.0))
        .select(jobs_running::job_id)
        .first(conn)
        .optional()?;
    if owner.is_none() {
        return Ok(false);
    }
    let mut states = states(conn, job.0, reports)?;
    let (mut completed, mut failed) = (0, 0);
    for report in reports {
        let (state, error) = match &report.end {
            ItemEnd::Completed => (JobState::Completed, None),
            ItemEnd::Failed(error) => (JobState::Failed, error.as_deref()),
        };
        let Some(before) = states.insert(report.position, Some(state.as_str().to_owned())) else {
            continue;
        };
        let is = |which: JobState| i32::from(state == which);
        let was = |which: JobState| i32::from(before.as_deref() == Some(which.as_str()));
        completed += is(JobState::Completed) - was(JobState::Completed);
        failed += is(JobState::Failed) - was(JobState::Failed);
        let row = UpdateWholeItem {
            state: state.as_str(),
            attempt: number,
            error,
            result: report.result.as_ref().map(JsonText::as_str),
            job_id: job.0,
            position: report.position,
        };
        on_each_backend!(conn, |inner| row.execute(inner)?);
    }
    diesel::update(whole_batches::table.find(job.0))
        .set((
            whole_batches::completed.eq(whole_batches::completed + completed),
            whole_batches::failed.eq(whole_batches::failed + failed),
        ))
        .execute(conn)?;
    Ok(true)
}

fn states(
    conn: &mut Conn,
    job: i64,
    reports: &[ItemReport],
) -> Result<HashMap<i32, Option<String>>, StoreError> {
    let positions: Vec<i32> = reports.iter().map(|report| report.position).collect();
    let mut states = HashMap::with_capacity(positions.len());
    for chunk in positions.chunks(super::jobs::CHUNK_ROWS) {
        let rows: Vec<(i32, Option<String>)> = whole_batch_items::table
            .filter(whole_batch_items::job_id.eq(job))
            .filter(whole_batch_items::position.eq_any(chunk))
            .select((whole_batch_items::position, whole_batch_items::state))
            .load(conn)?;
        states.extend(rows);
    }
    Ok(states)
}

/// How far a batch is whose job is over in that way, or not over; none for a job that is no such batch.
///
/// # Errors
/// When the database refuses.
pub fn counts(
    conn: &mut Conn,
    job: JobId,
    over: Option<FinalState>,
) -> Result<Option<BatchCounts>, StoreError> {
    let row: Option<(i32, i32, i32)> = whole_batches::table
        .find(job.0)
        .select((whole_batches::total, whole_batches::completed, whole_batches::failed))
        .first(conn)
        .optional()?;
    Ok(row.map(|(total, completed, failed)| {
        let mut counts = BatchCounts {
            total: total.unsigned_abs(),
            completed: completed.unsigned_abs(),
            failed: failed.unsigned_abs(),
            cancelled: 0,
        };
        let silent = counts.left();
        match over {
            None => {}
            Some(FinalState::Completed) => counts.completed += silent,
            Some(FinalState::Failed) => counts.failed += silent,
            Some(FinalState::Cancelled) => counts.cancelled += silent,
        }
        counts
    }))
}

/// A page of a batch's items in order, those after `after`, of that state where one is given. `over` is how its job is over, if it is.
///
/// # Errors
/// When the database refuses.
pub fn items(
    conn: &mut Conn,
    job: JobId,
    over: Option<FinalState>,
    state: Option<JobState>,
    after: Option<i32>,
    limit: i64,
) -> Result<Vec<ItemRecord>, StoreError> {
    type Row = (i32, String, Option<String>, Option<i32>, Option<String>, Option<String>);
    let silent = over.map_or(JobState::Pending, FinalState::state);
    let mut query = whole_batch_items::table
        .filter(whole_batch_items::job_id.eq(job.0))
        .order(whole_batch_items::position)
        .limit(limit)
        .select((
            whole_batch_items::position,
            whole_batch_items::name,
            whole_batch_items::state,
            whole_batch_items::attempt,
            whole_batch_items::error,
            whole_batch_items::result,
        ))
        .into_boxed();
    if let Some(after) = after {
        query = query.filter(whole_batch_items::position.gt(after));
    }
    query = match state {
        None => query,
        Some(state) if state == silent => query.filter(
            whole_batch_items::state.is_null().or(whole_batch_items::state.eq(state.as_str())),
        ),
        Some(state) => query.filter(whole_batch_items::state.eq(state.as_str())),
    };
    let rows: Vec<Row> = query.load(conn)?;
    let read = |(position, name, state, attempts, error, result): Row| {
        let result =
            result.map(|text| super::jobs::from_json("item's result", &text)).transpose()?;
        let said = state.map(|state| state.parse()).transpose();
        let said = said.map_err(|detail| StoreError::Damaged { what: "item's state", detail })?;
        let state = said.unwrap_or(silent);
        Ok(ItemRecord { position, name, job: Some(job), state, attempts, error, result })
    };
    rows.into_iter().map(read).collect()
}

/// Forgets the items of jobs that are deleted.
pub(super) fn forget(conn: &mut Conn, ids: &[i64]) -> Result<(), StoreError> {
    diesel::delete(whole_batch_items::table.filter(whole_batch_items::job_id.eq_any(ids)))
        .execute(conn)?;
    diesel::delete(whole_batches::table.filter(whole_batches::job_id.eq_any(ids))).execute(conn)?;
    Ok(())
}
