//! The catalog that is in force, and the one task that replaces it.
//!
//! Everybody who wants a reload (the watcher, SIGHUP, `sexton reload`, the API) asks here, and all of them get the same answer: a reload
//! whose look at the disk began after they asked. Requests that come while one runs are answered together by the next one.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::Serialize;
use tokio::sync::{Notify, broadcast, oneshot};
use tokio_util::sync::CancellationToken;

use super::diff::Diff;
use super::next::{Reading, look};
use super::scan::scan;
use super::snapshot::Catalog;
use super::zones;
use crate::clock::SharedClock;
use crate::model::Revision;
use crate::schedule::{Code, Diagnostic, Severity};

/// How long a deletion must last before it is believed: editors move a file away and write it anew.
pub(super) const QUIET: Duration = Duration::from_millis(150);

/// Reports that a slow listener may lag behind before it loses the oldest. It can always look at the current catalog.
const UNREAD_REPORTS: usize = 64;

/// On what the directories are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookOn {
    /// A thread for blocking work: a directory can be on another machine that does not answer.
    BlockingThread,
    /// The task itself: in a simulation nothing may depend on when a thread is scheduled.
    Caller,
}

/// What a reload did.
#[derive(Debug, Clone, Serialize)]
pub struct ReloadReport {
    /// Whether every file and directory could be used.
    pub ok: bool,
    /// Whether anything is different now: a schedule, or what is wrong with a file.
    pub changed: bool,
    /// Of what is in force now.
    pub revision: Revision,
    /// How many schedules are in force now.
    pub schedules: usize,
    /// What is different.
    pub diff: Diff,
    /// Everything that is wrong with the files.
    pub diagnostics: Vec<Diagnostic>,
}

/// Holds the catalog that is in force and reloads it on request.
#[derive(Debug)]
pub struct Reloader {
    current: ArcSwap<Catalog>,
    directories: Vec<PathBuf>,
    reading: Reading,
    clock: SharedClock,
    look_on: LookOn,
    stop: CancellationToken,
    wanted: Notify,
    waiting: Mutex<Vec<oneshot::Sender<Arc<ReloadReport>>>>,
    reports: broadcast::Sender<Arc<ReloadReport>>,
}

/// The daemon is stopping and reloads nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the daemon is stopping; schedules are not reloaded any more")]
pub struct Stopping;

impl Reloader {
    /// Reads the directories for the first time and starts the task that reads them again. It ends with `stop`.
    pub async fn start(
        directories: Vec<PathBuf>,
        reading: Reading,
        clock: SharedClock,
        look_on: LookOn,
        stop: CancellationToken,
    ) -> (Arc<Self>, Arc<ReloadReport>) {
        let reloader = Arc::new(Self {
            current: ArcSwap::from_pointee(Catalog::empty()),
            directories,
            reading,
            clock,
            look_on,
            stop,
            wanted: Notify::new(),
            waiting: Mutex::new(Vec::new()),
            reports: broadcast::Sender::new(UNREAD_REPORTS),
        });
        let first = reloader.reload_once().await;
        tokio::spawn(Arc::clone(&reloader).serve());
        (reloader, first)
    }

    /// What is in force now. It costs no lock; whoever decides something looks once and decides on what was seen.
    #[must_use]
    pub fn current(&self) -> Arc<Catalog> {
        self.current.load_full()
    }

    /// Every report from now on in which something changed.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<ReloadReport>> {
        self.reports.subscribe()
    }

    /// Asks for a reload and does not wait for it.
    pub fn wake(&self) {
        self.wanted.notify_one();
    }

    /// Asks for a reload and waits for what came of it. The disk is looked at after this was called.
    ///
    /// # Errors
    /// When the daemon is stopping.
    pub async fn reload(&self) -> Result<Arc<ReloadReport>, Stopping> {
        let (answer, report) = oneshot::channel();
        self.waiting().push(answer);
        self.wake();
        tokio::select! {
            biased;
            report = report => report.map_err(|_closed| Stopping),
            () = self.stop.cancelled() => Err(Stopping),
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<oneshot::Sender<Arc<ReloadReport>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(self: Arc<Self>) {
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = self.wanted.notified() => {}
            }
            // Whoever asks from here on is answered by the next round, because this one may have looked already.
            let waiting = std::mem::take(&mut *self.waiting());
            if !waiting.is_empty() {
                zones::look_again();
            }
            let report = self.reload_once().await;
            for answer in waiting {
                // Somebody who does not wait any more has no use for it.
                let _ = answer.send(Arc::clone(&report));
            }
        }
    }

    async fn reload_once(&self) -> Arc<ReloadReport> {
        let before = self.current();
        let report = match self.look(&before).await {
            Ok(after) => self.replace(&before, after),
            Err(panic) => self.failed(&before, &panic),
        };
        if report.changed {
            // Nobody may be listening.
            let _ = self.reports.send(Arc::clone(&report));
        }
        report
    }

    /// What is on disk. A deletion is looked at twice, with time in between for an editor to put the file back.
    async fn look(&self, before: &Arc<Catalog>) -> Result<Catalog, tokio::task::JoinError> {
        let after = self.look_once(before).await?;
        let lost_some = before.schedules.keys().any(|id| !after.schedules.contains_key(id))
            || after.kinds().len() < before.kinds().len();
        if !lost_some {
            return Ok(after);
        }
        tokio::time::sleep(QUIET).await;
        self.look_once(before).await
    }

    async fn look_once(&self, before: &Arc<Catalog>) -> Result<Catalog, tokio::task::JoinError> {
        let (before, directories) = (Arc::clone(before), self.directories.clone());
        let (reading, now) = (self.reading.clone(), self.clock.now());
        let work = move || {
            let before = zones::forget_outdated(&before);
            let reading = zones::renew(&reading);
            look(&before, |known| scan(&directories, known, now), &reading, now)
        };
        match self.look_on {
            LookOn::BlockingThread => tokio::task::spawn_blocking(work).await,
            LookOn::Caller => Ok(work()),
        }
    }

    fn replace(&self, before: &Catalog, after: Catalog) -> Arc<ReloadReport> {
        let diff = Diff::between(before, &after, self.clock.now());
        let report = ReloadReport {
            ok: after.is_sound(),
            changed: !diff.is_empty() || before.diagnostics != after.diagnostics,
            revision: after.revision.clone(),
            schedules: after.schedules.len(),
            diff,
            diagnostics: after.diagnostics.clone(),
        };
        self.current.store(Arc::new(after));
        Arc::new(report)
    }

    /// A defect of ours must not cost the schedules that work.
    fn failed(&self, before: &Catalog, panic: &tokio::task::JoinError) -> Arc<ReloadReport> {
        tracing::error!(error = %panic, "reading the schedules failed; those in force stay so");
        let message = "reading the schedules failed inside the program; those in force stay so";
        let place = self.directories.first().cloned().unwrap_or_default();
        let failure = Diagnostic::about(place, Severity::Error, Code::Internal, message)
            .with_help("please report it, with the log");
        Arc::new(ReloadReport {
            ok: false,
            changed: false,
            revision: before.revision.clone(),
            schedules: before.schedules.len(),
            diff: Diff::default(),
            diagnostics: before.diagnostics.iter().cloned().chain([failure]).collect(),
        })
    }
}
