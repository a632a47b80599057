//! The shapes that the API promises. They belong to no other module, so that nothing inside can change them by accident.

use std::num::NonZeroU16;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::model::{
    Breaker, Concurrency, DependencyNeeds, HumanDuration, JobSettings, NodeChoice,
    OnDependencyFailure, Rate, RetryPolicy,
};
use crate::queue::Trip;
use crate::store::Micros;
use crate::store::dependencies;
use crate::store::history::{AttemptRecord, JobRecord, OccurrenceRecord};

/// RFC 3339 in UTC with microseconds, always of the same length.
#[must_use]
pub fn time(instant: Timestamp) -> String {
    format!("{instant:.6}")
}

fn micros(instant: Micros) -> String {
    time(instant.into())
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct List<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Give it as `cursor` to get the next page; null on the last one.
    pub next_cursor: Option<String>,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Job {
    /// Its number.
    pub id: i64,
    /// What it does.
    pub kind: String,
    /// The schedule that made it.
    pub schedule: Option<String>,
    /// The instant it was made for.
    pub nominal_at: Option<String>,
    /// The lane it waits in.
    pub queue: String,
    /// 1 to 10, higher first.
    pub priority: i16,
    /// The priority that it was submitted with, where somebody has changed it since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted_priority: Option<i16>,
    /// blocked, pending, running, retrying, completed, failed or cancelled.
    pub state: String,
    /// For the kind.
    pub params: Value,
    /// Marks to find it by.
    pub labels: std::collections::BTreeMap<String, String>,
    /// Executions begun so far.
    pub attempt: i32,
    /// Charged attempts it may have in all.
    pub max_attempts: u32,
    /// Not before then; of a retrying job, when its next attempt is due.
    pub run_at: String,
    /// When it was submitted.
    pub created_at: String,
    /// When its last attempt began.
    pub started_at: Option<String>,
    /// When it was over.
    pub finished_at: Option<String>,
    /// 0 to 100, of the running attempt.
    pub progress: Option<i16>,
    /// What the running attempt is doing.
    pub message: Option<String>,
    /// Whether the running attempt was asked to stop.
    pub cancel_requested: bool,
    /// The machine-readable result.
    pub result: Option<Value>,
    /// Why it did not end well.
    pub error: Option<String>,
    /// Its unique key.
    pub unique_key: Option<String>,
    /// Who asked for it.
    pub actor: String,
    /// Plan and report only.
    pub dry_run: bool,
    /// The longest one attempt may take.
    pub timeout: Option<String>,
    /// How long its successful attempt will take, learned from others of its kind; where a single job was submitted or asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_duration_ms: Option<u64>,
    /// When the running attempt will be over, by what it says of itself, else by what others took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_end: Option<String>,
    /// How far it is, if it is a batch. While it is not over it is `running`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Batch>,
    /// cancel, run or wait: what becomes of it when a job that it needs does not complete. Left out: cancel.
    #[serde(default, skip_serializing_if = "OnDependencyFailure::is_default")]
    #[schema(value_type = String)]
    pub on_dependency_failure: OnDependencyFailure,
    /// The jobs that it waits for, where a single job was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<WaitsFor>,
    /// The breaker that keeps it from starting, where a single job was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_by: Option<Tripped>,
    /// The batch that it is an item of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_id: Option<i64>,
    /// Its name in that batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<String>,
    /// The nodes that may run it, where not all may: one's name, or `label:` and a label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The job whose work it does again, with other params.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<i64>,
    /// The job that does its work with other params.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<i64>,
    /// Its finished attempts, where a single job was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<Vec<Attempt>>,
}

impl From<JobRecord> for Job {
    fn from(record: JobRecord) -> Self {
        let JobSettings {
            retry,
            timeout,
            dry_run,
            batch,
            item,
            node,
            retry_of,
            on_dependency_failure,
            ..
        } = record.settings;
        Self {
            id: record.id.0,
            kind: record.kind,
            schedule: record.schedule,
            nominal_at: record.nominal_at.map(time),
            queue: record.queue,
            priority: record.priority,
            submitted_priority: record.submitted_priority,
            state: record.state.to_string(),
            params: record.params,
            labels: record.labels,
            attempt: record.attempt,
            max_attempts: retry.unwrap_or_else(RetryPolicy::default).max_attempts,
            run_at: time(record.run_at),
            created_at: time(record.created_at),
            started_at: record.started_at.map(time),
            finished_at: record.finished_at.map(time),
            progress: record.progress,
            message: record.message,
            cancel_requested: record.cancel_requested,
            result: record.result,
            error: record.error,
            unique_key: record.unique_key,
            actor: record.actor,
            dry_run,
            timeout: timeout.map(|timeout| timeout.to_string()),
            estimated_duration_ms: None,
            expected_end: None,
            batch: record.batch.map(|counts| Batch {
                total: counts.total,
                completed: counts.completed,
                failed: counts.failed,
                cancelled: counts.cancelled,
            }),
            on_dependency_failure,
            waits_for: Vec::new(),
            held_by: None,
            batch_id: batch.map(|id| id.0),
            item,
            node: node.map(|node| node.to_string()),
            retry_of: retry_of.map(|id| id.0),
            replaced_by: record.replaced_by.map(|id| id.0),
            attempts: None,
        }
    }
}

/// A job that another one waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WaitsFor {
    /// The job.
    pub job_id: i64,
    /// success, finished or any.
    pub needs: String,
    /// failed or cancelled, where it ended so and is waited for until it is tried again and completes.
    pub ended: Option<String>,
}

