//! The scheduler on a clock that is driven, pass by pass: what it records when time does not do what it should.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use tempfile::TempDir;

use super::*;
use crate::catalog::{LookOn, Reading};
use crate::clock::{Clock as _, ManualClock};
use crate::jobs::Kind;
use crate::model::{AfterAttempt, Decision, FinishedAttempt, JobId, Ledger, NodeId, Outcome};
use crate::queue::{Ageing, Limits, Signals};
use crate::schedule::Defaults;
use crate::scheduler::Looks;
use crate::store::claim::{ClaimRequest, claim};
use crate::store::finish::finish;
use crate::store::history::{OccurrenceFilter, Page, occurrences};
use crate::store::nodes;
use crate::store::testing::{TestDatabase, sqlite};

const KINDS: &[Kind] = &[Kind::built_in("idle", "does nothing", |_| Vec::new())];

const MINUTE: Duration = Duration::from_secs(60);
const YEAR: i64 = 365 * 86_400;

/// Two and a half hours before noon, and long before any change of a clock.
const START: &str = "2026-06-15T09:30:00Z";

/// Every ten minutes, whether or not the last job is over.
const PACE: &str = "[when]\nevery = \"10m\"\n[run]\noverlap = \"allow\"\n[idle]\n";

#[derive(Debug)]
struct Decided {
    schedule: String,
    nominal_at: Timestamp,
    decision: Decision,
    reason: String,
    job: Option<JobId>,
}

/// A scheduler whose passes are made by hand.
struct World {
    state: State,
    clock: ManualClock,
    events: broadcast::Receiver<Event>,
    doubt: watch::Receiver<Option<String>>,
    stop: CancellationToken,
    node: NodeId,
    database: TestDatabase,
    place: TempDir,
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

impl World {
    async fn new(clock: &ManualClock, files: &[(&str, &str)]) -> Self {
        let place = tempfile::tempdir().unwrap();
        for (id, text) in files {
            std::fs::write(place.path().join(format!("{id}.toml")), text).unwrap();
        }
        Self::on(sqlite(), clock, place).await
    }

    /// A scheduler that starts on that database with those files.
    async fn on(database: TestDatabase, clock: &ManualClock, place: TempDir) -> Self {
        let store = database.store().clone();
        let now = clock.now();
        let node = store
            .write(move |conn| {
                let instance = uuid::Uuid::new_v4().to_string();
                let new =
                    nodes::NewNode { identity: crate::model::NodeIdentity::default(), instance };
                nodes::register(conn, &new, now, now)
            })
            .await
            .unwrap();
        let stop = CancellationToken::new();
        let shared: crate::clock::SharedClock = Arc::new(clock.clone());
        let (reloader, first) = Reloader::start(
            vec![place.path().to_owned()],
            Reading { defaults: Defaults::default(), kinds: KINDS, kind_dirs: Vec::new() },
            Arc::clone(&shared),
            LookOn::Caller,
            stop.clone(),
        )
        .await;
        assert!(first.ok, "{:?}", first.diagnostics);
        let (sender, events) = broadcast::channel(50_000);
        let (doubt, doubted) = watch::channel(None);
        let scheduler = Scheduler {
            enqueuer: Enqueuer {
                store,
                clock: Arc::clone(&shared),
                node,
                ageing: Ageing::DEFAULT,
                signals: Signals::new().0,
                events: sender,
                looks: Looks::default(),
            },
            alarm: Alarm::new(shared),
            reloader,
            draws: Arc::new(Draws { host: "host".to_owned(), seed: "seed".to_owned() }),
            ledger_changed: Arc::new(Notify::new()),
            doubt,
        };
        let mut state = State::new(scheduler, stop.clone());
        state.adopt().await.unwrap();
        let clock = clock.clone();
        Self { state, clock, events, doubt: doubted, stop, node, database, place }
    }

    /// The daemon ends, and another one starts.
    async fn restart(self) -> Self {
        self.stop.cancel();
        Self::on(self.database, &self.clock, self.place).await
    }

