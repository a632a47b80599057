//! The log of one attempt: bounded on disk, with a tail for the database.
//!
//! The file is only ever appended to, so that it can be followed by reading on from where one was. It takes the first
//! part of the output as it comes. When all but the last [`END_BYTES`] of its limit is used, a line says so, and from
//! then on only the newest [`END_BYTES`] are held in memory; [`Output::finish`] puts them at the end of the file.
//! Start and end are what people look for, and memory stays bounded whatever a program prints.
//!
//! A short output of a quick attempt is in its tail as a whole and gets no file: of a thousand jobs that were due at once,
//! making and deleting their files in one folder was half of the work. What runs longer, prints more, or prints what is
//! no text has a file; see [`Output::surface`].

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::RunPaths;
use crate::model::{ByteSize, JobId};

/// Where a piece of output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// The program's standard output.
    Stdout,
    /// The program's standard error.
    Stderr,
    /// The handler itself.
    Log,
}

/// What is left of an attempt's output when it has ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutputSummary {
    /// The last part, as text that every database takes: valid UTF-8 without NUL.
    pub tail: Option<String>,
    /// Bytes offered in all.
    pub bytes: u64,
    /// Whether some of them are not in the file.
    pub truncated: bool,
}

/// The attempt's log. Writing never fails the job: when the file is full or cannot be written, output is counted and
/// dropped. Clones write to the same log.
#[derive(Clone)]
pub struct Output(Arc<Mutex<State>>);

/// How much of the end of the output is kept in the database, in bytes.
const TAIL_BYTES: usize = 4096;

/// How long an output may be that has no file, in bytes: shorter than any tail that was cut, also where that lost the rest of a character.
const SHORT_BYTES: usize = TAIL_BYTES - 4;

/// Whether what is kept of the end of an output is all of it.
#[must_use]
pub fn is_whole_output(tail: &str) -> bool {
    tail.len() <= SHORT_BYTES
}

/// How much of the end is kept in memory and in the file once the output is too long, in bytes.
const END_BYTES: usize = 64 * 1024;

/// The limit of an attempt's log unless its job says otherwise.
pub const DEFAULT_MAX_OUTPUT: ByteSize = ByteSize(10 << 20);

struct State {
    file: Target,
    /// In the file.
    written: u64,
    max_bytes: u64,
    offered: u64,
    /// The newest output, at most [`END_BYTES`].
    newest: VecDeque<u8>,
    /// How much came after the start, and so is not in the file yet; the end of it is in `newest`.
    held_back: u64,
    is_broken: bool,
}

/// Where the file stands.
enum Target {
    /// There is no file yet. It is made when the tail cannot hold the output, or [`Output::surface`] is called.
    Pending(PathBuf),
    Open(File),
    /// There is none, it could not be written, or it is complete.
    Closed,
}

