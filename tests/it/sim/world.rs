//! One seed's world: a machine with a disk and clocks, on which the engine lives several lives.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sexton::catalog::Reloader;
use sexton::clock::{CautiousClock, Clock as _, SharedClock};
use sexton::config::{self, Settings};
use sexton::daemon::engine::{Engine, Identity, Parts, Threads};
use sexton::daemon::schedule_defaults;
use sexton::jobs::RunPaths;
use sexton::jobs::command::Keepers;
use sexton::model::{HumanDuration, QueueSettings};
use sexton::schedule::Schedule;
use sexton::scheduler::rule_of;
use sexton::store::{DatabaseUrl, Store};
use sexton::upkeep::{History, remembered_clock};
use sexton::worker::{Departure, Registry};
use tempfile::TempDir;

use super::dice::Dice;
use super::disk::{Disk, Mood};
use super::files::Files;
use super::handlers::{Log, Scripted};
use super::history;
use super::people::{People, Promises, Temper};
use super::time::SimClock;
use super::trace::Trace;

/// Where the wall clock stands when a world begins: ordinary days, and those on which some zone's clocks change.
const BEGINNINGS: [&str; 6] = [
    "2026-06-15T11:58:30Z",
    "2026-03-29T00:25:00Z",
    "2026-10-25T00:20:00Z",
    "2026-03-08T06:40:00Z",
    "2026-11-01T05:20:00Z",
    "2026-10-03T15:10:00Z",
];

/// How many attempts run at once, and how many of them in the narrow queue.
pub(super) const SLOTS: u16 = 4;
pub(super) const NARROW_SLOTS: u16 = 1;

/// A machine, and everything that is known about what happened on it.
pub(super) struct World {
    dice: Dice,
    pub(super) clock: SimClock,
    pub(super) trace: Trace,
    pub(super) files: Arc<Mutex<Files>>,
    pub(super) promises: Arc<Mutex<Promises>>,
    pub(super) log: Arc<Mutex<Log>>,
    pub(super) sightings: Arc<Mutex<Vec<Sighting>>>,
    settings: Arc<Settings>,
    temper: Temper,
    loses_answers: bool,
    /// Whether most jobs take less time than the store.
    is_brisk: bool,
    lives: usize,
    /// How things stood in the quiet life when everything that was due had been decided.
    pub(super) settled: Option<Settled>,
    pub(super) folder: TempDir,
}

/// The rules that were in force when somebody looked.
pub(super) struct Sighting {
    /// The last change that had been recorded.
    pub(super) seq: i64,
    /// By schedule, see `scheduler::rule_of`.
    pub(super) rules: BTreeMap<String, String>,
}

impl Sighting {
    pub(super) fn of(reloader: &Reloader, database: &Path) -> Self {
        let catalog = reloader.current();
        let rules =
            catalog.schedules.values().map(|schedule| (schedule.id.to_string(), rule_of(schedule)));
        Self { seq: history::last_change(database), rules: rules.collect() }
    }
}

