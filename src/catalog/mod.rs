//! From directories of schedule files to one immutable snapshot, and from snapshot to snapshot.

mod access;
mod check;
mod claims;
mod diff;
mod kinds;
mod next;
mod references;
mod reload;
mod scan;
mod snapshot;
mod stamp;
mod watch;
mod zones;

#[cfg(test)]
mod tests;

pub use check::{CheckReport, check, look};
pub use diff::{Changed, Diff, FieldChange, KindChange, Moved, Stale};
pub use next::Reading;
pub use reload::{LookOn, ReloadReport, Reloader, Stopping};
pub use snapshot::{Broken, Catalog};
pub use watch::{Watcher, Watching};
