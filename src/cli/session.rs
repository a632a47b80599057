//! What every command starts from: the settings, the time, and a way to the daemon.

use std::path::Path;
use std::sync::Arc;

use jiff::{Timestamp, Zoned};

use super::client::Client;
use super::output::{Exit, Failure, note};
use crate::api::{App, router};
use crate::catalog;
use crate::clock::{SharedClock, SystemClock};
use crate::config::{self, Loaded, Request, Settings};
use crate::jobs::{KINDS, RunPaths};
use crate::model::{Chain, HumanDuration};
use crate::scheduler::Draws;
use crate::store::{Store, nodes};

/// What a command works with.
pub(super) struct Session {
    /// The settings and where each came from.
    pub(super) loaded: Loaded,
    /// Whether JSON is wanted.
    pub(super) json: bool,
    /// What time it is.
    pub(super) clock: SharedClock,
}

/// Loads the settings.
///
/// # Errors
/// Exit code 78 with everything that is wrong in them.
pub(super) fn load_settings(file: Option<&Path>) -> Result<Loaded, Failure> {
    let request = Request::from_process(file.map(Path::to_owned)).map_err(|error| {
        Failure::new(Exit::Failed, format!("the current directory is gone: {error}"))
    })?;
    config::load(&request).map_err(|error| Failure::new(Exit::Config, Chain(&error).to_string()))
}

impl Session {
    /// A session.
    ///
    /// # Errors
    /// When the settings are not valid.
    pub(super) fn new(file: Option<&Path>, json: bool) -> Result<Self, Failure> {
        Ok(Self { loaded: load_settings(file)?, json, clock: Arc::new(SystemClock) })
    }

    /// The checked settings.
    #[must_use]
    pub(super) fn settings(&self) -> &Settings {
        &self.loaded.settings
    }

    /// The time.
    #[must_use]
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// What the schedule directories hold right now, without a daemon.
    #[must_use]
    pub(super) fn check_schedules(&self) -> catalog::CheckReport {
        let reading = reading(self.settings());
        catalog::check(&self.settings().schedule_dirs, &reading, self.now())
    }

    /// The daemon.
    ///
    /// # Errors
    /// When it does not answer.
    pub(super) async fn daemon(&self) -> Result<Client, Failure> {
        let socket = &self.settings().api.socket;
        if Client::is_served(socket).await {
            return Ok(Client::Daemon(socket.clone()));
        }
        Err(Failure::new(
            Exit::NoDaemon,
            format!(
                "no daemon answers on {}; start one with `sexton serve`, or name its settings with --config",
                socket.display()
            ),
        ))
    }

    /// The daemon or, for reading, the database without it, which is said on stderr.
    ///
    /// # Errors
    /// When neither can be had.
    pub(super) async fn reader(&self) -> Result<Client, Failure> {
        if let Ok(client) = self.daemon().await {
            return Ok(client);
        }
        let url = self.settings().database.clone();
        let store = Store::open_read_only(&url).map_err(|error| {
            let message = format!(
                "no daemon answers on {}, and the database cannot be read without it: {}",
                self.settings().api.socket.display(),
                Chain(&error)
            );
            Failure::new(Exit::NoDaemon, message)
        })?;
        note(format!("note: the daemon is not running; reading {url}"));
        let seed = store
            .read(nodes::jitter_seed)
            .await
            .map_err(|error| Failure::new(Exit::Failed, Chain(&error).to_string()))?;
        let app = App {
            store,
            clock: Arc::clone(&self.clock),
            settings: Arc::new(self.settings().clone()),
            paths: Arc::new(RunPaths::under(&self.settings().data_dir)),
            offline_catalog: Arc::new(catalog::look(
                &self.settings().schedule_dirs,
                &reading(self.settings()),
                self.now(),
            )),
            draws: Arc::new(Draws {
                host: self.settings().node.name.clone(),
                seed: seed.unwrap_or_default(),
            }),
            live: None,
        };
        Ok(Client::Database(Box::new(router(app))))
    }

    /// An instant that lies ahead, as the daemon takes it. A distance is left to it, because it does not go by the clock of this machine.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn ahead(&self, text: &str) -> Result<String, Failure> {
        if text.parse::<HumanDuration>().is_ok() {
            return Ok(text.to_owned());
        }
        self.instant(text, false).map(|at| at.to_string())
    }

    /// An instant as people write it: RFC 3339, a local date and time, or a distance from now (`2h` ahead, or ago when `back`).
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn instant(&self, text: &str, back: bool) -> Result<Timestamp, Failure> {
        if let Ok(instant) = text.parse::<Timestamp>() {
            return Ok(instant);
        }
        if let Ok(zoned) = text.parse::<Zoned>() {
            return Ok(zoned.timestamp());
        }
        let zone = self.settings().defaults.timezone.clone();
        if let Ok(local) = text.parse::<jiff::civil::DateTime>()
            && let Ok(zoned) = local.to_zoned(zone)
        {
            return Ok(zoned.timestamp());
        }
        if let Ok(distance) = text.parse::<HumanDuration>() {
            let now = self.now();
            return Ok(if back { now - distance.get() } else { now + distance.get() });
        }
        Err(Failure::new(
            Exit::Usage,
            format!(
                "`{text}` is not a time: write it like 2026-12-01T03:00, 2026-12-01T02:00:00Z or 2h"
            ),
        ))
    }
}

/// How schedule files are read.
#[must_use]
pub(super) fn reading(settings: &Settings) -> catalog::Reading {
    catalog::Reading {
        defaults: crate::daemon::schedule_defaults(settings),
        kinds: KINDS,
        kind_dirs: settings.kind_dirs.clone(),
    }
}
