//! Looking back: jobs, attempts and occurrences, by filter and page.

use std::time::Duration;

use diesel::prelude::*;
use jiff::Timestamp;

use super::jobs::from_json;
use super::schema::{
    attempts, job_labels, job_priorities, job_replacements, job_results, jobs, jobs_blocked,
    jobs_ready, jobs_running, jobs_scheduled, occurrences,
};
use super::{Conn, Micros, StoreError, batches, whole_batches};
use crate::model::{
    BatchCounts, FinalState, JobId, JobSettings, JobState, Labels, NewJob, Outcome,
};

/// Which jobs to list; everything that is set must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobFilter {
    /// In this state.
    pub state: Option<JobState>,
    /// Of this kind.
    pub kind: Option<String>,
    /// Made by this schedule.
    pub schedule: Option<String>,
    /// In this queue.
    pub queue: Option<String>,
    /// With these marks, each as `key=value`.
    pub labels: Vec<String>,
    /// Submitted then or later.
    pub since: Option<Timestamp>,
    /// Submitted before.
    pub until: Option<Timestamp>,
    /// Leaving out those whose work another job does with other params.
    pub without_replaced: bool,
}

/// A page of a list that is ordered by falling id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// How many rows at the most.
    pub limit: i64,
    /// Only rows with a smaller id than this.
    pub before: Option<i64>,
}

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

/// A page of the jobs that pass the filter, newest first.
///
/// # Errors
/// When the database refuses, or a row cannot be read.
pub fn jobs(conn: &mut Conn, filter: &JobFilter, page: Page) -> Result<Vec<JobRecord>, StoreError> {
    let ids = job_ids(conn, filter, page)?;
    by_ids(conn, &ids)
}

/// The ids of a page of the jobs that pass the filter, newest first.
///
/// # Errors
/// When the database refuses.
pub fn job_ids(conn: &mut Conn, filter: &JobFilter, page: Page) -> Result<Vec<i64>, StoreError> {
    let mut query =
        jobs::table.select(jobs::id).order(jobs::id.desc()).limit(page.limit).into_boxed();
    if let Some(before) = page.before {
        query = query.filter(jobs::id.lt(before));
    }
    if let Some(kind) = &filter.kind {
        query = query.filter(jobs::kind.eq(kind));
    }
    if let Some(schedule) = &filter.schedule {
        query = query.filter(jobs::schedule.eq(schedule));
    }
    if let Some(queue) = &filter.queue {
        query = query.filter(jobs::queue.eq(queue));
    }
    for label in &filter.labels {
        let marked =
            job_labels::table.filter(job_labels::label.eq(label)).select(job_labels::job_id);
        query = query.filter(jobs::id.eq_any(marked));
    }
    if let Some(since) = filter.since {
        query = query.filter(jobs::created_at.ge(since.as_microsecond()));
    }
    if let Some(until) = filter.until {
        query = query.filter(jobs::created_at.lt(until.as_microsecond()));
    }
    if filter.without_replaced {
        let replaced = job_replacements::table.select(job_replacements::job_id);
        query = query.filter(jobs::id.ne_all(replaced));
    }
    let results = job_results::table.select(job_results::job_id);
    let running = jobs_running::table.select(jobs_running::job_id);
    let blocked = jobs_blocked::table.select(jobs_blocked::job_id);
    let retrying =
        jobs_scheduled::table.filter(jobs_scheduled::number.gt(0)).select(jobs_scheduled::job_id);
    query = match filter.state {
        None => query,
        Some(JobState::Running) => {
            query.filter(jobs::id.eq_any(running).or(jobs::id.eq_any(batches::open_ids())))
        }
        Some(JobState::Blocked) => query.filter(jobs::id.eq_any(blocked)),
        Some(JobState::Retrying) => query.filter(jobs::id.eq_any(retrying)),
        Some(JobState::Pending) => {
            let ready = jobs_ready::table.select(jobs_ready::job_id);
            let ahead = jobs_scheduled::table
                .filter(jobs_scheduled::number.eq(0))
                .select(jobs_scheduled::job_id);
            query.filter(jobs::id.eq_any(ready).or(jobs::id.eq_any(ahead)))
        }
        Some(over) => {
            query.filter(jobs::id.eq_any(results.filter(job_results::state.eq(over.as_str()))))
        }
    };
    Ok(query.load(conn)?)
}

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
    for chunk in ids.chunks(super::jobs::CHUNK_ROWS) {
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

fn attempts_so_far(conn: &mut Conn, id: i64) -> Result<i32, StoreError> {
    let last: Option<i32> = attempts::table
        .filter(attempts::job_id.eq(id))
        .order(attempts::number.desc())
        .select(attempts::number)
        .first(conn)
        .optional()?;
    Ok(last.unwrap_or(0))
}

/// A finished attempt.
#[derive(Debug, Clone, PartialEq, Eq, Queryable)]
pub struct AttemptRecord {
    /// Which execution of its job, from 1.
    pub number: i32,
    /// How it ended.
    pub outcome: String,
    /// The node that ran it.
    pub node_id: i64,
    /// When it began.
    pub started_at: Micros,
    /// When it had ended.
    pub finished_at: Micros,
    /// The program's exit code.
    pub exit_code: Option<i32>,
    /// Why it did not succeed.
    pub error: Option<String>,
    /// The last part of its output.
    pub output_tail: Option<String>,
}

/// A job's finished attempts, first to last.
///
/// # Errors
/// When the database refuses.
pub fn attempts(conn: &mut Conn, id: JobId) -> Result<Vec<AttemptRecord>, StoreError> {
    Ok(attempts::table
        .filter(attempts::job_id.eq(id.0))
        .order(attempts::number)
        .select((
            attempts::number,
            attempts::outcome,
            attempts::node_id,
            attempts::started_at,
            attempts::finished_at,
            attempts::exit_code,
            attempts::error,
            attempts::output_tail,
        ))
        .load(conn)?)
}

/// Which rows of the ledger to list; everything that is set must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OccurrenceFilter {
    /// Of this schedule.
    pub schedule: Option<String>,
    /// Nominal at or after.
    pub from: Option<Timestamp>,
    /// Nominal before.
    pub until: Option<Timestamp>,
    /// With this decision.
    pub decision: Option<String>,
}

