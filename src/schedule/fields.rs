//! A definition as a flat list of fields, under the names that its author writes. What differs between two versions, and
//! whether anything does, are both read off it, so that they cannot disagree.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use serde_json::Value;

use super::definition::{ContentHash, Schedule};
use super::weekdays::Weekdays;
use super::{Rule, Trigger};
use crate::model::{Backoff, HumanDuration, Labels};

/// The fields of a definition with their values as text, except those that are absent or empty. Where it was read is none of them.
#[must_use]
pub fn fields(schedule: &Schedule) -> BTreeMap<String, String> {
    let mut fields = Fields(BTreeMap::new());
    fields.put("description", &schedule.description);
    fields.put("enabled", &schedule.enabled);
    fields.put("tags", &schedule.tags.join(", "));
    fields.put_some("owner", schedule.owner.as_ref());
    fields.put_some("runbook", schedule.runbook.as_ref());
    when_fields(schedule, &mut fields);
    run_fields(schedule, &mut fields);
    fields.put("kind", &schedule.kind);
    fields.put_json(&schedule.kind, &schedule.params.value());
    fields.0
}

/// The content hash of a definition.
#[must_use]
pub(super) fn hash(schedule: &Schedule) -> ContentHash {
    let mut hasher = blake3::Hasher::new();
    for (name, value) in fields(schedule) {
        for part in [name, value] {
            hasher.update(&part.len().to_le_bytes());
            hasher.update(part.as_bytes());
        }
    }
    hasher.finalize().into()
}

/// Those fields that make a schedule's instants what they are. When one of them changes, the schedule starts afresh; jitter, offset
/// and the policies are not among them, because changing those must not lose an instant that waits for its delay.
#[must_use]
pub fn rule_fields(schedule: &Schedule) -> BTreeMap<String, String> {
    let mut fields = Fields(BTreeMap::new());
    fields.put("enabled", &schedule.enabled);
    put_rule(&schedule.when.rule, &mut fields);
    fields.0
}

fn put_rule(rule: &Rule, fields: &mut Fields) {
    for trigger in &rule.triggers {
        let (name, value) = trigger_field(trigger);
        fields.append(name, &value);
    }
    fields.put("when.timezone", &zone_name(&rule.zone));
    fields.put(
        "when.dst",
        &format!("gap {}, repeat {}", word(&rule.dst.gap), word(&rule.dst.repeat)),
    );
}

fn when_fields(schedule: &Schedule, fields: &mut Fields) {
    let when = &schedule.when;
    put_rule(&when.rule, fields);
    fields.put("when.jitter", &HumanDuration(when.jitter));
    fields.put("when.offset", &HumanDuration(when.offset));
    fields.put("when.catch_up", &word(&when.catch_up.policy));
    fields.put_some("when.catch_up_window", when.catch_up.window.map(HumanDuration));
    fields.put("when.catch_up_max", &when.catch_up.max);
    fields.put_some("when.not_before", when.not_before);
    fields.put_some("when.not_after", when.not_after);
    for range in &when.blackout {
        fields.append("when.blackout", &format!("{}/{}", range.from, range.until));
    }
}

fn run_fields(schedule: &Schedule, fields: &mut Fields) {
    let run = &schedule.run;
    fields.put("run.priority", &run.priority);
    fields.put("run.queue", &run.queue);
    fields.put_some("run.timeout", run.timeout);
    fields.put_some("run.total_timeout", run.total_timeout);
    fields.put("run.overlap", &word(&run.overlap));
    fields.put("run.retries", &retries(run.retry.max_attempts, &run.retry.backoff));
    for requirement in &run.requires {
        fields.append("run.requires", &requirement.to_string());
    }
    fields.put_some("run.requires_wait", run.requires_wait);
    fields.put("run.labels", &labels(&run.labels));
    fields.put("run.node", &run.node);
    fields.put_some(
        "run.concurrency",
        run.concurrency.as_ref().map(|limit| format!("{} of {}", limit.max, limit.key)),
    );
}

fn trigger_field(trigger: &Trigger) -> (&'static str, String) {
    match trigger {
        Trigger::Every { period } => ("when.every", HumanDuration(*period).to_string()),
        Trigger::EveryFromEnd { period } => {
            ("when.every", format!("{} from the end of the last run", HumanDuration(*period)))
        }
        Trigger::Daily { times, weekdays } => {
            let times: Vec<String> = times.iter().map(ToString::to_string).collect();
            let days =
                if *weekdays == Weekdays::ALL { String::new() } else { format!(" on {weekdays}") };
            ("when.daily", format!("{}{days}", times.join(", ")))
        }
        Trigger::Cron(expression) => ("when.cron", expression.to_string()),
        Trigger::At(instant) => ("when.at", instant.to_string()),
        Trigger::After { schedule, on } => ("when.after", format!("{schedule} {on}")),
    }
}

/// A zone's name, or its offset where it has none.
#[must_use]
pub fn zone_name(zone: &TimeZone) -> String {
    match zone.iana_name() {
        Some(name) => name.to_owned(),
        None => zone
            .to_fixed_offset()
            .map_or_else(|_not_fixed| "the system's".to_owned(), |offset| offset.to_string()),
    }
}

fn retries(max_attempts: u32, backoff: &Backoff) -> String {
    let retries = max_attempts.saturating_sub(1);
    match backoff {
        Backoff::Exponential { base, factor, max_delay, jitter } => {
            let jitter = if *jitter { " with jitter" } else { "" };
            format!("{retries}, exponential from {base} by {factor} to {max_delay}{jitter}")
        }
        Backoff::Fixed { delay } => format!("{retries}, always after {delay}"),
        Backoff::Delays { delays } => {
            let delays: Vec<String> = delays.iter().map(ToString::to_string).collect();
            format!("{retries}, after {}", delays.join(", "))
        }
    }
}

fn labels(labels: &Labels) -> String {
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join(", ")
}

/// The word that a plain enum is written with.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(error) => error.to_string(),
    }
}

struct Fields(BTreeMap<String, String>);

impl Fields {
    fn put(&mut self, name: &str, value: &impl ToString) {
        let value = value.to_string();
        if !value.is_empty() {
            self.0.insert(name.to_owned(), value);
        }
    }

    fn put_some(&mut self, name: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.put(name, &value);
        }
    }

    fn append(&mut self, name: &str, value: &str) {
        let text = self.0.entry(name.to_owned()).or_default();
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(value);
    }

    /// Objects by their keys, everything else as JSON.
    fn put_json(&mut self, name: &str, value: &Value) {
        match value {
            Value::Object(entries) if !entries.is_empty() => {
                for (key, value) in entries {
                    self.put_json(&format!("{name}.{key}"), value);
                }
            }
            other => self.put(name, other),
        }
    }
}
