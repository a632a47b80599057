//! One seed's world: a machine with a disk and clocks, on which the engine lives several lives.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sexton::clock::Clock as _;
use sexton::config::Settings;
use sexton::daemon::engine::Engine;
use sexton::daemon::schedule_defaults;
use sexton::store::{DatabaseUrl, Store};

use super::dice::Dice;
use super::disk::{Disk, Mood};
use super::evidence::{self, AuditLog, Evidence, Settled, database_in};
use super::handlers::{HeldUp, Scripted};
use super::history;
use super::life::{Life, Tempo, runtime, settings, stop};
use super::people::{People, Temper};
use super::time::Course;

/// Where the wall clock stands when a world begins: ordinary days, and those on which some zone's clocks change.
pub(super) const BEGINNINGS: [&str; 6] = [
    "2026-06-15T11:58:30Z",
    "2026-03-29T00:25:00Z",
    "2026-10-25T00:20:00Z",
    "2026-03-08T06:40:00Z",
    "2026-11-01T05:20:00Z",
    "2026-10-03T15:10:00Z",
];

/// A machine, and everything that is known about what happened on it.
pub(super) struct World {
    dice: Dice,
    pub(super) evidence: Evidence,
    settings: Arc<Settings>,
    temper: Temper,
    loses_answers: bool,
    tempo: Tempo,
    lives: usize,
}

/// How a life ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Crashed,
    Stopped,
    NotStarted,
}

/// What is drawn for a life before it begins.
struct Plan {
    length: Duration,
    /// Tasks are polled this often after `length` before the crash; `None`: it is stopped in order.
    crash_after_polls: Option<u64>,
    /// It crashes at this step of the store's, if it comes to that.
    crash_at_step: Option<u64>,
    /// How long the drain may take.
    grace: Duration,
}

impl Plan {
    fn draw(dice: &mut Dice) -> Self {
        let crashes = dice.chance(70);
        Self {
            length: dice.seconds(5, 100),
            crash_after_polls: crashes.then(|| dice.between(0, 40)),
            crash_at_step: (crashes && dice.chance(60)).then(|| dice.between(0, 200)),
            grace: dice.seconds(0, 100),
        }
    }
}

impl World {
    pub(super) fn new(seed: u64, sabotage: Option<&str>) -> Self {
        let mut dice = Dice::new(seed).for_purpose("world", 0);
        let folder = evidence::folder();
        history::place_database(&database_in(folder.path()), sabotage);
        let beginning: Timestamp = dice.pick(&BEGINNINGS).parse().expect("an instant");
        let settings = Arc::new(settings(folder.path().to_owned(), &mut dice));
        let mut evidence = Evidence::new(beginning, schedule_defaults(&settings), folder);
        let path = settings.audit.dir.join(sexton::audit::FILE_NAME);
        evidence.audit_logs.push(AuditLog { name: String::new(), path });
        evidence.reserved_high = settings.workers.reserved_high;
        let tempo = Tempo::draw(&dice);
        let temper = Temper {
            pause: dice.between(4, 30),
            clock: dice.chance(50),
            wild_clock: dice.chance(5),
            disk: dice.chance(60),
            edits: true,
            nodes: 0,
            most_jobs: tempo.most_jobs(),
        };
        let loses_answers = dice.chance(20);
        Self { evidence, settings, temper, loses_answers, tempo, lives: 0, dice }
    }

    /// Lives all lives, the last of which is quiet and drains everything.
    pub(super) fn run(&mut self) -> Result<(), String> {
        let mut dice = self.dice.for_purpose("lives", 0);
        for _ in 0..dice.between(2, 5) {
            let plan = Plan::draw(&mut dice);
            let end = self.life(&plan);
            self.evidence.notes.trace.line(format_args!("life {} ended: {end:?}", self.lives));
            self.downtime(&mut dice);
        }
        self.quiet_life()
    }

    /// What happens between two lives: time passes, files are edited, the clock may be wrong after a boot.
    fn downtime(&mut self, dice: &mut Dice) {
        let away = match dice.between(0, 10) {
            0..=5 => dice.seconds(1, 20),
            6..=8 => dice.seconds(20, 1200),
            _ => dice.seconds(1200, 9000),
        };
        self.evidence.notes.course.pass(away);
        self.evidence.notes.trace.line(format_args!("down for {away:?}"));
        if dice.chance(25) {
            let edit = self.evidence.notes.files().edit(dice, self.evidence.notes.clock.now());
            self.evidence.notes.trace.line(format_args!("edit while down: {edit}"));
        }
        if self.temper.clock && dice.chance(10) {
            self.evidence.notes.clock.set(Timestamp::UNIX_EPOCH + SignedDuration::from_secs(7));
            self.evidence.notes.trace.line(format_args!("the machine boots in 1970"));
        }
    }

