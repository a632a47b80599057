//! What the queue does in a second on this machine: `sexton bench`, and the engine that `cargo bench --bench queue` drives as well.
//!
//! The engine is the daemon's: store, pool, signals and audit log, with a handler that does nothing. Each figure has a fresh
//! database. Some stand beside the same rows written by nothing but statements on one connection, on the same disk a moment later,
//! because machines are noisy and only a ratio of neighbours means much.

mod engine;
mod figure;
mod memory;
mod place;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::audit::writer::AuditError;
use crate::clock::{Clock, SystemClock};
use crate::store::bare::Bare;
use crate::store::{DatabaseUrl, StoreError};

pub use engine::{Drained, Engine, Submissions, params_text};
pub use figure::{Figure, milliseconds, percentile};
pub use place::Place;

/// From how many callers how many single submissions each are measured.
const CALLERS: [(usize, usize); 2] = [(1, 500), (32, 500)];

/// How many calls of how many jobs are measured.
const BULK: (usize, usize) = (10, 1000);

/// How many jobs of a backlog the bare program submits in a commit.
const BARE_CALL: usize = 10_000;

/// How many jobs are picked up in an idle system.
const PICKUPS: usize = 200;

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// Somebody wanted it to end.
    #[error("stopped")]
    Stopped,
    /// The database is somebody's.
    #[error(
        "{0} is not empty: a measurement takes a database that has nothing in it, not even tables"
    )]
    NotEmpty(DatabaseUrl),
    /// The database.
    #[error("the database cannot be measured")]
    Store(#[from] StoreError),
    /// The audit log.
    #[error("the audit log cannot be kept")]
    Audit(#[from] AuditError),
    /// A directory, or the runtime.
    #[error("cannot prepare the measurement")]
    Io(#[from] std::io::Error),
}

/// What is to be measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The backlogs to drain, in jobs.
    pub jobs: Vec<usize>,
    /// With how many workers each.
    pub workers: Vec<usize>,
    /// How often each figure is measured.
    pub repeats: usize,
}

/// What was measured, and on what.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The program's version.
    pub version: &'static str,
    /// The database.
    pub database: String,
    /// How many processors there are.
    pub processors: usize,
    /// How busy the machine was when the measurement began, as its load of the last minute.
    pub load: Option<f64>,
    /// The figures.
    pub figures: Vec<Figure>,
}

/// Measures everything in the plan. `tell` is given a word on each figure before it is measured.
///
/// # Errors
/// When the database or the disk does not do it, or `stop` is cancelled.
pub fn run(
    plan: &Plan,
    place: &mut Place,
    stop: &CancellationToken,
    tell: &mut dyn FnMut(&str),
) -> Result<Report, BenchError> {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION"),
        database: place.to_string(),
        processors: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        load: load.split(' ').next().and_then(|load| load.parse().ok()),
        figures: Vec::new(),
    };
    let mut bench = Bench { plan, place, stop, tell };
    for (callers, each) in CALLERS {
        report.figures.extend(bench.submissions(callers, each)?);
    }
    report.figures.push(bench.bulk()?);
    report.figures.extend(bench.pickup()?);
    for jobs in &plan.jobs {
        for workers in &plan.workers {
            report.figures.extend(bench.drain(*jobs, *workers)?);
        }
    }
    Ok(report)
}

struct Bench<'a> {
    plan: &'a Plan,
    place: &'a mut Place,
    stop: &'a CancellationToken,
    tell: &'a mut dyn FnMut(&str),
}

