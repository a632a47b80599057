//! Keeping programs running while daemons come and go.
//!
//! A daemon has its commands run by a [`keeper`], a process of its own that goes on when the daemon does not. [`Keepers`] is the
//! daemon's side: it finds the keepers of earlier daemons, starts one for this daemon's own commands, and follows
//! attempts wherever they run. A keeper is only ever given new work by the daemon that started it, so programs have the environment, the
//! directory and the version of the daemon that claimed their job.

mod keeper;
mod link;
mod messages;
mod results;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::link::{Link, sockets};
use self::messages::{Held, Order, Word};
use super::work::Work;
use super::{items, record};
use crate::jobs::{Answer, Context, Failure, Handler, RunPaths};
use crate::model::{AttemptName, ItemReport};

pub use keeper::keep;

/// How long keepers may take to let a daemon go.
const LEAVE_TIME: Duration = Duration::from_secs(2);

/// How long programs have to end when their keeper has died.
const LOST_GRACE: Duration = Duration::from_secs(5);

/// The daemon's side of all keepers.
#[derive(Clone, Default)]
pub struct Keepers(Option<Arc<Inner>>);

struct Inner {
    paths: Arc<RunPaths>,
    patience: Option<Duration>,
    /// The database that this daemon's attempts are in, once it is open.
    database: OnceLock<String>,
    attempts: Mutex<HashMap<AttemptName, Entry>>,
    /// The keeper of this daemon's own commands, once there is one.
    own: tokio::sync::Mutex<Option<Link>>,
    visits: Mutex<Visits>,
}

/// Every keeper that this daemon has met.
#[derive(Default)]
struct Visits {
    links: Vec<Link>,
    /// End with the connections.
    readers: JoinSet<()>,
    /// End with the keepers that this daemon has started.
    started: JoinSet<()>,
    /// A connection that ends from now on tells nothing of its keeper.
    is_leaving: bool,
}

/// What is known of an attempt.
struct Entry {
    source: Source,
    /// `None` when the keeper has died.
    words: Option<mpsc::UnboundedSender<Word>>,
    /// For whoever follows it.
    inbox: Option<mpsc::UnboundedReceiver<Word>>,
    elapsed: Duration,
    took: Option<Duration>,
    database: String,
}

enum Source {
    Keeper(Link),
    /// The file that its keeper has left.
    File,
}

/// An attempt that is there to be taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptAttempt {
    /// Which one.
    pub name: AttemptName,
    /// How long ago it began, or how long it took.
    pub elapsed: Duration,
    /// The database that it is in: another one may have jobs with the same numbers.
    pub database: String,
}

impl Keepers {
    /// Keeps nothing: programs end with the daemon.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Finds what earlier daemons of this data directory have left running, and results that were left for this one.
    ///
    /// `patience` is how long programs go on without a daemon; `None`: until their own time is up.
    ///
    /// To be called when this daemon has the data directory for itself.
    pub async fn find(paths: Arc<RunPaths>, patience: Option<Duration>) -> Self {
        let (database, attempts, own, visits) = Default::default();
        let inner = Arc::new(Inner { paths, patience, database, attempts, own, visits });
        for socket in sockets(&inner.paths) {
            if let Err(error) = inner.meet(&socket).await {
                tracing::warn!(%error, socket = %socket.display(), "a keeper of programs does not answer; what it runs is ended");
            }
        }
        // Last, because a keeper writes them when it has nobody to tell.
        match results::all(&inner.paths) {
            Ok(results) => {
                for (attempt, end) in results {
                    let held = Held { attempt, elapsed: end.took, database: end.database.clone() };
                    inner.hold(held, Source::File);
                    inner.pass_on(Word::Ended(attempt, Box::new(end)));
                }
            }
            Err(error) => tracing::error!(%error, "results of kept programs could not be read"),
        }
        Self(Some(inner))
    }

    /// Everything that is there to be taken over.
    #[must_use]
    pub fn attempts(&self) -> Vec<KeptAttempt> {
        let Some(inner) = &self.0 else { return Vec::new() };
        let mut all: Vec<KeptAttempt> = inner
            .attempts()
            .iter()
            .map(|(name, entry)| KeptAttempt {
                name: *name,
                elapsed: entry.elapsed,
                database: entry.database.clone(),
            })
            .collect();
        all.sort_by_key(|attempt| attempt.name);
        all
    }

