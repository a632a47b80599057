//! Those who use the daemon: they submit, cancel, retry, pause, run by hand, edit files and set the clock, all through the API and the
//! file system as the real ones do, and remember what they were promised.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode};
use jiff::SignedDuration;
use serde_json::{Value, json};
use sexton::catalog::Reloader;
use sexton::clock::Clock as _;
use sexton::daemon::engine::Engine;
use tower::ServiceExt as _;

use super::QUEUES;
use super::dice::Dice;
use super::disk::{Disk, Mood};
use super::evidence::{Notes, Sighting};
use super::files::Files;
use super::life::CAPPED;
use super::time::SimClock;
use super::trace::Trace;

/// A submission, from the moment it is sent.
#[derive(Debug, Clone)]
pub(super) struct Submission {
    /// How many jobs.
    pub(super) size: usize,
    /// Whether a taken unique key may answer with another job.
    pub(super) unique: bool,
    /// The jobs that were promised, once they were.
    pub(super) promised: Option<Vec<i64>>,
    /// The daemon said no for a reason of the submission itself: nothing of it may exist.
    pub(super) refused: bool,
}

/// A promise about a job that somebody cancelled or brought back, in the order in which they were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Promise {
    /// It waited and is cancelled.
    Cancelled,
    /// It runs and was asked to stop.
    StopRequested,
    /// A request to bring it back was sent, whatever came of it.
    MaybeRedriven,
}

/// What people were promised over all lives.
#[derive(Debug, Default)]
pub(super) struct Promises {
    /// By the number in the label `sub`.
    pub(super) submissions: BTreeMap<u64, Submission>,
    /// By job, with how many executions of all jobs had begun when the promise was made.
    pub(super) jobs: BTreeMap<i64, Vec<(Promise, usize)>>,
}

/// Everything that people see. Cheap to clone.
#[derive(Clone)]
pub(super) struct People {
    pub(super) api: Router,
    pub(super) notes: Notes,
    /// The clock of the machine, which they may set.
    pub(super) machine: SimClock,
    pub(super) trace: Trace,
    pub(super) disk: Arc<Disk>,
    pub(super) reloader: Arc<Reloader>,
    pub(super) temper: Temper,
}

/// What a seed's people are inclined to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Temper {
    /// The longest pause between two actions, in seconds.
    pub(super) pause: u64,
    /// Whether the clock may be set.
    pub(super) clock: bool,
    /// Whether it may be set by months and years.
    pub(super) wild_clock: bool,
    /// Whether the disk may misbehave.
    pub(super) disk: bool,
    /// Whether schedules are edited.
    pub(super) edits: bool,
    /// How many nodes there are to drain.
    pub(super) nodes: usize,
    /// How many jobs about come in one call at the most.
    pub(super) most_jobs: usize,
}

/// With more jobs than that, a call brings plain ones that come before all others: those are claimed ahead of the workers.
const FLOOD_JOBS: usize = 14;

fn plain_job(number: u64) -> Value {
    json!({
        "kind": "command",
        "params": { "argv": ["true"] },
        "queue": "default",
        "priority": 10,
        "labels": { "sub": number.to_string() },
    })
}

#[derive(Debug, Clone, Copy)]
enum Action {
    Submit,
    SubmitMany,
    Cancel,
    CancelMany,
    Retry,
    Edit,
    RunByHand,
    PauseSchedule,
    ResumeSchedule,
    PauseQueue,
    ResumeQueue,
    SetLimit,
    DrainNode,
    SetClock,
    ChangeDisk,
}

const ACTIONS: [(u64, Action); 15] = [
    (30, Action::Submit),
    (4, Action::SubmitMany),
    (10, Action::Cancel),
    (2, Action::CancelMany),
    (6, Action::Retry),
    (16, Action::Edit),
    (10, Action::RunByHand),
    (4, Action::PauseSchedule),
    (5, Action::ResumeSchedule),
    (2, Action::PauseQueue),
    (5, Action::ResumeQueue),
    (4, Action::SetLimit),
    (3, Action::DrainNode),
    (5, Action::SetClock),
    (8, Action::ChangeDisk),
];

