//! Cancelling jobs, and bringing ended ones back.

use diesel::prelude::*;
use jiff::Timestamp;

use super::hot::InsertLive;
use super::jobs::SUBQUEUE_COLUMNS;
use super::jobs::{Place, SubmitContext, enter, place_of, subqueue, take_key_again};
use super::schema::{job_results, jobs, jobs_blocked, jobs_ready, jobs_running, jobs_scheduled};
use super::{Conn, Micros, StoreError, batches, dependencies, finish, on_each_backend};
use crate::model::{Actor, FinalState, JobId, JobState, MAX_RETRY_DELAY};

/// What came of a request to cancel a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cancelled {
    /// It waited, and is cancelled now.
    Done,
    /// It runs; its attempt was told to stop.
    Requested,
    /// It had ended before.
    AlreadyOver,
    /// There is no such job.
    Unknown,
}

/// Cancels a job, or asks its running attempt to stop.
///
/// # Errors
/// When the database refuses.
pub fn cancel(
    conn: &mut Conn,
    id: JobId,
    by: &Actor,
    now: Timestamp,
) -> Result<Cancelled, StoreError> {
    let asked = diesel::update(jobs_running::table.find(id.0))
        .set((
            jobs_running::cancel_requested_at.eq(now.as_microsecond()),
            jobs_running::cancel_requested_by.eq(by.as_str()),
        ))
        .execute(conn)?;
    if asked > 0 {
        return Ok(Cancelled::Requested);
    }
    let known: Option<(_, i64)> =
        jobs::table.find(id.0).select((SUBQUEUE_COLUMNS, jobs::rank)).first(conn).optional()?;
    let Some((columns, rank)) = known else { return Ok(Cancelled::Unknown) };
    let subqueue = subqueue(columns)?;
    let Some((number, charged)) = leave_waiting_room(conn, id.0, &subqueue, rank)? else {
        return Ok(match batches::cancel(conn, id.0, by, now)? {
            true if batches::is_open(conn, id.0)? => Cancelled::Requested,
            true => Cancelled::Done,
            false => Cancelled::AlreadyOver,
        });
    };
    dependencies::forget(conn, id.0)?;
    let why = format!("cancelled by {by}");
    finish::close(conn, id.0, FinalState::Cancelled, now, number, charged, Some(&why), None)?;
    dependencies::release(conn, id.0, FinalState::Cancelled, now)?;
    Ok(Cancelled::Done)
}

/// Takes a waiting job out of whichever room it waits in, and tells its counts.
fn leave_waiting_room(
    conn: &mut Conn,
    id: i64,
    subqueue: &str,
    rank: i64,
) -> Result<Option<(i32, i32)>, StoreError> {
    let ready: Option<(i32, i32)> = jobs_ready::table
        .find((subqueue, rank, id))
        .select((jobs_ready::number, jobs_ready::charged))
        .first(conn)
        .optional()?;
    if ready.is_some() {
        diesel::delete(jobs_ready::table.find((subqueue, rank, id))).execute(conn)?;
        return Ok(ready);
    }
    let scheduled = jobs_scheduled::table.filter(jobs_scheduled::job_id.eq(id));
    let counts: Option<(i32, i32)> = scheduled
        .select((jobs_scheduled::number, jobs_scheduled::charged))
        .first(conn)
        .optional()?;
    if counts.is_some() {
        diesel::delete(scheduled).execute(conn)?;
        return Ok(counts);
    }
    let blocked = diesel::delete(jobs_blocked::table.find(id)).execute(conn)?;
    Ok((blocked > 0).then_some((0, 0)))
}

/// What came of a request to try a job again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redriven {
    /// It is pending again, with its retry limit before it.
    Done,
    /// It is in a state in which there is nothing to retry.
    NotNow(JobState),
    /// There is no such job.
    Unknown,
}

