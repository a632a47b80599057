//! What a handler is given for one attempt.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustix::process::{getpriority_process, setpriority_process};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Answer, Failure, Items, Output};
use crate::clock::SharedClock;
use crate::model::{AttemptName, JobId, JsonText, Labels, Priority, ScheduleId};

/// Everything one attempt may use. Cheap to clone, so that it can go to other threads.
#[derive(Debug, Clone)]
pub struct Context {
    /// The job that is executed.
    pub job: Arc<JobInfo>,
    /// What time it is.
    pub clock: SharedClock,
    /// Where the daemon keeps things.
    pub paths: Arc<RunPaths>,
    /// The attempt's log, which `sexton logs` shows.
    pub output: Output,
    /// Tells how far the attempt is.
    pub progress: Progress,
    /// Cancelled when the attempt has to end early.
    pub stop: CancellationToken,
    /// What it is to do, where that is a batch in one run.
    pub items: Option<Arc<dyn Items>>,
    /// How long the attempt may take. The worker sees to that; this is for who has to see to it when the daemon is gone.
    pub limit: Option<Duration>,
}

/// The job an attempt belongs to.
#[derive(Debug, Clone, PartialEq)]
pub struct JobInfo {
    /// The job.
    pub id: JobId,
    /// Its kind.
    pub kind: String,
    /// For the kind.
    pub params: Value,
    /// The schedule that made it, or the batch that it is an item of, and the instant that was made for.
    pub schedule: Option<(ScheduleId, Timestamp)>,
    /// Which execution this is, from 1.
    pub attempt: u32,
    /// How many charged attempts it may have in all.
    pub max_attempts: u32,
    /// How many more attempts it may have if this one fails.
    pub attempts_left: u32,
    /// The lane it came from.
    pub queue: String,
    /// How urgent it is.
    pub priority: Priority,
    /// Its marks.
    pub labels: Labels,
    /// Plan and report, change nothing.
    pub dry_run: bool,
    /// Where an earlier attempt got to, see [`Progress::checkpoint`].
    pub checkpoint: Option<JsonText>,
    /// Its name in the batch that it is an item of.
    pub item: Option<String>,
}

impl JobInfo {
    /// This very execution.
    #[must_use]
    pub fn name(&self) -> AttemptName {
        AttemptName { job: self.id, number: self.attempt }
    }

    /// The schedule whose run this job is. An item is none: its batch is, and the end of one of many items is not that run's.
    #[must_use]
    pub fn run_of(&self) -> Option<ScheduleId> {
        let (schedule, _) = self.schedule.as_ref().filter(|_| self.item.is_none())?;
        Some(schedule.clone())
    }
}

/// Where the daemon keeps things that handlers need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunPaths {
    /// `data_dir` of the settings.
    pub data: PathBuf,
    /// `DATA/runs`: attempt logs.
    pub runs: PathBuf,
    /// `DATA/reports`: where reports go unless their schedule says otherwise.
    pub reports: PathBuf,
    /// `DATA/state`: what kinds remember between runs (hash caches, `ETags`), one folder a kind.
    pub state: PathBuf,
}

impl RunPaths {
    /// The folders under a data directory.
    #[must_use]
    pub fn under(data: impl Into<PathBuf>) -> Self {
        let data = data.into();
        Self {
            runs: data.join("runs"),
            reports: data.join("reports"),
            state: data.join("state"),
            data,
        }
    }

    /// The log of one attempt: `DATA/runs/JOB÷1000/JOB-ATTEMPT.log`. A thousand jobs share a folder, because folders with
    /// millions of entries are slow to list and to prune.
    #[must_use]
    pub fn attempt_log(&self, job: JobId, attempt: u32) -> PathBuf {
        self.runs.join((job.0 / 1000).to_string()).join(format!("{job}-{attempt}.log"))
    }

    /// `DATA/runs/keepers`: one socket for each process that keeps programs.
    #[must_use]
    pub fn keepers(&self) -> PathBuf {
        self.runs.join("keepers")
    }

    /// `DATA/runs/running`: one record for each attempt whose program runs, so that what is left of a daemon that was
    /// killed can be found by the next one without looking through all logs.
    #[must_use]
    pub fn running(&self) -> PathBuf {
        self.runs.join("running")
    }
}

