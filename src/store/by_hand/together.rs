//! Jobs of one order that have to do with each other.
//!
//! An order is carried out so that none of its jobs is changed through another one before its turn: each is then answered for, and noted in the
//! audit log, for what was done to itself.

use std::collections::{HashMap, HashSet};

use diesel::prelude::*;

use super::{Came, Order};
use crate::model::JobState;
use crate::store::batches::OPEN;
use crate::store::jobs::CHUNK_ROWS;
use crate::store::schema::{batch_items, batches, job_replacements, jobs};
use crate::store::whereabouts::state_of;
use crate::store::{Conn, StoreError};

/// The jobs of an order, as it takes them: each behind those that it depends on, and items before their batches. Who cancels begins at the other
/// end, so that a job that waits for another one is not cancelled with it.
///
/// A job is younger than what it depends on, and one that does the work of another stands where that one stood.
///
/// # Errors
/// When the database refuses.
pub fn in_turn(conn: &mut Conn, order: Order, mut ids: Vec<i64>) -> Result<Vec<i64>, StoreError> {
    if ids.len() < 2 {
        return Ok(ids);
    }
    let all =
        job_replacements::table.select((job_replacements::replaced_by, job_replacements::job_id));
    let stands_for: HashMap<i64, i64> = all.load::<(i64, i64)>(conn)?.into_iter().collect();
    let first = |id: i64| std::iter::successors(Some(id), |id| stands_for.get(id).copied()).last();
    let batch_of: HashMap<i64, i64> = items_among(conn, &ids)?.into_iter().collect();
    ids.sort_by_cached_key(|id| match batch_of.get(id) {
        Some(batch) => (first(*batch), false, *id),
        None => (first(*id), true, *id),
    });
    if order == Order::Cancel {
        ids.reverse();
    }
    Ok(ids)
}

/// Those of some jobs that are items of others of them, each with its batch.
fn items_among(conn: &mut Conn, ids: &[i64]) -> Result<Vec<(i64, i64)>, StoreError> {
    let all: HashSet<i64> = ids.iter().copied().collect();
    let mut items = Vec::new();
    for chunk in ids.chunks(CHUNK_ROWS) {
        let found: Vec<(i64, i64)> = batch_items::table
            .filter(batch_items::job_id.eq_any(chunk))
            .select((batch_items::job_id, batch_items::batch_id))
            .load(conn)?;
        items.extend(found.into_iter().filter(|(_, batch)| all.contains(batch)));
    }
    Ok(items)
}

/// How many items go with those of some jobs that are batches, beside those that are among the jobs themselves.
///
/// # Errors
/// When the database refuses.
pub fn items_with(conn: &mut Conn, order: Order, ids: &[i64]) -> Result<usize, StoreError> {
    let mut items = 0;
    for chunk in ids.chunks(CHUNK_ROWS) {
        let of_chunk = batch_items::table
            .inner_join(jobs::table.on(jobs::id.eq(batch_items::job_id)))
            .filter(batch_items::batch_id.eq_any(chunk))
            .into_boxed();
        let state = batch_items::state;
        let of_chunk = match order {
            Order::Drop => of_chunk,
            Order::Retry => {
                of_chunk.filter(state.is_null().or(state.ne(JobState::Completed.as_str())))
            }
            Order::Cancel | Order::Reprioritise(_) => of_chunk.filter(state.is_null()),
        };
        items += of_chunk.count().get_result::<i64>(conn)?;
    }
    let items = usize::try_from(items).unwrap_or(usize::MAX);
    Ok(items.saturating_sub(items_among(conn, ids)?.len()))
}

/// Those of some jobs that are not over and are items of others of them. Cancelling those batches cancels them, and one by one before that they
/// would let their batches fail instead of being cancelled.
///
/// # Errors
/// When the database refuses.
pub fn cancelled_with_others(conn: &mut Conn, ids: &[i64]) -> Result<HashSet<i64>, StoreError> {
    let mut live = HashSet::new();
    let items: Vec<i64> = items_among(conn, ids)?.into_iter().map(|(item, _)| item).collect();
    for chunk in items.chunks(CHUNK_ROWS) {
        let of_chunk = batch_items::table
            .inner_join(batches::table.on(batches::job_id.eq(batch_items::batch_id)))
            .filter(batches::is_open.eq(OPEN))
            .filter(batch_items::job_id.eq_any(chunk))
            .filter(batch_items::state.is_null())
            .select(batch_items::job_id);
        live.extend(of_chunk.load::<i64>(conn)?);
    }
    Ok(live)
}

/// What came of it for those, once their batches have been cancelled.
///
/// # Errors
/// When the database refuses.
pub fn came_with_others(conn: &mut Conn, ids: &[i64]) -> Result<Vec<Came>, StoreError> {
    let came = |id: &i64| {
        Ok(match state_of(conn, *id)? {
            Some(JobState::Cancelled) => Came::Done,
            Some(JobState::Running) => Came::Requested,
            Some(JobState::Completed | JobState::Failed) => Came::AlreadyOver,
            Some(other) => Came::NotNow(other),
            None => Came::Unknown,
        })
    };
    ids.iter().map(came).collect()
}
