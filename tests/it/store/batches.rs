//! Batches: jobs whose items are jobs of their own.

use diesel::prelude::*;
use serde_json::json;
use sexton::model::{
    AfterAttempt, BatchCounts, Dependency, DependencyNeeds, FinalState, JobId, JobState, JsonText,
    NewItem, NewJob, Outcome, UniqueKey,
};
use sexton::store::batches::{self, ItemRecord};
use sexton::store::claim::ClaimedJob;
use sexton::store::prune::{self, PruneJobs};
use sexton::store::removal::{Cancelled, Redriven};
use sexton::store::schema::{attempts, job_results, jobs};

use crate::harness::{Queue, at, depending, ended, job, on_both_backends, retried, succeeded};

on_both_backends![
    a_batch_is_over_when_its_last_item_is,
    a_batch_with_failed_items_fails_and_a_retry_brings_back_only_those,
    a_cancelled_batch_cancels_what_waits_and_stops_what_runs,
    what_depends_on_a_batch_waits_for_all_of_its_items,
    an_item_that_is_retried_by_itself_counts_again_while_the_batch_is_not_over,
    a_batch_that_is_retried_waits_for_an_item_that_was_retried_before_it,
    a_batch_whose_unique_key_is_taken_makes_no_items,
    a_batch_waits_for_what_it_depends_on,
    items_are_listed_in_order_and_by_state,
    an_item_is_shown_as_its_job_is_now,
    items_that_wait_for_another_job_are_shown_as_blocked,
    an_item_whose_job_was_deleted_keeps_its_end_and_names_no_job,
    a_pruned_batch_leaves_nothing_behind,
];

fn batch(items: usize) -> NewJob {
    let item = |index: usize| NewItem {
        node: None,
        name: format!("item-{index}"),
        params: JsonText::from(&json!({ "index": index })),
    };
    NewJob { items: (0..items).map(item).collect(), ..job() }
}

fn failed(claimed: &ClaimedJob, second: i64) -> sexton::model::FinishedAttempt {
    ended(claimed, second, Outcome::Failure, AfterAttempt::End(FinalState::Failed))
}

fn counts(total: u32, completed: u32, failed: u32, cancelled: u32) -> BatchCounts {
    BatchCounts { total, completed, failed, cancelled }
}

async fn items(queue: &Queue, batch: JobId) -> Vec<ItemRecord> {
    queue.read(move |conn| batches::items(conn, batch, None, None, 1000)).await
}

async fn a_batch_is_over_when_its_last_item_is(queue: Queue) {
    let id = queue.submit(0, batch(3)).await;
    let claimed = queue.claim(1, 10).await;
    let params: Vec<_> =
        claimed.iter().map(|item| item.params["index"].as_u64().unwrap()).collect();
    assert_eq!(params, [0, 1, 2], "nobody runs the batch itself");
    assert_eq!(claimed[1].settings.item.as_deref(), Some("item-1"));
    assert_eq!(claimed[1].settings.batch, Some(id));
    queue.finish(succeeded(&claimed[0], 2)).await;
    let running = queue.job(id).await;
    assert_eq!((running.state, running.progress), (JobState::Running, Some(33)));
    assert_eq!(running.batch, Some(counts(3, 1, 0, 0)));
    queue.finish(succeeded(&claimed[2], 3)).await;
    queue.finish(succeeded(&claimed[1], 4)).await;
    let over = queue.job(id).await;
    assert_eq!((over.state, over.error), (JobState::Completed, None));
    assert_eq!(over.result, Some(json!({"total": 3, "completed": 3, "failed": 0, "cancelled": 0})));
    assert_eq!(over.finished_at, Some(at(5)), "with its last item");
}

async fn a_batch_with_failed_items_fails_and_a_retry_brings_back_only_those(queue: Queue) {
    let id = queue.submit(0, batch(3)).await;
    let claimed = queue.claim(1, 10).await;
    queue.finish(failed(&claimed[0], 2)).await;
    queue.finish(succeeded(&claimed[1], 2)).await;
    assert_eq!(queue.redrive(2, id).await, Redriven::NotNow(JobState::Running));
    queue.finish(failed(&claimed[2], 2)).await;
    let over = queue.job(id).await;
    assert_eq!(over.state, JobState::Failed);
    assert_eq!(over.error.as_deref(), Some("of 3 items 2 failed and 0 were cancelled"));
    assert_eq!(queue.redrive(3, id).await, Redriven::Done);
    assert_eq!(queue.job(id).await.batch, Some(counts(3, 1, 0, 0)));
    let again = queue.claim(4, 10).await;
    let names: Vec<_> = again.iter().filter_map(|item| item.settings.item.as_deref()).collect();
    assert_eq!(names, ["item-0", "item-2"]);
    for item in &again {
        queue.finish(succeeded(item, 5)).await;
    }
    assert_eq!(queue.state(id).await, JobState::Completed);
}

