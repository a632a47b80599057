//! Jobs on their way into the queue, and between its waiting rooms.

mod keys;
mod submission;

use diesel::prelude::*;
use jiff::Timestamp;

use super::hot::{DeleteScheduled, InsertReady, InsertScheduled, execute_each};
use super::priorities::Change;
use super::schema::{job_priorities, jobs, jobs_scheduled};
use super::{Conn, Micros, StoreError, on_each_backend};
use crate::model::{JobSettings, Priority};

pub(super) use keys::take_key_again;
pub use submission::{Call, SubmitContext, Submitted, submit, submit_calls};
pub(super) use submission::{New, submit_one, write};

/// How many rows one statement names at most. SQLite stops at 32,766 variables; shorter statements are as fast.
pub(super) const CHUNK_ROWS: usize = 500;

/// What the part of its queue that a job waits in depends on, beside its priority.
type SubqueueColumns = (jobs::queue, jobs::kind, jobs::settings);
const SUBQUEUE_COLUMNS: SubqueueColumns = (jobs::queue, jobs::kind, jobs::settings);

/// Where a job stands when it is ready: in this part of its queue, with this rank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) subqueue: String,
    pub(super) rank: i64,
}

impl Standing {
    /// From the columns of a job's row, and from what somebody has made of its priority since.
    fn new(
        (queue, kind, settings): (String, String, Option<String>),
        asked: Change,
        changed: Option<Change>,
    ) -> Result<Self, StoreError> {
        let settings: JobSettings = match &settings {
            Some(text) => from_json("job's settings", text)?,
            None => JobSettings::default(),
        };
        let (priority, rank) = changed.unwrap_or(asked);
        let priority = Priority::new(priority.into()).unwrap_or_default();
        Ok(Self { subqueue: settings.subqueue(&queue, priority, &kind).to_string(), rank })
    }
}

/// Where a job stands; none when there is no such job.
pub(super) fn standing(conn: &mut Conn, id: i64) -> Result<Option<Standing>, StoreError> {
    let row = jobs::table
        .left_join(job_priorities::table.on(job_priorities::job_id.eq(jobs::id)))
        .filter(jobs::id.eq(id))
        .select((
            SUBQUEUE_COLUMNS,
            (jobs::priority, jobs::rank),
            (job_priorities::priority, job_priorities::rank).nullable(),
        ));
    let row: Option<(_, Change, Option<Change>)> =
        on_each_backend!(conn, |inner| row.first(inner).optional()?);
    row.map(|(columns, asked, changed)| Standing::new(columns, asked, changed)).transpose()
}

/// A live job's place in its queue, which it keeps for life.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) id: i64,
    pub(super) subqueue: String,
    pub(super) rank: i64,
    /// Executions so far.
    pub(super) number: i32,
    /// Executions so far that count against the retry limit.
    pub(super) charged: i32,
}

/// Puts a job where it waits: among the ready ones, or among the scheduled ones while `run_at` lies ahead.
pub(super) fn enter(
    conn: &mut Conn,
    place: &Place,
    run_at: Timestamp,
    now: Timestamp,
) -> Result<(), StoreError> {
    enter_all(conn, &[(place.clone(), ahead(run_at, now))])
}

/// An instant, if it lies ahead.
fn ahead(at: Timestamp, now: Timestamp) -> Option<Timestamp> {
    (at > now).then_some(at)
}

/// Puts jobs where they wait: among the scheduled ones until that instant where there is one, and else among the ready ones.
///
/// A future job in front of the ready ones would make every claim step over it, so it waits elsewhere until it is due.
pub(super) fn enter_all(
    conn: &mut Conn,
    places: &[(Place, Option<Timestamp>)],
) -> Result<(), StoreError> {
    let scheduled = places.iter().filter_map(|(place, until)| {
        Some(InsertScheduled {
            run_at: (*until)?.as_microsecond(),
            job_id: place.id,
            number: place.number,
            charged: place.charged,
        })
    });
    execute_each(conn, scheduled)?;
    let ready = places.iter().filter(|(_, until)| until.is_none()).map(|(place, _)| InsertReady {
        subqueue: &place.subqueue,
        rank: place.rank,
        job_id: place.id,
        number: place.number,
        charged: place.charged,
    });
    execute_each(conn, ready)?;
    Ok(())
}

