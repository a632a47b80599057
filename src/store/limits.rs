//! Limits that operators set at run time, and what runs under them.

use std::collections::BTreeMap;

use diesel::prelude::*;
use diesel::sql_types::BigInt;
use jiff::Timestamp;

use super::queues::StoredQueue;
use super::schema::{jobs_running, limits};
use super::{Conn, Micros, StoreError, breakers, on_each_backend};
use crate::model::{Actor, Breaker, NodeId, Rate, Subqueue};
use crate::queue::{Limits, Running};

/// The key of PostgreSQL's lock that claims under limits take: the first bytes of "sexton limits".
const LOCK_KEY: i64 = 0x7365_7874_6f6e_6c69;

/// What is stored where there is only a rate or a breaker: the column is older than rates, and the version before them cannot read NULL there.
const NO_MAX: i32 = i32::MAX;

/// What an operator sets under a name; `None` leaves it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetLimit {
    /// How many jobs at once.
    pub max: Option<u32>,
    /// How fast jobs may start.
    pub rate: Option<Rate>,
    /// After how many failures nothing starts for a while.
    pub breaker: Option<Breaker>,
}

/// A limit that an operator has set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLimit {
    /// `queue:NAME`, `kind:NAME` or `key:KEY`.
    pub name: String,
    /// What is set; `None` is what is declared.
    pub set: SetLimit,
    /// Since when.
    pub set_at: Timestamp,
    /// By whom.
    pub set_by: String,
}

/// What holds jobs back now: what is declared, and over that what operators have set.
pub(super) fn in_force(
    conn: &mut Conn,
    declared: &Limits,
    queues: &BTreeMap<String, StoredQueue>,
) -> Result<Limits, StoreError> {
    let mut all = declared.clone();
    for (name, queue) in queues {
        all.set_queue(name, queue.set);
    }
    let rows = limits::table.select((limits::name, LIMIT));
    let rows: Vec<(String, LimitRow)> = on_each_backend!(conn, |inner| rows.load(inner)?);
    for (name, row) in rows {
        let SetLimit { max, rate, breaker } = read(&name, row)?;
        if let Some(rate) = rate {
            all.set_rate(name.clone(), rate);
        }
        if let Some(breaker) = breaker {
            all.set_breaker(name.clone(), breaker);
        }
        if let Some(max) = max {
            all.set_max(name, max);
        }
    }
    Ok(all)
}

type LimitColumns = (limits::max, limits::rate, limits::breaker);
type LimitRow = (i32, Option<String>, Option<String>);
const LIMIT: LimitColumns = (limits::max, limits::rate, limits::breaker);

fn read(name: &str, (max, rate, breaker): LimitRow) -> Result<SetLimit, StoreError> {
    let breaker = breaker.map(|text| text.parse()).transpose();
    Ok(SetLimit {
        max: (max != NO_MAX).then_some(max.unsigned_abs()),
        rate: rate.map(|rate| read_rate(name, &rate)).transpose()?,
        breaker: breaker.map_err(|error: crate::model::BreakerError| StoreError::Damaged {
            what: "breaker",
            detail: format!("that of {name}: {error}"),
        })?,
    })
}

/// A stored rate of that queue or limit.
pub(super) fn read_rate(name: &str, text: &str) -> Result<Rate, StoreError> {
    text.parse().map_err(|error: crate::model::RateError| StoreError::Damaged {
        what: "rate",
        detail: format!("that of {name}: {error}"),
    })
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

/// How many jobs of each part of a queue run on each node.
///
/// # Errors
/// When the database refuses.
pub fn running(conn: &mut Conn) -> Result<Vec<Running>, StoreError> {
    let counts = jobs_running::table
        .group_by((jobs_running::subqueue, jobs_running::node_id))
        .select((jobs_running::subqueue, jobs_running::node_id, diesel::dsl::count_star()));
    let counts: Vec<(String, i64, i64)> = on_each_backend!(conn, |inner| counts.load(inner)?);
    let read = |(name, node, count): (String, i64, i64)| {
        let Ok(subqueue) = name.parse::<Subqueue>();
        Running { subqueue, node: NodeId(node), count: u32::try_from(count).unwrap_or(u32::MAX) }
    };
    Ok(counts.into_iter().map(read).collect())
}

/// Every limit that an operator has set, by name.
///
/// # Errors
/// When the database refuses, or holds a rate that cannot be read.
pub fn list(conn: &mut Conn) -> Result<Vec<StoredLimit>, StoreError> {
    let rows = limits::table.order(limits::name);
    let rows = rows.select((limits::name, LIMIT, limits::set_at, limits::set_by));
    let rows: Vec<(String, LimitRow, Micros, String)> =
        on_each_backend!(conn, |inner| rows.load(inner)?);
    let limit = |(name, row, set_at, set_by): (String, LimitRow, Micros, String)| {
        let set = read(&name, row)?;
        Ok(StoredLimit { name, set, set_at: set_at.into(), set_by })
    };
    rows.into_iter().map(limit).collect()
}

/// Sets what is given and leaves the rest as it is. It counts from the next claim on; what runs already goes on. Another breaker begins anew.
///
/// # Errors
/// When the database refuses.
pub fn set(
    conn: &mut Conn,
    name: &str,
    set: SetLimit,
    by: &Actor,
    now: Timestamp,
) -> Result<(), StoreError> {
    let max = set.max.map(|max| i32::try_from(max).unwrap_or(NO_MAX));
    let rate = set.rate.map(|rate| rate.to_string());
    let breaker = set.breaker.map(|breaker| breaker.to_string());
    let who = (limits::set_at.eq(now.as_microsecond()), limits::set_by.eq(by.as_str()));
    let row = (
        limits::name.eq(name),
        limits::max.eq(max.unwrap_or(NO_MAX)),
        limits::rate.eq(rate.as_deref()),
        limits::breaker.eq(breaker.as_deref()),
        who,
    );
    let given = (
        max.map(|max| limits::max.eq(max)),
        rate.as_deref().map(|rate| limits::rate.eq(rate)),
        breaker.as_deref().map(|breaker| limits::breaker.eq(breaker)),
        who,
    );
    on_each_backend!(conn, |inner| diesel::insert_into(limits::table)
        .values(row)
        .on_conflict(limits::name)
        .do_update()
        .set(given)
        .execute(inner)?);
    if breaker.is_some() {
        breakers::forget(conn, name)?;
    }
    Ok(())
}

/// Lets what is declared count again. Returns whether a limit was set.
///
/// # Errors
/// When the database refuses.
pub fn unset(conn: &mut Conn, name: &str) -> Result<bool, StoreError> {
    let is_unset = diesel::delete(limits::table.find(name)).execute(conn)? > 0;
    if is_unset {
        breakers::forget(conn, name)?;
    }
    Ok(is_unset)
}
