//! The pool: one task that owns the slots.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::attempt::{self, Attempt, Begun, Bounds, StopOrder};
use super::cycle::{Delivery, Pickup, exchange};
use super::items::StoredItems;
use super::registry::Registry;
use super::status::{Board, OnBoard, PoolStatus};
use crate::clock::SharedClock;
use crate::jobs::command::Keepers;
use crate::jobs::{
    Context, Handler, Items, JobInfo, Output, Progress, ProgressReport, RunPaths, StopReason,
};
use crate::model::{
    AttemptName, Chain, Event, FinishedAttempt, HumanDuration, JobId, JsonText, NodeId,
    NodeIdentity, is_high,
};
use crate::queue::{Limits, SignalReceiver};
use crate::store::adopt::Adopted;
use crate::store::claim::{ClaimRequest, ClaimedJob};
use crate::store::finish::{Finished, ProgressUpdate, finish};
use crate::store::wakeups::News;
use crate::store::{Store, StoreError};

/// How long the pool sleeps at the most when nothing wakes it: the safety net for a wake-up that was lost, and for a wall clock that
/// was set while it slept.
const SLOW_POLL: Duration = Duration::from_secs(15);

/// How often the progress of running attempts is stored.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// How old an attempt is when its output, however short, is put where others can read it.
const SURFACED_AFTER: SignedDuration = SignedDuration::from_millis(500);

/// How long to wait before the store is tried again after it refused.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Gives a random number from 0 up to 1 each time.
pub type Draw = Arc<dyn Fn() -> f64 + Send + Sync>;

/// Tells what files limit. Asked for each claim, because files change.
pub type FindLimits = Arc<dyn Fn() -> Limits + Send + Sync>;

/// How the pool is to work.
#[derive(Debug, Clone)]
pub struct PoolSettings {
    /// How many attempts run at once.
    pub slots: usize,
    /// How many of them are kept for jobs of high priority.
    pub reserved_high: usize,
    /// The longest an attempt may take when its job does not say; per queue, then for all.
    pub queue_timeouts: BTreeMap<String, Duration>,
    /// The same for all other queues.
    pub timeout: Option<Duration>,
    /// How long an attempt may go on after it was told to stop.
    pub stop_grace: Duration,
    /// How much output of an attempt is kept, in bytes.
    pub max_output: u64,
}

/// Everything the pool needs of the world.
pub struct Pool {
    /// Where the queue is.
    pub store: Store,
    /// Who we are.
    pub node: NodeId,
    /// By what we can be chosen.
    pub identity: NodeIdentity,
    /// What time it is.
    pub clock: SharedClock,
    /// Who does which kind.
    pub registry: Registry,
    /// Where the daemon keeps things.
    pub paths: Arc<RunPaths>,
    /// How to work.
    pub settings: PoolSettings,
    /// Tells of work and of cancelled jobs.
    pub signals: SignalReceiver,
    /// Where to announce what happens.
    pub events: broadcast::Sender<Event>,
    /// Where the jitter of retries comes from.
    pub draw: Draw,
    /// What files limit.
    pub limits: FindLimits,
    /// Who keeps programs beyond the end of this daemon.
    pub keepers: Keepers,
    /// What earlier daemons have begun and this one goes on with.
    pub taken_over: Vec<TakenOver>,
}

/// An attempt that an earlier daemon has begun, and whose program goes on or has ended meanwhile.
#[derive(Debug, Clone, PartialEq)]
pub struct TakenOver {
    /// The attempt, which belongs to this node by now.
    pub attempt: Adopted,
    /// How long ago it began.
    pub elapsed: Duration,
}

/// What becomes of kept programs when a pool ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Departure {
    /// Nobody comes after this daemon: they end as everything else does.
    #[default]
    Stop,
    /// The next daemon goes on with them.
    HandOver,
}

/// The handle on a running pool.
#[derive(Clone)]
pub struct PoolHandle {
    orders: mpsc::UnboundedSender<Order>,
    board: Arc<Board>,
}

enum Order {
    /// Take nothing new; answer when the last attempt has ended and is recorded, or goes on without this daemon.
    Drain(oneshot::Sender<()>),
    /// Take nothing new for as long as this says so.
    Hold(bool),
}

/// Every reason for which the pool wakes.
enum Wake {
    Work,
    Ended(FinishedAttempt),
    Ordered(Option<Order>),
    Cancelled(Vec<JobId>),
    ProgressDue,
    TimeIsUp,
}

