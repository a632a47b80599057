//! Jobs on their way into the queue, and between its waiting rooms.

use std::borrow::Cow;
use std::collections::BTreeSet;

use diesel::prelude::*;
use jiff::Timestamp;

use super::hot::{InsertJob, InsertLive, InsertReady, LastRowId, Returning};
use super::priorities::Change;
use super::schema::{job_labels, job_priorities, jobs, jobs_blocked, jobs_scheduled, unique_keys};
use super::{
    Conn, Micros, StoreError, batches, dependencies, nodes, on_each_backend, whole_batches,
};
use crate::model::{
    Dependency, JobId, JobSettings, JobState, NewItem, NewJob, NodeId, NodeSelector, Priority,
    UniqueKey,
};

/// How many rows one statement names at most. SQLite stops at 32,766 variables; shorter statements are as fast.
pub(super) const CHUNK_ROWS: usize = 500;

/// What came of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Submitted {
    /// The job, new or the one that has the unique key.
    pub id: JobId,
    /// Where a new job went; `None` when the unique key was taken.
    pub state: Option<JobState>,
}

/// What every new row needs to know of its surroundings.
#[derive(Debug, Clone, Copy)]
pub struct SubmitContext {
    /// The time of the submission.
    pub now: Timestamp,
    /// The node that takes it.
    pub node: NodeId,
    /// How long a job has to wait to be worth one priority level more.
    pub ageing: crate::queue::Ageing,
}

/// Enqueues jobs: all of them or, on an error, none.
///
/// # Errors
/// When a dependency does not exist, or the database refuses.
pub fn submit(
    conn: &mut Conn,
    new: &[NewJob],
    context: SubmitContext,
) -> Result<Vec<Submitted>, StoreError> {
    // The rows of one call carry the id of its first row, which is 0 in that row itself because it is not known before.
    dependencies::hold_all(conn, new)?;
    let mut submission = 0;
    let mut submitted = Vec::with_capacity(new.len());
    for job in new {
        let resolved = resolved(job, &submitted)?;
        let done = submit_one(conn, &resolved, submission, context)?;
        if submission == 0 && done.state.is_some() {
            submission = done.id.0;
        }
        submitted.push(done);
    }
    Ok(submitted)
}

/// The job with places in the call as the jobs that were made there.
fn resolved<'a>(job: &'a NewJob, earlier: &[Submitted]) -> Result<Cow<'a, NewJob>, StoreError> {
    if job.depends_on_earlier.is_empty() {
        return Ok(Cow::Borrowed(job));
    }
    let mut resolved = job.clone();
    for (place, needs) in std::mem::take(&mut resolved.depends_on_earlier) {
        let on = earlier.get(place).ok_or_else(|| {
            StoreError::Conflict(format!(
                "job {place} of this call comes no earlier than what depends on it"
            ))
        })?;
        resolved.depends_on.push(Dependency { on: on.id, needs });
    }
    Ok(Cow::Owned(resolved))
}

/// The job with an item for each node that runs and takes work; for each that runs, where none does. Namesakes are one.
fn with_an_item_for_each_node(
    conn: &mut Conn,
    mut job: NewJob,
    now: Timestamp,
) -> Result<NewJob, StoreError> {
    let mut running = nodes::running(conn)?;
    running.retain(|node| Timestamp::from(node.lease_until) >= now);
    let takes_work = |node: &nodes::Node| node.draining_since.is_none();
    if running.iter().any(takes_work) {
        running.retain(takes_work);
    }
    let names: BTreeSet<String> = running.into_iter().map(|node| node.name).collect();
    if names.is_empty() {
        return Err(StoreError::Conflict("no node runs that could do it".to_owned()));
    }
    let item = |name: String| NewItem {
        node: Some(NodeSelector::Named(name.clone())),
        params: job.params.clone(),
        name,
    };
    job.items = names.into_iter().map(item).collect();
    Ok(job)
}

