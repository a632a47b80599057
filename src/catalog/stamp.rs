//! What a file's metadata say about its content, so that thousands of unchanged files need not be read to know it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use jiff::Timestamp;

/// A file that changed less than this before it was read may change again without a visible trace, because file systems
/// keep times only as exactly as their clock ticks, some of them to the second. It is read again next time.
const SETTLED_AFTER_SECONDS: i64 = 2;

/// As long as nothing of it changes, neither did the content. The change time is the kernel's own: no program can set it back,
/// as `cp -p` and `touch -d` do with the modification time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    facts: Facts,
    /// Whether the change time was old enough when the file was read that it tells of every later change.
    is_settled: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Facts {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    mode: u32,
}

impl Stamp {
    /// Of a file that is read at `now`.
    pub(super) fn new(metadata: &Metadata, now: Timestamp) -> Self {
        let facts = Facts {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            mode: metadata.mode(),
        };
        Self { facts, is_settled: now.as_second() - facts.changed.0 > SETTLED_AFTER_SECONDS }
    }

    /// Whether a file with this stamp has the same content when it has the `later` one.
    pub(super) fn tells_that_nothing_changed(&self, later: &Self) -> bool {
        self.is_settled && self.facts == later.facts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changed_just_before_it_was_read_is_read_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let metadata = file.as_file().metadata().unwrap();
        let at = |seconds: i64| Timestamp::from_second(metadata.ctime() + seconds).unwrap();
        let (early, late) = (Stamp::new(&metadata, at(1)), Stamp::new(&metadata, at(10)));
        assert!(!early.tells_that_nothing_changed(&late));
        assert!(late.tells_that_nothing_changed(&late));
        std::fs::write(file.path(), "more").unwrap();
        let changed = Stamp::new(&file.as_file().metadata().unwrap(), at(10));
        assert!(!late.tells_that_nothing_changed(&changed));
    }
}
