//! Cron expressions.
//!
//! An input has up to three lines: the expression, the second since 1970 to count from, and the name of a zone of [`ZONES`].

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use sexton::schedule::{CronError, CronExpression, DstPolicy, Rule, Trigger};

use super::text::{is_inert, text_of};

const ZONES: [&str; 8] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Asia/Kathmandu",
];

/// 2026-11-25T00:00:00Z, where an input does not say.
const START_SECONDS: i64 = 1_795_564_800;

/// How many instants the oracle looks through between two that a rule names.
const MAX_PASSED_OVER: i64 = 1500;

pub(crate) fn check(data: &[u8]) {
    let Some(text) = text_of(data) else { return };
    let mut lines = text.split('\n');
    let expression = lines.next().unwrap_or_default();
    let second = lines.next().and_then(|line| line.parse().ok()).unwrap_or(START_SECONDS);
    let from = Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH);
    let zone = lines.next().filter(|name| ZONES.contains(name)).unwrap_or("UTC");
    match CronExpression::parse(expression, "fuzz") {
        Ok(cron) => {
            is_described(expression, &cron);
            fires_in_order(&cron, from, zone);
            if zone == "UTC"
                && let Some(plain) = Plain::read(&cron)
            {
                fires_as_written(&cron, &plain, from);
            }
        }
        Err(error) => points_into(expression, &error),
    }
}

fn points_into(expression: &str, error: &CronError) {
    let end = error.offset + error.len;
    let marked = expression.get(error.offset..end);
    assert!(marked.is_some(), "{}..{end} of {expression:?}: {error}", error.offset);
    assert!(is_inert(&error.message), "{error:?}");
    assert!(error.help.as_deref().is_none_or(is_inert), "{error:?}");
}

fn is_described(expression: &str, cron: &CronExpression) {
    let again = CronExpression::parse(cron.as_str(), "fuzz");
    assert_eq!(again.as_ref(), Ok(cron), "{expression:?} is written as {}", cron.as_str());
    let is_known = |c: char| c.is_ascii_alphanumeric() || "*?/,-#()@ ".contains(c);
    assert!(cron.as_str().chars().all(is_known), "{:?} is taken", cron.as_str());
    assert!(is_inert(&cron.describe()), "{expression:?}");
}

fn rule(cron: &CronExpression, zone: &str) -> Rule {
    let zone = TimeZone::get(zone).expect("the zones are known");
    Rule { zone, triggers: vec![Trigger::Cron(cron.clone())], dst: DstPolicy::default() }
}

/// Forwards and backwards the same instants are found, each later than the one before.
fn fires_in_order(cron: &CronExpression, from: Timestamp, zone: &str) {
    let rule = rule(cron, zone);
    let mut before: Option<Timestamp> = None;
    let mut at = from;
    for _ in 0..4 {
        let Some(next) = rule.next_after(at, None) else { break };
        assert!(next > at, "{cron} after {at} in {zone}: {next}");
        assert_eq!(next.subsec_nanosecond(), 0, "{cron} after {at} in {zone}");
        let previous = rule.previous_before(next);
        match before {
            Some(before) => assert_eq!(previous, Some(before), "{cron} before {next} in {zone}"),
            None => assert!(
                previous.is_none_or(|previous| previous <= at),
                "{cron} in {zone}: {previous:?} lies between {at} and {next}"
            ),
        }
        (before, at) = (Some(next), next);
    }
    if let Some(previous) = rule.previous_before(from) {
        assert!(previous < from, "{cron} before {from} in {zone}: {previous}");
    }
}

/// The rule fires when the fields say so, and at no other second or minute on the way.
fn fires_as_written(cron: &CronExpression, plain: &Plain<'_>, from: Timestamp) {
    let Some(next) = rule(cron, "UTC").next_after(from, None) else { return };
    let local = |at: Timestamp| TimeZone::UTC.to_datetime(at);
    assert!(plain.names(local(next)), "{cron} fires at {next}");
    let step = if plain.has_seconds { 1 } else { 60 };
    let first = from.as_second().div_euclid(step) + 1;
    let last = next.as_second().div_euclid(step);
    for passed in first..last.min(first + MAX_PASSED_OVER) {
        let Ok(at) = Timestamp::from_second(passed * step) else { break };
        assert!(!plain.names(local(at)), "{cron} after {from} passes over {at}");
    }
}

/// An expression without names, `L`, `W`, `#`, `H` and nicknames, read a second time and in the simplest way there is.
struct Plain<'t> {
    fields: Vec<&'t str>,
    has_seconds: bool,
}

impl<'t> Plain<'t> {
    fn read(cron: &'t CronExpression) -> Option<Self> {
        let is_plain = |c: char| c.is_ascii_digit() || "*/,- ".contains(c);
        if !cron.as_str().chars().all(is_plain) {
            return None;
        }
        let mut fields: Vec<&str> = cron.as_str().split(' ').collect();
        let has_seconds = fields.len() > 5;
        if !has_seconds {
            fields.insert(0, "0");
        }
        if fields.len() == 6 {
            fields.push("*");
        }
        Some(Self { fields, has_seconds })
    }

    fn names(&self, at: DateTime) -> bool {
        let [second, minute, hour, day, month, weekday, year] = self.fields[..] else {
            panic!("an expression has five to seven fields: {:?}", self.fields);
        };
        let sunday_is_0 = i64::from(at.date().weekday().to_sunday_zero_offset());
        let on_day = has(day, at.day().into(), 1);
        let on_weekday = has(weekday, sunday_is_0, 0) || (sunday_is_0 == 0 && has(weekday, 7, 8));
        let is_star = |field: &str| field.starts_with('*');
        let on_date = if is_star(day) || is_star(weekday) {
            on_day && on_weekday
        } else {
            on_day || on_weekday
        };
        on_date
            && has(second, at.second().into(), 0)
            && has(minute, at.minute().into(), 0)
            && has(hour, at.hour().into(), 0)
            && has(month, at.month().into(), 1)
            && (year == "*" || has(year, at.year().into(), 1970))
    }
}

/// Whether a field's list has the value; stars count from `low`.
fn has(field: &str, value: i64, low: i64) -> bool {
    let number = |text: &str| text.parse::<i64>().expect("a checked field has numbers");
    field.split(',').any(|item| {
        let (range, step) = item.split_once('/').unwrap_or((item, "1"));
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => (number(first), number(last)),
            None if range == "*" => (low, i64::MAX),
            None => (number(range), number(range)),
        };
        (first..=last).contains(&value) && (value - first) % number(step) == 0
    })
}
