//! Executes jobs: the pool, one attempt, the drain.
//!
//! The [`pool`](Pool) is one task. It wakes for a closed set of reasons (see `pool::state::Wake`). A round trip to the store records what has
//! ended, promotes what has become due and claims what there is room for and what workers will need soon: one commit for all of it. Attempts run in
//! tasks of their own and report back through a channel, also while a round trip is under way.

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
