//! Puts everything together, and takes it apart again.
//!
//! [`serve`] is the composition root: the only place that knows every part. [`engine`] builds the parts in the order in which they need
//! each other and ends them in the reverse order; `startup` and `shutdown` do the same for what ties them to a machine; `signals` lists
//! everything that can reach the process from outside.

mod company;
pub(crate) mod embedded;
pub mod engine;
mod essentials;
mod heartbeat;
mod lease;
mod lock;
mod namesake;
mod numbers;
mod others;
mod place;
mod predecessor;
mod shutdown;
mod signals;
mod standing;
mod startup;
pub mod supervisor;

use crate::config::Settings;
use crate::schedule::{CatchUp, Defaults};
use crate::store::DatabaseUrl;
use crate::store::audit::AuditSource;

pub use lock::{DataLock, LockError, take as take_lock, take_database};
pub use startup::StartError;

/// Why the daemon ended without having been told to.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// It could not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It cannot go on.
    #[error("the daemon had to stop: {0}")]
    Broken(String),
}

/// What that means for whoever started the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// Another daemon has the data directory, the database or the name.
    Taken,
    /// The database is damaged or is not where it was: to start again does not help.
    Data,
    /// Anything else.
    Other,
}

impl DaemonError {
    /// What it means for whoever started the daemon.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Start(error) => error.kind(),
            Self::Broken(_) => FailureKind::Other,
        }
    }
}

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// When it cannot start, or something happens after which it must not go on. Then nothing was drained: programs that are kept
/// go on and are the next daemon's, all others are killed as the runtime ends, and the next daemon gives their jobs back.
pub async fn serve(settings: Settings) -> Result<(), DaemonError> {
    // Signals first: one that comes while we start must not end the process half way.
    let mut signals = signals::Signals::listen()?;
    let daemon = startup::start(settings).await?;
    let ending = tokio::select! {
        ending = signals.serve(&daemon) => ending,
        why = daemon.engine.broken() => {
            tracing::error!(why, "stopping at once");
            supervisor::stopping(&why);
            return Err(DaemonError::Broken(why));
        }
    };
    shutdown::stop(daemon, &ending, &mut signals.endings).await;
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
        // The default is for what has none when it starts. Given to the job here, it would come before the timeout of its queue.
        timeout: None,
        retry: defaults.retry.clone(),
        catch_up: CatchUp { policy: defaults.catch_up, ..CatchUp::default() },
    }
}

/// Whose rows the audit log tells of: on SQLite all of them, on PostgreSQL this node's.
#[must_use]
pub fn audit_source(settings: &Settings) -> AuditSource {
    audit_source_of(matches!(settings.database, DatabaseUrl::Sqlite(_)), settings)
}

/// The same for a node of which it is known whether it is alone.
fn audit_source_of(is_alone: bool, settings: &Settings) -> AuditSource {
    match is_alone {
        true => AuditSource::Everything,
        false => AuditSource::Node(settings.node.name.clone()),
    }
}
