//! The pool: what a handler can do to it, and what it does for a job.

use std::future::Future;
use std::num::NonZeroU16;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use diesel::prelude::*;
use futures_util::future::BoxFuture;
use futures_util::poll;
use serde_json::Value;
use sexton::clock::{Clock as _, ManualClock, SharedClock, SystemClock};
use sexton::jobs::command::Keepers;
use sexton::jobs::{Answer, Context, Failure, Handler, RunPaths};
use sexton::model::{
    Actor, Backoff, Event, HumanDuration, JobId, JobSettings, JobState, NewJob, Outcome, Priority,
    QueueChange, RetryPolicy,
};
use sexton::queue::{Ageing, Limits, Signals};
use sexton::store::Conn;
use sexton::store::jobs::{SubmitContext, submit};
use sexton::store::queues;
use sexton::store::schema::{audit_events, jobs_scheduled};
use sexton::worker::{Departure, Pool, PoolHandle, PoolSettings, Registry};
use tempfile::TempDir;
use tokio::sync::{Barrier, Semaphore, broadcast};

use crate::harness::{Queue, at, job, on_both_backends};

on_both_backends![
    a_panicking_handler_costs_one_attempt_and_not_the_pool,
    an_attempt_that_takes_too_long_is_stopped_and_tried_again,
    a_running_job_that_is_cancelled_stops,
    a_handler_that_ignores_the_order_to_stop_is_abandoned,
    what_still_runs_when_others_are_about_to_run_it_is_given_back_without_patience,
    m2_nothing_is_claimed_without_a_lease_and_everything_when_it_is_renewed,
    a_success_after_the_order_to_stop_is_a_success,
    a_failure_for_good_is_not_tried_again,
    a_result_that_readers_would_refuse_is_left_out_and_the_log_says_so,
    a_snoozed_job_comes_back_uncharged_and_not_before_a_second_has_passed,
    a_snooze_that_would_end_after_the_total_timeout_is_not_made,
    an_attempt_that_the_total_timeout_ends_says_so,
    nothing_is_run_that_gets_its_turn_after_the_total_timeout,
    waiting_for_the_first_start_is_no_part_of_the_total_timeout,
    draining_waits_for_what_runs_and_takes_nothing_new,
    everybody_who_drains_waits,
    interrupted_attempts_are_given_back_and_not_charged,
    slots_are_all_used_and_never_exceeded,
    a_queues_limit_holds,
    a_reserved_worker_that_becomes_free_stays_reserved,
    an_operators_timeout_for_a_queue_holds_for_jobs_that_do_not_say,
    what_a_rate_holds_back_starts_when_the_rate_lets_it,
    a_kind_without_a_handler_is_an_error,
    progress_is_stored_while_the_attempt_runs,
    a_job_that_comes_while_the_pool_is_idle_starts_at_once,
    a_future_job_starts_when_it_is_due,
    after_a_refusal_claiming_goes_on_while_a_silent_attempt_runs,
    m2_an_end_that_comes_too_late_is_refused_and_told_in_the_audit_log,
];

/// Longer than anything here takes, shorter than the pool's slow poll, which nothing may have to wait for.
const PATIENCE: Duration = Duration::from_secs(12);

/// A handler that does what a closure says.
struct Scripted<F>(F);

impl<F, Work> Handler for Scripted<F>
where
    F: Fn(Context) -> Work + Send + Sync + 'static,
    Work: Future<Output = Answer> + Send + 'static,
{
    fn run(&self, context: Context) -> BoxFuture<'_, Answer> {
        Box::pin((self.0)(context))
    }
}

/// A running pool whose only kind is `noop`.
struct Workers {
    queue: Queue,
    pool: PoolHandle,
    signals: Signals,
    events: broadcast::Receiver<Event>,
    clock: SharedClock,
    _folder: TempDir,
}

impl Workers {
    fn start<F, Work>(queue: Queue, settings: PoolSettings, script: F) -> Self
    where
        F: Fn(Context) -> Work + Send + Sync + 'static,
        Work: Future<Output = Answer> + Send + 'static,
    {
        // Time stands still, so that a retry without delay is due and one with a delay is not.
        Self::start_at(queue, settings, Arc::new(ManualClock::new(at(0))), script)
    }

