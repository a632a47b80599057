//! What a local time means on the days when the clocks change.

mod change;
mod search;
mod warnings;

#[cfg(test)]
mod table;
#[cfg(test)]
mod tests;

pub(super) use search::{Reading, next_after, previous_before};
use serde::{Deserialize, Serialize};

/// What a fixed-time rule does with local times that the clocks skip or repeat.
///
/// It concerns rules that name an hour and a minute. Wildcard and step rules (`*/15 * * * *`) and intervals follow
/// elapsed time through both changes, whatever is set here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DstPolicy {
    /// A local time that does not exist because the clocks go forward over it.
    pub gap: Gap,
    /// A local time that comes twice because the clocks go back over it.
    pub repeat: Repeat,
}

/// What becomes of a local time that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gap {
    /// It runs at the first instant after the gap, as cronie does.
    #[default]
    Run,
    /// It does not run that day, as systemd's `OnCalendar=` does.
    Skip,
}

/// What becomes of a local time that exists twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Repeat {
    /// It runs at the first of the two instants, as cronie does.
    #[default]
    First,
    /// It runs at the second of the two instants.
    Last,
    /// It runs at both.
    Both,
}
