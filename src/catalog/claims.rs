//! What of the files counts beside the others. Who gets an id that several files define: the one that has it, or else the one that is loaded first. Never the last one.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

use super::next::owners;
use super::references::circle;
use super::snapshot::{Catalog, LoadedFile};
use crate::model::ScheduleId;
use crate::schedule::{Code, Diagnostic, Schedule, Severity};

type Files = BTreeMap<OsString, Arc<LoadedFile>>;

/// Decides for every file which definitions count, and says so in the files.
///
/// A file that claims an id of another one is refused as a whole, as with any other error, and its last good definitions stay.
pub(super) fn settle(
    previous: &Catalog,
    mut files: Files,
    order: &[PathBuf],
    now: Timestamp,
) -> Files {
    let before = owners(previous);
    let position = |file: &LoadedFile| order.iter().position(|path| **path == *file.directory);
    let mut sequence: Vec<(&OsString, &Arc<LoadedFile>)> = files.iter().collect();
    sequence.sort_by_key(|(name, file)| (position(file), *name));

    let mut claims = Claims { files: &files, before, taken: HashMap::new() };
    // What is in force without question goes first: nothing that changed can take it away.
    for (name, file) in &sequence {
        if !is_changed(file) {
            claims.take(name, &file.in_force);
        }
    }
    let decided: Vec<(OsString, Standing)> = sequence
        .into_iter()
        .filter_map(|(name, file)| Some((name.clone(), claims.decide(name, file, now)?)))
        .collect();
    for (name, standing) in decided {
        if let Some(file) = files.get_mut(&name) {
            // A file that was just read belongs to nobody else yet, so this copies only those of the previous snapshot.
            let file = Arc::make_mut(file);
            file.conflicts = standing.conflicts;
            file.in_force = standing.in_force;
            file.broken_since = standing.broken_since;
        }
    }
    files
}

/// What of a file counts from now on.
struct Standing {
    conflicts: Vec<Diagnostic>,
    in_force: Vec<Arc<Schedule>>,
    broken_since: Option<Timestamp>,
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

    /// None: all of it stays as it is.
    fn decide(&mut self, name: &OsStr, file: &LoadedFile, now: Timestamp) -> Option<Standing> {
        let Some(defined) = file.defined.as_ref().filter(|_| is_changed(file)) else {
            return stay(file, now);
        };
        let duplicates = defined.iter().filter_map(|schedule| {
            Some(conflict(file, schedule, &*self.owner(name, &schedule.id)?))
        });
        let conflicts: Vec<Diagnostic> = duplicates.chain(self.circles(defined)).collect();
        let standing = if conflicts.is_empty() {
            Standing { conflicts, in_force: defined.clone(), broken_since: None }
        } else {
            // An id of an earlier version may have gone to another file in the meantime, or its way round may be closed by one.
            let mut in_force = file.in_force.clone();
            in_force.retain(|schedule| self.owner(name, &schedule.id).is_none());
            let closes_a_circle = |schedule: &Arc<Schedule>| {
                circle(schedule, |id| self.taken.get(id).map(|(_, taken)| &**taken)).is_some()
            };
            in_force.retain(|schedule| !closes_a_circle(schedule));
            Standing { conflicts, in_force, broken_since: Some(file.broken_since.unwrap_or(now)) }
        };
        self.take(name, &standing.in_force);
        Some(standing)
    }

    /// The circles that these definitions would close with those that count already, and among themselves. Those that come later are not
    /// looked at, so of files that change together only the one that closes a circle is refused.
    fn circles(&self, defined: &[Arc<Schedule>]) -> Vec<Diagnostic> {
        let names_others = |schedule: &&Arc<Schedule>| !schedule.source.references.is_empty();
        if !defined.iter().any(|schedule| names_others(&schedule)) {
            return Vec::new();
        }
        let own: HashMap<&ScheduleId, &Schedule> =
            defined.iter().map(|schedule| (&schedule.id, &**schedule)).collect();
        let find = |id: &ScheduleId| {
            let taken = || self.taken.get(id).map(|(_, taken)| &**taken);
            own.get(id).copied().or_else(taken)
        };
        let found = defined.iter().filter(names_others);
        found.filter_map(|schedule| circle(schedule, find)).collect()
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

/// A file whose definitions are in force already, or that is broken by itself.
fn stay(file: &LoadedFile, now: Timestamp) -> Option<Standing> {
    let broken_since = match &file.defined {
        Some(_) => None,
        None => Some(file.broken_since.unwrap_or(now)),
    };
    if file.broken_since == broken_since && file.conflicts.is_empty() {
        return None;
    }
    Some(Standing { conflicts: Vec::new(), in_force: file.in_force.clone(), broken_since })
}

fn conflict(file: &LoadedFile, schedule: &Schedule, owner: &Schedule) -> Diagnostic {
    let message = format!(
        "`{}` (line {}) is already defined in {}:{}, which stays in force",
        schedule.id,
        schedule.source.line,
        owner.source.file.display(),
        owner.source.line,
    );
    Diagnostic::about(&*file.path, Severity::Error, Code::DuplicateId, message)
        .with_help("give one of the two another name")
}
