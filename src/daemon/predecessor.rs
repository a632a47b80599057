//! Which daemon had the data directory before this one.
//!
//! Among several nodes a daemon that was killed counts as alive until its lease is over. But whoever has the lock on its directory knows better: its
//! jobs can be given back at once, and its row is no namesake that anybody has to be warned of.
//!
//! A copy of the directory on another machine says nothing about the daemon that it was copied from. So what is noted counts only while the machine has not
//! been started again, which no copy outlives; after a restart of the machine the lease tells, as for any other node.

use std::fs;
use std::path::Path;

use crate::jobs::ports::process::boot_id;

/// The note, in the data directory: the machine's present boot and the daemon's instance, a line each.
const NOTE: &str = "instance";

/// The instance of the daemon that had the directory last, where it cannot be alive.
pub(super) fn find(data_dir: &Path) -> Option<String> {
    let note = fs::read_to_string(data_dir.join(NOTE)).ok()?;
    let (boot, instance) = note.trim_end().split_once('\n')?;
    (boot == boot_id()).then(|| instance.to_owned())
}

/// Notes that this daemon has the directory now. Where it cannot be noted, the next one waits for this one's lease.
pub(super) fn note(data_dir: &Path, instance: &str) {
    let written = fs::write(data_dir.join(NOTE), format!("{}\n{instance}\n", boot_id()));
    if let Err(error) = written {
        tracing::warn!(%error, "the next daemon will not know that this one had its data directory");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m7_a_predecessor_is_known_until_the_machine_starts_again() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(find(folder.path()), None);
        note(folder.path(), "first");
        note(folder.path(), "second");
        assert_eq!(find(folder.path()).as_deref(), Some("second"));
        // As in a copy of the directory, and after a restart of the machine.
        fs::write(folder.path().join(NOTE), "another boot\nsecond\n").unwrap();
        assert_eq!(find(folder.path()), None);
        fs::write(folder.path().join(NOTE), "").unwrap();
        assert_eq!(find(folder.path()), None);
    }
}
