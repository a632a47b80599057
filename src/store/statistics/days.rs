//! The sums of whole days, which outlive the rows they were formed from.

use diesel::prelude::*;
use diesel::upsert::excluded;
use jiff::Timestamp;
use jiff::civil::Date;

use crate::model::FinalState;
use crate::store::connection::on_each_backend;
use crate::store::schema::{attempts, job_results, job_statistics, meta};
use crate::store::{Conn, Micros, StoreError};

/// The sums of one schedule and kind on one day (UTC).
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = job_statistics)]
pub struct DayRow {
    /// The day, `2026-11-21`.
    pub day: String,
    /// The schedule, empty for jobs that no schedule made.
    pub schedule: String,
    /// The kind.
    pub kind: String,
    /// Jobs that ended well on that day.
    pub completed: i64,
    /// Jobs that ended badly.
    pub failed: i64,
    /// Jobs that were cancelled.
    pub cancelled: i64,
    /// Attempts that ended on that day.
    pub attempts: i64,
    /// What charged attempts took together.
    pub duration_total_us: i64,
    /// What the longest of them took.
    pub duration_max_us: i64,
    /// What jobs waited together for their first attempt.
    pub wait_total_us: i64,
    /// What the one that waited longest did.
    pub wait_max_us: i64,
}

/// In `meta`: every day before this one is in `job_statistics`.
const ROLLED_UP_BEFORE: &str = "statistics.rolled_up_before";

/// The first day whose sums are not kept yet. `None` when none was ever kept.
///
/// Pruning must leave the rows of this day and later ones alone.
///
/// # Errors
/// When the database refuses, or the mark cannot be read.
pub fn rolled_up_before(conn: &mut Conn) -> Result<Option<Date>, StoreError> {
    let mark: Option<String> =
        meta::table.find(ROLLED_UP_BEFORE).select(meta::value).first(conn).optional()?;
    let read = |text: String| {
        text.parse().map_err(|error: jiff::Error| StoreError::Damaged {
            what: "day of the statistics",
            detail: error.to_string(),
        })
    };
    mark.map(read).transpose()
}

/// Keeps the sums of days, replacing what was kept of the same day, schedule and kind, and notes that every day before
/// `before` is done.
///
/// Rows that are not among `rows` stay: a node that sums up a day whose rows another node has pruned in the meantime
/// must not take its sums away.
///
/// # Errors
/// When the database refuses.
pub fn keep_days(conn: &mut Conn, rows: &[DayRow], before: Date) -> Result<(), StoreError> {
    use job_statistics as s;
    for row in rows {
        on_each_backend!(conn, |inner| diesel::insert_into(s::table)
            .values(row)
            .on_conflict((s::day, s::schedule, s::kind))
            .do_update()
            .set((
                s::completed.eq(excluded(s::completed)),
                s::failed.eq(excluded(s::failed)),
                s::cancelled.eq(excluded(s::cancelled)),
                s::attempts.eq(excluded(s::attempts)),
                s::duration_total_us.eq(excluded(s::duration_total_us)),
                s::duration_max_us.eq(excluded(s::duration_max_us)),
                s::wait_total_us.eq(excluded(s::wait_total_us)),
                s::wait_max_us.eq(excluded(s::wait_max_us)),
            ))
            .execute(inner)?);
    }
    // Two nodes may be at it; the mark only ever moves forward.
    if rolled_up_before(conn)?.is_some_and(|mark| mark >= before) {
        return Ok(());
    }
    let before = before.to_string();
    on_each_backend!(conn, |inner| diesel::insert_into(meta::table)
        .values((meta::key.eq(ROLLED_UP_BEFORE), meta::value.eq(&before)))
        .on_conflict(meta::key)
        .do_update()
        .set(meta::value.eq(&before))
        .execute(inner)?);
    Ok(())
}

/// Takes back that days from `before` on are done: they were not over, the clock was ahead when they were passed over.
///
/// # Errors
/// When the database refuses.
pub fn set_mark_back(conn: &mut Conn, before: Date) -> Result<(), StoreError> {
    let ahead = meta::table.find(ROLLED_UP_BEFORE).filter(meta::value.gt(before.to_string()));
    diesel::update(ahead).set(meta::value.eq(before.to_string())).execute(conn)?;
    Ok(())
}

/// The time of the first attempt or job that ended at `from` or later.
///
/// # Errors
/// When the database refuses.
pub fn first_end(conn: &mut Conn, from: Timestamp) -> Result<Option<Timestamp>, StoreError> {
    let from = from.as_microsecond();
    let mut ends: Vec<Micros> = attempts::table
        .filter(attempts::finished_at.ge(from))
        .order(attempts::finished_at)
        .limit(1)
        .select(attempts::finished_at)
        .load(conn)?;
    for state in [FinalState::Completed, FinalState::Failed, FinalState::Cancelled] {
        let end: Vec<Micros> = job_results::table
            .filter(job_results::state.eq(state.state().as_str()))
            .filter(job_results::finished_at.ge(from))
            .order(job_results::finished_at)
            .limit(1)
            .select(job_results::finished_at)
            .load(conn)?;
        ends.extend(end);
    }
    Ok(ends.into_iter().min().map(Into::into))
}

/// The kept sums of the days from `from` to `to`, both included, in order of day, schedule and kind.
///
/// # Errors
/// When the database refuses.
pub fn days(conn: &mut Conn, from: Date, to: Date) -> Result<Vec<DayRow>, StoreError> {
    let rows = job_statistics::table
        .filter(job_statistics::day.ge(from.to_string()))
        .filter(job_statistics::day.le(to.to_string()))
        .order((job_statistics::day, job_statistics::schedule, job_statistics::kind))
        .load(conn)?;
    Ok(rows)
}
