//! Rings at an instant of the wall clock.
//!
//! The scheduler tells the alarm the next instant that matters; a ticker (see `ticker`) looks at it twice a second and, when
//! the instant is near, lets [`Alarm::approach`] sleep the last stretch. So an idle daemon wakes twice a second for a
//! comparison of two numbers, however many schedules there are, and a firing is as precise as a timer of the kernel.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

use crate::clock::SharedClock;

/// How near an instant has to be for the last stretch to begin: a little over two ticks, so that a late tick misses nothing.
pub(super) const LOOK_AHEAD: Duration = Duration::from_millis(1100);

/// By how much the wall clock may move against the monotonic one between two ticks before it counts as set. Clock discipline slews by
/// half a millisecond a second at the most.
const STEP_TOLERANCE_MICROS: i64 = 1_000_000;

/// "No instant": later than any.
const NEVER: i64 = i64::MAX;

/// An alarm clock with one instant. Shared between the scheduler, which sets it, and the ticker, which watches it.
#[derive(Debug)]
pub struct Alarm {
    clock: SharedClock,
    /// The instant, in microseconds since 1970.
    next: AtomicI64,
    /// Whether somebody sleeps the last stretch already.
    approaching: AtomicBool,
    changed: Notify,
    rings: Notify,
    stepped: Notify,
    /// Wall clock minus monotonic clock at the last tick, in microseconds.
    offset: AtomicI64,
    /// Monotonic time of the last tick, in milliseconds.
    last_tick: AtomicU64,
}

impl Alarm {
    /// An alarm that is not set.
    #[must_use]
    pub fn new(clock: SharedClock) -> Arc<Self> {
        let offset = offset(&clock);
        let last_tick = millis(clock.since_boot());
        Arc::new(Self {
            clock,
            next: AtomicI64::new(NEVER),
            approaching: AtomicBool::new(false),
            changed: Notify::new(),
            rings: Notify::new(),
            stepped: Notify::new(),
            offset: AtomicI64::new(offset),
            last_tick: AtomicU64::new(last_tick),
        })
    }

    /// Sets the instant, replacing the one before.
    pub fn set(self: &Arc<Self>, next: Option<Timestamp>) {
        self.next.store(next.map_or(NEVER, Timestamp::as_microsecond), Ordering::Release);
        self.changed.notify_one();
        // An instant that is near already cannot wait for the next tick.
        if self.is_near() && !self.approaching.load(Ordering::Acquire) {
            tokio::spawn(Arc::clone(self).approach());
        }
    }

    /// Waits for the alarm to ring. A ring that nobody waited for is kept.
    pub async fn rung(&self) {
        self.rings.notified().await;
    }

    /// Waits until somebody has set the wall clock.
    pub async fn clock_stepped(&self) {
        self.stepped.notified().await;
    }

    /// How long ago the last tick was: the sign of life that the watchdog asks for.
    #[must_use]
    pub fn since_last_tick(&self) -> Duration {
        let last = Duration::from_millis(self.last_tick.load(Ordering::Acquire));
        self.clock.since_boot().saturating_sub(last)
    }

    /// What a ticker does at each tick: notes that it lives, looks whether the wall clock was set, and tells whether the instant is near.
    pub(super) fn tick(&self) -> bool {
        self.last_tick.store(millis(self.clock.since_boot()), Ordering::Release);
        let now = offset(&self.clock);
        let before = self.offset.swap(now, Ordering::AcqRel);
        if (now - before).abs() > STEP_TOLERANCE_MICROS {
            let by = SignedDuration::from_micros(now - before);
            tracing::warn!(by = %by, "the wall clock was set; due instants are worked out anew");
            self.stepped.notify_one();
            self.changed.notify_one();
        }
        self.is_near() && !self.approaching.load(Ordering::Acquire)
    }

    fn is_near(&self) -> bool {
        self.wait().is_some_and(|wait| wait <= LOOK_AHEAD)
    }

    /// How long it is until the instant; zero when it has passed.
    fn wait(&self) -> Option<Duration> {
        let next = self.next.load(Ordering::Acquire);
        if next == NEVER {
            return None;
        }
        let micros = next.saturating_sub(self.clock.now().as_microsecond());
        Some(Duration::from_micros(u64::try_from(micros).unwrap_or(0)))
    }

    /// Sleeps the last stretch to each instant in turn, and rings; ends when the next one is far away. At most one runs at a time.
    pub(super) async fn approach(self: Arc<Self>) {
        if self.approaching.swap(true, Ordering::AcqRel) {
            return;
        }
        while let Some(wait) = self.wait().filter(|wait| *wait <= LOOK_AHEAD) {
            if wait.is_zero() {
                // Taken down before it rings, so that it rings once; the scheduler sets the next one when it has acted.
                self.next.store(NEVER, Ordering::Release);
                self.rings.notify_one();
            }
            tokio::select! {
                biased;
                () = self.clock.sleep(wait), if !wait.is_zero() => {}
                () = self.changed.notified() => {}
            }
        }
        self.approaching.store(false, Ordering::Release);
    }
}

fn offset(clock: &SharedClock) -> i64 {
    let monotonic = i64::try_from(clock.since_boot().as_micros()).unwrap_or(i64::MAX);
    clock.now().as_microsecond().saturating_sub(monotonic)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn an_instant_that_has_passed_rings_at_once_and_once() {
        let clock = ManualClock::new(at("2026-01-01T00:00:00Z"));
        let alarm = Alarm::new(Arc::new(clock));
        alarm.set(Some(at("2025-12-31T23:59:59Z")));
        alarm.rung().await;
        assert_eq!(alarm.next.load(Ordering::Acquire), NEVER);
    }

    #[tokio::test]
    async fn a_far_instant_is_not_approached() {
        let clock = ManualClock::new(at("2026-01-01T00:00:00Z"));
        let alarm = Alarm::new(Arc::new(clock.clone()));
        alarm.set(Some(at("2026-01-01T00:10:00Z")));
        assert!(!alarm.tick());
        clock.advance(Duration::from_millis(599_000));
        assert!(alarm.tick());
    }

    #[tokio::test]
    async fn d3_a_clock_that_is_set_is_noticed_at_the_next_tick_in_both_directions() {
        let clock = ManualClock::new(at("2026-01-01T00:00:00Z"));
        let alarm = Alarm::new(Arc::new(clock.clone()));
        for to in ["2026-01-01T02:00:00Z", "2025-12-31T23:00:00Z"] {
            clock.step_to(at(to));
            alarm.tick();
            alarm.clock_stepped().await;
        }
        clock.advance(Duration::from_secs(3600));
        alarm.tick();
        let quiet = tokio::time::timeout(Duration::from_millis(1), alarm.clock_stepped());
        assert!(quiet.await.is_err(), "time that merely passes is no step");
    }
}
