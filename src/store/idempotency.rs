//! Submissions that can be repeated without being done twice.

use std::time::Duration;

use diesel::prelude::*;
use jiff::Timestamp;

use super::jobs::{SubmitContext, Submitted, from_json, submit, to_json};
use super::schema::idempotency_keys;
use super::{Conn, Micros, StoreError, on_each_backend};
use crate::model::{JobId, NewJob};

/// How long a repetition is recognised.
pub const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

/// A key, and what came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The key, made different for different callers.
    pub key: String,
    /// Hash of the request.
    pub request: String,
}

/// What came of a submission with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was the first one.
    Submitted(Vec<Submitted>),
    /// It was done before.
    Repeated {
        /// What it came to: the jobs it made, or found in possession of their unique keys.
        jobs: Vec<JobId>,
        /// When that was; a job of those that is older was found.
        at: Timestamp,
    },
    /// The key was used for another request.
    Other,
}

/// Submits jobs unless that was done under the key already, in the same transaction.
///
/// # Errors
/// As for [`submit`].
pub fn submit_once(
    conn: &mut Conn,
    key: &Key,
    new: &[NewJob],
    context: SubmitContext,
) -> Result<Outcome, StoreError> {
    let expired = idempotency_keys::table
        .find(&key.key)
        .filter(idempotency_keys::created_at.le(oldest(context.now)));
    diesel::delete(expired).execute(conn)?;
    let row = (
        idempotency_keys::key.eq(&key.key),
        idempotency_keys::request.eq(&key.request),
        idempotency_keys::jobs.eq("[]"),
        idempotency_keys::created_at.eq(context.now.as_microsecond()),
    );
    // The key comes first: on PostgreSQL this waits for another node that is just taking it.
    let is_first = on_each_backend!(conn, |inner| diesel::insert_into(idempotency_keys::table)
        .values(row)
        .on_conflict_do_nothing()
        .execute(inner)?);
    if is_first == 0 {
        return repeated(conn, key);
    }
    let submitted = submit(conn, new, context)?;
    let ids: Vec<i64> = submitted.iter().map(|job| job.id.0).collect();
    diesel::update(idempotency_keys::table.find(&key.key))
        .set(idempotency_keys::jobs.eq(to_json("jobs", &ids)?))
        .execute(conn)?;
    Ok(Outcome::Submitted(submitted))
}

fn repeated(conn: &mut Conn, key: &Key) -> Result<Outcome, StoreError> {
    let kept: Option<(String, String, Micros)> = idempotency_keys::table
        .find(&key.key)
        .select((idempotency_keys::request, idempotency_keys::jobs, idempotency_keys::created_at))
        .first(conn)
        .optional()?;
    match kept {
        Some((request, jobs, at)) if request == key.request => {
            let ids: Vec<i64> = from_json("jobs of an idempotency key", &jobs)?;
            Ok(Outcome::Repeated { jobs: ids.into_iter().map(JobId).collect(), at: at.into() })
        }
        Some(_) => Ok(Outcome::Other),
        None => Err(StoreError::Busy),
    }
}

/// Forgets keys whose time is over. Returns how many.
pub(super) fn forget_old(conn: &mut Conn, now: Timestamp) -> Result<usize, StoreError> {
    let old = idempotency_keys::table.filter(idempotency_keys::created_at.le(oldest(now)));
    Ok(diesel::delete(old).execute(conn)?)
}

fn oldest(now: Timestamp) -> i64 {
    Micros::from(now.checked_sub(KEPT_FOR).unwrap_or(Timestamp::MIN)).0
}
