//! The queue against a model of it that fits on a page: whatever is done in whatever order, both say the same.

use std::collections::BTreeMap;

use jiff::Timestamp;
use proptest::prelude::*;
use sexton::model::{
    Actor, AfterAttempt, AttemptName, Concurrency, Dependency, DependencyNeeds, FinalState, JobId,
    JobSettings, JobState, JsonText, NewItem, NewJob, OnDependencyFailure, Outcome, Priority,
    QueueChange, Rate,
};
use sexton::queue::{Ageing, Bucket};
use sexton::store::claim::{ClaimRequest, ClaimedJob};
use sexton::store::dependencies::Hopeless;
use sexton::store::finish::Finished;
use sexton::store::limits::SetLimit;
use sexton::store::put_back::put_back;
use sexton::store::removal::{Cancelled, Redriven};
use sexton::store::{history, limits, queues};

use crate::harness::{Queue, TestDatabase, at, ended, job};

/// How an attempt ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Success,
    ForGood,
    Retry { after: i64 },
    Snooze { after: i64 },
    Interrupted,
}

/// What may hold a job back.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    limited_kind: bool,
    key: Option<(&'static str, u32)>,
}

/// Something that is done to the queue. Numbers that choose a job count round those that there are.
#[derive(Debug, Clone)]
enum Step {
    Submit {
        priority: i64,
        delay: i64,
        bounds: Bounds,
        items: usize,
        /// Behind which job, and what becomes of it when that one does not complete. Not for batches.
        after: Option<(usize, OnDependencyFailure)>,
    },
    Limit {
        name: &'static str,
        max: Option<u32>,
    },
    /// Whose rate becomes what.
    Rate {
        name: &'static str,
        rate: &'static str,
    },
    Claim {
        slots: usize,
        ahead: usize,
    },
    /// What was claimed is put back unbegun.
    PutBack {
        which: usize,
    },
    Finish {
        which: usize,
        end: End,
    },
    FinishLate {
        which: usize,
    },
    Cancel {
        which: usize,
    },
    Redrive {
        which: usize,
    },
    /// Of a batch that is over, or one of its items.
    RedriveOver {
        which: usize,
        item: bool,
    },
    Promote,
    Advance {
        seconds: i64,
    },
}

fn any_step() -> impl Strategy<Value = Step> {
    let end = prop_oneof![
        Just(End::Success),
        Just(End::ForGood),
        (0_i64..20).prop_map(|after| End::Retry { after }),
        (0_i64..20).prop_map(|after| End::Snooze { after }),
        Just(End::Interrupted),
    ];
    let key = prop::option::of((prop::sample::select(vec!["a", "b"]), 1_u32..3));
    let bounds = (any::<bool>(), key).prop_map(|(limited_kind, key)| Bounds { limited_kind, key });
    let items = prop_oneof![3 => Just(0_usize), 1 => 1_usize..4];
    let policies = vec![OnDependencyFailure::Cancel, OnDependencyFailure::Wait];
    let after = prop::option::of((any::<usize>(), prop::sample::select(policies)));
    let names = vec!["queue:default", "kind:noop", "key:a", "key:b"];
    let rated = names.clone();
    let rates = vec!["1/m burst 2", "10/s burst 3", "2/h"];
    prop_oneof![
        3 => (1_i64..=10, -5_i64..20, bounds, items, after)
            .prop_map(|(priority, delay, bounds, items, after)| Step::Submit { priority, delay, bounds, items, after }),
        1 => (prop::sample::select(names), prop::option::of(0_u32..4))
            .prop_map(|(name, max)| Step::Limit { name, max }),
        1 => (prop::sample::select(rated), prop::sample::select(rates))
            .prop_map(|(name, rate)| Step::Rate { name, rate }),
        3 => (0_usize..4, 0_usize..4).prop_map(|(slots, ahead)| Step::Claim { slots, ahead }),
        1 => any::<usize>().prop_map(|which| Step::PutBack { which }),
        3 => (any::<usize>(), end).prop_map(|(which, end)| Step::Finish { which, end }),
        1 => any::<usize>().prop_map(|which| Step::FinishLate { which }),
        1 => any::<usize>().prop_map(|which| Step::Cancel { which }),
        1 => any::<usize>().prop_map(|which| Step::Redrive { which }),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(which, item)| Step::RedriveOver { which, item }),
        2 => Just(Step::Promote),
        1 => (1_i64..4000).prop_map(|seconds| Step::Advance { seconds }),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Blocked,
    Scheduled { run_at: i64 },
    Ready,
    Running { cancel_requested: bool },
    Over(FinalState),
}

