//! What people order to be done to jobs that exist, to one of them or to a hundred thousand.
//!
//! An order is carried out in steps, each a transaction of its own over so few jobs that claims never wait long. A step is done as a whole or not
//! at all; an order that breaks off between two of them has been done for the jobs that came first and can be given again. Everything that is
//! done to a job is noted for the audit log in the same step.

use std::collections::HashMap;

use diesel::prelude::*;
use serde_json::{Value, json};

use super::audit::append_event;
use super::dependencies::{Hopeless, waited_for};
use super::history::Among;
use super::jobs::SubmitContext;
use super::priorities::{Reprioritised, reprioritise};
use super::removal::{Cancelled, Redriven, cancel, redrive};
use super::schema::{batch_items, job_replacements, job_results, jobs};
use super::whereabouts::{Whereabouts, hold, state_of};
use super::{Conn, Micros, StoreError, batch_orders, batches, prune};
use crate::model::{Actor, AuditEvent, JobId, JobState, Priority};

/// How many jobs a step is about at the most.
pub const STEP_JOBS: usize = 1000;

/// How much of a dropped job's error its line in the audit log has.
const MAX_ERROR_CHARS: usize = 500;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Cancel them.
    Cancel,
    /// Try them again.
    Retry,
    /// Delete them for good, with their attempts.
    Drop,
    /// Give them another priority.
    Reprioritise(Priority),
}

impl Order {
    /// What it is called in the audit log.
    #[must_use]
    pub fn event(self) -> &'static str {
        match self {
            Self::Cancel => "job.cancelled",
            Self::Retry => "job.retried",
            Self::Drop => "job.dropped",
            Self::Reprioritise(_) => "job.reprioritised",
        }
    }

    /// Among which jobs it can be done.
    #[must_use]
    pub fn possible(self) -> &'static [Among] {
        use Among::{OpenBatches, State};
        use JobState::{Blocked, Cancelled, Completed, Failed, Pending, Retrying, Running};
        match self {
            Self::Cancel => &[State(Blocked), State(Pending), State(Running), State(Retrying)],
            Self::Retry => &[State(Failed), State(Cancelled), State(Retrying)],
            Self::Drop => &[State(Completed), State(Failed), State(Cancelled)],
            // Of a batch those items have the new priority that wait.
            Self::Reprioritise(_) => {
                &[State(Blocked), State(Pending), State(Retrying), OpenBatches]
            }
        }
    }

    /// Among which jobs in that state it can be done.
    #[must_use]
    pub fn possible_in(self, state: JobState) -> Option<Among> {
        self.possible().iter().copied().find(|among| among.state() == state)
    }
}

/// What came of an order for one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    /// It was done.
    Done,
    /// It was done, and the job waits again for those that it depends on.
    Blocked,
    /// What it depends on has to be tried again first.
    Hopeless(Hopeless),
    /// This job waits for it, or for the batch of which it is an item.
    WaitedFor(JobId),
    /// Its running attempt was told to stop.
    Requested,
    /// It was over before.
    AlreadyOver,
    /// It is in a state in which this cannot be done, or no more in the one that it was chosen for.
    NotNow(JobState),
    /// It is a batch that is over, and one of its items lives.
    ItemLives(JobId),
    /// This job does its work with other params.
    ReplacedBy(JobId),
    /// This job has its unique key by now.
    KeyTakenBy(JobId),
    /// There is no such job.
    Unknown,
}

/// Who orders, and when.
#[derive(Debug, Clone)]
pub struct OrderedBy {
    /// Who.
    pub actor: Actor,
    /// When, and on which node.
    pub context: SubmitContext,
}

/// A step that was carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What came of it for each job, in their order.
    pub came: Vec<Came>,
    /// The running jobs that are to be told to stop, those of items among them.
    pub to_stop: Vec<JobId>,
    /// The batches of which this was the first step only; [`batch_orders::finish`] takes the others.
    pub unfinished: Vec<JobId>,
}

