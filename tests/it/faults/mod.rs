//! The built program under faults: killed, stopped, signalled, cancelled, locked out, tampered with.
//!
//! Every test here starts real processes in a directory of its own and ends all of them, also when it fails.
#![expect(clippy::unwrap_used, reason = "a panic is how a test says no")]
#![expect(
    clippy::disallowed_methods,
    reason = "real processes keep real time; nothing here can be told what time it is"
)]

mod audit;
mod cancel;
mod copied;
mod crash;
mod damage;
mod database;
mod disk;
mod failover;
mod full_at_start;
mod kinds;
mod next_start;
mod notify;
mod process;
mod programs;
mod restart;
mod signals;
mod web;