impl From<dependencies::WaitsFor> for WaitsFor {
    fn from(row: dependencies::WaitsFor) -> Self {
        Self { job_id: row.job.0, needs: row.needs, ended: row.ended }
    }
}

/// A finished attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Attempt {
    /// Which execution of its job, from 1.
    pub number: i32,
    /// success, failure, error, timeout, cancelled, interrupted or skipped.
    pub outcome: String,
    /// The node that ran it.
    pub node: i64,
    /// When it began.
    pub started_at: String,
    /// When it had ended.
    pub finished_at: String,
    /// How long it took.
    pub duration_ms: i64,
    /// The program's exit code.
    pub exit_code: Option<i32>,
    /// Why it did not succeed.
    pub error: Option<String>,
    /// The last part of its output.
    pub output_tail: Option<String>,
}

impl From<AttemptRecord> for Attempt {
    fn from(record: AttemptRecord) -> Self {
        Self {
            number: record.number,
            outcome: record.outcome,
            node: record.node_id,
            started_at: micros(record.started_at),
            finished_at: micros(record.finished_at),
            duration_ms: (record.finished_at.0 - record.started_at.0) / 1000,
            exit_code: record.exit_code,
            error: record.error,
            output_tail: record.output_tail,
        }
    }
}

/// A row of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Occurrence {
    /// Whose instant it is.
    pub schedule: String,
    /// The instant.
    pub nominal_at: String,
    /// What was decided.
    pub decision: String,
    /// Why.
    pub reason: String,
    /// The job that was made.
    pub job_id: Option<i64>,
    /// When it was decided.
    pub decided_at: String,
    /// The schedule's content hash at that time.
    pub revision: String,
    /// How many instants the row stands for.
    pub instants: i64,
    /// Who caused it.
    pub actor: String,
}

impl From<OccurrenceRecord> for Occurrence {
    fn from(record: OccurrenceRecord) -> Self {
        Self {
            schedule: record.schedule,
            nominal_at: micros(record.nominal_at),
            decision: record.decision,
            reason: record.reason,
            job_id: record.job_id,
            decided_at: micros(record.decided_at),
            revision: record.revision,
            instants: record.instants,
            actor: record.actor,
        }
    }
}

/// A job to be submitted.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    /// What it does.
    pub kind: String,
    /// For the kind: the fields of its table in a schedule file.
    #[serde(default)]
    pub params: Value,
    /// low, normal, high, critical or 1 to 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Value>,
    /// The lane it waits in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Not before then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<String>,
    /// Charged attempts in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// `{"backoff": "exponential" | "fixed" | "delays", …}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Value>,
    /// The longest one attempt may take: `90s`, `15m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// The longest all attempts and the waits between them may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_timeout: Option<String>,
    /// At most one live job with this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique: Option<String>,
    /// How long after its submission a job holds the key, live or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique_period: Option<String>,
    /// At most `max` jobs of that `key` at once, on all nodes together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub concurrency: Option<Concurrency>,
    /// `any` node runs it, `every` node does, the one of a name, or one with a label (`label:gpu`).
    #[serde(default, skip_serializing_if = "is_any")]
    #[schema(value_type = String)]
    pub node: NodeChoice,
    /// Marks to find it by.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub labels: std::collections::BTreeMap<String, String>,
    /// Jobs that must come first: a number is a job that must complete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<DependsOn>,
    /// What becomes of it when a job that must complete ends otherwise: `cancel` it, `run` it all the same, or let it `wait` until that
    /// one is tried again and completes.
    #[serde(default, skip_serializing_if = "OnDependencyFailure::is_default")]
    #[schema(value_type = String)]
    pub on_dependency_failure: OnDependencyFailure,
    /// Makes it a batch: each item is a job of its own, with its params over those of the batch, or, where the kind says so, one run does all of
    /// them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<Vec<Item>>,
    /// Plan and report, change nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

