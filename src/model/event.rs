//! What happens, as it is announced to whoever listens right now.
//!
//! Events are hints: a listener that was not there, or was too slow, reads the truth from the database.

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::{Decision, JobId, JobState, Outcome, ScheduleId};

/// Something that has happened and is committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Jobs were submitted.
    JobsSubmitted {
        /// The jobs.
        jobs: Vec<JobId>,
    },
    /// An attempt began.
    AttemptStarted {
        /// The job.
        job: JobId,
        /// Its kind.
        kind: String,
        /// The schedule that made it.
        schedule: Option<ScheduleId>,
        /// Which execution this is.
        attempt: u32,
        /// When.
        #[serde(serialize_with = "in_micros")]
        at: Timestamp,
        /// How long it had been due, in milliseconds.
        waited_ms: u64,
    },
    /// An attempt ended.
    AttemptFinished {
        /// The job.
        job: JobId,
        /// Its kind.
        kind: String,
        /// The schedule that made it.
        schedule: Option<ScheduleId>,
        /// Which execution it was.
        attempt: u32,
        /// How it ended.
        outcome: Outcome,
        /// What became of the job.
        state: JobState,
        /// When.
        #[serde(serialize_with = "in_micros")]
        at: Timestamp,
        /// How long it took, in milliseconds.
        duration_ms: u64,
        /// Whether it only told what it would have done.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        dry_run: bool,
    },
    /// Something was decided about a due instant.
    Decided {
        /// The schedule.
        schedule: ScheduleId,
        /// The instant.
        #[serde(serialize_with = "in_micros")]
        nominal_at: Timestamp,
        /// What.
        decision: Decision,
        /// Why.
        reason: String,
        /// The job that was made.
        job: Option<JobId>,
    },
    /// Another set of schedules is in force.
    Reloaded {
        /// Its hash.
        revision: String,
        /// Whether every file was good.
        ok: bool,
        /// What changed, in words.
        summary: String,
    },
    /// A breaker has tripped: nothing starts under its name until it has rested.
    BreakerTripped {
        /// `queue:NAME`, `kind:NAME` or `key:KEY`.
        name: String,
        /// The last failure.
        why: String,
    },
    /// A breaker lets everything start again.
    BreakerReset {
        /// `queue:NAME`, `kind:NAME` or `key:KEY`.
        name: String,
    },
    /// A job was cancelled, retried, paused or resumed by hand.
    ByHand {
        /// What was done, as in the audit log.
        action: String,
        /// On what.
        subject: String,
        /// By whom.
        actor: String,
    },
}

/// RFC 3339 in UTC with microseconds, as everywhere: clocks tell more, and what is stored does not.
fn in_micros<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{at:.6}"))
}
