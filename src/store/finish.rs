//! The end of an attempt, and what it means for its job.

use diesel::prelude::*;
use jiff::Timestamp;

use super::hot::{
    DeleteLive, DeleteRunning, InsertAttempt, InsertResult, NoteEnd, NoteForFollowers, TiesOfJob,
};
use super::jobs::{from_json, to_json};
use super::schema::{attempts, job_checkpoints, jobs_running, jobs_scheduled, unique_keys};
use super::{Conn, Micros, StoreError, dependencies, jobs as rows, on_each_backend};
use crate::model::{
    AfterAttempt, FinalState, FinishedAttempt, JobId, JobSettings, JobState, JsonText, NodeId,
    OnEnd, Outcome, ScheduleId,
};

/// What came of a report that an attempt has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finished {
    /// It was recorded and the job is in this state now.
    Recorded {
        /// The state.
        state: JobState,
        /// The schedule whose job is over, so that rules that measure from the end of the last run can go on.
        ended_schedule: Option<ScheduleId>,
    },
    /// The job no longer belongs to this attempt: it was taken away, and its late report counts for nothing.
    Fenced,
}

/// Records ended attempts, each on its own: one that is fenced does not hinder the others.
///
/// # Errors
/// When the database refuses; nothing is recorded then.
pub fn finish(
    conn: &mut Conn,
    node: NodeId,
    ended: &[FinishedAttempt],
) -> Result<Vec<Finished>, StoreError> {
    ended.iter().map(|attempt| finish_one(conn, node, attempt)).collect()
}

/// What a running job's row says that its end depends on.
#[derive(Debug, Queryable)]
struct Running {
    charged: i32,
    cancel_requested_at: Option<Micros>,
}

fn finish_one(
    conn: &mut Conn,
    node: NodeId,
    attempt: &FinishedAttempt,
) -> Result<Finished, StoreError> {
    let id = attempt.job.0;
    let number = i32::try_from(attempt.number).unwrap_or(i32::MAX);
    let owned = DeleteRunning { job_id: id, number, node_id: node.0 };
    let running: Option<Running> =
        on_each_backend!(conn, |inner| owned.get_result(inner).optional()?);
    let Some(running) = running else { return Ok(Finished::Fenced) };
    record(conn, node, attempt)?;
    if attempt.next != AfterAttempt::End(FinalState::Completed)
        && let Some(checkpoint) = &attempt.checkpoint
    {
        keep_checkpoint(conn, id, checkpoint)?;
    }
    // A cancel that came while the attempt was ending must not be undone by its retry.
    let next = match attempt.next {
        AfterAttempt::End(end) => AfterAttempt::End(end),
        _ if running.cancel_requested_at.is_some() => AfterAttempt::End(FinalState::Cancelled),
        other => other,
    };
    let charged = running.charged + i32::from(attempt.outcome.is_charged());
    let ended_schedule = match next {
        AfterAttempt::End(end) => {
            let error = attempt.error.as_deref().filter(|_| end != FinalState::Completed);
            let result = attempt.result.as_ref();
            let at = attempt.finished_at;
            let schedule = close(conn, id, end, at, number, charged, error, result)?;
            dependencies::release(conn, id, end, at)?;
            schedule
        }
        AfterAttempt::RetryAt(at) | AfterAttempt::SnoozeUntil(at) => {
            // Through the scheduled room even when it is due at once, so that its state reads `retrying` until it is promoted.
            let row = (
                jobs_scheduled::run_at.eq(at.as_microsecond()),
                jobs_scheduled::job_id.eq(id),
                jobs_scheduled::number.eq(number),
                jobs_scheduled::charged.eq(charged),
            );
            diesel::insert_into(jobs_scheduled::table).values(row).execute(conn)?;
            None
        }
        AfterAttempt::GiveBack => {
            let place = rows::place_of(conn, id, number, charged)?;
            rows::enter(conn, &place, attempt.finished_at, attempt.finished_at)?;
            None
        }
    };
    Ok(Finished::Recorded { state: next.state(), ended_schedule })
}

