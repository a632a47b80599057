//! Something to be told in the audit log that has no row of its own.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::{Actor, AttemptName};

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
    /// More, as the text of a JSON object. Text and not a tree: a deployment can change ten thousand schedules, and a tree of all their
    /// changes takes fifty megabytes for a moment.
    pub detail: String,
}

impl AuditEvent {
    /// An event.
    #[must_use]
    pub fn new(
        event: &str,
        actor: &Actor,
        subject: &str,
        detail: &impl Serialize,
        at: Timestamp,
    ) -> Self {
        // Only a map with keys that are no text cannot be written, and nothing that is told here has one.
        let detail = serde_json::to_string(detail).unwrap_or_else(|_no_text| "{}".to_owned());
        let (event, actor, subject) = (event.to_owned(), actor.clone(), subject.to_owned());
        Self { at, event, actor, subject, detail }
    }

    /// What an attempt came to was refused, because its job belongs to another one by now.
    #[must_use]
    pub fn attempt_refused(attempt: AttemptName, at: Timestamp) -> Self {
        let detail = json!({ "number": attempt.number });
        Self::new("attempt.refused", &Actor::system(), &format!("job:{}", attempt.job), &detail, at)
    }
}
