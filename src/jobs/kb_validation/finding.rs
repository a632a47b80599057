//! What a validation finds: findings, how bad they are, and how they are told apart from run to run.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::rule::Rule;
use crate::jobs::escape_for_terminal;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Worth repairing.
    Warning,
    /// Broken.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// How bad the settings want a rule to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Not reported.
    Off,
    /// Reported as [`Severity::Info`].
    Info,
    /// Reported as [`Severity::Warning`].
    Warning,
    /// Reported as [`Severity::Error`].
    Error,
}

impl Level {
    /// The severity, unless it is off.
    #[must_use]
    pub const fn severity(self) -> Option<Severity> {
        match self {
            Self::Off => None,
            Self::Info => Some(Severity::Info),
            Self::Warning => Some(Severity::Warning),
            Self::Error => Some(Severity::Error),
        }
    }
}

/// The severities that hold for one file: what the settings say, else the rule's own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Levels(BTreeMap<Rule, Level>);

impl Levels {
    pub(super) fn set(&mut self, rule: Rule, level: Level) {
        self.0.insert(rule, level);
    }

    pub(super) fn severity(&self, rule: Rule) -> Option<Severity> {
        match self.0.get(&rule) {
            Some(level) => level.severity(),
            None => Some(rule.severity()),
        }
    }
}

/// A place in a file, both from 1. Columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The line.
    pub line: u64,
    /// The character in the line, where it is known.
    pub col: Option<u64>,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which rule found it.
    pub rule: Rule,
    /// How bad it is.
    pub severity: Severity,
    /// Where, relative to the root; `.` for the root itself.
    pub path: String,
    /// The line, from 1, where there is one.
    pub line: Option<u64>,
    /// The character in the line, from 1, where there is one.
    pub col: Option<u64>,
    /// What is wrong. It names no lines, so that it stays the same when text above it changes.
    pub message: String,
    /// What to do about it, or what else to look at.
    pub hint: Option<String>,
    /// The same for the same trouble in later runs, wherever in its file it has moved to: 16 hex digits.
    pub fingerprint: String,
}

impl fmt::Display for Finding {
    /// One line, whatever is in file names and messages: `a.json:3:5: error B020 what (what to do)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", printable(&self.path))?;
        for number in [self.line, self.col].into_iter().flatten() {
            write!(f, ":{number}")?;
        }
        write!(f, ": {} {} {}", self.severity, self.rule, printable(&self.message))?;
        match &self.hint {
            Some(hint) => write!(f, " ({})", printable(hint)),
            None => Ok(()),
        }
    }
}

/// Text on one line, whatever is in it.
pub(super) fn printable(text: &str) -> String {
    escape_for_terminal(text).replace('\n', "\\n")
}

/// How many findings there are of each severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Of [`Severity::Error`].
    pub error: u64,
    /// Of [`Severity::Warning`].
    pub warning: u64,
    /// Of [`Severity::Info`].
    pub info: u64,
}

impl Counts {
    /// Counts one more.
    pub fn add(&mut self, severity: Severity) {
        match severity {
            Severity::Error => self.error += 1,
            Severity::Warning => self.warning += 1,
            Severity::Info => self.info += 1,
        }
    }

    /// Adds the counts of another.
    pub fn merge(&mut self, other: Self) {
        self.error += other.error;
        self.warning += other.warning;
        self.info += other.info;
    }

    /// How many are at least as bad as `severity`.
    #[must_use]
    pub const fn at_least(&self, severity: Severity) -> u64 {
        match severity {
            Severity::Error => self.error,
            Severity::Warning => self.error + self.warning,
            Severity::Info => self.error + self.warning + self.info,
        }
    }
}

/// A finding as a rule states it, before severity and fingerprint are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Report {
    rule: Rule,
    position: Option<Position>,
    message: String,
    hint: Option<String>,
    subject: Option<String>,
}

/// Longer messages are cut: a message is for people, and a value in a broken file can be megabytes long.
const MAX_MESSAGE_CHARS: usize = 300;

impl Report {
    pub(super) fn new(rule: Rule, message: impl Into<String>) -> Self {
        Self { rule, position: None, message: cut(message.into()), hint: None, subject: None }
    }

    pub(super) fn at(mut self, position: Position) -> Self {
        self.position = Some(position);
        self
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(cut(hint.into()));
        self
    }