#[derive(Debug, Clone)]
struct Modelled {
    id: JobId,
    rank: i64,
    run_at: i64,
    /// What must complete before it.
    after: Option<(JobId, OnDependencyFailure)>,
    place: Place,
    number: u32,
    charged: u32,
    bounds: Bounds,
}

/// A batch: it is over when all of its items are.
#[derive(Debug, Clone)]
struct Batch {
    id: JobId,
    items: Vec<JobId>,
    is_cancelled: bool,
    over: Option<FinalState>,
}

impl Modelled {
    /// The limits that the job counts under, with what it brings for them itself.
    fn names(&self) -> Vec<(String, Option<u32>)> {
        let kind = self.bounds.limited_kind.then(|| ("kind:noop".to_owned(), None));
        let key = self.bounds.key.map(|(key, max)| (format!("key:{key}"), Some(max)));
        [Some(("queue:default".to_owned(), None)), kind, key].into_iter().flatten().collect()
    }

    fn state(&self) -> JobState {
        match self.place {
            Place::Blocked => JobState::Blocked,
            Place::Scheduled { .. } if self.number > 0 => JobState::Retrying,
            Place::Scheduled { .. } | Place::Ready => JobState::Pending,
            Place::Running { .. } => JobState::Running,
            Place::Over(end) => end.state(),
        }
    }
}

/// The name of the only queue.
const QUEUE: &str = "queue:default";

/// The queue and the model, side by side.
struct Both {
    queue: Queue,
    jobs: Vec<Modelled>,
    batches: Vec<Batch>,
    limits: BTreeMap<String, u32>,
    rates: BTreeMap<String, Rate>,
    /// When the bucket of a rate is full.
    full_at: BTreeMap<String, Timestamp>,
    /// What runs according to the model, with what the queue gave for it.
    running: Vec<ClaimedJob>,
    /// Attempts that are over.
    past: Vec<ClaimedJob>,
    now: i64,
}

impl Both {
    fn modelled(&mut self, id: JobId) -> &mut Modelled {
        self.jobs.iter_mut().find(|job| job.id == id).expect("every job is modelled")
    }

    fn choose(&self, which: usize) -> Option<JobId> {
        let jobs = self.jobs.iter().map(|job| job.id);
        let all: Vec<JobId> = jobs.chain(self.batches.iter().map(|batch| batch.id)).collect();
        (!all.is_empty()).then(|| all[which % all.len()])
    }

    fn batch(&mut self, id: JobId) -> Option<&mut Batch> {
        self.batches.iter_mut().find(|batch| batch.id == id)
    }

    /// How a job or batch has ended; none while it is not over.
    fn end_of(&self, id: JobId) -> Option<FinalState> {
        match self.jobs.iter().find(|job| job.id == id) {
            Some(Modelled { place: Place::Over(end), .. }) => Some(*end),
            Some(_) => None,
            None => self.batches.iter().find(|batch| batch.id == id).and_then(|batch| batch.over),
        }
    }

    /// What follows at that time from what has ended, until nothing more follows.
    fn settle_at(&mut self, now: i64) {
        loop {
            self.close_batches();
            let next = self.jobs.iter().enumerate().find_map(|(index, job)| {
                let (on, policy) = job.after.filter(|_| job.place == Place::Blocked)?;
                let place = match self.end_of(on)? {
                    FinalState::Completed if job.run_at > now => {
                        Place::Scheduled { run_at: job.run_at }
                    }
                    FinalState::Completed => Place::Ready,
                    _ if policy == OnDependencyFailure::Wait => return None,
                    _ => Place::Over(FinalState::Cancelled),
                };
                Some((index, place))
            });
            let Some((index, place)) = next else { return };
            self.jobs[index].place = place;
        }
    }

    fn settle(&mut self) {
        self.settle_at(self.now);
    }

