//! From the text of a schedule file to a checked schedule. Pure: no files, no clock, no database.

mod cron;
mod definition;
mod describe;
mod diagnostic;
mod dst;
mod fields;
mod file;
mod local;
#[cfg(test)]
mod properties;
mod rule;
mod trigger;
mod weekdays;
mod words;

pub use cron::{CronError, CronExpression};
pub use definition::{
    Blackout, CatchUp, CatchUpPolicy, ContentHash, Defaults, Overlap, Reference, Requirement, Run,
    Schedule, Source, When,
};
pub use diagnostic::{Code, Diagnostic, Look, Place, Severity, render, render_all};
pub use dst::{DstPolicy, Gap, Repeat};
pub use fields::{fields, rule_fields, zone_name};
pub use file::{
    MAX_FILE_BYTES, MAX_SCHEDULES, NotText, Parsed, ParsedKind, is_secret_name, parse_file,
    parse_kind, read_toml, text_of, too_deep,
};
pub use rule::Rule;
pub use trigger::Trigger;
pub use weekdays::Weekdays;
