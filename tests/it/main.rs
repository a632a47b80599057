//! Integration tests, in one binary: it is linked once, and its parts share a harness.
//!
//! What they need of the world is made for each test and removed with it: a database, a folder. `scripts/test` provides a
//! PostgreSQL server; without one, and outside CI, what needs it is skipped with a message.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and says why it was skipped"
)]

mod ahead;
mod chaos;
mod corpus;
mod e2e;
mod embed;
mod faults;
mod harness;
mod packaging;
mod shipped;
mod sim;
mod store;
mod worker;
