//! The whole kind on real directories and a real socket.

mod folders;
mod web;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::DataSyncHandler;
use crate::jobs::ports::http::client;
use crate::jobs::testing::context;
use crate::jobs::{Answer, Context, Failure, Handler as _};

/// A source, a destination that does not exist yet, and a data directory.
struct Bench {
    folder: TempDir,
    context: Context,
    _data: TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("from")).unwrap();
        let (context, data) = context("data_sync", Value::Null);
        Self { folder, context, _data: data }
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.folder.path().join(path)
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn params(&self, change: &Value) -> Value {
        let mut params = json!({
            "from": self.path("from"), "to": self.path("to"), "mode": "mirror", "delete": {"max_fraction": 1.0},
        });
        params.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        params
    }

    fn context(&self, change: &Value) -> Context {
        let mut context = self.context.clone();
        Arc::make_mut(&mut context.job).params = self.params(change);
        context
    }

    async fn run(&self, change: Value) -> Answer {
        DataSyncHandler::new(client()).run(self.context(&change)).await
    }

    async fn done(&self, change: Value) -> Value {
        match self.run(change).await {
            Answer::Done(result) => result,
            other => panic!("{other:?}"),
        }
    }

    async fn failed(&self, change: Value) -> Failure {
        match self.run(change).await {
            Answer::Failed(failure) => failure,
            other => panic!("{other:?}"),
        }
    }

    /// Every file below a directory with its content, and every link with its target.
    fn tree(&self, path: &str) -> BTreeMap<String, String> {
        let root = self.path(path);
        let mut found = BTreeMap::new();
        collect(&root, &root, &mut found);
        found
    }
}

fn collect(root: &Path, folder: &Path, found: &mut BTreeMap<String, String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().display().to_string();
        if path.is_symlink() {
            found.insert(name, format!("-> {}", fs::read_link(&path).unwrap().display()));
        } else if path.is_dir() {
            collect(root, &path, found);
        } else {
            found.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
}
