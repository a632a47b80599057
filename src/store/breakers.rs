//! What breakers remember, for all nodes: a row for each that has seen a failure since its last success.
//!
//! An attempt brings with it which breakers it is held to, as they were in force when it was claimed. So the end of one that is held to none
//! costs nothing.

use std::collections::{BTreeMap, BTreeSet};

use diesel::prelude::*;
use jiff::Timestamp;
use serde_json::json;

use super::claim::Ready;
use super::finish::Finished;
use super::jobs::{from_json, to_json};
use super::schema::{breakers, jobs_running};
use super::{Conn, Micros, StoreError, audit, buckets, limits, on_each_backend};
use crate::model::{
    Actor, AttemptName, AuditEvent, Breaker, FinishedAttempt, JobId, NodeId, Outcome, Subqueue,
};
use crate::queue::{BreakerState, Limits, Passage, Trip, Turn, names};

/// The breakers that an attempt is held to, by name.
pub type HeldTo = BTreeMap<String, Breaker>;

/// A breaker that has turned because of an attempt that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turned {
    /// `queue:NAME`, `kind:NAME` or `key:KEY`.
    pub name: String,
    /// Which way.
    pub turn: Turn,
    /// Why it has tripped, in words for people; empty where it has not.
    pub why: String,
}

/// Takes in how attempts have ended: those of `ended` that were recorded and are held to breakers.
///
/// # Errors
/// When the database refuses.
pub fn note(
    conn: &mut Conn,
    node: NodeId,
    (ended, finished): (&[FinishedAttempt], &[Finished]),
    held_to: &BTreeMap<JobId, HeldTo>,
    now: Timestamp,
) -> Result<Vec<Turned>, StoreError> {
    if held_to.is_empty() {
        return Ok(Vec::new());
    }
    let recorded =
        ended.iter().zip(finished).filter(|(_, finished)| **finished != Finished::Fenced);
    let ends: Vec<(&FinishedAttempt, Option<&str>, &HeldTo)> = recorded
        .filter_map(|(attempt, _)| Some((attempt, failure(attempt)?, held_to.get(&attempt.job)?)))
        .collect();
    let names: BTreeSet<&String> = ends.iter().flat_map(|(.., held_to)| held_to.keys()).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let all_succeeded = ends.iter().all(|(_, failure, _)| failure.is_none());
    if all_succeeded && stored(conn, &names)?.is_empty() {
        return Ok(Vec::new());
    }
    // Another node may be noting an end under the same name.
    limits::lock(conn)?;
    let before = stored(conn, &names)?;
    let time = buckets::time(conn, now)?;
    let mut states = before.clone();
    let mut turned = Vec::new();
    for (attempt, failure, held_to) in ends {
        let attempt = AttemptName { job: attempt.job, number: attempt.number };
        for (name, breaker) in held_to {
            let state = states.entry(name.clone()).or_default();
            if let Some(turn) = state.note(*breaker, attempt, failure, time) {
                let why = failure.unwrap_or_default().to_owned();
                let turned_now = Turned { name: name.clone(), turn, why };
                tell(conn, node, &turned_now, attempt.job, now)?;
                turned.push(turned_now);
            }
        }
    }
    for (name, state) in &states {
        if before.get(name) != Some(state) {
            store(conn, name, state)?;
        }
    }
    Ok(turned)
}

/// Why an attempt failed, `Some(None)` where it succeeded; `None` where its end says nothing: somebody has cancelled it, a shutdown has ended
/// it, or it had nothing to do.
fn failure(attempt: &FinishedAttempt) -> Option<Option<&str>> {
    match attempt.outcome {
        Outcome::Success => Some(None),
        Outcome::Failure | Outcome::Error | Outcome::Timeout => {
            Some(Some(attempt.error.as_deref().unwrap_or(attempt.outcome.as_str())))
        }
        Outcome::Cancelled | Outcome::Interrupted | Outcome::Skipped => None,
    }
}

fn tell(
    conn: &mut Conn,
    node: NodeId,
    turned: &Turned,
    job: JobId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (event, detail) = match turned.turn {
        Turn::Tripped => ("breaker.tripped", json!({ "job": job.0, "why": turned.why })),
        Turn::Reset => ("breaker.reset", json!({ "job": job.0 })),
    };
    let event = AuditEvent::new(event, &Actor::system(), &turned.name, &detail, now);
    audit::append_event(conn, node, &event)
}

