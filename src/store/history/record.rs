//! A job with everything that is known of it.

use diesel::prelude::*;
use jiff::Timestamp;

use crate::model::{BatchCounts, FinalState, JobId, JobSettings, JobState, Labels, NewJob};
use crate::store::jobs::from_json;
use crate::store::schema::{
    attempts, job_priorities, job_replacements, job_results, jobs, jobs_blocked, jobs_running,
    jobs_scheduled,
};
use crate::store::{Conn, Micros, StoreError, batches, whole_batches};

/// A job with everything that is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRecord {
    /// The job.
    pub id: JobId,
    /// Its kind.
    pub kind: String,
    /// The schedule that made it.
    pub schedule: Option<String>,
    /// The instant it was made for.
    pub nominal_at: Option<Timestamp>,
    /// The lane.
    pub queue: String,
    /// 1 to 10.
    pub priority: i16,
    /// What was asked for, where somebody has changed it since.
    pub submitted_priority: Option<i16>,
    /// Where it is.
    pub state: JobState,
    /// For the kind.
    pub params: serde_json::Value,
    /// Its marks.
    pub labels: Labels,
    /// How it is treated.
    pub settings: JobSettings,
    /// Its unique key.
    pub unique_key: Option<String>,
    /// Who asked for it.
    pub actor: String,
    /// Executions begun so far.
    pub attempt: i32,
    /// Not before then; of a retrying job, when its next attempt is due.
    pub run_at: Timestamp,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// When its running attempt began.
    pub started_at: Option<Timestamp>,
    /// When it was over.
    pub finished_at: Option<Timestamp>,
    /// 0 to 100, of the running attempt.
    pub progress: Option<i16>,
    /// What the running attempt is doing.
    pub message: Option<String>,
    /// Whether the running attempt was asked to stop.
    pub cancel_requested: bool,
    /// The machine-readable result.
    pub result: Option<serde_json::Value>,
    /// Why it did not end well.
    pub error: Option<String>,
    /// How far it is, if it is a batch.
    pub batch: Option<BatchCounts>,
    /// The job that does its work with other params.
    pub replaced_by: Option<JobId>,
}

impl JobRecord {
    /// A job as it stands right after its submission, without reading it back.
    #[must_use]
    pub fn submitted(job: NewJob, id: JobId, state: JobState, now: Timestamp) -> Self {
        let (schedule, nominal_at) = job.schedule.unzip();
        let total = u32::try_from(job.items.len()).unwrap_or(u32::MAX);
        let batch = BatchCounts { total, completed: 0, failed: 0, cancelled: 0 };
        Self {
            id,
            kind: job.kind,
            schedule: schedule.map(|id| id.to_string()),
            nominal_at,
            queue: job.queue,
            priority: job.priority.level().into(),
            submitted_priority: None,
            state,
            params: job.params.value(),
            labels: job.labels,
            settings: job.settings,
            unique_key: job.unique.map(|unique| unique.key),
            actor: job.actor.as_str().to_owned(),
            attempt: 0,
            run_at: job.run_at,
            created_at: now,
            started_at: None,
            finished_at: None,
            progress: None,
            message: None,
            cancel_requested: false,
            result: None,
            error: None,
            batch: (total > 0).then_some(batch),
            replaced_by: None,
        }
    }
}

#[derive(Queryable)]
struct JobRow {
    id: i64,
    kind: String,
    schedule: Option<String>,
    nominal_at: Option<Micros>,
    queue: String,
    priority: i16,
    params: String,
    labels: Option<String>,
    settings: Option<String>,
    unique_key: Option<String>,
    actor: String,
    run_at: Micros,
    created_at: Micros,
}

#[derive(Queryable)]
struct ResultRow {
    state: String,
    finished_at: Micros,
    attempts: i32,
    error: Option<String>,
    result: Option<String>,
}

#[derive(Queryable)]
struct RunningRow {
    number: i32,
    started_at: Micros,
    progress: Option<i16>,
    message: Option<String>,
    cancel_requested_at: Option<Micros>,
}

/// What people have done to a job: the priority that they gave it, and the job that they replaced it with.
type ByHand = (Option<i16>, Option<i64>);

type Joined =
    (JobRow, Option<ResultRow>, Option<RunningRow>, Option<(Micros, i32)>, Option<i64>, ByHand);

/// One job.
///
/// # Errors
/// When the database refuses, or the row cannot be read.
pub fn job(conn: &mut Conn, id: JobId) -> Result<Option<JobRecord>, StoreError> {
    Ok(by_ids(conn, &[id.0])?.pop())
}

