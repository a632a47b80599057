//! When systemd's watchdog is fed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use super::*;
use crate::clock::SystemClock;
use crate::scheduler::Ticker;
use crate::store::testing;

/// As `WatchdogSec=` has it, only shorter.
const PERIOD: Duration = Duration::from_millis(200);

/// Far longer than it takes to be fed.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a8_the_watchdog_is_fed_only_while_both_the_tick_and_the_store_answer() {
    let recently = Duration::from_millis(500);
    assert!(is_alive(true, recently));
    assert!(!is_alive(false, recently), "the store hangs");
    assert!(!is_alive(true, TICK_OVERDUE), "the scheduler does not tick");
    assert!(!is_alive(false, TICK_OVERDUE));
}

/// Holds up every thread of the read lane until the sender is dropped.
fn hang_reads(store: &Store) -> mpsc::Sender<()> {
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Arc::new(std::sync::Mutex::new(released));
    for _ in 0..16 {
        let (store, released) = (store.clone(), std::sync::Arc::clone(&released));
        tokio::spawn(async move {
            let wait = move |_: &mut Conn| {
                let _over = released.lock().unwrap().recv();
                Ok(())
            };
            store.read(wait).await
        });
    }
    release
}

#[tokio::test(flavor = "multi_thread")]
async fn a8_a_store_that_hangs_starves_the_watchdog_and_a_slow_disk_does_not() {
    let database = testing::sqlite();
    let store = database.store().clone();
    let alarm = Alarm::new(std::sync::Arc::new(SystemClock));
    let ticker = Ticker::start(std::sync::Arc::clone(&alarm)).await.unwrap();
    let meals = std::sync::Arc::new(AtomicUsize::new(0));
    let stop = CancellationToken::new();
    let eaten = std::sync::Arc::clone(&meals);
    let feed = move || {
        eaten.fetch_add(1, Ordering::SeqCst);
    };
    let feeding = tokio::spawn(watchdog(PERIOD, alarm, store.clone(), stop.clone(), feed));
    let is_fed = async |times: usize| {
        let target = meals.load(Ordering::SeqCst) + times;
        let fed = async {
            while meals.load(Ordering::SeqCst) < target {
                tokio::time::sleep(PERIOD / 10).await;
            }
        };
        tokio::time::timeout(PATIENCE, fed).await.is_ok()
    };
    assert!(is_fed(3).await);

    // A write that takes long, as on a disk that does (B6), is not the store's end: reads answer.
    let (end_write, slow) = mpsc::channel::<()>();
    let writing = store.clone();
    let writing = tokio::spawn(async move {
        let wait = move |_: &mut Conn| {
            let _over = slow.recv();
            Ok(())
        };
        writing.write(wait).await
    });
    assert!(is_fed(3).await, "b6: a slow write must not starve the watchdog");
    drop(end_write);
    writing.await.unwrap().unwrap();

    let release = hang_reads(&store);
    // What was on its way may still arrive; then nothing comes any more.
    tokio::time::sleep(PERIOD * 2).await;
    let before = meals.load(Ordering::SeqCst);
    tokio::time::sleep(PERIOD * 5).await;
    assert_eq!(meals.load(Ordering::SeqCst), before, "it was fed although the store hangs");
    drop(release);
    assert!(is_fed(3).await, "it is fed again when the store answers again");
    stop.cancel();
    feeding.await.unwrap();
    ticker.stop().await;
}
