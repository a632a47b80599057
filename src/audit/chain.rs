//! From a record to its line.
//!
//! A line is `BODY,"hash":"HASH"}` where HASH is the lower-case hex SHA-256 of BODY's bytes. BODY begins with `{` and ends
//! with `"prev":"…"`, the hash of the line before, so a hash covers its own line and, through `prev`, all lines before it.
//! Whoever checks needs no JSON library: cut the line at its last `,"hash":`, hash what is in front of it, compare.

use std::fmt::Write as _;
use std::io::Write as _;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::is_harmful;

/// Hex digits of a hash.
pub const HASH_DIGITS: usize = 64;

/// What stands between a line's body and its hash.
pub(super) const HASH_FIELD: &[u8] = b",\"hash\":\"";

/// What follows the hash.
pub(super) const LINE_END: &[u8] = b"\"}";

/// How far each source table has been projected: the greatest row id that a line stands for or that needs no line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "[i64; 4]", into = "[i64; 4]")]
pub struct Upto {
    /// Of `occurrences`.
    pub occurrences: i64,
    /// Of `jobs`.
    pub jobs: i64,
    /// Of `attempts`.
    pub attempts: i64,
    /// Of `audit_events`.
    pub events: i64,
}

impl From<[i64; 4]> for Upto {
    fn from([occurrences, jobs, attempts, events]: [i64; 4]) -> Self {
        Self { occurrences, jobs, attempts, events }
    }
}

impl From<Upto> for [i64; 4] {
    fn from(upto: Upto) -> Self {
        [upto.occurrences, upto.jobs, upto.attempts, upto.events]
    }
}

/// The hash of a line, as text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hash([u8; HASH_DIGITS]);

impl Hash {
    /// What the first line of a log has as `prev`.
    pub const ZERO: Self = Self([b'0'; HASH_DIGITS]);

    /// The hash of a body.
    #[must_use]
    pub fn of(body: &[u8]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; HASH_DIGITS];
        for (pair, byte) in text.chunks_exact_mut(2).zip(Sha256::digest(body)) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        Self(text)
    }

    /// From text; only lower-case digits are taken, so that a hash has one spelling.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let digits: [u8; HASH_DIGITS] = text.try_into().ok()?;
        digits
            .iter()
            .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
            .then_some(Self(digits))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// When it happened, by the clock of who did it. Times need not increase from line to line; `seq` does.
    pub time: Timestamp,
    /// What happened: `attempt.finished`.
    pub event: &'a str,
    /// On whose order.
    pub actor: &'a str,
    /// To what: `job:17`, `schedule:cleanup-tmp`.
    pub subject: &'a str,
    /// More, as the text of a JSON object.
    pub detail: &'a str,
}

/// The end of a log: what the next line continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The last line's number; 0 when there is none.
    pub seq: u64,
    /// The last line's hash.
    pub hash: Hash,
    /// How far the source tables have been projected.
    pub upto: Upto,
}

impl Head {
    /// Before the first line.
    pub const EMPTY: Self = Self {
        seq: 0,
        hash: Hash::ZERO,
        upto: Upto { occurrences: 0, jobs: 0, attempts: 0, events: 0 },
    };

    /// Writes the next line, newline included, to the end of `buffer` and moves on.
    pub fn append(&mut self, buffer: &mut Vec<u8>, record: &Record<'_>, upto: Upto) {
        let start = buffer.len();
        let seq = self.seq + 1;
        let [occurrences, jobs, attempts, events] = upto.into();
        // Writing to a vector cannot fail.
        let _ = write!(buffer, "{{\"seq\":{seq},\"time\":\"{:.6}\",\"event\":", record.time);
        write_text(buffer, record.event);
        buffer.extend_from_slice(b",\"actor\":");
        write_text(buffer, record.actor);
        buffer.extend_from_slice(b",\"subject\":");
        write_text(buffer, record.subject);
        buffer.extend_from_slice(b",\"detail\":");
        write_inert(buffer, record.detail);
        let _ = write!(buffer, ",\"upto\":[{occurrences},{jobs},{attempts},{events}],\"prev\":\"");
        buffer.extend_from_slice(&self.hash.0);
        buffer.push(b'"');
        let hash = Hash::of(&buffer[start..]);
        buffer.extend_from_slice(HASH_FIELD);
        buffer.extend_from_slice(&hash.0);
        buffer.extend_from_slice(LINE_END);
        buffer.push(b'\n');
        *self = Self { seq, hash, upto };
    }
}

/// What the database remembers of a log, so that a log cut short or rewritten as a whole is found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// The line's number, its hash, and how far the tables had been projected.
    pub head: Head,
    /// When it was noted.
    pub at: Timestamp,
}

