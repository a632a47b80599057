//! A directory that is opened once and never left.
//!
//! Every step below it goes from one directory handle to the next by a single name, without following links, so that
//! no link and no `..` in either tree can lead a read or a write elsewhere, whoever swaps things meanwhile.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use super::plan::Facts;

/// The handle of a tree.
#[derive(Debug)]
pub(super) struct Root(OwnedFd);

/// What is at a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) kind: FileType,
    pub(super) facts: Facts,
    /// The mount it is on, as far as the kernel tells: device and mount id.
    pub(super) mount: (u32, u32, u64),
    pub(super) links: u32,
}

const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Root {
    /// Opens a directory. A link in its place is refused.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(rustix::fs::openat(CWD, path, FOLDER, Mode::empty())?))
    }

    /// Opens a directory by its name in another one.
    pub(super) fn open_in(parent: &OwnedFd, name: &OsStr) -> io::Result<Self> {
        Ok(Self(rustix::fs::openat(parent, name, FOLDER, Mode::empty())?))
    }

    pub(super) fn handle(&self) -> &OwnedFd {
        &self.0
    }

    /// The directory at a relative path.
    pub(super) fn folder(&self, path: &Path) -> io::Result<OwnedFd> {
        let mut folder = rustix::fs::openat(&self.0, ".", FOLDER, Mode::empty())?;
        for name in names_of(path)? {
            folder = rustix::fs::openat(&folder, name, FOLDER, Mode::empty())?;
        }
        Ok(folder)
    }

    /// The same, making what is missing.
    pub(super) fn make_folder(&self, path: &Path) -> io::Result<OwnedFd> {
        let mut folder = rustix::fs::openat(&self.0, ".", FOLDER, Mode::empty())?;
        for name in names_of(path)? {
            match rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            folder = rustix::fs::openat(&folder, name, FOLDER, Mode::empty())?;
        }
        Ok(folder)
    }

    /// Opens a file for reading. What is not a plain file is refused, and nothing blocks on it.
    pub(super) fn file(&self, path: &Path) -> io::Result<File> {
        let (folder, name) = self.parent(path)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::openat(&folder, &name, flags, Mode::empty())?;
        if look(&file, OsStr::new(""))?.kind != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file"));
        }
        Ok(file.into())
    }

    /// What is at a relative path.
    pub(super) fn look(&self, path: &Path) -> io::Result<Seen> {
        let (folder, name) = self.parent(path)?;
        look(&folder, &name)
    }

    /// The directory of a path, and the name in it.
    pub(super) fn parent(&self, path: &Path) -> io::Result<(OwnedFd, OsString)> {
        let name = path.file_name().ok_or_else(not_plain)?.to_owned();
        Ok((self.folder(path.parent().unwrap_or(Path::new("")))?, name))
    }

    /// Removes a file or link.
    pub(super) fn unlink(&self, path: &Path) -> io::Result<()> {
        let (folder, name) = self.parent(path)?;
        Ok(rustix::fs::unlinkat(&folder, &name, AtFlags::empty())?)
    }

    /// Removes a directory if it is empty, and says whether it did.
    pub(super) fn remove_empty(&self, path: &Path) -> io::Result<bool> {
        let (folder, name) = self.parent(path)?;
        match rustix::fs::unlinkat(&folder, &name, AtFlags::REMOVEDIR) {
            Ok(()) => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// What is at `name` in `folder`, or `folder` itself when the name is empty. Links are not followed.
pub(super) fn look(folder: impl AsFd, name: &OsStr) -> io::Result<Seen> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
    let found = rustix::fs::statx(folder, name, flags, wanted)?;
    let nanos = i32::try_from(found.stx_mtime.tv_nsec).unwrap_or(0);
    let mode = u32::from(found.stx_mode);
    Ok(Seen {
        kind: FileType::from_raw_mode(mode),
        facts: Facts {
            size: Some(found.stx_size),
            mtime: Timestamp::new(found.stx_mtime.tv_sec, nanos).ok(),
            mode: Some(mode & 0o777),
            ..Facts::default()
        },
        mount: (found.stx_dev_major, found.stx_dev_minor, found.stx_mnt_id),
        links: found.stx_nlink,
    })
}

/// The names in a directory, in order.
pub(super) fn names_in(folder: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Where a link leads, as it is written.
pub(super) fn link_target(folder: &OwnedFd, name: &OsStr) -> io::Result<PathBuf> {
    let target = rustix::fs::readlinkat(folder, name, Vec::new())?;
    Ok(PathBuf::from(OsStr::from_bytes(target.as_bytes())))
}

fn names_of(path: &Path) -> io::Result<Vec<&OsStr>> {
    let plain = |part| match part {
        Component::Normal(name) => Ok(name),
        _ => Err(not_plain()),
    };
    path.components().map(plain).collect()
}

fn not_plain() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a plain relative path")
}
