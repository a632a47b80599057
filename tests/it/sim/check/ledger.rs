//! No due instant vanished, and none was made up.
//!
//! The record says how each schedule's mark moved ("decided until") and under which rule. Whatever instants the rule names in the stretch
//! that a mark has passed over must have a row, their own or one that stands for several.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use jiff::{SignedDuration, Timestamp};
use sexton::schedule::{Schedule, Trigger};

use super::super::evidence::{Evidence, Settled};
use super::super::files::Files;
use super::super::history::{History, OccurrenceRow, micros};
use super::Wrong;

/// How many instants of one stretch are looked at. A clock that was wrong by decades leaves stretches that nobody can walk through.
const MOST_STEPS: usize = 3000;

pub(super) fn check(
    history: &History,
    files: &Files,
    evidence: &Evidence,
    settled: &Settled,
    wrong: &mut Wrong,
) {
    let mut rows: BTreeMap<&str, BTreeMap<Timestamp, &OccurrenceRow>> = BTreeMap::new();
    let others: BTreeSet<(&str, i64)> =
        history.waited().into_iter().chain(history.followed()).collect();
    for row in &history.occurrences {
        let own = rows.entry(&row.schedule).or_default();
        own.insert(micros(row.nominal_at), row);
        // What follows an end is no instant of the calendar, and of what has waited the rule may have been edited since.
        let is_other = others.contains(&(row.schedule.as_str(), row.nominal_at));
        if !evidence.notes.clock.was_set_back() && !is_other {
            is_named_by_its_rule(row, files, wrong);
        }
    }
    nothing_is_early(history, &others, evidence, wrong);
    let rules: BTreeMap<(&str, String), &Schedule> = files
        .versions
        .iter()
        .map(|((name, _), version)| ((name.as_str(), sexton::scheduler::rule_of(version)), version))
        .collect();
    let none = BTreeMap::new();
    let mut marks: BTreeMap<&str, (Timestamp, &str)> = BTreeMap::new();
    let mut stretches: Vec<(&str, &Schedule, Timestamp, Timestamp)> = Vec::new();
    let in_force =
        |name: &str| settled.in_force.iter().find(|schedule| schedule.id.as_str() == name);
    for change in history.record.iter().filter(|change| change.what == "mark") {
        let (name, mark) = (change.text(), micros(change.number()));
        let definition = change.u.as_deref().expect("a mark has a definition");
        let before = marks.insert(name, (mark, definition));
        let Some((from, ruled_by)) = before else { continue };
        if ruled_by == definition {
            let Some(rule) = rules.get(&(name, definition.to_owned())) else {
                wrong.say(format!("{name} has a rule that nobody wrote"));
                continue;
            };
            // A mark that goes back was corrected; what lies before it is decided.
            stretches.push((name, rule, from, mark));
        } else {
            wrong.unless(mark >= from, || {
                format!("{name}: an edit moved the mark from {from} back to {mark}")
            });
            if let Some(rule) = rules.get(&(name, ruled_by.to_owned()))
                && was_in_force(history, evidence, name, ruled_by, change.seq)
            {
                // It was edited while it was in force: what was due until then is decided as it was then.
                stretches.push((name, rule, from, mark));
            }
            if change.seq > settled.seq
                && let Some(schedule) = in_force(name)
            {
                // The end of the run: whatever was due by then had been decided.
                let slowest = schedule.when.jitter + schedule.when.offset + LATE;
                let due_until = settled.at - SignedDuration::try_from(slowest).expect("minutes");
                stretches.push((name, schedule, from, due_until));
            }
        }
    }
    // An instant that a clock which was set back shows again has a name of its own, and a mark that follows such names passes over
    // others; what the rule names is then not what the ledger holds.
    if evidence.notes.clock.was_set_back() {
        return;
    }
    for (name, rule, from, until) in stretches {
        let own = rows.get(name).unwrap_or(&none);
        is_covered(rule, own, from, until, wrong);
    }
}

/// By how much a node may be ahead of the database's clock.
const EARLY: SignedDuration = SignedDuration::from_millis(500);

