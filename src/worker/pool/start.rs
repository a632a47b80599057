//! From a claimed job to a running attempt.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::TakenOver;
use super::ahead::Waiting;
use super::state::{Running, State};
use crate::jobs::{Context, Handler, Items, JobInfo, Output, Progress};
use crate::model::{Event, HumanDuration, is_high};
use crate::store::breakers::HeldTo;
use crate::store::claim::ClaimedJob;
use crate::worker::attempt::{self, Attempt, Begun, Bounds, StopOrder, Total};
use crate::worker::items::StoredItems;
use crate::worker::status::OnBoard;

/// An attempt that is about to begin, and what the pool remembers of it.
struct Prepared {
    attempt: Attempt,
    running: Running,
}

impl Prepared {
    fn on_board(&self) -> OnBoard {
        let Running { job, stop, started_at, .. } = &self.running;
        OnBoard { job: Arc::clone(job), started_at: *started_at, stop: stop.clone() }
    }
}

impl State {
    /// Gives free workers the first jobs that may start.
    pub(super) fn start_what_may(&mut self) {
        loop {
            let (free, kept) = (self.free(), self.kept());
            if free == 0 {
                return;
            }
            let next = self.ahead.next(|job| free > kept || is_high(job.priority));
            let Some(waiting) = next else { return };
            self.start(waiting);
        }
    }

    fn start(&mut self, waiting: Waiting) {
        let (name, interrupts, run_at) = (waiting.name(), waiting.interrupts, waiting.job.run_at);
        let now = self.pool.clock.now();
        let handler = self.pool.registry.get(&waiting.job.kind);
        let prepared = self.prepare(waiting.job, now, None, handler);
        if self.is_lease_over() || !self.board.begin(prepared.on_board(), interrupts) {
            // It may be another node's by now, which the store knows.
            return self.leave_unbegun([name]);
        }
        let job = self.launch(prepared);
        let waited = now.duration_since(run_at).as_millis();
        self.announce(Event::AttemptStarted {
            job: job.id,
            kind: job.kind.clone(),
            schedule: job.run_of(),
            attempt: job.attempt,
            at: now,
            waited_ms: u64::try_from(waited).unwrap_or(0),
        });
    }

    /// Goes on with an attempt that was begun by an earlier daemon.
    pub(super) fn go_on(&mut self, TakenOver { attempt, elapsed }: TakenOver) {
        let begun = Begun { at: attempt.started_at, elapsed };
        let follower = self.pool.keepers.follower();
        let started_at = attempt.started_at;
        let prepared = self.prepare(attempt.job, started_at, Some(begun), Some(follower));
        self.board.go_on(prepared.on_board());
        let job = self.launch(prepared);
        tracing::info!(
            job.id = job.id.0,
            job.kind = job.kind,
            attempt = job.attempt,
            "goes on with a program that outlived an earlier daemon"
        );
        if attempt.is_cancelled {
            self.cancel(vec![job.id]);
        }
    }

    fn launch(&mut self, Prepared { attempt, running }: Prepared) -> Arc<JobInfo> {
        let job = Arc::clone(&running.job);
        self.running.insert(job.name(), running);
        attempt::spawn(attempt, self.done.clone());
        job
    }

    fn prepare(
        &self,
        job: ClaimedJob,
        started_at: Timestamp,
        begun: Option<Begun>,
        handler: Option<Arc<dyn Handler>>,
    ) -> Prepared {
        let settings = &self.pool.settings;
        let retry = job.settings.retry.clone().unwrap_or_default();
        let timeout = job
            .settings
            .timeout
            .or(job.queue_timeout)
            .map(HumanDuration::get)
            .or_else(|| settings.queue_timeouts.get(&job.queue).copied())
            .or(settings.timeout);
        let first_started_at = job.first_started_at.unwrap_or(started_at);
        let total = job.settings.total_timeout.map(|length| Total { length, first_started_at });
        // What a dry run comes to says nothing of what its kind depends on.
        let held_to = if job.settings.dry_run { HeldTo::new() } else { job.held_to.clone() };
        let stop = StopOrder::new();
        let (progress, receiver) = Progress::channel();
        let bounds = Bounds {
            timeout,
            stop_grace: settings.stop_grace,
            total,
            retry,
            charged_before: job.charged,
            draw: (self.pool.draw)(),
        };
        let limit = bounds.limit(started_at);
        let context = self.context(job, &bounds, &stop, progress, limit);
        let job = Arc::clone(&context.job);
        let elapsed = begun.map_or(Duration::ZERO, |begun| begun.elapsed);
        let running = Running {
            job,
            stop: stop.clone(),
            progress: receiver,
            output: context.output.clone(),
            started_at,
            began: self.pool.clock.since_boot().saturating_sub(elapsed),
            kept: None,
            held_to,
            is_lost: false,
        };
        let keepers = self.pool.keepers.clone();
        let attempt = Attempt { handler, context, bounds, stop, begun, keepers };
        Prepared { attempt, running }
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
                schedule: job.schedule.or(job.settings.batch_schedule),
                attempt: job.number,
                max_attempts: bounds.retry.max_attempts,
                attempts_left: bounds.retry.max_attempts.saturating_sub(job.charged + 1),
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
}
