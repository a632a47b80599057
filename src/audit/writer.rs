//! The thread (in a simulation: the task) that moves committed rows into the log.
//!
//! It wakes after commits, reads what is new in one snapshot, writes all of it with one write and one `fdatasync`, and goes on
//! until nothing is new. It never holds anything that is not in the database, so it may be late, fail or be killed at any
//! point: the rows are still there, and the file says how far it is.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::chain::{Anchor, Head, Record, Upto};
use super::file::{AuditFile, AuditFileError, Notice};
use super::project::project;
use crate::clock::SharedClock;
use crate::config::AuditJobs;
use crate::model::Chain;
use crate::store::audit::{self as rows, AuditSource};
use crate::store::{Store, StoreError};

/// How many rows of each table are read at once.
const PAGE_ROWS: i64 = 5000;

/// How long further commits are waited for after the first, so that a busy database shares syncs with the log. Nothing waits
/// for a line, so this only decides how many lines one sync is for.
const GATHER: Duration = Duration::from_millis(25);

/// How often the log's end is noted in the database while it grows.
const ANCHOR_EVERY: Duration = Duration::from_secs(60);

/// How many lines there are at the most without an anchor.
const ANCHOR_LINES: u64 = 100_000;

/// Younger anchors are all kept; of older days, one.
const ANCHORS_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// The first and the longest wait after a failure.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Why the log cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file.
    #[error(transparent)]
    File(#[from] AuditFileError),
    /// The database.
    #[error("cannot read what the audit log is made from")]
    Store(#[from] StoreError),
    /// The thread could not be started.
    #[error("cannot start the audit log's thread")]
    Thread(#[source] std::io::Error),
    /// The thread is gone.
    #[error("the audit log has been closed")]
    Closed,
    /// It failed and is being tried again.
    #[error("the audit log cannot be written at the moment: {0}")]
    Failing(String),
}

/// How the log is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditHealth {
    /// The last record.
    pub head: Head,
    /// Why the last try failed; nothing is lost, the rows are written once it works again.
    pub failing: Option<String>,
}

/// What a log is made from and where it goes.
#[derive(Debug)]
pub struct Options {
    /// The directory of `audit.jsonl`.
    pub folder: PathBuf,
    /// Whose rows.
    pub source: AuditSource,
    /// Which attempts have lines.
    pub jobs: AuditJobs,
}

/// The running log.
#[derive(Debug)]
pub struct AuditHandle {
    orders: mpsc::Sender<Order>,
    health: watch::Receiver<AuditHealth>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

enum Order {
    Flush(oneshot::Sender<Result<(), String>>),
    Stop(oneshot::Sender<Result<(), String>>),
}

/// Opens the log, and starts its thread. Rows that were committed and have no line yet are the first it writes.
///
/// # Errors
/// When the file or the database cannot be used.
pub async fn start(
    store: Store,
    clock: SharedClock,
    options: Options,
) -> Result<AuditHandle, AuditError> {
    let (mut handle, run) = open(store, clock, options).await?;
    let runtime = tokio::runtime::Handle::current();
    let thread = std::thread::Builder::new()
        .name("sexton-audit".to_owned())
        .spawn(move || runtime.block_on(run))
        .map_err(AuditError::Thread)?;
    handle.thread = Mutex::new(Some(thread));
    Ok(handle)
}

/// Opens the log without a thread: the returned future does its work, syncs to the disk included, wherever it is polled.
///
/// # Errors
/// When the file or the database cannot be used.
pub async fn open(
    store: Store,
    clock: SharedClock,
    options: Options,
) -> Result<(AuditHandle, impl Future<Output = ()> + Send), AuditError> {
    let log = options.source.log().to_owned();
    let (known, given) = store
        .read(move |conn| Ok((rows::last_anchor(conn, &log)?, rows::ids_given(conn)?)))
        .await?;
    let (file, notices) = AuditFile::open(&options.folder, known.as_ref())?;
    let mut opening: Vec<Opening> = notices.into_iter().map(Opening::Notice).collect();
    let (upto, surprise) = resume_point(&file.head(), known.as_ref(), given);
    opening.extend(surprise);
    for what in &opening {
        tracing::warn!(file = %file.path().display(), "{what}");
    }
    let (health, watched) = watch::channel(AuditHealth { head: file.head(), failing: None });
    let (orders, received) = mpsc::channel(16);
    let commits = store.commits();
    let mut writer = Writer {
        anchored: (known.map_or(0, |anchor| anchor.head.seq), clock.since_boot()),
        is_known: known.is_some(),
        store,
        clock,
        options,
        file,
        upto,
        opening,
        health,
    };
    // Before the first line: a database without an anchor is one that this log was not made from.
    writer.anchor().await?;
    let handle = AuditHandle { orders, health: watched, thread: Mutex::new(None) };
    Ok((handle, writer.run(commits, received)))
}

impl AuditHandle {
    /// Returns once everything committed before the call is in the file and on the disk.
    ///
    /// # Errors
    /// When that failed just now; it goes on being tried.
    pub async fn flush(&self) -> Result<(), AuditError> {
        self.order(Order::Flush).await
    }

    /// Writes what is there and ends the thread. A second call does nothing.
    ///
    /// # Errors
    /// When the last write failed; what is missing is written at the next start.
    pub async fn stop(&self) -> Result<(), AuditError> {
        let stopped = match self.order(Order::Stop).await {
            Err(AuditError::Closed) => Ok(()),
            other => other,
        };
        let thread = self.thread.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the audit log's thread had panicked");
        }
        stopped
    }

    /// How the log is doing, now and whenever it changes.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<AuditHealth> {
        self.health.clone()
    }

    async fn order(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<(), String>>) -> Order,
    ) -> Result<(), AuditError> {
        let (sender, receiver) = oneshot::channel();
        self.orders.send(order(sender)).await.map_err(|_gone| AuditError::Closed)?;
        let done = receiver.await.map_err(|_gone| AuditError::Closed)?;
        done.map_err(AuditError::Failing)
    }
}

