//! Taking jobs out of the queue.

use std::collections::BTreeSet;
use std::num::NonZeroU16;
use std::sync::Arc;

use sexton::model::{
    Actor, AfterAttempt, Concurrency, FinalState, HumanDuration, JobId, JobSettings, JobState,
    NewJob, NodeIdentity, Outcome, Priority, QueueSettings,
};
use sexton::queue::Limits;
use sexton::store::claim::{ClaimRequest, claim};
use sexton::store::limits::SetLimit;
use sexton::store::nodes::{self, NewNode};
use sexton::store::{Store, batches, limits, queues};
use tokio::sync::Barrier;

use crate::harness::{Queue, at, ended, job, on_both_backends, retried, soon, succeeded};

on_both_backends![
    the_total_timeout_counts_from_the_first_start_and_anew_after_a_retry_by_hand,
    jobs_start_by_priority_and_in_order_of_arrival_within_one,
    a_waiting_job_goes_before_a_higher_level_that_came_an_hour_a_level_later,
    a_claim_takes_no_more_than_there_is_room_for,
    a_queues_own_limit_holds,
    a_full_queue_does_not_hold_up_the_others,
    nothing_is_claimed_from_a_paused_queue,
    a_future_job_is_not_claimed_before_it_is_promoted,
    two_nodes_never_get_the_same_job,
    no_more_of_a_kind_run_than_its_limit_says_and_others_go_on,
    no_more_of_a_key_run_on_two_nodes_than_its_limit_says,
    what_an_operator_sets_counts_before_what_is_declared,
    workers_that_are_reserved_take_only_urgent_jobs,
    a_job_under_a_limit_can_be_cancelled_retried_and_redriven,
    a_job_that_cannot_be_read_fails_and_does_not_hold_up_the_others,
    a_job_for_certain_nodes_is_claimed_by_those_alone,
    a_job_for_every_node_is_a_batch_with_an_item_for_each_that_takes_work,
];

fn with_priority(level: i64) -> NewJob {
    NewJob { priority: Priority::new(level).unwrap(), ..job() }
}

fn in_queue(name: &str) -> NewJob {
    NewJob { queue: name.to_owned(), ..job() }
}

async fn claimed_ids(queue: &Queue, second: i64, slots: usize) -> Vec<JobId> {
    queue.claim(second, slots).await.into_iter().map(|claimed| claimed.id).collect()
}

async fn jobs_start_by_priority_and_in_order_of_arrival_within_one(queue: Queue) {
    let levels = [5, 2, 10, 5, 8, 10];
    let ids = queue.submit_all(0, levels.map(with_priority).to_vec()).await;
    let expected = [2, 5, 4, 0, 3, 1].map(|index| ids[index]);
    assert_eq!(claimed_ids(&queue, 1, 4).await, expected[..4]);
    assert_eq!(claimed_ids(&queue, 1, 4).await, expected[4..]);
}

async fn a_waiting_job_goes_before_a_higher_level_that_came_an_hour_a_level_later(queue: Queue) {
    let new = |level, second| NewJob { run_at: at(second), ..with_priority(level) };
    let old = queue.submit(0, new(5, 0)).await;
    let just_in_time = queue.submit(3599, new(6, 3599)).await;
    let too_late = queue.submit(3601, new(6, 3601)).await;
    assert_eq!(claimed_ids(&queue, 3601, 3).await, [just_in_time, old, too_late]);
}

async fn a_claim_takes_no_more_than_there_is_room_for(queue: Queue) {
    queue.submit_all(0, vec![job(), in_queue("a"), in_queue("b")]).await;
    assert_eq!(queue.claim(0, 0).await.len(), 0);
    assert_eq!(queue.claim(0, 2).await.len(), 2);
    assert_eq!(queue.claim(0, 2).await.len(), 1);
}

async fn a_queues_own_limit_holds(queue: Queue) {
    queue.submit_all(0, vec![in_queue("narrow"), in_queue("narrow"), in_queue("wide")]).await;
    let request = ClaimRequest { limits: workers("narrow", 1), ..queue.request(0, 10) };
    let claimed = queue.claim_with(request.clone()).await;
    let names: Vec<&str> = claimed.iter().map(|job| job.queue.as_str()).collect();
    assert_eq!(names, ["narrow", "wide"]);
    assert!(queue.claim_with(request.clone()).await.is_empty());
    let (_, other) = queue.another_node().await;
    let elsewhere = ClaimRequest { node: other, ..request };
    assert_eq!(queue.claim_with(elsewhere).await.len(), 1, "each node has workers of its own");
}

