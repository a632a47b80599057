//! Every number that the daemon exposes, by name.
//!
//! Names follow Prometheus' rules: prefix `sexton_`, base units in the name, `_total` on counters only. Labels are bounded
//! (case J13): only the first so many schedules have series of their own.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::model::{Decision, JobState, Outcome};

/// The `Content-Type` of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How many schedules have times and counters of their own; the others share the label `other`.
pub const MAX_SCHEDULES: usize = 10_000;

/// How many schedules have a histogram of their own, each of which is 15 series.
const MAX_HISTOGRAMS: usize = 500;

/// From a quick command to a long backup, in seconds.
const DURATION_BUCKETS: [f64; 12] =
    [0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 43_200.0];

/// From "to the millisecond" to "after a long stop", in seconds.
const DELAY_BUCKETS: [f64; 12] =
    [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0];

type Seconds = Gauge<f64, AtomicU64>;
type HistogramMaker = fn() -> Histogram;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSchedule {
    schedule: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfState {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRun {
    schedule: String,
    kind: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSkip {
    schedule: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfVersion {
    version: &'static str,
}

/// The daemon's numbers. Everything that happens is counted as it happens; what only *is* (queue lengths, states) is set
/// with [`Metrics::set_levels`] before they are read.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    schedules: Bounded,
    histograms: Bounded,
    reload_ok: Gauge,
    reload_ok_at: Seconds,
    schedules_by_state: Family<OfState, Gauge>,
    next_run: Family<OfSchedule, Seconds>,
    last_run: Family<OfSchedule, Seconds>,
    last_success: Family<OfSchedule, Seconds>,
    runs: Family<OfRun, Counter>,
    run_duration: Family<OfSchedule, Histogram, HistogramMaker>,
    lateness: Histogram,
    skipped: Family<OfSkip, Counter>,
    queue_jobs: Family<OfState, Gauge>,
    queue_oldest: Seconds,
    queue_wait: Histogram,
    retries: Family<OfSchedule, Counter>,
    breaker_trips: Counter,
    breakers_tripped: Gauge,
    workers: Family<OfState, Gauge>,
    log_dropped: Counter,
    log_errors: Counter,
    audit_lines: Counter,
    audit_ok: Gauge,
    db_busy: Counter,
    db_writable: Gauge,
    db_wal: Gauge,
}

/// How an attempt went.
#[derive(Debug, Clone, Copy)]
pub struct RunEnded<'a> {
    /// The schedule that made the job; `None`: it was submitted.
    pub schedule: Option<&'a str>,
    /// The job's kind, one that is known.
    pub kind: &'a str,
    /// How it ended.
    pub outcome: Outcome,
    /// When.
    pub at: Timestamp,
    /// How long it took.
    pub duration: Duration,
    /// Whether the job will be tried again because of it.
    pub is_retried: bool,
}

/// What is at this moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Levels {
    /// Schedules in force, broken ones that keep their last good definition, paused, disabled.
    pub schedules: ScheduleLevels,
    /// Jobs that are not over, by state.
    pub jobs: Vec<(JobState, u64)>,
    /// How long the oldest job that could run has waited.
    pub oldest_ready: Duration,
    /// Breakers that have tripped, on all nodes together.
    pub breakers_tripped: u64,
    /// Workers that execute something, and all of them.
    pub workers_busy: u64,
    /// All workers.
    pub workers: u64,
    /// Log lines dropped since the start.
    pub log_dropped: u64,
    /// Log lines refused by the disk since the start.
    pub log_errors: u64,
    /// Number of the last audit record.
    pub audit_seq: u64,
    /// Whether the last write of the audit log succeeded.
    pub is_audit_ok: bool,
    /// Whether the last write of the database succeeded.
    pub is_db_writable: bool,
    /// Waits for another process's lock on the database since the start.
    pub lock_waits: u64,
    /// The length of SQLite's write-ahead log; zero elsewhere.
    pub wal_bytes: u64,
}

/// Schedules by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScheduleLevels {
    /// In force.
    pub active: u64,
    /// In force with an older definition, because their file is broken.
    pub stale: u64,
    /// Held back by hand.
    pub paused: u64,
    /// Switched off in their file.
    pub disabled: u64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All of them, at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("sexton");
        let version = OfVersion { version: env!("CARGO_PKG_VERSION") };
        registry.register("build", "The version that runs", Info::new(version));
        let mut of = In(&mut registry);
        Self {
            reload_ok: of.plain(
                "config_last_reload_successful",
                "Whether every schedule file was good at the last reload",
            ),
            reload_ok_at: of.seconds(
                "config_last_reload_success_timestamp",
                "When every schedule file was last good",
            ),
            schedules_by_state: of.plain("schedules", "Schedules by state"),
            next_run: of.seconds("schedule_next_run_timestamp", "When the schedule is next due"),
            last_run: of
                .seconds("schedule_last_run_timestamp", "When the schedule's last attempt ended"),
            last_success: of.seconds(
                "schedule_last_success_timestamp",
                "When the schedule's last successful attempt ended",
            ),
            runs: of.plain(
                "runs",
                "Attempts that ended; schedule is empty for jobs that were submitted",
            ),
            run_duration: of.seconds_as(
                "run_duration",
                "How long attempts took",
                Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS)),
            ),
            lateness: of.seconds_as(
                "schedule_lateness",
                "How long after its instant a schedule's job was enqueued",
                Histogram::new(DELAY_BUCKETS),
            ),
            skipped: of.plain("schedule_skipped", "Due instants that made no job, by decision"),
            queue_jobs: of.plain("queue_jobs", "Jobs that are not over, by state"),
            queue_oldest: of.seconds(
                "queue_oldest_job_age",
                "How long the oldest job that could run has waited",
            ),
            queue_wait: of.seconds_as(
                "queue_wait",
                "How long jobs waited from when they could run to their start",
                Histogram::new(DELAY_BUCKETS),
            ),
            retries: of.plain("retries", "Attempts after which the job is tried again"),
            breaker_trips: of.plain(
                "breaker_trips",
                "How often a breaker has tripped by an attempt of this node",
            ),
            breakers_tripped: of
                .plain("breakers_tripped", "Breakers that let nothing start now, on all nodes"),
            workers: of.plain("workers", "Workers by state"),
            log_dropped: of.plain(
                "log_dropped_lines",
                "Log lines dropped because they could not be written fast enough",
            ),
            log_errors: of
                .plain("log_write_errors", "Log lines that could not be written to the log file"),
            audit_lines: of.plain("audit_records", "Records in the audit log"),
            audit_ok: of
                .plain("audit_writable", "Whether the last write of the audit log succeeded"),
            db_writable: of
                .plain("db_writable", "Whether the last write of the database succeeded"),
            db_wal: of.bytes("db_wal", "The length of SQLite's write-ahead log"),
            db_busy: of.plain(
                "db_busy",
                "Waits of five seconds for another process's lock on the database",
            ),
            schedules: Bounded::to(MAX_SCHEDULES),
            histograms: Bounded::to(MAX_HISTOGRAMS),
            registry,
        }
    }

    /// Notes how a reload went.
    pub fn reloaded(&self, ok: bool, at: Timestamp) {
        self.reload_ok.set(i64::from(ok));
        if ok {
            self.reload_ok_at.set(unix_seconds(at));
        }
    }

    /// Notes an attempt that has ended.
    pub fn run_ended(&self, run: &RunEnded<'_>) {
        let schedule =
            run.schedule.map_or_else(String::new, |schedule| self.schedules.label(schedule));
        let of = OfSchedule { schedule };
        if run.schedule.is_some() {
            let at = unix_seconds(run.at);
            self.last_run.get_or_create(&of).set(at);
            if run.outcome == Outcome::Success {
                self.last_success.get_or_create(&of).set(at);
            }
        }
        let detailed = OfSchedule {
            schedule: run.schedule.map_or_else(String::new, |s| self.histograms.label(s)),
        };
        self.run_duration.get_or_create(&detailed).observe(run.duration.as_secs_f64());
        if run.is_retried {
            self.retries.get_or_create(&of).inc();
        }
        let kind = run.kind.to_owned();
        let of = OfRun { schedule: of.schedule, kind, outcome: run.outcome.as_str() };
        self.runs.get_or_create(&of).inc();
    }

    /// Notes a breaker that has tripped, or did so again after its probe.
    pub fn breaker_tripped(&self) {
        self.breaker_trips.inc();
    }

    /// Notes how long a job waited from when it could run to its start.
    pub fn job_started(&self, waited: Duration) {
        self.queue_wait.observe(waited.as_secs_f64());
    }

    /// Notes what was decided about a due instant, and how long after it.
    pub fn decided(&self, schedule: &str, decision: Decision, lateness: Duration) {
        if decision == Decision::Enqueued {
            self.lateness.observe(lateness.as_secs_f64());
        } else {
            let of = OfSkip { schedule: self.schedules.label(schedule), reason: decision.as_str() };
            self.skipped.get_or_create(&of).inc();
        }
    }

    /// Notes when a schedule is next due; `None`: never again.
    pub fn next_run(&self, schedule: &str, at: Option<Timestamp>) {
        let of = OfSchedule { schedule: self.schedules.label(schedule) };
        match at {
            Some(at) => {
                self.next_run.get_or_create(&of).set(unix_seconds(at));
            }
            None => {
                self.next_run.remove(&of);
            }
        }
    }

    /// Drops the times of a schedule that is gone, so that nobody is alarmed by their age. Its counters stay.
    pub fn forget(&self, schedule: &str) {
        let of = OfSchedule { schedule: schedule.to_owned() };
        for family in [&self.next_run, &self.last_run, &self.last_success] {
            family.remove(&of);
        }
    }

    /// Sets what is at this moment.
    pub fn set_levels(&self, levels: &Levels) {
        let ScheduleLevels { active, stale, paused, disabled } = levels.schedules;
        let by_state =
            [("active", active), ("stale", stale), ("paused", paused), ("disabled", disabled)];
        set_all(&self.schedules_by_state, by_state);
        let live = JobState::ALL.into_iter().filter(|state| !state.is_final());
        let count = |state| {
            let found = levels.jobs.iter().find(|(of, _)| *of == state);
            found.map_or(0, |(_, count)| *count)
        };
        set_all(&self.queue_jobs, live.map(|state| (state.as_str(), count(state))));
        self.queue_oldest.set(levels.oldest_ready.as_secs_f64());
        self.breakers_tripped.set(i64::try_from(levels.breakers_tripped).unwrap_or(i64::MAX));
        let idle = levels.workers.saturating_sub(levels.workers_busy);
        set_all(&self.workers, [("busy", levels.workers_busy), ("idle", idle)]);
        for (counter, now) in [
            (&self.log_dropped, levels.log_dropped),
            (&self.log_errors, levels.log_errors),
            (&self.audit_lines, levels.audit_seq),
            (&self.db_busy, levels.lock_waits),
        ] {
            counter.inc_by(now.saturating_sub(counter.get()));
        }
        self.audit_ok.set(i64::from(levels.is_audit_ok));
        self.db_writable.set(i64::from(levels.is_db_writable));
        self.db_wal.set(i64::try_from(levels.wal_bytes).unwrap_or(i64::MAX));
    }

    /// All of them as OpenMetrics text.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail, and nothing else can go wrong.
        let _ = text::encode(&mut text, &self.registry);
        text
    }
}

