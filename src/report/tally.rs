//! From rows to numbers, one row at a time. Pure, and bounded in memory however many rows there are.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::facts::{AttemptFact, OccurrenceFact, ResultFact};
use super::histogram::Histogram;
use super::numbers::{
    DurationClass, Ended, FailedJob, Failures, Group, NotRun, Scope, SlowAttempt, Spread, Summary,
    Throughput,
};
use super::reasons::Reasons;
use super::top::Top;
use super::{PeriodError, Window, buckets};
use crate::model::{Decision, FinalState, Outcome};

/// How many of the slowest attempts are listed.
const SLOWEST: usize = 10;
/// How many failed jobs are listed.
const FAILURES: usize = 50;
/// The longest error text that is kept, in characters.
const ERROR_CHARS: usize = 1000;

/// The bounds of the duration classes, in microseconds: lengths people have a feeling for.
const CLASS_BOUNDS_US: [u64; 7] =
    [10_000, 100_000, 1_000_000, 10_000_000, 60_000_000, 600_000_000, 3_600_000_000];

/// Adds up the rows of one window.
#[derive(Debug)]
pub(super) struct Tally {
    scope: Scope,
    total: Sums,
    kinds: BTreeMap<String, Sums>,
    schedules: BTreeMap<String, Sums>,
    outcomes: BTreeMap<&'static str, u64>,
    throughput: Throughput,
    classes: [u64; CLASS_BOUNDS_US.len() + 1],
    slowest: Top<(u64, i64, u32), SlowAttempt>,
    failures: Top<(Timestamp, i64), FailedJob>,
    reasons: Reasons,
    /// Schedules that made jobs of kinds outside the scope. An occurrence does not say what kind of job it made or would
    /// have made, so this is how the instants of such schedules are told from those of the others.
    foreign: HashSet<String>,
}

/// What a tally comes to.
#[derive(Debug)]
pub(super) struct Totals {
    pub(super) summary: Summary,
    pub(super) kinds: Vec<Group>,
    pub(super) schedules: Vec<Group>,
    pub(super) outcomes: BTreeMap<&'static str, u64>,
    pub(super) throughput: Throughput,
    pub(super) durations: Vec<DurationClass>,
    pub(super) not_run: NotRun,
    pub(super) slowest: Vec<SlowAttempt>,
    pub(super) failures: Failures,
}

impl Tally {
    pub(super) fn new(window: Window, zone: &TimeZone, scope: Scope) -> Result<Self, PeriodError> {
        Ok(Self {
            scope,
            total: Sums::default(),
            kinds: BTreeMap::new(),
            schedules: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            throughput: buckets::empty(window, zone)?,
            classes: [0; CLASS_BOUNDS_US.len() + 1],
            slowest: Top::new(SLOWEST),
            failures: Top::new(FAILURES),
            reasons: Reasons::default(),
            foreign: HashSet::new(),
        })
    }

    pub(super) fn attempt(&mut self, attempt: &AttemptFact) {
        if !self.takes(&attempt.kind, attempt.schedule.as_deref()) {
            return;
        }
        let took = attempt.duration_us();
        *self.outcomes.entry(attempt.outcome.as_str()).or_default() += 1;
        for sums in self.sums(&attempt.kind, attempt.schedule.as_deref()) {
            sums.attempt(attempt, took);
        }
        if !attempt.outcome.is_charged() {
            return;
        }
        self.classes[CLASS_BOUNDS_US.partition_point(|bound| *bound <= took)] += 1;
        self.slowest.offer((took, attempt.job.0, attempt.number), || SlowAttempt {
            duration_us: took,
            job: attempt.job,
            number: attempt.number,
            kind: attempt.kind.clone(),
            schedule: attempt.schedule.clone(),
            outcome: attempt.outcome,
            started_at: attempt.started_at,
        });
    }

    pub(super) fn result(&mut self, result: &ResultFact) {
        if !self.takes(&result.kind, result.schedule.as_deref()) {
            return;
        }
        for sums in self.sums(&result.kind, result.schedule.as_deref()) {
            sums.result(result);
        }
        self.throughput.count(result.state, result.finished_at);
        if result.state == FinalState::Failed {
            self.failures.offer((result.finished_at, result.job.0), || FailedJob {
                finished_at: result.finished_at,
                job: result.job,
                kind: result.kind.clone(),
                schedule: result.schedule.clone(),
                charged_attempts: result.charged,
                error: shorten(result.error.as_deref().unwrap_or_default()),
            });
        }
    }

    /// Attempts and results come first: they tell which schedules are in scope by kind.
    pub(super) fn occurrence(&mut self, occurrence: &OccurrenceFact) {
        let schedule = &occurrence.schedule;
        let is_foreign = self.foreign.contains(schedule) && !self.schedules.contains_key(schedule);
        if is_foreign || !self.scope.takes_schedule(schedule) {
            return;
        }
        self.total.occurrence(occurrence);
        entry(&mut self.schedules, schedule).occurrence(occurrence);
        let runs_or_may = matches!(
            occurrence.decision,
            Decision::Enqueued | Decision::Coalesced | Decision::Waiting
        );
        if !runs_or_may {
            self.reasons.add(occurrence);
        }
    }

