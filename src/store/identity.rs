//! Whether the files that are open are still the ones with the database's name.
//!
//! A file that is removed or replaced while it is open takes writes as before, and all of them are gone with the process. So the writer
//! looks after each commit, before it answers: two looks at the file system beside a sync of the disk.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::connection::{DatabaseUrl, wal_of};

/// The files of an open database. A database on a server has none.
#[derive(Debug, Default)]
pub(super) struct Identity {
    database: Option<Named>,
    /// Known from the first look after the database was opened. SQLite makes it anew only when nobody has the database open.
    log: Option<Named>,
}

/// A file and what is to be found under its name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Named {
    fn find(path: &Path) -> io::Result<Self> {
        let found = std::fs::metadata(path)?;
        Ok(Self { path: path.to_owned(), device: found.dev(), inode: found.ino() })
    }

    fn lost(&self) -> Option<String> {
        let what = match Self::find(&self.path) {
            Ok(found) if found == *self => return None,
            Ok(_other) => "was replaced by another file",
            Err(error) if error.kind() == io::ErrorKind::NotFound => "was removed",
            // Not being able to look proves nothing.
            Err(_unknown) => return None,
        };
        Some(format!(
            "{} {what} while the daemon had it open: what was written since may be lost, and nothing more is written",
            self.path.display()
        ))
    }
}

impl Identity {
    /// That of a database which was just opened.
    pub(super) fn of(url: &DatabaseUrl) -> Self {
        let DatabaseUrl::Sqlite(path) = url else { return Self::default() };
        Self { database: Named::find(path).ok(), log: None }
    }

    /// What is wrong with the files, when something is.
    pub(super) fn lost(&mut self) -> Option<String> {
        let database = self.database.as_ref()?;
        if self.log.is_none() {
            self.log = Named::find(&wal_of(&database.path)).ok();
        }
        self.lost_database().or_else(|| self.log.as_ref()?.lost())
    }

    /// What is wrong with the database file itself.
    pub(super) fn lost_database(&self) -> Option<String> {
        self.database.as_ref()?.lost()
    }

    /// The database was opened again, and its log may be another one.
    pub(super) fn forget_log(&mut self) {
        self.log = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c6_a_file_that_was_removed_or_replaced_is_noticed_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sexton.db");
        std::fs::write(&path, "").unwrap();
        std::fs::write(wal_of(&path), "").unwrap();
        let mut identity = Identity::of(&DatabaseUrl::Sqlite(path.clone()));
        assert_eq!(identity.lost(), None);

        std::fs::rename(wal_of(&path), folder.path().join("aside")).unwrap();
        assert!(identity.lost().is_some_and(|why| why.contains("sexton.db-wal was removed")));
        std::fs::rename(folder.path().join("aside"), wal_of(&path)).unwrap();
        assert_eq!(identity.lost(), None);

        std::fs::write(folder.path().join("other"), "").unwrap();
        std::fs::rename(folder.path().join("other"), &path).unwrap();
        let why = identity.lost().unwrap();
        assert!(why.contains(&format!("{} was replaced", path.display())), "{why}");
    }
}
