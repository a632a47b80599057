//! The rules of the queue that need no database: ranks, retry delays, what becomes of a job.

mod ageing;
mod breaker;
mod bucket;
mod estimate;
mod limits;
mod loss;
mod retry;
mod signals;

pub use ageing::Ageing;
pub use breaker::{BreakerState, Passage, Trip, Turn};
pub use bucket::{Bucket, TooFew};
pub use estimate::{Durations, expected_end};
pub use limits::{Full, Limits, Room, Running, names};
pub use loss::{MOST_LOSSES, after_loss};
pub use retry::{AttemptEnd, MIN_SNOOZE, after_attempt, retry_delay};
pub use signals::{SignalReceiver, Signals};
