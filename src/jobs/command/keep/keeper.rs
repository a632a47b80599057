//! The keeper: a process that runs programs and outlives the daemon that asked for them.
//!
//! It is this program again, started by a daemon with its first command, and it ends when no daemon needs it and nothing runs. Because it
//! is the parent of the programs and reads their output, a daemon can be stopped, killed or replaced without any of them noticing.
//! It decides nothing: it runs what it is told to, and tells what came of it until somebody has written that down.
//!
//! One daemon is served at a time, and the next only when everything that the one before it had said is heard: an order that was
//! on its way when its daemon died is part of what the next daemon is told to be running.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{join3, pending};
use rustix::process::{DumpableBehavior, set_dumpable_behavior, setsid};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::super::items::RunItems;
use super::super::work::{Site, Work};
use super::link::write_lines;
use super::messages::{self, End, Held, Line, Order, Report, UnreadOrder, Word};
use super::results;
use crate::clock::{SharedClock, SystemClock};
use crate::jobs::ports::process::{Machine, adopt_orphans, reap_orphans};
use crate::jobs::{Answer, Failure, Output, Progress, ProgressReport, RunPaths, StopReason};
use crate::model::{AttemptName, ItemReport};

/// How long the daemon that has started the keeper may take to come. It has connected by then, or it is dead.
const FIRST_VISIT: Duration = Duration::from_secs(30);

/// How long a program may go on after its time is up before the keeper ends it: the daemon does, if there is one.
const DAEMON_FIRST: Duration = Duration::from_secs(2);

/// From the start of a program to the first word on how far it is. Most programs have ended by then.
const FIRST_WORD: Duration = Duration::from_millis(500);

/// From word to word.
const WORD_EVERY: Duration = Duration::from_secs(1);

/// How long to wait before a result that could not be written is written again.
const WRITE_AGAIN: Duration = Duration::from_secs(5);

/// Runs a keeper on the listening socket that is its standard input, until nobody needs it.
///
/// # Errors
/// When it cannot begin. It has run nothing then.
pub fn keep(data: &Path, name: &str) -> io::Result<()> {
    // The terminal's signals are for the daemon, and the daemon's process group is.
    setsid().map_err(|_leads_a_group| by_hand())?;
    // As with the daemon: it holds secrets on their way to programs of the same user.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    adopt_orphans()?;
    let paths = RunPaths::under(data);
    let socket = paths.keepers().join(name);
    // One thread: a keeper is as small as it can be, and starting a program is done by one at a time anyway.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = std::os::unix::net::UnixListener::from(take_stdin()?);
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener).map_err(|_no_socket| by_hand())?;
        let keeper = Arc::new(Keeper {
            paths: Arc::new(paths),
            clock: Arc::new(SystemClock),
            state: Mutex::default(),
            changed: Notify::new(),
        });
        tokio::spawn(reap_orphans());
        Visits { keeper, listener, socket, patience: None, signals: Signals::listen()? }
            .run()
            .await;
        Ok(())
    })
}

fn by_hand() -> io::Error {
    io::Error::other("only a daemon starts this, with a listening socket as its standard input")
}

fn take_stdin() -> io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::AsFd as _;
    io::stdin().as_fd().try_clone_to_owned()
}

struct Signals {
    term: Signal,
    /// Listened to only so that a log that has reached its limit is a write that fails.
    _file_too_large: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        let file_too_large = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            _file_too_large: signal(file_too_large)?,
        })
    }
}

/// Daemons that come and go.
struct Visits {
    keeper: Arc<Keeper>,
    listener: UnixListener,
    socket: PathBuf,
    /// How long programs go on without a daemon.
    patience: Option<Duration>,
    signals: Signals,
}

impl Visits {
    async fn run(mut self) {
        let first = tokio::time::timeout(FIRST_VISIT, self.listener.accept()).await;
        if let Ok(Ok((daemon, _))) = first {
            self.serve(daemon, false).await;
            self.wait_for_others().await;
        }
        // A socket that stays is found to be nobody's at the next start.
        let _gone = std::fs::remove_file(&self.socket);
    }

    /// Keeps what there is without a daemon, serves those that come, and returns when there is nothing left to keep.
    async fn wait_for_others(&mut self) {
        let mut out_of_patience = std::pin::pin!(sleep_or_forever(self.patience));
        let mut has_patience = true;
        loop {
            let unwritten = self.keeper.put_down();
            if self.keeper.state().attempts.is_empty() {
                return;
            }
            tokio::select! {
                biased;
                visit = self.listener.accept() => match visit {
                    Ok((daemon, _)) => {
                        self.serve(daemon, true).await;
                        out_of_patience.set(sleep_or_forever(self.patience));
                        has_patience = true;
                    }
                    Err(_short_of_descriptors) => tokio::time::sleep(WRITE_AGAIN).await,
                },
                _ = self.signals.term.recv() => self.keeper.stop_all(),
                () = &mut out_of_patience, if has_patience => {
                    has_patience = false;
                    self.keeper.stop_all();
                }
                () = self.keeper.changed.notified() => {}
                () = tokio::time::sleep(WRITE_AGAIN), if unwritten => {}
            }
        }
    }

