//! Cancelling jobs, and bringing ended ones back.

use diesel::prelude::*;
use jiff::Timestamp;

use super::dependencies::{Hopeless, Over};
use super::finish::{self, End};
use super::hot::InsertLive;
use super::jobs::{Place, SubmitContext, enter, from_json, place_of, take_key_again};
use super::schema::{job_replacements, job_results, jobs, jobs_running, jobs_scheduled};
use super::whereabouts::{Whereabouts, hold};
use super::{Conn, StoreError, batch_orders, batches, dependencies, on_each_backend};
use crate::model::{Actor, FinalState, JobId, JobSettings, JobState, MAX_RETRY_DELAY};

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
    let place = hold(conn, id.0)?;
    if let Some((number, charged)) = place.leave(conn, id.0)? {
        dependencies::forget(conn, id.0)?;
        let why = format!("cancelled by {by}");
        let end = End {
            id: id.0,
            state: FinalState::Cancelled,
            at: now,
            attempts: number,
            charged,
            error: Some(&why),
            result: None,
        };
        finish::close(conn, &end)?;
        dependencies::release(conn, Over { id: id.0, state: FinalState::Cancelled, at: now })?;
        return Ok(Cancelled::Done);
    }
    match place {
        Whereabouts::Running => {
            diesel::update(jobs_running::table.find(id.0))
                .set((
                    jobs_running::cancel_requested_at.eq(now.as_microsecond()),
                    jobs_running::cancel_requested_by.eq(by.as_str()),
                ))
                .execute(conn)?;
            Ok(Cancelled::Requested)
        }
        Whereabouts::OpenBatch => {
            batch_orders::cancel(conn, id.0, by, now)?;
            let is_open = batches::is_open(conn, id.0)?;
            Ok(if is_open { Cancelled::Requested } else { Cancelled::Done })
        }
        Whereabouts::Over { .. } => Ok(Cancelled::AlreadyOver),
        _ => Ok(Cancelled::Unknown),
    }
}

/// What came of a request to try a job again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redriven {
    /// It is pending again, with its retry limit before it.
    Done,
    /// It waits again for those that it depends on.
    Blocked,
    /// What it depends on has to be tried again first.
    Hopeless(Hopeless),
    /// It is in a state in which there is nothing to retry.
    NotNow(JobState),
    /// This job does its work with other params.
    ReplacedBy(JobId),
    /// This job has its unique key by now.
    KeyTakenBy(JobId),
    /// There is no such job.
    Unknown,
}

/// Brings a failed or cancelled job back, or lets a retrying one go at once. One that depends on others waits for them as when it was
/// submitted.
///
/// # Errors
/// When the database refuses.
pub fn redrive(conn: &mut Conn, id: JobId, context: SubmitContext) -> Result<Redriven, StoreError> {
    type Row = (Option<String>, Option<String>, Option<String>);
    let row: Option<Row> = jobs::table
        .find(id.0)
        .select((jobs::schedule, jobs::unique_key, jobs::settings))
        .first(conn)
        .optional()?;
    let Some((schedule, unique_key, settings)) = row else { return Ok(Redriven::Unknown) };
    let settings: JobSettings =
        settings.map(|text| from_json("job's settings", &text)).transpose()?.unwrap_or_default();
    // Before the job itself, as whoever ends one of them does.
    dependencies::hold_all(conn, settings.depends_on.iter())?;
    let place = hold(conn, id.0)?;
    let attempts = match &place {
        Whereabouts::Scheduled { number, charged, .. } if *number > 0 => {
            place.leave(conn, id.0)?;
            let place = place_of(conn, id.0, *number, *charged)?;
            enter(conn, &place, context.now, context.now)?;
            return Ok(Redriven::Done);
        }
        Whereabouts::Over { state, attempts } if state.transition(JobState::Pending).is_ok() => {
            *attempts
        }
        other => return Ok(other.state().map_or(Redriven::Unknown, Redriven::NotNow)),
    };
    if let Some(other) = replacement_of(conn, id.0)? {
        return Ok(Redriven::ReplacedBy(other));
    }
    let waits_for = match dependencies::again(conn, id.0, &settings, attempts)? {
        Ok(waits_for) => waits_for,
        Err(why) => return Ok(Redriven::Hopeless(why)),
    };
    if let Some(key) = unique_key
        && let Some(other) = take_key_again(conn, &key, id, context.now)?
    {
        return Ok(Redriven::KeyTakenBy(other));
    }
    diesel::delete(job_results::table.find(id.0)).execute(conn)?;
    if let Some(schedule) = schedule.filter(|_| !settings.dry_run) {
        let live = InsertLive { schedule: &schedule, job_id: id.0 };
        on_each_backend!(conn, |inner| live.execute(inner)?);
    }
    if batches::is_batch(conn, id.0)? {
        batch_orders::retry(conn, id.0, context)?;
        return Ok(Redriven::Done);
    }
    batches::item_again(conn, id.0)?;
    if !waits_for.is_empty() {
        dependencies::block(conn, id.0, &waits_for)?;
        return Ok(Redriven::Blocked);
    }
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

/// Which job does the work of this one with other params, if one does.
pub(super) fn replacement_of(conn: &mut Conn, id: i64) -> Result<Option<JobId>, StoreError> {
    let other: Option<i64> = job_replacements::table
        .find(id)
        .select(job_replacements::replaced_by)
        .first(conn)
        .optional()?;
    Ok(other.map(JobId))
}
