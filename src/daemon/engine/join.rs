//! How an engine becomes a node of its database.

use std::sync::Arc;

use super::Identity;
use crate::clock::SharedClock;
use crate::config::Settings;
use crate::daemon::heartbeat::rescue;
use crate::jobs::command::{Keepers, KeptAttempt};
use crate::model::{AttemptName, AuditEvent, JobId, NodeId};
use crate::scheduler::Draws;
use crate::store::adopt::{Adopted, Adoption, adopt};
use crate::store::audit::append_event;
use crate::store::nodes::{NewNode, Node};
use crate::store::{Conn, Store, StoreError, finish, nodes};
use crate::worker::TakenOver;

/// What a node has when it has joined.
pub(super) struct Joined {
    pub(super) node: NodeId,
    pub(super) draws: Arc<Draws>,
    pub(super) taken_over: Vec<TakenOver>,
}

/// Registers this node, takes over what goes on, gives back what dead nodes left running beside that, and reads the seed that all nodes
/// share.
pub(super) async fn join(
    store: &Store,
    clock: &SharedClock,
    settings: &Settings,
    identity: Identity,
    keepers: &Keepers,
    is_alone: bool,
) -> Result<Joined, StoreError> {
    let now = clock.now();
    let lease_until = now + settings.lease.duration.get();
    let Identity { node: identity, instance, predecessor, fresh_seed } = identity;
    let host = identity.name.clone();
    let new = NewNode { identity, instance };
    let kept = keepers.attempts();
    let known = kept.clone();
    let (node, seed, adoption, rescued) = store
        .write_results(move |conn: &mut Conn| {
            let node = nodes::register(conn, &new, now, lease_until)?;
            let seed = nodes::jitter_seed_or(conn, &fresh_seed)?;
            // The seed is random, and so names the database.
            let (mine, foreign): (Vec<_>, Vec<_>) =
                known.iter().partition(|attempt| attempt.database == seed);
            let names = |attempts: Vec<&KeptAttempt>| -> Vec<AttemptName> {
                attempts.iter().map(|attempt| attempt.name).collect()
            };
            let mut adoption = adopt(conn, node, &names(mine))?;
            adoption.refused.extend(names(foreign));
            for attempt in &adoption.refused {
                append_event(conn, node, &AuditEvent::attempt_refused(*attempt, now))?;
            }
            let mut rescued: Vec<JobId> = Vec::new();
            // Where others may be alive, the heartbeat finds out who is not.
            let is_dead = |other: &Node| is_alone || predecessor.as_ref() == Some(&other.instance);
            for other in nodes::others(conn, node)?.iter().filter(|other| is_dead(other)) {
                rescued.extend(rescue(conn, NodeId(other.id), now, finish::DAEMON_ENDED)?);
            }
            Ok((node, seed, adoption, rescued))
        })
        .await?;
    keepers.belong_to(&seed);
    if !rescued.is_empty() {
        tracing::warn!(
            jobs = rescued.len(),
            "jobs that were interrupted by a crash are given back"
        );
    }
    let Adoption { adopted, refused } = adoption;
    for attempt in &refused {
        tracing::warn!(
            job.id = attempt.job.0,
            attempt = attempt.number,
            "what a program came to is refused, and the program ended: its job was given to another attempt, or is in another database"
        );
    }
    let elapsed = |attempt: &Adopted| {
        let name = AttemptName { job: attempt.job.id, number: attempt.job.number };
        kept.iter().find(|kept| kept.name == name).map(|kept| kept.elapsed)
    };
    let taken_over: Vec<TakenOver> = adopted
        .into_iter()
        .filter_map(|attempt| Some(TakenOver { elapsed: elapsed(&attempt)?, attempt }))
        .collect();
    let is_taken = |name: AttemptName| {
        taken_over.iter().any(|TakenOver { attempt: Adopted { job, .. }, .. }| {
            (job.id, job.number) == (name.job, name.number)
        })
    };
    kept.iter().filter(|kept| !is_taken(kept.name)).for_each(|kept| keepers.forget(kept.name));
    Ok(Joined { node, draws: Arc::new(Draws { host, seed }), taken_over })
}
