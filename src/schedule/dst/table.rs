//! The whole table: eight zones, three years each, against a reference that shares nothing with the search but the zones' offsets.
//!
//! The reference walks through every minute there was, reads the wall clock at each, and applies the manual's sentences word by word. It
//! knows no transitions: a gap is where the wall clock jumps ahead between two minutes, a repetition is where it shows what it has
//! shown before.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{DstPolicy, Gap, Repeat};
use crate::schedule::{CronExpression, Rule, Trigger};

const MINUTES_A_DAY: i64 = 1440;

const YEARS: i64 = 3;

/// A rule as the reference knows it, beside its spelling.
struct Case {
    cron: &'static str,
    /// Whether it is a wildcard rule, which follows elapsed time.
    is_wildcard: bool,
    hours: fn(i64) -> bool,
    minutes: fn(i64) -> bool,
    /// Days since 1970, which was a Thursday.
    days: fn(i64) -> bool,
}

impl Case {
    fn names(&self, local: i64) -> bool {
        let (day, minute) = (local.div_euclid(MINUTES_A_DAY), local.rem_euclid(MINUTES_A_DAY));
        (self.days)(day) && (self.hours)(minute / 60) && (self.minutes)(minute % 60)
    }
}

const CASES: [Case; 10] = [
    fixed("30 2 * * *", |hour| hour == 2, |minute| minute == 30),
    fixed("0 0 * * *", |hour| hour == 0, |minute| minute == 0),
    fixed("15 1 * * *", |hour| hour == 1, |minute| minute == 15),
    fixed("59 23 * * *", |hour| hour == 23, |minute| minute == 59),
    fixed("0,30 1-3 * * *", |hour| (1..=3).contains(&hour), |minute| minute % 30 == 0),
    fixed(
        "10-40/10 0,2 * * *",
        |hour| hour == 0 || hour == 2,
        |minute| (10..=40).contains(&minute) && minute % 10 == 0,
    ),
    Case {
        days: |day| (day + 4).rem_euclid(7) == 0,
        ..fixed("0 2 * * sun", |hour| hour == 2, |minute| minute == 0)
    },
    wildcard("*/15 * * * *", |_| true, |minute| minute % 15 == 0),
    wildcard("7 * * * *", |_| true, |minute| minute == 7),
    wildcard("*/20 0-3 * * *", |hour| hour <= 3, |minute| minute % 20 == 0),
];

const fn fixed(cron: &'static str, hours: fn(i64) -> bool, minutes: fn(i64) -> bool) -> Case {
    Case { cron, is_wildcard: false, hours, minutes, days: |_| true }
}

const fn wildcard(cron: &'static str, hours: fn(i64) -> bool, minutes: fn(i64) -> bool) -> Case {
    Case { is_wildcard: true, ..fixed(cron, hours, minutes) }
}

/// What the wall clock shows at each minute from `start`, in minutes since 1970 as if there were no zones.
fn wall_clock(zone: &TimeZone, start: i64, minutes: i64) -> Vec<i64> {
    let mut offset = 0;
    (start..start + minutes)
        .map(|minute| {
            // No zone of the table changes its clocks within a quarter of an hour.
            if minute % 15 == 0 || minute == start {
                let at = Timestamp::from_second(minute * 60).unwrap();
                offset = i64::from(zone.to_offset(at).seconds()) / 60;
            }
            minute + offset
        })
        .collect()
}

/// A stretch of time as the wall clock of a zone shows it, minute by minute.
struct Shown {
    local: Vec<i64>,
    /// The latest that was shown before each minute.
    latest_before: Vec<i64>,
    /// The earliest that is shown after each minute.
    earliest_after: Vec<i64>,
}

impl Shown {
    fn new(local: Vec<i64>) -> Self {
        let mut latest_before = vec![i64::MIN; local.len()];
        for minute in 1..local.len() {
            latest_before[minute] = latest_before[minute - 1].max(local[minute - 1]);
        }
        let mut earliest_after = vec![i64::MAX; local.len()];
        for minute in (0..local.len() - 1).rev() {
            earliest_after[minute] = earliest_after[minute + 1].min(local[minute + 1]);
        }
        Self { local, latest_before, earliest_after }
    }

    fn is_change(&self, minute: usize) -> bool {
        minute > 0 && self.local[minute] != self.local[minute - 1] + 1
    }

    /// Whether the manual says that the rule runs at a minute.
    fn runs_at(&self, minute: usize, case: &Case, policy: DstPolicy) -> bool {
        let local = self.local[minute];
        if case.is_wildcard {
            return case.names(local);
        }
        let counts = match policy.repeat {
            Repeat::First => local > self.latest_before[minute],
            Repeat::Last => local < self.earliest_after[minute],
            Repeat::Both => true,
        };
        // The first minute after a gap stands for all that it holds.
        let before = if minute == 0 { local - 1 } else { self.local[minute - 1] };
        let catches_up =
            policy.gap == Gap::Run && (before + 1..local).any(|skipped| case.names(skipped));
        (counts && case.names(local)) || catches_up
    }
}

