//! What is left of each rate, for all nodes: a row for a name that a rate holds back, changed only by what takes of it: claims of
//! jobs, and requests with a token.

use std::collections::BTreeMap;

use diesel::prelude::*;
use jiff::Timestamp;

use super::schema::rate_buckets;
use super::{Conn, Micros, StoreError, on_each_backend};
use crate::model::Rate;
use crate::queue::Bucket;

/// Longer than the clocks of a node and of its database may differ.
const LONG: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);

/// The time that rates go by. Where several nodes take jobs it is the database's: with clocks of their own that differ, each would find
/// tokens that another one has taken already.
pub(super) fn time(conn: &mut Conn, now: Timestamp) -> Result<Timestamp, StoreError> {
    // Not `now()`, which is when the transaction began: it may have waited for another one's claim since then.
    const CLOCK: &str = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
    match conn {
        Conn::Sqlite(_) => Ok(now),
        Conn::Postgres(conn) => {
            let clock = diesel::dsl::sql::<diesel::sql_types::BigInt>(CLOCK);
            Ok(diesel::select(clock).get_result::<Micros>(conn)?.into())
        }
    }
}

/// The buckets of rates, by name, as they are at `time`.
pub(super) fn load(
    conn: &mut Conn,
    rates: BTreeMap<String, Rate>,
    time: Timestamp,
) -> Result<BTreeMap<String, Bucket>, StoreError> {
    let stored = rate_buckets::table.select((rate_buckets::name, rate_buckets::full_at));
    let stored: Vec<(String, Micros)> = on_each_backend!(conn, |inner| stored.load(inner)?);
    let stored: BTreeMap<String, Micros> = stored.into_iter().collect();
    let bucket = |(name, rate): (String, Rate)| {
        let full_at = stored.get(&name).copied().map(Timestamp::from);
        (name, Bucket::new(rate, full_at, time))
    };
    Ok(rates.into_iter().map(bucket).collect())
}

/// From when on the bucket of that name is full, as it was stored.
pub(super) fn full_at(conn: &mut Conn, name: &str) -> Result<Option<Timestamp>, StoreError> {
    let row = rate_buckets::table.find(name).select(rate_buckets::full_at);
    let full_at: Option<Micros> = on_each_backend!(conn, |inner| row.first(inner).optional()?);
    Ok(full_at.map(Timestamp::from))
}

/// Stores those that are not as they are stored.
pub(super) fn store(conn: &mut Conn, buckets: &BTreeMap<String, Bucket>) -> Result<(), StoreError> {
    let changed = buckets.iter().filter_map(|(name, bucket)| Some((name, bucket.to_store()?)));
    for (name, full_at) in changed {
        let full_at = rate_buckets::full_at.eq(full_at.as_microsecond());
        on_each_backend!(conn, |inner| diesel::insert_into(rate_buckets::table)
            .values((rate_buckets::name.eq(name), full_at))
            .on_conflict(rate_buckets::name)
            .do_update()
            .set(full_at)
            .execute(inner)?);
    }
    Ok(())
}

/// Forgets buckets that have been full for long. One that is not stored is full as well.
pub(super) fn forget_full(conn: &mut Conn, now: Timestamp) -> Result<usize, StoreError> {
    let long_ago = (now - LONG).as_microsecond();
    let full = rate_buckets::table.filter(rate_buckets::full_at.lt(long_ago));
    Ok(diesel::delete(full).execute(conn)?)
}
