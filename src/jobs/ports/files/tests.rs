use std::fs;
use std::os::unix::fs::symlink;

use super::*;

fn root() -> (tempfile::TempDir, Directory) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    let root = Directory::open_root(&path).unwrap();
    (folder, root)
}

fn look(directory: &Directory, name: &str) -> Metadata {
    directory.look_at(OsStr::new(name)).unwrap()
}

#[test]
fn a_root_that_is_or_leads_through_a_symbolic_link_is_refused() {
    let (folder, _root) = root();
    fs::create_dir_all(folder.path().join("real/inner")).unwrap();
    symlink("real", folder.path().join("link")).unwrap();
    for path in ["link", "link/inner"] {
        let found = Directory::open_root(&folder.path().join(path));
        assert!(matches!(found, Err(OpenError::Symlink)), "{path}: {found:?}");
    }
    assert!(Directory::open_root(&folder.path().join("real/inner")).is_ok());
}

#[test]
fn one_step_down_never_leaves_the_directory() {
    let (folder, root) = root();
    symlink("/etc", folder.path().join("link")).unwrap();
    fs::write(folder.path().join("file"), "x").unwrap();
    for name in ["link", "..", "/etc", "file"] {
        assert!(root.open(OsStr::new(name)).is_err(), "{name}");
    }
}

#[test]
fn a_file_that_was_written_to_or_exchanged_is_not_removed() {
    let (folder, root) = root();
    let path = folder.path().join("file");
    fs::write(&path, "old").unwrap();
    let before = look(&root, "file");
    fs::write(&path, "longer").unwrap();
    let name = OsStr::new("file");
    assert!(matches!(root.remove_file(name, &before, Locks::Ignore), Err(RemoveError::Changed)));
    let now = look(&root, "file");
    root.remove_file(name, &now, Locks::Ignore).unwrap();
    assert!(matches!(root.remove_file(name, &now, Locks::Ignore), Err(RemoveError::Gone)));
}

#[test]
fn a_locked_file_is_removed_only_by_those_who_ignore_locks() {
    let (folder, root) = root();
    let path = folder.path().join("file");
    fs::write(&path, "x").unwrap();
    let before = look(&root, "file");
    let holder = fs::File::open(&path).unwrap();
    flock(&holder, FlockOperation::NonBlockingLockExclusive).unwrap();
    let name = OsStr::new("file");
    assert!(matches!(root.remove_file(name, &before, Locks::Honour), Err(RemoveError::Locked)));
    root.remove_file(name, &before, Locks::Ignore).unwrap();
}

#[test]
fn only_an_empty_directory_is_removed_and_only_the_expected_one() {
    let (folder, root) = root();
    fs::create_dir_all(folder.path().join("a/b")).unwrap();
    let before = look(&root, "a").identity;
    let name = OsStr::new("a");
    assert!(matches!(root.remove_directory(name, before), Err(RemoveError::NotEmpty)));
    fs::remove_dir(folder.path().join("a/b")).unwrap();
    let other = Identity { inode: before.inode + 1, ..before };
    assert!(matches!(root.remove_directory(name, other), Err(RemoveError::Changed)));
    root.remove_directory(name, before).unwrap();
}

#[test]
fn a_listing_is_bounded_and_says_so() {
    let (folder, root) = root();
    for name in ["a", "b", "c"] {
        fs::write(folder.path().join(name), "x").unwrap();
    }
    assert!(!root.list(3).unwrap().is_cut);
    let cut = root.list(2).unwrap();
    assert!(cut.is_cut);
    assert_eq!(cut.entries.len(), 2);
}

#[test]
fn k3_a_trail_notices_that_its_place_was_moved() {
    let (folder, root) = root();
    fs::create_dir_all(folder.path().join("a/b/c")).unwrap();
    fs::create_dir(folder.path().join("elsewhere")).unwrap();
    let mut trail = Trail::at(&root);
    for name in ["a", "b", "c"] {
        let expected = trail.here().unwrap().look_at(OsStr::new(name)).unwrap().identity;
        trail.enter(OsStr::new(name), expected).unwrap();
    }
    trail.check().unwrap();
    fs::rename(folder.path().join("a/b"), folder.path().join("elsewhere/b")).unwrap();
    assert!(matches!(trail.check(), Err(OpenError::Replaced)));
    fs::create_dir_all(folder.path().join("a/b/c")).unwrap();
    assert!(matches!(trail.check(), Err(OpenError::Replaced)), "another directory of that name");
}

#[test]
fn a_trail_finds_its_way_up_again_from_far_below() {
    let (_folder, root) = root();
    let mut trail = Trail::at(&root);
    let depth = 3 * 64 + 7;
    let name = OsStr::new("a-name-of-some-length-so-that-the-path-is-longer-than-one-call-takes");
    let mut identities = Vec::new();
    for _ in 0..depth {
        let here = trail.here().unwrap();
        rustix::fs::mkdirat(&here.0, name, Mode::RWXU).unwrap();
        let identity = here.look_at(name).unwrap().identity;
        trail.enter(name, identity).unwrap();
        identities.push(identity);
    }
    trail.check().unwrap();
    for identity in identities.into_iter().rev() {
        assert_eq!(trail.here().unwrap().metadata().unwrap().identity, identity);
        trail.leave();
    }
    assert_eq!(trail.depth(), 0);
    let identity = root.metadata().unwrap().identity;
    assert_eq!(trail.here().unwrap().metadata().unwrap().identity, identity);
}