    /// Obeys a daemon until it is gone. One that has `inherited` what there is gives nothing new, and is left when there is nothing left.
    async fn serve(&mut self, daemon: UnixStream, inherited: bool) {
        let (orders, words) = daemon.into_split();
        let (say, said) = mpsc::unbounded_channel();
        let writing = tokio::spawn(write_lines(words, said));
        let mut orders = BufReader::new(orders).lines();
        while !(inherited && self.keeper.state().attempts.is_empty()) {
            let order = tokio::select! {
                biased;
                _ = self.signals.term.recv() => {
                    self.keeper.stop_all();
                    continue;
                }
                () = self.keeper.changed.notified() => continue,
                order = orders.next_line() => order,
            };
            let Ok(Some(order)) = order else { break };
            let order = match serde_json::from_str(&order) {
                Ok(order) => order,
                Err(error) => {
                    self.keeper.refuse(&order, &error);
                    continue;
                }
            };
            match order {
                Order::Hello { patience } => {
                    self.patience = patience;
                    self.keeper.welcome(say.clone());
                }
                Order::Run { work, limit, database } => {
                    self.keeper.start(*work, limit, database);
                }
                Order::Stop(attempt) => self.keeper.stop(attempt, None),
                Order::Recorded(attempt) => self.keeper.note_recorded(attempt),
                Order::Forget(attempt) => self.keeper.forget(attempt),
                Order::Leave => break,
            }
        }
        self.keeper.state().daemon = None;
        writing.abort();
    }
}

struct Keeper {
    paths: Arc<RunPaths>,
    clock: SharedClock,
    state: Mutex<State>,
    /// Something has ended.
    changed: Notify,
}

#[derive(Default)]
struct State {
    attempts: BTreeMap<AttemptName, Kept>,
    daemon: Option<mpsc::UnboundedSender<Line>>,
}

impl State {
    fn say(&self, word: &Word) {
        // Without a daemon it is said to the next one, where it counts.
        if let (Some(daemon), Ok(line)) = (&self.daemon, messages::line(word)) {
            let _gone = daemon.send(line);
        }
    }
}

/// An attempt, from its order until it is forgotten.
struct Kept {
    /// Time since boot.
    started: Duration,
    limit: Option<Duration>,
    database: String,
    stop: CancellationToken,
    /// Why it was stopped, where that was not a daemon's order.
    reason: Option<StopReason>,
    /// Nobody wants to know what comes of it.
    is_forgotten: bool,
    reports: watch::Receiver<ProgressReport>,
    /// What it said of its items and a daemon is to record.
    items: Option<Arc<Vec<ItemReport>>>,
    /// Notified when that is done.
    recorded: Arc<Notify>,
    /// Ending it kills the program at once.
    running: Option<AbortHandle>,
    end: Option<End>,
}

impl Keeper {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells a daemon what there is, and from then on what happens.
    fn welcome(&self, daemon: mpsc::UnboundedSender<Line>) {
        let now = self.clock.since_boot();
        let mut state = self.state();
        state.daemon = Some(daemon);
        let held = |(attempt, kept): (&AttemptName, &Kept)| Held {
            attempt: *attempt,
            elapsed: now.saturating_sub(kept.started),
            database: kept.database.clone(),
        };
        let attempts = state.attempts.iter().map(held).collect();
        state.say(&Word::Holding {
            pid: rustix::process::getpid().as_raw_nonzero().get(),
            attempts,
        });
        for (attempt, kept) in &state.attempts {
            if let Some(end) = &kept.end {
                state.say(&Word::Ended(*attempt, Box::new(end.clone())));
                continue;
            }
            state.say(&Word::Progress(*attempt, Report::from(&*kept.reports.borrow())));
            if let Some(items) = &kept.items {
                state.say(&Word::Items(*attempt, items.to_vec()));
            }
        }
    }

    fn start(self: &Arc<Self>, work: Work, limit: Option<Duration>, database: String) {
        let (progress, reports) = Progress::channel();
        let stop = self.admit(work.attempt, limit, database, reports.clone());
        tokio::spawn(Arc::clone(self).run(work, limit, stop, progress, reports));
    }

