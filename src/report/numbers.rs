//! The numbers of a report: what the JSON file holds and what every other format is rendered from.
//!
//! Lengths of time are whole microseconds and say so in their names; instants are RFC 3339 in UTC with microseconds.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use serde::{Deserialize, Serialize};

use crate::model::{Decision, JobId, Outcome};

/// The shape of [`Numbers`]. Raised when a field goes away or changes its meaning, not when one is added.
pub const SCHEMA_VERSION: u32 = 1;

/// Everything a report says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Numbers {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// When the numbers were gathered.
    #[serde(serialize_with = "instant")]
    pub generated_at: Timestamp,
    /// The machine that gathered them.
    pub host: String,
    /// The period they are about.
    pub period: PeriodNumbers,
    /// What they were restricted to.
    pub scope: Scope,
    /// The period in a few numbers.
    pub summary: Summary,
    /// The period before in the same numbers, where a comparison was asked for.
    pub previous: Option<Previous>,
    /// Attempts by outcome; outcomes that did not occur are left out.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// By kind, in order of the names.
    pub kinds: Vec<Group>,
    /// By schedule, in order of the names. Jobs that no schedule made are in none.
    pub schedules: Vec<Group>,
    /// What ended when.
    pub throughput: Throughput,
    /// How long attempts took, in classes.
    pub durations: Vec<DurationClass>,
    /// Instants that did not become a job of their own, and why.
    pub not_run: NotRun,
    /// The attempts that took longest, the longest first.
    pub slowest: Vec<SlowAttempt>,
    /// Jobs that failed.
    pub failures: Failures,
}

/// The period of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PeriodNumbers {
    /// What was asked for: `yesterday`, …, or `custom`.
    pub name: &'static str,
    /// The zone whose days it is made of.
    pub timezone: String,
    /// Its first instant.
    #[serde(serialize_with = "instant")]
    pub from: Timestamp,
    /// The first instant after it.
    #[serde(serialize_with = "instant")]
    pub to: Timestamp,
}

/// What a report is restricted to. An empty list restricts nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scope {
    /// Only jobs of these kinds, and of occurrences those of schedules not known to make other kinds.
    pub kinds: Vec<String>,
    /// Only these schedules.
    pub schedules: Vec<String>,
}

/// Jobs by the state they ended in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Ended {
    /// Ended well.
    pub completed: u64,
    /// Ended badly.
    pub failed: u64,
    /// Cancelled.
    pub cancelled: u64,
}

/// Lengths of time of many things. The percentiles are within 0.4 %, the rest is exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Spread {
    /// Of how many things.
    pub count: u64,
    /// Half of them took at most this long.
    pub p50_us: Option<u64>,
    /// 95 of 100 took at most this long.
    pub p95_us: Option<u64>,
    /// The longest.
    pub max_us: Option<u64>,
    /// The mean.
    pub mean_us: Option<u64>,
}

/// A whole period, a kind or a schedule in a few numbers.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Summary {
    /// Jobs that ended in the period.
    pub jobs: Ended,
    /// Completed of completed and failed; cancelled jobs count for neither. `None` where there were none.
    pub success_rate: Option<f64>,
    /// Attempts that ended in the period.
    pub attempts: u64,
    /// Charged attempts beyond the first of the jobs that ended.
    pub retries: u64,
    /// Jobs that completed only after a charged attempt had failed.
    pub recovered: u64,
    /// Attempts that a shutdown or a lost node ended.
    pub interrupted: u64,
    /// How long charged attempts took.
    pub duration: Spread,
    /// How long jobs waited for their first attempt once they were accepted and due. Waiting for other jobs is part of it.
    pub wait: Spread,
    /// How long after their nominal instant jobs of schedules started.
    pub lateness: Spread,
    /// Due instants that became a job.
    pub enqueued: u64,
    /// Due instants that a later one stands for.
    pub coalesced: u64,
    /// Due instants that were left out by a rule: overlap, pause, blackout, requirement.
    pub skipped: u64,
    /// Due instants that nobody could act on: the daemon was down, or the schedule's file was invalid.
    pub missed: u64,
}

/// The period before.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Previous {
    /// Its first instant.
    #[serde(serialize_with = "instant")]
    pub from: Timestamp,
    /// The first instant after it.
    #[serde(serialize_with = "instant")]
    pub to: Timestamp,
    /// The same numbers.
    pub summary: Summary,
    /// This period minus that one.
    pub change: Change,
}