fn record(conn: &mut Conn, node: NodeId, attempt: &FinishedAttempt) -> Result<(), StoreError> {
    let row = InsertAttempt {
        job_id: attempt.job.0,
        number: i32::try_from(attempt.number).unwrap_or(i32::MAX),
        outcome: attempt.outcome.as_str(),
        node_id: node.0,
        started_at: attempt.started_at.as_microsecond(),
        finished_at: attempt.finished_at.as_microsecond(),
        exit_code: attempt.exit_code,
        error: attempt.error.as_deref(),
        output_tail: attempt.output_tail.as_deref(),
    };
    on_each_backend!(conn, |inner| row.execute(inner)?);
    Ok(())
}

/// Ends a job: its result row, its unique key, its schedule's live list. Returns the schedule that made it.
#[expect(clippy::too_many_arguments, reason = "they are the columns of the row")]
pub(super) fn close(
    conn: &mut Conn,
    id: i64,
    end: FinalState,
    at: Timestamp,
    attempts: i32,
    charged: i32,
    error: Option<&str>,
    result: Option<&serde_json::Value>,
) -> Result<Option<ScheduleId>, StoreError> {
    let result = result.map(|value| to_json("result", value)).transpose()?;
    let row = InsertResult {
        job_id: id,
        state: end.state().as_str(),
        finished_at: at.as_microsecond(),
        attempts,
        charged,
        error,
        result,
    };
    let ties: Ties = on_each_backend!(conn, |inner| {
        row.execute(inner)?;
        TiesOfJob { id }.get_result(inner)?
    });
    if ties.unique_key.is_some() {
        let held = unique_keys::table
            .filter(unique_keys::job_id.eq(id))
            .filter(unique_keys::expires_at.is_null());
        diesel::delete(held).execute(conn)?;
    }
    let Some(schedule) = &ties.schedule else { return Ok(None) };
    let live = DeleteLive { schedule, job_id: id };
    on_each_backend!(conn, |inner| live.execute(inner)?);
    // A dry run has not done what others wait for.
    let is_real = !ties.is_dry_run()?;
    let at = at.as_microsecond();
    let succeeded_at = (end == FinalState::Completed && is_real).then_some(at);
    let note = NoteEnd { at, succeeded_at, schedule };
    on_each_backend!(conn, |inner| note.execute(inner)?);
    if ties.followers > 0 && is_real {
        let state = end.state().as_str();
        let on_end = OnEnd::of(end).as_str();
        let note = NoteForFollowers { ended_at: at, job_id: id, state, schedule, on_end };
        on_each_backend!(conn, |inner| note.execute(inner)?);
    }
    Ok(schedule.parse().ok())
}

/// What a job that is over leaves behind.
#[derive(Debug, Queryable)]
struct Ties {
    schedule: Option<String>,
    unique_key: Option<String>,
    /// Of a schedule's job.
    settings: Option<String>,
    /// How many entries name its schedule as one that is followed.
    followers: i64,
}

impl Ties {
    fn is_dry_run(&self) -> Result<bool, StoreError> {
        let Some(text) = &self.settings else { return Ok(false) };
        let settings: JobSettings = from_json("job's settings", text)?;
        Ok(settings.dry_run)
    }
}

