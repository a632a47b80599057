//! Whether the daemon's data is where and whose it has to be.
//!
//! A directory that others can write lets them put a database of theirs in place of ours, with jobs of theirs in it, which run as us.
//! A database of another user is a sign that the daemon was started as the wrong one, and would make files that the right one cannot
//! open. And on a network file system neither SQLite's locks nor the memory that its connections share hold.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::statfs;
use rustix::process::geteuid;

use crate::api::user_name;
use crate::config::Settings;
use crate::model::for_shell;
use crate::store::DatabaseUrl;

/// Why the daemon does not work there.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// It belongs to somebody else.
    #[error("{} belongs to {owner} (mode {mode:04o}) and this is {me}: run it as that user, or give it to this one with `chown -R {me_id} {}`", path.display(), for_shell(path))]
    Foreign {
        /// What.
        path: PathBuf,
        /// To whom.
        owner: String,
        /// With which permissions.
        mode: u32,
        /// Who we are.
        me: String,
        /// Our number.
        me_id: u32,
    },
    /// Everybody may write it.
    #[error(
        "{} (owner {owner}, mode {mode:04o}) can be written by everybody on this machine, who could make the daemon run anything: `chmod o-w {}`",
        path.display(), for_shell(path)
    )]
    Open {
        /// What.
        path: PathBuf,
        /// Whose it is.
        owner: String,
        /// With which permissions.
        mode: u32,
    },
    /// It is on another machine.
    #[error(
        "{} is on {file_system}, where SQLite's locks do not hold: put `data_dir` and `database.url` on a disk of this machine, or use PostgreSQL",
        path.display()
    )]
    Remote {
        /// What.
        path: PathBuf,
        /// The kind of the file system.
        file_system: &'static str,
    },
    /// It cannot be looked at.
    #[error("cannot look at {}", path.display())]
    Unknown {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Looks at the data directory and, on SQLite, at the database and its directory, as far as they are there already.
pub(super) fn check(settings: &Settings) -> Result<(), PlaceError> {
    let me = geteuid().as_raw();
    check_directory(&settings.data_dir, me)?;
    let DatabaseUrl::Sqlite(database) = &settings.database else { return Ok(()) };
    if let Some(folder) = database.parent() {
        check_directory(folder, me)?;
        check_file_system(folder)?;
    }
    check_one(database, me, &[me])
}

/// Root may own a directory that the daemon uses: service managers make them like that.
fn check_directory(path: &Path, me: u32) -> Result<(), PlaceError> {
    check_one(path, me, &[me, 0])
}

fn check_one(path: &Path, me: u32, owners: &[u32]) -> Result<(), PlaceError> {
    match std::fs::metadata(path) {
        Ok(found) => judge(path, found.uid(), found.mode() & 0o7777, me, owners),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(PlaceError::Unknown { path: path.to_owned(), source }),
    }
}

fn judge(path: &Path, owner: u32, mode: u32, me: u32, owners: &[u32]) -> Result<(), PlaceError> {
    const OTHERS_MAY_WRITE: u32 = 0o002;
    let path = path.to_owned();
    if !owners.contains(&owner) {
        return Err(PlaceError::Foreign {
            path,
            owner: named(owner),
            mode,
            me: named(me),
            me_id: me,
        });
    }
    if mode & OTHERS_MAY_WRITE != 0 {
        return Err(PlaceError::Open { path, owner: named(owner), mode });
    }
    Ok(())
}

fn named(uid: u32) -> String {
    user_name(uid).map_or_else(|| format!("user {uid}"), |name| format!("{name} ({uid})"))
}

fn check_file_system(folder: &Path) -> Result<(), PlaceError> {
    // What cannot be asked (it is not there yet) is made on the file system of its parent, which is asked instead.
    let existing = folder.ancestors().find(|ancestor| ancestor.exists());
    let Some(found) = existing.and_then(|existing| statfs(existing).ok()) else { return Ok(()) };
    match remote(found.f_type) {
        Some(file_system) => Err(PlaceError::Remote { path: folder.to_owned(), file_system }),
        None => Ok(()),
    }
}

/// The name of a file system that is shared between machines. FUSE and 9p are not among them: what is behind them is mostly on this
/// machine (containers, virtual machines), and their locks hold here.
fn remote(magic: i64) -> Option<&'static str> {
    // From linux/magic.h and the file systems' own headers; numbers of 32 bits in a field as wide as a machine word.
    const REMOTE: [(u32, &str); 7] = [
        (0x0000_6969, "NFS"),
        (0x0000_517b, "SMB"),
        (0xff53_4d42, "CIFS"),
        (0xfe53_4d42, "SMB2"),
        (0x00c3_6400, "Ceph"),
        (0x5346_414f, "AFS"),
        (0x0bd0_0bd0, "Lustre"),
    ];
    let (_, name) = REMOTE.iter().find(|(number, _)| *number == magic as u32)?;
    Some(*name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c7_what_belongs_to_another_or_is_open_to_all_is_refused_with_path_owner_and_mode() {
        let path = Path::new("/var/lib/sexton/sexton.db");
        let said = |owner, mode| judge(path, owner, mode, 4000, &[4000]).unwrap_err().to_string();
        let foreign = said(4001, 0o640);
        for part in ["`chown -R 4000 /var/lib/sexton/sexton.db`", "user 4001", "0640", "user 4000"]
        {
            assert!(foreign.contains(part), "{part}: {foreign}");
        }
        let open = said(4000, 0o666);
        for part in ["/var/lib/sexton/sexton.db", "user 4000", "0666", "chmod o-w"] {
            assert!(open.contains(part), "{part}: {open}");
        }
        let path_with_space = Path::new("/tmp/dä ta/d");
        for refused in [
            judge(path_with_space, 4001, 0o640, 4000, &[4000]),
            judge(path_with_space, 4000, 0o666, 4000, &[4000]),
        ] {
            let said = refused.unwrap_err().to_string();
            assert!(said.contains("'/tmp/dä ta/d'`"), "it is no word of a shell: {said}");
        }
        judge(path, 4000, 0o660, 4000, &[4000]).unwrap();
        judge(path, 0, 0o750, 4000, &[4000, 0]).unwrap();
    }

    #[test]
    fn c7_network_file_systems_are_known_by_name_and_local_ones_are_not_among_them() {
        assert_eq!(remote(0x6969), Some("NFS"));
        // As a 32-bit system gives a number with the highest bit set.
        assert_eq!(remote(i64::from(0xff53_4d42_u32 as i32)), Some("CIFS"));
        for (local, magic) in [("ext4", 0xef53), ("tmpfs", 0x0102_1994), ("btrfs", 0x9123_683e)] {
            assert_eq!(remote(magic), None, "{local}");
        }
        check_file_system(&std::env::temp_dir().join("not/there/yet")).unwrap();
    }
}