    /// Ends the batches whose last item is over.
    fn close_batches(&mut self) {
        for batch in self.batches.iter_mut().filter(|batch| batch.over.is_none()) {
            let items = self.jobs.iter().filter(|job| batch.items.contains(&job.id));
            let ends: Option<Vec<FinalState>> = items
                .map(|item| if let Place::Over(end) = item.place { Some(end) } else { None })
                .collect();
            batch.over = ends.map(|ends| match batch.is_cancelled {
                _ if ends.iter().all(|end| *end == FinalState::Completed) => FinalState::Completed,
                true => FinalState::Cancelled,
                false => FinalState::Failed,
            });
        }
    }

    async fn apply(&mut self, step: Step) {
        match step {
            Step::Submit { priority, delay, bounds, items, after } => {
                let after = after.filter(|_| items == 0);
                let after = after.and_then(|(which, policy)| Some((self.choose(which)?, policy)));
                self.submit(priority, delay, bounds, items, after).await;
            }
            Step::Limit { name, max } => self.limit(name, max).await,
            Step::Rate { name, rate } => self.rate(name, rate).await,
            Step::Claim { slots, ahead } => self.claim(slots, ahead).await,
            Step::PutBack { which } => self.put_back(which).await,
            Step::Finish { which, end } => self.finish(which, end).await,
            Step::FinishLate { which } => self.finish_late(which).await,
            Step::Cancel { which } => self.cancel(which).await,
            Step::Redrive { which } => {
                if let Some(id) = self.choose(which) {
                    self.redrive(id).await;
                }
            }
            Step::RedriveOver { which, item } => self.redrive_over(which, item).await,
            Step::Promote => self.promote().await,
            Step::Advance { seconds } => self.now += seconds,
        }
    }

    async fn submit(
        &mut self,
        priority: i64,
        delay: i64,
        bounds: Bounds,
        items: usize,
        after: Option<(JobId, OnDependencyFailure)>,
    ) {
        let run_at = self.now + delay;
        let priority = Priority::new(priority).unwrap();
        let concurrency = bounds.key.map(|(key, max)| Concurrency { key: key.to_owned(), max });
        let limited_kind = bounds.limited_kind;
        let on_dependency_failure = after.map(|(_, policy)| policy).unwrap_or_default();
        let needs = DependencyNeeds::Success;
        let depends_on = after.map(|(on, _)| Dependency { on, needs }).into_iter().collect();
        let settings = JobSettings {
            concurrency,
            limited_kind,
            depends_on,
            on_dependency_failure,
            ..JobSettings::default()
        };
        let item = |index: usize| NewItem {
            node: None,
            name: index.to_string(),
            params: JsonText::from(&serde_json::json!({})),
        };
        let items: Vec<NewItem> = (0..items).map(item).collect();
        let count = i64::try_from(items.len()).unwrap();
        let new = NewJob { priority, run_at: at(run_at), settings, items, ..job() };
        let place = match after.map(|after| self.behind(after)) {
            Some(Err(_)) => {
                self.queue.try_submit(self.now, vec![new]).await.unwrap_err();
                return;
            }
            Some(Ok(true)) => Place::Blocked,
            _ if delay > 0 => Place::Scheduled { run_at },
            _ => Place::Ready,
        };
        let id = self.queue.submit(self.now, new).await;
        let rank = Ageing::DEFAULT.rank(at(run_at), priority);
        let made: Vec<JobId> =
            if count == 0 { vec![id] } else { (1..=count).map(|n| JobId(id.0 + n)).collect() };
        for id in &made {
            let (id, number, charged) = (*id, 0, 0);
            self.jobs.push(Modelled { id, rank, run_at, after, place, number, charged, bounds });
        }
        if count > 0 {
            self.batches.push(Batch { id, items: made, is_cancelled: false, over: None });
        }
    }

    /// Whether a job has to wait for the one that it needs, or why it can never run.
    fn behind(&self, (on, policy): (JobId, OnDependencyFailure)) -> Result<bool, Hopeless> {
        match self.end_of(on) {
            Some(FinalState::Completed) => Ok(false),
            Some(end) if policy == OnDependencyFailure::Cancel => {
                Err(Hopeless::Ended(on, end.state()))
            }
            _ => Ok(true),
        }
    }

