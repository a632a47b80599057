//! The clock of the simulated machine: the runtime's paused time, and a wall clock that can be set.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sexton::clock::Clock;
use tokio::time::Instant;

/// The machine's clocks. They go on while no engine runs, see [`SimClock::pass`].
#[derive(Debug, Clone)]
pub(super) struct SimClock(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Since boot, at the beginning of this life.
    before: Duration,
    /// When this life began, as its runtime counts.
    life: Option<Instant>,
    /// Wall clock minus time since boot, in microseconds.
    offset: i64,
    /// The latest time that the wall clock has shown.
    latest: Timestamp,
    was_set_back: bool,
}

impl State {
    fn since_boot(&self) -> Duration {
        self.before + self.life.map_or(Duration::ZERO, |began| Instant::now() - began)
    }

    fn now(&self) -> Timestamp {
        let boot = i64::try_from(self.since_boot().as_micros()).expect("a machine's uptime");
        Timestamp::from_microsecond(self.offset + boot).expect("a date in jiff's range")
    }
}

impl SimClock {
    /// A machine that booted an hour ago and shows `now`.
    pub(super) fn new(now: Timestamp) -> Self {
        let before = Duration::from_secs(3600);
        let offset = now.as_microsecond() - 3_600_000_000;
        Self(Arc::new(Mutex::new(State {
            before,
            life: None,
            offset,
            latest: now,
            was_set_back: false,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on time is that of the runtime that this is called in.
    pub(super) fn begin_life(&self) {
        self.state().life = Some(Instant::now());
    }

    /// From here on time stands still. It is called in the runtime that ends.
    pub(super) fn end_life(&self) {
        let mut state = self.state();
        state.before = state.since_boot();
        state.life = None;
    }

    /// Lets time pass while nothing runs.
    pub(super) fn pass(&self, time: Duration) {
        self.state().before += time;
    }

    /// Sets the wall clock, as `date -s` does.
    pub(super) fn set(&self, now: Timestamp) {
        let mut state = self.state();
        state.latest = state.latest.max(state.now());
        state.was_set_back |= now < state.now();
        state.offset += now.as_microsecond() - state.now().as_microsecond();
        state.latest = state.latest.max(now);
    }

    /// Sets the wall clock forward or back.
    pub(super) fn step(&self, by: SignedDuration) {
        self.set(self.now() + by);
    }

    /// Whether the wall clock has ever been set back.
    pub(super) fn was_set_back(&self) -> bool {
        self.state().was_set_back
    }

    /// The latest time that it has ever shown.
    pub(super) fn latest(&self) -> Timestamp {
        let state = self.state();
        state.latest.max(state.now())
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        self.state().now()
    }

    fn since_boot(&self) -> Duration {
        self.state().since_boot()
    }
}
