//! Schedules and their ledger.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{micros, time};
use crate::store::history::OccurrenceRecord;
use crate::store::queues;

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

/// A queue is paused until somebody resumes it.
impl From<queues::Pause> for Pause {
    fn from(queues::Pause { since, by, reason }: queues::Pause) -> Self {
        Self { since: time(since), until: None, by, reason }
    }
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
    /// Until when: RFC 3339, or for how long by the daemon's clock (`2h`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