pub(super) fn submit_one(
    conn: &mut Conn,
    job: &NewJob,
    submission: i64,
    context: SubmitContext,
) -> Result<Submitted, StoreError> {
    let expanded;
    let job = if job.on_every_node {
        expanded = with_an_item_for_each_node(conn, job.clone(), context.now)?;
        &expanded
    } else {
        job
    };
    if let Some(unique) = &job.unique
        && let Some(holder) = holder_of(conn, &unique.key, context.now)?
    {
        return Ok(Submitted { id: holder, state: None });
    }
    let id = insert(conn, job, submission, context)?;
    if let Some(unique) = &job.unique
        && !take_key(conn, unique, id, context.now)?
    {
        // Another node was faster by a moment.
        diesel::delete(jobs::table.find(id)).execute(conn)?;
        return match holder_of(conn, &unique.key, context.now)? {
            Some(holder) => Ok(Submitted { id: holder, state: None }),
            None => Err(StoreError::Busy),
        };
    }
    for (key, value) in &job.labels {
        let row = (job_labels::label.eq(format!("{key}={value}")), job_labels::job_id.eq(id));
        diesel::insert_into(job_labels::table).values(row).execute(conn)?;
    }
    if let Some((schedule, _)) = &job.schedule {
        let live = InsertLive { schedule: schedule.as_str(), job_id: id };
        on_each_backend!(conn, |inner| live.execute(inner)?);
    }
    if job.settings.whole_batch && !job.items.is_empty() {
        whole_batches::submit_items(conn, id, &job.items)?;
    } else if !job.items.is_empty() {
        // What the batch waits for, its items wait for; it is over when they are.
        batches::submit_items(conn, job, id, submission, context)?;
        return Ok(Submitted { id: JobId(id), state: Some(JobState::Running) });
    }
    let state = if dependencies::add(conn, JobId(id), job)? {
        diesel::insert_into(jobs_blocked::table)
            .values(jobs_blocked::job_id.eq(id))
            .execute(conn)?;
        JobState::Blocked
    } else {
        let place = Place {
            id,
            subqueue: job.subqueue().to_string(),
            rank: context.ageing.rank(job.run_at, job.priority),
            number: 0,
            charged: 0,
        };
        enter(conn, &place, job.run_at, context.now)?;
        JobState::Pending
    };
    Ok(Submitted { id: JobId(id), state: Some(state) })
}

fn insert(
    conn: &mut Conn,
    job: &NewJob,
    submission: i64,
    context: SubmitContext,
) -> Result<i64, StoreError> {
    let labels = (!job.labels.is_empty()).then(|| to_json("labels", &job.labels)).transpose()?;
    let settings = (job.settings != JobSettings::default())
        .then(|| to_json("settings", &job.settings))
        .transpose()?;
    let schedule = job.schedule.as_ref();
    let row = InsertJob {
        submission,
        kind: &job.kind,
        schedule: schedule.map(|(id, _)| id.as_str()),
        nominal_at: schedule.map(|(_, nominal)| nominal.as_microsecond()),
        queue: &job.queue,
        priority: i16::from(job.priority.level()),
        rank: context.ageing.rank(job.run_at, job.priority),
        params: job.params.as_str(),
        labels,
        settings,
        unique_key: job.unique.as_ref().map(|unique| unique.key.as_str()),
        run_at: job.run_at.as_microsecond(),
        created_at: context.now.as_microsecond(),
        actor: job.actor.as_str(),
        node_id: context.node.0,
    };
    Ok(match conn {
        Conn::Sqlite(conn) => {
            row.execute(conn)?;
            LastRowId {}.get_result(conn)?
        }
        Conn::Postgres(conn) => Returning(row).get_result(conn)?,
    })
}

fn holder_of(conn: &mut Conn, key: &str, now: Timestamp) -> Result<Option<JobId>, StoreError> {
    let row = unique_keys::table.find(key).select((unique_keys::job_id, unique_keys::expires_at));
    let held: Option<(i64, Option<Micros>)> =
        on_each_backend!(conn, |inner| row.get_result(inner).optional()?);
    let Some((job, expires_at)) = held else { return Ok(None) };
    if expires_at.is_none_or(|at| Timestamp::from(at) > now) {
        return Ok(Some(JobId(job)));
    }
    diesel::delete(unique_keys::table.find(key)).execute(conn)?;
    Ok(None)
}

