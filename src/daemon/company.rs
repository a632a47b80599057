//! A node among others on one database: it does what they ask of it, goes by the clock that all of them share, and notices what does not
//! fit together.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::heartbeat::Heartbeat;
use super::lease::Seen;
use super::others::DatabaseTime;
use crate::clock::{Sample, WORTH_TELLING};
use crate::model::{Chain, NodeId};
use crate::store::nodes::{Node, Orders};
use crate::store::{StoreError, nodes};

/// For how long nodes may have different schedules before it is worth telling: a deployment reaches them one after the other.
const DIFFERENT_FOR: Duration = Duration::from_secs(60);

/// What a node among others works with.
pub(super) struct Company {
    time: DatabaseTime,
    /// Notified when another node has left orders.
    pub(super) called: Arc<Notify>,
    /// Notified when a ledger was changed on another node.
    ledger_changed: Arc<Notify>,
    /// How many connections of the store there had been when the ledgers were last read because of one.
    reopenings: u64,
    /// What does not fit together.
    complaints: watch::Sender<Vec<String>>,
    last_sample: Option<Sample>,
    is_draining: bool,
    ledger_changes: Option<u64>,
    others: Seen,
    /// Since when schedules differ, on the monotonic clock.
    differing_since: Option<Duration>,
    is_refused: bool,
}

impl Company {
    pub(super) fn new(
        time: DatabaseTime,
        called: Arc<Notify>,
        ledger_changed: Arc<Notify>,
        complaints: watch::Sender<Vec<String>>,
    ) -> Self {
        Self {
            time,
            called,
            ledger_changed,
            reopenings: 0,
            complaints,
            last_sample: None,
            is_draining: false,
            ledger_changes: None,
            others: Seen::default(),
            differing_since: None,
            is_refused: false,
        }
    }

    /// How far this machine's clock is ahead of the database's, in microseconds.
    pub(super) fn skew(&self) -> Option<i64> {
        let ahead = self.last_sample?.machine_ahead_by();
        Some(i64::try_from(ahead.as_micros()).unwrap_or(i64::MAX))
    }

    /// What is done with each beat, and makes up for every message that was lost.
    pub(super) async fn look_around(&mut self, own: &Heartbeat) {
        self.obey(own).await;
        own.signals.work();
        let looked = self.try_look(own).await;
        let was_refused = std::mem::replace(&mut self.is_refused, looked.is_err());
        if let Err(error) = looked
            && !was_refused
        {
            tracing::warn!(error = %Chain(&error), "the other nodes could not be looked at; it is tried again at every beat");
        }
    }

    async fn try_look(&mut self, own: &Heartbeat) -> Result<(), StoreError> {
        let sample = self.time.sample(&own.store).await?;
        self.time.learn(sample);
        self.last_sample = Some(sample);
        own.rescue_silent(&mut self.others).await?;
        let running = own.store.read(nodes::running).await?;
        let differing = is_differing(&running);
        let now = own.clock.since_boot();
        let since = differing.then(|| *self.differing_since.get_or_insert(now));
        self.differing_since = since;
        let lasts = since.is_some_and(|since| now.saturating_sub(since) >= DIFFERENT_FOR);
        let complaints = complaints(own.node, &running, lasts, self.skew());
        self.complaints.send_if_modified(|known| {
            let is_new = *known != complaints;
            if is_new {
                complaints.iter().filter(|one| !known.contains(one)).for_each(|one| {
                    tracing::warn!("{one}");
                });
                *known = complaints;
            }
            is_new
        });
        Ok(())
    }

