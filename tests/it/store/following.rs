//! Schedules that follow others and instants that wait for requirements: what is noted, by whom it is decided, and what outlives what.

use std::sync::Arc;

use jiff::Timestamp;
use sexton::model::{
    Actor, AfterAttempt, Cause, Decision, FinalState, JobEnd, JobId, JobState, NewJob, OnEnd,
    Outcome, OverlapVerdict, ScheduleId,
};
use sexton::store::history::{OccurrenceFilter, Page, occurrences};
use sexton::store::prune::{self, PruneJobs};
use sexton::store::schedules::{self, Definition, Instant, Plan, Recorded, Wait};
use tokio::sync::Barrier;

use crate::harness::{Queue, at, ended, job, on_both_backends};

on_both_backends![
    the_end_of_a_job_is_noted_for_those_that_follow_such_ends,
    a_waiting_job_that_is_cancelled_has_ended,
    a_job_that_is_retried_by_hand_ends_again,
    ends_are_noted_for_a_follower_that_nobody_has_loaded,
    an_end_is_forgotten_with_the_decision_about_it,
    two_nodes_that_find_the_same_end_make_one_job,
    an_edited_follower_keeps_the_ends_of_those_that_it_still_follows,
    ends_that_nobody_comes_for_are_forgotten_in_time,
    a_success_outlives_the_rows_of_its_job,
    an_instant_that_waits_has_a_row_that_is_replaced_by_what_becomes_of_it,
    two_nodes_that_look_at_a_waiting_instant_decide_it_once,
    what_waits_is_not_deleted_by_age,
];

fn id(name: &str) -> ScheduleId {
    name.parse().unwrap()
}

async fn adopt(queue: &Queue, name: &str, rule: &str, follows: &[(&str, OnEnd)]) {
    let definition = Definition {
        id: id(name),
        rule: rule.to_owned(),
        follows: follows.iter().map(|(other, on)| (id(other), *on)).collect(),
    };
    queue.write(move |conn| schedules::adopt(conn, std::slice::from_ref(&definition), at(0))).await;
}

/// Ends a job of `dump` at `at(second + 1)`.
async fn end(queue: &Queue, second: i64, end: FinalState) -> JobId {
    let new = NewJob { schedule: Some((id("dump"), at(second))), ..job() };
    queue.through(second, new, end).await
}

async fn to_follow(queue: &Queue, follower: &str) -> Vec<JobEnd> {
    let followers = [follower.to_owned()];
    let ends = queue.read(move |conn| schedules::ends_to_follow(conn, &followers)).await;
    ends.into_iter().map(|(_, end)| end).collect()
}

fn noted(second: i64, job: JobId, state: FinalState) -> JobEnd {
    JobEnd { at: at(second), schedule: id("dump"), job, state }
}

fn instant(name: &str, second: i64, cause: Cause, plan: Plan) -> Instant {
    Instant {
        schedule: id(name),
        nominal_at: at(second),
        reason: "because".to_owned(),
        revision: "abc".to_owned(),
        instants: 1,
        actor: Actor::scheduler(),
        cause,
        basis: None,
        plan,
    }
}

fn enqueue(name: &str, second: i64, cause: Cause) -> Instant {
    let new = NewJob { schedule: Some((id(name), at(second))), ..job() };
    instant(name, second, cause, Plan::Enqueue(Box::new(new)))
}

async fn record(queue: &Queue, second: i64, instant: Instant) -> Vec<Recorded> {
    let context = queue.context(second);
    queue
        .write(move |conn| {
            let verdict = |_: &Instant, _: &[JobId]| OverlapVerdict::Enqueue;
            schedules::record(conn, std::slice::from_ref(&instant), context, verdict)
        })
        .await
}

async fn rows(queue: &Queue) -> Vec<(String, String, Option<i64>)> {
    let page = Page { limit: 100, before: None };
    let rows = queue.read(move |conn| occurrences(conn, &OccurrenceFilter::default(), page)).await;
    rows.into_iter().rev().map(|row| (row.decision, row.reason, row.job_id)).collect()
}

async fn the_end_of_a_job_is_noted_for_those_that_follow_such_ends(queue: Queue) {
    adopt(&queue, "dump", "r", &[]).await;
    adopt(&queue, "report", "r", &[("dump", OnEnd::Success)]).await;
    adopt(&queue, "alarm", "r", &[("dump", OnEnd::Failure), ("other", OnEnd::Finished)]).await;
    adopt(&queue, "always", "r", &[("dump", OnEnd::Finished), ("dump", OnEnd::Success)]).await;
    let completed = end(&queue, 10, FinalState::Completed).await;
    let failed = end(&queue, 20, FinalState::Failed).await;
    let cancelled = end(&queue, 30, FinalState::Cancelled).await;
    let [completed, failed, cancelled] = [
        noted(11, completed, FinalState::Completed),
        noted(21, failed, FinalState::Failed),
        noted(31, cancelled, FinalState::Cancelled),
    ];
    assert_eq!(to_follow(&queue, "report").await, std::slice::from_ref(&completed));
    assert_eq!(to_follow(&queue, "alarm").await, std::slice::from_ref(&failed));
    assert_eq!(to_follow(&queue, "always").await, [completed, failed, cancelled]);
    assert_eq!(to_follow(&queue, "dump").await, []);
}

