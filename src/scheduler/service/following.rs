//! What no alarm tells the scheduler, so that it has to look: ends of other schedules' jobs, and instants that wait for requirements.
//!
//! Ends on this node are announced, and the scheduler looks at once. It also looks now and then while something may come that nobody
//! announces: another node died between an end and the decision about it, somebody cancelled a job, a disk was mounted.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;

use super::{RECORDED_AT_ONCE, STORE_PAUSE, Slot, State, from_end};
use crate::model::{Actor, Cause, Chain, Decision, HumanDuration, JobEnd, ScheduleId};
use crate::schedule::{Overlap, Requirement, Schedule};
use crate::scheduler::enqueue::new_job;
use crate::scheduler::exclusion::Exclusion;
use crate::store::StoreError;
use crate::store::schedules::{self as ledgers, Instant, Plan, Wait};

/// How often to look while something may come unannounced.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(15);

/// What is worth looking for, given the loaded schedules.
#[derive(Debug, Default)]
pub(super) struct Lookout {
    /// When to look again; `None` while there is nothing that could come.
    pub(super) next: Option<Timestamp>,
    /// The schedules that follow others.
    followers: BTreeSet<ScheduleId>,
    /// The schedules whose ends others wait for.
    awaited: HashSet<ScheduleId>,
    /// Those that count from the end of their own runs.
    counting: BTreeSet<ScheduleId>,
    /// Ends that are not decided about, by follower.
    ends: BTreeMap<ScheduleId, Vec<JobEnd>>,
    /// Whether the store refused the last look.
    is_refused: bool,
}

impl Lookout {
    /// For these schedules, keeping what is known of them.
    pub(super) fn over<'s>(before: Self, schedules: impl Iterator<Item = &'s Schedule>) -> Self {
        let mut lookout =
            Self { next: Some(Timestamp::MIN), is_refused: before.is_refused, ..Self::default() };
        for schedule in schedules.filter(|schedule| schedule.enabled) {
            let mut follows = schedule.when.rule.follows().peekable();
            if follows.peek().is_some() {
                lookout.followers.insert(schedule.id.clone());
            }
            lookout.awaited.extend(follows.map(|(other, _)| other.clone()));
            if schedule.run.requires_wait.is_some() {
                lookout.awaited.extend(schedule.run.requires.iter().filter_map(success_of));
            }
            if from_end(schedule) {
                lookout.counting.insert(schedule.id.clone());
            }
        }
        lookout.ends = before.ends;
        lookout.ends.retain(|follower, _| lookout.followers.contains(follower));
        lookout
    }

    /// The ends that a schedule has to follow.
    pub(super) fn ends(&self, follower: &ScheduleId) -> &[JobEnd] {
        self.ends.get(follower).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether the schedule counts from the end of its own runs.
    pub(super) fn counts(&self, id: &ScheduleId) -> bool {
        self.counting.contains(id)
    }

    /// Whether others wait for the end of the schedule's jobs.
    pub(super) fn awaits(&self, id: &ScheduleId) -> bool {
        self.awaited.contains(id)
    }

    /// Looks again no later than then.
    pub(super) fn look_by(&mut self, at: Timestamp) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }

    /// An end is decided about.
    pub(super) fn followed(&mut self, follower: &ScheduleId, ended_at: Timestamp) {
        if let Some(ends) = self.ends.get_mut(follower) {
            ends.retain(|end| end.at != ended_at);
        }
    }
}

fn success_of(requirement: &Requirement) -> Option<ScheduleId> {
    match requirement {
        Requirement::Fresh { schedule, .. } => Some(schedule.clone()),
        Requirement::Path(_) | Requirement::Mounted(_) | Requirement::Free { .. } => None,
    }
}

impl State {
    /// Looks, if it is time to.
    pub(super) async fn look(&mut self, now: Timestamp) {
        if self.lookout.next.is_none_or(|at| at > now) {
            return;
        }
        match self.look_now(now).await {
            Ok(next) => (self.lookout.next, self.lookout.is_refused) = (next, false),
            Err(error) => {
                // Once, and not every second of an outage.
                if !std::mem::replace(&mut self.lookout.is_refused, true) {
                    tracing::error!(
                        error = %Chain(&error),
                        "ends of jobs and waiting instants could not be looked at; trying until they can"
                    );
                }
                self.lookout.next = Some(now + STORE_PAUSE);
            }
        }
    }

    /// Takes over what has come, and tells when to look again.
    async fn look_now(&mut self, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        self.take_ends().await?;
        self.notice_ends_of_runs().await?;
        let waits = self.own.enqueuer.store.read(ledgers::waits).await?;
        let left = self.settle_waits(waits, now).await?;
        let counts_on_an_end =
            self.lookout.counting.iter().any(|id| self.slots.get(id).is_some_and(|slot| slot.live));
        let may_come = !self.lookout.followers.is_empty() || counts_on_an_end || !left.is_empty();
        let first_over = left.iter().map(|wait| wait.until).min();
        Ok(may_come.then(|| (now + LOOK_EVERY).min(first_over.unwrap_or(Timestamp::MAX))))
    }

