//! Commands about nodes.

use clap::Subcommand;

/// What to do with a node.
#[derive(Debug, Subcommand)]
pub enum NodeAction {
    /// Let a node take nothing new; what runs on it goes on. It holds until it is resumed or stops.
    Drain {
        /// The node's name or number.
        node: String,
    },
    /// Let it take work again.
    Resume {
        /// The node's name or number.
        node: String,
    },
}