async fn a_waiting_job_that_is_cancelled_has_ended(queue: Queue) {
    adopt(&queue, "dump", "r", &[]).await;
    adopt(&queue, "always", "r", &[("dump", OnEnd::Finished)]).await;
    let new = || NewJob { schedule: Some((id("dump"), at(0))), ..job() };
    let first = queue.submit(0, new()).await;
    let second = queue.submit(0, new()).await;
    for id in [first, second] {
        queue.cancel(5, id).await;
    }
    // Two ends in one microsecond are one instant.
    assert_eq!(to_follow(&queue, "always").await, [noted(5, first, FinalState::Cancelled)]);
}

async fn a_job_that_is_retried_by_hand_ends_again(queue: Queue) {
    adopt(&queue, "dump", "r", &[]).await;
    adopt(&queue, "always", "r", &[("dump", OnEnd::Finished)]).await;
    let failed = end(&queue, 10, FinalState::Failed).await;
    queue.redrive(20, failed).await;
    let claimed = queue.claim_one(20).await;
    // An attempt that is tried again ends nothing.
    queue.finish(ended(&claimed, 20, Outcome::Failure, AfterAttempt::GiveBack)).await;
    let claimed = queue.claim_one(30).await;
    let over = AfterAttempt::End(FinalState::Completed);
    queue.finish(ended(&claimed, 30, Outcome::Success, over)).await;
    assert_eq!(
        to_follow(&queue, "always").await,
        [noted(11, failed, FinalState::Failed), noted(31, failed, FinalState::Completed)]
    );
}

async fn ends_are_noted_for_a_follower_that_nobody_has_loaded(queue: Queue) {
    adopt(&queue, "dump", "r", &[]).await;
    adopt(&queue, "report", "r", &[("dump", OnEnd::Success)]).await;
    let queue = queue.reopen().await;
    let job = end(&queue, 10, FinalState::Completed).await;
    let queue = queue.reopen().await;
    adopt(&queue, "report", "r", &[("dump", OnEnd::Success)]).await;
    assert_eq!(to_follow(&queue, "report").await, [noted(11, job, FinalState::Completed)]);
}

async fn an_end_is_forgotten_with_the_decision_about_it(queue: Queue) {
    adopt(&queue, "dump", "r", &[]).await;
    adopt(&queue, "report", "r", &[("dump", OnEnd::Success)]).await;
    end(&queue, 10, FinalState::Completed).await;
    end(&queue, 20, FinalState::Completed).await;
    let skipped = Plan::Settle(Decision::SkippedPaused);
    // In any order, because ends are recorded in any order.
    assert_eq!(record(&queue, 30, instant("report", 21, Cause::End, skipped)).await.len(), 1);
    let made = record(&queue, 30, enqueue("report", 11, Cause::End)).await;
    assert!(made[0].job.is_some());
    assert_eq!(to_follow(&queue, "report").await, []);
    let ledger = queue.read(|conn| schedules::ledger(conn, &id("report"))).await.unwrap();
    assert_eq!(ledger.decided_until, at(0), "the calendar of the same schedule loses nothing");
    assert!(record(&queue, 31, enqueue("report", 11, Cause::End)).await.is_empty(), "decided");
}

async fn two_nodes_that_find_the_same_end_make_one_job(queue: Queue) {
    adopt(&queue, "dump", "r", &[]).await;
    adopt(&queue, "report", "r", &[("dump", OnEnd::Success)]).await;
    for second in 0..20 {
        end(&queue, second, FinalState::Completed).await;
    }
    let made = on_two_nodes(&queue, |second| enqueue("report", second + 1, Cause::End), 20).await;
    assert_eq!(made, 20);
    assert_eq!(queue.claim(100, 100).await.len(), 20);
    assert_eq!(to_follow(&queue, "report").await, []);
}

/// Lets two nodes record the same instants at the same time, and tells how many were recorded by either.
async fn on_two_nodes(
    queue: &Queue,
    instant: impl Fn(i64) -> Instant + Copy + Send + 'static,
    count: i64,
) -> usize {
    let (other, other_node) = queue.another_node().await;
    let barrier = Arc::new(Barrier::new(2));
    let mut tasks = Vec::new();
    for (store, node) in [(queue.store.clone(), queue.node), (other, other_node)] {
        let mut context = queue.context(100);
        context.node = node;
        let barrier = Arc::clone(&barrier);
        tasks.push(tokio::spawn(async move {
            let mut recorded = 0;
            for second in 0..count {
                barrier.wait().await;
                let write = store.write(move |conn| {
                    let verdict = |_: &Instant, _: &[JobId]| OverlapVerdict::Enqueue;
                    schedules::record(conn, &[instant(second)], context, verdict)
                });
                recorded += write.await.expect("the loser is not an error").len();
            }
            recorded
        }));
    }
    let mut recorded = 0;
    for task in tasks {
        recorded += task.await.unwrap();
    }
    recorded
}

