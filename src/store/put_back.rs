//! Putting back what was claimed and has not been started.

use std::collections::BTreeSet;

use diesel::prelude::*;
use jiff::Timestamp;

use super::dependencies::Over;
use super::finish::{self, End};
use super::jobs::{enter, place_of};
use super::schema::jobs_running;
use super::{Conn, StoreError, dependencies, on_each_backend};
use crate::model::{AttemptName, FinalState, JobId, NodeId};

/// What a claimed job's row says that matters to one that never started.
#[derive(Debug, Queryable)]
struct Claimed {
    charged: i32,
    cancel_requested_by: Option<String>,
}

/// Puts jobs that a node has claimed, and whose executions it has not begun, back to where they were: it is as if they had never been
/// claimed, and their next execution has this number again. One that was cancelled meanwhile is over, as if it had waited. What no
/// longer belongs to the node is passed over.
///
/// # Errors
/// When the database refuses.
pub fn put_back(
    conn: &mut Conn,
    node: NodeId,
    unbegun: &[AttemptName],
    now: Timestamp,
) -> Result<(), StoreError> {
    unbegun.iter().try_for_each(|attempt| put_one_back(conn, node, *attempt, now))
}

/// Puts back whatever a node holds beside the attempts that it knows of: it was claimed in a transaction whose answer was lost, and has not begun.
/// Returns everything that it held.
///
/// # Errors
/// When the database refuses.
pub fn put_back_unknown(
    conn: &mut Conn,
    node: NodeId,
    known: &BTreeSet<AttemptName>,
    now: Timestamp,
) -> Result<BTreeSet<AttemptName>, StoreError> {
    let held: Vec<(i64, i32)> = jobs_running::table
        .filter(jobs_running::node_id.eq(node.0))
        .order(jobs_running::job_id)
        .select((jobs_running::job_id, jobs_running::number))
        .load(conn)?;
    let name =
        |(job, number): (i64, i32)| AttemptName { job: JobId(job), number: number.unsigned_abs() };
    let held: BTreeSet<AttemptName> = held.into_iter().map(name).collect();
    let unknown: Vec<AttemptName> = held.difference(known).copied().collect();
    put_back(conn, node, &unknown, now)?;
    Ok(held)
}

fn put_one_back(
    conn: &mut Conn,
    node: NodeId,
    attempt: AttemptName,
    now: Timestamp,
) -> Result<(), StoreError> {
    let id = attempt.job.0;
    let number = i32::try_from(attempt.number).unwrap_or(i32::MAX);
    let owned = jobs_running::table
        .filter(jobs_running::job_id.eq(id))
        .filter(jobs_running::number.eq(number))
        .filter(jobs_running::node_id.eq(node.0));
    let columns = (jobs_running::charged, jobs_running::cancel_requested_by);
    let claimed: Option<Claimed> = on_each_backend!(conn, |inner| diesel::delete(owned)
        .returning(columns)
        .get_result(inner)
        .optional()?);
    let Some(Claimed { charged, cancel_requested_by }) = claimed else { return Ok(()) };
    let begun = number - 1;
    let Some(by) = cancel_requested_by else {
        let place = place_of(conn, id, begun, charged)?;
        return enter(conn, &place, now, now);
    };
    let why = format!("cancelled by {by}");
    let state = FinalState::Cancelled;
    let end = End { id, state, at: now, attempts: begun, charged, error: Some(&why), result: None };
    finish::close(conn, &end)?;
    dependencies::release(conn, Over { id, state, at: now })
}
