//! How an engine ends: when it must, when it is told to, and what it leaves.

use std::future::Future;
use std::time::Duration;

use serde_json::json;

use super::Engine;
use crate::model::{Actor, AuditEvent, Chain};
use crate::store::audit::append_event;
use crate::store::{Condition, Store, nodes};
use crate::worker::Departure;

/// How long whoever is served has to go when the engine has stopped.
const SERVING_GRACE: Duration = Duration::from_secs(5);

/// From look to look at a store that refuses when there is nothing left to wait for but the record of what has ended.
const UNRECORDED_PATIENCE: Duration = Duration::from_secs(3);

impl Engine {
    /// Waits for something after which the engine must not go on, and says what it is. It is not to be drained then: nothing that
    /// happens now could be recorded.
    pub async fn broken(&self) -> String {
        let mut condition = self.store.condition();
        let lost = async {
            match condition.wait_for(|now| matches!(now, Condition::Lost(_))).await.as_deref() {
                Ok(Condition::Lost(why)) => why.clone(),
                _ => "the threads of the database have ended".to_owned(),
            }
        };
        let mut audit = self.audit.health();
        tokio::select! {
            biased;
            why = lost => why,
            what = self.essentials.broken() => what,
            () = self.pool.ended() => "the pool of workers has ended".to_owned(),
            _ = audit.wait_for(|_| false) => "the audit log's writer has ended".to_owned(),
        }
    }

    /// Takes nothing new, and waits until what runs has ended or is the next daemon's; when `patience` ends before that, what still runs
    /// is given back. Returns what `patience` said then.
    pub async fn drain(
        &self,
        departure: Departure,
        patience: impl Future<Output = &'static str>,
    ) -> Option<&'static str> {
        self.stop_scheduling.cancel();
        let mut drained = std::pin::pin!(self.pool.drain(departure));
        let cut_short = tokio::select! {
            biased;
            () = &mut drained => None,
            why = patience => Some(why),
        };
        if let Some(why) = cut_short {
            let running = self.pool.status().running.len();
            tracing::warn!(why, running, "giving back what still runs");
            self.pool.interrupt();
            tokio::select! {
                biased;
                () = &mut drained => {}
                unrecorded = self.record_is_hopeless() => tracing::error!(
                    unrecorded,
                    "the ends of attempts could not be recorded; those of kept programs are recorded at the next start, the other jobs are marked interrupted and run again at the next start"
                ),
            }
        }
        cut_short
    }

    /// Returns when all that the drain waits for is a store that refuses and goes on refusing. Without this, a full disk would keep
    /// the daemon from stopping.
    async fn record_is_hopeless(&self) -> usize {
        let mut was_stuck = false;
        loop {
            tokio::time::sleep(UNRECORDED_PATIENCE).await;
            let now = self.pool.status();
            let is_stuck = now.store_error.is_some()
                && now.unrecorded + now.not_put_back > 0
                && now.running.is_empty();
            if is_stuck && was_stuck {
                return now.unrecorded;
            }
            was_stuck = is_stuck;
        }
    }

    /// Ends every part of a drained engine, and records that and why it stopped. Returns the store, which is for the caller to close.
    pub async fn finish(mut self, reason: &str, cut_short: bool) -> Store {
        for task in self.scheduling.drain(..) {
            report_panic(task.await);
        }
        let detail = json!({ "reason": reason, "cut_short": cut_short });
        self.record_event("daemon.stopped", detail).await;
        // The heartbeat ends first: a beat after the next line would say that this node was declared dead.
        self.stop.cancel();
        let (node, now) = (self.node, self.clock.now());
        let stopped = self.store.write_results(move |conn| nodes::mark_stopped(conn, node, now));
        if let Err(error) = stopped.await {
            tracing::error!(error = %Chain(&error), "the store does not know that this node stopped");
        }
        if let Err(error) = self.audit.stop().await {
            tracing::error!(error = %Chain(&error), "the audit log lacks lines; the next start writes them");
        }
        let all = futures_util::future::join_all(self.serving.drain(..));
        match tokio::time::timeout(SERVING_GRACE, all).await {
            Ok(ended) => ended.into_iter().for_each(report_panic),
            Err(_late) => tracing::warn!("some answers were cut off"),
        }
        self.ticker.stop().await;
        self.store
    }

    /// Puts an event of the daemon itself into the audit log; a store that refuses is only reported, because nobody waits for it.
    async fn record_event(&self, event: &'static str, detail: serde_json::Value) {
        let new = AuditEvent::new(event, &Actor::system(), "daemon", &detail, self.clock.now());
        let node = self.node;
        if let Err(error) =
            self.store.write_results(move |conn| append_event(conn, node, &new)).await
        {
            tracing::error!(error = %Chain(&error), event, "the audit log lacks an event");
        }
    }
}

/// A part that panicked has ended, which is said once, here.
pub(in crate::daemon) fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a part of the daemon had panicked");
    }
}
