//! How operations travel to the database: groups of writes, snapshots, locks, refusals.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use sexton::model::{Dependency, DependencyNeeds, JobId, JobState, JsonText, NewJob, UniqueKey};
use sexton::store::jobs::Submitted;
use sexton::store::schema::{jobs, meta};
use sexton::store::{Condition, DatabaseUrl, Fault, Store, StoreError, nodes};

use crate::harness::{Queue, TestDatabase, depending, job, on_both_backends};

on_both_backends![
    a_failing_write_takes_back_only_itself,
    a_write_that_the_database_refuses_takes_back_only_itself,
    a_panicking_write_does_not_take_the_writer_down,
    a_panicking_write_takes_back_only_itself,
    writes_of_a_group_follow_each_other_also_when_one_fails,
    submissions_that_wait_together_are_each_told_of_their_own_jobs,
    a_refused_submission_does_not_hinder_those_that_are_written_with_it,
    a_panicking_read_does_not_take_the_reader_down,
    a_read_sees_one_snapshot,
    a_read_cannot_write,
    commits_are_announced,
    a_read_only_handle_reads_and_refuses_to_write,
    a_setting_of_the_database_is_made_once,
];

async fn count(queue: &Queue) -> i64 {
    queue.read(count_on).await
}

/// The rows that tests have written; the schema brings one of its own.
fn count_on(conn: &mut sexton::store::Conn) -> Result<i64, StoreError> {
    let of_tests = meta::table.filter(meta::key.ne("oldest_usable_schema"));
    Ok(of_tests.count().get_result(conn)?)
}

fn insert(conn: &mut sexton::store::Conn, key: &str) -> Result<(), StoreError> {
    let row = (meta::key.eq(key), meta::value.eq(""));
    diesel::insert_into(meta::table).values(row).execute(conn)?;
    Ok(())
}

/// Holds the writer up, so that what is sent meanwhile becomes one group.
async fn hold_up(store: &Store) -> mpsc::Sender<()> {
    let (release, released) = mpsc::channel::<()>();
    let (entered, is_in) = tokio::sync::oneshot::channel();
    let store = store.clone();
    tokio::spawn(async move {
        let mut entered = Some(entered);
        let hold = move |_: &mut sexton::store::Conn| {
            if let Some(entered) = entered.take() {
                entered.send(()).expect("the test waits for it");
            }
            // Ends when the test lets go of its end.
            let _let_go = released.recv();
            Ok(())
        };
        store.write(hold).await.expect("holding up is not an error");
    });
    is_in.await.expect("the writer holds still");
    release
}