fn is_any(choice: &NodeChoice) -> bool {
    *choice == NodeChoice::Any
}

/// A job that must come first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum DependsOn {
    /// This job must complete.
    Job(i64),
    /// With what is needed of it.
    Needs(Needs),
}

/// What is needed of another job, which is named by its number or by its place in the same call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Needs {
    /// Its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<i64>,
    /// Its place in the list that is submitted, from 0; before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// `success`: it must complete. `finished`: it must be over, however it ended. `any`: of all that are needed so, one must complete.
    #[serde(default = "success")]
    #[schema(value_type = String)]
    pub needs: DependencyNeeds,
}

fn success() -> DependencyNeeds {
    DependencyNeeds::Success
}

/// An item of a batch that is submitted: its name alone, or with params of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum Item {
    /// Its name.
    Name(String),
    /// Its name and what it has of its own.
    WithParams {
        /// Its name.
        name: String,
        /// Over the batch's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        params: Option<Value>,
    },
}

/// How far a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Batch {
    /// How many items it has.
    pub total: u32,
    /// How many have completed.
    pub completed: u32,
    /// How many have failed for good.
    pub failed: u32,
    /// How many were cancelled.
    pub cancelled: u32,
}

/// An item of a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ItemState {
    /// Its place in the batch, from 0.
    pub position: i32,
    /// Its name.
    pub name: String,
    /// Its job; that of the batch, where one run does all items.
    pub job_id: i64,
    /// pending while it is not over, then completed, failed or cancelled.
    pub state: String,
    /// Attempts of its job, once it is over; where one run does all items, the attempt that said last what came of it.
    pub attempts: Option<i32>,
    /// Why it did not end well.
    pub error: Option<String>,
    /// What came of it.
    pub result: Option<Value>,
}

/// What a job can be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Kind {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// The file that declares it; none for those of the program.
    pub file: Option<String>,
    /// The lane its jobs wait in unless they say otherwise.
    pub queue: Option<String>,
    /// How urgent they are unless they say otherwise, 1 to 10.
    pub priority: Option<u8>,
    /// The longest one attempt may take unless they say otherwise.
    pub timeout: Option<String>,
    /// How many attempts they have in all unless they say otherwise.
    pub max_attempts: Option<u32>,
    /// How many may run at once, unless an operator has set another limit.
    pub concurrency: Option<u32>,
    /// How fast its jobs may start, unless an operator has set another rate.
    pub rate: Option<String>,
    /// After how many failures nothing of it starts for a while, unless an operator has set another breaker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<String>,
    /// How a batch of it runs: `each`, a job for each item, or `all`, one run for all of them; where a file declares the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<String>,
    /// JSON Schema of its params, where one kind was asked for and a file declares it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params_schema: Option<Value>,
}

/// How many jobs may run at once, and how fast they may start.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Limit {
    /// `queue:NAME`, `kind:NAME` or `key:KEY`.
    pub name: String,
    /// How many at once, on all nodes together; null where only their rate is limited.
    pub max: Option<u32>,
    /// What a kind's file or a job says, where that is not what counts as well.
    pub declared: Option<u32>,
    /// How fast they may start, on all nodes together.
    pub rate: Option<String>,
    /// What the settings or a kind's file say.
    pub declared_rate: Option<String>,
    /// After how many failures nothing starts for a while: `5 in 1m for 10m`.
    pub breaker: Option<String>,
    /// What a kind's file says.
    pub declared_breaker: Option<String>,
    /// Since when and why nothing starts, where the breaker has tripped.
    pub tripped: Option<Tripped>,
    /// How many run.
    pub running: u32,
    /// Since when an operator's limit counts.
    pub set_at: Option<String>,
    /// Whose it is.
    pub set_by: Option<String>,
}

/// A breaker that has tripped: nothing starts under its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Tripped {
    /// Its name: `queue:NAME`, `kind:NAME` or `key:KEY`.
    pub breaker: String,
    /// Since when.
    pub since: String,
    /// When one job is let through to find out whether it is over.
    pub until: String,
    /// The last failure.
    pub why: String,
    /// The job that was let through last. While it runs, its end is waited for.
    pub probe: Option<i64>,
}

