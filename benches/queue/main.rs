//! What the queue does in a second, beside a bare SQLite program that writes the same rows in the same run.
//!
//! ```console
//! $ cargo bench --bench queue                          # everything but the drain of a million
//! $ cargo bench --bench queue -- drain --jobs 1000000  # one figure, its own size
//! $ scripts/with-postgres cargo bench --bench queue -- --postgres
//! ```
//!
//! Each figure is measured several times, in turn with its bare counterpart where it has one, and printed as its median with
//! the least and the greatest: machines are noisy, and only a ratio of neighbours means much. All commits are durable
//! (`synchronous=FULL`). The databases live in a temporary directory, so `TMPDIR` chooses the disk.
//!
//! The engine is the one of `sexton bench`, which measures less of it on any machine; the bare program here knows nothing but SQLite.
//!
//! The numbers are explained in `docs/performance.md`.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark prints, and measures real time"
)]

mod postgres;
mod raw;
mod shown;
mod socket;

use sexton::bench::{Engine, Figure, Place, percentile};
use shown::Shown;
use tokio_util::sync::CancellationToken;

/// As in the daemon.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What was asked for on the command line.
struct Request {
    /// Parts of names of the figures; none means all.
    wanted: Vec<String>,
    /// How large a backlog is drained; `None` means the usual sizes.
    jobs: Option<usize>,
    repeats: usize,
    /// Attempts at once.
    slots: usize,
    postgres: bool,
}

impl Request {
    fn parse() -> Self {
        let mut request =
            Self { wanted: Vec::new(), jobs: None, repeats: 5, slots: 1024, postgres: false };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut number = || {
                let given = arguments.next().and_then(|text| text.parse().ok());
                given.unwrap_or_else(|| panic!("{argument} takes a number"))
            };
            match argument.as_str() {
                "--jobs" => request.jobs = Some(number()),
                "--repeats" => request.repeats = number(),
                "--slots" => request.slots = number(),
                "--postgres" => request.postgres = true,
                // Cargo says so of itself.
                "--bench" => {}
                name => request.wanted.push(name.to_owned()),
            }
        }
        request
    }

    /// An engine on a database of its own, which goes with the second value.
    fn engine(&self) -> (Engine, Place) {
        let mut place = match self.postgres {
            true => Place::given(postgres::fresh()).expect("it is empty"),
            false => Place::below(None).expect("a folder"),
        };
        let url = place.fresh().expect("an empty database");
        (Engine::open(&url, CancellationToken::new()).expect("an engine"), place)
    }

    fn wants(&self, name: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|wanted| name.contains(wanted.as_str()))
    }
}

fn main() {
    let request = Request::parse();
    shown::print_head();
    submissions(&request);
    if request.wants("pickup") {
        pickup(&request);
    }
    if request.wants("drain") {
        drains(&request);
    }
    if request.wants("life cycle") {
        life_cycles(&request);
    }
    if request.wants("socket") && !request.postgres {
        socket::figures(request.repeats);
    }
}

/// Submissions through the library: how many a second, and how long each caller waits for its own.
fn submissions(request: &Request) {
    for (callers, rounds) in [(1, 2_000), (64, 400), (256, 200)] {
        let name = format!("submit, {callers} callers");
        if !request.wants(&name) {
            continue;
        }
        let mut rate = Figure::new(&name, "jobs/s");
        let mut waits = Figure::new(&format!("{name}: wait, p50"), "ms");
        let mut tails = Figure::new(&format!("{name}: wait, p99"), "ms");
        for _ in 0..request.repeats {
            let (engine, _place) = request.engine();
            let measured = engine.submit_from(callers, rounds).expect("it is measured");
            rate.add(measured.rate());
            waits.add(percentile(&measured.waits, 50.0));
            tails.add(percentile(&measured.waits, 99.0));
            if !request.postgres {
                rate.beside(raw::Raw::open().submit(callers, rounds));
            }
        }
        rate.print();
        waits.print();
        tails.print();
    }
    if request.wants("submit, 1,000 in a call") {
        let mut rate = Figure::new("submit, 1,000 in a call", "jobs/s");
        for _ in 0..request.repeats {
            let (engine, _place) = request.engine();
            rate.add(engine.submit_bulk(1000, 40).expect("it is measured"));
            if !request.postgres {
                rate.beside(raw::Raw::open().submit(1000, 40));
            }
        }
        rate.print();
    }
}

/// How long a job waits that comes while nothing else happens.
fn pickup(request: &Request) {
    let mut middle = Figure::new("pickup when idle, p50", "ms");
    let mut tail = Figure::new("pickup when idle, p99", "ms");
    for _ in 0..request.repeats {
        let (engine, _place) = request.engine();
        let waits = engine.pickup(200).expect("it is measured");
        middle.add(percentile(&waits, 50.0));
        tail.add(percentile(&waits, 99.0));
    }
    middle.print();
    tail.print();
}

/// Working off a backlog with attempts, results and audit log, and how many bytes are left of each job.
fn drains(request: &Request) {
    let usual = [1_000, 10_000, 100_000];
    let sizes = request.jobs.map_or(usual.to_vec(), |jobs| vec![jobs]);
    for jobs in sizes {
        // A large backlog says enough when it is drained once or twice.
        let repeats = request.repeats.min(2_000_000 / jobs).max(1);
        let mut rate = Figure::new(&format!("drain {jobs}"), "jobs/s");
        let mut bytes = Figure::new(&format!("drain {jobs}: file a job"), "bytes");
        for _ in 0..repeats {
            let (engine, _place) = request.engine();
            let drained = engine.drain(jobs, request.slots).expect("it is measured");
            rate.add(drained.rate);
            bytes.add(drained.bytes_per_job);
            if !request.postgres {
                rate.beside(raw::Raw::open().drain(jobs, request.slots));
            }
        }
        rate.print();
        bytes.print();
    }
}

/// Submit, durable, claimed, finished: each caller submits its next job when its last one is finished.
fn life_cycles(request: &Request) {
    for (outstanding, jobs) in [(1, 1_000), (16, 20_000), (128, 60_000), (1024, 100_000)] {
        let mut rate = Figure::new(&format!("life cycle, {outstanding} outstanding"), "jobs/s");
        for _ in 0..request.repeats {
            let (engine, _place) = request.engine();
            rate.add(engine.life_cycle(outstanding, jobs).expect("it is measured"));
            if !request.postgres {
                rate.beside(raw::Raw::open().life_cycle(outstanding, jobs));
            }
        }
        rate.print();
    }
}
