//! `[when]`: triggers, their zone, and what bends them.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::super::definition::{Blackout, CatchUp, CatchUpPolicy, Defaults, Reference, When};
use super::super::diagnostic::Code;
use super::super::{CronExpression, DstPolicy, Gap, Repeat, Rule, Trigger, Weekdays};
use super::findings::{Finding, Findings, Span};
use super::instant;
use super::reader::{Item, Table};
use crate::jobs::suggest;
use crate::model::{HumanDuration, OnEnd, ScheduleId};

/// The shortest interval. What must happen more often is a program of its own, not a schedule.
const MIN_PERIOD: Duration = Duration::from_secs(1);
/// The most entries of one list of triggers: all of them are asked for every next run.
const MAX_TRIGGERS: usize = 1000;
/// The largest `catch_up_max`.
const MAX_CATCH_UP: u32 = 10_000;

/// What a schedule without `[when]` has: nothing but its zone.
pub(super) fn manual(defaults: &Defaults) -> When {
    let zone = defaults.timezone.clone();
    When {
        rule: Rule { zone, triggers: Vec::new(), dst: DstPolicy::default() },
        jitter: Duration::ZERO,
        offset: Duration::ZERO,
        catch_up: defaults.catch_up.clone(),
        not_before: None,
        not_after: None,
        blackout: Vec::new(),
    }
}

/// Reads `[when]`.
pub(super) fn read(
    mut table: Table<'_, '_>,
    hash_seed: &str,
    defaults: &Defaults,
    now: Timestamp,
    references: &mut Vec<Reference>,
    findings: &mut Findings<'_>,
) -> When {
    let errors_before = findings.error_count();
    let mut when = manual(defaults);
    if let Some(zone) = table.get("timezone").and_then(|item| zone(&item, findings)) {
        when.rule.zone = zone;
    }
    let zone = when.rule.zone.clone();
    when.rule.dst = table.get("dst").map(|item| dst(&item, findings)).unwrap_or_default();
    let (triggers, triggers_span) = triggers(&mut table, &zone, hash_seed, references, findings);
    when.rule.triggers = triggers;
    let jitter = table.get("jitter");
    when.jitter = length(jitter.as_ref(), findings).unwrap_or_default();
    when.offset = length(table.get("offset").as_ref(), findings).unwrap_or_default();
    when.catch_up = catch_up(&mut table, &defaults.catch_up, findings);
    when.not_before =
        table.get("not_before").and_then(|item| instant::range_start(&item, &zone, findings));
    let not_after = table.get("not_after");
    when.not_after = not_after.as_ref().and_then(|item| instant::range_end(item, &zone, findings));
    if let (Some(first), Some(last), Some(item)) = (when.not_before, when.not_after, &not_after)
        && last < first
    {
        item.bad_value("ends before `not_before` begins", findings);
    }
    when.blackout =
        table.get("blackout").map(|item| blackout(&item, &zone, findings)).unwrap_or_default();
    table.finish(findings);
    if findings.error_count() == errors_before {
        warn(&when, &triggers_span, jitter.as_ref(), now, findings);
    }
    when
}

