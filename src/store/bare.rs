//! The rows of jobs without the queue: what the engine writes for jobs that do nothing, by its own statements on one connection.
//!
//! No checks, no other thread, no claims by limit and pause, no audit log. What it reaches is what the disk, the layout and the
//! statements allow; it is what measurements stand beside. On PostgreSQL its statements are about as many rows at once as those of the
//! engine.

use diesel::prelude::*;

use super::claim::JobRow;
use super::hot::{
    DeleteReady, DeleteRunning, InsertAttempt, InsertJob, InsertReady, InsertResult, InsertRunning,
    JobToRun, execute_and_load, execute_each, new_job_ids,
};
use super::schema::jobs_ready;
use super::{Conn, DatabaseUrl, Purpose, StoreError, migrations, on_each_backend};

/// The queue, and the part of it that the jobs wait in.
const QUEUE: &str = "default";

/// Whoever does it.
const NODE: i64 = 1;

/// When the first job was submitted, in microseconds since 1970. Time goes on by one with each step.
const EPOCH_US: i64 = 1_780_000_000_000_000;

/// The bare program, on a database of its own.
pub struct Bare {
    conn: Conn,
    clock_us: i64,
    running: Vec<i64>,
}

impl Bare {
    /// Makes the tables.
    ///
    /// # Errors
    /// When the database cannot be opened or refuses.
    pub fn open(url: &DatabaseUrl) -> Result<Self, StoreError> {
        let mut conn = url.connect(Purpose::Write)?;
        migrations::migrate(&mut conn)?;
        Ok(Self { conn, clock_us: EPOCH_US, running: Vec::new() })
    }

    /// Submits `count` jobs in one commit.
    ///
    /// # Errors
    /// When the database refuses.
    pub fn submit(&mut self, params: &str, count: usize) -> Result<(), StoreError> {
        let clock_us = &mut self.clock_us;
        self.conn.transaction(|conn| insert(conn, params, clock_us, count))
    }

    /// Ends what was claimed the last time and claims up to `count` jobs, in one commit. Returns how many it claimed.
    ///
    /// # Errors
    /// When the database refuses.
    pub fn work(&mut self, count: usize) -> Result<usize, StoreError> {
        self.clock_us += 1;
        let (now_us, running) = (self.clock_us, std::mem::take(&mut self.running));
        self.running = self.conn.transaction(|conn| {
            finish(conn, &running, now_us)?;
            claim(conn, count, now_us)
        })?;
        Ok(self.running.len())
    }
}

fn insert(
    conn: &mut Conn,
    params: &str,
    clock_us: &mut i64,
    count: usize,
) -> Result<(), StoreError> {
    let ids = new_job_ids(conn, count)?;
    let first_us = *clock_us + 1;
    *clock_us += i64::try_from(count).unwrap_or(i64::MAX);
    let times = || ids.iter().zip(first_us..);
    let job = |(id, now_us): (&i64, i64)| InsertJob {
        id: *id,
        submission: 0,
        kind: "noop",
        schedule: None,
        nominal_at: None,
        queue: QUEUE,
        priority: 5,
        rank: now_us,
        params,
        labels: None,
        settings: None,
        unique_key: None,
        run_at: now_us,
        created_at: now_us,
        actor: "bench",
        node_id: NODE,
    };
    execute_each(conn, times().map(job))?;
    let ready = |(id, now_us): (&i64, i64)| InsertReady {
        subqueue: QUEUE,
        rank: now_us,
        job_id: *id,
        number: 0,
        charged: 0,
    };
    execute_each(conn, times().map(ready))?;
    Ok(())
}

fn claim(conn: &mut Conn, count: usize, now_us: i64) -> Result<Vec<i64>, StoreError> {
    let first = jobs_ready::table
        .filter(jobs_ready::subqueue.eq(QUEUE))
        .order((jobs_ready::rank, jobs_ready::job_id))
        .select((jobs_ready::rank, jobs_ready::job_id))
        .limit(i64::try_from(count).unwrap_or(i64::MAX));
    let ready: Vec<(i64, i64)> = on_each_backend!(&mut *conn, |inner| first.load(inner)?);
    let delete =
        |(rank, job_id): &(i64, i64)| DeleteReady { subqueue: QUEUE, rank: *rank, job_id: *job_id };
    let insert = |(_, job_id): &(i64, i64)| InsertRunning {
        job_id: *job_id,
        number: 1,
        charged: 0,
        node_id: NODE,
        started_at: now_us,
        subqueue: QUEUE,
    };
    let moved = (ready.iter().map(delete).collect(), ready.iter().map(insert).collect());
    // Read like the engine does; nobody needs it.
    let asked = ready.iter().map(|(_, job_id)| JobToRun { id: *job_id }).collect();
    let _jobs: Vec<JobRow> = execute_and_load(conn, moved, asked)?;
    Ok(ready.into_iter().map(|(_, job_id)| job_id).collect())
}

fn finish(conn: &mut Conn, jobs: &[i64], now_us: i64) -> Result<(), StoreError> {
    let running = |job_id: &i64| DeleteRunning { job_id: *job_id, number: 1, node_id: NODE };
    execute_each(conn, jobs.iter().map(running))?;
    let attempt = |job_id: &i64| InsertAttempt {
        job_id: *job_id,
        number: 1,
        outcome: "success",
        node_id: NODE,
        started_at: now_us,
        finished_at: now_us,
        exit_code: None,
        error: None,
        output_tail: None,
    };
    execute_each(conn, jobs.iter().map(attempt))?;
    let result = |job_id: &i64| InsertResult {
        job_id: *job_id,
        state: "completed",
        finished_at: now_us,
        attempts: 1,
        charged: 1,
        error: None,
        result: None,
    };
    execute_each(conn, jobs.iter().map(result))?;
    Ok(())
}
