//! Decides what is due, and records the decision together with the job it makes.
//!
//! Deciding is pure: [`decide`] takes a schedule, its ledger and the time. Doing is [`Scheduler`], one task that sleeps to the next
//! instant, and [`Enqueuer`], which writes the ledger row and the job in one transaction and serves runs by hand as well.

mod alarm;
mod catch_up;
mod due;
mod enqueue;
mod exclusion;
mod instants;
mod looks;
mod overlap;
mod plausible;
mod requirements;
mod service;
mod spread;
mod ticker;

pub use alarm::Alarm;
pub use due::{
    CORRECTION_AFTER, Due, DueDecision, Entry, LATE_AFTER, NextFire, Pass, Verdict, decide, due,
    next_fire,
};
pub use enqueue::{ByHand, Enqueuer, new_job};
pub use exclusion::Exclusion;
pub use instants::LEDGER_ROWS_PER_GAP;
pub use looks::Looks;
pub use overlap::{MAX_BACKLOG, overlap};
pub use service::{Draws, Scheduler, rule_of};
pub use spread::Spread;
pub use ticker::{Ticker, TickerError};
