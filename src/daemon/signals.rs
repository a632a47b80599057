//! Everything that can reach the process from outside.
//!
//! TERM and INT stop the daemon; a second one skips the wait. USR2 stops it as well, and leaves programs that are kept to the next daemon. HUP loads the schedules again, USR1 opens the logs again (after
//! logrotate). QUIT is treated as TERM, PIPE and the terminal's HUP never end the process, and neither does XFSZ: a file that has
//! reached its limit is a write that fails, like one on a full disk.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::startup::{Daemon, StartError};
use super::supervisor;
use crate::worker::Departure;

/// By how much a signal may overtake one that was sent before it.
const OVERTAKEN_WITHIN: Duration = Duration::from_millis(100);

/// The signals that end the daemon, which are listened to until its end.
pub(super) struct Endings {
    term: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl Endings {
    fn listen() -> Result<Self, StartError> {
        let open = |kind| signal(kind).map_err(StartError::Signals);
        Ok(Self {
            term: open(SignalKind::terminate())?,
            interrupt: open(SignalKind::interrupt())?,
            quit: open(SignalKind::quit())?,
        })
    }

    /// Waits for the next one, and names it.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.quit.recv() => "SIGQUIT",
        }
    }
}

/// Why and how the daemon ends.
pub(super) struct Ending {
    /// The signal's name.
    pub(super) reason: &'static str,
    /// Whether another daemon comes after this one.
    pub(super) departure: Departure,
}

/// Listens. It is done before the daemon says that it is ready, so that a signal right after that is not the default action's.
pub(super) struct Signals {
    pub(super) endings: Endings,
    hangup: Signal,
    reopen: Signal,
    hand_over: Signal,
    /// Listened to only so that the default action, which ends the process, is not taken.
    _file_too_large: Signal,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, StartError> {
        Ok(Self {
            endings: Endings::listen()?,
            hangup: signal(SignalKind::hangup()).map_err(StartError::Signals)?,
            reopen: signal(SignalKind::user_defined1()).map_err(StartError::Signals)?,
            hand_over: signal(SignalKind::user_defined2()).map_err(StartError::Signals)?,
            _file_too_large: signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))
                .map_err(StartError::Signals)?,
        })
    }

    /// Serves signals until one of them ends the daemon.
    pub(super) async fn serve(&mut self, daemon: &Daemon) -> Ending {
        loop {
            tokio::select! {
                // First: who hands over may send a TERM right after it.
                biased;
                _ = self.hand_over.recv() => {
                    return Ending { reason: "SIGUSR2", departure: Departure::HandOver };
                }
                reason = self.endings.next() => return self.not_overtaken(reason).await,
                _ = self.hangup.recv() => reload(daemon).await,
                _ = self.reopen.recv() => {
                    daemon.telemetry.reopen();
                    tracing::info!("log files were opened again");
                }
            }
        }
    }

    /// What a signal that ends the daemon means. The system may have delivered an order to hand over that came before it to another thread,
    /// which is not as far yet.
    async fn not_overtaken(&mut self, reason: &'static str) -> Ending {
        match tokio::time::timeout(OVERTAKEN_WITHIN, self.hand_over.recv()).await {
            Ok(_) => Ending { reason: "SIGUSR2", departure: Departure::HandOver },
            Err(_not_ordered) => Ending { reason, departure: Departure::Stop },
        }
    }
}

async fn reload(daemon: &Daemon) {
    supervisor::reloading();
    match daemon.engine.reloader().reload().await {
        Ok(report) if report.ok => tracing::info!(changed = report.changed, "reloaded on SIGHUP"),
        Ok(report) => tracing::error!(
            errors = report.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count(),
            "reloaded on SIGHUP; broken files keep their last good definitions"
        ),
        Err(stopping) => tracing::info!("{stopping}"),
    }
    supervisor::ready(&daemon.standing.line());
}
