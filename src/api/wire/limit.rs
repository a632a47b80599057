//! How many at once, how fast, and after how many failures no more.

use serde::{Deserialize, Serialize};

use super::{Pause, time};
use crate::model::{Breaker, Rate};
use crate::queue::{Full, Trip};
use crate::store::breakers::Broken;
use crate::store::holds::Hold;

/// How many jobs may run at once, and how fast they may start.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Limit {
    /// `queue:NAME`, `kind:NAME` or `key:KEY`.
    pub name: String,
    /// How many at once, on all nodes together; null where only their rate is limited.
    pub max: Option<u32>,
    /// What a kind's file or a job says, where that is not what counts as well.
    pub declared: Option<u32>,
    /// How fast they may start, on all nodes together.
    pub rate: Option<String>,
    /// What the settings or a kind's file say.
    pub declared_rate: Option<String>,
    /// After how many failures nothing starts for a while: `5 in 1m for 10m`.
    pub breaker: Option<String>,
    /// What a kind's file says.
    pub declared_breaker: Option<String>,
    /// Since when and why nothing starts, where the breaker has tripped.
    pub tripped: Option<Tripped>,
    /// How many run.
    pub running: u32,
    /// Since when an operator's limit counts.
    pub set_at: Option<String>,
    /// Whose it is.
    pub set_by: Option<String>,
}

/// A breaker that has tripped: nothing starts under its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Tripped {
    /// Its name: `queue:NAME`, `kind:NAME` or `key:KEY`.
    pub breaker: String,
    /// Since when.
    pub since: String,
    /// When one job is let through to find out whether it is over.
    pub until: String,
    /// The last failure.
    pub why: String,
    /// The job that was let through last. While it runs, its end is waited for.
    pub probe: Option<i64>,
}

impl Tripped {
    pub(in crate::api) fn new(name: &str, breaker: Breaker, trip: Trip) -> Self {
        Self {
            breaker: name.to_owned(),
            since: time(trip.at),
            until: time(trip.ends(breaker)),
            probe: trip.probe.map(|probe| probe.job.0),
            why: trip.why,
        }
    }
}

impl From<Broken> for Tripped {
    fn from(Broken { name, breaker, trip }: Broken) -> Self {
        Self::new(&name, breaker, trip)
    }
}

/// Something that lets a job not start that is due, however many workers are free.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "what", rename_all = "lowercase")]
pub enum HeldBy {
    /// Its queue is paused.
    Pause {
        /// The queue.
        queue: String,
        /// Since when, by whom and why.
        pause: Pause,
    },
    /// No file of the node that answers declares its kind.
    Kind {
        /// The kind.
        kind: String,
    },
    /// No node that runs and takes work may take it.
    Node {
        /// Which may: one of that name, or `label:` and a label; null where no node takes work at all.
        node: Option<String>,
    },
    /// As many run as may, on all nodes together.
    Limit {
        /// `queue:NAME`, `kind:NAME` or `key:KEY`.
        name: String,
        /// How many may.
        max: u32,
        /// How many do.
        running: u32,
    },
    /// As many of its queue run as may on a node, on each that may take it.
    Workers {
        /// The queue.
        queue: String,
        /// How many may.
        max: u32,
    },
    /// As many have started as may for now.
    Rate {
        /// `queue:NAME`, `kind:NAME` or `key:KEY`.
        name: String,
        /// When the next one may.
        until: String,
    },
    /// A breaker has tripped.
    Breaker(Tripped),
}

impl From<Hold> for HeldBy {
    fn from(hold: Hold) -> Self {
        match hold {
            Hold::Pause { queue, pause } => Self::Pause { queue, pause: pause.into() },
            Hold::NoKind(kind) => Self::Kind { kind },
            Hold::NoNode(selector) => {
                Self::Node { node: selector.map(|selector| selector.to_string()) }
            }
            Hold::Full(Full::Limit { name, max, running }) => Self::Limit { name, max, running },
            Hold::Full(Full::Workers { queue, max }) => Self::Workers { queue, max },
            Hold::Full(Full::Rate { name, until }) => Self::Rate { name, until: time(until) },
            Hold::Broken(broken) => Self::Breaker(broken.into()),
        }
    }
}

/// Which limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitName {
    /// `queue:NAME`, `kind:NAME` or `key:KEY`.
    pub name: String,
}

/// Sets a limit. What is left out stays as it is; where all of it is, what is declared counts again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitRequest {
    /// `queue:NAME`, `kind:NAME` or `key:KEY`.
    pub name: String,
    /// How many at once, at most 1,000,000; 0 lets none start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// How fast they may start: `60/m`, `5/10s`, `60/m burst 10`. Not for queues, which have settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub rate: Option<Rate>,
    /// After how many failures nothing starts for a while: `5 in 1m for 10m`, `5 for 10m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub breaker: Option<Breaker>,
}
