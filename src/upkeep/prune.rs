//! Deletes what the retention settings no longer keep.

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::History;
use crate::config::Retention;
use crate::model::FinalState;
use crate::store::{Store, StoreError, prune, schedules};

/// How many rows one transaction deletes at the most, so that claims never wait long.
const BATCH: i64 = 500;

/// For how long nodes that stopped are remembered, in hours.
const NODES_KEPT_HOURS: i64 = 30 * 24;

/// What a pass deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Jobs.
    pub jobs: u64,
    /// Rows of the ledger.
    pub occurrences: u64,
    /// Unique keys, nodes, and ends of jobs that no schedule has come for.
    pub leftovers: u64,
}

/// What decides about age.
#[derive(Debug, Clone, Copy)]
pub struct Limits<'a> {
    /// How long things are kept.
    pub retention: &'a Retention,
    /// The time.
    pub now: Timestamp,
    /// The end of the last day whose statistics are made; jobs that ended later must stay, and all must while there is none.
    pub summed_up: Option<Timestamp>,
}

/// One pass over everything.
///
/// # Errors
/// When the store refuses; what was deleted before stays deleted.
pub async fn run_once(
    store: &Store,
    history: &History,
    limits: &Limits<'_>,
    stop: &CancellationToken,
) -> Result<Counts, StoreError> {
    let Limits { retention, now, summed_up } = *limits;
    let mut counts = Counts::default();
    for (state, keep) in [
        (FinalState::Completed, retention.completed),
        (FinalState::Failed, retention.failed),
        (FinalState::Cancelled, retention.cancelled),
    ] {
        let Some(summed_up) = summed_up else { break };
        let before = (now - keep.get()).min(summed_up);
        counts.jobs += history.delete(state, before, 0, || stop.is_cancelled()).await?;
    }
    let before = now - retention.occurrences.get();
    while !stop.is_cancelled() {
        let deleted = store.write(move |conn| prune::occurrences(conn, before, BATCH)).await?;
        counts.occurrences += deleted as u64;
        if deleted < usize::try_from(BATCH).unwrap_or(usize::MAX) {
            break;
        }
    }
    let nodes_before = now - jiff::SignedDuration::from_hours(NODES_KEPT_HOURS);
    let leftovers = store
        .write(move |conn| {
            let ends = schedules::forget_old_ends(conn, before)?;
            Ok(ends + prune::leftovers(conn, now, nodes_before)?)
        })
        .await?;
    counts.leftovers = leftovers as u64;
    Ok(counts)
}
