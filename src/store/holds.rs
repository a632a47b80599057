//! Why a job that could start does not: what claims look at, told for one job.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::breakers::{self, Broken};
use super::claim::subqueues_with_work;
use super::jobs::standing;
use super::queues::{self, Pause};
use super::{Conn, StoreError, buckets, limits, nodes};
use crate::model::{JobId, NodeId, NodeSelector, Subqueue};
use crate::queue::{Full, Limits, Room};

/// Something that lets no job like it start, however many workers are free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// Its queue is paused.
    Pause {
        /// The queue.
        queue: String,
        /// By whom, and why.
        pause: Pause,
    },
    /// No file of the node that was asked declares its kind.
    NoKind(String),
    /// No node that runs and takes work may take it; without a selector no node takes work at all.
    NoNode(Option<NodeSelector>),
    /// A limit or a rate.
    Full(Full),
    /// A breaker that has tripped.
    Broken(Broken),
}

/// Everything that holds back a job that waits and is due; nothing where it only waits for a worker. `declared` is what the files of one node say.
///
/// # Errors
/// When the database refuses, or holds what cannot be read.
pub fn of_job(
    conn: &mut Conn,
    declared: &Limits,
    job: JobId,
    now: Timestamp,
) -> Result<Vec<Hold>, StoreError> {
    let Some(standing) = standing(conn, job.0)? else { return Ok(Vec::new()) };
    let Ok(part) = standing.subqueue.parse::<Subqueue>();
    let queues = queues::stored(conn)?;
    let limits = limits::in_force(conn, declared, &queues)?;
    let mut holds = Vec::new();
    let pause = queues::pause_of(conn, &part.queue)?;
    holds.extend(pause.map(|pause| Hold::Pause { queue: part.queue.clone(), pause }));
    let broken = breakers::broken(conn, &limits, &standing.subqueue)?;
    holds.extend(broken.into_iter().map(Hold::Broken));
    let unknown = part.kind.clone().filter(|_| !limits.know(&part));
    holds.extend(unknown.map(Hold::NoKind));
    let nodes = takers(conn, &part)?;
    if nodes.is_empty() {
        holds.push(Hold::NoNode(part.node.clone()));
    }
    holds.extend(full(conn, &limits, &part, &nodes, now)?.into_iter().map(Hold::Full));
    Ok(holds)
}

/// The kinds of jobs that could start, and that no file of the node whose limits these are declares.
///
/// # Errors
/// When the database refuses.
pub fn unknown_kinds(conn: &mut Conn, declared: &Limits) -> Result<BTreeSet<String>, StoreError> {
    let parts = subqueues_with_work(conn)?.into_iter().map(|(_, part)| part);
    Ok(parts.filter(|part| !declared.know(part)).filter_map(|part| part.kind).collect())
}

/// The nodes that may take jobs of a part of a queue, as far as nobody has stopped them.
fn takers(conn: &mut Conn, part: &Subqueue) -> Result<Vec<NodeId>, StoreError> {
    let mut running = nodes::running(conn)?;
    running.retain(|node| {
        let is_meant = part.node.as_ref().is_none_or(|selector| node.identity().fits(selector));
        is_meant && node.takes_work()
    });
    Ok(running.into_iter().map(|node| NodeId(node.id)).collect())
}

/// The limits and rates that leave no room on any of the nodes.
fn full(
    conn: &mut Conn,
    limits: &Limits,
    part: &Subqueue,
    nodes: &[NodeId],
    now: Timestamp,
) -> Result<Vec<Full>, StoreError> {
    if !limits.concern(part) {
        return Ok(Vec::new());
    }
    let time = buckets::time(conn, now)?;
    let buckets = buckets::load(conn, limits.rates(std::iter::once(part)), time)?;
    let running = limits::running(conn)?;
    let on = |node: &NodeId| {
        let room = Room::new(limits, (usize::MAX, usize::MAX)).with_buckets(buckets.clone());
        room.beside(&running, Some(*node)).full(part)
    };
    let mut everywhere = nodes.iter().map(on);
    let Some(mut full) = everywhere.next() else { return Ok(Vec::new()) };
    // Only a queue's workers differ from node to node.
    for other in everywhere {
        full.retain(|one| other.contains(one));
    }
    for one in &mut full {
        if let Full::Rate { until, .. } = one {
            *until = now + until.duration_since(time);
        }
    }
    Ok(full)
}
