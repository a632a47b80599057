//! What keeps a job that is due from starting is told of that job, all of it.

use std::num::NonZeroU16;

use sexton::model::{Actor, Concurrency, JobId, JobSettings, NewJob, NodeId, QueueSettings};
use sexton::queue::{Full, Limits};
use sexton::store::claim::ClaimRequest;
use sexton::store::holds::{self, Hold};
use sexton::store::queues::Pause;
use sexton::store::{nodes, queues};

use crate::harness::{Queue, at, job, on_both_backends};

on_both_backends![
    a_job_that_waits_for_a_worker_alone_is_held_by_nothing,
    a_paused_queue_is_named_with_who_and_why,
    a_job_for_a_node_that_does_not_run_or_takes_nothing_names_it,
    where_every_node_drains_any_job_is_held,
    what_is_full_is_named_with_how_full_it_is,
    a_queues_workers_hold_a_job_only_where_they_are_busy_on_every_node,
    a_rate_tells_when_the_next_job_may_start,
];

fn with(settings: JobSettings) -> NewJob {
    NewJob { settings, ..job() }
}

fn with_key(key: &str, max: u32) -> NewJob {
    let concurrency = Some(Concurrency { key: key.to_owned(), max });
    with(JobSettings { concurrency, ..JobSettings::default() })
}

async fn holds(queue: &Queue, limits: &Limits, id: JobId) -> Vec<Hold> {
    let limits = limits.clone();
    queue.read(move |conn| holds::of_job(conn, &limits, id, at(9))).await
}

/// What a claim with many slots under `limits` leaves behind is what it is held by.
async fn claim_all(queue: &Queue, limits: &Limits) -> usize {
    queue.claim_with(ClaimRequest { limits: limits.clone(), ..queue.request(9, 100) }).await.len()
}

async fn drain(queue: &Queue, node: NodeId) {
    let by = Actor::named("test");
    assert!(queue.write(move |conn| nodes::set_draining(conn, node, Some(&by), at(1))).await);
}

async fn a_job_that_waits_for_a_worker_alone_is_held_by_nothing(queue: Queue) {
    let mut limits = Limits::default();
    limits.set_max("queue:default", 2);
    limits.set_rate("queue:default", "100/h burst 100".parse().unwrap());
    let [one, other] = [queue.submit(0, job()).await, queue.submit(0, with_key("a", 1)).await];
    assert_eq!(holds(&queue, &limits, one).await, []);
    assert_eq!(holds(&queue, &limits, other).await, []);
    assert_eq!(holds(&queue, &limits, JobId(4711)).await, [], "there is none");
    assert_eq!(claim_all(&queue, &limits).await, 2);
}

async fn a_paused_queue_is_named_with_who_and_why(queue: Queue) {
    let id = queue.submit(0, job()).await;
    let by = Actor::named("operator");
    queue.write(move |conn| queues::pause(conn, "default", &by, "broken disk", at(1))).await;
    let (by, reason) = ("operator".to_owned(), "broken disk".to_owned());
    let pause = Pause { since: at(1), by, reason };
    let expected = [Hold::Pause { queue: "default".to_owned(), pause }];
    assert_eq!(holds(&queue, &Limits::default(), id).await, expected);
    assert_eq!(claim_all(&queue, &Limits::default()).await, 0);
    assert!(queue.write(|conn| queues::resume(conn, "default")).await);
    assert_eq!(holds(&queue, &Limits::default(), id).await, []);
}

/// Nodes of the tests are called `host`, with the label `ssd`.
async fn a_job_for_a_node_that_does_not_run_or_takes_nothing_names_it(queue: Queue) {
    let none = Limits::default();
    let only = |node: &str| {
        with(JobSettings { node: Some(node.parse().unwrap()), ..JobSettings::default() })
    };
    let [here, ssd] =
        [queue.submit(0, only("host")).await, queue.submit(0, only("label:ssd")).await];
    let gpu = queue.submit(0, only("label:gpu")).await;
    assert_eq!(holds(&queue, &none, here).await, []);
    assert_eq!(holds(&queue, &none, ssd).await, []);
    let no_node = |node: &str| [Hold::NoNode(Some(node.parse().unwrap()))];
    assert_eq!(holds(&queue, &none, gpu).await, no_node("label:gpu"));
    drain(&queue, queue.node).await;
    assert_eq!(holds(&queue, &none, here).await, no_node("host"));
}

async fn where_every_node_drains_any_job_is_held(queue: Queue) {
    let id = queue.submit(0, job()).await;
    drain(&queue, queue.node).await;
    assert_eq!(holds(&queue, &Limits::default(), id).await, [Hold::NoNode(None)]);
    let _other = queue.another_node().await;
    assert_eq!(holds(&queue, &Limits::default(), id).await, []);
}

async fn what_is_full_is_named_with_how_full_it_is(queue: Queue) {
    let mut limits = Limits::default();
    let ids = queue.submit_all(0, vec![with_key("host", 1); 2]).await;
    assert_eq!(claim_all(&queue, &limits).await, 1);
    let full =
        |name: &str, max, running| Hold::Full(Full::Limit { name: name.to_owned(), max, running });
    assert_eq!(holds(&queue, &limits, ids[1]).await, [full("key:host", 1, 1)]);
    limits.set_max("queue:default", 0);
    let both = [full("queue:default", 0, 1), full("key:host", 1, 1)];
    assert_eq!(holds(&queue, &limits, ids[1]).await, both);
}

async fn a_queues_workers_hold_a_job_only_where_they_are_busy_on_every_node(queue: Queue) {
    let mut limits = Limits::default();
    let workers = NonZeroU16::new(1);
    limits.set_queue("default", QueueSettings { workers, ..QueueSettings::default() });
    let ids = queue.submit_all(0, vec![job(); 2]).await;
    assert_eq!(claim_all(&queue, &limits).await, 1);
    let busy = [Hold::Full(Full::Workers { queue: "default".to_owned(), max: 1 })];
    assert_eq!(holds(&queue, &limits, ids[1]).await, busy);
    let _other = queue.another_node().await;
    assert_eq!(holds(&queue, &limits, ids[1]).await, [], "the other node has a worker for it");
}

async fn a_rate_tells_when_the_next_job_may_start(queue: Queue) {
    let mut limits = Limits::default();
    limits.set_rate("queue:default", "1/h".parse().unwrap());
    let ids = queue.submit_all(0, vec![job(); 2]).await;
    assert_eq!(claim_all(&queue, &limits).await, 1);
    let held = holds(&queue, &limits, ids[1]).await;
    let [Hold::Full(Full::Rate { name, until })] = held.as_slice() else {
        panic!("it waits for the rate: {held:?}")
    };
    assert_eq!(name, "queue:default");
    // On PostgreSQL the rate goes by the database's clock, which has moved on a little since the claim.
    let wait = until.duration_since(at(9)).as_secs();
    assert!((3000..=3600).contains(&wait), "{wait} s");
}
