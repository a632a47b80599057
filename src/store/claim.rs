//! Taking jobs out of the queue to execute them.

use std::collections::HashMap;

use diesel::prelude::*;
use jiff::Timestamp;

use super::breakers::{self, HeldTo};
use super::finish::finish;
use super::hot::{
    DeleteReady, InsertRunning, JobToRun, SubqueuesWithWork, execute_and_load, load_each,
};
use super::jobs::from_json;
use super::schema::{attempts, job_checkpoints, jobs_ready};
use super::{Conn, Micros, StoreError, buckets, limits, priorities, queues};
use crate::model::{
    AfterAttempt, Chain, FinalState, FinishedAttempt, HumanDuration, JobId, JobSettings, JsonText,
    Labels, NodeId, NodeIdentity, Outcome, Priority, ScheduleId, Subqueue,
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
    /// How many more at the most that no limit and no rate concerns. They count as running and wait for a worker.
    pub ahead: usize,
    /// What files declare. What operators set comes before that.
    pub limits: Limits,
}

/// What came of a claim.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Claim {
    /// The jobs, in the order in which they should start.
    pub jobs: Vec<ClaimedJob>,
    /// When a rate or a breaker lets one more job start that waits, as far as there is room for it.
    pub opens_at: Option<Timestamp>,
    /// How long the params of the jobs are as text, in bytes, all together.
    pub params_bytes: usize,
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
    /// Its place in the order of all that wait: the lowest starts first.
    pub rank: i64,
    /// The schedule that made it, and the instant it was made for.
    pub schedule: Option<(ScheduleId, Timestamp)>,
    /// Its marks.
    pub labels: Labels,
    /// How it is treated.
    pub settings: JobSettings,
    /// Not before then.
    pub run_at: Timestamp,
    /// When the first execution before this one began, where that is needed to bound all of them. None where this is the first: between its claim
    /// and its begin it waits for its turn, which counts for nothing.
    pub first_started_at: Option<Timestamp>,
    /// Where an earlier execution got to.
    pub checkpoint: Option<JsonText>,
    /// What an operator has set as the longest attempt for jobs of its queue that do not say.
    pub queue_timeout: Option<HumanDuration>,
    /// The breakers that its end counts for.
    pub held_to: HeldTo,
}

/// A waiting job, or one that waited.
#[derive(Debug, Queryable)]
pub(super) struct Ready {
    pub(super) subqueue: String,
    pub(super) rank: i64,
    pub(super) job_id: i64,
    /// How often it was executed before.
    pub(super) number: i32,
    pub(super) charged: i32,
}

