//! The settings as the program sees them.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;

use super::raw::{Raw, RawQueue};
use super::{Anonymous, AuditJobs, ListenAddress, LogFilter, LogFormat, Rotation};
use crate::jobs::{JobDefaults, Kind};
use crate::model::{
    ByteSize, HumanDuration, NodeIdentity, Priority, QueueSettings, RetryPolicy, is_node_label,
    is_node_name,
};
use crate::queue::Limits;
use crate::schedule::CatchUpPolicy;
use crate::store::DatabaseUrl;

/// Everything that can be set. All paths are absolute.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where the daemon keeps its files.
    pub data_dir: PathBuf,
    /// `[node]`: by what this node can be chosen; its name is the host's, where nobody says.
    pub node: NodeIdentity,
    /// Where the database is.
    pub database: DatabaseUrl,
    /// Where schedule files are, later directories overriding earlier ones.
    pub schedule_dirs: Vec<PathBuf>,
    /// Where files that declare kinds are.
    pub kind_dirs: Vec<PathBuf>,
    /// The pool.
    pub workers: WorkerSettings,
    /// The queues that differ from the default.
    pub queues: BTreeMap<String, QueueSettings>,
    /// The HTTP API.
    pub api: ApiSettings,
    /// Diagnostics.
    pub log: LogSettings,
    /// The audit log.
    pub audit: AuditSettings,
    /// How long history is kept.
    pub retention: Retention,
    /// How long running jobs may take to end when the daemon stops.
    pub shutdown_grace: HumanDuration,
    /// How a node shows that it is alive.
    pub lease: LeaseSettings,
    /// What schedules and submissions leave out.
    pub defaults: ScheduleDefaults,
}

/// `[workers]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerSettings {
    /// How many jobs run at a time.
    pub count: NonZeroU16,
    /// How many of them only take jobs of priority 8 and above.
    pub reserved_high: u16,
    /// How long a waiting job takes to rise by one level of priority.
    pub ageing: HumanDuration,
}

/// `[api]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiSettings {
    /// The Unix socket.
    pub socket: PathBuf,
    /// The TCP address; `None`: off.
    pub listen: Option<ListenAddress>,
    /// What may be done there without a token.
    pub anonymous: Anonymous,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// Where `sexton.log.*` goes.
    pub dir: PathBuf,
    /// How lines look on standard error. The file always holds JSON.
    pub format: LogFormat,
    /// Which lines are kept.
    pub level: LogFilter,
    /// When the file is changed whatever its size.
    pub rotation: Rotation,
    /// How many old files are kept beside the current one.
    pub keep: NonZeroU16,
    /// The size at which the file is changed; zero: never.
    pub max_size: ByteSize,
}

/// `[audit]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditSettings {
    /// Where `audit.jsonl` goes.
    pub dir: PathBuf,
    /// Which jobs have lines.
    pub jobs: AuditJobs,
}

/// `[retention]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Of jobs that completed.
    pub completed: HumanDuration,
    /// Of jobs that failed.
    pub failed: HumanDuration,
    /// Of jobs that were cancelled.
    pub cancelled: HumanDuration,
    /// Of the ledger.
    pub occurrences: HumanDuration,
    /// Of the daily statistics.
    pub statistics: HumanDuration,
}

/// `[lease]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseSettings {
    /// How long a silent node keeps its jobs.
    pub duration: HumanDuration,
    /// How often a node renews its lease; at most a third of it.
    pub heartbeat: HumanDuration,
}

/// `[defaults]`
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleDefaults {
    /// The zone rules are read in.
    pub timezone: TimeZone,
    /// How urgent jobs are.
    pub priority: Priority,
    /// The lane they wait in.
    pub queue: String,
    /// The longest one attempt may take.
    pub timeout: HumanDuration,
    /// How often jobs are tried again.
    pub retry: RetryPolicy,
    /// What happens with instants that passed.
    pub catch_up: CatchUpPolicy,
}

/// What the built-in defaults depend on.
#[derive(Debug)]
pub(super) struct Surroundings<'a> {
    /// Whether the settings are those of the machine, `/etc/sexton/sexton.toml`.
    pub(super) installed: bool,
    /// Where defaults are when the settings are not those of the machine.
    pub(super) folder: &'a Path,
    /// The host's name.
    pub(super) host: String,
    /// How many processors there are.
    pub(super) processors: usize,
    /// The machine's zone.
    pub(super) zone: TimeZone,
}

/// A key and what is wrong with its value.
pub(super) type Complaint = (String, String);

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