/// A row of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Queryable)]
pub struct OccurrenceRecord {
    /// The row's number, for paging.
    pub id: i64,
    /// Whose instant it is.
    pub schedule: String,
    /// The instant.
    pub nominal_at: Micros,
    /// What was decided.
    pub decision: String,
    /// Why.
    pub reason: String,
    /// The job that was made.
    pub job_id: Option<i64>,
    /// When it was decided.
    pub decided_at: Micros,
    /// The schedule's content hash at that time.
    pub revision: String,
    /// How many instants the row stands for.
    pub instants: i64,
    /// Who caused it.
    pub actor: String,
}

/// A page of the ledger, newest row first.
///
/// # Errors
/// When the database refuses.
pub fn occurrences(
    conn: &mut Conn,
    filter: &OccurrenceFilter,
    page: Page,
) -> Result<Vec<OccurrenceRecord>, StoreError> {
    let mut query = occurrences::table
        .select((
            occurrences::id,
            occurrences::schedule,
            occurrences::nominal_at,
            occurrences::decision,
            occurrences::reason,
            occurrences::job_id,
            occurrences::decided_at,
            occurrences::revision,
            occurrences::instants,
            occurrences::actor,
        ))
        .order(occurrences::id.desc())
        .limit(page.limit)
        .into_boxed();
    if let Some(before) = page.before {
        query = query.filter(occurrences::id.lt(before));
    }
    if let Some(schedule) = &filter.schedule {
        query = query.filter(occurrences::schedule.eq(schedule));
    }
    if let Some(from) = filter.from {
        query = query.filter(occurrences::nominal_at.ge(from.as_microsecond()));
    }
    if let Some(until) = filter.until {
        query = query.filter(occurrences::nominal_at.lt(until.as_microsecond()));
    }
    if let Some(decision) = &filter.decision {
        query = query.filter(occurrences::decision.eq(decision));
    }
    Ok(query.load(conn)?)
}

/// The last thing that happened to a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastRun {
    /// The newest row of its ledger.
    pub occurrence: OccurrenceRecord,
    /// The state of the newest job it made.
    pub job: Option<(JobId, JobState, Option<Timestamp>)>,
}

/// The last thing that happened to a schedule.
///
/// # Errors
/// When the database refuses.
pub fn last_run(conn: &mut Conn, schedule: &str) -> Result<Option<LastRun>, StoreError> {
    let newest = occurrences::table
        .filter(occurrences::schedule.eq(schedule))
        .order(occurrences::nominal_at.desc())
        .select((
            occurrences::id,
            occurrences::schedule,
            occurrences::nominal_at,
            occurrences::decision,
            occurrences::reason,
            occurrences::job_id,
            occurrences::decided_at,
            occurrences::revision,
            occurrences::instants,
            occurrences::actor,
        ))
        .first::<OccurrenceRecord>(conn)
        .optional()?;
    let Some(occurrence) = newest else { return Ok(None) };
    let filter = JobFilter { schedule: Some(schedule.to_owned()), ..JobFilter::default() };
    let job = jobs(conn, &filter, Page { limit: 1, before: None })?.pop();
    let job = job.map(|job| (job.id, job.state, job.finished_at));
    Ok(Some(LastRun { occurrence, job }))
}

