//! One attempt: the handler under a time limit, a stop order, and a guard against its panics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::jobs::command::Keepers;
use crate::jobs::{Answer, Context, Failure, Handler, RetryAdvice, StopReason};
use crate::model::{
    AfterAttempt, FinishedAttempt, HumanDuration, JobId, MAX_JSON_LEVELS, Outcome, RetryPolicy,
    nests_deeper,
};
use crate::queue::{AttemptEnd, after_attempt};

/// How deep lists and objects in a result may be inside each other. A program's own result stands in that of its attempt.
const MAX_RESULT_LEVELS: usize = MAX_JSON_LEVELS + 1;

/// The stop order of one attempt: a token that the handler sees, and the reason, which it does not.
#[derive(Debug, Clone)]
pub(super) struct StopOrder {
    pub(super) token: CancellationToken,
    /// Cancelled when there is no time left for it to end by itself.
    killed: CancellationToken,
    reason: Arc<AtomicU8>,
}

impl StopOrder {
    pub(super) fn new() -> Self {
        Self {
            token: CancellationToken::new(),
            killed: CancellationToken::new(),
            reason: Arc::new(AtomicU8::new(0)),
        }
    }

    /// Orders the attempt to stop. The first reason stays.
    pub(super) fn give(&self, reason: StopReason) {
        let code = match reason {
            StopReason::Cancelled => 1,
            StopReason::Timeout => 2,
            StopReason::Shutdown => 3,
            StopReason::LeaseOver => 4,
        };
        // Losing the race means that another reason came first, which is the one to keep.
        let _first_reason =
            self.reason.compare_exchange(0, code, Ordering::AcqRel, Ordering::Acquire);
        self.token.cancel();
    }

    /// Ends the attempt without waiting for it, once it was told to stop.
    pub(super) fn kill(&self) {
        self.killed.cancel();
    }

    fn reason(&self) -> Option<StopReason> {
        match self.reason.load(Ordering::Acquire) {
            1 => Some(StopReason::Cancelled),
            2 => Some(StopReason::Timeout),
            3 => Some(StopReason::Shutdown),
            4 => Some(StopReason::LeaseOver),
            _ => None,
        }
    }
}

/// What an attempt is bounded by.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bounds {
    /// The longest it may take.
    pub(super) timeout: Option<Duration>,
    /// How long it may go on after it was told to stop.
    pub(super) stop_grace: Duration,
    /// What bounds all attempts of the job together.
    pub(super) total: Option<Total>,
    /// How often the job is tried.
    pub(super) retry: RetryPolicy,
    /// Charged attempts before this one.
    pub(super) charged_before: u32,
    /// A random number from 0 up to 1, for the jitter of its retry.
    pub(super) draw: f64,
}

/// How long all attempts of a job and the waits between them may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Total {
    pub(super) length: HumanDuration,
    /// When the first of them began.
    pub(super) first_started_at: Timestamp,
}

impl Total {
    fn deadline(self) -> Timestamp {
        self.first_started_at + self.length.get()
    }
}

impl Bounds {
    /// How long an attempt that begins now may take: its own limit, or what is left of the limit for all attempts.
    pub(super) fn limit(&self, now: Timestamp) -> Option<Duration> {
        let left = self.total.map(|total| {
            Duration::try_from(total.deadline().duration_since(now)).unwrap_or(Duration::ZERO)
        });
        match (self.timeout, left) {
            (Some(own), Some(left)) => Some(own.min(left)),
            (own, left) => own.or(left),
        }
    }

    /// What is said of an attempt that came to the limit that it had.
    fn too_long(&self, limit: Option<Duration>) -> String {
        match (self.timeout, self.total) {
            (own, Some(total)) if limit != own => {
                format!("all attempts together took longer than {}", total.length)
            }
            (Some(own), _) => format!("it took longer than {}", HumanDuration(own)),
            // Its keeper has stopped it, by a limit that does not count any more.
            (None, _) => "its time was over".to_owned(),
        }
    }
}

/// When an attempt that was taken over began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Begun {
    pub(super) at: Timestamp,
    /// How long ago that was, by a clock that nobody sets.
    pub(super) elapsed: Duration,
}

/// An attempt to be run.
pub(super) struct Attempt {
    pub(super) handler: Option<Arc<dyn Handler>>,
    pub(super) context: Context,
    pub(super) bounds: Bounds,
    pub(super) stop: StopOrder,
    /// `None`: it begins now.
    pub(super) begun: Option<Begun>,
    pub(super) keepers: Keepers,
}

