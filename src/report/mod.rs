//! Numbers first, rendering second.
//!
//! [`mod@gather`] reads the rows of a [`Window`] from a [`Source`] and adds them up to [`Numbers`]; [`mod@render`] turns those into
//! HTML, Markdown, JSON or CSV. A renderer sees nothing but the numbers, so every format says the same.

mod buckets;
mod facts;
mod gather;
mod histogram;
pub mod numbers;
mod period;
mod reasons;
mod render;
mod tally;
#[cfg(test)]
pub(crate) mod testing;
mod top;

pub use facts::{
    AttemptFact, Cursor, FuturePage, OccurrenceFact, Page, ResultFact, Source, SourceError,
};
pub use gather::{GatherError, Request, gather};
pub use histogram::Histogram;
pub use numbers::{Numbers, Scope};
pub use period::{Moment, Period, PeriodError, Window};
pub use render::{Format, RenderError, render};
