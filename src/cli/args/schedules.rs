//! Commands about schedules.

use clap::Args;

use super::Page;

/// `why`.
#[derive(Debug, Args)]
pub struct Why {
    /// The schedule.
    pub id: String,
    /// Only what was decided about instants within an hour of this one.
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// Which rows.
    #[command(flatten)]
    pub page: Page,
}

/// `pause`.
#[derive(Debug, Args)]
pub struct Pause {
    /// The schedule.
    pub id: String,
    /// Until when: a time, or how long from now (2h).
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Why; everybody who asks `sexton why` will read it.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// The schedule.
    pub id: String,
    /// Wait until the job is over; the exit code is 0 when it completed and 1 when it did not.
    #[arg(long)]
    pub wait: bool,
    /// Wait and show the job's output.
    #[arg(long)]
    pub follow: bool,
    /// Plan and report; change nothing.
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    /// Replace these fields of the schedule's params.
    #[arg(long, value_name = "JSON")]
    pub params: Option<String>,
    /// The instant that the job is made for; now.
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
}