/// Runs an attempt in a task of its own and sends what came of it.
pub(super) fn spawn(attempt: Attempt, done: mpsc::UnboundedSender<FinishedAttempt>) {
    let job = &attempt.context.job;
    let span = tracing::info_span!(
        "attempt",
        job.id = job.id.0,
        job.kind = job.kind,
        schedule = job.schedule.as_ref().map(|(id, _)| id.as_str()),
        attempt = job.attempt,
    );
    let run = async move {
        let finished = attempt.run().await;
        // The pool outlives its attempts; if it is gone, so is the process.
        let _pool_gone = done.send(finished);
    };
    tokio::spawn(run.instrument(span));
}

impl Attempt {
    async fn run(self) -> FinishedAttempt {
        let began = self.context.clock.since_boot();
        let elapsed = self.begun.map_or(Duration::ZERO, |begun| begun.elapsed);
        let started_at = self.begun.map_or_else(|| self.context.clock.now(), |begun| begun.at);
        let answer = match &self.handler {
            // It has waited for its turn until the time for all attempts was over.
            Some(_) if self.begun.is_none() && self.context.limit == Some(Duration::ZERO) => {
                self.stop.give(StopReason::Timeout);
                Answer::Stopped { result: None }
            }
            Some(handler) => self.supervise(Arc::clone(handler), elapsed).await,
            None => Failure::error(format!(
                "nothing here runs jobs of the kind `{}`: no file in `kinds.dirs` declares it, and this version has none of that name",
                self.context.job.kind
            ))
            .into(),
        };
        // From the monotonic clock, so that a stepped wall clock makes no negative or enormous durations.
        let watched = self.context.clock.since_boot().saturating_sub(began) + elapsed;
        // Nobody may have watched when it ended.
        let took = self.keepers.took(self.context.job.name()).unwrap_or(watched);
        self.conclude(answer, started_at, started_at + took)
    }

    /// Lets the handler run until it answers; tells it to stop when its time is up, and gives up on it when it does not.
    async fn supervise(&self, handler: Arc<dyn Handler>, elapsed: Duration) -> Answer {
        let context = self.context.clone();
        let work = async move { handler.run(context).await };
        let mut task = tokio::spawn(work.in_current_span());
        let limit = self.context.limit.map(|limit| limit.saturating_sub(elapsed));
        tokio::select! {
            biased;
            answer = &mut task => return answer_of(answer),
            () = self.stop.token.cancelled() => {}
            () = sleep_or_forever(limit) => self.stop.give(StopReason::Timeout),
        }
        let why = tokio::select! {
            biased;
            answer = &mut task => return answer_of(answer),
            () = self.stop.killed.cancelled() => {
                // A program ends with its handler; one that is kept elsewhere, when it is forgotten.
                self.keepers.forget(self.context.job.name());
                "it had not stopped when others were about to run its job, and was killed".to_owned()
            }
            () = tokio::time::sleep(self.bounds.stop_grace) => format!(
                "it did not stop within {} of being told to and was abandoned",
                HumanDuration(self.bounds.stop_grace)
            ),
        };
        task.abort();
        Failure::error(why).into()
    }

    fn conclude(
        self,
        answer: Answer,
        started_at: Timestamp,
        finished_at: Timestamp,
    ) -> FinishedAttempt {
        let too_long = self.bounds.too_long(self.context.limit);
        let mut verdict = Verdict::of(answer, self.stop.reason(), too_long);
        let end = AttemptEnd {
            outcome: verdict.outcome,
            finished_at,
            advice: verdict.advice,
            snooze: verdict.snooze,
            charged_before: self.bounds.charged_before,
            deadline: self.bounds.total.map(Total::deadline),
        };
        let next = after_attempt(&end, &self.bounds.retry, self.bounds.draw);
        if let (Outcome::Skipped, AfterAttempt::End(_), Some(total)) =
            (end.outcome, next, self.bounds.total)
        {
            // What ends a job badly is charged.
            verdict.outcome = Outcome::Timeout;
            let reason = verdict.error.unwrap_or_default();
            let length = total.length;
            verdict.error = Some(format!(
                "{reason}; if it came back then, all attempts together would take longer than {length}"
            ));
        }
        let result = verdict.result.filter(|value| !value.is_null());
        let is_too_deep =
            result.as_ref().is_some_and(|result| nests_deeper(result, MAX_RESULT_LEVELS));
        if is_too_deep {
            self.context.output.line(format!(
                "sexton: the result is not kept: it has more than {MAX_RESULT_LEVELS} lists and objects inside each other"
            ));
        }
        let job: JobId = self.context.job.id;
        FinishedAttempt {
            job,
            number: self.context.job.attempt,
            outcome: verdict.outcome,
            started_at,
            finished_at,
            exit_code: verdict.exit_code,
            error: verdict.error.map(|text| storable(&text)),
            result: result.filter(|_| !is_too_deep),
            output_tail: self.context.output.finish().tail,
            checkpoint: self.context.progress.latest_checkpoint(),
            next,
        }
    }
}

