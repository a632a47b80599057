//! Jobs that wait for other jobs.
//!
//! A row is a job that another one still waits for. The row of one that ended otherwise than needed stays where the waiting job is to go on
//! waiting: when the other is tried again and ends, its end is told like any other.

mod needs;

use std::collections::{BTreeSet, HashMap};

use diesel::prelude::*;
use jiff::Timestamp;

use super::finish::{self, End};
use super::history::attempts_so_far;
use super::hot::{DeleteDependency, Dependants, InsertDependency, execute_each};
use super::removal::replacement_of;
use super::schema::{batch_items, job_dependencies, job_results, jobs, jobs_blocked};
use super::whereabouts::{Whereabouts, hold, hold_blocked};
use super::{Conn, Micros, StoreError, batches, jobs as rows, on_each_backend};
use crate::model::{
    Dependency, DependencyNeeds, FinalState, JobId, JobSettings, NewJob, OnDependencyFailure,
};

use needs::Became;
pub use needs::Hopeless;
pub(super) use needs::{again, without_gone};

const SUCCESS: &str = "success";
const ANY: &str = "any";

/// Keeps what jobs depend on where it is until the transaction ends: a job that ended in between, on another node, would not know of
/// those that wait for it. In the order of their numbers, so that two submissions do not wait for each other.
pub(super) fn hold_all<'a>(
    conn: &mut Conn,
    depends_on: impl Iterator<Item = &'a Dependency>,
) -> Result<(), StoreError> {
    if matches!(conn, Conn::Sqlite(_)) {
        return Ok(());
    }
    for id in depends_on.map(|dependency| dependency.on.0).collect::<BTreeSet<i64>>() {
        let mut doing = Some(id);
        while let Some(id) = doing {
            let is_over = matches!(hold(conn, id)?, Whereabouts::Over { .. });
            doing = if is_over { replacement_of(conn, id)?.map(|other| other.0) } else { None };
        }
    }
    Ok(())
}

/// Notes what a job that was just inserted waits for. Returns whether it has to wait at all.
pub(super) fn add(conn: &mut Conn, id: JobId, job: &NewJob) -> Result<bool, StoreError> {
    let settings = &job.settings;
    for Dependency { on, .. } in &settings.depends_on {
        // Its own number can be guessed before it is given, and it would wait for itself for ever.
        if *on == id {
            return Err(StoreError::Conflict(format!("job {on} cannot depend on itself")));
        }
        // So can that of one that is written together with it, and two could wait for each other.
        if *on > id {
            return Err(no_such(on.0));
        }
    }
    let needed = needs::look(conn, &settings.depends_on)?;
    if let Some(gone) = needed.iter().find(|needed| needed.became == Became::Gone) {
        return Err(no_such(gone.on));
    }
    if let Some(dry_run) = needed.iter().find(|needed| needed.is_dry_run && !settings.dry_run) {
        return Err(StoreError::Conflict(format!(
            "job {} is a dry run: it does nothing that other work could build on",
            dry_run.on
        )));
    }
    let waits_for = needs::to_wait_for(&needed, settings.on_dependency_failure);
    let waits_for = waits_for.map_err(|why| match why {
        Hopeless::Ended(on, state) => StoreError::Conflict(format!(
            "job {on} is {state} and will not complete, so nothing can depend on its success"
        )),
        Hopeless::NoneOf(_) => StoreError::Conflict(
            "none of the jobs of which one must complete will, so nothing can depend on them"
                .to_owned(),
        ),
        Hopeless::Gone(on) => no_such(on.0),
    })?;
    wait(conn, id.0, &waits_for)?;
    Ok(!waits_for.is_empty())
}

/// Notes what a job waits for.
fn wait(conn: &mut Conn, id: i64, waits_for: &[(i64, DependencyNeeds)]) -> Result<(), StoreError> {
    let row = |(depends_on, needs): &(i64, DependencyNeeds)| InsertDependency {
        job_id: id,
        depends_on: *depends_on,
        needs: needs.as_str(),
    };
    execute_each(conn, waits_for.iter().map(row))?;
    Ok(())
}

/// Lets a job that is brought back wait for others.
pub(super) fn block(
    conn: &mut Conn,
    id: i64,
    waits_for: &[(i64, DependencyNeeds)],
) -> Result<(), StoreError> {
    wait(conn, id, waits_for)?;
    diesel::insert_into(jobs_blocked::table).values(jobs_blocked::job_id.eq(id)).execute(conn)?;
    Ok(())
}

