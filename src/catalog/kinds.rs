//! The kinds that are in force: those of the program, and those that files declare.
//!
//! The rules are those of schedules: a file that breaks keeps the kind that it declared last, and a directory that is gone, cannot be
//! read or is empty all at once keeps all of its kinds. There are few such files, so all of them are read each time.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::scan::{Content, DirectoryScan, Listing, ScannedFile};
use crate::jobs::{Declared, Kind};
use crate::schedule::{Code, Diagnostic, Severity, parse_kind};

/// All kinds, and what is known of the files that declare some of them.
#[derive(Debug, Clone)]
pub(super) struct KindSet {
    /// Every kind that a job can be of.
    pub(super) all: Arc<[Kind]>,
    /// By file name, which is what a later directory overrides.
    files: BTreeMap<OsString, KindFile>,
    /// Everything that is wrong with the files and their directories.
    pub(super) diagnostics: Vec<Diagnostic>,
}

#[derive(Debug, Clone)]
struct KindFile {
    directory: Arc<Path>,
    /// What counts: what the file says now, or said when it last could be used.
    in_force: Option<Kind>,
    diagnostics: Vec<Diagnostic>,
}

impl KindSet {
    /// Those of the program alone.
    pub(super) fn built_in(kinds: &[Kind]) -> Self {
        Self { all: kinds.into(), files: BTreeMap::new(), diagnostics: Vec::new() }
    }

    /// The set that follows this one when `directories` is what is on disk.
    pub(super) fn next(&self, built_in: &[Kind], directories: Vec<DirectoryScan>) -> Self {
        let mut files = BTreeMap::new();
        let mut diagnostics = Vec::new();
        for DirectoryScan { path, listing } in directories {
            let directory: Arc<Path> = path.into();
            let before = self.files.iter().filter(|(_, file)| file.directory == directory);
            let had = before.clone().count();
            let lost = match listing {
                Listing::Entries(entries) if had > 1 && entries.files.is_empty() => {
                    Some(format!("all {had} files of this directory are gone at once"))
                }
                Listing::Entries(entries) => {
                    diagnostics.extend(entries.diagnostics);
                    for file in entries.files {
                        self.read(&directory, file, &mut files);
                    }
                    None
                }
                // Nobody has to declare kinds.
                Listing::Missing if had == 0 => None,
                Listing::Missing => Some("this directory of kinds is not there".to_owned()),
                Listing::Unreadable(error) => {
                    Some(format!("this directory of kinds cannot be read: {error}"))
                }
            };
            if let Some(message) = lost {
                diagnostics.push(
                    Diagnostic::about(&*directory, Severity::Error, Code::DirectoryLost, message)
                        .with_help("what was read from it stays in force; bring it back, or restart the daemon if its kinds should go"),
                );
                files.extend(before.map(|(name, file)| (name.clone(), file.clone())));
            }
        }
        diagnostics.extend(files.values().flat_map(|file| file.diagnostics.clone()));
        let declared = files.values().filter_map(|file| file.in_force.clone());
        Self { all: built_in.iter().cloned().chain(declared).collect(), files, diagnostics }
    }

    fn read(
        &self,
        directory: &Arc<Path>,
        file: ScannedFile,
        files: &mut BTreeMap<OsString, KindFile>,
    ) {
        let before = self.files.get(&file.name).and_then(|before| before.in_force.clone());
        let (in_force, diagnostics) = match file.content {
            Content::Masked => {
                files.remove(&file.name);
                return;
            }
            Content::Refused(diagnostic) => (before, vec![diagnostic]),
            // Never: nothing is known of them when they are looked at.
            Content::Same => (before, Vec::new()),
            Content::Text { text, mut warnings, .. } => {
                let parsed = parse_kind(&file.path.into(), &text);
                warnings.extend(parsed.diagnostics);
                (parsed.kind.or(before), warnings)
            }
        };
        let directory = Arc::clone(directory);
        files.insert(file.name, KindFile { directory, in_force, diagnostics });
    }

    /// Those of files that cannot be used: what each declared last and still does, and its first error.
    pub(super) fn broken(&self) -> impl Iterator<Item = (Option<&Kind>, &Diagnostic)> {
        self.files.values().filter_map(|file| {
            let error = file.diagnostics.iter().find(|found| found.is_error())?;
            Some((file.in_force.as_ref(), error))
        })
    }

    /// What files declare, by name.
    pub(super) fn declared(&self) -> impl Iterator<Item = (&str, &Arc<Declared>)> {
        self.all.iter().filter_map(|kind| Some((&*kind.name, kind.declared()?)))
    }

    /// The files that were read.
    pub(super) fn files(&self) -> impl Iterator<Item = PathBuf> {
        self.files.iter().map(|(name, file)| file.directory.join(name))
    }

    /// Whether jobs can be of the same kinds in both, and these are the same.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let facts = |set: &Self| -> Vec<(String, blake3::Hash)> {
            set.declared().map(|(name, declared)| (name.to_owned(), declared.hash)).collect()
        };
        facts(self) == facts(other)
    }
}
