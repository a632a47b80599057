//! Queues and what is set for them.

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use super::{Pause, given};
use crate::model::{HumanDuration, Rate};

/// A queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Jobs that could run now.
    pub ready: i64,
    /// Jobs that run.
    pub running: i64,
    /// How many may run at once on a node, where it has a limit of its own.
    pub workers: Option<usize>,
    /// How fast its jobs may start, on all nodes together.
    pub rate: Option<String>,
    /// The longest one attempt may take, for jobs that do not say.
    pub timeout: Option<String>,
    /// Where each of the three comes from.
    pub origins: QueueOrigins,
    /// When an operator last set one of them.
    pub set_at: Option<String>,
    /// Who it was.
    pub set_by: Option<String>,
    /// How long the oldest ready job has waited.
    pub oldest_age_ms: Option<i64>,
    /// When the next of its jobs may start, where all of them wait for a rate or a breaker; null where a breaker's probe decides.
    pub held_until: Option<String>,
    /// The breaker that has tripped, where that is what all of its jobs wait for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_by: Option<String>,
    /// The limit that is reached, where that is what all of its jobs wait for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limited_by: Option<String>,
    /// Whether it is held back by hand.
    pub pause: Option<Pause>,
}

/// Where a queue's settings come from; null where it has none of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct QueueOrigins {
    /// Of the number of workers.
    pub workers: Option<Origin>,
    /// Of the rate.
    pub rate: Option<Origin>,
    /// Of the timeout.
    pub timeout: Option<Origin>,
}

/// Where a setting that counts comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The settings: a file or the environment.
    File,
    /// An operator has set it while the daemon ran.
    Set,
}

/// What to set for a queue: what is left out stays as it is, and for null what the settings say counts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QueueRequest {
    /// How many of its jobs run at a time on one node; from 1.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u16>)]
    pub workers: Option<Option<NonZeroU16>>,
    /// How fast its jobs may start, on all nodes together: `60/m`, `5/10s`, `60/m burst 10`.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub rate: Option<Option<Rate>>,
    /// The longest one attempt may take, for jobs that do not say.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub timeout: Option<Option<HumanDuration>>,
}
