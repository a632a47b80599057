//! The audit verifier.
//!
//! The first line of an input says what the rest is: `raw`, the bytes of a log; `sealed`, lines that get the hash that fits
//! them, `PREV` in them standing for the hash of the line before, as a forger would write them; `records`, one record a line
//! as the daemon would write it, behind a number that chooses what is changed afterwards.

use jiff::Timestamp;
use sexton::audit::chain::Hash;
use sexton::audit::{Anchor, Head, Record, Report, Upto, verify};

/// How many bytes of an intact log are changed, one at a time.
const MAX_CHANGES: usize = 48;

pub(crate) fn check(data: &[u8]) {
    let Some((mode, rest)) = split_at_byte(data, b'\n') else { return };
    match mode {
        b"raw" => one_changed_byte_is_found(rest, &[]),
        b"sealed" => one_changed_byte_is_found(&sealed(rest), &[]),
        b"records" => {
            let Some((number, rest)) = split_at_byte(rest, b'\n') else { return };
            let number = std::str::from_utf8(number).ok().and_then(|text| text.parse().ok());
            written(rest, number.unwrap_or(0));
        }
        _ => {}
    }
}

fn split_at_byte(bytes: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|found| *found == byte)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

fn verified(log: &[u8], anchors: &[Anchor]) -> Report {
    let report = verify(log, anchors).expect("reading from memory does not fail");
    let lines = log.split_inclusive(|byte| *byte == b'\n').count() as u64;
    assert_eq!(report.lines, lines, "every line is looked at");
    assert!(report.problems.len() as u64 <= report.problem_count);
    assert!(report.problems.iter().all(|problem| (1..=lines + 1).contains(&problem.line)));
    if report.is_intact() && lines > 0 {
        let (first, last) = report.first_seq.zip(report.last_seq).expect("records have numbers");
        assert_eq!(last - first + 1, lines, "an intact log has no gap");
        assert!(report.head.is_some());
    }
    report
}

/// Whatever the log: where it is intact, it is not any more once a byte has become another one.
fn one_changed_byte_is_found(log: &[u8], anchors: &[Anchor]) {
    if !verified(log, anchors).is_intact() {
        return;
    }
    let step = (log.len() / MAX_CHANGES).max(1);
    for at in (0..log.len()).step_by(step) {
        for flipped in [1, 0x20, 0x80] {
            let mut changed = log.to_vec();
            changed[at] ^= flipped;
            assert!(!verified(&changed, anchors).is_intact(), "byte {at} of {log:?}");
        }
    }
}

fn sealed(lines: &[u8]) -> Vec<u8> {
    let mut log = Vec::new();
    let mut prev = Hash::ZERO;
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let mut body = Vec::with_capacity(line.len());
        let mut rest = line;
        while let Some(at) = rest.windows(4).position(|window| window == b"PREV") {
            body.extend_from_slice(&rest[..at]);
            body.extend_from_slice(prev.as_str().as_bytes());
            rest = &rest[at + 4..];
        }
        body.extend_from_slice(rest);
        prev = Hash::of(&body);
        log.extend_from_slice(&body);
        log.extend_from_slice(format!(",\"hash\":\"{prev}\"}}\n").as_bytes());
    }
    log
}

/// A log as the daemon writes it is intact, whatever is in its records, and whatever is done to it is found.
fn written(records: &[u8], number: usize) {
    let text = String::from_utf8_lossy(records);
    let mut head = Head::EMPTY;
    let (mut lines, mut anchors) = (Vec::new(), Vec::new());
    for record in text.lines().take(16) {
        let mut fields = record.split('|');
        let mut field = || fields.next().unwrap_or_default();
        let (event, actor, subject) = (field(), field(), field());
        let detail = serde_json::json!({ "text": field() }).to_string();
        let time = Timestamp::UNIX_EPOCH;
        let mut line = Vec::new();
        let upto = Upto { events: head.upto.events + 1, ..head.upto };
        head.append(&mut line, &Record { time, event, actor, subject, detail: &detail }, upto);
        let read: serde_json::Value = serde_json::from_slice(&line).expect("a line is JSON");
        assert_eq!(read["actor"], actor, "a line says what was to be said");
        lines.push(line);
        anchors.push(Anchor { head, at: time });
    }
    let Some(newest) = anchors.last().copied() else { return };
    let log = lines.concat();
    assert!(verified(&log, &anchors).is_intact(), "{log:?}");
    one_changed_byte_is_found(&log, &[]);

    let (at, way) = (number / 4 % lines.len(), number % 4);
    let mut forged = lines.clone();
    match way {
        0 => drop(forged.remove(at)),
        1 => forged.insert(number / 64 % (lines.len() + 1), lines[at].clone()),
        2 => forged.swap(at, number / 64 % lines.len()),
        _ => forged[at].truncate(number / 64 % lines[at].len()),
    }
    if forged != lines {
        assert!(!verified(&forged.concat(), &[newest]).is_intact(), "{forged:?}");
    }
}
