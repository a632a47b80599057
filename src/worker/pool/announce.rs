//! What the pool tells the world.

use super::state::State;
use crate::jobs::JobInfo;
use crate::model::{Event, FinishedAttempt};
use crate::queue::Turn;
use crate::store::breakers::Turned;
use crate::store::finish::Finished;

impl State {
    pub(super) fn announce_end(
        &self,
        attempt: &FinishedAttempt,
        finished: &Finished,
        job: Option<&JobInfo>,
    ) {
        let Finished::Recorded { state, .. } = finished else {
            tracing::warn!(
                job.id = attempt.job.0,
                attempt = attempt.number,
                "a late report was refused: the job had been given to another attempt"
            );
            return;
        };
        let Some(job) = job else { return };
        let took = attempt.finished_at.duration_since(attempt.started_at);
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(0);
        tracing::info!(
            job.id = attempt.job.0,
            job.kind = job.kind,
            schedule = job.schedule.as_ref().map(|(id, _)| id.as_str()),
            attempt = attempt.number,
            outcome = attempt.outcome.as_str(),
            duration_ms,
            error = attempt.error,
            "attempt finished: {}, the job is {state}",
            attempt.outcome,
        );
        self.announce(Event::AttemptFinished {
            job: attempt.job,
            kind: job.kind.clone(),
            schedule: job.run_of(),
            attempt: attempt.number,
            outcome: attempt.outcome,
            state: *state,
            at: attempt.finished_at,
            duration_ms,
            dry_run: job.dry_run,
        });
    }

    pub(super) fn announce_turn(&self, Turned { name, turn, why }: Turned) {
        match turn {
            Turn::Tripped => {
                tracing::warn!(
                    breaker = name,
                    error = why,
                    "the breaker has tripped: nothing starts under it until it has rested"
                );
                self.announce(Event::BreakerTripped { name, why });
            }
            Turn::Reset => {
                tracing::info!(breaker = name, "the breaker is reset: its probe has succeeded");
                self.announce(Event::BreakerReset { name });
                // Other nodes wait for this as well, and no time tells them.
                self.pass_on();
            }
        }
    }

    pub(super) fn announce(&self, event: Event) {
        // Nobody listening is the normal case.
        let _nobody_listens = self.pool.events.send(event);
    }
}
