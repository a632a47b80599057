//! What the pool claims ahead of its workers. Time is the runtime's and stands still while anybody has something to do; a commit takes
//! [`COMMIT`] of it, and an attempt nothing unless its script says so.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde_json::Value;
use sexton::clock::{Clock, SharedClock};
use sexton::jobs::command::Keepers;
use sexton::jobs::{Answer, Context, Handler, RunPaths};
use sexton::model::{
    Concurrency, Event, JobId, JobSettings, JobState, NewJob, NodeIdentity, Outcome, Priority,
};
use sexton::queue::{Ageing, Limits, SignalReceiver, Signals};
use sexton::store::jobs::{SubmitContext, submit};
use sexton::store::wakeups::Wakeups;
use sexton::store::{Fault, Pace, Step, StoreError};
use sexton::worker::{Departure, Pool, PoolHandle, PoolSettings, Registry};
use tempfile::TempDir;
use tokio::sync::{Notify, Semaphore, broadcast};
use tokio::time::Instant;

use crate::harness::{Queue, TestDatabase, at, job};

/// How long the store takes for a commit.
const COMMIT: Duration = Duration::from_millis(5);

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The runtime's time as a clock.
#[derive(Debug)]
struct RuntimeClock(Instant);

impl Clock for RuntimeClock {
    fn now(&self) -> Timestamp {
        at(0) + self.since_boot()
    }

    fn since_boot(&self) -> Duration {
        Instant::now() - self.0
    }
}

/// Takes its time for commits, and may refuse them.
#[derive(Default)]
struct SlowCommits {
    commits: AtomicUsize,
    refuses: AtomicBool,
}

impl Pace for SlowCommits {
    fn before(&self, step: Step) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            if step != Step::Commit {
                return Ok(());
            }
            tokio::time::sleep(COMMIT).await;
            self.commits.fetch_add(1, Ordering::SeqCst);
            match self.refuses.load(Ordering::SeqCst) {
                true => Err(StoreError::Fault(Fault::NotWritable("the disk is full".to_owned()))),
                false => Ok(()),
            }
        })
    }
}

/// What the jobs saw.
#[derive(Default)]
struct Seen {
    starts: Mutex<Vec<(JobId, u32)>>,
    now: AtomicUsize,
    most_at_once: AtomicUsize,
    /// Lets those end that wait.
    gate: Option<Semaphore>,
}

impl Seen {
    fn starts(&self) -> Vec<JobId> {
        self.starts.lock().unwrap().iter().map(|(job, _)| *job).collect()
    }
}

/// Jobs of the kind `noop` end at once, those with the label `long` when the gate is opened or they are told to stop.
struct Script(Arc<Seen>);

impl Handler for Script {
    fn run(&self, context: Context) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            self.0.starts.lock().unwrap().push((context.job.id, context.job.attempt));
            let now = self.0.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.0.most_at_once.fetch_max(now, Ordering::SeqCst);
            let answer = self.play(&context).await;
            self.0.now.fetch_sub(1, Ordering::SeqCst);
            answer
        })
    }
}

impl Script {
    async fn play(&self, context: &Context) -> Answer {
        // Whoever else has a worker goes first.
        tokio::task::yield_now().await;
        let done = Answer::Done(Value::Null);
        if context.job.queue != "long" {
            return done;
        }
        let Some(gate) = &self.0.gate else { return done };
        tokio::select! {
            biased;
            () = context.stop.cancelled() => Answer::Stopped { result: None },
            permit = gate.acquire() => { permit.unwrap().forget(); done }
        }
    }
}

struct World {
    queue: Queue,
    pace: Arc<SlowCommits>,
    seen: Arc<Seen>,
    pool: PoolHandle,
    signals: Signals,
    events: broadcast::Receiver<Event>,
    clock: SharedClock,
    _folder: TempDir,
}

impl World {
    /// A pool with jobs before it. Whatever is not short waits at a gate.
    async fn new(
        settings: PoolSettings,
        limits: Limits,
        before: Vec<NewJob>,
    ) -> (Self, Vec<JobId>) {
        Self::with(Signals::new(), settings, limits, before).await
    }

