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
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::audit::AuditHealth;
use crate::clock::{CautiousClock, Clock, Remembered};
use crate::config::Retention;
use crate::model::{Actor, AuditEvent, Chain, NodeId};
use crate::store::audit::append_event;
use crate::store::{Store, StoreError, meta, statistics};

pub use history::History;

/// How often the passes run.
const EVERY: Duration = Duration::from_secs(300);

/// How long after the start the first pass runs: starting has more urgent things to do.
const FIRST_AFTER: Duration = Duration::from_secs(20);

/// Everything the passes need.
pub struct Upkeep {
    /// The database.
    pub store: Store,
    /// Who we are.
    pub node: NodeId,
    /// What time it is, for what is deleted by age.
    pub clock: Arc<CautiousClock>,
    /// How long things are kept.
    pub retention: Retention,
    /// Deletes jobs with their logs.
    pub history: Arc<History>,
    /// Rows that the audit log has not told of yet must stay.
    pub audit: watch::Receiver<AuditHealth>,
}

/// In `meta`: what is remembered of the clock.
const CLOCK: &str = "clock";

/// What an earlier daemon remembered of the clock, for [`CautiousClock::new`].
///
/// # Errors
/// When the store refuses.
pub async fn remembered_clock(store: &Store) -> Result<Option<Remembered>, StoreError> {
    let text = store.read(|conn| meta::read(conn, CLOCK)).await?;
    // What cannot be read is as good as nothing: the clock is believed then.
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

impl Upkeep {
    /// Runs the passes again and again until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut pause = FIRST_AFTER;
        let mut was_doubted = false;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = EVERY;
            let is_doubted = self.clock.doubt().is_some();
            if let Err(error) = self.note_clock(is_doubted && !was_doubted).await {
                tracing::error!(error = %Chain(&error), "what is known of the clock could not be stored");
            }
            was_doubted = is_doubted;
            self.run_once(&stop).await;
        }
    }

    /// Remembers what is known of the clock, and puts a new doubt into the audit log.
    async fn note_clock(&self, is_new_doubt: bool) -> Result<(), StoreError> {
        let (remembered, node) = (self.clock.remember(), self.node);
        let text = serde_json::to_string(&remembered).unwrap_or_default();
        let doubt = self.clock.doubt().filter(|_| is_new_doubt);
        let event = doubt.map(|doubt| {
            let detail = json!({
                "ahead_by_seconds": doubt.ahead_by.as_secs(),
                "believed": remembered.believed.to_string(),
                "doubted_for_seconds": doubt.remaining.as_secs(),
            });
            let shown = remembered.doubted.map_or(remembered.believed, |doubted| doubted.since);
            AuditEvent::new("clock.doubted", &Actor::system(), "upkeep", &detail, shown)
        });
        self.store
            .write(move |conn| {
                meta::write(conn, CLOCK, &text)?;
                event.as_ref().map_or(Ok(()), |event| append_event(conn, node, event))
            })
            .await
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

#[cfg(test)]
mod tests;
