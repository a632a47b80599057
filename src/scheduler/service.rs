//! The scheduler: sleeps to the next due instant, decides, records, and sets the alarm again.
//!
//! It is one task. What it knows of each schedule is a copy of the ledger, so that a pass over what is due asks the database nothing;
//! the truth is the rows, and the unique `(schedule, nominal_at)` makes a copy that lags behind harmless.

mod again;
mod clock;
mod following;
mod slot;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use tokio::sync::{Notify, broadcast, watch};
use tokio_util::sync::CancellationToken;

use self::following::{LOOK_EVERY, Lookout};
use self::slot::Slot;
use super::alarm::Alarm;
use super::due::{DueDecision, Entry, decide};
use super::enqueue::Enqueuer;
use super::spread::Spread;
use crate::catalog::{Catalog, Diff, ReloadReport, Reloader};
use crate::model::AuditEvent;
use crate::model::{Actor, Cause, Chain, Event, Ledger, ScheduleId};
use crate::schedule::{Overlap, Schedule, Trigger};
use crate::store::StoreError;
use crate::store::audit::append_event;
use crate::store::schedules::{self as ledgers, Basis, Definition, Plan, Recorded};
use crate::store::wakeups::News;

/// How long to wait before a pass is tried again after the store refused it.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// How many instants one transaction records, so that what is due at midnight does not keep claims and submissions waiting until all of it
/// is written: a thousand take about 20 ms. What has been recorded stays decided if the next part fails.
const RECORDED_AT_ONCE: usize = 1000;

/// How many lines of what a reload changed are logged.
const SUMMARY_LINES: usize = 50;

/// What offsets and jitter are drawn from: who we are, and the seed that the database keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draws {
    /// The host's name.
    pub host: String,
    /// The database's seed.
    pub seed: String,
}

impl Draws {
    /// As the pure functions take it.
    #[must_use]
    pub fn spread(&self) -> Spread<'_> {
        Spread { host: &self.host, seed: &self.seed }
    }
}

/// Everything the scheduler works with.
pub struct Scheduler {
    /// Records what it decides.
    pub enqueuer: Enqueuer,
    /// Wakes it.
    pub alarm: Arc<Alarm>,
    /// Holds the schedules that are in force.
    pub reloader: Arc<Reloader>,
    /// Draws offsets and jitter.
    pub draws: Arc<Draws>,
    /// Notified when a ledger was changed by hand.
    pub ledger_changed: Arc<Notify>,
    /// Told why nothing is scheduled, while the clock is not believed.
    pub doubt: watch::Sender<Option<String>>,
}

/// Every reason for which the scheduler wakes.
enum Wake {
    Alarm,
    ClockStepped,
    Reloaded(Arc<ReloadReport>),
    LedgerChanged,
    RunEnded(ScheduleId),
    JobsChangedByHand,
    Stop,
}

/// A reload as the audit log tells of it.
#[derive(Serialize)]
struct Reloaded<'a> {
    diff: &'a Diff,
    ok: bool,
    revision: &'a str,
    schedules: usize,
}

struct State {
    own: Scheduler,
    stop: CancellationToken,
    slots: BTreeMap<ScheduleId, Slot>,
    heap: BinaryHeap<Reverse<(Timestamp, ScheduleId)>>,
    /// What no alarm tells of.
    lookout: Lookout,
    /// How many connections the store's writer had opened again when the ledgers were read.
    read_at: u64,
    /// Whether the store refused the last pass.
    is_refused: bool,
    /// When the clock began to be waited for, on the monotonic clock; `None` once it was believed. From then on a step back is a
    /// correction, before that it may be a bad clock.
    waiting_since: Option<Duration>,
    /// Wall clock minus monotonic clock, when it was last looked at.
    offset: SignedDuration,
}

impl Scheduler {
    /// Takes over what is loaded and schedules until `stop`.
    ///
    /// # Errors
    /// When the ledgers cannot be read at the start.
    pub async fn start(
        self,
        stop: CancellationToken,
    ) -> Result<tokio::task::JoinHandle<()>, StoreError> {
        let reports = self.reloader.subscribe();
        let events = self.enqueuer.events.subscribe();
        let mut state = State::new(self, stop);
        state.adopt().await?;
        Ok(tokio::spawn(state.run(reports, events)))
    }
}

