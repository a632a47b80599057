//! What the audit log is made from, and what the database remembers of it.

mod anchors;

use diesel::prelude::*;

pub(super) use self::anchors::rename_log;
pub use self::anchors::{add_anchor, anchors, last_anchor, thin_anchors};
use super::history::OccurrenceRecord;
use super::schema::{attempts, audit_events, job_results, jobs, nodes, occurrences};
use super::{Conn, Micros, StoreError, sequences};
use crate::audit::{AttemptRow, EventRow, OccurrenceRow, Rows, SubmissionRow, Upto};
use crate::model::{AuditEvent, NodeId};

/// Which rows belong to a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditSource {
    /// All of the database's: one daemon writes it.
    Everything,
    /// Those written by nodes of this name: each node of several keeps its own log.
    Node(String),
}

impl AuditSource {
    /// The log's name among the anchors.
    #[must_use]
    pub fn log(&self) -> &str {
        match self {
            Self::Everything => "",
            Self::Node(name) => name,
        }
    }
}

/// Notes an event, in the transaction of the change that it tells of.
///
/// # Errors
/// When the database refuses.
pub fn append_event(conn: &mut Conn, node: NodeId, event: &AuditEvent) -> Result<(), StoreError> {
    let row = (
        audit_events::at.eq(event.at.as_microsecond()),
        audit_events::event.eq(&event.event),
        audit_events::actor.eq(event.actor.as_str()),
        audit_events::subject.eq(&event.subject),
        audit_events::detail.eq(&event.detail),
        audit_events::node_id.eq(node.0),
    );
    diesel::insert_into(audit_events::table).values(row).execute(conn)?;
    Ok(())
}

/// Reads the rows of a log after `after`, at most `limit` of each table.
///
/// # Errors
/// When the database refuses.
pub fn rows_after(
    conn: &mut Conn,
    source: &AuditSource,
    after: Upto,
    limit: i64,
) -> Result<Rows, StoreError> {
    let nodes = match source {
        AuditSource::Everything => None,
        AuditSource::Node(name) => {
            Some(nodes::table.filter(nodes::name.eq(name)).select(nodes::id).load(conn)?)
        }
    };
    let nodes = nodes.as_deref();
    let occurrences = occurrences_after(conn, nodes, after.occurrences, limit)?;
    let attempts = attempts_after(conn, nodes, after.attempts, limit)?;
    let events = events_after(conn, nodes, after.events, limit)?;
    let (submissions, last_job, more_jobs) = submissions_after(conn, nodes, after.jobs, limit)?;
    let is_full = |count: usize| i64::try_from(count).is_ok_and(|count| count >= limit);
    Ok(Rows {
        seen: Upto {
            occurrences: occurrences.last().map_or(after.occurrences, |row| row.id),
            jobs: last_job,
            attempts: attempts.last().map_or(after.attempts, |row| row.id),
            events: events.last().map_or(after.events, |row| row.id),
        },
        more: [
            is_full(occurrences.len()),
            more_jobs,
            is_full(attempts.len()),
            is_full(events.len()),
        ],
        occurrences,
        submissions,
        attempts,
        events,
    })
}

fn occurrences_after(
    conn: &mut Conn,
    nodes: Option<&[i64]>,
    after: i64,
    limit: i64,
) -> Result<Vec<OccurrenceRow>, StoreError> {
    let mut query = occurrences::table
        .filter(occurrences::id.gt(after))
        .order(occurrences::id)
        .limit(limit)
        .select(OccurrenceRecord::as_select())
        .into_boxed();
    if let Some(nodes) = nodes {
        query = query.filter(occurrences::node_id.eq_any(nodes));
    }
    let rows: Vec<OccurrenceRecord> = query.load(conn)?;
    let row = |row: OccurrenceRecord| OccurrenceRow {
        id: row.id,
        schedule: row.schedule,
        nominal_at: row.nominal_at.into(),
        decision: row.decision,
        reason: row.reason,
        job: row.job_id,
        decided_at: row.decided_at.into(),
        revision: row.revision,
        instants: row.instants,
        actor: row.actor,
    };
    Ok(rows.into_iter().map(row).collect())
}

/// A job as far as its submission's line needs it.
#[derive(Queryable)]
struct JobRow {
    id: i64,
    submission: i64,
    kind: String,
    schedule: Option<String>,
    queue: String,
    priority: i16,
    created_at: Micros,
    actor: String,
}