/// Names that may be labels, up to a limit.
#[derive(Debug)]
struct Bounded {
    limit: usize,
    known: Mutex<BTreeSet<String>>,
}

impl Bounded {
    fn to(limit: usize) -> Self {
        Self { limit, known: Mutex::default() }
    }

    /// The label of a schedule: its name, or `other` once there are too many.
    fn label(&self, schedule: &str) -> String {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains(schedule) {
            if known.len() >= self.limit {
                return "other".to_owned();
            }
            known.insert(schedule.to_owned());
        }
        schedule.to_owned()
    }
}

/// A registry, to name each metric and make it in one breath.
struct In<'a>(&'a mut Registry);

impl In<'_> {
    fn plain<M: prometheus_client::registry::Metric + Default + Clone>(
        &mut self,
        name: &str,
        help: &str,
    ) -> M {
        let metric = M::default();
        self.0.register(name, help, metric.clone());
        metric
    }

    fn bytes<M: prometheus_client::registry::Metric + Default + Clone>(
        &mut self,
        name: &str,
        help: &str,
    ) -> M {
        let metric = M::default();
        self.0.register_with_unit(name, help, Unit::Bytes, metric.clone());
        metric
    }

    fn seconds<M: prometheus_client::registry::Metric + Default + Clone>(
        &mut self,
        name: &str,
        help: &str,
    ) -> M {
        self.seconds_as(name, help, M::default())
    }

    fn seconds_as<M: prometheus_client::registry::Metric + Clone>(
        &mut self,
        name: &str,
        help: &str,
        metric: M,
    ) -> M {
        self.0.register_with_unit(name, help, Unit::Seconds, metric.clone());
        metric
    }
}

