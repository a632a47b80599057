//! Who may change a schedule file, and so decide what is run as the daemon's user.

use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use crate::model::for_shell;
use crate::schedule::{Code, Diagnostic, MAX_FILE_BYTES, NotText, Severity};

/// What of a directory matters for the files in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Whether everybody may put files into it. The sticky bit does not help here: it keeps others' files, not others out.
    is_open: bool,
    /// Who may do with it as they like.
    owner: Option<u32>,
}

impl Place {
    /// Of a file that is read whatever directory it is in.
    pub(super) const ON_ITS_OWN: Self = Self { is_open: false, owner: None };

    pub(super) fn new(directory: &Metadata) -> Self {
        Self { is_open: directory.mode() & 0o002 != 0, owner: Some(directory.uid()) }
    }
}

/// What is odd about a directory of schedules. A directory that everybody may write into is legal (a Kubernetes volume is one, read-only
/// as it is) and worth a word, and so is one above it, because whoever may rename a directory may put another in its place.
pub(super) fn of_directory(shown: &Path, real: &Path, metadata: &Metadata) -> Vec<Diagnostic> {
    let warn = |message: String| {
        Diagnostic::about(shown, Severity::Warning, Code::LooselyWritable, message)
    };
    let mut found = Vec::new();
    if is_loose(metadata) {
        let message = "everybody may put files into this directory".to_owned();
        found.push(warn(message).with_help(format!("chmod o-w {}", for_shell(shown))));
    }
    if is_foreign(metadata.uid()) {
        let message = format!(
            "user {}, to whom this directory belongs, may put files into it",
            metadata.uid()
        );
        found.push(
            warn(message)
                .with_help(format!("chown root {}, unless that is meant", for_shell(shown))),
        );
    }
    let loose = real
        .ancestors()
        .skip(1)
        .find(|above| fs::metadata(above).is_ok_and(|metadata| is_loose(&metadata)));
    if let Some(above) = loose {
        let message = format!(
            "everybody may put another directory in its place, because everybody may write into {}",
            above.display()
        );
        found.push(warn(message).with_help(format!("chmod o-w {}", for_shell(above))));
    }
    found
}

/// Whether everybody may do with its entries as they like.
fn is_loose(directory: &Metadata) -> bool {
    directory.mode() & 0o002 != 0 && directory.mode() & 0o1000 == 0
}

/// Whether somebody owns it who could not run anything as the daemon's user otherwise.
fn is_foreign(owner: u32) -> bool {
    is_foreign_to(owner, rustix::process::geteuid().as_raw())
}

fn is_foreign_to(owner: u32, daemon: u32) -> bool {
    owner != 0 && owner != daemon
}

/// Why what the metadata tell of cannot be a schedule file.
pub(super) fn refusal(path: &Path, metadata: &Metadata, place: Place) -> Option<Diagnostic> {
    let kind = metadata.file_type();
    let refuse = |code, message: String| Diagnostic::about(path, Severity::Error, code, message);
    if !kind.is_file() {
        let message = format!("it is {} and not a regular file", kind_name(kind));
        return Some(refuse(Code::NotAFile, message).with_help("move it out of this directory"));
    }
    if metadata.len() > MAX_FILE_BYTES as u64 {
        return Some(refuse(Code::TooLarge, NotText::TooLarge.to_string()));
    }
    if metadata.mode() & 0o002 != 0 {
        let message = "everybody may change this file, and so run anything as this daemon's user";
        return Some(
            refuse(Code::WorldWritable, message.to_owned())
                .with_help(format!("chmod o-w {}", for_shell(path))),
        );
    }
    // In a directory that others cannot write into, whoever may has given the file to its owner.
    (place.is_open && is_foreign(metadata.uid())).then(|| {
        let message = format!(
            "user {} has put this file into a directory that everybody may write into",
            metadata.uid()
        );
        refuse(Code::WorldWritable, message).with_help(format!("chown root {}", for_shell(path)))
    })
}

/// What is legal and may not be meant.
pub(super) fn warnings(path: &Path, metadata: &Metadata, place: Place) -> Vec<Diagnostic> {
    let warn = |message: String, help: String| {
        Diagnostic::about(path, Severity::Warning, Code::LooselyWritable, message).with_help(help)
    };
    let mut found = Vec::new();
    if metadata.mode() & 0o020 != 0 {
        found.push(warn(
            format!("everybody in group {} may change this file", metadata.gid()),
            format!("chmod g-w {}, unless that is meant", for_shell(path)),
        ));
    }
    // Said of the directory already where it has the same owner.
    if is_foreign(metadata.uid()) && place.owner != Some(metadata.uid()) {
        found.push(warn(
            format!("user {}, to whom this file belongs, may change it", metadata.uid()),
            format!("chown root {}, unless that is meant", for_shell(path)),
        ));
    }
    if metadata.nlink() > 1 {
        found.push(warn(
            format!("this file has {} names, and may be changed by another one", metadata.nlink()),
            "make it a copy, unless that is meant".to_owned(),
        ));
    }
    found
}

/// A pipe that nobody writes to would block the open for ever, and a terminal would become the daemon's own.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

pub(super) fn is_null_device(metadata: &Metadata) -> bool {
    metadata.file_type().is_char_device() && metadata.rdev() == rustix::fs::makedev(1, 3)
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;

    #[test]
    fn e8_files_belong_to_root_or_the_daemon_and_to_nobody_else() {
        let (root, daemon, other) = (0, 990, 1000);
        assert!(!is_foreign_to(root, daemon) && !is_foreign_to(daemon, daemon));
        assert!(is_foreign_to(other, daemon) && is_foreign_to(other, root));
    }

    /// Only root can give a file away, so the rest of the guarantee is shown where the tests run as root.
    #[test]
    fn e8_what_others_put_into_an_open_directory_is_refused_and_elsewhere_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        fs::write(&file, "").unwrap();
        let place = |mode| {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
            Place::new(&fs::metadata(folder.path()).unwrap())
        };
        let own = fs::metadata(&file).unwrap();
        assert!(
            refusal(&file, &own, place(0o1777)).is_none()
                && warnings(&file, &own, place(0o700)).is_empty()
        );
        if chown(&file, Some(4242), None).is_err() {
            return;
        }
        let given_away = fs::metadata(&file).unwrap();
        let refused = refusal(&file, &given_away, place(0o1777)).unwrap();
        assert_eq!(refused.code, Code::WorldWritable);
        assert!(refused.help.unwrap().starts_with("chown root "));
        assert!(refusal(&file, &given_away, place(0o755)).is_none());
        let [warning] = &warnings(&file, &given_away, place(0o755))[..] else {
            panic!("one warning")
        };
        assert!(warning.message.contains("user 4242"), "{warning}");
        chown(folder.path(), Some(4242), None).unwrap();
        assert!(
            warnings(&file, &given_away, place(0o755)).is_empty(),
            "said of the directory once"
        );
        let of_directory =
            of_directory(folder.path(), folder.path(), &fs::metadata(folder.path()).unwrap());
        assert!(of_directory[0].message.contains("user 4242"), "{of_directory:?}");
    }
}