    pub(super) fn finish(self) -> Totals {
        let groups = |sums: BTreeMap<String, Sums>| {
            sums.into_iter().map(|(name, sums)| Group { name, summary: sums.finish() }).collect()
        };
        let bounds = CLASS_BOUNDS_US.into_iter().map(Some).chain([None]);
        let durations = bounds
            .zip(self.classes)
            .map(|(below_us, attempts)| DurationClass { below_us, attempts })
            .collect();
        let (latest, not_listed) = self.failures.finish();
        Totals {
            summary: self.total.finish(),
            kinds: groups(self.kinds),
            schedules: groups(self.schedules),
            outcomes: self.outcomes,
            throughput: self.throughput,
            durations,
            not_run: self.reasons.finish(),
            slowest: self.slowest.finish().0,
            failures: Failures { latest, not_listed },
        }
    }

    fn takes(&mut self, kind: &str, schedule: Option<&str>) -> bool {
        let takes_kind = self.scope.takes_kind(kind);
        if let (false, Some(schedule)) = (takes_kind, schedule)
            && !self.foreign.contains(schedule)
        {
            self.foreign.insert(schedule.to_owned());
        }
        let no_schedule_named = self.scope.schedules.is_empty();
        takes_kind && schedule.map_or(no_schedule_named, |id| self.scope.takes_schedule(id))
    }

    /// The sums a row of that kind and schedule belongs to.
    fn sums(&mut self, kind: &str, schedule: Option<&str>) -> impl Iterator<Item = &mut Sums> {
        let schedule = schedule.map(|schedule| entry(&mut self.schedules, schedule));
        [&mut self.total, entry(&mut self.kinds, kind)].into_iter().chain(schedule)
    }
}

/// Looks a name up before copying it: there are many rows and few names.
fn entry<'a>(groups: &'a mut BTreeMap<String, Sums>, name: &str) -> &'a mut Sums {
    if !groups.contains_key(name) {
        groups.insert(name.to_owned(), Sums::default());
    }
    groups.get_mut(name).expect("it was just put in")
}

impl Scope {
    fn takes_kind(&self, kind: &str) -> bool {
        self.kinds.is_empty() || self.kinds.iter().any(|wanted| wanted == kind)
    }

    fn takes_schedule(&self, schedule: &str) -> bool {
        self.schedules.is_empty() || self.schedules.iter().any(|wanted| wanted == schedule)
    }
}

/// The sums of a period, a kind or a schedule.
#[derive(Debug, Clone, Default)]
struct Sums {
    summary: Summary,
    duration: Histogram,
    wait: Histogram,
    lateness: Histogram,
}

impl Sums {
    fn attempt(&mut self, attempt: &AttemptFact, took: u64) {
        self.summary.attempts += 1;
        self.summary.interrupted += u64::from(attempt.outcome == Outcome::Interrupted);
        if attempt.outcome.is_charged() {
            self.duration.record(took);
        }
        if let Some(waited) = attempt.wait_us() {
            self.wait.record(waited);
        }
        if let Some(late) = attempt.lateness_us() {
            self.lateness.record(late);
        }
    }

    fn result(&mut self, result: &ResultFact) {
        self.summary.jobs.count(result.state);
        self.summary.retries += u64::from(result.charged.saturating_sub(1));
        let recovered = result.state == FinalState::Completed && result.charged > 1;
        self.summary.recovered += u64::from(recovered);
    }

    fn occurrence(&mut self, occurrence: &OccurrenceFact) {
        let counter = match occurrence.decision {
            Decision::Enqueued => &mut self.summary.enqueued,
            Decision::Coalesced => &mut self.summary.coalesced,
            Decision::SkippedOverlap
            | Decision::SkippedPaused
            | Decision::SkippedBlackout
            | Decision::SkippedRequirement => &mut self.summary.skipped,
            Decision::Missed | Decision::InvalidFile => &mut self.summary.missed,
            // It counts when something has become of it.
            Decision::Waiting => return,
        };
        *counter += occurrence.instants;
    }

    fn finish(mut self) -> Summary {
        self.summary.success_rate = self.summary.jobs.success_rate();
        self.summary.duration = spread(&self.duration);
        self.summary.wait = spread(&self.wait);
        self.summary.lateness = spread(&self.lateness);
        self.summary
    }
}

impl Ended {
    /// Counts a job.
    pub(super) fn count(&mut self, state: FinalState) {
        match state {
            FinalState::Completed => self.completed += 1,
            FinalState::Failed => self.failed += 1,
            FinalState::Cancelled => self.cancelled += 1,
        }
    }
}

