//! Every way in which people and programs change a directory, seen through the watcher and the reloader.

use std::io::Write;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::broadcast::Receiver;
use tokio_util::sync::CancellationToken;

use super::super::reload::{LookOn, QUIET};
use super::*;
use crate::clock::SystemClock;

/// Far more than any change may take, and less than the safety scan, which would hide a watch that is deaf.
const SOON: Duration = Duration::from_secs(15);

/// A watched place.
struct Watched {
    reloader: Arc<Reloader>,
    reports: Receiver<Arc<ReloadReport>>,
    watcher: Watcher,
    /// How often the watcher said that something may have changed.
    wakes: Arc<AtomicUsize>,
    stop: CancellationToken,
}

impl Watched {
    /// Starts watching and waits until the watches are there.
    async fn start(directory: PathBuf) -> Self {
        let stop = CancellationToken::new();
        let (reloader, _first) = Reloader::start(
            vec![directory.clone()],
            reading(),
            Arc::new(SystemClock),
            LookOn::BlockingThread,
            stop.clone(),
        )
        .await;
        let reports = reloader.subscribe();
        let armed = Arc::new(Notify::new());
        let (signal, waker) = (Arc::clone(&armed), Arc::clone(&reloader));
        let wakes = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&wakes);
        let wake = move || {
            counter.fetch_add(1, Ordering::Relaxed);
            signal.notify_one();
            waker.wake();
        };
        let watcher = Watcher::spawn(vec![directory], wake, stop.clone());
        armed.notified().await;
        assert_eq!(watcher.status(), Watching::Events);
        Self { reloader, reports, watcher, wakes, stop }
    }

    /// Waits until `done` holds for the catalog in force.
    async fn until(&mut self, done: impl Fn(&Catalog) -> bool) -> Arc<Catalog> {
        let waiting = async {
            loop {
                let current = self.reloader.current();
                if done(&current) {
                    return current;
                }
                self.reports.recv().await.unwrap();
            }
        };
        tokio::time::timeout(SOON, waiting).await.expect("the change was not noticed")
    }

    async fn until_version(&mut self, version: &str) -> Arc<Catalog> {
        self.until(|catalog| {
            catalog.get(&"a".parse().unwrap()).is_some_and(|it| it.description == version)
        })
        .await
    }

    async fn stop(self) {
        self.stop.cancel();
        self.watcher.stopped().await;
    }
}

#[tokio::test]
async fn a_file_that_is_written_in_place_is_noticed() {
    let place = Place::new();
    place.write("a.toml", schedule("one"));
    let mut watched = Watched::start(place.directory()).await;
    for version in ["two", "three"] {
        place.write("a.toml", schedule(version));
        watched.until_version(version).await;
    }
    watched.stop().await;
}

#[tokio::test]
async fn a_file_that_is_renamed_over_is_noticed_every_time() {
    let place = Place::new();
    place.write("a.toml", schedule("one"));
    let mut watched = Watched::start(place.directory()).await;
    for version in ["two", "three", "four"] {
        let new = place.file(".a.toml.tmp");
        fs::write(&new, schedule(version)).unwrap();
        fs::rename(&new, place.file("a.toml")).unwrap();
        watched.until_version(version).await;
    }
    watched.stop().await;
}

#[tokio::test]
async fn an_editor_that_moves_the_file_away_first_never_deletes_the_schedule() {
    let place = Place::new();
    place.write("a.toml", schedule("one"));
    let mut watched = Watched::start(place.directory()).await;
    let mut reports = watched.reloader.subscribe();
    fs::rename(place.file("a.toml"), place.file("a.toml~")).unwrap();
    // A look at the disk may fall into the gap. It sees no file, and looks again before it believes that.
    let (reload, ()) = tokio::join!(watched.reloader.reload(), async {
        place.write("a.toml", schedule("two"));
        place.remove("a.toml~");
    });
    assert!(reload.unwrap().diff.removed.is_empty());
    watched.until_version("two").await;
    while let Ok(report) = reports.try_recv() {
        assert!(report.diff.removed.is_empty(), "{}", report.diff);
    }
    watched.stop().await;
}

#[tokio::test]
async fn a_deletion_is_believed_when_it_lasts() {
    let place = Place::new();
    place.write("a.toml", schedule("one"));
    let watched = Watched::start(place.directory()).await;
    place.remove("a.toml");
    let asked = tokio::time::Instant::now();
    let report = watched.reloader.reload().await.unwrap();
    // The watcher may have begun its own look first; then there is nothing left to remove.
    assert!(report.schedules == 0 && watched.reloader.current().schedules.is_empty());
    assert!(report.diff.removed.is_empty() || asked.elapsed() >= QUIET);
    watched.stop().await;
}

