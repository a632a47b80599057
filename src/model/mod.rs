//! The nouns of Sexton: plain values and the rules that hold between them.
//!
//! Nothing here knows tokio, diesel or any input and output. Wire types live with the surfaces that
//! promised them (`api`), row types in `store`.

mod actor;
mod attempt;
mod audit;
mod breaker;
mod bytes;
mod chain;
mod duration;
mod event;
mod following;
mod ids;
mod item;
mod job;
mod json;
mod label;
mod ledger;
mod node;
mod occurrence;
mod priority;
mod queue;
mod rate;
mod retry;
mod subqueue;
mod text;
mod token;
mod written;

pub use actor::Actor;
pub use attempt::{AttemptName, FinishedAttempt, Outcome};
pub use audit::AuditEvent;
pub use breaker::{Breaker, BreakerError};
pub use bytes::{ByteSize, ByteSizeError};
pub use chain::Chain;
pub use duration::{DurationError, HumanDuration};
pub use event::Event;
pub use following::{Cause, JobEnd, OnEnd};
pub use ids::{JobId, NodeId, Revision, ScheduleId, ScheduleIdError};
pub use item::{ItemEnd, ItemReport, OpenItem};
pub use job::{
    AfterAttempt, BatchCounts, Dependency, DependencyNeeds, FinalState, IllegalTransition,
    JobSettings, JobState, NewItem, NewJob, OnDependencyFailure, UniqueKey,
};
pub use json::{JsonText, MAX_JSON_LEVELS, nests_deeper};
pub use label::{Labels, MAX_LABELS, label_problem, label_problems, sought_label};
pub use ledger::{Ledger, Pause};
pub use node::{NodeChoice, NodeIdentity, NodeSelector, is_node_label, is_node_name};
pub use occurrence::{Decision, Occurrence, OverlapVerdict};
pub use priority::{Priority, PriorityError};
pub use queue::{QueueChange, QueueSettings};
pub use rate::{Rate, RateError};
pub use retry::{Backoff, MAX_RETRY_DELAY, RetryPolicy};
pub use subqueue::{Concurrency, Subqueue, is_high};
pub use text::{for_shell, inert, is_harmful};
pub use token::{Role, RoleError, TokenChange, TokenHash, TokenName, TokenNameError, TokenSecret};