    /// What one pass decides.
    async fn pass(&mut self) -> Vec<Decided> {
        self.state.pass().await;
        let mut decided = Vec::new();
        while let Ok(event) = self.events.try_recv() {
            if let Event::Decided { schedule, nominal_at, decision, reason, job } = event {
                let schedule = schedule.to_string();
                decided.push(Decided { schedule, nominal_at, decision, reason, job });
            }
        }
        decided
    }

    async fn pass_after(&mut self, time: Duration) -> Vec<Decided> {
        self.clock.advance(time);
        self.pass().await
    }

    async fn step_by(&mut self, seconds: i64) {
        self.clock.step_to(self.clock.now() + SignedDuration::from_secs(seconds));
        self.state.clock_stepped().await;
    }

    fn ledger(&self, id: &str) -> &Ledger {
        &self.state.slots[&id.parse().unwrap()].ledger
    }
}

fn enqueued(decided: &[Decided], schedule: &str) -> usize {
    let runs = |one: &&Decided| one.schedule == schedule && one.decision == Decision::Enqueued;
    decided.iter().filter(runs).count()
}

#[tokio::test]
async fn d3_d4_d5_no_jump_of_the_clock_runs_an_instant_twice_or_many_at_once() {
    let files = [
        ("pace", PACE),
        ("stars", "[when]\ncron = \"*/15 * * * *\"\n[run]\noverlap = \"allow\"\n[idle]\n"),
        ("noon", "[when]\ndaily = \"12:00\"\n[run]\noverlap = \"allow\"\n[idle]\n"),
    ];
    for jump in [1, 3600, 3 * 3600 - 60, 86_400, 10 * YEAR].into_iter().flat_map(|by| [by, -by]) {
        let clock = ManualClock::new(at(START));
        let mut world = World::new(&clock, &files).await;
        let mut seen = BTreeSet::new();
        // As it was, after the jump, and after the clock was put right.
        for by in [0, jump, -jump] {
            if by != 0 {
                world.step_by(by).await;
            }
            let mut runs = [0, 0];
            for _ in 0..13 {
                let decided = world.pass_after(5 * MINUTE).await;
                for (id, _) in &files {
                    assert!(
                        enqueued(&decided, id) <= 1,
                        "{id} runs many times at once after {by}s"
                    );
                }
                runs[0] += enqueued(&decided, "pace");
                runs[1] += enqueued(&decided, "stars");
                for one in decided {
                    let instant = (one.schedule, one.nominal_at);
                    assert!(seen.insert(instant.clone()), "{instant:?} after {by}s");
                }
            }
            // Within 65 minutes, whatever the clock says: no silence, and no more than a catch-up more than usual.
            assert!(
                (5..=8).contains(&runs[0]),
                "{jump}: the interval ran {} times after {by}s",
                runs[0]
            );
            assert!(
                (3..=6).contains(&runs[1]),
                "{jump}: the wildcard ran {} times after {by}s",
                runs[1]
            );
        }
        let noons = seen.iter().filter(|(id, _)| id == "noon").map(|(_, at)| *at);
        assert!(noons.count() >= usize::from(jump.abs() > 3600), "{jump}");
    }
}

/// The next instant that somebody makes a job for.
async fn next_run(world: &mut World) -> Timestamp {
    let enqueued = async {
        loop {
            let event = world.events.recv().await.unwrap();
            if let Event::Decided { decision: Decision::Enqueued, nominal_at, .. } = event {
                return nominal_at;
            }
        }
    };
    tokio::time::timeout(MINUTE, enqueued).await.expect("nobody was woken")
}

#[tokio::test]
async fn d3_a_clock_that_is_set_wakes_the_scheduler() {
    let clock = ManualClock::new(at(START));
    let mut world = World::new(&clock, &[("pace", PACE)]).await;
    let stop = CancellationToken::new();
    let (scheduler, alarm) = {
        let own = &world.state.own;
        let scheduler = Scheduler {
            enqueuer: own.enqueuer.clone(),
            alarm: Arc::clone(&own.alarm),
            reloader: Arc::clone(&own.reloader),
            draws: Arc::clone(&own.draws),
            ledger_changed: Arc::new(Notify::new()),
            doubt: watch::channel(None).0,
        };
        (scheduler, Arc::clone(&own.alarm))
    };
    // The first pass finds something to do, so that it is known when it has looked.
    clock.advance(10 * MINUTE);
    let task = scheduler.start(stop.clone()).await.unwrap();
    assert_eq!(next_run(&mut world).await, at("2026-06-15T09:40:00Z"));
    clock.step_to(at(START) + SignedDuration::from_hours(2));
    alarm.tick();
    assert_eq!(next_run(&mut world).await, at("2026-06-15T11:30:00Z"));
    stop.cancel();
    task.await.unwrap();
}

/// Whoever fires the next instant first would hide those that the standby lacks.
#[tokio::test]
async fn m4_instants_that_a_standby_lacks_are_decided_again_before_the_next_one() {
    let clock = ManualClock::new(at(START));
    let mut world = World::new(&clock, &[("pace", PACE)]).await;
    let first = world.pass_after(10 * MINUTE).await;
    let mut lost = Vec::new();
    for _ in 0..2 {
        lost.extend(world.pass_after(10 * MINUTE).await);
    }
    assert_eq!(lost.len(), 2, "{lost:?}");
    let mark = first[0].nominal_at.as_microsecond();
    let lose = format!(
        "DELETE FROM occurrences WHERE nominal_at > {mark}; UPDATE schedules SET decided_until = {mark}"
    );
    world.database.sql(&lose).await;
    world.database.reopen();
    let decided = world.pass_after(10 * MINUTE).await;
    let instants =
        |rows: &[Decided]| -> Vec<Timestamp> { rows.iter().map(|row| row.nominal_at).collect() };
    let filter = OccurrenceFilter { schedule: Some("pace".to_owned()), ..Default::default() };
    let page = Page { limit: 100, before: None };
    let store = world.database.store();
    let rows = store.read(move |conn| occurrences(conn, &filter, page)).await.unwrap();
    let told: i64 = rows.iter().map(|row| row.instants).sum();
    assert_eq!(told, 4, "{:?} after {:?}", instants(&decided), instants(&lost));
}

#[tokio::test]
async fn d5_an_interval_says_that_its_instant_comes_again_and_keeps_to_it_through_a_reload() {
    let clock = ManualClock::new(at(START));
    let mut world = World::new(&clock, &[("pace", PACE)]).await;
    assert_eq!(enqueued(&world.pass_after(10 * MINUTE).await, "pace"), 1);
    world.step_by(-3600).await;
    world.state.adopt().await.unwrap();
    assert_eq!(enqueued(&world.pass_after(5 * MINUTE).await, "pace"), 0, "half a period at least");
    let again = world.pass_after(5 * MINUTE).await;
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].nominal_at, at("2026-06-15T08:50:00.000001Z"));
    let again = world.pass_after(50 * MINUTE).await;
    let last = again.last().unwrap();
    assert_eq!(last.nominal_at, at("2026-06-15T09:40:00.000001Z"));
    assert!(last.reason.contains("shows this time again"), "{}", last.reason);
}