    /// What makes it this finding and no other, where the message says less or changes with every run.
    pub(super) fn about(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }
}

/// Cuts a text to what people read.
fn cut(text: String) -> String {
    match text.char_indices().nth(MAX_MESSAGE_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Gathers the findings of one file, with a bound on how many are kept.
#[derive(Debug)]
pub(super) struct Findings<'a> {
    path: &'a str,
    levels: &'a Levels,
    room: usize,
    kept: Vec<Finding>,
    uncounted: Counts,
    seen: HashMap<[u8; 8], u32>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(path: &'a str, levels: &'a Levels, room: usize) -> Self {
        let (kept, seen) = (Vec::new(), HashMap::new());
        Self { path, levels, room, kept, uncounted: Counts::default(), seen }
    }

    /// Takes a report, unless its rule is off for this file.
    pub(super) fn add(&mut self, report: Report) {
        let Some(severity) = self.levels.severity(report.rule) else { return };
        if self.kept.len() >= self.room {
            self.uncounted.add(severity);
            return;
        }
        let fingerprint = self.fingerprint(&report);
        self.kept.push(Finding {
            rule: report.rule,
            severity,
            path: self.path.to_owned(),
            line: report.position.map(|position| position.line),
            col: report.position.and_then(|position| position.col),
            message: report.message,
            hint: report.hint,
            fingerprint,
        });
    }

    /// Made of what the trouble is and not of where it is, so it stays when lines move. The second of two equal
    /// troubles in a file is told from the first by its number.
    fn fingerprint(&mut self, report: &Report) -> String {
        let subject = report.subject.as_deref().unwrap_or(&report.message);
        let mut hasher = blake3::Hasher::new();
        for part in [report.rule.id(), self.path, subject] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        let mut key = [0; 8];
        hasher.finalize_xof().fill(&mut key);
        let nth = self.seen.entry(key).or_default();
        hasher.update(&nth.to_le_bytes());
        *nth += 1;
        hasher.finalize().to_hex()[..16].to_owned()
    }

    /// What was kept, and the counts of what was not.
    pub(super) fn finish(self) -> (Vec<Finding>, Counts) {
        (self.kept, self.uncounted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(reports: &[Report], room: usize) -> (Vec<Finding>, Counts) {
        let levels = Levels::default();
        let mut findings = Findings::new("a.md", &levels, room);
        reports.iter().cloned().for_each(|report| findings.add(report));
        findings.finish()
    }

    #[test]
    fn a_fingerprint_ignores_the_place_and_tells_equal_troubles_apart() {
        let at = |line| Report::new(Rule::BrokenLink, "no b.md").at(Position { line, col: None });
        let (first, _) = found(&[at(1), at(5)], 9);
        let (second, _) = found(&[at(100), at(107)], 9);
        let prints = |list: &[Finding]| -> Vec<String> {
            list.iter().map(|finding| finding.fingerprint.clone()).collect()
        };
        assert_eq!(prints(&first), prints(&second));
        assert_ne!(first[0].fingerprint, first[1].fingerprint);
    }

    #[test]
    fn what_does_not_fit_is_still_counted() {
        let report = Report::new(Rule::BrokenLink, "x");
        let (kept, uncounted) = found(&[report.clone(), report.clone(), report], 1);
        assert_eq!((kept.len(), uncounted.error), (1, 2));
    }

    #[test]
    fn a_rule_that_is_off_finds_nothing() {
        let mut levels = Levels::default();
        levels.set(Rule::Bom, Level::Off);
        let mut findings = Findings::new("a", &levels, 9);
        findings.add(Report::new(Rule::Bom, "x"));
        assert_eq!(findings.finish(), (Vec::new(), Counts::default()));
    }

    #[test]
    fn k7_a_finding_is_one_line_whatever_the_file_is_called() {
        let levels = Levels::default();
        let mut findings = Findings::new("a\nb\u{1b}[31m\u{202e}", &levels, 9);
        findings.add(Report::new(Rule::Bom, "x\r\ny").at(Position { line: 1, col: Some(2) }));
        let line = findings.finish().0[0].to_string();
        assert_eq!(line, "a\\nb\\u{1b}[31m\\u{202e}:1:2: warning B012 x\\ny");
    }
}
