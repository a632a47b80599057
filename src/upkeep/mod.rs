//! Looks after the daemon's own house.

pub mod rollup;
