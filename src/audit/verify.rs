//! Finding what was changed in a log after it was written.
//!
//! The chain shows every edit, removal, insertion and reordering up to the end of the file. It cannot show that lines are
//! missing at the end, or that somebody recomputed all hashes: for that there are the anchors, which are in the database.

use std::io::{self, BufRead};

use serde::Serialize;

use super::chain::{Anchor, BadLine, Hash, Link, claimed_seq, split};

/// The longest line that is read, in bytes. Ours are far shorter; without a bound a damaged file could fill the memory.
pub(super) const MAX_LINE_BYTES: u64 = 4 << 20;

/// How many problems are kept. A log that is broken everywhere need not be described line by line.
const MAX_PROBLEMS: usize = 1000;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    /// How many lines were read.
    pub lines: u64,
    /// The first record's number.
    pub first_seq: Option<u64>,
    /// The last record's number.
    pub last_seq: Option<u64>,
    /// The last record's hash: whoever keeps it elsewhere can later tell that nothing before it was changed.
    pub head: Option<String>,
    /// How many anchors from the database were found in the log.
    pub anchors_confirmed: u64,
    /// What is wrong, at most a thousand of them.
    pub problems: Vec<Problem>,
    /// How many problems there are in all.
    pub problem_count: u64,
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.problem_count == 0
    }

    fn add(&mut self, line: u64, seq: Option<u64>, what: impl Into<String>) {
        self.problem_count += 1;
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Problem { line, seq, what: what.into() });
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The line, from 1; for lines missing at the end, the one they would begin at.
    pub line: u64,
    /// The record's number, where it can be told.
    pub seq: Option<u64>,
    /// What is wrong, in words for people.
    pub what: String,
}

/// Checks a log from its first line to its last, in constant memory. Several files of one log are checked by chaining their
/// readers in order. `anchors` are in the order of their numbers.
///
/// # Errors
/// Only when reading fails; whatever is wrong with the content is in the report.
pub fn verify(mut log: impl BufRead, anchors: &[Anchor]) -> io::Result<Report> {
    let mut report = Report::default();
    let mut check = Check { anchors, before: None };
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = io::Read::take(&mut log, MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        report.lines += 1;
        let number = report.lines;
        if line.pop_if(|last| *last == b'\n').is_none() {
            let too_long = line.len() as u64 == MAX_LINE_BYTES;
            let what = if too_long { "the line is too long" } else { "the line is incomplete" };
            report.add(number, None, what);
            if too_long {
                log.skip_until(b'\n')?;
            }
            continue;
        }
        match Link::read(&line) {
            Ok(link) => check.take(&mut report, link),
            Err(BadLine::NoHash) if line.is_empty() => {
                report.add(number, None, "the line is empty");
            }
            Err(bad) => {
                report.add(number, claimed_seq(&line), bad.to_string());
                check.pass_over(&line);
            }
        }
    }
    check.finish(&mut report);
    Ok(report)
}

struct Check<'a> {
    /// Those not reached yet.
    anchors: &'a [Anchor],
    /// The number and hash of the last line whose own hash was right.
    before: Option<(u64, Hash)>,
}

