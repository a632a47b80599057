//! Claimed, and put back before it began: as if it had never been claimed.

use std::collections::BTreeSet;

use sexton::model::{
    AttemptName, Concurrency, Dependency, DependencyNeeds, JobId, JobSettings, JobState, NewJob,
    Priority,
};
use sexton::store::claim::{ClaimRequest, ClaimedJob};
use sexton::store::priorities::reprioritise;
use sexton::store::put_back::{put_back, put_back_unknown};

use crate::harness::{Queue, at, depending, job, on_both_backends, retried};

on_both_backends![
    what_is_put_back_is_where_it_was_with_the_number_that_it_had,
    a_retry_that_is_put_back_keeps_its_counts,
    a_changed_priority_stays_changed,
    one_that_was_cancelled_meanwhile_is_over_without_a_run,
    what_belongs_to_another_execution_or_node_stays_as_it_is,
    what_is_put_back_makes_room_under_its_limit,
    what_a_node_holds_and_does_not_know_of_is_put_back,
];

fn name(claimed: &ClaimedJob) -> AttemptName {
    AttemptName { job: claimed.id, number: claimed.number }
}

async fn put(queue: &Queue, unbegun: Vec<AttemptName>) {
    let node = queue.node;
    queue.write(move |conn| put_back(conn, node, &unbegun, at(50))).await;
}

fn ids(claimed: &[ClaimedJob]) -> Vec<JobId> {
    claimed.iter().map(|job| job.id).collect()
}

async fn what_is_put_back_is_where_it_was_with_the_number_that_it_had(queue: Queue) {
    let urgent = NewJob { priority: Priority::CRITICAL, ..job() };
    let submitted = queue.submit_all(0, vec![job(), urgent, job()]).await;
    let claimed = queue.claim(1, 2).await;
    assert_eq!(ids(&claimed), [submitted[1], submitted[0]]);
    put(&queue, claimed.iter().map(name).collect()).await;
    for id in ids(&claimed) {
        let job = queue.job(id).await;
        assert_eq!((job.state, job.attempt, job.started_at), (JobState::Pending, 0, None));
        assert!(queue.attempts(id).await.is_empty(), "nothing tells that it was claimed");
    }
    let again = queue.claim(60, 3).await;
    assert_eq!(ids(&again), [submitted[1], submitted[0], submitted[2]]);
    assert!(again.iter().all(|job| (job.number, job.charged) == (1, 0)));
}

async fn a_retry_that_is_put_back_keeps_its_counts(queue: Queue) {
    queue.submit(0, job()).await;
    let first = queue.claim_one(1).await;
    queue.finish(retried(&first, 2, 5)).await;
    queue.promote(5).await;
    let second = queue.claim_one(6).await;
    put(&queue, vec![name(&second)]).await;
    assert_eq!(queue.state(first.id).await, JobState::Pending);
    let again = queue.claim_one(60).await;
    assert_eq!((again.number, again.charged), (2, 1));
    assert_eq!(queue.attempts(first.id).await.len(), 1);
}

async fn a_changed_priority_stays_changed(queue: Queue) {
    let submitted = queue.submit_all(0, vec![job(), job()]).await;
    let late = submitted[1];
    let context = queue.context(0);
    queue.write(move |conn| reprioritise(conn, late, Priority::CRITICAL, context)).await;
    let claimed = queue.claim(1, 1).await;
    assert_eq!(ids(&claimed), [late]);
    put(&queue, vec![name(&claimed[0])]).await;
    assert_eq!(ids(&queue.claim(60, 2).await), [late, submitted[0]]);
}

async fn one_that_was_cancelled_meanwhile_is_over_without_a_run(queue: Queue) {
    let id = queue.submit(0, job()).await;
    let after = Dependency { on: id, needs: DependencyNeeds::Finished };
    let next = queue.submit(0, depending([after], job())).await;
    let claimed = queue.claim_one(1).await;
    queue.cancel(2, id).await;
    put(&queue, vec![name(&claimed)]).await;
    let job = queue.job(id).await;
    assert_eq!((job.state, job.attempt, job.finished_at), (JobState::Cancelled, 0, Some(at(50))));
    assert_eq!(job.error.as_deref(), Some("cancelled by test"));
    assert!(queue.attempts(id).await.is_empty());
    assert_eq!(queue.claim_one(60).await.id, next, "what waited for its end goes on");
}

async fn what_belongs_to_another_execution_or_node_stays_as_it_is(queue: Queue) {
    queue.submit(0, job()).await;
    let claimed = queue.claim_one(1).await;
    let (_, other) = queue.another_node().await;
    let own = name(&claimed);
    queue.write(move |conn| put_back(conn, other, &[own], at(50))).await;
    assert_eq!(queue.state(claimed.id).await, JobState::Running);
    let later = AttemptName { number: claimed.number + 1, ..own };
    put(&queue, vec![later, AttemptName { job: JobId(claimed.id.0 + 1), number: 1 }]).await;
    assert_eq!(queue.state(claimed.id).await, JobState::Running);
    put(&queue, vec![own]).await;
    put(&queue, vec![own]).await;
    assert_eq!(queue.claim(60, 5).await.len(), 1, "twice is as good as once");
}

