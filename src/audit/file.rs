//! The file itself: found as it was left, added to, and never trusted to have stayed in place.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::chain::{Anchor, Head, Link};
use super::verify::MAX_LINE_BYTES;

/// The name of the log in its directory.
pub const FILE_NAME: &str = "audit.jsonl";

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuditFileError {
    /// Another process has it.
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The system refused something.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Something about the file that people must be told, and that gets a line of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A crash had left an unfinished line, which was cut off. What it told is still in the database and follows.
    CutUnfinishedLine {
        /// How much was cut.
        bytes: u64,
    },
    /// The end of the file was not as we had left it. The file was renamed, a new one goes on from the last known record.
    SetAside {
        /// Where the old file is now.
        to: PathBuf,
        /// What was wrong with it.
        why: String,
    },
    /// The file was gone (or moved by a log rotation). A new one goes on from the last known record.
    StartedAnew,
    /// The file ends before a record that the database vouches for.
    EndsTooEarly {
        /// That record.
        anchored: u64,
    },
}

impl Notice {
    /// The event that tells of it.
    #[must_use]
    pub fn event(&self) -> &'static str {
        match self {
            Self::CutUnfinishedLine { .. } => "audit.line_cut",
            Self::SetAside { .. } => "audit.file_set_aside",
            Self::StartedAnew => "audit.file_started",
            Self::EndsTooEarly { .. } => "audit.records_missing",
        }
    }

    /// More, as a JSON object.
    #[must_use]
    pub fn detail(&self) -> serde_json::Value {
        match self {
            Self::CutUnfinishedLine { bytes } => serde_json::json!({ "bytes": bytes }),
            Self::SetAside { to, why } => {
                serde_json::json!({ "to": to.to_string_lossy(), "why": why })
            }
            Self::StartedAnew => serde_json::json!({}),
            Self::EndsTooEarly { anchored } => serde_json::json!({ "anchored": anchored }),
        }
    }
}

impl std::fmt::Display for Notice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::CutUnfinishedLine { bytes } => {
                write!(f, "cut {bytes} bytes of an unfinished line off the audit log")
            }
            Self::SetAside { to, why } => {
                write!(f, "the audit log was damaged ({why}); it is kept as {}", to.display())
            }
            Self::StartedAnew => f.write_str("the audit log was gone; a new file continues it"),
            Self::EndsTooEarly { anchored } => write!(
                f,
                "the audit log ends before record {anchored}, which the database vouches for"
            ),
        }
    }
}

/// The log, open for adding to it.
#[derive(Debug)]
pub struct AuditFile {
    path: PathBuf,
    file: File,
    head: Head,
    /// Where the last line ends; whatever the file has beyond it is not ours.
    length: u64,
    buffer: Vec<u8>,
}

impl AuditFile {
    /// Opens the log in `folder` and finds where to go on. `anchor` is the newest one that the database has.
    ///
    /// # Errors
    /// When the file cannot be read or written, or another process has it.
    pub fn open(
        folder: &Path,
        anchor: Option<&Anchor>,
    ) -> Result<(Self, Vec<Notice>), AuditFileError> {
        let path = folder.join(FILE_NAME);
        let io = |action| {
            let path = path.clone();
            move |source| AuditFileError::Io { action, path, source }
        };
        std::fs::create_dir_all(folder).map_err(io("make the directory of"))?;
        let mut notices = Vec::new();
        let mut file = open_locked(&path)?;
        let mut length = file.metadata().map_err(io("look at"))?.len();
        let known = anchor.map_or(Head::EMPTY, |anchor| anchor.head);

        let complete = complete_length(&file, length).map_err(io("read"))?;
        if complete < length {
            cut(&file, complete).map_err(io("cut an unfinished line off"))?;
            notices.push(Notice::CutUnfinishedLine { bytes: length - complete });
            length = complete;
        }
        let head = match last_link(&file, length).map_err(io("read"))? {
            None => {
                if known.seq > 0 {
                    notices.push(Notice::StartedAnew);
                }
                known
            }
            Some(Ok(link)) => {
                if link.head.seq < known.seq {
                    notices.push(Notice::EndsTooEarly { anchored: known.seq });
                }
                link.head
            }
            Some(Err(bad)) => {
                let (fresh, notice) = set_aside(&path, format!("its last line: {bad}"))?;
                notices.push(notice);
                file = fresh;
                length = 0;
                known
            }
        };
        Ok((Self { path, file, head, length, buffer: Vec::new() }, notices))
    }

