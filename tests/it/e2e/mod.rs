//! The built program, used as its users use it.

mod batches;
mod breakers;
mod catch_up;
mod connections;
mod contract;
mod copy;
mod dry_runs;
mod files;
mod following;
mod help;
mod jobs;
mod kinds;
mod logs;
mod nesting;
mod nodes;
mod offline;
mod orders;
mod overlap;
mod queues;
mod reload;
mod text;
mod tokens;
mod waiting;
mod whole_batches;