async fn a_failing_write_takes_back_only_itself(queue: Queue) {
    let release = hold_up(&queue.store).await;
    let tasks: Vec<_> = (0..100)
        .map(|index| {
            let store = queue.store.clone();
            tokio::spawn(async move {
                let write = move |conn: &mut sexton::store::Conn| {
                    insert(conn, &format!("key {index}"))?;
                    if index % 3 == 0 {
                        return Err(StoreError::Conflict("on purpose".to_owned()));
                    }
                    Ok(())
                };
                store.write(write).await
            })
        })
        .collect();
    drop(release);
    let mut failed = 0;
    for task in tasks {
        match task.await.expect("no panic") {
            Ok(()) => {}
            Err(StoreError::Conflict(why)) => {
                assert_eq!(why, "on purpose");
                failed += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(failed, 34);
    assert_eq!(count(&queue).await, 66);
}

async fn a_write_that_the_database_refuses_takes_back_only_itself(queue: Queue) {
    queue.write(|conn| insert(conn, "taken")).await;
    let release = hold_up(&queue.store).await;
    let (good, bad) = (queue.store.clone(), queue.store.clone());
    let bad = tokio::spawn(async move {
        bad.write(|conn| {
            insert(conn, "before it")?;
            insert(conn, "taken")
        })
        .await
    });
    let good = tokio::spawn(async move { good.write(|conn| insert(conn, "good")).await });
    drop(release);
    assert!(matches!(bad.await.unwrap(), Err(StoreError::Database(_))));
    good.await.unwrap().expect("the other write is kept");
    assert_eq!(count(&queue).await, 2);
}

async fn a_panicking_write_does_not_take_the_writer_down(queue: Queue) {
    let panicked = queue.store.write(|conn| -> Result<(), StoreError> {
        insert(conn, "half done")?;
        panic!("on purpose");
    });
    assert!(matches!(panicked.await, Err(StoreError::NotCommitted(_))));
    let id = queue.submit(0, job()).await;
    assert_eq!(queue.state(id).await, JobState::Pending);
    assert_eq!(count(&queue).await, 0, "nothing of it was kept");
}

async fn a_panicking_write_takes_back_only_itself(queue: Queue) {
    let release = hold_up(&queue.store).await;
    // Two panic right away, and two only after another write has failed and the group is run a second time.
    let mut tasks = Vec::new();
    for index in 0..20 {
        let store = queue.store.clone();
        let mut runs = 0;
        tasks.push(tokio::spawn(async move {
            let write = move |conn: &mut sexton::store::Conn| -> Result<(), StoreError> {
                runs += 1;
                insert(conn, &format!("key {index}"))?;
                match index {
                    3 | 9 => panic!("on purpose"),
                    12 => Err(StoreError::Conflict("on purpose".to_owned())),
                    1 | 2 if runs > 1 => panic!("on purpose, the second time"),
                    _ => Ok(()),
                }
            };
            store.write(write).await
        }));
        tokio::task::yield_now().await;
    }
    drop(release);
    let mut kept = 0;
    for task in tasks {
        kept += i64::from(task.await.expect("the task itself does not panic").is_ok());
    }
    assert_eq!(count(&queue).await, kept, "what was acknowledged is there, and nothing else");
    assert!((15..=17).contains(&kept), "{kept}");
}

async fn writes_of_a_group_follow_each_other_also_when_one_fails(queue: Queue) {
    let release = hold_up(&queue.store).await;
    let (first, refused, second) = (queue.store.clone(), queue.store.clone(), queue.store.clone());
    let first = async move { first.write(|conn| insert(conn, "first")).await };
    let refused = async move { refused.write(|conn| insert(conn, "first")).await };
    let second = async move { second.write(count_on).await };
    let group = tokio::spawn(futures_util::future::join3(first, refused, second));
    tokio::task::yield_now().await;
    drop(release);
    let (first, refused, second) = group.await.unwrap();
    first.expect("it is kept");
    assert!(matches!(refused, Err(StoreError::Database(_))));
    assert_eq!(second.expect("it is kept"), 1, "it sees what came before it, and only that");
}

/// Hands all of these in while the writer is held up, so that they are written together.
async fn submit_together(
    queue: &Queue,
    calls: Vec<Vec<NewJob>>,
) -> Vec<Result<Vec<Submitted>, StoreError>> {
    let release = hold_up(&queue.store).await;
    let context = queue.context(0);
    let submit = |jobs| queue.store.submit(Arc::new(jobs), context);
    // Each has handed in its jobs when it is asked for the first time, and the release comes after all of them.
    let all = futures_util::future::join_all(calls.into_iter().map(submit));
    let (answers, ()) = tokio::join!(all, async { drop(release) });
    answers
}

fn marked(call: usize, place: usize) -> NewJob {
    let params = JsonText::from(&serde_json::json!({ "call": call, "place": place }));
    NewJob { params, ..job() }
}

async fn submissions_that_wait_together_are_each_told_of_their_own_jobs(queue: Queue) {
    let call = |index: usize| (0..=index % 3).map(|place| marked(index, place)).collect();
    let answers = submit_together(&queue, (0..50).map(call).collect()).await;
    let mut all = Vec::new();
    for (index, answer) in answers.into_iter().enumerate() {
        let submitted = answer.expect("it is accepted");
        assert_eq!(submitted.len(), index % 3 + 1);
        for (place, done) in submitted.iter().enumerate() {
            assert_eq!(done.state, Some(JobState::Pending));
            let stored = queue.job(done.id).await;
            assert_eq!(stored.params, serde_json::json!({ "call": index, "place": place }));
            // The rows of a call carry the number of its first one.
            let id = done.id.0;
            let row = jobs::table.find(id).select(jobs::submission);
            let first: i64 = queue.read(move |conn| Ok(row.first(conn)?)).await;
            assert_eq!(first, if place == 0 { 0 } else { submitted[0].id.0 });
            all.push(id);
        }
    }
    assert!(all.is_sorted(), "{all:?}");
    assert_eq!(queue.claim(0, 200).await.len(), all.len());
}

async fn a_refused_submission_does_not_hinder_those_that_are_written_with_it(queue: Queue) {
    let on = Dependency { on: JobId(999), needs: DependencyNeeds::Success };
    let lost = || depending([on], job());
    let key =
        || NewJob { unique: Some(UniqueKey { key: "one".to_owned(), period: None }), ..job() };
    let calls = vec![
        vec![marked(0, 0)],
        vec![marked(1, 0), lost()],
        vec![key(), marked(2, 1)],
        vec![key()],
        vec![lost()],
        vec![marked(5, 0)],
    ];
    let answers = submit_together(&queue, calls).await;
    let accepted: Vec<bool> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(accepted, [true, false, true, true, false, true]);
    for refused in [&answers[1], &answers[4]] {
        let why = refused.as_ref().unwrap_err();
        assert!(matches!(why, StoreError::NotFound(_)), "{why:?}");
    }
    let (holder, taken) = (&answers[2].as_ref().unwrap()[0], &answers[3].as_ref().unwrap()[0]);
    assert_eq!((taken.id, taken.state), (holder.id, None));
    assert_eq!(queue.claim(0, 10).await.len(), 4, "nothing of a refused call is there");
}

async fn a_panicking_read_does_not_take_the_reader_down(queue: Queue) {
    // More often than there are readers.
    for _ in 0..8 {
        let panicked = queue.store.read(|_| -> Result<(), StoreError> { panic!("on purpose") });
        assert!(panicked.await.is_err());
    }
    assert_eq!(count(&queue).await, 0);
}

async fn a_read_sees_one_snapshot(queue: Queue) {
    let store = queue.store.clone();
    let (first_read, is_read) = tokio::sync::oneshot::channel();
    let (written, is_written) = mpsc::channel::<()>();
    let reader = tokio::spawn(async move {
        let read = move |conn: &mut sexton::store::Conn| {
            let before: i64 = count_on(conn)?;
            first_read.send(()).expect("the test waits for it");
            is_written.recv().expect("the test has written");
            let after: i64 = count_on(conn)?;
            Ok((before, after))
        };
        store.read(read).await.expect("the read succeeds")
    });
    is_read.await.unwrap();
    queue.write(|conn| insert(conn, "meanwhile")).await;
    written.send(()).unwrap();
    assert_eq!(reader.await.unwrap(), (0, 0));
    assert_eq!(count(&queue).await, 1);
}

async fn a_read_cannot_write(queue: Queue) {
    let refused = queue.store.read(|conn| insert(conn, "sneaked in")).await.unwrap_err();
    assert!(matches!(refused, StoreError::Fault(Fault::NotWritable(_))), "{refused:?}");
    assert_eq!(*queue.store.condition().borrow(), Condition::Sound, "it is nobody else's trouble");
    assert_eq!(count(&queue).await, 0);
}

async fn commits_are_announced(queue: Queue) {
    let mut commits = queue.store.commits();
    commits.borrow_and_update();
    queue.submit(0, job()).await;
    tokio::time::timeout(Duration::from_secs(10), commits.changed())
        .await
        .expect("the commit is announced")
        .expect("the store lives");
}

async fn a_read_only_handle_reads_and_refuses_to_write(queue: Queue) {
    let id = queue.submit(0, job()).await;
    let reader = Store::open_read_only(queue.database.url()).expect("it opens");
    assert!(reader.is_read_only() && !queue.store.is_read_only());
    let seen = reader.read(move |conn| sexton::store::history::job(conn, id)).await.unwrap();
    assert_eq!(seen.map(|job| job.id), Some(id));
    let refused = reader.write(|conn| insert(conn, "key")).await.unwrap_err();
    assert!(matches!(refused, StoreError::Closed));
}

async fn a_setting_of_the_database_is_made_once(queue: Queue) {
    let first = queue.write(|conn| nodes::meta_or_insert(conn, "seed", "one")).await;
    let second = queue.write(|conn| nodes::meta_or_insert(conn, "seed", "two")).await;
    assert_eq!((first.as_str(), second.as_str()), ("one", "one"));
}

#[test]
fn opening_a_missing_file_for_reading_is_an_error_and_makes_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nothing.db");
    let error = Store::open_read_only(&DatabaseUrl::Sqlite(path.clone())).unwrap_err();
    assert!(error.to_string().contains("nothing.db"), "{error}");
    assert!(!path.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_survives_the_loss_of_the_handle_that_made_it() {
    let database = TestDatabase::sqlite();
    let store = database.open();
    let clone = store.clone();
    store.write(|conn| insert(conn, "kept")).await.unwrap();
    store.close();
    let count: i64 = clone.read(count_on).await.unwrap();
    assert_eq!(count, 1, "a clone goes on working");
    clone.close();
}

/// Takes the write lock of an SQLite file as another program would, until told to let go.
fn lock(database: &TestDatabase) -> (mpsc::Sender<()>, std::thread::JoinHandle<()>) {
    let DatabaseUrl::Sqlite(path) = database.url() else { unreachable!("only for SQLite") };
    let path = path.to_string_lossy().into_owned();
    let (locked, is_locked) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let holder = std::thread::spawn(move || {
        let mut conn = SqliteConnection::establish(&path).expect("a connection");
        conn.batch_execute("BEGIN IMMEDIATE").expect("the lock");
        locked.send(()).expect("the test waits for it");
        let _let_go = released.recv();
        conn.batch_execute("COMMIT").expect("the end of the lock");
    });
    is_locked.recv().expect("the lock is held");
    (release, holder)
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_a_write_waits_for_another_programs_lock_while_reads_go_on() {
    let queue = Queue::open(TestDatabase::sqlite()).await;
    let (release, holder) = lock(&queue.database);
    let store = queue.store.clone();
    let write = tokio::spawn(async move { store.write(|conn| insert(conn, "patient")).await });
    assert_eq!(count(&queue).await, 0);
    assert!(!write.is_finished());
    drop(release);
    write.await.unwrap().expect("the write succeeds once the lock is gone");
    holder.join().unwrap();
    assert_eq!(count(&queue).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_what_waits_behind_a_lock_is_written_in_the_order_of_arrival() {
    let queue = Arc::new(Queue::open(TestDatabase::sqlite()).await);
    let (release, holder) = lock(&queue.database);
    let mut tasks = Vec::new();
    for _ in 0..20 {
        let queue = Arc::clone(&queue);
        tasks.push(tokio::spawn(async move { queue.submit(0, job()).await }));
        tokio::task::yield_now().await;
    }
    drop(release);
    let mut ids = Vec::new();
    for task in tasks {
        ids.push(task.await.unwrap());
    }
    holder.join().unwrap();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 20);
}

/// When the disk is full, SQLite rolls back the whole transaction. What runs after that in the same group would be committed at the end
/// of its savepoint, and its caller would hear that it was not.
#[test]
fn b1_nothing_of_a_group_is_kept_in_which_a_write_found_the_disk_full() {
    crate::harness::on_sqlite(|queue| async move {
        let store = &queue.store;
        let release = hold_up(store).await;
        let before = store.write(|conn| insert(conn, "before it"));
        let full = store.write(|conn| {
            conn.batch_execute("PRAGMA max_page_count = 1")?;
            let large = "INSERT INTO meta VALUES ('large', hex(zeroblob(4000000)))";
            Ok(conn.batch_execute(large)?)
        });
        let after = store.write(|conn| insert(conn, "after it"));
        // In this order: each is sent when it is polled for the first time.
        let (before, full, after, ()) = tokio::join!(before, full, after, async { drop(release) });
        let not_writable = |done: &Result<(), StoreError>| {
            matches!(done, Err(StoreError::Fault(Fault::NotWritable(_))))
        };
        for (which, done) in [("before", before), ("full", full), ("after", after)] {
            assert!(not_writable(&done), "{which}: {done:?}");
        }
        assert_eq!(count(&queue).await, 0, "who was told no finds nothing");
        assert!(matches!(*store.condition().borrow(), Condition::NotWritable(_)));
        store.write(|conn| insert(conn, "again")).await.expect("there is room again");
        assert_eq!((count(&queue).await, &*store.condition().borrow()), (1, &Condition::Sound));
    });
}

#[test]
fn b4_after_a_failed_write_nothing_is_written_any_more() {
    crate::harness::on_sqlite(|queue| async move {
        let store = &queue.store;
        queue.database.execute(
            "CREATE TRIGGER broken BEFORE INSERT ON queues BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END",
        );
        let break_it = |conn: &mut sexton::store::Conn| {
            Ok(conn.batch_execute("INSERT INTO queues (name) VALUES ('any')")?)
        };
        let failed = store.write(break_it).await;
        assert!(matches!(failed, Err(StoreError::Fault(Fault::Disk(_)))), "{failed:?}");
        assert!(matches!(*store.condition().borrow(), Condition::Lost(_)));
        let refused = store.write(|conn| insert(conn, "later")).await;
        assert!(matches!(refused, Err(StoreError::Lost(_))), "{refused:?}");
        assert_eq!(count(&queue).await, 0);
    });
}
