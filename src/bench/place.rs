//! Where the databases of a measurement are, and that nothing is left of them.

use std::fmt;
use std::path::Path;

use rustix::fs::statfs;
use tempfile::TempDir;

use super::BenchError;
use crate::store::{Conn, DatabaseUrl, Purpose, maintenance, migrations};

/// `TMPFS_MAGIC` of linux/magic.h.
const TMPFS: u32 = 0x0102_1994;

/// A place for one database after the other. What was made there goes when it is dropped, or before with [`clear`](Self::clear).
#[derive(Debug)]
pub struct Place {
    url: DatabaseUrl,
    /// For an SQLite database, its directory. For one on a server, nothing but to be there.
    _folder: Option<TempDir>,
}

impl Place {
    /// SQLite databases in a directory of their own below `parent`, or below the directory for temporary files.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn below(parent: Option<&Path>) -> Result<Self, BenchError> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("sexton-bench-");
        let folder = match parent {
            Some(parent) => builder.tempdir_in(parent)?,
            None => builder.tempdir()?,
        };
        let url = DatabaseUrl::Sqlite(folder.path().join("sexton.db"));
        Ok(Self { url, _folder: Some(folder) })
    }

    /// A database that somebody gives for it.
    ///
    /// # Errors
    /// When there is anything in it, or it cannot be asked.
    pub fn given(url: DatabaseUrl) -> Result<Self, BenchError> {
        let is_empty = match &url {
            DatabaseUrl::Sqlite(path) => !path.exists(),
            DatabaseUrl::Postgres(_) => maintenance::is_blank(&mut url.connect(Purpose::Read)?)?,
        };
        if is_empty { Ok(Self { url, _folder: None }) } else { Err(BenchError::NotEmpty(url)) }
    }

    /// Whether the databases are in memory, which says nothing about a disk.
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        let DatabaseUrl::Sqlite(path) = &self.url else { return false };
        let existing = path.ancestors().find(|ancestor| ancestor.exists());
        let kind = existing.and_then(|existing| statfs(existing).ok()).map(|found| found.f_type);
        kind == Some(i64::from(TMPFS))
    }

    /// An empty database; the one before is gone.
    ///
    /// # Errors
    /// When that one cannot be removed.
    pub fn fresh(&mut self) -> Result<DatabaseUrl, BenchError> {
        self.clear()?;
        Ok(self.url.clone())
    }

    /// Removes what was made here.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn clear(&self) -> Result<(), BenchError> {
        match &self.url {
            DatabaseUrl::Sqlite(path) => {
                for suffix in ["", "-wal", "-shm"] {
                    let mut name = path.as_os_str().to_owned();
                    name.push(suffix);
                    match std::fs::remove_file(name) {
                        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                            return Err(error.into());
                        }
                        Ok(()) | Err(_) => {}
                    }
                }
            }
            DatabaseUrl::Postgres(_) => {
                let mut conn: Conn = self.url.connect(Purpose::Write)?;
                migrations::remove(&mut conn)?;
            }
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = self.clear() {
            tracing::warn!(error = %crate::model::Chain(&error), database = %self.url, "what was measured is still there");
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}