/// Returns whether the key was free. On PostgreSQL this waits for another node that is just taking it.
fn take_key(
    conn: &mut Conn,
    unique: &UniqueKey,
    id: i64,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let expires_at = unique.period.map(|period| (now + period.get()).as_microsecond());
    let row = (
        unique_keys::key.eq(&unique.key),
        unique_keys::job_id.eq(id),
        unique_keys::expires_at.eq(expires_at),
    );
    let taken = on_each_backend!(conn, |inner| diesel::insert_into(unique_keys::table)
        .values(row)
        .on_conflict_do_nothing()
        .execute(inner)?);
    Ok(taken > 0)
}

/// Gives a job that lives again the unique key that it had. Returns who else has it by now, if somebody has.
pub(super) fn take_key_again(
    conn: &mut Conn,
    key: &str,
    id: JobId,
    now: Timestamp,
) -> Result<Option<JobId>, StoreError> {
    match holder_of(conn, key, now)? {
        // Its period is not over yet.
        Some(holder) if holder == id => Ok(None),
        Some(holder) => Ok(Some(holder)),
        None => {
            let unique = UniqueKey { key: key.to_owned(), period: None };
            if take_key(conn, &unique, id.0, now)? { Ok(None) } else { Err(StoreError::Busy) }
        }
    }
}

/// What the part of its queue that a job waits in depends on, beside its priority.
type SubqueueColumns = (jobs::queue, jobs::kind, jobs::settings);
const SUBQUEUE_COLUMNS: SubqueueColumns = (jobs::queue, jobs::kind, jobs::settings);

/// Where a job stands when it is ready: in this part of its queue, with this rank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) subqueue: String,
    pub(super) rank: i64,
}

impl Standing {
    /// From the columns of a job's row, and from what somebody has made of its priority since.
    fn new(
        (queue, kind, settings): (String, String, Option<String>),
        asked: Change,
        changed: Option<Change>,
    ) -> Result<Self, StoreError> {
        let settings: JobSettings = match &settings {
            Some(text) => from_json("job's settings", text)?,
            None => JobSettings::default(),
        };
        let (priority, rank) = changed.unwrap_or(asked);
        let priority = Priority::new(priority.into()).unwrap_or_default();
        Ok(Self { subqueue: settings.subqueue(&queue, priority, &kind).to_string(), rank })
    }
}

/// Where a job stands; none when there is no such job.
pub(super) fn standing(conn: &mut Conn, id: i64) -> Result<Option<Standing>, StoreError> {
    let row = jobs::table
        .left_join(job_priorities::table.on(job_priorities::job_id.eq(jobs::id)))
        .filter(jobs::id.eq(id))
        .select((
            SUBQUEUE_COLUMNS,
            (jobs::priority, jobs::rank),
            (job_priorities::priority, job_priorities::rank).nullable(),
        ));
    let row: Option<(_, Change, Option<Change>)> =
        on_each_backend!(conn, |inner| row.first(inner).optional()?);
    row.map(|(columns, asked, changed)| Standing::new(columns, asked, changed)).transpose()
}

/// A live job's place in its queue, which it keeps for life.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) id: i64,
    pub(super) subqueue: String,
    pub(super) rank: i64,
    /// Executions so far.
    pub(super) number: i32,
    /// Executions so far that count against the retry limit.
    pub(super) charged: i32,
}

/// Puts a job where it waits: among the ready ones, or among the scheduled ones while `run_at` lies ahead.
///
/// A future job in front of the ready ones would make every claim step over it, so it waits elsewhere until it is due.
pub(super) fn enter(
    conn: &mut Conn,
    place: &Place,
    run_at: Timestamp,
    now: Timestamp,
) -> Result<(), StoreError> {
    if run_at > now {
        let row = (
            jobs_scheduled::run_at.eq(run_at.as_microsecond()),
            jobs_scheduled::job_id.eq(place.id),
            jobs_scheduled::number.eq(place.number),
            jobs_scheduled::charged.eq(place.charged),
        );
        on_each_backend!(conn, |inner| diesel::insert_into(jobs_scheduled::table)
            .values(row)
            .execute(inner)?);
    } else {
        let row = InsertReady {
            subqueue: &place.subqueue,
            rank: place.rank,
            job_id: place.id,
            number: place.number,
            charged: place.charged,
        };
        on_each_backend!(conn, |inner| row.execute(inner)?);
    }
    Ok(())
}

