//! What a sync is going to do, decided before anything is touched. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::params::{Compare, DeleteRules, Filter, Mode};
use crate::model::ByteSize;

/// One side of a sync as it was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Listing {
    pub(super) entries: BTreeMap<PathBuf, Entry>,
    pub(super) folders: BTreeSet<PathBuf>,
    /// What is there but cannot take part, and why: links that lead out, devices, other file systems. At the
    /// destination nothing of that path or below it is touched.
    pub(super) skipped: BTreeMap<PathBuf, &'static str>,
}

/// A thing in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    File(Facts),
    Link(PathBuf),
}

/// What is known of a file. A web server may leave everything out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) size: Option<u64>,
    pub(super) mtime: Option<Timestamp>,
    pub(super) mode: Option<u32>,
    /// An ETag; at the destination, the one that came with the file and still holds for it.
    pub(super) tag: Option<String>,
    pub(super) digest: Option<blake3::Hash>,
}

/// The decisions for every path of either side that takes part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) steps: BTreeMap<PathBuf, Step>,
    /// What cannot be done, and why. One of these, and nothing is deleted.
    pub(super) conflicts: BTreeMap<PathBuf, &'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) action: Action,
    pub(super) reason: &'static str,
    /// The size of what is transferred or deleted, in bytes, as far as it is known.
    pub(super) bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Action {
    Copy,
    Update,
    Delete,
    Keep,
}

/// What decides.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) mode: Mode,
    pub(super) compare: Compare,
    pub(super) filter: Filter,
    pub(super) compare_mode: bool,
    pub(super) delete_excluded: bool,
}

/// How many steps of one kind, and how many bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

pub(super) fn plan(source: &Listing, destination: &Listing, rules: &Rules) -> Plan {
    let mut plan = Plan::default();
    for (path, entry) in &source.entries {
        if !rules.filter.covers(path) {
            continue;
        }
        if let Some(reason) = conflict(path, destination) {
            plan.conflicts.insert(path.clone(), reason);
            continue;
        }
        let step = transfer(entry, destination.entries.get(path), rules);
        plan.steps.insert(path.clone(), step);
    }
    for (path, entry) in &destination.entries {
        if plan.steps.contains_key(path) {
            continue;
        }
        if let Some(step) = surplus(path, entry, source, rules) {
            plan.steps.insert(path.clone(), step);
        }
    }
    plan
}

/// What at the destination is in the way of a path and must not be replaced or passed through.
fn conflict(path: &Path, destination: &Listing) -> Option<&'static str> {
    if destination.folders.contains(path) {
        return Some("a directory is in its place at the destination");
    }
    let parents = || path.ancestors().skip(1);
    if path.ancestors().any(|part| destination.skipped.contains_key(part)) {
        return Some("something that is not ours to touch is in its place at the destination");
    }
    if parents().any(|parent| destination.entries.contains_key(parent)) {
        return Some("a file or link is in the place of its directory at the destination");
    }
    None
}

fn transfer(source: &Entry, destination: Option<&Entry>, rules: &Rules) -> Step {
    let bytes = match source {
        Entry::File(facts) => facts.size.unwrap_or(0),
        Entry::Link(_) => 0,
    };
    let Some(destination) = destination else {
        return Step { action: Action::Copy, reason: "new", bytes };
    };
    let keep = |reason| Step { action: Action::Keep, reason, bytes: 0 };
    let Some(reason) = difference(source, destination, rules) else { return keep("same") };
    if rules.mode == Mode::Update && !is_newer(source, destination) {
        return keep("not older than the source");
    }
    Step { action: Action::Update, reason, bytes }
}

fn difference(source: &Entry, destination: &Entry, rules: &Rules) -> Option<&'static str> {
    match (source, destination) {
        (Entry::File(source), Entry::File(destination)) => {
            file_difference(source, destination, rules)
        }
        (Entry::Link(source), Entry::Link(destination)) => {
            (source != destination).then_some("the link leads elsewhere")
        }
        (Entry::File(_), Entry::Link(_)) => Some("a file instead of a link"),
        (Entry::Link(_), Entry::File(_)) => Some("a link instead of a file"),
    }
}