    /// The last record.
    #[must_use]
    pub fn head(&self) -> Head {
        self.head
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds what `lines` appends to the buffer, and returns once it is on the disk. On an error the log is as before.
    ///
    /// # Errors
    /// When it cannot be written. Nothing was added then, and the same lines can be tried again.
    pub fn add(
        &mut self,
        lines: impl FnOnce(&mut Head, &mut Vec<u8>),
    ) -> Result<(), AuditFileError> {
        let mut head = self.head;
        self.buffer.clear();
        lines(&mut head, &mut self.buffer);
        if self.buffer.is_empty() {
            return Ok(());
        }
        let written =
            self.file.write_all_at(&self.buffer, self.length).and_then(|()| self.file.sync_data());
        if let Err(source) = written {
            // After a failed sync the kernel may count the pages as clean, so that syncing again would succeed without
            // writing anything. Cut off, the lines are written as new pages the next time.
            let _also_failing = self.file.set_len(self.length);
            return Err(AuditFileError::Io { action: "write to", path: self.path.clone(), source });
        }
        self.length += self.buffer.len() as u64;
        self.head = head;
        // One burst must not hold its memory for ever.
        self.buffer.shrink_to(1 << 20);
        Ok(())
    }

    /// Makes sure that the file is still the one at its path and as long as we left it; if not, goes on in a new one.
    ///
    /// # Errors
    /// When no new file can be made.
    pub fn stay_in_place(&mut self) -> Result<Option<Notice>, AuditFileError> {
        let io = |action, path: &Path| {
            let path = path.to_owned();
            move |source| AuditFileError::Io { action, path, source }
        };
        let ours = self.file.metadata().map_err(io("look at", &self.path))?;
        let found = match std::fs::metadata(&self.path) {
            Ok(found) => Some(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(io("look at", &self.path)(error)),
        };
        let in_place =
            found.is_some_and(|found| (found.dev(), found.ino()) == (ours.dev(), ours.ino()));
        if in_place && ours.len() == self.length {
            return Ok(None);
        }
        let notice = if in_place {
            let why = format!("it has {} bytes, and {} were written", ours.len(), self.length);
            let (fresh, notice) = set_aside(&self.path, why)?;
            self.file = fresh;
            self.length = 0;
            notice
        } else {
            self.file = open_locked(&self.path)?;
            let length = self.file.metadata().map_err(io("look at", &self.path))?.len();
            if length == 0 {
                self.length = 0;
                Notice::StartedAnew
            } else {
                let (fresh, notice) =
                    set_aside(&self.path, "another file was put in its place".to_owned())?;
                self.file = fresh;
                self.length = 0;
                notice
            }
        };
        Ok(Some(notice))
    }
}

/// Opens or makes the file, for this process alone.
fn open_locked(path: &Path) -> Result<File, AuditFileError> {
    let io = |action| move |source| AuditFileError::Io { action, path: path.to_owned(), source };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o640)
        .open(path)
        .map_err(io("open"))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Err(AuditFileError::InUse(path.to_owned())),
        Err(error) => return Err(io("lock")(error.into())),
    }
    // A new file's name must survive a power cut as its lines do.
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io("make"))?;
    Ok(file)
}

/// Renames a file that cannot be continued; nothing of it is lost.
fn set_aside(path: &Path, why: String) -> Result<(File, Notice), AuditFileError> {
    let io = |source| AuditFileError::Io { action: "rename", path: path.to_owned(), source };
    let mut number = 1;
    let to = loop {
        let candidate = path.with_file_name(format!("{FILE_NAME}.damaged-{number}"));
        if !candidate.try_exists().map_err(io)? {
            break candidate;
        }
        number += 1;
    };
    std::fs::rename(path, &to).map_err(io)?;
    Ok((open_locked(path)?, Notice::SetAside { to, why }))
}

fn cut(file: &File, length: u64) -> io::Result<()> {
    file.set_len(length)?;
    file.sync_all()
}