    async fn limit(&mut self, name: &'static str, max: Option<u32>) {
        let now = at(self.now);
        match max {
            Some(max) => {
                self.limits.insert(name.to_owned(), max);
                let by = Actor::named("test");
                self.queue
                    .write(move |conn| {
                        limits::set(
                            conn,
                            name,
                            SetLimit { max: Some(max), ..SetLimit::default() },
                            &by,
                            now,
                        )
                    })
                    .await;
            }
            None => {
                let had_rate = name != QUEUE && self.rates.remove(name).is_some();
                let was_set = self.limits.remove(name).is_some() || had_rate;
                let unset = self.queue.write(move |conn| limits::unset(conn, name)).await;
                assert_eq!(unset, was_set);
            }
        }
    }

    /// Rates go by the database's clock on PostgreSQL, which is not the model's.
    async fn rate(&mut self, name: &'static str, rate: &'static str) {
        if !self.queue.database.is_sqlite() {
            return;
        }
        let (now, by) = (at(self.now), Actor::named("test"));
        let rate: Rate = rate.parse().unwrap();
        let is_new = self.rates.insert(name.to_owned(), rate) != Some(rate);
        if name == QUEUE {
            let change = QueueChange { rate: Some(Some(rate)), ..QueueChange::default() };
            let set = self.queue.write(move |conn| queues::set(conn, "default", change, &by, now));
            assert_eq!(set.await, is_new);
        } else {
            self.queue
                .write(move |conn| {
                    limits::set(
                        conn,
                        name,
                        SetLimit { rate: Some(rate), ..SetLimit::default() },
                        &by,
                        now,
                    )
                })
                .await;
        }
    }

    /// What is left of the rates that somebody waits for.
    fn buckets(&self) -> BTreeMap<String, Bucket> {
        let ready = self.jobs.iter().filter(|job| job.place == Place::Ready);
        let names = ready.flat_map(|job| job.names().into_iter().map(|(name, _)| name));
        let bucket = |name: String| {
            let full_at = self.full_at.get(&name).copied();
            let bucket = Bucket::new(*self.rates.get(&name)?, full_at, at(self.now));
            Some((name, bucket))
        };
        names.filter_map(bucket).collect()
    }

    /// What is claimed for workers that are free is exactly what the model says. What is claimed ahead of them is as well, but may be less: not
    /// every part of the queue is looked into that far.
    async fn claim(&mut self, slots: usize, mut ahead: usize) {
        let request = ClaimRequest { ahead, ..self.queue.request(self.now, slots) };
        let claimed = self.queue.claim_with(request).await;
        let mut running: BTreeMap<String, u32> = BTreeMap::new();
        for job in self.jobs.iter().filter(|job| matches!(job.place, Place::Running { .. })) {
            job.names().into_iter().for_each(|(name, _)| *running.entry(name).or_default() += 1);
        }
        let mut buckets = self.buckets();
        let mut ready: Vec<&Modelled> =
            self.jobs.iter().filter(|job| job.place == Place::Ready).collect();
        ready.sort_by_key(|job| (job.rank, job.id));
        let mut expected = Vec::new();
        for job in ready {
            let is_held_back = job.names().into_iter().any(|(name, own)| {
                let max = self.limits.get(&name).copied().or(own);
                max.is_some_and(|max| running.get(&name).copied().unwrap_or(0) >= max)
                    || buckets.get(&name).is_some_and(|bucket| bucket.left() == 0)
            });
            if is_held_back {
                continue;
            }
            if expected.len() >= slots {
                let is_limited = job.names().into_iter().any(|(name, own)| {
                    own.is_some()
                        || self.limits.contains_key(&name)
                        || self.rates.contains_key(&name)
                });
                ahead = if is_limited { 0 } else { ahead };
                if ahead == 0 {
                    break;
                }
                ahead -= 1;
            }
            for (name, _) in job.names() {
                assert!(buckets.get_mut(&name).is_none_or(Bucket::take));
                *running.entry(name).or_default() += 1;
            }
            expected.push((job.id, job.number + 1, job.charged));
        }
        let got: Vec<_> = claimed.iter().map(|job| (job.id, job.number, job.charged)).collect();
        assert_eq!(got, expected[..got.len().min(expected.len())]);
        assert!(got.len() >= slots.min(expected.len()), "{got:?} of {expected:?}");
        for (id, number, _) in got {
            let job = self.modelled(id);
            (job.place, job.number) = (Place::Running { cancel_requested: false }, number);
        }
        let changed = |(name, bucket): (String, Bucket)| Some((name, bucket.to_store()?));
        self.full_at.extend(buckets.into_iter().filter_map(changed));
        self.running.extend(claimed);
    }