fn file_difference(source: &Facts, destination: &Facts, rules: &Rules) -> Option<&'static str> {
    if source.size.is_some() && source.size != destination.size {
        return Some("the size differs");
    }
    let content = match rules.compare {
        Compare::SizeAndMtime => match source.mtime {
            None => Some("the source does not tell its age"),
            mtime => (mtime != destination.mtime).then_some("the time differs"),
        },
        Compare::Checksum => (source.digest.is_none() || source.digest != destination.digest)
            .then_some("the content differs"),
        Compare::Etag => match &source.tag {
            None => Some("the server gives no ETag"),
            tag => (*tag != destination.tag).then_some("the ETag is new"),
        },
    };
    let mode = || {
        (rules.compare_mode && source.mode.is_some() && source.mode != destination.mode)
            .then_some("the permissions differ")
    };
    content.or_else(mode)
}

/// Links have no age: one is never newer than what it would replace. A file of unknown age is not newer either.
fn is_newer(source: &Entry, destination: &Entry) -> bool {
    match (source, destination) {
        (Entry::File(source), Entry::File(destination)) => {
            source.mtime.is_some() && source.mtime > destination.mtime
        }
        _ => false,
    }
}

/// What happens to a path that only the destination has. `None` where it takes no part.
fn surplus(path: &Path, entry: &Entry, source: &Listing, rules: &Rules) -> Option<Step> {
    if rules.mode != Mode::Mirror || is_held(path, source) {
        return None;
    }
    if !rules.filter.covers(path) && !rules.delete_excluded {
        return None;
    }
    let bytes = match entry {
        Entry::File(facts) => facts.size.unwrap_or(0),
        Entry::Link(_) => 0,
    };
    let reason =
        if rules.filter.covers(path) { "not in the source" } else { "excluded from the sync" };
    Some(Step { action: Action::Delete, reason, bytes })
}

/// Whether the source has something there that could not be listed. That it is absent from the listing proves nothing.
fn is_held(path: &Path, source: &Listing) -> bool {
    path.ancestors().any(|part| source.skipped.contains_key(part))
}

impl Plan {
    pub(super) fn count(&self, action: Action) -> Count {
        self.steps.values().filter(|step| step.action == action).fold(
            Count::default(),
            |count, step| Count {
                files: count.files + 1,
                bytes: count.bytes.saturating_add(step.bytes),
            },
        )
    }

    pub(super) fn of(&self, action: Action) -> impl Iterator<Item = &Path> {
        let steps = self.steps.iter().filter(move |(_path, step)| step.action == action);
        steps.map(|(path, _step)| path.as_path())
    }

    /// What is copied or replaced.
    pub(super) fn transfers(&self) -> Count {
        let (copy, update) = (self.count(Action::Copy), self.count(Action::Update));
        Count { files: copy.files + update.files, bytes: copy.bytes.saturating_add(update.bytes) }
    }

    /// Why the plan goes too far, if it does. `at_destination` is the number of files and links there.
    pub(super) fn exceeds(
        &self,
        rules: &DeleteRules,
        max_bytes: Option<ByteSize>,
        at_destination: usize,
    ) -> Option<String> {
        let deletes = self.count(Action::Delete).files;
        if let Some(max) = rules.max_files.filter(|max| deletes > *max) {
            return Some(format!(
                "{deletes} files would be deleted, and `delete.max_files` is {max}"
            ));
        }
        let fraction = deletes as f64 / at_destination.max(1) as f64;
        if fraction > rules.max_fraction {
            return Some(format!(
                "{deletes} of {at_destination} files would be deleted, and `delete.max_fraction` is {}",
                rules.max_fraction
            ));
        }
        let bytes = self.transfers().bytes;
        let max = max_bytes.filter(|max| bytes > max.0)?;
        Some(format!("{} would be transferred, and `max_bytes` is {max}", ByteSize(bytes)))
    }
}

#[cfg(test)]
mod tests;
