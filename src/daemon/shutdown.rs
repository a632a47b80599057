//! Taking the daemon apart, in two stages: nothing new, then nothing at all.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::signals::Endings;
use super::startup::{Daemon, record_event};
use super::supervisor;
use crate::model::{Chain, HumanDuration};
use crate::store::nodes;

/// How long systemd is asked to wait beyond the grace period: for handlers to obey, and for the last writes.
const AFTER_GRACE: Duration = Duration::from_secs(75);

/// How long listeners have to finish answers that are under way.
const LISTENERS_GRACE: Duration = Duration::from_secs(5);

/// Stops. A second signal while it waits skips the wait.
pub(super) async fn stop(daemon: Daemon, reason: &str, endings: &mut Endings) {
    let grace = daemon.settings.shutdown_grace.get();
    tracing::info!(reason, grace = %HumanDuration(grace), "stopping: no new work is taken");
    supervisor::stopping("Draining");
    supervisor::extend_stop(grace + AFTER_GRACE);

    daemon.stop_scheduling.cancel();
    let pool = daemon.pool.clone();
    let drained = pool.drain();
    let mut drained = std::pin::pin!(drained);
    let cut_short = tokio::select! {
        () = &mut drained => None,
        () = tokio::time::sleep(grace) => Some("the grace period is over"),
        name = endings.next() => Some(name),
    };
    if let Some(why) = cut_short {
        tracing::warn!(
            why,
            running = daemon.pool.status().running.len(),
            "giving back what still runs"
        );
        daemon.pool.interrupt();
        drained.as_mut().await;
    }
    finish(daemon, reason, cut_short.is_some()).await;
}

async fn finish(mut daemon: Daemon, reason: &str, cut_short: bool) {
    for task in daemon.scheduling.drain(..) {
        report_panic(task.await);
    }
    record_event(&daemon, "daemon.stopped", json!({ "reason": reason, "cut_short": cut_short }))
        .await;
    let (node, now) = (daemon.node, daemon.clock.now());
    if let Err(error) = daemon.store.write(move |conn| nodes::mark_stopped(conn, node, now)).await {
        tracing::error!(error = %Chain(&error), "the store does not know that this node stopped");
    }
    if let Err(error) = daemon.audit.stop().await {
        tracing::error!(error = %Chain(&error), "the audit log lacks lines; the next start writes them");
    }
    daemon.stop.cancel();
    let all = futures_util::future::join_all(daemon.serving.drain(..));
    match tokio::time::timeout(LISTENERS_GRACE, all).await {
        Ok(ended) => ended.into_iter().for_each(report_panic),
        Err(_late) => tracing::warn!("some answers were cut off"),
    }
    daemon.ticker.stop().await;
    // It is gone with the process anyway; removing it tells clients at once.
    let _gone_already = std::fs::remove_file(&daemon.settings.api.socket);
    tracing::info!("stopped");
    let store = daemon.store;
    let closed = tokio::task::spawn_blocking(move || store.close()).await;
    report_panic(closed);
    // The other holders have ended with their tasks; a request that is still under way keeps the logs open, and they end with it.
    if let Some(telemetry) = Arc::into_inner(daemon.telemetry) {
        let flushed = tokio::task::spawn_blocking(move || telemetry.shutdown()).await;
        drop(flushed);
    }
}

fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a part of the daemon had panicked");
    }
}