fn workers(queue: &str, count: u16) -> Limits {
    let mut limits = Limits::default();
    let settings = QueueSettings { workers: NonZeroU16::new(count), ..QueueSettings::default() };
    limits.set_queue(queue, settings);
    limits
}

fn of_limited_kind() -> NewJob {
    let settings = JobSettings { limited_kind: true, ..JobSettings::default() };
    NewJob { settings, ..job() }
}

fn with_key(key: &str, max: u32) -> NewJob {
    let concurrency = Some(Concurrency { key: key.to_owned(), max });
    NewJob { settings: JobSettings { concurrency, ..JobSettings::default() }, ..job() }
}

fn at_most(name: &str, max: u32) -> Limits {
    let mut limits = Limits::default();
    limits.set_max(name, max);
    limits
}

async fn no_more_of_a_kind_run_than_its_limit_says_and_others_go_on(queue: Queue) {
    let ids = queue.submit_all(0, vec![of_limited_kind(); 4]).await;
    let plain = queue.submit(1, job()).await;
    let request = ClaimRequest { limits: at_most("kind:noop", 2), ..queue.request(1, 10) };
    let first = queue.claim_with(request.clone()).await;
    let claimed: Vec<JobId> = first.iter().map(|job| job.id).collect();
    assert_eq!(claimed, [ids[0], ids[1], plain], "in order, and past those that must wait");
    assert!(queue.claim_with(request.clone()).await.is_empty());
    queue.finish(succeeded(&first[0], 2)).await;
    let next = queue.claim_with(request).await;
    assert_eq!(next.iter().map(|job| job.id).collect::<Vec<_>>(), [ids[2]]);
    assert_eq!(queue.state(ids[3]).await, JobState::Pending);
}

async fn no_more_of_a_key_run_on_two_nodes_than_its_limit_says(queue: Queue) {
    let (other, node) = queue.another_node().await;
    queue.submit_all(0, vec![with_key("host", 3); 40]).await;
    let mut running = 0;
    for round in 1..6 {
        let mine = queue.request(round, 2);
        let theirs = ClaimRequest { node, ..mine.clone() };
        let (ours, others) = tokio::join!(
            queue.store.write(move |conn| claim(conn, &mine)),
            other.write(move |conn| claim(conn, &theirs)),
        );
        running += ours.unwrap().jobs.len() + others.unwrap().jobs.len();
        assert!(running <= 3, "round {round}: {running}");
    }
    assert_eq!(running, 3, "and none is left unused");
}

async fn what_an_operator_sets_counts_before_what_is_declared(queue: Queue) {
    queue.submit_all(0, vec![with_key("host", 1); 5]).await;
    queue.submit_all(0, vec![in_queue("narrow"); 5]).await;
    let set = |name: &'static str, max| {
        queue.write(move |conn| {
            limits::set(
                conn,
                name,
                SetLimit { max: Some(max), ..SetLimit::default() },
                &Actor::named("test"),
                at(0),
            )
        })
    };
    set("key:host", 3).await;
    set("queue:narrow", 1).await;
    set("queue:default", 2).await;
    assert_eq!(queue.claim(1, 20).await.len(), 3, "two of one queue, one of the other");
    queue.write(|conn| limits::unset(conn, "queue:default")).await;
    assert_eq!(queue.claim(2, 20).await.len(), 1, "the key's own limit still holds");
    set("queue:narrow", 0).await;
    queue.write(|conn| limits::unset(conn, "key:host")).await;
    assert!(queue.claim(3, 20).await.is_empty());
}

async fn workers_that_are_reserved_take_only_urgent_jobs(queue: Queue) {
    let normal = queue.submit_all(0, vec![job(); 3]).await;
    let urgent = queue.submit_all(1, vec![with_priority(8); 3]).await;
    let request = ClaimRequest { normal_slots: 1, ..queue.request(1, 3) };
    let claimed = queue.claim_with(request).await;
    let claimed: Vec<JobId> = claimed.iter().map(|job| job.id).collect();
    assert_eq!(claimed, urgent, "by rank as long as nothing is reserved");
    let request = ClaimRequest { normal_slots: 1, ..queue.request(2, 3) };
    let claimed = queue.claim_with(request).await;
    assert_eq!(claimed.iter().map(|job| job.id).collect::<Vec<_>>(), normal[..1]);
}

