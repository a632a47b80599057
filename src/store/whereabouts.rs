//! Where a job is, and keeping it there until the transaction ends.
//!
//! SQLite has one writer, so whatever a transaction has read stays true until it ends. On PostgreSQL another node may claim, finish or
//! promote the job in between. Whoever acts on where a job is (cancels it, brings it back, waits for it) holds it there first, with a
//! lock on the one row that says so: every move deletes that row, and waits.

use diesel::prelude::*;

use super::history::attempts_so_far;
use super::hot::JobWhereabouts;
use super::jobs::{Standing, standing};
use super::schema::batches::dsl as open_batches;
use super::schema::{job_results, jobs_blocked, jobs_ready, jobs_running, jobs_scheduled};
use super::{Conn, StoreError, batches, on_each_backend};
use crate::model::JobState;

/// How often a job is looked for that moves from room to room while it is looked for. Each move is an execution or a wait that ends,
/// so more than one during a look is a rarity.
const LOOKS: usize = 8;

/// Where a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whereabouts {
    /// It waits for a time. With its counts, as below.
    Scheduled {
        /// That time, in microseconds since 1970.
        run_at: i64,
        /// Executions so far.
        number: i32,
        /// Executions so far that count against the retry limit.
        charged: i32,
    },
    /// It could start.
    Ready { subqueue: String, rank: i64, number: i32, charged: i32 },
    /// A node has it.
    Running,
    /// It waits for other jobs.
    Blocked,
    /// It is a batch, and not all of its items are over.
    OpenBatch,
    /// It is over.
    Over {
        /// How it ended.
        state: JobState,
        /// Executions until then.
        attempts: i32,
    },
    /// There is no such job.
    Unknown,
}

/// The one row of a query, held until the transaction ends where others could take it meanwhile.
macro_rules! held {
    ($conn:expr, $query:expr) => {
        match $conn {
            Conn::Sqlite(conn) => $query.first(conn).optional()?,
            Conn::Postgres(conn) => $query.for_update().first(conn).optional()?,
        }
    };
}

/// Finds a job and keeps it where it is.
///
/// # Errors
/// [`StoreError::Busy`] when it moves on and on; or when the database refuses.
pub(super) fn hold(conn: &mut Conn, id: i64) -> Result<Whereabouts, StoreError> {
    for _ in 0..LOOKS {
        if let Some(found) = look(conn, id)? {
            return Ok(found);
        }
    }
    Err(StoreError::Busy)
}

/// One look into every room; `None` when the job has moved from one that was still to be looked into to one that had been.
fn look(conn: &mut Conn, id: i64) -> Result<Option<Whereabouts>, StoreError> {
    let Some(Standing { subqueue, rank }) = standing(conn, id)? else {
        return Ok(Some(Whereabouts::Unknown));
    };
    let running: Option<i64> =
        held!(conn, jobs_running::table.find(id).select(jobs_running::job_id));
    if running.is_some() {
        return Ok(Some(Whereabouts::Running));
    }
    let counts = (jobs_ready::number, jobs_ready::charged);
    let ready: Option<(i32, i32)> =
        held!(conn, jobs_ready::table.find((&subqueue, rank, id)).select(counts));
    if let Some((number, charged)) = ready {
        return Ok(Some(Whereabouts::Ready { subqueue, rank, number, charged }));
    }
    let columns = (jobs_scheduled::run_at, jobs_scheduled::number, jobs_scheduled::charged);
    let scheduled: Option<(i64, i32, i32)> =
        held!(conn, jobs_scheduled::table.filter(jobs_scheduled::job_id.eq(id)).select(columns));
    if let Some((run_at, number, charged)) = scheduled {
        return Ok(Some(Whereabouts::Scheduled { run_at, number, charged }));
    }
    if hold_blocked(conn, id)? {
        return Ok(Some(Whereabouts::Blocked));
    }
    let open = open_batches::batches.find(id).filter(open_batches::is_open.eq(batches::OPEN));
    let open: Option<i64> = held!(conn, open.select(open_batches::job_id));
    if open.is_some() {
        return Ok(Some(Whereabouts::OpenBatch));
    }
    let result = job_results::table.find(id).select((job_results::state, job_results::attempts));
    let over: Option<(String, i32)> = held!(conn, result);
    over.map(|(state, attempts)| Ok(Whereabouts::Over { state: parsed(&state)?, attempts }))
        .transpose()
}

/// Keeps a job that waits for others where it is. Returns false when it does not wait for others.
///
/// # Errors
/// When the database refuses.
pub(super) fn hold_blocked(conn: &mut Conn, id: i64) -> Result<bool, StoreError> {
    let row: Option<i64> = held!(conn, jobs_blocked::table.find(id).select(jobs_blocked::job_id));
    Ok(row.is_some())
}

/// The state of a job, which may be another one a moment later; none when there is no such job. It is one statement, where holding a job takes
/// one for each room.
pub(super) fn state_of(conn: &mut Conn, id: i64) -> Result<Option<JobState>, StoreError> {
    type Row = (Option<String>, Option<i64>, Option<i32>, Option<i64>, Option<i16>);
    let row = JobWhereabouts { id };
    let row: Option<Row> = on_each_backend!(conn, |inner| row.get_result(inner).optional()?);
    let Some((over, running, scheduled, blocked, is_open)) = row else { return Ok(None) };
    Ok(Some(match (over, running, scheduled, blocked) {
        (Some(state), ..) => parsed(&state)?,
        (None, Some(_), ..) => JobState::Running,
        (None, None, Some(number), _) if number > 0 => JobState::Retrying,
        (None, None, None, Some(_)) => JobState::Blocked,
        (None, None, None, None) if is_open == Some(batches::OPEN) => JobState::Running,
        _ => JobState::Pending,
    }))
}

fn parsed(state: &str) -> Result<JobState, StoreError> {
    state.parse().map_err(|detail| StoreError::Damaged { what: "job state", detail })
}

impl Whereabouts {
    /// What people call it; none where there is no such job.
    pub(super) fn state(&self) -> Option<JobState> {
        Some(match self {
            Self::Scheduled { number, .. } if *number > 0 => JobState::Retrying,
            Self::Scheduled { .. } | Self::Ready { .. } => JobState::Pending,
            Self::Running | Self::OpenBatch => JobState::Running,
            Self::Blocked => JobState::Blocked,
            Self::Over { state, .. } => *state,
            Self::Unknown => return None,
        })
    }

    /// Takes a job that is held out of the room that it waits in, and tells its counts: executions, and those that were charged. `None`
    /// when it does not wait.
    pub(super) fn leave(&self, conn: &mut Conn, id: i64) -> Result<Option<(i32, i32)>, StoreError> {
        match self {
            Self::Ready { subqueue, rank, number, charged } => {
                diesel::delete(jobs_ready::table.find((subqueue, rank, id))).execute(conn)?;
                Ok(Some((*number, *charged)))
            }
            Self::Scheduled { run_at, number, charged } => {
                diesel::delete(jobs_scheduled::table.find((run_at, id))).execute(conn)?;
                Ok(Some((*number, *charged)))
            }
            Self::Blocked => {
                diesel::delete(jobs_blocked::table.find(id)).execute(conn)?;
                Ok(Some((attempts_so_far(conn, id)?, 0)))
            }
            Self::Running | Self::OpenBatch | Self::Over { .. } | Self::Unknown => Ok(None),
        }
    }
}
