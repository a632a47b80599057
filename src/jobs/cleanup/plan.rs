//! What a run would delete, put together while a tree is walked and without touching it. Pure.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use jiff::Timestamp;

use super::params::Limits;
use super::rules::{Because, Reason, Rules, Verdict, join};
use crate::jobs::ports::files::{Entry, EntryKind, Identity, Metadata, readable};

/// What one root loses, in the order of the walk: what is in a directory comes before the directory.
#[derive(Debug, Default)]
pub(super) struct Plan {
    directories: Vec<PlannedDirectory>,
    removals: Vec<Removal>,
    /// What is planned.
    pub(super) totals: Totals,
    /// Files, links and the like that were seen, whatever became of them.
    pub(super) scanned: u64,
    /// Directories that were seen.
    pub(super) directories_seen: u64,
    /// What stays, by reason.
    pub(super) kept: BTreeMap<Reason, u64>,
    /// The first of what would have been deleted but for `protect` or `keep`.
    pub(super) kept_sample: Vec<(String, Reason)>,
}

/// An amount of things to delete, or deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub(super) struct Totals {
    /// Files and symbolic links.
    pub(super) files: u64,
    /// Their lengths in all.
    pub(super) bytes: u64,
    /// Directories.
    pub(super) dirs: u64,
}

/// One thing to delete.
#[derive(Debug)]
pub(super) struct Removal {
    /// Where it is; `None` is the root.
    pub(super) directory: Option<DirectoryId>,
    pub(super) name: OsString,
    /// What it was when it was planned.
    pub(super) metadata: Metadata,
    pub(super) because: Because,
}

/// A directory of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DirectoryId(usize);

/// Directories form a tree of names: a path for each would be square in the depth.
#[derive(Debug)]
pub(super) struct PlannedDirectory {
    pub(super) parent: Option<DirectoryId>,
    pub(super) name: OsString,
    pub(super) identity: Identity,
    /// Steps from the root, at least 1.
    pub(super) depth: usize,
}

/// How many entries a sample in a result has at most.
pub(super) const SAMPLE: usize = 100;

/// How many names of a path are shown: what is deeper would cost its depth for each thing in it.
const MOST_NAMES_SHOWN: usize = 200;

impl Plan {
    pub(super) fn removals(&self) -> &[Removal] {
        &self.removals
    }

    pub(super) fn directory(&self, id: DirectoryId) -> &PlannedDirectory {
        &self.directories[id.0]
    }

    /// A removal's path from the root, for people. Of a path of very many names it is the last ones.
    pub(super) fn display(&self, removal: &Removal) -> String {
        let mut names: Vec<&[u8]> = vec![removal.name.as_bytes()];
        let mut next = removal.directory.map(|id| self.directory(id));
        while let Some(directory) = next {
            if names.len() == MOST_NAMES_SHOWN {
                names.push("…".as_bytes());
                break;
            }
            names.push(directory.name.as_bytes());
            next = directory.parent.map(|id| self.directory(id));
        }
        names.reverse();
        readable(&names.join(&b'/'))
    }

    pub(super) fn kept_in_all(&self) -> u64 {
        self.kept.values().sum()
    }

    pub(super) fn protected(&self) -> u64 {
        self.kept.iter().filter(|(reason, _)| reason.is_protection()).map(|(_, count)| count).sum()
    }

    fn keep(&mut self, path: &[u8], reason: Reason) {
        *self.kept.entry(reason).or_default() += 1;
        let is_telling = matches!(reason, Reason::Protected | Reason::KeptBy(_));
        if is_telling && self.kept_sample.len() < SAMPLE {
            self.kept_sample.push((readable(path), reason));
        }
    }
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.files += other.files;
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.dirs += other.dirs;
    }
}

impl Removal {
    pub(super) fn totals(&self) -> Totals {
        match self.metadata.kind {
            EntryKind::Directory => Totals { dirs: 1, ..Totals::default() },
            _ => Totals { files: 1, bytes: self.metadata.size, dirs: 0 },
        }
    }
}

/// Every limit that the plans are past, in words; nothing may be deleted when there is one.
pub(super) fn exceeded<'a>(
    limits: &Limits,
    plans: impl Iterator<Item = (&'a str, &'a Plan)>,
) -> Vec<String> {
    let mut found = Vec::new();
    let mut sum = Totals::default();
    for (root, plan) in plans {
        sum += plan.totals;
        let (planned, seen) = (plan.totals.files, plan.scanned);
        // Both are far below 2^53, where floating point is exact.
        let share = planned as f64 / seen.max(1) as f64;
        if let Some(most) = limits.max_fraction.filter(|most| share > *most) {
            found.push(format!(
                "max_fraction: {planned} of {seen} files below {root} match ({share:.3}, limit {most})"
            ));
        }
    }
    for (amount, what) in [(sum.files, "files"), (sum.dirs, "directories")] {
        if amount > limits.max_files {
            found.push(format!("max_files: {amount} {what} match (limit {})", limits.max_files));
        }
    }
    if let Some(most) = limits.max_bytes.filter(|most| sum.bytes > most.0) {
        found.push(format!("max_bytes: {} bytes match (limit {})", sum.bytes, most.0));
    }
    found
}