/// What was found at the start that people must be told.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Opening {
    Notice(Notice),
    /// The file has records and the database has never heard of them.
    OtherDatabase,
    /// The file has seen more rows than the database ever had: an older copy was put in place.
    OlderDatabase {
        seen: Upto,
        given: Upto,
    },
}

impl Opening {
    fn event(&self) -> &'static str {
        match self {
            Self::Notice(notice) => notice.event(),
            Self::OtherDatabase => "audit.database_changed",
            Self::OlderDatabase { .. } => "audit.database_rewound",
        }
    }

    fn detail(&self) -> serde_json::Value {
        match self {
            Self::Notice(notice) => notice.detail(),
            Self::OtherDatabase => serde_json::json!({}),
            Self::OlderDatabase { seen, given } => {
                serde_json::json!({ "seen": seen, "database": given })
            }
        }
    }
}

impl std::fmt::Display for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Notice(notice) => notice.fmt(f),
            Self::OtherDatabase => f.write_str(
                "the audit log was made from another database; all of this one's rows follow",
            ),
            Self::OlderDatabase { .. } => f.write_str(
                "the audit log has seen rows that the database does not have: an older copy was put in its place",
            ),
        }
    }
}

/// From which rows to go on, and whether there is something strange about it.
fn resume_point(head: &Head, known: Option<&Anchor>, given: Upto) -> (Upto, Option<Opening>) {
    let Some(known) = known else {
        let is_foreign = head.seq > 0;
        return (Upto::default(), is_foreign.then_some(Opening::OtherDatabase));
    };
    // The anchor can be further than the line it is for: rows that need no line come after it.
    let is_same = known.head.hash == head.hash;
    let seen: [i64; 4] = if is_same { known.head.upto } else { head.upto }.into();
    let given_ids: [i64; 4] = given.into();
    let upto = std::array::from_fn(|table| seen[table].min(given_ids[table]));
    let rewound = upto != seen;
    (upto.into(), rewound.then_some(Opening::OlderDatabase { seen: seen.into(), given }))
}

struct Writer {
    store: Store,
    clock: SharedClock,
    options: Options,
    file: AuditFile,
    upto: Upto,
    /// Told in the next lines.
    opening: Vec<Opening>,
    health: watch::Sender<AuditHealth>,
    /// The last anchor's record, and when it was set, since boot.
    anchored: (u64, Duration),
    is_known: bool,
}

