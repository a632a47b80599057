//! Looks after the daemon's own house: history that has served its time, daily statistics that outlive it.
//!
//! Each pass is a `run_once` that returns counts; the loop around them is boring on purpose.

mod history;

pub mod prune;
pub mod rollup;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::audit::AuditHealth;
use crate::clock::SharedClock;
use crate::config::Retention;
use crate::model::Chain;
use crate::store::{Store, StoreError, statistics};

pub use history::History;

/// How often the passes run.
const EVERY: Duration = Duration::from_secs(300);

/// How long after the start the first pass runs: starting has more urgent things to do.
const FIRST_AFTER: Duration = Duration::from_secs(20);

/// Everything the passes need.
pub struct Upkeep {
    /// The database.
    pub store: Store,
    /// What time it is.
    pub clock: SharedClock,
    /// How long things are kept.
    pub retention: Retention,
    /// Deletes jobs with their logs.
    pub history: Arc<History>,
    /// Rows that the audit log has not told of yet must stay.
    pub audit: watch::Receiver<AuditHealth>,
}

impl Upkeep {
    /// Runs the passes again and again until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut pause = FIRST_AFTER;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = EVERY;
            self.run_once(&stop).await;
        }
    }

    /// Sums up the days that are over. Returns the end of the last one that is summed up.
    async fn sum_up(&self, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        rollup::run_once(&self.store, now).await?;
        let before = self.store.read(statistics::rolled_up_before).await?;
        Ok(before.and_then(|day| day.to_zoned(TimeZone::UTC).ok()).map(|start| start.timestamp()))
    }

    async fn run_once(&self, stop: &CancellationToken) {
        if let Some(why) = self.audit.borrow().failing.clone() {
            tracing::warn!(why, "nothing is pruned while the audit log cannot be written");
            return;
        }
        let now = self.clock.now();
        // Statistics are made from what pruning deletes, so they come first, and without them nothing is deleted.
        let summed_up = match self.sum_up(now).await {
            Ok(summed_up) => summed_up,
            Err(error) => {
                tracing::error!(error = %Chain(&error), "daily statistics could not be made; nothing is pruned");
                return;
            }
        };
        let limits = prune::Limits { retention: &self.retention, now, summed_up };
        match prune::run_once(&self.store, &self.history, &limits, stop).await {
            Ok(counts) if counts == prune::Counts::default() => {}
            Ok(counts) => tracing::info!(
                jobs = counts.jobs,
                occurrences = counts.occurrences,
                leftovers = counts.leftovers,
                "history that had served its time was deleted"
            ),
            Err(error) => tracing::error!(error = %Chain(&error), "history could not be pruned"),
        }
    }
}
