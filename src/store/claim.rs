//! Taking jobs out of the queue to execute them.

use std::collections::{BTreeMap, HashMap};

use diesel::prelude::*;
use jiff::Timestamp;

use super::finish::finish;
use super::hot::{DeleteReady, InsertRunning, JobToRun};
use super::jobs::from_json;
use super::schema::{attempts, job_checkpoints, jobs, jobs_ready, queues};
use super::{Conn, Micros, StoreError, limits, on_each_backend};
use crate::model::{
    AfterAttempt, Chain, FinalState, FinishedAttempt, JobId, JobSettings, JsonText, Labels, NodeId,
    NodeIdentity, Outcome, Priority, ScheduleId, Subqueue,
};
use crate::queue::{Limits, Room};

/// What a node has room for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRequest {
    /// Who asks.
    pub node: NodeId,
    /// By what it can be chosen. It gets what any node may run, and what it was chosen for.
    pub identity: NodeIdentity,
    /// When.
    pub now: Timestamp,
    /// How many jobs at the most.
    pub slots: usize,
    /// How many of them at the most may be of a priority for which no workers are reserved.
    pub normal_slots: usize,
    /// How many of a queue at the most, for queues with a limit of their own on this node.
    pub queue_slots: BTreeMap<String, usize>,
    /// Limits that files declare. Those that operators set come before them.
    pub limits: Limits,
}

/// A job that now belongs to a node.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimedJob {
    /// The job.
    pub id: JobId,
    /// Which execution this is, from 1; the fencing token of everything the node writes about it.
    pub number: u32,
    /// Earlier executions that count against the retry limit.
    pub charged: u32,
    /// Its kind.
    pub kind: String,
    /// For the kind.
    pub params: serde_json::Value,
    /// The lane it came from.
    pub queue: String,
    /// How urgent it is.
    pub priority: Priority,
    /// The schedule that made it, and the instant it was made for.
    pub schedule: Option<(ScheduleId, Timestamp)>,
    /// Its marks.
    pub labels: Labels,
    /// How it is treated.
    pub settings: JobSettings,
    /// Not before then.
    pub run_at: Timestamp,
    /// When its first execution began, where that is needed to bound all of them.
    pub first_started_at: Option<Timestamp>,
    /// Where an earlier execution got to.
    pub checkpoint: Option<JsonText>,
}

#[derive(Debug, Queryable)]
struct Ready {
    subqueue: String,
    rank: i64,
    job_id: i64,
    number: i32,
    charged: i32,
}

/// Takes the first jobs of the queue that the node has room for, in the order in which they should start.
///
/// A job whose row cannot be read (a damaged value) fails at once, with an attempt that says why: left in the queue, it would
/// make every claim fail.
///
/// # Errors
/// When the database refuses.
pub fn claim(conn: &mut Conn, request: &ClaimRequest) -> Result<Vec<ClaimedJob>, StoreError> {
    let mut subqueues = subqueues_with_work(conn)?;
    subqueues.retain(|(_, subqueue)| {
        subqueue.node.as_ref().is_none_or(|selector| request.identity.fits(selector))
    });
    let mut limits = request.limits.clone();
    limits::add_stored(conn, &mut limits)?;
    let running = if limits.concern(subqueues.iter().map(|(_, subqueue)| subqueue)) {
        limits::lock(conn)?;
        limits::running(conn)?
    } else {
        Vec::new()
    };
    let slots = (request.slots, request.normal_slots.min(request.slots));
    let mut room = Room::new(&limits, &running, slots, &request.queue_slots);
    let mut paused = Paused::default();
    let mut ready: Vec<(&Subqueue, Ready)> = Vec::new();
    for (name, subqueue) in &subqueues {
        let most = room.of(subqueue);
        if most > 0 && !paused.is(conn, &subqueue.queue)? {
            let first = first_ready(conn, name, most)?;
            ready.extend(first.into_iter().map(|row| (subqueue, row)));
        }
    }
    // Each part of a queue is in order, and all of them together come in the same order.
    ready.sort_by_key(|(_, row)| (row.rank, row.job_id));
    let ready: Vec<Ready> = ready
        .into_iter()
        .filter_map(|(subqueue, row)| room.take(subqueue).then_some(row))
        .collect();
    for row in &ready {
        start(conn, row, request)?;
    }
    let mut rows = load(conn, &ready)?;
    let mut jobs = Vec::with_capacity(ready.len());
    for ready in &ready {
        let Some(row) = rows.remove(&ready.job_id) else { continue };
        match claimed(conn, ready, row, request) {
            Ok(job) => jobs.push(job),
            Err(damaged @ StoreError::Damaged { .. }) => fail(conn, ready, request, &damaged)?,
            Err(error) => return Err(error),
        }
    }
    Ok(jobs)
}

