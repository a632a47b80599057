//! What a program does with its jobs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Job;
use crate::api::{Problem, check_submissions};
use crate::jobs::{JobDefaults, Kind};
use crate::model::{Actor, Event, JobId};
use crate::scheduler::Enqueuer;
use crate::store::StoreError;
use crate::store::batches::{self, ItemRecord};
use crate::store::by_hand::{self, Came, Order, OrderedBy};
use crate::store::history::{self, JobRecord};
use crate::store::jobs::SubmitContext;
use crate::store::removal::Cancelled;

/// How long after a commit a watched job is looked at again, so that a busy database is not asked for each of its commits.
const GATHER: Duration = Duration::from_millis(20);

/// How long a watched job is not looked at without a commit: its progress, and what other nodes do, are announced by none.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How many items of a batch are read at once.
const ITEMS_PAGE: i64 = 10_000;

/// Why a client did not get what it asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A job cannot be submitted as it is; none of its call was.
    #[error("{0}")]
    Refused(Refusal),
    /// There is no such job; it may have been pruned.
    #[error("there is no job {0}")]
    NoJob(JobId),
    /// The engine has stopped.
    #[error("the engine has stopped")]
    Stopped,
    /// The store does not answer or refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is wrong with a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(Problem);

impl Refusal {
    /// Everything that is wrong, each with its place in the call as a JSON pointer.
    pub fn errors(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.errors.iter().map(|error| (error.pointer.as_str(), error.detail.as_str()))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.detail)?;
        for (pointer, detail) in self.errors() {
            write!(f, "; {pointer}: {detail}")?;
        }
        Ok(())
    }
}

/// The way into an engine, until it stops: clients that are left over must not keep its database open.
#[derive(Clone)]
pub(super) struct Door {
    inside: Arc<ArcSwapOption<Enqueuer>>,
    stopped: CancellationToken,
}

impl Door {
    pub(super) fn new(enqueuer: Enqueuer) -> Self {
        Self {
            inside: Arc::new(ArcSwapOption::from_pointee(enqueuer)),
            stopped: CancellationToken::new(),
        }
    }

    pub(super) fn close(&self) {
        self.inside.store(None);
        self.stopped.cancel();
    }

    fn enter(&self) -> Result<Arc<Enqueuer>, ClientError> {
        self.inside.load_full().ok_or(ClientError::Stopped)
    }
}

/// A handle on the queue of an embedded engine. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    door: Door,
    kinds: Arc<[Kind]>,
    /// What the settings give to jobs that do not say otherwise.
    defaults: JobDefaults,
    actor: Actor,
}

impl Client {
    pub(super) fn new(door: Door, kinds: Arc<[Kind]>, defaults: JobDefaults, actor: Actor) -> Self {
        Self { door, kinds, defaults, actor }
    }

    /// Submits a job, which is on disk when this returns. When its unique key is taken, it is the job that has the key.
    ///
    /// # Errors
    /// When it is refused, or cannot be stored.
    pub async fn submit(&self, job: Job) -> Result<JobId, ClientError> {
        let ids = self.enqueue(vec![job], false).await?;
        // A call of one job is answered with one.
        ids.first().copied().ok_or(ClientError::Store(StoreError::Closed))
    }

    /// Submits up to 10,000 jobs: all of them or, on an error, none.
    ///
    /// # Errors
    /// As those of [`submit`](Self::submit).
    pub async fn submit_all(&self, jobs: Vec<Job>) -> Result<Vec<JobId>, ClientError> {
        self.enqueue(jobs, true).await
    }

    async fn enqueue(&self, jobs: Vec<Job>, is_bulk: bool) -> Result<Vec<JobId>, ClientError> {
        let inside = self.door.enter()?;
        let Enqueuer { store, clock, node, ageing, signals, events, .. } = &*inside;
        let now = clock.now();
        let submissions = jobs.into_iter().map(|job| job.0).collect();
        let (kinds, defaults) = (&self.kinds, &self.defaults);
        let jobs = check_submissions(submissions, is_bulk, kinds, defaults, now, &self.actor)
            .map_err(|problem| ClientError::Refused(Refusal(problem)))?;
        let context = SubmitContext { now, node: *node, ageing: *ageing };
        let submitted = signals.work_of(store.submit(Arc::new(jobs), context)).await?;
        let ids: Vec<JobId> = submitted.iter().map(|job| job.id).collect();
        let _nobody_listens = events.send(Event::JobsSubmitted { jobs: ids.clone() });
        Ok(ids)
    }

