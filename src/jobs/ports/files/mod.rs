//! Directories as handles: a tree that others write to is entered one name at a time and never by path.
//!
//! A path names whatever is there at the moment the kernel walks it, so "check the path, then act on the path" can be
//! made to act on something else. A handle stays with its directory. Every step down is an `openat2` that refuses
//! symbolic links, magic links, other mounts and anything outside the parent. Where that call is refused, `steps` checks the
//! same on handles; where that cannot be done either, it is an error and not a reason to fall back to something weaker.

mod metadata;
mod name;
mod steps;
mod trail;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, ResolveFlags, StatxFlags, flock, openat, openat2,
    statx, unlinkat,
};
use rustix::io::Errno;

pub use metadata::{EntryKind, Identity, Metadata, Stamps};
pub use name::readable;
pub use trail::Trail;

use steps::Mounts;

/// An open directory.
#[derive(Debug)]
pub struct Directory(OwnedFd);

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name, any bytes but `/` and NUL.
    pub name: OsString,
    /// What it was when it was looked at.
    pub metadata: Metadata,
}

/// What a directory holds.
#[derive(Debug, Default)]
pub struct Listing {
    /// The entries, in no particular order.
    pub entries: Vec<Entry>,
    /// Whether reading ended at the bound and there is more.
    pub is_cut: bool,
}

/// Why a directory was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is a symbolic link, or leads through one.
    #[error("it is, or leads through, a symbolic link; name the real directory")]
    Symlink,
    /// Something is mounted there.
    #[error("another file system is mounted there")]
    OtherMount,
    /// It is not the directory it was: moved away, deleted or exchanged.
    #[error("it was moved, deleted or exchanged meanwhile")]
    Replaced,
    /// The kernel cannot open it safely.
    #[error(
        "this kernel can tell neither links (openat2) nor mounts (statx) apart, so nothing is deleted; Linux 5.8 or newer is needed"
    )]
    Unsupported,
    /// Anything else.
    #[error("it cannot be opened")]
    Io(#[source] io::Error),
}

/// Why a name was not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// There is nothing of that name any more.
    #[error("it is already gone")]
    Gone,
    /// It is not what was planned for, or was written to since.
    #[error("it changed after it was looked at")]
    Changed,
    /// A directory that is not empty, or not empty any more.
    #[error("it is not empty")]
    NotEmpty,
    /// Another program holds a lock on it (flock).
    #[error("another program holds a lock on it")]
    Locked,
    /// Anything else.
    #[error("it cannot be deleted")]
    Io(#[source] io::Error),
}

/// Without `O_NOFOLLOW`: `RESOLVE_NO_SYMLINKS` refuses the last part as well, and says `ELOOP` where the flag would make
/// it `ENOTDIR`.
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

const NO_LINKS: ResolveFlags = ResolveFlags::NO_SYMLINKS.union(ResolveFlags::NO_MAGICLINKS);

/// `NO_XDEV` also stops at bind mounts of the same device, which comparing device numbers does not see.
const BENEATH: ResolveFlags = NO_LINKS.union(ResolveFlags::BENEATH).union(ResolveFlags::NO_XDEV);

