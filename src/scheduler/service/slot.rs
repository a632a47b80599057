//! What the scheduler keeps of one schedule.

use std::sync::Arc;

use jiff::Timestamp;

use super::again::Again;
use crate::model::{Actor, Cause, Decision, Ledger};
use crate::schedule::Schedule;
use crate::scheduler::due::DueDecision;
use crate::scheduler::enqueue::new_job;
use crate::store::schedules::{Instant, Plan};

/// A schedule with its ledger.
pub(super) struct Slot {
    pub(super) schedule: Arc<Schedule>,
    pub(super) ledger: Ledger,
    pub(super) live: bool,
    /// What comes for the second time, after the clock was set back.
    pub(super) again: Option<Again>,
    /// The entry in the heap that counts; others are left over from earlier.
    pub(super) next: Option<Timestamp>,
}

impl Slot {
    /// A decision in the form in which the store records it, with what the schedule lacks to run.
    pub(super) fn instant(
        &self,
        decision: &DueDecision,
        unmet: Option<&String>,
        now: Timestamp,
    ) -> Instant {
        let schedule = &self.schedule;
        let mut reason = decision.reason.clone();
        let again = self.again.filter(|_| decision.cause == Cause::Rule);
        let nominal = again.map_or(decision.nominal_at, |again| again.name(decision.nominal_at));
        if nominal != decision.nominal_at {
            reason.push_str("; the clock was set back and shows this time again");
        }
        let plan = match (decision.verdict.settled(), unmet) {
            (Some(settled), _) => Plan::Settle(settled),
            (None, Some(why)) => match self.waits_until(decision.fire_at).filter(|it| *it > now) {
                Some(until) => {
                    reason = format!("{why}; it waits for that until {until}");
                    Plan::Wait { until }
                }
                None => {
                    reason.clone_from(why);
                    Plan::Settle(Decision::SkippedRequirement)
                }
            },
            (None, None) => {
                let at = decision.fire_at;
                Plan::Enqueue(Box::new(new_job(schedule, nominal, at, Actor::scheduler())))
            }
        };
        Instant {
            schedule: schedule.id.clone(),
            nominal_at: nominal,
            reason,
            revision: schedule.hash.to_string(),
            instants: decision.instants,
            actor: Actor::scheduler(),
            cause: decision.cause,
            basis: None,
            plan,
        }
    }

    /// How long an instant waits for its requirements that should have fired then.
    fn waits_until(&self, fire_at: Timestamp) -> Option<Timestamp> {
        let wait = self.schedule.run.requires_wait?;
        fire_at.checked_add(wait.get()).ok()
    }

    /// Takes the ledger as it is in the database, which does not know how far the schedule is in a stretch that comes again.
    pub(super) fn read_again(&mut self, mut ledger: Ledger) {
        if self.again.is_some_and(|again| again.until >= ledger.decided_until) {
            ledger.decided_until = self.ledger.decided_until;
        }
        self.ledger = ledger;
    }

    /// What of this slot holds for the one that follows it after a reload.
    pub(super) fn followed_by(
        mut self,
        schedule: Arc<Schedule>,
        ledger: Ledger,
        live: bool,
    ) -> Self {
        if self.schedule.when.rule != schedule.when.rule {
            self.again = None;
        }
        self.read_again(ledger);
        Self { schedule, live, next: None, ..self }
    }
}
