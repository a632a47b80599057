//! What the daemon says of itself: log lines ([`logs`], [`rolling`]) and numbers ([`metrics`]).
//!
//! Diagnostics may be lossy, and then say how much was lost; the audit log (`crate::audit`) never is and does not come
//! through here.

pub mod logs;
pub mod metrics;
pub mod rolling;

mod format;
mod journal;

pub use logs::{Telemetry, TelemetryError, init};
pub use metrics::Metrics;