struct Running {
    job: Arc<JobInfo>,
    stop: StopOrder,
    progress: watch::Receiver<ProgressReport>,
    output: Output,
    started_at: Timestamp,
    /// The last checkpoint that was stored.
    kept: Option<JsonText>,
}

struct State {
    pool: Pool,
    /// In an order of its own, so that whoever goes through it does so in the same order each time.
    running: BTreeMap<JobId, Running>,
    ended: Vec<FinishedAttempt>,
    done: mpsc::UnboundedSender<FinishedAttempt>,
    /// Who waits for the drain; while somebody does, nothing new is taken.
    drained: Vec<oneshot::Sender<()>>,
    /// Whether somebody wants that nothing new is taken here for now.
    is_held: bool,
    next_due: Option<Timestamp>,
    board: Arc<Board>,
    store_error: Option<String>,
}

impl Pool {
    /// Starts the pool.
    #[must_use]
    pub fn spawn(mut self) -> PoolHandle {
        let (orders, order_receiver) = mpsc::unbounded_channel();
        let (done, done_receiver) = mpsc::unbounded_channel();
        let board = Arc::new(Board::new(self.settings.slots, self.keepers.clone()));
        let taken_over = std::mem::take(&mut self.taken_over);
        let mut state = State {
            pool: self,
            running: BTreeMap::new(),
            ended: Vec::new(),
            done,
            drained: Vec::new(),
            is_held: false,
            next_due: None,
            board: Arc::clone(&board),
            store_error: None,
        };
        taken_over.into_iter().for_each(|attempt| state.go_on(attempt));
        tokio::spawn(state.run(order_receiver, done_receiver));
        PoolHandle { orders, board }
    }
}

impl PoolHandle {
    /// Takes nothing new and returns when the last running attempt is recorded, or is the next daemon's.
    pub async fn drain(&self, departure: Departure) {
        let (sender, receiver) = oneshot::channel();
        self.board.seen().departure = departure;
        if self.orders.send(Order::Drain(sender)).is_ok() {
            let _pool_gone = receiver.await;
        }
    }

    /// Tells everything that runs to stop; attempts are given back and not charged.
    pub fn interrupt(&self) {
        self.board.interrupt();
    }

    /// Takes nothing new until it is told otherwise; what runs goes on.
    pub fn hold(&self, is_held: bool) {
        let _gone = self.orders.send(Order::Hold(is_held));
    }

    /// Returns when the pool is no more: after a drain, or because it panicked.
    pub async fn ended(&self) {
        self.orders.closed().await;
    }

    /// What the pool is doing.
    #[must_use]
    pub fn status(&self) -> PoolStatus {
        self.board.status()
    }
}

impl State {
    async fn run(
        mut self,
        mut orders: mpsc::UnboundedReceiver<Order>,
        mut done: mpsc::UnboundedReceiver<FinishedAttempt>,
    ) {
        let work = Arc::clone(&self.pool.signals.work);
        let mut progress = tokio::time::interval(PROGRESS_EVERY);
        progress.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut report_progress = false;
        loop {
            let pause = self.exchange(report_progress).await;
            report_progress = false;
            if self.is_draining()
                && self.ended.is_empty()
                && self.running.values().all(|running| self.is_left(running))
            {
                break;
            }
            let has_room = self.has_room() && self.store_error.is_none();
            // Work for which there is no room here is for others.
            let hears_of_work = has_room || self.pool.signals.others.is_some();
            let reason = tokio::select! {
                biased;
                order = orders.recv() => Wake::Ordered(order),
                Some(jobs) = self.pool.signals.cancels.recv() => Wake::Cancelled(jobs),
                Some(ended) = done.recv() => Wake::Ended(ended),
                () = work.notified(), if hears_of_work => Wake::Work,
                _ = progress.tick(), if !self.running.is_empty() => Wake::ProgressDue,
                () = tokio::time::sleep(pause) => Wake::TimeIsUp,
            };
            match reason {
                Wake::Work if !has_room => self.pass_on(),
                Wake::Work | Wake::TimeIsUp => {}
                Wake::ProgressDue => {
                    self.surface_outputs();
                    report_progress = true;
                }
                Wake::Ended(first) => {
                    self.ended.push(first);
                    while let Ok(next) = done.try_recv() {
                        self.ended.push(next);
                    }
                }
                Wake::Cancelled(jobs) => self.cancel(&jobs),
                Wake::Ordered(Some(order)) => self.obey(order),
                // Every handle is gone: nobody can drain the pool, so it gives back what it has.
                Wake::Ordered(None) => return,
            }
        }
        for drained in self.drained {
            let _nobody_waits = drained.send(());
        }
    }

