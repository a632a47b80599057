//! Says when the directories may have changed. It does not say what: that is read off the disk, which is the only one who knows.
//!
//! Single events are not to be believed one by one (a link that is swapped names no file, an editor's save passes through a
//! moment without the file, a directory that is made anew is never heard of again), so any event only sets *dirty*. After a
//! short quiet, everything is unwatched and watched again, *then* the disk is read: whatever changes after that is another event.
//! Comparing inodes to save the re-arming does not work: ext4 gives a directory that is made again the same one, and the old watch stays
//! dead. A slow poll is the safety net under all of it.

mod targets;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use notify::event::{AccessKind, AccessMode};
use notify::{Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use self::targets::{Targets, is_remote};
use super::reload::QUIET;

/// The longest that changes which go on and on are waited out.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// How often the disk is looked at when nothing is heard, as long as there are few files.
const SAFETY_SCAN: Duration = Duration::from_secs(30);
/// By how much each file puts the next look off. A look takes some microseconds a file, so that whatever their number is, it takes
/// less than a two-thousandth of a processor.
const SAFETY_SCAN_PER_FILE: Duration = Duration::from_millis(20);
/// The longest that a look is put off.
const LONGEST_SAFETY_SCAN: Duration = Duration::from_secs(300);
/// The same where changes are not heard of: on network file systems, and without inotify.
const POLL: Duration = Duration::from_secs(5);
/// How often re-arming starts over because a directory vanished in the middle of it.
const ARMING_ATTEMPTS: usize = 3;

/// How changes are noticed at present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watching {
    /// Within a moment.
    Events,
    /// By looking every few seconds, because of this.
    Polling(String),
}

/// A task that watches directories.
#[derive(Debug)]
pub struct Watcher {
    status: watch::Receiver<Watching>,
    task: JoinHandle<()>,
}

impl Watcher {
    /// Starts watching. `wake` is called once at the start and whenever the directories may have changed; it must not block.
    pub fn spawn(
        directories: Vec<PathBuf>,
        wake: impl Fn() + Send + 'static,
        stop: CancellationToken,
    ) -> Self {
        Self::spawn_with(Box::new(inotify), directories, wake, stop)
    }

    /// The same with other ears than the system's.
    fn spawn_with(
        open: OpenEars,
        directories: Vec<PathBuf>,
        wake: impl Fn() + Send + 'static,
        stop: CancellationToken,
    ) -> Self {
        let (status, receiver) = watch::channel(Watching::Events);
        let task = tokio::spawn(run(open.into(), directories, wake, status, stop));
        Self { status: receiver, task }
    }

    /// How changes are noticed at present.
    #[must_use]
    pub fn status(&self) -> Watching {
        self.status.borrow().clone()
    }

    /// Waits until the task has ended, which it does when it is told to stop.
    pub async fn stopped(self) {
        // A panic of the task was reported where it happened, and there is nothing left to stop.
        let _ = self.task.await;
    }
}

/// What is called for each event.
type Hear = Box<dyn FnMut(notify::Result<Event>) + Send>;

/// Opens the system's ears.
type OpenEars = Box<dyn Fn(Hear) -> notify::Result<RecommendedWatcher> + Send + Sync>;

fn inotify(hear: Hear) -> notify::Result<RecommendedWatcher> {
    RecommendedWatcher::new(hear, Config::default())
}

async fn run(
    open: Arc<OpenEars>,
    directories: Vec<PathBuf>,
    wake: impl Fn() + Send + 'static,
    status: watch::Sender<Watching>,
    stop: CancellationToken,
) {
    let mut ears = Ears::new(Arc::clone(&open), Arc::default());
    let dirty = Arc::clone(&ears.dirty);
    loop {
        let (listening, interval);
        (ears, listening, interval) = match arm(ears, &directories).await {
            Ok(armed) => armed,
            Err(panic) => {
                tracing::error!(error = %panic, "watching the schedules failed; they are polled");
                let ears = Ears::new(Arc::clone(&open), Arc::clone(&dirty));
                (ears, Watching::Polling("watching failed inside the program".to_owned()), POLL)
            }
        };
        tell(&status, listening);
        wake();
        tokio::select! {
            () = stop.cancelled() => return,
            () = dirty.notified() => settle(&dirty).await,
            () = sleep(interval) => {}
        }
    }
}

/// Waits until nothing has changed for a moment, but not for ever.
async fn settle(dirty: &Notify) {
    let deadline = Instant::now() + LONGEST_WAIT;
    loop {
        tokio::select! {
            () = sleep_until(deadline) => return,
            () = sleep(QUIET) => return,
            () = dirty.notified() => {}
        }
    }
}