impl JobRow {
    /// The first job of the call that submitted it; its own row has 0 there.
    fn call(&self) -> i64 {
        if self.submission == 0 { self.id } else { self.submission }
    }
}

/// Calls that submitted jobs, the last job that was looked at, and whether there are more. Jobs that a schedule made are told
/// of by their occurrence.
fn submissions_after(
    conn: &mut Conn,
    nodes: Option<&[i64]>,
    after: i64,
    limit: i64,
) -> Result<(Vec<SubmissionRow>, i64, bool), StoreError> {
    let mut query = jobs::table
        .filter(jobs::id.gt(after))
        .order(jobs::id)
        .limit(limit)
        .select((
            jobs::id,
            jobs::submission,
            jobs::kind,
            jobs::schedule,
            jobs::queue,
            jobs::priority,
            jobs::created_at,
            jobs::actor,
        ))
        .into_boxed();
    if let Some(nodes) = nodes {
        query = query.filter(jobs::node_id.eq_any(nodes));
    }
    let mut rows: Vec<JobRow> = query.load(conn)?;
    let is_full = i64::try_from(rows.len()).is_ok_and(|count| count >= limit);
    if is_full && let (Some(first), Some(last)) = (rows.first(), rows.last()) {
        let cut = last.call();
        if first.call() == cut {
            // One call fills the page. Calls have at most 10,000 jobs, so a wider page ends this.
            return submissions_after(conn, nodes, after, limit * 2);
        }
        // The last call may go on beyond the page; it gets its one line when it is read from its beginning.
        rows.retain(|row| row.call() != cut);
    }
    let last = rows.last().map_or(after, |row| row.id);
    let mut calls: Vec<(i64, SubmissionRow)> = Vec::new();
    for row in rows.into_iter().filter(|row| row.schedule.is_none()) {
        let call = row.call();
        match calls.last_mut().filter(|(open, _)| *open == call) {
            Some((_, open)) => {
                open.last = row.id;
                open.count += 1;
            }
            None => calls.push((
                call,
                SubmissionRow {
                    first: row.id,
                    last: row.id,
                    count: 1,
                    kind: row.kind,
                    queue: row.queue,
                    priority: row.priority,
                    created_at: row.created_at.into(),
                    actor: row.actor,
                },
            )),
        }
    }
    Ok((calls.into_iter().map(|(_, row)| row).collect(), last, is_full))
}

fn attempts_after(
    conn: &mut Conn,
    nodes: Option<&[i64]>,
    after: i64,
    limit: i64,
) -> Result<Vec<AttemptRow>, StoreError> {
    #[derive(Queryable)]
    struct Row {
        id: i64,
        job_id: i64,
        number: i32,
        outcome: String,
        node_id: i64,
        started_at: Micros,
        finished_at: Micros,
        exit_code: Option<i32>,
        error: Option<String>,
        job: Option<(String, Option<String>, String)>,
        result: Option<(String, i32)>,
    }
    let mut query = attempts::table
        .left_join(jobs::table.on(jobs::id.eq(attempts::job_id)))
        .left_join(job_results::table.on(job_results::job_id.eq(attempts::job_id)))
        .filter(attempts::id.gt(after))
        .order(attempts::id)
        .limit(limit)
        .select((
            attempts::id,
            attempts::job_id,
            attempts::number,
            attempts::outcome,
            attempts::node_id,
            attempts::started_at,
            attempts::finished_at,
            attempts::exit_code,
            attempts::error,
            (jobs::kind, jobs::schedule, jobs::actor).nullable(),
            (job_results::state, job_results::attempts).nullable(),
        ))
        .into_boxed();
    if let Some(nodes) = nodes {
        query = query.filter(attempts::node_id.eq_any(nodes));
    }
    let rows: Vec<Row> = query.load(conn)?;
    let row = |row: Row| {
        let (kind, schedule, actor) = row.job.unwrap_or_default();
        let last = row.result.filter(|(_, attempts)| *attempts == row.number);
        AttemptRow {
            id: row.id,
            job: row.job_id,
            number: row.number,
            outcome: row.outcome,
            node: row.node_id,
            started_at: row.started_at.into(),
            finished_at: row.finished_at.into(),
            exit_code: row.exit_code,
            error: row.error,
            kind,
            schedule,
            actor,
            ended_as: last.map(|(state, _)| state),
        }
    };
    Ok(rows.into_iter().map(row).collect())
}

