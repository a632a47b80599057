//! One round trip of the pool to the store.

use std::sync::Arc;

use jiff::Timestamp;

use crate::model::{FinishedAttempt, JobId, NodeId};
use crate::store::claim::{ClaimRequest, ClaimedJob, claim};
use crate::store::finish::{Finished, ProgressUpdate, finish, give_back, record_progress};
use crate::store::jobs::{next_scheduled, promote};
use crate::store::{Conn, StoreError};

/// How many scheduled jobs are promoted in one transaction, so that a flood of due ones does not hold up everything else.
const PROMOTE_LIMIT: i64 = 1000;

/// What the pool brings to the store.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub(super) node: NodeId,
    pub(super) ended: Arc<Vec<FinishedAttempt>>,
    pub(super) progress: Vec<ProgressUpdate>,
    /// The attempts that run or have ended and are not recorded, where the store has failed to answer: whatever else it holds as
    /// running here was claimed in a transaction whose answer was lost, and nobody runs it.
    pub(super) known: Option<Vec<(JobId, u32)>>,
    /// `None` while nothing may be claimed: draining, or no slot is free.
    pub(super) claim: Option<ClaimRequest>,
    pub(super) now: Timestamp,
}

/// What it takes home.
#[derive(Debug)]
pub(super) struct Pickup {
    pub(super) finished: Vec<Finished>,
    pub(super) claimed: Vec<ClaimedJob>,
    /// When there is something to do again without anybody saying so: a scheduled job is due, or a rate lets one start.
    pub(super) next_due: Option<Timestamp>,
    /// Whether more scheduled jobs were due than were promoted.
    pub(super) more_due: bool,
}

/// Records what has ended, promotes what is due, claims what there is room for.
pub(super) fn exchange(conn: &mut Conn, delivery: &Delivery) -> Result<Pickup, StoreError> {
    let finished = finish(conn, delivery.node, &delivery.ended)?;
    if let Some(known) = &delivery.known {
        let why = "interrupted: the answer of the database that started it was lost";
        give_back(conn, delivery.node, known, delivery.now, why)?;
    }
    record_progress(conn, &delivery.progress)?;
    let promoted = promote(conn, delivery.now, PROMOTE_LIMIT)?;
    let claim = delivery.claim.as_ref().map(|request| claim(conn, request)).transpose()?;
    let (claimed, opens_at) =
        claim.map_or((Vec::new(), None), |claim| (claim.jobs, claim.opens_at));
    let next_due = next_scheduled(conn)?.into_iter().chain(opens_at).min();
    let more_due = i64::try_from(promoted).unwrap_or(i64::MAX) >= PROMOTE_LIMIT;
    Ok(Pickup { finished, claimed, next_due, more_due })
}
