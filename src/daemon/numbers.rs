//! Feeds the metrics: what happens as it is announced, what is when somebody asks.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::startup::SharedTelemetry;
use crate::audit::AuditHealth;
use crate::catalog::Reloader;
use crate::clock::SharedClock;
use crate::model::{Event, JobState, ScheduleId};
use crate::store::{Condition, Store, breakers, history, queues, schedules as ledgers};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{Levels, RunEnded, ScheduleLevels};
use crate::worker::PoolHandle;

/// Everything that numbers are taken from.
pub(super) struct Numbers {
    pub(super) metrics: Metrics,
    pub(super) store: Store,
    pub(super) clock: SharedClock,
    pub(super) pool: PoolHandle,
    pub(super) reloader: Arc<Reloader>,
    pub(super) telemetry: SharedTelemetry,
    pub(super) audit: watch::Receiver<AuditHealth>,
}

impl Numbers {
    /// Follows what happens until `stop`.
    pub(super) async fn run(
        self: Arc<Self>,
        mut events: broadcast::Receiver<Event>,
        stop: CancellationToken,
    ) {
        self.metrics.reloaded(self.reloader.current().is_sound(), self.clock.now());
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                event = events.recv() => match event {
                    Ok(event) => self.count(&event),
                    Err(broadcast::error::RecvError::Lagged(missed)) => {
                        tracing::warn!(missed, "metrics lack events that came too fast");
                    }
                    Err(broadcast::error::RecvError::Closed) => return,
                },
            }
        }
    }

    fn count(&self, event: &Event) {
        match event {
            // Who watches for the last success of a backup must not be told of one that was only tried out.
            Event::AttemptFinished { dry_run: true, .. } => {}
            Event::AttemptFinished { kind, schedule, outcome, state, at, duration_ms, .. } => {
                self.metrics.run_ended(&RunEnded {
                    schedule: schedule.as_ref().map(ScheduleId::as_str),
                    kind,
                    outcome: *outcome,
                    at: *at,
                    duration: Duration::from_millis(*duration_ms),
                    is_retried: *state == JobState::Retrying,
                });
            }
            Event::Decided { schedule, nominal_at, decision, .. } => {
                let late = self.clock.now().duration_since(*nominal_at);
                let late = Duration::try_from(late).unwrap_or(Duration::ZERO);
                self.metrics.decided(schedule.as_str(), *decision, late);
            }
            Event::Reloaded { ok, .. } => self.metrics.reloaded(*ok, self.clock.now()),
            Event::AttemptStarted { waited_ms, .. } => {
                self.metrics.job_started(Duration::from_millis(*waited_ms));
            }
            Event::BreakerTripped { .. } => self.metrics.breaker_tripped(),
            Event::JobsSubmitted { .. } | Event::ByHand { .. } | Event::BreakerReset { .. } => {}
        }
    }

    /// All numbers as text. What only *is* (queue lengths, next runs) is looked up now and not before: with ten thousand schedules it
    /// costs more than everything else that an idle daemon does, and there may be nobody who asks.
    pub(super) async fn text(&self) -> String {
        self.look().await;
        self.metrics.encode()
    }

    async fn look(&self) {
        let looked = self
            .store
            .read(|conn| {
                let (counts, breakers) = (history::live_counts(conn)?, breakers::list(conn)?);
                Ok((counts, queues::list(conn)?, ledgers::ledgers(conn)?, breakers))
            })
            .await;
        // A store that refuses has its own complaint; the numbers keep their last values.
        let Ok((counts, queues, ledgers, breakers)) = looked else { return };
        let now = self.clock.now();
        let catalog = self.reloader.current();
        let mut schedules =
            ScheduleLevels { stale: catalog.stale.len() as u64, ..ScheduleLevels::default() };
        for schedule in catalog.schedules.values() {
            let ledger = ledgers.get(schedule.id.as_str());
            let paused = ledger
                .and_then(|ledger| ledger.pause.as_ref())
                .is_some_and(|pause| pause.is_active(now));
            match (schedule.enabled, paused) {
                (false, _) => schedules.disabled += 1,
                (true, true) => schedules.paused += 1,
                (true, false) => schedules.active += 1,
            }
            let last_end = ledger.and_then(|ledger| ledger.last_end);
            let next = schedule.when.rule.next_after(now, last_end).filter(|_| schedule.enabled);
            self.metrics.next_run(schedule.id.as_str(), next);
        }
        let oldest = queues.iter().filter_map(|queue| queue.oldest_run_at).min();
        let pool = self.pool.status();
        let audit = self.audit.borrow().clone();
        let is_sound = *self.store.condition().borrow() == Condition::Sound;
        self.metrics.set_levels(&Levels {
            schedules,
            jobs: counts.into_iter().map(|(state, count)| (state, count.unsigned_abs())).collect(),
            oldest_ready: oldest.map_or(Duration::ZERO, |at| {
                Duration::try_from(now.duration_since(at)).unwrap_or(Duration::ZERO)
            }),
            breakers_tripped: breakers.values().filter(|state| state.trip.is_some()).count() as u64,
            workers_busy: pool.running.len() as u64,
            workers: pool.slots as u64,
            log_dropped: self.telemetry.dropped_lines(),
            log_errors: self.telemetry.write_errors(),
            audit_seq: audit.head.seq,
            is_audit_ok: audit.failing.is_none(),
            is_db_writable: is_sound,
            lock_waits: self.store.lock_waits().count(),
            wal_bytes: self.store.wal_bytes(),
        });
    }
}
