//! Schedules' ledgers: what was decided about each due instant, in the same transaction as the job it made.

mod following;
mod record;
mod waiting;

use std::collections::{HashMap, HashSet};

use diesel::prelude::*;
use jiff::Timestamp;

use super::hot::{LiveJobs, Redefine};
use super::nodes::count_ledger_change;
use super::schema::{occurrences, schedule_live, schedules};
use super::{Conn, Micros, StoreError, on_each_backend};
use crate::model::{JobId, OnEnd, ScheduleId};
pub use crate::model::{Ledger, Pause};

pub use following::{ends_to_follow, forget_old_ends};
pub use record::{Basis, Instant, Plan, Recorded, record};
pub use waiting::{Wait, waits};

#[derive(Queryable)]
struct Row {
    id: String,
    definition: String,
    decided_until: Micros,
    last_end_at: Option<Micros>,
    paused_at: Option<Micros>,
    paused_until: Option<Micros>,
    paused_by: Option<String>,
    pause_reason: Option<String>,
    last_success_at: Option<Micros>,
}

impl Row {
    fn ledger(self) -> Ledger {
        let pause = self.paused_at.map(|since| {
            Box::new(Pause {
                since: since.into(),
                until: self.paused_until.map(Timestamp::from),
                by: self.paused_by.unwrap_or_default(),
                reason: self.pause_reason.unwrap_or_default(),
            })
        });
        Ledger {
            decided_until: self.decided_until.into(),
            last_end: self.last_end_at.map(Timestamp::from),
            last_success: self.last_success_at.map(Timestamp::from),
            pause,
        }
    }
}

/// A schedule as its file defines it now, as far as its ledger depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// Its name.
    pub id: ScheduleId,
    /// Hash of its rule and of whether it is enabled.
    pub rule: String,
    /// The ends that make it due, and whose. A part of the rule.
    pub follows: Vec<(ScheduleId, OnEnd)>,
}

/// Brings the ledgers in line with what is loaded, and returns them.
///
/// Which schedules follow which is noted with the rule, so that jobs that end while nobody has a follower loaded are not lost on it.
///
/// A schedule that is new, or whose rule has changed, starts at `now`: an edit never fires instants from before it. One whose rule is as
/// it was goes on where it stopped, so that what fell into a downtime is still decided. Ledgers of schedules that
/// are gone stay, as their history does; when one comes back with another rule, it starts afresh.
///
/// # Errors
/// When the database refuses.
pub fn adopt(
    conn: &mut Conn,
    definitions: &[Definition],
    now: Timestamp,
) -> Result<HashMap<ScheduleId, Ledger>, StoreError> {
    let rows: Vec<Row> = schedules::table.load(conn)?;
    let mut known: HashMap<String, Row> =
        rows.into_iter().map(|row| (row.id.clone(), row)).collect();
    let mut ledgers = HashMap::with_capacity(definitions.len());
    for definition in definitions {
        let id = definition.id.as_str();
        let ledger = match known.remove(id) {
            Some(row) if row.definition == definition.rule => row.ledger(),
            Some(row) => {
                let row = Row { decided_until: row.decided_until.max(now.into()), ..row };
                let change = Redefine {
                    schedule: id,
                    rule: &definition.rule,
                    decided_until: row.decided_until.0,
                };
                on_each_backend!(conn, |inner| change.execute(inner)?);
                following::follow(conn, definition)?;
                row.ledger()
            }
            None => {
                let row = (
                    schedules::id.eq(id),
                    schedules::definition.eq(&definition.rule),
                    schedules::decided_until.eq(now.as_microsecond()),
                );
                // Another node may be loading the same file.
                on_each_backend!(conn, |inner| diesel::insert_into(schedules::table)
                    .values(row)
                    .on_conflict_do_nothing()
                    .execute(inner)?);
                following::follow(conn, definition)?;
                Ledger { decided_until: now, last_end: None, last_success: None, pause: None }
            }
        };
        ledgers.insert(definition.id.clone(), ledger);
    }
    Ok(ledgers)
}

/// The ledger of one schedule.
///
/// # Errors
/// When the database refuses.
pub fn ledger(conn: &mut Conn, id: &ScheduleId) -> Result<Option<Ledger>, StoreError> {
    let row: Option<Row> = schedules::table.find(id.as_str()).first(conn).optional()?;
    Ok(row.map(Row::ledger))
}

/// The ledgers of all schedules that ever were.
///
/// # Errors
/// When the database refuses.
pub fn ledgers(conn: &mut Conn) -> Result<HashMap<String, Ledger>, StoreError> {
    let rows: Vec<Row> = schedules::table.load(conn)?;
    Ok(rows.into_iter().map(|row| (row.id.clone(), row.ledger())).collect())
}