    /// Keeps an attempt from now on. Returns what stops it.
    fn admit(
        &self,
        attempt: AttemptName,
        limit: Option<Duration>,
        database: String,
        reports: watch::Receiver<ProgressReport>,
    ) -> CancellationToken {
        let stop = CancellationToken::new();
        let kept = Kept {
            started: self.clock.since_boot(),
            limit,
            database,
            stop: stop.clone(),
            reason: None,
            is_forgotten: false,
            reports,
            items: None,
            recorded: Arc::default(),
            running: None,
            end: None,
        };
        self.state().attempts.insert(attempt, kept);
        stop
    }

    /// Leaves an order alone that cannot be understood: it comes from another version, or was cut off with its daemon. One to run has
    /// failed, because it is waited for.
    fn refuse(&self, order: &str, why: &serde_json::Error) {
        let Ok(UnreadOrder::Run { work, database }) = serde_json::from_str(order) else { return };
        let (_progress, reports) = Progress::channel();
        self.admit(work.attempt, None, database, reports);
        let failure = Failure::error(format!(
            "the process that was to run its program cannot read what to do: {why}"
        ));
        self.conclude(work.attempt, failure.into(), Vec::new(), None);
    }

    async fn run(
        self: Arc<Self>,
        work: Work,
        limit: Option<Duration>,
        stop: CancellationToken,
        progress: Progress,
        reports: watch::Receiver<ProgressReport>,
    ) {
        let attempt = work.attempt;
        let log = self.paths.attempt_log(attempt.job, attempt.number);
        let output = Output::lazy(log, work.params.max_output.0);
        let keeper = Arc::clone(&self);
        let items = work.items.as_ref().map(RunItems::new).map(Arc::new);
        let site = Site {
            launch: Arc::new(Machine),
            clock: Arc::clone(&self.clock),
            paths: Arc::clone(&self.paths),
            output: output.clone(),
            progress,
            stop,
            log: Arc::new(move |line| keeper.state().say(&Word::Log(attempt, line))),
            items: items.clone(),
        };
        // A task of its own, so that a panic costs this attempt and nothing else.
        let running = tokio::spawn(async move { work.carry_out(&site).await });
        if let Some(kept) = self.state().attempts.get_mut(&attempt) {
            kept.running = Some(running.abort_handle());
        }
        let answer = tokio::select! {
            biased;
            answer = running => answer.unwrap_or_else(|panic| {
                Failure::error(format!("the keeper of the program has panicked: {panic}")).into()
            }),
            (never, ..) = join3(
                self.follow(attempt, reports, &output),
                self.expire(attempt, limit),
                self.tell_items(attempt, items.as_deref()),
            ) => match never {},
        };
        let unrecorded = items.map(|items| items.unrecorded()).unwrap_or_default();
        self.conclude(attempt, answer, unrecorded, output.finish().tail);
    }

    /// Has a daemon record what a program says of its items.
    async fn tell_items(&self, attempt: AttemptName, items: Option<&RunItems>) {
        if let Some(items) = items {
            items.record_all(|reports| self.have_recorded(attempt, reports)).await;
        }
    }

    /// Returns when a daemon has recorded that, whichever it is.
    async fn have_recorded(&self, attempt: AttemptName, reports: Arc<Vec<ItemReport>>) {
        let recorded = {
            let mut state = self.state();
            // One that is forgotten has ended.
            let Some(kept) = state.attempts.get_mut(&attempt) else { return };
            kept.items = Some(Arc::clone(&reports));
            let recorded = Arc::clone(&kept.recorded);
            state.say(&Word::Items(attempt, reports.to_vec()));
            recorded
        };
        recorded.notified().await;
    }

    fn note_recorded(&self, attempt: AttemptName) {
        if let Some(kept) = self.state().attempts.get_mut(&attempt)
            && kept.items.take().is_some()
        {
            kept.recorded.notify_one();
        }
    }

    /// Tells now and then how far an attempt is, and lets others read what it has printed.
    async fn follow(
        &self,
        attempt: AttemptName,
        mut reports: watch::Receiver<ProgressReport>,
        output: &Output,
    ) -> Infallible {
        let mut wait = FIRST_WORD;
        loop {
            tokio::time::sleep(wait).await;
            wait = WORD_EVERY;
            output.surface();
            if reports.has_changed().unwrap_or(false) {
                let report = Report::from(&*reports.borrow_and_update());
                self.state().say(&Word::Progress(attempt, report));
            }
        }
    }

    async fn expire(&self, attempt: AttemptName, limit: Option<Duration>) -> Infallible {
        sleep_or_forever(limit.map(|limit| limit + DAEMON_FIRST)).await;
        self.stop(attempt, Some(StopReason::Timeout));
        pending().await
    }

