//! Due instants and the jobs they make.

use std::sync::Arc;

use sexton::model::{
    Actor, Cause, Decision, FinalState, JobId, JobState, NewJob, OverlapVerdict, Pause, ScheduleId,
};
use sexton::store::schedules::{self, Basis, Definition, Instant, Plan, Recorded};
use tokio::sync::Barrier;

use crate::harness::{Queue, at, job, on_both_backends, succeeded};

on_both_backends![
    an_instant_is_decided_once,
    two_nodes_that_fire_the_same_instant_make_one_job,
    what_is_settled_without_a_job_has_its_row,
    a_skip_because_of_live_jobs_is_recorded_with_its_reason,
    an_instant_may_wait_for_the_live_jobs,
    an_instant_may_cancel_the_live_jobs_and_follow_them,
    a_job_that_is_over_does_not_count_as_live,
    a_redriven_job_counts_as_live_again,
    a_run_by_hand_leaves_the_mark_alone,
    nothing_of_a_failed_recording_is_kept,
    a_new_schedule_starts_now,
    an_unchanged_schedule_goes_on_where_it_stopped,
    e14_an_edited_schedule_never_fires_instants_from_before_the_edit,
    an_edit_after_the_clock_was_set_back_keeps_what_was_decided,
    a_ledger_outlives_its_schedule,
    a_pause_is_remembered_until_it_is_taken_back,
    the_end_of_the_last_job_is_remembered,
    m1_an_instant_that_hangs_on_the_last_end_is_none_when_another_node_has_run_the_schedule,
    two_runs_by_hand_in_one_instant_are_two_rows,
];

fn id(name: &str) -> ScheduleId {
    name.parse().unwrap()
}

fn definition(name: &str, rule: &str) -> Definition {
    Definition { id: id(name), rule: rule.to_owned(), follows: Vec::new() }
}

async fn adopt(queue: &Queue, second: i64, name: &str, rule: &str) -> schedules::Ledger {
    let definitions = [definition(name, rule)];
    let mut ledgers =
        queue.write(move |conn| schedules::adopt(conn, &definitions, at(second))).await;
    ledgers.remove(&id(name)).expect("the adopted schedule has a ledger")
}

async fn ledger(queue: &Queue, name: &'static str) -> schedules::Ledger {
    queue.read(move |conn| schedules::ledger(conn, &id(name))).await.expect("a ledger")
}

/// The instant `at(second)` of the schedule `nightly`, which makes a job.
fn instant(second: i64) -> Instant {
    let new = NewJob { schedule: Some((id("nightly"), at(second))), ..job() };
    Instant {
        schedule: id("nightly"),
        nominal_at: at(second),
        reason: "due".to_owned(),
        revision: "abc".to_owned(),
        instants: 1,
        actor: Actor::scheduler(),
        cause: Cause::Rule,
        basis: None,
        plan: Plan::Enqueue(Box::new(new)),
    }
}

async fn record(
    queue: &Queue,
    second: i64,
    instant: Instant,
    overlap: impl Fn(&[JobId]) -> OverlapVerdict + Send + 'static,
) -> Vec<Recorded> {
    let context = queue.context(second);
    queue
        .write(move |conn| {
            schedules::record(conn, std::slice::from_ref(&instant), context, |_, live| {
                overlap(live)
            })
        })
        .await
}

async fn allow(queue: &Queue, second: i64) -> JobId {
    let recorded = record(queue, second, instant(second), |_| OverlapVerdict::Enqueue).await;
    recorded[0].job.expect("a job was made")
}

async fn rows(queue: &Queue) -> Vec<(String, String, Option<i64>)> {
    use sexton::store::history::{OccurrenceFilter, Page, occurrences};
    let page = Page { limit: 100, before: None };
    let rows = queue.read(move |conn| occurrences(conn, &OccurrenceFilter::default(), page)).await;
    rows.into_iter().rev().map(|row| (row.decision, row.reason, row.job_id)).collect()
}

