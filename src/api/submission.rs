//! From the body of `POST /api/v1/jobs` to the jobs that it asks for, or to what is wrong with it. Pure.

use std::collections::HashSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::problem::{FieldError, Problem};
use super::wire::{DependsOn, Item, Needs, Submission};
use crate::jobs::{ItemRuns, Kind, explain, kind};
use crate::model::{
    Actor, Backoff, Concurrency, Dependency, DependencyNeeds, HumanDuration, JobId, JobSettings,
    JsonText, NewItem, NewJob, NodeChoice, Priority, RetryPolicy, UniqueKey,
};

/// How many jobs one call may submit.
pub const MAX_SUBMISSION: usize = 10_000;

/// How many items a batch may have, and how long the name of one may be, in bytes.
const MAX_ITEMS: usize = 100_000;
const MAX_ITEM_NAME_BYTES: usize = 200;

/// How long the params of all items may be together, in bytes of JSON. Each item has those of the batch, so a few kilobytes of body could
/// otherwise become more than memory holds.
const MAX_ITEMS_BYTES: usize = 64 << 20;

/// How many labels a job may have, and how long the key or value of one may be, in bytes.
const MAX_LABELS: usize = 32;
const MAX_LABEL_BYTES: usize = 256;

/// How long a unique key may be, in bytes. It is part of an index.
const MAX_UNIQUE_BYTES: usize = 256;

/// The most attempts of one job, as in a schedule file.
const MAX_ATTEMPTS: u32 = 1001;

/// What a failure may multiply the wait by, as in a schedule file.
const FACTORS: std::ops::RangeInclusive<f64> = 1.0..=100.0;

/// The jobs that one body asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Submitted {
    /// Every one of them, checked.
    pub jobs: Vec<NewJob>,
    /// Whether the body was a list, so that the answer is one too.
    pub is_bulk: bool,
}

/// Checks a body, which is one submission or a list of them.
///
/// # Errors
/// What is wrong, each with its place in the body. Then nothing is to be submitted, not even what is right.
pub fn check_submission(
    body: Value,
    kinds: &[Kind],
    now: Timestamp,
    actor: &Actor,
) -> Result<Submitted, Problem> {
    let (submissions, is_bulk) = submissions(body)?;
    let jobs = check_submissions(submissions, is_bulk, kinds, now, actor)?;
    Ok(Submitted { jobs, is_bulk })
}

/// The same for submissions that were a body's, or might have been.
pub(crate) fn check_submissions(
    submissions: Vec<Submission>,
    is_bulk: bool,
    kinds: &[Kind],
    now: Timestamp,
    actor: &Actor,
) -> Result<Vec<NewJob>, Problem> {
    refuse_too_many(submissions.len())?;
    let mut jobs = Vec::with_capacity(submissions.len());
    for (index, submission) in submissions.into_iter().enumerate() {
        jobs.push(checked(submission, index, &prefix(index, is_bulk), kinds, now, actor)?);
    }
    Ok(jobs)
}

fn refuse_too_many(count: usize) -> Result<(), Problem> {
    if count <= MAX_SUBMISSION {
        return Ok(());
    }
    Err(Problem::bad_request(format!(
        "{count} jobs in one call are too many; the limit is {MAX_SUBMISSION}"
    )))
}

/// Where the `index`-th submission stands in the body, as a JSON pointer.
fn prefix(index: usize, is_bulk: bool) -> String {
    if is_bulk { format!("/{index}") } else { String::new() }
}

fn submissions(body: Value) -> Result<(Vec<Submission>, bool), Problem> {
    let is_bulk = body.is_array();
    let values = match body {
        Value::Array(values) => values,
        one => vec![one],
    };
    // Before they are read, and what that costs.
    refuse_too_many(values.len())?;
    let mut submissions = Vec::with_capacity(values.len());
    for (index, value) in values.into_iter().enumerate() {
        let submission = serde_path_to_error::deserialize(value).map_err(|error| {
            let wrong = FieldError::of(&prefix(index, is_bulk), &explain(&error));
            Problem::invalid("the submission is not valid", vec![wrong])
        })?;
        submissions.push(submission);
    }
    Ok((submissions, is_bulk))
}

