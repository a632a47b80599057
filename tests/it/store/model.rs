//! The queue against a model of it that fits on a page: whatever is done in whatever order, both say the same.

use proptest::prelude::*;
use sexton::model::{AfterAttempt, FinalState, JobId, JobState, NewJob, Outcome, Priority};
use sexton::queue::Ageing;
use sexton::store::claim::ClaimedJob;
use sexton::store::finish::Finished;
use sexton::store::history;
use sexton::store::removal::{Cancelled, Redriven};

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

/// Something that is done to the queue. Numbers that choose a job count round those that there are.
#[derive(Debug, Clone)]
enum Step {
    Submit { priority: i64, delay: i64 },
    Claim { slots: usize },
    Finish { which: usize, end: End },
    FinishLate { which: usize },
    Cancel { which: usize },
    Redrive { which: usize },
    Promote,
    Advance { seconds: i64 },
}

fn any_step() -> impl Strategy<Value = Step> {
    let end = prop_oneof![
        Just(End::Success),
        Just(End::ForGood),
        (0_i64..20).prop_map(|after| End::Retry { after }),
        (0_i64..20).prop_map(|after| End::Snooze { after }),
        Just(End::Interrupted),
    ];
    prop_oneof![
        3 => (1_i64..=10, -5_i64..20).prop_map(|(priority, delay)| Step::Submit { priority, delay }),
        3 => (1_usize..4).prop_map(|slots| Step::Claim { slots }),
        3 => (any::<usize>(), end).prop_map(|(which, end)| Step::Finish { which, end }),
        1 => any::<usize>().prop_map(|which| Step::FinishLate { which }),
        1 => any::<usize>().prop_map(|which| Step::Cancel { which }),
        1 => any::<usize>().prop_map(|which| Step::Redrive { which }),
        2 => Just(Step::Promote),
        1 => (1_i64..4000).prop_map(|seconds| Step::Advance { seconds }),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Scheduled { run_at: i64 },
    Ready,
    Running { cancel_requested: bool },
    Over(FinalState),
}

#[derive(Debug, Clone)]
struct Modelled {
    id: JobId,
    rank: i64,
    place: Place,
    number: u32,
    charged: u32,
}

impl Modelled {
    fn state(&self) -> JobState {
        match self.place {
            Place::Scheduled { .. } if self.number > 0 => JobState::Retrying,
            Place::Scheduled { .. } | Place::Ready => JobState::Pending,
            Place::Running { .. } => JobState::Running,
            Place::Over(end) => end.state(),
        }
    }
}

/// The queue and the model, side by side.
struct Both {
    queue: Queue,
    jobs: Vec<Modelled>,
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
        (!self.jobs.is_empty()).then(|| self.jobs[which % self.jobs.len()].id)
    }

    async fn apply(&mut self, step: Step) {
        match step {
            Step::Submit { priority, delay } => self.submit(priority, delay).await,
            Step::Claim { slots } => self.claim(slots).await,
            Step::Finish { which, end } => self.finish(which, end).await,
            Step::FinishLate { which } => self.finish_late(which).await,
            Step::Cancel { which } => self.cancel(which).await,
            Step::Redrive { which } => self.redrive(which).await,
            Step::Promote => self.promote().await,
            Step::Advance { seconds } => self.now += seconds,
        }
    }

    async fn submit(&mut self, priority: i64, delay: i64) {
        let run_at = self.now + delay;
        let priority = Priority::new(priority).unwrap();
        let new = NewJob { priority, run_at: at(run_at), ..job() };
        let id = self.queue.submit(self.now, new).await;
        let place = if delay > 0 { Place::Scheduled { run_at } } else { Place::Ready };
        let rank = Ageing::DEFAULT.rank(at(run_at), priority);
        self.jobs.push(Modelled { id, rank, place, number: 0, charged: 0 });
    }

    async fn claim(&mut self, slots: usize) {
        let claimed = self.queue.claim(self.now, slots).await;
        let mut ready: Vec<&mut Modelled> =
            self.jobs.iter_mut().filter(|job| job.place == Place::Ready).collect();
        ready.sort_by_key(|job| (job.rank, job.id));
        ready.truncate(slots);
        let mut expected = Vec::new();
        for job in ready {
            job.place = Place::Running { cancel_requested: false };
            job.number += 1;
            expected.push((job.id, job.number, job.charged));
        }
        let got: Vec<_> = claimed.iter().map(|job| (job.id, job.number, job.charged)).collect();
        assert_eq!(got, expected);
        self.running.extend(claimed);
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
        let job = self.modelled(id);
        let expected = match job.place {
            Place::Running { .. } => {
                job.place = Place::Running { cancel_requested: true };
                Cancelled::Requested
            }
            Place::Over(_) => Cancelled::AlreadyOver,
            Place::Ready | Place::Scheduled { .. } => {
                job.place = Place::Over(FinalState::Cancelled);
                Cancelled::Done
            }
        };
        assert_eq!(answer, expected);
    }

    async fn redrive(&mut self, which: usize) {
        let Some(id) = self.choose(which) else { return };
        let answer = self.queue.redrive(self.now, id).await;
        let job = self.modelled(id);
        let expected = match job.state() {
            JobState::Failed | JobState::Cancelled => {
                (job.place, job.charged) = (Place::Ready, 0);
                Redriven::Done
            }
            JobState::Retrying => {
                job.place = Place::Ready;
                Redriven::Done
            }
            other => Redriven::NotNow(other),
        };
        assert_eq!(answer, expected);
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
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_queue_agrees_with_its_model(steps in proptest::collection::vec(any_step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let queue = Queue::open(TestDatabase::sqlite()).await;
            let mut both =
                Both { queue, jobs: Vec::new(), running: Vec::new(), past: Vec::new(), now: 0 };
            for step in steps {
                both.apply(step).await;
                both.compare().await;
            }
        });
    }
}
