//! Finished attempts, of one job and of many.

use std::time::Duration;

use diesel::prelude::*;
use jiff::Timestamp;

use super::{IS_REAL, is_real};
use crate::model::{JobId, Outcome};
use crate::store::schema::{attempts, jobs};
use crate::store::{Conn, Micros, StoreError};

/// A finished attempt.
#[derive(Debug, Clone, PartialEq, Eq, Queryable)]
pub struct AttemptRecord {
    /// Which execution of its job, from 1.
    pub number: i32,
    /// How it ended.
    pub outcome: String,
    /// The node that ran it.
    pub node_id: i64,
    /// When it began.
    pub started_at: Micros,
    /// When it had ended.
    pub finished_at: Micros,
    /// The program's exit code.
    pub exit_code: Option<i32>,
    /// Why it did not succeed.
    pub error: Option<String>,
    /// The last part of its output.
    pub output_tail: Option<String>,
}

/// The latest of a job's finished attempts, first to last. Of a job that snoozes there can be any number.
///
/// # Errors
/// When the database refuses.
pub fn attempts(conn: &mut Conn, id: JobId, most: i64) -> Result<Vec<AttemptRecord>, StoreError> {
    let latest = attempts::table.order(attempts::number.desc()).limit(most);
    let latest = latest.filter(attempts::job_id.eq(id.0)).select((
        attempts::number,
        attempts::outcome,
        attempts::node_id,
        attempts::started_at,
        attempts::finished_at,
        attempts::exit_code,
        attempts::error,
        attempts::output_tail,
    ));
    let mut latest: Vec<AttemptRecord> = latest.load(conn)?;
    latest.reverse();
    Ok(latest)
}

/// The last part of what an attempt has printed; none where it has not ended, or printed nothing.
///
/// # Errors
/// When the database refuses.
pub fn output_tail(conn: &mut Conn, id: JobId, attempt: u32) -> Result<Option<String>, StoreError> {
    let tail: Option<Option<String>> = attempts::table
        .filter(attempts::job_id.eq(id.0))
        .filter(attempts::number.eq(i32::try_from(attempt).unwrap_or(i32::MAX)))
        .select(attempts::output_tail)
        .first(conn)
        .optional()?;
    Ok(tail.flatten())
}

/// Attempts of a kind that ended in the same way, within a time.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DayNumbers {
    /// The kind.
    pub kind: String,
    /// How they ended.
    pub outcome: String,
    /// How many.
    pub attempts: i64,
    /// How long they took on average.
    pub mean_ms: i64,
    /// How long the longest took.
    pub max_ms: i64,
}

/// How long the latest successful attempts took, by kind, oldest first.
///
/// # Errors
/// When the database refuses.
pub fn latest_durations(
    conn: &mut Conn,
    limit: i64,
) -> Result<Vec<(String, Duration)>, StoreError> {
    let mut rows: Vec<(String, String, Micros, Micros)> = attempts::table
        .inner_join(jobs::table.on(jobs::id.eq(attempts::job_id)))
        .filter(is_real())
        .order(attempts::id.desc())
        .limit(limit)
        .select((jobs::kind, attempts::outcome, attempts::started_at, attempts::finished_at))
        .load(conn)?;
    rows.reverse();
    rows.retain(|(_, outcome, ..)| outcome == Outcome::Success.as_str());
    let took = |from: Micros, to: Micros| Duration::from_micros((to.0 - from.0).unsigned_abs());
    Ok(rows.into_iter().map(|(kind, _, from, to)| (kind, took(from, to))).collect())
}

/// Counts attempts that finished from `from` until `until`, by kind and outcome.
///
/// # Errors
/// When the database refuses.
pub fn day_numbers(
    conn: &mut Conn,
    from: Timestamp,
    until: Timestamp,
) -> Result<Vec<DayNumbers>, StoreError> {
    use diesel::sql_types::{BigInt, Text};
    /// A row of the sums. Grouping by columns of two tables is beyond Diesel's types, so the statement is text.
    #[derive(QueryableByName)]
    struct Sum {
        #[diesel(sql_type = Text)]
        kind: String,
        #[diesel(sql_type = Text)]
        outcome: String,
        #[diesel(sql_type = BigInt)]
        attempts: i64,
        #[diesel(sql_type = BigInt)]
        mean_us: i64,
        #[diesel(sql_type = BigInt)]
        max_us: i64,
    }
    let (first, second) = match conn {
        Conn::Sqlite(_) => ("?", "?"),
        Conn::Postgres(_) => ("$1", "$2"),
    };
    let rows: Vec<Sum> = diesel::sql_query(format!(
        "SELECT jobs.kind, a.outcome, COUNT(*) AS attempts, \
         CAST(AVG(a.finished_at - a.started_at) AS BIGINT) AS mean_us, \
         MAX(a.finished_at - a.started_at) AS max_us \
         FROM attempts a JOIN jobs ON jobs.id = a.job_id \
         WHERE a.finished_at >= {first} AND a.finished_at < {second} AND {IS_REAL} \
         GROUP BY jobs.kind, a.outcome ORDER BY jobs.kind, a.outcome"
    ))
    .bind::<BigInt, _>(from.as_microsecond())
    .bind::<BigInt, _>(until.as_microsecond())
    .load(conn)?;
    let numbers = |row: Sum| DayNumbers {
        kind: row.kind,
        outcome: row.outcome,
        attempts: row.attempts,
        mean_ms: row.mean_us / 1000,
        max_ms: row.max_us / 1000,
    };
    Ok(rows.into_iter().map(numbers).collect())
}