    fn start_at<F, Work>(
        queue: Queue,
        settings: PoolSettings,
        clock: SharedClock,
        script: F,
    ) -> Self
    where
        F: Fn(Context) -> Work + Send + Sync + 'static,
        Work: Future<Output = Answer> + Send + 'static,
    {
        let folder = tempfile::tempdir().unwrap();
        let (signals, receiver) = Signals::new();
        let (sender, events) = broadcast::channel(1000);
        let pool = Pool {
            identity: sexton::model::NodeIdentity::default(),
            store: queue.store.clone(),
            node: queue.node,
            clock: Arc::clone(&clock),
            registry: Registry::default().with("noop", Arc::new(Scripted(script))),
            paths: Arc::new(RunPaths::under(folder.path())),
            settings,
            signals: receiver,
            events: sender,
            draw: Arc::new(|| 0.5),
            limits: Arc::new(Limits::default),
            keepers: Keepers::none(),
            taken_over: Vec::new(),
        };
        Self { queue, pool: pool.spawn(), signals, events, clock, _folder: folder }
    }

    async fn submit(&self, new: NewJob) -> JobId {
        let context =
            SubmitContext { now: self.clock.now(), node: self.queue.node, ageing: Ageing::DEFAULT };
        let done =
            self.queue.write(move |conn| submit(conn, std::slice::from_ref(&new), context)).await;
        self.signals.work();
        done[0].id
    }

    async fn next_event(&mut self) -> Event {
        tokio::time::timeout(PATIENCE, self.events.recv())
            .await
            .expect("something happens in time")
            .expect("the pool lives")
    }

    /// Waits until an attempt has begun.
    async fn started(&mut self) -> JobId {
        loop {
            if let Event::AttemptStarted { job, .. } = self.next_event().await {
                return job;
            }
        }
    }

    /// Waits until an attempt has ended, and tells how and what became of its job.
    async fn ended(&mut self) -> (Outcome, JobState) {
        loop {
            if let Event::AttemptFinished { outcome, state, .. } = self.next_event().await {
                return (outcome, state);
            }
        }
    }

    async fn error_of(&self, job: JobId, attempt: usize) -> String {
        let attempts = self.queue.attempts(job).await;
        attempts[attempt - 1].error.clone().expect("it says why")
    }
}

fn done() -> Answer {
    Answer::Done(Value::Null)
}

/// Asks for no wait at all.
fn snooze() -> Answer {
    Answer::Snooze { delay: Duration::ZERO, reason: "not yet".to_owned() }
}

fn bounded(mut new: NewJob, total: Duration) -> NewJob {
    new.settings.total_timeout = Some(HumanDuration(total));
    new
}

/// As a well-behaved handler does.
async fn until_stopped(context: Context) -> Answer {
    context.stop.cancelled().await;
    Answer::Stopped { result: None }
}

/// A job that is tried three times without a wait.
fn tenacious() -> NewJob {
    let retry = RetryPolicy {
        max_attempts: 3,
        backoff: Backoff::Fixed { delay: HumanDuration::default() },
    };
    NewJob { settings: JobSettings { retry: Some(retry), ..JobSettings::default() }, ..job() }
}

async fn a_panicking_handler_costs_one_attempt_and_not_the_pool(queue: Queue) {
    let mut workers = Workers::start(queue, PoolSettings::plain(1), |context| async move {
        assert!(context.job.attempt > 1, "the first attempt panics on purpose");
        done()
    });
    let id = workers.submit(tenacious()).await;
    assert_eq!(workers.ended().await, (Outcome::Error, JobState::Retrying));
    assert_eq!(workers.ended().await, (Outcome::Success, JobState::Completed));
    let error = workers.error_of(id, 1).await;
    assert_eq!(error, "the handler panicked: the first attempt panics on purpose");
}

async fn an_attempt_that_takes_too_long_is_stopped_and_tried_again(queue: Queue) {
    let mut workers = Workers::start(queue, PoolSettings::plain(1), |context| async move {
        if context.job.attempt == 1 { until_stopped(context).await } else { done() }
    });
    let mut new = tenacious();
    new.settings.timeout = Some(HumanDuration(Duration::from_millis(30)));
    let id = workers.submit(new).await;
    assert_eq!(workers.ended().await, (Outcome::Timeout, JobState::Retrying));
    assert_eq!(workers.ended().await, (Outcome::Success, JobState::Completed));
    assert_eq!(workers.error_of(id, 1).await, "it took longer than 30ms");
}

