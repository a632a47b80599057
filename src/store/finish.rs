//! The end of an attempt, and what it means for its job.

use std::collections::HashMap;

use diesel::prelude::*;
use jiff::Timestamp;

use super::dependencies::Over;
use super::hot::{
    DeleteLive, DeleteRunning, InsertAttempt, InsertResult, InsertScheduled, NoteEnd,
    NoteForFollowers, TiesOfJob, execute_and_load, load_each,
};
use super::jobs::{from_json, to_json};
use super::schema::{attempts, job_checkpoints, jobs_running, unique_keys};
use super::{Conn, Micros, StoreError, batches, dependencies, jobs as rows, on_each_backend};
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

/// Whether just this end is on record: its first report was committed, and the word of that was lost.
///
/// # Errors
/// When the database refuses.
pub fn is_recorded(
    conn: &mut Conn,
    node: NodeId,
    ended: &FinishedAttempt,
) -> Result<bool, StoreError> {
    let (job_id, number) = name(ended);
    let same = attempts::table
        .filter(attempts::job_id.eq(job_id))
        .filter(attempts::number.eq(number))
        .filter(attempts::node_id.eq(node.0))
        .filter(attempts::finished_at.eq(ended.finished_at.as_microsecond()));
    Ok(diesel::select(diesel::dsl::exists(same)).get_result(conn)?)
}

/// Records ended attempts, each on its own: one that is fenced does not hinder the others.
///
/// What all of them leave is written together, a table at a time. The rest follows in the order in which they ended.
///
/// # Errors
/// When the database refuses; nothing is recorded then.
pub fn finish(
    conn: &mut Conn,
    node: NodeId,
    ended: &[FinishedAttempt],
) -> Result<Vec<Finished>, StoreError> {
    let owned = take(conn, node, ended)?;
    let owners = || owned.iter().flatten();
    let attempts = owners().map(|owned| attempt_row(node, owned.attempt)).collect();
    let ends: Vec<End<'_>> = owners().filter_map(Owned::end).collect();
    let mut ties = write_results(conn, attempts, &ends)?;
    let batches_over = count_items(conn, &ends, &mut ties)?;
    let mut finished = Vec::with_capacity(ended.len());
    for owned in &owned {
        finished.push(match owned {
            None => Finished::Fenced,
            Some(owned) => finish_one(conn, owned, &ties)?,
        });
    }
    for batch in batches_over {
        dependencies::release(conn, batch)?;
    }
    Ok(finished)
}

/// Counts those of the jobs that are items of batches, for which nobody else waits then. Returns the batches that are over with them.
fn count_items(
    conn: &mut Conn,
    ends: &[End<'_>],
    ties: &mut HashMap<i64, Ties>,
) -> Result<Vec<Over>, StoreError> {
    let is_waited_for = |end: &&End<'_>| ties.get(&end.id).is_some_and(|ties| ties.dependants > 0);
    let waited_for: Vec<Over> = ends.iter().filter(is_waited_for).map(Over::from).collect();
    if waited_for.is_empty() {
        return Ok(Vec::new());
    }
    let items = batches::items_among(conn, &waited_for)?;
    for (_, item) in &items {
        if let Some(ties) = ties.get_mut(&item.id) {
            ties.dependants -= 1;
        }
    }
    batches::items_over(conn, &items)
}

/// An attempt that ended and owned its job until then.
struct Owned<'a> {
    attempt: &'a FinishedAttempt,
    number: i32,
    /// Executions of the job that count against the retry limit, this one included.
    charged: i32,
    /// What becomes of the job.
    next: AfterAttempt,
}

/// Takes the jobs away from those attempts that own them, in the order of their numbers, in which others hold several of them as well.
fn take<'a>(
    conn: &mut Conn,
    node: NodeId,
    ended: &'a [FinishedAttempt],
) -> Result<Vec<Option<Owned<'a>>>, StoreError> {
    /// What a running job's row says that its end depends on.
    type Running = (i64, i32, i32, Option<Micros>);
    let mut names: Vec<(i64, i32)> = ended.iter().map(name).collect();
    names.sort_unstable();
    let rows = names.iter().map(|(job_id, number)| DeleteRunning {
        job_id: *job_id,
        number: *number,
        node_id: node.0,
    });
    let running: Vec<Running> = load_each(conn, rows)?;
    let mut running: HashMap<(i64, i32), (i32, Option<Micros>)> = running
        .into_iter()
        .map(|(job, number, charged, cancelled)| ((job, number), (charged, cancelled)))
        .collect();
    // A report that comes twice finds its row once.
    let owned = |attempt: &'a FinishedAttempt| {
        let (charged, cancel_requested_at) = running.remove(&name(attempt))?;
        // A cancel that came while the attempt was ending must not be undone by its retry.
        let next = match attempt.next {
            AfterAttempt::End(end) => AfterAttempt::End(end),
            _ if cancel_requested_at.is_some() => AfterAttempt::End(FinalState::Cancelled),
            other => other,
        };
        let charged = charged + i32::from(attempt.outcome.is_charged());
        Some(Owned { attempt, number: name(attempt).1, charged, next })
    };
    Ok(ended.iter().map(owned).collect())
}