    fn life(&mut self, plan: &Plan) -> End {
        self.lives += 1;
        let dice = self.dice.for_purpose("life", self.lives as u64);
        let disk = Disk::new(
            dice.for_purpose("disk", 0),
            plan.crash_at_step,
            self.loses_answers,
            self.tempo.step(),
            self.evidence.notes.trace.clone(),
        );
        let crash = Arc::clone(&disk.crash);
        let quiet = Arc::new(AtomicBool::new(false));
        let (world, temper) = (&*self, self.temper);
        let clock = self.evidence.notes.clock.clone();
        let starts_in_1970 = clock.now() < Timestamp::from_second(1_000_000_000).expect("2001");
        let living = async {
            let Some(engine) = world.start(&disk, &dice, &quiet).await else {
                return End::NotStarted;
            };
            let people = world.people(&engine, &disk, temper);
            if starts_in_1970 {
                let (clock, trace) = (clock.clone(), world.evidence.notes.trace.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_secs(30)).await;
                    clock.set(clock.latest());
                    trace.line(format_args!("the clock is synchronised: {}", clock.now()));
                });
            }
            for number in 0..2 {
                tokio::spawn(people.clone().act(dice.for_purpose("people", number)));
            }
            tokio::time::sleep(plan.length).await;
            if let Some(polls) = plan.crash_after_polls {
                for _ in 0..polls {
                    tokio::task::yield_now().await;
                }
                return End::Crashed;
            }
            disk.set_mood(Mood::Healthy);
            stop(engine, plan.grace).await;
            End::Stopped
        };
        in_runtime(&self.evidence.notes.course, async {
            tokio::select! {
                biased;
                () = crash.notified() => End::Crashed,
                end = living => end,
            }
        })
    }

    /// The last life: nothing fails, nobody disturbs, and in the end nothing is left to do.
    fn quiet_life(&mut self) -> Result<(), String> {
        self.lives += 1;
        let dice = self.dice.for_purpose("life", self.lives as u64);
        let (dealt, trace) = (dice.for_purpose("disk", 0), self.evidence.notes.trace.clone());
        let disk = Disk::new(dealt, None, false, self.tempo.step(), trace);
        let quiet = Arc::new(AtomicBool::new(true));
        // The clock is right at last: no ledger lies ahead of it.
        self.evidence
            .notes
            .clock
            .set(self.evidence.notes.clock.latest() + SignedDuration::from_secs(1));
        self.evidence
            .notes
            .trace
            .line(format_args!("the quiet life begins at {}", self.evidence.notes.clock.now()));
        let world = &*self;
        let settled = in_runtime(&self.evidence.notes.course, async {
            let started = world.start(&disk, &dice, &quiet).await;
            let engine = started.ok_or("the engine does not start on a healthy machine")?;
            let people = world.people(&engine, &disk, world.temper);
            tokio::time::sleep(Duration::from_secs(100)).await;
            let settled = Settled::now(
                world.evidence.notes.clock.now(),
                engine.reloader(),
                &world.evidence.notes.database,
            );
            world.evidence.notes.trace.line(format_args!("settled at {}", settled.at));
            people.let_everything_go_on().await;
            world.evidence.notes.files().disable_all(world.evidence.notes.clock.now());
            people.reload().await;
            world.drain().await?;
            // One that is stopped in order has nothing left to write to the audit log.
            stop(engine, Duration::from_secs(1)).await;
            Ok::<_, String>(settled)
        })?;
        self.evidence.settled = Some(settled);
        Ok(())
    }

    /// Waits until no job is live. What waits for a date gets its date.
    async fn drain(&self) -> Result<(), String> {
        let database = &self.evidence.notes.database;
        for _ in 0..400 {
            tokio::time::sleep(Duration::from_secs(5)).await;
            let live = history::live(database);
            if live.count == 0 {
                return Ok(());
            }
            let far = self.evidence.notes.clock.now() + SignedDuration::from_secs(60);
            if let Some(next) = live.next_run_at.filter(|next| live.only_scheduled && *next > far) {
                self.evidence.notes.clock.set(next);
                self.evidence
                    .notes
                    .trace
                    .line(format_args!("the clock is set to {next}, when the next job is due"));
            }
        }
        Err(format!(
            "jobs are still live long after everything was quiet: {:?}",
            history::live(database)
        ))
    }

    async fn start(
        &self,
        disk: &Arc<Disk>,
        dice: &Dice,
        quiet: &Arc<AtomicBool>,
    ) -> Option<Engine> {
        let url = DatabaseUrl::Sqlite(self.evidence.notes.database.clone());
        let (store, work) = Store::driven(&url, Arc::clone(disk) as _).expect("the database opens");
        tokio::spawn(work);
        let trace = self.evidence.notes.trace.clone();
        let handler = Arc::new(Scripted {
            dice: self.dice.for_purpose("handlers", 0),
            life: self.lives,
            log: Arc::clone(&self.evidence.notes.log),
            trace: trace.clone(),
            quiet: Arc::clone(quiet),
            is_brisk: self.tempo.is_brisk,
            reserved_high: self.evidence.reserved_high,
            held_up: HeldUp::default(),
        });
        let clock = Arc::new(self.evidence.notes.clock.clone());
        let (number, settings) = (self.lives, Arc::clone(&self.settings));
        let life = Life { number, settings, clock, dice: dice.clone(), handler, trace };
        life.begin(store, None).await
    }

    fn people(&self, engine: &Engine, disk: &Arc<Disk>, temper: Temper) -> People {
        let clock = self.evidence.notes.clock.clone();
        let trace = self.evidence.notes.trace.clone();
        People::of(&self.evidence.notes, engine, clock, Arc::clone(disk), trace, temper)
    }
}

/// Runs one life in a runtime of its own, with which everything of it ends, wherever it is.
fn in_runtime<T>(course: &Course, life: impl Future<Output = T>) -> T {
    runtime().block_on(async {
        course.enter();
        let end = life.await;
        course.pass(course.leave());
        end
    })
}
