//! What a reader sees, the same in HTML and Markdown: the numbers in words, in the order of interest.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::charts::{self, BarChart, DurationBar, Shares};
use super::words::{count, counted, instant, length, length_or_none, percent, period};
use crate::report::numbers::{
    Change, Failures, Group, NotRun, Numbers, Scope, SlowAttempt, Summary,
};

/// The longest table of schedules; the others are in the JSON and CSV files.
const MOST_SCHEDULES: usize = 200;
/// Percentiles are within 0.4 %, so two of them that differ by less than this share are the same.
const SAME_LENGTH: f64 = 0.01;

#[derive(Debug, Serialize)]
pub(super) struct View {
    period: String,
    timezone: String,
    generated: String,
    host: String,
    scope: Option<String>,
    compared_with: Option<String>,
    verdict: Verdict,
    cards: Vec<Card>,
    throughput: Option<BarChart>,
    schedules: Vec<GroupView>,
    schedules_not_listed: usize,
    kinds: Vec<GroupView>,
    failures: Vec<FailureView>,
    failures_not_listed: u64,
    not_run: Vec<NotRunView>,
    not_run_not_listed: u64,
    slowest: Vec<SlowView>,
    durations: Vec<DurationBar>,
    outcomes: Vec<(String, String)>,
}

/// The report in one sentence.
#[derive(Debug, Serialize)]
struct Verdict {
    tone: Tone,
    text: String,
}

/// Whether something is good news. Never told by colour alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Tone {
    Good,
    Bad,
    Neutral,
}

/// One of the large numbers at the top.
#[derive(Debug, Serialize)]
struct Card {
    name: &'static str,
    value: String,
    note: String,
    change: Option<Delta>,
}

/// What changed since the period before.
#[derive(Debug, Serialize)]
struct Delta {
    arrow: &'static str,
    text: String,
    tone: Tone,
}

#[derive(Debug, Serialize)]
struct GroupView {
    name: String,
    shares: Shares,
    jobs: String,
    failed: String,
    has_failures: bool,
    success_rate: String,
    p50: String,
    p95: String,
    max: String,
    wait_p95: String,
    lateness_p95: String,
    retries: String,
    missed: String,
    has_misses: bool,
    skipped: String,
}

#[derive(Debug, Serialize)]
struct FailureView {
    at: String,
    job: String,
    name: String,
    kind: String,
    attempts: u32,
    error: String,
}

#[derive(Debug, Serialize)]
struct NotRunView {
    decision: String,
    schedule: String,
    reason: String,
    instants: String,
    latest: String,
}

#[derive(Debug, Serialize)]
struct SlowView {
    duration: String,
    job: String,
    name: String,
    kind: String,
    outcome: String,
    started: String,
}

impl View {
    /// # Errors
    /// When the zone is not known on this machine.
    pub(super) fn of(numbers: &Numbers) -> Result<Self, jiff::Error> {
        let zone = TimeZone::get(&numbers.period.timezone)?;
        let summary = &numbers.summary;
        let change = numbers.previous.as_ref().map(|previous| &previous.change);
        let mut schedules: Vec<&Group> = numbers.schedules.iter().collect();
        schedules.sort_by_key(|group| std::cmp::Reverse(trouble(&group.summary)));
        let not_listed = schedules.split_off(MOST_SCHEDULES.min(schedules.len())).len();
        let mut kinds: Vec<&Group> = numbers.kinds.iter().collect();
        kinds.sort_by_key(|group| std::cmp::Reverse(trouble(&group.summary)));
        let outcomes = numbers.outcomes.iter();
        Ok(Self {
            period: period(numbers.period.from, numbers.period.to, &zone),
            timezone: numbers.period.timezone.clone(),
            generated: generated(numbers.generated_at, &zone),
            host: numbers.host.clone(),
            scope: scope(&numbers.scope),
            compared_with: numbers
                .previous
                .as_ref()
                .map(|previous| period(previous.from, previous.to, &zone)),
            verdict: Verdict::of(summary),
            cards: cards(summary, change),
            throughput: charts::throughput(&numbers.throughput, &zone),
            schedules: schedules.into_iter().map(GroupView::of).collect(),
            schedules_not_listed: not_listed,
            kinds: kinds.into_iter().map(GroupView::of).collect(),
            failures: failures(&numbers.failures, &zone),
            failures_not_listed: numbers.failures.not_listed,
            not_run: not_run(&numbers.not_run, &zone),
            not_run_not_listed: numbers.not_run.not_listed,
            slowest: numbers.slowest.iter().map(|slow| SlowView::of(slow, &zone)).collect(),
            durations: charts::durations(&numbers.durations),
            outcomes: outcomes.map(|(name, number)| (count(*number), (*name).to_owned())).collect(),
        })
    }
}