/// Brings a failed or cancelled job back, or lets a retrying one go at once.
///
/// # Errors
/// When another job has its unique key by now, or the database refuses.
pub fn redrive(conn: &mut Conn, id: JobId, context: SubmitContext) -> Result<Redriven, StoreError> {
    let waiting: Option<(Micros, i32, i32)> = jobs_scheduled::table
        .filter(jobs_scheduled::job_id.eq(id.0))
        .select((jobs_scheduled::run_at, jobs_scheduled::number, jobs_scheduled::charged))
        .first(conn)
        .optional()?;
    if let Some((run_at, number, charged)) = waiting {
        if number == 0 {
            return Ok(Redriven::NotNow(JobState::Pending));
        }
        diesel::delete(jobs_scheduled::table.find((run_at.0, id.0))).execute(conn)?;
        let place = place_of(conn, id.0, number, charged)?;
        enter(conn, &place, context.now, context.now)?;
        return Ok(Redriven::Done);
    }
    let over: Option<(String, i32)> = job_results::table
        .find(id.0)
        .select((job_results::state, job_results::attempts))
        .first(conn)
        .optional()?;
    let Some((state, attempts)) = over else { return not_now(conn, id) };
    let state: JobState =
        state.parse().map_err(|detail| StoreError::Damaged { what: "job state", detail })?;
    if state.transition(JobState::Pending).is_err() {
        return Ok(Redriven::NotNow(state));
    }
    diesel::delete(job_results::table.find(id.0)).execute(conn)?;
    let (schedule, unique_key): (Option<String>, Option<String>) =
        jobs::table.find(id.0).select((jobs::schedule, jobs::unique_key)).first(conn)?;
    if let Some(key) = unique_key {
        take_key_again(conn, &key, id, context.now)?;
    }
    if let Some(schedule) = schedule {
        let live = InsertLive { schedule: &schedule, job_id: id.0 };
        on_each_backend!(conn, |inner| live.execute(inner)?);
    }
    if batches::is_batch(conn, id.0)? {
        batches::reopen(conn, id.0, context)?;
        return Ok(Redriven::Done);
    }
    batches::item_again(conn, id.0)?;
    let place: Place = place_of(conn, id.0, attempts, 0)?;
    enter(conn, &place, context.now, context.now)?;
    Ok(Redriven::Done)
}

/// Lets retries go at once that wait for longer than any retry is told to: their time was worked out while the clock was ahead.
/// Returns how many.
///
/// # Errors
/// When the database refuses.
pub fn hurry_overdue_retries(conn: &mut Conn, now: Timestamp) -> Result<usize, StoreError> {
    let latest = now.checked_add(MAX_RETRY_DELAY).unwrap_or(Timestamp::MAX).as_microsecond();
    let too_late = jobs_scheduled::table
        .filter(jobs_scheduled::run_at.gt(latest))
        .filter(jobs_scheduled::number.gt(0));
    Ok(diesel::update(too_late)
        .set(jobs_scheduled::run_at.eq(now.as_microsecond()))
        .execute(conn)?)
}

fn not_now(conn: &mut Conn, id: JobId) -> Result<Redriven, StoreError> {
    let exists: Option<i64> = jobs::table.find(id.0).select(jobs::id).first(conn).optional()?;
    if exists.is_none() {
        return Ok(Redriven::Unknown);
    }
    let running: Option<i64> =
        jobs_running::table.find(id.0).select(jobs_running::job_id).first(conn).optional()?;
    let blocked: Option<i64> =
        jobs_blocked::table.find(id.0).select(jobs_blocked::job_id).first(conn).optional()?;
    let is_open = batches::is_open(conn, id.0)?;
    Ok(Redriven::NotNow(match (running, blocked) {
        (Some(_), _) => JobState::Running,
        _ if is_open => JobState::Running,
        (_, Some(_)) => JobState::Blocked,
        _ => JobState::Pending,
    }))
}
