//! The log of one attempt: bounded on disk, with a tail for the database.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

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
    /// The last part, as valid UTF-8.
    pub tail: Option<String>,
    /// Bytes offered in all.
    pub bytes: u64,
    /// Whether some of them are not in the file.
    pub truncated: bool,
}

/// The attempt's log. Writing never fails the job: when the file is full or cannot be written, output is counted and dropped.
#[derive(Clone)]
pub struct Output(Arc<Mutex<State>>);

struct State {
    file: Target,
    written: u64,
    max_bytes: u64,
    offered: u64,
    truncated: bool,
    tail: VecDeque<u8>,
}

/// Where the file stands.
enum Target {
    /// It is made when there is something to write: most quick jobs say nothing, and a file each would cost more than they do.
    Pending(PathBuf),
    Open(File),
    /// There is none, or it could not be written.
    Closed,
}

/// How much of the end of the output is kept in the database.
const TAIL_BYTES: usize = 4096;

impl Output {
    /// A log at `path` that keeps at most `max_bytes`.
    ///
    /// # Errors
    /// When the file or its folder cannot be made.
    pub fn create(path: &Path, max_bytes: u64) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        Ok(Self::new(Target::Open(File::create(path)?), max_bytes))
    }

    /// The same, but the file is made with the first output.
    #[must_use]
    pub fn lazy(path: PathBuf, max_bytes: u64) -> Self {
        Self::new(Target::Pending(path), max_bytes)
    }

    /// A log that keeps only the tail, for tests and for when no file can be made.
    #[must_use]
    pub fn tail_only() -> Self {
        Self::new(Target::Closed, 0)
    }

    fn new(file: Target, max_bytes: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            file,
            written: 0,
            max_bytes,
            offered: 0,
            truncated: false,
            tail: VecDeque::new(),
        })))
    }

    /// Adds a line of the handler's own.
    pub fn line(&self, text: impl AsRef<str>) {
        let mut line = text.as_ref().to_owned();
        line.push('\n');
        self.write(Stream::Log, line.as_bytes());
    }

    /// Adds raw output.
    pub fn write(&self, _stream: Stream, bytes: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes);
    }

    /// What there is by now.
    #[must_use]
    pub fn summary(&self) -> OutputSummary {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = state.tail.iter().copied().collect();
        let tail = (!bytes.is_empty()).then(|| String::from_utf8_lossy(&bytes).into_owned());
        OutputSummary { tail, bytes: state.offered, truncated: state.truncated }
    }
}

impl State {
    fn write(&mut self, bytes: &[u8]) {
        self.offered += bytes.len() as u64;
        let last = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
        self.tail.extend(last);
        let excess = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..excess);
        let room = usize::try_from(self.max_bytes - self.written).unwrap_or(usize::MAX);
        let kept = &bytes[..bytes.len().min(room)];
        self.truncated |= kept.len() < bytes.len();
        match self.append(kept) {
            Ok(written) => self.written += written,
            Err(_disk_full_or_gone) => {
                self.file = Target::Closed;
                self.truncated = true;
            }
        }
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<u64> {
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
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").finish_non_exhaustive()
    }
}
