//! A source that holds its rows in memory, and a day of them, for the tests of everything built on a report.

use jiff::{SignedDuration, Timestamp};

use super::{
    AttemptFact, Cursor, FuturePage, OccurrenceFact, Page, ResultFact, Source, SourceError, Window,
};
use crate::model::{Decision, FinalState, JobId, Outcome};

/// Small, so that every test goes through several pages.
const PAGE: usize = 7;

#[derive(Debug, Default)]
pub(crate) struct MemorySource {
    pub(crate) attempts: Vec<AttemptFact>,
    pub(crate) results: Vec<ResultFact>,
    pub(crate) occurrences: Vec<(Timestamp, OccurrenceFact)>,
    pub(crate) broken: bool,
}

impl MemorySource {
    fn page<T: Clone + Send + 'static>(
        &self,
        what: &'static str,
        rows: impl Iterator<Item = (Timestamp, T)>,
        window: Window,
        after: Option<Cursor>,
    ) -> FuturePage<'static, T> {
        if self.broken {
            let source = "the disk is gone".into();
            return Box::pin(async move { Err(SourceError { what, source }) });
        }
        let skip = after.map_or(0, |cursor| usize::try_from(cursor.id).unwrap());
        let mut rest = rows.filter(|(at, _)| window.contains(*at)).skip(skip).peekable();
        let taken: Vec<(Timestamp, T)> = rest.by_ref().take(PAGE).collect();
        let id = i64::try_from(skip + taken.len()).unwrap();
        let next = rest.peek().map(|(at, _)| Cursor { at: *at, id });
        let rows = taken.into_iter().map(|(_, row)| row).collect();
        Box::pin(async move { Ok(Page { rows, next }) })
    }
}

impl Source for MemorySource {
    fn attempts(&self, window: Window, after: Option<Cursor>) -> FuturePage<'_, AttemptFact> {
        let rows = self.attempts.iter().map(|row| (row.finished_at, row.clone()));
        self.page("attempts", rows, window, after)
    }

    fn results(&self, window: Window, after: Option<Cursor>) -> FuturePage<'_, ResultFact> {
        let rows = self.results.iter().map(|row| (row.finished_at, row.clone()));
        self.page("results", rows, window, after)
    }

    fn occurrences(&self, window: Window, after: Option<Cursor>) -> FuturePage<'_, OccurrenceFact> {
        self.page("occurrences", self.occurrences.iter().cloned(), window, after)
    }
}

/// Two days of a small house: 20 and 21 November 2026 in Berlin, a quiet one and one with trouble.
pub(crate) fn two_days() -> MemorySource {
    let mut source = MemorySource::default();
    let midnight: Timestamp = "2026-11-19T23:00:00Z".parse().unwrap();
    for hour in 0..48_i64 {
        let at = midnight + SignedDuration::from_hours(hour);
        let trouble = hour >= 24;
        source.run("kb-check", "kb_validation", at, 350 + hour * 7 % 90, Outcome::Success);
        source.run(
            "heartbeat",
            "http",
            at + SignedDuration::from_mins(5),
            90 + hour % 12,
            Outcome::Success,
        );
        if trouble && (9..12).contains(&(hour % 24)) {
            source.skip(
                "mirror-docs",
                at,
                Decision::SkippedOverlap,
                format!("job {} still runs", 40 + hour),
            );
        } else {
            let seconds = if hour % 24 == 3 { 1930 } else { 4 + hour % 5 };
            source.run("mirror-docs", "data_sync", at, seconds * 1000, Outcome::Success);
        }
        if hour % 6 == 0 {
            let outcome =
                if trouble && hour % 24 >= 12 { Outcome::Failure } else { Outcome::Success };
            source.run("cleanup-tmp", "cleanup", at, 12_000 + hour * 10, outcome);
        }
        if hour % 24 == 8 {
            source.run(
                "backup",
                "command",
                at,
                754_000,
                if trouble { Outcome::Timeout } else { Outcome::Success },
            );
        }
    }
    let down = "2026-11-21T17:00:00Z".parse().unwrap();
    source.skip(
        "heartbeat",
        down,
        Decision::Missed,
        "the daemon was down; the window of 1h had passed".to_owned(),
    );
    source
}

impl MemorySource {
    /// A scheduled job of one attempt that starts 40 ms late.
    fn run(
        &mut self,
        schedule: &str,
        kind: &str,
        nominal_at: Timestamp,
        took_ms: i64,
        outcome: Outcome,
    ) {
        let job = JobId(i64::try_from(self.results.len()).unwrap() + 1);
        let started_at = nominal_at + SignedDuration::from_millis(40);
        let finished_at = started_at + SignedDuration::from_millis(took_ms);
        self.attempts.push(AttemptFact {
            job,
            number: 1,
            outcome,
            started_at,
            finished_at,
            kind: kind.to_owned(),
            schedule: Some(schedule.to_owned()),
            nominal_at: Some(nominal_at),
            run_at: nominal_at,
            created_at: nominal_at + SignedDuration::from_millis(2),
        });
        let error = match outcome {
            Outcome::Failure => Some(format!(
                "the plan of {schedule} exceeds a limit: 12,408 files are more than max_files = 10,000\nnothing was removed"
            )),
            Outcome::Timeout => Some("it took longer than its timeout of 12m".to_owned()),
            _ => None,
        };
        self.results.push(ResultFact {
            job,
            state: outcome.into(),
            finished_at,
            charged: 1,
            error,
            kind: kind.to_owned(),
            schedule: Some(schedule.to_owned()),
        });
        self.decide(schedule, nominal_at, Decision::Enqueued, "due".to_owned());
    }

    fn skip(&mut self, schedule: &str, at: Timestamp, decision: Decision, reason: String) {
        self.decide(schedule, at, decision, reason);
    }

    fn decide(
        &mut self,
        schedule: &str,
        nominal_at: Timestamp,
        decision: Decision,
        reason: String,
    ) {
        let schedule = schedule.to_owned();
        let row = OccurrenceFact { schedule, nominal_at, decision, reason, instants: 1 };
        self.occurrences.push((nominal_at + SignedDuration::from_millis(2), row));
    }
}

/// A job no schedule made, whose every text is hostile to some format.
pub(crate) fn hostile() -> MemorySource {
    let mut source = MemorySource::default();
    let at: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
    let kind = "=HYPERLINK(\"http://evil\")|<img src=x onerror=alert(1)>\u{202e}";
    source.attempts.push(AttemptFact {
        job: JobId(1),
        number: 1,
        outcome: Outcome::Error,
        started_at: at,
        finished_at: at + SignedDuration::from_secs(1),
        kind: kind.to_owned(),
        schedule: None,
        nominal_at: None,
        run_at: at,
        created_at: at,
    });
    source.results.push(ResultFact {
        job: JobId(1),
        state: FinalState::Failed,
        finished_at: at + SignedDuration::from_secs(1),
        charged: 3,
        error: Some(
            "</td></table><script>alert('x')</script>\n| a | b |\u{7}{{ 7 * 7 }}".to_owned(),
        ),
        kind: kind.to_owned(),
        schedule: None,
    });
    source.decide("a", at, Decision::SkippedRequirement, "\"><b>bold</b>".to_owned());
    source
}
