//! What a rule says about one directory's entries. Pure: the same entries at the same instant get the same verdicts.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::keep::{self, KeepRule};
use super::params::{Cleanup, EntryType, Keep, Stamp};
use super::patterns::{PatternError, Patterns};
use crate::jobs::ports::files::{Entry, EntryKind, Identity, Metadata, Stamps};
use crate::model::HumanDuration;

/// What becomes of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Delete(Because),
    Keep(Reason),
}

/// The rule that deletes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Because {
    OlderThan,
    NotKept,
    MinSize,
    EmptyDirectory,
}

/// Why something stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Reason {
    Protected,
    SystemFile,
    MountPoint,
    OwnData,
    PathTooLong,
    Excluded,
    NotIncluded,
    OtherType,
    TooSmall,
    FromTheFuture,
    TooYoung,
    KeptBy(KeepRule),
    Locked,
    Unreadable,
    NotEmpty,
}

impl Because {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::OlderThan => "older_than",
            Self::NotKept => "not_kept",
            Self::MinSize => "min_size",
            Self::EmptyDirectory => "empty_directory",
        }
    }
}

impl Reason {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Protected => "protected",
            Self::SystemFile => "system_file",
            Self::MountPoint => "mount_point",
            Self::OwnData => "own_data",
            Self::PathTooLong => "path_too_long",
            Self::Excluded => "excluded",
            Self::NotIncluded => "not_included",
            Self::OtherType => "other_type",
            Self::TooSmall => "too_small",
            Self::FromTheFuture => "from_the_future",
            Self::TooYoung => "too_young",
            Self::KeptBy(KeepRule::Newest) => "keep_newest",
            Self::KeptBy(KeepRule::Daily) => "keep_daily",
            Self::KeptBy(KeepRule::Weekly) => "keep_weekly",
            Self::KeptBy(KeepRule::Monthly) => "keep_monthly",
            Self::KeptBy(KeepRule::Within) => "keep_within",
            Self::Locked => "locked",
            Self::Unreadable => "unreadable",
            Self::NotEmpty => "not_empty",
        }
    }

    /// Whether it stays whatever the rules about age, size and number say.
    pub(super) fn is_protection(self) -> bool {
        matches!(self, Self::Protected | Self::SystemFile | Self::MountPoint | Self::OwnData)
    }
}

/// The checked form of a `[cleanup]` table, without its roots and limits.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    include: Patterns,
    exclude: Patterns,
    protect: Patterns,
    types: Vec<EntryType>,
    older_than: Option<Duration>,
    age_by: Vec<Stamp>,
    min_size: u64,
    keep: Keep,
    delete_empty_dirs: bool,
    because: Because,
    /// The daemon's own data directory, where it is known.
    own: Option<Identity>,
}

/// Names that belong to the file system and not to its users (fsck's, and the files of disk quotas).
const SYSTEM_FILES: [&str; 5] =
    ["lost+found", "aquota.user", "aquota.group", "quota.user", "quota.group"];

/// The longest path that is followed, in bytes, counted from the root. Patterns are matched against the whole path, so
/// without a bound somebody could make a tree that takes for ever to look through.
const LONGEST_PATH: usize = 256 * 1024;

impl Rules {
    pub(super) fn new(params: &Cleanup, own: Option<Identity>) -> Result<Self, PatternError> {
        let because = match (params.older_than, params.keep.is_empty()) {
            (Some(_), _) => Because::OlderThan,
            (None, false) => Because::NotKept,
            (None, true) => Because::MinSize,
        };
        Ok(Self {
            include: Patterns::compile(&params.include)?,
            exclude: Patterns::compile(&params.exclude)?,
            protect: Patterns::compile(&params.protect)?,
            types: params.types.clone(),
            older_than: params.older_than.map(HumanDuration::get),
            age_by: params.age_by.clone(),
            min_size: params.min_size.0,
            keep: params.keep,
            delete_empty_dirs: params.delete_empty_dirs,
            because,
            own,
        })
    }

    /// Whether the newest of a group has to be known, and so all of the group.
    pub(super) fn needs_whole_groups(&self) -> bool {
        !self.keep.is_empty()
    }

    /// A verdict for each of the entries, none of which is a directory, of the directory at that path.
    pub(super) fn judge(&self, directory: &[u8], files: &[Entry], now: Timestamp) -> Vec<Verdict> {
        let mut verdicts: Vec<Verdict> =
            files.iter().map(|file| self.judge_alone(directory, file, now)).collect();
        if self.keep.is_empty() {
            return verdicts;
        }
        // Those too young to be deleted take a place among the newest as well. What does not match at all, or claims to
        // be from the future, takes none: it must not push out a file that would have been kept.
        let members: Vec<usize> = (0..files.len())
            .filter(|index| {
                matches!(verdicts[*index], Verdict::Delete(_) | Verdict::Keep(Reason::TooYoung))
            })
            .collect();
        let group: Vec<(Timestamp, &OsStr)> = members
            .iter()
            .map(|index| {
                let file = &files[*index];
                (self.stamp(&file.metadata.stamps), file.name.as_os_str())
            })
            .collect();
        for (index, rule) in members.iter().zip(keep::kept(&group, &self.keep)) {
            if let Some(rule) = rule {
                verdicts[*index] = Verdict::Keep(Reason::KeptBy(rule));
            }
        }
        verdicts
    }

