//! The engine inside another program: a durable queue and workers for kinds of the program's own.
//!
//! It is the daemon's engine, with its guarantees: what was submitted is on disk, an interrupted attempt is run again, the audit log
//! tells of everything. What makes a process a daemon is not there: it installs no signal handlers, opens no sockets, writes no
//! diagnostics but through [`tracing`], and runs no programs.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use futures_util::future::BoxFuture;
//! use serde_json::json;
//! use sexton::embed::{Answer, Context, Embedded, Handler, Job};
//!
//! struct Greet;
//!
//! impl Handler for Greet {
//!     fn run(&self, context: Context) -> BoxFuture<'_, Answer> {
//!         Box::pin(async move { Answer::Done(json!({ "greeted": context.job.params["name"] })) })
//!     }
//! }
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let sexton = Embedded::in_directory("var/greeter").kind("greet", Greet).start().await?;
//! let client = sexton.client("greeter");
//! let id = client.submit(Job::new("greet", json!({ "name": "Ada" })).label("team", "a")).await?;
//! println!("{:?}", client.wait(id).await?.result);
//! sexton.stop(Duration::from_secs(10)).await;
//! # Ok(())
//! # }
//! ```
//!
//! A handler watches [`Context::stop`], reports through [`Context::progress`], and may be run more than once for one job.

mod client;
mod job;

use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::config::{self, Request, Settings, SettingsError};
use crate::daemon::embedded::{Locks, start};
use crate::daemon::engine::Engine;
use crate::jobs::{JobDefaults, Kind};
use crate::model::{Actor, Chain};
use crate::worker::Departure;
use crate::worker::Registry;

pub use crate::daemon::StartError;
pub use crate::jobs::{Answer, Context, Failure, Handler, RetryAdvice};
pub use crate::model::{HumanDuration, JobId, JobState, Priority};
pub use crate::store::DatabaseUrl;
pub use crate::store::batches::ItemRecord;
pub use crate::store::history::JobRecord;
pub use crate::store::removal::Cancelled;
use client::Door;
pub use client::{Client, ClientError, Refusal, Watch};
pub use job::Job;

/// Why the engine could not start.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    /// What was set makes no sense.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A kind has a name that no kind can have.
    #[error("`{0}` cannot name a kind: it has 1 to 64 of a-z, 0-9, - and _")]
    Kind(String),
    /// A part of it did not start.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// What an embedded engine is made from.
pub struct Builder {
    directory: PathBuf,
    database: Option<DatabaseUrl>,
    workers: Option<NonZeroU16>,
    configure: Box<dyn FnOnce(&mut Settings) + Send>,
    registry: Registry,
}

impl Builder {
    /// Who does the jobs of a kind.
    #[must_use]
    pub fn kind(mut self, name: impl Into<String>, handler: impl Handler) -> Self {
        self.registry = self.registry.with(name, Arc::new(handler));
        self
    }

    /// Another database than `sexton.db` in the directory.
    #[must_use]
    pub fn database(mut self, url: DatabaseUrl) -> Self {
        self.database = Some(url);
        self
    }

    /// How many jobs run at a time; twice as many as there are processors when it is not said.
    #[must_use]
    pub fn workers(mut self, count: NonZeroU16) -> Self {
        self.workers = Some(count);
        self
    }

    /// Changes any other setting, of those that the daemon has: how long history is kept, the limits of queues, the lease.
    #[must_use]
    pub fn configure(mut self, change: impl FnOnce(&mut Settings) + Send + 'static) -> Self {
        self.configure = Box::new(change);
        self
    }

