//! A unit of work, its states, and which state may follow which.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Actor, Concurrency, HumanDuration, JobId, JsonText, Labels, NodeSelector, Outcome, Priority,
    RetryPolicy, ScheduleId, Subqueue, is_high,
};

/// Where a job is.
///
/// ```text
/// blocked ─▶ pending ─▶ running ─▶ completed | failed | cancelled
///               ▲          │
///               └─ retrying ◀┘        failed and cancelled jobs can be redriven: ─▶ pending
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waits for other jobs.
    Blocked,
    /// Waits for a worker, or for its `run_at`.
    Pending,
    /// A worker executes it.
    Running,
    /// Waits for its next attempt after one that failed.
    Retrying,
    /// Ended well.
    Completed,
    /// Ended badly and will not be tried again by itself: a dead letter.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
}

impl JobState {
    /// Every state, in the order of a job's life.
    pub const ALL: [Self; 7] = [
        Self::Blocked,
        Self::Pending,
        Self::Running,
        Self::Retrying,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The word used in the database, the API and the logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more happens to the job by itself.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// The state itself if it may follow `self`.
    ///
    /// # Errors
    /// When it may not.
    pub fn transition(self, to: Self) -> Result<Self, IllegalTransition> {
        use JobState::{Blocked, Cancelled, Completed, Failed, Pending, Retrying, Running};
        let legal = match self {
            Blocked => matches!(to, Pending | Cancelled),
            Pending => matches!(to, Running | Cancelled),
            Running => matches!(to, Completed | Failed | Cancelled | Retrying | Pending),
            Retrying => matches!(to, Pending | Cancelled),
            Failed | Cancelled => matches!(to, Pending | Blocked),
            Completed => false,
        };
        if legal { Ok(to) } else { Err(IllegalTransition { from: self, to }) }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for JobState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
            format!(
                "`{}` is not a job state: use blocked, pending, running, retrying, completed, failed or cancelled",
                text.escape_default()
            )
        })
    }
}

/// A change of state that must not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a {from} job cannot become {to}")]
pub struct IllegalTransition {
    /// The state it is in.
    pub from: JobState,
    /// The state it was to enter.
    pub to: JobState,
}

/// The three ways a job can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinalState {
    /// Ended well.
    Completed,
    /// Ended badly.
    Failed,
    /// Cancelled.
    Cancelled,
}

impl FinalState {
    /// The final state that is this state, if it is one.
    #[must_use]
    pub fn of(state: JobState) -> Option<Self> {
        [Self::Completed, Self::Failed, Self::Cancelled]
            .into_iter()
            .find(|end| end.state() == state)
    }

    /// As one of all states.
    #[must_use]
    pub fn state(self) -> JobState {
        match self {
            Self::Completed => JobState::Completed,
            Self::Failed => JobState::Failed,
            Self::Cancelled => JobState::Cancelled,
        }
    }
}

/// What becomes of a job when an attempt has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterAttempt {
    /// The job is over.
    End(FinalState),
    /// It is tried again at that time and is `retrying` until then.
    RetryAt(Timestamp),
    /// It goes back to its old place in the queue at once: the attempt was interrupted.
    GiveBack,
    /// It comes back at that time, and the attempt is not charged.
    SnoozeUntil(Timestamp),
}

impl AfterAttempt {
    /// The state the job is in afterwards.
    #[must_use]
    pub fn state(self) -> JobState {
        match self {
            Self::End(end) => end.state(),
            Self::RetryAt(_) | Self::SnoozeUntil(_) => JobState::Retrying,
            Self::GiveBack => JobState::Pending,
        }
    }
}

/// What a handler's kind does not decide: how the job is treated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct JobSettings {
    /// How often it is tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryPolicy>,
    /// The longest one attempt may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<HumanDuration>,
    /// The longest all attempts and the waits between them may take, from the first start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_timeout: Option<HumanDuration>,
    /// Plan and report, change nothing. It waits for its turn like every other job, and when it is over it counts for nothing: it has done
    /// nothing that others wait for, repeat, learn from or measure.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// At most so many jobs of that key at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// Whether its kind can have a limit of its own, as those can that files declare.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub limited_kind: bool,
    /// What must come first. It is never changed, so that a job that is brought back waits for the same as when it was submitted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<Dependency>,
    /// What becomes of it when a job that it needs does not complete.
    #[serde(skip_serializing_if = "OnDependencyFailure::is_default")]
    pub on_dependency_failure: OnDependencyFailure,
    /// The batch that it is an item of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<JobId>,
    /// Its name in that batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item: Option<String>,
    /// The schedule that made that batch, and the instant it was made for. The item itself is no job of the schedule: its end is not the run's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_schedule: Option<(ScheduleId, Timestamp)>,
    /// The nodes that may run it, where not all may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeSelector>,
    /// Whether it does its items itself, all of them in one run.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub whole_batch: bool,
    /// The job that had ended badly and that it does again with other params.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<JobId>,
}

impl JobSettings {
    /// The part of its queue that a job with these settings waits in.
    #[must_use]
    pub fn subqueue(&self, queue: &str, priority: Priority, kind: &str) -> Subqueue {
        Subqueue {
            queue: queue.to_owned(),
            is_high: is_high(priority),
            kind: self.limited_kind.then(|| kind.to_owned()),
            node: self.node.clone(),
            concurrency: self.concurrency.clone(),
        }
    }
}

