//! Handlers that do what the seed says: quick and slow ones, such that fail, panic, hang, ask to be tried later.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::json;
use sexton::jobs::{Answer, Context, Failure, Handler, RetryAdvice};
use sexton::model::{Outcome, is_high};
use tokio_util::sync::CancellationToken;

use super::dice::Dice;
use super::life::SLOTS;
use super::trace::Trace;

/// What a handler says when it panics because its script says so.
pub(super) const SCRIPTED: &str = "scripted panic";

/// One execution, as its handler saw it.
#[derive(Debug, Clone)]
pub(super) struct Execution {
    pub(super) job: i64,
    pub(super) number: u32,
    pub(super) life: usize,
    /// How the handler ended by itself; `None` when it was dropped: by a crash, or because it did not stop.
    pub(super) ended: Option<Ended>,
    held_up: HeldUp,
}

impl Execution {
    /// Whether its node may have begun it without knowing what had happened meanwhile.
    pub(super) fn was_held_up(&self) -> bool {
        self.held_up.is_so()
    }
}

/// Whether a life was frozen for so long that others had to take it for dead. A node that is alone cannot be.
#[derive(Debug, Clone, Default)]
pub(super) struct HeldUp(Option<Arc<AtomicBool>>);

impl HeldUp {
    /// Of a node among others, which has not been frozen yet.
    pub(super) fn among_others() -> Self {
        Self(Some(Arc::default()))
    }

    /// It has been frozen.
    pub(super) fn note(&self) {
        if let Some(is_so) = &self.0 {
            is_so.store(true, Ordering::Relaxed);
        }
    }

    fn is_so(&self) -> bool {
        self.0.as_ref().is_some_and(|is_so| is_so.load(Ordering::Relaxed))
    }
}

/// How a handler ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Answered(Outcome),
    /// It stopped because it was told to.
    Stopped,
    Panicked,
}

/// What the handlers of all lives did.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) executions: Vec<Execution>,
    running: BTreeMap<i64, Vec<UnderWay>>,
    /// What must never happen, as soon as it does.
    pub(super) wrong: Vec<String>,
}

/// A handler that has not ended.
#[derive(Debug)]
struct UnderWay {
    number: u32,
    life: usize,
    is_high: bool,
    stop: CancellationToken,
    held_up: HeldUp,
}

impl UnderWay {
    /// Whether the job may have begun again elsewhere: its node could not know that others would take it for dead, or it did, and has told
    /// the handler to stop.
    fn may_be_overtaken(&self) -> bool {
        self.held_up.0.is_some() && (self.held_up.is_so() || self.stop.is_cancelled())
    }
}

/// The handler of every kind.
pub(super) struct Scripted {
    pub(super) dice: Dice,
    pub(super) life: usize,
    pub(super) log: Arc<Mutex<Log>>,
    pub(super) trace: Trace,
    /// From then on everything succeeds at once.
    pub(super) quiet: Arc<AtomicBool>,
    /// Whether what is not meant to take long takes no time that counts, so that workers wait for the store.
    pub(super) is_brisk: bool,
    /// How many workers are kept for urgent jobs.
    pub(super) reserved_high: u16,
    /// Whether the life has been held up.
    pub(super) held_up: HeldUp,
}

#[derive(Debug, Clone, Copy)]
enum Script {
    Succeed,
    TakeLong,
    Fail,
    FailForGood,
    AskForLater,
    Snooze,
    Panic,
    Hang,
    HangDeaf,
    StopUntold,
}

const SCRIPTS: [(u64, Script); 10] = [
    (60, Script::Succeed),
    (8, Script::TakeLong),
    (8, Script::Fail),
    (3, Script::FailForGood),
    (4, Script::AskForLater),
    (4, Script::Snooze),
    (3, Script::Panic),
    (4, Script::Hang),
    (2, Script::HangDeaf),
    (2, Script::StopUntold),
];

impl Handler for Scripted {
    fn run(&self, context: Context) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            let (job, number) = (context.job.id.0, context.job.attempt);
            // Of the attempt alone, so that one job's fate does not hang on how many others ran before.
            let mut dice =
                self.dice.for_purpose("attempt", job.unsigned_abs() * 1000 + u64::from(number));
            let mut running = self.enter(&context);
            let script = match self.quiet.load(Ordering::Acquire) {
                true => Script::Succeed,
                false => self.script(&mut dice),
            };
            let answer = self.play(script, &context, &mut dice).await;
            running.ended = Some(match (&answer, script) {
                (_, Script::Panic) => Ended::Panicked,
                (Answer::Done(_), _) => Ended::Answered(Outcome::Success),
                (Answer::Failed(failure), _) if failure.is_answer => {
                    Ended::Answered(Outcome::Failure)
                }
                (Answer::Failed(_), _) => Ended::Answered(Outcome::Error),
                (Answer::Snooze { .. }, _) => Ended::Answered(Outcome::Skipped),
                (Answer::Stopped { .. }, Script::StopUntold) => Ended::Answered(Outcome::Error),
                (Answer::Stopped { .. } | Answer::Ended { .. }, _) => Ended::Stopped,
            });
            drop(running);
            if matches!(script, Script::Panic) {
                std::panic::panic_any(SCRIPTED);
            }
            answer
        })
    }
}