/// What an order would come to for a job, as far as where it is tells; `None`: it would be tried. As when it is carried out, a `state` is the
/// one that the job still has to be in.
///
/// # Errors
/// When the database refuses.
pub fn foresee(
    conn: &mut Conn,
    order: Order,
    id: JobId,
    state: Option<JobState>,
) -> Result<Option<Came>, StoreError> {
    let Some(found) = state_of(conn, id.0)? else { return Ok(Some(Came::Unknown)) };
    if state.is_some_and(|state| state != found) {
        return Ok(Some(Came::NotNow(found)));
    }
    let is_possible = match order.possible_in(found) {
        Some(Among::State(_)) => true,
        Some(Among::OpenBatches) => batches::is_open(conn, id.0)?,
        None => false,
    };
    Ok(match order {
        _ if is_possible => None,
        Order::Cancel => Some(Came::AlreadyOver),
        _ => Some(Came::NotNow(found)),
    })
}

/// Carries out one step of an order: for those jobs, where one is given only for those that are still in that `state`. Nothing else of what
/// a job is chosen by can change.
///
/// # Errors
/// When the database refuses; nothing of the step is done then.
pub fn carry_out(
    conn: &mut Conn,
    order: Order,
    ids: &[i64],
    state: Option<JobState>,
    by: &OrderedBy,
) -> Result<Step, StoreError> {
    let mut all = Vec::with_capacity(ids.len());
    let (mut to_stop, mut unfinished) = (Vec::new(), Vec::new());
    for id in ids {
        let found = if state.is_some() { state_of(conn, *id)? } else { None };
        let came = match found.filter(|found| Some(*found) != state) {
            Some(other) => Came::NotNow(other),
            None => carry_out_one(conn, order, JobId(*id), by)?,
        };
        if came == Came::Requested {
            to_stop.push(JobId(*id));
            to_stop.extend(batches::running_items(conn, JobId(*id))?);
        }
        let is_begun =
            matches!((order, &came), (Order::Cancel, Came::Requested) | (Order::Retry, Came::Done));
        if is_begun && batch_orders::is_unfinished(conn, *id)? {
            unfinished.push(JobId(*id));
        }
        all.push(came);
    }
    if order == Order::Drop {
        let gone = ids.iter().zip(&all).filter(|(_, came)| **came == Came::Done);
        let gone: Vec<i64> = gone.map(|(id, _)| *id).collect();
        prune::delete(conn, &gone)?;
    }
    Ok(Step { came: all, to_stop, unfinished })
}

fn carry_out_one(
    conn: &mut Conn,
    order: Order,
    id: JobId,
    OrderedBy { actor, context }: &OrderedBy,
) -> Result<Came, StoreError> {
    let mut detail = json!({});
    let came = match order {
        Order::Cancel => {
            let cancelled = cancel(conn, id, actor, context.now)?;
            detail["result"] = json!(cancelled);
            cancelled.into()
        }
        Order::Retry => redrive(conn, id, *context)?.into(),
        Order::Drop => {
            let (came, what) = discard(conn, id)?;
            detail = what;
            came
        }
        Order::Reprioritise(priority) => {
            detail["priority"] = json!(priority.level());
            reprioritise(conn, id, priority, *context)?.into()
        }
    };
    if matches!(came, Came::Done | Came::Blocked | Came::Requested) {
        let subject = format!("job:{id}");
        let event = AuditEvent::new(order.event(), actor, &subject, &detail, context.now);
        append_event(conn, context.node, &event)?;
    }
    Ok(came)
}

impl From<Cancelled> for Came {
    fn from(cancelled: Cancelled) -> Self {
        match cancelled {
            Cancelled::Done => Self::Done,
            Cancelled::Requested => Self::Requested,
            Cancelled::AlreadyOver => Self::AlreadyOver,
            Cancelled::Unknown => Self::Unknown,
        }
    }
}

impl From<Redriven> for Came {
    fn from(redriven: Redriven) -> Self {
        match redriven {
            Redriven::Done => Self::Done,
            Redriven::Blocked => Self::Blocked,
            Redriven::Hopeless(why) => Self::Hopeless(why),
            Redriven::NotNow(state) => Self::NotNow(state),
            Redriven::ReplacedBy(job) => Self::ReplacedBy(job),
            Redriven::KeyTakenBy(job) => Self::KeyTakenBy(job),
            Redriven::Unknown => Self::Unknown,
        }
    }
}