/// "At most one of these": a submission whose key is taken returns the job that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UniqueKey {
    /// The key.
    pub key: String,
    /// For how long after its submission a job holds the key, live or not. `None`: as long as it is live.
    pub period: Option<HumanDuration>,
}

/// What a job needs of another one before it may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DependencyNeeds {
    /// The other must have completed; [`OnDependencyFailure`] says what happens when it ends otherwise.
    Success,
    /// The other must be over, however it ended.
    Finished,
    /// Of all jobs that are needed so, one must have completed.
    Any,
}

impl DependencyNeeds {
    /// The word used in the database and in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Finished => "finished",
            Self::Any => "any",
        }
    }
}

/// What becomes of a job when one that it needs to complete ends otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDependencyFailure {
    /// It is cancelled.
    #[default]
    Cancel,
    /// It runs all the same.
    Run,
    /// It goes on waiting, until the other one is tried again and completes or somebody cancels it.
    Wait,
}

impl OnDependencyFailure {
    /// Whether it is what jobs do that say nothing.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Another job that must come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// The other job.
    pub on: JobId,
    /// What is needed of it.
    pub needs: DependencyNeeds,
}

/// A job to be enqueued: validated, with every default filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    /// What it does.
    pub kind: String,
    /// For the kind.
    pub params: JsonText,
    /// How urgent it is.
    pub priority: Priority,
    /// The lane it waits in.
    pub queue: String,
    /// Not before then.
    pub run_at: Timestamp,
    /// The schedule that made it, and the instant it was made for.
    pub schedule: Option<(ScheduleId, Timestamp)>,
    /// Marks to find it by.
    pub labels: Labels,
    /// At most one of these.
    pub unique: Option<UniqueKey>,
    /// Jobs of the same call that must come first, by their place in it, which is before this one.
    pub depends_on_earlier: Vec<(usize, DependencyNeeds)>,
    /// How it is treated.
    pub settings: JobSettings,
    /// What it consists of: with items it is a batch. Each item is a job of its own, and this one is over when all of them are; or, with
    /// [`JobSettings::whole_batch`], this one does all of them.
    pub items: Vec<NewItem>,
    /// Whether it is a batch with an item for each node that runs; it has no items of its own then.
    pub on_every_node: bool,
    /// Who asked for it.
    pub actor: Actor,
}

/// An item of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewItem {
    /// Its name, which people find it by.
    pub name: String,
    /// The batch's params with its own over them; of a batch that is done in one run, its own alone.
    pub params: JsonText,
    /// The nodes that may run it, where those are others than the batch's.
    pub node: Option<NodeSelector>,
}

/// How far a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchCounts {
    /// How many items it has.
    pub total: u32,
    /// How many have completed.
    pub completed: u32,
    /// How many have failed for good.
    pub failed: u32,
    /// How many were cancelled.
    pub cancelled: u32,
}

impl BatchCounts {
    /// How many items are not over.
    #[must_use]
    pub fn left(self) -> u32 {
        self.total.saturating_sub(self.completed + self.failed + self.cancelled)
    }

    /// How much of it is over, in percent, rounded down.
    #[must_use]
    pub fn percent(self) -> u8 {
        let over = u64::from(self.total - self.left());
        let percent = (over * 100).checked_div(u64::from(self.total)).unwrap_or(100);
        u8::try_from(percent).unwrap_or(100)
    }
}

impl NewJob {
    /// A job of `kind` with every other choice left at its default.
    #[must_use]
    pub fn new(kind: impl Into<String>, params: JsonText, run_at: Timestamp, actor: Actor) -> Self {
        Self {
            kind: kind.into(),
            params,
            priority: Priority::default(),
            queue: "default".to_owned(),
            run_at,
            schedule: None,
            labels: Labels::new(),
            unique: None,
            depends_on_earlier: Vec::new(),
            settings: JobSettings::default(),
            items: Vec::new(),
            on_every_node: false,
            actor,
        }
    }

    /// The unique key that it takes. A dry run takes none, and is made even where another job has it: neither of them does what the other does.
    #[must_use]
    pub fn key(&self) -> Option<&UniqueKey> {
        self.unique.as_ref().filter(|_| !self.settings.dry_run)
    }

    /// The part of its queue that it waits in.
    #[must_use]
    pub fn subqueue(&self) -> Subqueue {
        self.settings.subqueue(&self.queue, self.priority, &self.kind)
    }
}

/// The final state that an outcome leads to when there is no further attempt.
impl From<Outcome> for FinalState {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Success => Self::Completed,
            Outcome::Cancelled => Self::Cancelled,
            Outcome::Failure
            | Outcome::Error
            | Outcome::Timeout
            | Outcome::Interrupted
            | Outcome::Skipped => Self::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_state() -> impl Strategy<Value = JobState> {
        proptest::sample::select(JobState::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn a_completed_job_stays_completed(to in any_state()) {
            prop_assert!(JobState::Completed.transition(to).is_err());
        }

        #[test]
        fn only_a_pending_job_starts_running(from in any_state()) {
            prop_assert_eq!(from.transition(JobState::Running).is_ok(), from == JobState::Pending);
        }

        #[test]
        fn a_job_leaves_a_final_state_only_by_being_redriven(from in any_state(), to in any_state()) {
            if from.is_final() && from.transition(to).is_ok() {
                prop_assert!(matches!(to, JobState::Pending | JobState::Blocked));
            }
        }

        #[test]
        fn states_read_back_as_they_print(state in any_state()) {
            prop_assert_eq!(state.to_string().parse::<JobState>().unwrap(), state);
        }
    }
}
