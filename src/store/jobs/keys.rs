//! Unique keys: at most one job that lives has each.

use diesel::prelude::*;
use jiff::Timestamp;

use crate::model::{JobId, UniqueKey};
use crate::store::schema::unique_keys;
use crate::store::{Conn, Micros, StoreError, on_each_backend};

/// Who holds a key.
pub(super) fn holder_of(
    conn: &mut Conn,
    key: &str,
    now: Timestamp,
) -> Result<Option<JobId>, StoreError> {
    let row = unique_keys::table.find(key).select((unique_keys::job_id, unique_keys::expires_at));
    let held: Option<(i64, Option<Micros>)> =
        on_each_backend!(conn, |inner| row.get_result(inner).optional()?);
    let Some((job, expires_at)) = held else { return Ok(None) };
    if expires_at.is_none_or(|at| Timestamp::from(at) > now) {
        return Ok(Some(JobId(job)));
    }
    diesel::delete(unique_keys::table.find(key)).execute(conn)?;
    Ok(None)
}

/// Takes a key for a job. Returns whether it was free. On PostgreSQL this waits for another node that is just taking it.
pub(super) fn take_key(
    conn: &mut Conn,
    unique: &UniqueKey,
    id: i64,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let expires_at = unique.period.map(|period| (now + period.get()).as_microsecond());
    let row = (
        unique_keys::key.eq(&unique.key),
        unique_keys::job_id.eq(id),
        unique_keys::expires_at.eq(expires_at),
    );
    let taken = on_each_backend!(conn, |inner| diesel::insert_into(unique_keys::table)
        .values(row)
        .on_conflict_do_nothing()
        .execute(inner)?);
    Ok(taken > 0)
}

/// Gives a job that lives again the unique key that it had. Returns who else has it by now, if somebody has.
pub(in crate::store) fn take_key_again(
    conn: &mut Conn,
    key: &str,
    id: JobId,
    now: Timestamp,
) -> Result<Option<JobId>, StoreError> {
    match holder_of(conn, key, now)? {
        // Its period is not over yet.
        Some(holder) if holder == id => Ok(None),
        Some(holder) => Ok(Some(holder)),
        None => {
            let unique = UniqueKey { key: key.to_owned(), period: None };
            if take_key(conn, &unique, id.0, now)? { Ok(None) } else { Err(StoreError::Busy) }
        }
    }
}
