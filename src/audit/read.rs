//! Paging through the log, newest record first.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::chain::{Upto, claimed_seq};
use super::verify::MAX_LINE_BYTES;

/// A record as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLine {
    /// Its number, from 1.
    pub seq: u64,
    /// When it happened.
    pub time: Timestamp,
    /// What happened.
    pub event: String,
    /// On whose order.
    pub actor: String,
    /// To what.
    pub subject: String,
    /// More.
    pub detail: serde_json::Value,
    /// How far the source tables had been projected.
    pub upto: Upto,
    /// The hash of the record before.
    pub prev: String,
    /// Its own hash.
    pub hash: String,
}

/// Which records to list; everything that is set must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// At or after.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
    /// The actor contains this.
    pub who: Option<String>,
    /// The event begins with this.
    pub event: Option<String>,
    /// The subject is this.
    pub subject: Option<String>,
}

impl Filter {
    fn admits(&self, line: &AuditLine) -> bool {
        self.since.is_none_or(|since| line.time >= since)
            && self.until.is_none_or(|until| line.time < until)
            && self.who.as_ref().is_none_or(|who| line.actor.contains(who.as_str()))
            && self.event.as_ref().is_none_or(|event| line.event.starts_with(event.as_str()))
            && self.subject.as_ref().is_none_or(|subject| line.subject == *subject)
    }
}

/// Some records, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Page {
    /// The records.
    pub items: Vec<AuditLine>,
    /// What to pass as `before` to go on; `None` at the end.
    pub next: Option<u64>,
    /// How many lines on the way are not records; `audit verify` says more.
    pub unreadable: u64,
}

/// Times need not rise from line to line, since they are of several clocks and tables. A record that is older than what is
/// asked for by more than this ends the search.
const DISORDER: SignedDuration = SignedDuration::from_hours(24);

/// The newest records that fit, at most `limit`, with numbers below `before`.
///
/// # Errors
/// When the file cannot be read. A log that does not exist yet is empty.
pub fn page(path: &Path, filter: &Filter, before: Option<u64>, limit: usize) -> io::Result<Page> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Page::default()),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    let end = match before {
        Some(before) => start_of(&file, length, before)?,
        None => length,
    };
    let mut page = Page::default();
    let mut lines = Backwards { file, end, block: Vec::new() };
    while let Some(line) = lines.next_line()? {
        let Ok(record) = serde_json::from_slice::<AuditLine>(&line) else {
            // The last line is still being written when its newline is missing.
            page.unreadable += u64::from(!line.is_empty());
            continue;
        };
        if filter.since.is_some_and(|since| since.duration_since(record.time) > DISORDER) {
            break;
        }
        if filter.admits(&record) {
            if page.items.len() == limit {
                page.next = page.items.last().map(|last| last.seq);
                break;
            }
            page.items.push(record);
        }
    }
    Ok(page)
}

/// Where the first line with number `seq` or above begins. Numbers rise, so halving finds it.
fn start_of(file: &File, length: u64, seq: u64) -> io::Result<u64> {
    let (mut low, mut high) = (0, length);
    while low < high {
        let middle = low + (high - low) / 2;
        let (start, number) = line_at_or_after(file, middle, high)?;
        match number {
            Some(number) if number < seq => low = start + 1,
            _ => high = middle,
        }
    }
    // `low` is just behind the beginning of the last line that is too small; the next line begins after its newline.
    if low == 0 { Ok(0) } else { after_newline(file, low - 1, length) }
}

/// The first line that begins at `from` or later, and its number; `None` when there is none before `end`.
fn line_at_or_after(file: &File, from: u64, end: u64) -> io::Result<(u64, Option<u64>)> {
    let start = if from == 0 { 0 } else { after_newline(file, from - 1, end)? };
    if start >= end {
        return Ok((end, None));
    }
    let mut beginning = [0; 32];
    let read = file.read_at(&mut beginning, start)?;
    Ok((start, claimed_seq(&beginning[..read])))
}

/// Just behind the first newline at `from` or later, or `end`.
fn after_newline(file: &File, from: u64, end: u64) -> io::Result<u64> {
    let mut block = [0; 4096];
    let mut at = from;
    while at < end {
        let read = file.read_at(&mut block, at)?;
        if read == 0 {
            break;
        }
        if let Some(newline) = block[..read].iter().position(|byte| *byte == b'\n') {
            return Ok((at + newline as u64 + 1).min(end));
        }
        at += read as u64;
    }
    Ok(end)
}