async fn a_running_job_that_is_cancelled_stops(queue: Queue) {
    let mut workers = Workers::start(queue, PoolSettings::plain(1), until_stopped);
    let id = workers.submit(tenacious()).await;
    workers.started().await;
    workers.queue.cancel(0, id).await;
    workers.signals.cancel(vec![id]);
    assert_eq!(workers.ended().await, (Outcome::Cancelled, JobState::Cancelled));
}

async fn a_handler_that_ignores_the_order_to_stop_is_abandoned(queue: Queue) {
    let settings = PoolSettings { stop_grace: Duration::from_millis(20), ..PoolSettings::plain(1) };
    let mut workers = Workers::start(queue, settings, |_| std::future::pending());
    let id = workers.submit(tenacious()).await;
    workers.started().await;
    workers.signals.cancel(vec![id]);
    assert_eq!(workers.ended().await, (Outcome::Cancelled, JobState::Cancelled));
    let error = workers.error_of(id, 1).await;
    assert!(error.contains("did not stop within 20ms"), "{error}");
}

async fn what_still_runs_when_others_are_about_to_run_it_is_given_back_without_patience(
    queue: Queue,
) {
    let settings = PoolSettings { stop_grace: PATIENCE * 100, ..PoolSettings::plain(1) };
    let mut workers = Workers::start(queue, settings, |context| async move {
        match context.job.attempt {
            1 => std::future::pending().await,
            _ => done(),
        }
    });
    let id = workers.submit(tenacious()).await;
    workers.started().await;
    workers.pool.interrupt_all();
    workers.pool.kill_all();
    assert_eq!(workers.ended().await, (Outcome::Interrupted, JobState::Pending));
    let error = workers.error_of(id, 1).await;
    assert!(error.contains("was killed"), "{error}");
    workers.signals.work();
    assert_eq!(workers.ended().await, (Outcome::Success, JobState::Completed));
}

/// The database answers again after the lease has run out, and the pool hears of that before a beat has renewed it.
async fn m2_nothing_is_claimed_without_a_lease_and_everything_when_it_is_renewed(queue: Queue) {
    let clock = Arc::new(ManualClock::new(at(0)));
    let mut workers =
        Workers::start_at(queue, PoolSettings::plain(1), Arc::clone(&clock) as _, |_| async {
            done()
        });
    workers.pool.work_until(clock.since_boot() + Duration::from_secs(10));
    workers.submit(job()).await;
    assert_eq!(workers.ended().await, (Outcome::Success, JobState::Completed));
    let id = workers.submit(NewJob { run_at: at(15), ..job() }).await;
    clock.advance(Duration::from_secs(20));
    // Has the pool look, which makes ready what is due, and would be the moment to claim it.
    workers.pool.hold(false);
    let scheduled = || {
        let count = |conn: &mut Conn| Ok(jobs_scheduled::table.count().get_result::<i64>(conn)?);
        workers.queue.store.read(count)
    };
    let looked = async {
        while scheduled().await.unwrap() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, looked).await.expect("the pool looks");
    assert_eq!(workers.queue.state(id).await, JobState::Pending);
    workers.pool.work_until(clock.since_boot() + Duration::from_secs(10));
    assert_eq!(workers.ended().await, (Outcome::Success, JobState::Completed));
}

async fn a_success_after_the_order_to_stop_is_a_success(queue: Queue) {
    let mut workers = Workers::start(queue, PoolSettings::plain(1), |context| async move {
        context.stop.cancelled().await;
        done()
    });
    let id = workers.submit(job()).await;
    workers.started().await;
    workers.signals.cancel(vec![id]);
    assert_eq!(workers.ended().await, (Outcome::Success, JobState::Completed));
}

async fn a_failure_for_good_is_not_tried_again(queue: Queue) {
    let mut workers = Workers::start(queue, PoolSettings::plain(1), |_| async {
        Failure::answer("three findings").for_good().with_result(Value::from(3)).into()
    });
    let id = workers.submit(tenacious()).await;
    assert_eq!(workers.ended().await, (Outcome::Failure, JobState::Failed));
    let failed = workers.queue.job(id).await;
    assert_eq!(failed.result, Some(Value::from(3)));
    assert_eq!(failed.error.as_deref(), Some("three findings"));
}

