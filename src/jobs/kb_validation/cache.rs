//! What is remembered of files between runs, so that those that did not change are not read again.
//!
//! The cache is never more than a shortcut: without it, or with a damaged one, everything is checked.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::content::Content;
use super::root::{Digests, Stamp};

/// Changes with everything that makes old entries wrong: rules, messages, what is remembered.
const VERSION: u32 = 1;

/// A larger cache would cost more to read than it saves.
const MAX_BYTES: u64 = 512 << 20;

/// What is remembered.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Cache {
    version: u32,
    /// Of the settings the entries were made under.
    settings: String,
    /// When everything was read and checked last.
    pub(super) full_at: Option<Timestamp>,
    pub(super) files: BTreeMap<String, Entry>,
}

/// What is remembered of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) stamp: Stamp,
    /// Whether the same stamp means the same content.
    pub(super) is_settled: bool,
    pub(super) digests: Digests,
    /// Of the schemas it was held against.
    pub(super) schemas: String,
    /// `None` where only the hashes were needed.
    pub(super) content: Option<Content>,
}

impl Cache {
    /// An empty one.
    pub(super) fn empty(settings: &str) -> Self {
        let (settings, files) = (settings.to_owned(), BTreeMap::new());
        Self { version: VERSION, settings, full_at: None, files }
    }

    /// Reads a cache. One that is missing, damaged or made under other settings is as good as empty.
    pub(super) fn load(path: &Path, settings: &str) -> Self {
        let usable = |cache: &Self| cache.version == VERSION && cache.settings == settings;
        read(path).filter(usable).unwrap_or_else(|| Self::empty(settings))
    }

    /// Writes the cache, so that a crash leaves the old one or the new one.
    ///
    /// # Errors
    /// What the file system says, with the file it says it of.
    pub(super) fn save(&self, path: &Path) -> Result<(), CacheError> {
        let failed = |source| CacheError { path: path.to_owned(), source };
        write(self, path).map_err(failed)
    }
}

/// Why a cache was not written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the cache {path}: {source}")]
pub(super) struct CacheError {
    path: PathBuf,
    source: io::Error,
}

/// The first line is the hash of the rest: a damaged cache must not turn into findings, or hide some.
fn read(path: &Path) -> Option<Cache> {
    let file = fs::File::open(path).ok()?;
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).ok()?;
    let (hash, body) = text.split_once('\n')?;
    if blake3::hash(body.as_bytes()).to_hex().as_str() != hash {
        return None;
    }
    serde_json::from_str(body).ok()
}

fn write(cache: &Cache, path: &Path) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let body = serde_json::to_string(cache)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    writeln!(file, "{}", blake3::hash(body.as_bytes()).to_hex())?;
    file.write_all(body.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_comes_back_as_it_was_and_only_for_its_settings() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/kb.json");
        let mut cache = Cache::empty("a");
        cache.full_at = Some("2026-01-01T00:00:00.000001Z".parse().unwrap());
        cache.save(&path).unwrap();
        assert_eq!(Cache::load(&path, "a"), cache);
        assert_eq!(Cache::load(&path, "b"), Cache::empty("b"));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_cache_is_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kb.json");
        let mut cache = Cache::empty("a");
        cache.full_at = Some("2026-01-01T00:00:00Z".parse().unwrap());
        cache.save(&path).unwrap();
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).unwrap();
            assert_eq!(Cache::load(&path, "a"), Cache::empty("a"), "byte {at}");
            fs::write(&path, &good[..at]).unwrap();
            assert_eq!(Cache::load(&path, "a"), Cache::empty("a"), "cut at {at}");
        }
    }
}