impl State {
    fn new(own: Scheduler, stop: CancellationToken) -> Self {
        let clock = &own.enqueuer.clock;
        let (waiting_since, offset) = (Some(clock.since_boot()), clock::offset(clock));
        Self {
            own,
            stop,
            slots: BTreeMap::new(),
            heap: BinaryHeap::new(),
            lookout: Lookout::default(),
            read_at: 0,
            is_refused: false,
            waiting_since,
            offset,
        }
    }

    async fn run(
        mut self,
        mut reports: broadcast::Receiver<Arc<ReloadReport>>,
        mut events: broadcast::Receiver<Event>,
    ) {
        loop {
            self.pass().await;
            match self.wait(&mut reports, &mut events).await {
                Wake::Alarm => {}
                Wake::ClockStepped => self.clock_stepped().await,
                Wake::Reloaded(report) => self.reloaded(&report).await,
                Wake::LedgerChanged => self.adopt_or_retry().await,
                Wake::RunEnded(id) => {
                    if self.lookout.counts(&id) {
                        self.run_ended(&id).await;
                        // It ended here, and the rule counts from there on every node.
                        self.own.enqueuer.signals.tell_others(News::Ledger);
                    }
                    if self.lookout.awaits(&id) {
                        self.lookout.look_by(Timestamp::MIN);
                    }
                }
                Wake::JobsChangedByHand => self.lookout.look_by(Timestamp::MIN),
                Wake::Stop => return,
            }
        }
    }