async fn a_cancelled_batch_cancels_what_waits_and_stops_what_runs(queue: Queue) {
    let id = queue.submit(0, batch(4)).await;
    let claimed = queue.claim(1, 2).await;
    queue.finish(succeeded(&claimed[0], 2)).await;
    assert_eq!(queue.cancel(3, id).await, Cancelled::Requested);
    let running = queue.job(id).await;
    assert!(running.cancel_requested && running.state == JobState::Running);
    assert_eq!(running.batch, Some(counts(4, 1, 0, 2)));
    let told = queue.read(move |conn| batches::running_items(conn, id)).await;
    assert_eq!(told, [claimed[1].id]);
    let stopped =
        ended(&claimed[1], 4, Outcome::Cancelled, AfterAttempt::End(FinalState::Cancelled));
    queue.finish(stopped).await;
    let over = queue.job(id).await;
    assert_eq!(
        (over.state, over.error.as_deref()),
        (JobState::Cancelled, Some("cancelled by test"))
    );
    assert_eq!(queue.cancel(5, id).await, Cancelled::AlreadyOver);
    assert_eq!(queue.redrive(6, id).await, Redriven::Done, "and it can go on after all");
    assert_eq!(queue.claim(7, 10).await.len(), 3);
}

async fn what_depends_on_a_batch_waits_for_all_of_its_items(queue: Queue) {
    let id = queue.submit(0, batch(2)).await;
    let after = |needs| depending([Dependency { on: id, needs }], job());
    let import = queue.submit(0, after(DependencyNeeds::Success)).await;
    let tidy = queue.submit(0, after(DependencyNeeds::Finished)).await;
    let claimed = queue.claim(1, 10).await;
    assert_eq!(claimed.len(), 2, "both wait");
    queue.finish(succeeded(&claimed[0], 2)).await;
    assert!(queue.claim(2, 10).await.is_empty());
    queue.finish(failed(&claimed[1], 3)).await;
    assert_eq!(queue.state(import).await, JobState::Cancelled);
    assert_eq!(queue.claim_one(4).await.id, tidy);
}

async fn an_item_that_is_retried_by_itself_counts_again_while_the_batch_is_not_over(queue: Queue) {
    let id = queue.submit(0, batch(2)).await;
    let claimed = queue.claim(1, 10).await;
    queue.finish(failed(&claimed[0], 2)).await;
    queue.redrive(3, claimed[0].id).await;
    assert_eq!(queue.job(id).await.batch, Some(counts(2, 0, 0, 0)));
    queue.finish(succeeded(&claimed[1], 4)).await;
    assert_eq!(queue.state(id).await, JobState::Running, "it waits for the item that lives again");
    let again = queue.claim_one(5).await;
    queue.finish(succeeded(&again, 6)).await;
    assert_eq!(queue.state(id).await, JobState::Completed);
}

async fn a_batch_that_is_retried_waits_for_an_item_that_was_retried_before_it(queue: Queue) {
    let id = queue.submit(0, batch(2)).await;
    for item in queue.claim(1, 10).await {
        queue.finish(failed(&item, 2)).await;
    }
    let [first, second] = &items(&queue, id).await[..] else { panic!("two items") };
    let [first, second] = [first, second].map(|item| item.job.expect("its job is there"));
    queue.redrive(3, first).await;
    assert_eq!(queue.state(id).await, JobState::Failed, "that does not open the batch");
    queue.redrive(4, id).await;
    assert_eq!(queue.job(id).await.batch, Some(counts(2, 0, 0, 0)));
    let again = queue.claim(5, 10).await;
    assert_eq!(again.iter().map(|item| item.id).collect::<Vec<_>>(), [first, second]);
    queue.finish(succeeded(&again[1], 6)).await;
    assert_eq!(queue.state(id).await, JobState::Running);
    queue.finish(succeeded(&again[0], 7)).await;
    assert_eq!(queue.state(id).await, JobState::Completed);
}

async fn a_batch_whose_unique_key_is_taken_makes_no_items(queue: Queue) {
    let unique = Some(UniqueKey { key: "nightly".to_owned(), period: None });
    let one = NewJob { unique, ..batch(2) };
    let id = queue.submit(0, one.clone()).await;
    assert_eq!(queue.submit(1, one).await, id);
    assert_eq!(queue.claim(2, 10).await.len(), 2);
}

async fn a_batch_waits_for_what_it_depends_on(queue: Queue) {
    let first = queue.submit(0, job()).await;
    let needs = DependencyNeeds::Success;
    let after = Dependency { on: first, needs };
    queue.submit(0, depending([after], batch(2))).await;
    let claimed = queue.claim_one(1).await;
    queue.finish(succeeded(&claimed, 2)).await;
    assert_eq!(queue.claim(3, 10).await.len(), 2);
}

async fn items_are_listed_in_order_and_by_state(queue: Queue) {
    let id = queue.submit(0, batch(5)).await;
    let claimed = queue.claim(1, 3).await;
    queue.finish(failed(&claimed[0], 2)).await;
    queue.finish(succeeded(&claimed[2], 2)).await;
    let names = |rows: Vec<ItemRecord>| rows.into_iter().map(|row| row.name).collect::<Vec<_>>();
    let page = queue.read(move |conn| batches::items(conn, id, None, Some(1), 2)).await;
    assert_eq!(names(page), ["item-2", "item-3"]);
    let failed =
        queue.read(move |conn| batches::items(conn, id, Some(JobState::Failed), None, 9)).await;
    assert_eq!((failed[0].state, failed[0].attempts), (JobState::Failed, Some(1)));
    assert_eq!(names(failed), ["item-0"]);
    let page =
        queue.read(move |conn| batches::items(conn, id, Some(JobState::Pending), Some(3), 9));
    assert_eq!(names(page.await), ["item-4"]);
}

