//! One life of a node: an engine that is started on what the simulation gives it, and in the end stopped or left.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use sexton::clock::{CautiousClock, SharedClock};
use sexton::config::{self, Settings};
use sexton::daemon::engine::{Engine, Identity, Others, Parts, Threads};
use sexton::jobs::RunPaths;
use sexton::jobs::command::Keepers;
use sexton::model::{HumanDuration, QueueSettings};
use sexton::store::{DatabaseUrl, Store};
use sexton::upkeep::{History, remembered_clock};
use sexton::worker::{Departure, Registry};

use super::dice::Dice;
use super::evidence::database_in;
use super::handlers::Scripted;
use super::trace::Trace;

/// How many attempts run at once on a node, and how many of them in the narrow queue.
pub(super) const SLOTS: u16 = 4;
pub(super) const NARROW_SLOTS: u16 = 1;

/// The kind of which few run at once, and how many those are.
pub(super) const CAPPED: &str = "capped";
pub(super) const CAPPED_MAX: u32 = 2;

/// What a life begins with.
pub(super) struct Life {
    /// No other life of the world has it.
    pub(super) number: usize,
    pub(super) settings: Arc<Settings>,
    /// What the engine takes for the time.
    pub(super) clock: SharedClock,
    pub(super) dice: Dice,
    pub(super) handler: Arc<Scripted>,
    pub(super) trace: Trace,
}

impl Life {
    /// Starts the engine, beside others where there are some.
    pub(super) async fn begin(&self, store: Store, others: Option<Others>) -> Option<Engine> {
        match self.try_begin(store, others).await {
            Ok(engine) => {
                let now = self.clock.now();
                self.trace.line(format_args!("life {} began at {now}", self.number));
                Some(engine)
            }
            Err(error) => {
                self.trace.line(format_args!("life {} did not begin: {error}", self.number));
                None
            }
        }
    }

    async fn try_begin(&self, store: Store, others: Option<Others>) -> Result<Engine, String> {
        let paths = Arc::new(RunPaths::under(&self.settings.data_dir));
        let draws = Mutex::new(self.dice.for_purpose("jitter", 0));
        let clock = Arc::clone(&self.clock);
        let remembered = remembered_clock(&store).await.map_err(|error| error.to_string())?;
        let started = Engine::start(Parts {
            settings: Arc::clone(&self.settings),
            ages: CautiousClock::new(Arc::clone(&clock), remembered),
            clock,
            others,
            history: Arc::new(History::new(store.clone(), Arc::clone(&paths))),
            store,
            identity: Identity {
                node: self.settings.node.clone(),
                instance: format!("life {}", self.number),
                predecessor: None,
                fresh_seed: "a seed".to_owned(),
            },
            paths,
            registry: Registry::default()
                .with("command", Arc::clone(&self.handler) as _)
                .with(CAPPED, Arc::clone(&self.handler) as _),
            keepers: Keepers::none(),
            draw: Arc::new(move || draws.lock().unwrap_or_else(PoisonError::into_inner).fraction()),
            threads: Threads::None { tick: Duration::from_millis(500) },
        });
        started.await.map_err(|error| error.to_string())
    }
}

/// Stops an engine in order.
pub(super) async fn stop(engine: Engine, grace: Duration) {
    let patience = async {
        tokio::time::sleep(grace).await;
        "the grace period is over"
    };
    let cut_short = engine.drain(Departure::Stop, patience).await;
    drop(engine.finish("a test", cut_short.is_some()).await);
}

/// A runtime whose time passes only when nobody has anything to do.
pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        // Whoever decides about the end is asked after each step of anybody: a crash can come between any two.
        .event_interval(1)
        .build()
        .expect("a runtime")
}

/// How the daemons of a world are set up that keeps everything in that folder.
pub(super) fn settings(folder: PathBuf, dice: &mut Dice) -> Settings {
    static BASE: OnceLock<Settings> = OnceLock::new();
    let base = BASE.get_or_init(|| {
        let mut request = config::Request::from_process(None).expect("a current directory");
        request.system_file = PathBuf::from("/nonexistent");
        request.environment.clear();
        config::load(&request).expect("the defaults are sound").settings
    });
    let mut settings = base.clone();
    let for_ever = HumanDuration(Duration::from_secs(400 * 365 * 86_400));
    settings.database = DatabaseUrl::Sqlite(database_in(&folder));
    settings.schedule_dirs = vec![folder.join("schedules")];
    settings.kind_dirs = vec![declare_kinds(folder.join("kinds"))];
    settings.audit.dir = folder.join("log");
    settings.data_dir = folder;
    settings.node.name = "sim".to_owned();
    settings.node.labels = Vec::new();
    settings.workers.count = SLOTS.try_into().expect("slots");
    let timeout = dice.chance(50).then_some(HumanDuration(Duration::from_secs(20)));
    let narrow = QueueSettings {
        workers: Some(NARROW_SLOTS.try_into().expect("a slot")),
        rate: timeout.is_none().then(|| "1/s burst 2".parse().expect("a rate")),
        timeout,
    };
    settings.queues.insert("narrow".to_owned(), narrow);
    settings.workers.reserved_high = if dice.chance(30) { 1 } else { 0 };
    settings.defaults.timeout = HumanDuration(Duration::from_secs(100));
    // The checker looks at everything that ever was.
    settings.retention.completed = for_ever;
    settings.retention.failed = for_ever;
    settings.retention.cancelled = for_ever;
    settings.retention.occurrences = for_ever;
    settings.retention.statistics = for_ever;
    // Where a node is alone a lease decides nothing, and a renewal is a commit that has to be paid for.
    settings.lease.heartbeat = HumanDuration(Duration::from_secs(60));
    settings.lease.duration = HumanDuration(Duration::from_secs(300));
    settings
}

/// Writes the kinds that files declare, and tells where.
fn declare_kinds(folder: PathBuf) -> PathBuf {
    std::fs::create_dir_all(&folder).expect("a folder for kinds");
    let text = format!(
        "[run]\nconcurrency = {CAPPED_MAX}\n[command]\nargv = [\"true\"]\n[params]\ntype = \"object\"\n"
    );
    std::fs::write(folder.join(format!("{CAPPED}.toml")), text).expect("a kind is declared");
    folder
}

/// How quick most jobs are beside the store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tempo {
    /// Whether they take no time that counts, and come by the dozen, so that workers wait for the store.
    pub(super) is_brisk: bool,
}

impl Tempo {
    pub(super) fn draw(dice: &Dice) -> Self {
        Self { is_brisk: dice.for_purpose("brisk", 0).chance(40) }
    }

    /// How long a step of a write takes.
    pub(super) fn step(self) -> Duration {
        Duration::from_millis(if self.is_brisk { 5 } else { 0 })
    }

    /// See [`Temper::most_jobs`](super::people::Temper::most_jobs).
    pub(super) fn most_jobs(self) -> usize {
        if self.is_brisk { 80 } else { 12 }
    }
}
