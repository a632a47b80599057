//! The result of a run: what is stored, shown and said.

use serde::Serialize;
use serde_json::Value;

use super::finding::{Counts, Finding};
use super::params::FailOn;

/// Changes when a field changes its meaning or goes; new fields do not change it.
const SCHEMA_VERSION: u32 = 1;

/// What a run found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    schema_version: u32,
    /// As the settings have it.
    pub root: String,
    /// What was looked at.
    pub files: Files,
    /// All findings by severity, listed or not.
    pub counts: Counts,
    /// The worst first, then by path and place.
    pub findings: Vec<Finding>,
    /// Whether there are more findings than are listed.
    pub truncated: bool,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

/// Numbers of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Files {
    /// Files below the root.
    pub scanned: u64,
    /// Files whose content was read and checked.
    pub checked: u64,
    /// Files whose content is as it was in an earlier run, whose findings are reported again.
    pub unchanged: u64,
}

impl Verdict {
    /// Puts findings in order and cuts them to `max`.
    pub(super) fn new(
        root: &str,
        files: Files,
        mut findings: Vec<Finding>,
        unlisted: Counts,
        max: usize,
    ) -> Self {
        let mut counts = unlisted;
        findings.iter().for_each(|finding| counts.add(finding.severity));
        findings.sort_by(|a, b| order(a).cmp(&order(b)));
        findings.truncate(max);
        let truncated = findings.len() as u64 != counts.error + counts.warning + counts.info;
        let root = root.to_owned();
        Self {
            schema_version: SCHEMA_VERSION,
            root,
            files,
            counts,
            findings,
            truncated,
            duration_ms: 0,
        }
    }

    /// Whether the findings fail the job.
    pub(super) fn fails(&self, fail_on: FailOn) -> bool {
        fail_on.severity().is_some_and(|severity| self.counts.at_least(severity) > 0)
    }

    /// One sentence.
    pub(super) fn summary(&self) -> String {
        let Counts { error, warning, info } = self.counts;
        let found: Vec<String> = [(error, "error"), (warning, "warning"), (info, "note")]
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}{}", if count == 1 { "" } else { "s" }))
            .collect();
        let found = if found.is_empty() { "nothing wrong".to_owned() } else { found.join(", ") };
        let Files { scanned, checked, unchanged } = self.files;
        let root = super::finding::printable(&self.root);
        format!("{found} in {root} ({scanned} files: {checked} checked, {unchanged} unchanged)")
    }

    /// As JSON.
    pub(super) fn to_json(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

fn order(finding: &Finding) -> impl Ord + '_ {
    let severity = std::cmp::Reverse(finding.severity);
    (
        severity,
        &finding.path,
        finding.line,
        finding.col,
        finding.rule,
        &finding.message,
        &finding.fingerprint,
    )
}
