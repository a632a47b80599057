//! The lanes without threads: for simulations, in which nothing may depend on how threads are scheduled.
//!
//! Groups, savepoints and commits are those of `lane`. Only who does the work differs: futures, which a runtime polls together with
//! everything else, and which ask a [`Pace`] before each step. There a simulation lets a step take its time, fail, or be the
//! last one before a crash (a step that is never taken).

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use super::StoreError;
use super::lane::{Operation, Reader, Writer, group, refuse};
use crate::model::Chain;

/// What a driven store is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Begin a transaction and run a group of writes in it. On an error none of them is run.
    Run,
    /// Commit it. On an error it is rolled back.
    Commit,
    /// Tell the callers, after the commit. An error is what they are told: the commit happened, and the word of it was lost.
    Answer,
    /// Run a read. On an error it is not run.
    Read,
}

/// Decides how long each step of a driven store takes, and whether it works.
pub trait Pace: Send + Sync + 'static {
    /// The step is taken when this has ended. Steps of writes come one after the other, and reads in between.
    fn before(&self, step: Step) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The transaction of the last group is over, if there was one: where several stores are driven on one database, the next may begin.
    fn is_over(&self) {}
}

/// Does what the writer's thread does.
pub(super) async fn write(
    mut writer: Writer,
    mut operations: mpsc::Receiver<Box<dyn Operation>>,
    pace: Arc<dyn Pace>,
    committed: impl Fn(bool) + Send,
) {
    while let Some(first) = operations.recv().await {
        let begun = pace.before(Step::Run).await;
        let group = group(first, &mut operations);
        if let Err(error) = begun {
            pace.is_over();
            refuse(group, &error);
            continue;
        }
        let Some(open) = writer.run(group, &mut operations) else {
            pace.is_over();
            continue;
        };
        let is_quiet = open.is_quiet();
        let mut ended = match pace.before(Step::Commit).await {
            Ok(()) => writer.commit(open),
            Err(error) => open.take_back(Chain(&error).to_string()),
        };
        pace.is_over();
        if ended.outcome.is_ok()
            && let Err(error) = pace.before(Step::Answer).await
        {
            ended.outcome = Err(Chain(&error).to_string());
        }
        ended.acknowledge();
        committed(is_quiet);
    }
}

/// Does what a reader's thread does.
pub(super) async fn read(
    mut reader: Reader,
    mut operations: mpsc::Receiver<Box<dyn Operation>>,
    pace: Arc<dyn Pace>,
) {
    while let Some(operation) = operations.recv().await {
        match pace.before(Step::Read).await {
            Ok(()) => reader.run(operation),
            Err(error) => refuse(vec![operation], &error),
        }
    }
}