    /// Does what others have left for this node.
    pub(super) async fn obey(&mut self, own: &Heartbeat) {
        let node = own.node;
        let orders = own.store.read(move |conn| nodes::orders(conn, node)).await;
        // A store that refuses is the beat's to tell of, and what it holds is still there at the next one.
        let Ok(Orders { drain, cancelled, ledger_changes }) = orders else { return };
        if drain != std::mem::replace(&mut self.is_draining, drain) {
            tracing::info!(drain, "this node was told whether to take work");
            own.pool.hold(drain);
        }
        if !cancelled.is_empty() {
            own.signals.cancel_here(cancelled);
        }
        let known = self.ledger_changes.replace(ledger_changes);
        // Behind another connection may be a standby whose ledgers are behind.
        let reopenings = own.store.reopenings().count();
        let is_another = reopenings != std::mem::replace(&mut self.reopenings, reopenings);
        if is_another || known.is_some_and(|known| known != ledger_changes) {
            self.ledger_changed.notify_one();
        }
    }
}

fn is_differing(running: &[Node]) -> bool {
    let mut revisions = running.iter().filter_map(|node| node.revision.as_deref());
    let first = revisions.next();
    revisions.any(|other| Some(other) != first)
}

/// What does not fit together among the nodes that run.
fn complaints(
    me: NodeId,
    running: &[Node],
    schedules_differ: bool,
    skew_us: Option<i64>,
) -> Vec<String> {
    let mut complaints = Vec::new();
    let skew = skew_us.unwrap_or(0);
    if i128::from(skew.unsigned_abs()) >= WORTH_TELLING.as_micros() {
        let (by, direction) =
            (skew.unsigned_abs() / 1_000_000, if skew > 0 { "ahead of" } else { "behind" });
        complaints.push(format!(
            "this machine's clock is {by} s {direction} the database's, which is what counts; let a time server set both"
        ));
    }
    if schedules_differ {
        let each: Vec<String> = running
            .iter()
            .map(|node| format!("{} has {}", node.name, node.revision.as_deref().unwrap_or("none")))
            .collect();
        complaints.push(format!(
            "nodes have different schedules ({}): what one of them fires, the others may not know; give all of them the same files",
            each.join(", ")
        ));
    }
    let own = running.iter().find(|node| node.id == me.0);
    let namesake =
        own.and_then(|own| running.iter().find(|node| node.id != own.id && node.name == own.name));
    if let Some(namesake) = namesake {
        complaints.push(format!(
            "another running node (number {}) is called `{}` as well: jobs for that name run on either of them, and both keep audit logs of \
             the same records; give one of them another `node.name`",
            namesake.id, namesake.name
        ));
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Micros;

    fn node(id: i64, name: &str, revision: &str) -> Node {
        Node {
            id,
            name: name.to_owned(),
            instance: id.to_string(),
            version: String::new(),
            pid: 1,
            started_at: Micros(0),
            lease_until: Micros(0),
            stopped_at: None,
            labels: String::new(),
            revision: Some(revision.to_owned()),
            clock_skew_us: None,
            draining_since: None,
            draining_by: None,
        }
    }

    #[test]
    fn m8_nodes_with_different_schedules_are_told_of_with_their_revisions() {
        let nodes = [node(1, "a", "17"), node(2, "b", "18")];
        assert!(is_differing(&nodes));
        let told = complaints(NodeId(1), &nodes, true, None);
        assert!(told[0].contains("a has 17, b has 18"), "{told:?}");
        assert!(!is_differing(&[node(1, "a", "17"), node(2, "b", "17")]));
        assert!(!is_differing(&[]));
    }

    #[test]
    fn m7_a_namesake_is_told_of_and_nodes_are_told_apart_by_number() {
        let nodes = [node(1, "a", "17"), node(2, "a", "17")];
        let told = complaints(NodeId(2), &nodes, false, None);
        assert!(told[0].contains("number 1") && told[0].contains("node.name"), "{told:?}");
        assert_eq!(complaints(NodeId(1), &nodes[..1], false, None), Vec::<String>::new());
    }

    #[test]
    fn m6_a_clock_that_is_a_second_off_is_told_of() {
        let told = complaints(NodeId(1), &[], false, Some(-300_000_000));
        assert!(told[0].contains("300 s behind"), "{told:?}");
        assert_eq!(complaints(NodeId(1), &[], false, Some(999_999)), Vec::<String>::new());
    }
}