/// Ends a job that was just claimed and cannot be run.
fn fail(
    conn: &mut Conn,
    ready: &Ready,
    request: &ClaimRequest,
    why: &StoreError,
) -> Result<(), StoreError> {
    tracing::error!(job.id = ready.job_id, error = %Chain(why), "a job cannot be read and is given up");
    let attempt = FinishedAttempt {
        job: JobId(ready.job_id),
        number: (ready.number + 1).unsigned_abs(),
        outcome: Outcome::Error,
        started_at: request.now,
        finished_at: request.now,
        exit_code: None,
        error: Some(Chain(why).to_string()),
        result: None,
        output_tail: None,
        checkpoint: None,
        next: AfterAttempt::End(FinalState::Failed),
    };
    finish(conn, request.node, &[attempt])?;
    Ok(())
}

/// The parts of queues that have ready jobs, as they are written and as they are meant, found by skipping from name to name: a DISTINCT
/// would read every row.
fn subqueues_with_work(conn: &mut Conn) -> Result<Vec<(String, Subqueue)>, StoreError> {
    let mut subqueues: Vec<(String, Subqueue)> = Vec::new();
    loop {
        let after = subqueues.last().map(|(name, _)| name.clone()).unwrap_or_default();
        let first = jobs_ready::table
            .filter(jobs_ready::subqueue.gt(after))
            .select(diesel::dsl::min(jobs_ready::subqueue));
        let next: Option<String> = on_each_backend!(conn, |inner| first.get_result(inner)?);
        let Some(name) = next else { return Ok(subqueues) };
        let Ok(subqueue) = name.parse::<Subqueue>();
        subqueues.push((name, subqueue));
    }
}

/// Which queues are paused, each looked up once.
#[derive(Debug, Default)]
struct Paused(BTreeMap<String, bool>);

impl Paused {
    fn is(&mut self, conn: &mut Conn, queue: &str) -> Result<bool, StoreError> {
        if let Some(known) = self.0.get(queue) {
            return Ok(*known);
        }
        let row = queues::table.find(queue).select(queues::paused_at);
        let paused_at: Option<Option<Micros>> =
            on_each_backend!(conn, |inner| row.get_result(inner).optional()?);
        let is_paused = paused_at.flatten().is_some();
        self.0.insert(queue.to_owned(), is_paused);
        Ok(is_paused)
    }
}

fn first_ready(conn: &mut Conn, subqueue: &str, limit: usize) -> Result<Vec<Ready>, StoreError> {
    let first = jobs_ready::table
        .filter(jobs_ready::subqueue.eq(subqueue))
        .order((jobs_ready::rank, jobs_ready::job_id))
        .limit(i64::try_from(limit).unwrap_or(i64::MAX));
    Ok(match conn {
        Conn::Sqlite(conn) => first.load(conn)?,
        // Other nodes claim at the same time: each steps over what another one is just taking.
        Conn::Postgres(conn) => first.for_update().skip_locked().load(conn)?,
    })
}

