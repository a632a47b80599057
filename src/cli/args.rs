//! What can be written on the command line. The help texts are the reference.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};

use crate::model::{Breaker, HumanDuration, Rate};

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
    /// pending (not over), completed, failed or cancelled.
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

/// What to do with a node.
#[derive(Debug, Subcommand)]
pub enum NodeAction {
    /// Let a node take nothing new; what runs on it goes on. It holds until it is resumed or stops.
    Drain {
        /// The node's name or number.
        node: String,
    },
    /// Let it take work again.
    Resume {
        /// The node's name or number.
        node: String,
    },
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

/// `db`.
#[derive(Debug, Subcommand)]
pub enum Db {
    /// Bring the schema up to date.
    Migrate,
    /// Which migrations are applied and which are missing.
    Status,
    /// Write a consistent copy, also while the daemon runs.
    Backup {
        /// The copy; it must not exist.
        file: PathBuf,
    },
    /// Put a copy in place of the database; the daemon must not run. The old one is kept beside it.
    Restore {
        /// The copy.
        file: PathBuf,
    },
    /// Copy a whole history into an empty database: from SQLite to PostgreSQL, or any other way. No daemon may use the source. The copy is
    /// there as a whole or not at all.
    Copy {
        /// The database that is copied: sqlite:PATH or postgres://USER@HOST/NAME. A password is better kept in PGPASSFILE.
        from: String,
        /// The empty database that it is copied to.
        to: String,
    },
    /// Look for damage.
    Check,
}

/// `bench`.
#[derive(Debug, Args)]
pub struct Bench {
    /// Backlogs to drain, in jobs: numbers like 500, 10k or 1m.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "2k", value_parser = amount)]
    pub jobs: Vec<usize>,
    /// With how many workers each.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,4,16,64", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub workers: Vec<u16>,
    /// How often each figure is measured; what is shown is the median.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub repeats: u16,
    /// Where to put the SQLite database; the directory for temporary files, which may be in memory.
    #[arg(long, value_name = "DIR", conflicts_with = "database")]
    pub directory: Option<PathBuf>,
    /// A database that has nothing in it, not even tables; everything in it is removed at the end.
    #[arg(long, value_name = "URL")]
    pub database: Option<String>,
}

/// A number of jobs, with `k` for a thousand and `m` for a million.
fn amount(text: &str) -> Result<usize, String> {
    let (digits, unit) = match text.to_ascii_lowercase() {
        lower if lower.ends_with('k') => (&text[..text.len() - 1], 1_000),
        lower if lower.ends_with('m') => (&text[..text.len() - 1], 1_000_000),
        _ => (text, 1),
    };
    let count: Option<usize> = digits.parse().ok();
    let amount = count.and_then(|count| count.checked_mul(unit));
    match amount {
        Some(amount @ 1..=MAX_JOBS) => Ok(amount),
        _ => Err(format!("write it like 500, 10k or 1m, from 1 to {}m", MAX_JOBS / 1_000_000)),
    }
}

/// The longest backlog that is measured.
const MAX_JOBS: usize = 10_000_000;

/// `config`.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// The effective settings and where each came from.
    Show,
}