async fn an_instant_is_decided_once(queue: Queue) {
    adopt(&queue, 0, "nightly", "r").await;
    let made = allow(&queue, 60).await;
    let again = record(&queue, 61, instant(60), |_| OverlapVerdict::Enqueue).await;
    assert!(again.is_empty(), "{again:?}");
    assert_eq!(rows(&queue).await, [("enqueued".to_owned(), "due".to_owned(), Some(made.0))]);
    assert_eq!(queue.claim(61, 10).await.len(), 1);
    assert_eq!(ledger(&queue, "nightly").await.decided_until, at(60));
}

async fn two_nodes_that_fire_the_same_instant_make_one_job(queue: Queue) {
    adopt(&queue, 0, "nightly", "r").await;
    let (other, other_node) = queue.another_node().await;
    let mut ours = queue.context(60);
    let barrier = Arc::new(Barrier::new(2));
    let mut tasks = Vec::new();
    for (store, node) in [(queue.store.clone(), queue.node), (other, other_node)] {
        ours.node = node;
        let (context, barrier) = (ours, Arc::clone(&barrier));
        tasks.push(tokio::spawn(async move {
            let mut made = Vec::new();
            for second in 60..100 {
                barrier.wait().await;
                let write = store.write(move |conn| {
                    let verdict = |_: &Instant, _: &[JobId]| OverlapVerdict::Enqueue;
                    schedules::record(conn, &[instant(second)], context, verdict)
                });
                made.extend(write.await.expect("the loser is not an error"));
            }
            made.len()
        }));
    }
    let mut made = 0;
    for task in tasks {
        made += task.await.unwrap();
    }
    assert_eq!(made, 40, "each instant was recorded by exactly one of them");
    assert_eq!(queue.claim(100, 100).await.len(), 40);
}

async fn what_is_settled_without_a_job_has_its_row(queue: Queue) {
    adopt(&queue, 0, "nightly", "r").await;
    let missed = Instant {
        plan: Plan::Settle(Decision::Missed),
        reason: "the daemon was down".to_owned(),
        instants: 7,
        ..instant(60)
    };
    let recorded = record(&queue, 99, missed, |_| OverlapVerdict::Enqueue).await;
    assert_eq!((recorded[0].decision, recorded[0].job), (Decision::Missed, None));
    assert_eq!(rows(&queue).await, [("missed".to_owned(), "the daemon was down".to_owned(), None)]);
    assert!(queue.claim(99, 10).await.is_empty());
    assert_eq!(ledger(&queue, "nightly").await.decided_until, at(60));
}

async fn a_skip_because_of_live_jobs_is_recorded_with_its_reason(queue: Queue) {
    adopt(&queue, 0, "nightly", "r").await;
    let first = allow(&queue, 60).await;
    let recorded = record(&queue, 120, instant(120), move |live| {
        assert_eq!(live, [first]);
        OverlapVerdict::Skip(format!("job {} still waits", live[0]))
    })
    .await;
    assert_eq!(recorded[0].decision, Decision::SkippedOverlap);
    assert_eq!(recorded[0].reason, format!("job {first} still waits"));
    assert_eq!(rows(&queue).await[1].0, "skipped_overlap");
    assert_eq!(queue.claim(120, 10).await.len(), 1);
}

async fn an_instant_may_wait_for_the_live_jobs(queue: Queue) {
    adopt(&queue, 0, "nightly", "r").await;
    let first = allow(&queue, 60).await;
    let after = |live: &[JobId]| OverlapVerdict::EnqueueAfter(live.to_vec());
    let second = record(&queue, 120, instant(120), after).await[0].job.unwrap();
    assert_eq!(queue.state(second).await, JobState::Blocked);
    queue.cancel(121, first).await;
    assert_eq!(queue.claim_one(122).await.id, second, "however the first one ended");
}

