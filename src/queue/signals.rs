//! How those who change the queue wake the pool that works on it, here and on other nodes.
//!
//! The truth is in the rows; a signal only says "look now". One that is lost costs a poll, never a job.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc};

use crate::model::JobId;
use crate::store::wakeups::{News, Wakeups};

/// The sending end. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Signals {
    work: Arc<Notify>,
    cancels: mpsc::UnboundedSender<Vec<JobId>>,
    others: Option<Wakeups>,
}

/// The pool's end.
#[derive(Debug)]
pub struct SignalReceiver {
    /// Notified after there may be work; a signal that comes while nobody waits is kept.
    pub work: Arc<Notify>,
    /// The same when another node has said so, which it says to all: there is nobody to pass it on to. Two nodes that have no room would
    /// tell each other of the same job for ever.
    pub heard: Arc<Notify>,
    /// Jobs whose running attempts are to stop.
    pub cancels: mpsc::UnboundedReceiver<Vec<JobId>>,
    /// Told of work for which there is no room here.
    pub others: Option<Wakeups>,
}

impl Signals {
    /// Both ends, for the only node.
    #[must_use]
    pub fn new() -> (Self, SignalReceiver) {
        Self::among(Arc::default(), None)
    }

    /// Both ends, for one of several nodes, which wake this one through `heard`.
    #[must_use]
    pub fn among(heard: Arc<Notify>, others: Option<Wakeups>) -> (Self, SignalReceiver) {
        let (sender, cancels) = mpsc::unbounded_channel();
        let work = Arc::<Notify>::default();
        let receiver =
            SignalReceiver { work: Arc::clone(&work), heard, cancels, others: others.clone() };
        (Self { work, cancels: sender, others }, receiver)
    }

    /// Whether no other node can work on the queue.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.others.is_none()
    }

    /// Says that there may be work.
    pub fn work(&self) {
        self.work.notify_one();
    }

    /// Waits for a write that makes work, and says so while the writer is at it: the pool's claim then stands right behind it, most
    /// often in the same commit. What a write makes cannot be missed that way, because writes are done in the order in which they
    /// were handed in, and this one is handed in first.
    pub async fn work_of<T>(&self, write: impl Future<Output = T>) -> T {
        let (written, ()) = tokio::join!(write, async { self.work() });
        written
    }

    /// Tells running attempts of these jobs to stop, wherever they run.
    pub fn cancel(&self, jobs: Vec<JobId>) {
        if !jobs.is_empty() {
            self.cancel_here(jobs);
            self.tell_others(News::Orders);
        }
    }

    /// The same for those that run here; others are ignored.
    pub fn cancel_here(&self, jobs: Vec<JobId>) {
        // A pool that is gone has nothing left to cancel.
        let _gone = self.cancels.send(jobs);
    }

    /// Says something to the other nodes, where there are any.
    pub fn tell_others(&self, news: News) {
        if let Some(others) = &self.others {
            others.tell(news);
        }
    }

    /// Why the other nodes do not hear, while they do not.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.others.as_ref()?.trouble()
    }
}