fn tell(status: &watch::Sender<Watching>, listening: Watching) {
    let is_new = status.send_if_modified(|before| {
        let is_new = *before != listening;
        *before = listening.clone();
        is_new
    });
    match listening {
        Watching::Polling(reason) if is_new => {
            tracing::warn!(reason, "changes of schedule files are noticed by polling only");
        }
        Watching::Events if is_new => {
            tracing::info!("changes of schedule files are noticed at once again");
        }
        _ => {}
    }
}

/// The watches, and what the thread behind them shares with the task.
struct Ears {
    open: Arc<OpenEars>,
    watcher: Option<RecommendedWatcher>,
    watched: Vec<PathBuf>,
    targets: Arc<ArcSwap<Targets>>,
    dirty: Arc<Notify>,
}

/// Watches everything anew. Looking up links may block on a slow file system, so it has a thread of its own.
async fn arm(
    mut ears: Ears,
    directories: &[PathBuf],
) -> Result<(Ears, Watching, Duration), tokio::task::JoinError> {
    let directories = directories.to_vec();
    tokio::task::spawn_blocking(move || {
        let is_remote = directories.iter().any(|path| is_remote(path));
        match ears.arm(&directories) {
            Ok(()) if is_remote => (ears, Watching::Events, POLL),
            Ok(()) => {
                let interval = safety_scan(ears.targets.load().files());
                (ears, Watching::Events, interval)
            }
            Err(error) => (ears, Watching::Polling(explain(&error)), POLL),
        }
    })
    .await
}

/// How long to wait for the next look at that many files.
fn safety_scan(files: usize) -> Duration {
    let files = u32::try_from(files).unwrap_or(u32::MAX);
    SAFETY_SCAN_PER_FILE.saturating_mul(files).clamp(SAFETY_SCAN, LONGEST_SAFETY_SCAN)
}

impl Ears {
    fn new(open: Arc<OpenEars>, dirty: Arc<Notify>) -> Self {
        Self { open, watcher: None, watched: Vec::new(), targets: Arc::default(), dirty }
    }

    fn arm(&mut self, directories: &[PathBuf]) -> notify::Result<()> {
        let mut outcome = Ok(());
        for _attempt in 0..ARMING_ATTEMPTS {
            outcome = self.arm_once(directories);
            let vanished = |error: &notify::Error| match &error.kind {
                notify::ErrorKind::PathNotFound => true,
                notify::ErrorKind::Io(error) => error.kind() == std::io::ErrorKind::NotFound,
                _ => false,
            };
            if !outcome.as_ref().is_err_and(vanished) {
                break;
            }
        }
        outcome
    }

    fn arm_once(&mut self, directories: &[PathBuf]) -> notify::Result<()> {
        let targets = Targets::of(directories);
        let wanted = targets.watches();
        // From here on the thread judges events by the new targets, those of the new watches among them.
        self.targets.store(Arc::new(targets));
        if self.watcher.is_none() {
            self.watcher = Some(self.new_watcher()?);
        }
        let Some(watcher) = &mut self.watcher else { return Ok(()) };
        for path in self.watched.drain(..) {
            // A watch on something that is gone is gone itself.
            let _ = watcher.unwatch(&path);
        }
        for path in wanted {
            watcher.watch(&path, RecursiveMode::NonRecursive)?;
            self.watched.push(path);
        }
        Ok(())
    }

    fn new_watcher(&self) -> notify::Result<RecommendedWatcher> {
        let (targets, dirty) = (Arc::clone(&self.targets), Arc::clone(&self.dirty));
        let hear = move |event: notify::Result<Event>| {
            if event.as_ref().map_or(true, |event| matters(event, &targets.load())) {
                dirty.notify_one();
            }
        };
        (self.open)(Box::new(hear))
    }
}

/// Reading a directory makes events, too, and must not lead to reading it again.
fn matters(event: &Event, targets: &Targets) -> bool {
    let is_reading = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => true,
        _ => false,
    };
    let has_lost_events = event.need_rescan() || event.paths.is_empty();
    has_lost_events || (!is_reading && event.paths.iter().any(|path| targets.concern(path)))
}

/// What keeps inotify from working, in words that lead to the cure: the kernel says "no space left on device" where it means one of
/// its own limits.
fn explain(error: &notify::Error) -> String {
    match &error.kind {
        notify::ErrorKind::MaxFilesWatch => {
            "the limit of inotify watches is reached; raise fs.inotify.max_user_watches".to_owned()
        }
        notify::ErrorKind::Io(cause)
            if cause.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) =>
        {
            "the limit of inotify instances (or of open files) is reached; raise fs.inotify.max_user_instances"
                .to_owned()
        }
        notify::ErrorKind::Io(cause)
            if cause.raw_os_error() == Some(rustix::io::Errno::NOSPC.raw_os_error()) =>
        {
            "the limit of inotify watches is reached; raise fs.inotify.max_user_watches".to_owned()
        }
        _ => format!("inotify does not work here: {error}"),
    }
}