/// Takes the first jobs of the queue that the node has room for, in the order in which they should start.
///
/// A job whose row cannot be read (a damaged value) fails at once, with an attempt that says why: left in the queue, it would
/// make every claim fail.
///
/// # Errors
/// When the database refuses.
pub fn claim(conn: &mut Conn, request: &ClaimRequest) -> Result<Claim, StoreError> {
    let mut subqueues = subqueues_with_work(conn)?;
    let queues = queues::stored(conn)?;
    subqueues.retain(|(_, part)| {
        let is_ours = part.node.as_ref().is_none_or(|selector| request.identity.fits(selector));
        let is_open = queues.get(&part.queue).is_none_or(|queue| !queue.is_paused);
        is_ours && is_open && request.limits.know(part)
    });
    let limits = limits::in_force(conn, &request.limits, &queues)?;
    let (mut room, time) = room(conn, &limits, request, &subqueues)?;
    let mut ready: Vec<(&Subqueue, Ready)> = Vec::new();
    let mut not_exhausted: Vec<&Subqueue> = Vec::new();
    // Nothing is taken ahead behind the last known row of a subqueue that has more of them.
    let mut known_until = (i64::MAX, i64::MAX);
    let plain = match request.ahead {
        0 => 0,
        _ => subqueues.iter().filter(|(_, part)| !limits.concern(part)).count(),
    };
    for (name, subqueue) in &subqueues {
        let most = room.to_look_at(subqueue, plain);
        let first = if most > 0 { first_ready(conn, name, most)? } else { Vec::new() };
        if first.len() >= room.of(subqueue) {
            not_exhausted.push(subqueue);
        }
        if let Some(last) = first.last().filter(|_| first.len() == most && plain > 0)
            && !limits.concern(subqueue)
        {
            known_until = known_until.min((last.rank, last.job_id));
        }
        ready.extend(first.into_iter().map(|row| (subqueue, row)));
    }
    // Each part of a queue is in order, and all of them together come in the same order.
    ready.sort_by_key(|(_, row)| (row.rank, row.job_id));
    let ready: Vec<Ready> = ready
        .into_iter()
        .filter_map(|(subqueue, row)| {
            if (row.rank, row.job_id) > known_until {
                room.end_ahead();
            }
            room.take(subqueue).then_some(row)
        })
        .collect();
    let mut rows = start(conn, &ready, request)?;
    buckets::store(conn, room.buckets())?;
    breakers::store_probes(conn, room.all_passages(), &ready)?;
    let opens_at = room.opens_at(not_exhausted.into_iter());
    let mut jobs = Vec::with_capacity(ready.len());
    let mut params_bytes = 0;
    for ready in &ready {
        let Some(row) = rows.remove(&ready.job_id) else { continue };
        params_bytes += row.params.len();
        let queue = queues.get(&row.queue);
        let queue_timeout = queue.and_then(|queue| queue.set.timeout);
        match claimed(conn, ready, row) {
            Ok(job) => {
                let held_to = breakers::held_to(&limits, &ready.subqueue);
                jobs.push(ClaimedJob { queue_timeout, held_to, ..job });
            }
            Err(damaged @ StoreError::Damaged { .. }) => fail(conn, ready, request, &damaged)?,
            Err(error) => return Err(error),
        }
    }
    let opens_at = opens_at.map(|at| request.now + at.duration_since(time));
    Ok(Claim { jobs, opens_at, params_bytes })
}

/// What there is room for, and the time that rates go by. What no limit and no rate has a say in asks for nothing and takes no lock.
fn room<'a>(
    conn: &mut Conn,
    limits: &'a Limits,
    request: &ClaimRequest,
    subqueues: &[(String, Subqueue)],
) -> Result<(Room<'a>, Timestamp), StoreError> {
    let parts = || subqueues.iter().map(|(_, part)| part);
    if limits.need_other_nodes(parts()) {
        limits::lock(conn)?;
    }
    let mut room = Room::new(limits, (request.slots, request.normal_slots.min(request.slots)))
        .with_ahead(request.ahead);
    if limits.need_what_runs(parts()) {
        room = room.beside(&limits::running(conn)?, Some(request.node));
    }
    let (rates, breakers) = (limits.rates(parts()), limits.breakers(parts()));
    if rates.is_empty() && breakers.is_empty() {
        return Ok((room, request.now));
    }
    let time = buckets::time(conn, request.now)?;
    if !breakers.is_empty() {
        room = room.with_passages(breakers::passages_to_claim(conn, &breakers, time)?);
    }
    Ok((room.with_buckets(buckets::load(conn, rates, time)?), time))
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
pub(super) fn subqueues_with_work(conn: &mut Conn) -> Result<Vec<(String, Subqueue)>, StoreError> {
    let names: Vec<String> = match conn {
        Conn::Sqlite(conn) => {
            let mut names: Vec<String> = Vec::new();
            while let Some(name) = subqueue_after(conn, names.last())? {
                names.push(name);
            }
            names
        }
        // The server does the skipping, which would be a round trip for each name.
        Conn::Postgres(conn) => SubqueuesWithWork {}.load(conn)?,
    };
    let meant = |name: String| {
        let Ok(subqueue) = name.parse::<Subqueue>();
        (name, subqueue)
    };
    Ok(names.into_iter().map(meant).collect())
}

fn subqueue_after(
    conn: &mut SqliteConnection,
    name: Option<&String>,
) -> QueryResult<Option<String>> {
    jobs_ready::table
        .filter(jobs_ready::subqueue.gt(name.map_or("", String::as_str)))
        .select(diesel::dsl::min(jobs_ready::subqueue))
        .get_result(conn)
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

/// Moves jobs from the ready ones to those that run, and reads them.
fn start<'a>(
    conn: &mut Conn,
    ready: &'a [Ready],
    request: &ClaimRequest,
) -> Result<HashMap<i64, JobRow>, StoreError> {
    let left = |row: &'a Ready| DeleteReady {
        subqueue: &row.subqueue,
        rank: row.rank,
        job_id: row.job_id,
    };
    let running = |row: &'a Ready| InsertRunning {
        job_id: row.job_id,
        number: row.number + 1,
        charged: row.charged,
        node_id: request.node.0,
        started_at: request.now.as_microsecond(),
        subqueue: &row.subqueue,
    };
    let moved = (ready.iter().map(left).collect(), ready.iter().map(running).collect());
    let asked = ready.iter().map(|row| JobToRun { id: row.job_id }).collect();
    let rows: Vec<JobRow> = execute_and_load(conn, moved, asked)?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

