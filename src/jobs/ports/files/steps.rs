//! Entering a directory where `openat2` is not to be had, part by part.
//!
//! systemd lets `openat2` fail with `ENOSYS` in units with `RestrictSUIDSGID=`, ours among them, because its filter cannot look into
//! the structure that holds the mode. What that call checks in one go is checked here on handles, and no weaker: each part is a
//! single name that is opened without following a link, so nothing leads out of the parent; and each handle is asked for the number
//! of its mount, which tells bind mounts of the same device too. A kernel that does not know that number (before Linux 5.8) is an
//! error, `ENOSYS`.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags, openat, statx};
use rustix::io::{Errno, Result};

/// Whether a walk may go through mount points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mounts {
    Cross,
    Stay,
}

/// Opens what is at `path`, which has no symbolic link and no `..` in it. An absolute path starts at the root, another at `parent`.
pub(super) fn open(
    parent: impl AsFd,
    path: &OsStr,
    flags: OFlags,
    mounts: Mounts,
) -> Result<OwnedFd> {
    let mut names = Vec::new();
    let mut start = OsStr::new(".");
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => names.push(name),
            Component::RootDir if mounts == Mounts::Cross => start = OsStr::new("/"),
            Component::CurDir => {}
            Component::RootDir | Component::ParentDir | Component::Prefix(_) => {
                return Err(Errno::XDEV);
            }
        }
    }
    let Some((last, before)) = names.split_last() else {
        return openat(parent, start, flags, Mode::empty());
    };
    let through = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut here = openat(parent, start, through, Mode::empty())?;
    let mount = mount_of(&here)?;
    for (name, flags) in before.iter().map(|name| (name, through)).chain([(last, flags)]) {
        here = step(&here, name, flags)?;
        if mounts == Mounts::Stay && mount_of(&here)? != mount {
            return Err(Errno::XDEV);
        }
    }
    Ok(here)
}

fn step(parent: &OwnedFd, name: &OsStr, flags: OFlags) -> Result<OwnedFd> {
    openat(parent, name, flags | OFlags::NOFOLLOW, Mode::empty()).map_err(|errno| {
        // With O_DIRECTORY a link is "no directory", where `openat2` says what it is. Only for the message.
        let is_link = || {
            let found = statx(parent, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE);
            found.is_ok_and(|found| FileType::from_raw_mode(found.stx_mode.into()).is_symlink())
        };
        if errno == Errno::NOTDIR && is_link() { Errno::LOOP } else { errno }
    })
}

fn mount_of(handle: &OwnedFd) -> Result<u64> {
    let found = statx(handle, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    let is_known = found.stx_mask & StatxFlags::MNT_ID.bits() != 0;
    if is_known { Ok(found.stx_mnt_id) } else { Err(Errno::NOSYS) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};

    use rustix::fs::{CWD, RenameFlags, renameat_with};

    use super::super::{DIRECTORY, Directory, Identity};
    use super::*;

    fn root() -> (tempfile::TempDir, Directory) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        let root = open(CWD, path.as_os_str(), DIRECTORY, Mounts::Cross).unwrap();
        (folder, Directory(root))
    }

    fn enter(root: &Directory, name: &str) -> Result<OwnedFd> {
        open(&root.0, OsStr::new(name), DIRECTORY, Mounts::Stay)
    }

    #[test]
    fn k2_a_root_that_is_or_leads_through_a_symbolic_link_is_refused() {
        let (folder, _root) = root();
        fs::create_dir_all(folder.path().join("real/inner")).unwrap();
        symlink("real", folder.path().join("link")).unwrap();
        for path in ["link", "link/inner"] {
            let path = folder.path().join(path);
            let found = open(CWD, path.as_os_str(), DIRECTORY, Mounts::Cross);
            assert_eq!(found.unwrap_err(), Errno::LOOP, "{}", path.display());
        }
        let real = folder.path().join("real/inner");
        let found = open(CWD, real.as_os_str(), DIRECTORY, Mounts::Cross).unwrap();
        let identity = Directory(found).metadata().unwrap().identity;
        assert_eq!(identity, Identity::of(&real).unwrap());
    }

    #[test]
    fn k2_a_step_never_leaves_the_directory() {
        let (folder, root) = root();
        symlink("/etc", folder.path().join("link")).unwrap();
        fs::write(folder.path().join("file"), "x").unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        for name in ["link", "..", "/etc", "file", "a/../../etc", "a/../../link"] {
            assert!(enter(&root, name).is_err(), "{name}");
        }
        for name in ["a", "a/b", "./a"] {
            assert!(enter(&root, name).is_ok(), "{name}");
        }
    }

    #[test]
    fn k4_a_mount_is_not_entered() {
        let root = Directory(open(CWD, OsStr::new("/"), DIRECTORY, Mounts::Cross).unwrap());
        for name in ["proc", "proc/self"] {
            assert_eq!(enter(&root, name).unwrap_err(), Errno::XDEV, "{name}");
        }
        assert!(open(CWD, OsStr::new("/proc/1"), DIRECTORY, Mounts::Cross).is_ok());
    }

    #[test]
    fn k1_a_directory_that_is_swapped_for_a_link_all_the_time_is_entered_itself_or_not_at_all() {
        const STEPS: usize = 20_000;
        let (folder, root) = root();
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        symlink(outside.path(), folder.path().join("b")).unwrap();
        let real = Identity::of(&folder.path().join("a")).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (a, b) = (folder.path().join("a"), folder.path().join("b"));
                while !done.load(Ordering::Relaxed) {
                    renameat_with(CWD, &a, CWD, &b, RenameFlags::EXCHANGE).unwrap();
                }
            });
            let mut refused = 0;
            for _ in 0..STEPS {
                match enter(&root, "a") {
                    Ok(found) => {
                        assert_eq!(Directory(found).metadata().unwrap().identity, real);
                    }
                    Err(_) => refused += 1,
                }
            }
            done.store(true, Ordering::Relaxed);
            assert!(refused > 0, "the attacker never got between");
        });
    }
}
