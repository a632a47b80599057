//! Something to be told in the audit log that has no row of its own.

use jiff::Timestamp;
use serde_json::Value;

use super::Actor;

/// A reload, a manual action, a start or a stop. Decisions, submissions and attempts are rows of their own, and their lines are made from
/// those.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEvent {
    /// When.
    pub at: Timestamp,
    /// What: `schedules.reloaded`.
    pub event: String,
    /// On whose order.
    pub actor: Actor,
    /// To what: a schedule, a job, a queue, the daemon.
    pub subject: String,
    /// More, as a JSON object.
    pub detail: Value,
}

impl AuditEvent {
    /// An event.
    #[must_use]
    pub fn new(event: &str, actor: &Actor, subject: &str, detail: Value, at: Timestamp) -> Self {
        let (event, actor, subject) = (event.to_owned(), actor.clone(), subject.to_owned());
        Self { at, event, actor, subject, detail }
    }
}