    async fn with(
        (signals, receiver): (Signals, SignalReceiver),
        settings: PoolSettings,
        limits: Limits,
        before: Vec<NewJob>,
    ) -> (Self, Vec<JobId>) {
        let folder = tempfile::tempdir().unwrap();
        let database = TestDatabase::sqlite();
        let pace = Arc::new(SlowCommits::default());
        let (store, work) =
            sexton::store::Store::driven(database.url(), Arc::clone(&pace) as _).unwrap();
        tokio::spawn(work);
        let queue = Queue::on(store, database).await;
        let clock: SharedClock = Arc::new(RuntimeClock(Instant::now()));
        let jobs = queue.submit_all(0, before).await;
        let seen = Arc::new(Seen { gate: Some(Semaphore::new(0)), ..Seen::default() });
        let (sender, events) = broadcast::channel(10_000);
        let pool = Pool {
            identity: NodeIdentity::default(),
            store: queue.store.clone(),
            node: queue.node,
            clock: Arc::clone(&clock),
            registry: Registry::default().with("noop", Arc::new(Script(Arc::clone(&seen)))),
            paths: Arc::new(RunPaths::under(folder.path())),
            settings,
            signals: receiver,
            events: sender,
            draw: Arc::new(|| 0.5),
            limits: Arc::new(move || limits.clone()),
            keepers: Keepers::none(),
            taken_over: Vec::new(),
        };
        let pool = pool.spawn();
        let world = Self { queue, pace, seen, pool, signals, events, clock, _folder: folder };
        (world, jobs)
    }

    async fn plain(slots: usize, before: Vec<NewJob>) -> (Self, Vec<JobId>) {
        Self::new(PoolSettings::plain(slots), Limits::default(), before).await
    }

    /// One of several nodes, with what wakes it and a count of what it tells the others.
    async fn among_others(
        slots: usize,
        before: Vec<NewJob>,
    ) -> (Self, Vec<JobId>, Arc<Notify>, Arc<AtomicUsize>) {
        let (heard, told) = (Arc::<Notify>::default(), Arc::<AtomicUsize>::default());
        let count = Arc::clone(&told);
        let wire = Wakeups::through(move |_news| {
            count.fetch_add(1, Ordering::SeqCst);
        });
        let signals = Signals::among(Arc::clone(&heard), Some(wire));
        let settings = PoolSettings::plain(slots);
        let (world, jobs) = Self::with(signals, settings, Limits::default(), before).await;
        (world, jobs, heard, told)
    }

    /// As an API call does it.
    async fn submit(&self, new: Vec<NewJob>) -> Vec<JobId> {
        let (now, node) = (self.clock.now(), self.queue.node);
        let context = SubmitContext { now, node, ageing: Ageing::DEFAULT };
        let done = self.queue.write(move |conn| submit(conn, &new, context));
        let done = self.signals.work_of(done).await;
        done.into_iter().map(|submitted| submitted.id).collect()
    }

    async fn cancel(&self, job: JobId) {
        self.queue.cancel(0, job).await;
        self.signals.cancel(vec![job]);
    }

