//! Deleting jobs with everything that belongs to them: rows, and the logs of their attempts.

use std::sync::Arc;

use jiff::Timestamp;

use crate::jobs::cleanup::{HistoryCounts, HistoryError, HistoryPruner, HistoryRule};
use crate::jobs::{RunPaths, remove_logs};
use crate::model::{FinalState, JobId};
use crate::store::prune::{PruneJobs, count_jobs, jobs};
use crate::store::{Store, StoreError};

/// How many jobs one transaction looks at.
const BATCH: i64 = 500;

/// The daemon's own history.
#[derive(Debug, Clone)]
pub struct History {
    store: Store,
    paths: Arc<RunPaths>,
}

impl History {
    /// The history in this database, with its logs under these paths.
    #[must_use]
    pub fn new(store: Store, paths: Arc<RunPaths>) -> Self {
        Self { store, paths }
    }

    /// Deletes jobs that ended so before then, except the newest `keep_per_schedule` of each schedule. Asks `must_stop` between batches.
    ///
    /// # Errors
    /// When the store refuses; what was deleted before stays deleted.
    pub async fn delete(
        &self,
        state: FinalState,
        before: Timestamp,
        keep_per_schedule: i64,
        must_stop: impl Fn() -> bool,
    ) -> Result<u64, StoreError> {
        let mut what = PruneJobs { state, before, keep_per_schedule, after: None, limit: BATCH };
        let mut deleted = 0;
        while !must_stop() {
            let batch = self.store.write(move |conn| jobs(conn, what)).await?;
            deleted += batch.deleted.len() as u64;
            self.delete_logs(batch.deleted).await;
            match batch.next {
                Some(next) => what.after = Some(next),
                None => break,
            }
        }
        Ok(deleted)
    }

    async fn count(
        &self,
        state: FinalState,
        before: Timestamp,
        keep_per_schedule: i64,
    ) -> Result<u64, StoreError> {
        let mut what = PruneJobs { state, before, keep_per_schedule, after: None, limit: BATCH };
        let mut total = 0;
        loop {
            let (count, next) = self.store.read(move |conn| count_jobs(conn, what)).await?;
            total += count;
            match next {
                Some(next) => what.after = Some(next),
                None => return Ok(total),
            }
        }
    }

    /// Logs go after the rows: one that is left over by a crash in between is only a file, while a row without its log would promise one.
    async fn delete_logs(&self, deleted: Vec<JobId>) {
        if deleted.is_empty() {
            return;
        }
        let paths = Arc::clone(&self.paths);
        let removal = tokio::task::spawn_blocking(move || {
            deleted.iter().for_each(|job| remove_logs(&paths, *job));
        });
        if removal.await.is_err() {
            tracing::error!("the logs of deleted jobs could not be removed");
        }
    }
}

/// The three states with what the rule says of them.
fn parts(rule: &HistoryRule) -> [(FinalState, Option<Timestamp>); 3] {
    [
        (FinalState::Completed, rule.completed_before),
        (FinalState::Failed, rule.failed_before),
        (FinalState::Cancelled, rule.cancelled_before),
    ]
}

fn add(counts: &mut HistoryCounts, state: FinalState, jobs: u64) {
    match state {
        FinalState::Completed => counts.completed += jobs,
        FinalState::Failed => counts.failed += jobs,
        FinalState::Cancelled => counts.cancelled += jobs,
    }
}

impl HistoryPruner for History {
    fn count(&self, rule: &HistoryRule) -> Result<HistoryCounts, HistoryError> {
        let runtime = tokio::runtime::Handle::current();
        let mut counts = HistoryCounts::default();
        for (state, before) in parts(rule) {
            let Some(before) = before else { continue };
            let keep = i64::from(rule.keep_last_per_schedule);
            add(&mut counts, state, runtime.block_on(History::count(self, state, before, keep))?);
        }
        Ok(counts)
    }

    fn prune(
        &self,
        rule: &HistoryRule,
        must_stop: &dyn Fn() -> bool,
    ) -> Result<HistoryCounts, HistoryError> {
        let runtime = tokio::runtime::Handle::current();
        let mut counts = HistoryCounts::default();
        for (state, before) in parts(rule) {
            let Some(before) = before else { continue };
            let keep = i64::from(rule.keep_last_per_schedule);
            add(&mut counts, state, runtime.block_on(self.delete(state, before, keep, must_stop))?);
        }
        Ok(counts)
    }
}