impl Tripped {
    pub(super) fn new(name: &str, breaker: Breaker, trip: Trip) -> Self {
        Self {
            breaker: name.to_owned(),
            since: time(trip.at),
            until: time(trip.ends(breaker)),
            probe: trip.probe.map(|probe| probe.job.0),
            why: trip.why,
        }
    }
}

/// Which limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitName {
    /// `queue:NAME`, `kind:NAME` or `key:KEY`.
    pub name: String,
}

/// Sets a limit. What is left out stays as it is; where all of it is, what is declared counts again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitRequest {
    /// `queue:NAME`, `kind:NAME` or `key:KEY`.
    pub name: String,
    /// How many at once; 0 lets none start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// How fast they may start: `60/m`, `5/10s`, `60/m burst 10`. Not for queues, which have settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub rate: Option<Rate>,
    /// After how many failures nothing starts for a while: `5 in 1m for 10m`, `5 for 10m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub breaker: Option<Breaker>,
}

/// A schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Schedule {
    /// Its name.
    pub id: String,
    /// What its jobs do.
    pub kind: String,
    /// What it is for.
    pub description: String,
    /// Whether it fires.
    pub enabled: bool,
    /// active, disabled, paused or manual.
    pub state: String,
    /// Whether it runs on its last good definition because its file is broken now.
    pub stale: bool,
    /// What is wrong with its file.
    pub error: Option<String>,
    /// Its rule in a sentence.
    pub rule: String,
    /// The zone its rule is read in.
    pub timezone: String,
    /// When it fires next.
    pub next: Option<String>,
    /// When its last job ended, and how.
    pub last: Option<Last>,
    /// Why, by whom and until when it is paused.
    pub pause: Option<Pause>,
    /// Marks of its own.
    pub tags: Vec<String>,
    /// Who to ask.
    pub owner: Option<String>,
    /// Where to read on.
    pub runbook: Option<String>,
    /// The file that defines it.
    pub file: String,
    /// The line in it.
    pub line: u32,
    /// Content hash of its definition.
    pub revision: String,
    /// 1 to 10.
    pub priority: u8,
    /// The lane of its jobs.
    pub queue: String,
    /// The next few instants, where a single schedule was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upcoming: Option<Vec<String>>,
    /// The kind's params, where a single schedule was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<Value>,
}

/// The last thing that happened to a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Last {
    /// The instant.
    pub nominal_at: String,
    /// What was decided about it.
    pub decision: String,
    /// Why.
    pub reason: String,
    /// Its newest job.
    pub job_id: Option<i64>,
    /// The state of that job.
    pub job_state: Option<String>,
    /// When that job was over.
    pub finished_at: Option<String>,
}

/// A schedule or queue that is held back by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Pause {
    /// Since when.
    pub since: String,
    /// Until when; null until somebody resumes it.
    pub until: Option<String>,
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What to run by hand.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RunRequest {
    /// Replaces these fields of the schedule's params.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub params: Option<Value>,
    /// The instant the job is made for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nominal_at: Option<String>,
    /// Plan and report, change nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// Why and until when to hold something back.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PauseRequest {
    /// Until when, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Which jobs to cancel, retry, drop or give another priority: by number, or everything that passes a filter. Beside numbers only `state` may
/// be given, and then counts for each.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Selection {
    /// These.
    pub ids: Vec<i64>,
    /// In this state, also still when it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Of this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Made by this schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// In this queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// With these marks, each `key=value`.
    pub labels: Vec<String>,
    /// Submitted then or later, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Submitted before, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// To retry one job: do it again with these params instead of its own, as another job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub params: Option<Value>,
    /// The new priority: low, normal, high, critical or 1 to 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<Value>,
    /// Count only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// What became of the jobs that were chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Orders {
    /// How many were chosen.
    pub count: usize,
    /// How many items of batches are dropped with them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_items: Option<usize>,
    /// How many came to what.
    pub results: std::collections::BTreeMap<String, usize>,
    /// Each of them.
    pub items: Vec<Touched>,
    /// The newest of them, where nothing was to be done yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sample: Vec<Job>,
    /// Always null: this is no page.
    pub next_cursor: Option<String>,
}

/// What came of an order for a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Touched {
    /// The job.
    pub id: i64,
    /// selected, done, requested, already_over, not_now or unknown.
    pub result: String,
    /// In words.
    pub detail: String,
    /// The job that does its work with other params.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<i64>,
}

