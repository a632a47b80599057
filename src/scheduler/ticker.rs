//! The heartbeat of the scheduler: tokio-cron-scheduler, used through its extension point.
//!
//! Of the crate this takes the loop that ticks twice a second and the activation of jobs from it. It takes nothing of its calendars, stores,
//! zones and job types: as shipped they fire up to half a second late, freeze time zones to an offset, stop after a
//! backward clock step, and lose firings in bursts. In their place stand our [`MetaDataStorage`], which says "one thing
//! is due" while the alarm's instant is near, and our [`JobCode`], which sleeps the last stretch. The version is
//! pinned exactly, because the contract of these traits is the crate's private business; the test below holds it to it.
//!
//! The crate gives no error when its loop dies. [`Alarm::since_last_tick`] shows it, and the watchdog asks for that.

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::RwLock;
use tokio::task::JoinHandle;
use tokio_cron_scheduler::job::job_data::{JobAndNextTick, JobStoredData, JobType};
use tokio_cron_scheduler::store::{DataStore, InitStore};
use tokio_cron_scheduler::{
    Context, JobCode, JobScheduler, JobSchedulerError, JobToRunAsync, MetaDataStorage,
    PinnedGetFuture, SimpleNotificationCode, SimpleNotificationStore, ToCode,
};
use uuid::Uuid;

use super::alarm::Alarm;

/// The one slot that is ever activated.
const SLOT: Uuid = Uuid::from_u128(0x5e70);

/// Messages between the crate's actors. We send one activation at a time, so its default is plenty.
const CHANNEL_SIZE: usize = 200;

/// Why the ticker could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the scheduler's ticker")]
pub struct TickerError(#[source] JobSchedulerError);

/// A running ticker.
pub struct Ticker(Engine);

enum Engine {
    Crate(JobScheduler),
    Plain(JoinHandle<()>),
}

impl Ticker {
    /// Starts ticking for `alarm`.
    ///
    /// # Errors
    /// When the crate's actors cannot be started.
    pub async fn start(alarm: Arc<Alarm>) -> Result<Self, TickerError> {
        let engine = JobScheduler::new_with_storage_and_code(
            Box::new(Slot { alarm: Arc::clone(&alarm), inited: false }),
            Box::new(SimpleNotificationStore::default()),
            Box::new(Approach(alarm)),
            Box::new(SimpleNotificationCode::default()),
            CHANNEL_SIZE,
        )
        .await
        .map_err(TickerError)?;
        engine.start().await.map_err(TickerError)?;
        Ok(Self(Engine::Crate(engine)))
    }

    /// Ticks for `alarm` every `period` without the crate, whose own period belongs to it: for simulations, where hours pass in
    /// milliseconds and each tick is paid for.
    #[must_use]
    pub fn plain(alarm: Arc<Alarm>, period: Duration) -> Self {
        let tick = async move {
            loop {
                tokio::time::sleep(period).await;
                if alarm.tick() {
                    tokio::spawn(Arc::clone(&alarm).approach());
                }
            }
        };
        Self(Engine::Plain(tokio::spawn(tick)))
    }

    /// Stops ticking, at the next tick.
    pub async fn stop(self) {
        match self.0 {
            Engine::Crate(mut engine) => {
                if let Err(error) = engine.shutdown().await {
                    tracing::warn!(%error, "the scheduler's ticker did not stop in order");
                }
            }
            Engine::Plain(ticking) => ticking.abort(),
        }
    }
}

impl std::fmt::Debug for Ticker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ticker")
    }
}

type Answer<T> = Pin<Box<dyn Future<Output = Result<T, JobSchedulerError>> + Send>>;

fn answer<T: Send + 'static>(value: T) -> Answer<T> {
    Box::pin(ready(Ok(value)))
}

/// A store of one job that is due whenever the alarm's instant is near.
struct Slot {
    alarm: Arc<Alarm>,
    inited: bool,
}

impl InitStore for Slot {
    fn init(&mut self) -> Answer<()> {
        self.inited = true;
        answer(())
    }

    fn inited(&mut self) -> Answer<bool> {
        answer(self.inited)
    }
}

impl DataStore<JobStoredData> for Slot {
    /// The crate reads the job back after activating it, and logs an error when it finds none.
    fn get(&mut self, id: Uuid) -> Answer<Option<JobStoredData>> {
        answer(Some(JobStoredData {
            id: Some(id.into()),
            last_updated: None,
            last_tick: None,
            next_tick: 1,
            job_type: JobType::OneShot as i32,
            count: 0,
            extra: Vec::new(),
            ran: false,
            stopped: false,
            job: None,
            time_offset_seconds: 0,
        }))
    }

    fn add_or_update(&mut self, _data: JobStoredData) -> Answer<()> {
        answer(())
    }

    fn delete(&mut self, _id: Uuid) -> Answer<()> {
        answer(())
    }
}

impl MetaDataStorage for Slot {
    fn list_next_ticks(&mut self) -> Answer<Vec<JobAndNextTick>> {
        let due = JobAndNextTick {
            id: Some(SLOT.into()),
            job_type: JobType::OneShot as i32,
            // Second 1 of 1970 is always due; 0 would mean "delete me".
            next_tick: 1,
            last_tick: None,
        };
        answer(if self.alarm.tick() { vec![due] } else { Vec::new() })
    }

    fn set_next_and_last_tick(
        &mut self,
        _id: Uuid,
        _next_tick: Option<DateTime<Utc>>,
        _last_tick: Option<DateTime<Utc>>,
    ) -> Answer<()> {
        answer(())
    }

    fn time_till_next_job(&mut self) -> Answer<Option<std::time::Duration>> {
        answer(None)
    }
}

/// The code of that one job.
struct Approach(Arc<Alarm>);

impl ToCode<Box<JobToRunAsync>> for Approach {
    fn init(&mut self, _context: &Context) -> Answer<()> {
        answer(())
    }

    fn get(&mut self, _id: Uuid) -> PinnedGetFuture<Box<JobToRunAsync>> {
        let alarm = Arc::clone(&self.0);
        let run: Box<JobToRunAsync> =
            Box::new(move |_id, _engine| Box::pin(Arc::clone(&alarm).approach()));
        answer(Some(Arc::new(RwLock::new(run))))
    }
}

impl JobCode for Approach {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_pinned_crate_activates_our_code_for_an_instant_beyond_the_look_ahead() {
        let clock = Arc::new(SystemClock);
        let alarm = Alarm::new(clock.clone());
        let ticker = Ticker::start(Arc::clone(&alarm)).await.unwrap();
        let instant = clock.now() + Duration::from_millis(1700);
        alarm.set(Some(instant));
        tokio::time::timeout(Duration::from_secs(20), alarm.rung()).await.expect("it never rang");
        assert!(clock.now() >= instant, "it rang early");
        assert!(alarm.since_last_tick() < Duration::from_secs(15));
        ticker.stop().await;
    }
}