/// Whatever a node believes, the database's clock decides when it is time.
fn nothing_is_early(
    history: &History,
    others: &BTreeSet<(&str, i64)>,
    evidence: &Evidence,
    wrong: &mut Wrong,
) {
    for change in history.record.iter().filter(|change| change.what == "occurrence") {
        let (name, nominal) = (change.text(), change.number());
        let is_due_later =
            change.u.as_deref() == Some("scheduler") && !others.contains(&(name, nominal));
        let looks = &evidence.looks;
        let next = looks.partition_point(|(seq, _)| *seq < change.seq);
        if let Some((_, by)) = looks.get(next).filter(|_| is_due_later) {
            wrong.unless(micros(nominal) <= *by + EARLY, || {
                format!("{name}: {} was decided early, by {by}", micros(nominal))
            });
        }
    }
}

/// Whether the engine that adopted another rule in this change had this one in force until then.
fn was_in_force(
    history: &History,
    evidence: &Evidence,
    name: &str,
    rule: &str,
    change: i64,
) -> bool {
    let sightings = evidence.notes.sightings.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(last) = sightings.iter().rfind(|sighting| sighting.seq < change) else { return false };
    let restarted = history
        .record
        .iter()
        .any(|other| other.what == "node" && other.seq > last.seq && other.seq < change);
    !restarted && last.rules.get(name).is_some_and(|seen| seen == rule)
}

/// How late the scheduler may be on a machine without faults.
const LATE: std::time::Duration = std::time::Duration::from_secs(2);

fn is_covered(
    schedule: &Schedule,
    rows: &BTreeMap<Timestamp, &OccurrenceRow>,
    from: Timestamp,
    until: Timestamp,
    wrong: &mut Wrong,
) {
    if !schedule.enabled {
        return;
    }
    let (name, rule) = (schedule.id.as_str(), &schedule.when.rule);
    // The row that moved the mark to where the stretch begins may stand for what follows.
    let summed_up = rows.get(&from).filter(|row| row.instants > 1);
    let decided = summed_up.map_or(from, |row| last_of(row, schedule, wrong));
    let mut at = rule.next_on_calendar(decided);
    for _ in 0..MOST_STEPS {
        let Some(instant) = at.filter(|instant| *instant <= until) else { return };
        let Some(row) = rows.get(&instant) else {
            return wrong.say(format!(
                "{name}: {instant} was passed over without a row ({from} to {until})"
            ));
        };
        let last = if row.instants == 1 { instant } else { last_of(row, schedule, wrong) };
        at = rule.next_on_calendar(last);
    }
}

/// The last instant that a row stands for, whose number is counted again.
fn last_of(row: &OccurrenceRow, schedule: &Schedule, wrong: &mut Wrong) -> Timestamp {
    let first = micros(row.nominal_at);
    let last =
        row.reason.split_once(" to ").and_then(|(_, rest)| rest.split(": ").next()?.parse().ok());
    let Some(last) = last else {
        wrong.say(format!(
            "{}: the row of {first} does not say for which instants it stands: {}",
            row.schedule, row.reason
        ));
        return first;
    };
    let least = row.reason.starts_with("at least");
    if !least && usize::try_from(row.instants).is_ok_and(|count| count < MOST_STEPS) {
        let mut count = 1;
        let mut at = first;
        while let Some(next) = schedule.when.rule.next_on_calendar(at).filter(|next| *next <= last)
        {
            at = next;
            count += 1;
        }
        wrong.unless(count == row.instants && at == last, || {
            format!(
                "{}: the row of {first} stands for {} instants, there are {count}",
                row.schedule, row.instants
            )
        });
    }
    last
}

/// The timer's rows are for instants that the schedule had when it was decided.
fn is_named_by_its_rule(row: &OccurrenceRow, files: &Files, wrong: &mut Wrong) {
    if row.actor != "scheduler" {
        return;
    }
    let at = micros(row.nominal_at);
    let Some(version) = files.versions.get(&(row.schedule.clone(), row.revision.clone())) else {
        return wrong
            .say(format!("{} at {at}: nobody wrote revision {}", row.schedule, row.revision));
    };
    let rule = &version.when.rule;
    let counts_from_ends =
        rule.triggers.iter().any(|trigger| matches!(trigger, Trigger::EveryFromEnd { .. }));
    let just_before = at - SignedDuration::from_micros(1);
    wrong.unless(counts_from_ends || rule.next_on_calendar(just_before) == Some(at), || {
        format!("{} has no instant at {at}, and it is {}", row.schedule, row.decision)
    });
}