#[tokio::test]
async fn d6_after_a_sleep_of_ten_minutes_what_was_missed_is_caught_up_once() {
    let clock = ManualClock::new(at(START));
    let minutely = PACE.replace("10m", "1m");
    let mut world = World::new(&clock, &[("pace", &minutely)]).await;
    world.pass_after(MINUTE).await;
    // Both clocks go on while the machine sleeps, so nothing was set, and the tick after it finds the alarm overdue.
    clock.advance(10 * MINUTE);
    assert!(world.state.own.alarm.tick(), "the alarm is near");
    let decided = world.pass().await;
    assert_eq!((decided.len(), enqueued(&decided, "pace")), (10, 1));
    assert_eq!(world.ledger("pace").decided_until, clock.now());
}

#[tokio::test]
async fn d7_nothing_is_adopted_or_run_while_the_clock_shows_1970() {
    let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
    let mut world = World::new(&clock, &[("pace", PACE)]).await;
    for _ in 0..30 {
        assert_eq!(world.pass_after(10 * MINUTE).await.len(), 0);
    }
    let why = world.doubt.borrow().clone().unwrap();
    assert!(why.contains("before this program was written"), "{why}");
    let known = world.database.store().read(ledgers::ledgers).await.unwrap();
    assert!(known.is_empty(), "a ledger from 1970 would owe half a century");

    clock.step_to(at(START));
    world.state.clock_stepped().await;
    assert_eq!(world.pass().await.len(), 0, "it starts now and owes nothing");
    assert_eq!(world.doubt.borrow().clone(), None);
    assert_eq!(enqueued(&world.pass_after(10 * MINUTE).await, "pace"), 1);
}