    async fn until(&self, what: &str, mut holds: impl AsyncFnMut(&Self) -> bool) {
        let wait = async {
            while !holds(self).await {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
    }

    async fn until_state(&self, job: JobId, state: JobState) {
        self.until(&format!("job {job} is {state}"), async |world| {
            world.queue.state(job).await == state
        })
        .await;
    }

    /// Waits until a job is claimed and does not run.
    async fn until_ahead(&self, job: JobId) {
        self.until_state(job, JobState::Running).await;
        assert!(!self.seen.starts().contains(&job), "it waits for a worker");
    }

    async fn next_end(&mut self) -> (JobId, Outcome, JobState) {
        loop {
            let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
            if let Event::AttemptFinished { job, outcome, state, .. } = event.unwrap().unwrap() {
                return (job, outcome, state);
            }
        }
    }

    /// It is where it was, and nothing tells that it had been claimed.
    async fn assert_never_claimed(&self, job: JobId) {
        let record = self.queue.job(job).await;
        assert_eq!((record.state, record.attempt), (JobState::Pending, 0), "job {job}");
        assert!(self.queue.attempts(job).await.is_empty(), "job {job}");
    }
}

fn long() -> NewJob {
    NewJob { queue: "long".to_owned(), ..job() }
}

/// Short jobs, from which the pool learns that workers wait for the store, and others behind them.
fn short_and(others: Vec<NewJob>) -> Vec<NewJob> {
    let mut jobs = vec![job(); 30];
    jobs.extend(others);
    jobs
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(test);
}

#[test]
fn no_worker_is_idle_while_short_jobs_are_ready_and_they_start_in_order() {
    run(async {
        const JOBS: usize = 1000;
        let (mut world, jobs) = World::plain(2, vec![job(); JOBS]).await;
        let before = world.pace.commits.load(Ordering::SeqCst);
        for _ in 0..JOBS {
            let (_, outcome, state) = world.next_end().await;
            assert_eq!((outcome, state), (Outcome::Success, JobState::Completed));
        }
        let commits = world.pace.commits.load(Ordering::SeqCst) - before;
        // Five hundred, where each waits for the one before it.
        assert!(commits < 20, "{commits} commits for {JOBS} jobs on 2 workers");
        assert_eq!(world.seen.starts(), jobs);
        assert_eq!(world.seen.most_at_once.load(Ordering::SeqCst), 2);
    });
}

#[test]
fn a_job_that_no_worker_becomes_free_for_is_put_back_to_where_it_was() {
    run(async {
        let (world, jobs) = World::plain(2, short_and(vec![long(); 6])).await;
        let long = &jobs[30..];
        world.until_ahead(long[5]).await;
        assert_eq!(world.seen.starts()[30..], long[..2], "both workers have a long one");
        let since = world.clock.since_boot();
        world.until_state(long[5], JobState::Pending).await;
        let waited = world.clock.since_boot() - since;
        assert!(waited < Duration::from_millis(150), "{waited:?}");
        for job in &long[2..] {
            world.assert_never_claimed(*job).await;
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        world.assert_never_claimed(long[2]).await;
        // Their order is what it was, and their executions are their first ones.
        world.seen.gate.as_ref().unwrap().add_permits(6);
        world.until_state(long[5], JobState::Completed).await;
        let starts: Vec<(JobId, u32)> = world.seen.starts.lock().unwrap()[30..].to_vec();
        assert_eq!(starts, long.iter().map(|job| (*job, 1)).collect::<Vec<_>>());
    });
}

#[test]
fn a_job_that_is_cancelled_before_its_worker_is_free_does_not_run() {
    run(async {
        let (world, jobs) = World::plain(1, short_and(vec![long(); 2])).await;
        world.until_ahead(jobs[31]).await;
        world.cancel(jobs[31]).await;
        world.until_state(jobs[31], JobState::Cancelled).await;
        world.seen.gate.as_ref().unwrap().add_permits(2);
        world.until_state(jobs[30], JobState::Completed).await;
        let cancelled = world.queue.job(jobs[31]).await;
        assert_eq!(cancelled.error.as_deref(), Some("cancelled by test"));
        assert!(world.queue.attempts(jobs[31]).await.is_empty());
        assert!(!world.seen.starts().contains(&jobs[31]));
    });
}

#[test]
fn a_drain_puts_back_what_has_not_begun() {
    run(async {
        let (world, jobs) = World::plain(1, short_and(vec![long(); 3])).await;
        world.until_ahead(jobs[32]).await;
        let pool = world.pool.clone();
        let drain = tokio::spawn(async move { pool.drain(Departure::Stop).await });
        world.until_state(jobs[32], JobState::Pending).await;
        world.assert_never_claimed(jobs[31]).await;
        world.seen.gate.as_ref().unwrap().add_permits(1);
        tokio::time::timeout(PATIENCE, drain).await.expect("the drain ends").unwrap();
        assert_eq!(world.queue.state(jobs[30]).await, JobState::Completed);
        world.assert_never_claimed(jobs[31]).await;
    });
}

#[test]
fn a_node_that_is_to_take_nothing_new_puts_back_what_has_not_begun_and_takes_it_again_later() {
    run(async {
        let (world, jobs) = World::plain(1, short_and(vec![long(); 2])).await;
        world.until_ahead(jobs[31]).await;
        world.pool.hold(true);
        world.until_state(jobs[31], JobState::Pending).await;
        world.assert_never_claimed(jobs[31]).await;
        world.seen.gate.as_ref().unwrap().add_permits(2);
        world.until_state(jobs[30], JobState::Completed).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        world.assert_never_claimed(jobs[31]).await;
        world.pool.hold(false);
        world.until_state(jobs[31], JobState::Completed).await;
    });
}

/// As when its lease is over: another node may have them.
#[test]
fn what_was_claimed_before_everything_was_told_to_stop_does_not_begin() {
    run(async {
        let (world, jobs) = World::plain(1, short_and(vec![long(); 2])).await;
        world.until_ahead(jobs[31]).await;
        world.pool.interrupt();
        // Both run again, by another claim: the one that had begun as its second execution, the other one as its first.
        world.seen.gate.as_ref().unwrap().add_permits(2);
        world.until_state(jobs[30], JobState::Completed).await;
        world.until_state(jobs[31], JobState::Completed).await;
        let starts: Vec<(JobId, u32)> = world.seen.starts.lock().unwrap()[30..].to_vec();
        assert_eq!(starts, [(jobs[30], 1), (jobs[30], 2), (jobs[31], 1)]);
        let attempts = world.queue.attempts(jobs[31]).await;
        assert_eq!(attempts.len(), 1);
    });
}

/// Nobody had the time to tell anything to stop: it was frozen meanwhile.
#[test]
fn m2_what_was_claimed_under_a_lease_that_is_over_does_not_begin_before_it_is_renewed() {
    run(async {
        let (world, jobs) = World::plain(1, short_and(vec![long(); 2])).await;
        world.until_ahead(jobs[31]).await;
        world.pool.work_until(world.clock.since_boot());
        world.seen.gate.as_ref().unwrap().add_permits(2);
        world.until_state(jobs[31], JobState::Pending).await;
        world.assert_never_claimed(jobs[31]).await;
        world.pool.work_until(world.clock.since_boot() + Duration::from_secs(3600));
        world.until_state(jobs[31], JobState::Completed).await;
    });
}

#[test]
fn an_urgent_job_waits_at_the_most_for_what_is_ahead() {
    run(async {
        let (mut world, _) = World::plain(1, vec![job(); 3000]).await;
        for _ in 0..200 {
            world.next_end().await;
        }
        let urgent = NewJob { priority: Priority::CRITICAL, ..job() };
        let before = world.seen.starts().len();
        let since = world.clock.since_boot();
        let urgent = world.submit(vec![urgent]).await[0];
        world.until_state(urgent, JobState::Completed).await;
        let place = world.seen.starts().iter().position(|job| *job == urgent).unwrap();
        assert!(place - before <= 3 * 512, "it started as number {place}, {before} had started");
        assert!(place < 2900, "it overtook the backlog");
        assert!(world.clock.since_boot() - since <= COMMIT * 5);
    });
}

#[test]
fn reserved_workers_stay_free_for_urgent_jobs_whatever_is_ahead() {
    run(async {
        let settings = PoolSettings { reserved_high: 1, ..PoolSettings::plain(2) };
        let (world, jobs) =
            World::new(settings, Limits::default(), short_and(vec![long(); 3])).await;
        world.until_ahead(jobs[32]).await;
        assert_eq!(world.seen.most_at_once.load(Ordering::SeqCst), 1);
        let urgent = NewJob { priority: Priority::CRITICAL, ..long() };
        let urgent = world.submit(vec![urgent]).await[0];
        world
            .until("the urgent one starts", async |world| world.seen.starts().contains(&urgent))
            .await;
        assert_eq!(world.seen.starts()[30..], [jobs[30], urgent]);
    });
}

#[test]
fn a_job_under_a_limit_is_not_claimed_ahead_and_not_overtaken() {
    run(async {
        let settings = JobSettings {
            concurrency: Some(Concurrency { key: "host".to_owned(), max: 1 }),
            ..JobSettings::default()
        };
        let limited = NewJob { settings, ..job() };
        let mut before = vec![job(); 60];
        before.extend(vec![limited; 1]);
        before.extend(vec![job(); 60]);
        let (world, jobs) = World::plain(2, before).await;
        world.until_state(jobs[120], JobState::Completed).await;
        assert_eq!(world.seen.starts(), jobs);
    });
}

#[test]
fn while_the_store_refuses_no_more_end_than_were_claimed() {
    run(async {
        let (mut world, jobs) = World::plain(2, vec![job(); 3000]).await;
        for _ in 0..100 {
            world.next_end().await;
        }
        world.pace.refuses.store(true, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(30)).await;
        let status = world.pool.status();
        assert!(status.store_error.is_some());
        assert!((1..=512 + 2).contains(&status.unrecorded), "{}", status.unrecorded);
        let started = world.seen.starts().len();
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_eq!(world.seen.starts().len(), started, "nothing starts that was not claimed");
        world.pace.refuses.store(false, Ordering::SeqCst);
        world.until_state(jobs[2999], JobState::Completed).await;
        assert_eq!(world.seen.starts(), jobs, "each ran once");
        assert_eq!(world.pool.status().unrecorded, 0);
    });
}

/// Two nodes without room would tell each other of the same job for ever.
#[test]
fn what_another_node_has_said_is_not_passed_on() {
    run(async {
        let (world, jobs, heard, told) = World::among_others(1, vec![long()]).await;
        world.until_state(jobs[0], JobState::Running).await;
        let others = world.submit(vec![job()]).await;
        world
            .until("what is new here is passed on", async |_| told.load(Ordering::SeqCst) > 0)
            .await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let before = told.load(Ordering::SeqCst);
        for _ in 0..20 {
            heard.notify_one();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(told.load(Ordering::SeqCst), before);
        world.seen.gate.as_ref().unwrap().add_permits(1);
        world.until_state(others[0], JobState::Completed).await;
    });
}

/// On a node with others, each submission wakes the pool, also when it may claim nothing.
#[test]
fn m1_a_store_that_refused_is_asked_again_however_often_the_pool_is_woken_meanwhile() {
    run(async {
        let (world, _, heard, _) = World::among_others(2, Vec::new()).await;
        world.pace.refuses.store(true, Ordering::SeqCst);
        world.signals.work();
        // Something has to be written for a commit to be refused.
        let refused = async |world: &World| {
            world.signals.work();
            world.pool.status().store_error.is_some()
        };
        world.until("it is noticed", refused).await;
        world.pace.refuses.store(false, Ordering::SeqCst);
        for _ in 0..300 {
            heard.notify_one();
            world.signals.work();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(world.pool.status().store_error, None);
    });
}

#[test]
fn an_attempt_begins_when_it_really_starts() {
    run(async {
        let (world, jobs) = World::plain(1, short_and(vec![long(), job()])).await;
        world.until_ahead(jobs[31]).await;
        tokio::time::sleep(Duration::from_millis(40)).await;
        let started = world.clock.now();
        world.seen.gate.as_ref().unwrap().add_permits(1);
        world.until_state(jobs[31], JobState::Completed).await;
        let attempts = world.queue.attempts(jobs[31]).await;
        let late = Timestamp::from(attempts[0].started_at).duration_since(started);
        assert!(
            late.is_zero() || late.is_positive(),
            "it is said to have started before its turn: {late:?}"
        );
    });
}