    fn conclude(
        &self,
        attempt: AttemptName,
        answer: Answer,
        items: Vec<ItemReport>,
        tail: Option<String>,
    ) {
        let mut state = self.state();
        let Some(kept) = state.attempts.get_mut(&attempt) else { return };
        let took = self.clock.since_boot().saturating_sub(kept.started);
        let answer = match answer {
            Answer::Stopped { result } => Answer::Ended { reason: kept.why(took), result },
            other => other,
        };
        let report = Report::from(&*kept.reports.borrow());
        let (database, unread) = (kept.database.clone(), None);
        let end = End { answer, items, tail, report, took, database, unread };
        if kept.is_forgotten {
            state.attempts.remove(&attempt);
        } else {
            kept.end = Some(end.clone());
            state.say(&Word::Ended(attempt, Box::new(end)));
        }
        self.changed.notify_one();
    }

    fn stop(&self, attempt: AttemptName, reason: Option<StopReason>) {
        if let Some(kept) = self.state().attempts.get_mut(&attempt) {
            kept.stop(reason);
        }
    }

    /// There is nobody any more for whom to go on.
    fn stop_all(&self) {
        self.state().attempts.values_mut().for_each(|kept| kept.stop(Some(StopReason::Shutdown)));
    }

    fn forget(&self, attempt: AttemptName) {
        let mut state = self.state();
        match state.attempts.get_mut(&attempt) {
            Some(kept) if kept.end.is_none() => {
                kept.is_forgotten = true;
                match &kept.running {
                    // The daemon has waited for its end for long enough.
                    Some(running) if kept.stop.is_cancelled() => running.abort(),
                    _ => kept.stop(None),
                }
            }
            _ => drop(state.attempts.remove(&attempt)),
        }
    }

    /// Leaves results to the next daemon in files, so that they need no process. True when some could not be written.
    fn put_down(&self) -> bool {
        let mut state = self.state();
        let paths = &self.paths;
        state.attempts.retain(|attempt, kept| {
            kept.end.as_ref().is_none_or(|end| results::write(paths, *attempt, end).is_err())
        });
        state.attempts.values().any(|kept| kept.end.is_some())
    }
}

impl Kept {
    fn stop(&mut self, reason: Option<StopReason>) {
        if !self.stop.is_cancelled() {
            self.reason = reason;
            self.stop.cancel();
        }
    }

    /// Why it was stopped. A daemon knows why it wanted that; this is for when it died before it could record it.
    fn why(&self, took: Duration) -> StopReason {
        let is_late = self.limit.is_some_and(|limit| took >= limit);
        self.reason.unwrap_or(if is_late { StopReason::Timeout } else { StopReason::Shutdown })
    }
}

async fn sleep_or_forever(length: Option<Duration>) {
    match length {
        Some(length) => tokio::time::sleep(length).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::JobId;

    fn keeper() -> Keeper {
        Keeper {
            paths: Arc::new(RunPaths::under("/nowhere")),
            clock: Arc::new(SystemClock),
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    #[test]
    fn an_order_to_run_that_cannot_be_read_has_failed() {
        let (keeper, attempt) = (keeper(), AttemptName { job: JobId(7), number: 2 });
        let deep = (0..124).fold(json!(1), |inner, _| json!([inner]));
        let work = json!({ "attempt": attempt, "params": { "input": { "a": deep } } });
        let order = json!({ "run": { "work": work, "limit": null, "database": "seed" } });
        let order = order.to_string();
        let error = serde_json::from_str::<Order>(&order).expect_err("it is too deep");
        let (say, mut said) = mpsc::unbounded_channel();
        keeper.state().daemon = Some(say);
        keeper.refuse(&order, &error);
        let word: Value = serde_json::from_slice(&said.try_recv().expect("a word")).unwrap();
        let message = word["ended"][1]["answer"]["Failed"]["message"].as_str().unwrap();
        assert!(message.contains("cannot read what to do: recursion limit exceeded"), "{message}");
        assert_eq!(word["ended"][1]["database"], "seed");
        keeper.forget(attempt);
        assert!(keeper.state().attempts.is_empty());
    }

    #[test]
    fn other_orders_that_cannot_be_read_are_left_alone() {
        let keeper = keeper();
        for order in ["", "{}", r#"{"dance": 1}"#, r#"{"run": {"work": {}}}"#, "[[["] {
            let error = serde_json::from_str::<Order>(order).expect_err("it is none");
            keeper.refuse(order, &error);
        }
        assert!(keeper.state().attempts.is_empty());
    }
}
