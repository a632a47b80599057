//! The statements that run for every job and every due instant, each a type of its own.
//!
//! Diesel's builders are used everywhere else. For a statement that runs a hundred thousand times they cost as much as SQLite
//! does: they walk a tree of types several times for each execution, to find out whether the text may be cached and what is
//! bound. Here the type is the key of the cache, the text is a constant, and the walk is over the values alone. A thousand
//! submissions in one call went from 75 to 184 thousand a second with them (and with a plain `INSERT` instead of `RETURNING`).
//!
//! Most come in two forms that are made of one list of columns, for one row and for many (see `many`). The rest are written as their
//! text with the values where they are bound. The guarantees of the store run all of them, on both databases.

#[macro_use]
mod macros;
mod many;
mod together;

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Integer, Nullable, SmallInt, Text};
use diesel::sqlite::Sqlite;

use super::{Conn, StoreError};
use many::ForMany;
pub(super) use many::{execute_each, load_each};
pub(super) use together::execute_and_load;

/// What a worker has to know of a job that it has claimed.
pub(super) type JobColumns = (
    BigInt,
    Text,
    Text,
    Text,
    SmallInt,
    Nullable<Text>,
    Nullable<BigInt>,
    Nullable<Text>,
    Nullable<Text>,
    BigInt,
    BigInt,
);

insertions! {
    /// What was asked for. Its number comes from [`new_job_ids`].
    InsertJob<'a> "jobs" {
        id: i64 as BigInt,
        submission: i64 as BigInt,
        kind: &'a str as Text,
        schedule: Option<&'a str> as Nullable<Text>,
        nominal_at: Option<i64> as Nullable<BigInt>,
        queue: &'a str as Text,
        priority: i16 as SmallInt,
        rank: i64 as BigInt,
        params: &'a str as Text,
        labels: Option<String> as Nullable<Text>,
        settings: Option<String> as Nullable<Text>,
        unique_key: Option<&'a str> as Nullable<Text>,
        run_at: i64 as BigInt,
        created_at: i64 as BigInt,
        actor: &'a str as Text,
        node_id: i64 as BigInt,
    }

    /// A mark of a job.
    InsertLabel "job_labels" {
        label: String as Text,
        job_id: i64 as BigInt,
    }

    /// A schedule has a job that is not over.
    InsertLive<'a> "schedule_live" {
        schedule: &'a str as Text,
        job_id: i64 as BigInt,
    }

    /// A job that may start.
    InsertReady<'a> "jobs_ready" {
        subqueue: &'a str as Text,
        rank: i64 as BigInt,
        job_id: i64 as BigInt,
        number: i32 as Integer,
        charged: i32 as Integer,
    }

    /// A job that waits for its time.
    InsertScheduled "jobs_scheduled" {
        run_at: i64 as BigInt,
        job_id: i64 as BigInt,
        number: i32 as Integer,
        charged: i32 as Integer,
    }

    /// A job that waits for others.
    InsertBlocked "jobs_blocked" {
        job_id: i64 as BigInt,
    }

    /// A job that was claimed.
    InsertRunning<'a> "jobs_running" {
        job_id: i64 as BigInt,
        number: i32 as Integer,
        charged: i32 as Integer,
        node_id: i64 as BigInt,
        started_at: i64 as BigInt,
        subqueue: &'a str as Text,
    }

    /// An attempt that is over.
    InsertAttempt<'a> "attempts" {
        job_id: i64 as BigInt,
        number: i32 as Integer,
        outcome: &'a str as Text,
        node_id: i64 as BigInt,
        started_at: i64 as BigInt,
        finished_at: i64 as BigInt,
        exit_code: Option<i32> as Nullable<Integer>,
        error: Option<&'a str> as Nullable<Text>,
        output_tail: Option<&'a str> as Nullable<Text>,
    }

    /// A job that is over.
    InsertResult<'a> "job_results" {
        job_id: i64 as BigInt,
        state: &'a str as Text,
        finished_at: i64 as BigInt,
        attempts: i32 as Integer,
        charged: i32 as Integer,
        error: Option<&'a str> as Nullable<Text>,
        result: Option<String> as Nullable<Text>,
    }

    /// An item of a batch.
    InsertItem<'a> "batch_items" {
        batch_id: i64 as BigInt,
        position: i32 as Integer,
        name: &'a str as Text,
        job_id: i64 as BigInt,
    }

    /// An item of a batch that is done in one run.
    InsertWholeItem<'a> "whole_batch_items" {
        job_id: i64 as BigInt,
        position: i32 as Integer,
        name: &'a str as Text,
        params: Option<&'a str> as Nullable<Text>,
    }

    /// A job waits for another one.
    InsertDependency<'a> "job_dependencies" {
        job_id: i64 as BigInt,
        depends_on: i64 as BigInt,
        needs: &'a str as Text,
    }
}