/// What a reader wants to see first: failures, then misses, then the busiest.
fn trouble(summary: &Summary) -> (u64, u64, u64) {
    (summary.jobs.failed, summary.missed, summary.jobs.total())
}

fn generated(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%-d %B %Y, %H:%M").to_string()
}

fn scope(scope: &Scope) -> Option<String> {
    let part = |what: &str, names: &[String]| {
        (!names.is_empty()).then(|| format!("{what} {}", names.join(", ")))
    };
    let parts: Vec<String> = [part("kinds", &scope.kinds), part("schedules", &scope.schedules)]
        .into_iter()
        .flatten()
        .collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

impl Verdict {
    fn of(summary: &Summary) -> Self {
        let jobs = summary.jobs;
        let ended = jobs.total();
        let mut sentences = Vec::new();
        if jobs.failed > 0 {
            let all = counted(ended, "job", "jobs");
            sentences.push(format!("{} of {all} failed.", count(jobs.failed)));
        }
        if summary.missed > 0 {
            let runs = counted(summary.missed, "due run was", "due runs were");
            sentences.push(format!("{runs} missed."));
        }
        if !sentences.is_empty() {
            return Self { tone: Tone::Bad, text: sentences.join(" ") };
        }
        if ended == 0 {
            return Self { tone: Tone::Neutral, text: "No job ended in this period.".to_owned() };
        }
        let text = match (jobs.completed, jobs.cancelled) {
            (1, 0) => "The only job completed.".to_owned(),
            (completed, 0) => format!("All {} jobs completed.", count(completed)),
            (completed, cancelled) => format!(
                "{} completed, {} cancelled, none failed.",
                counted(completed, "job", "jobs"),
                count(cancelled)
            ),
        };
        Self { tone: Tone::Good, text }
    }
}

fn cards(summary: &Summary, change: Option<&Change>) -> Vec<Card> {
    let jobs = summary.jobs;
    let spread = |spread: &crate::report::numbers::Spread| match spread.count {
        0 => "nothing measured".to_owned(),
        _ => format!(
            "half within {}, at most {}",
            length_or_none(spread.p50_us),
            length_or_none(spread.max_us)
        ),
    };
    vec![
        Card {
            name: "Jobs ended",
            value: count(jobs.total()),
            note: format!(
                "{} completed, {} failed, {} cancelled",
                count(jobs.completed),
                count(jobs.failed),
                count(jobs.cancelled)
            ),
            change: change.map(|change| Delta::count(change.jobs, Tone::Neutral)),
        },
        Card {
            name: "Success rate",
            value: percent(summary.success_rate),
            note: "of completed and failed jobs".to_owned(),
            change: change.and_then(|change| change.success_rate).map(Delta::points),
        },
        Card {
            name: "Failed",
            value: count(jobs.failed),
            note: counted(summary.interrupted, "attempt interrupted", "attempts interrupted"),
            change: change.map(|change| Delta::count(change.failed, Tone::Bad)),
        },
        Card {
            name: "Missed",
            value: count(summary.missed),
            note: format!(
                "of {}; {} skipped by rule",
                counted(due(summary), "due run", "due runs"),
                count(summary.skipped)
            ),
            change: change.map(|change| Delta::count(change.missed, Tone::Bad)),
        },
        Card {
            name: "Duration, 95th percentile",
            value: length_or_none(summary.duration.p95_us),
            note: spread(&summary.duration),
            change: Delta::length(change.and_then(|c| c.duration_p95_us), summary.duration.p95_us),
        },
        Card {
            name: "Queue wait, 95th percentile",
            value: length_or_none(summary.wait.p95_us),
            note: spread(&summary.wait),
            change: Delta::length(change.and_then(|c| c.wait_p95_us), summary.wait.p95_us),
        },
        Card {
            name: "Lateness, 95th percentile",
            value: length_or_none(summary.lateness.p95_us),
            note: spread(&summary.lateness),
            change: Delta::length(change.and_then(|c| c.lateness_p95_us), summary.lateness.p95_us),
        },
        Card {
            name: "Retries",
            value: count(summary.retries),
            note: format!(
                "{} recovered by one",
                counted(summary.recovered, "job was", "jobs were")
            ),
            change: change.map(|change| Delta::count(change.retries, Tone::Bad)),
        },
    ]
}

fn due(summary: &Summary) -> u64 {
    summary.enqueued + summary.coalesced + summary.skipped + summary.missed
}

impl Delta {
    /// `words`: what more and less of it are called. `more_is`: what it means that there is more.
    fn of(sign: i64, size: &str, words: [&str; 2], more_is: Tone) -> Self {
        let (arrow, word) = match sign {
            0 => return Self { arrow: "=", text: "unchanged".to_owned(), tone: Tone::Neutral },
            1.. => ("▲", words[0]),
            _ => ("▼", words[1]),
        };
        let tone = match (more_is, sign > 0) {
            (Tone::Good, true) | (Tone::Bad, false) => Tone::Good,
            (Tone::Good, false) | (Tone::Bad, true) => Tone::Bad,
            (Tone::Neutral, _) => Tone::Neutral,
        };
        Self { arrow, text: format!("{size} {word}"), tone }
    }

    fn count(change: i64, more_is: Tone) -> Self {
        Self::of(change, &count(change.unsigned_abs()), ["more", "fewer"], more_is)
    }

    #[expect(clippy::cast_possible_truncation, reason = "shares differ by at most one")]
    fn points(change: f64) -> Self {
        let tenths = (change * 1000.0).round() as i64;
        let size = tenths.unsigned_abs();
        let text = format!("{}.{} points", size / 10, size % 10);
        Self::of(tenths, &text, ["higher", "lower"], Tone::Good)
    }

    fn length(change: Option<i64>, now: Option<u64>) -> Option<Self> {
        let (change, now) = (change?, now?);
        let size = change.unsigned_abs();
        let is_same = (size as f64) < now as f64 * SAME_LENGTH;
        let sign = if is_same { 0 } else { change };
        Some(Self::of(sign, &length(size), ["longer", "shorter"], Tone::Bad))
    }
}

impl GroupView {
    fn of(group: &Group) -> Self {
        let summary = &group.summary;
        Self {
            name: group.name.clone(),
            shares: charts::shares(summary.jobs),
            jobs: count(summary.jobs.total()),
            failed: count(summary.jobs.failed),
            has_failures: summary.jobs.failed > 0,
            success_rate: percent(summary.success_rate),
            p50: length_or_none(summary.duration.p50_us),
            p95: length_or_none(summary.duration.p95_us),
            max: length_or_none(summary.duration.max_us),
            wait_p95: length_or_none(summary.wait.p95_us),
            lateness_p95: length_or_none(summary.lateness.p95_us),
            retries: count(summary.retries),
            missed: count(summary.missed),
            has_misses: summary.missed > 0,
            skipped: count(summary.skipped),
        }
    }
}

/// A job is known by its schedule, or by its kind where it has none.
fn name(schedule: Option<&str>, kind: &str) -> String {
    schedule.unwrap_or(kind).to_owned()
}

fn failures(failures: &Failures, zone: &TimeZone) -> Vec<FailureView> {
    let listed = failures.latest.iter();
    listed
        .map(|failure| FailureView {
            at: instant(failure.finished_at, zone),
            job: failure.job.to_string(),
            name: name(failure.schedule.as_deref(), &failure.kind),
            kind: failure.kind.clone(),
            attempts: failure.charged_attempts,
            error: match failure.error.trim() {
                "" => "no reason was given".to_owned(),
                error => error.to_owned(),
            },
        })
        .collect()
}

fn not_run(not_run: &NotRun, zone: &TimeZone) -> Vec<NotRunView> {
    let groups = not_run.groups.iter();
    groups
        .map(|group| NotRunView {
            decision: group.decision.as_str().replace('_', " "),
            schedule: group.schedule.clone(),
            reason: group.reason.clone(),
            instants: count(group.instants),
            latest: instant(group.latest_at, zone),
        })
        .collect()
}

impl SlowView {
    fn of(slow: &SlowAttempt, zone: &TimeZone) -> Self {
        Self {
            duration: length(slow.duration_us),
            job: slow.job.to_string(),
            name: name(slow.schedule.as_deref(), &slow.kind),
            kind: slow.kind.clone(),
            outcome: slow.outcome.to_string(),
            started: instant(slow.started_at, zone),
        }
    }
}