/// This period minus the one before. `None` where one of the two has no such number.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Change {
    /// Jobs that ended.
    pub jobs: i64,
    /// Jobs that failed.
    pub failed: i64,
    /// As a share, not in percent.
    pub success_rate: Option<f64>,
    /// Retries.
    pub retries: i64,
    /// Missed instants.
    pub missed: i64,
    /// Skipped instants.
    pub skipped: i64,
    /// Of the durations.
    pub duration_p50_us: Option<i64>,
    /// Of the durations.
    pub duration_p95_us: Option<i64>,
    /// Of the queue wait.
    pub wait_p95_us: Option<i64>,
    /// Of the lateness.
    pub lateness_p95_us: Option<i64>,
}

/// One kind or one schedule.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its numbers.
    #[serde(flatten)]
    pub summary: Summary,
}

/// What ended when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Throughput {
    /// How long a bucket is.
    pub bucket: BucketSize,
    /// The buckets, without gaps.
    pub buckets: Vec<Bucket>,
}

/// How long a bucket is, in the report's zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BucketSize {
    /// An hour.
    Hour,
    /// A calendar day.
    Day,
    /// A calendar month.
    Month,
}

/// The jobs that ended in one bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bucket {
    /// Its first instant.
    #[serde(serialize_with = "instant")]
    pub from: Timestamp,
    /// How they ended.
    #[serde(flatten)]
    pub jobs: Ended,
}

/// Charged attempts that took less than a bound and not less than the bound before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DurationClass {
    /// The bound; `None` for the last class, which has none.
    pub below_us: Option<u64>,
    /// How many.
    pub attempts: u64,
}

/// Instants that did not become a job of their own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct NotRun {
    /// By decision, schedule and reason, the largest first.
    pub groups: Vec<NotRunGroup>,
    /// Instants whose group is not listed because there were too many different ones.
    pub not_listed: u64,
}

/// Instants of one schedule that were not run for the same reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotRunGroup {
    /// What was decided.
    pub decision: Decision,
    /// Whose instants they were.
    pub schedule: String,
    /// Why. Reasons that differ only in numbers are one; this is the wording of the latest.
    pub reason: String,
    /// How many.
    pub instants: u64,
    /// The latest of them.
    #[serde(serialize_with = "instant")]
    pub latest_at: Timestamp,
}

/// An attempt that took long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SlowAttempt {
    /// How long it took.
    pub duration_us: u64,
    /// Whose attempt it was.
    pub job: JobId,
    /// Which execution of the job, from 1.
    pub number: u32,
    /// The job's kind.
    pub kind: String,
    /// The schedule that made the job.
    pub schedule: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// When it was started.
    #[serde(serialize_with = "instant")]
    pub started_at: Timestamp,
}

/// Jobs that failed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Failures {
    /// The latest of them, the latest first.
    pub latest: Vec<FailedJob>,
    /// How many more there were.
    pub not_listed: u64,
}

/// A job that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailedJob {
    /// When it had failed for good.
    #[serde(serialize_with = "instant")]
    pub finished_at: Timestamp,
    /// The job.
    pub job: JobId,
    /// Its kind.
    pub kind: String,
    /// The schedule that made it.
    pub schedule: Option<String>,
    /// How often it was tried.
    pub charged_attempts: u32,
    /// Why, shortened where it is very long.
    pub error: String,
}

impl Ended {
    /// All of them.
    #[must_use]
    pub fn total(self) -> u64 {
        self.completed + self.failed + self.cancelled
    }

    /// Completed of completed and failed, where there were any.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share of fewer than 2^53 jobs")]
    pub fn success_rate(self) -> Option<f64> {
        let judged = self.completed + self.failed;
        (judged > 0).then(|| self.completed as f64 / judged as f64)
    }
}

impl Change {
    /// What changed from one period to the next.
    #[must_use]
    pub fn between(before: &Summary, now: &Summary) -> Self {
        let count = |before: u64, now: u64| now.cast_signed().saturating_sub(before.cast_signed());
        let length = |before: Option<u64>, now: Option<u64>| Some(count(before?, now?));
        Self {
            jobs: count(before.jobs.total(), now.jobs.total()),
            failed: count(before.jobs.failed, now.jobs.failed),
            success_rate: now.success_rate.zip(before.success_rate).map(|(now, then)| now - then),
            retries: count(before.retries, now.retries),
            missed: count(before.missed, now.missed),
            skipped: count(before.skipped, now.skipped),
            duration_p50_us: length(before.duration.p50_us, now.duration.p50_us),
            duration_p95_us: length(before.duration.p95_us, now.duration.p95_us),
            wait_p95_us: length(before.wait.p95_us, now.wait.p95_us),
            lateness_p95_us: length(before.lateness.p95_us, now.lateness.p95_us),
        }
    }
}

/// Serialises an instant as RFC 3339 in UTC with microseconds, as everywhere else on the outside.
fn instant<S: serde::Serializer>(instant: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(6));
    serializer.serialize_str(&PRINTER.timestamp_to_string(instant))
}
