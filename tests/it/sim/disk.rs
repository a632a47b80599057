//! What happens at each step of the store: nothing, a delay, a refusal, or the end of the process.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use sexton::store::{Fault, Pace, Step, StoreError};
use tokio::sync::Notify;

use super::dice::Dice;
use super::trace::Trace;

/// How the disk behaves at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    /// At once and without fault.
    Healthy,
    /// Every step may take seconds.
    Slow,
    /// Steps fail now and then: another process has the lock, a commit is not written.
    Flaky,
    /// Nothing can be written.
    Full,
}

/// The store's pace in one life.
pub(super) struct Disk {
    state: Mutex<State>,
    /// Told when the process is to end at a step.
    pub(super) crash: Arc<Notify>,
    trace: Trace,
}

struct State {
    dice: Dice,
    mood: Mood,
    /// The step of a write, counted from here, at which the process ends.
    crash_in: Option<u64>,
    /// Whether the word of a commit may be lost, as when a connection to a server breaks.
    loses_answers: bool,
    /// How long a step of a write takes when nothing is wrong.
    step_takes: Duration,
}

impl Disk {
    pub(super) fn new(
        dice: Dice,
        crash_in: Option<u64>,
        loses_answers: bool,
        step_takes: Duration,
        trace: Trace,
    ) -> Arc<Self> {
        let state = State { dice, mood: Mood::Healthy, crash_in, loses_answers, step_takes };
        Arc::new(Self { state: Mutex::new(state), crash: Arc::new(Notify::new()), trace })
    }

    pub(super) fn set_mood(&self, mood: Mood) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).mood = mood;
    }
}

enum Fate {
    Taken { after: Duration, how: Result<(), StoreError> },
    Crash,
}

impl State {
    fn fate(&mut self, step: Step) -> Fate {
        if step != Step::Read
            && let Some(left) = &mut self.crash_in
        {
            if *left == 0 {
                return Fate::Crash;
            }
            *left -= 1;
        }
        let at_once = |how| Fate::Taken { after: Duration::ZERO, how };
        match self.mood {
            Mood::Healthy if step == Step::Read => at_once(Ok(())),
            Mood::Healthy => Fate::Taken { after: self.step_takes, how: Ok(()) },
            Mood::Slow => {
                let after = if self.dice.chance(30) {
                    Duration::from_millis(self.dice.between(1, 4000))
                } else {
                    Duration::ZERO
                };
                Fate::Taken { after, how: Ok(()) }
            }
            Mood::Flaky if self.dice.chance(15) => at_once(self.refusal(step)),
            Mood::Flaky => at_once(Ok(())),
            Mood::Full => at_once(match step {
                Step::Run | Step::Read | Step::Answer => Ok(()),
                Step::Commit => Err(full()),
            }),
        }
    }

    fn refusal(&mut self, step: Step) -> Result<(), StoreError> {
        match step {
            Step::Answer if !self.loses_answers => Ok(()),
            _ if self.dice.chance(50) => Err(StoreError::Busy),
            _ => Err(full()),
        }
    }
}

fn full() -> StoreError {
    StoreError::Fault(Fault::NotWritable("database or disk is full".to_owned()))
}

impl Pace for Disk {
    fn before(&self, step: Step) -> BoxFuture<'_, Result<(), StoreError>> {
        let fate = self.state.lock().unwrap_or_else(PoisonError::into_inner).fate(step);
        Box::pin(async move {
            match fate {
                Fate::Crash => {
                    self.trace.line(format_args!("crash at {step:?}"));
                    self.crash.notify_one();
                    std::future::pending().await
                }
                Fate::Taken { after, how } => {
                    if !after.is_zero() {
                        tokio::time::sleep(after).await;
                    }
                    if step != Step::Read {
                        let word = if how.is_ok() { "" } else { " refused" };
                        self.trace.line(format_args!("store {step:?}{word}"));
                    }
                    how
                }
            }
        })
    }
}
