//! What must hold for any input, one function a parser.
//!
//! `fuzz_targets` calls them with inputs that are searched for, `tests/it/corpus.rs` with those that are kept in
//! `corpus`. A function returns when all is well and panics where something does not hold.

pub(crate) mod api_json;
pub(crate) mod audit_verify;
pub(crate) mod cron;
pub(crate) mod duration;
pub(crate) mod schedule_file;
pub(crate) mod settings;
mod text;
