//! Submissions that can be repeated without being done twice.

use sexton::store::Conn;
use sexton::store::StoreError;
use sexton::store::idempotency::{KEPT_FOR, Key, Outcome, submit_once};

use crate::harness::{Queue, at, job, on_both_backends};

on_both_backends![
    a_repeated_submission_makes_no_job_and_names_the_ones_that_it_made,
    a_key_that_was_used_for_something_else_is_refused,
    a_submission_that_fails_does_not_take_its_key,
    a_key_is_forgotten_after_a_day,
];

fn key(request: &str) -> Key {
    Key { key: "alice 1".to_owned(), request: request.to_owned() }
}

async fn once(queue: &Queue, second: i64, key: Key, count: usize) -> Outcome {
    let context = queue.context(second);
    let jobs = vec![job(); count];
    queue.write(move |conn| submit_once(conn, &key, &jobs, context)).await
}

async fn a_repeated_submission_makes_no_job_and_names_the_ones_that_it_made(queue: Queue) {
    let Outcome::Submitted(first) = once(&queue, 0, key("a"), 3).await else { panic!("the first") };
    let ids: Vec<_> = first.iter().map(|job| job.id).collect();
    assert_eq!(once(&queue, 1, key("a"), 3).await, Outcome::Repeated { jobs: ids, at: at(0) });
    assert_eq!(queue.claim(2, 10).await.len(), 3);
}

async fn a_key_that_was_used_for_something_else_is_refused(queue: Queue) {
    once(&queue, 0, key("a"), 1).await;
    assert_eq!(once(&queue, 1, key("b"), 1).await, Outcome::Other);
    assert_eq!(queue.claim(2, 10).await.len(), 1);
}

async fn a_submission_that_fails_does_not_take_its_key(queue: Queue) {
    let context = queue.context(0);
    let refused = queue
        .store
        .write(move |conn: &mut Conn| {
            submit_once(conn, &key("a"), &[job()], context)?;
            Err::<(), _>(StoreError::Conflict("no".to_owned()))
        })
        .await;
    assert!(refused.is_err());
    assert!(matches!(once(&queue, 1, key("b"), 1).await, Outcome::Submitted(_)));
}

async fn a_key_is_forgotten_after_a_day(queue: Queue) {
    let day = i64::try_from(KEPT_FOR.as_secs()).unwrap();
    once(&queue, 0, key("a"), 1).await;
    assert!(matches!(once(&queue, day - 1, key("a"), 1).await, Outcome::Repeated { .. }));
    assert!(matches!(once(&queue, day, key("b"), 1).await, Outcome::Submitted(_)));
}
