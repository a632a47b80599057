//! One round trip of the pool to the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use crate::model::{AttemptName, AuditEvent, FinishedAttempt, JobId, NodeId};
use crate::store::audit::append_event;
use crate::store::breakers::{self, HeldTo, Turned};
use crate::store::claim::{Claim, ClaimRequest, ClaimedJob, claim};
use crate::store::finish::{Finished, ProgressUpdate, finish, is_recorded, record_progress};
use crate::store::jobs::{next_scheduled, promote};
use crate::store::put_back::{put_back, put_back_unknown};
use crate::store::{Conn, Store, StoreError, Tally};

/// How many scheduled jobs are promoted in one transaction, so that a flood of due ones does not hold up everything else.
const PROMOTE_LIMIT: i64 = 1000;

/// What has ended, with the breakers that it counts for.
#[derive(Debug, Clone, Default)]
pub(super) struct Results {
    /// Shared with the store and not given to it: what it refuses to record has to be offered again.
    pub(super) ended: Arc<Vec<FinishedAttempt>>,
    /// Of those jobs that are held to any.
    pub(super) held_to: BTreeMap<JobId, HeldTo>,
}

/// What became of it.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) finished: Vec<Finished>,
    pub(super) turned: Vec<Turned>,
}

/// Records what has ended, and what that says to breakers.
fn record(
    conn: &mut Conn,
    node: NodeId,
    Results { ended, held_to }: &Results,
    now: Timestamp,
) -> Result<Recorded, StoreError> {
    let finished = finish(conn, node, ended)?;
    let fenced = ended.iter().zip(&finished).filter(|(_, end)| **end == Finished::Fenced);
    for (attempt, _) in fenced {
        if !is_recorded(conn, node, attempt)? {
            append_event(conn, node, &AuditEvent::attempt_refused(attempt.name(), now))?;
        }
    }
    let turned = breakers::note(conn, node, (ended, &finished), held_to, now)?;
    Ok(Recorded { finished, turned })
}

/// What the pool brings to the store.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub(super) node: NodeId,
    pub(super) results: Results,
    /// What was claimed ahead and is not to be started here.
    pub(super) unbegun: Vec<AttemptName>,
    pub(super) progress: Vec<ProgressUpdate>,
    /// The attempts that wait for a worker, those that run, and those that have ended and are not recorded.
    pub(super) known: Vec<AttemptName>,
    /// Whether what the store holds has to be compared with that, on whatever connection: it has failed to answer.
    pub(super) is_unsure: bool,
    /// Tells on which of the store's connections this runs.
    pub(super) reopenings: Tally,
    /// How many of those there had been when the pool and the store last agreed.
    pub(super) agreed: u64,
    /// `None` while nothing may be claimed: draining, or there is no room.
    pub(super) claim: Option<ClaimRequest>,
    pub(super) now: Timestamp,
}

/// What it takes home.
#[derive(Debug)]
pub(super) struct Pickup {
    pub(super) claimed: Vec<ClaimedJob>,
    /// See [`Claim::params_bytes`].
    pub(super) params_bytes: usize,
    /// When there is something to do again without anybody saying so: a scheduled job is due, or a rate or a breaker lets one
    /// start.
    pub(super) next_due: Option<Timestamp>,
    /// Whether more scheduled jobs were due than were promoted.
    pub(super) more_due: bool,
    /// Attempts that the store does not know as this node's, though it gave them: it may be a standby that lacks the last moment.
    pub(super) lost: Vec<AttemptName>,
    /// How many connections there had been when this ran.
    pub(super) reopenings: u64,
}

/// What came of a delivery.
#[derive(Debug)]
pub(super) struct Receipt {
    /// What came of the record of the ends; `None` where they are not recorded.
    pub(super) recorded: Option<Recorded>,
    pub(super) pickup: Result<Pickup, StoreError>,
}

/// Goes to the store and back. To one that refuses, results are offered alone at first: on a full disk there is room for them when there is
/// none for anything else.
pub(super) async fn deliver(store: Store, mut delivery: Delivery, is_refusing: bool) -> Receipt {
    let mut recorded = None;
    if is_refusing && !delivery.results.ended.is_empty() {
        let (node, now) = (delivery.node, delivery.now);
        let results = std::mem::take(&mut delivery.results);
        let names: Vec<AttemptName> = results.ended.iter().map(FinishedAttempt::name).collect();
        match store.write_results(move |conn| record(conn, node, &results, now)).await {
            Ok(done) => {
                // The store does not hold them any more.
                let ended: BTreeSet<AttemptName> = names.into_iter().collect();
                delivery.known.retain(|attempt| !ended.contains(attempt));
                recorded = Some(done);
            }
            Err(error) => return Receipt { recorded: None, pickup: Err(error) },
        }
    }
    match store.write(move |conn| exchange(conn, &delivery)).await {
        Ok((done, pickup)) => Receipt { recorded: recorded.or(Some(done)), pickup: Ok(pickup) },
        Err(error) => Receipt { recorded, pickup: Err(error) },
    }
}

/// Records what has ended, puts back what is not started here, promotes what is due, claims what there is room for.
fn exchange(conn: &mut Conn, delivery: &Delivery) -> Result<(Recorded, Pickup), StoreError> {
    let recorded = record(conn, delivery.node, &delivery.results, delivery.now)?;
    put_back(conn, delivery.node, &delivery.unbegun, delivery.now)?;
    let reopenings = delivery.reopenings.count();
    let is_sure = !delivery.is_unsure && reopenings == delivery.agreed;
    let lost = if is_sure { Vec::new() } else { compare(conn, delivery)? };
    record_progress(conn, &delivery.progress)?;
    let promoted = promote(conn, delivery.now, PROMOTE_LIMIT)?;
    // What runs here and is not ours any more has to end first: its job may be among those that wait.
    let request = delivery.claim.as_ref().filter(|_| lost.is_empty());
    let claim = request.map(|request| claim(conn, request)).transpose()?;
    let Claim { jobs: claimed, opens_at, params_bytes } = claim.unwrap_or_default();
    let next_due = next_scheduled(conn)?.into_iter().chain(opens_at).min();
    let more_due = i64::try_from(promoted).unwrap_or(i64::MAX) >= PROMOTE_LIMIT;
    Ok((recorded, Pickup { claimed, params_bytes, next_due, more_due, lost, reopenings }))
}

/// Compares what the store holds as running here with what this node knows. What it does not know was claimed in a transaction whose answer was
/// lost, and is put back. Returns what it knows and the store does not hold.
fn compare(conn: &mut Conn, delivery: &Delivery) -> Result<Vec<AttemptName>, StoreError> {
    let known: BTreeSet<AttemptName> = delivery.known.iter().copied().collect();
    let held = put_back_unknown(conn, delivery.node, &known, delivery.now)?;
    let ended = delivery.results.ended.iter().map(FinishedAttempt::name).collect();
    let alive = known.difference(&ended);
    Ok(alive.filter(|attempt| !held.contains(attempt)).copied().collect())
}
