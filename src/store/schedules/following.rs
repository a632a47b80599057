//! Schedules that follow others. The end of a job is noted for its followers in the transaction that ends it, and forgotten in the one that
//! decides about it: a daemon that dies in between finds it again, and of two nodes that find it one decides.

use diesel::prelude::*;
use jiff::Timestamp;

use super::Definition;
use crate::model::{FinalState, JobEnd, JobId, ScheduleId};
use crate::store::jobs::CHUNK_ROWS;
use crate::store::schema::{ends_to_follow, schedule_followers};
use crate::store::{Conn, Micros, StoreError, on_each_backend};

/// How many noted ends of a few hundred followers are read at once. What is more comes with the next look.
const MOST_ENDS: i64 = 10_000;

/// Notes whom a schedule follows from now on. Noted ends of schedules that it does not follow any more are forgotten.
pub(super) fn follow(conn: &mut Conn, definition: &Definition) -> Result<(), StoreError> {
    let follower = definition.id.as_str();
    let before = schedule_followers::table.filter(schedule_followers::follower.eq(follower));
    diesel::delete(before).execute(conn)?;
    for (schedule, on_end) in &definition.follows {
        let row = (
            schedule_followers::schedule.eq(schedule.as_str()),
            schedule_followers::follower.eq(follower),
            schedule_followers::on_end.eq(on_end.as_str()),
        );
        // Another node may be loading the same file.
        on_each_backend!(conn, |inner| diesel::insert_into(schedule_followers::table)
            .values(row)
            .on_conflict_do_nothing()
            .execute(inner)?);
    }
    let followed = definition.follows.iter().map(|(schedule, _)| schedule.as_str());
    let others = ends_to_follow::table
        .filter(ends_to_follow::follower.eq(follower))
        .filter(ends_to_follow::schedule.ne_all(followed));
    diesel::delete(others).execute(conn)?;
    Ok(())
}

#[derive(Queryable)]
struct Row {
    follower: String,
    ended_at: Micros,
    schedule: String,
    job_id: i64,
    state: String,
}

/// The ends that make one of these followers due and that nobody has decided about, by follower and time.
///
/// # Errors
/// When the database refuses, or a row cannot be read.
pub fn ends_to_follow(
    conn: &mut Conn,
    followers: &[String],
) -> Result<Vec<(ScheduleId, JobEnd)>, StoreError> {
    let mut ends = Vec::new();
    for chunk in followers.chunks(CHUNK_ROWS) {
        let rows: Vec<Row> = ends_to_follow::table
            .filter(ends_to_follow::follower.eq_any(chunk))
            .order((ends_to_follow::follower, ends_to_follow::ended_at))
            .limit(MOST_ENDS)
            .load(conn)?;
        for row in rows {
            ends.push(read(row)?);
        }
    }
    Ok(ends)
}

fn read(row: Row) -> Result<(ScheduleId, JobEnd), StoreError> {
    let damaged = |detail: String| StoreError::Damaged { what: "end to follow", detail };
    let id = |text: String| text.parse::<ScheduleId>().map_err(|error| damaged(error.to_string()));
    let state = match row.state.as_str() {
        "completed" => FinalState::Completed,
        "failed" => FinalState::Failed,
        "cancelled" => FinalState::Cancelled,
        other => return Err(damaged(format!("`{}` is no end", other.escape_debug()))),
    };
    let end = JobEnd {
        at: row.ended_at.into(),
        schedule: id(row.schedule)?,
        job: JobId(row.job_id),
        state,
    };
    Ok((id(row.follower)?, end))
}

/// Forgets a noted end that is decided about.
pub(super) fn followed(
    conn: &mut Conn,
    follower: &ScheduleId,
    ended_at: Timestamp,
) -> Result<(), StoreError> {
    let noted = ends_to_follow::table.find((follower.as_str(), ended_at.as_microsecond()));
    diesel::delete(noted).execute(conn)?;
    Ok(())
}

/// Forgets ends that were noted before then and that nobody has come for: their follower's file is gone. Returns how many.
///
/// # Errors
/// When the database refuses.
pub fn forget_old_ends(conn: &mut Conn, before: Timestamp) -> Result<usize, StoreError> {
    let old = ends_to_follow::table.filter(ends_to_follow::ended_at.lt(before.as_microsecond()));
    Ok(diesel::delete(old).execute(conn)?)
}