impl Check<'_> {
    fn take(&mut self, report: &mut Report, link: Link) {
        let (line, seq, hash) = (report.lines, link.head.seq, link.head.hash);
        match self.before {
            None => self.begin(report, &link),
            Some((before, _)) if seq <= before => {
                report.add(line, Some(seq), format!("number {seq} comes after number {before}"));
            }
            Some((before, _)) if seq != before + 1 => {
                let what = match seq - before - 1 {
                    1 => format!("the record between numbers {before} and {seq} is missing"),
                    gap => format!("{gap} records between numbers {before} and {seq} are missing"),
                };
                report.add(line, Some(seq), what);
            }
            Some((before, expected)) if link.prev != expected => {
                let what =
                    format!("it does not continue record {before}: one of them was replaced");
                report.add(line, Some(seq), what);
            }
            Some(_) => {}
        }
        self.hold_against_anchors(report, seq, hash);
        report.first_seq.get_or_insert(seq);
        report.last_seq = Some(seq);
        report.head = Some(hash.to_string());
        self.before = Some((seq, hash));
    }

    /// Goes on after a bad line with what it claims to be, so that one edit is one problem and not three.
    fn pass_over(&mut self, line: &[u8]) {
        let claim = claimed_seq(line).zip(split(line).map(|(_, hash)| hash));
        let expected = self.before.map_or(1, |(before, _)| before + 1);
        if let Some((seq, hash)) = claim.filter(|(seq, _)| *seq == expected) {
            self.before = Some((seq, hash));
        }
    }

    /// A log begins with record 1, or, when earlier files were put away, right after a record that an anchor vouches for.
    fn begin(&mut self, report: &mut Report, link: &Link) {
        let seq = link.head.seq;
        let line = report.lines;
        let vouched = self.anchors.iter().find(|anchor| anchor.head.seq + 1 == seq);
        let expected = if seq == 1 { Some(Hash::ZERO) } else { vouched.map(|a| a.head.hash) };
        match expected {
            Some(expected) if expected != link.prev => {
                report.add(line, Some(seq), "it does not continue what came before it");
            }
            Some(_) => {}
            None if line > 1 => {}
            None => {
                let what = format!("the log begins at number {seq}: earlier records are missing");
                report.add(line, Some(seq), what);
            }
        }
        // Of what is in earlier files nothing can be said here.
        let here = self.anchors.partition_point(|anchor| anchor.head.seq < seq);
        self.anchors = &self.anchors[here..];
    }

    fn hold_against_anchors(&mut self, report: &mut Report, seq: u64, hash: Hash) {
        while let Some((anchor, later)) = self.anchors.split_first() {
            if anchor.head.seq > seq {
                break;
            }
            self.anchors = later;
            if anchor.head.seq < seq {
                let what = format!(
                    "record {}, which the database vouches for, is missing",
                    anchor.head.seq
                );
                report.add(report.lines, Some(anchor.head.seq), what);
            } else if anchor.head.hash == hash {
                report.anchors_confirmed += 1;
            } else {
                let what = "the database vouches for another record of this number";
                report.add(report.lines, Some(seq), what);
            }
        }
    }

    fn finish(self, report: &mut Report) {
        if let Some(last) = self.anchors.last() {
            let what = format!(
                "the log ends too early: the database vouches for records up to number {}",
                last.head.seq
            );
            report.add(report.lines + 1, Some(last.head.seq), what);
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::audit::chain::{Head, Record, Upto};

    fn log(lines: u64) -> (Vec<Vec<u8>>, Vec<Head>) {
        let mut head = Head::EMPTY;
        let mut all = Vec::new();
        let mut heads = Vec::new();
        for number in 0..lines {
            let mut line = Vec::new();
            let subject = format!("job:{number}");
            let record = Record {
                time: Timestamp::UNIX_EPOCH,
                event: "job.submitted",
                actor: "cli:alice(1000)",
                subject: &subject,
                detail: "{}",
            };
            head.append(&mut line, &record, Upto::default());
            all.push(line);
            heads.push(head);
        }
        (all, heads)
    }

    fn anchor(head: Head) -> Anchor {
        Anchor { head, at: Timestamp::UNIX_EPOCH }
    }

    fn check(lines: &[Vec<u8>], anchors: &[Anchor]) -> Report {
        verify(lines.concat().as_slice(), anchors).unwrap()
    }

    #[test]
    fn an_untouched_log_is_intact() {
        let (lines, heads) = log(5);
        let report = check(&lines, &[anchor(heads[1]), anchor(heads[4])]);
        assert!(report.is_intact(), "{:?}", report.problems);
        assert_eq!((report.lines, report.first_seq, report.last_seq), (5, Some(1), Some(5)));
        assert_eq!(report.head, Some(heads[4].hash.to_string()));
        assert_eq!(report.anchors_confirmed, 2);
        assert!(check(&[], &[]).is_intact());
    }

    #[test]
    fn lines_missing_at_the_end_are_found_by_an_anchor() {
        let (lines, heads) = log(5);
        let report = check(&lines[..3], &[anchor(heads[4])]);
        let what = "the log ends too early: the database vouches for records up to number 5";
        let problem = Problem { line: 4, seq: Some(5), what: what.to_owned() };
        assert_eq!(report.problems, [problem]);
        assert!(!check(&[], &[anchor(heads[0])]).is_intact());
    }

    #[test]
    fn a_log_that_was_rewritten_as_a_whole_is_found_by_an_anchor() {
        let (_, heads) = log(3);
        let mut head = Head::EMPTY;
        let mut forged = Vec::new();
        for _ in 0..3 {
            let record = Record {
                time: Timestamp::UNIX_EPOCH,
                event: "job.submitted",
                actor: "nobody",
                subject: "",
                detail: "{}",
            };
            head.append(&mut forged, &record, Upto::default());
        }
        assert!(verify(forged.as_slice(), &[]).unwrap().is_intact());
        let report = verify(forged.as_slice(), &[anchor(heads[1])]).unwrap();
        assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    }

    #[test]
    fn a_later_file_of_a_log_needs_an_anchor_to_vouch_for_its_beginning() {
        let (lines, heads) = log(6);
        assert!(check(&lines[3..], &[anchor(heads[2])]).is_intact());
        assert!(!check(&lines[3..], &[]).is_intact());
        assert!(!check(&lines[3..], &[anchor(heads[1])]).is_intact());
    }

    #[test]
    fn an_overlong_line_is_one_problem_and_the_rest_is_checked() {
        let (mut lines, _) = log(2);
        lines.insert(1, vec![b'x'; MAX_LINE_BYTES as usize + 10]);
        lines[1].push(b'\n');
        let report = check(&lines, &[]);
        assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
        assert_eq!((report.lines, report.last_seq), (3, Some(2)));
    }

    #[test]
    fn a_forged_number_that_nothing_can_follow_is_a_problem_and_no_end_of_the_search() {
        let forged = |seq: u64| {
            let zero = Hash::ZERO;
            let body = format!("{{\"seq\":{seq},\"upto\":[0,0,0,0],\"prev\":\"{zero}\"");
            let hash = Hash::of(body.as_bytes());
            format!("{body},\"hash\":\"{hash}\"}}\n").into_bytes()
        };
        for seq in [u64::MAX, u64::MAX - 1, i64::MAX as u64 + 1] {
            let lines = [forged(seq), b"{\"seq\":0}\n".to_vec(), forged(seq)];
            let report = check(&lines, &[]);
            assert_eq!((report.lines, report.is_intact()), (3, false), "{seq}");
            assert_eq!(report.last_seq, None, "{seq} is no number of ours");
        }
    }

    #[test]
    fn the_documented_script_checks_a_log_without_sexton() {
        let documentation = include_str!("../../docs/audit.md");
        let script = documentation.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
        let output = |log: &[u8]| {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("audit.jsonl"), log).unwrap();
            let done = std::process::Command::new("sh")
                .args(["-c", script])
                .current_dir(folder.path())
                .output()
                .unwrap();
            String::from_utf8([done.stdout, done.stderr].concat()).unwrap()
        };
        let (mut lines, _) = log(4);
        assert_eq!(output(&lines.concat()), "");
        let edited = String::from_utf8(lines.concat()).unwrap().replace("job:2", "job:9");
        assert!(output(edited.as_bytes()).starts_with("edited: {\"seq\":3,"));
        lines.remove(1);
        assert!(
            output(&lines.concat()).starts_with("does not continue the line before: {\"seq\":3,")
        );
    }

    proptest! {
        #[test]
        fn every_changed_byte_is_found(at in any::<prop::sample::Index>(), to in any::<u8>()) {
            let (lines, heads) = log(4);
            let mut bytes = lines.concat();
            let at = at.index(bytes.len());
            prop_assume!(bytes[at] != to);
            bytes[at] = to;
            let report = verify(bytes.as_slice(), &[anchor(heads[3])]).unwrap();
            prop_assert!(!report.is_intact());
        }

        #[test]
        fn every_removed_line_is_found(at in 0_usize..6) {
            let (mut lines, heads) = log(6);
            lines.remove(at);
            prop_assert!(!check(&lines, &[anchor(heads[5])]).is_intact());
        }

        #[test]
        fn every_exchange_of_two_lines_is_found(a in 0_usize..6, b in 0_usize..6) {
            prop_assume!(a != b);
            let (mut lines, _) = log(6);
            lines.swap(a, b);
            prop_assert!(!check(&lines, &[]).is_intact());
        }

        #[test]
        fn every_repeated_line_is_found(from in 0_usize..6, to in 0_usize..=6) {
            let (mut lines, _) = log(6);
            lines.insert(to, lines[from].clone());
            prop_assert!(!check(&lines, &[]).is_intact());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            verify(bytes.as_slice(), &[]).unwrap();
        }
    }
}