/// Those jobs, newest first; ids without a job are left out.
///
/// # Errors
/// When the database refuses, or a row cannot be read.
pub fn by_ids(conn: &mut Conn, ids: &[i64]) -> Result<Vec<JobRecord>, StoreError> {
    let mut records = Vec::with_capacity(ids.len());
    for chunk in ids.chunks(crate::store::jobs::CHUNK_ROWS) {
        let page: Vec<Joined> = jobs::table
            .left_join(job_results::table.on(job_results::job_id.eq(jobs::id)))
            .left_join(jobs_running::table.on(jobs_running::job_id.eq(jobs::id)))
            .left_join(jobs_scheduled::table.on(jobs_scheduled::job_id.eq(jobs::id)))
            .left_join(jobs_blocked::table.on(jobs_blocked::job_id.eq(jobs::id)))
            .left_join(job_priorities::table.on(job_priorities::job_id.eq(jobs::id)))
            .left_join(job_replacements::table.on(job_replacements::job_id.eq(jobs::id)))
            .filter(jobs::id.eq_any(chunk))
            .order(jobs::id.desc())
            .select((
                (
                    jobs::id,
                    jobs::kind,
                    jobs::schedule,
                    jobs::nominal_at,
                    jobs::queue,
                    jobs::priority,
                    jobs::params,
                    jobs::labels,
                    jobs::settings,
                    jobs::unique_key,
                    jobs::actor,
                    jobs::run_at,
                    jobs::created_at,
                ),
                (
                    job_results::state,
                    job_results::finished_at,
                    job_results::attempts,
                    job_results::error,
                    job_results::result,
                )
                    .nullable(),
                (
                    jobs_running::number,
                    jobs_running::started_at,
                    jobs_running::progress,
                    jobs_running::message,
                    jobs_running::cancel_requested_at,
                )
                    .nullable(),
                (jobs_scheduled::run_at, jobs_scheduled::number).nullable(),
                jobs_blocked::job_id.nullable(),
                (job_priorities::priority.nullable(), job_replacements::replaced_by.nullable()),
            ))
            .load(conn)?;
        for row in page {
            records.push(record(conn, row)?);
        }
    }
    Ok(records)
}

fn record(conn: &mut Conn, joined: Joined) -> Result<JobRecord, StoreError> {
    let (row, result, running, scheduled, blocked, (priority, replaced_by)) = joined;
    let mut record = JobRecord {
        id: JobId(row.id),
        kind: row.kind,
        schedule: row.schedule,
        nominal_at: row.nominal_at.map(Timestamp::from),
        queue: row.queue,
        priority: priority.unwrap_or(row.priority),
        submitted_priority: priority.map(|_changed| row.priority),
        state: JobState::Pending,
        params: from_json("job's params", &row.params)?,
        labels: row
            .labels
            .map(|text| from_json("job's labels", &text))
            .transpose()?
            .unwrap_or_default(),
        settings: row
            .settings
            .map(|text| from_json("job's settings", &text))
            .transpose()?
            .unwrap_or_default(),
        unique_key: row.unique_key,
        actor: row.actor,
        attempt: 0,
        run_at: row.run_at.into(),
        created_at: row.created_at.into(),
        started_at: None,
        finished_at: None,
        progress: None,
        message: None,
        cancel_requested: false,
        result: None,
        error: None,
        batch: None,
        replaced_by: replaced_by.map(JobId),
    };
    if let Some(over) = result {
        record.state = over
            .state
            .parse()
            .map_err(|detail| StoreError::Damaged { what: "job state", detail })?;
        record.finished_at = Some(over.finished_at.into());
        record.attempt = over.attempts;
        record.error = over.error;
        record.result = over.result.map(|text| from_json("job's result", &text)).transpose()?;
        record.started_at = last_start(conn, row.id)?;
    } else if let Some(running) = running {
        record.state = JobState::Running;
        record.started_at = Some(running.started_at.into());
        record.attempt = running.number;
        record.progress = running.progress;
        record.message = running.message;
        record.cancel_requested = running.cancel_requested_at.is_some();
    } else if let Some((run_at, number)) = scheduled {
        record.run_at = run_at.into();
        record.attempt = number;
        if number > 0 {
            record.state = JobState::Retrying;
            record.error = last_error(conn, row.id)?;
        }
    } else if blocked.is_some() {
        record.state = JobState::Blocked;
        record.attempt = attempts_so_far(conn, row.id)?;
    } else if let Some(counts) = batches::counts(conn, record.id)? {
        record.state = JobState::Running;
        record.progress = Some(counts.percent().into());
        record.message =
            Some(format!("{} of {} items are over", counts.total - counts.left(), counts.total));
        record.cancel_requested = batches::is_being_cancelled(conn, row.id)?;
        record.batch = Some(counts);
    } else {
        record.attempt = attempts_so_far(conn, row.id)?;
    }
    if record.settings.whole_batch {
        record.batch = whole_batches::counts(conn, record.id, FinalState::of(record.state))?;
        if record.state == JobState::Running {
            let percent = record.batch.map(|counts| counts.percent().into());
            record.progress = record.progress.or(percent);
        }
    }
    Ok(record)
}

fn last_start(conn: &mut Conn, id: i64) -> Result<Option<Timestamp>, StoreError> {
    let last: Option<Micros> = attempts::table
        .filter(attempts::job_id.eq(id))
        .order(attempts::number.desc())
        .select(attempts::started_at)
        .first(conn)
        .optional()?;
    Ok(last.map(Timestamp::from))
}

fn last_error(conn: &mut Conn, id: i64) -> Result<Option<String>, StoreError> {
    let last: Option<Option<String>> = attempts::table
        .filter(attempts::job_id.eq(id))
        .order(attempts::number.desc())
        .select(attempts::error)
        .first(conn)
        .optional()?;
    Ok(last.flatten())
}

/// How often a job was executed that is neither running nor over.
pub(in crate::store) fn attempts_so_far(conn: &mut Conn, id: i64) -> Result<i32, StoreError> {
    let last: Option<i32> = attempts::table
        .filter(attempts::job_id.eq(id))
        .order(attempts::number.desc())
        .select(attempts::number)
        .first(conn)
        .optional()?;
    Ok(last.unwrap_or(0))
}
