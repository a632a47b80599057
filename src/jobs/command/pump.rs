//! Moving a program's input and output.
//!
//! Output is read as long as there is some, whatever becomes of it, so that a program is never held up by a full pipe.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::ChildStdin;
use tokio::task::{AbortHandle, JoinSet};
use tracing::Instrument;

use super::params::{CommandParams, ResultFrom};
use super::protocol::Listener;
use crate::jobs::ports::process::Running;
use crate::jobs::{Output, Stream};
use crate::model::{MAX_JSON_LEVELS, nests_deeper};

/// How much is read at once, in bytes. A pipe holds 64 KiB; a quarter keeps a waiting program's daemon small and costs
/// little speed.
const CHUNK_BYTES: usize = 16 * 1024;

/// The longest last line that is looked at, in bytes.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// The tasks that move input and output. Dropping it ends them.
pub(super) struct Pump {
    readers: JoinSet<()>,
    feeder: Option<AbortHandle>,
    /// Holds the feeder, which must not be waited for.
    _feeding: JoinSet<()>,
    seen: Arc<Seen>,
}

/// What went by.
#[derive(Default)]
struct Seen {
    bytes: AtomicU64,
    /// The last line of standard output, if the result is there.
    last_line: Option<Mutex<LastLine>>,
}

impl Pump {
    pub(super) fn start(
        running: &mut Running,
        params: &CommandParams,
        output: &Output,
        listener: &Listener,
    ) -> io::Result<Self> {
        let wants_line = params.result == ResultFrom::LastLine;
        let seen = Arc::new(Seen { last_line: wants_line.then(Mutex::default), ..Seen::default() });
        let (stdout, stderr) = running.take_output()?;
        let mut readers = JoinSet::new();
        if let Some(pipe) = stdout {
            readers.spawn(read(pipe, Stream::Stdout, output.clone(), Arc::clone(&seen)));
        }
        if let Some(pipe) = stderr {
            readers.spawn(read(pipe, Stream::Stderr, output.clone(), Arc::clone(&seen)));
        }
        if let Some(pipe) = running.take_channel() {
            readers.spawn(listener.clone().listen(pipe).in_current_span());
        }
        let mut feeding = JoinSet::new();
        let feeder = match (running.take_stdin()?, &params.input) {
            (Some(pipe), Some(input)) => {
                let json = Value::Object(input.clone()).to_string();
                Some(feeding.spawn(feed(pipe, json)))
            }
            _ => None,
        };
        Ok(Self { readers, feeder, _feeding: feeding, seen })
    }

    /// Closes standard input: a program that has ended reads no more, though something it left behind may hold the pipe.
    pub(super) fn stop_feeding(&self) {
        if let Some(feeder) = &self.feeder {
            feeder.abort();
        }
    }

    /// Reads what is left, until all writers are gone, or for that long.
    pub(super) async fn drain(&mut self, at_most: Duration) {
        let all_read = async { while self.readers.join_next().await.is_some() {} };
        let _out_of_time = tokio::time::timeout(at_most, all_read).await;
    }

    /// How much the program has printed.
    pub(super) fn bytes(&self) -> u64 {
        self.seen.bytes.load(Ordering::Relaxed)
    }

    /// The last line of standard output, if it was asked for and is JSON.
    pub(super) fn last_line(&self) -> Option<Value> {
        let line = self.seen.last_line.as_ref()?;
        line.lock().unwrap_or_else(PoisonError::into_inner).json()
    }
}

async fn read(mut pipe: impl AsyncRead + Unpin, stream: Stream, output: Output, seen: Arc<Seen>) {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match pipe.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(length) => {
                let bytes = &chunk[..length];
                seen.bytes.fetch_add(length as u64, Ordering::Relaxed);
                output.write(stream, bytes);
                if let (Stream::Stdout, Some(line)) = (stream, &seen.last_line) {
                    line.lock().unwrap_or_else(PoisonError::into_inner).add(bytes);
                }
            }
        }
    }
}

/// A program need not read its input, so an error here says nothing.
async fn feed(mut pipe: ChildStdin, json: String) {
    let _not_read = pipe.write_all(json.as_bytes()).await;
}

/// The last line that has something on it.
#[derive(Debug, Default, PartialEq)]
struct LastLine {
    line: Vec<u8>,
    is_complete: bool,
    is_too_long: bool,
}

impl LastLine {
    fn add(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (piece, false),
            };
            if !text.is_empty() {
                self.add_text(text);
            }
            self.is_complete |= ends;
        }
    }

    fn add_text(&mut self, text: &[u8]) {
        if self.is_complete {
            *self = Self::default();
        }
        self.is_too_long |= self.line.len() + text.len() > MAX_LINE_BYTES;
        if !self.is_too_long {
            self.line.extend_from_slice(text);
        }
    }

    fn json(&self) -> Option<Value> {
        let value = if self.is_too_long { None } else { serde_json::from_slice(&self.line).ok() };
        value.filter(|value| !nests_deeper(value, MAX_JSON_LEVELS))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn json_of(pieces: &[&[u8]]) -> Option<Value> {
        let mut line = LastLine::default();
        for piece in pieces {
            line.add(piece);
        }
        line.json()
    }

    #[test]
    fn the_last_line_is_found_however_the_output_is_cut() {
        let expected = Some(json!({"rows": 3}));
        assert_eq!(json_of(&[b"a\n{\"rows\": 3}\n"]), expected);
        assert_eq!(json_of(&[b"a\n{\"ro", b"ws\": 3}", b"\n\n", b"\n"]), expected);
        assert_eq!(json_of(&[b"{\"rows\": 3}"]), expected);
        assert_eq!(json_of(&[b"{\"rows\": 3}\n", b"done\n"]), None);
        assert_eq!(json_of(&[]), None);
    }

    #[test]
    fn a_line_that_is_nested_too_deep_to_be_passed_on_is_no_result() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(json_of(&[nested(MAX_JSON_LEVELS).as_bytes()]).is_some());
        assert_eq!(json_of(&[nested(MAX_JSON_LEVELS + 1).as_bytes()]), None);
    }

    #[test]
    fn an_endless_line_is_not_kept() {
        let mut line = LastLine::default();
        for _ in 0..100 {
            line.add(&[b'1'; 10_000]);
        }
        assert!(line.line.len() <= MAX_LINE_BYTES);
        assert_eq!(line.json(), None);
        line.add(b"\n7\n");
        assert_eq!(line.json(), Some(json!(7)));
    }
}