    /// Tells other nodes that there may be work.
    fn pass_on(&self) {
        if let Some(others) = &self.pool.signals.others {
            others.tell(News::Work);
        }
    }

    fn is_draining(&self) -> bool {
        !self.drained.is_empty()
    }

    /// Whether an attempt is the next daemon's.
    fn is_left(&self, running: &Running) -> bool {
        self.board.is_left(running.job.name())
    }

    fn has_room(&self) -> bool {
        !self.is_draining() && !self.is_held && self.occupied() < self.pool.settings.slots
    }

    /// Slots that are taken. One whose attempt has ended becomes free in the transaction that records it.
    fn occupied(&self) -> usize {
        self.running.len().saturating_sub(self.ended.len())
    }

    fn cancel(&self, jobs: &[JobId]) {
        for running in jobs.iter().filter_map(|job| self.running.get(job)) {
            running.stop.give(StopReason::Cancelled);
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Drain(answer) => {
                self.board.seen().draining = true;
                self.drained.push(answer);
            }
            Order::Hold(is_held) => {
                self.is_held = is_held;
                self.board.seen().draining = is_held || self.is_draining();
            }
        }
    }

    /// One round trip to the store. Returns how long the pool may sleep.
    async fn exchange(&mut self, report_progress: bool) -> Duration {
        let now = self.pool.clock.now();
        let due = self.next_due.is_none_or(|at| at <= now);
        let has_news = report_progress || !self.ended.is_empty();
        if !has_news && !self.has_room() && !due {
            return SLOW_POLL;
        }
        if self.store_error.is_some() && !self.ended.is_empty() {
            let delivered = self.deliver_results().await;
            if let Err(error) = delivered {
                return self.refused(&error);
            }
        }
        let progress = if report_progress { self.changed_progress() } else { Vec::new() };
        // A store that refuses is asked again at each tick, or attempts that say nothing would keep the pool from ever claiming again.
        let has_nothing_to_say = progress.is_empty() && self.ended.is_empty();
        if report_progress && has_nothing_to_say && self.store_error.is_none() {
            return self.sleep_until_due();
        }
        let claim = self.has_room().then(|| self.claim_request(now));
        let known = self.store_error.is_some().then(|| {
            self.running.values().map(|running| (running.job.id, running.job.attempt)).collect()
        });
        // Shared with the store and not given to it: what it refuses to record has to be offered again.
        let ended = Arc::new(std::mem::take(&mut self.ended));
        let node = self.pool.node;
        let interrupts = self.board.seen().interrupts;
        let delivery = Delivery { node, ended: Arc::clone(&ended), progress, known, claim, now };
        let answer = self.pool.store.write(move |conn| exchange(conn, &delivery)).await;
        let kept = Arc::unwrap_or_clone(ended);
        match answer {
            Ok(pickup) => {
                if self.store_error.take().is_some() {
                    let mut seen = self.board.seen();
                    (seen.store_error, seen.unrecorded) = (None, 0);
                    drop(seen);
                    tracing::info!("the store answers again; claiming goes on");
                }
                self.settle(kept, pickup, interrupts)
            }
            Err(error) => {
                // What has ended is kept and recorded later; nothing is claimed meanwhile.
                self.ended = kept;
                self.refused(&error)
            }
        }
    }

    /// Offers results alone to a store that refuses: on a full disk there is room for them when there is none for anything else.
    async fn deliver_results(&mut self) -> Result<(), StoreError> {
        let ended = Arc::new(std::mem::take(&mut self.ended));
        let (node, results) = (self.pool.node, Arc::clone(&ended));
        let answer = self.pool.store.write_results(move |conn| finish(conn, node, &results)).await;
        let kept = Arc::unwrap_or_clone(ended);
        match answer {
            Ok(finished) => {
                self.board.seen().unrecorded = 0;
                self.record_ends(kept, finished);
                Ok(())
            }
            Err(error) => {
                self.ended = kept;
                Err(error)
            }
        }
    }

    /// Notes that the store refuses, and says so once. Returns how long to wait before it is tried again.
    fn refused(&mut self, error: &StoreError) -> Duration {
        let error = Chain(error).to_string();
        if self.store_error.is_none() {
            tracing::error!(error, "the store refuses; claiming is paused until it answers");
        }
        let mut seen = self.board.seen();
        (seen.store_error, seen.unrecorded) = (Some(error.clone()), self.ended.len());
        drop(seen);
        self.store_error = Some(error);
        STORE_PAUSE
    }