/// What breakers let start at `time`, by name.
pub(super) fn passages(
    conn: &mut Conn,
    in_force: &HeldTo,
    time: Timestamp,
) -> Result<BTreeMap<String, Passage>, StoreError> {
    let mut stored = stored(conn, &in_force.keys().collect())?;
    let mut passages = BTreeMap::new();
    for (name, breaker) in in_force {
        let state = stored.remove(name).unwrap_or_default().seen_at(time);
        let probe_runs = match state.trip.as_ref().and_then(|trip| trip.probe) {
            Some(probe) => runs(conn, probe)?,
            None => false,
        };
        passages.insert(name.clone(), state.passage(*breaker, time, probe_runs));
    }
    Ok(passages)
}

/// The same for a claim, which may let a probe through: of two nodes that look at the same time only one may.
pub(super) fn passages_to_claim(
    conn: &mut Conn,
    in_force: &HeldTo,
    time: Timestamp,
) -> Result<BTreeMap<String, Passage>, StoreError> {
    let passages = passages(conn, in_force, time)?;
    if passages.values().any(|passage| matches!(passage, Passage::After(_))) {
        forget_future(conn, in_force, time)?;
    }
    if !passages.values().any(|passage| *passage == Passage::Probe) {
        return Ok(passages);
    }
    limits::lock(conn)?;
    self::passages(conn, in_force, time)
}

/// Corrects what was stored by a clock that was set back since: it would be taken for now at each look, and the rest would not end.
fn forget_future(conn: &mut Conn, in_force: &HeldTo, time: Timestamp) -> Result<(), StoreError> {
    let time = time.as_microsecond();
    let ahead = breakers::table
        .filter(breakers::name.eq_any(in_force.keys()))
        .filter(breakers::tripped_at.gt(time));
    diesel::update(ahead).set(breakers::tripped_at.eq(time)).execute(conn)?;
    Ok(())
}

fn runs(conn: &mut Conn, attempt: AttemptName) -> Result<bool, StoreError> {
    let number = i32::try_from(attempt.number).unwrap_or(i32::MAX);
    let running = jobs_running::table
        .filter(jobs_running::job_id.eq(attempt.job.0).and(jobs_running::number.eq(number)));
    Ok(diesel::select(diesel::dsl::exists(running)).get_result(conn)?)
}

/// Notes which of the jobs that a claim has taken are probes: `passages` are as they are after it.
pub(super) fn store_probes(
    conn: &mut Conn,
    passages: &BTreeMap<String, Passage>,
    taken: &[Ready],
) -> Result<(), StoreError> {
    let waiting = passages.iter().filter(|(_, passage)| **passage == Passage::AfterProbe);
    for (name, _) in waiting {
        // Where a probe runs already, none of these is held to it.
        let probe = taken.iter().find(|row| {
            let Ok(part) = row.subqueue.parse::<Subqueue>();
            names(&part).any(|other| other == *name)
        });
        let Some(probe) = probe else { continue };
        let set = (
            breakers::probe_job.eq(Some(probe.job_id)),
            breakers::probe_number.eq(Some(probe.number + 1)),
        );
        on_each_backend!(conn, |inner| diesel::update(breakers::table.find(name))
            .set(set)
            .execute(inner)?);
    }
    Ok(())
}

/// The breakers that the job of a part of a queue is held to.
pub(super) fn held_to(limits: &Limits, subqueue: &str) -> HeldTo {
    if !limits.have_breakers() {
        return HeldTo::new();
    }
    let Ok(part) = subqueue.parse::<Subqueue>();
    limits.breakers(std::iter::once(&part))
}

/// The breakers that running jobs are held to by now, by job. For attempts that another daemon has claimed.
///
/// # Errors
/// When the database refuses, or holds what cannot be read.
pub fn of_running(
    conn: &mut Conn,
    declared: &Limits,
    jobs: &[JobId],
) -> Result<BTreeMap<JobId, HeldTo>, StoreError> {
    let limits = limits::in_force(conn, declared, &BTreeMap::new())?;
    let ids: Vec<i64> = jobs.iter().map(|job| job.0).collect();
    let running: Vec<(i64, String)> = jobs_running::table
        .filter(jobs_running::job_id.eq_any(ids))
        .select((jobs_running::job_id, jobs_running::subqueue))
        .load(conn)?;
    Ok(running.into_iter().map(|(id, part)| (JobId(id), held_to(&limits, &part))).collect())
}

type Row = (String, String, Option<Micros>, Option<String>, Option<i64>, Option<i32>);

fn stored(
    conn: &mut Conn,
    names: &BTreeSet<&String>,
) -> Result<BTreeMap<String, BreakerState>, StoreError> {
    let rows = breakers::table.filter(breakers::name.eq_any(names)).load::<Row>(conn)?;
    rows.into_iter().map(read).collect()
}