async fn a_job_under_a_limit_can_be_cancelled_retried_and_redriven(queue: Queue) {
    let urgent = NewJob { priority: Priority::CRITICAL, ..with_key("a/b:c", 1) };
    let [first, second] = queue.submit_all(0, vec![urgent.clone(), urgent]).await[..] else {
        panic!("two jobs")
    };
    let claimed = queue.claim_one(1).await;
    assert_eq!(claimed.id, first);
    queue.cancel(2, second).await;
    assert_eq!(queue.state(second).await, JobState::Cancelled);
    queue.finish(retried(&claimed, 3, 4)).await;
    queue.promote(4).await;
    queue.redrive(4, second).await;
    let again = queue.claim_one(5).await;
    assert_eq!(again.id, first, "one at a time, the first one first");
    queue.finish(ended(&again, 6, Outcome::Interrupted, AfterAttempt::GiveBack)).await;
    let again = queue.claim_one(7).await;
    queue.finish(succeeded(&again, 8)).await;
    assert_eq!(queue.claim_one(9).await.id, second);
}

async fn a_full_queue_does_not_hold_up_the_others(queue: Queue) {
    let urgent = NewJob { priority: Priority::CRITICAL, ..in_queue("full") };
    queue.submit_all(0, vec![urgent; 20]).await;
    let request = ClaimRequest { limits: workers("full", 1), ..queue.request(0, 4) };
    assert_eq!(queue.claim_with(request.clone()).await.len(), 1);
    let other = queue.submit(0, in_queue("other")).await;
    let claimed = queue.claim_with(request).await;
    assert_eq!(claimed.iter().map(|job| job.id).collect::<Vec<_>>(), [other]);
}

async fn nothing_is_claimed_from_a_paused_queue(queue: Queue) {
    let ids = queue.submit_all(0, vec![in_queue("a"), in_queue("b")]).await;
    let by = Actor::named("operator");
    queue.write(move |conn| queues::pause(conn, "a", &by, "broken disk", at(1))).await;
    assert_eq!(claimed_ids(&queue, 2, 10).await, [ids[1]]);
    let states = queue.read(queues::list).await;
    let paused = states[0].paused.clone().expect("it is shown as paused");
    assert_eq!((states[0].name.as_str(), states[0].ready), ("a", 1));
    assert_eq!((paused.since, &*paused.by, &*paused.reason), (at(1), "operator", "broken disk"));

    assert!(queue.write(|conn| queues::resume(conn, "a")).await);
    assert!(!queue.write(|conn| queues::resume(conn, "a")).await, "it was not paused any more");
    assert_eq!(claimed_ids(&queue, 3, 10).await, [ids[0]]);
}

async fn a_future_job_is_not_claimed_before_it_is_promoted(queue: Queue) {
    let id = queue.submit(0, soon(60)).await;
    assert_eq!(queue.state(id).await, JobState::Pending);
    let next = queue.read(sexton::store::jobs::next_scheduled).await;
    assert_eq!(next, Some(at(60)));
    assert_eq!(queue.promote(59).await, 0);
    assert!(queue.claim(59, 10).await.is_empty());
    assert_eq!(queue.promote(60).await, 1);
    assert_eq!(claimed_ids(&queue, 60, 10).await, [id]);
    assert_eq!(queue.read(sexton::store::jobs::next_scheduled).await, None);
}

async fn two_nodes_never_get_the_same_job(queue: Queue) {
    const JOBS: usize = 200;
    let ids = queue.submit_all(0, vec![job(); JOBS]).await;
    let (other_store, other_node) = queue.another_node().await;
    let barrier = Arc::new(Barrier::new(4));
    let claimers = [
        (queue.store.clone(), queue.node),
        (other_store.clone(), other_node),
        (queue.store.clone(), queue.node),
        (other_store, other_node),
    ];
    let tasks = claimers.map(|(store, node)| {
        tokio::spawn(claim_until_empty(
            store,
            ClaimRequest { node, ..queue.request(0, 7) },
            Arc::clone(&barrier),
        ))
    });
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.expect("the claimer does not panic"));
    }
    assert_eq!(all.len(), JOBS, "nothing is left and nothing is doubled");
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>(), ids.into_iter().collect());
}

async fn claim_until_empty(
    store: Store,
    request: ClaimRequest,
    barrier: Arc<Barrier>,
) -> Vec<JobId> {
    let mut mine = Vec::new();
    barrier.wait().await;
    loop {
        let request = request.clone();
        let claimed = store.write(move |conn| claim(conn, &request)).await.expect("a claim");
        let claimed = claimed.jobs;
        if claimed.is_empty() {
            return mine;
        }
        mine.extend(claimed.into_iter().map(|job| job.id));
    }
}

