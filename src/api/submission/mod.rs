//! From the body of `POST /api/v1/jobs` to the jobs that it asks for, or to what is wrong with it. Pure.

mod checks;
mod items;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::ahead::ahead;
use super::problem::{FieldError, Problem};
use super::wire::{DependsOn, Needs, Submission};
use crate::jobs::{JobDefaults, Kind, explain, kind};
use crate::model::{
    Actor, Concurrency, Dependency, DependencyNeeds, JobId, JobSettings, JsonText, NewJob,
    NodeChoice, Priority, UniqueKey, label_problems,
};

use checks::{Checks, retry_policy, unique_problem};
use items::{checked_items, runs_items_at_once};

/// How many jobs one call may submit.
pub const MAX_SUBMISSION: usize = 10_000;

/// The jobs that one body asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Submitted {
    /// Every one of them, checked.
    pub jobs: Vec<NewJob>,
    /// Whether the body was a list, so that the answer is one too.
    pub is_bulk: bool,
}

/// Checks a body, which is one submission or a list of them. `defaults` are what jobs get that say nothing themselves, and whose kinds do not.
///
/// # Errors
/// What is wrong, each with its place in the body. Then nothing is to be submitted, not even what is right.
pub fn check_submission(
    body: Value,
    kinds: &[Kind],
    defaults: &JobDefaults,
    now: Timestamp,
    actor: &Actor,
) -> Result<Submitted, Problem> {
    let (submissions, is_bulk) = submissions(body)?;
    let jobs = check_submissions(submissions, is_bulk, kinds, defaults, now, actor)?;
    Ok(Submitted { jobs, is_bulk })
}

/// The same for submissions that were a body's, or might have been.
pub(crate) fn check_submissions(
    submissions: Vec<Submission>,
    is_bulk: bool,
    kinds: &[Kind],
    defaults: &JobDefaults,
    now: Timestamp,
    actor: &Actor,
) -> Result<Vec<NewJob>, Problem> {
    refuse_too_many(submissions.len())?;
    let mut jobs = Vec::with_capacity(submissions.len());
    for (index, submission) in submissions.into_iter().enumerate() {
        jobs.push(checked(
            submission,
            index,
            &prefix(index, is_bulk),
            kinds,
            defaults,
            now,
            actor,
        )?);
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
        let wrong = |problem: &crate::jobs::Problem| {
            let wrong = FieldError::of(&prefix(index, is_bulk), problem);
            Problem::invalid("the submission is not valid", vec![wrong])
        };
        // serde reads a list as the fields of an object, by their order.
        if !value.is_object() {
            return Err(wrong(&crate::jobs::Problem::at("", "a submission is an object")));
        }
        let submission = serde_path_to_error::deserialize(value);
        submissions.push(submission.map_err(|error| wrong(&explain(&error)))?);
    }
    Ok((submissions, is_bulk))
}

/// A submission with everything checked, as the job that it makes.
fn checked(
    submission: Submission,
    position: usize,
    prefix: &str,
    kinds: &[Kind],
    defaults: &JobDefaults,
    now: Timestamp,
    actor: &Actor,
) -> Result<NewJob, Problem> {
    let kind = known(kinds, &submission.kind, prefix)?;
    let params = match submission.params {
        Value::Null => json!({}),
        given => given,
    };
    let items = match submission.items {
        None => {
            let problems = kind.check(&params);
            if !problems.is_empty() {
                let place = format!("{prefix}/params");
                return Err(Problem::invalid_params(&kind.name, &place, &problems));
            }
            Vec::new()
        }
        Some(items) => checked_items(items, &params, kind, prefix)?,
    };
    let is_dependent = !submission.depends_on.is_empty();
    let (depends_on, depends_on_earlier) = dependencies(submission.depends_on, position, prefix)?;
    let defaults = kind.defaults().clone().or(defaults);
    let mut checks = Checks::of(prefix);

    let mut job = NewJob::new(&*kind.name, JsonText::from(&params), now, actor.clone());
    if let Some(queue) = checks.queue(submission.queue).or(defaults.queue) {
        job.queue = queue;
    }
    let priority = submission.priority.map(serde_json::from_value::<Priority>);
    let priority = checks.taken("priority", priority.transpose()).or(defaults.priority);
    job.priority = priority.unwrap_or(job.priority);
    let run_at = submission.run_at.map(|at| ahead(&at, now));
    job.run_at = checks.taken("run_at", run_at.transpose()).map_or(job.run_at, in_micros);
    let timeout = checks.limit("timeout", submission.timeout).or(defaults.timeout);
    let total_timeout = checks.limit("total_timeout", submission.total_timeout);
    let period = checks.duration("unique_period", submission.unique_period);
    if let Some(problem) = submission.unique.as_deref().and_then(unique_problem) {
        checks.refuse("unique", problem);
    }
    if !submission.on_dependency_failure.is_default() && !is_dependent {
        checks.refuse("on_dependency_failure", "there is nothing in `depends_on` that could fail");
    }
    if let Some(problem) = submission.concurrency.as_ref().and_then(Concurrency::problem) {
        checks.refuse("concurrency", problem);
    }
    for problem in label_problems(&submission.labels) {
        checks.refuse("labels", problem);
    }
    let retry = match retry_policy(submission.max_attempts, submission.backoff, &defaults.retry) {
        Ok(retry) => retry,
        Err((field, detail)) => {
            checks.refuse(field, detail);
            None
        }
    };
    job.on_every_node = submission.node == NodeChoice::Every;
    if job.on_every_node && !items.is_empty() {
        checks.refuse("node", "`every` makes an item for each node, so there can be no others");
    }
    checks.passed()?;

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
        depends_on,
        ..JobSettings::default()
    };
    job.depends_on_earlier = depends_on_earlier;
    job.labels = submission.labels;
    job.unique = submission.unique.map(|key| UniqueKey { key, period });
    job.items = items;
    Ok(job)
}

/// The kind of that name.
fn known<'a>(kinds: &'a [Kind], name: &str, prefix: &str) -> Result<&'a Kind, Problem> {
    kind(kinds, name).ok_or_else(|| {
        let known: Vec<&str> = kinds.iter().map(|kind| &*kind.name).collect();
        let (name, known) = (shown(name), known.join(", "));
        let detail = format!("there is no kind `{name}`; the kinds are {known}");
        let wrong = FieldError { pointer: format!("{prefix}/kind"), detail };
        Problem::invalid("unknown kind", vec![wrong])
    })
}

/// Jobs that must come first, by their numbers, and by their places in the same call.
type Dependencies = (Vec<Dependency>, Vec<(usize, DependencyNeeds)>);

/// What the submission at `position` of its call depends on.
fn dependencies(
    given: Vec<DependsOn>,
    position: usize,
    prefix: &str,
) -> Result<Dependencies, Problem> {
    let (mut by_number, mut by_place) = (Vec::new(), Vec::new());
    for (place, on) in given.into_iter().enumerate() {
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
            (Some(id), None) => by_number.push(Dependency { on: JobId(id), needs }),
            (None, Some(index)) if index < position => by_place.push((index, needs)),
            (None, Some(_)) => return wrong("`index` is the place of an earlier job of this call"),
            _ => return wrong("one of `job` and `index` says what must come first"),
        }
    }
    Ok((by_number, by_place))
}

/// A name as it may be repeated in an answer: escaped, and no longer than a reader needs.
fn shown(name: &str) -> String {
    name.chars().take(100).flat_map(char::escape_default).collect()
}

/// The database keeps microseconds, so that the instant does not change on its way there and back.
fn in_micros(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}
