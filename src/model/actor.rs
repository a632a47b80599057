//! Who asked for something.

use std::fmt;

/// Who caused a change: `scheduler`, `system`, `cli:alice(1000)`, `api:uid=33`, `token:ci`.
///
/// It is what the audit log shows, so it is made from what the kernel or the daemon vouches for
/// (peer credentials, a verified token), never from what a client says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Actor(String);

impl Actor {
    /// The scheduler itself, when a due instant made a job.
    #[must_use]
    pub fn scheduler() -> Self {
        Self("scheduler".to_owned())
    }

    /// The daemon's own housekeeping.
    #[must_use]
    pub fn system() -> Self {
        Self("system".to_owned())
    }

    /// Somebody else, by the name they were identified with.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name as it is stored and shown.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
