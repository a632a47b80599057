//! The statements that run for every job and every due instant, each a type of its own.
//!
//! Diesel's builders are used everywhere else. For a statement that runs a hundred thousand times they cost as much as SQLite
//! does: they walk a tree of types several times for each execution, to find out whether the text may be cached and what is
//! bound. Here the type is the key of the cache, the text is a constant, and the walk is over the values alone. A thousand
//! submissions in one call went from 75 to 184 thousand a second with them (and with a plain `INSERT` instead of `RETURNING`).
//!
//! A statement is written as its text with the values where they are bound: `"text" field: type as SQL type, …; "end"`. The
//! guarantees of the store run all of them, on both databases.

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{BigInt, Integer, Nullable, SmallInt, Text};
use diesel::sqlite::Sqlite;

macro_rules! without_lifetime {
    ($name:ident) => { $name };
    ($name:ident $life:lifetime) => { $name<'static> };
}

macro_rules! walk {
    ($backend:ty, $name:ident $($life:lifetime)?, $($text:literal $field:ident $sql:ty),*; $end:literal) => {
        impl $(<$life>)? QueryFragment<$backend> for $name $(<$life>)? {
            fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, $backend>) -> QueryResult<()> {
                $(
                    out.push_sql($text);
                    out.push_bind_param::<$sql, _>(&self.$field)?;
                )*
                out.push_sql($end);
                Ok(())
            }
        }
    };
}

macro_rules! returns {
    ($name:ident []) => {};
    ($name:ident [$life:lifetime]) => {};
    ($name:ident [] $row:ty) => {
        impl Query for $name {
            type SqlType = $row;
        }
    };
    ($name:ident [$life:lifetime] $row:ty) => {
        impl<$life> Query for $name<$life> {
            type SqlType = $row;
        }
    };
}

macro_rules! statements {
    ($(
        $(#[$doc:meta])*
        $name:ident $(<$life:lifetime>)? {
            $($text:literal $field:ident: $type:ty as $sql:ty),*;
            $end:literal $(-> $row:ty)?
        }
    )*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub(super) struct $name $(<$life>)? {
            $(pub(super) $field: $type,)*
        }

        impl $(<$life>)? QueryId for $name $(<$life>)? {
            type QueryId = without_lifetime!($name $($life)?);
            const HAS_STATIC_QUERY_ID: bool = true;
        }

        walk!(Sqlite, $name $($life)?, $($text $field $sql),*; $end);
        walk!(Pg, $name $($life)?, $($text $field $sql),*; $end);

        returns!($name [$($life)?] $($row)?);

        impl<$($life,)? C> RunQueryDsl<C> for $name $(<$life>)? {}
    )*};
}