impl Settings {
    /// Fills in defaults and checks what a single value cannot tell. `base` says what a key's relative path starts from.
    pub(super) fn check<'a>(
        raw: Raw,
        around: &Surroundings<'a>,
        base: impl Fn(&str) -> &'a Path,
    ) -> Result<Self, Vec<Complaint>> {
        let mut complaints = Vec::new();
        let mut wrong = |key: &str, message: String| complaints.push((key.to_owned(), message));
        let place = |key: &str, written: Option<PathBuf>, system: &str, local: &Path| match written
        {
            Some(path) => absolute(&base(key).join(path)),
            None if around.installed => PathBuf::from(system),
            None => absolute(&around.folder.join(local)),
        };
        let places =
            |key: &str, written: Option<Vec<PathBuf>>, system: &str, local: &str| match written {
                Some(paths) => paths.iter().map(|path| absolute(&base(key).join(path))).collect(),
                None => vec![place(key, None, system, Path::new(local))],
            };

        for (key, path) in [
            ("data_dir", &raw.data_dir),
            ("api.socket", &raw.api.socket),
            ("log.dir", &raw.log.dir),
            ("audit.dir", &raw.audit.dir),
        ] {
            if path.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
                wrong(key, "the path is empty".to_owned());
            }
        }
        let data_dir = place("data_dir", raw.data_dir, "/var/lib/sexton", Path::new("var"));
        if data_dir.parent().is_none() {
            wrong("data_dir", "the root directory cannot hold the daemon's data".to_owned());
        }
        let database = match raw.database.url {
            Some(DatabaseUrl::Sqlite(path)) => {
                DatabaseUrl::Sqlite(absolute(&base("database.url").join(path)))
            }
            Some(server @ DatabaseUrl::Postgres(_)) => server,
            None => DatabaseUrl::Sqlite(data_dir.join("sexton.db")),
        };

        let node = NodeIdentity {
            name: raw.node.name.unwrap_or_else(|| around.host.clone()),
            labels: raw.node.labels.unwrap_or_default(),
        };
        if !is_node_name(&node.name) {
            let name = node.name.escape_debug();
            wrong("node.name", format!("`{name}` cannot name a node: {NODE_NAME}"));
        }
        for label in node.labels.iter().filter(|label| !is_node_label(label)) {
            wrong(
                "node.labels",
                format!("`{}` cannot be a label: {NODE_LABEL}", label.escape_debug()),
            );
        }

        let workers = WorkerSettings {
            count: raw.workers.count.unwrap_or_else(|| default_workers(around.processors)),
            reserved_high: raw.workers.reserved_high.unwrap_or(0),
            ageing: raw.workers.ageing.unwrap_or(HumanDuration::from_secs(HOUR)),
        };
        if workers.reserved_high >= workers.count.get() {
            let message =
                "some workers must be left for everything else: it must be below workers.count";
            wrong("workers.reserved_high", message.to_owned());
        }
        if workers.ageing.get().is_zero() {
            wrong("workers.ageing", "it must be longer than zero".to_owned());
        }
        for name in raw.queues.keys().filter(|name| !is_queue_name(name)) {
            wrong(&format!("queues.{name}"), QUEUE_NAME.to_owned());
        }
        let queues = raw.queues.into_iter().map(|(name, queue)| {
            let RawQueue { workers, rate, timeout } = queue;
            (name, QueueSettings { workers, rate, timeout })
        });

        let lease = LeaseSettings {
            duration: raw.lease.duration.unwrap_or(HumanDuration::from_secs(30)),
            heartbeat: raw.lease.heartbeat.unwrap_or(HumanDuration::from_secs(5)),
        };
        if lease.heartbeat.get().is_zero() {
            wrong("lease.heartbeat", "it must be longer than zero".to_owned());
        }
        if lease.heartbeat.get() * 3 > lease.duration.get() {
            let message = format!(
                "a heartbeat every {} is too rare for a lease of {}: it must fit at least three times",
                lease.heartbeat, lease.duration
            );
            wrong("lease.heartbeat", message);
        }

        let retention = Retention {
            completed: raw.retention.completed.unwrap_or(HumanDuration::from_secs(7 * DAY)),
            failed: raw.retention.failed.unwrap_or(HumanDuration::from_secs(30 * DAY)),
            cancelled: raw.retention.cancelled.unwrap_or(HumanDuration::from_secs(30 * DAY)),
            occurrences: raw.retention.occurrences.unwrap_or(HumanDuration::from_secs(90 * DAY)),
            statistics: raw.retention.statistics.unwrap_or(HumanDuration::from_secs(400 * DAY)),
        };

        let defaults = raw.defaults;
        let timezone = match defaults.timezone {
            None => around.zone.clone(),
            Some(name) => TimeZone::get(&name).unwrap_or_else(|_unknown| {
                let message = format!(
                    "`{}` is not a time zone this machine knows; write it like Europe/Berlin or UTC",
                    name.escape_default()
                );
                wrong("defaults.timezone", message);
                TimeZone::UTC
            }),
        };
        let queue = defaults.queue.unwrap_or_else(|| "default".to_owned());
        if !is_queue_name(&queue) {
            wrong("defaults.queue", QUEUE_NAME.to_owned());
        }
        let retries = defaults.retries.unwrap_or(2);
        if retries > 1000 {
            wrong("defaults.retries", "more than 1000 retries".to_owned());
        }

        let timeout = defaults.timeout.unwrap_or(HumanDuration::from_secs(DAY));
        if timeout.get().is_zero() {
            wrong("defaults.timeout", "no job can finish in no time".to_owned());
        }

        let log_dir = place("log.dir", raw.log.dir, "/var/log/sexton", &data_dir.join("log"));
        let settings = Self {
            node,
            database,
            schedule_dirs: places(
                "schedules.dirs",
                raw.schedules.dirs,
                "/etc/sexton/schedules",
                "schedules",
            ),
            kind_dirs: places("kinds.dirs", raw.kinds.dirs, "/etc/sexton/kinds", "kinds"),
            workers,
            queues: queues.collect(),
            api: ApiSettings {
                socket: place(
                    "api.socket",
                    raw.api.socket,
                    "/run/sexton/sexton.sock",
                    &data_dir.join("sexton.sock"),
                ),
                listen: raw.api.listen,
                anonymous: raw.api.anonymous.unwrap_or_default(),
            },
            audit: AuditSettings {
                dir: raw
                    .audit
                    .dir
                    .map_or_else(|| log_dir.clone(), |dir| absolute(&base("audit.dir").join(dir))),
                jobs: raw.audit.jobs.unwrap_or_default(),
            },
            log: LogSettings {
                dir: log_dir,
                format: raw.log.format.unwrap_or_default(),
                level: raw.log.level.unwrap_or_default(),
                rotation: raw.log.rotation.unwrap_or_default(),
                keep: raw.log.keep.unwrap_or(DEFAULT_KEEP),
                max_size: raw.log.max_size.unwrap_or(ByteSize(100 << 20)),
            },
            retention,
            shutdown_grace: raw.shutdown.grace.unwrap_or(HumanDuration::from_secs(30)),
            lease,
            defaults: ScheduleDefaults {
                timezone,
                priority: defaults.priority.unwrap_or_default(),
                queue,
                timeout,
                retry: RetryPolicy {
                    max_attempts: u32::from(retries) + 1,
                    ..RetryPolicy::default()
                },
                catch_up: defaults.catch_up.unwrap_or(CatchUpPolicy::Latest),
            },
            data_dir,
        };
        if complaints.is_empty() { Ok(settings) } else { Err(complaints) }
    }

    /// What these give to jobs that do not say otherwise. The timeout is not among it: that of a job's queue, which can change until it
    /// starts, comes before it.
    #[must_use]
    pub fn job_defaults(&self) -> JobDefaults {
        let ScheduleDefaults { queue, priority, retry, .. } = &self.defaults;
        // What is as it is without settings need not be written into every job.
        let retry = Some(retry).filter(|retry| **retry != RetryPolicy::default());
        JobDefaults {
            queue: Some(queue.clone()),
            priority: Some(*priority),
            retry: retry.cloned(),
            ..JobDefaults::default()
        }
    }

    /// What these and the files of kinds declare that holds jobs back.
    #[must_use]
    pub fn limits(&self, kinds: &[Kind]) -> Limits {
        let mut limits = Limits::default();
        for (name, queue) in &self.queues {
            limits.set_queue(name, *queue);
        }
        for kind in kinds {
            let defaults = kind.defaults();
            if let Some(max) = defaults.concurrency {
                limits.set_max(format!("kind:{}", kind.name), max);
            }
            if let Some(rate) = defaults.rate {
                limits.set_rate(format!("kind:{}", kind.name), rate);
            }
            if let Some(breaker) = defaults.breaker {
                limits.set_breaker(format!("kind:{}", kind.name), breaker);
            }
        }
        let declared = kinds.iter().filter(|kind| kind.declared().is_some());
        limits.set_kinds(declared.map(|kind| kind.name.to_string()));
        limits
    }
}

const NODE_LABEL: &str = "use 1 to 64 letters, digits, `.`, `-` and `_`";

const NODE_NAME: &str = "use 1 to 64 letters, digits, `.`, `-` and `_`, and neither `any` nor `every`, which choose other nodes than one";

const DEFAULT_KEEP: NonZeroU16 = NonZeroU16::new(14).expect("fourteen is not zero");

/// Two for each processor, since jobs mostly wait for disks and programs, and at least four.
fn default_workers(processors: usize) -> NonZeroU16 {
    let count = processors.saturating_mul(2).max(4);
    u16::try_from(count).ok().and_then(NonZeroU16::new).unwrap_or(NonZeroU16::MAX)
}

const QUEUE_NAME: &str =
    "a queue's name has 1 to 64 of a-z, 0-9, `-` and `_`, and starts with a letter or digit";

/// Queues are named in variables, metric labels and URLs, under the same rule as schedules.
fn is_queue_name(name: &str) -> bool {
    name.parse::<crate::model::ScheduleId>().is_ok()
}

/// Without `.` parts, so that `./schedules` reads well in logs; `..` stays, because it may follow a symlink.
fn absolute(path: &Path) -> PathBuf {
    path.components().collect()
}