fn read(row: Row) -> Result<(String, BreakerState), StoreError> {
    let (name, failed_at, tripped_at, why, probe_job, probe_number) = row;
    let failed_at: Vec<i64> = from_json("breaker's failures", &failed_at)?;
    let probe = probe_job
        .zip(probe_number)
        .map(|(job, number)| AttemptName { job: JobId(job), number: number.unsigned_abs() });
    let trip = tripped_at.map(|at| Trip { at: at.into(), why: why.unwrap_or_default(), probe });
    let failed_at = failed_at.into_iter().map(|micros| Micros(micros).into()).collect();
    Ok((name, BreakerState { failed_at, trip }))
}

fn store(conn: &mut Conn, name: &str, state: &BreakerState) -> Result<(), StoreError> {
    if *state == BreakerState::default() {
        forget(conn, name)?;
        return Ok(());
    }
    let failed_at: Vec<i64> = state.failed_at.iter().map(|at| at.as_microsecond()).collect();
    let failed_at = to_json("breaker's failures", &json!(failed_at))?;
    let trip = state.trip.as_ref();
    let probe = trip.and_then(|trip| trip.probe);
    let set = (
        breakers::failed_at.eq(failed_at),
        breakers::tripped_at.eq(trip.map(|trip| trip.at.as_microsecond())),
        breakers::why.eq(trip.map(|trip| trip.why.as_str())),
        breakers::probe_job.eq(probe.map(|probe| probe.job.0)),
        breakers::probe_number
            .eq(probe.map(|probe| i32::try_from(probe.number).unwrap_or(i32::MAX))),
    );
    on_each_backend!(conn, |inner| diesel::insert_into(breakers::table)
        .values((breakers::name.eq(name), set.clone()))
        .on_conflict(breakers::name)
        .do_update()
        .set(set)
        .execute(inner)?);
    Ok(())
}

/// Lets everything start again under a name, by hand. Returns whether it had tripped; failures so far are forgotten in any case.
///
/// # Errors
/// When the database refuses.
pub fn reset(conn: &mut Conn, name: &str) -> Result<bool, StoreError> {
    limits::lock(conn)?;
    let tripped = breakers::table
        .filter(breakers::name.eq(name))
        .filter(breakers::tripped_at.is_not_null())
        .count();
    let tripped: i64 = on_each_backend!(conn, |inner| tripped.get_result(inner)?);
    forget(conn, name)?;
    Ok(tripped > 0)
}

/// Forgets what the breaker of that name has seen.
pub(super) fn forget(conn: &mut Conn, name: &str) -> Result<(), StoreError> {
    diesel::delete(breakers::table.find(name)).execute(conn)?;
    Ok(())
}

/// What every breaker remembers that has seen a failure, by name.
///
/// # Errors
/// When the database refuses, or holds what cannot be read.
pub fn list(conn: &mut Conn) -> Result<BTreeMap<String, BreakerState>, StoreError> {
    let rows = breakers::table.load::<Row>(conn)?;
    let mut states: BTreeMap<_, _> = rows.into_iter().map(read).collect::<Result<_, _>>()?;
    for state in states.values_mut() {
        without_lost_probe(conn, state)?;
    }
    Ok(states)
}

/// As people are shown it: a probe that is over and has found out nothing is none.
fn without_lost_probe(conn: &mut Conn, state: &mut BreakerState) -> Result<(), StoreError> {
    if let Some(trip) = &mut state.trip
        && let Some(probe) = trip.probe
        && !runs(conn, probe)?
    {
        trip.probe = None;
    }
    Ok(())
}

/// A breaker that has tripped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The breaker's name.
    pub name: String,
    /// What it is.
    pub breaker: Breaker,
    /// That it has tripped.
    pub trip: Trip,
}

/// The breakers that let no job of a part of a queue start.
pub(super) fn broken(
    conn: &mut Conn,
    limits: &Limits,
    subqueue: &str,
) -> Result<Vec<Broken>, StoreError> {
    let held_to = held_to(limits, subqueue);
    if held_to.is_empty() {
        return Ok(Vec::new());
    }
    let mut broken = Vec::new();
    for (name, mut state) in stored(conn, &held_to.keys().collect())? {
        without_lost_probe(conn, &mut state)?;
        let in_force = held_to.get(&name).copied();
        broken.extend(in_force.zip(state.trip).map(|(breaker, trip)| Broken {
            name,
            breaker,
            trip,
        }));
    }
    Ok(broken)
}