impl Bench<'_> {
    fn engine(&mut self) -> Result<Engine, BenchError> {
        Engine::open(&self.place.fresh()?, self.stop.clone())
    }

    fn bare(&mut self) -> Result<Bare, BenchError> {
        Ok(Bare::open(&self.place.fresh()?)?)
    }

    /// Each of the callers submits one job after the other. The bare program puts as many into a commit as there are callers.
    fn submissions(&mut self, callers: usize, each: usize) -> Result<[Figure; 3], BenchError> {
        let name = match callers {
            1 => "submit, one at a time".to_owned(),
            _ => format!("submit, {callers} callers"),
        };
        (self.tell)(&name);
        let mut figures = [
            Figure::new(&name, "jobs/s"),
            Figure::new(&format!("{name}: wait, p50"), "ms"),
            Figure::new(&format!("{name}: wait, p99"), "ms"),
        ];
        for _ in 0..self.plan.repeats {
            let measured = self.engine()?.submit_from(callers, each)?;
            figures[0].add(measured.rate());
            figures[1].add(percentile(&measured.waits, 50.0));
            figures[2].add(percentile(&measured.waits, 99.0));
            figures[0].beside(self.bare_submissions(callers, each)?);
        }
        Ok(figures)
    }

    fn bulk(&mut self) -> Result<Figure, BenchError> {
        (self.tell)("submissions in bulk");
        let mut rate = Figure::new("submit, 1,000 in a call", "jobs/s");
        let (calls, jobs) = BULK;
        for _ in 0..self.plan.repeats {
            rate.add(self.engine()?.submit_bulk(jobs, calls)?);
            rate.beside(self.bare_submissions(jobs, calls)?);
        }
        Ok(rate)
    }

    fn pickup(&mut self) -> Result<[Figure; 2], BenchError> {
        (self.tell)("pickup in an idle system");
        let mut middle = Figure::new("pickup when idle, p50", "ms");
        let mut tail = Figure::new("pickup when idle, p99", "ms");
        for _ in 0..self.plan.repeats {
            let waits = self.engine()?.pickup(PICKUPS)?;
            middle.add(percentile(&waits, 50.0));
            tail.add(percentile(&waits, 99.0));
        }
        Ok([middle, tail])
    }

    fn drain(&mut self, jobs: usize, workers: usize) -> Result<[Figure; 3], BenchError> {
        let name = format!("drain {jobs}, {workers} workers");
        (self.tell)(&name);
        let mut rate = Figure::new(&name, "jobs/s");
        let mut bytes = Figure::new(&format!("{name}: disk a job"), "bytes");
        let mut resident = Figure::new(&format!("{name}: memory before"), "MB");
        for _ in 0..self.plan.repeats {
            let drained = self.engine()?.drain(jobs, workers)?;
            rate.add(drained.rate);
            bytes.add(drained.bytes_per_job);
            resident.add(drained.resident_bytes as f64 / 1e6);
            rate.beside(self.bare_drain(jobs, workers)?);
        }
        Ok([rate, bytes, resident])
    }

    /// The rows of `rounds` submissions of `group` jobs each. Returns jobs a second.
    fn bare_submissions(&mut self, group: usize, rounds: usize) -> Result<f64, BenchError> {
        let (mut bare, params) = (self.bare()?, params_text());
        let start = SystemClock.since_boot();
        for _ in 0..rounds {
            self.go_on()?;
            bare.submit(&params, group)?;
        }
        Ok(rate(group * rounds, start))
    }

    /// The rows of a drain, `group` jobs a commit. Returns jobs a second.
    fn bare_drain(&mut self, jobs: usize, group: usize) -> Result<f64, BenchError> {
        let (mut bare, params) = (self.bare()?, params_text());
        let mut left = jobs;
        while left > 0 {
            self.go_on()?;
            let call = left.min(BARE_CALL);
            bare.submit(&params, call)?;
            left -= call;
        }
        let start = SystemClock.since_boot();
        while bare.work(group)? > 0 {
            self.go_on()?;
        }
        Ok(rate(jobs, start))
    }

    fn go_on(&self) -> Result<(), BenchError> {
        if self.stop.is_cancelled() { Err(BenchError::Stopped) } else { Ok(()) }
    }
}

/// How many a second there were since `start`, by the clock that counts from the boot.
fn rate(jobs: usize, start: std::time::Duration) -> f64 {
    jobs as f64 / SystemClock.since_boot().saturating_sub(start).as_secs_f64()
}

#[cfg(test)]
mod tests;
