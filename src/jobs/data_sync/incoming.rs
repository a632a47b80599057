//! A file on its way in: written under a name of ours beside its place, and renamed when it is whole and on disk.
//!
//! So a crash at any point leaves either the old file or the new one under the final name, and at most a file of ours
//! that the next run goes on with or removes.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use jiff::Timestamp;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

use super::listing::CHUNK_BYTES;
use super::names::partial_of;
use super::root::{Root, look};

pub(super) struct Incoming {
    folder: OwnedFd,
    name: OsString,
    partial: OsString,
    file: File,
    hasher: blake3::Hasher,
    size: u64,
}

/// What the finished file gets besides its content.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Finish {
    pub(super) mtime: Option<Timestamp>,
    pub(super) mode: Option<u32>,
    /// Read the file again and compare before it gets its name.
    pub(super) verify: bool,
}

impl Incoming {
    /// Begins anew.
    pub(super) fn create(root: &Root, path: &Path) -> io::Result<Self> {
        let (folder, name, partial) = place(root, path)?;
        remove_if_there(&folder, &partial)?;
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&folder, &partial, flags, Mode::from_raw_mode(0o600))?;
        Ok(Self {
            folder,
            name,
            partial,
            file: file.into(),
            hasher: blake3::Hasher::new(),
            size: 0,
        })
    }

    /// Goes on with what an earlier run left, if there is something.
    pub(super) fn resume(root: &Root, path: &Path) -> io::Result<Option<Self>> {
        let (folder, name, partial) = place(root, path)?;
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let Ok(file) = rustix::fs::openat(&folder, &partial, flags, Mode::empty()) else {
            return Ok(None);
        };
        let seen = look(&file, "".as_ref())?;
        // A second name for the file would be written through.
        if seen.kind != FileType::RegularFile || seen.links != 1 || seen.facts.size == Some(0) {
            return Ok(None);
        }
        let mut file = File::from(file);
        let (hasher, size) = read_again(&mut file)?;
        Ok(Some(Self { folder, name, partial, file, hasher, size }))
    }

    /// Bytes so far.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The hash of the bytes so far.
    pub(super) fn digest(&self) -> blake3::Hash {
        self.hasher.finalize()
    }

    pub(super) fn write(&mut self, part: &[u8]) -> io::Result<()> {
        self.file.write_all(part)?;
        self.hasher.update(part);
        self.size += part.len() as u64;
        Ok(())
    }

    /// Gives the file its name, once it is whole and on disk.
    pub(super) fn finish(mut self, finish: Finish) -> io::Result<()> {
        if finish.verify && read_again(&mut self.file)?.0.finalize() != self.digest() {
            return Err(io::Error::other("what was read back differs from what was written"));
        }
        let mode = Mode::from_raw_mode(finish.mode.unwrap_or(0o644) & 0o777);
        rustix::fs::fchmod(self.file.as_fd(), mode)?;
        if let Some(mtime) = finish.mtime {
            rustix::fs::futimens(self.file.as_fd(), &modified(mtime))?;
        }
        self.file.sync_all()?;
        rustix::fs::renameat(&self.folder, &self.partial, &self.folder, &self.name)?;
        Ok(rustix::fs::fsync(&self.folder)?)
    }

    /// Gives it up.
    pub(super) fn discard(self) -> io::Result<()> {
        remove_if_there(&self.folder, &self.partial)
    }
}

/// Puts a link at a path, in place of the file or link that may be there.
pub(super) fn put_link(root: &Root, path: &Path, target: &Path) -> io::Result<()> {
    let (folder, name, partial) = place(root, path)?;
    remove_if_there(&folder, &partial)?;
    rustix::fs::symlinkat(target, &folder, &partial)?;
    rustix::fs::renameat(&folder, &partial, &folder, &name)?;
    Ok(rustix::fs::fsync(&folder)?)
}

fn place(root: &Root, path: &Path) -> io::Result<(OwnedFd, OsString, OsString)> {
    let folder = root.make_folder(path.parent().unwrap_or(Path::new("")))?;
    let name = path.file_name().unwrap_or_default().to_owned();
    Ok((folder, name, partial_of(path)))
}

fn remove_if_there(folder: &OwnedFd, name: &OsString) -> io::Result<()> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn read_again(file: &mut File) -> io::Result<(blake3::Hasher, u64)> {
    file.seek(SeekFrom::Start(0))?;
    let mut hasher = blake3::Hasher::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut size = 0;
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok((hasher, size)),
            read => {
                hasher.update(&chunk[..read]);
                size += read as u64;
            }
        }
    }
}

fn modified(mtime: Timestamp) -> Timestamps {
    // The kernel wants nanoseconds from 0 up, and jiff counts down from zero before 1970.
    let nanos = mtime.as_nanosecond();
    let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap_or(0);
    let below = i64::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or(0);
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: below },
    }
}
