//! What the database of a daemon says, and a database with a long history.

use std::path::Path;

use diesel::connection::SimpleConnection;
use diesel::sql_types::BigInt;
use diesel::{Connection, QueryableByName, RunQueryDsl, SqliteConnection, sql_query};

fn open(database: &Path) -> SqliteConnection {
    let mut conn = SqliteConnection::establish(&database.to_string_lossy()).expect("a database");
    conn.batch_execute("PRAGMA busy_timeout = 5000").expect("a time limit");
    conn
}

/// One job that a schedule made, in microseconds since 1970.
#[derive(Debug, Clone, Copy, QueryableByName)]
pub(crate) struct Firing {
    /// When it was due.
    #[diesel(sql_type = BigInt)]
    pub(crate) due: i64,
    /// When that was decided.
    #[diesel(sql_type = BigInt)]
    pub(crate) decided: i64,
    /// When its attempt began. By then the job was on disk: only committed jobs are claimed.
    #[diesel(sql_type = BigInt)]
    pub(crate) started: i64,
}

/// Every job that a schedule made and that has ended, ordered by when it was due. All of them have to have succeeded, or it was
/// something else that was measured.
pub(crate) fn firings(database: &Path) -> Vec<Firing> {
    let failed = count(
        database,
        "SELECT count(*) AS count FROM attempts WHERE outcome NOT IN ('success', 'interrupted')",
    );
    assert_eq!(failed, 0, "no attempt fails");
    let query = "SELECT o.nominal_at AS due, o.decided_at AS decided, a.started_at AS started
                 FROM occurrences o JOIN attempts a ON a.job_id = o.job_id
                 WHERE a.number = 1 ORDER BY o.nominal_at, a.started_at";
    sql_query(query).load(&mut open(database)).expect("the firings")
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

fn count(database: &Path, query: &str) -> i64 {
    let count: Count = sql_query(query).get_result(&mut open(database)).expect("a count");
    count.count
}

/// How many schedules the scheduler has taken over at or after an instant, in microseconds since 1970.
pub(crate) fn adopted_since(database: &Path, since: i64) -> i64 {
    count(
        database,
        &format!("SELECT count(*) AS count FROM schedules WHERE decided_until >= {since}"),
    )
}

/// Puts a week of finished jobs into a database that a daemon has made and left: each with its instant, attempt and result.
///
/// The audit log is told that it has them already, as it would have had, had they been made one by one.
pub(crate) fn fill(database: &Path, jobs: u32) {
    let mut conn = open(database);
    conn.batch_execute(&format!(
        "PRAGMA synchronous = OFF;
         BEGIN;
         CREATE TEMP TABLE n (i INTEGER PRIMARY KEY);
         WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < {jobs}) INSERT INTO n SELECT i FROM c;
         CREATE TEMP TABLE t AS SELECT
             (SELECT coalesce(max(id), 0) FROM jobs) AS last,
             (SELECT max(id) FROM nodes) AS node,
             unixepoch() * 1000000 - 604800 * 1000000 AS start,
             604800 * 1000000 / {jobs} AS step;
         INSERT INTO jobs (id, submission, kind, schedule, nominal_at, queue, priority, rank, params, run_at, created_at, actor, node_id)
             SELECT last + i, 0, 'command', 'job-' || (i % 500), start + i * step, 'default', 5, 0,
                 '{{\"argv\":[\"/usr/local/bin/work\",\"--part\",\"' || i || '\"],\"input\":{{\"text\":\"' || hex(zeroblob(60)) || '\"}}}}',
                 start + i * step, start + i * step, 'scheduler', node FROM n, t;
         INSERT INTO occurrences (schedule, nominal_at, decision, reason, job_id, decided_at, revision, instants, actor, node_id)
             SELECT 'job-' || (i % 500), start + i * step, 'enqueued', 'due', last + i, start + i * step + 900,
                 '0123456789abcdef0123456789abcdef', 1, 'scheduler', node FROM n, t;
         INSERT INTO attempts (job_id, number, outcome, node_id, started_at, finished_at, exit_code)
             SELECT last + i, 1, 'success', node, start + i * step + 2000, start + i * step + 9000, 0 FROM n, t;
         INSERT INTO job_results (job_id, state, finished_at, attempts, charged, result)
             SELECT last + i, 'completed', start + i * step + 9000, 1, 1, '{{\"exit_code\":0}}' FROM n, t;
         UPDATE audit_anchors SET
             occurrences = (SELECT max(id) FROM occurrences), jobs = (SELECT max(id) FROM jobs),
             attempts = (SELECT max(id) FROM attempts)
             WHERE seq = (SELECT max(seq) FROM audit_anchors);
         COMMIT;
         PRAGMA wal_checkpoint(TRUNCATE);"
    ))
    .expect("the rows go in");
    assert!(count(database, "SELECT count(*) AS count FROM job_results") >= i64::from(jobs));
}