/// A submission with everything checked, as the job that it makes.
fn checked(
    submission: Submission,
    position: usize,
    prefix: &str,
    kinds: &[Kind],
    now: Timestamp,
    actor: &Actor,
) -> Result<NewJob, Problem> {
    let kind = kind(kinds, &submission.kind).ok_or_else(|| {
        let known: Vec<&str> = kinds.iter().map(|kind| &*kind.name).collect();
        let detail = format!(
            "there is no kind `{}`; the kinds are {}",
            shown(&submission.kind),
            known.join(", ")
        );
        Problem::invalid(
            "unknown kind",
            vec![FieldError { pointer: format!("{prefix}/kind"), detail }],
        )
    })?;
    let params = match submission.params {
        Value::Null => json!({}),
        given => given,
    };
    let items = match submission.items {
        None => {
            let problems = kind.check(&params);
            if !problems.is_empty() {
                return Err(Problem::invalid_params(
                    &kind.name,
                    &format!("{prefix}/params"),
                    &problems,
                ));
            }
            Vec::new()
        }
        Some(items) => checked_items(items, &params, kind, prefix)?,
    };
    let mut wrong = Vec::new();
    let mut refuse = |field: &str, detail: String| {
        wrong.push(FieldError { pointer: format!("{prefix}/{field}"), detail });
    };
    let defaults = kind.defaults();
    let mut job = NewJob::new(&*kind.name, JsonText::from(&params), now, actor.clone());
    if let Some(queue) = &defaults.queue {
        job.queue.clone_from(queue);
    }
    job.priority = defaults.priority.unwrap_or(job.priority);
    if let Some(value) = submission.priority {
        match serde_json::from_value::<Priority>(value) {
            Ok(priority) => job.priority = priority,
            Err(error) => refuse("priority", error.to_string()),
        }
    }
    if let Some(queue) = submission.queue {
        match queue.parse::<crate::model::ScheduleId>() {
            Ok(_well_formed) => job.queue = queue,
            Err(_bad) => {
                refuse("queue", "a queue's name has 1 to 64 of a-z, 0-9, - and _".to_owned());
            }
        }
    }
    if let Some(at) = submission.run_at {
        match at.parse() {
            Ok(at) => job.run_at = in_micros(at),
            Err(error) => refuse("run_at", format!("{error}")),
        }
    }
    let mut duration = |field: &str, text: Option<String>| -> Option<HumanDuration> {
        match text?.parse() {
            Ok(duration) => Some(duration),
            Err(error) => {
                refuse(field, format!("{error}"));
                None
            }
        }
    };
    let timeout = duration("timeout", submission.timeout);
    let total_timeout = duration("total_timeout", submission.total_timeout);
    let period = duration("unique_period", submission.unique_period);
    for (field, length) in [("timeout", timeout), ("total_timeout", total_timeout)] {
        if length.is_some_and(|length| length.get().is_zero()) {
            refuse(field, "no job can finish in no time; leave it out for no limit".to_owned());
        }
    }
    if submission.unique.as_ref().is_some_and(|key| key.is_empty() || key.len() > MAX_UNIQUE_BYTES)
    {
        refuse("unique", format!("a unique key has 1 to {MAX_UNIQUE_BYTES} bytes"));
    }
    if !submission.on_dependency_failure.is_default() && submission.depends_on.is_empty() {
        let detail = "there is nothing in `depends_on` that could fail".to_owned();
        refuse("on_dependency_failure", detail);
    }
    if let Some(problem) = submission.concurrency.as_ref().and_then(Concurrency::problem) {
        refuse("concurrency", problem);
    }
    if submission.labels.len() > MAX_LABELS {
        refuse("labels", format!("more than {MAX_LABELS} labels"));
    }
    let retry = match retry_policy(submission.max_attempts, submission.backoff, &defaults.retry) {
        Ok(retry) => retry,
        Err((field, detail)) => {
            refuse(field, detail);
            None
        }
    };
    for (key, value) in &submission.labels {
        if key.is_empty()
            || key.contains(['=', ','])
            || key.len().max(value.len()) > MAX_LABEL_BYTES
        {
            refuse(
                "labels",
                format!(
                    "`{}` is not a label: a key without = and , and at most {MAX_LABEL_BYTES} bytes each",
                    shown(key)
                ),
            );
        }
    }
    job.on_every_node = submission.node == NodeChoice::Every;
    if job.on_every_node && !items.is_empty() {
        refuse("node", "`every` makes an item for each node, so there can be no others".to_owned());
    }
    if !wrong.is_empty() {
        return Err(Problem::invalid("the submission is not valid", wrong));
    }
    let timeout = timeout.or(defaults.timeout);
    let node = match submission.node {
        NodeChoice::Only(selector) => Some(selector),
        NodeChoice::Every | NodeChoice::Any => None,
    };
    job.settings = JobSettings {
        node,
        retry,
        timeout,
        total_timeout,
        dry_run: submission.dry_run,
        concurrency: submission.concurrency,
        limited_kind: kind.declared().is_some(),
        whole_batch: !items.is_empty() && runs_items_at_once(kind),
        on_dependency_failure: submission.on_dependency_failure,
        ..JobSettings::default()
    };
    job.labels = submission.labels;
    job.unique = submission.unique.map(|key| UniqueKey { key, period });
    for (place, on) in submission.depends_on.into_iter().enumerate() {
        let wrong = |detail: &str| {
            let pointer = format!("{prefix}/depends_on/{place}");
            let error = FieldError { pointer, detail: detail.to_owned() };
            Err(Problem::invalid("the submission is not valid", vec![error]))
        };
        let Needs { job: on, index, needs } = match on {
            DependsOn::Job(id) => {
                Needs { job: Some(id), index: None, needs: DependencyNeeds::Success }
            }
            DependsOn::Needs(needs) => needs,
        };
        match (on, index) {
            (Some(id), None) => job.settings.depends_on.push(Dependency { on: JobId(id), needs }),
            (None, Some(index)) if index < position => job.depends_on_earlier.push((index, needs)),
            (None, Some(_)) => return wrong("`index` is the place of an earlier job of this call"),
            _ => return wrong("one of `job` and `index` says what must come first"),
        }
    }
    job.items = items;
    Ok(job)
}

