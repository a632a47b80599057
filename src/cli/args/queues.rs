//! Commands about queues and limits.

use clap::{ArgGroup, Args, Subcommand, ValueEnum};

use crate::model::{Breaker, HumanDuration, Rate};

/// `limits`.
#[derive(Debug, Args)]
pub struct Limits {
    /// What to do; list them.
    #[command(subcommand)]
    pub action: Option<LimitAction>,
}

/// What to do with a limit.
#[derive(Debug, Subcommand)]
pub enum LimitAction {
    /// Set a limit for all nodes. It counts from the next job on, and stays until somebody changes it.
    #[command(
        group = ArgGroup::new("limit").required(true).multiple(true),
        override_usage = "sexton limits set [OPTIONS] <NAME> <MAX|--rate RATE|--breaker BREAKER>"
    )]
    Set {
        /// queue:NAME, kind:NAME or key:KEY.
        name: String,
        /// How many jobs at once; 0 lets none start.
        #[arg(group = "limit")]
        max: Option<u32>,
        /// How fast jobs may start: 60/m, 5/10s, "60/m burst 10". Of a queue, it is set with `queues set`.
        #[arg(long, value_name = "RATE", group = "limit")]
        rate: Option<Rate>,
        /// After how many failures in a row nothing starts for a while: "5 in 1m for 10m", "5 for 10m".
        #[arg(long, value_name = "BREAKER", group = "limit")]
        breaker: Option<Breaker>,
    },
    /// Let jobs start again under a breaker that has tripped, without waiting for its probe.
    Reset {
        /// queue:NAME, kind:NAME or key:KEY.
        name: String,
    },
    /// Let what is declared count again.
    Unset {
        /// queue:NAME, kind:NAME or key:KEY.
        name: String,
    },
}

/// `queues`.
#[derive(Debug, Args)]
pub struct Queues {
    /// What to do; list them.
    #[command(subcommand)]
    pub action: Option<QueueAction>,
}

/// What to do with a queue.
#[derive(Debug, Subcommand)]
pub enum QueueAction {
    /// Take no more jobs from a queue until it is resumed.
    Pause {
        /// The queue.
        name: String,
        /// Why.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Take jobs from it again.
    Resume {
        /// The queue.
        name: String,
    },
    /// Set what counts for a queue instead of its settings in sexton.toml. It counts from the next job on, and stays until somebody
    /// changes it.
    Set(QueueSet),
}

/// `queues set`.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("setting").required(true).multiple(true),
    override_usage = "sexton queues set [OPTIONS] <NAME> <--workers N|--rate RATE|--timeout DURATION|--unset SETTING>..."
)]
pub struct QueueSet {
    /// The queue.
    pub name: String,
    /// How many of its jobs run at a time on each node.
    #[arg(long, value_name = "N", group = "setting", value_parser = clap::value_parser!(u16).range(1..))]
    pub workers: Option<u16>,
    /// How fast its jobs may start, on all nodes together: 60/m, 5/10s, "60/m burst 10".
    #[arg(long, value_name = "RATE", group = "setting")]
    pub rate: Option<Rate>,
    /// The longest one attempt may take, for jobs that do not say.
    #[arg(long, value_name = "DURATION", group = "setting")]
    pub timeout: Option<HumanDuration>,
    /// Let count again what sexton.toml says.
    #[arg(long, value_name = "SETTING", group = "setting")]
    pub unset: Vec<QueueSetting>,
}

/// A setting of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum QueueSetting {
    /// How many of its jobs run at a time.
    Workers,
    /// How fast its jobs may start.
    Rate,
    /// The longest one attempt may take.
    Timeout,
}
