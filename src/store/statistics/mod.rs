//! What reports and daily statistics are made of: the ended attempts and jobs and the decisions of a stretch of time, and
//! the daily sums that outlive them.
//!
//! Sums are formed by the readers, not in SQL: percentiles cannot be, and one pass over the rows serves all of a report.

mod days;
mod facts;

pub use days::{DayRow, days, first_end, keep_days, rolled_up_before, set_mark_back};
pub use facts::{
    AttemptFact, Cursor, FactPage, OccurrenceFact, ResultFact, Slice, attempts, occurrences,
    results,
};

#[cfg(test)]
mod tests;