/// The triggers, and what to point at when something is odd about them: the only one, or the table.
fn triggers(
    table: &mut Table<'_, '_>,
    zone: &TimeZone,
    hash_seed: &str,
    references: &mut Vec<Reference>,
    findings: &mut Findings<'_>,
) -> (Vec<Trigger>, Span) {
    let mut triggers = Vec::new();
    let keys = ["every", "daily", "cron", "at", "after"].map(|key| table.get(key));
    let [every, daily, cron, at, after] = &keys;
    let written: Vec<&Item<'_, '_>> = keys.iter().flatten().collect();
    let span = match written[..] {
        [only] => only.span(),
        _ => table.span().clone(),
    };

    let from = table.get("from");
    let from_end =
        from.as_ref().and_then(|item| item.choice(&[("start", false), ("end", true)], findings));
    if let (Some(item), None) = (&from, every) {
        item.bad_value("belongs to `every`, which is not there", findings);
    }
    for item in every.iter().flat_map(Item::one_or_many) {
        if let Some(period) = period(&item, findings) {
            triggers.push(match from_end {
                Some(true) => Trigger::EveryFromEnd { period },
                _ => Trigger::Every { period },
            });
        }
    }

    let weekdays = table.get("weekdays");
    let days = weekdays.as_ref().map_or(Weekdays::ALL, |item| days(item, findings));
    if let (Some(item), None) = (&weekdays, daily) {
        item.bad_value("belongs to `daily`, which is not there", findings);
    }
    if let Some(item) = daily {
        let times: Vec<_> = item
            .one_or_many()
            .iter()
            .filter_map(|time| instant::time_of_day(time, findings))
            .collect();
        if !times.is_empty() {
            triggers.push(Trigger::Daily { times, weekdays: days });
        }
    }

    for item in cron.iter().flat_map(Item::one_or_many) {
        triggers.extend(cron_expression(&item, hash_seed, findings).map(Trigger::Cron));
    }
    for item in at.iter().flat_map(Item::one_or_many) {
        triggers.extend(instant::instant(&item, zone, findings).map(Trigger::At));
    }

    for item in after.iter().flat_map(Item::one_or_many) {
        triggers.extend(after_another(&item, references, findings));
    }

    for item in &written {
        match item.one_or_many().len() {
            0 => item.bad_value("is an empty list, which is never due", findings),
            1..=MAX_TRIGGERS => {}
            _ => item.bad_value(format!("has more than {MAX_TRIGGERS} entries"), findings),
        }
    }
    if written.is_empty() {
        findings.add(
            Finding::error(Code::NoTrigger, table.span(), "[when] says no time").help(
                "write every, daily, cron, at or after; without [when] a schedule runs only by hand"
                    .to_owned(),
            ),
        );
    }
    // Ten thousand schedules are kept for as long as the daemon runs, and nearly all have one trigger.
    triggers.shrink_to_fit();
    (triggers, span)
}

/// `after = { schedule = "backup", on = "success" }`.
fn after_another(
    item: &Item<'_, '_>,
    references: &mut Vec<Reference>,
    findings: &mut Findings<'_>,
) -> Option<Trigger> {
    if item.value.get_ref().as_table().is_none() {
        item.wrong_type("a table like { schedule = \"backup\", on = \"success\" }", findings);
        return None;
    }
    let mut table = item.table("after", findings)?;
    let (schedule, on) = (table.get("schedule"), table.get("on"));
    if schedule.is_none() {
        let message = "`after` needs the name of a `schedule`";
        findings.add(Finding::error(Code::MissingKey, table.span(), message));
    }
    table.finish(findings);
    let choices = OnEnd::ALL.map(|on| (on.as_str(), on));
    let on = on.map_or(Some(OnEnd::default()), |item| item.choice(&choices, findings));
    let name = schedule?;
    let schedule: ScheduleId = name.parse("the name of a schedule", findings)?;
    let place = findings.source().place(&name.span());
    references.push(Reference { schedule: schedule.clone(), place });
    Some(Trigger::After { schedule, on: on? })
}

fn period(item: &Item<'_, '_>, findings: &mut Findings<'_>) -> Option<Duration> {
    let period: HumanDuration = item.parse("a length of time like \"15m\"", findings)?;
    if period.get() < MIN_PERIOD {
        item.bad_value(format!("{period} is shorter than a second"), findings);
        return None;
    }
    Some(period.get())
}

fn days(item: &Item<'_, '_>, findings: &mut Findings<'_>) -> Weekdays {
    let days = item
        .one_or_many()
        .iter()
        .filter_map(|day| day.parse::<Weekdays>("a weekday like \"mon\"", findings))
        .fold(Weekdays::NONE, |all, some| all | some);
    if item.one_or_many().is_empty() {
        item.bad_value("is an empty list, which is never due", findings);
    }
    days
}

fn cron_expression(
    item: &Item<'_, '_>,
    hash_seed: &str,
    findings: &mut Findings<'_>,
) -> Option<CronExpression> {
    let text = item.text("a cron expression like \"30 2 * * mon-fri\"", findings)?;
    match CronExpression::parse(text, hash_seed) {
        Ok(expression) => Some(expression),
        Err(error) => {
            let span = item.part(error.offset, error.len, findings);
            findings.add(Finding::error(Code::BadCron, &span, error.message).help(error.help));
            None
        }
    }
}

fn zone(item: &Item<'_, '_>, findings: &mut Findings<'_>) -> Option<TimeZone> {
    let name = item.text("a time zone like \"Europe/Berlin\"", findings)?;
    if let Ok(zone) = TimeZone::get(name) {
        return Some(zone);
    }
    let known: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let message = format!("the time zone `{}` is not known here", name.escape_debug());
    let help = suggest(name, &known).unwrap_or_else(|| {
        "use a name of the IANA time zone database, such as Europe/Berlin or UTC".to_owned()
    });
    findings.add(Finding::error(Code::UnknownZone, &item.span(), message).help(help));
    None
}