impl Scripted {
    fn script(&self, dice: &mut Dice) -> Script {
        match dice.weighed(&SCRIPTS) {
            // Seldom, or all workers would have long jobs most of the time.
            Script::TakeLong | Script::Hang | Script::HangDeaf
                if self.is_brisk && dice.chance(90) =>
            {
                Script::Succeed
            }
            script => script,
        }
    }

    async fn play(&self, script: Script, context: &Context, dice: &mut Dice) -> Answer {
        let asleep = match script {
            Script::TakeLong => dice.seconds(20, 90),
            Script::Hang | Script::HangDeaf => Duration::from_secs(100_000),
            _ if self.is_brisk => Duration::from_millis(dice.between(0, 2)),
            _ => dice.seconds(0, 3),
        };
        if dice.chance(20) {
            context.progress.report(Some(50), "half of it");
        }
        let stopped = match script {
            Script::HangDeaf => {
                tokio::time::sleep(asleep).await;
                false
            }
            _ => tokio::select! {
                biased;
                () = context.stop.cancelled() => true,
                () = tokio::time::sleep(asleep) => false,
            },
        };
        if stopped {
            return Answer::Stopped { result: None };
        }
        match script {
            Script::Succeed
            | Script::TakeLong
            | Script::Hang
            | Script::HangDeaf
            | Script::Panic => Answer::Done(json!({ "job": context.job.id.0 })),
            Script::Fail => Failure::error("it did not work").into(),
            Script::FailForGood => Failure::answer("it never will").for_good().into(),
            Script::AskForLater => {
                let retry = RetryAdvice::After(dice.seconds(1, 60));
                Answer::Failed(Failure { retry, ..Failure::error("come back later") })
            }
            Script::Snooze => {
                Answer::Snooze { delay: dice.seconds(1, 60), reason: "not now".to_owned() }
            }
            Script::StopUntold => Answer::Stopped { result: None },
        }
    }
}

/// An execution that runs; what becomes of it is noted when this is dropped, however that comes about.
struct Running<'a> {
    handler: &'a Scripted,
    index: usize,
    job: i64,
    number: u32,
    ended: Option<Ended>,
}

impl Scripted {
    fn enter(&self, context: &Context) -> Running<'_> {
        let (job, number) = (context.job.id.0, context.job.attempt);
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let log = &mut *log;
        self.trace.line(format_args!("job {job} attempt {number} starts"));
        let others = log.running.entry(job).or_default();
        // A node that was frozen between its claim and this start cannot know that others have gone on.
        let is_late = |other: &UnderWay| {
            number < other.number && self.held_up.0.is_some() && self.held_up.is_so()
        };
        for other in others.iter().filter(|other| !other.may_be_overtaken() && !is_late(other)) {
            log.wrong.push(format!(
                "job {job}: attempt {number} starts while attempt {} runs",
                other.number
            ));
        }
        let held_up = self.held_up.clone();
        others.push(UnderWay {
            number,
            life: self.life,
            is_high: is_high(context.job.priority),
            stop: context.stop.clone(),
            held_up: held_up.clone(),
        });
        self.is_within_workers(log, context);
        log.executions.push(Execution { job, number, life: self.life, ended: None, held_up });
        Running { handler: self, index: log.executions.len() - 1, job, number, ended: None }
    }
}

impl Scripted {
    /// As many run at once as a node has workers, and those that are kept for urgent ones are kept.
    fn is_within_workers(&self, log: &mut Log, context: &Context) {
        let all = log.running.values().flatten().filter(|other| other.life == self.life);
        let (mut count, mut urgent) = (0, 0);
        for other in all {
            count += 1;
            urgent += u16::from(other.is_high);
        }
        let is_urgent = is_high(context.job.priority);
        let kept = if is_urgent { 0 } else { self.reserved_high.saturating_sub(urgent) };
        if count > SLOTS - kept {
            log.wrong.push(format!(
                "job {} starts as number {count} on {SLOTS} workers, {urgent} of them urgent",
                context.job.id
            ));
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut log = self.handler.log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(others) = log.running.get_mut(&self.job) {
            others.retain(|other| other.number != self.number);
        }
        log.executions[self.index].ended = self.ended;
        if let Some(ended) = self.ended {
            self.handler
                .trace
                .line(format_args!("job {} attempt {} ends: {ended:?}", self.job, self.number));
        }
    }
}