    /// Opens the database, gives back what an earlier run left running, and starts the workers.
    ///
    /// # Errors
    /// When the directory or the database is in use by another engine, damaged or cannot be written.
    pub async fn start(self) -> Result<Embedded, EmbedError> {
        let Self { directory, database, workers, configure, registry } = self;
        let names: Vec<String> = registry.kinds().map(str::to_owned).collect();
        // The rule for names of kinds is that for names of schedules.
        if let Some(bad) =
            names.iter().find(|name| name.parse::<crate::model::ScheduleId>().is_err())
        {
            return Err(EmbedError::Kind(bad.clone()));
        }
        let mut settings = defaults(directory)?;
        if let Some(database) = database {
            settings.database = database;
        }
        if let Some(count) = workers {
            settings.workers.count = count;
        }
        configure(&mut settings);
        let defaults = settings.job_defaults();
        let (engine, locks) = start(settings, registry).await?;
        // Only the handler knows what its params may be.
        let kind = |name| Kind { name, ..Kind::built_in("", "", |_| Vec::new()) };
        let kinds = names.into_iter().map(|name| kind(name.into())).collect();
        let door = Door::new(engine.enqueuer().clone());
        Ok(Embedded { engine, door, kinds, defaults, _locks: locks })
    }
}

/// The daemon's defaults with everything in one directory, and nothing of the environment or of files.
fn defaults(directory: PathBuf) -> Result<Settings, SettingsError> {
    let request = Request {
        file: None,
        system_file: PathBuf::from(config::SYSTEM_FILE),
        environment: Vec::new(),
        flags: Vec::new(),
        current_dir: std::path::absolute(&directory).unwrap_or(directory),
        processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        zone: TimeZone::try_system().unwrap_or(TimeZone::UTC),
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
    };
    let data = request.current_dir.clone();
    let mut settings = config::resolve(None, &request)?.settings;
    settings.database = DatabaseUrl::Sqlite(data.join("sexton.db"));
    settings.log.dir = data.join("log");
    settings.audit.dir = data.join("log");
    settings.data_dir = data;
    // Kinds are code of the program here, and nothing is made by schedules.
    settings.schedule_dirs.clear();
    settings.kind_dirs.clear();
    Ok(settings)
}

/// A running engine. It ends with [`stop`](Self::stop); dropped without that, it ends with the runtime like a daemon that is killed, and
/// what ran is given back by the next start.
pub struct Embedded {
    engine: Engine,
    door: Door,
    kinds: Arc<[Kind]>,
    defaults: JobDefaults,
    _locks: Locks,
}

impl Embedded {
    /// An engine that keeps everything in a directory: the database, the audit log, the output of attempts. It is made when it is not
    /// there, and belongs to one engine at a time.
    #[must_use]
    pub fn in_directory(directory: impl Into<PathBuf>) -> Builder {
        Builder {
            directory: directory.into(),
            database: None,
            workers: None,
            configure: Box::new(|_| {}),
            registry: Registry::default(),
        }
    }

    /// A client that acts under a name, which is what the audit log says of who submitted and cancelled.
    #[must_use]
    pub fn client(&self, name: &str) -> Client {
        let actor = Actor::named(format!("embed:{name}"));
        Client::new(self.door.clone(), Arc::clone(&self.kinds), self.defaults.clone(), actor)
    }

    /// Waits for something after which the engine must not go on (the disk fails, the database was removed), and says what it is. The
    /// program should end then, or drop the engine and start another one.
    pub async fn broken(&self) -> String {
        self.engine.broken().await
    }

    /// Starts no more jobs, and waits as long as `patience` for what runs. What still runs then is told to stop, and run again by the next
    /// start. Clients are answered until the end of that, and told that the engine has stopped from then on.
    pub async fn stop(self, patience: Duration) {
        let Self { engine, door, _locks, .. } = self;
        let over = async {
            tokio::time::sleep(patience).await;
            "the program waits no longer"
        };
        let cut_short = engine.drain(Departure::Stop, over).await;
        door.close();
        let store = engine.finish("stopped by its program", cut_short.is_some()).await;
        let closed = tokio::task::spawn_blocking(move || store.close()).await;
        if let Err(error) = closed {
            tracing::error!(error = %Chain(&error), "the database was not closed in order");
        }
    }
}
