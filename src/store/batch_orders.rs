//! Cancelling and retrying a batch as a whole, in steps.
//!
//! A batch may have a hundred thousand items, and while one transaction goes through all of them nobody else writes. So the batch is marked
//! first, and its items are gone through step by step, each step a transaction of its own. What is left to be done is seen from the rows, so
//! that whoever finds a batch whose steps broke off can go on with them: the next start does.
//!
//! Nobody takes a batch for over meanwhile. One that is being cancelled has items that are not over. One that is tried again counts its items
//! anew as the steps come to them, so that as long as one is left the counts do not add up.

use diesel::prelude::*;
use jiff::Timestamp;

use super::batches::{ITEM, OPEN, close, counts, is_open, wait_for};
use super::by_hand::STEP_JOBS;
use super::dependencies::Over;
use super::hot::{DeleteDependency, EndItem};
use super::jobs::SubmitContext;
use super::removal::{self, Cancelled, Redriven};
use super::schema::{batch_items, batches, job_dependencies, jobs_running};
use super::whereabouts::{Whereabouts, hold};
use super::{Conn, Store, StoreError, dependencies, on_each_backend};
use crate::model::{Actor, JobId, JobState};

/// A step that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The running jobs of items that are to be told to stop.
    pub to_stop: Vec<JobId>,
    /// Where the next step goes on; `None`: this was the last one.
    pub next: Option<i64>,
    /// Whether the batch is over.
    pub is_over: bool,
}

/// Marks an open batch as cancelled and takes the first step.
pub(super) fn cancel(
    conn: &mut Conn,
    batch: i64,
    by: &Actor,
    now: Timestamp,
) -> Result<(), StoreError> {
    let open = batches::table.find(batch);
    diesel::update(open).set(batches::cancelled_by.eq(by.as_str())).execute(conn)?;
    // What a retry has not come to yet is over, and has to be counted before this can end.
    if marks(conn, batch)?.is_some_and(|marks| marks.retry_from.is_none()) {
        cancel_some(conn, batch, by, 0, now)?;
    }
    Ok(())
}

/// Opens a batch again whose result row is gone, and takes the first step to try those of its items again that did not complete.
///
/// Since it was over, items may have been retried by themselves, so everything is looked at anew. An item whose job was pruned stays what it was.
pub(super) fn retry(conn: &mut Conn, batch: i64, context: SubmitContext) -> Result<(), StoreError> {
    diesel::update(batches::table.find(batch))
        .set((
            batches::completed.eq(0),
            batches::failed.eq(0),
            batches::cancelled.eq(0),
            batches::is_open.eq(OPEN),
            batches::cancelled_by.eq(None::<String>),
            batches::retry_from.eq(Some(0)),
        ))
        .execute(conn)?;
    retry_some(conn, batch, 0, true, context)
}

/// Whether a retry of a batch has not come to the item at that position yet.
pub(super) fn is_to_come(conn: &mut Conn, batch: i64, position: i32) -> Result<bool, StoreError> {
    let marks = marks(conn, batch)?;
    Ok(marks.and_then(|marks| marks.retry_from).is_some_and(|from| position >= from))
}

/// What is marked on a batch that is not over.
#[derive(Debug, Queryable)]
struct Marks {
    cancelled_by: Option<String>,
    retry_from: Option<i32>,
}

fn marks(conn: &mut Conn, batch: i64) -> Result<Option<Marks>, StoreError> {
    let open = batches::table
        .find(batch)
        .filter(batches::is_open.eq(OPEN))
        .select((batches::cancelled_by, batches::retry_from));
    Ok(on_each_backend!(conn, |inner| open.first(inner).optional()?))
}

/// Takes the next step with a batch that was cancelled or is tried again. `from` is where the last one said, or 0.
///
/// # Errors
/// When the database refuses; nothing of the step is done then.
pub fn take_step(
    conn: &mut Conn,
    batch: JobId,
    from: i64,
    context: SubmitContext,
) -> Result<Taken, StoreError> {
    let JobId(batch) = batch;
    let mut to_stop = Vec::new();
    let next = match marks(conn, batch)? {
        Some(Marks { cancelled_by, retry_from: Some(position) }) => {
            retry_some(conn, batch, position, cancelled_by.is_none(), context)?;
            let is_left = marks(conn, batch)?
                .is_some_and(|marks| marks.retry_from.is_some() || marks.cancelled_by.is_some());
            is_left.then_some(0)
        }
        Some(Marks { cancelled_by: Some(by), retry_from: None }) => {
            let (requested, next) = cancel_some(conn, batch, &Actor::named(by), from, context.now)?;
            to_stop = requested;
            next
        }
        _ => None,
    };
    Ok(Taken { to_stop, next, is_over: !is_open(conn, batch)? })
}

/// Takes all steps that are left with a batch, and tells whom they told to stop. Returns whether it is over.
///
/// # Errors
/// When the database refuses. What was done until then is done, and the next start goes on with it.
pub async fn finish(
    store: &Store,
    batch: JobId,
    context: SubmitContext,
    mut stop: impl FnMut(Vec<JobId>),
) -> Result<bool, StoreError> {
    let mut from = 0;
    loop {
        let taken = store.write(move |conn| take_step(conn, batch, from, context)).await?;
        stop(taken.to_stop);
        match taken.next {
            Some(next) => from = next,
            None => return Ok(taken.is_over),
        }
    }
}

/// The batches with which steps are left.
///
/// # Errors
/// When the database refuses.
pub fn unfinished(conn: &mut Conn) -> Result<Vec<JobId>, StoreError> {
    let marked: Vec<i64> = batches::table
        .filter(batches::is_open.eq(OPEN))
        .filter(batches::cancelled_by.is_not_null().or(batches::retry_from.is_not_null()))
        .order(batches::job_id)
        .select(batches::job_id)
        .load(conn)?;
    let mut unfinished = Vec::new();
    for batch in marked {
        if is_unfinished(conn, batch)? {
            unfinished.push(JobId(batch));
        }
    }
    Ok(unfinished)
}

