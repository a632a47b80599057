//! What operators set for a queue at run time, and how full it is.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::time::Duration;

use diesel::prelude::*;
use jiff::Timestamp;

use super::claim::subqueues_with_work;
use super::limits::read_rate;
use super::schema::{jobs, jobs_ready, jobs_running, queues};
use super::{Conn, Micros, StoreError, breakers, buckets, limits, on_each_backend};
use crate::model::{Actor, HumanDuration, QueueChange, QueueSettings, Rate, Subqueue};
use crate::queue::{Full, Limits, Room};

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
    /// That no claim takes from it.
    pub paused: Option<Pause>,
    /// What operators have set for it.
    pub set: QueueSettings,
    /// Since when they have, and who was the last.
    pub set_by: Option<(Timestamp, String)>,
}

/// That a queue is paused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// Since when.
    pub since: Timestamp,
    /// By whom.
    pub by: String,
    /// Why; empty where nobody said.
    pub reason: String,
}

type PauseColumns = (queues::paused_at, queues::paused_by, queues::pause_reason);
type PauseRow = (Option<Micros>, Option<String>, Option<String>);
const PAUSE: PauseColumns = (queues::paused_at, queues::paused_by, queues::pause_reason);

fn pause_in((at, by, reason): PauseRow) -> Option<Pause> {
    let (by, reason) = (by.unwrap_or_default(), reason.unwrap_or_default());
    Some(Pause { since: at?.into(), by, reason })
}

/// That a queue is paused, if it is.
pub(super) fn pause_of(conn: &mut Conn, queue: &str) -> Result<Option<Pause>, StoreError> {
    let row = queues::table.find(queue).select(PAUSE);
    let row: Option<PauseRow> = on_each_backend!(conn, |inner| row.first(inner).optional()?);
    Ok(row.and_then(pause_in))
}

/// What operators have set for a queue, as far as claims ask for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoredQueue {
    pub(super) is_paused: bool,
    pub(super) set: QueueSettings,
}

/// What operators have set for queues, by name.
pub(super) fn stored(conn: &mut Conn) -> Result<BTreeMap<String, StoredQueue>, StoreError> {
    let rows = queues::table.select((queues::name, queues::paused_at, SETTINGS));
    let rows: Vec<(String, Option<Micros>, SettingsRow)> =
        on_each_backend!(conn, |inner| rows.load(inner)?);
    let read = |(name, paused_at, row): (String, Option<Micros>, _)| {
        let set = settings(&name, row)?;
        Ok((name, StoredQueue { is_paused: paused_at.is_some(), set }))
    };
    rows.into_iter().map(read).collect()
}

type SettingsColumns = (queues::workers, queues::rate, queues::timeout);
type SettingsRow = (Option<i32>, Option<String>, Option<i64>);
const SETTINGS: SettingsColumns = (queues::workers, queues::rate, queues::timeout);

fn settings(
    name: &str,
    (workers, rate, timeout): SettingsRow,
) -> Result<QueueSettings, StoreError> {
    let workers = workers.and_then(|workers| NonZeroU16::new(u16::try_from(workers).ok()?));
    let timeout = timeout.and_then(|micros| u64::try_from(micros).ok());
    Ok(QueueSettings {
        workers,
        rate: rate.map(|rate| read_rate(&format!("queue {name}"), &rate)).transpose()?,
        timeout: timeout.map(|micros| HumanDuration(Duration::from_micros(micros))),
    })
}

/// A name; since when it is paused, by whom and why; what is set for it, since when and by whom.
type Row = (String, PauseRow, SettingsRow, (Option<Micros>, Option<String>));

/// Every queue that holds jobs, is paused or has settings of its own.
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
    let rows = queues::table.order(queues::name).select((
        queues::name,
        PAUSE,
        SETTINGS,
        (queues::set_at, queues::set_by),
    ));
    let rows: Vec<Row> = on_each_backend!(conn, |inner| rows.load(inner)?);
    let mut names: Vec<&String> = ready.iter().map(|(name, _)| name).collect();
    names.extend(running.iter().map(|(name, _)| name));
    names.extend(rows.iter().map(|row| &row.0));
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
        let own = rows.iter().find(|row| row.0 == *name);
        let pause = own.and_then(|(_, row, ..)| pause_in(row.clone()));
        let set_by = own.and_then(|(.., (at, by))| Some(((*at)?.into(), by.clone()?)));
        let set = own.map(|(_, _, row, _)| settings(name, row.clone())).transpose()?;
        states.push(QueueState {
            name: name.clone(),
            ready: count(&ready, name),
            running: count(&running, name),
            oldest_run_at: first.map(|micros| Micros(micros).into()),
            paused: pause,
            set: set.unwrap_or_default(),
            set_by,
        });
    }
    Ok(states)
}

/// What all jobs of a queue wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Until when, where that is known.
    pub until: Option<Timestamp>,
    /// The breaker that has tripped, where it is one.
    pub breaker: Option<String>,
    /// The limit that is reached, where it is one.
    pub limit: Option<String>,
}

