//! Which directories to watch so that no way of changing a directory of schedules goes unheard.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// As many links as the kernel follows before it calls them a loop.
const MAX_LINKS: usize = 40;
/// Files that are links to elsewhere have the directory of their target watched, as long as there are not more of them than this.
const MAX_LINKED_FILES: usize = 256;

/// What to watch, and which names in it matter.
#[derive(Debug, Default)]
pub(super) struct Targets {
    /// Directories in which every name matters.
    whole: BTreeSet<PathBuf>,
    /// Single names that matter: the directories themselves, the links on the way to them, the first part of a path that is missing.
    names: BTreeSet<PathBuf>,
    /// How many schedule files there are in all of them.
    files: usize,
}

impl Targets {
    pub(super) fn of(directories: &[PathBuf]) -> Self {
        let mut targets = Self::default();
        for directory in directories {
            if let Some(real) = targets.trace(directory) {
                targets.trace_linked_files(&real);
                targets.whole.insert(real);
            }
        }
        targets
    }

    /// The directories to watch: those that matter as a whole, and those that hold a name that matters.
    pub(super) fn watches(&self) -> Vec<PathBuf> {
        let parents = self.names.iter().filter_map(|name| name.parent());
        let all: BTreeSet<&Path> = parents.chain(self.whole.iter().map(PathBuf::as_path)).collect();
        all.into_iter().map(Path::to_owned).collect()
    }

    /// How many schedule files there are.
    pub(super) fn files(&self) -> usize {
        self.files
    }

    /// Whether an event about `path` may mean that schedules changed.
    pub(super) fn concern(&self, path: &Path) -> bool {
        self.names.contains(path)
            || self.whole.contains(path)
            || path.parent().is_some_and(|parent| self.whole.contains(parent))
            || self.names.iter().any(|name| name.parent() == Some(path))
    }

    /// Follows `path` link by link as the kernel would, and notes every name on the way that leads elsewhere when it changes. The
    /// directory at the end, if there is one.
    fn trace(&mut self, path: &Path) -> Option<PathBuf> {
        let mut real = PathBuf::from("/");
        let mut rest = parts(&std::path::absolute(path).ok()?);
        let mut links = 0;
        while let Some(part) = rest.pop_front() {
            if part == ".." {
                real.pop();
                continue;
            }
            let next = real.join(&part);
            let Ok(metadata) = fs::symlink_metadata(&next) else {
                self.names.insert(next);
                return None;
            };
            if metadata.is_symlink() {
                links += 1;
                let target = fs::read_link(&next).ok().filter(|_| links <= MAX_LINKS);
                self.names.insert(next);
                let target = target?;
                if target.is_absolute() {
                    real = PathBuf::from("/");
                }
                let behind = std::mem::take(&mut rest);
                rest = parts(&target);
                rest.extend(behind);
                continue;
            }
            if rest.is_empty() {
                self.names.insert(next.clone());
            }
            real = next;
        }
        real.is_dir().then_some(real)
    }

    /// A file may be a link to somewhere else, where it is then edited.
    fn trace_linked_files(&mut self, directory: &Path) {
        let Ok(entries) = fs::read_dir(directory) else { return };
        let is_schedule =
            |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().ends_with(b".toml");
        let mut links: Vec<PathBuf> = Vec::new();
        for entry in entries.filter_map(Result::ok).filter(is_schedule) {
            self.files += 1;
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            if is_link && links.len() < MAX_LINKED_FILES {
                links.push(entry.path());
            }
        }
        for link in links {
            self.trace(&link);
        }
    }
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    parts.collect()
}

/// Whether changes that other machines make to this directory are not heard of here.
pub(super) fn is_remote(path: &Path) -> bool {
    // From linux/magic.h and the file systems' own headers: NFS, the three generations of SMB, FUSE, 9p, Ceph, AFS.
    const REMOTE: [u32; 8] = [
        0x0000_6969,
        0x0000_517b,
        0xff53_4d42,
        0xfe53_4d42,
        0x6573_5546,
        0x0102_1997,
        0x00c3_6400,
        0x5346_414f,
    ];
    // The field is as wide as a machine word; magic numbers have 32 bits.
    rustix::fs::statfs(path).is_ok_and(|found| REMOTE.contains(&(found.f_type as u32)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_link_on_the_way_and_the_directory_itself_matter() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("v1/schedules")).unwrap();
        symlink("v1", root.join("current")).unwrap();
        let targets = Targets::of(&[root.join("current/schedules")]);
        assert!(targets.concern(&root.join("current")));
        assert!(targets.concern(&root.join("v1/schedules")));
        assert!(targets.concern(&root.join("v1/schedules/a.toml")));
        assert!(!targets.concern(&root.join("v2")));
        assert_eq!(targets.watches(), [root.clone(), root.join("v1"), root.join("v1/schedules")]);
    }

    #[test]
    fn what_is_missing_is_awaited_where_it_would_appear() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let targets = Targets::of(&[root.join("a/b/c")]);
        assert_eq!(targets.watches(), std::slice::from_ref(&root));
        assert!(targets.concern(&root.join("a")));
        assert!(!targets.concern(&root.join("b")));
    }

    #[test]
    fn links_that_go_in_circles_end() {
        let dir = tempfile::tempdir().unwrap();
        symlink("b", dir.path().join("a")).unwrap();
        symlink("a", dir.path().join("b")).unwrap();
        assert!(!Targets::of(&[dir.path().join("a")]).watches().is_empty());
    }
}
