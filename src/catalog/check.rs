//! Checking files without a daemon: what `sexton validate` does.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::next::{Reading, next_catalog};
use super::scan::{DirectoryScan, Entries, Identity, Known, Listing, Scan, scan, scan_file};
use super::snapshot::Catalog;
use crate::schedule::{Diagnostic, Schedule};

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
    let directories = paths.iter().map(|path| {
        if path.is_dir() || !path.exists() {
            let mut scan = scan(std::slice::from_ref(path), &Known::new(), now);
            scan.directories.remove(0)
        } else {
            alone(path, now)
        }
    });
    let scan = Scan { directories: directories.collect() };
    next_catalog(&Catalog::empty(), scan, reading, now)
}

/// Reads directories and single files as a daemon would at its start, and tells everything about them.
#[must_use]
pub fn check(paths: &[PathBuf], reading: &Reading, now: Timestamp) -> CheckReport {
    let catalog = look(paths, reading, now);
    CheckReport {
        files: catalog.files().map(ToOwned::to_owned).collect(),
        ignored: catalog.ignored,
        schedules: catalog.schedules.into_values().collect(),
        diagnostics: catalog.diagnostics,
    }
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
