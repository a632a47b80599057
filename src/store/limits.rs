//! Limits that operators set at run time, and what runs under them.

use diesel::prelude::*;
use diesel::sql_types::BigInt;
use jiff::Timestamp;

use super::schema::{jobs_running, limits};
use super::{Conn, Micros, StoreError, on_each_backend};
use crate::model::{Actor, Subqueue};
use crate::queue::Limits;

/// The key of PostgreSQL's lock that claims under limits take: the first bytes of "sexton limits".
const LOCK_KEY: i64 = 0x7365_7874_6f6e_6c69;

/// A limit that an operator has set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLimit {
    /// `queue:NAME`, `kind:NAME` or `key:KEY`.
    pub name: String,
    /// How many jobs at once.
    pub max: u32,
    /// Since when.
    pub set_at: Timestamp,
    /// By whom.
    pub set_by: String,
}

/// Adds what operators have set to what is declared.
pub(super) fn add_stored(conn: &mut Conn, all: &mut Limits) -> Result<(), StoreError> {
    let rows = limits::table.select((limits::name, limits::max));
    let rows: Vec<(String, i32)> = on_each_backend!(conn, |inner| rows.load(inner)?);
    for (name, max) in rows {
        all.set(name, max.unsigned_abs());
    }
    Ok(())
}

/// Lets no other node claim under limits until this transaction ends: two that count at the same time would both find room for the last
/// job. SQLite has one writer anyway.
pub(super) fn lock(conn: &mut Conn) -> Result<(), StoreError> {
    if let Conn::Postgres(conn) = conn {
        diesel::sql_query("SELECT pg_advisory_xact_lock($1)")
            .bind::<BigInt, _>(LOCK_KEY)
            .execute(conn)?;
    }
    Ok(())
}

/// How many jobs of each part of a queue run, on all nodes.
///
/// # Errors
/// When the database refuses.
pub fn running(conn: &mut Conn) -> Result<Vec<(Subqueue, u32)>, StoreError> {
    let counts = jobs_running::table
        .group_by(jobs_running::subqueue)
        .select((jobs_running::subqueue, diesel::dsl::count_star()));
    let counts: Vec<(String, i64)> = on_each_backend!(conn, |inner| counts.load(inner)?);
    let read = |(name, count): (String, i64)| {
        let Ok(subqueue) = name.parse::<Subqueue>();
        (subqueue, u32::try_from(count).unwrap_or(u32::MAX))
    };
    Ok(counts.into_iter().map(read).collect())
}

/// Every limit that an operator has set, by name.
///
/// # Errors
/// When the database refuses.
pub fn list(conn: &mut Conn) -> Result<Vec<StoredLimit>, StoreError> {
    let rows: Vec<(String, i32, Micros, String)> = limits::table.order(limits::name).load(conn)?;
    let read = |(name, max, set_at, set_by): (String, i32, Micros, String)| StoredLimit {
        name,
        max: max.unsigned_abs(),
        set_at: set_at.into(),
        set_by,
    };
    Ok(rows.into_iter().map(read).collect())
}

/// Sets a limit. It counts from the next claim on; what runs already goes on.
///
/// # Errors
/// When the database refuses.
pub fn set(
    conn: &mut Conn,
    name: &str,
    max: u32,
    by: &Actor,
    now: Timestamp,
) -> Result<(), StoreError> {
    let row = (
        limits::max.eq(i32::try_from(max).unwrap_or(i32::MAX)),
        limits::set_at.eq(now.as_microsecond()),
        limits::set_by.eq(by.as_str()),
    );
    on_each_backend!(conn, |inner| diesel::insert_into(limits::table)
        .values((limits::name.eq(name), row))
        .on_conflict(limits::name)
        .do_update()
        .set(row)
        .execute(inner)?);
    Ok(())
}

/// Lets what is declared count again. Returns whether a limit was set.
///
/// # Errors
/// When the database refuses.
pub fn unset(conn: &mut Conn, name: &str) -> Result<bool, StoreError> {
    Ok(diesel::delete(limits::table.find(name)).execute(conn)? > 0)
}
