//! What is remembered between runs about files from the web: which ETag came with what.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::plan::{Entry, Listing};
use crate::jobs::ports::http::Url;
use crate::jobs::{Context, Failure};

/// What is remembered for one destination.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Memory {
    files: BTreeMap<String, Remembered>,
    /// The ETags of downloads that are not through, by file name.
    partials: BTreeMap<String, Origin>,
}

/// Which version of what is in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Origin {
    /// A hash of the URL, whose query may be a secret.
    url: String,
    etag: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    #[serde(flatten)]
    origin: Origin,
    /// Size and time of the file when it was written; others mean that somebody changed it since.
    size: u64,
    mtime: Timestamp,
}

impl Origin {
    fn new(url: &Url, etag: &str) -> Self {
        let hash = blake3::hash(url.as_str().as_bytes()).to_hex();
        Self { url: hash.to_string(), etag: etag.to_owned() }
    }

    fn is_of(&self, url: &Url) -> bool {
        *self == Self::new(url, &self.etag)
    }
}

impl Memory {
    /// Adds the remembered ETags to the files of a destination that are still as they were written.
    pub(super) fn tag(&self, urls: &BTreeMap<String, Url>, destination: &mut Listing) {
        for (name, url) in urls {
            let entry = destination.entries.get_mut(Path::new(name));
            let (Some(Entry::File(facts)), Some(known)) = (entry, self.files.get(name)) else {
                continue;
            };
            let is_untouched = facts.size == Some(known.size) && facts.mtime == Some(known.mtime);
            if is_untouched && known.origin.is_of(url) {
                facts.tag = Some(known.origin.etag.clone());
            }
        }
    }

    /// Takes note of a file that is in place now.
    pub(super) fn placed(
        &mut self,
        name: &str,
        url: &Url,
        etag: Option<&str>,
        size: u64,
        mtime: Timestamp,
    ) {
        self.partials.remove(name);
        match etag {
            Some(etag) => {
                let known = Remembered { origin: Origin::new(url, etag), size, mtime };
                self.files.insert(name.to_owned(), known);
            }
            None => {
                self.files.remove(name);
            }
        }
    }

    /// Takes note of a download that begins. Only a strong ETag lets it go on later (RFC 9110 §13.1.5).
    pub(super) fn begun(&mut self, name: &str, url: &Url, etag: Option<&str>) {
        match etag.filter(|etag| !etag.starts_with("W/")) {
            Some(etag) => {
                self.partials.insert(name.to_owned(), Origin::new(url, etag));
            }
            None => {
                self.partials.remove(name);
            }
        }
    }

    /// The ETag of an unfinished download of that URL.
    pub(super) fn unfinished(&self, name: &str, url: &Url) -> Option<&str> {
        let origin = self.partials.get(name)?;
        origin.is_of(url).then_some(origin.etag.as_str())
    }
}

/// Where the memory of a destination is kept.
#[derive(Debug, Clone)]
pub(super) struct MemoryFile(PathBuf);

impl MemoryFile {
    pub(super) fn of(context: &Context, destination: &Path) -> Self {
        let key = blake3::hash(destination.as_os_str().as_bytes()).to_hex();
        Self(context.paths.state.join("data_sync").join(format!("{}.json", &key[..16])))
    }

    /// The memory; empty when there is none or when it cannot be understood, which costs one download.
    pub(super) fn load(&self, context: &Context) -> Memory {
        let Ok(bytes) = std::fs::read(&self.0) else { return Memory::default() };
        serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            let path = self.0.display();
            context.output.line(format!("{path} is damaged ({error}); starting without it"));
            Memory::default()
        })
    }

    pub(super) fn save(&self, memory: &Memory) -> Result<(), Failure> {
        self.write(memory).map_err(|error| {
            Failure::error(format!("cannot remember ETags in {}: {error}", self.0.display()))
        })
    }

    fn write(&self, memory: &Memory) -> io::Result<()> {
        let folder = self.0.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&serde_json::to_vec(memory)?)?;
        file.as_file().sync_all()?;
        file.persist(&self.0)?;
        std::fs::File::open(folder)?.sync_all()
    }

    /// Keeps a second run on the same destination out for as long as the file lives.
    pub(super) fn lock(&self) -> Result<std::fs::File, Failure> {
        let path = self.0.with_extension("lock");
        let fail = |error: io::Error| {
            Failure::error(format!("cannot lock the destination with {}: {error}", path.display()))
        };
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).map_err(fail)?;
        let file = std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(fail)?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                Err(Failure::error("another sync is working on the same destination"))
            }
            Err(error) => Err(fail(error.into())),
        }
    }
}