/// Whether steps are left with a job, which may be no batch at all.
pub(super) fn is_unfinished(conn: &mut Conn, batch: i64) -> Result<bool, StoreError> {
    Ok(match marks(conn, batch)? {
        Some(Marks { retry_from: Some(_), .. }) => true,
        Some(Marks { cancelled_by: Some(_), .. }) => !to_cancel(conn, batch, 0, 1)?.is_empty(),
        _ => false,
    })
}

/// The first items after `from` that are not over and were not told to stop.
fn to_cancel(conn: &mut Conn, batch: i64, from: i64, limit: i64) -> Result<Vec<i64>, StoreError> {
    Ok(job_dependencies::table
        .left_join(jobs_running::table.on(jobs_running::job_id.eq(job_dependencies::depends_on)))
        .filter(job_dependencies::job_id.eq(batch))
        .filter(job_dependencies::needs.eq(ITEM))
        .filter(job_dependencies::depends_on.gt(from))
        .filter(jobs_running::job_id.is_null().or(jobs_running::cancel_requested_at.is_null()))
        .order(job_dependencies::depends_on)
        .limit(limit)
        .select(job_dependencies::depends_on)
        .load(conn)?)
}

/// Cancels the next items. Returns which of them run and were told to stop, and where it goes on.
fn cancel_some(
    conn: &mut Conn,
    batch: i64,
    by: &Actor,
    from: i64,
    now: Timestamp,
) -> Result<(Vec<JobId>, Option<i64>), StoreError> {
    let limit = i64::try_from(STEP_JOBS).unwrap_or(i64::MAX);
    let items = to_cancel(conn, batch, from, limit)?;
    let mut told = Vec::new();
    for item in &items {
        if removal::cancel(conn, JobId(*item), by, now)? == Cancelled::Requested {
            told.push(JobId(*item));
        }
    }
    let next = items.last().copied().filter(|_| items.len() == STEP_JOBS);
    Ok((told, next))
}

/// Looks at the next items, counts those that are over and stay so, and brings back the others, unless the batch was cancelled meanwhile.
fn retry_some(
    conn: &mut Conn,
    batch: i64,
    from: i32,
    brings_back: bool,
    context: SubmitContext,
) -> Result<(), StoreError> {
    let limit = i64::try_from(STEP_JOBS).unwrap_or(i64::MAX);
    let items: Vec<(i32, i64, Option<String>)> = batch_items::table
        .filter(batch_items::batch_id.eq(batch))
        .filter(batch_items::position.ge(from))
        .order(batch_items::position)
        .limit(limit)
        .select((batch_items::position, batch_items::job_id, batch_items::state))
        .load(conn)?;
    let mut ended = Vec::with_capacity(items.len());
    for (_, item, state) in &items {
        ended.extend(look_at(conn, batch, *item, state.as_deref(), brings_back, context)?);
    }
    let next = items.last().map(|(position, ..)| position + 1);
    let next = next.filter(|_| items.len() == STEP_JOBS);
    let count = |state: JobState| {
        i32::try_from(ended.iter().filter(|of| **of == state).count()).unwrap_or(i32::MAX)
    };
    diesel::update(batches::table.find(batch))
        .set((
            batches::completed.eq(batches::completed + count(JobState::Completed)),
            batches::failed.eq(batches::failed + count(JobState::Failed)),
            batches::cancelled.eq(batches::cancelled + count(JobState::Cancelled)),
            batches::retry_from.eq(next),
        ))
        .execute(conn)?;
    match counts(conn, JobId(batch))? {
        Some(counts) if next.is_none() && counts.left() == 0 => {
            let by = marks(conn, batch)?.and_then(|marks| marks.cancelled_by);
            let at = context.now;
            let state = close(conn, batch, counts, by, at)?;
            dependencies::release(conn, Over { id: batch, state, at })
        }
        _ => Ok(()),
    }
}

/// Looks at one item as it is by now. Returns how it has ended, where it stays so; otherwise the batch waits for it.
fn look_at(
    conn: &mut Conn,
    batch: i64,
    item: i64,
    last_known: Option<&str>,
    brings_back: bool,
    context: SubmitContext,
) -> Result<Option<JobState>, StoreError> {
    let state = match hold(conn, item)? {
        Whereabouts::Over { state, .. } => state,
        // Its job was pruned, and it stays what it was.
        Whereabouts::Unknown => {
            return Ok(last_known.and_then(|state| state.parse().ok()));
        }
        _ => {
            await_item(conn, batch, item)?;
            return Ok(None);
        }
    };
    if brings_back && state != JobState::Completed {
        await_item(conn, batch, item)?;
        let redriven = removal::redrive(conn, JobId(item), context)?;
        if matches!(redriven, Redriven::Done | Redriven::Blocked) {
            return Ok(None);
        }
        let no_more = DeleteDependency { job_id: batch, depends_on: item };
        on_each_backend!(conn, |inner| no_more.execute(inner)?);
    }
    let is_so = EndItem { state: state.as_str(), job_id: item };
    on_each_backend!(conn, |inner| is_so.execute(inner)?);
    Ok(Some(state))
}

fn await_item(conn: &mut Conn, batch: i64, item: i64) -> Result<(), StoreError> {
    diesel::update(batch_items::table.filter(batch_items::job_id.eq(item)))
        .set(batch_items::state.eq(None::<String>))
        .execute(conn)?;
    wait_for(conn, batch, item)
}
