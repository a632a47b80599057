//! Commands about the daemon itself.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Page;

/// `audit`.
#[derive(Debug, Args)]
pub struct Audit {
    /// What to do; list it.
    #[command(subcommand)]
    pub action: Option<AuditAction>,
    /// From then on: a time, or how long ago (2h).
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// By an actor whose name contains this.
    #[arg(long, value_name = "NAME")]
    pub who: Option<String>,
    /// Which rows.
    #[command(flatten)]
    pub page: Page,
}

/// What to do with the audit log.
#[derive(Debug, Subcommand)]
pub enum AuditAction {
    /// Find any line that was edited, removed, inserted or moved; exit code 1 when there is one.
    Verify {
        /// The files of a log that was rotated, oldest first; the current one.
        files: Vec<PathBuf>,
    },
}

/// `config`.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// The effective settings and where each came from.
    Show,
}
