//! From a claimed job to a running attempt.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::TakenOver;
use super::state::{Running, State};
use crate::jobs::{Context, Handler, Items, JobInfo, Output, Progress};
use crate::model::{Event, HumanDuration};
use crate::store::claim::ClaimedJob;
use crate::worker::attempt::{self, Attempt, Begun, Bounds, StopOrder};
use crate::worker::items::StoredItems;
use crate::worker::status::OnBoard;

impl State {
    pub(super) fn start(&mut self, job: ClaimedJob, interrupts: u64) {
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
    pub(super) fn go_on(&mut self, TakenOver { attempt, elapsed }: TakenOver) {
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

    pub(super) fn begin(
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

    pub(super) fn context(
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

    pub(super) fn items(&self, job: &ClaimedJob) -> Arc<dyn Items> {
        let (store, node) = (self.pool.store.clone(), self.pool.node);
        Arc::new(StoredItems { store, node, job: job.id, attempt: job.number })
    }
}