async fn an_edited_follower_keeps_the_ends_of_those_that_it_still_follows(queue: Queue) {
    adopt(&queue, "dump", "r", &[]).await;
    adopt(&queue, "report", "r", &[("dump", OnEnd::Success)]).await;
    let job = end(&queue, 10, FinalState::Completed).await;
    adopt(&queue, "report", "edited", &[("dump", OnEnd::Failure)]).await;
    assert_eq!(to_follow(&queue, "report").await, [noted(11, job, FinalState::Completed)]);
    end(&queue, 20, FinalState::Completed).await;
    assert_eq!(to_follow(&queue, "report").await.len(), 1, "it follows failures now");
    adopt(&queue, "report", "edited again", &[("other", OnEnd::Success)]).await;
    assert_eq!(to_follow(&queue, "report").await, []);
    end(&queue, 30, FinalState::Failed).await;
    assert_eq!(to_follow(&queue, "report").await, []);
}

async fn ends_that_nobody_comes_for_are_forgotten_in_time(queue: Queue) {
    adopt(&queue, "dump", "r", &[]).await;
    adopt(&queue, "report", "r", &[("dump", OnEnd::Success)]).await;
    end(&queue, 10, FinalState::Completed).await;
    let job = end(&queue, 20, FinalState::Completed).await;
    assert_eq!(queue.write(|conn| schedules::forget_old_ends(conn, at(21))).await, 1);
    assert_eq!(to_follow(&queue, "report").await, [noted(21, job, FinalState::Completed)]);
}

async fn successes(queue: &Queue) -> Vec<(ScheduleId, Timestamp)> {
    let ids = [id("dump"), id("x")];
    let found = queue.read(move |conn| schedules::last_successes(conn, &ids)).await;
    found.into_iter().collect()
}

async fn a_success_outlives_the_rows_of_its_job(queue: Queue) {
    adopt(&queue, "dump", "r", &[]).await;
    assert_eq!(successes(&queue).await, []);
    end(&queue, 10, FinalState::Completed).await;
    end(&queue, 20, FinalState::Failed).await;
    let everything = PruneJobs {
        state: FinalState::Completed,
        before: at(1000),
        keep_per_schedule: 0,
        after: None,
        limit: 10,
    };
    let pruned = queue.write(move |conn| prune::jobs(conn, everything)).await;
    assert_eq!(pruned.deleted.len(), 1);
    assert_eq!(successes(&queue).await, [(id("dump"), at(11))]);
}

async fn wait(queue: &Queue, second: i64, until: i64) {
    let plan = Plan::Wait { until: at(until) };
    let recorded = record(queue, second, instant("report", second, Cause::Rule, plan)).await;
    assert_eq!((recorded[0].decision, recorded[0].job), (Decision::Waiting, None));
}

async fn an_instant_that_waits_has_a_row_that_is_replaced_by_what_becomes_of_it(queue: Queue) {
    adopt(&queue, "report", "r", &[]).await;
    wait(&queue, 10, 70).await;
    wait(&queue, 20, 80).await;
    let queue = queue.reopen().await;
    let waiting =
        |second| Wait { schedule: id("report"), nominal_at: at(second), until: at(second + 60) };
    assert_eq!(queue.read(schedules::waits).await, [waiting(10), waiting(20)]);
    assert_eq!(rows(&queue).await[0], ("waiting".to_owned(), "because".to_owned(), None));

    let made = record(&queue, 50, enqueue("report", 10, Cause::Wait)).await;
    let job = made[0].job.unwrap();
    let plan = Plan::Settle(Decision::SkippedRequirement);
    let skipped =
        Instant { reason: "in vain".to_owned(), ..instant("report", 20, Cause::Wait, plan) };
    assert_eq!(record(&queue, 80, skipped.clone()).await.len(), 1);
    assert_eq!(
        rows(&queue).await,
        [
            ("enqueued".to_owned(), "because".to_owned(), Some(job.0)),
            ("skipped_requirement".to_owned(), "in vain".to_owned(), None),
        ]
    );
    assert_eq!(queue.read(schedules::waits).await, []);
    assert_eq!(queue.state(job).await, JobState::Pending);
    assert!(record(&queue, 81, skipped).await.is_empty(), "it is decided");
}

async fn two_nodes_that_look_at_a_waiting_instant_decide_it_once(queue: Queue) {
    adopt(&queue, "report", "r", &[]).await;
    for second in 0..20 {
        wait(&queue, second, 500).await;
    }
    let recorded = on_two_nodes(&queue, |second| enqueue("report", second, Cause::Wait), 20).await;
    assert_eq!(recorded, 20);
    assert_eq!(queue.claim(100, 100).await.len(), 20);
    assert_eq!(rows(&queue).await.len(), 20);
}

async fn what_waits_is_not_deleted_by_age(queue: Queue) {
    adopt(&queue, "report", "r", &[]).await;
    wait(&queue, 10, 500).await;
    record(&queue, 20, enqueue("report", 20, Cause::Rule)).await;
    assert_eq!(queue.write(|conn| prune::occurrences(conn, at(400), 10)).await, 1);
    assert_eq!(rows(&queue).await.len(), 1);
}
