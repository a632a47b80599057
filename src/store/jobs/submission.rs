//! New jobs.

use std::borrow::Cow;
use std::collections::BTreeSet;

use diesel::prelude::*;
use jiff::Timestamp;

use super::keys::{holder_of, take_key};
use super::{Place, ahead, enter_all, to_json};
use crate::model::{
    Dependency, JobId, JobSettings, JobState, NewItem, NewJob, NodeId, NodeSelector,
};
use crate::store::hot::{
    InsertBlocked, InsertJob, InsertLabel, InsertLive, execute_each, new_job_ids,
};
use crate::store::schema::jobs;
use crate::store::{Conn, StoreError, batches, dependencies, nodes, whole_batches};

/// How many jobs are written together. It bounds what many large calls take of memory.
const JOBS_AT_ONCE: usize = 1000;

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

/// Jobs that are submitted together.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The jobs.
    pub jobs: &'a [NewJob],
    /// Their surroundings.
    pub context: SubmitContext,
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
    Ok(submit_calls(conn, &[Call { jobs: new, context }])?.concat())
}

/// Enqueues the jobs of several calls, one after the other: all of them or, on an error, none. What came of each call stands in its place.
///
/// Jobs that need nothing of those before them are written together.
///
/// # Errors
/// As those of [`submit`].
pub fn submit_calls(
    conn: &mut Conn,
    calls: &[Call<'_>],
) -> Result<Vec<Vec<Submitted>>, StoreError> {
    let jobs = calls.iter().flat_map(|call| call.jobs);
    dependencies::hold_all(conn, jobs.flat_map(|job| &job.settings.depends_on))?;
    let mut done: Vec<Done> = calls.iter().map(|_| Done::default()).collect();
    let mut together: Vec<(usize, &NewJob)> = Vec::new();
    for (index, Call { jobs, context }) in calls.iter().enumerate() {
        for job in *jobs {
            let is_alone = stands_alone(job);
            if !is_alone || together.len() == JOBS_AT_ONCE {
                submit_together(conn, &together, calls, &mut done)?;
                together.clear();
            }
            if is_alone {
                together.push((index, job));
                continue;
            }
            let call = &mut done[index];
            let resolved = resolved(job, &call.submitted)?;
            let submitted = submit_one(conn, &resolved, call.submission, *context)?;
            call.add(submitted);
        }
    }
    submit_together(conn, &together, calls, &mut done)?;
    Ok(done.into_iter().map(|call| call.submitted).collect())
}

/// What was done of a call.
#[derive(Default)]
struct Done {
    /// What the rows of one call carry: the id of its first row. It is 0 in that row itself.
    submission: i64,
    submitted: Vec<Submitted>,
}

impl Done {
    fn add(&mut self, submitted: Submitted) {
        if self.submission == 0 && submitted.state.is_some() {
            self.submission = submitted.id.0;
        }
        self.submitted.push(submitted);
    }
}

/// Whether nothing that other jobs of the same calls do has a say in what becomes of the job.
fn stands_alone(job: &NewJob) -> bool {
    let takes_a_key = job.key().is_some();
    let is_many = job.on_every_node || !job.items.is_empty();
    !takes_a_key && !is_many && job.depends_on_earlier.is_empty()
}

/// Enqueues jobs that stand alone, each with the place of its call.
fn submit_together(
    conn: &mut Conn,
    jobs: &[(usize, &NewJob)],
    calls: &[Call<'_>],
    done: &mut [Done],
) -> Result<(), StoreError> {
    if jobs.is_empty() {
        return Ok(());
    }
    let ids = new_job_ids(conn, jobs.len())?;
    let mut firsts: Vec<i64> = done.iter().map(|call| call.submission).collect();
    let mut new = Vec::with_capacity(jobs.len());
    for (id, (index, job)) in ids.into_iter().zip(jobs) {
        let first = &mut firsts[*index];
        new.push(New { id, submission: *first, job, context: calls[*index].context });
        if *first == 0 {
            *first = id;
        }
    }
    for ((index, _), submitted) in jobs.iter().zip(write(conn, &new)?) {
        done[*index].add(submitted);
    }
    Ok(())
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
        resolved.settings.depends_on.push(Dependency { on: on.id, needs });
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
    if running.iter().any(nodes::Node::takes_work) {
        running.retain(nodes::Node::takes_work);
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

/// Enqueues a job of any form.
pub(in crate::store) fn submit_one(
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
    if let Some(unique) = job.key()
        && let Some(holder) = holder_of(conn, &unique.key, context.now)?
    {
        return Ok(Submitted { id: holder, state: None });
    }
    let id = new_job_ids(conn, 1)?[0];
    let new = New { id, submission, job, context };
    insert(conn, &[new])?;
    if let Some(unique) = job.key()
        && !take_key(conn, unique, id, context.now)?
    {
        // Another node was faster by a moment.
        diesel::delete(jobs::table.find(id)).execute(conn)?;
        return match holder_of(conn, &unique.key, context.now)? {
            Some(holder) => Ok(Submitted { id: holder, state: None }),
            None => Err(StoreError::Busy),
        };
    }
    mark(conn, &[new])?;
    if job.settings.whole_batch && !job.items.is_empty() {
        whole_batches::submit_items(conn, id, &job.items)?;
    } else if !job.items.is_empty() {
        // What the batch waits for, its items wait for; it is over when they are.
        batches::submit_items(conn, job, id, submission, context)?;
        return Ok(Submitted { id: JobId(id), state: Some(JobState::Running) });
    }
    let state = let_wait(conn, &[new])?.first().copied();
    Ok(Submitted { id: JobId(id), state })
}

/// A job that is about to be written.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct New<'a> {
    pub(in crate::store) id: i64,
    /// The first job of the call, or 0 in that one's own row.
    pub(in crate::store) submission: i64,
    pub(in crate::store) job: &'a NewJob,
    pub(in crate::store) context: SubmitContext,
}

/// Writes jobs without keys and items, and puts them where they wait.
pub(in crate::store) fn write(
    conn: &mut Conn,
    new: &[New<'_>],
) -> Result<Vec<Submitted>, StoreError> {
    insert(conn, new)?;
    mark(conn, new)?;
    let states = let_wait(conn, new)?;
    let submitted =
        |(new, state): (&New<'_>, _)| Submitted { id: JobId(new.id), state: Some(state) };
    Ok(new.iter().zip(states).map(submitted).collect())
}

/// The jobs' own rows.
fn insert<'a>(conn: &mut Conn, new: &[New<'a>]) -> Result<(), StoreError> {
    // What is not the rule is turned into text before, where it can fail.
    let text = |New { job, .. }: &New<'_>| {
        let labels =
            (!job.labels.is_empty()).then(|| to_json("labels", &job.labels)).transpose()?;
        let settings = (job.settings != JobSettings::default())
            .then(|| to_json("settings", &job.settings))
            .transpose()?;
        Ok((labels, settings))
    };
    let texts: Vec<_> = new.iter().map(text).collect::<Result<_, StoreError>>()?;
    let row = |(new, (labels, settings)): (&New<'a>, _)| {
        let New { id, submission, job, context } = *new;
        let schedule = job.schedule.as_ref();
        InsertJob {
            id,
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
            unique_key: job.key().map(|unique| unique.key.as_str()),
            run_at: job.run_at.as_microsecond(),
            created_at: context.now.as_microsecond(),
            actor: job.actor.as_str(),
            node_id: context.node.0,
        }
    };
    execute_each(conn, new.iter().zip(texts).map(row))?;
    Ok(())
}

/// What jobs are found by: their marks, and their schedules.
fn mark(conn: &mut Conn, new: &[New<'_>]) -> Result<(), StoreError> {
    let labels = new.iter().flat_map(|New { id, job, .. }| {
        let label = |(key, value)| InsertLabel { label: format!("{key}={value}"), job_id: *id };
        job.labels.iter().map(label)
    });
    execute_each(conn, labels)?;
    // A dry run is not in the way of its schedule's work.
    let real = new.iter().filter(|new| !new.job.settings.dry_run);
    let live = real.filter_map(|New { id, job, .. }| {
        let (schedule, _) = job.schedule.as_ref()?;
        Some(InsertLive { schedule: schedule.as_str(), job_id: *id })
    });
    execute_each(conn, live)?;
    Ok(())
}

/// Puts jobs where they wait, and tells in which state each is there.
fn let_wait(conn: &mut Conn, new: &[New<'_>]) -> Result<Vec<JobState>, StoreError> {
    let mut states = Vec::with_capacity(new.len());
    let mut blocked = Vec::new();
    let mut places = Vec::new();
    for New { id, job, context, .. } in new {
        if dependencies::add(conn, JobId(*id), job)? {
            states.push(JobState::Blocked);
            blocked.push(InsertBlocked { job_id: *id });
            continue;
        }
        states.push(JobState::Pending);
        let place = Place {
            id: *id,
            subqueue: job.subqueue().to_string(),
            rank: context.ageing.rank(job.run_at, job.priority),
            number: 0,
            charged: 0,
        };
        places.push((place, ahead(job.run_at, context.now)));
    }
    execute_each(conn, blocked)?;
    enter_all(conn, &places)?;
    Ok(states)
}
