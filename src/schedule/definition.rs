//! A checked schedule: what its file said, with every default filled in.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::{Place, Rule};
use crate::jobs::JobDefaults;
use crate::model::{
    ByteSize, Concurrency, HumanDuration, JsonText, Labels, NodeChoice, Priority, RetryPolicy,
    ScheduleId,
};

/// A named rule from a file: when, what, and under which policies.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// Its name.
    pub id: ScheduleId,
    /// Where it was read.
    pub source: Source,
    /// What it is for, in its author's words; empty when nothing was said.
    pub description: String,
    /// Whether it is due at all. A disabled schedule can still be run by hand.
    pub enabled: bool,
    /// Marks to select schedules by.
    pub tags: Vec<String>,
    /// Whom to ask.
    pub owner: Option<String>,
    /// What to read when it fails.
    pub runbook: Option<String>,
    /// When it is due.
    pub when: When,
    /// How its jobs are treated.
    pub run: Run,
    /// What its jobs do: the name of its kind table.
    pub kind: String,
    /// The kind table, checked by the kind.
    pub params: JsonText,
    /// Of everything above except the source: comments, formatting and moving the file do not count.
    pub hash: ContentHash,
}

/// Tells versions of a schedule apart: 128 bits of BLAKE3, enough for ever and short enough to be kept with every occurrence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ContentHash([u8; 16]);

impl From<blake3::Hash> for ContentHash {
    /// Its first half.
    fn from(whole: blake3::Hash) -> Self {
        let mut half = [0; 16];
        half.copy_from_slice(&whole.as_bytes()[..16]);
        Self(half)
    }
}

impl fmt::Display for ContentHash {
    /// As lower-case hex.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A place where a definition names another schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The other schedule.
    pub schedule: ScheduleId,
    /// Where its name stands.
    pub place: Place,
}

/// Where a definition was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The file, as it was named to the parser.
    pub file: Arc<Path>,
    /// The line its definition starts in, from 1.
    pub line: u32,
    /// Where it names other schedules, which can only be looked up when all files are read.
    pub references: Box<[Reference]>,
}

/// When a schedule is due.
#[derive(Debug, Clone, PartialEq)]
pub struct When {
    /// The triggers and their zone. Without a trigger the schedule runs only when somebody asks for it.
    pub rule: Rule,
    /// Each occurrence starts up to this much later, drawn anew each time.
    pub jitter: Duration,
    /// All occurrences start up to this much later, by an amount that stays the same for this schedule on this host.
    pub offset: Duration,
    /// What happens to instants that passed while nobody could act on them.
    pub catch_up: CatchUp,
    /// No instant before this one counts.
    pub not_before: Option<Timestamp>,
    /// No instant after this one counts.
    pub not_after: Option<Timestamp>,
    /// Ranges in which instants are skipped.
    pub blackout: Vec<Blackout>,
}

impl When {
    /// Whether it runs only when somebody asks for it.
    #[must_use]
    pub fn is_manual(&self) -> bool {
        self.rule.triggers.is_empty()
    }
}

/// What happens to instants that passed while the daemon was down, the machine asleep or the clock stepped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatchUp {
    /// Which of them still run.
    pub policy: CatchUpPolicy,
    /// Only those that are no older than this. `None`: however old.
    pub window: Option<Duration>,
    /// At most this many, the newest; at least 1.
    pub max: u32,
}

impl CatchUp {
    /// What `max` is when nobody says.
    pub const DEFAULT_MAX: u32 = 100;
}

impl Default for CatchUp {
    /// The latest missed instant runs, however old it is.
    fn default() -> Self {
        Self { policy: CatchUpPolicy::Latest, window: None, max: Self::DEFAULT_MAX }
    }
}

/// Which missed instants still run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatchUpPolicy {
    /// None of them.
    None,
    /// One run for all of them.
    Latest,
    /// Each of them.
    All,
}

