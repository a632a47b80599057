//! The server of a database that several nodes use, and each node's way to it.
//!
//! What a store does goes on at the server: it is driven in a runtime of the server's own, so that a node that is frozen does not freeze
//! the others with it. One node writes at a time, and waits for its turn in virtual time, where SQLite itself would hold up the thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use sexton::store::{DatabaseUrl, Pace, Step, Store, StoreError};
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::AbortHandle;

use super::super::disk::Disk;
use super::super::life::runtime;
use super::super::time::Course;

/// How long either side waits for the other until it takes the connection for lost. The transaction that was open on it is taken back.
const PATIENCE: Duration = Duration::from_secs(12);

/// What the way between a node and the server is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Open,
    /// What is sent is lost, and nobody says so.
    Silent,
    /// The server is down.
    Refused,
}

/// How a node stands towards the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) way: Way,
    /// The node does nothing at all.
    pub(super) is_frozen: bool,
}

impl Standing {
    pub(super) const GOOD: Self = Self { way: Way::Open, is_frozen: false };

    fn is_decided(&self) -> bool {
        !self.is_frozen && self.way != Way::Silent
    }
}

/// The server.
pub(super) struct Server {
    runtime: Runtime,
    url: DatabaseUrl,
    /// The right to write.
    turn: Arc<Semaphore>,
    /// Whether somebody has written since it was asked.
    is_changed: Arc<AtomicBool>,
}

impl Server {
    pub(super) fn new(url: DatabaseUrl) -> Self {
        Self {
            runtime: runtime(),
            url,
            turn: Arc::new(Semaphore::new(1)),
            is_changed: Arc::default(),
        }
    }

    /// A connection for a node. None while a transaction is open: opening one must not wait for it.
    pub(super) fn connect(
        &self,
        disk: Arc<Disk>,
        standing: watch::Receiver<Standing>,
    ) -> Option<(Store, AbortHandle)> {
        let _turn = self.turn.try_acquire().ok()?;
        let (turn, is_changed) = (Arc::clone(&self.turn), Arc::clone(&self.is_changed));
        let link = Link { turn, is_changed, mine: Mutex::default(), standing, disk };
        let (store, work) = Store::driven(&self.url, Arc::new(link)).expect("the database opens");
        Some((store, self.runtime.spawn(work).abort_handle()))
    }

    /// Whether somebody has written since this was asked last.
    pub(super) fn has_changed(&self) -> bool {
        self.is_changed.swap(false, Ordering::Relaxed)
    }

    /// Lets the server work for a while.
    pub(super) fn run(&self, course: &Course, length: Duration) {
        self.runtime.block_on(async {
            course.enter();
            tokio::time::sleep(length).await;
            course.leave();
        });
    }
}

/// One node's way to the server.
struct Link {
    turn: Arc<Semaphore>,
    is_changed: Arc<AtomicBool>,
    /// The node's transaction is open while it has this.
    mine: Mutex<Option<OwnedSemaphorePermit>>,
    standing: watch::Receiver<Standing>,
    disk: Arc<Disk>,
}

impl Link {
    /// Waits until what the node has to say for a step arrives. A transaction that is open is not waited with for ever.
    async fn arrives(&self, step: Step) -> Result<(), StoreError> {
        let mut standing = self.standing.clone();
        // One that is frozen does not know how time passes.
        let is_patient = standing.borrow().is_frozen && step != Step::Commit;
        let patience = if is_patient { Duration::MAX } else { PATIENCE };
        let way = async { standing.wait_for(Standing::is_decided).await.map(|found| found.way) };
        match tokio::time::timeout(patience, way).await {
            Ok(Ok(Way::Open | Way::Silent)) => Ok(()),
            Ok(Ok(Way::Refused)) => Err(lost("the server is down")),
            // What is done for a node that is no more ends with its connection.
            Ok(Err(_no_more)) => std::future::pending().await,
            Err(_silent) => Err(lost("nothing has been heard for too long")),
        }
    }

    fn keep(&self, turn: Option<OwnedSemaphorePermit>) {
        *self.mine.lock().unwrap_or_else(PoisonError::into_inner) = turn;
    }
}

impl Pace for Link {
    fn before(&self, step: Step) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.arrives(step).await?;
            if step == Step::Run {
                let turn = Arc::clone(&self.turn).acquire_owned().await;
                self.keep(Some(turn.expect("it is never closed")));
            }
            self.disk.before(step).await
        })
    }

    fn is_over(&self) {
        self.is_changed.store(true, Ordering::Relaxed);
        self.keep(None);
    }
}

fn lost(why: &str) -> StoreError {
    StoreError::NotCommitted(why.to_owned())
}