/// An attempt's job and number, as they are stored.
fn name(attempt: &FinishedAttempt) -> (i64, i32) {
    (attempt.job.0, i32::try_from(attempt.number).unwrap_or(i32::MAX))
}

impl Owned<'_> {
    /// How the job ends, if it does.
    fn end(&self) -> Option<End<'_>> {
        let AfterAttempt::End(state) = self.next else { return None };
        let error = self.attempt.error.as_deref();
        Some(End {
            id: self.attempt.job.0,
            state,
            at: self.attempt.finished_at,
            attempts: self.number,
            charged: self.charged,
            error: error.filter(|_| state != FinalState::Completed),
            result: self.attempt.result.as_ref(),
        })
    }
}

/// What follows from the end of an attempt beside the rows that each leaves.
fn finish_one(
    conn: &mut Conn,
    owned: &Owned<'_>,
    ties: &HashMap<i64, Ties>,
) -> Result<Finished, StoreError> {
    let Owned { attempt, number, charged, next } = owned;
    let (id, at) = (attempt.job.0, attempt.finished_at);
    if attempt.next != AfterAttempt::End(FinalState::Completed)
        && let Some(checkpoint) = &attempt.checkpoint
    {
        keep_checkpoint(conn, id, checkpoint)?;
    }
    let mut ended_schedule = None;
    match next {
        AfterAttempt::End(_) => {
            if let (Some(end), Some(ties)) = (owned.end(), ties.get(&id)) {
                ended_schedule = untie(conn, &end, ties)?;
                if ties.dependants > 0 {
                    dependencies::release(conn, Over::from(&end))?;
                }
            }
        }
        AfterAttempt::RetryAt(again) | AfterAttempt::SnoozeUntil(again) => {
            // Through the scheduled room even when it is due at once, so that its state reads `retrying` until it is promoted.
            let (run_at, number, charged) = (again.as_microsecond(), *number, *charged);
            let row = InsertScheduled { run_at, job_id: id, number, charged };
            on_each_backend!(conn, |inner| row.execute(inner)?);
        }
        AfterAttempt::GiveBack => {
            let place = rows::place_of(conn, id, *number, *charged)?;
            rows::enter(conn, &place, at, at)?;
        }
    }
    Ok(Finished::Recorded { state: next.state(), ended_schedule })
}

fn attempt_row(node: NodeId, attempt: &FinishedAttempt) -> InsertAttempt<'_> {
    let (job_id, number) = name(attempt);
    InsertAttempt {
        job_id,
        number,
        outcome: attempt.outcome.as_str(),
        node_id: node.0,
        started_at: attempt.started_at.as_microsecond(),
        finished_at: attempt.finished_at.as_microsecond(),
        exit_code: attempt.exit_code,
        error: attempt.error.as_deref(),
        output_tail: attempt.output_tail.as_deref(),
    }
}

/// A job that is over.
#[derive(Debug)]
pub(super) struct End<'a> {
    /// The job.
    pub(super) id: i64,
    /// How it ended.
    pub(super) state: FinalState,
    /// When.
    pub(super) at: Timestamp,
    /// Executions until then.
    pub(super) attempts: i32,
    /// Executions that counted against the retry limit.
    pub(super) charged: i32,
    /// Why it did not end well.
    pub(super) error: Option<&'a str>,
    /// What came of it.
    pub(super) result: Option<&'a serde_json::Value>,
}

impl From<&End<'_>> for Over {
    fn from(end: &End<'_>) -> Self {
        Self { id: end.id, state: end.state, at: end.at }
    }
}