    async fn put_back(&mut self, which: usize) {
        if self.running.is_empty() {
            return;
        }
        let claimed = self.running.remove(which % self.running.len());
        let unbegun = [AttemptName { job: claimed.id, number: claimed.number }];
        let (node, now) = (self.queue.node, at(self.now));
        self.queue.write(move |conn| put_back(conn, node, &unbegun, now)).await;
        let job = self.modelled(claimed.id);
        job.number -= 1;
        job.place = match job.place {
            Place::Running { cancel_requested: true } => Place::Over(FinalState::Cancelled),
            _ => Place::Ready,
        };
        self.settle();
    }

    async fn finish(&mut self, which: usize, end: End) {
        if self.running.is_empty() {
            return;
        }
        let attempt = self.running.remove(which % self.running.len());
        let finished = self.now + 1;
        let (outcome, next) = match end {
            End::Success => (Outcome::Success, AfterAttempt::End(FinalState::Completed)),
            End::ForGood => (Outcome::Failure, AfterAttempt::End(FinalState::Failed)),
            End::Retry { after } => (Outcome::Error, AfterAttempt::RetryAt(at(finished + after))),
            End::Snooze { after } => {
                (Outcome::Skipped, AfterAttempt::SnoozeUntil(at(finished + after)))
            }
            End::Interrupted => (Outcome::Interrupted, AfterAttempt::GiveBack),
        };
        let answer = self.queue.finish(ended(&attempt, self.now, outcome, next)).await;
        let job = self.modelled(attempt.id);
        job.charged += u32::from(outcome.is_charged());
        let cancelled = job.place == Place::Running { cancel_requested: true };
        job.place = match end {
            End::Success => Place::Over(FinalState::Completed),
            End::ForGood => Place::Over(FinalState::Failed),
            _ if cancelled => Place::Over(FinalState::Cancelled),
            End::Retry { after } | End::Snooze { after } => {
                Place::Scheduled { run_at: finished + after }
            }
            End::Interrupted => Place::Ready,
        };
        let state = match next {
            AfterAttempt::End(_) => job.state(),
            _ if cancelled => JobState::Cancelled,
            _ => next.state(),
        };
        assert_eq!(answer, Finished::Recorded { state, ended_schedule: None });
        self.past.push(attempt);
        self.settle_at(finished);
    }

    async fn finish_late(&mut self, which: usize) {
        if self.past.is_empty() {
            return;
        }
        let attempt = &self.past[which % self.past.len()];
        let end = AfterAttempt::End(FinalState::Completed);
        let late = ended(attempt, self.now, Outcome::Success, end);
        assert_eq!(self.queue.finish(late).await, Finished::Fenced);
    }

    async fn cancel(&mut self, which: usize) {
        let Some(id) = self.choose(which) else { return };
        let answer = self.queue.cancel(self.now, id).await;
        let expected = match self.batch(id) {
            Some(Batch { over: Some(_), .. }) => Cancelled::AlreadyOver,
            Some(batch) => {
                batch.is_cancelled = true;
                for item in batch.items.clone() {
                    self.cancel_job(item);
                }
                self.settle();
                let is_over = self.batch(id).is_some_and(|batch| batch.over.is_some());
                if is_over { Cancelled::Done } else { Cancelled::Requested }
            }
            None => self.cancel_job(id),
        };
        self.settle();
        assert_eq!(answer, expected);
    }

    fn cancel_job(&mut self, id: JobId) -> Cancelled {
        let job = self.modelled(id);
        match job.place {
            Place::Running { .. } => {
                job.place = Place::Running { cancel_requested: true };
                Cancelled::Requested
            }
            Place::Over(_) => Cancelled::AlreadyOver,
            Place::Blocked | Place::Ready | Place::Scheduled { .. } => {
                job.place = Place::Over(FinalState::Cancelled);
                Cancelled::Done
            }
        }
    }

