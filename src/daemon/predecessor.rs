//! Which daemon had the data directory before this one.
//!
//! Among several nodes a daemon that was killed counts as alive until its lease is over. But whoever has the lock on its directory knows better: its
//! jobs can be given back at once, and its row is no namesake that anybody has to be warned of.
//!
//! A copy of the directory says nothing about the daemon that it was copied from, which may be alive, and so may the programs of which the copy has
//! records. So the note tells which lock it was, and counts only while the machine has not been started again: after that no program is left, files may
//! have other numbers, and the lease tells, as for any other node.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::lock;
use crate::jobs::ports::process::boot_id;

/// The note, in the data directory: the machine's present boot, the lock, where the directory was, and the daemon's instance, a line each.
const NOTE: &str = "instance";

/// What is known of who had the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Before {
    /// Nothing.
    Unknown,
    /// The daemon of that instance, which cannot be alive.
    Dead(String),
    /// It is a copy of a directory that is still there, with a daemon and programs of its own.
    Copied,
}

impl Before {
    /// The instance of a daemon that is dead for certain.
    pub(super) fn dead(self) -> Option<String> {
        match self {
            Self::Dead(instance) => Some(instance),
            Self::Unknown | Self::Copied => None,
        }
    }
}

/// Who had the directory of which this daemon holds the lock.
pub(super) fn find(data_dir: &Path) -> Before {
    let Ok(note) = fs::read_to_string(data_dir.join(NOTE)) else { return Before::Unknown };
    let lines: Vec<&str> = note.lines().collect();
    let [boot, lock, place, instance] = lines.as_slice() else { return Before::Unknown };
    if *boot != boot_id() {
        return Before::Unknown;
    }
    let is_lock_of = |folder: &Path| lock_of(folder).is_ok_and(|found| found == *lock);
    match is_lock_of(data_dir) {
        true => Before::Dead((*instance).to_owned()),
        false if is_lock_of(Path::new(place)) => Before::Copied,
        // It was moved to another file system. What ran in it is this daemon's to end.
        false => Before::Unknown,
    }
}

/// Notes that this daemon has the directory now. Where it cannot be noted, the next one waits for this one's lease.
pub(super) fn note(data_dir: &Path, instance: &str) {
    let written = lock_of(data_dir).and_then(|lock| {
        let place = fs::canonicalize(data_dir)?;
        let note = format!("{}\n{lock}\n{}\n{instance}\n", boot_id(), place.display());
        fs::write(data_dir.join(NOTE), note)
    });
    if let Err(error) = written {
        tracing::warn!(%error, "the next daemon will not know that this one had its data directory");
    }
}

/// By what the lock of a directory is told from that of a copy.
fn lock_of(data_dir: &Path) -> io::Result<String> {
    let found = fs::metadata(data_dir.join(lock::FILE_NAME))?;
    Ok(format!("{}:{}", found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(lock::FILE_NAME), "").unwrap();
        folder
    }

    #[test]
    fn m7_a_predecessor_is_known_until_the_machine_starts_again() {
        let folder = directory();
        assert_eq!(find(folder.path()), Before::Unknown);
        note(folder.path(), "first");
        note(folder.path(), "second");
        assert_eq!(find(folder.path()), Before::Dead("second".to_owned()));
        let written = fs::read_to_string(folder.path().join(NOTE)).unwrap();
        let (_boot, rest) = written.split_once('\n').unwrap();
        fs::write(folder.path().join(NOTE), format!("another boot\n{rest}")).unwrap();
        assert_eq!(find(folder.path()), Before::Unknown);
        fs::write(folder.path().join(NOTE), "").unwrap();
        assert_eq!(find(folder.path()), Before::Unknown);
    }

    #[test]
    fn m7_a_copy_of_a_directory_does_not_take_the_daemon_of_the_original_for_dead() {
        let (original, copy) = (directory(), directory());
        note(original.path(), "alive");
        fs::copy(original.path().join(NOTE), copy.path().join(NOTE)).unwrap();
        assert_eq!(find(copy.path()), Before::Copied);
        assert_eq!(find(original.path()), Before::Dead("alive".to_owned()));
        // From now on it is a directory of its own.
        note(copy.path(), "other");
        assert_eq!(find(copy.path()), Before::Dead("other".to_owned()));
        let moved = directory();
        fs::copy(original.path().join(NOTE), moved.path().join(NOTE)).unwrap();
        drop(original);
        assert_eq!(find(moved.path()), Before::Unknown);
    }
}