/// Queues whose jobs wait for a rate, a breaker or a limit that counts on all nodes, all of them, and until when.
///
/// # Errors
/// When the database refuses, or holds a rate or a breaker that cannot be read.
pub fn held(
    conn: &mut Conn,
    declared: &Limits,
    now: Timestamp,
) -> Result<BTreeMap<String, Held>, StoreError> {
    let queues = stored(conn)?;
    let limits = limits::in_force(conn, declared, &queues)?;
    let parts: Vec<Subqueue> =
        subqueues_with_work(conn)?.into_iter().map(|(_, part)| part).collect();
    let (rates, breakers) = (limits.rates(parts.iter()), limits.breakers(parts.iter()));
    let time = buckets::time(conn, now)?;
    let mut room = Room::new(&limits, (usize::MAX, usize::MAX));
    if limits.need_what_runs(parts.iter()) {
        room = room.beside(&limits::running(conn)?, None);
    }
    let room = room
        .with_passages(breakers::passages(conn, &breakers, time)?)
        .with_buckets(buckets::load(conn, rates, time)?);
    let mut by_queue: BTreeMap<&str, Vec<&Subqueue>> = BTreeMap::new();
    for part in &parts {
        by_queue.entry(&part.queue).or_default().push(part);
    }
    let held = by_queue.into_iter().filter_map(|(queue, parts)| {
        if parts.iter().any(|part| room.of(part) > 0) {
            return None;
        }
        let breaker = parts.iter().find_map(|part| room.broken_by(part));
        let limit = parts.iter().flat_map(|part| room.full(part)).find_map(|full| match full {
            Full::Limit { name, .. } => Some(name),
            Full::Workers { .. } | Full::Rate { .. } => None,
        });
        let opens_at = room.opens_at(parts.into_iter());
        let until = opens_at.map(|at| now + at.duration_since(time));
        Some((queue.to_owned(), Held { until, breaker, limit }))
    });
    Ok(held.collect())
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
    let paused = queues::table.filter(queues::name.eq(name).and(queues::paused_at.is_not_null()));
    let none = (
        queues::paused_at.eq(None::<i64>),
        queues::paused_by.eq(None::<&str>),
        queues::pause_reason.eq(None::<&str>),
    );
    let resumed =
        on_each_backend!(conn, |inner| diesel::update(paused).set(none).execute(inner)?);
    forget_empty(conn, name)?;
    Ok(resumed > 0)
}

/// Changes what is set for a queue. It counts from the next claim on; what runs already goes on. Returns whether that was anything new.
///
/// # Errors
/// When the database refuses, or holds a rate that cannot be read and is not replaced.
pub fn set(
    conn: &mut Conn,
    name: &str,
    change: QueueChange,
    by: &Actor,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let before = queues::table.find(name).select(SETTINGS);
    let before: Option<SettingsRow> =
        on_each_backend!(conn, |inner| before.get_result(inner).optional()?);
    let (workers, rate, timeout) = before.unwrap_or_default();
    // One that cannot be read can be replaced all the same.
    let is_unreadable = |text: &String| text.parse::<Rate>().is_err();
    let is_repair = change.rate.is_some() && rate.as_ref().is_some_and(is_unreadable);
    let before = settings(name, (workers, rate.filter(|_| !is_repair), timeout))?;
    if change.of(before) == before && !is_repair {
        return Ok(false);
    }
    let rate = change.rate.map(|rate| rate.map(|rate| rate.to_string()));
    let timeout = |timeout: HumanDuration| i64::try_from(timeout.get().as_micros()).ok();
    // Only what is given is written: another node may be changing the rest.
    let given = (
        change
            .workers
            .map(|workers| queues::workers.eq(workers.map(|count| i32::from(count.get())))),
        rate.as_ref().map(|rate| queues::rate.eq(rate.as_deref())),
        change.timeout.map(|given| queues::timeout.eq(given.and_then(timeout))),
        queues::set_at.eq(now.as_microsecond()),
        queues::set_by.eq(by.as_str()),
    );
    on_each_backend!(conn, |inner| {
        diesel::insert_into(queues::table)
            .values(queues::name.eq(name))
            .on_conflict_do_nothing()
            .execute(inner)?;
        diesel::update(queues::table.find(name)).set(given).execute(inner)?;
    });
    forget_empty(conn, name)?;
    Ok(true)
}

/// Deletes the row of a queue that is not paused and for which nothing is set.
fn forget_empty(conn: &mut Conn, name: &str) -> Result<(), StoreError> {
    let is_empty = queues::paused_at
        .is_null()
        .and(queues::workers.is_null())
        .and(queues::rate.is_null())
        .and(queues::timeout.is_null());
    let empty = queues::table.filter(queues::name.eq(name).and(is_empty));
    on_each_backend!(conn, |inner| diesel::delete(empty).execute(inner)?);
    Ok(())
}
