//! The immutable set of schedules that is in force, and all that is known about the files it came from.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::kinds::KindSet;
use super::scan::{ContentHash, Identity, Known};
use super::stamp::Stamp;
use crate::jobs::{KINDS, Kind};
use crate::model::{Revision, ScheduleId};
use crate::schedule::{Code, Diagnostic, Schedule};

/// A snapshot of all schedules. It never changes; a reload makes another one.
#[derive(Debug, Clone)]
pub struct Catalog {
    /// Every schedule that is in force, stale ones included.
    pub schedules: BTreeMap<ScheduleId, Arc<Schedule>>,
    /// Those that run on an earlier definition because the file's present text cannot be used.
    pub stale: BTreeMap<ScheduleId, Broken>,
    /// Files that cannot be used and have no earlier definition to fall back on.
    pub invalid: BTreeMap<PathBuf, Broken>,
    /// Everything that is wrong with the present files, directories first, then file by file.
    pub diagnostics: Vec<Diagnostic>,
    /// Files that were passed over because of their names.
    pub ignored: Vec<PathBuf>,
    /// Content hash of the schedules in force.
    pub revision: Revision,
    /// When the directories were read.
    pub loaded_at: Timestamp,
    /// By file name, which is what a later directory overrides.
    pub(super) files: BTreeMap<OsString, Arc<LoadedFile>>,
    pub(super) directories: BTreeMap<PathBuf, DirectoryState>,
    pub(super) kinds: KindSet,
}

/// Why and since when a file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// Its first error.
    pub error: Diagnostic,
    /// When it was first seen like that.
    pub since: Timestamp,
}

impl Catalog {
    /// What is in force before anything was read.
    #[must_use]
    pub fn empty() -> Self {
        let (schedules, kinds) = (BTreeMap::new(), KindSet::built_in(KINDS));
        Self {
            revision: revision(&schedules, &kinds),
            schedules,
            stale: BTreeMap::new(),
            invalid: BTreeMap::new(),
            diagnostics: Vec::new(),
            ignored: Vec::new(),
            loaded_at: Timestamp::UNIX_EPOCH,
            files: BTreeMap::new(),
            directories: BTreeMap::new(),
            kinds,
        }
    }

    /// The schedule of that name.
    #[must_use]
    pub fn get(&self, id: &ScheduleId) -> Option<&Arc<Schedule>> {
        self.schedules.get(id)
    }

    /// The files that were read, in the order of their names.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.values().map(|file| &*file.path)
    }

    /// Whether every file and directory could be used.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        !self.diagnostics.iter().any(Diagnostic::is_error)
    }

    /// What is wrong with directories whose schedules or kinds stay in force although they are gone, unreadable or suddenly empty.
    pub fn lost_directories(&self) -> impl Iterator<Item = &Diagnostic> {
        let is_lost = |found: &&Diagnostic| found.code == Code::DirectoryLost && found.is_error();
        self.diagnostics.iter().filter(is_lost)
    }

    /// The files of kinds that cannot be used: what each declared last, which stays in force, and its first error.
    pub fn broken_kinds(&self) -> impl Iterator<Item = (Option<&Kind>, &Diagnostic)> {
        self.kinds.broken()
    }

    /// Every kind that a job can be of.
    #[must_use]
    pub fn kinds(&self) -> &[Kind] {
        &self.kinds.all
    }

    /// The same, with those files to be read again.
    pub(super) fn without_what_is_known_of(&self, files: &[OsString]) -> Self {
        let mut forgetful = self.clone();
        for name in files {
            if let Some(file) = forgetful.files.get_mut(name) {
                let unread = LoadedFile { stamp: None, hash: None, ..LoadedFile::clone(file) };
                *file = Arc::new(unread);
            }
        }
        forgetful
    }

    /// What need not be read again.
    pub(super) fn known(&self) -> Known<'_> {
        let files = self.files.values();
        files.filter_map(|file| Some((&*file.path, file.stamp?))).collect()
    }
}

/// What is known of one file.
#[derive(Debug, Clone)]
pub(super) struct LoadedFile {
    pub(super) path: Arc<Path>,
    pub(super) directory: Arc<Path>,
    /// Of the present content; none when it could not be read.
    pub(super) stamp: Option<Stamp>,
    pub(super) hash: Option<ContentHash>,
    /// What the present content defines; none when it has an error.
    pub(super) defined: Option<Vec<Arc<Schedule>>>,
    /// What is odd about the file rather than its content: who may write it.
    pub(super) access: Vec<Diagnostic>,
    /// What is wrong with the present content taken by itself.
    pub(super) diagnostics: Vec<Diagnostic>,
    /// What is wrong with it beside the other files: ids that are taken.
    pub(super) conflicts: Vec<Diagnostic>,
    /// The definitions that count: the present ones, or the last good ones.
    pub(super) in_force: Vec<Arc<Schedule>>,
    /// Since when the definitions that count are not the present ones.
    pub(super) broken_since: Option<Timestamp>,
}

impl LoadedFile {
    /// Itself in memory of its own, definitions included.
    pub(super) fn copied(&self) -> Self {
        let anew = |schedules: &Vec<Arc<Schedule>>| {
            schedules.iter().map(|schedule| Arc::new(Schedule::clone(schedule))).collect()
        };
        Self { defined: self.defined.as_ref().map(anew), ..self.clone() }
    }

    pub(super) fn first_error(&self) -> Option<&Diagnostic> {
        self.diagnostics.iter().chain(&self.conflicts).find(|found| found.is_error())
    }
}

/// What is remembered of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DirectoryState {
    /// The directory that its files were last read from.
    pub(super) identity: Option<Identity>,
    /// Whether it was gone, unreadable or replaced by an empty one when it was last looked at.
    pub(super) is_lost: bool,
}

/// The content hash of a set of schedules and of the kinds that files declare.
pub(super) fn revision(
    schedules: &BTreeMap<ScheduleId, Arc<Schedule>>,
    kinds: &KindSet,
) -> Revision {
    let mut hasher = blake3::Hasher::new();
    for (id, schedule) in schedules {
        hasher.update(format!("{id}\n{}\n", schedule.hash).as_bytes());
    }
    for (name, declared) in kinds.declared() {
        hasher.update(format!("[{name}]\n{}\n", declared.hash).as_bytes());
    }
    Revision(hasher.finalize().to_hex()[..32].to_owned())
}
