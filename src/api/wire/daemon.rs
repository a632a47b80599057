//! The daemon itself: workers, nodes, status.

use serde::{Deserialize, Serialize};

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
    /// How many files are broken: of those of schedules the ones without an earlier definition (the others leave stale schedules), of those of kinds all.
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