#[tokio::test]
async fn d7_a_clock_behind_the_ledgers_is_waited_for_until_a_time_server_has_set_it() {
    let clock = ManualClock::new(at(START));
    let mut world = World::new(&clock, &[("pace", PACE)]).await;
    world.pass_after(10 * MINUTE).await;
    // A new file must not make the machine's wrong time plausible.
    std::fs::write(world.place.path().join("new.toml"), PACE).unwrap();
    clock.step_to(at("2026-03-01T00:00:00Z"));
    let mut world = world.restart().await;
    assert_eq!(world.pass_after(20 * MINUTE).await.len(), 0);
    assert!(world.doubt.borrow().as_ref().unwrap().contains("behind what was decided already"));
    clock.synchronise_to(at(START) + SignedDuration::from_mins(15));
    world.state.clock_stepped().await;
    assert_eq!(world.pass().await.len(), 0);
    let decided = world.pass_after(5 * MINUTE).await;
    assert_eq!((enqueued(&decided, "pace"), enqueued(&decided, "new")), (1, 1));
    assert_eq!(world.doubt.borrow().clone(), None);
}

#[tokio::test]
async fn d4_a_restart_with_the_right_clock_after_a_jump_of_ten_years_does_not_wait_for_ten_years() {
    let clock = ManualClock::new(at(START));
    let mut world = World::new(&clock, &[("pace", PACE)]).await;
    world.pass_after(10 * MINUTE).await;
    world.step_by(10 * YEAR).await;
    assert_eq!(enqueued(&world.pass().await, "pace"), 1);
    clock.step_to(at(START) + SignedDuration::from_mins(15));
    let mut world = world.restart().await;
    assert_eq!(world.pass().await.len(), 0);
    assert!(world.doubt.borrow().is_some(), "either clock may be the wrong one");
    let mut runs = 0;
    for _ in 0..8 {
        runs += enqueued(&world.pass_after(10 * MINUTE).await, "pace");
    }
    assert!((1..=3).contains(&runs), "it goes on after an hour: {runs}");
}

#[tokio::test]
async fn d10_what_is_due_at_one_instant_is_recorded_once_and_in_a_fair_order() {
    const SCHEDULES: usize = 1000;
    let mut text = String::new();
    for number in 0..SCHEDULES {
        write!(text, "[[schedule]]\nid = \"s{number:05}\"\nwhen.daily = \"10:00\"\nidle = {{}}\n")
            .unwrap();
    }
    let clock = ManualClock::new(at(START));
    let mut world = World::new(&clock, &[("many", &text)]).await;
    let decided = world.pass_after(30 * MINUTE).await;
    assert_eq!(decided.len(), SCHEDULES);
    assert!(decided.iter().all(|one| one.decision == Decision::Enqueued));
    let order: Vec<(&str, Option<JobId>)> =
        decided.iter().map(|one| (one.schedule.as_str(), one.job)).collect();
    assert!(order.is_sorted(), "jobs start in the order of their names, not of a hash");
    assert_eq!(world.pass().await.len(), 0);
}

