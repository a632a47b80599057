//! What the scheduler does about a wall clock that is not what it was.

use std::collections::HashSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::again::{Again, keep_pace};
use super::{STORE_PAUSE, State};
use crate::catalog::Catalog;
use crate::clock::SharedClock;
use crate::model::{Actor, AuditEvent, Chain, ScheduleId};
use crate::scheduler::due::CORRECTION_AFTER;
use crate::scheduler::plausible::Evidence;
use crate::store::StoreError;
use crate::store::audit::append_event;
use crate::store::removal::hurry_overdue_retries;
use crate::store::schedules as ledgers;

/// How often to look whether a clock that is not believed has become plausible.
pub(super) const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(10);

impl State {
    pub(super) fn is_clock_believed(&self) -> bool {
        self.waiting_since.is_none()
    }

    /// Whether the clock has to be waited for. Asked until it is believed for the first time.
    pub(super) async fn doubts_the_clock(&mut self, catalog: &Catalog) -> Result<bool, StoreError> {
        let Some(since) = self.waiting_since else { return Ok(false) };
        let loaded: HashSet<ScheduleId> = catalog.schedules.keys().cloned().collect();
        let decided_until = self
            .own
            .enqueuer
            .store
            .read(move |conn| {
                let ledgers = ledgers::ledgers(conn)?;
                let of_loaded = loaded.iter().filter_map(|id| ledgers.get(id.as_str()));
                Ok(of_loaded.map(|ledger| ledger.decided_until).max())
            })
            .await?;
        let clock = &self.own.enqueuer.clock;
        let evidence = Evidence {
            now: clock.now(),
            decided_until,
            waited: clock.since_boot().saturating_sub(since),
            is_synchronised: clock.is_synchronised(),
        };
        let doubt = evidence.doubt().map(|doubt| doubt.to_string());
        if doubt.is_none() {
            self.waiting_since = None;
        }
        let was_doubted = self.own.doubt.send_replace(doubt.clone()).is_some();
        match &doubt {
            Some(why) if !was_doubted => tracing::error!(now = %evidence.now, "{why}"),
            None if was_doubted => tracing::warn!(now = %evidence.now, "the clock is believed now"),
            _ => {}
        }
        Ok(doubt.is_some())
    }

    /// Somebody set the wall clock: every schedule's next instant is worked out anew.
    pub(super) async fn clock_stepped(&mut self) {
        let now = self.own.enqueuer.clock.now();
        let before = std::mem::replace(&mut self.offset, offset(&self.own.enqueuer.clock));
        let back_by = before - self.offset;
        if back_by > SignedDuration::ZERO {
            self.keep_pace(back_by, now).await;
        }
        self.rebuild();
        if self.lookout.next.is_some() {
            self.lookout.look_by(Timestamp::MIN);
        }
        let hurried = self.own.enqueuer.store.write(move |conn| hurry_overdue_retries(conn, now));
        if let Err(error) = hurried.await {
            tracing::error!(error = %Chain(&error), "retries could not be moved to the new time");
        }
    }

    /// Whether no other node can run the same schedules.
    pub(super) fn is_alone(&self) -> bool {
        self.own.enqueuer.signals.is_alone()
    }

    /// Lets what follows elapsed time go on over the stretch that comes again. Not where there are other nodes: their clocks were not set
    /// back, and they run these instants.
    async fn keep_pace(&mut self, by: SignedDuration, now: Timestamp) {
        if !self.is_alone() {
            return;
        }
        let mut ahead = Vec::new();
        for (id, slot) in &mut self.slots {
            let rule = &slot.schedule.when.rule;
            if let Some((ledger, again)) = keep_pace(rule, &slot.ledger, slot.again, by, now) {
                (slot.ledger, slot.again) = (ledger, Some(again));
                ahead.push(id.clone());
            }
        }
        if ahead.is_empty() {
            return;
        }
        tracing::warn!(
            schedules = ahead.len(),
            by = %format_args!("{by:#}"),
            "the clock was set back; intervals and wildcard rules keep their pace"
        );
        // A ledger that stays far ahead of the clock would make the next start doubt it.
        if by > signed(CORRECTION_AFTER)
            && let Err(error) = self.write_correction(ahead, now).await
        {
            tracing::error!(error = %Chain(&error), "ledgers could not be corrected; the next start may wait for the clock");
        }
    }

    /// Sets ledgers back to `now`, and says so in the audit log.
    async fn write_correction(
        &self,
        ids: Vec<ScheduleId>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let node = self.own.enqueuer.node;
        let detail = json!({ "schedules": ids.len(), "now": now.to_string() });
        let event = AuditEvent::new("clock.corrected", &Actor::system(), "scheduler", &detail, now);
        self.own
            .enqueuer
            .store
            .write(move |conn| {
                ledgers::correct(conn, &ids, now)?;
                hurry_overdue_retries(conn, now)?;
                append_event(conn, node, &event)
            })
            .await
    }

    /// Schedules whose ledgers lie far ahead of a clock that is believed: it was set back, and they go on from its new time.
    pub(super) async fn correct(&mut self, ahead: Vec<ScheduleId>, now: Timestamp) {
        match self.write_correction(ahead.clone(), now).await {
            Ok(()) => {
                tracing::warn!(
                    schedules = ahead.len(),
                    "the clock was set back; schedules go on from its new time"
                );
                let is_alone = self.is_alone();
                for id in ahead {
                    if let Some(slot) = self.slots.get_mut(&id) {
                        if is_alone && slot.schedule.when.rule.follows_elapsed_time() {
                            slot.again = Some(Again::over(slot.ledger.decided_until, slot.again));
                        }
                        slot.ledger.decided_until = now;
                        slot.ledger.last_end = slot.ledger.last_end.map(|end| end.min(now));
                    }
                    self.set_next(&id, Some(now));
                }
            }
            Err(error) => {
                tracing::error!(error = %Chain(&error), "ledgers could not be corrected; trying again in a moment");
                ahead.iter().for_each(|id| self.set_next(id, Some(now + STORE_PAUSE)));
            }
        }
    }
}

/// Wall clock minus monotonic clock: it stays what it is unless somebody sets the wall clock.
pub(super) fn offset(clock: &SharedClock) -> SignedDuration {
    clock.now().duration_since(Timestamp::UNIX_EPOCH) - signed(clock.since_boot())
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}
