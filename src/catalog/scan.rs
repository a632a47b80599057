//! What is on disk right now: which files there are, whether they may be read, and their text where it may be new.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;
use rustix::fs::OFlags;

use super::stamp::Stamp;
use crate::schedule::{Code, Diagnostic, MAX_FILE_BYTES, NotText, Severity, text_of};

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
    let files = candidates
        .into_iter()
        .filter_map(|(name, _)| {
            let shown = directory.join(&name);
            let content = read(&real.join(&name), &shown, known, now)?;
            Some(ScannedFile { name, path: shown, content })
        })
        .collect();
    let diagnostics = loose_directory(directory, &metadata).into_iter().collect();
    Ok(Entries { identity, files, ignored, diagnostics })
}

/// Only `*.toml`, and nothing that an editor or a package manager leaves behind: names that begin with a dot or `#`, and
/// names that go on behind the extension (`x.toml~`, `x.toml.bak`, `x.toml.swp`, `x.toml.dpkg-old`, `x.toml.rpmnew`).
fn is_schedule_file(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.ends_with(b".toml") && !name.starts_with(b".") && !name.starts_with(b"#")
}

/// A directory that everybody may write into is legal (a Kubernetes volume is one, read-only as it is) and worth a word.
fn loose_directory(directory: &Path, metadata: &Metadata) -> Option<Diagnostic> {
    let mode = metadata.mode();
    let is_loose = mode & 0o002 != 0 && mode & 0o1000 == 0;
    is_loose.then(|| {
        let message = "everybody may put files into this directory";
        Diagnostic::about(directory, Severity::Warning, Code::LooselyWritable, message)
            .with_help(format!("chmod o-w {}", quoted(directory)))
    })
}

/// One file that was named on the command line, whatever its name.
pub(super) fn scan_file(path: &Path, now: Timestamp) -> ScannedFile {
    let content = read(path, path, &Known::new(), now).unwrap_or_else(|| {
        Content::Refused(unreadable(path, &io::Error::from(io::ErrorKind::NotFound)))
    });
    ScannedFile { name: path.as_os_str().to_owned(), path: path.to_owned(), content }
}

/// What is in the file; nothing when it is gone by now.
fn read(path: &Path, shown: &Path, known: &Known<'_>, now: Timestamp) -> Option<Content> {
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
    if is_null_device(&metadata) {
        return Some(Content::Masked);
    }
    if let Some(refusal) = refused(shown, &metadata) {
        return Some(Content::Refused(refusal));
    }
    let stamp = Stamp::new(&metadata, now);
    if known.get(shown).is_some_and(|before| before.tells_that_nothing_changed(&stamp)) {
        return Some(Content::Same);
    }
    Some(read_text(path, shown, now).unwrap_or_else(|refusal| Content::Refused(*refusal)))
}

fn read_text(path: &Path, shown: &Path, now: Timestamp) -> Result<Content, Box<Diagnostic>> {
    let failed = |error: io::Error| Box::new(unreadable(shown, &error));
    let mut file = open(path).map_err(failed)?;
    // Asked again of the open file: the name may stand for something else by now.
    let metadata = file.metadata().map_err(failed)?;
    if let Some(refusal) = refused(shown, &metadata) {
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
        warnings: group_writable(shown, &metadata).into_iter().collect(),
    })
}

/// A pipe that nobody writes to would block the open for ever, and a terminal would become the daemon's own.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

fn is_null_device(metadata: &Metadata) -> bool {
    metadata.file_type().is_char_device() && metadata.rdev() == rustix::fs::makedev(1, 3)
}

/// Why what the metadata tell of cannot be a schedule file.
fn refused(path: &Path, metadata: &Metadata) -> Option<Diagnostic> {
    let kind = metadata.file_type();
    let refuse = |code, message: String| Diagnostic::about(path, Severity::Error, code, message);
    if !kind.is_file() {
        let message = format!("it is {} and not a regular file", kind_name(kind));
        return Some(refuse(Code::NotAFile, message).with_help("move it out of this directory"));
    }
    if metadata.len() > MAX_FILE_BYTES as u64 {
        return Some(refuse(Code::TooLarge, NotText::TooLarge.to_string()));
    }
    (metadata.mode() & 0o002 != 0).then(|| {
        let message = "everybody may change this file, and so run anything as this daemon's user";
        refuse(Code::WorldWritable, message.to_owned())
            .with_help(format!("chmod o-w {}", quoted(path)))
    })
}

fn group_writable(path: &Path, metadata: &Metadata) -> Option<Diagnostic> {
    (metadata.mode() & 0o020 != 0).then(|| {
        let message = format!("everybody in group {} may change this file", metadata.gid());
        Diagnostic::about(path, Severity::Warning, Code::LooselyWritable, message)
            .with_help(format!("chmod g-w {}, unless that is meant", quoted(path)))
    })
}

fn kind_name(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_block_device() || kind.is_char_device() {
        "a device"
    } else {
        "something else"
    }
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

/// A path that can be pasted into a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-".contains(letter);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
