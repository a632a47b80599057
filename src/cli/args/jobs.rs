//! Commands about jobs.

use std::path::PathBuf;

use clap::Args;

use super::Page;

/// `submit`.
#[derive(Debug, Args)]
pub struct Submit {
    /// The kind; `sexton kinds` lists them.
    pub kind: String,
    /// The kind's params as JSON; `-` reads them from stdin.
    #[arg(long, value_name = "JSON|-")]
    pub params: Option<String>,
    /// low, normal, high, critical or 1 to 10.
    #[arg(long)]
    pub priority: Option<String>,
    /// The queue.
    #[arg(long)]
    pub queue: Option<String>,
    /// Not before: a time, or how long from now (2h).
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// At most one live job with this key.
    #[arg(long, value_name = "KEY")]
    pub unique: Option<String>,
    /// At most MAX jobs of that KEY at once, on all nodes together.
    #[arg(long, value_name = "KEY=MAX")]
    pub concurrency: Option<String>,
    /// Where it runs: any, every (once on each node), a node's name, or label:LABEL.
    #[arg(long, value_name = "NODE")]
    pub node: Option<String>,
    /// Marks, key=value; may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<String>,
    /// Jobs that must complete first, with :finished only be over, with :any one of them complete; may be repeated.
    #[arg(long, value_name = "ID[:NEED]")]
    pub depends_on: Vec<String>,
    /// What to do when a job that must complete does not: cancel this one, run it all the same, or wait until that one is retried.
    #[arg(long, value_name = "WHAT", value_parser = ["cancel", "run", "wait"])]
    pub on_dependency_failure: Option<String>,
    /// Charged attempts in all.
    #[arg(long, value_name = "N")]
    pub max_attempts: Option<u32>,
    /// The longest an attempt may take.
    #[arg(long, value_name = "DURATION")]
    pub timeout: Option<String>,
    /// Make it a batch of the items in a file, `-` for stdin: a name on each line, or JSON objects with `name` and `params`.
    #[arg(long, value_name = "FILE|-")]
    pub items: Option<PathBuf>,
    /// Plan and report; change nothing.
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    /// Wait until the job is over; the exit code is 0 when it completed and 1 when it did not.
    #[arg(long)]
    pub wait: bool,
}

/// Which jobs.
#[derive(Debug, Args)]
pub struct Filter {
    /// blocked, pending, running, retrying, completed, failed or cancelled.
    #[arg(long)]
    pub state: Option<String>,
    /// Of this kind.
    #[arg(long)]
    pub kind: Option<String>,
    /// Made by this schedule.
    #[arg(long)]
    pub schedule: Option<String>,
    /// In this queue.
    #[arg(long)]
    pub queue: Option<String>,
    /// With this mark; may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<String>,
    /// Submitted then or later: a time, or how long ago (2h).
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Submitted before: a time, or how long ago (2h).
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
}

/// `items`.
#[derive(Debug, Args)]
pub struct Items {
    /// The batch.
    pub id: i64,
    /// Only these: blocked, pending, running, retrying, completed, failed or cancelled.
    #[arg(long)]
    pub state: Option<String>,
    #[command(flatten)]
    pub page: Page,
}

/// `jobs`.
#[derive(Debug, Args)]
pub struct Jobs {
    /// Which jobs.
    #[command(flatten)]
    pub filter: Filter,
    /// Which rows.
    #[command(flatten)]
    pub page: Page,
}

/// `logs`.
#[derive(Debug, Args)]
pub struct Logs {
    /// The job.
    pub id: i64,
    /// Go on until the job is over.
    #[arg(long, short)]
    pub follow: bool,
    /// Which attempt; the last.
    #[arg(long, value_name = "N")]
    pub attempt: Option<u32>,
}
