//! The kind `cleanup`: deletes old files below given roots, and finished jobs from the daemon's own history.
//!
//! A run plans, checks the plan against its limits, and only then deletes; a dry run ends before that. Planning is pure
//! ([`plan`], [`rules`], [`keep`]), and everything that touches a tree goes through directory handles
//! ([`crate::jobs::ports::files`]), so that no exchange of a directory for a symbolic link leads out of a root.

mod act;
mod handler;
mod history;
mod keep;
mod params;
mod patterns;
mod plan;
mod report;
mod root;
mod roots;
mod rules;
mod run;
mod walk;

pub use handler::CleanupHandler;
pub use history::{HistoryCounts, HistoryError, HistoryPruner, HistoryRule};
pub use params::{Cleanup, EntryType, GroupBy, History, Keep, Limits, OnExceed, Stamp};

use super::{Kind, check_as};

/// The `cleanup` kind.
pub const KIND: Kind = Kind::built_in(
    "cleanup",
    "deletes old files below given roots, and finished jobs from the history",
    check_as::<Cleanup>,
);

#[cfg(test)]
mod tests;