/// Lets those that wait for a job wait for the one that does its work from now on.
pub(super) fn take_over(conn: &mut Conn, from: i64, to: i64) -> Result<(), StoreError> {
    let waits = job_dependencies::table
        .filter(job_dependencies::depends_on.eq(from))
        .filter(job_dependencies::needs.ne(batches::ITEM));
    diesel::update(waits).set(job_dependencies::depends_on.eq(to)).execute(conn)?;
    Ok(())
}

fn no_such(on: i64) -> StoreError {
    StoreError::NotFound(format!("there is no job {on} to depend on"))
}

/// What the end of one job means for another that waits for it.
enum Fate {
    /// It does not wait for this one any more.
    Released,
    /// It goes on waiting for it.
    Waits,
    /// It will never run.
    Cancelled(String),
}

/// A job that is over, as far as others that wait for it want to know.
#[derive(Debug, Clone, Copy)]
pub(super) struct Over {
    /// The job.
    pub(super) id: i64,
    /// How it ended.
    pub(super) state: FinalState,
    /// When.
    pub(super) at: Timestamp,
}

/// A job that waits for another one.
#[derive(Debug, Queryable)]
struct Dependant {
    id: i64,
    needs: String,
}

/// Tells the jobs that waited for one that is over: they become ready, go on waiting, or are cancelled.
///
/// A cancelled one is over as well, so this goes on until nobody is left; a list instead of recursion, because chains can be long.
pub(super) fn release(conn: &mut Conn, over: Over) -> Result<(), StoreError> {
    let mut ended = vec![over];
    while let Some(over) = ended.pop() {
        let dependants = Dependants { depends_on: over.id };
        let waiting: Vec<Dependant> = on_each_backend!(conn, |inner| dependants.load(inner)?);
        for Dependant { id, needs } in waiting {
            if needs == batches::ITEM {
                ended.extend(batches::items_over(conn, &[(id, over)])?);
                continue;
            }
            // Where the ends of two of its dependencies are recorded side by side, the second one has to see what the first one did.
            if !hold_blocked(conn, id)? {
                continue;
            }
            match fate(conn, id, over.id, &needs, over.state)? {
                Fate::Waits => {}
                Fate::Released => enter_if_free(conn, id, over.at)?,
                Fate::Cancelled(why) => {
                    forget(conn, id)?;
                    diesel::delete(jobs_blocked::table.find(id)).execute(conn)?;
                    let end = End {
                        id,
                        state: FinalState::Cancelled,
                        at: over.at,
                        attempts: attempts_so_far(conn, id)?,
                        charged: 0,
                        error: Some(&why),
                        result: None,
                    };
                    finish::close(conn, &end)?;
                    ended.push(Over { id, state: FinalState::Cancelled, at: over.at });
                }
            }
        }
    }
    Ok(())
}

/// Decides what the end of `over` means for `id`, and forgets what it does not wait for any more.
fn fate(
    conn: &mut Conn,
    id: i64,
    over: i64,
    needs: &str,
    end: FinalState,
) -> Result<Fate, StoreError> {
    let has_completed = end == FinalState::Completed;
    if needs == ANY && has_completed {
        let one_of_several = job_dependencies::table
            .filter(job_dependencies::job_id.eq(id))
            .filter(job_dependencies::needs.eq(ANY));
        diesel::delete(one_of_several).execute(conn)?;
        return Ok(Fate::Released);
    }
    if !has_completed && (needs == SUCCESS || needs == ANY) {
        match (on_failure(conn, id)?, needs) {
            (OnDependencyFailure::Wait, _) => return Ok(Fate::Waits),
            (OnDependencyFailure::Run, _) => {}
            (OnDependencyFailure::Cancel, SUCCESS) => {
                let why = format!("job {over}, which it depends on, is {}", end.state());
                return Ok(Fate::Cancelled(why));
            }
            (OnDependencyFailure::Cancel, _) => {
                let left: i64 = job_dependencies::table
                    .filter(job_dependencies::job_id.eq(id))
                    .filter(job_dependencies::needs.eq(ANY))
                    .count()
                    .get_result(conn)?;
                if left <= 1 {
                    let why = format!(
                        "none of the jobs of which one had to complete did; the last, job {over}, is {}",
                        end.state()
                    );
                    return Ok(Fate::Cancelled(why));
                }
            }
        }
    }
    let row = DeleteDependency { job_id: id, depends_on: over };
    on_each_backend!(conn, |inner| row.execute(inner)?);
    Ok(Fate::Released)
}

