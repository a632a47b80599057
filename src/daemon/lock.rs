//! One daemon for one data directory.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Held as long as the daemon runs; the kernel lets go of it however the process ends.
#[derive(Debug)]
pub struct DataLock(#[expect(dead_code, reason = "it is held, not used")] File);

/// Why the data directory could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody has it.
    #[error(
        "another sexton, process {pid}, runs on {}: stop it first, or give this one a `data_dir` of its own",
        dir.display()
    )]
    Taken {
        /// The directory.
        dir: PathBuf,
        /// The other process, as it wrote it down.
        pid: String,
    },
    /// It cannot be written.
    #[error("cannot use the data directory {}", dir.display())]
    Unusable {
        /// The directory.
        dir: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Takes the data directory, which is made when it is not there.
///
/// # Errors
/// When another daemon has it, or it cannot be written.
pub fn take(dir: &Path) -> Result<DataLock, LockError> {
    let unusable = |source| LockError::Unusable { dir: dir.to_owned(), source };
    std::fs::create_dir_all(dir).map_err(unusable)?;
    let path = dir.join("sexton.lock");
    let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let mut file = options.map_err(unusable)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut pid = String::new();
        // Only for the message; an empty file says "unknown".
        let _unread = (&file).take(20).read_to_string(&mut pid);
        let pid = if pid.trim().is_empty() { "unknown".to_owned() } else { pid.trim().to_owned() };
        return Err(LockError::Taken { dir: dir.to_owned(), pid });
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        writeln!(file, "{}", std::process::id())
    };
    write(&mut file).map_err(unusable)?;
    Ok(DataLock(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a10_a_second_daemon_on_the_same_directory_is_refused_and_told_who_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let held = take(folder.path()).unwrap();
        let refused = take(folder.path()).unwrap_err().to_string();
        assert!(refused.contains(&std::process::id().to_string()), "{refused}");
        drop(held);
        take(folder.path()).unwrap();
    }
}
