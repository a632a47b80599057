//! What a name stands for.

use jiff::Timestamp;
use rustix::fs::{FileType, Statx, StatxAttributes, StatxFlags, StatxTimestamp};

/// Which file it is: no two files have the same at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The device's major and minor number.
    pub device: (u32, u32),
    /// The inode on it.
    pub inode: u64,
}

/// What sort of thing a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, itself.
    Symlink,
    /// A device, socket or pipe.
    Other,
}

/// When things happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamps {
    /// Its content was written; anybody who may write to it can set this.
    pub modified: Timestamp,
    /// Its content, owner, mode or number of links changed; the kernel's own, nobody can set it back.
    pub changed: Timestamp,
    /// It was read; coarse on most systems (`relatime`).
    pub accessed: Timestamp,
    /// It was made, where the file system knows.
    pub born: Option<Timestamp>,
}

/// What is known of a file without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// Which one it is.
    pub identity: Identity,
    /// What sort.
    pub kind: EntryKind,
    /// Length in bytes.
    pub size: u64,
    /// Its times.
    pub stamps: Stamps,
    /// Whether a mount begins here.
    pub is_mount_root: bool,
}

impl Metadata {
    /// Whether this is the same file with the same content as far as can be told without reading it.
    ///
    /// The change time is left out on purpose: removing one of a file's hard links moves it for the others.
    #[must_use]
    pub fn is_unchanged_since(&self, before: &Self) -> bool {
        self.identity == before.identity
            && self.kind == before.kind
            && self.size == before.size
            && self.stamps.modified == before.stamps.modified
    }
}

impl From<&Statx> for Metadata {
    fn from(found: &Statx) -> Self {
        let is_known =
            |field: StatxFlags| StatxFlags::from_bits_retain(found.stx_mask).contains(field);
        let kind = match FileType::from_raw_mode(found.stx_mode.into()) {
            FileType::RegularFile => EntryKind::File,
            FileType::Directory => EntryKind::Directory,
            FileType::Symlink => EntryKind::Symlink,
            _ => EntryKind::Other,
        };
        Self {
            identity: Identity {
                device: (found.stx_dev_major, found.stx_dev_minor),
                inode: found.stx_ino,
            },
            kind,
            size: found.stx_size,
            stamps: Stamps {
                modified: instant(found.stx_mtime),
                changed: instant(found.stx_ctime),
                accessed: instant(found.stx_atime),
                born: is_known(StatxFlags::BTIME).then(|| instant(found.stx_btime)),
            },
            is_mount_root: found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
        }
    }
}

/// A stamp beyond the calendar (they are 64-bit seconds, and anybody can set them) becomes its nearest end.
fn instant(stamp: StatxTimestamp) -> Timestamp {
    let end = if stamp.tv_sec < 0 { Timestamp::MIN } else { Timestamp::MAX };
    let nanoseconds = i32::try_from(stamp.tv_nsec).unwrap_or(0);
    Timestamp::new(stamp.tv_sec, nanoseconds).unwrap_or(end)
}