    async fn wait(
        &self,
        reports: &mut broadcast::Receiver<Arc<ReloadReport>>,
        events: &mut broadcast::Receiver<Event>,
    ) -> Wake {
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Wake::Stop,
                () = self.own.alarm.rung() => return Wake::Alarm,
                () = self.own.alarm.clock_stepped() => return Wake::ClockStepped,
                () = self.own.ledger_changed.notified() => return Wake::LedgerChanged,
                report = reports.recv() => match report {
                    Ok(report) => return Wake::Reloaded(report),
                    // The latest catalog is what counts, and it is read from its source.
                    Err(broadcast::error::RecvError::Lagged(_)) => return Wake::LedgerChanged,
                    Err(broadcast::error::RecvError::Closed) => return Wake::Stop,
                },
                event = events.recv() => match event {
                    Ok(Event::AttemptFinished { schedule: Some(id), state, .. })
                        if state.is_final() && (self.lookout.counts(&id) || self.lookout.awaits(&id)) =>
                    {
                        return Wake::RunEnded(id);
                    }
                    // A job that is cancelled while it waits has ended without an attempt.
                    Ok(Event::ByHand { action, .. })
                        if self.lookout.next.is_some() && action.starts_with("job.") =>
                    {
                        return Wake::JobsChangedByHand;
                    }
                    Err(broadcast::error::RecvError::Lagged(_)) => return Wake::LedgerChanged,
                    _ => {}
                },
            }
        }
    }

    /// Decides and records everything that is due, until nothing is, and sets the alarm.
    async fn pass(&mut self) {
        if !self.is_clock_believed() || self.is_behind_another_connection() {
            self.adopt_or_retry().await;
        }
        let now = self.own.enqueuer.clock.now();
        if !self.is_clock_believed() {
            self.own.alarm.set(Some(now + clock::LOOK_AGAIN_AFTER));
            return;
        }
        self.look(now).await;
        let (decisions, ahead) = self.due(now);
        if !ahead.is_empty() {
            self.correct(ahead, now).await;
        }
        for decisions in decisions.chunks(RECORDED_AT_ONCE) {
            match self.record(decisions).await {
                Ok(()) if std::mem::take(&mut self.is_refused) => {
                    tracing::info!("due instants can be recorded again");
                }
                Ok(()) => {}
                Err(error) => self.put_off(decisions, &error, now),
            }
        }
        let next = self.head();
        self.own.alarm.set(next.into_iter().chain(self.lookout.next).min());
    }

    /// Whether the ledgers were read on a connection of the store that is not the one it has now.
    fn is_behind_another_connection(&self) -> bool {
        self.own.enqueuer.store.reopenings().count() != self.read_at
    }

    /// Lets instants be decided again that the store refused.
    fn put_off(&mut self, decisions: &[DueDecision], error: &StoreError, now: Timestamp) {
        // Once, and not every second of a full disk. That the ledgers are read again first is no refusal.
        if !self.is_behind_another_connection() && !std::mem::replace(&mut self.is_refused, true) {
            tracing::error!(
                error = %Chain(error),
                instants = decisions.len(),
                "due instants could not be recorded; they are decided again until they can"
            );
        }
        for decision in decisions {
            self.set_next(&decision.schedule, Some(now + STORE_PAUSE));
        }
    }

    /// What is due of the schedules at the head of the heap, and which ledgers lie ahead of the clock.
    fn due(&mut self, now: Timestamp) -> (Vec<DueDecision>, Vec<ScheduleId>) {
        let (mut decisions, mut ahead) = (Vec::new(), Vec::new());
        while let Some(at) = self.head().filter(|at| *at <= now) {
            let Some(Reverse((_, id))) = self.heap.pop() else { break };
            let Some(slot) = self.slots.get_mut(&id).filter(|slot| slot.next == Some(at)) else {
                continue;
            };
            let Slot { schedule, ledger, live, .. } = slot;
            let entry = Entry { schedule, ledger, live: *live, ends: self.lookout.ends(&id) };
            let due = decide(&entry, &self.own.draws.spread(), now);
            slot.next = None;
            if due.ahead {
                ahead.push(id);
                continue;
            }
            let next = due.next.map(|next| next.fire_at);
            decisions.extend(due.decisions);
            self.set_next(&id, next);
        }
        (decisions, ahead)
    }

    /// The earliest instant in the heap that still counts.
    fn head(&mut self) -> Option<Timestamp> {
        while let Some(Reverse((at, id))) = self.heap.peek() {
            if self.slots.get(id).is_some_and(|slot| slot.next == Some(*at)) {
                return Some(*at);
            }
            self.heap.pop();
        }
        None
    }

    fn set_next(&mut self, id: &ScheduleId, next: Option<Timestamp>) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.next = next;
            if let Some(at) = next {
                self.heap.push(Reverse((at, id.clone())));
            }
        }
    }

    async fn record(&mut self, decisions: &[DueDecision]) -> Result<(), StoreError> {
        if decisions.is_empty() {
            return Ok(());
        }
        let unmet = self.unmet(decisions).await?;
        let now = self.own.enqueuer.clock.now();
        let mut instants = Vec::with_capacity(decisions.len());
        let mut overlap: HashMap<ScheduleId, Overlap> = HashMap::new();
        for decision in decisions {
            let Some(slot) = self.slots.get(&decision.schedule) else { continue };
            overlap.insert(decision.schedule.clone(), slot.schedule.run.overlap);
            let mut instant = slot.instant(decision, unmet.get(&decision.schedule), now);
            if self.hangs_on_others(decision, &slot.schedule) {
                let Ledger { decided_until, last_end, .. } = slot.ledger;
                instant.basis = Some(Basis { decided_until, last_end });
            }
            if let Plan::Wait { until } = instant.plan {
                self.lookout.look_by(until.min(now + LOOK_EVERY));
            }
            instants.push(instant);
        }
        let recorded = self.own.enqueuer.record(instants, overlap, self.read_at).await?;
        for decision in decisions {
            match (decision.cause, self.slots.get_mut(&decision.schedule)) {
                (Cause::Rule, Some(slot)) => {
                    slot.ledger.decided_until = slot.ledger.decided_until.max(decision.nominal_at);
                }
                (Cause::End, _) => {
                    self.lookout.followed(&decision.schedule, decision.nominal_at);
                }
                _ => {}
            }
        }
        self.note(&recorded);
        for decision in decisions {
            let slot = self.slots.get(&decision.schedule);
            let hangs = slot.is_some_and(|slot| self.hangs_on_others(decision, &slot.schedule));
            let instant = (&decision.schedule, decision.nominal_at);
            if hangs && !recorded.iter().any(|row| (&row.schedule, row.nominal_at) == instant) {
                // Another node was faster; what comes next hangs on its run.
                self.run_ended(&decision.schedule).await;
            }
        }
        Ok(())
    }

    /// Whether an instant would be another one if another node has run the schedule meanwhile.
    fn hangs_on_others(&self, decision: &DueDecision, schedule: &Schedule) -> bool {
        decision.cause == Cause::Rule && from_end(schedule) && !self.is_alone()
    }

    /// Takes over what was recorded.
    fn note(&mut self, recorded: &[Recorded]) {
        for row in recorded {
            if row.job.is_some()
                && let Some(slot) = self.slots.get_mut(&row.schedule)
            {
                slot.live = true;
            }
            let counts = row.job.is_some() && self.lookout.counts(&row.schedule);
            if counts {
                self.lookout.look_by(self.own.enqueuer.clock.now() + LOOK_EVERY);
            }
            // A waiting job that had to make way has ended.
            if !row.cancelled.is_empty() && self.lookout.next.is_some() {
                self.lookout.look_by(Timestamp::MIN);
            }
        }
    }

    /// What schedules require and do not have. It is looked at only now, when jobs are about to be made; side by side, because what
    /// one requires may take its time, and the others must not wait behind it one by one.
    async fn unmet(
        &self,
        decisions: &[DueDecision],
    ) -> Result<HashMap<ScheduleId, String>, StoreError> {
        let asked = decisions
            .iter()
            .filter(|decision| decision.verdict.settled().is_none())
            .filter_map(|decision| self.slots.get(&decision.schedule))
            .filter(|slot| !slot.schedule.run.requires.is_empty())
            .map(|slot| async {
                let why = self.own.enqueuer.unmet(slot.schedule.run.requires.clone()).await?;
                Ok(why.map(|why| (slot.schedule.id.clone(), why)))
            });
        let answers: Result<Vec<_>, StoreError> = join_all(asked).await.into_iter().collect();
        Ok(answers?.into_iter().flatten().collect())
    }

    async fn reloaded(&mut self, report: &ReloadReport) {
        // Jobs may have waited for the file of their kind, or under a limit that it has raised.
        self.own.enqueuer.signals.work();
        let (now, node) = (self.own.enqueuer.clock.now(), self.own.enqueuer.node);
        let summary = shortened(&report.diff.to_string());
        tracing::info!(
            revision = report.revision.short(),
            ok = report.ok,
            "schedules reloaded: {summary}"
        );
        for diagnostic in &report.diagnostics {
            if diagnostic.is_error() {
                tracing::error!("{diagnostic}");
            } else {
                tracing::warn!("{diagnostic}");
            }
        }
        let detail = Reloaded {
            diff: &report.diff,
            ok: report.ok,
            revision: report.revision.short(),
            schedules: report.schedules,
        };
        let event =
            AuditEvent::new("schedules.reloaded", &Actor::system(), "schedules", &detail, now);
        let written =
            self.own.enqueuer.store.write(move |conn| append_event(conn, node, &event)).await;
        if let Err(error) = written {
            tracing::error!(error = %Chain(&error), "the reload could not be recorded in the audit log");
        }
        let _nobody_listens = self.own.enqueuer.events.send(Event::Reloaded {
            revision: report.revision.to_string(),
            ok: report.ok,
            summary,
        });
        self.adopt_or_retry().await;
    }

    async fn run_ended(&mut self, id: &ScheduleId) {
        let name = id.clone();
        let read = self
            .own
            .enqueuer
            .store
            .read(move |conn| Ok((ledgers::ledger(conn, &name)?, ledgers::live_jobs(conn, &name)?)))
            .await;
        match (read, self.slots.get_mut(id)) {
            (Ok((Some(ledger), live)), Some(slot)) => {
                slot.read_again(ledger);
                slot.live = !live.is_empty();
                if slot.live {
                    self.lookout.look_by(self.own.enqueuer.clock.now() + LOOK_EVERY);
                }
                self.set_next(id, Some(Timestamp::MIN));
            }
            (Err(error), _) => {
                tracing::error!(error = %Chain(&error), schedule = id.as_str(), "a ledger could not be read");
                let again = self.own.enqueuer.clock.now() + STORE_PAUSE;
                self.set_next(id, Some(again));
            }
            _ => {}
        }
    }

    async fn adopt_or_retry(&mut self) {
        while let Err(error) = self.adopt().await {
            tracing::error!(error = %Chain(&error), "schedules could not be adopted; trying again in a moment");
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(STORE_PAUSE) => {}
            }
        }
    }

    /// Takes over the loaded schedules with their ledgers. New and edited rules start now; the others go on where they were.
    async fn adopt(&mut self) -> Result<(), StoreError> {
        let catalog: Arc<Catalog> = self.own.reloader.current();
        if !self.is_clock_believed() && self.doubts_the_clock(&catalog).await? {
            return Ok(());
        }
        let definitions: Vec<Definition> =
            catalog.schedules.values().map(|schedule| definition(schedule)).collect();
        let now = self.own.enqueuer.clock.now();
        // Before they are read. What replaced schedules leave to decide is decided from what was read before.
        self.read_at = self.own.enqueuer.store.reopenings().count();
        self.take_ends().await?;
        self.settle_replaced(&definitions, now).await?;
        let (mut ledgers, live) = self
            .own
            .enqueuer
            .store
            .write_results(move |conn| {
                Ok((ledgers::adopt(conn, &definitions, now)?, ledgers::all_live(conn)?))
            })
            .await?;
        let mut before = std::mem::take(&mut self.slots);
        let slots = catalog.schedules.iter().filter_map(|(id, schedule)| {
            let ledger = ledgers.remove(id)?;
            let live = live.contains(id.as_str());
            let schedule = Arc::clone(schedule);
            let slot = match before.remove(id) {
                Some(before) => before.followed_by(schedule, ledger, live),
                None => Slot { schedule, ledger, live, again: None, next: None },
            };
            Some((id.clone(), slot))
        });
        self.slots = slots.collect();
        let lookout = std::mem::take(&mut self.lookout);
        let loaded = self.slots.values().map(|slot| &*slot.schedule);
        self.lookout = Lookout::over(lookout, loaded);
        self.rebuild();
        Ok(())
    }

    /// Decides what has become due by `now` under rules that are edited or gone. Their successors start at `now`, so an instant that
    /// came due while the reload waited for a slow disk would otherwise vanish without a row.
    async fn settle_replaced(
        &mut self,
        definitions: &[Definition],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let new: HashMap<&ScheduleId, &str> =
            definitions.iter().map(|new| (&new.id, new.rule.as_str())).collect();
        let stays = |id: &ScheduleId, slot: &Slot| {
            new.get(id).is_some_and(|rule| *rule == rule_of(&slot.schedule))
        };
        let replaced = self.slots.iter().filter(|(id, slot)| !stays(id, slot));
        let spread = self.own.draws.spread();
        let decisions: Vec<DueDecision> = replaced
            .flat_map(|(id, Slot { schedule, ledger, live, .. })| {
                let ends = self.lookout.ends(id);
                decide(&Entry { schedule, ledger, live: *live, ends }, &spread, now).decisions
            })
            .collect();
        self.record(&decisions).await
    }

    /// Puts every schedule at the head of the heap, so that the next pass works out its next instant anew.
    fn rebuild(&mut self) {
        self.heap.clear();
        let ids: Vec<ScheduleId> = self.slots.keys().cloned().collect();
        for id in ids {
            self.set_next(&id, Some(Timestamp::MIN));
        }
    }
}