/// How things stood when everything that was due had been decided.
pub(super) struct Settled {
    pub(super) at: Timestamp,
    /// The last change that had been recorded.
    pub(super) seq: i64,
    /// The schedules that were in force.
    pub(super) in_force: Vec<Arc<Schedule>>,
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
        let folder = folder();
        history::place_database(&folder.path().join("sexton.db"), sabotage);
        let beginning: Timestamp = dice.pick(&BEGINNINGS).parse().expect("an instant");
        let clock = SimClock::new(beginning);
        let trace = Trace::new(clock.clone());
        let settings = Arc::new(settings(folder.path().to_owned(), &mut dice));
        let files = Files::new(folder.path().join("schedules"), schedule_defaults(&settings));
        let temper = Temper {
            pause: dice.between(4, 30),
            clock: dice.chance(50),
            wild_clock: dice.chance(5),
            disk: dice.chance(60),
        };
        Self {
            clock,
            trace,
            files: Arc::new(Mutex::new(files)),
            promises: Arc::default(),
            log: Arc::default(),
            sightings: Arc::default(),
            settings,
            temper,
            loses_answers: dice.chance(20),
            is_brisk: dice.for_purpose("brisk", 0).chance(40),
            lives: 0,
            settled: None,
            folder,
            dice,
        }
    }

    /// Lives all lives, the last of which is quiet and drains everything.
    pub(super) fn run(&mut self) -> Result<(), String> {
        let mut dice = self.dice.for_purpose("lives", 0);
        for _ in 0..dice.between(2, 5) {
            let plan = Plan::draw(&mut dice);
            let end = self.life(&plan);
            self.trace.line(format_args!("life {} ended: {end:?}", self.lives));
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
        self.clock.pass(away);
        self.trace.line(format_args!("down for {away:?}"));
        if dice.chance(25) {
            let edit = self.files().edit(dice, self.clock.now());
            self.trace.line(format_args!("edit while down: {edit}"));
        }
        if self.temper.clock && dice.chance(10) {
            self.clock.set(Timestamp::UNIX_EPOCH + SignedDuration::from_secs(7));
            self.trace.line(format_args!("the machine boots in 1970"));
        }
    }

    fn files(&self) -> std::sync::MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn life(&mut self, plan: &Plan) -> End {
        self.lives += 1;
        let dice = self.dice.for_purpose("life", self.lives as u64);
        let disk = Disk::new(
            dice.for_purpose("disk", 0),
            plan.crash_at_step,
            self.loses_answers,
            self.trace.clone(),
        );
        let crash = Arc::clone(&disk.crash);
        let quiet = Arc::new(AtomicBool::new(false));
        let (world, temper) = (&*self, self.temper);
        let clock = self.clock.clone();
        let starts_in_1970 = clock.now() < Timestamp::from_second(1_000_000_000).expect("2001");
        let living = async {
            let Some(engine) = world.start(&disk, &dice, &quiet).await else {
                return End::NotStarted;
            };
            let people = world.people(&engine, &disk, temper);
            if starts_in_1970 {
                let (clock, trace) = (clock.clone(), world.trace.clone());
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
        in_runtime(&self.clock, async {
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
        let disk = Disk::new(dice.for_purpose("disk", 0), None, false, self.trace.clone());
        let quiet = Arc::new(AtomicBool::new(true));
        // The clock is right at last: no ledger lies ahead of it.
        self.clock.set(self.clock.latest() + SignedDuration::from_secs(1));
        self.trace.line(format_args!("the quiet life begins at {}", self.clock.now()));
        let world = &*self;
        let settled = in_runtime(&self.clock, async {
            let started = world.start(&disk, &dice, &quiet).await;
            let engine = started.ok_or("the engine does not start on a healthy machine")?;
            let people = world.people(&engine, &disk, world.temper);
            tokio::time::sleep(Duration::from_secs(100)).await;
            let settled = Settled {
                at: world.clock.now(),
                seq: history::last_change(&world.database()),
                in_force: engine.reloader().current().schedules.values().cloned().collect(),
            };
            world.trace.line(format_args!("settled at {}", settled.at));
            for queue in super::QUEUES {
                people.post(&format!("/api/v1/queues/{queue}/resume"), &json!({})).await;
            }
            world.files().disable_all(world.clock.now());
            people.reload().await;
            world.drain().await?;
            // One that is stopped in order has nothing left to write to the audit log.
            stop(engine, Duration::from_secs(1)).await;
            Ok::<_, String>(settled)
        })?;
        self.settled = Some(settled);
        Ok(())
    }

    /// Waits until no job is live. What waits for a date gets its date.
    async fn drain(&self) -> Result<(), String> {
        let database = self.database();
        for _ in 0..400 {
            tokio::time::sleep(Duration::from_secs(5)).await;
            let live = history::live(&database);
            if live.count == 0 {
                return Ok(());
            }
            let far = self.clock.now() + SignedDuration::from_secs(60);
            if let Some(next) = live.next_run_at.filter(|next| live.only_scheduled && *next > far) {
                self.clock.set(next);
                self.trace
                    .line(format_args!("the clock is set to {next}, when the next job is due"));
            }
        }
        Err(format!(
            "jobs are still live long after everything was quiet: {:?}",
            history::live(&database)
        ))
    }

    pub(super) fn database(&self) -> PathBuf {
        self.folder.path().join("sexton.db")
    }

    pub(super) fn audit_log(&self) -> PathBuf {
        self.settings.audit.dir.join(sexton::audit::FILE_NAME)
    }

    async fn start(
        &self,
        disk: &Arc<Disk>,
        dice: &Dice,
        quiet: &Arc<AtomicBool>,
    ) -> Option<Engine> {
        let url = DatabaseUrl::Sqlite(self.database());
        let (store, work) = Store::driven(&url, Arc::clone(disk) as _).expect("the database opens");
        tokio::spawn(work);
        let paths = Arc::new(RunPaths::under(self.folder.path()));
        let handler = Arc::new(Scripted {
            dice: self.dice.for_purpose("handlers", 0),
            life: self.lives,
            log: Arc::clone(&self.log),
            trace: self.trace.clone(),
            quiet: Arc::clone(quiet),
            is_brisk: self.is_brisk,
        });
        let draws = Mutex::new(dice.for_purpose("jitter", 0));
        let clock: SharedClock = Arc::new(self.clock.clone());
        let remembered = remembered_clock(&store).await.expect("the disk is healthy at first");
        let started = Engine::start(Parts {
            settings: Arc::clone(&self.settings),
            ages: CautiousClock::new(Arc::clone(&clock), remembered),
            clock,
            others: None,
            history: Arc::new(History::new(store.clone(), Arc::clone(&paths))),
            store,
            identity: Identity {
                node: sexton::model::NodeIdentity { name: "sim".to_owned(), labels: Vec::new() },
                instance: format!("life {}", self.lives),
                fresh_seed: "a seed".to_owned(),
            },
            paths,
            registry: Registry::default().with("command", handler),
            keepers: Keepers::none(),
            draw: Arc::new(move || draws.lock().unwrap_or_else(PoisonError::into_inner).fraction()),
            threads: Threads::None { tick: Duration::from_millis(500) },
        });
        match started.await {
            Ok(engine) => {
                self.trace.line(format_args!("life {} began at {}", self.lives, self.clock.now()));
                Some(engine)
            }
            Err(error) => {
                self.trace.line(format_args!("life {} did not begin: {error}", self.lives));
                None
            }
        }
    }

    fn people(&self, engine: &Engine, disk: &Arc<Disk>, temper: Temper) -> People {
        let no_numbers = || Box::pin(std::future::ready(String::new())) as _;
        let app = engine.app(Box::new(Vec::new), Box::new(no_numbers));
        let people = People {
            api: sexton::api::router(app),
            clock: self.clock.clone(),
            trace: self.trace.clone(),
            disk: Arc::clone(disk),
            files: Arc::clone(&self.files),
            promises: Arc::clone(&self.promises),
            log: Arc::clone(&self.log),
            reloader: Arc::clone(engine.reloader()),
            sightings: Arc::clone(&self.sightings),
            database: self.database(),
            temper,
        };
        people.look();
        people
    }
}

async fn stop(engine: Engine, grace: Duration) {
    let patience = async {
        tokio::time::sleep(grace).await;
        "the grace period is over"
    };
    let cut_short = engine.drain(Departure::Stop, patience).await;
    drop(engine.finish("a test", cut_short.is_some()).await);
}

/// Runs one life in a runtime of its own, with which everything of it ends, wherever it is.
fn in_runtime<T>(clock: &SimClock, life: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        // Whoever decides about the end is asked after each step of anybody: a crash can come between any two.
        .event_interval(1)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        clock.begin_life();
        let end = life.await;
        clock.end_life();
        end
    })
}

/// On a file system in memory where there is one: a process crash loses nothing that the kernel has, so syncs are only time.
fn folder() -> TempDir {
    let memory = PathBuf::from("/dev/shm");
    let made = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    made.or_else(|_not_there| tempfile::tempdir()).expect("a temporary folder")
}

fn settings(folder: PathBuf, dice: &mut Dice) -> Settings {
    static BASE: OnceLock<Settings> = OnceLock::new();
    let base = BASE.get_or_init(|| {
        let mut request = config::Request::from_process(None).expect("a current directory");
        request.system_file = PathBuf::from("/nonexistent");
        request.environment.clear();
        config::load(&request).expect("the defaults are sound").settings
    });
    let mut settings = base.clone();
    let for_ever = HumanDuration(Duration::from_secs(400 * 365 * 86_400));
    settings.database = DatabaseUrl::Sqlite(folder.join("sexton.db"));
    settings.schedule_dirs = vec![folder.join("schedules")];
    settings.audit.dir = folder.join("log");
    settings.data_dir = folder;
    settings.workers.count = SLOTS.try_into().expect("slots");
    let timeout = dice.chance(50).then_some(HumanDuration(Duration::from_secs(20)));
    let narrow = QueueSettings {
        workers: Some(NARROW_SLOTS.try_into().expect("a slot")),
        rate: timeout.is_none().then(|| "1/s burst 2".parse().expect("a rate")),
        timeout,
    };
    settings.queues.insert("narrow".to_owned(), narrow);
    settings.defaults.timeout = HumanDuration(Duration::from_secs(100));
    // The checker looks at everything that ever was.
    settings.retention.completed = for_ever;
    settings.retention.failed = for_ever;
    settings.retention.cancelled = for_ever;
    settings.retention.occurrences = for_ever;
    settings.retention.statistics = for_ever;
    // On SQLite a lease decides nothing, and a renewal is a commit that has to be paid for.
    settings.lease.heartbeat = HumanDuration(Duration::from_secs(60));
    settings.lease.duration = HumanDuration(Duration::from_secs(300));
    settings
}