/// Compares the search with the reference from one minute to another, both counted from `start`, under each policy. Returns how many
/// instants they agree on.
fn compare(
    case: &Case,
    policies: &[DstPolicy],
    zone: &TimeZone,
    start: i64,
    shown: &Shown,
    range: std::ops::Range<usize>,
) -> usize {
    let minute = |index: usize| start + index as i64;
    // A rule can only run when its time is shown, or when the clocks were changed.
    let possible: Vec<usize> =
        range.clone().filter(|at| case.names(shown.local[*at]) || shown.is_change(*at)).collect();
    let mut instants = 0;
    for policy in policies {
        let runs = possible.iter().filter(|at| shown.runs_at(**at, case, *policy));
        let expected: Vec<i64> = runs.map(|at| minute(*at) * 60).collect();
        let found = found(case, *policy, zone, minute(range.start), range.len() as i64);
        let first_difference = expected.iter().zip(&found).find(|(one, other)| one != other);
        assert!(
            expected == found,
            "{} in {zone:?} with {policy:?}: {} instants expected, {} found, the first difference is {first_difference:?}",
            case.cron,
            expected.len(),
            found.len(),
        );
        instants += found.len();
    }
    instants
}

fn found(case: &Case, policy: DstPolicy, zone: &TimeZone, start: i64, minutes: i64) -> Vec<i64> {
    let cron = CronExpression::parse(case.cron, "seed").unwrap();
    let rule = Rule { zone: zone.clone(), triggers: vec![Trigger::Cron(cron)], dst: policy };
    let second = |minute: i64| Timestamp::from_second(minute * 60).unwrap();
    let (from, until) = (second(start), second(start + minutes));
    let just_before = from - jiff::SignedDuration::from_secs(1);
    let forwards: Vec<i64> =
        std::iter::successors(rule.next_after(just_before, None), |at| rule.next_after(*at, None))
            .take_while(|at| *at < until)
            .map(Timestamp::as_second)
            .collect();
    let mut backwards: Vec<i64> =
        std::iter::successors(rule.previous_before(until), |at| rule.previous_before(*at))
            .take_while(|at| *at >= from)
            .map(Timestamp::as_second)
            .collect();
    backwards.reverse();
    assert_eq!(forwards, backwards, "{}: both directions agree", case.cron);
    forwards
}

/// A zone's part of the table. Fixed times are compared over all of it. What follows elapsed time is compared for two days around each
/// change of the clocks; in between it has nothing to do but to count.
fn is_as_the_manual_says(zone: &str, start: &str, changes: usize) {
    let policies = [
        DstPolicy { gap: Gap::Run, repeat: Repeat::First },
        DstPolicy { gap: Gap::Skip, repeat: Repeat::Last },
        DstPolicy { gap: Gap::Run, repeat: Repeat::Both },
    ];
    let zone = TimeZone::get(zone).unwrap();
    let start = start.parse::<Timestamp>().unwrap().as_second() / 60;
    let minutes = YEARS * 365 * MINUTES_A_DAY;
    let shown = Shown::new(wall_clock(&zone, start, minutes));
    let found: Vec<usize> = (0..shown.local.len()).filter(|at| shown.is_change(*at)).collect();
    assert_eq!(found.len(), changes, "changes of the clocks in {zone:?}");
    let two_days = 2 * MINUTES_A_DAY as usize;
    let mut instants = 0;
    for case in &CASES {
        if case.is_wildcard {
            for change in &found {
                let range = change - two_days..change + two_days;
                instants += compare(case, &policies[..1], &zone, start, &shown, range);
            }
        } else {
            instants += compare(case, &policies, &zone, start, &shown, 0..minutes as usize);
        }
    }
    assert!(instants > 29_000, "only {instants} instants were compared");
}

/// Half an hour and a whole day, at midnight and at night, never and four times a year, north and south.
macro_rules! table {
    ($($name:ident: $zone:literal from $start:literal with $changes:literal changes),* $(,)?) => {
        $(#[test]
        fn $name() {
            is_as_the_manual_says($zone, $start, $changes);
        })*
    };
}

table![
    d1_d2_three_years_of_berlin: "Europe/Berlin" from "2025-01-01T00:00Z" with 6 changes,
    // Over the end of 32-bit time.
    d1_d2_d9_three_years_of_new_york: "America/New_York" from "2036-06-01T00:00Z" with 6 changes,
    d1_d2_three_years_of_lord_howe: "Australia/Lord_Howe" from "2025-01-01T00:00Z" with 6 changes,
    d1_d2_three_years_of_sao_paulo: "America/Sao_Paulo" from "2016-06-01T00:00Z" with 6 changes,
    d1_d2_three_years_of_cairo: "Africa/Cairo" from "2024-01-01T00:00Z" with 6 changes,
    d1_d2_three_years_of_apia: "Pacific/Apia" from "2010-06-01T00:00Z" with 7 changes,
    d1_d2_three_years_of_casablanca: "Africa/Casablanca" from "2024-01-01T00:00Z" with 6 changes,
    d1_d2_three_years_of_kathmandu: "Asia/Kathmandu" from "2025-01-01T00:00Z" with 0 changes,
];