impl Output {
    /// A log at `path` that keeps at most about `max_bytes`.
    ///
    /// # Errors
    /// When the file or its folder cannot be made.
    pub fn create(path: &Path, max_bytes: u64) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        Ok(Self::new(Target::Open(File::create(path)?), max_bytes))
    }

    /// The same, but the file is made when it is needed.
    #[must_use]
    pub fn lazy(path: PathBuf, max_bytes: u64) -> Self {
        Self::new(Target::Pending(path), max_bytes)
    }

    /// A log that keeps only the tail, for tests and for when no file can be made.
    #[must_use]
    pub fn tail_only() -> Self {
        Self::new(Target::Closed, TAIL_BYTES as u64)
    }

    fn new(file: Target, max_bytes: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            file,
            written: 0,
            max_bytes,
            offered: 0,
            newest: VecDeque::new(),
            held_back: 0,
            is_broken: false,
        })))
    }

    /// Changes the limit, as long as it has not been reached.
    pub fn limit_to(&self, max_bytes: u64) {
        let mut state = self.state();
        if state.held_back == 0 {
            state.max_bytes = max_bytes;
        }
    }

    /// Adds a line of the handler's own. It starts on a line of its own, whatever was printed before.
    pub fn line(&self, text: impl AsRef<str>) {
        let mut state = self.state();
        let is_within_line = state.newest.back().is_some_and(|byte| *byte != b'\n');
        let start = if is_within_line { "\n" } else { "" };
        state.write(format!("{start}{}\n", text.as_ref()).as_bytes());
    }

    /// Adds raw output. Streams are not told apart in the file: what was printed together is read together.
    pub fn write(&self, _stream: Stream, bytes: &[u8]) {
        self.state().write(bytes);
    }

    /// What there is by now.
    #[must_use]
    pub fn summary(&self) -> OutputSummary {
        let state = self.state();
        OutputSummary {
            tail: state.tail(),
            bytes: state.offered,
            truncated: state.is_broken || state.left_out() > 0,
        }
    }

    /// Writes what there is by now where others can see it, while the attempt goes on. Afterwards the file follows the output.
    pub fn surface(&self) {
        self.state().surface();
    }

    /// Takes over the end of an output that another process has kept, with its file. What this one was given by then is not in it.
    pub fn take_over(&self, tail: Option<&str>) {
        let mut state = self.state();
        let tail = tail.unwrap_or_default().as_bytes();
        state.file = Target::Closed;
        state.newest = tail.iter().copied().collect();
    }

    /// Puts the end of an output that was too long into the file, and says what there is. The worker calls this once
    /// when the attempt has ended; what is written later only counts.
    pub fn finish(&self) -> OutputSummary {
        self.state().end();
        self.summary()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn write(&mut self, bytes: &[u8]) {
        let is_short = self.offered + bytes.len() as u64 <= SHORT_BYTES as u64;
        let stays_in_memory = is_short && matches!(self.file, Target::Pending(_));
        if !stays_in_memory {
            self.surface();
        }
        self.offered += bytes.len() as u64;
        self.newest.extend(&bytes[bytes.len().saturating_sub(END_BYTES)..]);
        let excess = self.newest.len().saturating_sub(END_BYTES);
        self.newest.drain(..excess);
        if !stays_in_memory {
            self.place(bytes);
        }
    }

    fn surface(&mut self) {
        if matches!(self.file, Target::Pending(_)) {
            let all: Vec<u8> = self.newest.iter().copied().collect();
            self.place(&all);
        }
    }

    /// Appends to the file what belongs to the start, and counts the rest.
    fn place(&mut self, bytes: &[u8]) {
        if self.held_back > 0 {
            self.held_back += bytes.len() as u64;
            return;
        }
        let room = self.start_bytes().saturating_sub(self.written);
        let kept = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        self.append(&bytes[..kept]);
        if kept < bytes.len() {
            self.held_back = (bytes.len() - kept) as u64;
        }
    }

    fn end(&mut self) {
        let is_text = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok() && !bytes.contains(&0);
        if !is_text(self.newest.make_contiguous()) {
            self.surface();
        }
        if let Target::Pending(_) = self.file {
            // The tail is all of it.
            self.file = Target::Closed;
        }
        self.append_end();
    }

    /// How much of the limit is for the start of the output.
    fn start_bytes(&self) -> u64 {
        self.max_bytes.saturating_sub((END_BYTES as u64).min(self.max_bytes / 2))
    }

    /// How much is neither in the file nor to be put there at the end.
    fn left_out(&self) -> u64 {
        let room = self.max_bytes - self.start_bytes();
        self.held_back.saturating_sub(room.min(self.newest.len() as u64))
    }

    fn append_end(&mut self) {
        if self.held_back == 0 || matches!(self.file, Target::Closed) {
            return;
        }
        let left_out = self.left_out();
        if left_out > 0 {
            let limit = ByteSize(self.max_bytes);
            let note = format!(
                "\n[sexton: {left_out} bytes are left out here, because the limit of this log is {limit}]\n"
            );
            self.append(note.as_bytes());
        }
        let kept = usize::try_from(self.held_back - left_out).unwrap_or(END_BYTES);
        let end: Vec<u8> = self.newest.range(self.newest.len() - kept..).copied().collect();
        self.append(&end);
        self.file = Target::Closed;
    }

    /// A write goes to the page cache and so may happen on a thread of the runtime. The one exception is a disk so slow
    /// that the kernel makes its writers wait, and then holding the program back is right.
    fn append(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        match self.try_append(bytes) {
            Ok(written) => self.written += written,
            Err(_disk_full_or_gone) => {
                self.file = Target::Closed;
                self.is_broken = true;
            }
        }
    }

    fn try_append(&mut self, bytes: &[u8]) -> io::Result<u64> {
        if let Target::Pending(path) = &self.file {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            self.file = Target::Open(File::create(path)?);
        }
        match &mut self.file {
            Target::Open(file) => file.write_all(bytes).map(|()| bytes.len() as u64),
            Target::Pending(_) | Target::Closed => Ok(0),
        }
    }

    fn tail(&self) -> Option<String> {
        let from = self.newest.len().saturating_sub(TAIL_BYTES);
        // A cut within a character would show as one that cannot be read.
        let is_inside = |byte: &&u8| from > 0 && (**byte & 0b1100_0000) == 0b1000_0000;
        let inside = self.newest.range(from..).take(3).take_while(is_inside).count();
        let bytes: Vec<u8> = self.newest.range(from + inside..).copied().collect();
        (!bytes.is_empty()).then(|| storable(&String::from_utf8_lossy(&bytes)))
    }
}

