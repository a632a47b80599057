//! Looking at a tree before anything is decided.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::FileType;

use super::attempt::Halt;
use super::names::{is_ours, shown};
use super::plan::{Entry, Listing};
use super::root::{Root, link_target, look, names_in};
use crate::jobs::{Context, Failure};

/// Which side a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Links that lead out of it do not take part.
    Source,
    /// Other file systems below it are not touched.
    Destination,
}

/// A listing, and the files of ours that earlier runs left in the tree.
#[derive(Debug, Default)]
pub(super) struct Walked {
    pub(super) listing: Listing,
    pub(super) ours: Vec<PathBuf>,
}

/// Lists a tree. One unreadable directory fails the whole: what cannot be seen must not look absent.
pub(super) fn walk(context: &Context, root: &Root, side: Side) -> Result<Walked, Halt> {
    let mut walked = Walked::default();
    let mut pending = vec![PathBuf::new()];
    let mount = look(root.handle(), "".as_ref())
        .map_err(|error| unreadable(side, Path::new(""), &error))?
        .mount;
    while let Some(folder) = pending.pop() {
        if context.must_stop() {
            return Err(Halt::Stopped);
        }
        let fail = |error: io::Error| unreadable(side, &folder, &error);
        let handle = root.folder(&folder).map_err(fail)?;
        for name in names_in(&handle).map_err(fail)? {
            let path = folder.join(&name);
            if is_ours(&name) {
                walked.ours.push(path);
                continue;
            }
            let seen = match look(&handle, &name) {
                Ok(seen) => seen,
                // It went away since the directory was read, which is the same as not having been there.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(unreadable(side, &path, &error)),
            };
            let listing = &mut walked.listing;
            match seen.kind {
                FileType::RegularFile => {
                    listing.entries.insert(path, Entry::File(seen.facts));
                }
                FileType::Symlink => {
                    let target = link_target(&handle, &name)
                        .map_err(|error| unreadable(side, &path, &error))?;
                    if side == Side::Source && !stays_inside(&folder, &target) {
                        listing.skipped.insert(path, "a link that leads out of the source");
                    } else {
                        listing.entries.insert(path, Entry::Link(target));
                    }
                }
                FileType::Directory if side == Side::Destination && seen.mount != mount => {
                    listing.skipped.insert(path, "another file system");
                }
                FileType::Directory => {
                    listing.folders.insert(path.clone());
                    pending.push(path);
                }
                _ => {
                    listing.skipped.insert(path, "neither a file nor a link");
                }
            }
        }
    }
    Ok(walked)
}

fn unreadable(side: Side, path: &Path, error: &io::Error) -> Halt {
    let side = match side {
        Side::Source => "source",
        Side::Destination => "destination",
    };
    Failure::error(format!(
        "cannot list `{}` in the {side}, so nothing was changed: {error}",
        shown(path)
    ))
    .into()
}

/// Whether a link in `folder` leads to somewhere below the root, going by its text.
fn stays_inside(folder: &Path, target: &Path) -> bool {
    let mut depth = i64::try_from(folder.components().count()).unwrap_or(i64::MAX);
    for part in target.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir => depth -= 1,
            Component::RootDir | Component::Prefix(_) => return false,
        }
        if depth < 0 {
            return false;
        }
    }
    true
}

/// Adds the hashes of the files that only their content can tell apart: those on both sides with the same size.
pub(super) fn add_digests(
    context: &Context,
    (source_root, source): (&Root, &mut Listing),
    (root, destination): (&Root, &mut Listing),
) -> Result<(), Halt> {
    let same_size: Vec<PathBuf> = source
        .entries
        .iter()
        .filter(|(path, entry)| match (entry, destination.entries.get(*path)) {
            (Entry::File(one), Some(Entry::File(other))) => one.size == other.size,
            _ => false,
        })
        .map(|(path, _entry)| path.clone())
        .collect();
    for (done, path) in (0_u64..).zip(&same_size) {
        context
            .progress
            .report(None, format!("comparing file {} of {}", done + 1, same_size.len()));
        for (side, root, listing) in [
            (Side::Source, source_root, &mut *source),
            (Side::Destination, root, &mut *destination),
        ] {
            let digest = root
                .file(path)
                .and_then(|file| digest(context, file))
                .map_err(|error| unreadable(side, path, &error))?;
            if let (Some(Entry::File(facts)), Some(digest)) =
                (listing.entries.get_mut(path), digest)
            {
                facts.digest = Some(digest);
            }
        }
        if context.must_stop() {
            return Err(Halt::Stopped);
        }
    }
    Ok(())
}

/// How much is read and written at a time.
pub(super) const CHUNK_BYTES: usize = 256 * 1024;

/// The hash of what is left to read. `None` when the attempt has to stop.
fn digest(context: &Context, mut file: File) -> io::Result<Option<blake3::Hash>> {
    let mut hasher = blake3::Hasher::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        if context.must_stop() {
            return Ok(None);
        }
        match file.read(&mut chunk)? {
            0 => return Ok(Some(hasher.finalize())),
            read => hasher.update(&chunk[..read]),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l5_a_link_stays_inside_or_is_left_out() {
        for (folder, target, inside) in [
            ("", "a", true),
            ("a/b", "../c", true),
            ("a/b", "../../c", true),
            ("a", "../../c", false),
            ("a", "b/../../../c", false),
            ("", "/etc/passwd", false),
            ("a", "..", true),
        ] {
            assert_eq!(stays_inside(folder.as_ref(), target.as_ref()), inside, "{folder} {target}");
        }
    }
}