/// A deployment can change every schedule. What is more than people read in a log line is in the audit log.
fn shortened(summary: &str) -> String {
    let mut kept: Vec<&str> = summary.lines().take(SUMMARY_LINES).collect();
    let more = summary.lines().count() - kept.len();
    let rest = format!("... and {more} more lines");
    if more > 0 {
        kept.push(&rest);
    }
    kept.join("\n")
}

fn from_end(schedule: &Schedule) -> bool {
    schedule
        .when
        .rule
        .triggers
        .iter()
        .any(|trigger| matches!(trigger, Trigger::EveryFromEnd { .. }))
}

/// A schedule as far as its ledger depends on it. One that is switched off follows nobody.
fn definition(schedule: &Schedule) -> Definition {
    let rule = &schedule.when.rule;
    let follows = rule.follows().filter(|_| schedule.enabled);
    Definition {
        id: schedule.id.clone(),
        rule: rule_of(schedule),
        follows: follows.map(|(other, on)| (other.clone(), on)).collect(),
    }
}

/// The hash by which a ledger tells that its schedule's rule has changed.
#[must_use]
pub fn rule_of(schedule: &Schedule) -> String {
    let fields = crate::schedule::rule_fields(schedule);
    let lines: Vec<String> = fields.iter().map(|(key, value)| format!("{key}={value}")).collect();
    blake3::hash(lines.join("\n").as_bytes()).to_hex().to_string()
}

#[cfg(test)]
mod tests;
