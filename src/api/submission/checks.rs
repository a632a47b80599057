//! What is found wrong in the fields of one submission.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde_json::Value;

use super::shown;
use crate::api::problem::{FieldError, Problem};
use crate::jobs::explain;
use crate::model::{Backoff, HumanDuration, RetryPolicy, ScheduleId};

/// How many labels a job may have, and how long the key or value of one may be, in bytes.
const MAX_LABELS: usize = 32;
const MAX_LABEL_BYTES: usize = 256;

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

/// What is wrong with labels.
pub(super) fn label_problems(labels: &BTreeMap<String, String>) -> Vec<String> {
    let mut problems = Vec::new();
    if labels.len() > MAX_LABELS {
        problems.push(format!("more than {MAX_LABELS} labels"));
    }
    let is_legal = |key: &str, value: &str| {
        !key.is_empty()
            && !key.contains(['=', ','])
            && key.len().max(value.len()) <= MAX_LABEL_BYTES
            && !key.chars().chain(value.chars()).any(char::is_control)
    };
    let wrong = labels.iter().filter(|(key, value)| !is_legal(key, value));
    problems.extend(wrong.map(|(key, _)| {
        format!(
            "`{}` is not a label: a key without = and , and a value, without control characters and with at most {MAX_LABEL_BYTES} bytes each",
            shown(key)
        )
    }));
    problems
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
    if let Some(max) = max {
        if !(1..=MAX_ATTEMPTS).contains(&max) {
            return Err(("max_attempts", format!("must be from 1 to {MAX_ATTEMPTS}")));
        }
        policy.max_attempts = max;
    }
    if let Some(backoff) = backoff {
        let wrong = |detail: String| ("backoff", detail);
        policy.backoff = serde_path_to_error::deserialize::<_, Backoff>(backoff)
            .map_err(|error| wrong(explain(&error).message))?;
        match &policy.backoff {
            Backoff::Delays { delays } if delays.is_empty() => {
                return Err(wrong("delays must not be empty".to_owned()));
            }
            Backoff::Exponential { factor, .. } if !FACTORS.contains(factor) => {
                return Err(wrong("factor must be a number from 1 to 100".to_owned()));
            }
            _ => {}
        }
    }
    Ok(Some(policy))
}
