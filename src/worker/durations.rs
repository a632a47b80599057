//! Learns how long jobs take while they run.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::model::{Chain, Event, Outcome};
use crate::queue::Durations;
use crate::store::{Store, history};

/// How many of the latest attempts are learned from at the start.
const LATEST: i64 = 1000;

/// What was learned, for whoever wants to know.
#[derive(Debug, Clone, Default)]
pub struct LearnedDurations(Arc<Mutex<Durations>>);

impl LearnedDurations {
    /// How long the next successful attempt of a kind will take; none before the first.
    #[must_use]
    pub fn of(&self, kind: &str) -> Option<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).of(kind)
    }

    fn learn(&self, kind: &str, took: Duration) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).learn(kind, took);
    }

    /// Learns from the latest attempts in the history, and then from each that ends well, until `stop`.
    pub async fn follow(
        self,
        store: Store,
        mut events: broadcast::Receiver<Event>,
        stop: CancellationToken,
    ) {
        match store.read(|conn| history::latest_durations(conn, LATEST)).await {
            Ok(latest) => latest.iter().for_each(|(kind, took)| self.learn(kind, *took)),
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "how long jobs took so far could not be read");
            }
        }
        loop {
            let event = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                event = events.recv() => event,
            };
            match event {
                Ok(Event::AttemptFinished {
                    kind,
                    outcome: Outcome::Success,
                    duration_ms,
                    dry_run: false,
                    ..
                }) => {
                    self.learn(&kind, Duration::from_millis(duration_ms));
                }
                // What is missed is only a little less to learn from.
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }
}