async fn a_result_that_readers_would_refuse_is_left_out_and_the_log_says_so(queue: Queue) {
    let mut workers = Workers::start(queue, PoolSettings::plain(1), |_| async {
        Answer::Done((0..130).fold(Value::from(1), |inner, _| Value::from(vec![inner])))
    });
    let id = workers.submit(job()).await;
    assert_eq!(workers.ended().await, (Outcome::Success, JobState::Completed));
    assert_eq!(workers.queue.job(id).await.result, None);
    let tail = workers.queue.attempts(id).await[0].output_tail.clone();
    assert!(
        tail.as_deref().is_some_and(|tail| tail.contains("the result is not kept")),
        "{tail:?}"
    );
}

async fn a_snoozed_job_comes_back_uncharged_and_not_before_a_second_has_passed(queue: Queue) {
    let clock = Arc::new(ManualClock::new(at(0)));
    let settings = PoolSettings::plain(1);
    let mut workers = Workers::start_at(queue, settings, clock.clone(), |context| async move {
        match context.job.attempt {
            1..=5 => snooze(),
            _ => done(),
        }
    });
    // More often than the job may be tried.
    let id = workers.submit(tenacious()).await;
    for second in 1..=5 {
        assert_eq!(workers.ended().await, (Outcome::Skipped, JobState::Retrying));
        assert_eq!(workers.queue.job(id).await.run_at, at(second), "it asked for no wait at all");
        clock.advance(Duration::from_secs(1));
        workers.signals.work();
    }
    assert_eq!(workers.ended().await, (Outcome::Success, JobState::Completed));
}

async fn a_snooze_that_would_end_after_the_total_timeout_is_not_made(queue: Queue) {
    let settings = PoolSettings::plain(1);
    let mut workers = Workers::start(queue, settings, |_| async { snooze() });
    let id = workers.submit(bounded(tenacious(), Duration::from_secs(1))).await;
    assert_eq!(workers.ended().await, (Outcome::Timeout, JobState::Failed));
    let why = "not yet; if it came back then, all attempts together would take longer than 1s";
    assert_eq!(workers.error_of(id, 1).await, why);
    assert_eq!(workers.queue.job(id).await.error.as_deref(), Some(why));
}

async fn an_attempt_that_the_total_timeout_ends_says_so(queue: Queue) {
    let mut workers = Workers::start(queue, PoolSettings::plain(1), until_stopped);
    let mut new = bounded(job(), Duration::from_millis(30));
    new.settings.timeout = Some(HumanDuration::from_secs(86_400));
    new.settings.retry = Some(RetryPolicy::never());
    let id = workers.submit(new).await;
    assert_eq!(workers.ended().await, (Outcome::Timeout, JobState::Failed));
    assert_eq!(workers.error_of(id, 1).await, "all attempts together took longer than 30ms");
}

async fn nothing_is_run_that_gets_its_turn_after_the_total_timeout(queue: Queue) {
    let clock = Arc::new(ManualClock::new(at(0)));
    let settings = PoolSettings::plain(1);
    let runs = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&runs);
    let mut workers = Workers::start_at(queue, settings, clock.clone(), move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        async { snooze() }
    });
    let id = workers.submit(bounded(tenacious(), Duration::from_secs(10))).await;
    assert_eq!(workers.ended().await, (Outcome::Skipped, JobState::Retrying));
    clock.advance(Duration::from_secs(10));
    workers.signals.work();
    assert_eq!(workers.ended().await, (Outcome::Timeout, JobState::Failed));
    assert_eq!(workers.error_of(id, 2).await, "all attempts together took longer than 10s");
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

/// The total timeout counts from the first start, however long the job waited before that.
async fn waiting_for_the_first_start_is_no_part_of_the_total_timeout(queue: Queue) {
    let clock = Arc::new(ManualClock::new(at(100)));
    let settings = PoolSettings::plain(1);
    let mut workers = Workers::start_at(queue, settings, clock.clone(), |_| async { snooze() });
    let new = bounded(tenacious(), Duration::from_millis(2500));
    let id = workers.submit(NewJob { run_at: at(0), ..new }).await;
    for _ in 1..=2 {
        assert_eq!(workers.ended().await, (Outcome::Skipped, JobState::Retrying));
        clock.advance(Duration::from_secs(1));
        workers.signals.work();
    }
    assert_eq!(workers.ended().await, (Outcome::Timeout, JobState::Failed));
    assert_eq!(workers.queue.attempts(id).await.len(), 3);
}