    async fn redrive_over(&mut self, which: usize, item: bool) {
        let over: Vec<&Batch> = self.batches.iter().filter(|batch| batch.over.is_some()).collect();
        if over.is_empty() {
            return;
        }
        let batch = over[which % over.len()];
        let id = if item { batch.items[which % batch.items.len()] } else { batch.id };
        self.redrive(id).await;
    }

    async fn redrive(&mut self, id: JobId) {
        let answer = self.queue.redrive(self.now, id).await;
        let expected = match self.batch(id) {
            Some(Batch { over: None, .. }) => Redriven::NotNow(JobState::Running),
            Some(Batch { over: Some(FinalState::Completed), .. }) => {
                Redriven::NotNow(JobState::Completed)
            }
            Some(batch) => {
                (batch.over, batch.is_cancelled) = (None, false);
                for item in batch.items.clone() {
                    if matches!(self.modelled(item).place, Place::Over(_)) {
                        self.redrive_job(item);
                    }
                }
                Redriven::Done
            }
            None => self.redrive_job(id),
        };
        self.settle();
        assert_eq!(answer, expected);
    }

    fn redrive_job(&mut self, id: JobId) -> Redriven {
        let after = self.modelled(id).after;
        let behind = after.map_or(Ok(false), |after| self.behind(after));
        let job = self.modelled(id);
        match job.state() {
            JobState::Failed | JobState::Cancelled => match behind {
                Err(why) => Redriven::Hopeless(why),
                Ok(true) => {
                    (job.place, job.charged) = (Place::Blocked, 0);
                    Redriven::Blocked
                }
                Ok(false) => {
                    (job.place, job.charged) = (Place::Ready, 0);
                    Redriven::Done
                }
            },
            JobState::Retrying => {
                job.place = Place::Ready;
                Redriven::Done
            }
            other => Redriven::NotNow(other),
        }
    }

    async fn promote(&mut self) {
        let moved = self.queue.promote(self.now).await;
        let mut expected = 0;
        for job in &mut self.jobs {
            if let Place::Scheduled { run_at } = job.place
                && run_at <= self.now
            {
                job.place = Place::Ready;
                expected += 1;
            }
        }
        assert_eq!(moved, expected);
    }

    /// Holds every job's state and attempt number against the model.
    async fn compare(&self) {
        let ids: Vec<i64> = self.jobs.iter().rev().map(|job| job.id.0).collect();
        let records = self.queue.read(move |conn| history::by_ids(conn, &ids)).await;
        let real: Vec<_> =
            records.iter().map(|job| (job.id, job.state, job.attempt.unsigned_abs())).collect();
        let modelled: Vec<_> =
            self.jobs.iter().rev().map(|job| (job.id, job.state(), job.number)).collect();
        assert_eq!(real, modelled);
        for batch in &self.batches {
            let expected = batch.over.map_or(JobState::Running, FinalState::state);
            assert_eq!(self.queue.state(batch.id).await, expected, "{batch:?}");
        }
    }
}

fn agrees(database: TestDatabase, steps: Vec<Step>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut both = Both {
            queue: Queue::open(database).await,
            jobs: Vec::new(),
            batches: Vec::new(),
            limits: BTreeMap::new(),
            rates: BTreeMap::new(),
            full_at: BTreeMap::new(),
            running: Vec::new(),
            past: Vec::new(),
            now: 0,
        };
        for step in steps {
            both.apply(step).await;
            both.compare().await;
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_queue_agrees_with_its_model_on_sqlite(steps in proptest::collection::vec(any_step(), 1..60)) {
        agrees(TestDatabase::sqlite(), steps);
    }
}

proptest! {
    // Each case makes a database of its own on the server.
    #![proptest_config(ProptestConfig { cases: 10, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_queue_agrees_with_its_model_on_postgres(steps in proptest::collection::vec(any_step(), 1..60)) {
        if let Some(database) = TestDatabase::postgres() {
            agrees(database, steps);
        }
    }
}
