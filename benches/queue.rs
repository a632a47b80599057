//! Submit, claim and finish, on SQLite with full durability and, where `SEXTON_TEST_POSTGRES_URL` names a server, on PostgreSQL.
//!
//! `cargo bench --bench queue`; with PostgreSQL: `scripts/with-postgres cargo bench --bench queue`. The database is made for the run
//! and, on SQLite, removed with it; on PostgreSQL the bench uses the database of the URL as it is and leaves its rows.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use jiff::Timestamp;
use sexton::clock::{Clock, SystemClock};
use sexton::model::{
    Actor, AfterAttempt, FinalState, FinishedAttempt, JobId, NewJob, NodeId, Outcome,
};
use sexton::queue::Ageing;
use sexton::store::claim::{ClaimRequest, ClaimedJob, claim};
use sexton::store::finish::finish;
use sexton::store::jobs::{SubmitContext, submit};
use sexton::store::{DatabaseUrl, Store, nodes};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// About two hundred bytes of params, as in the comparison with other queues.
fn job(now: Timestamp) -> NewJob {
    let params = serde_json::json!({ "argv": ["true"], "input": { "text": "x".repeat(170) } });
    NewJob::new("command", params, now, Actor::named("bench"))
}

struct Bench {
    store: Store,
    node: NodeId,
    runtime: Runtime,
    _folder: TempDir,
}

impl Bench {
    fn open(url: &DatabaseUrl, folder: TempDir) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let store = Store::open(url).expect("a database");
        let now = SystemClock.now();
        let instance = format!("bench-{}", now.as_nanosecond());
        let node = runtime
            .block_on(store.write(move |conn| nodes::register(conn, "bench", &instance, now, now)))
            .expect("a node");
        Self { store, node, runtime, _folder: folder }
    }

    fn context(&self) -> SubmitContext {
        SubmitContext { now: SystemClock.now(), node: self.node, ageing: Ageing::DEFAULT }
    }

    async fn submit(&self, count: usize) {
        let context = self.context();
        let jobs: Vec<NewJob> = (0..count).map(|_| job(context.now)).collect();
        self.store.write(move |conn| submit(conn, &jobs, context)).await.expect("a submission");
    }

    /// Each caller submits one job and waits until it is on disk.
    async fn submit_from(&self, callers: usize) {
        let all = (0..callers).map(|_| self.submit(1));
        futures_util::future::join_all(all).await;
    }

    async fn claim(&self, slots: usize) -> Vec<ClaimedJob> {
        let now = SystemClock.now();
        let request = ClaimRequest { node: self.node, now, slots, queue_slots: BTreeMap::new() };
        self.store.write(move |conn| claim(conn, &request)).await.expect("a claim")
    }

    async fn finish(&self, claimed: Vec<ClaimedJob>) {
        let (node, now) = (self.node, SystemClock.now());
        let ended: Vec<FinishedAttempt> =
            claimed.iter().map(|job| succeeded(job.id, job.number, now)).collect();
        self.store.write(move |conn| finish(conn, node, &ended)).await.expect("an end");
    }
}

fn succeeded(job: JobId, number: u32, now: Timestamp) -> FinishedAttempt {
    FinishedAttempt {
        job,
        number,
        outcome: Outcome::Success,
        started_at: now,
        finished_at: now,
        exit_code: None,
        error: None,
        result: None,
        output_tail: None,
        next: AfterAttempt::End(FinalState::Completed),
    }
}

fn backends() -> Vec<(&'static str, Arc<Bench>)> {
    let folder = tempfile::tempdir().expect("a folder");
    let url = DatabaseUrl::Sqlite(folder.path().join("bench.db"));
    let mut backends = vec![("sqlite", Arc::new(Bench::open(&url, folder)))];
    if let Ok(url) = std::env::var("SEXTON_TEST_POSTGRES_URL") {
        let url: DatabaseUrl = url.parse().expect("a PostgreSQL URL");
        let folder = tempfile::tempdir().expect("a folder");
        backends.push(("postgres", Arc::new(Bench::open(&url, folder))));
    }
    backends
}

fn queue(criterion: &mut Criterion) {
    for (backend, bench) in backends() {
        let mut group = criterion.benchmark_group(backend);
        group.sample_size(20).measurement_time(Duration::from_secs(5));
        for callers in [1, 64] {
            group.throughput(Throughput::Elements(callers as u64));
            group.bench_with_input(
                BenchmarkId::new("submit, callers", callers),
                &callers,
                |bencher, &callers| {
                    bencher.iter(|| bench.runtime.block_on(bench.submit_from(callers)));
                },
            );
        }
        group.throughput(Throughput::Elements(1000));
        group.bench_function("submit 1,000 in one call", |bencher| {
            bencher.iter(|| bench.runtime.block_on(bench.submit(1000)));
        });
        group.throughput(Throughput::Elements(100));
        group.bench_function("claim and finish 100", |bencher| {
            bencher.iter(|| {
                bench.runtime.block_on(async {
                    // What the benches above have left is the backlog; it is filled up when it runs dry.
                    let mut claimed = bench.claim(100).await;
                    if claimed.len() < 100 {
                        bench.submit(10_000).await;
                        claimed = bench.claim(100).await;
                    }
                    bench.finish(black_box(claimed)).await;
                });
            });
        });
        group.finish();
    }
}

criterion_group!(benches, queue);
criterion_main!(benches);