/// A queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Jobs that could run now.
    pub ready: i64,
    /// Jobs that run.
    pub running: i64,
    /// How many may run at once on a node, where it has a limit of its own.
    pub workers: Option<usize>,
    /// How fast its jobs may start, on all nodes together.
    pub rate: Option<String>,
    /// The longest one attempt may take, for jobs that do not say.
    pub timeout: Option<String>,
    /// Where each of the three comes from.
    pub origins: QueueOrigins,
    /// When an operator last set one of them.
    pub set_at: Option<String>,
    /// Who it was.
    pub set_by: Option<String>,
    /// How long the oldest ready job has waited.
    pub oldest_age_ms: Option<i64>,
    /// When the next of its jobs may start, where all of them wait for a rate or a breaker; null where a breaker's probe decides.
    pub held_until: Option<String>,
    /// The breaker that has tripped, where that is what all of its jobs wait for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_by: Option<String>,
    /// Whether it is held back by hand.
    pub pause: Option<Pause>,
}

/// Where a queue's settings come from; null where it has none of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct QueueOrigins {
    /// Of the number of workers.
    pub workers: Option<Origin>,
    /// Of the rate.
    pub rate: Option<Origin>,
    /// Of the timeout.
    pub timeout: Option<Origin>,
}

/// Where a setting that counts comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The settings: a file or the environment.
    File,
    /// An operator has set it while the daemon ran.
    Set,
}

/// What to set for a queue: what is left out stays as it is, and for null what the settings say counts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QueueRequest {
    /// How many of its jobs run at a time on one node; from 1.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u16>)]
    pub workers: Option<Option<NonZeroU16>>,
    /// How fast its jobs may start, on all nodes together: `60/m`, `5/10s`, `60/m burst 10`.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub rate: Option<Option<Rate>>,
    /// The longest one attempt may take, for jobs that do not say.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub timeout: Option<Option<HumanDuration>>,
}

/// Tells null, which is given, from nothing.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// A worker that is busy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Worker {
    /// The node.
    pub node: i64,
    /// The job.
    pub job_id: i64,
    /// The job's kind.
    pub kind: String,
    /// The lane it came from.
    pub queue: String,
    /// The schedule that made it.
    pub schedule: Option<String>,
    /// Which execution it is.
    pub attempt: u32,
    /// When it began.
    pub started_at: String,
    /// 0 to 100.
    pub progress: Option<i16>,
    /// What it is doing.
    pub message: Option<String>,
}

/// A daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Node {
    /// Its number.
    pub id: i64,
    /// Its name; the host's, where nobody has given it another.
    pub name: String,
    /// The name of this one run.
    pub instance: String,
    /// The program's version.
    pub version: String,
    /// Its process.
    pub pid: i64,
    /// What it can be chosen by, beside its name.
    pub labels: Vec<String>,
    /// The revision of the schedules that it has.
    pub revision: Option<String>,
    /// How far its clock is ahead of the database's.
    pub clock_skew_ms: Option<i64>,
    /// How many jobs run on it.
    pub running: i64,
    /// Since when it takes nothing new.
    pub draining_since: Option<String>,
    /// On whose order.
    pub draining_by: Option<String>,
    /// When it started.
    pub started_at: String,
    /// Until when it counts as alive.
    pub lease_until: String,
    /// When it stopped.
    pub stopped_at: Option<String>,
    /// running, draining (takes nothing new, and something still runs), drained (nothing runs any more), stopped or lost.
    pub state: String,
}

/// What the daemon is doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// ok or degraded.
    pub health: String,
    /// Why it is degraded.
    pub problems: Vec<String>,
    /// Whether the daemon answers itself; false when the database is read without it.
    pub running: bool,
    /// Its process.
    pub pid: Option<u32>,
    /// Its number.
    pub node: Option<i64>,
    /// When it started.
    pub started_at: Option<String>,
    /// Where its data is.
    pub data_dir: String,
    /// The database.
    pub database: String,
    /// The socket.
    pub socket: String,
    /// The log's folder.
    pub log_dir: String,
    /// The audit log.
    pub audit_log: String,
    /// Content hash of the loaded schedules.
    pub revision: String,
    /// When they were loaded.
    pub loaded_at: Option<String>,
    /// How many schedules there are.
    pub schedules: usize,
    /// How many run on an older definition.
    pub stale: usize,
    /// How many files are broken.
    pub invalid_files: usize,
    /// Slots for jobs.
    pub workers: usize,
    /// Slots that are busy.
    pub busy: usize,
    /// How many jobs are in each state.
    pub jobs: std::collections::BTreeMap<String, i64>,
    /// The next runs.
    pub next: Vec<Upcoming>,
}

/// A run to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Upcoming {
    /// Whose.
    pub schedule: String,
    /// When.
    pub at: String,
}
