//! A queue in a fresh database, and short words for what tests do with it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sexton::model::{
    Actor, AfterAttempt, Dependency, FinalState, FinishedAttempt, JobId, JobState, JsonText,
    NewJob, NodeId, NodeIdentity, Outcome,
};
use sexton::queue::{Ageing, Limits};
use sexton::store::claim::{Claim, ClaimRequest, ClaimedJob};
use sexton::store::finish::Finished;
use sexton::store::history::{AttemptRecord, JobRecord};
use sexton::store::jobs::{SubmitContext, Submitted};
use sexton::store::removal::{Cancelled, Redriven};
use sexton::store::{Conn, Store, StoreError};
use sexton::store::{claim, finish, history, jobs, nodes, removal};

use super::TestDatabase;

/// A store on a fresh database, with one node registered.
pub(crate) struct Queue {
    pub(crate) store: Store,
    pub(crate) node: NodeId,
    // Last, so that the store has let go of it when it is removed.
    pub(crate) database: TestDatabase,
}

/// An instant, in seconds from the beginning of the tests' time.
pub(crate) fn at(second: i64) -> Timestamp {
    let start: Timestamp = "2026-06-15T12:00:00Z".parse().expect("a valid instant");
    start + jiff::SignedDuration::from_secs(second)
}

/// A job for the kind `noop` that may start at once.
pub(crate) fn job() -> NewJob {
    NewJob::new("noop", JsonText::from(&serde_json::json!({})), at(0), Actor::named("test"))
}

/// The same, for a later time.
pub(crate) fn soon(second: i64) -> NewJob {
    NewJob { run_at: at(second), ..job() }
}

/// What a worker reports of a claimed job: it ran from `at(second)` for one second.
pub(crate) fn ended(
    claimed: &ClaimedJob,
    second: i64,
    outcome: Outcome,
    next: AfterAttempt,
) -> FinishedAttempt {
    FinishedAttempt {
        job: claimed.id,
        number: claimed.number,
        outcome,
        started_at: at(second),
        finished_at: at(second + 1),
        exit_code: None,
        error: (outcome != Outcome::Success).then(|| format!("it was a {outcome}")),
        result: None,
        output_tail: None,
        checkpoint: None,
        next,
    }
}

pub(crate) fn succeeded(claimed: &ClaimedJob, second: i64) -> FinishedAttempt {
    ended(claimed, second, Outcome::Success, AfterAttempt::End(FinalState::Completed))
}

/// The job once those others have come to what is needed of them.
pub(crate) fn depending(on: impl IntoIterator<Item = Dependency>, mut new: NewJob) -> NewJob {
    new.settings.depends_on.extend(on);
    new
}

/// A failed attempt whose job is tried again at `at(again)`.
pub(crate) fn retried(claimed: &ClaimedJob, second: i64, again: i64) -> FinishedAttempt {
    ended(claimed, second, Outcome::Failure, AfterAttempt::RetryAt(at(again)))
}

/// What every node of the tests is called.
fn host() -> NodeIdentity {
    NodeIdentity { name: "host".to_owned(), labels: vec!["ssd".to_owned()] }
}

/// What a node tells of itself at `at(second)`.
pub(crate) fn beat(second: i64) -> nodes::Beat {
    nodes::Beat { lease_until: at(second), revision: "17".to_owned(), clock_skew_us: None }
}

impl Queue {
    pub(crate) async fn open(database: TestDatabase) -> Self {
        Self::on(database.open(), database).await
    }

    /// The same through a store that somebody has opened.
    pub(crate) async fn on(store: Store, database: TestDatabase) -> Self {
        let node = register(&store).await;
        Self { store, node, database }
    }

    /// The same database after the daemon ended and another one began.
    pub(crate) async fn reopen(self) -> Self {
        let Self { store, database, .. } = self;
        store.close();
        Self::open(database).await
    }

    /// Another daemon on the same database.
    pub(crate) async fn another_node(&self) -> (Store, NodeId) {
        let store = self.database.open();
        let node = register(&store).await;
        (store, node)
    }