impl From<Reprioritised> for Came {
    fn from(reprioritised: Reprioritised) -> Self {
        match reprioritised {
            Reprioritised::Done => Self::Done,
            Reprioritised::NotNow(state) => Self::NotNow(state),
            Reprioritised::Unknown => Self::Unknown,
        }
    }
}

/// Holds a job that is over for its deletion at the end of the step, and tells what it was: the line in the audit log may be all that is left
/// of it.
fn discard(conn: &mut Conn, id: JobId) -> Result<(Came, Value), StoreError> {
    let state = match hold(conn, id.0)? {
        Whereabouts::Over { state, .. } => state,
        other => return Ok((other.state().map_or(Came::Unknown, Came::NotNow), Value::Null)),
    };
    if let Some(item) = live_item(conn, id.0)? {
        return Ok((Came::ItemLives(JobId(item)), Value::Null));
    }
    if let Some(waiting) = waited_for(conn, &[id.0])?.remove(&id.0) {
        return Ok((Came::WaitedFor(waiting), Value::Null));
    }
    type Row = (String, Option<String>, String, Micros);
    let (kind, schedule, actor, created_at): Row = jobs::table
        .find(id.0)
        .select((jobs::kind, jobs::schedule, jobs::actor, jobs::created_at))
        .first(conn)?;
    let (attempts, error): (i32, Option<String>) = job_results::table
        .find(id.0)
        .select((job_results::attempts, job_results::error))
        .first(conn)?;
    let told = json!({
        "state": state.as_str(),
        "kind": kind,
        "schedule": schedule,
        "submitted_by": actor,
        "submitted_at": jiff::Timestamp::from(created_at).to_string(),
        "attempts": attempts,
        "error": error.map(|error| error.chars().take(MAX_ERROR_CHARS).collect::<String>()),
    });
    Ok((Came::Done, told))
}

/// An item of a batch that is not over, as one can be that was retried by itself.
fn live_item(conn: &mut Conn, batch: i64) -> Result<Option<i64>, StoreError> {
    Ok(batch_items::table
        .inner_join(jobs::table.on(jobs::id.eq(batch_items::job_id)))
        .left_join(job_results::table.on(job_results::job_id.eq(batch_items::job_id)))
        .filter(batch_items::batch_id.eq(batch))
        .filter(job_results::job_id.is_null())
        .select(batch_items::job_id)
        .first(conn)
        .optional()?)
}

/// The jobs of the items of those that are batches and over, where one is given in that `state`. Who drops a batch drops them first: what is left
/// when that breaks off is a batch that can be dropped again.
///
/// # Errors
/// When the database refuses.
pub fn items_of(
    conn: &mut Conn,
    ids: &[i64],
    state: Option<JobState>,
) -> Result<Vec<i64>, StoreError> {
    let mut items = Vec::new();
    for chunk in ids.chunks(super::jobs::CHUNK_ROWS) {
        let mut of_chunk = batch_items::table
            .inner_join(jobs::table.on(jobs::id.eq(batch_items::job_id)))
            .inner_join(job_results::table.on(job_results::job_id.eq(batch_items::batch_id)))
            .filter(batch_items::batch_id.eq_any(chunk))
            .order((batch_items::batch_id, batch_items::position))
            .select(batch_items::job_id)
            .into_boxed();
        if let Some(state) = state {
            of_chunk = of_chunk.filter(job_results::state.eq(state.as_str()));
        }
        items.extend(of_chunk.load::<i64>(conn)?);
    }
    Ok(items)
}

/// Jobs that are to be tried again, each behind those that it depends on. A job is younger than what it depends on, and one that does the work of
/// another stands where that one stood.
///
/// # Errors
/// When the database refuses.
pub fn behind_what_they_depend_on(
    conn: &mut Conn,
    mut ids: Vec<i64>,
) -> Result<Vec<i64>, StoreError> {
    let all =
        job_replacements::table.select((job_replacements::replaced_by, job_replacements::job_id));
    let stands_for: HashMap<i64, i64> = all.load::<(i64, i64)>(conn)?.into_iter().collect();
    let first = |id: i64| std::iter::successors(Some(id), |id| stands_for.get(id).copied()).last();
    ids.sort_by_cached_key(|id| (first(*id), *id));
    Ok(ids)
}
