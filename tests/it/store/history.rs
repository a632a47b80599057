//! Looking back, and forgetting.

use sexton::model::{Cause, Decision, FinalState, JobId, JobState, Labels, NewJob};
use sexton::store::history::{self, Among, JobFilter, OccurrenceFilter, Page};
use sexton::store::prune::{self, PruneJobs};
use sexton::store::schedules::{self, Instant, Plan};

use crate::harness::{Queue, at, depending, job, on_both_backends, retried, soon};

on_both_backends![
    jobs_are_found_by_every_state,
    jobs_are_found_by_kind_schedule_queue_and_labels,
    pages_follow_each_other_without_gaps_or_repeats,
    of_many_attempts_the_latest_are_shown_in_order,
    the_ledger_is_found_by_schedule_time_and_decision,
    pruning_takes_only_what_is_old_and_ended_so,
    pruning_keeps_the_newest_of_each_schedule,
    pruning_takes_attempts_and_labels_along,
    pruning_goes_on_where_the_last_batch_stopped,
    old_rows_of_the_ledger_are_pruned_in_batches,
    keys_and_nodes_that_have_run_out_are_swept,
];

const ALL: Page = Page { limit: 100, before: None };

async fn found(queue: &Queue, filter: JobFilter) -> Vec<JobId> {
    let jobs = queue.read(move |conn| history::jobs(conn, &filter, ALL)).await;
    jobs.into_iter().map(|job| job.id).collect()
}

fn labelled(labels: &[(&str, &str)]) -> NewJob {
    let labels: Labels =
        labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    NewJob { labels, ..job() }
}

async fn of_many_attempts_the_latest_are_shown_in_order(queue: Queue) {
    let id = queue.submit(0, job()).await;
    for second in 1..=4 {
        let claimed = queue.claim_one(second).await;
        queue.finish(retried(&claimed, second, second + 1)).await;
        queue.promote(second + 1).await;
    }
    let latest = queue.read(move |conn| history::attempts(conn, id, 2)).await;
    assert_eq!(latest.iter().map(|attempt| attempt.number).collect::<Vec<_>>(), [3, 4]);
}

async fn jobs_are_found_by_every_state(queue: Queue) {
    use sexton::model::{Dependency, DependencyNeeds};
    let completed = queue.through(0, job(), FinalState::Completed).await;
    let failed = queue.through(0, job(), FinalState::Failed).await;
    let retrying = queue.submit(0, job()).await;
    let attempt = queue.claim_one(0).await;
    queue.finish(retried(&attempt, 0, 600)).await;
    let running = queue.submit(0, job()).await;
    queue.claim_one(0).await;
    let ready = queue.submit(0, job()).await;
    let future = queue.submit(0, soon(60)).await;
    let needs = Dependency { on: ready, needs: DependencyNeeds::Success };
    let blocked = queue.submit(0, depending([needs], job())).await;
    let cancelled = queue.submit(0, job()).await;
    queue.cancel(0, cancelled).await;
    let expected = [
        (JobState::Blocked, vec![blocked]),
        (JobState::Pending, vec![future, ready]),
        (JobState::Running, vec![running]),
        (JobState::Retrying, vec![retrying]),
        (JobState::Completed, vec![completed]),
        (JobState::Failed, vec![failed]),
        (JobState::Cancelled, vec![cancelled]),
    ];
    for (state, ids) in &expected {
        let filter = JobFilter { among: vec![Among::State(*state)], ..JobFilter::default() };
        assert_eq!(found(&queue, filter).await, *ids, "{state}");
        for id in ids {
            assert_eq!(queue.state(*id).await, *state);
        }
    }
    let several = [JobState::Failed, JobState::Blocked, JobState::Cancelled].map(Among::State);
    let filter = JobFilter { among: several.to_vec(), ..JobFilter::default() };
    assert_eq!(found(&queue, filter.clone()).await, [cancelled, blocked, failed]);
    let none = JobFilter { kind: Some("none".into()), ..filter };
    assert_eq!(found(&queue, none).await, [], "the rest of a filter holds in each state");
    let counts: Vec<(JobState, i64)> =
        expected.iter().map(|(state, ids)| (*state, i64::try_from(ids.len()).unwrap())).collect();
    assert_eq!(queue.read(history::counts).await, counts);
}