async fn an_instant_may_cancel_the_live_jobs_and_follow_them(queue: Queue) {
    adopt(&queue, 0, "nightly", "r").await;
    let waiting = allow(&queue, 60).await;
    let running = queue.claim_one(60).await;
    assert_eq!(running.id, waiting);
    let other = allow(&queue, 61).await;
    let cancel = |live: &[JobId]| OverlapVerdict::CancelThenEnqueueAfter(live.to_vec());
    let recorded = record(&queue, 120, instant(120), cancel).await.remove(0);
    assert_eq!(recorded.cancelled, [running.id, other]);
    assert_eq!(queue.state(other).await, JobState::Cancelled);
    assert!(queue.job(running.id).await.cancel_requested);
    let next = recorded.job.unwrap();
    assert_eq!(queue.state(next).await, JobState::Blocked);
    queue.finish(succeeded(&running, 121)).await;
    assert_eq!(queue.claim_one(123).await.id, next);
}

async fn a_job_that_is_over_does_not_count_as_live(queue: Queue) {
    adopt(&queue, 0, "nightly", "r").await;
    allow(&queue, 60).await;
    let claimed = queue.claim_one(60).await;
    queue.finish(succeeded(&claimed, 60)).await;
    record(&queue, 120, instant(120), |live| {
        assert!(live.is_empty(), "{live:?}");
        OverlapVerdict::Enqueue
    })
    .await;
}

async fn a_redriven_job_counts_as_live_again(queue: Queue) {
    adopt(&queue, 0, "nightly", "r").await;
    let first = allow(&queue, 60).await;
    queue.cancel(61, first).await;
    queue.redrive(62, first).await;
    let live = queue.read(|conn| schedules::live_jobs(conn, &id("nightly"))).await;
    assert_eq!(live, [first]);
}

async fn a_run_by_hand_leaves_the_mark_alone(queue: Queue) {
    adopt(&queue, 0, "nightly", "r").await;
    let by_hand = Instant { cause: Cause::Hand, actor: Actor::named("cli:alice"), ..instant(60) };
    let recorded = record(&queue, 60, by_hand, |_| OverlapVerdict::Enqueue).await;
    assert!(recorded[0].job.is_some());
    assert_eq!(ledger(&queue, "nightly").await.decided_until, at(0));
}

async fn nothing_of_a_failed_recording_is_kept(queue: Queue) {
    use sexton::model::{Dependency, DependencyNeeds};
    adopt(&queue, 0, "nightly", "r").await;
    let Plan::Enqueue(mut new) = instant(61).plan else { unreachable!("it makes a job") };
    new.settings.depends_on.push(Dependency { on: JobId(404), needs: DependencyNeeds::Success });
    let bad = Instant { plan: Plan::Enqueue(new), ..instant(61) };
    let (context, instants) = (queue.context(61), [instant(60), bad]);
    let write = queue.store.write(move |conn| {
        schedules::record(conn, &instants, context, |_, _| OverlapVerdict::Enqueue)
    });
    write.await.unwrap_err();
    assert!(rows(&queue).await.is_empty());
    assert!(queue.claim(61, 10).await.is_empty());
    assert_eq!(ledger(&queue, "nightly").await.decided_until, at(0));
}

async fn a_new_schedule_starts_now(queue: Queue) {
    let new = adopt(&queue, 500, "nightly", "r").await;
    assert_eq!((new.decided_until, new.last_end, new.pause.clone()), (at(500), None, None));
    assert_eq!(ledger(&queue, "nightly").await, new);
}

async fn an_unchanged_schedule_goes_on_where_it_stopped(queue: Queue) {
    adopt(&queue, 0, "nightly", "r").await;
    allow(&queue, 60).await;
    let queue = queue.reopen().await;
    assert_eq!(adopt(&queue, 9000, "nightly", "r").await.decided_until, at(60));
}

async fn e14_an_edited_schedule_never_fires_instants_from_before_the_edit(queue: Queue) {
    adopt(&queue, 0, "nightly", "r").await;
    allow(&queue, 60).await;
    assert_eq!(adopt(&queue, 9000, "nightly", "edited").await.decided_until, at(9000));
    assert_eq!(ledger(&queue, "nightly").await.decided_until, at(9000));
}

async fn an_edit_after_the_clock_was_set_back_keeps_what_was_decided(queue: Queue) {
    adopt(&queue, 9000, "nightly", "r").await;
    assert_eq!(adopt(&queue, 60, "nightly", "edited").await.decided_until, at(9000));
}