/// Why an attempt has to end early. Known to the worker, not to the handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopReason {
    /// Somebody cancelled the job.
    Cancelled,
    /// It ran out of time.
    Timeout,
    /// The daemon stops.
    Shutdown,
    /// Others are about to run what this node runs: it has not renewed its lease.
    LeaseOver,
}

/// The latest word of a handler on how far it is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ProgressReport {
    /// 0 to 100, where that can be said.
    pub percent: Option<u8>,
    /// What it is doing.
    pub message: String,
    /// Where the job's next attempt can go on, if there is one.
    pub checkpoint: Option<JsonText>,
}

/// The handler's end of the progress channel. Only the latest report is kept, so reporting often is cheap.
#[derive(Debug, Clone)]
pub struct Progress(Arc<watch::Sender<ProgressReport>>);

impl Progress {
    /// A channel and its reading end.
    #[must_use]
    pub fn channel() -> (Self, watch::Receiver<ProgressReport>) {
        let (sender, receiver) = watch::channel(ProgressReport::default());
        (Self(Arc::new(sender)), receiver)
    }

    /// Reports `done` of `total` steps. A `total` of zero counts as done.
    pub fn steps(&self, done: u64, total: u64, message: impl Into<String>) {
        let percent = done.min(total).saturating_mul(100).checked_div(total).unwrap_or(100);
        self.report(u8::try_from(percent).ok(), message);
    }

    /// Reports a percentage, or only a message where none can be said.
    pub fn report(&self, percent: Option<u8>, message: impl Into<String>) {
        self.0.send_modify(|report| {
            report.percent = percent.map(|percent| percent.min(100));
            report.message = message.into();
        });
    }

    /// Reports what is given, and leaves the rest as it was.
    pub fn update(&self, percent: Option<u8>, message: Option<String>) {
        self.0.send_modify(|report| {
            report.percent = percent.map(|percent| percent.min(100)).or(report.percent);
            if let Some(message) = message {
                report.message = message;
            }
        });
    }

    /// Repeats a report that was made elsewhere.
    pub fn repeat(&self, report: ProgressReport) {
        self.0.send_replace(report);
    }

    /// Keeps where the job's next attempt can go on, should this one not get to its end. It is stored within a second.
    pub fn checkpoint(&self, checkpoint: JsonText) {
        self.0.send_modify(|report| report.checkpoint = Some(checkpoint));
    }
}

impl Progress {
    /// The last checkpoint that was reported.
    #[must_use]
    pub fn latest_checkpoint(&self) -> Option<JsonText> {
        self.0.borrow().checkpoint.clone()
    }
}

impl Context {
    /// Whether the attempt has to end. Blocking code asks this between steps.
    #[must_use]
    pub fn must_stop(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Runs blocking work (walking trees, hashing) on a thread of its own, so that workers stay responsive.
    ///
    /// A panic in `work` goes on in the caller, where the worker turns it into a failed attempt.
    pub async fn blocking<F>(&self, work: F) -> Answer
    where
        F: FnOnce(&Self) -> Answer + Send + 'static,
    {
        let context = self.clone();
        let work = move || {
            give_way();
            work(&context)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(answer) => answer,
            Err(gone) => match gone.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_cancelled) => {
                    Failure::error("the runtime stopped before the work began").into()
                }
            },
        }
    }
}

/// How much nicer than the daemon's other threads those are that walk trees and hash files, see nice(1).
const NICENESS: i32 = 10;

/// Lets the threads that start jobs and answer requests go first: when a thousand cleanups are due at once, hundreds of threads want the
/// processors that the starts of the others need. It is of the thread, and under systemd only seen inside the service. Where it is
/// not allowed, nothing is lost but that; and a service that is nicer still stays so.
fn give_way() {
    if getpriority_process(None).is_ok_and(|niceness| niceness < NICENESS) {
        let _not_allowed = setpriority_process(None, NICENESS);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn blocking_work_gives_way_to_everything_else() {
        let before = getpriority_process(None).unwrap();
        let (context, _folder) = crate::jobs::testing::context("cleanup", json!({}));
        let answer = context
            .blocking(|_context| Answer::Done(json!(getpriority_process(None).unwrap())))
            .await;
        assert_eq!(answer, Answer::Done(json!(before.max(NICENESS))));
        assert_eq!(getpriority_process(None).unwrap(), before, "the runtime's threads do not");
    }
}