    /// `interrupts` is how often everything had been told to stop when the store was asked.
    fn settle(&mut self, ended: Vec<FinishedAttempt>, pickup: Pickup, interrupts: u64) -> Duration {
        self.record_ends(ended, pickup.finished);
        self.next_due = pickup.next_due;
        let has_taken = !pickup.claimed.is_empty();
        for job in pickup.claimed {
            self.start(job, interrupts);
        }
        if has_taken && !self.has_room() {
            // Where all workers have become busy there may be more.
            self.pass_on();
        }
        if pickup.more_due { Duration::ZERO } else { self.sleep_until_due() }
    }

    fn record_ends(&mut self, ended: Vec<FinishedAttempt>, finished: Vec<Finished>) {
        for (attempt, finished) in ended.into_iter().zip(finished) {
            let running = self.running.remove(&attempt.job);
            self.board.seen().running.remove(&attempt.job);
            self.pool.keepers.forget(AttemptName { job: attempt.job, number: attempt.number });
            self.announce_end(&attempt, &finished, running.as_ref());
        }
    }

    /// From now, and not from when the store was asked: what comes at a rate would be late by each answer's time.
    fn sleep_until_due(&self) -> Duration {
        let now = self.pool.clock.now();
        let until_due = self.next_due.map_or(SLOW_POLL, |at| {
            Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
        });
        until_due.min(SLOW_POLL)
    }

    fn claim_request(&self, now: Timestamp) -> ClaimRequest {
        let slots = self.pool.settings.slots.saturating_sub(self.occupied());
        let reserved = self.pool.settings.reserved_high;
        let kept = if reserved > 0 { reserved.saturating_sub(self.high_running()) } else { 0 };
        ClaimRequest {
            node: self.pool.node,
            identity: self.pool.identity.clone(),
            now,
            slots,
            normal_slots: slots.saturating_sub(kept),
            limits: (self.pool.limits)(),
        }
    }

    /// How many attempts run for which workers are reserved.
    fn high_running(&self) -> usize {
        self.running.values().filter(|running| is_high(running.job.priority)).count()
    }

    /// Lets others read what attempts that are not over at once have printed.
    fn surface_outputs(&self) {
        let now = self.pool.clock.now();
        let lasts = |running: &&Running| now.duration_since(running.started_at) >= SURFACED_AFTER;
        self.running.values().filter(lasts).for_each(|running| running.output.surface());
    }

    fn changed_progress(&mut self) -> Vec<ProgressUpdate> {
        let changed = self.running.values_mut().filter_map(|running| {
            if !running.progress.has_changed().unwrap_or(false) {
                return None;
            }
            let report = running.progress.borrow_and_update().clone();
            Some(ProgressUpdate {
                job: running.job.id,
                number: running.job.attempt,
                percent: report.percent,
                message: report.message,
                checkpoint: report
                    .checkpoint
                    .filter(|new| running.kept.replace(new.clone()).as_ref() != Some(new)),
            })
        });
        changed.collect()
    }

    fn start(&mut self, job: ClaimedJob, interrupts: u64) {
        let now = self.pool.clock.now();
        let waited = now.duration_since(job.run_at).as_millis();
        let handler = self.pool.registry.get(&job.kind);
        let job = self.begin(job, now, None, handler, interrupts);
        self.announce(Event::AttemptStarted {
            job: job.id,
            kind: job.kind.clone(),
            schedule: job.schedule.as_ref().map(|(id, _)| id.clone()),
            attempt: job.attempt,
            at: now,
            waited_ms: u64::try_from(waited).unwrap_or(0),
        });
    }

    /// Goes on with an attempt that was begun by an earlier daemon.
    fn go_on(&mut self, TakenOver { attempt, elapsed }: TakenOver) {
        let begun = Begun { at: attempt.started_at, elapsed };
        let follower = self.pool.keepers.follower();
        let interrupts = self.board.seen().interrupts;
        let job =
            self.begin(attempt.job, attempt.started_at, Some(begun), Some(follower), interrupts);
        tracing::info!(
            job.id = job.id.0,
            job.kind = job.kind,
            attempt = job.attempt,
            "goes on with a program that outlived an earlier daemon"
        );
        if attempt.is_cancelled {
            self.cancel(&[job.id]);
        }
    }