deletions! {
    /// A job that is being claimed.
    DeleteReady<'a> "jobs_ready" {
        subqueue: &'a str as Text,
        rank: i64 as BigInt,
        job_id: i64 as BigInt,
    } ""

    /// A job whose time has come.
    DeleteScheduled "jobs_scheduled" {
        run_at: i64 as BigInt,
        job_id: i64 as BigInt,
    } ""

    /// A job whose attempt is over, if it is still this attempt's.
    DeleteRunning "jobs_running" {
        job_id: i64 as BigInt,
        number: i32 as Integer,
        node_id: i64 as BigInt,
    } " RETURNING job_id, number, charged, cancel_requested_at" -> (BigInt, Integer, Integer, Nullable<BigInt>)

    /// A schedule's job is over.
    DeleteLive<'a> "schedule_live" {
        schedule: &'a str as Text,
        job_id: i64 as BigInt,
    } ""

    /// A job does not wait for another one any more.
    DeleteDependency "job_dependencies" {
        job_id: i64 as BigInt,
        depends_on: i64 as BigInt,
    } ""
}

changes! {
    /// An item of a batch is over.
    EndItem<'a> "batch_items" {
        state: &'a str as Text;
        job_id: i64 as BigInt
    }
}

lookups! {
    /// The batch that a job is an item of, while it is not over.
    BatchOfItem {
        "SELECT depends_on, job_id FROM job_dependencies" depends_on: i64 as BigInt;
        " AND needs = 'item'" -> (BigInt, BigInt)
    }

    /// What a job that is over leaves behind: its schedule, its unique key, of a schedule's job its settings and how many schedules follow,
    /// and how many jobs wait for it.
    TiesOfJob {
        "SELECT id, schedule, unique_key, CASE WHEN schedule IS NULL THEN NULL ELSE settings END, \
         (SELECT COUNT(*) FROM schedule_followers f WHERE f.schedule = jobs.schedule), \
         (SELECT COUNT(*) FROM job_dependencies d WHERE d.depends_on = jobs.id) FROM jobs" id: i64 as BigInt;
        "" -> (BigInt, Nullable<Text>, Nullable<Text>, Nullable<Text>, BigInt, BigInt)
    }

    /// The last finished attempt of a job: its number, and why it did not succeed.
    LatestAttempt {
        "SELECT job_id, number, error FROM attempts" job_id: i64 as BigInt;
        " AND number = (SELECT MAX(number) FROM attempts a WHERE a.job_id = attempts.job_id)"
            -> (BigInt, Integer, Nullable<Text>)
    }

    /// A job that was claimed, for its worker.
    JobToRun {
        "SELECT id, kind, queue, params, priority, schedule, nominal_at, labels, settings, run_at, rank FROM jobs" id: i64 as BigInt;
        "" -> JobColumns
    }
}

