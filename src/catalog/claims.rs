//! Who gets an id that several files define: the one that has it, or else the one that is loaded first. Never the last one.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

use super::next::owners;
use super::snapshot::{Catalog, LoadedFile};
use crate::model::ScheduleId;
use crate::schedule::{Code, Diagnostic, Schedule, Severity};

type Files = BTreeMap<OsString, Arc<LoadedFile>>;

/// Decides for every file which definitions count, and says so in the files.
///
/// A file that claims an id of another one is refused as a whole, as with any other error, and its last good definitions stay.
pub(super) fn settle(
    previous: &Catalog,
    files: &Files,
    order: &[PathBuf],
    now: Timestamp,
) -> Files {
    let before = owners(previous);
    let position = |file: &LoadedFile| order.iter().position(|path| *path == file.directory);
    let mut sequence: Vec<(&OsString, &Arc<LoadedFile>)> = files.iter().collect();
    sequence.sort_by_key(|(name, file)| (position(file), *name));

    let mut claims = Claims { files, before, taken: HashMap::new() };
    // What is in force without question goes first: nothing that changed can take it away.
    for (name, file) in &sequence {
        if !is_changed(file) {
            claims.take(name, &file.in_force);
        }
    }
    let mut settled: Files = BTreeMap::new();
    for (name, file) in sequence {
        settled.insert(name.clone(), claims.decide(name, file, now));
    }
    settled
}

/// Whether the file defines something else than what counts so far.
fn is_changed(file: &LoadedFile) -> bool {
    file.defined.as_ref().is_some_and(|defined| !is_same(defined, &file.in_force))
}

fn is_same(one: &[Arc<Schedule>], other: &[Arc<Schedule>]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| Arc::ptr_eq(one, other))
}

struct Claims<'a> {
    files: &'a Files,
    /// Which file had an id in the previous snapshot.
    before: HashMap<&'a ScheduleId, &'a OsString>,
    taken: HashMap<ScheduleId, (OsString, Arc<Schedule>)>,
}

impl Claims<'_> {
    fn take(&mut self, name: &OsStr, schedules: &[Arc<Schedule>]) {
        for schedule in schedules {
            let owner = (name.to_owned(), Arc::clone(schedule));
            self.taken.entry(schedule.id.clone()).or_insert(owner);
        }
    }

    fn decide(&mut self, name: &OsStr, file: &Arc<LoadedFile>, now: Timestamp) -> Arc<LoadedFile> {
        let Some(defined) = file.defined.as_ref().filter(|_| is_changed(file)) else {
            return self.stay(file, now);
        };
        let conflicts: Vec<Diagnostic> = defined
            .iter()
            .filter_map(|schedule| {
                Some(conflict(file, schedule, &*self.owner(name, &schedule.id)?))
            })
            .collect();
        let mut settled = LoadedFile::clone(file);
        if conflicts.is_empty() {
            settled.in_force = defined.clone();
            settled.broken_since = None;
        } else {
            // An id of an earlier version may have gone to another file in the meantime.
            settled.in_force.retain(|schedule| self.owner(name, &schedule.id).is_none());
            settled.broken_since = Some(file.broken_since.unwrap_or(now));
        }
        settled.conflicts = conflicts;
        self.take(name, &settled.in_force);
        Arc::new(settled)
    }

    /// A file whose definitions are in force already, or that is broken by itself.
    fn stay(&self, file: &Arc<LoadedFile>, now: Timestamp) -> Arc<LoadedFile> {
        let broken_since = match &file.defined {
            Some(_) => None,
            None => Some(file.broken_since.unwrap_or(now)),
        };
        if file.broken_since == broken_since && file.conflicts.is_empty() {
            return Arc::clone(file);
        }
        let conflicts = Vec::new();
        Arc::new(LoadedFile { broken_since, conflicts, ..LoadedFile::clone(file) })
    }

    /// The definition of `id` in another file than `name` that comes before it.
    fn owner(&self, name: &OsStr, id: &ScheduleId) -> Option<Arc<Schedule>> {
        if let Some((owner, schedule)) = self.taken.get(id) {
            return (owner != name).then(|| Arc::clone(schedule));
        }
        // Not taken yet, but by right of the one that had it and defines it still.
        let owner = self.before.get(id).filter(|owner| **owner != name)?;
        let still_defined = self.files.get(*owner)?.defined.as_ref()?;
        still_defined.iter().find(|schedule| schedule.id == *id).map(Arc::clone)
    }
}

fn conflict(file: &LoadedFile, schedule: &Schedule, owner: &Schedule) -> Diagnostic {
    let message = format!(
        "`{}` (line {}) is already defined in {}:{}, which stays in force",
        schedule.id,
        schedule.source.line,
        owner.source.file.display(),
        owner.source.line,
    );
    Diagnostic::about(&file.path, Severity::Error, Code::DuplicateId, message)
        .with_help("give one of the two another name")
}
