//! What operators set for a queue at run time, and how full it is.

use std::collections::BTreeMap;

use diesel::prelude::*;
use jiff::Timestamp;

use super::schema::{jobs, jobs_ready, jobs_running, queues};
use super::{Conn, Micros, StoreError, on_each_backend};
use crate::model::Actor;

/// A queue as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueState {
    /// Its name.
    pub name: String,
    /// Jobs that could run now.
    pub ready: i64,
    /// Jobs that run.
    pub running: i64,
    /// The `run_at` of the job that would go next.
    pub oldest_run_at: Option<Timestamp>,
    /// Since when it is paused, by whom and why.
    pub paused: Option<(Timestamp, String, String)>,
}

/// A name, and since when it is paused, by whom and why.
type Row = (String, Option<Micros>, Option<String>, Option<String>);

/// Every queue that holds jobs or is paused.
///
/// # Errors
/// When the database refuses.
pub fn list(conn: &mut Conn) -> Result<Vec<QueueState>, StoreError> {
    use diesel::dsl::{count_star, min};
    let ready: Vec<(String, i64)> = jobs_ready::table
        .group_by(jobs_ready::subqueue)
        .select((jobs_ready::subqueue, count_star()))
        .load(conn)?;
    let running: Vec<(String, i64)> = jobs_running::table
        .group_by(jobs_running::subqueue)
        .select((jobs_running::subqueue, count_star()))
        .load(conn)?;
    let (ready, oldest_of) = (by_queue(&ready), ready);
    let running = by_queue(&running);
    let paused: Vec<Row> = queues::table.order(queues::name).load(conn)?;
    let mut names: Vec<&String> = ready.iter().map(|(name, _)| name).collect();
    names.extend(running.iter().map(|(name, _)| name));
    names.extend(paused.iter().filter(|row| row.1.is_some()).map(|row| &row.0));
    names.sort();
    names.dedup();
    let count = |rows: &[(String, i64)], name: &str| {
        rows.iter().find(|(row, _)| row == name).map_or(0, |(_, count)| *count)
    };
    let mut states = Vec::with_capacity(names.len());
    for name in names {
        let parts = oldest_of.iter().map(|(part, _)| part).filter(|part| queue_of(part) == name);
        let first: Option<i64> = jobs_ready::table
            .filter(jobs_ready::subqueue.eq_any(parts))
            .inner_join(jobs::table.on(jobs::id.eq(jobs_ready::job_id)))
            .select(min(jobs::run_at))
            .first(conn)?;
        let pause = paused.iter().find(|row| row.0 == *name).and_then(|(_, at, by, why)| {
            let at = Timestamp::from((*at)?);
            Some((at, by.clone().unwrap_or_default(), why.clone().unwrap_or_default()))
        });
        states.push(QueueState {
            name: name.clone(),
            ready: count(&ready, name),
            running: count(&running, name),
            oldest_run_at: first.map(|micros| Micros(micros).into()),
            paused: pause,
        });
    }
    Ok(states)
}

/// The queue that a part belongs to.
fn queue_of(subqueue: &str) -> &str {
    subqueue.split_once('/').map_or(subqueue, |(queue, _)| queue)
}

fn by_queue(parts: &[(String, i64)]) -> Vec<(String, i64)> {
    let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
    for (part, count) in parts {
        *sums.entry(queue_of(part)).or_default() += count;
    }
    sums.into_iter().map(|(queue, count)| (queue.to_owned(), count)).collect()
}

/// Stops claims from a queue until it is resumed.
///
/// # Errors
/// When the database refuses.
pub fn pause(
    conn: &mut Conn,
    name: &str,
    by: &Actor,
    reason: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let set = (
        queues::paused_at.eq(now.as_microsecond()),
        queues::paused_by.eq(by.as_str()),
        queues::pause_reason.eq(reason),
    );
    on_each_backend!(conn, |inner| diesel::insert_into(queues::table)
        .values((queues::name.eq(name), set))
        .on_conflict(queues::name)
        .do_update()
        .set(set)
        .execute(inner)?);
    Ok(())
}

/// Lets claims go on. Returns whether it was paused.
///
/// # Errors
/// When the database refuses.
pub fn resume(conn: &mut Conn, name: &str) -> Result<bool, StoreError> {
    Ok(diesel::delete(queues::table.find(name)).execute(conn)? > 0)
}
