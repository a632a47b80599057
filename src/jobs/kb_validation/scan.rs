//! The walk: everything below the root, in an order that is the same every time.

use std::collections::BTreeSet;

use cap_std::fs::DirEntry;
use globset::GlobSet;

use super::finding::Report;
use super::root::{Root, Stamp};
use super::rule::Rule;

/// What is below the root.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Regular files, and links to regular files below the root, sorted by path.
    pub(super) files: Vec<FileEntry>,
    /// Folders, without the root.
    pub(super) folders: BTreeSet<String>,
    /// What is neither, or cannot be looked at, sorted by path.
    pub(super) odd: Vec<(String, Report)>,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileEntry {
    pub(super) path: String,
    pub(super) stamp: Stamp,
}

/// Why a walk did not end well.
#[derive(Debug, thiserror::Error)]
pub(super) enum ScanError {
    #[error("the attempt was stopped")]
    Stopped,
    #[error(
        "there are more than {MAX_ENTRIES} files and folders; narrow `root` or add to `exclude`"
    )]
    TooMany,
}

/// Bounds the memory of a walk.
const MAX_ENTRIES: usize = 2_000_000;

/// Folders of version control hold nothing that people wrote, and much.
const SKIPPED_FOLDERS: [&str; 3] = [".git", ".hg", ".svn"];

/// Walks the tree. Folders behind symbolic links are not entered: below the root they are met under their own name.
pub(super) fn scan(
    root: &Root,
    exclude: &GlobSet,
    must_stop: &dyn Fn() -> bool,
) -> Result<Scan, ScanError> {
    let mut scan = Scan::default();
    // A list and not recursion: a tree may be deeper than the stack. Only one folder is open at a time.
    let mut to_visit = vec![String::new()];
    while let Some(folder) = to_visit.pop() {
        if must_stop() {
            return Err(ScanError::Stopped);
        }
        let entries = match root.folder(&folder).and_then(|folder| folder.entries()) {
            Ok(entries) => entries,
            // What vanished during the walk was not there.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !folder.is_empty() => {
                continue;
            }
            Err(error) => {
                scan.unreadable(folder, &error);
                continue;
            }
        };
        for entry in entries {
            match entry {
                Ok(entry) => scan.take(root, &folder, &entry, exclude, &mut to_visit),
                Err(error) => {
                    scan.unreadable(folder.clone(), &error);
                    break;
                }
            }
            if scan.files.len() + scan.folders.len() + scan.odd.len() > MAX_ENTRIES {
                return Err(ScanError::TooMany);
            }
        }
    }
    scan.files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    scan.odd.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(scan)
}