fn spread(histogram: &Histogram) -> Spread {
    Spread {
        count: histogram.count(),
        p50_us: histogram.percentile(50),
        p95_us: histogram.percentile(95),
        max_us: histogram.max(),
        mean_us: histogram.mean(),
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(ERROR_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;

    use super::*;
    use crate::model::JobId;

    const START: &str = "2026-11-21T00:00:00Z";

    fn tally(scope: Scope) -> Tally {
        let from: Timestamp = START.parse().unwrap();
        Tally::new(Window::new(from, from + 24.hours()).unwrap(), &TimeZone::UTC, scope).unwrap()
    }

    /// An attempt of `nightly` that was due at the start, accepted 3 s and started 5 s later, and took 2 s.
    fn attempt(job: i64, number: u32, outcome: Outcome) -> AttemptFact {
        let start: Timestamp = START.parse().unwrap();
        AttemptFact {
            job: JobId(job),
            number,
            outcome,
            started_at: start + 5.seconds(),
            finished_at: start + 7.seconds(),
            kind: "cleanup".to_owned(),
            schedule: Some("nightly".to_owned()),
            nominal_at: Some(start),
            run_at: start,
            created_at: start + 3.seconds(),
        }
    }

    fn result(job: i64, state: FinalState, charged: u32) -> ResultFact {
        ResultFact {
            job: JobId(job),
            state,
            finished_at: START.parse::<Timestamp>().unwrap() + 7.seconds(),
            charged,
            error: None,
            kind: "cleanup".to_owned(),
            schedule: Some("nightly".to_owned()),
        }
    }

    fn missed(schedule: &str) -> OccurrenceFact {
        OccurrenceFact {
            schedule: schedule.to_owned(),
            nominal_at: START.parse().unwrap(),
            decision: Decision::Missed,
            reason: "down".to_owned(),
            instants: 4,
        }
    }

    #[test]
    fn only_the_first_attempt_tells_how_long_a_job_waited_and_how_late_it_was() {
        let mut tally = tally(Scope::default());
        tally.attempt(&attempt(1, 1, Outcome::Failure));
        tally.attempt(&attempt(1, 2, Outcome::Success));
        let summary = tally.finish().summary;
        assert_eq!((summary.wait.count, summary.wait.max_us), (1, Some(2_000_000)));
        assert_eq!((summary.lateness.count, summary.lateness.max_us), (1, Some(5_000_000)));
        assert_eq!((summary.duration.count, summary.duration.max_us), (2, Some(2_000_000)));
    }

    #[test]
    fn an_interrupted_attempt_is_counted_and_its_time_is_not() {
        let mut tally = tally(Scope::default());
        tally.attempt(&attempt(1, 1, Outcome::Interrupted));
        let totals = tally.finish();
        assert_eq!((totals.summary.attempts, totals.summary.interrupted), (1, 1));
        assert_eq!(totals.summary.duration.count, 0);
        assert!(totals.slowest.is_empty());
    }

    #[test]
    fn retries_are_charged_attempts_beyond_the_first_and_cancelled_jobs_spoil_no_rate() {
        let mut tally = tally(Scope::default());
        tally.result(&result(1, FinalState::Completed, 3));
        tally.result(&result(2, FinalState::Completed, 1));
        tally.result(&result(3, FinalState::Failed, 2));
        tally.result(&result(4, FinalState::Cancelled, 0));
        let summary = tally.finish().summary;
        assert_eq!((summary.retries, summary.recovered), (3, 1));
        assert_eq!(summary.success_rate, Some(2.0 / 3.0));
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_negative_times() {
        let mut tally = tally(Scope::default());
        let mut odd = attempt(1, 1, Outcome::Success);
        odd.finished_at = odd.started_at - 9.seconds();
        odd.run_at = odd.started_at + 9.seconds();
        tally.attempt(&odd);
        let summary = tally.finish().summary;
        assert_eq!((summary.duration.max_us, summary.wait.max_us), (Some(0), Some(0)));
    }

    #[test]
    fn a_scope_of_kinds_leaves_out_the_due_runs_of_schedules_that_make_others() {
        let scope = Scope { kinds: vec!["http".to_owned()], schedules: Vec::new() };
        let mut tally = tally(scope);
        tally.attempt(&attempt(1, 1, Outcome::Success));
        tally.result(&result(1, FinalState::Failed, 1));
        tally.occurrence(&missed("nightly"));
        tally.occurrence(&missed("unknown"));
        let totals = tally.finish();
        assert_eq!((totals.summary.jobs.total(), totals.summary.attempts), (0, 0));
        assert_eq!(totals.summary.missed, 4, "nobody knows what `unknown` makes, so it is told");
    }

    #[test]
    fn a_scope_of_schedules_leaves_out_jobs_that_no_schedule_made() {
        let scope = Scope { kinds: Vec::new(), schedules: vec!["nightly".to_owned()] };
        let mut tally = tally(scope);
        tally.result(&result(1, FinalState::Completed, 1));
        tally.result(&ResultFact { schedule: None, ..result(2, FinalState::Completed, 1) });
        tally.occurrence(&missed("other"));
        let totals = tally.finish();
        assert_eq!((totals.summary.jobs.total(), totals.summary.missed), (1, 0));
    }
}