statements! {
    /// What was asked for.
    InsertJob<'a> {
        "INSERT INTO jobs (submission, kind, schedule, nominal_at, queue, priority, rank, params, labels, settings, \
         unique_key, run_at, created_at, actor, node_id) VALUES (" submission: i64 as BigInt,
        ", " kind: &'a str as Text,
        ", " schedule: Option<&'a str> as Nullable<Text>,
        ", " nominal_at: Option<i64> as Nullable<BigInt>,
        ", " queue: &'a str as Text,
        ", " priority: i16 as SmallInt,
        ", " rank: i64 as BigInt,
        ", " params: &'a str as Text,
        ", " labels: Option<String> as Nullable<Text>,
        ", " settings: Option<String> as Nullable<Text>,
        ", " unique_key: Option<&'a str> as Nullable<Text>,
        ", " run_at: i64 as BigInt,
        ", " created_at: i64 as BigInt,
        ", " actor: &'a str as Text,
        ", " node_id: i64 as BigInt;
        ")"
    }

    /// A schedule has a job that is not over.
    InsertLive<'a> {
        "INSERT INTO schedule_live (schedule, job_id) VALUES (" schedule: &'a str as Text,
        ", " job_id: i64 as BigInt;
        ")"
    }

    /// A schedule's job is over.
    DeleteLive<'a> {
        "DELETE FROM schedule_live WHERE schedule = " schedule: &'a str as Text,
        " AND job_id = " job_id: i64 as BigInt;
        ""
    }

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

    /// A job that may start.
    InsertReady<'a> {
        "INSERT INTO jobs_ready (subqueue, rank, job_id, number, charged) VALUES (" subqueue: &'a str as Text,
        ", " rank: i64 as BigInt,
        ", " job_id: i64 as BigInt,
        ", " number: i32 as Integer,
        ", " charged: i32 as Integer;
        ")"
    }

    /// A job that is being claimed.
    DeleteReady<'a> {
        "DELETE FROM jobs_ready WHERE subqueue = " subqueue: &'a str as Text,
        " AND rank = " rank: i64 as BigInt,
        " AND job_id = " job_id: i64 as BigInt;
        ""
    }

    /// A job that was claimed.
    InsertRunning<'a> {
        "INSERT INTO jobs_running (job_id, number, charged, node_id, started_at, subqueue) VALUES (" job_id: i64 as BigInt,
        ", " number: i32 as Integer,
        ", " charged: i32 as Integer,
        ", " node_id: i64 as BigInt,
        ", " started_at: i64 as BigInt,
        ", " subqueue: &'a str as Text;
        ")"
    }

    /// A job whose attempt is over, if it is still this attempt's.
    DeleteRunning {
        "DELETE FROM jobs_running WHERE job_id = " job_id: i64 as BigInt,
        " AND number = " number: i32 as Integer,
        " AND node_id = " node_id: i64 as BigInt;
        " RETURNING charged, cancel_requested_at" -> (Integer, Nullable<BigInt>)
    }

    /// An attempt that is over.
    InsertAttempt<'a> {
        "INSERT INTO attempts (job_id, number, outcome, node_id, started_at, finished_at, exit_code, error, \
         output_tail) VALUES (" job_id: i64 as BigInt,
        ", " number: i32 as Integer,
        ", " outcome: &'a str as Text,
        ", " node_id: i64 as BigInt,
        ", " started_at: i64 as BigInt,
        ", " finished_at: i64 as BigInt,
        ", " exit_code: Option<i32> as Nullable<Integer>,
        ", " error: Option<&'a str> as Nullable<Text>,
        ", " output_tail: Option<&'a str> as Nullable<Text>;
        ")"
    }

    /// A job that is over.
    InsertResult<'a> {
        "INSERT INTO job_results (job_id, state, finished_at, attempts, charged, error, result) VALUES (" job_id: i64 as BigInt,
        ", " state: &'a str as Text,
        ", " finished_at: i64 as BigInt,
        ", " attempts: i32 as Integer,
        ", " charged: i32 as Integer,
        ", " error: Option<&'a str> as Nullable<Text>,
        ", " result: Option<String> as Nullable<Text>;
        ")"
    }

    /// What a job that is over leaves behind: its schedule, its unique key, and of a schedule's job its settings and how many
    /// schedules follow.
    TiesOfJob {
        "SELECT schedule, unique_key, CASE WHEN schedule IS NULL THEN NULL ELSE settings END, \
         (SELECT COUNT(*) FROM schedule_followers f WHERE f.schedule = jobs.schedule) FROM jobs WHERE id = " id: i64 as BigInt;
        "" -> (Nullable<Text>, Nullable<Text>, Nullable<Text>, BigInt)
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

    /// An item of a batch.
    InsertItem<'a> {
        "INSERT INTO batch_items (batch_id, position, name, job_id) VALUES (" batch_id: i64 as BigInt,
        ", " position: i32 as Integer,
        ", " name: &'a str as Text,
        ", " job_id: i64 as BigInt;
        ")"
    }

    /// An item of a batch that is done in one run.
    InsertWholeItem<'a> {
        "INSERT INTO whole_batch_items (job_id, position, name, params) VALUES (" job_id: i64 as BigInt,
        ", " position: i32 as Integer,
        ", " name: &'a str as Text,
        ", " params: Option<&'a str> as Nullable<Text>;
        ")"
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

    /// A job waits for another one.
    InsertDependency<'a> {
        "INSERT INTO job_dependencies (job_id, depends_on, needs) VALUES (" job_id: i64 as BigInt,
        ", " depends_on: i64 as BigInt,
        ", " needs: &'a str as Text;
        ")"
    }

    /// A job does not wait for another one any more.
    DeleteDependency {
        "DELETE FROM job_dependencies WHERE job_id = " job_id: i64 as BigInt,
        " AND depends_on = " depends_on: i64 as BigInt;
        ""
    }

    /// An item of a batch is over.
    EndItem<'a> {
        "UPDATE batch_items SET state = " state: &'a str as Text,
        " WHERE job_id = " job_id: i64 as BigInt;
        ""
    }

    /// Counts an item that is over, and tells how far the batch is and who has cancelled it.
    CountItem {
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

    /// The id of the row that was inserted last on this connection. SQLite only.
    LastRowId {
        ; "SELECT last_insert_rowid()" -> BigInt
    }
}

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

statements! {
    /// A job that was claimed, for its worker.
    JobToRun {
        "SELECT id, kind, queue, params, priority, schedule, nominal_at, labels, settings, run_at, rank FROM jobs WHERE id = " id: i64 as BigInt;
        "" -> JobColumns
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
