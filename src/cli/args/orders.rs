//! What can be ordered for jobs.

use clap::Args;

use super::Filter;

/// `retry`.
#[derive(Debug, Args)]
pub struct Retry {
    /// Which jobs.
    #[command(flatten)]
    pub select: Select,
    /// Do one failed or cancelled job again with these params, as another job; `-` reads them from stdin.
    #[arg(long, value_name = "JSON|-")]
    pub params: Option<String>,
}

/// `reprioritise`.
#[derive(Debug, Args)]
pub struct Reprioritise {
    /// Which jobs.
    #[command(flatten)]
    pub select: Select,
    /// low, normal, high, critical or 1 to 10.
    #[arg(long)]
    pub priority: String,
}

/// Which jobs an order is for: those that are named, or all that pass a filter.
#[derive(Debug, Args)]
pub struct Select {
    /// The jobs, by number.
    pub ids: Vec<i64>,
    /// Or all that pass this.
    #[command(flatten)]
    pub filter: Filter,
    /// Only say how many it would be.
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    /// Do not ask before touching jobs by filter.
    #[arg(long, short)]
    pub yes: bool,
}
