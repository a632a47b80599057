//! The bookkeeping of one run: what was done, how fast it may go, and when it has to stop.

use std::future::Future;
use std::io;
use std::path::Path;

use super::names::shown;
use super::pace::Bucket;
use super::plan::Count;
use crate::jobs::{Answer, Context, Failure};
use crate::model::ByteSize;

/// Why a run ends before it is through.
#[derive(Debug)]
pub(super) enum Halt {
    Stopped,
    Failed(Box<Failure>),
}

/// Why one file was not synced: the file's own trouble, or the end of the run.
#[derive(Debug)]
pub(super) enum Trouble {
    File(String),
    Halt(Halt),
}

/// What was done so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) transferred: Count,
    pub(super) deleted: u64,
    /// Files that turned out to have the content they should have.
    pub(super) unchanged: u64,
    /// The first errors, as path and text.
    pub(super) errors: Vec<(String, String)>,
    pub(super) error_count: u64,
}

/// One run.
pub(super) struct Attempt<'a> {
    pub(super) context: &'a Context,
    pub(super) tally: Tally,
    bucket: Option<Bucket>,
    max_bytes: Option<ByteSize>,
    planned: Count,
}

/// How many errors are kept word for word.
const ERRORS_KEPT: usize = 50;

impl<'a> Attempt<'a> {
    pub(super) fn new(
        context: &'a Context,
        bytes_per_second: Option<u64>,
        max_bytes: Option<ByteSize>,
    ) -> Self {
        let now = context.clock.since_boot();
        Self {
            context,
            tally: Tally::default(),
            bucket: bytes_per_second.map(|rate| Bucket::new(rate, now)),
            max_bytes,
            planned: Count::default(),
        }
    }

    /// Says how much there is to do, for the progress.
    pub(super) fn plan(&mut self, transfers: Count) {
        self.planned = transfers;
    }

    pub(super) fn check_stop(&self) -> Result<(), Halt> {
        if self.context.must_stop() { Err(Halt::Stopped) } else { Ok(()) }
    }

    /// Waits for a future from this blocking thread, or for the end of the attempt.
    pub(super) fn wait<F: Future>(&self, future: F) -> Result<F::Output, Halt> {
        let stop = &self.context.stop;
        tokio::runtime::Handle::current().block_on(async {
            tokio::select! {
                biased;
                () = stop.cancelled() => Err(Halt::Stopped),
                output = future => Ok(output),
            }
        })
    }

    /// Counts bytes that were just transferred, and waits where the bandwidth limit says so.
    pub(super) fn moved(&mut self, bytes: usize) -> Result<(), Halt> {
        self.check_stop()?;
        let bytes = bytes as u64;
        self.tally.transferred.bytes += bytes;
        if let Some(max) = self.max_bytes.filter(|max| self.tally.transferred.bytes > max.0) {
            let message = format!("more than `max_bytes` ({max}) would be transferred");
            return Err(Failure::answer(message).for_good().into());
        }
        self.report();
        let now = self.context.clock.since_boot();
        let delay = self.bucket.as_mut().map(|bucket| bucket.take(bytes, now)).unwrap_or_default();
        if delay.is_zero() { Ok(()) } else { self.wait(tokio::time::sleep(delay)) }
    }

    pub(super) fn file_done(&mut self) {
        self.tally.transferred.files += 1;
        self.report();
    }

    fn report(&self) {
        let (done, all) = (self.tally.transferred, self.planned);
        let message = format!("{} of {} files, {}", done.files, all.files, ByteSize(done.bytes));
        // A server need not tell sizes. Then files are what can be counted.
        if all.bytes > 0 {
            self.context.progress.steps(done.bytes, all.bytes, message);
        } else {
            self.context.progress.steps(done.files, all.files, message);
        }
    }

    /// Takes note of a file that could not be synced.
    pub(super) fn error(&mut self, path: &Path, message: impl Into<String>) {
        let message = message.into();
        self.context.output.line(format!("! {}: {message}", shown(path)));
        self.tally.error_count += 1;
        if self.tally.errors.len() < ERRORS_KEPT {
            self.tally.errors.push((shown(path), message));
        }
    }
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Self {
        Self::Failed(Box::new(failure))
    }
}

impl From<Halt> for Answer {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::Stopped => Self::Stopped { result: None },
            Halt::Failed(failure) => Self::Failed(*failure),
        }
    }
}

impl From<Halt> for Trouble {
    fn from(halt: Halt) -> Self {
        Self::Halt(halt)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::File(error.to_string())
    }
}