async fn jobs_are_found_by_kind_schedule_queue_and_labels(queue: Queue) {
    let schedule = Some(("nightly".parse().unwrap(), at(0)));
    let ids = queue
        .submit_all(
            0,
            vec![
                NewJob { kind: "cleanup".to_owned(), ..job() },
                NewJob { schedule, ..job() },
                NewJob { queue: "reports".to_owned(), ..job() },
                labelled(&[("context", "1"), ("user", "a")]),
                labelled(&[("context", "1"), ("user", "b")]),
            ],
        )
        .await;
    let by = |filter: JobFilter| found(&queue, filter);
    let none = JobFilter::default;
    assert_eq!(by(JobFilter { kind: Some("cleanup".into()), ..none() }).await, [ids[0]]);
    assert_eq!(by(JobFilter { schedule: Some("nightly".into()), ..none() }).await, [ids[1]]);
    assert_eq!(by(JobFilter { queue: Some("reports".into()), ..none() }).await, [ids[2]]);
    let labels = |labels: &[&str]| JobFilter {
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        ..none()
    };
    assert_eq!(by(labels(&["context=1"])).await, [ids[4], ids[3]]);
    assert_eq!(by(labels(&["context=1", "user=b"])).await, [ids[4]]);
    assert!(by(labels(&["context=2"])).await.is_empty());
    let mismatch = JobFilter { kind: Some("cleanup".into()), ..labels(&["context=1"]) };
    assert!(by(mismatch).await.is_empty(), "everything that is set must hold");
}

async fn pages_follow_each_other_without_gaps_or_repeats(queue: Queue) {
    let mut expected = queue.submit_all(0, vec![job(); 25]).await;
    expected.reverse();
    let mut seen = Vec::new();
    let mut before = None;
    loop {
        let page = Page { limit: 10, before };
        let jobs = queue.read(move |conn| history::jobs(conn, &JobFilter::default(), page)).await;
        let Some(last) = jobs.last() else { break };
        before = Some(last.id.0);
        seen.extend(jobs.into_iter().map(|job| job.id));
        // What is submitted meanwhile does not shift the pages.
        queue.submit(1, job()).await;
    }
    assert_eq!(seen, expected);
}

/// Rows of the ledger without jobs, decided at `at(1000 + second)`.
async fn settle(queue: &Queue, schedule: &str, seconds: &[i64], decision: Decision) {
    let instants: Vec<Instant> = seconds
        .iter()
        .map(|second| Instant {
            schedule: schedule.parse().unwrap(),
            nominal_at: at(*second),
            reason: "test".to_owned(),
            revision: "abc".to_owned(),
            instants: 1,
            actor: sexton::model::Actor::scheduler(),
            cause: Cause::Hand,
            basis: None,
            plan: Plan::Settle(decision),
        })
        .collect();
    for instant in instants {
        let second = (instant.nominal_at.as_second() - at(0).as_second()) + 1000;
        let context = queue.context(second);
        queue
            .write(move |conn| {
                let verdict = |_: &Instant, _: &[JobId]| unreachable!("it makes no job");
                schedules::record(conn, std::slice::from_ref(&instant), context, verdict)
            })
            .await;
    }
}

async fn nominal_seconds(queue: &Queue, filter: OccurrenceFilter) -> Vec<i64> {
    let rows = queue.read(move |conn| history::occurrences(conn, &filter, ALL)).await;
    rows.into_iter().map(|row| row.nominal_at.0 / 1_000_000 - at(0).as_second()).collect()
}

async fn the_ledger_is_found_by_schedule_time_and_decision(queue: Queue) {
    settle(&queue, "a", &[10, 20, 30], Decision::Missed).await;
    settle(&queue, "b", &[20, 40], Decision::SkippedPaused).await;
    let none = OccurrenceFilter::default;
    let a = OccurrenceFilter { schedule: Some("a".to_owned()), ..none() };
    assert_eq!(nominal_seconds(&queue, a).await, [30, 20, 10]);
    let window = OccurrenceFilter { from: Some(at(20)), until: Some(at(40)), ..none() };
    assert_eq!(nominal_seconds(&queue, window).await, [20, 30, 20]);
    let paused = OccurrenceFilter { decision: Some("skipped_paused".to_owned()), ..none() };
    assert_eq!(nominal_seconds(&queue, paused).await, [40, 20]);
    let last = queue.read(|conn| history::last_run(conn, "a")).await.expect("a last row");
    assert_eq!((last.occurrence.nominal_at, last.job), (at(30).into(), None));
}

fn prune(state: FinalState, before: i64) -> PruneJobs {
    PruneJobs { state, before: at(before), keep_per_schedule: 0, after: None, limit: 100 }
}

