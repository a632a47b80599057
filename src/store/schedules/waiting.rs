//! Instants that wait for their requirements.
//!
//! Such an instant has its row in the ledger from the beginning, with the decision `waiting`. A row here is the right to replace that: who
//! deletes it decides, so an instant that several nodes look at is decided once.

use diesel::prelude::*;
use jiff::Timestamp;
use serde_json::json;

use super::record::{Instant, Recorded};
use crate::model::{AuditEvent, Decision, ScheduleId};
use crate::store::audit::append_event;
use crate::store::jobs::SubmitContext;
use crate::store::schema::{occurrences, waiting_instants};
use crate::store::{Conn, Micros, StoreError};

/// An instant that waits for its requirements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// Whose instant it is.
    pub schedule: ScheduleId,
    /// The instant.
    pub nominal_at: Timestamp,
    /// How long it waits.
    pub until: Timestamp,
}

/// Every instant that waits, by schedule and time.
///
/// # Errors
/// When the database refuses, or a row cannot be read.
pub fn waits(conn: &mut Conn) -> Result<Vec<Wait>, StoreError> {
    let rows: Vec<(String, Micros, Micros)> = waiting_instants::table
        .order((waiting_instants::schedule, waiting_instants::nominal_at))
        .load(conn)?;
    let read = |(schedule, nominal_at, until): (String, Micros, Micros)| {
        let schedule = schedule.parse::<ScheduleId>().map_err(|error| StoreError::Damaged {
            what: "waiting instant",
            detail: error.to_string(),
        })?;
        Ok(Wait { schedule, nominal_at: nominal_at.into(), until: until.into() })
    };
    rows.into_iter().map(read).collect()
}

/// Lets an instant wait whose row was just written.
pub(super) fn begin(
    conn: &mut Conn,
    instant: &Instant,
    until: Timestamp,
) -> Result<(), StoreError> {
    let row = (
        waiting_instants::schedule.eq(instant.schedule.as_str()),
        waiting_instants::nominal_at.eq(instant.nominal_at.as_microsecond()),
        waiting_instants::wait_until.eq(until.as_microsecond()),
    );
    diesel::insert_into(waiting_instants::table).values(row).execute(conn)?;
    Ok(())
}

/// Ends the wait of an instant. Returns whether it was still waiting: if not, somebody else has decided.
pub(super) fn end(conn: &mut Conn, instant: &Instant) -> Result<bool, StoreError> {
    let (schedule, at) = (instant.schedule.as_str(), instant.nominal_at.as_microsecond());
    Ok(diesel::delete(waiting_instants::table.find((schedule, at))).execute(conn)? > 0)
}

/// Replaces `waiting` in the ledger by what has become of the instant. Returns the row.
pub(super) fn replace(
    conn: &mut Conn,
    instant: &Instant,
    recorded: &Recorded,
    context: SubmitContext,
) -> Result<Option<i64>, StoreError> {
    let row: Option<i64> = occurrences::table
        .filter(occurrences::schedule.eq(instant.schedule.as_str()))
        .filter(occurrences::nominal_at.eq(instant.nominal_at.as_microsecond()))
        .filter(occurrences::decision.eq(Decision::Waiting.as_str()))
        .select(occurrences::id)
        .first(conn)
        .optional()?;
    let Some(row) = row else { return Ok(None) };
    diesel::update(occurrences::table.find(row))
        .set((
            occurrences::decision.eq(recorded.decision.as_str()),
            occurrences::reason.eq(&recorded.reason),
            occurrences::decided_at.eq(context.now.as_microsecond()),
            occurrences::revision.eq(&instant.revision),
        ))
        .execute(conn)?;
    Ok(Some(row))
}

/// Tells the audit log, which has told of the row when it began to wait and looks at it only once.
pub(super) fn tell(
    conn: &mut Conn,
    instant: &Instant,
    recorded: &Recorded,
    context: SubmitContext,
) -> Result<(), StoreError> {
    let detail = json!({
        "nominal_at": format!("{:.6}", instant.nominal_at),
        "job": recorded.job,
        "reason": recorded.reason,
        "revision": instant.revision,
        "waited": true,
    });
    let event = AuditEvent::new(
        &format!("schedule.{}", recorded.decision),
        &instant.actor,
        &format!("schedule:{}", instant.schedule),
        &detail,
        context.now,
    );
    append_event(conn, context.node, &event)
}