impl Directory {
    /// Opens a directory by an absolute path without a symbolic link in any of its parts.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_root(path: &Path) -> Result<Self, OpenError> {
        open(CWD, path.as_os_str(), DIRECTORY, Mounts::Cross)
    }

    /// Opens a directory in this one.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(&self, name: &OsStr) -> Result<Self, OpenError> {
        open(&self.0, name, DIRECTORY, Mounts::Stay)
    }

    /// Finds a directory below this one by a relative path, only to compare it: the handle cannot be read or changed.
    fn find(&self, path: &OsStr) -> Result<Self, OpenError> {
        open(&self.0, path, DIRECTORY.union(OFlags::PATH), Mounts::Stay)
    }

    /// What this directory is.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn metadata(&self) -> io::Result<Metadata> {
        stat(&self.0, OsStr::new(""), AtFlags::EMPTY_PATH)
    }

    /// What is under `name` right now; a symbolic link is itself.
    ///
    /// # Errors
    /// When there is nothing, or the kernel does not say.
    pub fn look_at(&self, name: &OsStr) -> io::Result<Metadata> {
        stat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// At most `most` of the entries. What vanishes while it is being listed is left out.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn list(&self, most: usize) -> io::Result<Listing> {
        let mut listing = Listing::default();
        for found in rustix::fs::Dir::read_from(&self.0)? {
            let found = found?;
            let name = OsStr::from_bytes(found.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            if listing.entries.len() >= most {
                listing.is_cut = true;
                break;
            }
            match self.look_at(name) {
                Ok(metadata) => listing.entries.push(Entry { name: name.to_owned(), metadata }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(listing)
    }

    /// Takes an exclusive lock (flock) that lasts as long as this handle. `false` when somebody else holds one.
    ///
    /// # Errors
    /// When the file system cannot lock.
    pub fn try_lock(&self) -> io::Result<bool> {
        try_flock(&self.0, FlockOperation::NonBlockingLockExclusive)
    }

    /// Takes a shared lock that lasts as long as this handle. `false` when somebody holds an exclusive one.
    ///
    /// # Errors
    /// When the file system cannot lock.
    pub fn try_lock_shared(&self) -> io::Result<bool> {
        try_flock(&self.0, FlockOperation::NonBlockingLockShared)
    }

    /// Removes a name that is not a directory, if it still is what was `expected`.
    ///
    /// Between the last look and the removal somebody who may write here can still exchange the file for another one
    /// *of this directory*; there is no system call that closes this gap. It never reaches outside.
    ///
    /// # Errors
    /// See [`RemoveError`].
    pub fn remove_file(
        &self,
        name: &OsStr,
        expected: &Metadata,
        locks: Locks,
    ) -> Result<(), RemoveError> {
        // The lock is held until after the removal, so that nobody starts to write under it in between.
        let _held = match locks {
            Locks::Honour if expected.kind == EntryKind::File => self.lock_file(name)?,
            Locks::Honour | Locks::Ignore => None,
        };
        let found = self.look_at(name).map_err(remove_error)?;
        if !found.is_unchanged_since(expected) {
            return Err(RemoveError::Changed);
        }
        unlinkat(&self.0, name, AtFlags::empty()).map_err(|errno| remove_error(errno.into()))
    }

    /// Removes an empty directory, if it is the one that was `expected`.
    ///
    /// # Errors
    /// See [`RemoveError`].
    pub fn remove_directory(&self, name: &OsStr, expected: Identity) -> Result<(), RemoveError> {
        if self.look_at(name).map_err(remove_error)?.identity != expected {
            return Err(RemoveError::Changed);
        }
        unlinkat(&self.0, name, AtFlags::REMOVEDIR).map_err(|errno| remove_error(errno.into()))
    }

    /// As systemd-tmpfiles does it: a file that cannot be opened cannot be asked, and is not locked.
    fn lock_file(&self, name: &OsStr) -> Result<Option<OwnedFd>, RemoveError> {
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let Ok(file) = openat(&self.0, name, flags, Mode::empty()) else { return Ok(None) };
        match try_flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(true) => Ok(Some(file)),
            Ok(false) => Err(RemoveError::Locked),
            Err(_file_system_without_locks) => Ok(None),
        }
    }
}

/// What to do about other programs' locks on files (flock).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locks {
    /// A locked file stays.
    Honour,
    /// They do not matter.
    Ignore,
}

fn open(
    parent: impl AsFd,
    name: &OsStr,
    flags: OFlags,
    mounts: Mounts,
) -> Result<Directory, OpenError> {
    let resolve = match mounts {
        Mounts::Cross => NO_LINKS,
        Mounts::Stay => BENEATH,
    };
    // The kernel answers EAGAIN when a rename happened while it looked, and EINTR for a signal; an attacker who
    // renames without end must not hold us here, so trying ends.
    let mut last = Errno::AGAIN;
    for _attempt in 0..16 {
        match openat2(&parent, name, flags, Mode::empty(), resolve) {
            Ok(handle) => return Ok(Directory(handle)),
            Err(errno @ (Errno::AGAIN | Errno::INTR)) => last = errno,
            Err(Errno::NOSYS) => {
                let found = steps::open(&parent, name, flags, mounts);
                return found.map(Directory).map_err(open_error);
            }
            Err(errno) => return Err(open_error(errno)),
        }
    }
    Err(OpenError::Io(last.into()))
}

fn open_error(errno: Errno) -> OpenError {
    match errno {
        Errno::LOOP => OpenError::Symlink,
        Errno::XDEV => OpenError::OtherMount,
        Errno::NOSYS => OpenError::Unsupported,
        other => OpenError::Io(other.into()),
    }
}

fn remove_error(error: io::Error) -> RemoveError {
    match Errno::from_io_error(&error) {
        Some(Errno::NOENT) => RemoveError::Gone,
        Some(Errno::NOTEMPTY | Errno::EXIST) => RemoveError::NotEmpty,
        Some(Errno::ISDIR | Errno::NOTDIR) => RemoveError::Changed,
        _ => RemoveError::Io(error),
    }
}

impl Identity {
    /// Which file is at the end of a path, symbolic links followed. To recognise it, not to act on.
    ///
    /// # Errors
    /// When there is none, or the kernel does not say.
    pub fn of(path: &Path) -> io::Result<Self> {
        Ok(stat(CWD, path.as_os_str(), AtFlags::empty())?.identity)
    }
}

fn stat(directory: impl AsFd, name: &OsStr, flags: AtFlags) -> io::Result<Metadata> {
    // An automount point must not be mounted by looking at it.
    let flags = flags | AtFlags::NO_AUTOMOUNT;
    let found = statx(directory, name, flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME)?;
    Ok(Metadata::from(&found))
}

fn try_flock(file: impl AsFd, operation: FlockOperation) -> io::Result<bool> {
    match flock(file, operation) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests;
