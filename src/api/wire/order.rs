//! What people order for jobs, and what came of it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Job;

/// Which jobs to cancel, retry, drop or give another priority: by number, or everything that passes a filter. Beside numbers only `state` may
/// be given, and then counts for each.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Selection {
    /// These, and none where the list is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<i64>>,
    /// In this state, also still when it is done. Without it and without `ids`: in one in which it can be done.
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
    /// Only tell which jobs it would be, and of those that are named what each would come to as far as its state tells.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// What became of the jobs that were chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Orders {
    /// How many were chosen.
    pub count: usize,
    /// How many items go with those of them that are batches: in a dry run of any order, and of one to drop how many were deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_items: Option<usize>,
    /// How many came to what; in a dry run, would come to: `selected` where it would be tried.
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