fn start(conn: &mut Conn, row: &Ready, request: &ClaimRequest) -> Result<(), StoreError> {
    let ready = DeleteReady { subqueue: &row.subqueue, rank: row.rank, job_id: row.job_id };
    let running = InsertRunning {
        job_id: row.job_id,
        number: row.number + 1,
        charged: row.charged,
        node_id: request.node.0,
        started_at: request.now.as_microsecond(),
        subqueue: &row.subqueue,
    };
    on_each_backend!(conn, |inner| {
        ready.execute(inner)?;
        running.execute(inner)?;
    });
    Ok(())
}

#[derive(Debug, Queryable)]
struct JobRow {
    id: i64,
    kind: String,
    queue: String,
    params: String,
    priority: i16,
    schedule: Option<String>,
    nominal_at: Option<Micros>,
    labels: Option<String>,
    settings: Option<String>,
    run_at: Micros,
}

fn load(conn: &mut Conn, ready: &[Ready]) -> Result<HashMap<i64, JobRow>, StoreError> {
    let rows: Vec<JobRow> = match conn {
        // One statement that stays prepared, a row at a time: a list of ids has another text for every length.
        Conn::Sqlite(conn) => {
            let mut rows = Vec::with_capacity(ready.len());
            for row in ready {
                rows.extend(JobToRun { id: row.job_id }.get_result(conn).optional()?);
            }
            rows
        }
        Conn::Postgres(conn) => {
            let ids: Vec<i64> = ready.iter().map(|row| row.job_id).collect();
            let columns = (
                jobs::id,
                jobs::kind,
                jobs::queue,
                jobs::params,
                jobs::priority,
                jobs::schedule,
                jobs::nominal_at,
                jobs::labels,
                jobs::settings,
                jobs::run_at,
            );
            jobs::table.filter(jobs::id.eq_any(ids)).select(columns).load(conn)?
        }
    };
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

fn claimed(
    conn: &mut Conn,
    ready: &Ready,
    row: JobRow,
    request: &ClaimRequest,
) -> Result<ClaimedJob, StoreError> {
    let settings: JobSettings = match &row.settings {
        Some(text) => from_json("job's settings", text)?,
        None => JobSettings::default(),
    };
    let first_started_at = match settings.total_timeout {
        Some(_) => Some(first_start(conn, row.id)?.unwrap_or(request.now)),
        None => None,
    };
    let schedule = match (row.schedule, row.nominal_at) {
        (Some(id), Some(nominal)) => Some((
            id.parse().map_err(|error: crate::model::ScheduleIdError| StoreError::Damaged {
                what: "job's schedule",
                detail: error.to_string(),
            })?,
            nominal.into(),
        )),
        _ => None,
    };
    Ok(ClaimedJob {
        id: JobId(row.id),
        number: (ready.number + 1).unsigned_abs(),
        charged: ready.charged.unsigned_abs(),
        kind: row.kind,
        params: from_json("job's params", &row.params)?,
        queue: row.queue,
        priority: Priority::new(row.priority.into()).unwrap_or_default(),
        schedule,
        labels: row
            .labels
            .as_deref()
            .map(|text| from_json("job's labels", text))
            .transpose()?
            .unwrap_or_default(),
        settings,
        run_at: row.run_at.into(),
        first_started_at,
        checkpoint: if ready.number > 0 { checkpoint(conn, row.id)? } else { None },
    })
}

fn checkpoint(conn: &mut Conn, id: i64) -> Result<Option<JsonText>, StoreError> {
    let kept = job_checkpoints::table.find(id).select(job_checkpoints::checkpoint);
    let text: Option<String> = kept.first(conn).optional()?;
    let value = text.map(|text| from_json::<serde_json::Value>("job's checkpoint", &text));
    Ok(value.transpose()?.as_ref().map(JsonText::from))
}

fn first_start(conn: &mut Conn, id: i64) -> Result<Option<Timestamp>, StoreError> {
    let first: Option<Micros> = attempts::table
        .filter(attempts::job_id.eq(id))
        .order(attempts::number)
        .select(attempts::started_at)
        .first(conn)
        .optional()?;
    Ok(first.map(Timestamp::from))
}
