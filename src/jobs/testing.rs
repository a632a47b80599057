//! A context for the tests of handlers.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::{Context, JobInfo, Output, Progress, RunPaths};
use crate::clock::ManualClock;
use crate::model::{JobId, Labels, Priority};

/// What the clock of [`context`] shows until a test puts another one in.
pub(crate) const NOW: &str = "2026-06-15T12:00:00Z";

/// A first attempt of a job of that kind, whose data directory is the returned folder and goes with it.
pub(crate) fn context(kind: &str, params: Value) -> (Context, TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let job = JobInfo {
        id: JobId(1),
        kind: kind.to_owned(),
        params,
        schedule: None,
        attempt: 1,
        max_attempts: 1,
        attempts_left: 0,
        queue: "default".to_owned(),
        priority: Priority::default(),
        labels: Labels::default(),
        dry_run: false,
        checkpoint: None,
        item: None,
    };
    let now: Timestamp = NOW.parse().expect("a valid instant");
    let context = Context {
        job: Arc::new(job),
        clock: Arc::new(ManualClock::new(now)),
        paths: Arc::new(RunPaths::under(folder.path())),
        output: Output::tail_only(),
        progress: Progress::channel().0,
        stop: CancellationToken::new(),
        items: None,
        limit: None,
    };
    (context, folder)
}

impl Context {
    /// The same attempt, as a dry run.
    pub(crate) fn dry_run(mut self) -> Self {
        Arc::make_mut(&mut self.job).dry_run = true;
        self
    }

    /// The same attempt on another clock.
    pub(crate) fn at(mut self, now: Timestamp) -> Self {
        self.clock = Arc::new(ManualClock::new(now));
        self
    }
}

#[test]
fn a_test_context_stands_at_its_instant_and_can_be_dry() {
    let (context, folder) = context("noop", Value::Null);
    assert_eq!(context.clock.now(), NOW.parse().unwrap());
    assert_eq!(context.paths.data, folder.path());
    assert!(!context.job.dry_run);
    let later = "2026-07-01T00:00:00Z".parse().unwrap();
    let context = context.dry_run().at(later);
    assert!(context.job.dry_run);
    assert_eq!(context.clock.now(), later);
}
