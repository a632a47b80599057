//! Records decisions and makes their jobs: the one path for the timer, a run by hand, the API and a restart.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::broadcast;

use super::looks::{Looks, PATIENCE};
use super::requirements::{Successes, paths, required, unmet};
use crate::clock::SharedClock;
use crate::model::{
    Actor, Cause, Decision, Event, JobId, JobSettings, JsonText, NewJob, NodeChoice, NodeId,
    ScheduleId,
};
use crate::queue::{Ageing, Signals};
use crate::schedule::{Overlap, Requirement, Schedule};
use crate::store::jobs::SubmitContext;
use crate::store::schedules::{Instant, Plan, Recorded, free_instant, last_successes, record};
use crate::store::{Store, StoreError};

/// Everything it takes to record a decision. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Enqueuer {
    /// Where the ledger and the queue are.
    pub store: Store,
    /// What time it is.
    pub clock: SharedClock,
    /// Who decides.
    pub node: NodeId,
    /// What waiting is worth.
    pub ageing: Ageing,
    /// Tells the pool of jobs that were made and of those that have to make way.
    pub signals: Signals,
    /// Where to announce what was decided.
    pub events: broadcast::Sender<Event>,
    /// How file systems are asked for what schedules require.
    pub looks: Looks,
}

/// A run that somebody asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct ByHand {
    /// Who.
    pub actor: Actor,
    /// Replaces these fields of the schedule's params.
    pub params: Option<Value>,
    /// The instant the job is made for; now, when it is not given.
    pub nominal_at: Option<Timestamp>,
    /// Plan and report, change nothing.
    pub dry_run: bool,
}

impl Enqueuer {
    /// Records what was decided about instants of the rules, and makes their jobs. `read_at` is how many connections the store's writer
    /// had opened again when the ledgers were read from which that was decided.
    ///
    /// # Errors
    /// When the store refuses, or has another connection by now: behind that may be a standby whose ledgers are behind, and a row for
    /// the next instant would hide those that it lacks. Nothing is recorded then.
    pub async fn record(
        &self,
        instants: Vec<Instant>,
        overlap: HashMap<ScheduleId, Overlap>,
        read_at: u64,
    ) -> Result<Vec<Recorded>, StoreError> {
        let context = self.context();
        let policy = move |instant: &Instant, live: &[JobId]| {
            let policy = overlap.get(&instant.schedule).copied().unwrap_or_default();
            super::overlap(policy, live)
        };
        let makes_work = instants.iter().any(|instant| matches!(instant.plan, Plan::Enqueue(_)));
        let reopenings = self.store.reopenings();
        let write = self.store.write(move |conn| {
            if reopenings.count() != read_at {
                let why = "the ledgers have to be read again: the connection is another one";
                return Err(StoreError::Conflict(why.to_owned()));
            }
            record(conn, &instants, context, &policy)
        });
        let recorded = if makes_work { self.signals.work_of(write).await? } else { write.await? };
        self.announce(&recorded);
        Ok(recorded)
    }

    /// Runs a schedule now because somebody asks for it. Pauses, blackouts and validity ranges are the rule's business and do not
    /// hold it back; requirements and live jobs do, and the answer says so.
    ///
    /// # Errors
    /// When the store refuses, or the given instant has a row already.
    pub async fn by_hand(&self, schedule: &Schedule, run: ByHand) -> Result<Recorded, StoreError> {
        let blocked = self.unmet(schedule.run.requires.clone()).await?;
        let now = self.clock.now();
        let mut job = new_job(schedule, now, now, run.actor.clone());
        if let Some(changes) = run.params {
            job.params = JsonText::from(&merged(schedule.params.value(), changes));
        }
        job.settings.dry_run = run.dry_run;
        let plan = match &blocked {
            Some(_) => Plan::Settle(Decision::SkippedRequirement),
            None => Plan::Enqueue(Box::new(job)),
        };
        let instant = Instant {
            schedule: schedule.id.clone(),
            nominal_at: run.nominal_at.unwrap_or(now),
            reason: blocked.unwrap_or_else(|| {
                let what = if run.dry_run { "dry run" } else { "run" };
                format!("{what} by hand by {}", run.actor)
            }),
            revision: schedule.hash.to_string(),
            instants: 1,
            actor: run.actor,
            cause: Cause::Hand,
            basis: None,
            plan,
        };
        // A dry run is in nobody's way, and cancels nothing that runs.
        let overlap = if run.dry_run { Overlap::Allow } else { schedule.run.overlap };
        let (context, given) = (self.context(), run.nominal_at);
        let write = self.store.write(move |conn| {
            let mut instant = instant.clone();
            if given.is_none() {
                instant.nominal_at = free_instant(conn, &instant.schedule, instant.nominal_at)?;
            }
            if let Plan::Enqueue(job) = &mut instant.plan {
                job.schedule = Some((instant.schedule.clone(), instant.nominal_at));
            }
            let rows = record(conn, &[instant], context, |_, live| super::overlap(overlap, live))?;
            rows.into_iter().next().ok_or_else(|| {
                StoreError::Conflict("that instant of the schedule was decided before".to_owned())
            })
        });
        let recorded = self.signals.work_of(write).await?;
        self.announce(std::slice::from_ref(&recorded));
        Ok(recorded)
    }