/// Ends a job: its result row, its unique key, its schedule's live list. Returns the schedule that made it.
pub(super) fn close(conn: &mut Conn, end: &End<'_>) -> Result<Option<ScheduleId>, StoreError> {
    let ties = write_results(conn, Vec::new(), std::slice::from_ref(end))?;
    ties.get(&end.id).map_or(Ok(None), |ties| untie(conn, end, ties))
}

/// Writes these attempts and the result rows of jobs, and tells by what each of the jobs is still tied.
fn write_results<'a>(
    conn: &mut Conn,
    attempts: Vec<InsertAttempt<'_>>,
    ends: &'a [End<'a>],
) -> Result<HashMap<i64, Ties>, StoreError> {
    let text = |end: &End<'_>| end.result.map(|value| to_json("result", value)).transpose();
    let results: Vec<Option<String>> = ends.iter().map(text).collect::<Result<_, _>>()?;
    let row = |(end, result): (&'a End<'a>, _)| InsertResult {
        job_id: end.id,
        state: end.state.state().as_str(),
        finished_at: end.at.as_microsecond(),
        attempts: end.attempts,
        charged: end.charged,
        error: end.error,
        result,
    };
    let results = ends.iter().zip(results).map(row).collect();
    let asked = ends.iter().map(|end| TiesOfJob { id: end.id }).collect();
    let ties: Vec<Ties> = execute_and_load(conn, (attempts, results), asked)?;
    Ok(ties.into_iter().map(|ties| (ties.id, ties)).collect())
}

/// Lets go of what a job that is over has held, and tells those who follow its schedule. Returns the schedule.
fn untie(conn: &mut Conn, end: &End<'_>, ties: &Ties) -> Result<Option<ScheduleId>, StoreError> {
    let id = end.id;
    if ties.unique_key.is_some() {
        let held = unique_keys::table
            .filter(unique_keys::job_id.eq(id))
            .filter(unique_keys::expires_at.is_null());
        diesel::delete(held).execute(conn)?;
    }
    let Some(schedule) = &ties.schedule else { return Ok(None) };
    let live = DeleteLive { schedule, job_id: id };
    on_each_backend!(conn, |inner| live.execute(inner)?);
    if ties.is_dry_run()? {
        return Ok(None);
    }
    let at = end.at.as_microsecond();
    let succeeded_at = (end.state == FinalState::Completed).then_some(at);
    let note = NoteEnd { at, succeeded_at, schedule };
    on_each_backend!(conn, |inner| note.execute(inner)?);
    if ties.followers > 0 {
        let state = end.state.state().as_str();
        let on_end = OnEnd::of(end.state).as_str();
        let note = NoteForFollowers { ended_at: at, job_id: id, state, schedule, on_end };
        on_each_backend!(conn, |inner| note.execute(inner)?);
    }
    Ok(schedule.parse().ok())
}

/// What a job that is over leaves behind.
#[derive(Debug, Queryable)]
struct Ties {
    id: i64,
    schedule: Option<String>,
    unique_key: Option<String>,
    /// Of a schedule's job.
    settings: Option<String>,
    /// How many entries name its schedule as one that is followed.
    followers: i64,
    /// How many jobs wait for it.
    dependants: i64,
}

impl Ties {
    fn is_dry_run(&self) -> Result<bool, StoreError> {
        let Some(text) = &self.settings else { return Ok(false) };
        let settings: JobSettings = from_json("job's settings", text)?;
        Ok(settings.dry_run)
    }
}

/// Why an attempt is given back whose daemon is known to have ended: somebody has the lock on its data.
pub const DAEMON_ENDED: &str = "interrupted: the daemon ended without finishing it";

/// Why one is given back whose node nobody has heard of for a lease.
pub const NODE_SILENT: &str =
    "interrupted: its node had not renewed its lease, so it was lost, cut off or frozen";

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
        finish(conn, dead, &[attempt])?;
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

/// How many of the job's latest attempts ended with a dead node, however that was found out. The sentences tell them from those that a shutdown
/// interrupted.
fn losses_in_a_row(conn: &mut Conn, id: i64, why: &str) -> Result<u32, StoreError> {
    // Nobody asks for more.
    const ENOUGH: i64 = 100;
    let latest: Vec<Option<String>> = attempts::table
        .filter(attempts::job_id.eq(id))
        .order(attempts::number.desc())
        .limit(ENOUGH)
        .select(attempts::error)
        .load(conn)?;
    let is_loss = |error: &str| [why, DAEMON_ENDED, NODE_SILENT].contains(&error);
    let losses = latest.iter().take_while(|error| error.as_deref().is_some_and(is_loss)).count();
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
