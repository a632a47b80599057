//! The shapes that the API promises, by resource. They belong to no other module, so that nothing inside can change them by accident.

mod daemon;
mod job;
mod kind;
mod limit;
mod order;
mod queue;
mod schedule;
mod submission;
mod token;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

use crate::store::Micros;
pub use daemon::{Node, Status, Upcoming, Worker};
pub use job::{Attempt, Batch, ItemState, Job, LogPart, Needed, WaitsFor};
pub use kind::Kind;
pub use limit::{HeldBy, Limit, LimitName, LimitRequest, Tripped};
pub use order::{Orders, Selection, Touched};
pub use queue::{Origin, Queue, QueueOrigins, QueueRequest};
pub use schedule::{Last, Occurrence, Pause, PauseRequest, RunRequest, Schedule};
pub use submission::{DependsOn, Item, Needs, Submission};
pub use token::{NewToken, Token, TokenChangeRequest, TokenRequest};

/// RFC 3339 in UTC with microseconds, always of the same length.
#[must_use]
pub fn time(instant: Timestamp) -> String {
    format!("{instant:.6}")
}

fn micros(instant: Micros) -> String {
    time(instant.into())
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct List<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Give it as `cursor` to get the next page; null on the last one.
    pub next_cursor: Option<String>,
}

/// Tells null, which is given, from nothing.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