    /// The first requirement that is not met, asked on a blocking thread.
    ///
    /// # Errors
    /// When the store refuses to say what has succeeded.
    pub(super) async fn unmet(
        &self,
        requirements: Vec<Requirement>,
    ) -> Result<Option<String>, StoreError> {
        if requirements.is_empty() {
            return Ok(None);
        }
        let ids = required(&requirements);
        let last = match ids.is_empty() {
            true => HashMap::new(),
            false => self.store.read(move |conn| last_successes(conn, &ids)).await?,
        };
        let successes = Successes { last, now: self.clock.now() };
        let paths = paths(&requirements);
        if paths.is_empty() {
            return Ok(unmet(&requirements, &successes));
        }
        let look = move || unmet(&requirements, &successes);
        Ok(self.looks.look(paths, PATIENCE, look).await)
    }

    fn context(&self) -> SubmitContext {
        SubmitContext { now: self.clock.now(), node: self.node, ageing: self.ageing }
    }

    fn announce(&self, recorded: &[Recorded]) {
        self.signals
            .cancel(recorded.iter().flat_map(|row| row.cancelled.iter().copied()).collect());
        for row in recorded {
            log(row);
            // Nobody listening is the normal case.
            let _nobody_listens = self.events.send(Event::Decided {
                schedule: row.schedule.clone(),
                nominal_at: row.nominal_at,
                decision: row.decision,
                reason: row.reason.clone(),
                job: row.job,
            });
        }
    }
}

/// A decision as the log tells of it: what waited in vain is for somebody to look at.
fn log(row: &Recorded) {
    let (schedule, decision, reason) = (row.schedule.as_str(), row.decision, &row.reason);
    if row.cause == Cause::Wait && decision == Decision::SkippedRequirement {
        tracing::warn!(
            schedule,
            nominal_at = %row.nominal_at,
            decision = decision.as_str(),
            "{decision}: {reason}",
        );
        return;
    }
    tracing::info!(
        schedule,
        nominal_at = %row.nominal_at,
        decision = decision.as_str(),
        job.id = row.job.map(|id| id.0),
        "{decision}: {reason}",
    );
}

/// The job that an instant of a schedule makes.
#[must_use]
pub fn new_job(
    schedule: &Schedule,
    nominal_at: Timestamp,
    run_at: Timestamp,
    actor: Actor,
) -> NewJob {
    let run = &schedule.run;
    NewJob {
        priority: run.priority,
        queue: run.queue.clone(),
        schedule: Some((schedule.id.clone(), nominal_at)),
        labels: run.labels.clone(),
        on_every_node: run.node == NodeChoice::Every,
        settings: JobSettings {
            retry: Some(run.retry.clone()),
            timeout: run.timeout,
            total_timeout: run.total_timeout,
            dry_run: false,
            concurrency: run.concurrency.clone(),
            limited_kind: run.limited_kind,
            node: match &run.node {
                NodeChoice::Only(selector) => Some(selector.clone()),
                NodeChoice::Any | NodeChoice::Every => None,
            },
            ..JobSettings::default()
        },
        ..NewJob::new(&schedule.kind, schedule.params.clone(), run_at, actor)
    }
}

/// Fields of `changes` over fields of `params`; anything but an object replaces the whole.
fn merged(params: Value, changes: Value) -> Value {
    match (params, changes) {
        (Value::Object(mut params), Value::Object(changes)) => {
            params.extend(changes);
            Value::Object(params)
        }
        (_, changes) => changes,
    }
}