/// What the node of that index is called, where there are several.
pub(super) fn node_name(index: usize) -> String {
    format!("node-{}", index + 1)
}

/// What people set limits for.
const LIMITS: [&str; 4] = ["key:a", "key:b", "kind:capped", "queue:other"];

impl People {
    /// Those who use this engine, on a machine with that clock and disk. The trace is the machine's.
    pub(super) fn of(
        notes: &Notes,
        engine: &Engine,
        machine: SimClock,
        disk: Arc<Disk>,
        trace: Trace,
        temper: Temper,
    ) -> Self {
        let no_numbers = || Box::pin(std::future::ready(String::new())) as _;
        let app = engine.app(Box::new(Vec::new), Box::new(no_numbers));
        let people = Self {
            api: sexton::api::router(app),
            notes: notes.clone(),
            machine,
            trace,
            disk,
            reloader: Arc::clone(engine.reloader()),
            temper,
        };
        people.look();
        people
    }

    /// Acts until it is dropped.
    pub(super) async fn act(self, mut dice: Dice) {
        loop {
            tokio::time::sleep(dice.seconds(0, self.temper.pause)).await;
            match dice.weighed(&ACTIONS) {
                Action::Submit => self.submit(&mut dice, 1).await,
                Action::SubmitMany => {
                    let size = dice.index(self.temper.most_jobs) + 2;
                    self.submit(&mut dice, size).await;
                }
                Action::Cancel => {
                    let job = self.any_job(&mut dice);
                    self.cancel(json!({ "ids": job.into_iter().collect::<Vec<_>>() })).await;
                }
                Action::CancelMany => {
                    let queue = dice.pick(&QUEUES);
                    self.cancel(json!({ "queue": queue, "state": "pending" })).await;
                }
                Action::Retry => self.retry(&mut dice).await,
                Action::Edit if self.temper.edits => {
                    self.edit(&mut dice);
                    self.reload().await;
                }
                Action::RunByHand => {
                    let name = dice.pick(&Files::names()).clone();
                    let body = match dice.chance(20) {
                        true => {
                            json!({ "nominal_at": (self.notes.clock.now() + dice.seconds(1, 90)).to_string() })
                        }
                        false => json!({}),
                    };
                    self.post(&format!("/api/v1/schedules/{name}/run"), &body).await;
                }
                Action::PauseSchedule => {
                    let name = dice.pick(&Files::names()).clone();
                    let until = self.notes.clock.now() + dice.seconds(20, 300);
                    let body = match dice.chance(60) {
                        true => json!({ "until": until.to_string(), "reason": "a test" }),
                        false => json!({}),
                    };
                    self.post(&format!("/api/v1/schedules/{name}/pause"), &body).await;
                }
                Action::ResumeSchedule => {
                    let name = dice.pick(&Files::names()).clone();
                    self.post(&format!("/api/v1/schedules/{name}/resume"), &json!({})).await;
                }
                Action::PauseQueue => {
                    let queue = dice.pick(&QUEUES);
                    self.post(&format!("/api/v1/queues/{queue}/pause"), &json!({})).await;
                }
                Action::ResumeQueue => {
                    let queue = dice.pick(&QUEUES);
                    self.post(&format!("/api/v1/queues/{queue}/resume"), &json!({})).await;
                }
                Action::SetLimit => {
                    let name = *dice.pick(&LIMITS);
                    let max = dice.chance(60).then(|| dice.between(0, 4));
                    self.post("/api/v1/limits", &json!({ "name": name, "max": max })).await;
                }
                Action::DrainNode if self.temper.nodes > 0 => {
                    let node = node_name(dice.index(self.temper.nodes));
                    let what = if dice.chance(40) { "drain" } else { "resume" };
                    self.post(&format!("/api/v1/nodes/{node}/{what}"), &json!({})).await;
                }
                Action::SetClock => self.set_clock(&mut dice),
                Action::ChangeDisk if self.temper.disk => {
                    let moods =
                        [(3, Mood::Healthy), (3, Mood::Slow), (3, Mood::Flaky), (1, Mood::Full)];
                    let mood = dice.weighed(&moods);
                    self.trace.line(format_args!("the disk is {mood:?}"));
                    self.disk.set_mood(mood);
                }
                Action::Edit | Action::DrainNode | Action::ChangeDisk => {}
            }
        }
    }