/// What the list and its filters say of items, and what their jobs say themselves.
async fn an_item_is_shown_as_its_job_is_now(queue: Queue) {
    let id = queue.submit(0, batch(6)).await;
    let claimed = queue.claim(1, 4).await;
    queue.finish(retried(&claimed[0], 2, 9)).await;
    queue.finish(succeeded(&claimed[1], 2)).await;
    queue.finish(failed(&claimed[2], 2)).await;
    let last = claimed[3].id.0 + 2;
    queue.cancel(2, JobId(last)).await;
    let expected = [
        JobState::Retrying,
        JobState::Completed,
        JobState::Failed,
        JobState::Running,
        JobState::Pending,
        JobState::Cancelled,
    ];
    agree(&queue, id, &expected).await;
    let retrying = &items(&queue, id).await[0];
    assert_eq!(retrying.error.as_deref(), Some("it was a failure"));
    // The batch is over, and one of its items is tried again by itself.
    queue.promote(9).await;
    for item in queue.claim(9, 10).await {
        queue.finish(succeeded(&item, 10)).await;
    }
    queue.finish(succeeded(&claimed[3], 10)).await;
    assert_eq!(queue.state(id).await, JobState::Failed);
    queue.redrive(11, claimed[2].id).await;
    let done = JobState::Completed;
    agree(&queue, id, &[done, done, JobState::Pending, done, done, JobState::Cancelled]).await;
    let again = queue.claim_one(12).await;
    queue.finish(succeeded(&again, 13)).await;
    agree(&queue, id, &[done, done, done, done, done, JobState::Cancelled]).await;
    assert_eq!(items(&queue, id).await[2].attempts, Some(2));
    assert_eq!(queue.state(id).await, JobState::Failed, "that changes the item and not the batch");
}

/// Asserts that the items are in these states, in order, as their jobs say as well, and that each filter finds those that it names.
async fn agree(queue: &Queue, batch: JobId, expected: &[JobState]) {
    let all = items(queue, batch).await;
    let states: Vec<JobState> = all.iter().map(|item| item.state).collect();
    assert_eq!(states, expected);
    for item in &all {
        let job = queue.job(item.job.expect("its job is there")).await;
        let shown = (item.state, item.attempts, &item.error, &item.result);
        assert_eq!(shown, (job.state, Some(job.attempt), &job.error, &job.result));
    }
    for state in JobState::ALL {
        let found = queue.read(move |conn| batches::items(conn, batch, Some(state), None, 9)).await;
        let meant: Vec<_> = all.iter().filter(|item| item.state == state).cloned().collect();
        assert_eq!(found, meant, "{state}");
    }
}

async fn items_that_wait_for_another_job_are_shown_as_blocked(queue: Queue) {
    let first = queue.submit(0, job()).await;
    let after = Dependency { on: first, needs: DependencyNeeds::Success };
    let id = queue.submit(0, depending([after], batch(2))).await;
    agree(&queue, id, &[JobState::Blocked; 2]).await;
}

async fn an_item_whose_job_was_deleted_keeps_its_end_and_names_no_job(queue: Queue) {
    let id = queue.submit(0, batch(2)).await;
    let claimed = queue.claim(1, 2).await;
    queue.finish(failed(&claimed[0], 2)).await;
    queue.finish(succeeded(&claimed[1], 2)).await;
    let gone = claimed[0].id.0;
    queue
        .write(move |conn| {
            diesel::delete(job_results::table.find(gone)).execute(conn)?;
            diesel::delete(attempts::table.filter(attempts::job_id.eq(gone))).execute(conn)?;
            diesel::delete(jobs::table.find(gone)).execute(conn)?;
            Ok(())
        })
        .await;
    let failed = Some(JobState::Failed);
    let failed = queue.read(move |conn| batches::items(conn, id, failed, None, 9)).await;
    let shown: Vec<_> = failed.iter().map(|item| (&*item.name, item.job, item.attempts)).collect();
    assert_eq!(shown, [("item-0", None, None)]);
}

async fn a_pruned_batch_leaves_nothing_behind(queue: Queue) {
    let id = queue.submit(0, batch(2)).await;
    for item in queue.claim(1, 10).await {
        queue.finish(succeeded(&item, 2)).await;
    }
    let what = PruneJobs {
        state: FinalState::Completed,
        before: at(100),
        keep_per_schedule: 0,
        after: None,
        limit: 100,
    };
    let pruned = queue.write(move |conn| prune::jobs(conn, what)).await;
    assert_eq!(pruned.deleted.len(), 3);
    assert!(items(&queue, id).await.is_empty());
    assert_eq!(queue.read(move |conn| batches::counts(conn, id)).await, None);
}