async fn draining_waits_for_what_runs_and_takes_nothing_new(queue: Queue) {
    let gate = Arc::new(Semaphore::new(0));
    let handlers_gate = Arc::clone(&gate);
    let mut workers = Workers::start(queue, PoolSettings::plain(4), move |_| {
        let gate = Arc::clone(&handlers_gate);
        async move {
            let _pass = gate.acquire().await;
            done()
        }
    });
    let running = workers.submit(job()).await;
    workers.started().await;
    let pool = workers.pool.clone();
    let mut drain = pin!(pool.drain(Departure::Stop));
    assert!(poll!(&mut drain).is_pending());
    let late = workers.submit(job()).await;
    gate.add_permits(10);
    tokio::time::timeout(PATIENCE, drain).await.expect("the drain ends");
    assert_eq!(workers.queue.state(running).await, JobState::Completed);
    assert_eq!(workers.queue.state(late).await, JobState::Pending);
    assert_eq!(workers.ended().await, (Outcome::Success, JobState::Completed));
    tokio::time::timeout(PATIENCE, pool.drain(Departure::Stop))
        .await
        .expect("a drained pool is drained");
}

async fn everybody_who_drains_waits(queue: Queue) {
    let gate = Arc::new(Semaphore::new(0));
    let handlers_gate = Arc::clone(&gate);
    let mut workers = Workers::start(queue, PoolSettings::plain(1), move |_| {
        let gate = Arc::clone(&handlers_gate);
        async move {
            let _pass = gate.acquire().await;
            done()
        }
    });
    let id = workers.submit(job()).await;
    workers.started().await;
    let pool = workers.pool.clone();
    let (mut first, mut second) =
        (pin!(pool.drain(Departure::Stop)), pin!(pool.drain(Departure::Stop)));
    assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
    // The second order has arrived when the pool says so after it has seen the first.
    assert_eq!(workers.queue.state(id).await, JobState::Running);
    assert!(poll!(&mut first).is_pending(), "the second order does not answer the first");
    gate.add_permits(1);
    let both = futures_util::future::join(first, second);
    tokio::time::timeout(PATIENCE, both).await.expect("both end");
    assert_eq!(workers.queue.state(id).await, JobState::Completed);
}

async fn interrupted_attempts_are_given_back_and_not_charged(queue: Queue) {
    let mut workers = Workers::start(queue, PoolSettings::plain(1), until_stopped);
    let id = workers.submit(job()).await;
    workers.started().await;
    let pool = workers.pool.clone();
    let mut drain = pin!(pool.drain(Departure::Stop));
    assert!(poll!(&mut drain).is_pending());
    workers.pool.interrupt();
    tokio::time::timeout(PATIENCE, drain).await.expect("the drain ends");
    assert_eq!(workers.ended().await, (Outcome::Interrupted, JobState::Pending));
    let again = workers.queue.claim_one(1).await;
    assert_eq!((again.id, again.number, again.charged), (id, 2, 0));
}