async fn what_is_put_back_makes_room_under_its_limit(queue: Queue) {
    let concurrency = Some(Concurrency { key: "host".to_owned(), max: 1 });
    let limited =
        NewJob { settings: JobSettings { concurrency, ..JobSettings::default() }, ..job() };
    queue.submit_all(0, vec![limited.clone(), limited]).await;
    let claimed = queue.claim_one(1).await;
    assert!(queue.claim(2, 5).await.is_empty());
    put(&queue, vec![name(&claimed)]).await;
    assert_eq!(queue.claim_one(60).await.id, claimed.id);
}

async fn what_a_node_holds_and_does_not_know_of_is_put_back(queue: Queue) {
    queue.submit_all(0, vec![job(), job(), job()]).await;
    let claimed = queue.claim(0, 2).await;
    let (_, other) = queue.another_node().await;
    let theirs = ClaimRequest { node: other, ..queue.request(0, 1) };
    let theirs = queue.claim_with(theirs).await;
    let (known, lost) = (&claimed[0], &claimed[1]);
    let (node, knows) = (queue.node, BTreeSet::from([name(known)]));
    let held = queue.write(move |conn| put_back_unknown(conn, node, &knows, at(5))).await;
    assert_eq!(held, BTreeSet::from([name(known), name(lost)]));
    assert_eq!(queue.state(known.id).await, JobState::Running);
    assert_eq!(queue.state(theirs[0].id).await, JobState::Running);
    assert_eq!(queue.state(lost.id).await, JobState::Pending);
    assert!(queue.attempts(lost.id).await.is_empty());
    assert_eq!(queue.claim_one(6).await.number, 1);
}

/// What is ahead of the workers is claimed like everything else, and like everything else by one node.
mod ahead {
    use super::*;

    on_both_backends![
        as_many_more_are_claimed_as_may_be_ahead_in_the_order_of_all,
        nothing_overtakes_a_job_under_a_limit_that_waits_for_a_worker,
        a_job_that_its_limit_holds_back_is_stepped_over,
        nothing_is_taken_ahead_behind_what_was_not_looked_at,
        workers_that_are_reserved_are_not_promised_to_others,
    ];

    async fn as_many_more_are_claimed_as_may_be_ahead_in_the_order_of_all(queue: Queue) {
        let urgent = NewJob { priority: Priority::CRITICAL, ..job() };
        let submitted = queue.submit_all(0, vec![job(), urgent, job(), job()]).await;
        let request = ClaimRequest { ahead: 2, ..queue.request(1, 1) };
        let claimed = queue.claim_with(request.clone()).await;
        assert_eq!(ids(&claimed), [submitted[1], submitted[0], submitted[2]]);
        assert!(claimed.is_sorted_by_key(|job| job.rank));
        let none = ClaimRequest { slots: 0, normal_slots: 0, ..request };
        assert_eq!(ids(&queue.claim_with(none).await), [submitted[3]]);
    }

    fn keyed(key: &str) -> NewJob {
        let concurrency = Some(Concurrency { key: key.to_owned(), max: 1 });
        NewJob { settings: JobSettings { concurrency, ..JobSettings::default() }, ..job() }
    }

    async fn nothing_overtakes_a_job_under_a_limit_that_waits_for_a_worker(queue: Queue) {
        let submitted = queue.submit_all(0, vec![job(), job(), keyed("host"), job()]).await;
        let request = ClaimRequest { ahead: 10, ..queue.request(1, 1) };
        assert_eq!(ids(&queue.claim_with(request.clone()).await), submitted[..2]);
        let busy = ClaimRequest { slots: 0, normal_slots: 0, ..request.clone() };
        assert!(queue.claim_with(busy).await.is_empty(), "it comes first");
        assert_eq!(ids(&queue.claim_with(request).await), submitted[2..]);
    }

    async fn a_job_that_its_limit_holds_back_is_stepped_over(queue: Queue) {
        let submitted = queue.submit_all(0, vec![keyed("host"), keyed("host"), job(), job()]).await;
        let request = ClaimRequest { ahead: 10, ..queue.request(1, 1) };
        let claimed = queue.claim_with(request).await;
        assert_eq!(ids(&claimed), [submitted[0], submitted[2], submitted[3]]);
    }

    /// Of many queues each is looked into only so far; what lies behind the last known job of one of them may not be the next.
    async fn nothing_is_taken_ahead_behind_what_was_not_looked_at(queue: Queue) {
        let of = |name: &str, count| vec![NewJob { queue: name.to_owned(), ..job() }; count];
        let mut submitted = queue.submit_all(0, of("a", 30)).await;
        for name in ["b", "c", "d", "e"] {
            submitted.extend(queue.submit_all(1, of(name, 3)).await);
        }
        let request = ClaimRequest { ahead: 20, ..queue.request(1, 1) };
        let mut claimed = ids(&queue.claim_with(request.clone()).await);
        assert!(claimed.len() > 4, "{}", claimed.len());
        while claimed.len() < submitted.len() {
            let next = ids(&queue.claim_with(request.clone()).await);
            assert!(!next.is_empty());
            claimed.extend(next);
        }
        assert_eq!(claimed, submitted);
    }

    async fn workers_that_are_reserved_are_not_promised_to_others(queue: Queue) {
        let normal = queue.submit_all(0, vec![job(); 2]).await;
        let urgent = queue.submit(1, NewJob { priority: Priority::CRITICAL, ..keyed("k") }).await;
        // One worker is free, and it is reserved.
        let request = ClaimRequest { normal_slots: 0, ahead: 5, ..queue.request(1, 1) };
        let claimed = ids(&queue.claim_with(request).await);
        assert_eq!(claimed, [urgent, normal[0], normal[1]]);
    }
}