/// Claims the only job that is ready, and ends it so.
async fn run_one(world: &World, outcome: Outcome, next: AfterAttempt) -> JobId {
    let (node, now) = (world.node, world.clock.now());
    let ended = world
        .database
        .store()
        .write(move |conn| {
            let request = ClaimRequest {
                identity: crate::model::NodeIdentity::default(),
                node,
                now,
                slots: 1,
                normal_slots: 1,
                ahead: 0,
                limits: Limits::default(),
            };
            let claimed = claim(conn, &request)?.jobs.remove(0);
            let attempt = FinishedAttempt {
                job: claimed.id,
                number: claimed.number,
                outcome,
                started_at: now,
                finished_at: now,
                exit_code: None,
                error: None,
                result: None,
                output_tail: None,
                checkpoint: None,
                next,
            };
            finish(conn, node, &[attempt])?;
            Ok(claimed.id)
        })
        .await;
    ended.unwrap()
}

#[tokio::test]
async fn i3_a_job_that_waits_for_its_retry_is_in_the_way_as_the_policy_says() {
    let clock = ManualClock::new(at(START));
    let skip = PACE.replace("allow", "skip");
    let mut world = World::new(&clock, &[("pace", &skip)]).await;
    assert_eq!(enqueued(&world.pass_after(10 * MINUTE).await, "pace"), 1);
    let again = AfterAttempt::RetryAt(clock.now() + 25 * MINUTE);
    let job = run_one(&world, Outcome::Failure, again).await;
    for _ in 0..2 {
        let decided = world.pass_after(10 * MINUTE).await;
        assert_eq!(decided.len(), 1);
        assert_eq!(decided[0].decision, Decision::SkippedOverlap);
        assert!(decided[0].reason.contains(&format!("job {job} ")), "{}", decided[0].reason);
    }
}

#[tokio::test]
async fn i3_a_backlog_has_an_end_and_what_is_beyond_it_is_skipped_with_a_row() {
    let clock = ManualClock::new(at(START));
    let all = PACE.replace("allow", "queue_all");
    let mut world = World::new(&clock, &[("pace", &all)]).await;
    for _ in 0..super::super::MAX_BACKLOG {
        assert_eq!(enqueued(&world.pass_after(10 * MINUTE).await, "pace"), 1);
    }
    let decided = world.pass_after(10 * MINUTE).await;
    assert_eq!(decided[0].decision, Decision::SkippedOverlap);
    assert!(decided[0].reason.starts_with("backlog: 100 jobs"), "{}", decided[0].reason);
    assert_eq!(decided[0].job, None);
}

/// Makes a job of the schedule by hand.
async fn run_by_hand(world: &World, id: &str, dry_run: bool) {
    let schedule = Arc::clone(&world.state.slots[&id.parse().unwrap()].schedule);
    let by_hand = super::super::ByHand {
        actor: Actor::named("test"),
        params: None,
        nominal_at: None,
        dry_run,
    };
    let recorded = world.state.own.enqueuer.by_hand(&schedule, by_hand).await.unwrap();
    assert!(recorded.job.is_some(), "{recorded:?}");
}

async fn complete(world: &World) -> JobId {
    let end = AfterAttempt::End(crate::model::FinalState::Completed);
    run_one(world, Outcome::Success, end).await
}

const FOLLOWS: &str =
    "[when]\nafter = { schedule = \"dump\" }\n[run]\noverlap = \"allow\"\n[idle]\n";

/// What a pass decides about one schedule.
fn of<'d>(decided: &'d [Decided], schedule: &str) -> Vec<(&'d Timestamp, Decision, &'d str)> {
    let own = decided.iter().filter(|one| one.schedule == schedule);
    own.map(|one| (&one.nominal_at, one.decision, one.reason.as_str())).collect()
}

#[tokio::test]
async fn a_schedule_that_follows_another_is_due_when_its_job_completes() {
    let clock = ManualClock::new(at(START));
    let mut world = World::new(&clock, &[("dump", "[idle]\n"), ("report", FOLLOWS)]).await;
    assert!(world.pass().await.is_empty());
    run_by_hand(&world, "dump", false).await;
    clock.advance(MINUTE);
    let job = complete(&world).await;
    world.state.lookout.look_by(Timestamp::MIN);
    let decided = world.pass().await;
    let reason = format!("after job {job} of `dump` completed: due");
    assert_eq!(of(&decided, "report"), [(&clock.now(), Decision::Enqueued, reason.as_str())]);
    // Once, also after a restart.
    world.state.lookout.look_by(Timestamp::MIN);
    assert!(world.pass().await.is_empty());
    let mut world = world.restart().await;
    assert!(world.pass_after(MINUTE).await.is_empty());
}