    pub(crate) async fn write<T: Send + 'static>(
        &self,
        what: impl FnMut(&mut Conn) -> Result<T, StoreError> + Send + 'static,
    ) -> T {
        self.store.write(what).await.expect("the write succeeds")
    }

    pub(crate) async fn read<T: Send + 'static>(
        &self,
        what: impl FnOnce(&mut Conn) -> Result<T, StoreError> + Send + 'static,
    ) -> T {
        self.store.read(what).await.expect("the read succeeds")
    }

    pub(crate) fn context(&self, second: i64) -> SubmitContext {
        SubmitContext { now: at(second), node: self.node, ageing: Ageing::DEFAULT }
    }

    pub(crate) async fn try_submit(
        &self,
        second: i64,
        new: Vec<NewJob>,
    ) -> Result<Vec<Submitted>, StoreError> {
        let context = self.context(second);
        self.store.submit(Arc::new(new), context).await
    }

    pub(crate) async fn submit_all(&self, second: i64, new: Vec<NewJob>) -> Vec<JobId> {
        let done = self.try_submit(second, new).await.expect("the submission is accepted");
        done.into_iter().map(|submitted| submitted.id).collect()
    }

    pub(crate) async fn submit(&self, second: i64, new: NewJob) -> JobId {
        self.submit_all(second, vec![new]).await[0]
    }

    pub(crate) fn request(&self, second: i64, slots: usize) -> ClaimRequest {
        ClaimRequest {
            node: self.node,
            identity: host(),
            now: at(second),
            slots,
            normal_slots: slots,
            ahead: 0,
            limits: Limits::default(),
        }
    }

    pub(crate) async fn claim(&self, second: i64, slots: usize) -> Vec<ClaimedJob> {
        self.claim_with(self.request(second, slots)).await
    }

    pub(crate) async fn claim_with(&self, request: ClaimRequest) -> Vec<ClaimedJob> {
        self.claim_telling(request).await.jobs
    }

    /// The same with when the next one may start.
    pub(crate) async fn claim_telling(&self, request: ClaimRequest) -> Claim {
        self.write(move |conn| claim::claim(conn, &request)).await
    }

    /// Claims the only job that is ready.
    pub(crate) async fn claim_one(&self, second: i64) -> ClaimedJob {
        let mut claimed = self.claim(second, 10).await;
        assert_eq!(claimed.len(), 1, "one job is ready");
        claimed.remove(0)
    }

    pub(crate) async fn finish(&self, attempt: FinishedAttempt) -> Finished {
        let node = self.node;
        self.write(move |conn| finish::finish(conn, node, std::slice::from_ref(&attempt)))
            .await
            .remove(0)
    }

    pub(crate) async fn promote(&self, second: i64) -> usize {
        self.write(move |conn| jobs::promote(conn, at(second), 1000)).await
    }

    pub(crate) async fn cancel(&self, second: i64, id: JobId) -> Cancelled {
        self.write(move |conn| removal::cancel(conn, id, &Actor::named("test"), at(second))).await
    }

    pub(crate) async fn redrive(&self, second: i64, id: JobId) -> Redriven {
        let context = self.context(second);
        self.write(move |conn| removal::redrive(conn, id, context)).await
    }

    pub(crate) async fn job(&self, id: JobId) -> JobRecord {
        self.read(move |conn| history::job(conn, id)).await.expect("the job exists")
    }

    pub(crate) async fn state(&self, id: JobId) -> JobState {
        self.job(id).await.state
    }

    pub(crate) async fn attempts(&self, id: JobId) -> Vec<AttemptRecord> {
        self.read(move |conn| history::attempts(conn, id, 1000)).await
    }

    /// Submits a job, runs it and ends it.
    pub(crate) async fn through(&self, second: i64, new: NewJob, end: FinalState) -> JobId {
        let id = self.submit(second, new).await;
        let claimed = self.claim_one(second).await;
        assert_eq!(claimed.id, id);
        let outcome = match end {
            FinalState::Completed => Outcome::Success,
            FinalState::Failed => Outcome::Failure,
            FinalState::Cancelled => Outcome::Cancelled,
        };
        self.finish(ended(&claimed, second, outcome, AfterAttempt::End(end))).await;
        id
    }
}

async fn register(store: &Store) -> NodeId {
    let instance = uuid::Uuid::new_v4().to_string();
    let new = nodes::NewNode { identity: host(), instance };
    let lease_until = at(0) + Duration::from_secs(30);
    store
        .write(move |conn| nodes::register(conn, &new, at(0), lease_until))
        .await
        .expect("the node registers")
}
