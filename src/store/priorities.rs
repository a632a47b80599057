//! The priority that somebody has given a job by hand.
//!
//! What was asked for stays in the job's row, which is written once. The change is a row of its own, and it changes the job's rank as well, so
//! jobs that nobody has touched pay nothing for this: a claim looks for a change only where a ready job's rank is not that of its row.

use diesel::prelude::*;

use super::batches;
use super::jobs::{SubmitContext, enter, place_of};
use super::schema::{job_priorities, jobs};
use super::whereabouts::{Whereabouts, hold};
use super::{Conn, Micros, StoreError, on_each_backend};
use crate::model::{JobId, JobState, Priority};

/// A priority that was changed, and the rank that goes with it.
pub(super) type Change = (i16, i64);

/// What came of a request to change a job's priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reprioritised {
    /// It has that priority now. Of a batch: those of its items that wait have it.
    Done,
    /// It is in a state in which its priority means nothing any more.
    NotNow(JobState),
    /// There is no such job.
    Unknown,
}

/// The change of a job's priority, if there was one.
pub(super) fn change_of(conn: &mut Conn, id: i64) -> Result<Option<Change>, StoreError> {
    let row =
        job_priorities::table.find(id).select((job_priorities::priority, job_priorities::rank));
    Ok(on_each_backend!(conn, |inner| row.first(inner).optional()?))
}

/// Gives a waiting job another priority and the place in its queue that it would have with it. What it has waited still counts.
///
/// # Errors
/// When the database refuses.
pub fn reprioritise(
    conn: &mut Conn,
    id: JobId,
    priority: Priority,
    context: SubmitContext,
) -> Result<Reprioritised, StoreError> {
    let place = hold(conn, id.0)?;
    match &place {
        Whereabouts::Ready { number, charged, .. } => {
            place.leave(conn, id.0)?;
            change(conn, id.0, priority, context)?;
            let place = place_of(conn, id.0, *number, *charged)?;
            enter(conn, &place, context.now, context.now)?;
        }
        // They find their place when they become ready.
        Whereabouts::Scheduled { .. } | Whereabouts::Blocked => {
            change(conn, id.0, priority, context)?;
        }
        Whereabouts::OpenBatch => {
            change(conn, id.0, priority, context)?;
            for item in batches::items_that_are_not_over(conn, id.0)? {
                reprioritise(conn, JobId(item), priority, context)?;
            }
        }
        other => return Ok(other.state().map_or(Reprioritised::Unknown, Reprioritised::NotNow)),
    }
    Ok(Reprioritised::Done)
}

/// Notes the change, or forgets it where the priority is what was asked for.
fn change(
    conn: &mut Conn,
    id: i64,
    priority: Priority,
    context: SubmitContext,
) -> Result<(), StoreError> {
    let (asked, asked_rank, run_at): (i16, i64, Micros) =
        jobs::table.find(id).select((jobs::priority, jobs::rank, jobs::run_at)).first(conn)?;
    let level = i16::from(priority.level());
    diesel::delete(job_priorities::table.find(id)).execute(conn)?;
    if level == asked {
        return Ok(());
    }
    let rank = match context.ageing.rank(run_at.into(), priority) {
        // Where ageing is switched off all priorities have one rank, and a claim would not see that this one was changed.
        same if same == asked_rank => same + 1,
        other => other,
    };
    let row = (
        job_priorities::job_id.eq(id),
        job_priorities::priority.eq(level),
        job_priorities::rank.eq(rank),
    );
    diesel::insert_into(job_priorities::table).values(row).execute(conn)?;
    Ok(())
}
