//! Taking the daemon apart, in two stages: nothing new, then nothing at all.

use std::sync::Arc;
use std::time::Duration;

use super::engine::report_panic;
use super::signals::{Ending, Endings};
use super::startup::{Daemon, end_strays};
use super::supervisor;
use crate::jobs::ports::process::Spared;
use crate::model::HumanDuration;
use crate::worker::Departure;

/// How long systemd is asked to wait beyond the grace period: for handlers to obey, and for the last writes.
const AFTER_GRACE: Duration = Duration::from_secs(75);

/// Stops. A second signal while it waits skips the wait.
pub(super) async fn stop(daemon: Daemon, ending: &Ending, endings: &mut Endings) {
    let Ending { reason, departure } = *ending;
    let Daemon { settings, engine, keepers, telemetry, standing, _locks } = daemon;
    let grace = settings.shutdown_grace.get();
    tracing::info!(reason, grace = %HumanDuration(grace), "stopping: no new work is taken");
    supervisor::stopping("Draining");
    supervisor::extend_stop(grace + AFTER_GRACE);

    let patience = async {
        let second = async {
            // The service manager sends one of its own after the order to hand over.
            if departure == Departure::HandOver {
                endings.next().await;
            }
            endings.next().await
        };
        tokio::select! {
            () = tokio::time::sleep(grace) => "the grace period is over",
            name = second => name,
        }
    };
    let cut_short = engine.drain(departure, patience).await;
    if departure == Departure::Stop {
        // A keeper that has something left has what could not be recorded, and puts it down when nobody is there.
        end_strays(Spared::Processes(keepers.pids())).await;
    }
    keepers.take_leave().await;
    // It has a handle on the store, and the store is closed by its last one.
    drop(standing);
    let store = engine.finish(reason, cut_short.is_some()).await;
    // It is gone with the process anyway; removing it tells clients at once.
    let _gone_already = std::fs::remove_file(&settings.api.socket);
    tracing::info!("stopped");
    let closed = tokio::task::spawn_blocking(move || store.close()).await;
    report_panic(closed);
    // The other holders have ended with their tasks; a request that is still under way keeps the logs open, and they end with it.
    if let Some(telemetry) = Arc::into_inner(telemetry) {
        let flushed = tokio::task::spawn_blocking(move || telemetry.shutdown()).await;
        drop(flushed);
    }
}
