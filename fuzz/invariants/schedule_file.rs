//! Schedule files.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sexton::jobs::{KINDS, kind};
use sexton::model::ScheduleId;
use sexton::schedule::{
    Defaults, Diagnostic, Look, Parsed, Schedule, Trigger, fields, parse_file, render, render_all,
    text_of,
};

use super::text::is_inert;

/// 2026-11-25T00:00:00Z.
const NOW_SECONDS: i64 = 1_795_564_800;

/// A file shows a hundred findings, and says that there are more.
const MAX_FINDINGS: usize = 101;

pub(crate) fn check(data: &[u8]) {
    let Ok(text) = text_of(data) else { return };
    let parsed = parse(text);
    assert_eq!(parsed.has_errors(), parsed.schedules.is_empty(), "all of a file or nothing");
    assert!(parsed.diagnostics.len() <= MAX_FINDINGS);
    for diagnostic in &parsed.diagnostics {
        points_into(text, diagnostic);
    }
    assert!(
        parsed.diagnostics.is_empty() || is_inert(&render_all(&parsed.diagnostics, Look::Plain))
    );

    let ids: BTreeSet<&ScheduleId> = parsed.schedules.iter().map(|schedule| &schedule.id).collect();
    assert_eq!(ids.len(), parsed.schedules.len(), "a name stands for one schedule");
    for schedule in &parsed.schedules {
        is_within_limits(schedule);
        keeps_whole_microseconds(schedule);
        fires_in_order(schedule);
    }
    if !parsed.has_errors() {
        let commented = parse(&format!("# before\n{text}\n# behind\n"));
        let hashes = |parsed: &Parsed| -> Vec<String> {
            parsed.schedules.iter().map(|schedule| schedule.hash.to_string()).collect()
        };
        assert_eq!(hashes(&commented), hashes(&parsed), "a comment is no change");
    }
}

fn now() -> Timestamp {
    Timestamp::from_second(NOW_SECONDS).expect("it is a time")
}

fn parse(text: &str) -> Parsed {
    parse_file(&Path::new("schedules/fuzz.toml").into(), text, &Defaults::default(), KINDS, now())
}

fn points_into(text: &str, diagnostic: &Diagnostic) {
    assert!(is_inert(&diagnostic.to_string()), "{diagnostic:?}");
    assert!(is_inert(&render(diagnostic, Look::Plain)), "{diagnostic:?}");
    serde_json::to_string(diagnostic).expect("a finding can be written as JSON");
    let Some(place) = diagnostic.place else { return };
    let lines: Vec<&str> = text.split('\n').collect();
    let is_in = |line: u32, col: u32| {
        let line = usize::try_from(line).ok().and_then(|line| lines.get(line.checked_sub(1)?));
        line.is_some_and(|line| (1..=line.chars().count() + 1).contains(&(col as usize)))
    };
    assert!(is_in(place.line, place.col), "{place:?} of {text:?}");
    assert!(is_in(place.end_line, place.end_col), "{place:?} of {text:?}");
    let (start, end) = ((place.line, place.col), (place.end_line, place.end_col));
    assert!(start <= end, "{place:?} of {text:?}");
}

fn is_within_limits(schedule: &Schedule) {
    let (when, run) = (&schedule.when, &schedule.run);
    assert_eq!(schedule.hash.to_string().len(), 32);
    let kind = kind(KINDS, &schedule.kind).expect("its kind is known");
    assert_eq!(kind.check(&schedule.params.value()), [], "params of {}", schedule.id);
    assert!(run.queue.parse::<ScheduleId>().is_ok(), "no settings can name queue {:?}", run.queue);
    assert!(run.retry.max_attempts >= 1);
    assert!(run.timeout.is_none_or(|timeout| !timeout.get().is_zero()));
    assert!(run.total_timeout.is_none_or(|timeout| !timeout.get().is_zero()));
    assert!(when.catch_up.max >= 1);
    assert!(when.blackout.iter().all(|range| range.from < range.until));
    let policy = serde_json::to_value(&run.retry).expect("a policy is stored as JSON");
    assert_eq!(serde_json::from_value(policy).ok().as_ref(), Some(&run.retry), "as it is stored");
    assert!(fields(schedule).contains_key("kind"));
}

/// The database keeps whole microseconds, so what is decided by a schedule must not be finer.
fn keeps_whole_microseconds(schedule: &Schedule) {
    let when = &schedule.when;
    let ranges = when.blackout.iter().flat_map(|range| [range.from, range.until]);
    for instant in ranges.chain(when.not_before).chain(when.not_after) {
        assert_eq!(instant.subsec_nanosecond() % 1000, 0, "{instant} of {}", schedule.id);
    }
    let lengths = [Some(when.jitter), Some(when.offset), when.catch_up.window];
    for length in lengths.into_iter().flatten() {
        assert_eq!(length.subsec_nanos() % 1000, 0, "{length:?} of {}", schedule.id);
    }
    for trigger in &when.rule.triggers {
        match trigger {
            Trigger::Every { period } | Trigger::EveryFromEnd { period } => {
                assert!(*period >= Duration::from_secs(1), "{period:?} of {}", schedule.id);
                assert_eq!(period.subsec_nanos() % 1000, 0, "{period:?} of {}", schedule.id);
            }
            Trigger::At(at) => assert_eq!(at.subsec_nanosecond() % 1000, 0, "{at}"),
            Trigger::Daily { times, weekdays } => {
                assert!(!weekdays.is_empty() && !times.is_empty());
                assert!(times.iter().all(|time| time.subsec_nanosecond() == 0), "{times:?}");
            }
            Trigger::Cron(_) | Trigger::After { .. } => {}
        }
    }
}

fn fires_in_order(schedule: &Schedule) {
    let rule = &schedule.when.rule;
    assert!(is_inert(&rule.describe()));
    let mut at = now();
    for _ in 0..3 {
        let Some(next) = rule.next_after(at, None) else { break };
        assert!(next > at, "{} after {at}: {next}", schedule.id);
        assert!(rule.previous_before(next).is_none_or(|previous| previous <= at));
        at = next;
    }
    let year = SignedDuration::from_hours(366 * 24);
    assert!(rule.dst_warnings(now(), now() + year).iter().all(|warning| is_inert(warning)));
}
