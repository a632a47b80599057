//! Deleting history that has served its time, in batches that never keep a claim waiting.

use diesel::prelude::*;
use jiff::Timestamp;

use super::schema::{
    attempts, job_checkpoints, job_labels, job_priorities, job_replacements, job_results, jobs,
    nodes, occurrences, unique_keys,
};
use super::{Conn, StoreError, by_hand};
use crate::model::{Decision, FinalState, JobId};

/// What may be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PruneJobs {
    /// Jobs that ended so.
    pub state: FinalState,
    /// Before then.
    pub before: Timestamp,
    /// But not a schedule's newest this many.
    pub keep_per_schedule: i64,
    /// Only jobs with a greater id than this are looked at: where the last batch stopped.
    pub after: Option<(i64, i64)>,
    /// How many are looked at.
    pub limit: i64,
}

/// A batch of deletions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrunedJobs {
    /// What was deleted.
    pub deleted: Vec<JobId>,
    /// Where the next batch goes on; `None` when there is nothing left to look at.
    pub next: Option<(i64, i64)>,
}

/// Deletes a batch of ended jobs with their attempts and marks.
///
/// # Errors
/// When the database refuses.
pub fn jobs(conn: &mut Conn, what: PruneJobs) -> Result<PrunedJobs, StoreError> {
    let (candidates, deletable) = deletable_jobs(conn, what)?;
    let deletable = still_over(conn, deletable)?;
    delete(conn, &deletable)?;
    let full = i64::try_from(candidates.len()).unwrap_or(i64::MAX) >= what.limit;
    let next = candidates.last().copied().filter(|_| full);
    Ok(PrunedJobs { deleted: deletable.into_iter().map(JobId).collect(), next })
}

/// Deletes jobs that are over with everything that belongs to them.
pub(super) fn delete(conn: &mut Conn, ids: &[i64]) -> Result<(), StoreError> {
    for chunk in ids.chunks(super::jobs::CHUNK_ROWS) {
        diesel::delete(attempts::table.filter(attempts::job_id.eq_any(chunk))).execute(conn)?;
        diesel::delete(job_checkpoints::table.filter(job_checkpoints::job_id.eq_any(chunk)))
            .execute(conn)?;
        diesel::delete(job_priorities::table.filter(job_priorities::job_id.eq_any(chunk)))
            .execute(conn)?;
        diesel::delete(job_replacements::table.filter(job_replacements::job_id.eq_any(chunk)))
            .execute(conn)?;
        super::batches::forget(conn, chunk)?;
        super::whole_batches::forget(conn, chunk)?;
        // Marks are keyed by label, so they are found through the job's own list of them.
        forget_labels(conn, chunk)?;
        diesel::delete(unique_keys::table.filter(unique_keys::job_id.eq_any(chunk)))
            .execute(conn)?;
        diesel::delete(job_results::table.filter(job_results::job_id.eq_any(chunk)))
            .execute(conn)?;
        diesel::delete(jobs::table.filter(jobs::id.eq_any(chunk))).execute(conn)?;
    }
    Ok(())
}

/// Those that nobody is just bringing back, held until the transaction ends. SQLite has one writer anyway.
fn still_over(conn: &mut Conn, ids: Vec<i64>) -> Result<Vec<i64>, StoreError> {
    let Conn::Postgres(conn) = conn else { return Ok(ids) };
    Ok(job_results::table
        .filter(job_results::job_id.eq_any(ids))
        .order(job_results::job_id)
        .select(job_results::job_id)
        .for_update()
        .skip_locked()
        .load(conn)?)
}

/// How many jobs [`jobs()`] would delete in this batch.
///
/// # Errors
/// When the database refuses.
pub fn count_jobs(
    conn: &mut Conn,
    what: PruneJobs,
) -> Result<(u64, Option<(i64, i64)>), StoreError> {
    let (candidates, deletable) = deletable_jobs(conn, what)?;
    let full = i64::try_from(candidates.len()).unwrap_or(i64::MAX) >= what.limit;
    Ok((deletable.len() as u64, candidates.last().copied().filter(|_| full)))
}

type Position = (i64, i64);