    /// Notes which database this daemon's attempts are in, by a name that no other has. To be called before the first one.
    pub fn belong_to(&self, database: &str) {
        if let Some(inner) = &self.0 {
            inner.database.get_or_init(|| database.to_owned());
        }
    }

    /// The processes of the keepers that have something to keep.
    #[must_use]
    pub fn pids(&self) -> Vec<i32> {
        let Some(inner) = &self.0 else { return Vec::new() };
        let attempts = inner.attempts();
        attempts.values().filter_map(|entry| Some(entry.link()?.pid)).collect()
    }

    /// Whether an attempt goes on when this daemon ends.
    #[must_use]
    pub fn holds(&self, attempt: AttemptName) -> bool {
        let Some(inner) = &self.0 else { return false };
        let attempts = inner.attempts();
        attempts.get(&attempt).is_some_and(|entry| match &entry.source {
            Source::Keeper(link) => !link.orders.is_closed(),
            Source::File => true,
        })
    }

    /// How long an attempt took, where that is known better than by whoever waited for it.
    #[must_use]
    pub fn took(&self, attempt: AttemptName) -> Option<Duration> {
        self.0.as_ref()?.attempts().get(&attempt)?.took
    }

    /// What came of an attempt is recorded, or is not wanted: then it is ended where it still runs.
    pub fn forget(&self, attempt: AttemptName) {
        let Some(inner) = &self.0 else { return };
        let Some(entry) = inner.attempts().remove(&attempt) else { return };
        match entry.source {
            // One that has died has forgotten everything.
            Source::Keeper(link) => drop(link.send(&Order::Forget(attempt))),
            Source::File => results::remove(&inner.paths, attempt),
        }
    }

    /// Takes leave of all keepers: waits until they have heard everything that was said to them, and until the one that this daemon has
    /// started is gone if it has nothing left to keep. To be called last.
    pub async fn take_leave(&self) {
        let Some(inner) = &self.0 else { return };
        let leaving = Visits { is_leaving: true, ..Visits::default() };
        let Visits { links, mut readers, mut started, .. } =
            std::mem::replace(&mut *inner.visits(), leaving);
        for link in &links {
            // One that has ended need not be told.
            let _gone = link.send(&Order::Leave);
        }
        let is_empty = inner.attempts().is_empty();
        let all = async {
            while readers.join_next().await.is_some() {}
            while is_empty && started.join_next().await.is_some() {}
        };
        // One that is stuck is left alone; what it has is the next daemon's.
        let _some_are_stuck = tokio::time::timeout(LEAVE_TIME, all).await;
        readers.detach_all();
        started.detach_all();
    }

    /// Has a program run where it outlives this daemon, within `limit`. Returns false when nothing can be kept.
    ///
    /// # Errors
    /// When no keeper can be started.
    pub(super) async fn start(&self, work: &Work, limit: Option<Duration>) -> io::Result<bool> {
        let Some(inner) = &self.0 else { return Ok(false) };
        let link = inner.own().await?;
        let database = inner.database.get().cloned().unwrap_or_default();
        let (attempt, elapsed) = (work.attempt, Duration::ZERO);
        let held = Held { attempt, elapsed, database: database.clone() };
        inner.hold(held, Source::Keeper(link.clone()));
        let order = Order::Run { work: Box::new(work.clone()), limit, database };
        let sent = link.send(&order);
        if sent.is_err() {
            inner.attempts().remove(&work.attempt);
        }
        sent.map(|()| true)
    }

