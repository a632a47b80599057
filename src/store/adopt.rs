//! Taking over attempts whose programs outlived their daemon.

use diesel::prelude::*;
use jiff::Timestamp;

use super::claim::{ClaimedJob, Ready, claimed, load};
use super::schema::{attempts, jobs_running};
use super::{Conn, Micros, StoreError};
use crate::model::{AttemptName, NodeId, Outcome};

/// An attempt that now belongs to a node, though another one began it.
#[derive(Debug, Clone, PartialEq)]
pub struct Adopted {
    /// The job, as when it was claimed.
    pub job: ClaimedJob,
    /// When the attempt began.
    pub started_at: Timestamp,
    /// Whether somebody has cancelled the job meanwhile.
    pub is_cancelled: bool,
}

/// What became of the attempts that a node wanted.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Adoption {
    /// Those that it has.
    pub adopted: Vec<Adopted>,
    /// Those that it must not have: the job was given to another attempt, or is unknown here.
    pub refused: Vec<AttemptName>,
}

/// Gives a node the attempts of which it holds the programs, as long as their jobs still run under their numbers. Whose they were does
/// not matter: an execution has its number alone.
///
/// What is in neither list was recorded by an earlier daemon, which had no time to say so.
///
/// # Errors
/// When the database refuses.
pub fn adopt(
    conn: &mut Conn,
    node: NodeId,
    wanted: &[AttemptName],
) -> Result<Adoption, StoreError> {
    let mut adoption = Adoption::default();
    for attempt in wanted {
        match adopt_one(conn, node, *attempt) {
            Ok(Some(adopted)) => adoption.adopted.push(adopted),
            Ok(None) if has_ended_by_itself(conn, *attempt)? => {}
            // A job that cannot be read is given back with all others, and fails when it is claimed.
            Ok(None) | Err(StoreError::Damaged { .. }) => adoption.refused.push(*attempt),
            Err(error) => return Err(error),
        }
    }
    Ok(adoption)
}

#[derive(Debug, Queryable)]
struct Running {
    subqueue: String,
    charged: i32,
    started_at: Micros,
    cancel_requested_at: Option<Micros>,
}

fn adopt_one(
    conn: &mut Conn,
    node: NodeId,
    attempt: AttemptName,
) -> Result<Option<Adopted>, StoreError> {
    let number = i32::try_from(attempt.number).unwrap_or(i32::MAX);
    let owned = jobs_running::table
        .filter(jobs_running::job_id.eq(attempt.job.0))
        .filter(jobs_running::number.eq(number));
    let columns = (
        jobs_running::subqueue,
        jobs_running::charged,
        jobs_running::started_at,
        jobs_running::cancel_requested_at,
    );
    let Some(running) = owned.select(columns).first::<Running>(conn).optional()? else {
        return Ok(None);
    };
    let started_at = Timestamp::from(running.started_at);
    let ready = Ready {
        subqueue: running.subqueue,
        rank: 0,
        job_id: attempt.job.0,
        number: number - 1,
        charged: running.charged,
    };
    let Some(row) = load(conn, ready.job_id)? else {
        return Ok(None);
    };
    let job = claimed(conn, &ready, row)?;
    // Last, and counted: another node may have rescued it since it was looked at.
    if diesel::update(owned).set(jobs_running::node_id.eq(node.0)).execute(conn)? == 0 {
        return Ok(None);
    }
    let is_cancelled = running.cancel_requested_at.is_some();
    Ok(Some(Adopted { job, started_at, is_cancelled }))
}

fn has_ended_by_itself(conn: &mut Conn, attempt: AttemptName) -> Result<bool, StoreError> {
    let number = i32::try_from(attempt.number).unwrap_or(i32::MAX);
    let outcome: Option<String> = attempts::table
        .filter(attempts::job_id.eq(attempt.job.0))
        .filter(attempts::number.eq(number))
        .select(attempts::outcome)
        .first(conn)
        .optional()?;
    Ok(outcome.is_some_and(|outcome| outcome != Outcome::Interrupted.as_str()))
}
