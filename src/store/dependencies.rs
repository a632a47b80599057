//! Jobs that wait for other jobs.

use std::collections::{BTreeMap, BTreeSet};

use diesel::prelude::*;
use jiff::Timestamp;

use super::hot::Dependants;
use super::schema::{job_dependencies, job_results, jobs, jobs_blocked};
use super::whereabouts::{hold, hold_blocked};
use super::{Conn, Micros, StoreError, batches, finish, jobs as rows, on_each_backend};
use crate::model::{Dependency, DependencyNeeds, FinalState, JobId, NewJob};

fn needs_text(needs: DependencyNeeds) -> &'static str {
    match needs {
        DependencyNeeds::Success => "success",
        DependencyNeeds::Finished => "finished",
    }
}

/// Keeps what new jobs depend on where it is until the transaction ends: a job that ended in between, on another node, would not know of
/// those that wait for it. In the order of their numbers, so that two submissions do not wait for each other.
pub(super) fn hold_all(conn: &mut Conn, new: &[NewJob]) -> Result<(), StoreError> {
    if matches!(conn, Conn::Sqlite(_)) {
        return Ok(());
    }
    let on = new.iter().flat_map(|job| job.depends_on.iter().map(|dependency| dependency.on.0));
    for id in on.collect::<BTreeSet<i64>>() {
        hold(conn, id)?;
    }
    Ok(())
}

/// Notes what `id` waits for. Returns whether it has to wait at all.
pub(super) fn add(conn: &mut Conn, id: JobId, on: &[Dependency]) -> Result<bool, StoreError> {
    let mut waits = false;
    for (on, needs) in distinct(on) {
        let state: Option<Option<String>> = jobs::table
            .left_join(job_results::table.on(job_results::job_id.eq(jobs::id)))
            .filter(jobs::id.eq(on))
            .select(job_results::state.nullable())
            .first(conn)
            .optional()?;
        match state {
            // Its own number can be guessed before it is given, and it would wait for itself for ever.
            Some(_) if on == id.0 => {
                return Err(StoreError::Conflict(format!("job {on} cannot depend on itself")));
            }
            None => {
                return Err(StoreError::NotFound(format!("there is no job {on} to depend on")));
            }
            Some(Some(state)) if state != "completed" && needs == DependencyNeeds::Success => {
                return Err(StoreError::Conflict(format!(
                    "job {on} is {state} and will not complete, so nothing can depend on its success"
                )));
            }
            Some(Some(_over)) => {}
            Some(None) => {
                let row = (
                    job_dependencies::job_id.eq(id.0),
                    job_dependencies::depends_on.eq(on),
                    job_dependencies::needs.eq(needs_text(needs)),
                );
                diesel::insert_into(job_dependencies::table).values(row).execute(conn)?;
                waits = true;
            }
        }
    }
    Ok(waits)
}

/// Each job once, however often it is named; the stricter need counts.
fn distinct(on: &[Dependency]) -> BTreeMap<i64, DependencyNeeds> {
    let mut distinct = BTreeMap::new();
    for dependency in on {
        let needs = distinct.entry(dependency.on.0).or_insert(dependency.needs);
        if dependency.needs == DependencyNeeds::Success {
            *needs = DependencyNeeds::Success;
        }
    }
    distinct
}

/// Tells the jobs that waited for one that is over: they become ready, or are cancelled when they needed it to succeed.
///
/// A cancelled one is over as well, so this goes on until nobody is left; a list instead of recursion, because chains can be long.
pub(super) fn release(
    conn: &mut Conn,
    over: i64,
    end: FinalState,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut ended = vec![(over, end)];
    while let Some((over, end)) = ended.pop() {
        let dependants = Dependants { depends_on: over };
        let waiting: Vec<(i64, String)> = on_each_backend!(conn, |inner| dependants.load(inner)?);
        for (id, needs) in waiting {
            if needs == batches::ITEM {
                let batch_end = batches::item_over(conn, id, over, end, now)?;
                ended.extend(batch_end.map(|end| (id, end)));
                continue;
            }
            // Where the ends of two of its dependencies are recorded side by side, the second one has to see what the first one did.
            if !hold_blocked(conn, id)? {
                continue;
            }
            if needs == needs_text(DependencyNeeds::Success) && end != FinalState::Completed {
                forget(conn, id)?;
                diesel::delete(jobs_blocked::table.find(id)).execute(conn)?;
                let why = format!("job {over}, which it depends on, is {}", end.state());
                finish::close(conn, id, FinalState::Cancelled, now, 0, 0, Some(&why), None)?;
                ended.push((id, FinalState::Cancelled));
                continue;
            }
            diesel::delete(job_dependencies::table.find((id, over))).execute(conn)?;
            let others: i64 = job_dependencies::table
                .filter(job_dependencies::job_id.eq(id))
                .count()
                .get_result(conn)?;
            if others == 0 && diesel::delete(jobs_blocked::table.find(id)).execute(conn)? > 0 {
                let run_at: Micros = jobs::table.find(id).select(jobs::run_at).first(conn)?;
                let place = rows::place_of(conn, id, 0, 0)?;
                rows::enter(conn, &place, run_at.into(), now)?;
            }
        }
    }
    Ok(())
}

/// Forgets what a job waits for.
pub(super) fn forget(conn: &mut Conn, id: i64) -> Result<(), StoreError> {
    let waits = job_dependencies::table.filter(job_dependencies::job_id.eq(id));
    diesel::delete(waits).execute(conn)?;
    Ok(())
}
