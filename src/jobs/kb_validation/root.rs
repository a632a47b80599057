//! The folder that is validated, and the only way into it.
//!
//! Paths are resolved by the kernel below the root's own directory handle (`openat2` with `RESOLVE_BENEATH`, through
//! cap-std), so neither `..` nor a symbolic link nor a race can lead out of it.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, Metadata, MetadataExt, OpenOptions, OpenOptionsExt};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The open root. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Root(Arc<Dir>);

/// What changes when a file changes. The change time cannot be set by programs, so an old modification time does
/// not hide a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    pub(super) size: u64,
    /// Nanoseconds since 1970.
    pub(super) modified: i64,
    /// Nanoseconds since 1970.
    changed: i64,
    inode: u64,
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let nanos =
            |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Self {
            size: metadata.len(),
            modified: nanos(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanos(metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
        }
    }

    /// Whether a later change is sure to show in the stamp. Within the resolution of a file system's clock it is not.
    pub(super) const fn is_settled(&self, now: i64) -> bool {
        let margin = 2_000_000_000;
        self.modified.saturating_add(margin) < now && self.changed.saturating_add(margin) < now
    }
}

/// Hashes of a file's bytes, in hex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Digests {
    pub(super) blake3: String,
    /// Made only where a manifest needs it.
    pub(super) sha256: Option<String>,
}

impl Digests {
    /// Of bytes that are already here.
    pub(super) fn of(bytes: &[u8], with_sha256: bool) -> Self {
        let sha256 = with_sha256.then(|| hex(&Sha256::digest(bytes)));
        Self { blake3: blake3::hash(bytes).to_hex().to_string(), sha256 }
    }
}

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("it is gone")]
    Gone,
    #[error("it is not a regular file")]
    NotAFile,
    #[error("it is larger than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("the attempt was stopped")]
    Stopped,
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Gone,
            _ => Self::Io(error),
        }
    }
}

impl Root {
    /// Opens the root. A symbolic link is followed here and only here: what a release switch points at is what is
    /// meant to be validated.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Dir::open_ambient_dir(path, ambient_authority()).map(|dir| Self(Arc::new(dir)))
    }

    /// The folder's own handle, for the walk.
    pub(super) fn folder(&self, path: &str) -> io::Result<Dir> {
        if path.is_empty() { self.0.try_clone() } else { self.0.open_dir(path) }
    }

    /// What is at a path, following links that stay below the root.
    pub(super) fn metadata(&self, path: &str) -> io::Result<Metadata> {
        if path.is_empty() { self.0.dir_metadata() } else { self.0.metadata(path) }
    }

    /// Reads a regular file of at most `limit` bytes.
    pub(super) fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>, ReadError> {
        let (file, stamp) = self.open_file(path)?;
        if stamp.size > limit {
            return Err(ReadError::TooLarge { limit });
        }
        // The file may grow while it is read, so the size alone bounds nothing.
        let mut bytes = Vec::with_capacity(usize::try_from(stamp.size).unwrap_or(0));
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit { Err(ReadError::TooLarge { limit }) } else { Ok(bytes) }
    }

    /// Hashes a regular file of any size.
    pub(super) fn digests(
        &self,
        path: &str,
        with_sha256: bool,
        must_stop: &dyn Fn() -> bool,
    ) -> Result<Digests, ReadError> {
        let (mut file, _) = self.open_file(path)?;
        let (mut fast, mut standard) = (blake3::Hasher::new(), Sha256::new());
        let mut buffer = vec![0; 256 << 10];
        loop {
            let read = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            fast.update(&buffer[..read]);
            if with_sha256 {
                standard.update(&buffer[..read]);
            }
            if must_stop() {
                return Err(ReadError::Stopped);
            }
        }
        let sha256 = with_sha256.then(|| hex(&standard.finalize()));
        Ok(Digests { blake3: fast.finalize().to_hex().to_string(), sha256 })
    }

    fn open_file(&self, path: &str) -> Result<(File, Stamp), ReadError> {
        let mut options = OpenOptions::new();
        // Without O_NONBLOCK, opening a pipe that took the file's place after the walk would wait for ever.
        options.read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        let file = self.0.open_with(path, &options)?;
        let metadata = file.metadata()?;
        if metadata.is_file() { Ok((file, Stamp::of(&metadata))) } else { Err(ReadError::NotAFile) }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn k1_nothing_outside_the_root_is_read_through_links_or_dots() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("kb")).unwrap();
        fs::write(folder.path().join("secret"), "s").unwrap();
        std::os::unix::fs::symlink("../secret", folder.path().join("kb/link")).unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("kb/up")).unwrap();
        let root = Root::open(&folder.path().join("kb")).unwrap();
        for path in ["link", "up/secret", "../secret", "/etc/passwd"] {
            assert!(root.read(path, 99).is_err(), "{path}");
            assert!(root.metadata(path).is_err(), "{path}");
        }
    }

    #[test]
    fn a_pipe_does_not_hang_and_a_large_file_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        let sparse = fs::File::create(folder.path().join("big")).unwrap();
        sparse.set_len(1 << 40).unwrap();
        let root = Root::open(folder.path()).unwrap();
        assert!(matches!(root.read("pipe", 99), Err(ReadError::NotAFile)));
        assert!(matches!(root.read("big", 99), Err(ReadError::TooLarge { limit: 99 })));
        assert!(matches!(root.digests("big", true, &|| true), Err(ReadError::Stopped)));
        assert!(matches!(root.read("none", 99), Err(ReadError::Gone)));
    }

    #[test]
    fn hashes_are_those_everybody_computes() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("abc"), "abc").unwrap();
        let root = Root::open(folder.path()).unwrap();
        let streamed = root.digests("abc", true, &|| false).unwrap();
        assert_eq!(streamed, Digests::of(b"abc", true));
        assert_eq!(
            streamed.sha256.as_deref(),
            Some("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        );
    }
}
