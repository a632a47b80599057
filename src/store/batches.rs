//! Batches: jobs whose items are jobs of their own.
//!
//! The batch itself waits in no room and is run by nobody. Each end of an item counts in its row, and the last one ends it. What an item
//! does, when it is retried and what came of it is its own job's business.

use std::collections::{BTreeMap, HashMap};

use diesel::prelude::*;
use jiff::Timestamp;

use super::dependencies::Over;
use super::finish::{self, End};
use super::hot::{
    BatchOfItem, CountItems, DeleteDependency, EndItem, InsertDependency, InsertItem, execute_each,
    load_each, new_job_ids,
};
use super::jobs::{self, New, SubmitContext};
use super::schema::{batch_items, batches, job_dependencies, jobs_running};
use super::{Conn, StoreError, batch_orders, on_each_backend};
use crate::model::{BatchCounts, FinalState, JobId, JobSettings, JobState, NewItem, NewJob};

pub use super::batch_list::{ItemRecord, items};

/// What an item's job is to its batch, beside what jobs can need of others.
pub(super) const ITEM: &str = "item";

/// Whether a batch is over, as the two databases write it alike.
pub(super) const OPEN: i16 = 1;
const CLOSED: i16 = 0;

/// How many items are made at once. It bounds what a large batch takes of memory.
const ITEMS_AT_ONCE: usize = 1000;

