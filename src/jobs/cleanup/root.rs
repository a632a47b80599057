//! A root, opened once and held for the whole run.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::jobs::ports::files::{Directory, Identity, OpenError, readable};

/// An open root.
#[derive(Debug)]
pub(super) struct Root {
    /// Its path, for people.
    pub(super) name: String,
    pub(super) directory: Directory,
}

/// Why a root is not cleaned. Any of these stops the whole run before it deletes anything: a tree that is not there
/// says that something is wrong with the machine or with the rule.
#[derive(Debug, thiserror::Error)]
pub(super) enum RootRefused {
    #[error("root {0} does not exist; create it or take it out of `roots`")]
    Missing(String),
    #[error("root {0} cannot be opened")]
    Open(String, #[source] OpenError),
    #[error("root {0} cannot be read")]
    Read(String, #[source] io::Error),
    #[error("/etc/fstab mounts something on root {0}, and nothing is mounted there")]
    NotMounted(String),
    #[error("root {0} is an empty mount point; is the right file system mounted there?")]
    EmptyMount(String),
    #[error("root {0} is the daemon's own data directory; use `[cleanup.history]` for its jobs")]
    OwnData(String),
    #[error("root {0} is being cleaned by somebody else, who holds a lock on it")]
    Busy(String),
}

impl RootRefused {
    /// Whether it will be the same at every later attempt.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::OwnData(_) | Self::Open(_, OpenError::Unsupported))
    }
}

impl Root {
    /// Opens a root. `own` is the daemon's data directory, `fstab` the text of `/etc/fstab`.
    pub(super) fn open(
        path: &Path,
        own: Option<Identity>,
        fstab: &[u8],
    ) -> Result<Self, RootRefused> {
        let name = readable(path.as_os_str().as_encoded_bytes());
        let directory = match Directory::open_root(path) {
            Ok(directory) => directory,
            Err(OpenError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                return Err(RootRefused::Missing(name));
            }
            Err(error) => return Err(RootRefused::Open(name, error)),
        };
        let read = |error| RootRefused::Read(name.clone(), error);
        let metadata = directory.metadata().map_err(read)?;
        if own == Some(metadata.identity) {
            return Err(RootRefused::OwnData(name));
        }
        if metadata.is_mount_root {
            // A new ext4 has this one directory.
            let found = directory.list(2).map_err(read)?.entries;
            if found.iter().all(|entry| entry.name == "lost+found") {
                return Err(RootRefused::EmptyMount(name));
            }
        } else if mount_points(fstab).any(|point| point == path) {
            return Err(RootRefused::NotMounted(name));
        }
        Ok(Self { name, directory })
    }

    /// The path of something below it, for people.
    pub(super) fn path_of(&self, path: &str) -> String {
        if path.is_empty() { self.name.clone() } else { format!("{}/{path}", self.name) }
    }

    /// Makes this run the only one that deletes below this root, until the root is dropped.
    pub(super) fn lock(&self) -> Result<(), RootRefused> {
        match self.directory.try_lock() {
            Ok(true) => Ok(()),
            Ok(false) => Err(RootRefused::Busy(self.name.clone())),
            Err(error) => Err(RootRefused::Read(self.name.clone(), error)),
        }
    }
}

/// The mount points of an fstab(5): the second field of each line, with its octal escapes (`\040` is a space).
fn mount_points(fstab: &[u8]) -> impl Iterator<Item = PathBuf> {
    fstab
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.trim_ascii_start().starts_with(b"#"))
        .filter_map(|line| {
            let mut fields = line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
            fields.nth(1).map(|field| PathBuf::from(OsString::from_vec(unescape(field))))
        })
}

fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                plain.push(byte);
                rest = &after[3..];
            }
            _ => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        (folder, path)
    }

    #[test]
    fn a_missing_root_is_an_error() {
        let (_folder, path) = folder();
        let found = Root::open(&path.join("none"), None, b"");
        assert!(matches!(found, Err(RootRefused::Missing(_))), "{found:?}");
    }

    #[test]
    fn k2_a_symlinked_root_is_refused() {
        let (_folder, path) = folder();
        std::fs::create_dir_all(path.join("real/inner")).unwrap();
        symlink("real", path.join("link")).unwrap();
        for root in ["link", "link/inner"] {
            let found = Root::open(&path.join(root), None, b"");
            assert!(
                matches!(found, Err(RootRefused::Open(_, OpenError::Symlink))),
                "{root}: {found:?}"
            );
        }
    }

    #[test]
    fn a_mount_point_without_its_mount_is_an_error() {
        let (_folder, path) = folder();
        std::fs::create_dir(path.join("my backup")).unwrap();
        let escaped = path.join("my\\040backup");
        let fstab = format!("# comment\n\n/dev/sdb1\t{} ext4 defaults 0 2\n", escaped.display());
        let found = Root::open(&path.join("my backup"), None, fstab.as_bytes());
        assert!(matches!(found, Err(RootRefused::NotMounted(_))), "{found:?}");
        assert!(Root::open(&path, None, fstab.as_bytes()).is_ok());
    }

    #[test]
    fn the_daemons_own_data_is_no_root() {
        let (_folder, path) = folder();
        let own = Directory::open_root(&path).unwrap().metadata().unwrap().identity;
        let found = Root::open(&path, Some(own), b"");
        assert!(matches!(found, Err(RootRefused::OwnData(_))), "{found:?}");
    }

    #[test]
    fn one_run_at_a_time_cleans_a_root() {
        let (_folder, path) = folder();
        let first = Root::open(&path, None, b"").unwrap();
        first.lock().unwrap();
        let second = Root::open(&path, None, b"").unwrap();
        assert!(matches!(second.lock(), Err(RootRefused::Busy(_))));
        drop(first);
        second.lock().unwrap();
    }
}
