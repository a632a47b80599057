//! What can be written on the command line, by the file that carries it out. The help texts are the reference.

mod bench;
mod database;
mod files;
mod jobs;
mod nodes;
mod orders;
mod queues;
mod schedules;
mod system;
mod tokens;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(super) use bench::Bench;
pub(super) use database::Db;
pub(super) use files::{Explain, Next, Rule, Validate};
pub(super) use jobs::{Filter, Items, Jobs, Logs, Submit};
pub(super) use nodes::NodeAction;
pub(super) use orders::{Reprioritise, Retry, Select};
pub(super) use queues::{LimitAction, Limits, QueueAction, QueueSet, QueueSetting, Queues};
pub(super) use schedules::{Pause, Run, Why};
pub(super) use system::{Audit, AuditAction, Config};
pub(super) use tokens::{TokenAction, TokenCreate, TokenSet, TokenSetting};

/// Where the options that all commands have stand in their help: behind the command's own.
const COMMON: usize = 900;

/// A cron-style scheduler and maintenance daemon with a record of why each run did or did not happen.
#[derive(Debug, Parser)]
#[command(name = "sexton", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    /// Settings file; /etc/sexton/sexton.toml, else built-in defaults.
    #[arg(long, global = true, value_name = "FILE", display_order = COMMON)]
    pub config: Option<PathBuf>,
    /// Print one JSON document on stdout.
    #[arg(long, global = true, display_order = COMMON)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon in the foreground.
    Serve,
    /// Keep programs running beyond the end of a daemon. Daemons start it.
    #[command(hide = true)]
    Keep {
        /// The data directory.
        data: PathBuf,
        /// The name of the socket that is its standard input.
        socket: String,
    },
    /// Check settings, schedule and kind files; all errors at once.
    Validate(Validate),
    /// Show upcoming instants of a schedule, or of a rule given here. Never needs the daemon.
    Next(Next),
    /// Explain a schedule or a rule in a sentence, with its next instants and what daylight saving does to them.
    Explain(Explain),
    /// List how many jobs may run at once and how fast they may start, by queue, kind and key, or set such a limit.
    Limits(Limits),
    /// List the kinds that a job can be of, or show one with the schema of its params.
    Kinds {
        /// The kind.
        name: Option<String>,
    },
    /// List the schedules.
    #[command(visible_alias = "ls")]
    Schedules(Page),
    /// Show one schedule.
    Show {
        /// The schedule.
        id: String,
    },
    /// Why a schedule ran or did not run: its ledger, newest first.
    Why(Why),
    /// Hold a schedule back.
    Pause(Pause),
    /// Let a paused schedule go on.
    Resume {
        /// The schedule.
        id: String,
    },
    /// Run a schedule now.
    Run(Run),
    /// Submit a job.
    Submit(Submit),
    /// List jobs, newest first.
    Jobs(Jobs),
    /// Show one job with its attempts.
    Job {
        /// The job.
        id: i64,
    },
    /// List the items of a batch, in order.
    Items(Items),
    /// Cancel jobs: waiting ones at once, running ones by telling them to stop.
    Cancel(Select),
    /// Try failed or cancelled jobs again.
    Retry(Retry),
    /// Delete jobs that are over, with their attempts and logs, for good.
    Drop(Select),
    /// Give waiting jobs another priority.
    Reprioritise(Reprioritise),
    /// Show the output of a job's last attempt.
    Logs(Logs),
    /// Numbers: jobs by state, and the last day by kind.
    Stats,
    /// The queues; set, pause and resume them.
    Queues(Queues),
    /// What the workers are doing.
    Workers,
    /// The daemons of this database; drain one before its machine is worked on.
    Nodes {
        /// What to do; list them.
        #[command(subcommand)]
        action: Option<NodeAction>,
    },
    /// The tokens that let programs use the API over TCP: make, change and revoke them.
    #[command(visible_alias = "tokens")]
    Token {
        /// What to do; list them.
        #[command(subcommand)]
        action: Option<TokenAction>,
    },
    /// Follow what happens, one JSON object a line.
    Events,
    /// The audit log, newest first.
    Audit(Audit),
    /// The database.
    #[command(subcommand)]
    Db(Db),
    /// Load the schedule files again; returns when that has succeeded or failed.
    Reload,
    /// What the daemon is doing.
    Status,
    /// Check the surroundings: settings, files, directories, database, daemon, audit log.
    Doctor,
    /// Measure how fast this machine is with jobs that do nothing, on a database of its own that is removed again.
    Bench(Bench),
    /// The settings.
    #[command(subcommand)]
    Config(Config),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man,
}

/// Which rows of a list.
#[derive(Debug, Args)]
pub struct Page {
    /// At most this many rows.
    #[arg(long, value_name = "N")]
    pub limit: Option<i64>,
    /// Go on where an earlier list ended: its `next_cursor`.
    #[arg(long, value_name = "CURSOR")]
    pub cursor: Option<String>,
}