fn events_after(
    conn: &mut Conn,
    nodes: Option<&[i64]>,
    after: i64,
    limit: i64,
) -> Result<Vec<EventRow>, StoreError> {
    type Row = (i64, Micros, String, String, String, String);
    let mut query = audit_events::table
        .filter(audit_events::id.gt(after))
        .order(audit_events::id)
        .limit(limit)
        .select((
            audit_events::id,
            audit_events::at,
            audit_events::event,
            audit_events::actor,
            audit_events::subject,
            audit_events::detail,
        ))
        .into_boxed();
    if let Some(nodes) = nodes {
        query = query.filter(audit_events::node_id.eq_any(nodes));
    }
    let rows: Vec<Row> = query.load(conn)?;
    let row = |(id, at, event, actor, subject, detail): Row| EventRow {
        id,
        at: at.into(),
        event,
        actor,
        subject,
        detail,
    };
    Ok(rows.into_iter().map(row).collect())
}

/// The greatest id that each table has ever given out. Less than a log has seen means that an older database was put in place.
///
/// # Errors
/// When the database refuses.
pub fn ids_given(conn: &mut Conn) -> Result<Upto, StoreError> {
    let given = sequences::given(conn)?;
    let last =
        |table: &str| given.iter().find(|given| given.table == table).map_or(0, |given| given.last);
    Ok(Upto {
        occurrences: last("occurrences"),
        jobs: last("jobs"),
        attempts: last("attempts"),
        events: last("audit_events"),
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::super::nodes::{NewNode, register};
    use super::*;
    use crate::model::{Actor, JsonText, NewJob};
    use crate::queue::Ageing;
    use crate::store::Purpose;
    use crate::store::jobs::{SubmitContext, submit};
    use crate::store::testing::{TestDatabase, databases};

    /// Every backend, each with a connection.
    fn each() -> impl Iterator<Item = (TestDatabase, Conn)> {
        databases().into_iter().map(|database| {
            let conn = database.store().url().connect(Purpose::Write).unwrap();
            (database, conn)
        })
    }

    fn submit_calls(conn: &mut Conn, calls: &[usize]) {
        let now = Timestamp::UNIX_EPOCH;
        let job = NewJob::new("http", JsonText::from(&json!({})), now, Actor::system());
        let context = SubmitContext { now, node: NodeId(1), ageing: Ageing::DEFAULT };
        for count in calls {
            submit(conn, &vec![job.clone(); *count], context).unwrap();
        }
    }

    #[test]
    fn a_call_is_one_submission_whatever_the_page() {
        for (_database, mut conn) in each() {
            let calls = [1, 5, 2, 1, 3];
            submit_calls(&mut conn, &calls);
            for limit in 1..15 {
                let mut after = Upto::default();
                let mut counts = Vec::new();
                loop {
                    let rows =
                        rows_after(&mut conn, &AuditSource::Everything, after, limit).unwrap();
                    counts.extend(rows.submissions.iter().map(|call| call.count));
                    after.jobs = rows.seen.jobs;
                    if !rows.has_more() {
                        break;
                    }
                }
                assert_eq!(counts, calls.map(|count| count as u64), "pages of {limit}");
            }
        }
    }

    fn named(name: &str) -> NewNode {
        NewNode {
            identity: crate::model::NodeIdentity { name: name.to_owned(), labels: Vec::new() },
            instance: name.to_owned(),
        }
    }

    #[test]
    fn a_log_of_one_node_has_that_nodes_rows_only() {
        for (_database, mut conn) in each() {
            let now = Timestamp::UNIX_EPOCH;
            let mine = register(&mut conn, &named("a"), now, now).unwrap();
            let theirs = register(&mut conn, &named("b"), now, now).unwrap();
            for node in [mine, theirs, mine] {
                let event =
                    AuditEvent::new("daemon.started", &Actor::system(), "daemon", &json!({}), now);
                append_event(&mut conn, node, &event).unwrap();
            }
            let source = AuditSource::Node("a".into());
            let rows = rows_after(&mut conn, &source, Upto::default(), 10).unwrap();
            assert_eq!(rows.events.iter().map(|event| event.id).collect::<Vec<_>>(), [1, 3]);
            assert_eq!(ids_given(&mut conn).unwrap().events, 3);
        }
    }
}