fn on_failure(conn: &mut Conn, id: i64) -> Result<OnDependencyFailure, StoreError> {
    let settings: Option<String> =
        jobs::table.find(id).select(jobs::settings).first(conn).optional()?.flatten();
    let Some(text) = settings else { return Ok(OnDependencyFailure::default()) };
    let settings: JobSettings = rows::from_json("job's settings", &text)?;
    Ok(settings.on_dependency_failure)
}

/// Lets a job go that waits for nothing any more.
fn enter_if_free(conn: &mut Conn, id: i64, now: Timestamp) -> Result<(), StoreError> {
    let others: i64 =
        job_dependencies::table.filter(job_dependencies::job_id.eq(id)).count().get_result(conn)?;
    if others == 0 && diesel::delete(jobs_blocked::table.find(id)).execute(conn)? > 0 {
        let run_at: Micros = jobs::table.find(id).select(jobs::run_at).first(conn)?;
        let number = attempts_so_far(conn, id)?;
        let place = rows::place_of(conn, id, number, 0)?;
        rows::enter(conn, &place, run_at.into(), now)?;
    }
    Ok(())
}

/// Forgets what a job waits for.
pub(super) fn forget(conn: &mut Conn, id: i64) -> Result<(), StoreError> {
    let waits = job_dependencies::table.filter(job_dependencies::job_id.eq(id));
    diesel::delete(waits).execute(conn)?;
    Ok(())
}

/// Those of some jobs that must stay because another one waits for them, for the batch of which they are items, or for an item of theirs; with one
/// that waits.
pub(super) fn waited_for(conn: &mut Conn, ids: &[i64]) -> Result<HashMap<i64, JobId>, StoreError> {
    let by_job: Vec<(i64, i64)> = job_dependencies::table
        .filter(job_dependencies::depends_on.eq_any(ids))
        .select((job_dependencies::depends_on, job_dependencies::job_id))
        .load(conn)?;
    let by_batch: Vec<(i64, i64)> = batch_items::table
        .inner_join(
            job_dependencies::table.on(job_dependencies::depends_on.eq(batch_items::batch_id)),
        )
        .filter(batch_items::job_id.eq_any(ids))
        .select((batch_items::job_id, job_dependencies::job_id))
        .load(conn)?;
    let by_item: Vec<(i64, i64)> = batch_items::table
        .inner_join(
            job_dependencies::table.on(job_dependencies::depends_on.eq(batch_items::job_id)),
        )
        .filter(batch_items::batch_id.eq_any(ids))
        .filter(job_dependencies::needs.ne(batches::ITEM))
        .select((batch_items::batch_id, job_dependencies::job_id))
        .load(conn)?;
    let waits = by_job.into_iter().chain(by_batch).chain(by_item);
    Ok(waits.map(|(id, waiting)| (id, JobId(waiting))).collect())
}

/// A job that another one waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitsFor {
    /// The job.
    pub job: JobId,
    /// `success`, `finished` or `any`.
    pub needs: String,
    /// How it ended, where the waiting job goes on waiting for it all the same.
    pub ended: Option<String>,
}

/// The jobs that a job waits for, at most `limit` of them. The items of a batch are not among them.
///
/// # Errors
/// When the database refuses.
pub fn waits_for(conn: &mut Conn, id: JobId, limit: i64) -> Result<Vec<WaitsFor>, StoreError> {
    let rows: Vec<(i64, String, Option<String>)> = job_dependencies::table
        .left_join(job_results::table.on(job_results::job_id.eq(job_dependencies::depends_on)))
        .filter(job_dependencies::job_id.eq(id.0))
        .filter(job_dependencies::needs.ne(batches::ITEM))
        .order(job_dependencies::depends_on)
        .limit(limit)
        .select((
            job_dependencies::depends_on,
            job_dependencies::needs,
            job_results::state.nullable(),
        ))
        .load(conn)?;
    let view = |(job, needs, ended): (i64, String, _)| WaitsFor { job: JobId(job), needs, ended };
    Ok(rows.into_iter().map(view).collect())
}