/// Whether all items of a batch of the kind are done in one run.
fn runs_items_at_once(kind: &Kind) -> bool {
    kind.declared().is_some_and(|declared| declared.items == ItemRuns::All)
}

/// The items of a batch with everything checked. The batch's params alone may lack what each item brings, so what is checked is what
/// each item's job gets. Where one run does all of them, its program gets the batch's params and beside them what each item has of its own.
fn checked_items(
    items: Vec<Item>,
    params: &Value,
    kind: &Kind,
    prefix: &str,
) -> Result<Vec<NewItem>, Problem> {
    let wrong = |place: String, detail: String| {
        let error = FieldError { pointer: format!("{prefix}/items{place}"), detail };
        Err(Problem::invalid("the items are not valid", vec![error]))
    };
    if items.is_empty() || items.len() > MAX_ITEMS {
        return wrong(String::new(), format!("a batch has 1 to {MAX_ITEMS} items"));
    }
    let is_whole = runs_items_at_once(kind);
    if is_whole {
        let problems = kind.check(params);
        if !problems.is_empty() {
            return Err(Problem::invalid_params(
                &kind.name,
                &format!("{prefix}/params"),
                &problems,
            ));
        }
    }
    let mut checked = Vec::with_capacity(items.len());
    let mut names = HashSet::with_capacity(items.len());
    let mut bytes = 0;
    for (index, item) in items.into_iter().enumerate() {
        let (name, own) = match item {
            Item::Name(name) => (name, None),
            Item::WithParams { name, params } => (name, params),
        };
        let is_legal =
            (1..=MAX_ITEM_NAME_BYTES).contains(&name.len()) && !name.chars().any(char::is_control);
        if !is_legal {
            let detail =
                format!("a name has 1 to {MAX_ITEM_NAME_BYTES} bytes and no control characters");
            return wrong(format!("/{index}"), detail);
        }
        if !names.insert(name.clone()) {
            return wrong(format!("/{index}"), format!("`{}` is named twice", shown(&name)));
        }
        let mut merged = params.clone();
        let alone = is_whole.then(|| JsonText::from(own.as_ref().unwrap_or(&json!({}))));
        match (&mut merged, own) {
            (Value::Object(merged), Some(Value::Object(own))) => merged.extend(own),
            (_, None) => {}
            _ => return wrong(format!("/{index}/params"), "params are an object".to_owned()),
        }
        let problems = kind.check(&merged);
        if !problems.is_empty() {
            let place = format!("{prefix}/items/{index}/params");
            return Err(Problem::invalid_params(&kind.name, &place, &problems));
        }
        let params = alone.unwrap_or_else(|| JsonText::from(&merged));
        bytes += params.as_str().len();
        if bytes > MAX_ITEMS_BYTES {
            let detail = format!(
                "the params of the items up to here are more than {MAX_ITEMS_BYTES} bytes together; each has those of the batch, so \
                 put what is long into a file that they name"
            );
            return wrong(format!("/{index}"), detail);
        }
        checked.push(NewItem { name, params, node: None });
    }
    Ok(checked)
}

