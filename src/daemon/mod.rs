//! Puts everything together, and takes it apart again.
//!
//! [`serve`] is the composition root: the only place that knows every part. [`engine`] builds the parts in the order in which they need
//! each other and ends them in the reverse order; `startup` and `shutdown` do the same for what ties them to a machine; `signals` lists
//! everything that can reach the process from outside.

pub mod engine;
mod heartbeat;
mod host;
mod lock;
mod numbers;
mod shutdown;
mod signals;
mod startup;
pub mod supervisor;

use crate::config::Settings;
use crate::schedule::{CatchUp, Defaults};
use crate::store::DatabaseUrl;
use crate::store::audit::AuditSource;

pub use host::host_name;
pub use lock::{DataLock, LockError, take as take_lock};
pub use startup::StartError;

/// What a failure to serve means for whoever started the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// Another daemon has the data directory.
    Taken,
    /// Anything else.
    Other,
}

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// When it cannot start.
pub async fn serve(settings: Settings) -> Result<(), StartError> {
    // Signals first: one that comes while we start must not end the process half way.
    let mut signals = signals::Signals::listen()?;
    let daemon = startup::start(settings).await?;
    let reason = signals.serve(&daemon).await;
    shutdown::stop(daemon, reason, &mut signals.endings).await;
    Ok(())
}

/// What schedules leave out, from the settings.
#[must_use]
pub fn schedule_defaults(settings: &Settings) -> Defaults {
    let defaults = &settings.defaults;
    Defaults {
        timezone: defaults.timezone.clone(),
        priority: defaults.priority,
        queue: defaults.queue.clone(),
        timeout: Some(defaults.timeout),
        retry: defaults.retry.clone(),
        catch_up: CatchUp { policy: defaults.catch_up, ..CatchUp::default() },
    }
}

/// Whose rows the audit log tells of: on SQLite all of them, on PostgreSQL this host's.
#[must_use]
pub fn audit_source(url: &DatabaseUrl) -> AuditSource {
    match url {
        DatabaseUrl::Sqlite(_) => AuditSource::Everything,
        DatabaseUrl::Postgres(_) => AuditSource::Node(host_name()),
    }
}