fn deletable_jobs(
    conn: &mut Conn,
    what: PruneJobs,
) -> Result<(Vec<Position>, Vec<i64>), StoreError> {
    let mut query = job_results::table
        .inner_join(jobs::table.on(jobs::id.eq(job_results::job_id)))
        .filter(job_results::state.eq(what.state.state().as_str()))
        .filter(job_results::finished_at.lt(what.before.as_microsecond()))
        .order((job_results::finished_at, job_results::job_id))
        .limit(what.limit)
        .select((job_results::finished_at, jobs::id, jobs::schedule))
        .into_boxed();
    if let Some((finished_at, id)) = what.after {
        query = query.filter(
            job_results::finished_at
                .gt(finished_at)
                .or(job_results::finished_at.eq(finished_at).and(job_results::job_id.gt(id))),
        );
    }
    let candidates: Vec<(i64, i64, Option<String>)> = query.load(conn)?;
    let ids: Vec<i64> = candidates.iter().map(|(_, id, _)| *id).collect();
    let kept = by_hand::kept(conn, &ids)?;
    let mut deletable = Vec::with_capacity(candidates.len());
    for (_, id, schedule) in &candidates {
        if kept.contains_key(id) {
            continue;
        }
        let keep = match schedule {
            Some(schedule) => is_among_newest(conn, schedule, *id, what.keep_per_schedule)?,
            None => false,
        };
        if !keep {
            deletable.push(*id);
        }
    }
    Ok((candidates.into_iter().map(|(at, id, _)| (at, id)).collect(), deletable))
}

fn is_among_newest(
    conn: &mut Conn,
    schedule: &str,
    id: i64,
    keep: i64,
) -> Result<bool, StoreError> {
    if keep <= 0 {
        return Ok(false);
    }
    let newer: Vec<i64> = jobs::table
        .filter(jobs::schedule.eq(schedule))
        .filter(jobs::id.gt(id))
        .select(jobs::id)
        .limit(keep)
        .load(conn)?;
    Ok(i64::try_from(newer.len()).unwrap_or(i64::MAX) < keep)
}

fn forget_labels(conn: &mut Conn, ids: &[i64]) -> Result<(), StoreError> {
    let marked: Vec<(i64, Option<String>)> = jobs::table
        .filter(jobs::id.eq_any(ids))
        .filter(jobs::labels.is_not_null())
        .select((jobs::id, jobs::labels))
        .load(conn)?;
    for (id, labels) in marked {
        let labels: crate::model::Labels =
            super::jobs::from_json("job's labels", labels.as_deref().unwrap_or("{}"))?;
        for (key, value) in labels {
            diesel::delete(job_labels::table.find((format!("{key}={value}"), id))).execute(conn)?;
        }
    }
    Ok(())
}

/// Deletes a batch of ledger rows that were decided before `before`. Returns how many.
///
/// # Errors
/// When the database refuses.
pub fn occurrences(conn: &mut Conn, before: Timestamp, limit: i64) -> Result<usize, StoreError> {
    let old = occurrences::table
        .filter(occurrences::decided_at.lt(before.as_microsecond()))
        .filter(occurrences::decision.ne(Decision::Waiting.as_str()))
        .order(occurrences::decided_at)
        .limit(limit)
        .select(occurrences::id);
    let ids: Vec<i64> = old.load(conn)?;
    let mut deleted = 0;
    for chunk in ids.chunks(super::jobs::CHUNK_ROWS) {
        deleted += diesel::delete(occurrences::table.filter(occurrences::id.eq_any(chunk)))
            .execute(conn)?;
    }
    Ok(deleted)
}

/// Deletes what else has run out: idempotency keys, unique keys whose period is over, rates that nobody used for long, nodes that
/// stopped long ago.
///
/// # Errors
/// When the database refuses.
pub fn leftovers(
    conn: &mut Conn,
    now: Timestamp,
    nodes_before: Timestamp,
) -> Result<usize, StoreError> {
    let keys = unique_keys::table.filter(unique_keys::expires_at.le(now.as_microsecond()));
    let gone = nodes::table.filter(nodes::stopped_at.lt(nodes_before.as_microsecond()));
    let forgotten =
        super::idempotency::forget_old(conn, now)? + super::buckets::forget_full(conn, now)?;
    Ok(forgotten + diesel::delete(keys).execute(conn)? + diesel::delete(gone).execute(conn)?)
}