/// Text without NUL, which PostgreSQL does not take.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Output of a stranger, fit for a terminal or one line of a log: control characters other than line feeds and tabs are
/// shown as `\u{1b}` and the like, so that they cannot move the cursor, change the title or hide text. The same
/// goes for characters that change the direction of text.
#[must_use]
pub fn escape_for_terminal(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for (index, character) in text.char_indices() {
        let ends_line = character == '\r' && text[index..].starts_with("\r\n");
        match character {
            '\n' | '\t' => escaped.push(character),
            _ if ends_line => {}
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                escaped.extend(character.escape_unicode());
            }
            _ if character.is_control() => escaped.extend(character.escape_unicode()),
            _ => escaped.push(character),
        }
    }
    escaped
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").finish_non_exhaustive()
    }
}

/// Removes the logs of a job's attempts, which share its folder with those of a thousand others.
pub fn remove_logs(paths: &RunPaths, job: JobId) {
    for attempt in 1.. {
        let log = paths.attempt_log(job, attempt);
        // Quick attempts write none, so a gap does not mean that there are no more; two in a row do.
        let next = paths.attempt_log(job, attempt + 1);
        if std::fs::remove_file(&log).is_err() && !next.exists() {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn log(max_bytes: u64) -> (Output, tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0/1-1.log");
        (Output::create(&path, max_bytes).unwrap(), folder, path)
    }

    #[test]
    fn b2_a_log_that_cannot_be_written_is_counted_and_does_not_fail() {
        let output = Output::create(Path::new("/dev/full"), 1000).unwrap();
        output.write(Stream::Stdout, b"hello\n");
        let summary = output.finish();
        assert_eq!((summary.bytes, summary.truncated), (6, true));
        assert_eq!(summary.tail.as_deref(), Some("hello\n"));
    }

    /// A log whose file is made when it is needed, and where that would be.
    fn lazy(max_bytes: u64) -> (Output, tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0/1-1.log");
        (Output::lazy(path.clone(), max_bytes), folder, path)
    }

    #[test]
    fn a_short_output_of_a_quick_attempt_is_its_tail_and_no_file() {
        let (output, _folder, path) = lazy(1 << 20);
        output.write(Stream::Stdout, "ä".repeat(SHORT_BYTES / 2).as_bytes());
        let summary = output.finish();
        assert_eq!((summary.bytes, summary.truncated), (SHORT_BYTES as u64, false));
        assert_eq!(summary.tail.unwrap(), "ä".repeat(SHORT_BYTES / 2));
        output.write(Stream::Stdout, b"too late");
        assert!(!path.exists());
    }

    #[test]
    fn an_output_that_its_tail_does_not_hold_is_in_a_file() {
        let long = vec![b'x'; TAIL_BYTES];
        let no_text = [b"\xff\xfe".to_vec(), b"zero: \0".to_vec()];
        for rest in [vec![b'y'], vec![b'z'; 100_000]] {
            let (output, _folder, path) = lazy(1 << 20);
            output.write(Stream::Stdout, &long);
            output.write(Stream::Stdout, &rest);
            output.finish();
            assert_eq!(std::fs::read(path).unwrap(), [long.clone(), rest].concat());
        }
        for bytes in no_text {
            let (output, _folder, path) = lazy(1 << 20);
            output.write(Stream::Stdout, &bytes);
            output.finish();
            assert_eq!(std::fs::read(path).unwrap(), bytes);
        }
    }

    #[test]
    fn an_output_that_was_surfaced_can_be_followed() {
        let (output, _folder, path) = lazy(1 << 20);
        output.surface();
        assert!(!path.exists(), "nothing was printed");
        output.line("one");
        output.surface();
        assert_eq!(std::fs::read(&path).unwrap(), b"one\n");
        output.line("two");
        assert_eq!(std::fs::read(&path).unwrap(), b"one\ntwo\n");
        output.finish();
        assert_eq!(std::fs::read(&path).unwrap(), b"one\ntwo\n");
    }

    #[test]
    fn h4_start_and_end_of_a_long_output_are_kept() {
        let (output, _folder, path) = log(200_000);
        output.write(Stream::Stdout, b"start");
        for _ in 0..1000 {
            output.write(Stream::Stdout, &[b'x'; 10_000]);
        }
        output.write(Stream::Stderr, b"end");
        let summary = output.finish();
        assert_eq!((summary.bytes, summary.truncated), (10_000_008, true));
        let kept = std::fs::read(path).unwrap();
        assert!(kept.starts_with(b"startxxx") && kept.ends_with(b"xxxend"));
        assert!(kept.len() < 201_000, "{}", kept.len());
        let text = String::from_utf8(kept).unwrap();
        let left_out: u64 =
            text.split_once("sexton: ").unwrap().1.split(' ').next().unwrap().parse().unwrap();
        let note = text.lines().find(|line| line.starts_with("[sexton")).unwrap();
        assert_eq!(10_000_008 - left_out, (text.len() - note.len() - 2) as u64);
    }

    #[test]
    fn a_handlers_line_starts_on_its_own() {
        let output = Output::tail_only();
        output.write(Stream::Stdout, b"50%");
        output.line("stopped");
        output.line("again");
        assert_eq!(output.summary().tail.unwrap(), "50%\nstopped\nagain\n");
    }

    #[test]
    fn a_tail_shows_by_its_length_whether_something_stood_before_it() {
        for character in ["x", "ä", "€", "😀"] {
            for begin in ["", "y", "yy", "yyy"] {
                for bytes in TAIL_BYTES - 16..TAIL_BYTES + 16 {
                    let whole = format!("{begin}{}", character.repeat(bytes / character.len()));
                    let (output, _folder, path) = lazy(1 << 20);
                    output.write(Stream::Stdout, whole.as_bytes());
                    let tail = output.finish().tail.unwrap();
                    assert_eq!(is_whole_output(&tail), !path.exists(), "{}", whole.len());
                    assert_eq!(is_whole_output(&tail), tail == whole && whole.len() <= SHORT_BYTES);
                }
            }
        }
    }

    #[test]
    fn a_tail_is_text_that_postgresql_takes() {
        let output = Output::tail_only();
        output.write(Stream::Stdout, "ä".repeat(3000).as_bytes());
        output.write(Stream::Stdout, b"x\0\xff");
        let tail = output.summary().tail.unwrap();
        assert!(tail.starts_with('ä') && tail.ends_with("x\u{fffd}\u{fffd}"), "{tail}");
    }

    #[test]
    fn j10_output_cannot_command_the_terminal() {
        let shown = escape_for_terminal("\u{1b}]0;title\u{7}ok\r\n\ta\rb\u{202e}c\u{9b}");
        assert_eq!(shown, "\\u{1b}]0;title\\u{7}ok\n\ta\\u{d}b\\u{202e}c\\u{9b}");
    }

    proptest! {
        #[test]
        fn what_fits_is_kept_unchanged_and_what_does_not_stays_within_its_limit(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..12),
            max_bytes in 0_u64..2000,
        ) {
            let (output, _folder, path) = log(max_bytes);
            for piece in &pieces {
                output.write(Stream::Stdout, piece);
            }
            let summary = output.finish();
            let all = pieces.concat();
            let kept = std::fs::read(path).unwrap();
            prop_assert_eq!(summary.bytes, all.len() as u64);
            prop_assert_eq!(summary.truncated, all.len() as u64 > max_bytes);
            if summary.truncated {
                prop_assert!(kept.len() as u64 <= max_bytes + 120);
            } else {
                prop_assert_eq!(kept, all);
            }
        }
    }
}