    /// Follows an attempt to its end, and has it stopped when it must stop.
    pub(super) async fn follow(&self, context: &Context) -> Answer {
        let attempt = context.job.name();
        let Some((inner, mut inbox)) = self
            .0
            .as_ref()
            .and_then(|inner| Some((inner, inner.attempts().get_mut(&attempt)?.inbox.take()?)))
        else {
            return Failure::error("nobody keeps its program").into();
        };
        let mut is_told = false;
        // Beside everything else: a store that refuses must not hold up an order to stop.
        let mut recording: Option<BoxFuture<'_, ()>> = None;
        loop {
            let word = tokio::select! {
                biased;
                word = inbox.recv() => word,
                () = ended(&mut recording) => {
                    recording = None;
                    inner.order(attempt, &Order::Recorded(attempt));
                    continue;
                }
                () = context.stop.cancelled(), if !is_told => {
                    is_told = true;
                    inner.order(attempt, &Order::Stop(attempt));
                    continue;
                }
            };
            match word {
                Some(Word::Progress(_, report)) => context.progress.repeat(report.into()),
                Some(Word::Log(_, line)) => line.to_log(),
                Some(Word::Items(_, reports)) => recording = record_items(context, reports),
                Some(Word::Ended(_, end)) => {
                    if let Some(why) = &end.unread {
                        tracing::error!(
                            error = why,
                            "what came of a program cannot be read, so its attempt has failed"
                        );
                    }
                    // What was being recorded is among it.
                    if let Some(recording) = record_items(context, end.items) {
                        recording.await;
                    }
                    context.progress.repeat(end.report.into());
                    context.output.take_over(end.tail.as_deref());
                    return end.answer;
                }
                Some(Word::Holding { .. }) => {}
                None => return lost(&inner.paths, attempt).await,
            }
        }
    }

    /// The handler of attempts that are taken over, whatever their kind.
    #[must_use]
    pub fn follower(&self) -> Arc<dyn Handler> {
        Arc::new(Follower(self.clone()))
    }
}

impl fmt::Debug for Keepers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keepers").field(&self.attempts()).finish()
    }
}

/// Records what a program has said of its items, where it has any.
fn record_items(context: &Context, reports: Vec<ItemReport>) -> Option<BoxFuture<'_, ()>> {
    let port = context.items.as_deref().filter(|_| !reports.is_empty())?;
    Some(items::record(port, Arc::new(reports)).boxed())
}

async fn ended(recording: &mut Option<BoxFuture<'_, ()>>) {
    match recording {
        Some(recording) => recording.await,
        None => std::future::pending().await,
    }
}

struct Follower(Keepers);

impl Handler for Follower {
    fn run(&self, context: Context) -> BoxFuture<'_, Answer> {
        async move { self.0.follow(&context).await }.boxed()
    }
}

/// The keeper has died, and with it what was known of the program: it is ended, because its job will run again.
async fn lost(paths: &Arc<RunPaths>, attempt: AttemptName) -> Answer {
    let paths = Arc::clone(paths);
    // It only fails when the runtime stops, and then the next daemon ends the program.
    let _ended =
        tokio::task::spawn_blocking(move || record::end_one(&paths, attempt, LOST_GRACE)).await;
    Failure::error(
        "the process that kept its program has ended (killed, or a crash; see the kernel's log), and the program was ended as well",
    )
    .into()
}

impl Entry {
    fn link(&self) -> Option<&Link> {
        match &self.source {
            Source::Keeper(link) => Some(link),
            Source::File => None,
        }
    }
}

impl Inner {
    fn attempts(&self) -> MutexGuard<'_, HashMap<AttemptName, Entry>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn visits(&self) -> MutexGuard<'_, Visits> {
        self.visits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&self, held: Held, source: Source) {
        let Held { attempt, elapsed, database } = held;
        let (words, inbox) = mpsc::unbounded_channel();
        let (words, inbox) = (Some(words), Some(inbox));
        let entry = Entry { source, words, inbox, elapsed, took: None, database };
        self.attempts().insert(attempt, entry);
    }

    fn order(&self, attempt: AttemptName, order: &Order) {
        if let Some(link) = self.attempts().get(&attempt).and_then(Entry::link) {
            let _keeper_gone = link.send(order);
        }
    }

    fn pass_on(&self, word: Word) {
        let mut attempts = self.attempts();
        let Some(entry) = word.attempt().and_then(|attempt| attempts.get_mut(&attempt)) else {
            return;
        };
        if let Word::Ended(_, end) = &word {
            entry.took = Some(end.took);
        }
        if let Some(words) = &entry.words {
            let _nobody_follows = words.send(word);
        }
    }
}
