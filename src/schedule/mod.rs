//! From the text of a schedule file to a checked schedule. Pure: no files, no clock, no database.

mod cron;
mod dst;
mod rule;
mod weekdays;

pub use cron::{CronError, CronExpression};
pub use dst::{DstPolicy, Gap, Repeat};
pub use rule::{Rule, Trigger};
pub use weekdays::Weekdays;