/// Makes the items of a batch that was just inserted.
pub(super) fn submit_items<'a>(
    conn: &mut Conn,
    batch: &'a NewJob,
    id: i64,
    submission: i64,
    context: SubmitContext,
) -> Result<(), StoreError> {
    let total = i32::try_from(batch.items.len()).unwrap_or(i32::MAX);
    let row = (
        batches::job_id.eq(id),
        batches::total.eq(total),
        batches::completed.eq(0),
        batches::failed.eq(0),
        batches::cancelled.eq(0),
        batches::is_open.eq(OPEN),
    );
    diesel::insert_into(batches::table).values(row).execute(conn)?;
    let submission = if submission == 0 { id } else { submission };
    let positions: Vec<(i32, &'a NewItem)> = (0_i32..).zip(&batch.items).collect();
    for some in positions.chunks(ITEMS_AT_ONCE) {
        let ids = new_job_ids(conn, some.len())?;
        let items: Vec<NewJob> = some.iter().map(|(_, item)| item_job(batch, id, item)).collect();
        let new = ids.iter().zip(&items);
        let new: Vec<New<'_>> =
            new.map(|(id, job)| New { id: *id, submission, job, context }).collect();
        jobs::write(conn, &new)?;
        let row = |((position, item), job_id): (&(i32, &'a NewItem), &i64)| InsertItem {
            batch_id: id,
            position: *position,
            name: &item.name,
            job_id: *job_id,
        };
        execute_each(conn, some.iter().zip(&ids).map(row))?;
        execute_each(conn, ids.iter().map(|item| waits_for(id, *item)))?;
    }
    Ok(())
}

/// The job of an item: everything of the batch but its items, its key and its schedule.
fn item_job(batch: &NewJob, id: i64, item: &NewItem) -> NewJob {
    let settings = JobSettings {
        batch: Some(JobId(id)),
        item: Some(item.name.clone()),
        batch_schedule: batch.schedule.clone(),
        node: item.node.clone().or_else(|| batch.settings.node.clone()),
        ..batch.settings.clone()
    };
    NewJob {
        kind: batch.kind.clone(),
        params: item.params.clone(),
        priority: batch.priority,
        queue: batch.queue.clone(),
        run_at: batch.run_at,
        schedule: None,
        labels: batch.labels.clone(),
        unique: None,
        depends_on_earlier: Vec::new(),
        settings,
        items: Vec::new(),
        on_every_node: false,
        actor: batch.actor.clone(),
    }
}

pub(super) fn wait_for(conn: &mut Conn, batch: i64, item: i64) -> Result<(), StoreError> {
    let row = waits_for(batch, item);
    on_each_backend!(conn, |inner| row.execute(inner)?);
    Ok(())
}

fn waits_for(batch: i64, item: i64) -> InsertDependency<'static> {
    InsertDependency { job_id: batch, depends_on: item, needs: ITEM }
}

/// Those of some jobs that are items of batches, each behind its batch.
pub(super) fn items_among(conn: &mut Conn, jobs: &[Over]) -> Result<Vec<(i64, Over)>, StoreError> {
    let asked = jobs.iter().map(|over| BatchOfItem { depends_on: over.id });
    let found: HashMap<i64, i64> = load_each(conn, asked)?.into_iter().collect();
    Ok(jobs.iter().filter_map(|over| Some((*found.get(&over.id)?, *over))).collect())
}

/// Counts items that are over, each behind its batch. Returns the batches of which they were the last ones, which are over now.
pub(super) fn items_over(conn: &mut Conn, items: &[(i64, Over)]) -> Result<Vec<Over>, StoreError> {
    let no_more =
        |(batch, item): &(i64, Over)| DeleteDependency { job_id: *batch, depends_on: item.id };
    execute_each(conn, items.iter().map(no_more))?;
    let ended =
        |(_, item): &(i64, Over)| EndItem { state: item.state.state().as_str(), job_id: item.id };
    execute_each(conn, items.iter().map(ended))?;
    // In the order of their numbers, so that nodes at the same batches do not wait for each other.
    let mut counts: BTreeMap<i64, (CountItems, Timestamp)> = BTreeMap::new();
    for (batch, item) in items {
        let none = CountItems { completed: 0, failed: 0, cancelled: 0, job_id: *batch };
        let (count, at) = counts.entry(*batch).or_insert((none, item.at));
        *at = item.at;
        *match item.state {
            FinalState::Completed => &mut count.completed,
            FinalState::Failed => &mut count.failed,
            FinalState::Cancelled => &mut count.cancelled,
        } += 1;
    }
    let mut over = Vec::new();
    for (id, (count, at)) in counts {
        let counted: Option<Counted> =
            on_each_backend!(conn, |inner| count.get_result(inner).optional()?);
        let Some(counted) = counted else { continue };
        let counts = counted.counts();
        if counts.left() == 0 {
            let state = close(conn, id, counts, counted.cancelled_by, at)?;
            over.push(Over { id, state, at });
        }
    }
    Ok(over)
}

#[derive(Debug, Queryable)]
struct Counted {
    total: i32,
    completed: i32,
    failed: i32,
    cancelled: i32,
    cancelled_by: Option<String>,
}

impl Counted {
    fn counts(&self) -> BatchCounts {
        BatchCounts {
            total: self.total.unsigned_abs(),
            completed: self.completed.unsigned_abs(),
            failed: self.failed.unsigned_abs(),
            cancelled: self.cancelled.unsigned_abs(),
        }
    }
}

fn cancelled_by(conn: &mut Conn, batch: i64) -> Result<Option<String>, StoreError> {
    Ok(batches::table
        .find(batch)
        .select(batches::cancelled_by)
        .first::<Option<String>>(conn)
        .optional()?
        .flatten())
}

pub(super) fn close(
    conn: &mut Conn,
    batch: i64,
    counts: BatchCounts,
    cancelled_by: Option<String>,
    now: Timestamp,
) -> Result<FinalState, StoreError> {
    diesel::update(batches::table.find(batch)).set(batches::is_open.eq(CLOSED)).execute(conn)?;
    let (state, error) = match (cancelled_by, counts) {
        (_, BatchCounts { total, completed, .. }) if completed == total => {
            (FinalState::Completed, None)
        }
        (Some(by), _) => (FinalState::Cancelled, Some(format!("cancelled by {by}"))),
        (None, BatchCounts { total, failed, cancelled, .. }) => {
            let why = format!("of {total} items {failed} failed and {cancelled} were cancelled");
            (FinalState::Failed, Some(why))
        }
    };
    let result = serde_json::json!(counts);
    let end = End {
        id: batch,
        state,
        at: now,
        attempts: 0,
        charged: 0,
        error: error.as_deref(),
        result: Some(&result),
    };
    finish::close(conn, &end)?;
    Ok(state)
}

/// How far a batch is; none for a job that is no batch.
///
/// # Errors
/// When the database refuses.
pub fn counts(conn: &mut Conn, batch: JobId) -> Result<Option<BatchCounts>, StoreError> {
    let row = batches::table.find(batch.0).select((
        batches::total,
        batches::completed,
        batches::failed,
        batches::cancelled,
        batches::cancelled_by,
    ));
    let row: Option<Counted> = on_each_backend!(conn, |inner| row.first(inner).optional()?);
    Ok(row.map(|row| row.counts()))
}

pub(super) fn items_that_are_not_over(conn: &mut Conn, batch: i64) -> Result<Vec<i64>, StoreError> {
    Ok(job_dependencies::table
        .filter(job_dependencies::job_id.eq(batch))
        .filter(job_dependencies::needs.eq(ITEM))
        .order(job_dependencies::depends_on)
        .select(job_dependencies::depends_on)
        .load(conn)?)
}

/// The items of a batch that run.
///
/// # Errors
/// When the database refuses.
pub fn running_items(conn: &mut Conn, batch: JobId) -> Result<Vec<JobId>, StoreError> {
    let ids: Vec<i64> = batch_items::table
        .inner_join(jobs_running::table.on(jobs_running::job_id.eq(batch_items::job_id)))
        .filter(batch_items::batch_id.eq(batch.0))
        .select(batch_items::job_id)
        .load(conn)?;
    Ok(ids.into_iter().map(JobId).collect())
}

/// Whether the job is a batch.
pub(super) fn is_batch(conn: &mut Conn, id: i64) -> Result<bool, StoreError> {
    let row: Option<i64> =
        batches::table.find(id).select(batches::job_id).first(conn).optional()?;
    Ok(row.is_some())
}

/// Whether the job is a batch that is not over.
pub(super) fn is_open(conn: &mut Conn, id: i64) -> Result<bool, StoreError> {
    let row: Option<i16> =
        batches::table.find(id).select(batches::is_open).first(conn).optional()?;
    Ok(row == Some(OPEN))
}

/// Whether somebody has cancelled a batch whose last items are still ending.
pub(super) fn is_being_cancelled(conn: &mut Conn, batch: i64) -> Result<bool, StoreError> {
    Ok(cancelled_by(conn, batch)?.is_some())
}

/// Takes an item that lives again out of the counts of a batch that is not over, and lets the batch wait for it.
pub(super) fn item_again(conn: &mut Conn, item: i64) -> Result<(), StoreError> {
    let found: Option<(i64, i32, Option<String>)> = batch_items::table
        .filter(batch_items::job_id.eq(item))
        .select((batch_items::batch_id, batch_items::position, batch_items::state))
        .first(conn)
        .optional()?;
    let Some((batch, position, Some(state))) = found else { return Ok(()) };
    // One that a retry of the batch has not come to yet is in none of its counts.
    if !is_open(conn, batch)? || batch_orders::is_to_come(conn, batch, position)? {
        return Ok(());
    }
    diesel::update(batch_items::table.filter(batch_items::job_id.eq(item)))
        .set(batch_items::state.eq(None::<String>))
        .execute(conn)?;
    let one = |which: JobState| i32::from(which.as_str() == state);
    diesel::update(batches::table.find(batch))
        .set((
            batches::failed.eq(batches::failed - one(JobState::Failed)),
            batches::cancelled.eq(batches::cancelled - one(JobState::Cancelled)),
        ))
        .execute(conn)?;
    wait_for(conn, batch, item)
}

/// Puts another job in the place of an item's.
pub(super) fn item_replaced(conn: &mut Conn, item: i64, by: i64) -> Result<(), StoreError> {
    diesel::update(batch_items::table.filter(batch_items::job_id.eq(item)))
        .set(batch_items::job_id.eq(by))
        .execute(conn)?;
    item_again(conn, by)
}

/// Forgets batches whose jobs are deleted.
pub(super) fn forget(conn: &mut Conn, ids: &[i64]) -> Result<(), StoreError> {
    diesel::delete(batch_items::table.filter(batch_items::batch_id.eq_any(ids))).execute(conn)?;
    diesel::delete(batches::table.filter(batches::job_id.eq_any(ids))).execute(conn)?;
    Ok(())
}

/// The batches that are not over, for a filter by state.
pub(super) fn open_ids() -> diesel::dsl::Select<
    diesel::dsl::Filter<batches::table, diesel::dsl::Eq<batches::is_open, i16>>,
    batches::job_id,
> {
    batches::table.filter(batches::is_open.eq(OPEN)).select(batches::job_id)
}