/// The place of a job that is in no waiting room right now, with the given counts.
pub(super) fn place_of(
    conn: &mut Conn,
    id: i64,
    number: i32,
    charged: i32,
) -> Result<Place, StoreError> {
    let Standing { subqueue, rank } = standing(conn, id)?.ok_or_else(|| StoreError::Damaged {
        what: "live job",
        detail: format!("job {id} has no row"),
    })?;
    Ok(Place { id, subqueue, rank, number, charged })
}

/// Moves jobs that have become due among the ready ones. Returns how many it moved: fewer than `limit` when none is left.
///
/// # Errors
/// When the database refuses.
pub fn promote(conn: &mut Conn, now: Timestamp, limit: i64) -> Result<usize, StoreError> {
    let due = jobs_scheduled::table
        .inner_join(jobs::table.on(jobs::id.eq(jobs_scheduled::job_id)))
        .left_join(job_priorities::table.on(job_priorities::job_id.eq(jobs_scheduled::job_id)))
        .filter(jobs_scheduled::run_at.le(now.as_microsecond()))
        .order((jobs_scheduled::run_at, jobs_scheduled::job_id))
        .limit(limit)
        .select((
            jobs_scheduled::run_at,
            jobs::id,
            SUBQUEUE_COLUMNS,
            (jobs::priority, jobs::rank),
            (job_priorities::priority, job_priorities::rank).nullable(),
            (jobs_scheduled::number, jobs_scheduled::charged),
        ));
    type Row = (i64, i64, (String, String, Option<String>), Change, Option<Change>, (i32, i32));
    let due: Vec<Row> = match conn {
        Conn::Sqlite(conn) => due.load(conn)?,
        // Other nodes promote at the same time: each steps over what another one is just moving.
        Conn::Postgres(conn) => {
            let free: Vec<i64> = jobs_scheduled::table
                .filter(jobs_scheduled::run_at.le(now.as_microsecond()))
                .order((jobs_scheduled::run_at, jobs_scheduled::job_id))
                .limit(limit)
                .select(jobs_scheduled::job_id)
                .for_update()
                .skip_locked()
                .load(conn)?;
            due.filter(jobs_scheduled::job_id.eq_any(free)).load(conn)?
        }
    };
    let count = due.len();
    for (run_at, id, columns, asked, changed, (number, charged)) in due {
        let row = jobs_scheduled::table.find((run_at, id));
        on_each_backend!(conn, |inner| diesel::delete(row).execute(inner)?);
        let Standing { subqueue, rank } = Standing::new(columns, asked, changed)?;
        let place = Place { id, subqueue, rank, number, charged };
        enter(conn, &place, now, now)?;
    }
    Ok(count)
}

/// When the next scheduled job becomes due.
///
/// # Errors
/// When the database refuses.
pub fn next_scheduled(conn: &mut Conn) -> Result<Option<Timestamp>, StoreError> {
    let first = jobs_scheduled::table.select(diesel::dsl::min(jobs_scheduled::run_at));
    let first: Option<i64> = on_each_backend!(conn, |inner| first.get_result(inner)?);
    Ok(first.map(|at| Micros(at).into()))
}

pub(super) fn to_json(
    what: &'static str,
    value: &impl serde::Serialize,
) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|error| StoreError::Damaged { what, detail: error.to_string() })
}

pub(super) fn from_json<T: serde::de::DeserializeOwned>(
    what: &'static str,
    text: &str,
) -> Result<T, StoreError> {
    serde_json::from_str(text)
        .map_err(|error| StoreError::Damaged { what, detail: error.to_string() })
}
