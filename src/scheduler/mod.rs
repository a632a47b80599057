//! Decides what is due, and records the decision together with the job it makes.

mod alarm;
mod ticker;

pub use alarm::Alarm;
pub use ticker::{Ticker, TickerError};
