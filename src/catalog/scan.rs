//! What is on disk right now: which files there are, whether they may be read, and their text where it may be new.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, FileType};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::access::{self, Place};
use super::stamp::Stamp;
use crate::schedule::{Code, Diagnostic, MAX_FILE_BYTES, NotText, Severity, text_of};
use jiff::Timestamp;

/// What a file's content is compared by.
pub(super) type ContentHash = blake3::Hash;

/// What the previous snapshot knows of files, so that they need not be read again.
pub(super) type Known<'a> = HashMap<&'a Path, Stamp>;

/// All directories, in the order in which later ones override earlier ones.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) directories: Vec<DirectoryScan>,
}

/// One directory.
#[derive(Debug)]
pub(super) struct DirectoryScan {
    pub(super) path: PathBuf,
    pub(super) listing: Listing,
}

/// What became of listing a directory.
#[derive(Debug)]
pub(super) enum Listing {
    /// It was read.
    Entries(Entries),
    /// It is not there.
    Missing,
    /// It is there, or something is, and cannot be read.
    Unreadable(io::Error),
}

/// The content of a directory.
#[derive(Debug)]
pub(super) struct Entries {
    pub(super) identity: Identity,
    pub(super) files: Vec<ScannedFile>,
    /// What looks like a file and is no schedule file.
    pub(super) ignored: Vec<PathBuf>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// Which directory it is. A directory that was deleted and made again may get its old inode number back, so the time it was made
/// belongs to it as far as the file system knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    made: Option<SystemTime>,
}

/// One file whose name says that it is a schedule file.
#[derive(Debug)]
pub(super) struct ScannedFile {
    /// What decides which file overrides which: its name in its directory.
    pub(super) name: OsString,
    pub(super) path: PathBuf,
    pub(super) content: Content,
}

/// What is in a file.
#[derive(Debug)]
pub(super) enum Content {
    /// Nothing, on purpose: it is a link to `/dev/null`, which switches off the file of that name in earlier directories.
    Masked,
    /// What was in it when the previous snapshot was made.
    Same,
    /// Text that may be new.
    Text { text: String, hash: ContentHash, stamp: Stamp, warnings: Vec<Diagnostic> },
    /// It cannot be used.
    Refused(Diagnostic),
}

/// Looks at every directory.
pub(super) fn scan(directories: &[PathBuf], known: &Known<'_>, now: Timestamp) -> Scan {
    let directories = directories.iter().map(|path| DirectoryScan {
        path: path.clone(),
        listing: match list(path, known, now) {
            Ok(entries) => Listing::Entries(entries),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Listing::Missing,
            Err(error) => Listing::Unreadable(error),
        },
    });
    Scan { directories: directories.collect() }
}

fn list(directory: &Path, known: &Known<'_>, now: Timestamp) -> io::Result<Entries> {
    // The directory may be a link that is pointed elsewhere while it is read. Everything is read from where it points now.
    let real = fs::canonicalize(directory)?;
    let metadata = fs::metadata(&real)?;
    let identity =
        Identity { device: metadata.dev(), inode: metadata.ino(), made: metadata.created().ok() };
    let mut names: Vec<(OsString, FileType)> = Vec::new();
    for entry in fs::read_dir(&real)? {
        let entry = entry?;
        names.push((entry.file_name(), entry.file_type()?));
    }
    names.sort_by(|one, other| one.0.cmp(&other.0));

    let (candidates, others): (Vec<_>, Vec<_>) =
        names.into_iter().partition(|(name, _)| is_schedule_file(name));
    let ignored = others
        .into_iter()
        .filter(|(name, kind)| !kind.is_dir() && !name.as_encoded_bytes().starts_with(b".."))
        .map(|(name, _)| directory.join(name))
        .collect();
    let place = Place::new(&metadata);
    let files = candidates
        .into_iter()
        .filter_map(|(name, _)| {
            let shown = directory.join(&name);
            let content = read(&real.join(&name), &shown, place, known, now)?;
            Some(ScannedFile { name, path: shown, content })
        })
        .collect();
    let diagnostics = access::of_directory(directory, &real, &metadata);
    Ok(Entries { identity, files, ignored, diagnostics })
}

/// Only `*.toml`, and nothing that an editor or a package manager leaves behind: names that begin with a dot or `#`, and
/// names that go on behind the extension (`x.toml~`, `x.toml.bak`, `x.toml.swp`, `x.toml.dpkg-old`, `x.toml.rpmnew`).
fn is_schedule_file(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.ends_with(b".toml") && !name.starts_with(b".") && !name.starts_with(b"#")
}

/// One file that was named on the command line, whatever its name.
pub(super) fn scan_file(path: &Path, now: Timestamp) -> ScannedFile {
    let content = read(path, path, Place::ON_ITS_OWN, &Known::new(), now).unwrap_or_else(|| {
        Content::Refused(unreadable(path, &io::Error::from(io::ErrorKind::NotFound)))
    });
    ScannedFile { name: path.as_os_str().to_owned(), path: path.to_owned(), content }
}

/// What is in the file; nothing when it is gone by now.
fn read(
    path: &Path,
    shown: &Path,
    place: Place,
    known: &Known<'_>,
    now: Timestamp,
) -> Option<Content> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A link that leads nowhere is a mistake; a file that was deleted since it was listed is none.
            fs::symlink_metadata(path).ok()?;
            return Some(Content::Refused(
                unreadable(shown, &error)
                    .with_help("it is a link, and what it points to is not there"),
            ));
        }
        Err(error) => return Some(Content::Refused(unreadable(shown, &error))),
    };
    if access::is_null_device(&metadata) {
        return Some(Content::Masked);
    }
    if let Some(refusal) = access::refusal(shown, &metadata, place) {
        return Some(Content::Refused(refusal));
    }
    let stamp = Stamp::new(&metadata, now);
    if known.get(shown).is_some_and(|before| before.tells_that_nothing_changed(&stamp)) {
        return Some(Content::Same);
    }
    Some(read_text(path, shown, place, now).unwrap_or_else(|refusal| Content::Refused(*refusal)))
}

fn read_text(
    path: &Path,
    shown: &Path,
    place: Place,
    now: Timestamp,
) -> Result<Content, Box<Diagnostic>> {
    let failed = |error: io::Error| Box::new(unreadable(shown, &error));
    let mut file = access::open(path).map_err(failed)?;
    // Asked again of the open file: the name may stand for something else by now.
    let metadata = file.metadata().map_err(failed)?;
    if let Some(refusal) = access::refusal(shown, &metadata, place) {
        return Err(Box::new(refusal));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    file.by_ref().take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    let text = match text_of(&bytes) {
        Ok(text) => text.to_owned(),
        Err(not_text) => return Err(Box::new(not_a_text(shown, &not_text))),
    };
    Ok(Content::Text {
        text,
        hash: blake3::hash(&bytes),
        stamp: Stamp::new(&metadata, now),
        warnings: access::warnings(shown, &metadata, place),
    })
}

fn unreadable(path: &Path, error: &io::Error) -> Diagnostic {
    let message = format!("the file cannot be read: {error}");
    Diagnostic::about(path, Severity::Error, Code::Unreadable, message)
}

fn not_a_text(path: &Path, problem: &NotText) -> Diagnostic {
    let code = match problem {
        NotText::TooLarge => Code::TooLarge,
        NotText::NotUtf8 { .. } | NotText::Nul { .. } => Code::NotText,
    };
    Diagnostic::about(path, Severity::Error, code, problem.to_string())
}
