//! Commands that read files.

use std::path::PathBuf;

use clap::Args;

/// `validate`.
#[derive(Debug, Args)]
pub struct Validate {
    /// Files or directories of schedules or kinds; the configured ones when none is given; `-` reads a schedule from stdin.
    pub paths: Vec<PathBuf>,
    /// Do not look at anything but the files themselves (directories, the database).
    #[arg(long)]
    pub no_environment: bool,
    /// Warnings count as errors (exit code 3).
    #[arg(long)]
    pub strict: bool,
}

/// A rule on the command line.
#[derive(Debug, Args)]
pub struct Rule {
    /// The schedule.
    #[arg(required_unless_present_any = ["cron", "every", "daily"], conflicts_with_all = ["cron", "every", "daily"])]
    pub id: Option<String>,
    /// A cron expression.
    #[arg(long, value_name = "EXPR", conflicts_with_all = ["every", "daily"])]
    pub cron: Option<String>,
    /// A period, like 15m.
    #[arg(long, value_name = "DURATION", conflicts_with = "daily")]
    pub every: Option<String>,
    /// Times of day, like 02:30,14:00.
    #[arg(long, value_name = "HH:MM", value_delimiter = ',')]
    pub daily: Vec<String>,
    /// The zone to read it in; the daemon's default.
    #[arg(long, value_name = "ZONE")]
    pub timezone: Option<String>,
}

/// `next`.
#[derive(Debug, Args)]
pub struct Next {
    /// What to compute.
    #[command(flatten)]
    pub rule: Rule,
    /// How many instants.
    #[arg(long, short = 'n', default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub count: u16,
    /// The instants after this one; now.
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
}

/// `explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// What to explain.
    #[command(flatten)]
    pub rule: Rule,
}