/// Counts how many run at once.
#[derive(Default)]
struct Gauge {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Gauge {
    async fn during(&self, work: impl Future<Output = ()>) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        work.await;
        self.now.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn slots_are_all_used_and_never_exceeded(queue: Queue) {
    const SLOTS: usize = 3;
    let gauge = Arc::new(Gauge::default());
    let barrier = Arc::new(Barrier::new(SLOTS));
    let handlers_gauge = Arc::clone(&gauge);
    queue.submit_all(0, vec![job(); 7 * SLOTS]).await;
    let mut workers = Workers::start(queue, PoolSettings::plain(SLOTS), move |_| {
        let (gauge, barrier) = (Arc::clone(&handlers_gauge), Arc::clone(&barrier));
        async move {
            // Nobody passes before as many as there are slots have come.
            gauge.during(async { _ = barrier.wait().await }).await;
            done()
        }
    });
    for _ in 0..7 * SLOTS {
        assert_eq!(workers.ended().await, (Outcome::Success, JobState::Completed));
    }
    assert_eq!(gauge.most.load(Ordering::SeqCst), SLOTS);
}

async fn a_reserved_worker_that_becomes_free_stays_reserved(queue: Queue) {
    let release = Arc::new(Semaphore::new(0));
    let handlers_release = Arc::clone(&release);
    let settings = PoolSettings { reserved_high: 1, ..PoolSettings::plain(2) };
    let mut workers = Workers::start(queue, settings, move |context| {
        let release = Arc::clone(&handlers_release);
        async move {
            if context.job.priority < Priority::HIGH {
                return until_stopped(context).await;
            }
            release.acquire().await.unwrap().forget();
            done()
        }
    });
    let urgent = NewJob { priority: Priority::HIGH, ..job() };
    for new in [urgent.clone(), job()] {
        let id = workers.submit(new).await;
        assert_eq!(workers.started().await, id);
    }
    workers.submit(job()).await;
    release.add_permits(1);
    assert_eq!(workers.ended().await, (Outcome::Success, JobState::Completed));
    // The worker that the urgent job has left is not the waiting job's.
    let id = workers.submit(urgent).await;
    assert_eq!(workers.started().await, id);
}

async fn a_queues_limit_holds(queue: Queue) {
    let gauge = Arc::new(Gauge::default());
    let handlers_gauge = Arc::clone(&gauge);
    let narrow = NewJob { queue: "narrow".to_owned(), ..job() };
    queue.submit_all(0, vec![narrow; 8]).await;
    let one = QueueChange { workers: Some(NonZeroU16::new(1)), ..QueueChange::default() };
    set_queue(&queue, "narrow", one).await;
    let mut workers = Workers::start(queue, PoolSettings::plain(4), move |_| {
        let gauge = Arc::clone(&handlers_gauge);
        async move {
            gauge
                .during(async {
                    for _ in 0..50 {
                        tokio::task::yield_now().await;
                    }
                })
                .await;
            done()
        }
    });
    for _ in 0..8 {
        workers.ended().await;
    }
    assert_eq!(gauge.most.load(Ordering::SeqCst), 1);
}

async fn set_queue(queue: &Queue, name: &'static str, change: QueueChange) {
    let by = Actor::named("operator");
    assert!(queue.write(move |conn| queues::set(conn, name, change, &by, at(0))).await);
}

async fn an_operators_timeout_for_a_queue_holds_for_jobs_that_do_not_say(queue: Queue) {
    let short = HumanDuration(Duration::from_millis(30));
    let change = QueueChange { timeout: Some(Some(short)), ..QueueChange::default() };
    set_queue(&queue, "default", change).await;
    let settings = PoolSettings {
        queue_timeouts: [("default".to_owned(), Duration::from_secs(3600))].into(),
        ..PoolSettings::plain(1)
    };
    let mut workers = Workers::start(queue, settings, until_stopped);
    let id = workers.submit(job()).await;
    assert_eq!(workers.ended().await.0, Outcome::Timeout);
    assert_eq!(workers.error_of(id, 1).await, "it took longer than 30ms");
}

/// Nobody says that there is work: the pool wakes by itself, and not by its slow poll.
async fn what_a_rate_holds_back_starts_when_the_rate_lets_it(queue: Queue) {
    const JOBS: usize = 5;
    let rate = "10/s burst 1".parse().unwrap();
    let change = QueueChange { rate: Some(Some(rate)), ..QueueChange::default() };
    set_queue(&queue, "default", change).await;
    queue.submit_all(0, vec![job(); JOBS]).await;
    let clock: SharedClock = Arc::new(SystemClock);
    let began = clock.now();
    let mut workers =
        Workers::start_at(queue, PoolSettings::plain(JOBS), clock, |_| async { done() });
    for _ in 0..JOBS {
        assert_eq!(workers.ended().await, (Outcome::Success, JobState::Completed));
    }
    let took = workers.clock.now().duration_since(began);
    assert!(took.as_millis() >= 400, "the fifth starts four intervals after the first: {took:?}");
}

async fn a_kind_without_a_handler_is_an_error(queue: Queue) {
    let mut workers = Workers::start(queue, PoolSettings::plain(1), |_| async { done() });
    let unknown = NewJob { kind: "from_the_future".to_owned(), ..tenacious() };
    let id = workers.submit(unknown).await;
    assert_eq!(workers.ended().await, (Outcome::Error, JobState::Retrying));
    let error = workers.error_of(id, 1).await;
    assert!(error.contains("nothing here runs jobs of the kind `from_the_future`"), "{error}");
}

async fn progress_is_stored_while_the_attempt_runs(queue: Queue) {
    let mut workers = Workers::start(queue, PoolSettings::plain(2), |context| async move {
        context.progress.steps(42, 100, "counting");
        until_stopped(context).await
    });
    let id = workers.submit(job()).await;
    workers.started().await;
    let mut commits = workers.queue.store.commits();
    let stored = async {
        loop {
            let job = workers.queue.job(id).await;
            if job.progress.is_some() {
                return job;
            }
            commits.changed().await.expect("the store lives");
        }
    };
    let stored = tokio::time::timeout(PATIENCE, stored).await.expect("it is stored in time");
    assert_eq!((stored.progress, stored.message.as_deref()), (Some(42), Some("counting")));
}

async fn a_job_that_comes_while_the_pool_is_idle_starts_at_once(queue: Queue) {
    let mut workers = Workers::start(queue, PoolSettings::plain(1), |_| async { done() });
    for _ in 0..3 {
        // Each one comes after the pool has gone back to sleep.
        workers.submit(job()).await;
        assert_eq!(workers.ended().await, (Outcome::Success, JobState::Completed));
    }
}

async fn a_future_job_starts_when_it_is_due(queue: Queue) {
    let early = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&early);
    let clock: SharedClock = Arc::new(SystemClock);
    let due = clock.now() + Duration::from_millis(300);
    let settings = PoolSettings::plain(1);
    let mut workers = Workers::start_at(queue, settings, clock, move |context| {
        let counter = Arc::clone(&counter);
        async move {
            if context.clock.now() < due {
                counter.fetch_add(1, Ordering::SeqCst);
            }
            done()
        }
    });
    workers.submit(NewJob { run_at: due, ..job() }).await;
    assert_eq!(workers.ended().await, (Outcome::Success, JobState::Completed));
    assert_eq!(early.load(Ordering::SeqCst), 0, "it did not start before its time");
}

/// Another node has the job by now, because this one was frozen for longer than its lease.
async fn m2_an_end_that_comes_too_late_is_refused_and_told_in_the_audit_log(queue: Queue) {
    let may_end = Arc::new(Semaphore::new(0));
    let end = Arc::clone(&may_end);
    let mut workers = Workers::start(queue, PoolSettings::plain(1), move |_| {
        let end = Arc::clone(&end);
        async move {
            let _permit = end.acquire().await;
            done()
        }
    });
    let late = workers.submit(job()).await;
    workers.started().await;
    workers.queue.database.execute("DELETE FROM jobs_running");
    may_end.add_permits(1);
    let refused = async {
        loop {
            let told: i64 =
                workers.queue.read(|conn| Ok(audit_events::table.count().get_result(conn)?)).await;
            if told == 1 {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("it is told");
    let (event, subject): (String, String) = workers
        .queue
        .read(|conn| {
            let told = audit_events::table.select((audit_events::event, audit_events::subject));
            Ok(told.first(conn)?)
        })
        .await;
    assert_eq!((event, subject), ("attempt.refused".to_owned(), format!("job:{late}")));
}

/// The store refuses to claim, and nothing else.
async fn after_a_refusal_claiming_goes_on_while_a_silent_attempt_runs(queue: Queue) {
    let number = AtomicU32::new(0);
    let may_end = Arc::new(Semaphore::new(0));
    let end = Arc::clone(&may_end);
    let mut workers = Workers::start(queue, PoolSettings::plain(3), move |context| {
        let (number, end) = (number.fetch_add(1, Ordering::SeqCst), Arc::clone(&end));
        async move {
            if number == 1 {
                let _permit = end.acquire().await;
                return done();
            }
            until_stopped(context).await
        }
    });
    for _ in 0..2 {
        workers.submit(job()).await;
        workers.started().await;
    }
    workers.queue.database.execute("ALTER TABLE queues RENAME TO queues_away");
    let waiting = workers.submit(job()).await;
    let refused = async {
        while workers.pool.status().store_error.is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("it is noticed");
    may_end.add_permits(1);
    assert_eq!(workers.ended().await, (Outcome::Success, JobState::Completed), "it is recorded");
    workers.queue.database.execute("ALTER TABLE queues_away RENAME TO queues");
    assert_eq!(workers.started().await, waiting);
}
