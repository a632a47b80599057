//! Recording what was decided about due instants, together with the jobs that it makes.

use diesel::prelude::*;
use jiff::Timestamp;

use super::{following, ledger, live_jobs, waiting};
use crate::model::{
    Actor, Cause, Decision, Dependency, DependencyNeeds, JobId, NewJob, OverlapVerdict, ScheduleId,
};
use crate::store::hot::{AdvanceMark, InsertOccurrence, LastRowId, LinkJob, Returning};
use crate::store::jobs::{SubmitContext, submit};
use crate::store::removal::cancel;
use crate::store::schema::schedules;
use crate::store::{Conn, StoreError, on_each_backend};

/// A due instant with what is to be recorded about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Instant {
    /// Whose instant it is.
    pub schedule: ScheduleId,
    /// The instant the rule names.
    pub nominal_at: Timestamp,
    /// Why, in words for people.
    pub reason: String,
    /// Content hash of the schedule.
    pub revision: String,
    /// How many instants the row stands for.
    pub instants: i64,
    /// Who caused it.
    pub actor: Actor,
    /// What made it.
    pub cause: Cause,
    /// What it was worked out from, where other nodes may have changed that meanwhile and the instant hangs on it.
    pub basis: Option<Basis>,
    /// What to record.
    pub plan: Plan,
}

/// What the instants of a rule that counts from the end of the last run are worked out from. They have other names wherever it differs, so
/// that no row of one node would keep another from running the schedule a moment later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Basis {
    /// Until when everything was decided.
    pub decided_until: Timestamp,
    /// When the last run ended.
    pub last_end: Option<Timestamp>,
}

impl Basis {
    /// Whether it is still so, and no run is going on.
    fn holds(self, conn: &mut Conn, schedule: &ScheduleId) -> Result<bool, StoreError> {
        hold(conn, schedule)?;
        let is_the_same = ledger(conn, schedule)?.is_some_and(|ledger| {
            (ledger.decided_until, ledger.last_end) == (self.decided_until, self.last_end)
        });
        Ok(is_the_same && live_jobs(conn, schedule)?.is_empty())
    }
}

/// What to record about an instant.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    /// Make this job, unless the schedule's live jobs are in the way.
    Enqueue(Box<NewJob>),
    /// Nothing is made.
    Settle(Decision),
    /// Nothing is made yet: it waits for its requirements.
    Wait {
        /// How long.
        until: Timestamp,
    },
}

/// An instant that was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Whose instant it is.
    pub schedule: ScheduleId,
    /// The instant.
    pub nominal_at: Timestamp,
    /// What made it.
    pub cause: Cause,
    /// What was decided.
    pub decision: Decision,
    /// Why.
    pub reason: String,
    /// The job that was made.
    pub job: Option<JobId>,
    /// Running jobs that were asked to stop in its favour.
    pub cancelled: Vec<JobId>,
}

/// Records instants and makes their jobs, in one transaction.
///
/// An instant that has a row already was decided before, by another node or before a crash; it is left alone and not returned, as is one
/// whose basis does not hold any more. `overlap`
/// decides from the schedule's live jobs whether a new one may join them.
///
/// # Errors
/// When the database refuses; nothing is recorded then.
pub fn record(
    conn: &mut Conn,
    instants: &[Instant],
    context: SubmitContext,
    mut overlap: impl FnMut(&Instant, &[JobId]) -> OverlapVerdict,
) -> Result<Vec<Recorded>, StoreError> {
    let mut recorded = Vec::with_capacity(instants.len());
    for instant in instants {
        if let Some(basis) = instant.basis
            && !basis.holds(conn, &instant.schedule)?
        {
            continue;
        }
        if instant.cause != Cause::Rule {
            hold(conn, &instant.schedule)?;
        }
        match instant.cause {
            Cause::Rule => advance(conn, instant)?,
            Cause::End => following::followed(conn, &instant.schedule, instant.nominal_at)?,
            Cause::Wait if !waiting::end(conn, instant)? => continue,
            Cause::Wait | Cause::Hand => {}
        }
        if let Some(row) = record_one(conn, instant, context, &mut overlap)? {
            recorded.push(row);
        }
    }
    Ok(recorded)
}

