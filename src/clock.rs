//! The one file that asks the system what time it is.
//!
//! Everything else takes a [`Clock`] or, when it is pure, an instant. Tests and the simulator hand in
//! a [`ManualClock`], so no guarantee about time needs a sleep to be shown.

mod cautious;
mod shared;

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub use cautious::{CautiousClock, Doubt, Doubted, Remembered};
pub use shared::{DatabaseClock, Sample, WORTH_TELLING};

/// No clock that is right has shown an earlier time while there was this program.
pub const EARLIEST_PLAUSIBLE: Timestamp = Timestamp::constant(1_767_225_600, 0);

/// Where "now" comes from.
pub trait Clock: Send + Sync + fmt::Debug + 'static {
    /// Wall-clock time in UTC. It can step in both directions.
    fn now(&self) -> Timestamp;

    /// Time since an arbitrary origin that never steps and goes on while the machine is suspended.
    ///
    /// The difference between this and [`Clock::now`] is constant unless somebody set the wall clock.
    fn since_boot(&self) -> Duration;

    /// Whether the wall clock is known to have been set by a time server since the machine booted. `false` means that nobody knows.
    fn is_synchronised(&self) -> bool {
        false
    }

    /// Sleeps as precisely as this clock can, for what people see when it is late. The runtime's own timers, which this is unless a
    /// clock has better ones, count milliseconds and round up twice.
    fn sleep(&self, wait: Duration) -> Sleep {
        Box::pin(tokio::time::sleep(wait))
    }
}

/// Ends when the time is up.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A clock that is handed around.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clocks: `CLOCK_REALTIME` and `CLOCK_BOOTTIME`.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the wall clock"
    )]
    fn now(&self) -> Timestamp {
        truncate_to_micros(Timestamp::now())
    }

    fn since_boot(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
    }

    /// systemd-timesyncd makes this file when it has set the clock. Other daemons leave no trace that can be read without a privilege
    /// or a system call that no safe crate has; with them the answer stays `false`.
    fn is_synchronised(&self) -> bool {
        std::path::Path::new("/run/systemd/timesync/synchronized").exists()
    }

    fn sleep(&self, wait: Duration) -> Sleep {
        Box::pin(async move {
            // There may be no more file descriptors; the runtime's timers need none.
            if sleep_precisely(wait).await.is_err() {
                tokio::time::sleep(wait).await;
            }
        })
    }
}

/// Sleeps on a timer of the kernel, which is right to some microseconds.
#[expect(
    deprecated,
    reason = "the hazard is a type whose descriptor changes; an `OwnedFd`'s does not, and the replacement is unsafe"
)]
async fn sleep_precisely(wait: Duration) -> io::Result<()> {
    if wait.is_zero() {
        return Ok(()); // It would disarm the timer.
    }
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
    let (never, wait) = (Timespec::default(), Timespec::try_from(wait).map_err(io::Error::other)?);
    let once = Itimerspec { it_interval: never, it_value: wait };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &once)?;
    let timer = AsyncFd::with_interest(timer, Interest::READABLE)?;
    let _it_is_over = timer.readable().await?;
    Ok(())
}

/// The store keeps microseconds, so an instant must not change when it goes there and back.
fn truncate_to_micros(instant: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(instant.as_microsecond()).unwrap_or(instant)
}

/// A clock that stands still until it is told to move.
#[derive(Debug, Clone)]
pub struct ManualClock {
    state: Arc<Mutex<ManualState>>,
}

#[derive(Debug)]
struct ManualState {
    now: Timestamp,
    since_boot: Duration,
    is_synchronised: bool,
}

impl ManualClock {
    /// A clock that shows `now`, on a machine that booted an hour ago.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        let state =
            ManualState { now, since_boot: Duration::from_secs(3600), is_synchronised: false };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Lets time pass on both clocks.
    pub fn advance(&self, by: Duration) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.now += by;
        state.since_boot += by;
    }

    /// Sets the wall clock, as `date -s` does: the monotonic clock does not move.
    pub fn step_to(&self, now: Timestamp) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).now = now;
    }

    /// Sets the wall clock as a time server does.
    pub fn synchronise_to(&self, now: Timestamp) {
        self.step_to(now);
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_synchronised = true;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).now
    }

    fn since_boot(&self) -> Duration {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).since_boot
    }

    fn is_synchronised(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_synchronised
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_machines_clock_sleeps_no_shorter_than_it_was_told() {
        for wait in [Duration::ZERO, Duration::from_micros(300), Duration::from_millis(3)] {
            let before = SystemClock.since_boot();
            SystemClock.sleep(wait).await;
            assert!(SystemClock.since_boot() - before >= wait);
        }
    }

    #[test]
    fn a_step_moves_the_wall_clock_and_not_the_monotonic_one() {
        let clock = ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap());
        let before = clock.since_boot();
        clock.step_to("2026-01-01T05:00:00Z".parse().unwrap());
        assert_eq!(clock.since_boot(), before);
        clock.advance(Duration::from_secs(5));
        assert_eq!(clock.since_boot(), before + Duration::from_secs(5));
        assert_eq!(clock.now(), "2026-01-01T05:00:05Z".parse().unwrap());
    }
}