/// Puts a plan together from what a walk sees, directory by directory and depth first.
///
/// Only what is to be deleted is remembered, and of that no more than `limits.max_files`, past which the plan is refused
/// anyway; what stays is counted. So a tree of millions costs no more memory than its largest directory.
#[derive(Debug)]
pub(super) struct Planner<'rules> {
    rules: &'rules Rules,
    now: Timestamp,
    most_files: u64,
    plan: Plan,
    frames: Vec<Frame>,
    /// The path of the current directory.
    path: Vec<u8>,
}

/// A directory that is being walked.
#[derive(Debug)]
struct Frame {
    entry: Entry,
    /// Length of the parent's path.
    parent_path: usize,
    /// Set once something in it is planned.
    id: Option<DirectoryId>,
    stay: u64,
    go: u64,
}

impl<'rules> Planner<'rules> {
    pub(super) fn new(rules: &'rules Rules, now: Timestamp, most_files: u64) -> Self {
        Self { rules, now, most_files, plan: Plan::default(), frames: Vec::new(), path: Vec::new() }
    }

    /// The path of the directory the walk is in.
    pub(super) fn path(&self) -> &[u8] {
        &self.path
    }

    /// How much was looked at by now.
    pub(super) fn seen(&self) -> u64 {
        self.plan.scanned + self.plan.directories_seen
    }

    /// Judges what the current directory holds, and returns the directories in it to walk.
    pub(super) fn list(&mut self, entries: Vec<Entry>) -> Vec<Entry> {
        let is_directory = |entry: &Entry| entry.metadata.kind == EntryKind::Directory;
        let (directories, files): (Vec<Entry>, Vec<Entry>) =
            entries.into_iter().partition(is_directory);
        let verdicts = self.rules.judge(&self.path, &files, self.now);
        self.plan.scanned += files.len() as u64;
        for (file, verdict) in files.into_iter().zip(verdicts) {
            match verdict {
                Verdict::Delete(because) => self.remove(file, because),
                Verdict::Keep(reason) => self.stay(&join(&self.path, &file.name), reason),
            }
        }
        let mut to_walk = Vec::new();
        for directory in directories {
            self.plan.directories_seen += 1;
            let path = join(&self.path, &directory.name);
            match self.rules.shuts_out(&path, &directory) {
                Some(reason) => self.stay(&path, reason),
                None => to_walk.push(directory),
            }
        }
        to_walk
    }

    /// Something is left in the current directory that was not listed.
    pub(super) fn stay_unlisted(&mut self, reason: Reason) {
        let path = self.path.clone();
        self.stay(&path, reason);
    }

    /// A directory that [`Self::list`] returned stays as it is.
    pub(super) fn stay_unwalked(&mut self, directory: &Entry, reason: Reason) {
        let path = join(&self.path, &directory.name);
        self.stay(&path, reason);
    }

    /// Goes into a directory that [`Self::list`] returned.
    pub(super) fn enter(&mut self, directory: Entry) {
        let parent_path = self.path.len();
        self.path = join(&self.path, &directory.name);
        self.frames.push(Frame { entry: directory, parent_path, id: None, stay: 0, go: 0 });
    }

    /// Goes back up, and removes the directory if nothing is left in it.
    pub(super) fn leave(&mut self) {
        let Some(frame) = self.frames.pop() else { return };
        let is_empty = frame.stay == 0;
        let goes = is_empty
            && self.rules.removes_empty(&self.path, &frame.entry.metadata, frame.go > 0, self.now);
        self.path.truncate(frame.parent_path);
        if goes {
            self.remove(frame.entry, Because::EmptyDirectory);
        } else if let Some(parent) = self.frames.last_mut() {
            parent.stay += 1;
        }
    }

    /// The plan, when everything was walked.
    pub(super) fn finish(self) -> Plan {
        self.plan
    }

    fn stay(&mut self, path: &[u8], reason: Reason) {
        self.plan.keep(path, reason);
        if let Some(frame) = self.frames.last_mut() {
            frame.stay += 1;
        }
    }

    fn remove(&mut self, entry: Entry, because: Because) {
        if let Some(frame) = self.frames.last_mut() {
            frame.go += 1;
        }
        let mut removal =
            Removal { directory: None, name: entry.name, metadata: entry.metadata, because };
        self.plan.totals += removal.totals();
        let totals = self.plan.totals;
        if totals.files <= self.most_files && totals.dirs <= self.most_files {
            removal.directory = self.current();
            self.plan.removals.push(removal);
        }
    }

    /// The current directory in the plan, which learns of it and the directories above it now.
    fn current(&mut self) -> Option<DirectoryId> {
        let known = self.frames.iter().rposition(|frame| frame.id.is_some());
        let mut parent = known.and_then(|index| self.frames[index].id);
        for (index, frame) in
            self.frames.iter_mut().enumerate().skip(known.map_or(0, |index| index + 1))
        {
            let id = DirectoryId(self.plan.directories.len());
            self.plan.directories.push(PlannedDirectory {
                parent,
                name: frame.entry.name.clone(),
                identity: frame.entry.metadata.identity,
                depth: index + 1,
            });
            frame.id = Some(id);
            parent = Some(id);
        }
        parent
    }
}