/// The place of a job that is in no waiting room right now, with the given counts.
pub(super) fn place_of(
    conn: &mut Conn,
    id: i64,
    number: i32,
    charged: i32,
) -> Result<Place, StoreError> {
    let Standing { subqueue, rank } = standing(conn, id)?.ok_or_else(|| StoreError::Damaged {
        what: "live job",
        detail: format!("job {id} has no row"),
    })?;
    Ok(Place { id, subqueue, rank, number, charged })
}

/// Moves jobs that have become due among the ready ones. Returns how many it moved: fewer than `limit` when none is left.
///
/// # Errors
/// When the database refuses.
pub fn promote(conn: &mut Conn, now: Timestamp, limit: i64) -> Result<usize, StoreError> {
    let due = jobs_scheduled::table
        .inner_join(jobs::table.on(jobs::id.eq(jobs_scheduled::job_id)))
        .left_join(job_priorities::table.on(job_priorities::job_id.eq(jobs_scheduled::job_id)))
        .filter(jobs_scheduled::run_at.le(now.as_microsecond()))
        .order((jobs_scheduled::run_at, jobs_scheduled::job_id))
        .limit(limit)
        .select((
            jobs_scheduled::run_at,
            jobs::id,
            SUBQUEUE_COLUMNS,
            (jobs::priority, jobs::rank),
            (job_priorities::priority, job_priorities::rank).nullable(),
            (jobs_scheduled::number, jobs_scheduled::charged),
        ));
    type Row = (i64, i64, (String, String, Option<String>), Change, Option<Change>, (i32, i32));
    let due: Vec<Row> = match conn {
        Conn::Sqlite(conn) => due.load(conn)?,
        // Other nodes promote at the same time: each steps over what another one is just moving.
        Conn::Postgres(conn) => {
            let free: Vec<i64> = jobs_scheduled::table
                .filter(jobs_scheduled::run_at.le(now.as_microsecond()))
                .order((jobs_scheduled::run_at, jobs_scheduled::job_id))
                .limit(limit)
                .select(jobs_scheduled::job_id)
                .for_update()
                .skip_locked()
                .load(conn)?;
            match free.is_empty() {
                true => Vec::new(),
                false => due.filter(jobs_scheduled::job_id.eq_any(free)).load(conn)?,
            }
        }
    };
    let rows = due.iter().map(|(run_at, id, ..)| DeleteScheduled { run_at: *run_at, job_id: *id });
    execute_each(conn, rows)?;
    let place = |(_, id, columns, asked, changed, (number, charged)): Row| {
        let Standing { subqueue, rank } = Standing::new(columns, asked, changed)?;
        Ok((Place { id, subqueue, rank, number, charged }, None))
    };
    let places: Vec<_> = due.into_iter().map(place).collect::<Result<_, StoreError>>()?;
    let count = places.len();
    enter_all(conn, &places)?;
    Ok(count)
}

/// When the next scheduled job becomes due.
///
/// # Errors
/// When the database refuses.
pub fn next_scheduled(conn: &mut Conn) -> Result<Option<Timestamp>, StoreError> {
    let first = jobs_scheduled::table.select(diesel::dsl::min(jobs_scheduled::run_at));
    let first: Option<i64> = on_each_backend!(conn, |inner| first.get_result(inner)?);
    Ok(first.map(|at| Micros(at).into()))
}

pub(super) fn to_json(
    what: &'static str,
    value: &impl serde::Serialize,
) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|error| StoreError::Damaged { what, detail: error.to_string() })
}

pub(super) fn from_json<T: serde::de::DeserializeOwned>(
    what: &'static str,
    text: &str,
) -> Result<T, StoreError> {
    serde_json::from_str(text)
        .map_err(|error| StoreError::Damaged { what, detail: error.to_string() })
}
