//! Real directories and real edits.

mod editing;
mod kinds;
mod references;
mod snapshots;

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use tempfile::TempDir;

use super::*;
use crate::jobs::Kind;
use crate::schedule::{Code, Defaults, Diagnostic};

const KINDS: &[Kind] = &[Kind::built_in("idle", "does nothing", |_| Vec::new())];

fn reading() -> Reading {
    Reading { defaults: Defaults::default(), kinds: KINDS, kind_dirs: Vec::new() }
}

/// Long after the files of a test were made, so that their metadata are believed.
fn later() -> Timestamp {
    "2100-01-01T00:00:00Z".parse().unwrap()
}

/// A schedule whose definition tells versions apart.
fn schedule(version: &str) -> String {
    format!("description = \"{version}\"\n[idle]\n")
}

/// A directory of schedules inside a directory of its own, so that it can be moved about.
struct Place {
    root: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { root: tempfile::tempdir().unwrap() };
        fs::create_dir(place.directory()).unwrap();
        place
    }

    fn root(&self) -> &Path {
        self.root.path()
    }

    fn directory(&self) -> PathBuf {
        self.root().join("schedules")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.file(name), text).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.file(name)).unwrap();
    }
}

fn ids(catalog: &Catalog) -> Vec<&str> {
    catalog.schedules.keys().map(AsRef::as_ref).collect()
}

fn description<'a>(catalog: &'a Catalog, id: &str) -> &'a str {
    &catalog.schedules[&id.parse().unwrap()].description
}

fn codes(diagnostics: &[Diagnostic]) -> Vec<Code> {
    diagnostics.iter().map(|found| found.code).collect()
}
