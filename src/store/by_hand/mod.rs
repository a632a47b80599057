//! What people order to be done to jobs that exist, to one of them or to a hundred thousand.
//!
//! An order is carried out in steps, each a transaction of its own over so few jobs that claims never wait long. A step is done as a whole or not
//! at all; an order that breaks off between two of them has been done for the jobs that came first and can be given again. Everything that is
//! done to a job is noted for the audit log in the same step.

mod dropping;
mod together;

use serde_json::json;

use super::audit::append_event;
use super::dependencies::Hopeless;
use super::history::Among;
use super::jobs::SubmitContext;
use super::priorities::{Reprioritised, reprioritise};
use super::removal::{Cancelled, Redriven, cancel, redrive};
use super::whereabouts::state_of;
use super::{Conn, StoreError, batch_orders, batches, prune};
use crate::model::{Actor, AuditEvent, JobId, JobState, Priority};

pub use dropping::{Dropped, drop_some, kept};
use dropping::{discard, may_go};
pub use together::{came_with_others, cancelled_with_others, in_turn, items_with};

/// How many jobs a step is about at the most.
pub const STEP_JOBS: usize = 1000;

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
    /// This job waits for it, for the batch of which it is an item, or for an item of it.
    WaitedFor(JobId),
    /// Its running attempt was told to stop.
    Requested,
    /// It was over before.
    AlreadyOver,
    /// It is in a state in which this cannot be done, or no more in the one that it was chosen for.
    NotNow(JobState),
    /// It is a batch that is over, and one of its items lives.
    ItemLives(JobId),
    /// It is a batch of which that many items were dropped, before one could not be any more.
    InPart(usize, Box<Came>),
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
    /// The batches with which steps are left: [`batch_orders::finish`] takes them, and [`drop_some`] those of dropping one, which is not begun.
    pub unfinished: Vec<JobId>,
    /// The jobs that are gone.
    pub gone: Vec<i64>,
}

/// What an order would come to for a job, as far as where it is tells, and what keeps one that is to be dropped; `None`: it would be tried. As when it is carried out, a `state` is the
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
        Order::Drop if is_possible => kept(conn, &[id.0])?.remove(&id.0),
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
    let (mut to_stop, mut unfinished, mut gone) = (Vec::new(), Vec::new(), Vec::new());
    for id in ids {
        let found = if state.is_some() { state_of(conn, *id)? } else { None };
        let drops_batch = order == Order::Drop && batches::is_batch(conn, *id)?;
        let came = match found.filter(|found| Some(*found) != state) {
            Some(other) => Came::NotNow(other),
            None if drops_batch => {
                may_go(conn, JobId(*id))?.map_or_else(|kept| kept, |_| Came::Done)
            }
            None => carry_out_one(conn, order, JobId(*id), by)?,
        };
        if came == Came::Requested {
            to_stop.push(JobId(*id));
            to_stop.extend(batches::running_items(conn, JobId(*id))?);
        }
        let is_unfinished = match (order, &came) {
            (Order::Drop, Came::Done) => drops_batch,
            (Order::Cancel, Came::Requested) | (Order::Retry, Came::Done) => {
                batch_orders::is_unfinished(conn, *id)?
            }
            _ => false,
        };
        if is_unfinished {
            unfinished.push(JobId(*id));
        } else if (order, &came) == (Order::Drop, &Came::Done) {
            gone.push(*id);
        }
        all.push(came);
    }
    prune::delete(conn, &gone)?;
    Ok(Step { came: all, to_stop, unfinished, gone })
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