fn dst(item: &Item<'_, '_>, findings: &mut Findings<'_>) -> DstPolicy {
    let Some(mut table) = item.table("dst", findings) else { return DstPolicy::default() };
    let gaps = [("run", Gap::Run), ("skip", Gap::Skip)];
    let repeats = [("first", Repeat::First), ("last", Repeat::Last), ("both", Repeat::Both)];
    let gap = table.get("gap").and_then(|item| item.choice(&gaps, findings));
    let repeat = table.get("repeat").and_then(|item| item.choice(&repeats, findings));
    table.finish(findings);
    DstPolicy { gap: gap.unwrap_or_default(), repeat: repeat.unwrap_or_default() }
}

fn length(item: Option<&Item<'_, '_>>, findings: &mut Findings<'_>) -> Option<Duration> {
    let length: HumanDuration = item?.parse("a length of time like \"5m\"", findings)?;
    Some(length.get())
}

fn catch_up(table: &mut Table<'_, '_>, defaults: &CatchUp, findings: &mut Findings<'_>) -> CatchUp {
    let policies = [
        ("none", CatchUpPolicy::None),
        ("latest", CatchUpPolicy::Latest),
        ("all", CatchUpPolicy::All),
    ];
    let policy = table.get("catch_up").and_then(|item| item.choice(&policies, findings));
    let window = length(table.get("catch_up_window").as_ref(), findings);
    let max = table.get("catch_up_max").and_then(|item| item.integer(1, MAX_CATCH_UP, findings));
    CatchUp {
        policy: policy.unwrap_or(defaults.policy),
        window: window.or(defaults.window),
        max: max.unwrap_or(defaults.max),
    }
}

fn blackout(item: &Item<'_, '_>, zone: &TimeZone, findings: &mut Findings<'_>) -> Vec<Blackout> {
    let expected = "a range like \"2026-12-24/2026-12-27\"";
    let mut ranges = Vec::new();
    for range in item.one_or_many() {
        let Some(text) = range.text(expected, findings) else { continue };
        match instant::range(text, zone) {
            Some((from, until)) if from < until => ranges.push(Blackout { from, until }),
            Some(_) => range.bad_value("ends before it begins", findings),
            None => {
                let message = format!("`{}` is not {expected}", text.escape_debug());
                range.bad_value(message, findings);
            }
        }
    }
    ranges
}

/// What is legal and probably not meant.
fn warn(
    when: &When,
    span: &Span,
    jitter: Option<&Item<'_, '_>>,
    now: Timestamp,
    findings: &mut Findings<'_>,
) {
    let is_past = |trigger: &Trigger| matches!(trigger, Trigger::At(at) if *at <= now);
    let passed = when.rule.triggers.iter().filter(|trigger| is_past(trigger)).count();
    if passed > 0 {
        let message = if passed == when.rule.triggers.len() {
            "every time this schedule names has passed"
        } else {
            "some of the times that `at` names have passed"
        };
        findings.add(Finding::warning(Code::PastInstant, span, message));
    }
    if when.rule.never_fires_after(now) {
        let help = format!("no such time exists: {}", when.rule.describe());
        findings
            .add(Finding::warning(Code::NeverFires, span, "this schedule never fires").help(help));
    } else if when.not_after.is_some_and(|end| end < now) {
        let message = "this schedule never fires again: `not_after` has passed";
        findings.add(Finding::warning(Code::NeverFires, span, message));
    }
    if let (Some(item), Some(interval)) = (jitter, shortest_interval(&when.rule, now))
        && when.jitter >= interval
    {
        let message = format!(
            "`jitter` of {} is as long as the time between two runs, {}: runs may overtake each other",
            HumanDuration(when.jitter),
            HumanDuration(interval)
        );
        findings.add(Finding::warning(Code::LongDelay, &item.span(), message));
    }
}

/// The time between the next two instants of the rule.
fn shortest_interval(rule: &Rule, now: Timestamp) -> Option<Duration> {
    let next = rule.next_after(now, None)?;
    let following = rule.next_after(next, None)?;
    Duration::try_from(following.duration_since(next)).ok()
}