    fn begin(
        &mut self,
        job: ClaimedJob,
        started_at: Timestamp,
        begun: Option<Begun>,
        handler: Option<Arc<dyn Handler>>,
        interrupts: u64,
    ) -> Arc<JobInfo> {
        let settings = &self.pool.settings;
        let retry = job.settings.retry.clone().unwrap_or_default();
        let timeout = job
            .settings
            .timeout
            .or(job.queue_timeout)
            .map(HumanDuration::get)
            .or_else(|| settings.queue_timeouts.get(&job.queue).copied())
            .or(settings.timeout);
        let deadline = match (job.settings.total_timeout, job.first_started_at) {
            (Some(total), Some(first)) => Some(first + total.get()),
            _ => None,
        };
        let stop = StopOrder::new();
        let (progress, receiver) = Progress::channel();
        let bounds = Bounds {
            timeout,
            stop_grace: settings.stop_grace,
            deadline,
            retry,
            charged_before: job.charged,
            draw: (self.pool.draw)(),
        };
        let limit = bounds.limit(started_at);
        let context = self.context(job, &bounds, &stop, progress, limit);
        let job = Arc::clone(&context.job);
        let on_board = OnBoard { job: Arc::clone(&job), started_at, stop: stop.clone() };
        self.board.begin(on_board, interrupts);
        // One that an earlier daemon has begun is stopped by whoever keeps it.
        let is_too_late = begun.is_none() && stop.token.is_cancelled();
        let running = Running {
            job: Arc::clone(&job),
            stop: stop.clone(),
            progress: receiver,
            output: context.output.clone(),
            started_at,
            kept: None,
        };
        self.running.insert(job.id, running);
        let keepers = self.pool.keepers.clone();
        let attempt = Attempt { handler, context, bounds, stop, is_too_late, begun, keepers };
        attempt::spawn(attempt, self.done.clone());
        job
    }

    fn context(
        &self,
        job: ClaimedJob,
        bounds: &Bounds,
        stop: &StopOrder,
        progress: Progress,
        limit: Option<Duration>,
    ) -> Context {
        let log = self.pool.paths.attempt_log(job.id, job.number);
        Context {
            clock: Arc::clone(&self.pool.clock),
            paths: Arc::clone(&self.pool.paths),
            output: Output::lazy(log, self.pool.settings.max_output),
            progress,
            stop: stop.token.clone(),
            items: job.settings.whole_batch.then(|| self.items(&job)),
            limit,
            job: Arc::new(JobInfo {
                id: job.id,
                kind: job.kind,
                params: job.params,
                schedule: job.schedule,
                attempt: job.number,
                max_attempts: bounds.retry.max_attempts,
                queue: job.queue,
                priority: job.priority,
                labels: job.labels,
                dry_run: job.settings.dry_run,
                checkpoint: job.checkpoint,
                item: job.settings.item,
            }),
        }
    }

    fn items(&self, job: &ClaimedJob) -> Arc<dyn Items> {
        let (store, node) = (self.pool.store.clone(), self.pool.node);
        Arc::new(StoredItems { store, node, job: job.id, attempt: job.number })
    }

    fn announce_end(
        &self,
        attempt: &FinishedAttempt,
        finished: &Finished,
        running: Option<&Running>,
    ) {
        let Finished::Recorded { state, .. } = finished else {
            tracing::warn!(
                job.id = attempt.job.0,
                attempt = attempt.number,
                "a late report was refused: the job had been given to another attempt"
            );
            return;
        };
        let Some(running) = running else { return };
        let took = attempt.finished_at.duration_since(attempt.started_at);
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(0);
        tracing::info!(
            job.id = attempt.job.0,
            job.kind = running.job.kind,
            schedule = running.job.schedule.as_ref().map(|(id, _)| id.as_str()),
            attempt = attempt.number,
            outcome = attempt.outcome.as_str(),
            duration_ms,
            error = attempt.error,
            "attempt finished: {}, the job is {state}",
            attempt.outcome,
        );
        self.announce(Event::AttemptFinished {
            job: attempt.job,
            kind: running.job.kind.clone(),
            schedule: running.job.schedule.as_ref().map(|(id, _)| id.clone()),
            attempt: attempt.number,
            outcome: attempt.outcome,
            state: *state,
            at: attempt.finished_at,
            duration_ms,
        });
    }

    fn announce(&self, event: Event) {
        // Nobody listening is the normal case.
        let _nobody_listens = self.pool.events.send(event);
    }
}

impl PoolSettings {
    /// Settings for tests and examples: `slots` attempts at once, no limits.
    #[must_use]
    pub fn plain(slots: usize) -> Self {
        Self {
            slots,
            reserved_high: 0,
            queue_timeouts: BTreeMap::new(),
            timeout: None,
            stop_grace: Duration::from_secs(30),
            max_output: 10 << 20,
        }
    }
}
