//! What systemd is told: ready, reloading, stopping, and that we are alive.
//!
//! Everything here does nothing when there is no systemd to tell. Sends never block and never fail the daemon.

use std::time::Duration;

use sd_notify::NotifyState;

/// Serving: schedules are loaded, the store answers, the socket is open.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A reload begins. The time stamp in the same message is what `Type=notify-reload` waits for.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(stamp) => {
            tell(&[NotifyState::Reloading, stamp, NotifyState::Status("Reloading schedules")]);
        }
        Err(error) => tracing::warn!(%error, "systemd was not told of the reload"),
    }
}

/// On the way out.
pub fn stopping(status: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// One line for `systemctl status`.
pub fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// Alive.
pub fn watchdog() {
    tell(&[NotifyState::Watchdog]);
}

/// Asks for more time to stop in.
pub fn extend_stop(by: Duration) {
    let micros = u32::try_from(by.as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::ExtendTimeoutUsec(micros)]);
}

/// How often systemd wants to hear that we are alive; `None` when it does not.
#[must_use]
pub fn watchdog_period() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd could not be told");
    }
}
