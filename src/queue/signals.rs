//! How those who change the queue wake the pool that works on it.
//!
//! The truth is in the rows; a signal only says "look now". One that is lost costs a poll, never a job.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc};

use crate::model::JobId;

/// The sending end. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Signals {
    work: Arc<Notify>,
    cancels: mpsc::UnboundedSender<Vec<JobId>>,
}

/// The pool's end.
#[derive(Debug)]
pub struct SignalReceiver {
    /// Notified after there may be work; a signal that comes while nobody waits is kept.
    pub work: Arc<Notify>,
    /// Jobs whose running attempts are to stop.
    pub cancels: mpsc::UnboundedReceiver<Vec<JobId>>,
}

impl Signals {
    /// Both ends.
    #[must_use]
    pub fn new() -> (Self, SignalReceiver) {
        let work = Arc::new(Notify::new());
        let (sender, cancels) = mpsc::unbounded_channel();
        (Self { work: Arc::clone(&work), cancels: sender }, SignalReceiver { work, cancels })
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

    /// Tells running attempts of these jobs to stop; jobs that do not run here are ignored.
    pub fn cancel(&self, jobs: Vec<JobId>) {
        if !jobs.is_empty() {
            // A pool that is gone has nothing left to cancel.
            let _gone = self.cancels.send(jobs);
        }
    }
}