/// PostgreSQL's text cannot hold NUL.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

async fn sleep_or_forever(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

fn answer_of(joined: Result<Answer, tokio::task::JoinError>) -> Answer {
    match joined.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(answer) => answer,
        Err(Ok(panic)) => {
            let said = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "no message".to_owned());
            Failure::error(format!("the handler panicked: {said}")).into()
        }
        Err(Err(_aborted)) => Failure::error("the attempt was aborted").into(),
    }
}

/// An answer, read in the light of why the attempt was told to stop, if it was.
struct Verdict {
    outcome: Outcome,
    advice: RetryAdvice,
    snooze: Duration,
    error: Option<String>,
    exit_code: Option<i32>,
    result: Option<serde_json::Value>,
}

impl Verdict {
    fn of(answer: Answer, stopped: Option<StopReason>, too_long: String) -> Self {
        let bare = |outcome, error| Self {
            outcome,
            advice: RetryAdvice::ByPolicy,
            snooze: Duration::ZERO,
            error,
            exit_code: None,
            result: None,
        };
        match (answer, stopped) {
            // It was done before the order reached it.
            (Answer::Done(result), _) => Self {
                exit_code: exit_code(&result),
                result: Some(result),
                ..bare(Outcome::Success, None)
            },
            (Answer::Stopped { result }, Some(reason)) => {
                let (outcome, why) = stop_verdict(reason, too_long);
                Self { result, ..bare(outcome, Some(why)) }
            }
            (Answer::Ended { reason, result }, known) => {
                let (outcome, why) = stop_verdict(known.unwrap_or(reason), too_long);
                Self { result, ..bare(outcome, Some(why)) }
            }
            (Answer::Stopped { result }, None) => {
                let why = "the handler stopped although nobody had told it to".to_owned();
                Self { result, ..bare(Outcome::Error, Some(why)) }
            }
            // What fails after the order to stop most likely fails because of it.
            (Answer::Failed(failure), Some(reason)) => {
                let (outcome, why) = stop_verdict(reason, too_long);
                let error = Some(format!("{why}; {}", failure.message));
                Self {
                    exit_code: failure.exit_code,
                    result: failure.result,
                    ..bare(outcome, error)
                }
            }
            (Answer::Failed(failure), None) => Self {
                outcome: if failure.is_answer { Outcome::Failure } else { Outcome::Error },
                advice: failure.retry,
                snooze: Duration::ZERO,
                error: Some(failure.message),
                exit_code: failure.exit_code,
                result: failure.result,
            },
            (Answer::Snooze { delay, reason }, _) => {
                Self { snooze: delay, ..bare(Outcome::Skipped, Some(reason)) }
            }
        }
    }
}

/// The exit code of what worked: not always 0, and told in the result of the kinds that run a program.
fn exit_code(result: &serde_json::Value) -> Option<i32> {
    result.get("exit_code")?.as_i64()?.try_into().ok()
}

fn stop_verdict(reason: StopReason, too_long: String) -> (Outcome, String) {
    match reason {
        StopReason::Cancelled => (Outcome::Cancelled, "cancelled while it ran".to_owned()),
        StopReason::Shutdown => {
            (Outcome::Interrupted, "given back because the daemon stopped".to_owned())
        }
        StopReason::LeaseOver => (
            Outcome::Interrupted,
            "given back because this node's lease was running out: it had not reached the database for too long".to_owned(),
        ),
        StopReason::Timeout => (Outcome::Timeout, too_long),
    }
}
