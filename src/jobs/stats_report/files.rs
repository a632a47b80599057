//! Files that are there in whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// For whoever may read the folder; the umask takes the rest away.
const MODE: u32 = 0o644;
const TEMPORARY: &str = ".sexton-report-";

/// Replaces a file: a reader, or a crash at any moment, sees the old content or the new one.
pub(super) fn replace(folder: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let mut temporary = tempfile::Builder::new()
        .prefix(TEMPORARY)
        .permissions(fs::Permissions::from_mode(MODE))
        .tempfile_in(folder)?;
    temporary.write_all(content)?;
    temporary.as_file().sync_all()?;
    temporary.persist(folder.join(name))?;
    sync(folder)
}

/// Makes `name` lead to `target`, a file in the same folder, without a moment in which it leads nowhere. Where the file
/// system has no symbolic links, it becomes a copy.
pub(super) fn link(folder: &Path, name: &str, target: &str) -> io::Result<()> {
    let made =
        tempfile::Builder::new().prefix(TEMPORARY).make_in(folder, |path| symlink(target, path));
    match made {
        Ok(link) => {
            link.persist(folder.join(name))?;
            sync(folder)
        }
        // EPERM is what FAT and exFAT answer, EOPNOTSUPP some network file systems.
        Err(refused)
            if matches!(
                refused.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported
            ) =>
        {
            replace(folder, name, &fs::read(folder.join(target))?)
        }
        Err(other) => Err(other),
    }
}

/// The names of the ordinary files in a folder. Links and folders are left out: what this program removes by name must be
/// what it wrote. None where there is no such folder yet.
pub(super) fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            // A name that is not Unicode is none of ours.
            names.extend(entry.file_name().into_string());
        }
    }
    Ok(names)
}

/// Renames are on disk only once their folder is.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_swapped_and_never_followed_when_it_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        replace(folder.path(), "a.html", b"a").unwrap();
        replace(folder.path(), "b.html", b"b").unwrap();
        for (target, content) in [("a.html", "a"), ("b.html", "b")] {
            link(folder.path(), "latest.html", target).unwrap();
            let latest = folder.path().join("latest.html");
            assert_eq!(fs::read_link(&latest).unwrap(), Path::new(target));
            assert_eq!(fs::read_to_string(&latest).unwrap(), content);
        }
        // A report whose own name is a link somewhere else replaces the link, not what it leads to.
        let outside = tempfile::NamedTempFile::new().unwrap();
        symlink(outside.path(), folder.path().join("c.html")).unwrap();
        replace(folder.path(), "c.html", b"c").unwrap();
        assert_eq!(fs::read(outside.path()).unwrap(), b"");
        assert_eq!(fs::read(folder.path().join("c.html")).unwrap(), b"c");
    }

    #[test]
    fn links_and_folders_are_not_listed_and_nothing_temporary_stays() {
        let folder = tempfile::tempdir().unwrap();
        replace(folder.path(), "2026-11-21.html", b"").unwrap();
        link(folder.path(), "2026-11-20.html", "2026-11-21.html").unwrap();
        fs::create_dir(folder.path().join("2026-11-19.html")).unwrap();
        assert_eq!(names(folder.path()).unwrap(), ["2026-11-21.html"]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
        assert!(names(&folder.path().join("missing")).unwrap().is_empty());
    }
}