    /// Takes back whatever would keep jobs from running for ever.
    pub(super) async fn let_everything_go_on(&self) {
        for queue in QUEUES {
            self.post(&format!("/api/v1/queues/{queue}/resume"), &json!({})).await;
        }
        for name in LIMITS {
            self.post("/api/v1/limits", &json!({ "name": name })).await;
        }
    }

    pub(super) fn edit(&self, dice: &mut Dice) {
        let edit = self.notes.files().edit(dice, self.notes.clock.now());
        self.trace.line(format_args!("edit: {edit}"));
    }

    pub(super) async fn reload(&self) {
        self.post("/api/v1/reload", &json!({})).await;
        self.look();
    }

    /// Notes which rules are in force.
    pub(super) fn look(&self) {
        let sighting = Sighting::of(&self.reloader, &self.notes.database);
        self.notes.sightings.lock().unwrap_or_else(PoisonError::into_inner).push(sighting);
    }

    fn set_clock(&self, dice: &mut Dice) {
        let seconds = match dice.between(0, 10) {
            _ if !self.temper.clock => return,
            0..=3 => dice.between(2, 120),
            4..=6 => dice.between(60, 7200),
            7 | 8 => dice.between(7200, 40_000),
            _ if self.temper.wild_clock => dice.between(40_000, 4 * 365 * 86_400),
            _ => dice.between(7200, 90_000),
        };
        let by = SignedDuration::from_secs(i64::try_from(seconds).expect("a few years"));
        let by = if dice.chance(50) { by } else { -by };
        self.machine.step(by);
        self.trace.line(format_args!("the clock is set by {by:#} to {}", self.machine.now()));
    }

    fn promises(&self) -> MutexGuard<'_, Promises> {
        self.notes.promises.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of the jobs that were promised to somebody, or the number of one that may or may not exist.
    fn any_job(&self, dice: &mut Dice) -> Option<i64> {
        let promises = self.promises();
        let known: Vec<i64> = promises
            .submissions
            .values()
            .filter_map(|sent| sent.promised.as_ref())
            .flatten()
            .copied()
            .collect();
        let newest = known.last().copied().unwrap_or(1);
        match dice.chance(70) {
            // The later, the more likely to be alive.
            true if !known.is_empty() => {
                let back = dice.index(8).min(known.len() - 1);
                Some(known[known.len() - 1 - back])
            }
            _ => i64::try_from(dice.between(1, newest.unsigned_abs() + 3)).ok(),
        }
    }

    async fn submit(&self, dice: &mut Dice, size: usize) {
        let number = self.promises().submissions.len() as u64;
        let is_flood = size > FLOOD_JOBS;
        let jobs: Vec<Value> = (0..size)
            .map(|_| if is_flood { plain_job(number) } else { self.job(dice, number) })
            .collect();
        let unique = jobs.iter().any(|job| job.get("unique").is_some());
        let sent = Submission { size, unique, promised: None, refused: false };
        self.promises().submissions.insert(number, sent);
        let body = if size == 1 { jobs[0].clone() } else { Value::Array(jobs) };
        let (status, answer) = self.post("/api/v1/jobs", &body).await;
        let mut promises = self.promises();
        let sent = promises.submissions.get_mut(&number).expect("it was just put there");
        match (status, &answer["items"]) {
            (StatusCode::ACCEPTED, Value::Array(items)) => {
                sent.promised = Some(items.iter().filter_map(|item| item["id"].as_i64()).collect());
            }
            (StatusCode::ACCEPTED | StatusCode::OK, _) => {
                sent.promised = Some(answer["id"].as_i64().into_iter().collect());
            }
            (status, _) => sent.refused = status.is_client_error(),
        }
        if let Some(ids) = &sent.promised {
            self.trace.line(format_args!("submission {number} is {ids:?}"));
        }
    }

