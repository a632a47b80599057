//! Room on the disk that is kept for results: a file beside the database that is given up when the disk is full.
//!
//! What runs when the disk fills up still ends, and what came of it should be on the disk before the machine is switched off to look
//! for room. So once the reserve is given up, only results are written, until there is room for a new reserve: then there is room
//! for everything else, too.
//!
//! A reserve that was given up leaves an empty file behind, so that a daemon that is started meanwhile knows what the room is for.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use super::Fault;

/// How large it is. A result takes a kilobyte or two with its page in the log, so this is for thousands.
const RESERVE_BYTES: u64 = 16 << 20;

/// How much more than the reserve has to be free before it is taken again: what is free right after it was given up is the reserve
/// itself, and to take that for an end of the shortage would have everything written into it.
const MARGIN_BYTES: u64 = 4 << 20;

/// With how little free a start gives the reserve up: it writes a few dozen pages before it can record any result, and would otherwise
/// fail between them.
const START_BYTES: u64 = 1 << 20;

/// The reserve of a database.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// There is none: nobody wants one, or there was no room for it from the start. Everything is written as long as it can be.
    Absent,
    Held,
    /// It was given up.
    Spent,
}

impl Reserve {
    /// Keeps none.
    pub(super) fn none() -> Self {
        Self { path: PathBuf::new(), state: State::Absent }
    }

    /// Takes room beside the database at `database`, unless an earlier daemon gave it up and there is none yet, or this one needs it to
    /// start. Where it was never to be had, that is said and nothing is kept.
    pub(super) fn beside(database: &Path) -> Self {
        let mut reserve = Self { path: path_beside(database), state: State::Absent };
        match std::fs::metadata(&reserve.path).map(|found| found.len()) {
            Ok(RESERVE_BYTES..) => {
                reserve.state = State::Held;
                if reserve.free_bytes().is_some_and(|free| free < START_BYTES) {
                    reserve.release();
                }
            }
            Ok(_given_up) => {
                reserve.state = State::Spent;
                reserve.retake();
            }
            Err(_there_is_none) => match reserve.take() {
                Ok(()) => reserve.state = State::Held,
                Err(error) => {
                    // An empty one would say that there is room for results.
                    let _never_made = std::fs::remove_file(&reserve.path);
                    tracing::warn!(
                        file = %reserve.path.display(),
                        %error,
                        "no room can be kept for results, so none will be recorded while the disk is full"
                    );
                }
            },
        }
        reserve
    }

    /// Whether only results are to be written.
    pub(super) fn is_spent(&self) -> bool {
        self.state == State::Spent
    }

    /// Gives it up, where there is one.
    pub(super) fn release(&mut self) {
        if self.state == State::Held && empty(&self.path) {
            self.state = State::Spent;
        }
    }

    /// Takes it again, where it was given up and there is room. Returns whether nothing stands against writing.
    pub(super) fn retake(&mut self) -> bool {
        if self.is_spent() && self.has_room() && self.take().is_ok() {
            self.state = State::Held;
        }
        !self.is_spent()
    }

    fn has_room(&self) -> bool {
        self.free_bytes().is_some_and(is_enough)
    }

    fn free_bytes(&self) -> Option<u64> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let found = statvfs(folder.unwrap_or(Path::new("."))).ok()?;
        Some(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn take(&self) -> io::Result<()> {
        let file = open(&self.path)?;
        fallocate(&file, FallocateFlags::empty(), 0, RESERVE_BYTES).map_err(|error| {
            // What there is of it must not take the last room.
            let _it_stays_empty = file.set_len(0);
            error.into()
        })
    }
}

/// What is said to everything but results once it is given up.
pub(super) fn only_for_results() -> Fault {
    Fault::NotWritable("the disk is full, and the room that is left is kept for results".to_owned())
}

/// Gives up the reserve of a database that cannot be opened for want of room. Returns whether there was one.
pub(super) fn give_up_beside(database: &Path) -> bool {
    let path = path_beside(database);
    std::fs::metadata(&path).is_ok_and(|found| found.len() > 0) && empty(&path)
}

/// Returns whether it worked: on a disk that became read-only it does not, and there is nothing to be won.
fn empty(path: &Path) -> bool {
    OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(0)).is_ok()
}

fn path_beside(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push("-reserve");
    path.into()
}

fn is_enough(free_bytes: u64) -> bool {
    free_bytes >= RESERVE_BYTES + MARGIN_BYTES
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn b1_a_reserve_takes_room_gives_it_up_and_takes_it_again() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("sexton.db");
        let path = folder.path().join("sexton.db-reserve");
        let taken = || std::fs::metadata(&path).map_or(0, |found| found.blocks() * 512);
        let mut reserve = Reserve::beside(&database);
        assert!(taken() >= RESERVE_BYTES && !reserve.is_spent());
        reserve.release();
        assert!(reserve.is_spent() && taken() == 0);
        assert!(reserve.retake());
        assert!(taken() >= RESERVE_BYTES && !reserve.is_spent());
    }

    #[test]
    fn b1_a_daemon_that_is_started_after_a_reserve_was_given_up_knows_what_the_room_is_for() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("sexton.db");
        let path = folder.path().join("sexton.db-reserve");
        assert!(!give_up_beside(&database), "there is none");
        drop(Reserve::beside(&database));
        assert!(give_up_beside(&database));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0, "it is marked as given up");
        assert!(!give_up_beside(&database), "it cannot be given up twice");
        let reserve = Reserve::beside(&database);
        assert!(!reserve.is_spent(), "there is room here, so it was taken again");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), RESERVE_BYTES);
    }

    #[test]
    fn b1_the_room_that_was_given_up_is_not_taken_for_an_end_of_the_shortage() {
        assert!(!is_enough(RESERVE_BYTES));
        assert!(is_enough(2 * RESERVE_BYTES));
    }

    #[test]
    fn b1_without_room_for_a_reserve_everything_is_written_as_long_as_it_can_be() {
        let mut reserve = Reserve::beside(Path::new("/dev/null/sexton.db"));
        reserve.release();
        assert!(!reserve.is_spent() && reserve.retake());
    }
}
