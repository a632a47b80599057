//! The bodies of requests.

use jiff::Timestamp;
use serde_json::Value;
use sexton::api::wire::{PauseRequest, RunRequest, Selection};
use sexton::api::{MAX_SUBMISSION, Problem, check_submission, read_body};
use sexton::jobs::{JobDefaults, KINDS, kind};
use sexton::model::{Actor, Backoff, NewJob, ScheduleId};
use sexton::queue::retry_delay;

use super::text::is_inert;

/// 2026-11-25T00:00:00Z.
const NOW_SECONDS: i64 = 1_795_564_800;

pub(crate) fn check(data: &[u8]) {
    let now = Timestamp::from_second(NOW_SECONDS).expect("it is a time");
    let body = read_body::<Value>(data);
    let document = body.as_ref().ok().cloned();
    let submitted = body.and_then(|body| {
        check_submission(body, KINDS, &JobDefaults::default(), now, &Actor::named("api:uid=33"))
    });
    match submitted {
        Ok(submitted) => {
            assert!(submitted.jobs.len() <= MAX_SUBMISSION);
            assert_eq!(submitted.is_bulk, document.as_ref().is_some_and(Value::is_array));
            submitted.jobs.iter().for_each(is_within_limits);
        }
        Err(problem) => points_into(document.as_ref(), &problem),
    }
    let problems = [
        read_body::<Selection>(data).err(),
        read_body::<RunRequest>(data).err(),
        read_body::<PauseRequest>(data).err(),
    ];
    for problem in problems.into_iter().flatten() {
        points_into(document.as_ref(), &problem);
    }
}

/// Whatever comes in over HTTP is held to what a schedule file is held to, and is stored as what it was understood as.
fn is_within_limits(job: &NewJob) {
    let kind = kind(KINDS, &job.kind).expect("its kind is known");
    assert_eq!(kind.check(&job.params.value()), [], "params of {}", kind.name);
    assert!(job.queue.parse::<ScheduleId>().is_ok(), "queue {:?}", job.queue);
    assert_eq!(job.run_at.subsec_nanosecond() % 1000, 0, "{}", job.run_at);
    assert!(job.labels.len() <= 32, "{} labels", job.labels.len());
    for (key, value) in &job.labels {
        assert!(!key.is_empty() && !key.contains(['=', ',']), "{key:?}");
        assert!(key.len() <= 256 && value.len() <= 256, "{key:?}={value:?}");
    }
    if let Some(unique) = &job.unique {
        assert!((1..=256).contains(&unique.key.len()), "{:?}", unique.key);
    }
    let settings = &job.settings;
    assert!(settings.timeout.is_none_or(|timeout| !timeout.get().is_zero()));
    assert!(settings.total_timeout.is_none_or(|timeout| !timeout.get().is_zero()));
    if let Some(retry) = &settings.retry {
        assert!((1..=1001).contains(&retry.max_attempts), "{retry:?}");
        if let Backoff::Exponential { factor, .. } = retry.backoff {
            assert!((1.0..=100.0).contains(&factor), "{retry:?}");
        }
        for failures in [1, 2, 1000] {
            let _fits = Timestamp::UNIX_EPOCH + retry_delay(&retry.backoff, failures, 0.5);
        }
    }
    let stored = serde_json::to_string(settings).expect("settings are stored as JSON");
    assert_eq!(serde_json::from_str(&stored).ok().as_ref(), Some(settings), "{stored}");
}

/// The answer names places that the body has, or would have if what is missing were there.
fn points_into(document: Option<&Value>, problem: &Problem) {
    assert!(matches!(problem.status, 400 | 422), "{problem:?}");
    assert!(is_inert(&problem.detail), "{problem:?}");
    for error in &problem.errors {
        assert!(is_inert(&error.detail), "{problem:?}");
        let Some(document) = document else { continue };
        let place = error.pointer.as_str();
        let parent = place.rsplit_once('/').map_or("", |(parent, _)| parent);
        assert!(
            document.pointer(place).is_some() || document.pointer(parent).is_some(),
            "{place} leads nowhere in {document}"
        );
    }
}