async fn pruned(queue: &Queue, what: PruneJobs) -> Vec<JobId> {
    let counted = queue.read(move |conn| prune::count_jobs(conn, what)).await.0;
    let deleted = queue.write(move |conn| prune::jobs(conn, what)).await.deleted;
    assert_eq!(counted, deleted.len() as u64, "what is counted is what is deleted");
    deleted
}

async fn pruning_takes_only_what_is_old_and_ended_so(queue: Queue) {
    let old = queue.through(0, job(), FinalState::Completed).await;
    let failed = queue.through(1, job(), FinalState::Failed).await;
    let recent = queue.through(100, job(), FinalState::Completed).await;
    let live = queue.submit(0, job()).await;
    assert_eq!(pruned(&queue, prune(FinalState::Completed, 50)).await, [old]);
    assert_eq!(found(&queue, JobFilter::default()).await, [live, recent, failed]);
}

async fn pruning_keeps_the_newest_of_each_schedule(queue: Queue) {
    let of = |name: &str, second| NewJob {
        schedule: Some((name.parse().unwrap(), at(second))),
        ..job()
    };
    let mut ids = Vec::new();
    for second in 0..4 {
        ids.push(queue.through(second * 10, of("a", second), FinalState::Completed).await);
    }
    let only = queue.through(50, of("b", 50), FinalState::Completed).await;
    let by_hand = queue.through(60, job(), FinalState::Completed).await;
    let what = PruneJobs { keep_per_schedule: 2, ..prune(FinalState::Completed, 1000) };
    assert_eq!(pruned(&queue, what).await, [ids[0], ids[1], by_hand]);
    assert_eq!(found(&queue, JobFilter::default()).await, [only, ids[3], ids[2]]);
}

async fn pruning_takes_attempts_and_labels_along(queue: Queue) {
    let id = queue.through(0, labelled(&[("context", "1")]), FinalState::Completed).await;
    pruned(&queue, prune(FinalState::Completed, 50)).await;
    assert!(queue.attempts(id).await.is_empty());
    let left = queue
        .read(|conn| {
            use diesel::prelude::*;
            use sexton::store::schema::job_labels;
            Ok(job_labels::table.count().get_result::<i64>(conn)?)
        })
        .await;
    assert_eq!(left, 0);
}

async fn pruning_goes_on_where_the_last_batch_stopped(queue: Queue) {
    let mut ids = Vec::new();
    for second in 0..5 {
        ids.push(queue.through(second, job(), FinalState::Completed).await);
    }
    let mut what = PruneJobs { limit: 2, ..prune(FinalState::Completed, 1000) };
    let mut batches = Vec::new();
    loop {
        let batch = queue.write(move |conn| prune::jobs(conn, what)).await;
        batches.push(batch.deleted);
        match batch.next {
            Some(next) => what.after = Some(next),
            None => break,
        }
    }
    assert_eq!(batches, [ids[0..2].to_vec(), ids[2..4].to_vec(), ids[4..5].to_vec()]);
}

async fn old_rows_of_the_ledger_are_pruned_in_batches(queue: Queue) {
    settle(&queue, "a", &[1, 2, 3, 4, 5], Decision::Missed).await;
    let mut batches = Vec::new();
    for _ in 0..3 {
        batches.push(queue.write(|conn| prune::occurrences(conn, at(1005), 3)).await);
    }
    assert_eq!(batches, [3, 1, 0]);
    assert_eq!(nominal_seconds(&queue, OccurrenceFilter::default()).await, [5]);
}

async fn keys_and_nodes_that_have_run_out_are_swept(queue: Queue) {
    use sexton::model::{HumanDuration, UniqueKey};
    use sexton::store::nodes;
    let key = |key: &str, period| UniqueKey { key: key.to_owned(), period };
    let expiring = key("expiring", Some(HumanDuration::from_secs(60)));
    queue.submit(0, NewJob { unique: Some(expiring), ..job() }).await;
    queue.submit(0, NewJob { unique: Some(key("living", None)), ..job() }).await;
    let (_store, gone) = queue.another_node().await;
    queue.write(move |conn| nodes::mark_stopped(conn, gone, at(10))).await;
    let swept = queue.write(|conn| prune::leftovers(conn, at(60), at(20))).await;
    assert_eq!(swept, 2);
    let left = queue.read(|conn| nodes::list(conn, 10)).await;
    assert_eq!(left.iter().map(|node| node.id).collect::<Vec<_>>(), [queue.node.0]);
    let again = NewJob { unique: Some(key("living", None)), ..job() };
    assert_eq!(queue.try_submit(60, vec![again]).await.unwrap()[0].state, None);
}
