//! The bare program: the rows that the engine writes, written by nothing but SQLite and prepared statements.
//!
//! It has the engine's tables, durability and grouping of commits, and none of what makes rows into a queue: no checks, no
//! handlers, no signals, no audit log. What it reaches is what the disk and the layout allow.

use std::time::Instant;

use rusqlite::{Connection, params};
use sexton::bench::params_text;
use sexton::store::{DatabaseUrl, Store};
use tempfile::TempDir;

pub(crate) struct Raw {
    conn: Connection,
    clock: i64,
    _folder: TempDir,
}

const INSERT_JOB: &str = "INSERT INTO jobs (submission, kind, queue, priority, rank, params, run_at, created_at, actor, node_id) \
     VALUES (0, 'noop', 'default', 5, ?1, ?2, ?1, ?1, 'bench', 1)";
const INSERT_READY: &str = "INSERT INTO jobs_ready (subqueue, rank, job_id, number, charged) VALUES ('default', ?1, ?2, 0, 0)";
const FIRST_READY: &str = "SELECT r.rank, r.job_id, j.kind, j.params, j.settings FROM jobs_ready r JOIN jobs j ON j.id = r.job_id \
     WHERE r.subqueue = 'default' ORDER BY r.rank, r.job_id LIMIT ?1";
const DELETE_READY: &str =
    "DELETE FROM jobs_ready WHERE subqueue = 'default' AND rank = ?1 AND job_id = ?2";
const INSERT_RUNNING: &str = "INSERT INTO jobs_running (job_id, number, charged, node_id, started_at, subqueue) VALUES (?1, 1, 0, 1, ?2, 'default')";
const DELETE_RUNNING: &str =
    "DELETE FROM jobs_running WHERE job_id = ?1 AND number = 1 AND node_id = 1";
const INSERT_ATTEMPT: &str = "INSERT INTO attempts (job_id, number, outcome, node_id, started_at, finished_at) \
     VALUES (?1, 1, 'success', 1, ?2, ?2)";
const INSERT_RESULT: &str = "INSERT INTO job_results (job_id, state, finished_at, attempts, charged) \
     VALUES (?1, 'completed', ?2, 1, 1)";

impl Raw {
    /// A fresh database with the engine's schema.
    pub(crate) fn open() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("bare.db");
        Store::open(&DatabaseUrl::Sqlite(path.clone())).expect("a database").close();
        let conn = Connection::open(&path).expect("a connection");
        conn.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 25000; \
             PRAGMA cache_size = -65536;",
        )
        .expect("the engine's settings");
        conn.set_prepared_statement_cache_capacity(32);
        Self { conn, clock: 1_780_000_000_000_000, _folder: folder }
    }

    fn begin(&self) {
        self.conn.execute_batch("BEGIN IMMEDIATE").expect("a transaction");
    }

    fn commit(&self) {
        self.conn.execute_batch("COMMIT").expect("a commit");
    }

    fn insert(&mut self, params: &str) -> i64 {
        self.clock += 1;
        let mut job = self.conn.prepare_cached(INSERT_JOB).expect("it prepares");
        job.execute(params![self.clock, params]).expect("a row");
        let id = self.conn.last_insert_rowid();
        let mut ready = self.conn.prepare_cached(INSERT_READY).expect("it prepares");
        ready.execute(params![self.clock, id]).expect("a row");
        id
    }

    fn claim(&mut self, count: usize) -> Vec<i64> {
        self.clock += 1;
        let mut first = self.conn.prepare_cached(FIRST_READY).expect("it prepares");
        let rows = first.query_map([count as i64], |row| {
            let (rank, id): (i64, i64) = (row.get(0)?, row.get(1)?);
            let (_kind, params): (String, String) = (row.get(2)?, row.get(3)?);
            std::hint::black_box(params);
            Ok((rank, id))
        });
        let ready: Vec<(i64, i64)> = rows.expect("rows").map(|row| row.expect("a row")).collect();
        let mut delete = self.conn.prepare_cached(DELETE_READY).expect("it prepares");
        let mut insert = self.conn.prepare_cached(INSERT_RUNNING).expect("it prepares");
        for (rank, id) in &ready {
            delete.execute(params![rank, id]).expect("a row");
            insert.execute(params![id, self.clock]).expect("a row");
        }
        ready.into_iter().map(|(_, id)| id).collect()
    }

    fn finish(&mut self, jobs: &[i64]) {
        self.clock += 1;
        let mut delete = self.conn.prepare_cached(DELETE_RUNNING).expect("it prepares");
        let mut attempt = self.conn.prepare_cached(INSERT_ATTEMPT).expect("it prepares");
        let mut result = self.conn.prepare_cached(INSERT_RESULT).expect("it prepares");
        for id in jobs {
            assert_eq!(delete.execute([id]).expect("a row"), 1);
            attempt.execute(params![id, self.clock]).expect("a row");
            result.execute(params![id, self.clock]).expect("a row");
        }
    }

    /// `rounds` commits of `group` submissions each. Returns submissions a second.
    pub(crate) fn submit(mut self, group: usize, rounds: usize) -> f64 {
        let params = params_text();
        let start = Instant::now();
        for _ in 0..rounds {
            self.begin();
            for _ in 0..group {
                self.insert(&params);
            }
            self.commit();
        }
        (group * rounds) as f64 / start.elapsed().as_secs_f64()
    }

    /// Works off `jobs`, `group` a commit. Returns jobs a second.
    pub(crate) fn drain(mut self, jobs: usize, group: usize) -> f64 {
        let params = params_text();
        self.begin();
        for _ in 0..jobs {
            self.insert(&params);
        }
        self.commit();
        let start = Instant::now();
        let mut running = Vec::new();
        loop {
            self.begin();
            self.finish(&running);
            running = self.claim(group);
            self.commit();
            if running.is_empty() {
                return jobs as f64 / start.elapsed().as_secs_f64();
            }
        }
    }

    /// Each commit finishes what the one before claimed, claims what the one before submitted and submits as many again.
    pub(crate) fn life_cycle(mut self, outstanding: usize, jobs: usize) -> f64 {
        let params = params_text();
        let start = Instant::now();
        let (mut submitted, mut finished) = (0, 0);
        let mut running = Vec::new();
        // A job's own life takes three commits; with many outstanding, different jobs share them.
        let group = outstanding.div_ceil(3);
        while finished < jobs {
            self.begin();
            self.finish(&running);
            finished += running.len();
            running = self.claim(group);
            for _ in 0..group.min(jobs - submitted) {
                self.insert(&params);
                submitted += 1;
            }
            self.commit();
        }
        jobs as f64 / start.elapsed().as_secs_f64()
    }
}