async fn a_ledger_outlives_its_schedule(queue: Queue) {
    adopt(&queue, 0, "nightly", "r").await;
    adopt(&queue, 60, "other", "r").await;
    assert_eq!(ledger(&queue, "nightly").await.decided_until, at(0));
    let all = queue.read(schedules::ledgers).await;
    assert_eq!(all.len(), 2);
}

async fn a_pause_is_remembered_until_it_is_taken_back(queue: Queue) {
    adopt(&queue, 0, "nightly", "r").await;
    let pause = Pause {
        since: at(10),
        until: Some(at(100)),
        by: "cli:alice".to_owned(),
        reason: "the disk is being replaced".to_owned(),
    };
    let asked = pause.clone();
    queue.write(move |conn| schedules::pause(conn, &id("nightly"), &asked)).await;
    let queue = queue.reopen().await;
    assert_eq!(
        adopt(&queue, 20, "nightly", "edited").await.pause,
        Some(Box::new(pause)),
        "through edits"
    );
    assert!(queue.write(|conn| schedules::resume(conn, &id("nightly"))).await);
    assert!(!queue.write(|conn| schedules::resume(conn, &id("nightly"))).await);
    assert_eq!(ledger(&queue, "nightly").await.pause, None);

    let unknown = Pause { since: at(0), until: None, by: String::new(), reason: String::new() };
    let refused =
        queue.store.write(move |conn| schedules::pause(conn, &id("nobody"), &unknown)).await;
    assert_eq!(refused.unwrap_err().to_string(), "there is no schedule `nobody`");
}

async fn the_end_of_the_last_job_is_remembered(queue: Queue) {
    adopt(&queue, 0, "nightly", "r").await;
    assert_eq!(ledger(&queue, "nightly").await.last_success, None);
    allow(&queue, 60).await;
    let claimed = queue.claim_one(60).await;
    queue.finish(succeeded(&claimed, 70)).await;
    let failed = NewJob { schedule: Some((id("nightly"), at(80))), ..job() };
    queue.through(80, failed, FinalState::Failed).await;
    assert_eq!(ledger(&queue, "nightly").await.last_end, Some(at(81)));
    assert_eq!(ledger(&queue, "nightly").await.last_success, Some(at(71)));
}

async fn m1_an_instant_that_hangs_on_the_last_end_is_none_when_another_node_has_run_the_schedule(
    queue: Queue,
) {
    adopt(&queue, 0, "nightly", "r").await;
    let at_first = Basis { decided_until: at(0), last_end: None };
    let counted = |second, basis| Instant { basis: Some(basis), ..instant(second) };
    let enqueue = |_: &[JobId]| OverlapVerdict::Enqueue;
    assert_eq!(record(&queue, 60, counted(60, at_first), enqueue).await.len(), 1);
    // Of that another node has not heard, and it names the next instant by what it knows: while the job runs, and when it is over.
    assert_eq!(record(&queue, 61, counted(61, at_first), enqueue).await, []);
    let claimed = queue.claim_one(61).await;
    queue.finish(succeeded(&claimed, 70)).await;
    assert_eq!(record(&queue, 72, counted(72, at_first), enqueue).await, []);
    assert_eq!(ledger(&queue, "nightly").await.decided_until, at(60));
    let by_now = Basis { decided_until: at(60), last_end: Some(at(71)) };
    assert_eq!(record(&queue, 131, counted(131, by_now), enqueue).await.len(), 1);
}

async fn two_runs_by_hand_in_one_instant_are_two_rows(queue: Queue) {
    adopt(&queue, 0, "nightly", "r").await;
    for expected in 0..3_i64 {
        let free = queue.read(|conn| schedules::free_instant(conn, &id("nightly"), at(60))).await;
        assert_eq!(free.as_microsecond(), at(60).as_microsecond() + expected);
        let by_hand = Instant { nominal_at: free, cause: Cause::Hand, ..instant(60) };
        let recorded = record(&queue, 60, by_hand, |_| OverlapVerdict::Enqueue).await;
        assert_eq!(recorded.len(), 1);
    }
}