    /// A job as it is now.
    ///
    /// # Errors
    /// When there is none, or the store does not answer.
    pub async fn job(&self, id: JobId) -> Result<JobRecord, ClientError> {
        let inside = self.door.enter()?;
        let found = inside.store.read(move |conn| history::job(conn, id)).await?;
        found.ok_or(ClientError::NoJob(id))
    }

    /// The items of a batch, in order; none for a job that is no batch.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn items(&self, batch: JobId) -> Result<Vec<ItemRecord>, ClientError> {
        let inside = self.door.enter()?;
        let all = inside.store.read(move |conn| {
            let mut all: Vec<ItemRecord> = Vec::new();
            loop {
                let after = all.last().map(|item| item.position);
                let page = batches::items(conn, batch, None, after, ITEMS_PAGE)?;
                if page.is_empty() {
                    return Ok(all);
                }
                all.extend(page);
            }
        });
        Ok(all.await?)
    }

    /// Follows a job until it is over.
    #[must_use]
    pub fn watch(&self, id: JobId) -> Watch {
        Watch { client: self.clone(), id, commits: None, last: None }
    }

    /// Waits until a job is over, and returns it as it is then.
    ///
    /// # Errors
    /// When there is none, the engine stops before it is over, or the store does not answer.
    pub async fn wait(&self, id: JobId) -> Result<JobRecord, ClientError> {
        let mut watch = self.watch(id);
        let mut last = None;
        while let Some(seen) = watch.next().await? {
            last = Some(seen);
        }
        last.ok_or(ClientError::NoJob(id))
    }

    /// Cancels a job: one that waits at once, one that runs by telling its handler to stop.
    ///
    /// # Errors
    /// When there is none, or it cannot be recorded.
    pub async fn cancel(&self, id: JobId) -> Result<Cancelled, ClientError> {
        let inside = self.door.enter()?;
        let Enqueuer { store, clock, node, ageing, signals, .. } = &*inside;
        let context = SubmitContext { now: clock.now(), node: *node, ageing: *ageing };
        let by = OrderedBy { actor: self.actor.clone(), context };
        let step = store
            .write(move |conn| by_hand::carry_out(conn, Order::Cancel, &[id.0], None, &by))
            .await?;
        signals.cancel(step.to_stop);
        signals.work();
        match step.came.first() {
            Some(Came::Done) => Ok(Cancelled::Done),
            Some(Came::Requested) => Ok(Cancelled::Requested),
            Some(Came::AlreadyOver) => Ok(Cancelled::AlreadyOver),
            _ => Err(ClientError::NoJob(id)),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("actor", &self.actor).finish_non_exhaustive()
    }
}

/// A job that is followed.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    id: JobId,
    /// Counts commits, from the first look on.
    commits: Option<watch::Receiver<u64>>,
    last: Option<JobRecord>,
}

impl Watch {
    /// The job as it is, then each time that it has changed, and nothing more when it is over. Changes that follow each other quickly are
    /// seen as one.
    ///
    /// # Errors
    /// When there is no such job (any more), the engine stops before it is over, or the store does not answer.
    pub async fn next(&mut self) -> Result<Option<JobRecord>, ClientError> {
        if self.last.as_ref().is_some_and(|last| last.state.is_final()) {
            return Ok(None);
        }
        loop {
            let commits = match &mut self.commits {
                Some(commits) => commits,
                none => none.insert(self.client.door.enter()?.store.commits()),
            };
            // Before reading, so that a commit that comes in meanwhile is not missed.
            commits.mark_unchanged();
            let now = self.client.job(self.id).await?;
            if self.last.as_ref() != Some(&now) {
                self.last = Some(now.clone());
                return Ok(Some(now));
            }
            let committed = async {
                if commits.changed().await.is_err() {
                    // The store is closed, and the engine is about to say so.
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(GATHER).await;
            };
            tokio::select! {
                biased;
                () = self.client.door.stopped.cancelled() => return Err(ClientError::Stopped),
                () = committed => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }
}