/// Ends every attempt that a dead node left running: each is recorded as interrupted and not charged. `next` says what becomes of the
/// job.
///
/// Returns the jobs.
///
/// # Errors
/// When the database refuses.
pub fn rescue(
    conn: &mut Conn,
    dead: NodeId,
    now: Timestamp,
    why: &str,
    next: impl Fn(Loss) -> Rescued,
) -> Result<Vec<JobId>, StoreError> {
    let left: Vec<(i64, i32, Micros)> = jobs_running::table
        .filter(jobs_running::node_id.eq(dead.0))
        .order(jobs_running::job_id)
        .select((jobs_running::job_id, jobs_running::number, jobs_running::started_at))
        .load(conn)?;
    for (position, (id, number, started_at)) in left.iter().enumerate() {
        let started_at = Timestamp::from(*started_at);
        let in_a_row = losses_in_a_row(conn, *id, why)? + 1;
        let Rescued { next, given_up } = next(Loss { in_a_row, position, together: left.len() });
        let attempt = FinishedAttempt {
            job: JobId(*id),
            number: number.unsigned_abs(),
            outcome: Outcome::Interrupted,
            started_at,
            // The clock may have been set back since.
            finished_at: now.max(started_at),
            exit_code: None,
            error: Some(given_up.unwrap_or_else(|| why.to_owned())),
            result: None,
            output_tail: None,
            checkpoint: None,
            next,
        };
        finish_one(conn, dead, &attempt)?;
    }
    Ok(left.into_iter().map(|(id, ..)| JobId(id)).collect())
}

/// A job that ran when its node died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// How many of its latest attempts, this one included, ended like this.
    pub in_a_row: u32,
    /// Its place among those that ran at the time, from 0.
    pub position: usize,
    /// How many those were.
    pub together: usize,
}

/// What becomes of a job whose node died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rescued {
    /// What comes next.
    pub next: AfterAttempt,
    /// Why it is not tried again, where it is not.
    pub given_up: Option<String>,
}

impl Rescued {
    /// Back to its old place at once.
    #[must_use]
    pub fn given_back() -> Self {
        Self { next: AfterAttempt::GiveBack, given_up: None }
    }
}

/// How many of the job's latest attempts ended with a dead node. The sentence tells them from those that a shutdown interrupted.
fn losses_in_a_row(conn: &mut Conn, id: i64, why: &str) -> Result<u32, StoreError> {
    // Nobody asks for more.
    const ENOUGH: i64 = 100;
    let latest: Vec<Option<String>> = attempts::table
        .filter(attempts::job_id.eq(id))
        .order(attempts::number.desc())
        .limit(ENOUGH)
        .select(attempts::error)
        .load(conn)?;
    let losses = latest.iter().take_while(|error| error.as_deref() == Some(why)).count();
    Ok(u32::try_from(losses).unwrap_or(u32::MAX))
}

/// A running attempt's word on how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgressUpdate {
    /// The job.
    pub job: JobId,
    /// The attempt.
    pub number: u32,
    /// 0 to 100, where that can be said.
    pub percent: Option<u8>,
    /// What it is doing.
    pub message: String,
    /// Where the job's next attempt can go on, where that is new.
    pub checkpoint: Option<JsonText>,
}

/// Keeps where the job's next attempt can go on. It stays with the job, so that one that failed for good and is tried again by hand goes on
/// there as well.
fn keep_checkpoint(conn: &mut Conn, job: i64, checkpoint: &JsonText) -> Result<(), StoreError> {
    let text = job_checkpoints::checkpoint.eq(checkpoint.as_str());
    on_each_backend!(conn, |inner| diesel::insert_into(job_checkpoints::table)
        .values((job_checkpoints::job_id.eq(job), text))
        .on_conflict(job_checkpoints::job_id)
        .do_update()
        .set(text)
        .execute(inner)?);
    Ok(())
}

/// Stores how far running attempts are; reports of attempts that no longer own their job are ignored.
///
/// # Errors
/// When the database refuses.
pub fn record_progress(conn: &mut Conn, updates: &[ProgressUpdate]) -> Result<(), StoreError> {
    for update in updates {
        let owned = jobs_running::table
            .filter(jobs_running::job_id.eq(update.job.0))
            .filter(jobs_running::number.eq(i32::try_from(update.number).unwrap_or(i32::MAX)));
        let told = diesel::update(owned)
            .set((
                jobs_running::progress.eq(update.percent.map(i16::from)),
                jobs_running::message.eq(Some(&update.message)),
            ))
            .execute(conn)?;
        if let Some(checkpoint) = update.checkpoint.as_ref().filter(|_| told > 0) {
            keep_checkpoint(conn, update.job.0, checkpoint)?;
        }
    }
    Ok(())
}