    /// Why a directory must not be entered, if it must not.
    pub(super) fn shuts_out(&self, path: &[u8], directory: &Entry) -> Option<Reason> {
        if let Some(reason) = self.protection(path, directory) {
            return Some(reason);
        }
        if path.len() > LONGEST_PATH {
            return Some(Reason::PathTooLong);
        }
        self.exclude.matches(path, true).then_some(Reason::Excluded)
    }

    /// Whether a directory with nothing left in it may go. `is_emptied` says that this run takes something out of it;
    /// one that was empty before has to be among what is included.
    ///
    /// A directory's age is its `mtime`: the change time moves with every look of a backup program at its mode, and what
    /// the directory holds has been judged on its own.
    pub(super) fn removes_empty(
        &self,
        path: &[u8],
        directory: &Metadata,
        is_emptied: bool,
        now: Timestamp,
    ) -> bool {
        let is_meant = is_emptied || self.include.is_empty() || self.include.matches(path, true);
        let is_old = match self.older_than {
            Some(age) => is_before(directory.stamps.modified, now, age),
            None => false,
        };
        self.delete_empty_dirs && is_meant && is_old
    }

    /// The stamp that counts: the newest of those in `age_by`.
    pub(super) fn stamp(&self, stamps: &Stamps) -> Timestamp {
        let newest = self.age_by.iter().filter_map(|stamp| match stamp {
            Stamp::Mtime => Some(stamps.modified),
            Stamp::Ctime => Some(stamps.changed),
            Stamp::Atime => Some(stamps.accessed),
            Stamp::Btime => stamps.born,
        });
        // Without any known stamp (`btime` alone where the file system has none) nothing is old.
        newest.max().unwrap_or(Timestamp::MAX)
    }

    fn judge_alone(&self, directory: &[u8], file: &Entry, now: Timestamp) -> Verdict {
        let path = join(directory, &file.name);
        if let Some(reason) = self.protection(&path, file) {
            return Verdict::Keep(reason);
        }
        if self.exclude.matches(&path, false) {
            return Verdict::Keep(Reason::Excluded);
        }
        if !self.include.is_empty() && !self.include.matches(&path, false) {
            return Verdict::Keep(Reason::NotIncluded);
        }
        if !self.is_of_type(file.metadata.kind) {
            return Verdict::Keep(Reason::OtherType);
        }
        if file.metadata.size < self.min_size {
            return Verdict::Keep(Reason::TooSmall);
        }
        let stamp = self.stamp(&file.metadata.stamps);
        if stamp > now {
            return Verdict::Keep(Reason::FromTheFuture);
        }
        match self.older_than {
            Some(age) if !is_before(stamp, now, age) => Verdict::Keep(Reason::TooYoung),
            _ => Verdict::Delete(self.because),
        }
    }

    fn protection(&self, path: &[u8], entry: &Entry) -> Option<Reason> {
        if SYSTEM_FILES.iter().any(|name| entry.name == *name) {
            Some(Reason::SystemFile)
        } else if entry.metadata.is_mount_root {
            Some(Reason::MountPoint)
        } else if self.own == Some(entry.metadata.identity) {
            Some(Reason::OwnData)
        } else {
            let is_directory = entry.metadata.kind == EntryKind::Directory;
            self.protect.matches(path, is_directory).then_some(Reason::Protected)
        }
    }

    fn is_of_type(&self, kind: EntryKind) -> bool {
        match kind {
            EntryKind::File => self.types.contains(&EntryType::File),
            EntryKind::Symlink => self.types.contains(&EntryType::Symlink),
            EntryKind::Directory | EntryKind::Other => false,
        }
    }
}

/// The path of a name in a directory, both counted from the root; the root itself is the empty path.
pub(super) fn join(directory: &[u8], name: &OsStr) -> Vec<u8> {
    let mut path = Vec::with_capacity(directory.len() + 1 + name.len());
    if !directory.is_empty() {
        path.extend_from_slice(directory);
        path.push(b'/');
    }
    path.extend_from_slice(name.as_bytes());
    path
}

fn is_before(stamp: Timestamp, now: Timestamp, age: Duration) -> bool {
    // Earlier than time begins, nothing is.
    now.checked_sub(age).is_ok_and(|cutoff| stamp < cutoff)
}