/// Or the field that is wrong, and what is wrong with it.
fn retry_policy(
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

/// A name as it may be repeated in an answer: escaped, and no longer than a reader needs.
fn shown(name: &str) -> String {
    name.chars().take(100).flat_map(char::escape_default).collect()
}

/// The database keeps microseconds, so that the instant does not change on its way there and back.
fn in_micros(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::KINDS;

    fn check(body: Value) -> Result<Submitted, Problem> {
        check_submission(body, KINDS, Timestamp::UNIX_EPOCH, &Actor::named("test"))
    }

    fn places(body: &Value) -> Vec<String> {
        let problem = check(body.clone()).expect_err("it is wrong");
        problem.errors.into_iter().map(|error| error.pointer).collect()
    }

    #[test]
    fn every_pointer_of_a_refusal_leads_to_what_is_wrong() {
        let job = json!({"kind": "command", "params": {"argv": ["true"]}});
        for (body, place) in [
            (json!({"kind": "command", "depends_on": [1, "x"]}), "/depends_on/1"),
            (json!([job, {"kind": "command", "labels": {"a.b/c": 1}}]), "/1/labels/a.b~1c"),
            (json!([job, {"kind": "command", "a.b": 1}]), "/1/a.b"),
            (
                json!({"kind": "command", "params": {"argv": ["true"]}, "depends_on": [{"index": 0}]}),
                "/depends_on/0",
            ),
            (
                json!([job, {"kind": "command", "params": {"argv": ["true"]}, "depends_on": [{"index": 1}]}]),
                "/1/depends_on/0",
            ),
            (
                json!({"kind": "command", "params": {"argv": ["true"]}, "on_dependency_failure": "wait"}),
                "/on_dependency_failure",
            ),
            (json!({"kind": "command", "on_dependency_failure": "hope"}), "/on_dependency_failure"),
            (
                json!({"kind": "command", "depends_on": [{"job": 1, "needs": "luck"}]}),
                "/depends_on/0",
            ),
            (
                json!({"kind": "command", "items": ["a", {"name": "b", "parms": {}}]}),
                "/items/1/parms",
            ),
            (json!([job, {"kind": "command", "items": [{"name": "b"}, 7]}]), "/1/items/1"),
            (json!({"kind": "command", "items": [{"params": {}}]}), "/items/0"),
            (json!({"params": {}}), ""),
            (json!([job, 5]), "/1"),
        ] {
            assert_eq!(places(&body), [place], "{body}");
            assert!(body.pointer(place).is_some(), "{place} leads nowhere in {body}");
        }
    }

    #[test]
    fn a_refusal_of_an_item_says_what_one_is() {
        let body = json!({"kind": "command", "params": {"argv": ["true"]}, "items": ["a", 7]});
        let problem = check(body).expect_err("7 is no item");
        assert_eq!(
            problem.errors[0].detail,
            "invalid type: integer `7`, expected an item: its name, or an object with `name` and `params`"
        );
        let body = json!({"kind": "command", "items": [{"name": "a", "parms": {"z": 1}}]});
        let problem = check(body).expect_err("there is no such key");
        assert_eq!(problem.errors[0].detail, "unknown key `parms` (did you mean `params`?)");
    }

    #[test]
    fn long_params_of_a_batch_are_not_multiplied_without_end() {
        let items: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        let shell = |bytes: usize| json!({"shell": "x".repeat(bytes)});
        let body = |bytes| json!({"kind": "command", "params": shell(bytes), "items": items});
        assert_eq!(check(body(100_000)).expect("10 MB").jobs[0].items.len(), 100);
        assert_eq!(places(&body(1_000_000)), ["/items/67"], "that is where 64 MiB are over");
    }

    #[test]
    fn what_a_schedule_file_may_not_say_is_refused_here_too() {
        let labels: serde_json::Map<String, Value> =
            (0..33).map(|number| (format!("label-{number}"), json!("x"))).collect();
        let exponential = |factor: f64| {
            let mut backoff = json!({"backoff": "exponential", "base": "1s", "max_delay": "1m"});
            backoff["factor"] = json!(factor);
            backoff["jitter"] = json!(false);
            backoff
        };
        for (field, value, place) in [
            ("labels", Value::Object(labels), "/labels"),
            ("unique", json!(""), "/unique"),
            ("unique", json!("x".repeat(257)), "/unique"),
            ("timeout", json!("0s"), "/timeout"),
            ("total_timeout", json!("0s"), "/total_timeout"),
            ("max_attempts", json!(0), "/max_attempts"),
            ("max_attempts", json!(u32::MAX), "/max_attempts"),
            ("backoff", exponential(0.5), "/backoff"),
            ("backoff", exponential(1e300), "/backoff"),
        ] {
            let mut body = json!({"kind": "command", "params": {"argv": ["true"]}});
            body[field] = value;
            assert_eq!(places(&body), [place], "{body}");
        }
    }

    #[test]
    fn an_instant_is_kept_as_the_database_keeps_it() {
        let body = json!({
            "kind": "command",
            "params": {"argv": ["true"]},
            "run_at": "2026-12-01T00:00:00.123456789Z",
        });
        let run_at = check(body).expect("it is right").jobs[0].run_at;
        assert_eq!(run_at, "2026-12-01T00:00:00.123456Z".parse().expect("it is an instant"));
    }
}
