//! The one visible list of everything a job can be.

use serde_json::Value;

use super::Problem;

/// What is known of a kind before anything of it runs.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Its name, which is also the name of its table in a schedule file.
    pub name: &'static str,
    /// What it does, in half a sentence.
    pub summary: &'static str,
    /// Finds everything wrong in its params.
    pub check: fn(&Value) -> Vec<Problem>,
}

/// Every built-in kind.
pub const KINDS: &[Kind] = &[
    super::cleanup::KIND,
    super::command::KIND,
    super::data_sync::KIND,
    super::http::KIND,
    super::kb_validation::KIND,
    super::stats_report::KIND,
];

/// The kind of that name.
#[must_use]
pub fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}
