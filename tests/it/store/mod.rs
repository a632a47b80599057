//! What the store promises, on each backend.

mod adopt;
mod batch_orders;
mod batches;
mod between_nodes;
mod breakers;
mod by_hand;
mod cancel;
mod chains;
mod claim;
mod copy;
mod dependencies;
mod finish;
mod following;
mod history;
mod holds;
mod idempotency;
mod lanes;
mod ledger;
mod model;
mod put_back;
mod rates;
mod schema;
mod submit;
mod tokens;
mod vacuum;
mod whole_batches;
