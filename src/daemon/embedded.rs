//! The engine in a process that is somebody else's: no signals, sockets and logs, and nothing that a process can have only once.

use std::sync::Arc;

use super::engine::{Engine, Others, Parts, Threads};
use super::lock::{self, DataLock};
use super::startup::{StartError, identity, make_directories, open_store};
use super::{namesake, place, predecessor};
use crate::clock::{CautiousClock, SharedClock, SystemClock};
use crate::config::Settings;
use crate::jobs::RunPaths;
use crate::jobs::command::Keepers;
use crate::upkeep::{self, History};
use crate::worker::Registry;

/// What keeps others away from the data, for as long as it is held.
pub(crate) type Locks = (DataLock, Option<DataLock>);

/// Starts the engine with these handlers.
pub(crate) async fn start(
    settings: Settings,
    registry: Registry,
) -> Result<(Engine, Locks), StartError> {
    let settings = Arc::new(settings);
    let clock: SharedClock = Arc::new(SystemClock);
    place::check(&settings)?;
    let locks =
        (lock::take(&settings.data_dir).await?, lock::take_database(&settings.database).await?);
    let paths = Arc::new(RunPaths::under(&settings.data_dir));
    make_directories(&settings, &paths)?;
    let store = open_store(&settings).await?;
    let others = Others::of(&store, &clock).await?;
    let clock = others.as_ref().map_or(clock, Others::clock);
    let identity = identity(&settings, predecessor::find(&settings.data_dir));
    if others.is_some() {
        namesake::wait_for(&store, &clock, &identity).await?;
    }
    let instance = identity.instance.clone();
    let parts = Parts {
        history: Arc::new(History::new(store.clone(), Arc::clone(&paths))),
        ages: CautiousClock::new(Arc::clone(&clock), upkeep::remembered_clock(&store).await?),
        identity,
        settings: Arc::clone(&settings),
        clock,
        others,
        store,
        paths,
        registry,
        keepers: Keepers::none(),
        draw: Arc::new(rand::random),
        threads: Threads::Own,
    };
    let engine = Engine::start(parts).await?;
    predecessor::note(&settings.data_dir, &instance);
    Ok((engine, locks))
}
