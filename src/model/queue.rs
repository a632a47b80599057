//! What can be set for a queue.

use std::num::NonZeroU16;

use super::{HumanDuration, Rate};

/// What the settings say of a queue (`[queues.NAME]`), or what an operator has set over that. `None` is: as for every other queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueSettings {
    /// How many of its jobs run at a time on one node; `None`: as many as there are workers.
    pub workers: Option<NonZeroU16>,
    /// How fast its jobs may start, on all nodes together; `None`: as fast as they come.
    pub rate: Option<Rate>,
    /// The longest one attempt may take where its job does not say; `None`: as `defaults.timeout`.
    pub timeout: Option<HumanDuration>,
}

impl QueueSettings {
    /// Whether nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// These, and from `declared` what they leave out.
    #[must_use]
    pub fn or(self, declared: Self) -> Self {
        Self {
            workers: self.workers.or(declared.workers),
            rate: self.rate.or(declared.rate),
            timeout: self.timeout.or(declared.timeout),
        }
    }
}

/// A change of what is set for a queue: the outer `None` leaves a setting as it is, the inner one takes it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueChange {
    /// How many of its jobs run at a time on one node.
    pub workers: Option<Option<NonZeroU16>>,
    /// How fast its jobs may start.
    pub rate: Option<Option<Rate>>,
    /// The longest one attempt may take.
    pub timeout: Option<Option<HumanDuration>>,
}

impl QueueChange {
    /// What is set after the change.
    #[must_use]
    pub fn of(self, before: QueueSettings) -> QueueSettings {
        QueueSettings {
            workers: self.workers.unwrap_or(before.workers),
            rate: self.rate.unwrap_or(before.rate),
            timeout: self.timeout.unwrap_or(before.timeout),
        }
    }
}