#[tokio::test]
async fn an_end_that_nobody_announced_is_found_by_looking_and_one_before_a_restart_as_well() {
    let clock = ManualClock::new(at(START));
    let mut world = World::new(&clock, &[("dump", "[idle]\n"), ("report", FOLLOWS)]).await;
    world.pass().await;
    run_by_hand(&world, "dump", false).await;
    complete(&world).await;
    assert!(of(&world.pass().await, "report").is_empty(), "it has just looked");
    assert_eq!(enqueued(&world.pass_after(following::LOOK_EVERY).await, "report"), 1);
    complete(&world).await;

    run_by_hand(&world, "dump", false).await;
    complete(&world).await;
    clock.advance(10 * MINUTE);
    let mut world = world.restart().await;
    let decided = world.pass().await;
    let [(_, Decision::Enqueued, reason)] = of(&decided, "report")[..] else { panic!("it is due") };
    assert!(reason.ends_with("completed: due, 10m late"), "{reason}");
}

#[tokio::test]
async fn a_dry_run_is_nothing_to_follow_or_to_rely_on() {
    let clock = ManualClock::new(at(START));
    let fresh = "[when]\nevery = \"10m\"\n[run]\nrequires = [\"fresh:dump:1h\"]\n[idle]\n";
    let files = [("dump", "[idle]\n"), ("report", FOLLOWS), ("fresh", fresh)];
    let mut world = World::new(&clock, &files).await;
    run_by_hand(&world, "dump", true).await;
    complete(&world).await;
    let decided = world.pass_after(10 * MINUTE).await;
    assert!(of(&decided, "report").is_empty());
    let [(_, Decision::SkippedRequirement, why)] = of(&decided, "fresh")[..] else {
        panic!("it lacks a success")
    };
    assert_eq!(why, "fresh:dump:1h is not met: no job of `dump` has completed yet");
    run_by_hand(&world, "dump", false).await;
    complete(&world).await;
    let decided = world.pass_after(10 * MINUTE).await;
    assert_eq!((enqueued(&decided, "report"), enqueued(&decided, "fresh")), (1, 1));
    for _ in 0..2 {
        complete(&world).await;
    }
    assert_eq!(enqueued(&world.pass_after(60 * MINUTE).await, "fresh"), 0, "that is too long ago");
}

#[tokio::test]
async fn an_edit_decides_about_ends_that_came_before_it() {
    let clock = ManualClock::new(at(START));
    let jitter = FOLLOWS.replace("\n[run]", "\njitter = \"1h\"\n[run]");
    let mut world = World::new(&clock, &[("dump", "[idle]\n"), ("report", &jitter)]).await;
    run_by_hand(&world, "dump", false).await;
    complete(&world).await;
    assert!(of(&world.pass_after(following::LOOK_EVERY).await, "report").is_empty());
    // It still follows the same one, so what waits for its delay goes on waiting.
    let also_daily = jitter.replace("jitter", "daily = \"23:00\"\njitter");
    std::fs::write(world.place.path().join("report.toml"), also_daily).unwrap();
    world.state.own.reloader.reload().await.unwrap();
    world.state.adopt().await.unwrap();
    assert_eq!(enqueued(&world.pass_after(60 * MINUTE).await, "report"), 1);
}

const WAITS: &str = "[when]\ndaily = \"10:00\"\n[run]\nrequires = [\"fresh:dump:24h\"]\nrequires_wait = \"1h\"\n[idle]\n";