/// A range in which instants are skipped: from `from`, which belongs to it, to `until`, which does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blackout {
    /// The first instant that is skipped.
    pub from: Timestamp,
    /// The first instant that is not skipped any more.
    pub until: Timestamp,
}

impl Blackout {
    /// Whether `instant` is skipped.
    #[must_use]
    pub fn contains(&self, instant: Timestamp) -> bool {
        self.from <= instant && instant < self.until
    }
}

/// How a schedule's jobs are treated.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// How urgent they are.
    pub priority: Priority,
    /// The lane they wait in.
    pub queue: String,
    /// The longest one attempt may take.
    pub timeout: Option<HumanDuration>,
    /// The longest all attempts and the waits between them may take.
    pub total_timeout: Option<HumanDuration>,
    /// What happens when an instant is due while the previous job still runs or waits.
    pub overlap: Overlap,
    /// How often they are tried.
    pub retry: RetryPolicy,
    /// What must hold for an instant to make a job.
    pub requires: Vec<Requirement>,
    /// How long after it should have fired an instant waits for that. `None`: it is skipped at once.
    pub requires_wait: Option<HumanDuration>,
    /// Marks to find them by.
    pub labels: Labels,
    /// At most so many of that key at once, jobs of other schedules included.
    pub concurrency: Option<Concurrency>,
    /// Whether their kind can have a limit of its own.
    pub limited_kind: bool,
    /// Where they run.
    pub node: NodeChoice,
}

/// What happens when an instant is due while the previous job still runs or waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// The instant is skipped.
    #[default]
    Skip,
    /// One job waits for its turn; further instants are skipped.
    QueueOne,
    /// Every job waits for its turn.
    QueueAll,
    /// The previous job is cancelled.
    CancelPrevious,
    /// They run side by side.
    Allow,
}

/// Something that must hold for an instant to make a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// The path exists.
    Path(PathBuf),
    /// A file system is mounted at the path.
    Mounted(PathBuf),
    /// The file system that holds the path has room.
    Free {
        /// Where.
        path: PathBuf,
        /// How much.
        at_least: ByteSize,
    },
    /// A job of another schedule has completed, and not too long ago.
    Fresh {
        /// The other schedule.
        schedule: ScheduleId,
        /// How long ago at the most.
        within: HumanDuration,
    },
}

impl fmt::Display for Requirement {
    /// As in a schedule file, sizes to the byte.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "path:{}", path.display()),
            Self::Mounted(path) => write!(f, "mounted:{}", path.display()),
            Self::Free { path, at_least } => {
                write!(f, "free:{}>={}B", path.display(), at_least.0)
            }
            Self::Fresh { schedule, within } => write!(f, "fresh:{schedule}:{within}"),
        }
    }
}

/// What a schedule file may leave out, from the daemon's settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Defaults {
    /// The zone in which local times are read.
    pub timezone: TimeZone,
    /// See [`Run::priority`].
    pub priority: Priority,
    /// See [`Run::queue`].
    pub queue: String,
    /// See [`Run::timeout`].
    pub timeout: Option<HumanDuration>,
    /// See [`Run::retry`].
    pub retry: RetryPolicy,
    /// See [`When::catch_up`].
    pub catch_up: CatchUp,
}

impl Defaults {
    /// The same under what a kind gives to its jobs.
    #[must_use]
    pub fn under(&self, kind: &JobDefaults) -> Self {
        Self {
            timezone: self.timezone.clone(),
            priority: kind.priority.unwrap_or(self.priority),
            queue: kind.queue.clone().unwrap_or_else(|| self.queue.clone()),
            timeout: kind.timeout.or(self.timeout),
            retry: kind.retry.clone().unwrap_or_else(|| self.retry.clone()),
            catch_up: self.catch_up.clone(),
        }
    }
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            timezone: TimeZone::UTC,
            priority: Priority::default(),
            queue: "default".to_owned(),
            timeout: None,
            retry: RetryPolicy::default(),
            catch_up: CatchUp::default(),
        }
    }
}