#[derive(Debug, Queryable)]
pub(super) struct JobRow {
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
    rank: i64,
}

/// The row of a job; none when there is no such job.
pub(super) fn load(conn: &mut Conn, id: i64) -> Result<Option<JobRow>, StoreError> {
    Ok(load_each(conn, [JobToRun { id }])?.pop())
}

/// What a worker has to know of a job.
pub(super) fn claimed(
    conn: &mut Conn,
    ready: &Ready,
    row: JobRow,
) -> Result<ClaimedJob, StoreError> {
    let settings: JobSettings = match &row.settings {
        Some(text) => from_json("job's settings", text)?,
        None => JobSettings::default(),
    };
    let first_started_at = match settings.total_timeout {
        Some(_) => first_start(conn, row.id, ready.charged)?,
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
    // A rank that is not its row's tells that somebody has changed its priority.
    let changed = if row.rank == ready.rank { None } else { priorities::change_of(conn, row.id)? };
    let (priority, rank) = changed.unwrap_or((row.priority, row.rank));
    Ok(ClaimedJob {
        id: JobId(row.id),
        number: (ready.number + 1).unsigned_abs(),
        charged: ready.charged.unsigned_abs(),
        kind: row.kind,
        params: from_json("job's params", &row.params)?,
        queue: row.queue,
        priority: Priority::new(priority.into()).unwrap_or_default(),
        rank,
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
        queue_timeout: None,
        held_to: HeldTo::new(),
    })
}

fn checkpoint(conn: &mut Conn, id: i64) -> Result<Option<JsonText>, StoreError> {
    let kept = job_checkpoints::table.find(id).select(job_checkpoints::checkpoint);
    let text: Option<String> = kept.first(conn).optional()?;
    let value = text.map(|text| from_json::<serde_json::Value>("job's checkpoint", &text));
    Ok(value.transpose()?.as_ref().map(JsonText::from))
}

/// When the first attempt began since the job was submitted, or tried again by hand: of those before that, none is among the charged ones.
fn first_start(conn: &mut Conn, id: i64, charged: i32) -> Result<Option<Timestamp>, StoreError> {
    let of_job = attempts::job_id.eq(id);
    let uncharged = Outcome::ALL.into_iter().filter(|outcome| !outcome.is_charged());
    let uncharged: Vec<&str> = uncharged.map(Outcome::as_str).collect();
    let last_before: Option<i32> = attempts::table
        .filter(of_job)
        .filter(attempts::outcome.ne_all(uncharged))
        .order(attempts::number.desc())
        .offset(charged.into())
        .limit(1)
        .select(attempts::number)
        .first(conn)
        .optional()?;
    let first: Option<Micros> = attempts::table
        .filter(of_job)
        .filter(attempts::number.gt(last_before.unwrap_or(0)))
        .order(attempts::number)
        .select(attempts::started_at)
        .first(conn)
        .optional()?;
    Ok(first.map(Timestamp::from))
}