statements! {
    /// Which jobs of a schedule are not over.
    LiveJobs<'a> {
        "SELECT job_id FROM schedule_live WHERE schedule = " schedule: &'a str as Text;
        " ORDER BY job_id" -> BigInt
    }

    /// What was decided about an instant, unless that was done before.
    InsertOccurrence<'a> {
        "INSERT INTO occurrences (schedule, nominal_at, decision, reason, decided_at, revision, instants, actor, \
         node_id) VALUES (" schedule: &'a str as Text,
        ", " nominal_at: i64 as BigInt,
        ", " decision: &'a str as Text,
        ", " reason: &'a str as Text,
        ", " decided_at: i64 as BigInt,
        ", " revision: &'a str as Text,
        ", " instants: i64 as BigInt,
        ", " actor: &'a str as Text,
        ", " node_id: i64 as BigInt;
        ") ON CONFLICT DO NOTHING"
    }

    /// All that says where a job is: how it ended, whether it runs, its attempts so far where it waits for its time, whether it is
    /// blocked, whether it is a batch that is not over.
    JobWhereabouts {
        "SELECT r.state, x.job_id, s.number, b.job_id, t.is_open FROM jobs j \
         LEFT JOIN job_results r ON r.job_id = j.id LEFT JOIN jobs_running x ON x.job_id = j.id \
         LEFT JOIN jobs_scheduled s ON s.job_id = j.id LEFT JOIN jobs_blocked b ON b.job_id = j.id \
         LEFT JOIN batches t ON t.job_id = j.id WHERE j.id = " id: i64 as BigInt;
        "" -> (Nullable<Text>, Nullable<BigInt>, Nullable<Integer>, Nullable<BigInt>, Nullable<SmallInt>)
    }

    /// Who waits for a job, and for what of it.
    Dependants {
        "SELECT job_id, needs FROM job_dependencies WHERE depends_on = " depends_on: i64 as BigInt;
        " ORDER BY job_id" -> (BigInt, Text)
    }

    /// What a run says of one of its items.
    UpdateWholeItem<'a> {
        "UPDATE whole_batch_items SET state = " state: &'a str as Text,
        ", attempt = " attempt: i32 as Integer,
        ", error = " error: Option<&'a str> as Nullable<Text>,
        ", result = " result: Option<&'a str> as Nullable<Text>,
        " WHERE job_id = " job_id: i64 as BigInt,
        " AND position = " position: i32 as Integer;
        ""
    }

    /// Counts items that are over, and tells how far the batch is and who has cancelled it.
    CountItems {
        "UPDATE batches SET completed = completed + " completed: i32 as Integer,
        ", failed = failed + " failed: i32 as Integer,
        ", cancelled = cancelled + " cancelled: i32 as Integer,
        " WHERE job_id = " job_id: i64 as BigInt;
        " RETURNING total, completed, failed, cancelled, cancelled_by"
            -> (Integer, Integer, Integer, Integer, Nullable<Text>)
    }

    /// Moves a schedule's high-water mark forward to `to`, never back: `below` is `to` again.
    AdvanceMark<'a> {
        "UPDATE schedules SET decided_until = " to: i64 as BigInt,
        " WHERE id = " schedule: &'a str as Text,
        " AND decided_until < " below: i64 as BigInt;
        ""
    }

    /// Gives a schedule another rule, and with it another mark.
    Redefine<'a> {
        "UPDATE schedules SET definition = " rule: &'a str as Text,
        ", decided_until = " decided_until: i64 as BigInt,
        " WHERE id = " schedule: &'a str as Text;
        ""
    }

    /// Notes when a schedule's last job ended, and when one completed.
    NoteEnd<'a> {
        "UPDATE schedules SET last_end_at = " at: i64 as BigInt,
        ", last_success_at = COALESCE(" succeeded_at: Option<i64> as Nullable<BigInt>,
        ", last_success_at) WHERE id = " schedule: &'a str as Text;
        ""
    }

    /// Notes the end of a job for the schedules that follow such ends. `on_end` is what this end is beside `finished`.
    NoteForFollowers<'a> {
        "INSERT INTO ends_to_follow (follower, ended_at, schedule, job_id, state) SELECT DISTINCT follower, " ended_at: i64 as BigInt,
        ", schedule, " job_id: i64 as BigInt,
        ", " state: &'a str as Text,
        " FROM schedule_followers WHERE schedule = " schedule: &'a str as Text,
        " AND on_end IN ('finished', " on_end: &'a str as Text;
        ") ON CONFLICT DO NOTHING"
    }

    /// Notes in an occurrence which job it made.
    LinkJob {
        "UPDATE occurrences SET job_id = " job: Option<i64> as Nullable<BigInt>,
        " WHERE id = " occurrence: i64 as BigInt;
        ""
    }

    /// The parts of queues that have ready jobs. PostgreSQL only.
    SubqueuesWithWork {
        ; "WITH RECURSIVE parts (subqueue) AS (SELECT min(subqueue) FROM jobs_ready UNION ALL \
           SELECT (SELECT min(r.subqueue) FROM jobs_ready r WHERE r.subqueue > parts.subqueue) FROM parts \
           WHERE parts.subqueue IS NOT NULL) SELECT subqueue FROM parts WHERE subqueue IS NOT NULL" -> Text
    }

    /// The greatest number that a job was ever given. SQLite only.
    LastJobId {
        ; "SELECT seq FROM sqlite_sequence WHERE name = 'jobs'" -> BigInt
    }

    /// Numbers that no job was given. PostgreSQL only.
    NewJobIds {
        "SELECT nextval('jobs_id_seq') FROM generate_series(1, " count: i64 as BigInt;
        ")" -> BigInt
    }

    /// The id of the row that was inserted last on this connection. SQLite only.
    LastRowId {
        ; "SELECT last_insert_rowid()" -> BigInt
    }
}

/// An insertion with the id that the row was given. PostgreSQL only: SQLite would make a temporary table for the one row
/// that it returns, which costs more than asking for the id.
#[derive(Debug)]
pub(super) struct Returning<T>(pub(super) T);

impl<T: QueryId> QueryId for Returning<T> {
    type QueryId = Returning<T::QueryId>;
    const HAS_STATIC_QUERY_ID: bool = T::HAS_STATIC_QUERY_ID;
}

impl<T: QueryFragment<Pg>> QueryFragment<Pg> for Returning<T> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.0.walk_ast(out.reborrow())?;
        out.push_sql(" RETURNING id");
        Ok(())
    }
}

impl<T> Query for Returning<T> {
    type SqlType = BigInt;
}

impl<T, C> RunQueryDsl<C> for Returning<T> {}

/// Numbers for that many new jobs, in the order in which they are submitted. What a call writes beside its jobs needs them, and with
/// numbers that are known before, all rows of a table can be written at once.
pub(super) fn new_job_ids(conn: &mut Conn, count: usize) -> Result<Vec<i64>, StoreError> {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    match conn {
        // There is one writer, and SQLite goes on after the greatest number that was ever written.
        Conn::Sqlite(conn) => {
            let last: i64 = LastJobId {}.get_result(conn).optional()?.unwrap_or(0);
            Ok((last + 1..=last + count).collect())
        }
        Conn::Postgres(conn) => {
            let mut ids: Vec<i64> = NewJobIds { count }.load(conn)?;
            ids.sort_unstable();
            Ok(ids)
        }
    }
}
