//! Time in a simulated world: one course of it, and the clocks of machines, whose hands can be set.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sexton::clock::Clock;
use tokio::time::Instant;

/// How long the machines have been running when a world begins.
const UPTIME: Duration = Duration::from_secs(3600);

/// The time since the machines booted, which all of them have in common. It goes on with the paused time of the runtime that is being run,
/// and by what is added while none is. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Course(Arc<Mutex<Passed>>);

#[derive(Debug)]
struct Passed {
    /// Until a runtime was entered.
    before: Duration,
    /// When it was entered, as it counts itself.
    entered: Option<Instant>,
}

impl Course {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Passed { before: UPTIME, entered: None })))
    }

    fn passed(&self) -> MutexGuard<'_, Passed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Duration {
        let passed = self.passed();
        passed.before + passed.entered.map_or(Duration::ZERO, |entered| Instant::now() - entered)
    }

    /// From here on time is that of the runtime that this is called in.
    pub(super) fn enter(&self) {
        self.passed().entered = Some(Instant::now());
    }

    /// From here on time stands where it did when the runtime was entered that this is called in. Returns how long it has run.
    pub(super) fn leave(&self) -> Duration {
        let entered = self.passed().entered.take();
        entered.map_or(Duration::ZERO, |entered| Instant::now() - entered)
    }

    /// Lets time pass.
    pub(super) fn pass(&self, time: Duration) {
        self.passed().before += time;
    }
}

/// A machine's clocks: the one that never steps is the course of time, the one on the wall can be set.
#[derive(Debug, Clone)]
pub(super) struct SimClock {
    course: Course,
    wall: Arc<Mutex<Wall>>,
}

#[derive(Debug)]
struct Wall {
    /// Wall clock minus time since boot, in microseconds.
    offset: i64,
    /// The latest time that it has shown.
    latest: Timestamp,
    was_set_back: bool,
}

impl SimClock {
    /// A clock that shows `now`.
    pub(super) fn new(course: &Course, now: Timestamp) -> Self {
        let offset = now.as_microsecond() - micros(course.now());
        let wall = Wall { offset, latest: now, was_set_back: false };
        Self { course: course.clone(), wall: Arc::new(Mutex::new(wall)) }
    }

    fn wall(&self) -> MutexGuard<'_, Wall> {
        self.wall.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the wall clock, as `date -s` does.
    pub(super) fn set(&self, now: Timestamp) {
        let before = self.now();
        let mut wall = self.wall();
        wall.was_set_back |= now < before;
        wall.offset += now.as_microsecond() - before.as_microsecond();
        wall.latest = wall.latest.max(before).max(now);
    }

    /// Sets the wall clock forward or back.
    pub(super) fn step(&self, by: SignedDuration) {
        self.set(self.now() + by);
    }

    /// Whether the wall clock has ever been set back.
    pub(super) fn was_set_back(&self) -> bool {
        self.wall().was_set_back
    }

    /// The latest time that it has ever shown.
    pub(super) fn latest(&self) -> Timestamp {
        let now = self.now();
        self.wall().latest.max(now)
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let at = self.wall().offset + micros(self.course.now());
        Timestamp::from_microsecond(at).expect("a date in jiff's range")
    }

    fn since_boot(&self) -> Duration {
        self.course.now()
    }
}

fn micros(uptime: Duration) -> i64 {
    i64::try_from(uptime.as_micros()).expect("a machine's uptime")
}
