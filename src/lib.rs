//! Sexton: a cron-style scheduler and maintenance daemon.
//!
//! The modules below are in the order of the data flow: schedule file → parsed schedule → due occurrence → queue row →
//! worker → handler → history, audit and report → command line and API.
//!
//! Whoever wants the queue inside another program begins with [`embed`].

pub mod clock;
pub mod model;

pub mod schedule;

pub mod catalog;

pub mod scheduler;

pub mod queue;

pub mod worker;

pub mod jobs;

pub mod audit;

pub mod report;

pub mod upkeep;

pub mod store;

pub mod config;

pub mod telemetry;

pub mod daemon;

pub mod api;

pub mod embed;

pub mod bench;

pub mod cli;