/// The last complete record of the log in a folder, without touching it; `None` when there is no record that can be read.
///
/// # Errors
/// When the file is there and cannot be read.
pub fn last_head(folder: &Path) -> Result<Option<Head>, AuditFileError> {
    let path = folder.join(FILE_NAME);
    let read = || -> io::Result<Option<Head>> {
        let file = File::open(&path)?;
        let length = complete_length(&file, file.metadata()?.len())?;
        let link = last_link(&file, length)?;
        Ok(link.and_then(Result::ok).map(|link| link.head))
    };
    match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(AuditFileError::Io { action: "read", path, source }),
        Ok(head) => Ok(head),
    }
}

/// How long the file is without an unfinished last line.
fn complete_length(file: &File, length: u64) -> io::Result<u64> {
    Ok(newline_before(file, length)?.map_or(0, |newline| newline + 1))
}

/// The last line's place in the chain; `None` when there is no line.
fn last_link(file: &File, length: u64) -> io::Result<Option<Result<Link, super::chain::BadLine>>> {
    let Some(end) = length.checked_sub(1) else { return Ok(None) };
    let start = newline_before(file, end)?.map_or(0, |newline| newline + 1);
    if end - start > MAX_LINE_BYTES {
        return Ok(Some(Err(super::chain::BadLine::NotARecord)));
    }
    let mut line = vec![0; usize::try_from(end - start).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut line, start)?;
    Ok(Some(Link::read(&line)))
}