#[tokio::test]
async fn a_kubernetes_volume_that_swaps_its_data_link_is_noticed() {
    let place = Place::new();
    let publish = |version: &str| {
        let data = format!("..{version}");
        fs::create_dir(place.file(&data)).unwrap();
        place.write(&format!("{data}/a.toml"), schedule(version));
        symlink(&data, place.file("..data_tmp")).unwrap();
        fs::rename(place.file("..data_tmp"), place.file("..data")).unwrap();
    };
    publish("one");
    symlink("..data/a.toml", place.file("a.toml")).unwrap();
    let mut watched = Watched::start(place.directory()).await;
    watched.until_version("one").await;
    for version in ["two", "three"] {
        publish(version);
        watched.until_version(version).await;
    }
    watched.stop().await;
}

#[tokio::test]
async fn f4_a_directory_that_is_deleted_and_made_again_is_noticed() {
    let place = Place::new();
    place.write("a.toml", schedule("one"));
    let mut watched = Watched::start(place.directory()).await;
    for version in ["two", "three"] {
        fs::remove_dir_all(place.directory()).unwrap();
        watched.until(|catalog| !catalog.is_sound()).await;
        fs::create_dir(place.directory()).unwrap();
        place.write("a.toml", schedule(version));
        let catalog = watched.until_version(version).await;
        assert!(catalog.is_sound());
    }
    place.write("a.toml", schedule("four"));
    watched.until_version("four").await;
    watched.stop().await;
}

#[tokio::test]
async fn f4_a_directory_that_is_renamed_away_and_replaced_is_noticed() {
    let place = Place::new();
    place.write("a.toml", schedule("one"));
    let mut watched = Watched::start(place.directory()).await;
    for version in ["two", "three"] {
        let new = place.root().join("new");
        fs::create_dir(&new).unwrap();
        fs::write(new.join("a.toml"), schedule(version)).unwrap();
        fs::rename(place.directory(), place.root().join(format!("before {version}"))).unwrap();
        fs::rename(&new, place.directory()).unwrap();
        watched.until_version(version).await;
    }
    place.write("a.toml", schedule("four"));
    watched.until_version("four").await;
    watched.stop().await;
}

#[tokio::test]
async fn e11_a_directory_that_is_a_link_may_be_pointed_elsewhere() {
    let place = Place::new();
    let point_at = |version: &str| {
        let target = place.root().join(version);
        fs::create_dir(&target).unwrap();
        fs::write(target.join("a.toml"), schedule(version)).unwrap();
        symlink(&target, place.root().join("link.tmp")).unwrap();
        fs::rename(place.root().join("link.tmp"), place.root().join("link")).unwrap();
    };
    point_at("one");
    let mut watched = Watched::start(place.root().join("link")).await;
    for version in ["two", "three"] {
        point_at(version);
        watched.until_version(version).await;
    }
    fs::write(place.root().join("three/a.toml"), schedule("four")).unwrap();
    watched.until_version("four").await;
    watched.stop().await;
}

#[tokio::test]
async fn a_directory_that_is_missing_at_first_is_read_when_it_is_made() {
    let place = Place::new();
    let directory = place.root().join("deep/er");
    let mut watched = Watched::start(directory.clone()).await;
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("a.toml"), schedule("one")).unwrap();
    watched.until_version("one").await;
    fs::write(directory.join("a.toml"), schedule("two")).unwrap();
    watched.until_version("two").await;
    watched.stop().await;
}

#[tokio::test]
async fn a_file_that_is_a_link_to_elsewhere_is_noticed_when_it_is_edited_there() {
    let place = Place::new();
    let real = place.root().join("real");
    fs::create_dir(&real).unwrap();
    fs::write(real.join("a.toml"), schedule("one")).unwrap();
    symlink(real.join("a.toml"), place.file("a.toml")).unwrap();
    let mut watched = Watched::start(place.directory()).await;
    fs::write(real.join("a.toml"), schedule("two")).unwrap();
    watched.until_version("two").await;
    watched.stop().await;
}

#[tokio::test]
async fn e1_a_half_written_file_changes_nothing_until_it_is_complete() {
    let place = Place::new();
    place.write("a.toml", schedule("one"));
    let mut watched = Watched::start(place.directory()).await;
    let mut file = fs::File::create(place.file("a.toml")).unwrap();
    file.write_all(b"description = \"tw").unwrap();
    let half = watched.until(|catalog| !catalog.stale.is_empty()).await;
    assert_eq!(description(&half, "a"), "one");
    file.write_all(b"o\"\n[idle]\n").unwrap();
    drop(file);
    let whole = watched.until_version("two").await;
    assert!(whole.stale.is_empty());
    watched.stop().await;
}