fn set_all(family: &Family<OfState, Gauge>, values: impl IntoIterator<Item = (&'static str, u64)>) {
    for (state, value) in values {
        family.get_or_create(&OfState { state }).set(i64::try_from(value).unwrap_or(i64::MAX));
    }
}

fn unix_seconds(at: Timestamp) -> f64 {
    // Exact to the microsecond until the year 2255.
    at.as_duration().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_780_000_000 + second).unwrap()
    }

    #[test]
    fn the_names_and_their_texts_are_these() {
        let metrics = Metrics::new();
        metrics.reloaded(true, at(0));
        metrics.next_run("cleanup-tmp", Some(at(60)));
        metrics.decided("cleanup-tmp", Decision::Enqueued, Duration::from_micros(800));
        metrics.decided("cleanup-tmp", Decision::SkippedOverlap, Duration::ZERO);
        metrics.job_started(Duration::from_millis(3));
        let ended = RunEnded {
            schedule: Some("cleanup-tmp"),
            kind: "cleanup",
            outcome: Outcome::Success,
            at: at(5),
            duration: Duration::from_millis(20),
            is_retried: false,
        };
        metrics.run_ended(&ended);
        metrics.run_ended(&RunEnded {
            schedule: None,
            outcome: Outcome::Failure,
            is_retried: true,
            ..ended
        });
        metrics.set_levels(&Levels {
            schedules: ScheduleLevels { active: 3, stale: 1, ..ScheduleLevels::default() },
            jobs: vec![(JobState::Pending, 12), (JobState::Running, 2)],
            oldest_ready: Duration::from_millis(1500),
            breakers_tripped: 1,
            workers_busy: 2,
            workers: 8,
            log_dropped: 1,
            log_errors: 0,
            audit_seq: 40,
            is_audit_ok: true,
            is_db_writable: true,
            lock_waits: 1,
            wal_bytes: 4096,
        });
        insta::assert_snapshot!(without_order(&metrics.encode()));
    }

    /// Series of one family come in the order of a hash map; for comparing, each family's are sorted.
    fn without_order(text: &str) -> String {
        let mut families: Vec<Vec<&str>> = Vec::new();
        for line in text.lines() {
            match families.last_mut() {
                Some(family) if !line.starts_with("# HELP") && !line.starts_with("# EOF") => {
                    family.push(line);
                }
                _ => families.push(vec![line]),
            }
        }
        for family in &mut families {
            // A histogram's buckets keep their order within its schedule.
            let is_histogram = family.iter().any(|line| line.ends_with(" histogram"));
            let schedule = |line: &str| line.split("schedule=").nth(1).map(str::to_owned);
            family[1..].sort_by_key(|line| {
                let text = if is_histogram { "" } else { line };
                (!line.starts_with('#'), schedule(line), text.to_owned())
            });
        }
        families.concat().join("\n")
    }

    #[test]
    fn counters_that_are_read_elsewhere_never_go_back() {
        let metrics = Metrics::new();
        for dropped in [5, 3, 7] {
            metrics.set_levels(&Levels { log_dropped: dropped, ..Levels::default() });
        }
        assert!(metrics.encode().contains("sexton_log_dropped_lines_total 7\n"));
    }

    #[test]
    fn j13_names_beyond_the_bound_share_a_label() {
        let metrics = Metrics::new();
        for number in 0..MAX_SCHEDULES + 50 {
            metrics.next_run(&format!("s{number}"), Some(at(0)));
        }
        let series =
            metrics.encode().matches("sexton_schedule_next_run_timestamp_seconds{").count();
        assert_eq!(series, MAX_SCHEDULES + 1);
    }

    #[test]
    fn a_schedule_that_is_gone_has_no_times() {
        let metrics = Metrics::new();
        metrics.next_run("gone", Some(at(0)));
        metrics.forget("gone");
        assert!(!metrics.encode().contains("gone"));
    }
}
