//! Decides what is due, and records the decision together with the job it makes.

mod alarm;
mod catch_up;
mod due;
mod exclusion;
mod instants;
mod overlap;
mod spread;
mod ticker;

pub use alarm::Alarm;
pub use due::{
    CORRECTION_AFTER, Due, DueDecision, Entry, LATE_AFTER, NextFire, Pass, Verdict, decide, due,
    next_fire,
};
pub use exclusion::Exclusion;
pub use instants::LEDGER_ROWS_PER_GAP;
pub use overlap::{MAX_BACKLOG, overlap};
pub use spread::Spread;
pub use ticker::{Ticker, TickerError};