    /// Reads the ends that are to be followed.
    pub(super) async fn take_ends(&mut self) -> Result<(), StoreError> {
        let followers: Vec<String> =
            self.lookout.followers.iter().map(ToString::to_string).collect();
        if followers.is_empty() {
            return Ok(());
        }
        let read =
            self.own.enqueuer.store.read(move |conn| ledgers::ends_to_follow(conn, &followers));
        let mut ends: BTreeMap<ScheduleId, Vec<JobEnd>> = BTreeMap::new();
        for (follower, end) in read.await? {
            ends.entry(follower).or_default().push(end);
        }
        for follower in ends.keys() {
            self.set_next(follower, Some(Timestamp::MIN));
        }
        self.lookout.ends = ends;
        Ok(())
    }

    /// Lets schedules go on that count from the end of a run that nobody announced.
    async fn notice_ends_of_runs(&mut self) -> Result<(), StoreError> {
        let runs = |id: &&ScheduleId| self.slots.get(*id).is_some_and(|slot| slot.live);
        let running: Vec<ScheduleId> = self.lookout.counting.iter().filter(runs).cloned().collect();
        if running.is_empty() {
            return Ok(());
        }
        let live = self.own.enqueuer.store.read(ledgers::all_live).await?;
        for id in running.iter().filter(|id| !live.contains(id.as_str())) {
            self.run_ended(id).await;
        }
        Ok(())
    }

    /// Decides about instants that wait, where there is something to decide. Returns those that go on waiting.
    async fn settle_waits(
        &mut self,
        waits: Vec<Wait>,
        now: Timestamp,
    ) -> Result<Vec<Wait>, StoreError> {
        let unmet = self.unmet_of(&waits).await?;
        let mut instants = Vec::new();
        let mut left = Vec::new();
        let mut overlap: HashMap<ScheduleId, Overlap> = HashMap::new();
        for wait in waits {
            let slot = self.slots.get(&wait.schedule);
            let unmet = unmet.get(&wait.schedule).map(String::as_str);
            let Some((plan, reason)) = settle(slot, unmet, &wait, now) else {
                left.push(wait);
                continue;
            };
            if let Some(slot) = slot {
                overlap.insert(wait.schedule.clone(), slot.schedule.run.overlap);
            }
            instants.push(Instant {
                schedule: wait.schedule,
                nominal_at: wait.nominal_at,
                reason,
                revision: slot.map(|slot| slot.schedule.hash.to_string()).unwrap_or_default(),
                instants: 1,
                actor: Actor::scheduler(),
                cause: Cause::Wait,
                basis: None,
                plan,
            });
        }
        for instants in instants.chunks(RECORDED_AT_ONCE) {
            let (instants, overlap) = (instants.to_vec(), overlap.clone());
            let recorded = self.own.enqueuer.record(instants, overlap, self.read_at).await?;
            self.note(&recorded);
        }
        Ok(left)
    }

    /// What the schedules of these waits still lack.
    async fn unmet_of(&self, waits: &[Wait]) -> Result<HashMap<ScheduleId, String>, StoreError> {
        let ids: BTreeSet<&ScheduleId> = waits.iter().map(|wait| &wait.schedule).collect();
        let asked = ids.into_iter().filter_map(|id| self.slots.get(id)).map(|slot| async {
            let why = self.own.enqueuer.unmet(slot.schedule.run.requires.clone()).await?;
            Ok(why.map(|why| (slot.schedule.id.clone(), why)))
        });
        let answers: Result<Vec<_>, StoreError> = join_all(asked).await.into_iter().collect();
        Ok(answers?.into_iter().flatten().collect())
    }
}

/// What becomes of an instant that waits, and why; none while it goes on waiting.
fn settle(
    slot: Option<&Slot>,
    unmet: Option<&str>,
    wait: &Wait,
    now: Timestamp,
) -> Option<(Plan, String)> {
    let is_over = wait.until <= now;
    let skip = |why: String| Some((Plan::Settle(Decision::SkippedRequirement), why));
    // Another node may have the file still, so only the end of the wait is a reason to give up for it.
    let Some(slot) = slot else {
        return if is_over { skip("its file is gone".to_owned()) } else { None };
    };
    let schedule = &slot.schedule;
    if !schedule.enabled {
        return skip("it was switched off while it waited for its requirements".to_owned());
    }
    if let Some(pause) = slot.ledger.pause.as_deref().filter(|pause| pause.is_active(now)) {
        return Some((Plan::Settle(Decision::SkippedPaused), Exclusion::Paused(pause).reason()));
    }
    match unmet {
        Some(why) if is_over => skip(format!("{why}; it waited until {}", wait.until)),
        Some(_) => None,
        None => {
            let waited = now.duration_since(wait.nominal_at).as_secs().max(0).unsigned_abs();
            let reason = format!(
                "due, {} late because it waited for its requirements",
                HumanDuration::from_secs(waited)
            );
            let job = new_job(schedule, wait.nominal_at, now, Actor::scheduler());
            Some((Plan::Enqueue(Box::new(job)), reason))
        }
    }
}
