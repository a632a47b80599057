//! What the store promises, on each backend.

mod batches;
mod between_nodes;
mod cancel;
mod claim;
mod finish;
mod history;
mod idempotency;
mod lanes;
mod ledger;
mod model;
mod rates;
mod schema;
mod submit;