impl std::fmt::Debug for Ears {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ears").field("watched", &self.watched).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;

    struct Watched {
        watcher: Watcher,
        wakes: UnboundedReceiver<()>,
        folder: tempfile::TempDir,
        _stop: tokio_util::sync::DropGuard,
    }

    /// A watched directory. The caller has seen the wake-up of the start.
    async fn watch_with(open: OpenEars) -> Watched {
        let folder = tempfile::tempdir().unwrap();
        let (stop, (wake, mut wakes)) = (CancellationToken::new(), unbounded_channel());
        let directories = vec![folder.path().to_owned()];
        let wake = move || wake.send(()).unwrap_or(());
        let watcher = Watcher::spawn_with(open, directories, wake, stop.clone());
        wakes.recv().await.unwrap();
        Watched { watcher, wakes, folder, _stop: stop.drop_guard() }
    }

    /// The system's limit is reached until it has refused so often.
    fn refusing(times: usize) -> OpenEars {
        let refused = AtomicUsize::new(0);
        Box::new(move |hear| {
            if refused.fetch_add(1, Ordering::Relaxed) < times {
                let limit = rustix::io::Errno::MFILE.raw_os_error();
                return Err(notify::Error::io(io::Error::from_raw_os_error(limit)));
            }
            inotify(hear)
        })
    }

    // Time stands still and leaps to the next timer as soon as nothing else is to be done.
    #[tokio::test(start_paused = true)]
    async fn f1_without_inotify_the_directory_is_polled_and_the_status_says_why() {
        let mut watched = watch_with(refusing(usize::MAX)).await;
        for _ in 0..3 {
            let before = Instant::now();
            watched.wakes.recv().await.unwrap();
            assert_eq!(before.elapsed().as_secs(), POLL.as_secs());
        }
        let Watching::Polling(why) = watched.watcher.status() else { panic!("it is not polled") };
        assert!(why.contains("max_user_instances"), "{why}");
    }

    #[tokio::test]
    async fn f1_when_the_limit_is_raised_changes_are_heard_of_again() {
        tokio::time::pause();
        let mut watched = watch_with(refusing(2)).await;
        watched.wakes.recv().await.unwrap();
        watched.wakes.recv().await.unwrap();
        assert_eq!(watched.watcher.status(), Watching::Events);
        tokio::time::resume();
        let before = Instant::now();
        std::fs::write(watched.folder.path().join("a.toml"), "").unwrap();
        watched.wakes.recv().await.unwrap();
        assert!(before.elapsed() < SAFETY_SCAN, "it was only found by the safety scan");
    }

    #[tokio::test(start_paused = true)]
    async fn f3_where_no_event_ever_comes_the_disk_is_looked_at_all_the_same() {
        let mut watched = watch_with(Box::new(|_deaf| inotify(Box::new(|_event| {})))).await;
        assert_eq!(watched.watcher.status(), Watching::Events, "nobody can know");
        for _ in 0..3 {
            let before = Instant::now();
            watched.wakes.recv().await.unwrap();
            assert_eq!(before.elapsed().as_secs(), SAFETY_SCAN.as_secs());
        }
    }

    #[test]
    fn f1_an_inotify_limit_is_called_that_and_not_a_full_disk() {
        let by_code = |code: rustix::io::Errno| {
            explain(&notify::Error::io(io::Error::from_raw_os_error(code.raw_os_error())))
        };
        for reason in [
            explain(&notify::Error::new(notify::ErrorKind::MaxFilesWatch)),
            by_code(rustix::io::Errno::NOSPC),
        ] {
            assert!(reason.contains("max_user_watches"), "{reason}");
        }
        assert!(by_code(rustix::io::Errno::MFILE).contains("max_user_instances"));
    }

    #[test]
    fn many_files_are_looked_at_less_often() {
        assert_eq!(safety_scan(0), SAFETY_SCAN);
        assert_eq!(safety_scan(1500), SAFETY_SCAN);
        assert_eq!(safety_scan(10_000), Duration::from_secs(200));
        assert_eq!(safety_scan(usize::MAX), LONGEST_SAFETY_SCAN);
    }

    #[test]
    fn f2_lost_events_are_an_event() {
        let targets = Targets::default();
        let lost = Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
        assert!(matters(&lost.add_path("/elsewhere".into()), &targets));
    }

    #[test]
    fn reading_a_directory_is_no_change_of_it() {
        let targets = Targets::of(&["/tmp".into()]);
        let event = |kind| Event::new(kind).add_path("/tmp/a.toml".into());
        let open = EventKind::Access(AccessKind::Open(AccessMode::Any));
        let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
        assert!(!matters(&event(open), &targets));
        assert!(matters(&event(written), &targets));
    }
}
