//! The whole kind on real trees.

mod attacks;
mod planning;
mod runs;

use std::fs::{self, FileTimes};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{CleanupHandler, HistoryCounts, HistoryError, HistoryPruner, HistoryRule};
use crate::clock::{Clock, SystemClock};
use crate::jobs::{Answer, Context, Failure, Handler, testing};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A tree to clean, in a folder with room for things beside it. A run sees it 30 days from now, because nothing but time
/// moves a file's change time into the past.
struct Tree {
    folder: TempDir,
    root: PathBuf,
}

impl Tree {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap().join("root");
        fs::create_dir(&root).unwrap();
        Self { folder, root }
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(name)
    }

    /// A file that is 30 days old when a run sees it.
    fn file(&self, path: &str) -> PathBuf {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "content").unwrap();
        path
    }

    /// A file that is so old when a run sees it.
    fn file_of_age(&self, path: &str, age: Duration) -> PathBuf {
        let path = self.file(path);
        set_modified(&path, 30 * DAY - age);
        path
    }

    /// The rule with this root, and files older than a week unless it says otherwise.
    fn rule(&self, rule: Value) -> Value {
        let mut params = json!({"roots": [self.root], "older_than": "7d"});
        let Value::Object(fields) = rule else { panic!("a rule is an object") };
        params.as_object_mut().unwrap().extend(fields);
        params
    }

    fn context(&self, rule: Value) -> (Context, TempDir) {
        let (context, data) = testing::context("cleanup", self.rule(rule));
        (context.at(SystemClock.now() + 30 * DAY), data)
    }

    async fn clean(&self, rule: Value) -> Answer {
        let (context, _data) = self.context(rule);
        run(context).await
    }

    /// The same, with something that happens between the plan and the first deletion.
    async fn clean_while(
        &self,
        rule: Value,
        meanwhile: impl Fn() + Send + Sync + 'static,
    ) -> Answer {
        let (mut context, _data) = self.context(rule);
        let job = Arc::make_mut(&mut context.job);
        job.params["history"] = json!({"completed": "30d"});
        let clock = Arc::clone(&context.clock);
        CleanupHandler::new(Arc::new(Meanwhile(meanwhile)), clock).run(context).await
    }

    /// Paths of everything below the root, sorted.
    fn left(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut waiting = vec![self.root.clone()];
        while let Some(directory) = waiting.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let entry = entry.unwrap();
                let path = entry.path();
                found.push(path.strip_prefix(&self.root).unwrap().to_str().unwrap().to_owned());
                if entry.file_type().unwrap().is_dir() {
                    waiting.push(path);
                }
            }
        }
        found.sort();
        found
    }
}

fn set_modified(path: &Path, from_now: Duration) {
    let time = std::time::SystemTime::from(SystemClock.now() + from_now);
    let file = fs::File::open(path).unwrap();
    file.set_times(FileTimes::new().set_modified(time)).unwrap();
}

async fn run(context: Context) -> Answer {
    let clock = Arc::clone(&context.clock);
    CleanupHandler::new(Arc::new(NoHistory), clock).run(context).await
}

fn done(answer: Answer) -> Value {
    match answer {
        Answer::Done(result) => result,
        other => panic!("expected success, got {other:?}"),
    }
}

fn failed(answer: Answer) -> Failure {
    match answer {
        Answer::Failed(failure) => failure,
        other => panic!("expected a failure, got {other:?}"),
    }
}

/// For rules without `history`, which must not ask.
struct NoHistory;

impl HistoryPruner for NoHistory {
    fn count(&self, _rule: &HistoryRule) -> Result<HistoryCounts, HistoryError> {
        panic!("nobody asked for the history")
    }

    fn prune(
        &self,
        _rule: &HistoryRule,
        _must_stop: &dyn Fn() -> bool,
    ) -> Result<HistoryCounts, HistoryError> {
        panic!("nobody asked for the history")
    }
}

/// Does something in the moment between the plan and the first deletion, which is when a run counts the history.
struct Meanwhile<F>(F);

impl<F: Fn() + Send + Sync + 'static> HistoryPruner for Meanwhile<F> {
    fn count(&self, _rule: &HistoryRule) -> Result<HistoryCounts, HistoryError> {
        (self.0)();
        Ok(HistoryCounts::default())
    }

    fn prune(
        &self,
        _rule: &HistoryRule,
        _must_stop: &dyn Fn() -> bool,
    ) -> Result<HistoryCounts, HistoryError> {
        Ok(HistoryCounts::default())
    }
}

/// Remembers what was asked.
#[derive(Default)]
struct FakeHistory {
    pruned: Mutex<Vec<HistoryRule>>,
}

const OLD_JOBS: HistoryCounts = HistoryCounts { completed: 5, failed: 2, cancelled: 0 };

impl HistoryPruner for FakeHistory {
    fn count(&self, _rule: &HistoryRule) -> Result<HistoryCounts, HistoryError> {
        Ok(OLD_JOBS)
    }

    fn prune(
        &self,
        rule: &HistoryRule,
        _must_stop: &dyn Fn() -> bool,
    ) -> Result<HistoryCounts, HistoryError> {
        self.pruned.lock().unwrap().push(*rule);
        Ok(OLD_JOBS)
    }
}