#[tokio::test]
async fn an_instant_waits_for_its_requirements_and_becomes_a_job_when_they_are_met() {
    let clock = ManualClock::new(at(START));
    let mut world = World::new(&clock, &[("dump", "[idle]\n"), ("report", WAITS)]).await;
    let decided = world.pass_after(30 * MINUTE).await;
    let ten = at("2026-06-15T10:00:00Z");
    assert_eq!(
        of(&decided, "report"),
        [(
            &ten,
            Decision::Waiting,
            "fresh:dump:1d is not met: no job of `dump` has completed yet; it waits for that until 2026-06-15T11:00:00Z"
        )]
    );
    assert!(world.pass_after(10 * MINUTE).await.is_empty(), "it goes on waiting");
    let mut world = world.restart().await;
    assert!(world.pass_after(10 * MINUTE).await.is_empty(), "through a restart");
    run_by_hand(&world, "dump", false).await;
    complete(&world).await;
    let decided = world.pass_after(following::LOOK_EVERY).await;
    let reason = "due, 20m 15s late because it waited for its requirements";
    assert_eq!(of(&decided, "report"), [(&ten, Decision::Enqueued, reason)]);
    assert!(world.pass_after(60 * MINUTE).await.is_empty(), "once");
}

#[tokio::test]
async fn an_instant_that_waits_in_vain_is_skipped_when_the_wait_is_over() {
    let clock = ManualClock::new(at(START));
    let mut world = World::new(&clock, &[("dump", "[idle]\n"), ("report", WAITS)]).await;
    assert_eq!(world.pass_after(30 * MINUTE).await.len(), 1);
    assert!(world.pass_after(59 * MINUTE).await.is_empty());
    let decided = world.pass_after(MINUTE).await;
    let [(_, Decision::SkippedRequirement, why)] = of(&decided, "report")[..] else {
        panic!("the wait is over")
    };
    assert!(why.ends_with("it waited until 2026-06-15T11:00:00Z"), "{why}");
    // One that is caught up after its wait would have been over does not begin to wait.
    let mut world = world.restart().await;
    clock.advance(24 * 60 * MINUTE);
    let decided = world.pass().await;
    assert_eq!(of(&decided, "report")[0].1, Decision::SkippedRequirement);
}

#[tokio::test]
async fn what_waits_is_given_up_when_its_schedule_is_paused_switched_off_or_gone() {
    let clock = ManualClock::new(at(START));
    let files = [("paused", WAITS), ("off", WAITS), ("gone", WAITS), ("other", "[idle]\n")];
    let mut world = World::new(&clock, &files).await;
    assert_eq!(world.pass_after(30 * MINUTE).await.len(), 3);
    std::fs::remove_file(world.place.path().join("gone.toml")).unwrap();
    let off = format!("enabled = false\n{WAITS}");
    std::fs::write(world.place.path().join("off.toml"), off).unwrap();
    world.state.own.reloader.reload().await.unwrap();
    let pause = crate::model::Pause {
        since: clock.now(),
        until: None,
        by: "alice".to_owned(),
        reason: "holidays".to_owned(),
    };
    let paused = "paused".parse().unwrap();
    let store = world.database.store().clone();
    store.write(move |conn| ledgers::pause(conn, &paused, &pause)).await.unwrap();
    world.state.adopt().await.unwrap();
    let decided = world.pass_after(MINUTE).await;
    assert_eq!(of(&decided, "paused")[0].1, Decision::SkippedPaused);
    assert_eq!(of(&decided, "off")[0].1, Decision::SkippedRequirement);
    assert!(of(&decided, "gone").is_empty(), "another node may have it still");
    let decided = world.pass_after(60 * MINUTE).await;
    assert_eq!(of(&decided, "gone")[0].1, Decision::SkippedRequirement);
}

#[tokio::test]
async fn a_schedule_that_counts_from_its_end_goes_on_when_nobody_announced_the_end() {
    let clock = ManualClock::new(at(START));
    let from_end = "[when]\nevery = \"10m\"\nfrom = \"end\"\n[idle]\n";
    let mut world = World::new(&clock, &[("pace", from_end)]).await;
    assert_eq!(enqueued(&world.pass_after(10 * MINUTE).await, "pace"), 1);
    // As another node, or somebody who cancels it, would end it.
    complete(&world).await;
    assert!(world.pass_after(following::LOOK_EVERY).await.is_empty());
    assert_eq!(enqueued(&world.pass_after(10 * MINUTE).await, "pace"), 1);
}
