//! What a run says: a line for each thing it deletes, and the machine-readable result.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::history::HistoryCounts;
use super::plan::{Plan, Removal, SAMPLE, Totals};
use super::root::Root;
use super::rules::Reason;
use crate::model::{ByteSize, HumanDuration};

/// The version of the result's shape. Fields may be added without a new one.
const SCHEMA_VERSION: u32 = 1;

/// Remarks on paths: the first hundred, and how many there were.
#[derive(Debug, Clone, Default)]
pub(super) struct Notes {
    first: Vec<Note>,
    total: u64,
}

#[derive(Debug, Clone, Serialize)]
struct Note {
    path: String,
    reason: String,
}

impl Notes {
    pub(super) fn add(&mut self, path: String, reason: String) {
        self.total += 1;
        if self.first.len() < SAMPLE {
            self.first.push(Note { path, reason });
        }
    }

    pub(super) fn extend(&mut self, other: Self) {
        self.total += other.total;
        let room = SAMPLE - self.first.len();
        self.first.extend(other.first.into_iter().take(room));
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// The first of them in a sentence.
    pub(super) fn first(&self) -> Option<String> {
        self.first.first().map(|note| format!("{}: {}", note.path, note.reason))
    }
}

/// The result of a run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    schema_version: u32,
    pub(super) dry_run: bool,
    roots: Vec<RootReport>,
    pub(super) planned: Totals,
    pub(super) deleted: Totals,
    /// The limits that the plan is past.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) exceeded: Vec<String>,
    /// The first of what was planned.
    sample: Vec<Sample>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) history: Option<HistoryReport>,
}

#[derive(Debug, Serialize)]
struct RootReport {
    root: String,
    scanned: u64,
    directories: u64,
    matched: u64,
    kept: u64,
    protected: u64,
    kept_because: BTreeMap<&'static str, u64>,
    kept_sample: Vec<Note>,
}

#[derive(Debug, Serialize)]
struct Sample {
    path: String,
    bytes: u64,
    modified: Timestamp,
    rule: &'static str,
}

/// What became of the daemon's own history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct HistoryReport {
    /// Jobs that may go.
    pub(super) planned: HistoryCounts,
    /// Jobs that went.
    pub(super) deleted: HistoryCounts,
}

impl Report {
    pub(super) fn new(dry_run: bool) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            dry_run,
            roots: Vec::new(),
            planned: Totals::default(),
            deleted: Totals::default(),
            exceeded: Vec::new(),
            sample: Vec::new(),
            history: None,
        }
    }

    /// Adds what is planned below a root.
    pub(super) fn add_plan(&mut self, root: &Root, plan: &Plan) {
        self.planned += plan.totals;
        let note = |(path, reason): &(String, Reason)| Note {
            path: root.path_of(path),
            reason: reason.as_str().to_owned(),
        };
        self.roots.push(RootReport {
            root: root.name.clone(),
            scanned: plan.scanned,
            directories: plan.directories_seen,
            matched: plan.totals.files,
            kept: plan.kept_in_all(),
            protected: plan.protected(),
            kept_because: plan
                .kept
                .iter()
                .map(|(reason, count)| (reason.as_str(), *count))
                .collect(),
            kept_sample: plan.kept_sample.iter().map(note).collect(),
        });
        let room = SAMPLE - self.sample.len();
        self.sample.extend(plan.removals().iter().take(room).map(|removal| Sample {
            path: root.path_of(&plan.display(removal)),
            bytes: removal.metadata.size,
            modified: removal.metadata.stamps.modified,
            rule: removal.because.as_str(),
        }));
    }

    /// The result as it is stored.
    pub(super) fn with_notes(&self, skipped: &Notes, errors: &Notes) -> Value {
        let whole = Noted {
            report: self,
            skipped: &skipped.first,
            skipped_total: skipped.total,
            errors: &errors.first,
            errors_total: errors.total,
        };
        // Every key is a string and every value plain, so this cannot fail.
        serde_json::to_value(whole).unwrap_or(Value::Null)
    }
}

/// A report with what was remarked on the way.
#[derive(Serialize)]
struct Noted<'a> {
    #[serde(flatten)]
    report: &'a Report,
    skipped: &'a [Note],
    skipped_total: u64,
    errors: &'a [Note],
    errors_total: u64,
}

/// A removal on one line: path, size, age, rule.
pub(super) fn describe(root: &Root, path: &str, removal: &Removal, now: Timestamp) -> String {
    let age = now.duration_since(removal.metadata.stamps.modified);
    let age = coarse(Duration::try_from(age).unwrap_or_default());
    let (size, rule) = (ByteSize(removal.metadata.size), removal.because.as_str());
    format!("{} ({size}, {age} old, {rule})", root.path_of(path))
}

/// Without what nobody wants to read: hours for what is days old, seconds for what is minutes old.
fn coarse(age: Duration) -> HumanDuration {
    let seconds = age.as_secs();
    let unit = match seconds {
        0..3600 => 1,
        3600..86_400 => 60,
        _ => 3600,
    };
    HumanDuration::from_secs(seconds - seconds % unit)
}

/// An error with its causes, in one sentence.
pub(super) fn chain(error: impl Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