async fn a_job_that_cannot_be_read_fails_and_does_not_hold_up_the_others(queue: Queue) {
    let ids = queue.submit_all(0, vec![job(), job(), job()]).await;
    queue.database.execute(&format!("UPDATE jobs SET settings = '{{' WHERE id = {}", ids[1]));
    assert_eq!(claimed_ids(&queue, 1, 10).await, [ids[0], ids[2]]);
    let attempts = queue.attempts(ids[1]).await;
    assert_eq!(attempts[0].outcome, Outcome::Error.as_str());
    let error = attempts[0].error.clone().expect("it says why");
    assert!(error.contains("job's settings that cannot be read"), "{error}");
    let counts = queue.read(sexton::store::history::counts).await;
    assert!(counts.contains(&(JobState::Failed, 1)), "{counts:?}");
    assert!(counts.contains(&(JobState::Running, 2)), "{counts:?}");
}

fn only(node: &str) -> NewJob {
    let node = Some(node.parse().unwrap());
    NewJob { settings: JobSettings { node, ..JobSettings::default() }, ..job() }
}

/// Nodes of the tests are called `host`, with the label `ssd`.
async fn a_job_for_certain_nodes_is_claimed_by_those_alone(queue: Queue) {
    let new = ["elsewhere", "label:gpu", "host", "label:ssd"].map(only).to_vec();
    let ids = queue.submit_all(0, new).await;
    assert_eq!(claimed_ids(&queue, 1, 10).await, ids[2..]);
    let identity = NodeIdentity { name: "elsewhere".to_owned(), labels: vec!["gpu".to_owned()] };
    let elsewhere = ClaimRequest { identity, ..queue.request(1, 10) };
    let claimed = queue.claim_with(elsewhere).await;
    assert_eq!(claimed.into_iter().map(|job| job.id).collect::<Vec<_>>(), ids[..2]);
    // One that waits for a node can be cancelled, and is given back to where it waited.
    let id = queue.submit(2, only("elsewhere")).await;
    assert_eq!(queue.cancel(2, id).await, sexton::store::removal::Cancelled::Done);
}

async fn a_job_for_every_node_is_a_batch_with_an_item_for_each_that_takes_work(queue: Queue) {
    let named = |name: &str| NewNode {
        identity: NodeIdentity { name: name.to_owned(), labels: Vec::new() },
        instance: name.to_owned(),
    };
    let (a, b, gone, drained) = (named("a"), named("b"), named("gone"), named("drained"));
    queue
        .write(move |conn| {
            for node in [&a, &b] {
                nodes::register(conn, node, at(0), at(60))?;
            }
            nodes::register(conn, &gone, at(0), at(5))?;
            let drained = nodes::register(conn, &drained, at(0), at(60))?;
            nodes::set_draining(conn, drained, Some(&Actor::named("test")), at(1))?;
            Ok(())
        })
        .await;
    let batch = queue.submit(10, NewJob { on_every_node: true, ..job() }).await;
    let items = queue.read(move |conn| batches::items(conn, batch, None, None, 100)).await;
    let names: Vec<&str> = items.iter().map(|item| item.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "host"]);
    let own = queue.claim_one(11).await;
    assert_eq!(own.settings.item.as_deref(), Some("host"));
    queue.finish(succeeded(&own, 11)).await;
    for name in ["a", "b"] {
        let identity = NodeIdentity { name: name.to_owned(), labels: Vec::new() };
        let request = ClaimRequest { identity, ..queue.request(12, 10) };
        let claimed = queue.claim_with(request).await;
        assert_eq!(claimed.len(), 1, "its own and no other");
        queue.finish(succeeded(&claimed[0], 12)).await;
    }
    assert_eq!(queue.state(batch).await, JobState::Completed);
}

async fn the_total_timeout_counts_from_the_first_start_and_anew_after_a_retry_by_hand(
    queue: Queue,
) {
    let settings =
        JobSettings { total_timeout: Some(HumanDuration::from_secs(60)), ..JobSettings::default() };
    let id = queue.submit(0, NewJob { settings, ..job() }).await;
    for life in [10, 100] {
        let first = queue.claim_one(life).await;
        assert_eq!(first.first_started_at, None, "its worker knows when it begins");
        let later = AfterAttempt::SnoozeUntil(at(life + 2));
        queue.finish(ended(&first, life, Outcome::Skipped, later)).await;
        queue.promote(life + 2).await;
        let second = queue.claim_one(life + 2).await;
        assert_eq!(second.first_started_at, Some(at(life)));
        queue.finish(retried(&second, life + 3, life + 4)).await;
        queue.promote(life + 4).await;
        let third = queue.claim_one(life + 4).await;
        assert_eq!(third.first_started_at, Some(at(life)));
        let failed = AfterAttempt::End(FinalState::Failed);
        queue.finish(ended(&third, life + 5, Outcome::Failure, failed)).await;
        queue.redrive(life + 6, id).await;
    }
}
