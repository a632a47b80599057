//! Executes jobs: the pool, one attempt, the drain.
//!
//! The [`pool`](Pool) is one task. It wakes for a closed set of reasons (see `pool::Wake`), and each time does one round trip to the
//! store that records what has ended, promotes what has become due and claims what there is room for: one commit for
//! all of it. Attempts run in tasks of their own and report back through a channel.

mod attempt;
mod cycle;
mod durations;
mod items;
mod outlook;
mod pool;
mod registry;
mod status;

pub use durations::LearnedDurations;
pub use pool::{Departure, Draw, FindLimits, Pool, PoolHandle, PoolSettings, TakenOver};
pub use registry::{Find, Registry};
pub use status::{PoolStatus, RunningAttempt};