/// Lines from the end to the beginning.
struct Backwards {
    file: File,
    /// The part of the file in front of `block`, which is not read yet, ends here.
    end: u64,
    /// What is read and not given out.
    block: Vec<u8>,
}

impl Backwards {
    fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        const BLOCK: u64 = 64 << 10;
        let mut searched = 0;
        // The newline that ends the line itself.
        if self.block.last() == Some(&b'\n') {
            self.block.pop();
        }
        loop {
            let unsearched = self.block.len() - searched;
            if let Some(newline) = self.block[..unsearched].iter().rposition(|b| *b == b'\n') {
                let line = self.block.split_off(newline + 1);
                return Ok(Some(line));
            }
            searched = self.block.len();
            if self.end == 0 || searched as u64 > MAX_LINE_BYTES {
                let rest = std::mem::take(&mut self.block);
                return Ok((!rest.is_empty()).then_some(rest));
            }
            let start = self.end.saturating_sub(BLOCK);
            let mut more = vec![0; usize::try_from(self.end - start).unwrap_or(usize::MAX)];
            self.file.read_exact_at(&mut more, start)?;
            if self.block.is_empty() && more.last() == Some(&b'\n') {
                more.pop();
            }
            more.append(&mut self.block);
            self.block = more;
            self.end = start;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::chain::{Head, Record};
    use crate::audit::file::AuditFile;

    fn log(folder: &Path, records: u64) {
        let (mut file, _) = AuditFile::open(folder, None).unwrap();
        let padding = "x".repeat(700);
        file.add(|head: &mut Head, buffer| {
            for number in 1..=records {
                let detail = format!("{{\"pad\":\"{padding}\"}}");
                let record = Record {
                    time: Timestamp::from_second(i64::try_from(number * 3600).unwrap()).unwrap(),
                    event: if number % 2 == 0 { "job.submitted" } else { "attempt.finished" },
                    actor: if number % 3 == 0 { "cli:alice(1000)" } else { "scheduler" },
                    subject: "job:1",
                    detail: &detail,
                };
                head.append(buffer, &record, Upto::default());
            }
        })
        .unwrap();
    }

    fn numbers(page: &Page) -> Vec<u64> {
        page.items.iter().map(|line| line.seq).collect()
    }

    #[test]
    fn pages_go_from_the_newest_record_to_the_first_without_gap() {
        let folder = tempfile::tempdir().unwrap();
        log(folder.path(), 500);
        let path = folder.path().join(crate::audit::FILE_NAME);
        let mut all = Vec::new();
        let mut before = None;
        loop {
            let page = page(&path, &Filter::default(), before, 37).unwrap();
            all.extend(numbers(&page));
            assert_eq!(page.unreadable, 0);
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(all, (1..=500).rev().collect::<Vec<_>>());
    }

    #[test]
    fn a_page_can_begin_anywhere() {
        let folder = tempfile::tempdir().unwrap();
        log(folder.path(), 40);
        let path = folder.path().join(crate::audit::FILE_NAME);
        for before in 1..=41 {
            let page = page(&path, &Filter::default(), Some(before), 1).unwrap();
            let expected: Vec<u64> = if before == 1 { vec![] } else { vec![before - 1] };
            assert_eq!(numbers(&page), expected, "before {before}");
        }
        let beyond = page(&path, &Filter::default(), Some(1000), 1).unwrap();
        assert_eq!(numbers(&beyond), [40]);
    }

    #[test]
    fn only_what_was_asked_for_is_listed() {
        let folder = tempfile::tempdir().unwrap();
        log(folder.path(), 100);
        let path = folder.path().join(crate::audit::FILE_NAME);
        let filter = Filter {
            who: Some("alice".into()),
            event: Some("job.".into()),
            since: Timestamp::from_second(80 * 3600).ok(),
            until: Timestamp::from_second(96 * 3600).ok(),
            ..Filter::default()
        };
        assert_eq!(numbers(&page(&path, &filter, None, 10).unwrap()), [90, 84]);
    }

    #[test]
    fn a_log_that_does_not_exist_is_empty() {
        let found = page(Path::new("/nonexistent/audit.jsonl"), &Filter::default(), None, 1);
        assert_eq!(found.unwrap(), Page::default());
    }
}