impl Writer {
    async fn run(mut self, mut commits: watch::Receiver<u64>, mut orders: mpsc::Receiver<Order>) {
        let mut flushes = Vec::new();
        let mut pause = BACK_OFF.0;
        loop {
            // Before reading, so that a commit that comes in meanwhile wakes the loop again.
            commits.mark_unchanged();
            let done = self.catch_up().await.map_err(|error| Chain(&error).to_string());
            self.tell(&done);
            for flush in flushes.drain(..) {
                let flush: oneshot::Sender<_> = flush;
                // A caller that has gone away no longer wants to know.
                let _gone = flush.send(done.clone());
            }
            let this_pause = pause;
            let wait = async {
                if done.is_err() {
                    tokio::time::sleep(this_pause).await;
                } else if commits.changed().await.is_ok() {
                    tokio::time::sleep(GATHER).await;
                } else {
                    // The store is closed; only an order can come now.
                    std::future::pending::<()>().await;
                }
            };
            pause = if done.is_ok() { BACK_OFF.0 } else { (pause * 2).min(BACK_OFF.1) };
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(Order::Flush(answer)) => flushes.push(answer),
                    Some(Order::Stop(answer)) => {
                        let _gone = answer.send(self.finish().await);
                        return;
                    }
                    None => {
                        if let Err(error) = self.finish().await {
                            tracing::error!(error, "the audit log ends behind the database");
                        }
                        return;
                    }
                },
                () = wait => {}
            }
        }
    }

    async fn finish(&mut self) -> Result<(), String> {
        let written = match self.catch_up().await {
            Ok(()) => self.anchor().await,
            Err(error) => Err(error),
        };
        let done = written.map_err(|error| Chain(&error).to_string());
        self.tell(&done);
        done
    }

    /// Writes everything that is committed and has no line.
    async fn catch_up(&mut self) -> Result<(), AuditError> {
        loop {
            if let Some(notice) = self.file.stay_in_place()? {
                tracing::error!(file = %self.file.path().display(), "{notice}");
                self.opening.push(Opening::Notice(notice));
                // The new file begins after this record, which only an anchor can vouch for.
                self.anchor().await?;
            }
            let (source, upto) = (self.options.source.clone(), self.upto);
            let rows = self
                .store
                .read(move |conn| rows::rows_after(conn, &source, upto, PAGE_ROWS))
                .await?;
            let now = self.clock.now();
            let (jobs, opening) = (self.options.jobs, &self.opening);
            let mut reached = upto;
            self.file.add(|head, buffer| {
                for what in opening {
                    let detail = what.detail().to_string();
                    let record = Record {
                        time: now,
                        event: what.event(),
                        actor: "system",
                        subject: "audit",
                        detail: &detail,
                    };
                    head.append(buffer, &record, upto);
                }
                reached = project(&rows, jobs, upto, head, buffer);
            })?;
            self.upto = reached;
            self.opening.clear();
            let since = self.clock.since_boot().saturating_sub(self.anchored.1);
            let lines = self.file.head().seq - self.anchored.0.min(self.file.head().seq);
            if lines >= ANCHOR_LINES || (lines > 0 && since >= ANCHOR_EVERY) {
                self.anchor().await?;
            }
            if !rows.has_more() {
                return Ok(());
            }
        }
    }

    /// Notes in the database where the log is.
    async fn anchor(&mut self) -> Result<(), AuditError> {
        let head = Head { upto: self.upto, ..self.file.head() };
        if self.is_known && head.seq <= self.anchored.0 {
            return Ok(());
        }
        let log = self.options.source.log().to_owned();
        let anchor = Anchor { head, at: self.clock.now() };
        let old = anchor.at.checked_sub(ANCHORS_KEPT).unwrap_or(anchor.at);
        self.store
            .write_results(move |conn| {
                rows::add_anchor(conn, &log, &anchor)?;
                rows::thin_anchors(conn, &log, old)
            })
            .await?;
        self.anchored = (head.seq, self.clock.since_boot());
        self.is_known = true;
        Ok(())
    }

    /// Says how it went, in the log only when it changes: a full disk is not made better by lines about it.
    fn tell(&self, done: &Result<(), String>) {
        let head = self.file.head();
        let failing = done.as_ref().err().cloned();
        self.health.send_if_modified(|health| {
            match (&health.failing, &failing) {
                (None, Some(error)) => tracing::error!(
                    error,
                    "the audit log cannot be written; its lines are kept in the database until it can"
                ),
                (Some(_), None) => tracing::info!("the audit log can be written again"),
                _ => {}
            }
            let now = AuditHealth { head, failing };
            let changed = *health != now;
            *health = now;
            changed
        });
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
