//! A node's name is its own: the audit log's place in the database, jobs for a node and `--node every` go by it.
//!
//! So a daemon does not join while another one of its name is alive. Whether one is, is seen: its row changes with each beat. One whose lease is over
//! was killed or replaced, and what it left is given back as that of any lost node.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use super::engine::Identity;
use super::startup::StartError;
use crate::clock::SharedClock;
use crate::model::NodeIdentity;
use crate::store::nodes::Node;
use crate::store::{Micros, Store, nodes};

/// How often to look whether a namesake is alive.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Returns when no other daemon of that name can be alive. The predecessor is not.
///
/// # Errors
/// When one is alive, or the database refuses.
pub(super) async fn wait_for(
    store: &Store,
    clock: &SharedClock,
    identity: &Identity,
) -> Result<(), StartError> {
    let Identity { node: NodeIdentity { name, .. }, predecessor, .. } = identity;
    let mut beats = Beats::default();
    let mut is_told = false;
    loop {
        let mut running = store.read(nodes::running).await?;
        running.retain(|node| node.name == *name && Some(&node.instance) != predecessor.as_ref());
        match beats.judge(&running, clock.now()) {
            Found::Nobody => return Ok(()),
            Found::Alive(node) => {
                return Err(StartError::Namesake {
                    name: node.name.clone(),
                    number: node.id,
                    pid: node.pid,
                });
            }
            Found::Perhaps(until) if !is_told => {
                tracing::warn!(
                    "a node of the name `{name}` has not said that it stopped; this one starts at {until}, when its lease is over, unless it is alive"
                );
                is_told = true;
            }
            Found::Perhaps(_) => {}
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What is known of the nodes of a name.
#[derive(Debug, PartialEq, Eq)]
enum Found<'a> {
    /// None of them can be alive.
    Nobody,
    /// One was, not longer ago than its lease, which ends then.
    Perhaps(Timestamp),
    /// It has renewed its lease meanwhile.
    Alive(&'a Node),
}

/// The leases as they were when each node was seen first.
#[derive(Default)]
struct Beats(HashMap<i64, Micros>);

impl Beats {
    /// `now` is the database's time, as leases are.
    fn judge<'a>(&mut self, running: &'a [Node], now: Timestamp) -> Found<'a> {
        let has_beaten =
            |node: &&Node| *self.0.entry(node.id).or_insert(node.lease_until) != node.lease_until;
        // Each has to be looked at, or the first one would hide when the others were seen.
        let beaten: Vec<&Node> = running.iter().filter(has_beaten).collect();
        if let Some(alive) = beaten.first() {
            return Found::Alive(alive);
        }
        let ends = running.iter().map(|node| Timestamp::from(node.lease_until));
        match ends.max().filter(|until| *until > now) {
            Some(until) => Found::Perhaps(until),
            None => Found::Nobody,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::lease::node_seen as node;
    use super::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_microsecond(micros).unwrap()
    }

    #[test]
    fn m7_a_namesake_is_alive_when_its_row_changes_and_dead_when_its_lease_is_over() {
        let mut beats = Beats::default();
        assert_eq!(beats.judge(&[], at(0)), Found::Nobody);
        assert_eq!(beats.judge(&[node(1, 30), node(2, 20)], at(10)), Found::Perhaps(at(30)));
        assert_eq!(beats.judge(&[node(1, 30), node(2, 20)], at(29)), Found::Perhaps(at(30)));
        assert_eq!(beats.judge(&[node(1, 30), node(2, 20)], at(30)), Found::Nobody);
        let one_beats = [node(1, 30), node(2, 40)];
        assert_eq!(beats.judge(&one_beats, at(25)), Found::Alive(&one_beats[1]));
        // One that has come since is seen for the first time.
        assert_eq!(beats.judge(&[node(3, 50)], at(30)), Found::Perhaps(at(50)));
    }
}
