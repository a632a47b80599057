//! What jobs do: the contract of a handler, and one file or folder per kind.

pub mod cleanup;
pub mod command;
mod context;
pub mod data_sync;
mod declared;
mod handler;
pub mod http;
mod items;
pub mod kb_validation;
mod kind;
mod output;
mod params;
pub mod ports;
mod schema;
pub mod secret;
pub mod stats_report;
#[cfg(test)]
pub(crate) mod testing;

pub use context::{Context, JobInfo, Progress, ProgressReport, RunPaths, StopReason};
pub use declared::{Declared, DeclaredHandler, ItemRuns};
pub use handler::{Answer, Failure, Handler, RetryAdvice};
pub use items::Items;
pub use kind::{JobDefaults, KINDS, Kind, Origin, kind};
pub use output::{
    DEFAULT_MAX_OUTPUT, Output, OutputSummary, Stream, escape_for_terminal, is_whole_output,
    remove_logs,
};
pub(crate) use params::explain;
pub use params::{Params, Problem, Segment, check_as, parse_params, suggest};
pub use schema::Schema;
