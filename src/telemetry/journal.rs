//! The journal's own protocol: one datagram an entry, <https://systemd.io/JOURNAL_NATIVE_PROTOCOL>.
//!
//! tracing-journald was used before. It writes the message without its `error` field, so that `journalctl -u sexton` said that
//! the database was given up and not why; and it sends from the thread that logs, so that a journal which does not take its mail
//! held up the work.

use std::borrow::Cow;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use serde_json::Value;
use tracing::Level;

use super::format::Line;

/// Where the journal listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// How much of a message is sent, in bytes. A datagram may have about 200 KB; the log file has everything.
const MAX_MESSAGE_BYTES: usize = 32 << 10;

/// The same for each field.
const MAX_FIELD_BYTES: usize = 4 << 10;

/// A socket on which each write is an entry.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    socket: UnixDatagram,
}

impl Journal {
    /// Connects to the journal.
    ///
    /// # Errors
    /// When nothing listens there.
    pub(super) fn connect() -> io::Result<Self> {
        Self::connect_to(SOCKET.into())
    }

    fn connect_to(path: PathBuf) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(&path)?;
        Ok(Self { path, socket })
    }
}

impl Write for Journal {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        self.socket.send(entry).or_else(|_gone| {
            // A journal that was restarted has another socket.
            self.socket.connect(&self.path)?;
            self.socket.send(entry)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A line as an entry: what it says, who says it, and every field under a name of its own.
///
/// What is wrong belongs to what people read. `journalctl` shows them the message alone, so an `error`, or a `why`, ends it.
pub(super) fn entry(line: &Line<'_>) -> Vec<u8> {
    let mut message = line.message.to_owned();
    let cause = line.fields.iter().find(|(name, _)| matches!(*name, "error" | "why"));
    if let Some((_, cause)) = cause {
        message.push_str(": ");
        message.push_str(&words(cause));
    }
    let mut entry = Vec::with_capacity(512);
    put(&mut entry, "MESSAGE", cut(&message, MAX_MESSAGE_BYTES));
    put(&mut entry, "PRIORITY", priority(line.level));
    put(&mut entry, "SYSLOG_IDENTIFIER", "sexton");
    put(&mut entry, "TARGET", line.target);
    if let Some((file, number)) = line.place {
        put(&mut entry, "CODE_FILE", file);
        put(&mut entry, "CODE_LINE", &number.to_string());
    }
    for (name, value) in line.fields {
        put(&mut entry, &field_name(name), cut(&words(value), MAX_FIELD_BYTES));
    }
    entry
}

/// The levels as everybody else in the journal uses them, see syslog(3).
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

/// Names are capitals, digits and underscores; the prefix keeps ours apart from everybody else's.
fn field_name(name: &str) -> String {
    let name =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    "SEXTON_".chars().chain(name).collect()
}

fn words(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

fn cut(text: &str, max_bytes: usize) -> &str {
    let mut end = max_bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The form for values that may hold newlines: the name, the length in eight bytes (little endian), the value.
fn put(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend_from_slice(name.as_bytes());
    entry.push(b'\n');
    entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use proptest::prelude::*;
    use tracing_subscriber::layer::SubscriberExt;

    use super::super::format::{Lines, Look};
    use super::*;
    use crate::clock::ManualClock;

    /// A socket of a journal, and the other end.
    fn journal() -> (tempfile::TempDir, UnixDatagram, Journal) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let receiver = UnixDatagram::bind(&path).unwrap();
        receiver.set_nonblocking(true).unwrap();
        let journal = Journal::connect_to(path).unwrap();
        (folder, receiver, journal)
    }

    /// The fields of the one entry that is sent for what `what` logs, read as the protocol says.
    fn sent(what: impl FnOnce()) -> BTreeMap<String, String> {
        let (_folder, receiver, journal) = journal();
        let clock = Arc::new(ManualClock::new("2026-11-23T02:30:00Z".parse().unwrap()));
        let writer = Shared(Arc::new(journal));
        let lines = Lines::new(Look::Journal, clock, writer);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), what);
        let mut entry = vec![0; 300_000];
        let length = receiver.recv(&mut entry).unwrap();
        let (mut rest, mut fields) = (&entry[..length], BTreeMap::new());
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (name, value) = (&rest[..end], &rest[end + 1..]);
            let length = u64::from_le_bytes(value[..8].try_into().unwrap()) as usize;
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let known = fields.insert(text(name), text(&value[8..8 + length]));
            assert_eq!(known, None, "a field comes twice");
            rest = value[8 + length..].strip_prefix(b"\n").unwrap();
        }
        assert_eq!(rest, b"");
        fields
    }

    #[derive(Clone)]
    struct Shared(Arc<Journal>);

    impl Write for Shared {
        fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
            self.0.socket.send(entry)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_entry_says_what_is_wrong_and_keeps_its_fields() {
        let fields =
            sent(|| tracing::error!(job.id = 7, error = "the disk is full", "cannot write"));
        insta::assert_debug_snapshot!(
            fields.into_iter().filter(|(name, _)| name != "CODE_LINE").collect::<Vec<_>>()
        );
    }

    #[test]
    fn an_entry_without_an_error_is_its_message() {
        let nothing: Option<&str> = None;
        let fields = sent(|| tracing::info!(error = nothing, "attempt finished"));
        assert_eq!(fields["MESSAGE"], "attempt finished");
    }

    #[test]
    fn what_is_too_long_for_a_datagram_is_cut() {
        let fields = sent(|| tracing::warn!(long = "ä".repeat(500_000), "{}", "ö".repeat(500_000)));
        assert_eq!(fields["MESSAGE"].len(), MAX_MESSAGE_BYTES);
        assert_eq!(fields["SEXTON_LONG"].len(), MAX_FIELD_BYTES);
    }

    #[test]
    fn a_journal_that_was_restarted_is_found_again() {
        let (folder, receiver, mut journal) = journal();
        journal.write_all(b"one").unwrap();
        drop(receiver);
        let path = folder.path().join("socket");
        std::fs::remove_file(&path).unwrap();
        let again = UnixDatagram::bind(&path).unwrap();
        journal.write_all(b"two").unwrap();
        let mut entry = [0; 10];
        assert_eq!(again.recv(&mut entry).unwrap(), 3);
    }

    proptest! {
        #[test]
        fn j10_one_event_is_one_entry_whatever_it_says(message in any::<String>(), value in any::<String>()) {
            let fields = sent(|| tracing::info!(value, "{message}"));
            prop_assert_eq!(&fields["MESSAGE"], &message);
            prop_assert_eq!(&fields["SEXTON_VALUE"], &value);
        }
    }
}