impl Scan {
    fn take(
        &mut self,
        root: &Root,
        folder: &str,
        entry: &DirEntry,
        exclude: &GlobSet,
        to_visit: &mut Vec<String>,
    ) {
        let name = match entry.file_name().into_string() {
            Ok(name) => name,
            Err(name) => {
                let path = join(folder, &name.as_encoded_bytes().escape_ascii().to_string());
                self.odd.push((path, Report::new(Rule::BadName, "the name is not UTF-8")));
                return;
            }
        };
        let path = join(folder, &name);
        if exclude.is_match(&path) {
            return;
        }
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => return self.unreadable(path, &error),
        };
        let kind = metadata.file_type();
        if kind.is_dir() {
            if !SKIPPED_FOLDERS.contains(&name.as_str()) {
                self.folders.insert(path.clone());
                to_visit.push(path);
            }
        } else if kind.is_file() {
            self.files.push(FileEntry { path, stamp: Stamp::of(&metadata) });
        } else if kind.is_symlink() {
            self.link(root, path);
        } else {
            let report = Report::new(Rule::NotAFile, "it is a pipe, a socket or a device");
            self.odd.push((path, report.hint("it is not opened")));
        }
    }

    fn link(&mut self, root: &Root, path: String) {
        match root.metadata(&path) {
            Ok(target) if target.is_file() => {
                self.files.push(FileEntry { path, stamp: Stamp::of(&target) });
            }
            Ok(target) if target.is_dir() => {
                self.folders.insert(path);
            }
            Ok(_pipe_or_device) => {
                let report =
                    Report::new(Rule::NotAFile, "it leads to a pipe, a socket or a device");
                self.odd.push((path, report.hint("it is not opened")));
            }
            Err(error) => {
                let message = match error.kind() {
                    std::io::ErrorKind::NotFound => "the link leads nowhere",
                    _ => "the link leads out of the root or in a circle",
                };
                self.odd.push((
                    path,
                    Report::new(Rule::BadSymlink, message).hint("it is not followed"),
                ));
            }
        }
    }

    fn unreadable(&mut self, path: String, error: &std::io::Error) {
        let report = Report::new(Rule::Unreadable, format!("cannot be read: {error}"));
        self.odd.push((if path.is_empty() { ".".to_owned() } else { path }, report));
    }
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use globset::{Glob, GlobSetBuilder};

    use super::super::finding::{Findings, Levels};
    use super::*;

    fn walk(folder: &std::path::Path, exclude: &[&str]) -> Scan {
        let mut builder = GlobSetBuilder::new();
        for pattern in exclude {
            builder.add(Glob::new(pattern).unwrap());
        }
        let root = Root::open(folder).unwrap();
        scan(&root, &builder.build().unwrap(), &|| false).unwrap()
    }

    fn paths(scan: &Scan) -> Vec<&str> {
        scan.files.iter().map(|file| file.path.as_str()).collect()
    }

    #[test]
    fn files_come_in_order_and_version_control_and_exclusions_do_not() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["b/z.md", "b/a.md", "a.md", ".git/HEAD", "drafts/x/y.md", ".hidden"] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let scan = walk(folder.path(), &["drafts"]);
        assert_eq!(paths(&scan), [".hidden", "a.md", "b/a.md", "b/z.md"]);
        assert_eq!(scan.folders.iter().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn k1_links_out_of_the_root_are_told_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let kb = folder.path().join("kb");
        fs::create_dir_all(kb.join("sub")).unwrap();
        fs::write(kb.join("sub/a.md"), "").unwrap();
        fs::write(folder.path().join("secret.md"), "").unwrap();
        for (target, link) in [
            ("../secret.md", "out"),
            ("/etc", "etc"),
            ("none", "gone"),
            ("loop", "loop"),
            ("sub/a.md", "in"),
            ("sub", "dir"),
        ] {
            symlink(target, kb.join(link)).unwrap();
        }
        symlink("..", kb.join("sub/up")).unwrap();
        let scan = walk(&kb, &[]);
        assert_eq!(paths(&scan), ["in", "sub/a.md"]);
        let odd: Vec<&str> = scan.odd.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(odd, ["etc", "gone", "loop", "out"]);
        assert!(scan.folders.contains("dir") && scan.folders.contains("sub/up"));
    }

    #[test]
    fn k7_names_that_are_not_text_and_trees_without_end_do_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(OsStr::from_bytes(b"a\xff\n.json")), "{").unwrap();
        let mut deep =
            cap_std::fs::Dir::open_ambient_dir(folder.path(), cap_std::ambient_authority())
                .unwrap();
        let name = "d".repeat(200);
        for _ in 0..40 {
            deep.create_dir(&name).unwrap();
            deep = deep.open_dir(&name).unwrap();
        }
        deep.write("x.json", "{").unwrap();
        let scan = walk(folder.path(), &[]);
        let levels = Levels::default();
        let rules: Vec<Rule> = scan
            .odd
            .iter()
            .map(|(path, report)| {
                let mut findings = Findings::new(path, &levels, 9);
                findings.add(report.clone());
                findings.finish().0[0].rule
            })
            .collect();
        assert_eq!(scan.odd[0].0, "a\\xff\\n.json");
        assert_eq!(rules[0], Rule::BadName);
        // Past the longest path the kernel takes, a folder is reported and the walk goes on.
        assert!(rules[1..].iter().all(|rule| *rule == Rule::Unreadable), "{rules:?}");
    }
}
