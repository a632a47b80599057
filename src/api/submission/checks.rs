//! What is found wrong in the fields of one submission.

use std::fmt::Display;

use serde_json::Value;

use crate::api::problem::{FieldError, Problem};
use crate::jobs::explain;
use crate::model::{Backoff, HumanDuration, RetryPolicy, ScheduleId};

/// How long a unique key may be, in bytes. It is part of an index.
const MAX_UNIQUE_BYTES: usize = 256;

/// The most attempts of one job, as in a schedule file.
const MAX_ATTEMPTS: u32 = 1001;

/// What a failure may multiply the wait by, as in a schedule file.
const FACTORS: std::ops::RangeInclusive<f64> = 1.0..=100.0;

/// Everything that is wrong, so that the answer tells all of it at once.
pub(super) struct Checks<'a> {
    prefix: &'a str,
    wrong: Vec<FieldError>,
}

impl<'a> Checks<'a> {
    /// Those of the submission at the pointer `prefix`.
    pub(super) fn of(prefix: &'a str) -> Self {
        Self { prefix, wrong: Vec::new() }
    }

    pub(super) fn refuse(&mut self, field: &str, detail: impl Into<String>) {
        let pointer = format!("{}/{field}", self.prefix);
        self.wrong.push(FieldError { pointer, detail: detail.into() });
    }

    /// A field's value, unless it is wrong.
    pub(super) fn taken<T, E: Display>(
        &mut self,
        field: &str,
        value: Result<Option<T>, E>,
    ) -> Option<T> {
        value.unwrap_or_else(|error| {
            self.refuse(field, error.to_string());
            None
        })
    }

    pub(super) fn duration(&mut self, field: &str, text: Option<String>) -> Option<HumanDuration> {
        self.taken(field, text.map(|text| text.parse()).transpose())
    }

    /// How long something may take.
    pub(super) fn limit(&mut self, field: &str, text: Option<String>) -> Option<HumanDuration> {
        let limit = self.duration(field, text);
        if limit.is_some_and(|limit| limit.get().is_zero()) {
            self.refuse(field, "no job can finish in no time; leave it out for no limit");
        }
        limit
    }

    pub(super) fn queue(&mut self, name: Option<String>) -> Option<String> {
        let name = name?;
        if name.parse::<ScheduleId>().is_ok() {
            return Some(name);
        }
        self.refuse("queue", "a queue's name has 1 to 64 of a-z, 0-9, - and _");
        None
    }

    /// # Errors
    /// What was wrong, if anything was.
    pub(super) fn passed(self) -> Result<(), Problem> {
        if self.wrong.is_empty() {
            return Ok(());
        }
        Err(Problem::invalid("the submission is not valid", self.wrong))
    }
}

/// What is wrong with a unique key. Control characters are in none: they are in lists and logs, and PostgreSQL stores no NUL.
pub(super) fn unique_problem(key: &str) -> Option<String> {
    let is_legal =
        (1..=MAX_UNIQUE_BYTES).contains(&key.len()) && !key.chars().any(char::is_control);
    let rule =
        || format!("a unique key has 1 to {MAX_UNIQUE_BYTES} bytes and no control characters");
    (!is_legal).then(rule)
}

/// Or the field that is wrong, and what is wrong with it.
pub(super) fn retry_policy(
    max: Option<u32>,
    backoff: Option<Value>,
    default: &Option<RetryPolicy>,
) -> Result<Option<RetryPolicy>, (&'static str, String)> {
    if max.is_none() && backoff.is_none() {
        return Ok(default.clone());
    }
    let mut policy = default.clone().unwrap_or_default();
    if let Some(backoff) = backoff {
        policy.backoff = checked_backoff(backoff).map_err(|detail| ("backoff", detail))?;
        // A list of delays says how many retries there are, unless that is said, as in a schedule file.
        if let Backoff::Delays { delays } = &policy.backoff {
            policy.max_attempts = u32::try_from(delays.len()).unwrap_or(u32::MAX).saturating_add(1);
        }
    }
    policy.max_attempts = max.unwrap_or(policy.max_attempts);
    if !(1..=MAX_ATTEMPTS).contains(&policy.max_attempts) {
        return Err(("max_attempts", format!("must be from 1 to {MAX_ATTEMPTS}")));
    }
    Ok(Some(policy))
}

/// The keys of a backoff that are lengths of time.
const LENGTHS: [&str; 4] = ["base", "max_delay", "delay", "delays"];

/// A backoff as in a schedule file: a number is seconds, and what is left out of an exponential one is as without settings.
fn checked_backoff(mut given: Value) -> Result<Backoff, String> {
    let names_longest = given.get("max_delay").is_some();
    let Some(fields) = given.as_object_mut() else {
        let example = r#"{"backoff": "fixed", "delay": "30s"}"#;
        return Err(format!("must be an object like {example}"));
    };
    for (_, length) in fields.iter_mut().filter(|(key, _)| LENGTHS.contains(&key.as_str())) {
        seconds_in_words(length);
    }
    let mut backoff: Backoff =
        serde_path_to_error::deserialize(given).map_err(|error| explain(&error).to_string())?;
    match &mut backoff {
        Backoff::Delays { delays } if delays.is_empty() => {
            return Err("delays must not be empty".to_owned());
        }
        Backoff::Exponential { base, factor, max_delay, .. } => {
            if !FACTORS.contains(factor) {
                return Err("factor must be a number from 1 to 100".to_owned());
            }
            if base.get().is_zero() {
                return Err("base must be longer than nothing".to_owned());
            }
            if !names_longest {
                *max_delay = (*max_delay).max(*base);
            }
            if max_delay < base {
                return Err("max_delay is shorter than base".to_owned());
            }
        }
        Backoff::Fixed { .. } | Backoff::Delays { .. } => {}
    }
    Ok(backoff)
}

fn seconds_in_words(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(seconds_in_words),
        Value::Number(seconds) if seconds.is_u64() => *value = format!("{seconds}s").into(),
        _ => {}
    }
}