    fn job(&self, dice: &mut Dice, number: u64) -> Value {
        let mut job = json!({
            "kind": "command",
            "params": { "argv": ["true"] },
            "queue": dice.pick(&QUEUES),
            "priority": dice.between(1, 11),
            "labels": { "sub": number.to_string() },
        });
        let now = self.notes.clock.now();
        if dice.chance(20) {
            job["run_at"] = json!((now + dice.seconds(1, 120)).to_string());
        }
        if dice.chance(15) {
            job["unique"] = json!(format!("key-{}", dice.between(0, 3)));
            if dice.chance(40) {
                job["unique_period"] = json!(format!("{}s", dice.between(5, 300)));
            }
        }
        if dice.chance(15)
            && let Some(on) = self.any_job(dice)
        {
            job["depends_on"] = json!([on]);
        }
        if dice.chance(15) {
            job["concurrency"] =
                json!({ "key": dice.pick(&["a", "b"]), "max": dice.between(1, 4) });
        }
        if dice.chance(15) {
            (job["kind"], job["params"]) = (json!(CAPPED), json!({}));
        }
        if dice.chance(40) {
            job["max_attempts"] = json!(dice.between(1, 5));
        }
        if dice.chance(40) {
            job["backoff"] = match dice.between(0, 3) {
                0 => json!({ "backoff": "fixed", "delay": "2s" }),
                1 => json!({ "backoff": "delays", "delays": ["0s", "3s", "20s"] }),
                _ => {
                    json!({ "backoff": "exponential", "base": "1s", "factor": 2.0, "max_delay": "1m", "jitter": true })
                }
            };
        }
        if dice.chance(30) {
            job["timeout"] = json!(format!("{}s", dice.between(1, 40)));
        }
        if dice.chance(10) {
            job["total_timeout"] = json!(format!("{}s", dice.between(20, 200)));
        }
        job
    }

    async fn cancel(&self, body: Value) {
        let (status, answer) = self.post("/api/v1/jobs/cancel", &body).await;
        if status != StatusCode::OK {
            return;
        }
        for item in answer["items"].as_array().into_iter().flatten() {
            let Some(job) = item["id"].as_i64() else { continue };
            let promise = match item["result"].as_str() {
                Some("done") => Promise::Cancelled,
                Some("requested") => Promise::StopRequested,
                _ => continue,
            };
            self.trace.line(format_args!("job {job}: {promise:?}"));
            self.promise(job, promise);
        }
    }

    async fn retry(&self, dice: &mut Dice) {
        let Some(job) = self.any_job(dice) else { return };
        // Noted before it is sent: without an answer nobody knows whether it was done.
        self.promise(job, Promise::MaybeRedriven);
        self.post("/api/v1/jobs/retry", &json!({ "ids": [job] })).await;
        self.promise(job, Promise::MaybeRedriven);
    }

    fn promise(&self, job: i64, promise: Promise) {
        let begun = self.notes.log.lock().unwrap_or_else(PoisonError::into_inner).executions.len();
        self.promises().jobs.entry(job).or_default().push((promise, begun));
    }

    /// Sends a request and returns the answer. Nobody waits for ever: when it takes long, the answer is that there is none.
    pub(super) async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        self.trace.line(format_args!("POST {path} {body}"));
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header("content-type", "application/json")
            .body(Body::from(body.to_string()))
            .expect("a request");
        let sent = self.api.clone().oneshot(request);
        let Ok(answer) = tokio::time::timeout(Duration::from_secs(30), sent).await else {
            self.trace.line(format_args!("no answer in time"));
            return (StatusCode::GATEWAY_TIMEOUT, Value::Null);
        };
        let answer = answer.expect("the router answers");
        let status = answer.status();
        let bytes =
            to_bytes(answer.into_body(), usize::MAX).await.expect("the answer is in memory");
        self.trace.line(format_args!("answer {status}"));
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }
}
