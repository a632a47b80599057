//! Checking files without a daemon: what `sexton validate` does.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::kinds::KindSet;
use super::next::Reading;
use super::scan::{DirectoryScan, Entries, Identity, Known, Listing, Scan, scan, scan_file};
use super::snapshot::Catalog;
use crate::schedule::{Code, Diagnostic, Schedule};

/// What is to be said about some files and directories.
#[derive(Debug, Clone)]
pub struct CheckReport {
    /// The files that were read.
    pub files: Vec<PathBuf>,
    /// Files in the directories that were passed over because of their names.
    pub ignored: Vec<PathBuf>,
    /// What the files define, by id.
    pub schedules: Vec<Arc<Schedule>>,
    /// Everything that is wrong with them.
    pub diagnostics: Vec<Diagnostic>,
}

impl CheckReport {
    /// Whether everything could be used.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        !self.diagnostics.iter().any(Diagnostic::is_error)
    }
}

/// What a daemon that starts now would load from directories and single files.
#[must_use]
pub fn look(paths: &[PathBuf], reading: &Reading, now: Timestamp) -> Catalog {
    let scan = sight(paths, now);
    super::next::look(&Catalog::empty(), |_nothing_known| scan, reading, now)
}

/// Reads directories and single files as a daemon would at its start, and tells everything about them. Files in a directory of kinds are
/// read as such.
#[must_use]
pub fn check(paths: &[PathBuf], reading: &Reading, now: Timestamp) -> CheckReport {
    let (kinds, schedules): (Vec<PathBuf>, Vec<PathBuf>) =
        paths.iter().cloned().partition(|path| is_about_kinds(path, reading));
    let catalog = look(&schedules, reading, now);
    let kinds =
        KindSet::built_in(reading.kinds).next(reading.kinds, sight(&kinds, now).directories);
    // The directories of kinds that are configured are looked at with every schedule; what was named beside them comes in addition.
    let told = kinds.diagnostics.iter().filter(|told| !catalog.diagnostics.contains(told));
    // What a single file names may be in a file beside it, which was not asked for.
    let are_all = schedules.iter().all(|path| !path.is_file());
    let is_told = |told: &&Diagnostic| are_all || told.code != Code::UnknownSchedule;
    let diagnostics = catalog.diagnostics.iter().chain(told).filter(is_told).cloned().collect();
    let files = catalog.files().map(ToOwned::to_owned);
    CheckReport {
        files: files.chain(catalog.kinds.files()).chain(kinds.files()).collect(),
        ignored: catalog.ignored,
        schedules: catalog.schedules.into_values().collect(),
        diagnostics,
    }
}

/// Whether a path holds kinds rather than schedules: it is, or lies in, one of the directories of kinds, or one of that name.
fn is_about_kinds(path: &Path, reading: &Reading) -> bool {
    let directory = if path.is_dir() { Some(path) } else { path.parent() };
    directory.is_some_and(|directory| {
        directory.ends_with("kinds") || reading.kind_dirs.iter().any(|kinds| kinds == directory)
    })
}

fn sight(paths: &[PathBuf], now: Timestamp) -> Scan {
    let directories = paths.iter().map(|path| {
        if path.is_dir() || !path.exists() {
            let mut scan = scan(std::slice::from_ref(path), &Known::new(), now);
            scan.directories.remove(0)
        } else {
            alone(path, now)
        }
    });
    Scan { directories: directories.collect() }
}

/// A file that was named by itself. Its whole path is its name, so that it overrides nothing.
fn alone(path: &Path, now: Timestamp) -> DirectoryScan {
    let entries = Entries {
        identity: Identity::default(),
        files: vec![scan_file(path, now)],
        ignored: Vec::new(),
        diagnostics: Vec::new(),
    };
    DirectoryScan { path: path.to_owned(), listing: Listing::Entries(entries) }
}