/// A schedule's jobs that are not over, oldest first.
///
/// # Errors
/// When the database refuses.
pub fn live_jobs(conn: &mut Conn, schedule: &ScheduleId) -> Result<Vec<JobId>, StoreError> {
    let live = LiveJobs { schedule: schedule.as_str() };
    let ids: Vec<i64> = on_each_backend!(conn, |inner| live.load(inner)?);
    Ok(ids.into_iter().map(JobId).collect())
}

/// Holds a schedule back.
///
/// # Errors
/// When the schedule has no ledger, or the database refuses.
pub fn pause(conn: &mut Conn, id: &ScheduleId, pause: &Pause) -> Result<(), StoreError> {
    let changed = diesel::update(schedules::table.find(id.as_str()))
        .set((
            schedules::paused_at.eq(Some(pause.since.as_microsecond())),
            schedules::paused_until.eq(pause.until.map(Timestamp::as_microsecond)),
            schedules::paused_by.eq(Some(&pause.by)),
            schedules::pause_reason.eq(Some(&pause.reason)),
        ))
        .execute(conn)?;
    if changed == 0 {
        return Err(StoreError::NotFound(format!("there is no schedule `{id}`")));
    }
    count_ledger_change(conn)
}

/// Lets a schedule go on. Returns whether it was paused.
///
/// # Errors
/// When the database refuses.
pub fn resume(conn: &mut Conn, id: &ScheduleId) -> Result<bool, StoreError> {
    let paused = schedules::table.find(id.as_str()).filter(schedules::paused_at.is_not_null());
    let none: Option<i64> = None;
    let no_text: Option<String> = None;
    let changed = diesel::update(paused)
        .set((
            schedules::paused_at.eq(none),
            schedules::paused_until.eq(none),
            schedules::paused_by.eq(&no_text),
            schedules::pause_reason.eq(&no_text),
        ))
        .execute(conn)?;
    count_ledger_change(conn)?;
    Ok(changed > 0)
}

/// When jobs of these schedules last completed; those of which none ever did are left out.
///
/// # Errors
/// When the database refuses.
pub fn last_successes(
    conn: &mut Conn,
    ids: &[ScheduleId],
) -> Result<HashMap<ScheduleId, Timestamp>, StoreError> {
    let mut last = HashMap::with_capacity(ids.len());
    for id in ids {
        let at: Option<Option<Micros>> = schedules::table
            .find(id.as_str())
            .select(schedules::last_success_at)
            .first(conn)
            .optional()?;
        last.extend(at.flatten().map(|at| (id.clone(), at.into())));
    }
    Ok(last)
}

/// The first microsecond from `at` on that has no row yet: two runs by hand in the same instant are two rows.
///
/// # Errors
/// When the database refuses.
pub fn free_instant(
    conn: &mut Conn,
    schedule: &ScheduleId,
    at: Timestamp,
) -> Result<Timestamp, StoreError> {
    let taken: Vec<i64> = occurrences::table
        .filter(occurrences::schedule.eq(schedule.as_str()))
        .filter(occurrences::nominal_at.ge(at.as_microsecond()))
        .order(occurrences::nominal_at)
        .limit(1000)
        .select(occurrences::nominal_at)
        .load(conn)?;
    let mut free = at.as_microsecond();
    for instant in taken {
        if instant != free {
            break;
        }
        free += 1;
    }
    Ok(Micros(free).into())
}

/// Sets the high-water marks of these schedules back to `now`, after the clock was corrected, and the ends of runs that lie after it.
/// Rows that exist for instants after it still keep those from being decided again.
///
/// # Errors
/// When the database refuses.
pub fn correct(conn: &mut Conn, ids: &[ScheduleId], now: Timestamp) -> Result<(), StoreError> {
    let now = now.as_microsecond();
    for id in ids {
        diesel::update(schedules::table.find(id.as_str()))
            .set(schedules::decided_until.eq(now))
            .execute(conn)?;
        // A period that counts from an end in the future would be as long as the clock was wrong, and a success would be as fresh.
        let ended_later = schedules::table.find(id.as_str()).filter(schedules::last_end_at.gt(now));
        diesel::update(ended_later).set(schedules::last_end_at.eq(now)).execute(conn)?;
        let later = schedules::table.find(id.as_str()).filter(schedules::last_success_at.gt(now));
        diesel::update(later).set(schedules::last_success_at.eq(now)).execute(conn)?;
    }
    Ok(())
}

/// The schedules that have jobs which are not over.
///
/// # Errors
/// When the database refuses.
pub fn all_live(conn: &mut Conn) -> Result<HashSet<String>, StoreError> {
    let ids: Vec<String> =
        schedule_live::table.select(schedule_live::schedule).distinct().load(conn)?;
    Ok(ids.into_iter().collect())
}