/// Lets nobody else decide about a schedule until the transaction ends: two runs by hand on two nodes would each find no live job. Moving
/// its mark does the same.
fn hold(conn: &mut Conn, schedule: &ScheduleId) -> Result<(), StoreError> {
    if let Conn::Postgres(conn) = conn {
        let row = schedules::table.find(schedule.as_str()).select(schedules::id).for_update();
        let _held: Option<String> = row.first(conn).optional()?;
    }
    Ok(())
}

fn advance(conn: &mut Conn, instant: &Instant) -> Result<(), StoreError> {
    let (schedule, to) = (instant.schedule.as_str(), instant.nominal_at.as_microsecond());
    let statement = AdvanceMark { to, schedule, below: to };
    on_each_backend!(conn, |inner| statement.execute(inner)?);
    Ok(())
}

fn record_one(
    conn: &mut Conn,
    instant: &Instant,
    context: SubmitContext,
    overlap: &mut impl FnMut(&Instant, &[JobId]) -> OverlapVerdict,
) -> Result<Option<Recorded>, StoreError> {
    let mut recorded = Recorded {
        schedule: instant.schedule.clone(),
        nominal_at: instant.nominal_at,
        cause: instant.cause,
        decision: Decision::Enqueued,
        reason: instant.reason.clone(),
        job: None,
        cancelled: Vec::new(),
    };
    let mut job = None;
    match &instant.plan {
        Plan::Settle(decision) => recorded.decision = *decision,
        Plan::Wait { .. } => recorded.decision = Decision::Waiting,
        Plan::Enqueue(new) => {
            let live = live_jobs(conn, &instant.schedule)?;
            match overlap(instant, &live) {
                OverlapVerdict::Enqueue => job = Some((new, Vec::new())),
                OverlapVerdict::EnqueueAfter(others) => job = Some((new, others)),
                OverlapVerdict::CancelThenEnqueueAfter(others) => {
                    recorded.cancelled.clone_from(&others);
                    job = Some((new, others));
                }
                OverlapVerdict::Skip(why) => {
                    recorded.decision = Decision::SkippedOverlap;
                    recorded.reason = why;
                }
            }
        }
    }
    // The ledger row comes first: where another node has written it, nothing else must happen.
    let replaced = match instant.cause {
        Cause::Wait => waiting::replace(conn, instant, &recorded, context)?,
        Cause::Rule | Cause::End | Cause::Hand => None,
    };
    let row = match replaced {
        Some(row) => Some(row),
        None => insert(conn, instant, &recorded, context)?,
    };
    let Some(row) = row else { return Ok(None) };
    if let Plan::Wait { until } = instant.plan {
        waiting::begin(conn, instant, until)?;
    }
    if let Some((new, others)) = job {
        for other in &recorded.cancelled {
            cancel(conn, *other, &instant.actor, context.now)?;
        }
        let made = if others.is_empty() {
            submit(conn, std::slice::from_ref(&**new), context)?
        } else {
            let mut new = NewJob::clone(new);
            new.settings.depends_on.extend(
                others.into_iter().map(|on| Dependency { on, needs: DependencyNeeds::Finished }),
            );
            submit(conn, &[new], context)?
        };
        recorded.job = made.first().map(|submitted| submitted.id);
        let link = LinkJob { occurrence: row, job: recorded.job.map(|id| id.0) };
        on_each_backend!(conn, |inner| link.execute(inner)?);
    }
    if replaced.is_some() {
        waiting::tell(conn, instant, &recorded, context)?;
    }
    Ok(Some(recorded))
}

fn insert(
    conn: &mut Conn,
    instant: &Instant,
    recorded: &Recorded,
    context: SubmitContext,
) -> Result<Option<i64>, StoreError> {
    let row = InsertOccurrence {
        schedule: instant.schedule.as_str(),
        nominal_at: instant.nominal_at.as_microsecond(),
        decision: recorded.decision.as_str(),
        reason: &recorded.reason,
        decided_at: context.now.as_microsecond(),
        revision: &instant.revision,
        instants: instant.instants,
        actor: instant.actor.as_str(),
        node_id: context.node.0,
    };
    Ok(match conn {
        Conn::Sqlite(conn) => match row.execute(conn)? {
            0 => None,
            _ => Some(LastRowId {}.get_result(conn)?),
        },
        Conn::Postgres(conn) => Returning(row).get_result(conn).optional()?,
    })
}
