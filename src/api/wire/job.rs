//! Jobs, their attempts and logs, and the items of batches.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{HeldBy, micros, time};
use crate::model::{Dependency, JobSettings, OnDependencyFailure, RetryPolicy};
use crate::store::dependencies;
use crate::store::history::{AttemptRecord, JobRecord};

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
    /// How long its successful attempt will take, learned from others of its kind; where a single job was submitted or asked for that is no
    /// batch of jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_duration_ms: Option<u64>,
    /// When the running attempt will be over, by what it says of itself, else by what others took. Of a batch: by how much of it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_end: Option<String>,
    /// How far it is, if it is a batch. While it is not over it is `running`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Batch>,
    /// cancel, run or wait: what becomes of it when a job that it needs does not complete. Left out: cancel.
    #[serde(default, skip_serializing_if = "OnDependencyFailure::is_default")]
    #[schema(value_type = String)]
    pub on_dependency_failure: OnDependencyFailure,
    /// The jobs that had to come first, as it was submitted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<Needed>,
    /// The jobs that it still waits for, where a single job was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<WaitsFor>,
    /// What keeps it from starting though it is due, where a single job was asked for; nothing where it waits for a worker.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_by: Vec<HeldBy>,
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
    /// Its latest finished attempts, up to 100 of them, where a single job was asked for. They are numbered from 1 without a gap.
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
            depends_on,
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
            depends_on: depends_on.into_iter().map(Needed::from).collect(),
            waits_for: Vec::new(),
            held_by: Vec::new(),
            batch_id: batch.map(|id| id.0),
            item,
            node: node.map(|node| node.to_string()),
            retry_of: retry_of.map(|id| id.0),
            replaced_by: record.replaced_by.map(|id| id.0),
            attempts: None,
        }
    }
}

/// A job that another one needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Needed {
    /// The job.
    pub job_id: i64,
    /// success, finished or any.
    pub needs: String,
}

impl From<Dependency> for Needed {
    fn from(Dependency { on, needs }: Dependency) -> Self {
        Self { job_id: on.0, needs: needs.as_str().to_owned() }
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

/// A part of an attempt's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LogPart {
    /// The job.
    pub job: i64,
    /// Its state.
    pub state: String,
    /// Which execution of it, from 1; 0 before the first one.
    pub attempt: u32,
    /// Where in the log `text` begins, in bytes.
    pub offset: u64,
    /// Where the next part begins; the same as `offset` where there is nothing more by now.
    pub next_offset: u64,
    /// Whether the attempt runs.
    pub running: bool,
    /// Whether the job is over.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// Whether this is not the log but its last 4 KiB, from a whole line on, because its file is on another node or gone. `offset` counts
    /// within that.
    #[serde(default)]
    pub tail: bool,
    /// The node on which the attempt runs, where that is another one than was asked: what it prints is there. What is kept of its end can be read
    /// here when it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<String>,
    /// What was printed.
    pub text: String,
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
    /// Its job, null where that was deleted; that of the batch, where one run does all items.
    pub job_id: Option<i64>,
    /// The state of its job; where that was deleted, how the item ended. Where one run does all items: pending until the run has said what came
    /// of it or the batch is over, then completed, failed or cancelled.
    pub state: String,
    /// Attempts of its job begun so far; where one run does all items, the attempt that said last what came of it.
    pub attempts: Option<i32>,
    /// Why it did not end well; of a retrying one, why its last attempt failed.
    pub error: Option<String>,
    /// What came of it.
    pub result: Option<Value>,
}