/// A JSON string.
pub(super) fn write_text(buffer: &mut Vec<u8>, text: &str) {
    buffer.push(b'"');
    for c in text.chars() {
        match c {
            '"' => buffer.extend_from_slice(b"\\\""),
            '\\' => buffer.extend_from_slice(b"\\\\"),
            c if c.is_ascii() && !c.is_ascii_control() => buffer.push(c as u8),
            c if is_harmful(c) => write_escape(buffer, c),
            c => buffer.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    buffer.push(b'"');
}

/// JSON that is already text, with what could disturb a terminal or start a new line escaped. Such characters are legal only
/// inside its strings, or are white space between its tokens.
fn write_inert(buffer: &mut Vec<u8>, json: &str) {
    for c in json.chars() {
        match c {
            '\n' | '\r' | '\t' => buffer.push(b' '),
            c if is_harmful(c) => write_escape(buffer, c),
            c => buffer.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

fn write_escape(buffer: &mut Vec<u8>, c: char) {
    // All of them lie below U+10000, so one escape is enough.
    let mut text = String::with_capacity(6);
    let _ = write!(text, "\\u{:04x}", u32::from(c));
    buffer.extend_from_slice(text.as_bytes());
}

/// What a line's bytes say of its place in the chain, its hash already held against its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) head: Head,
    pub(super) prev: Hash,
}

/// Why a line cannot be part of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    /// It is not `BODY,"hash":"HASH"}`.
    #[error("it does not end with a hash")]
    NoHash,
    /// Its hash is another one.
    #[error("its hash does not fit what it says")]
    WrongHash,
    /// The hash fits, but the body is not a record.
    #[error("it is not an audit record")]
    NotARecord,
}

impl Link {
    /// Reads a line, without its newline.
    pub(super) fn read(line: &[u8]) -> Result<Self, BadLine> {
        #[derive(Deserialize)]
        struct Fields<'a> {
            seq: u64,
            upto: Upto,
            #[serde(borrow)]
            prev: std::borrow::Cow<'a, str>,
        }
        let (body, hash) = split(line).ok_or(BadLine::NoHash)?;
        if Hash::of(body) != hash {
            return Err(BadLine::WrongHash);
        }
        let fields: Fields<'_> =
            serde_json::from_slice(line).map_err(|_not_json| BadLine::NotARecord)?;
        // The database counts in i64, so a greater number was never given, and nothing could follow the greatest of all.
        if i64::try_from(fields.seq).is_err() {
            return Err(BadLine::NotARecord);
        }
        let prev = Hash::parse(fields.prev.as_bytes()).ok_or(BadLine::NotARecord)?;
        Ok(Self { head: Head { seq: fields.seq, hash, upto: fields.upto }, prev })
    }
}

/// A line's body and the hash it claims.
pub(super) fn split(line: &[u8]) -> Option<(&[u8], Hash)> {
    let rest = line.strip_suffix(LINE_END)?;
    let (rest, hash) = rest.split_at_checked(rest.len().checked_sub(HASH_DIGITS)?)?;
    Some((rest.strip_suffix(HASH_FIELD)?, Hash::parse(hash)?))
}

/// The number a line claims to have, although it is not to be trusted otherwise.
pub(super) fn claimed_seq(line: &[u8]) -> Option<u64> {
    let digits = line.strip_prefix(b"{\"seq\":")?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line_of(head: &mut Head, record: &Record<'_>) -> String {
        let mut buffer = Vec::new();
        head.append(&mut buffer, record, Upto { attempts: 3, ..Upto::default() });
        String::from_utf8(buffer).unwrap()
    }

    fn record<'a>(actor: &'a str, detail: &'a str) -> Record<'a> {
        Record {
            time: "2026-11-23T02:30:00.5Z".parse().unwrap(),
            event: "attempt.finished",
            actor,
            subject: "job:17",
            detail,
        }
    }

    #[test]
    fn the_format_is_the_documented_one() {
        let mut head = Head::EMPTY;
        let line = line_of(&mut head, &record("scheduler", "{\"number\":1}"));
        insta::assert_snapshot!(line);
        let documentation = include_str!("../../docs/audit.md");
        assert!(documentation.contains(line.trim_end()), "docs/audit.md shows another line");
    }

    proptest! {
        #[test]
        fn j10_a_line_is_one_line_of_printable_json(actor in any::<String>(), text in any::<String>()) {
            let detail = serde_json::json!({ "text": text }).to_string();
            let line = line_of(&mut Head::EMPTY.clone(), &record(&actor, &detail));
            let inner = line.strip_suffix('\n').unwrap();
            prop_assert!(!inner.chars().any(is_harmful));
            let read: serde_json::Value = serde_json::from_str(inner).unwrap();
            prop_assert_eq!(&read["actor"], &actor);
            prop_assert_eq!(&read["detail"]["text"], &text);
        }

        #[test]
        fn a_line_reads_back_as_its_link(actor in any::<String>()) {
            let mut head = Head::EMPTY;
            let first = line_of(&mut head, &record(&actor, "{}"));
            let before = head;
            let second = line_of(&mut head, &record(&actor, "{}"));
            prop_assert_eq!(Link::read(first.trim_end().as_bytes()).unwrap().head, before);
            let link = Link::read(second.trim_end().as_bytes()).unwrap();
            prop_assert_eq!((link.head, link.prev), (head, before.hash));
        }

        #[test]
        fn no_bytes_make_reading_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Link::read(&bytes);
        }
    }
}