/// How many jobs are in each state.
///
/// # Errors
/// When the database refuses.
pub fn counts(conn: &mut Conn) -> Result<Vec<(JobState, i64)>, StoreError> {
    let mut counts = live_counts(conn)?;
    for state in [JobState::Completed, JobState::Failed, JobState::Cancelled] {
        let over: i64 = job_results::table
            .filter(job_results::state.eq(state.as_str()))
            .count()
            .get_result(conn)?;
        counts.push((state, over));
    }
    Ok(counts)
}

/// How many jobs are in each state that is not final. Unlike the others these are never many for long, so it costs little.
///
/// # Errors
/// When the database refuses.
pub fn live_counts(conn: &mut Conn) -> Result<Vec<(JobState, i64)>, StoreError> {
    let ready: i64 = jobs_ready::table.count().get_result(conn)?;
    let ahead: i64 =
        jobs_scheduled::table.filter(jobs_scheduled::number.eq(0)).count().get_result(conn)?;
    let retrying: i64 =
        jobs_scheduled::table.filter(jobs_scheduled::number.gt(0)).count().get_result(conn)?;
    let running: i64 = jobs_running::table.count().get_result(conn)?;
    let blocked: i64 = jobs_blocked::table.count().get_result(conn)?;
    Ok(vec![
        (JobState::Blocked, blocked),
        (JobState::Pending, ready + ahead),
        (JobState::Running, running),
        (JobState::Retrying, retrying),
    ])
}

/// Attempts of a kind that ended in the same way, within a time.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DayNumbers {
    /// The kind.
    pub kind: String,
    /// How they ended.
    pub outcome: String,
    /// How many.
    pub attempts: i64,
    /// How long they took on average.
    pub mean_ms: i64,
    /// How long the longest took.
    pub max_ms: i64,
}

/// How long the latest successful attempts took, by kind, oldest first.
///
/// # Errors
/// When the database refuses.
pub fn latest_durations(
    conn: &mut Conn,
    limit: i64,
) -> Result<Vec<(String, Duration)>, StoreError> {
    let mut rows: Vec<(String, String, Micros, Micros)> = attempts::table
        .inner_join(jobs::table.on(jobs::id.eq(attempts::job_id)))
        .order(attempts::id.desc())
        .limit(limit)
        .select((jobs::kind, attempts::outcome, attempts::started_at, attempts::finished_at))
        .load(conn)?;
    rows.reverse();
    rows.retain(|(_, outcome, ..)| outcome == Outcome::Success.as_str());
    let took = |from: Micros, to: Micros| Duration::from_micros((to.0 - from.0).unsigned_abs());
    Ok(rows.into_iter().map(|(kind, _, from, to)| (kind, took(from, to))).collect())
}

/// Counts attempts that finished from `from` until `until`, by kind and outcome.
///
/// # Errors
/// When the database refuses.
pub fn day_numbers(
    conn: &mut Conn,
    from: Timestamp,
    until: Timestamp,
) -> Result<Vec<DayNumbers>, StoreError> {
    use diesel::sql_types::{BigInt, Text};
    /// A row of the sums. Grouping by columns of two tables is beyond Diesel's types, so the statement is text.
    #[derive(QueryableByName)]
    struct Sum {
        #[diesel(sql_type = Text)]
        kind: String,
        #[diesel(sql_type = Text)]
        outcome: String,
        #[diesel(sql_type = BigInt)]
        attempts: i64,
        #[diesel(sql_type = BigInt)]
        mean_us: i64,
        #[diesel(sql_type = BigInt)]
        max_us: i64,
    }
    let (first, second) = match conn {
        Conn::Sqlite(_) => ("?", "?"),
        Conn::Postgres(_) => ("$1", "$2"),
    };
    let rows: Vec<Sum> = diesel::sql_query(format!(
        "SELECT j.kind, a.outcome, COUNT(*) AS attempts, \
         CAST(AVG(a.finished_at - a.started_at) AS BIGINT) AS mean_us, \
         MAX(a.finished_at - a.started_at) AS max_us \
         FROM attempts a JOIN jobs j ON j.id = a.job_id \
         WHERE a.finished_at >= {first} AND a.finished_at < {second} \
         GROUP BY j.kind, a.outcome ORDER BY j.kind, a.outcome"
    ))
    .bind::<BigInt, _>(from.as_microsecond())
    .bind::<BigInt, _>(until.as_microsecond())
    .load(conn)?;
    let numbers = |row: Sum| DayNumbers {
        kind: row.kind,
        outcome: row.outcome,
        attempts: row.attempts,
        mean_ms: row.mean_us / 1000,
        max_ms: row.max_us / 1000,
    };
    Ok(rows.into_iter().map(numbers).collect())
}