/// Where the last newline in front of `end` is.
fn newline_before(file: &File, end: u64) -> io::Result<Option<u64>> {
    const BLOCK: u64 = 64 << 10;
    let mut block = vec![0; BLOCK as usize];
    let mut end = end;
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        let part = &mut block[..usize::try_from(end - start).unwrap_or(usize::MAX)];
        file.read_exact_at(part, start)?;
        if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(Some(start + at as u64));
        }
        end = start;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::audit::chain::{Record, Upto};
    use crate::audit::verify;

    fn add(file: &mut AuditFile, attempts: i64) {
        let record = Record {
            time: Timestamp::UNIX_EPOCH,
            event: "attempt.finished",
            actor: "scheduler",
            subject: "job:1",
            detail: "{}",
        };
        file.add(|head, buffer| head.append(buffer, &record, Upto { attempts, ..head.upto }))
            .unwrap();
    }

    fn check(path: &Path, anchors: &[Anchor]) -> crate::audit::Report {
        verify(std::fs::read(path).unwrap().as_slice(), anchors).unwrap()
    }

    fn anchor(head: Head) -> Anchor {
        Anchor { head, at: Timestamp::UNIX_EPOCH }
    }

    #[test]
    fn a_log_goes_on_where_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        let (mut file, notices) = AuditFile::open(folder.path(), None).unwrap();
        assert_eq!(notices, []);
        add(&mut file, 1);
        add(&mut file, 2);
        let head = file.head();
        drop(file);
        let (mut file, notices) = AuditFile::open(folder.path(), Some(&anchor(head))).unwrap();
        assert_eq!(notices, []);
        assert_eq!(file.head(), head);
        assert_eq!(file.head().upto.attempts, 2);
        add(&mut file, 3);
        let report = check(file.path(), &[anchor(head)]);
        assert!(report.is_intact() && report.lines == 3, "{report:?}");
    }

    #[test]
    fn a1_an_unfinished_line_is_cut_off_at_every_length() {
        let folder = tempfile::tempdir().unwrap();
        let (mut file, _) = AuditFile::open(folder.path(), None).unwrap();
        add(&mut file, 1);
        let first = file.length;
        add(&mut file, 2);
        let whole = std::fs::read(file.path()).unwrap();
        let path = file.path().to_owned();
        drop(file);
        for length in 0..whole.len() as u64 {
            std::fs::write(&path, &whole[..length as usize]).unwrap();
            let (mut file, notices) = AuditFile::open(folder.path(), None).unwrap();
            let kept = if length < first { 0 } else { 1 };
            assert_eq!(file.head().seq, kept, "at {length}");
            let expected = length - kept * first;
            let cut = if expected > 0 {
                vec![Notice::CutUnfinishedLine { bytes: expected }]
            } else {
                Vec::new()
            };
            assert_eq!(notices, cut, "at {length}");
            add(&mut file, 9);
            assert!(check(&path, &[]).is_intact(), "at {length}");
        }
    }

    #[test]
    fn zeros_that_a_power_cut_left_are_an_unfinished_line() {
        let folder = tempfile::tempdir().unwrap();
        let (mut file, _) = AuditFile::open(folder.path(), None).unwrap();
        add(&mut file, 1);
        let path = file.path().to_owned();
        let length = file.length;
        drop(file);
        OpenOptions::new().write(true).open(&path).unwrap().set_len(length + 200_000).unwrap();
        let (file, notices) = AuditFile::open(folder.path(), None).unwrap();
        assert_eq!(notices, [Notice::CutUnfinishedLine { bytes: 200_000 }]);
        assert_eq!(file.head().seq, 1);
    }

    #[test]
    fn a_changed_last_line_is_set_aside_and_not_continued() {
        let folder = tempfile::tempdir().unwrap();
        let (mut file, _) = AuditFile::open(folder.path(), None).unwrap();
        add(&mut file, 1);
        let known = anchor(file.head());
        add(&mut file, 2);
        let path = file.path().to_owned();
        drop(file);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("job:1", "job:2")).unwrap();

        let (mut file, notices) = AuditFile::open(folder.path(), Some(&known)).unwrap();
        assert!(matches!(notices.as_slice(), [Notice::SetAside { .. }]), "{notices:?}");
        assert_eq!(file.head(), known.head);
        assert!(folder.path().join("audit.jsonl.damaged-1").exists());
        add(&mut file, 2);
        assert!(check(&path, &[known]).is_intact());
    }

    #[test]
    fn a_log_that_was_cut_short_is_continued_and_stays_conspicuous() {
        let folder = tempfile::tempdir().unwrap();
        let (mut file, _) = AuditFile::open(folder.path(), None).unwrap();
        add(&mut file, 1);
        let length = file.length;
        add(&mut file, 2);
        let known = anchor(file.head());
        cut(&file.file, length).unwrap();
        drop(file);
        let (mut file, notices) = AuditFile::open(folder.path(), Some(&known)).unwrap();
        assert_eq!(notices, [Notice::EndsTooEarly { anchored: 2 }]);
        add(&mut file, 3);
        add(&mut file, 4);
        assert!(!check(file.path(), &[known]).is_intact());
    }

    #[test]
    fn a_file_that_was_moved_away_is_continued_in_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let (mut file, _) = AuditFile::open(folder.path(), None).unwrap();
        add(&mut file, 1);
        assert_eq!(file.stay_in_place().unwrap(), None);
        let moved = folder.path().join("audit.jsonl.1");
        std::fs::rename(file.path(), &moved).unwrap();
        assert_eq!(file.stay_in_place().unwrap(), Some(Notice::StartedAnew));
        add(&mut file, 2);
        let both = [std::fs::read(&moved).unwrap(), std::fs::read(file.path()).unwrap()].concat();
        let report = verify(both.as_slice(), &[]).unwrap();
        assert!(report.is_intact() && report.lines == 2, "{report:?}");
    }

    #[test]
    fn a_file_that_somebody_else_wrote_to_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let (mut file, _) = AuditFile::open(folder.path(), None).unwrap();
        add(&mut file, 1);
        std::fs::write(file.path(), "").unwrap();
        assert!(matches!(file.stay_in_place().unwrap(), Some(Notice::SetAside { .. })));
        add(&mut file, 2);
        assert_eq!(file.head().seq, 2);
    }

    #[test]
    fn two_processes_cannot_share_a_log() {
        let folder = tempfile::tempdir().unwrap();
        let _first = AuditFile::open(folder.path(), None).unwrap();
        let second = AuditFile::open(folder.path(), None);
        assert!(matches!(second, Err(AuditFileError::InUse(_))), "{second:?}");
    }

    #[test]
    fn b2_after_a_failed_write_the_same_lines_can_be_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let (mut file, _) = AuditFile::open(folder.path(), None).unwrap();
        add(&mut file, 1);
        let before = file.head();
        let writable =
            std::mem::replace(&mut file.file, File::open(folder.path().join(FILE_NAME)).unwrap());
        let failed = file.add(|head, buffer| {
            let record = Record {
                time: Timestamp::UNIX_EPOCH,
                event: "x",
                actor: "",
                subject: "",
                detail: "{}",
            };
            head.append(buffer, &record, head.upto);
        });
        assert!(failed.is_err());
        assert_eq!(file.head(), before);
        file.file = writable;
        add(&mut file, 2);
        assert!(check(file.path(), &[]).is_intact());
    }
}