#[tokio::test]
async fn a_thousand_changed_files_are_one_reload() {
    let place = Place::new();
    let mut watched = Watched::start(place.directory()).await;
    // The watcher's first wake-up has nothing to report, and whatever comes now is about the files.
    let new = place.root().join("new");
    fs::create_dir(&new).unwrap();
    for number in 0..1000 {
        fs::write(new.join(format!("s{number}.toml")), schedule("one")).unwrap();
    }
    for number in 0..1000 {
        let name = format!("s{number}.toml");
        fs::rename(new.join(&name), place.file(&name)).unwrap();
    }
    let report = tokio::time::timeout(SOON, watched.reports.recv()).await.unwrap().unwrap();
    assert_eq!(report.diff.added.len(), 1000);
    watched.stop().await;
}

#[tokio::test]
async fn e12_watching_an_unchanged_directory_wakes_nobody() {
    let place = Place::new();
    place.write("a.toml", schedule("one"));
    let stop = CancellationToken::new();
    let (wakes, mut woken) = tokio::sync::mpsc::unbounded_channel();
    let watcher =
        Watcher::spawn(vec![place.directory()], move || wakes.send(()).unwrap(), stop.clone());
    woken.recv().await.unwrap();
    // Reading is what a wake-up leads to. If it made events that count, the two would never stop.
    assert!(check(&[place.directory()], &reading(), later()).is_sound());
    let again = tokio::time::timeout(Duration::from_secs(1), woken.recv()).await;
    assert!(again.is_err(), "reading the directory woke the watcher");
    stop.cancel();
    watcher.stopped().await;
}

#[tokio::test]
async fn e12_a_file_that_changes_thousands_of_times_is_read_a_few_times_and_ends_as_it_is_on_disk()
{
    const WRITES: usize = 5000;
    let place = Place::new();
    place.write("a.toml", schedule("0"));
    let mut watched = Watched::start(place.directory()).await;
    let wakes = Arc::clone(&watched.wakes);
    let before = (wakes.load(Ordering::Relaxed), tokio::time::Instant::now());
    let file = place.file("a.toml");
    let writing = tokio::task::spawn_blocking(move || {
        for version in 1..=WRITES {
            fs::write(&file, schedule(&version.to_string())).unwrap();
        }
    });
    writing.await.unwrap();
    let took = before.1.elapsed();
    let woken = wakes.load(Ordering::Relaxed) - before.0;
    // Quiet between two changes is as long as it takes to be believed, so there cannot be more looks than that.
    let most = took.as_millis() / QUIET.as_millis() + 2;
    assert!(woken as u128 <= most, "{woken} looks at {WRITES} changes in {took:?}");
    watched.until_version(&WRITES.to_string()).await;
    watched.stop().await;
}

#[tokio::test]
async fn g4_requests_that_come_together_are_answered_by_a_look_that_began_after_them() {
    let place = Place::new();
    place.write("a.toml", schedule("0"));
    let stop = CancellationToken::new();
    let (reloader, first) = Reloader::start(
        vec![place.directory()],
        reading(),
        Arc::new(SystemClock),
        LookOn::BlockingThread,
        stop.clone(),
    )
    .await;
    assert!(first.ok && first.changed);
    for round in 1..=20 {
        let version = round.to_string();
        let early = reloader.reload();
        place.write("a.toml", schedule(&version));
        let many = futures_util::future::join_all((0..100).map(|_| reloader.reload()));
        let (early, many) = tokio::join!(early, many);
        early.unwrap();
        assert!(many.iter().all(Result::is_ok));
        assert_eq!(description(&reloader.current(), "a"), version);
    }
    let nothing = reloader.reload().await.unwrap();
    assert!(nothing.ok && !nothing.changed && nothing.diff.is_empty());
    stop.cancel();
    assert_eq!(reloader.reload().await.unwrap_err(), Stopping);
}

#[tokio::test]
async fn e2_a_reload_with_a_bad_file_says_so_and_applies_the_others() {
    let place = Place::new();
    for number in 0..99 {
        place.write(&format!("s{number}.toml"), schedule("one"));
    }
    place.write("a.toml", "nonsense");
    let stop = CancellationToken::new();
    let (reloader, first) = Reloader::start(
        vec![place.directory()],
        reading(),
        Arc::new(SystemClock),
        LookOn::BlockingThread,
        stop.clone(),
    )
    .await;
    assert!(!first.ok);
    assert_eq!((first.schedules, first.diff.added.len(), first.diff.invalid.len()), (99, 99, 1));
    assert_eq!(reloader.current().revision, first.revision);
    serde_json::to_string(&*first).unwrap();
    stop.cancel();
}
