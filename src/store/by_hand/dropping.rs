//! Deleting jobs that are over, for good.
//!
//! All that can keep a batch is looked at before anything of it is deleted. Then its items go in steps, so that others can write in between, and
//! the batch goes with the last of them: what is left when that breaks off can be dropped again.

use std::collections::HashMap;

use diesel::prelude::*;
use serde_json::{Value, json};

use super::{Came, Order, OrderedBy, STEP_JOBS, carry_out_one};
use crate::model::{JobId, JobState};
use crate::store::dependencies::waited_for;
use crate::store::jobs::CHUNK_ROWS;
use crate::store::schema::{batch_items, job_results, jobs};
use crate::store::whereabouts::{Whereabouts, hold};
use crate::store::{Conn, Micros, StoreError, prune};

/// How much of a dropped job's error its line in the audit log has.
const MAX_ERROR_CHARS: usize = 500;

/// A step of dropping a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// The jobs that are gone.
    pub gone: Vec<i64>,
    /// What came of it for the batch; `None`: steps are left.
    pub came: Option<Came>,
}

/// Those of some jobs that are over and have to stay all the same, with why: somebody waits for them, for their batch or for an item of theirs,
/// or an item lives.
///
/// # Errors
/// When the database refuses.
pub fn kept(conn: &mut Conn, ids: &[i64]) -> Result<HashMap<i64, Came>, StoreError> {
    let mut kept = HashMap::new();
    for chunk in ids.chunks(CHUNK_ROWS) {
        let waited_for = waited_for(conn, chunk)?.into_iter();
        kept.extend(waited_for.map(|(id, waiting)| (id, Came::WaitedFor(waiting))));
        // As one can that was retried by itself.
        let live: Vec<(i64, i64)> = batch_items::table
            .inner_join(jobs::table.on(jobs::id.eq(batch_items::job_id)))
            .left_join(job_results::table.on(job_results::job_id.eq(batch_items::job_id)))
            .filter(batch_items::batch_id.eq_any(chunk))
            .filter(job_results::job_id.is_null())
            .select((batch_items::batch_id, batch_items::job_id))
            .load(conn)?;
        kept.extend(live.into_iter().map(|(batch, item)| (batch, Came::ItemLives(JobId(item)))));
    }
    Ok(kept)
}

/// Holds a job, and tells how it ended where it can be deleted.
pub(super) fn may_go(conn: &mut Conn, id: JobId) -> Result<Result<JobState, Came>, StoreError> {
    let state = match hold(conn, id.0)? {
        Whereabouts::Over { state, .. } => state,
        other => return Ok(Err(other.state().map_or(Came::Unknown, Came::NotNow))),
    };
    Ok(kept(conn, &[id.0])?.remove(&id.0).map_or(Ok(state), Err))
}

/// Holds a job that is over for its deletion at the end of the step, and tells what it was: the line in the audit log may be all that is left
/// of it.
pub(super) fn discard(conn: &mut Conn, id: JobId) -> Result<(Came, Value), StoreError> {
    let state = match may_go(conn, id)? {
        Ok(state) => state,
        Err(came) => return Ok((came, Value::Null)),
    };
    type Row = (String, Option<String>, String, Micros);
    let (kind, schedule, actor, created_at): Row = jobs::table
        .find(id.0)
        .select((jobs::kind, jobs::schedule, jobs::actor, jobs::created_at))
        .first(conn)?;
    let (attempts, error): (i32, Option<String>) = job_results::table
        .find(id.0)
        .select((job_results::attempts, job_results::error))
        .first(conn)?;
    let told = json!({
        "state": state.as_str(),
        "kind": kind,
        "schedule": schedule,
        "submitted_by": actor,
        "submitted_at": jiff::Timestamp::from(created_at).to_string(),
        "attempts": attempts,
        "error": error.map(|error| error.chars().take(MAX_ERROR_CHARS).collect::<String>()),
    });
    Ok((Came::Done, told))
}

/// Deletes the next items of a batch, and with the last of them the batch.
///
/// # Errors
/// When the database refuses; nothing of the step is done then.
pub fn drop_some(conn: &mut Conn, batch: JobId, by: &OrderedBy) -> Result<Dropped, StoreError> {
    // Before its items, as whoever tries it again does.
    let place = hold(conn, batch.0)?;
    if !matches!(place, Whereabouts::Over { .. }) {
        let came = place.state().map_or(Came::Unknown, Came::NotNow);
        return Ok(Dropped { gone: Vec::new(), came: Some(came) });
    }
    let items: Vec<i64> = batch_items::table
        .inner_join(jobs::table.on(jobs::id.eq(batch_items::job_id)))
        .filter(batch_items::batch_id.eq(batch.0))
        .order(batch_items::position)
        .limit(i64::try_from(STEP_JOBS).unwrap_or(i64::MAX))
        .select(batch_items::job_id)
        .load(conn)?;
    let is_last = items.len() < STEP_JOBS;
    let mut gone = Vec::with_capacity(items.len() + 1);
    let mut came = None;
    for item in items {
        match carry_out_one(conn, Order::Drop, JobId(item), by)? {
            Came::Done => gone.push(item),
            // Deleted by age, on another node.
            Came::Unknown => {}
            Came::NotNow(_) => came = Some(Came::ItemLives(JobId(item))),
            other => came = Some(other),
        }
        if came.is_some() {
            break;
        }
    }
    if is_last && came.is_none() {
        let last = carry_out_one(conn, Order::Drop, batch, by)?;
        if last == Came::Done {
            gone.push(batch.0);
        }
        came = Some(last);
    }
    prune::delete(conn, &gone)?;
    Ok(Dropped { gone, came })
}
