//! Cancelling and retrying batches with more items than one step goes through.

use serde_json::json;
use sexton::model::{
    Actor, AfterAttempt, BatchCounts, FinalState, FinishedAttempt, JobId, JobState, JsonText,
    NewItem, NewJob, Outcome,
};
use sexton::store::batch_orders::{self, Taken};
use sexton::store::by_hand::{self, Came, Order, OrderedBy, STEP_JOBS};
use sexton::store::claim::ClaimedJob;
use sexton::store::removal::{Cancelled, Redriven};
use sexton::store::{batches, finish};

use crate::harness::{Queue, at, ended, job, on_both_backends, succeeded};

on_both_backends![
    a_large_batch_is_cancelled_in_steps_and_not_over_before_the_last,
    a_large_batch_is_retried_in_steps_and_not_over_before_the_last,
    an_order_that_broke_off_is_found_by_the_next_start_and_carried_on,
    a_batch_that_is_cancelled_while_it_is_retried_counts_all_of_its_items,
    an_item_that_is_retried_by_itself_before_the_retry_comes_to_it_counts_once,
    running_items_are_told_to_stop_step_by_step,
    a_batch_of_one_step_leaves_nothing_to_be_done,
];

/// Two steps: a whole one and a rest.
const ITEMS: usize = STEP_JOBS + 200;

/// Three steps.
const MANY_ITEMS: usize = 2 * STEP_JOBS + 200;

fn batch(items: usize) -> NewJob {
    let item = |index: usize| NewItem {
        node: None,
        name: format!("item-{index}"),
        params: JsonText::from(&json!({})),
    };
    NewJob { items: (0..items).map(item).collect(), ..job() }
}

async fn counts(queue: &Queue, id: JobId) -> BatchCounts {
    queue.read(move |conn| batches::counts(conn, id)).await.expect("it is a batch")
}

async fn step(queue: &Queue, id: JobId, from: i64) -> Taken {
    let context = queue.context(50);
    queue.write(move |conn| batch_orders::take_step(conn, id, from, context)).await
}

/// Takes the steps that are left. Returns how many.
async fn go_on(queue: &Queue, id: JobId) -> usize {
    let (mut from, mut steps) = (0, 0);
    loop {
        let taken = step(queue, id, from).await;
        steps += 1;
        match taken.next {
            Some(next) => from = next,
            None => return steps,
        }
    }
}

async fn unfinished(queue: &Queue) -> Vec<JobId> {
    queue.read(batch_orders::unfinished).await
}

async fn end_all(queue: &Queue, claimed: &[ClaimedJob], end: FinalState) {
    let all: Vec<FinishedAttempt> = claimed
        .iter()
        .map(|one| match end {
            FinalState::Completed => succeeded(one, 40),
            end => ended(one, 40, Outcome::Failure, AfterAttempt::End(end)),
        })
        .collect();
    let node = queue.node;
    queue.write(move |conn| finish::finish(conn, node, &all)).await;
}

/// A batch all of whose items have failed.
async fn failed(queue: &Queue) -> JobId {
    let id = queue.submit(0, batch(ITEMS)).await;
    let claimed = queue.claim(1, ITEMS).await;
    end_all(queue, &claimed, FinalState::Failed).await;
    assert_eq!(queue.state(id).await, JobState::Failed);
    id
}

async fn a_large_batch_is_cancelled_in_steps_and_not_over_before_the_last(queue: Queue) {
    let id = queue.submit(0, batch(MANY_ITEMS)).await;
    assert_eq!(queue.cancel(5, id).await, Cancelled::Requested);
    assert_eq!(counts(&queue, id).await.cancelled, 1000);
    let between = queue.job(id).await;
    assert_eq!((between.state, between.cancel_requested), (JobState::Running, true));
    assert_eq!(unfinished(&queue).await, [id]);
    let second = step(&queue, id, 0).await;
    assert_eq!((counts(&queue, id).await.cancelled, second.is_over), (2000, false));
    let last = step(&queue, id, second.next.expect("one more")).await;
    assert_eq!(last, Taken { to_stop: Vec::new(), next: None, is_over: true });
    let over = queue.job(id).await;
    assert_eq!(
        (over.state, over.error.as_deref()),
        (JobState::Cancelled, Some("cancelled by test"))
    );
    assert_eq!(unfinished(&queue).await, []);
}

async fn a_large_batch_is_retried_in_steps_and_not_over_before_the_last(queue: Queue) {
    let id = failed(&queue).await;
    assert_eq!(queue.redrive(45, id).await, Redriven::Done);
    assert_eq!(unfinished(&queue).await, [id]);
    // All that was brought back by now is done before the next step.
    let first = queue.claim(46, ITEMS).await;
    assert_eq!(first.len(), STEP_JOBS);
    end_all(&queue, &first, FinalState::Completed).await;
    assert_eq!(queue.state(id).await, JobState::Running);
    let so_far = counts(&queue, id).await;
    assert_eq!((so_far.completed, so_far.failed), (1000, 0));
    assert_eq!(go_on(&queue, id).await, 1);
    assert_eq!(unfinished(&queue).await, []);
    let rest = queue.claim(51, ITEMS).await;
    assert_eq!(rest.len(), ITEMS - STEP_JOBS);
    end_all(&queue, &rest[1..], FinalState::Completed).await;
    assert_eq!(queue.state(id).await, JobState::Running);
    end_all(&queue, &rest[..1], FinalState::Completed).await;
    assert_eq!(queue.state(id).await, JobState::Completed);
    assert_eq!(counts(&queue, id).await.completed, 1200);
}

async fn an_order_that_broke_off_is_found_by_the_next_start_and_carried_on(queue: Queue) {
    let cancelled = queue.submit(0, batch(ITEMS)).await;
    queue.cancel(5, cancelled).await;
    let queue = queue.reopen().await;
    assert_eq!(unfinished(&queue).await, [cancelled]);
    go_on(&queue, cancelled).await;
    assert_eq!(queue.state(cancelled).await, JobState::Cancelled);
    assert_eq!(queue.redrive(10, cancelled).await, Redriven::Done);
    let queue = queue.reopen().await;
    assert_eq!(unfinished(&queue).await, [cancelled]);
    go_on(&queue, cancelled).await;
    assert_eq!(unfinished(&queue).await, []);
    assert_eq!(queue.claim(60, ITEMS).await.len(), ITEMS);
}

async fn a_batch_that_is_cancelled_while_it_is_retried_counts_all_of_its_items(queue: Queue) {
    let id = failed(&queue).await;
    queue.redrive(45, id).await;
    assert_eq!(queue.cancel(46, id).await, Cancelled::Requested);
    go_on(&queue, id).await;
    let of_all = BatchCounts { total: 1200, completed: 0, failed: 200, cancelled: 1000 };
    assert_eq!(counts(&queue, id).await, of_all, "what was not brought back stays as it was");
    assert_eq!(queue.state(id).await, JobState::Cancelled);
    assert_eq!(unfinished(&queue).await, []);
}

async fn an_item_that_is_retried_by_itself_before_the_retry_comes_to_it_counts_once(queue: Queue) {
    let id = failed(&queue).await;
    queue.redrive(45, id).await;
    let items = queue.read(move |conn| batches::items(conn, id, None, Some(1000), 9)).await;
    // One that lives when the step comes to it, and one that has ended again.
    let [lives, ends] = [0, 1].map(|place: usize| items[place].job.expect("its job is there"));
    assert_eq!(queue.redrive(46, ends).await, Redriven::Done);
    let claimed = queue.claim(47, ITEMS).await;
    end_all(&queue, &claimed, FinalState::Completed).await;
    assert_eq!(queue.redrive(48, lives).await, Redriven::Done);
    assert_eq!(queue.state(id).await, JobState::Running);
    go_on(&queue, id).await;
    let rest = queue.claim(51, ITEMS).await;
    assert_eq!(rest.len(), ITEMS - STEP_JOBS - 1);
    end_all(&queue, &rest, FinalState::Completed).await;
    assert_eq!(counts(&queue, id).await.completed, 1200);
    assert_eq!(queue.state(id).await, JobState::Completed);
}

async fn running_items_are_told_to_stop_step_by_step(queue: Queue) {
    let id = queue.submit(0, batch(ITEMS)).await;
    let claimed = queue.claim(1, STEP_JOBS + 10).await;
    queue.cancel(5, id).await;
    let second = step(&queue, id, 0).await;
    let expected: Vec<JobId> = claimed[STEP_JOBS..].iter().map(|one| one.id).collect();
    assert_eq!(second.to_stop, expected, "the others were told before");
    go_on(&queue, id).await;
    assert_eq!(unfinished(&queue).await, [], "whoever was told needs no further step");
    let node = queue.node;
    let ends: Vec<FinishedAttempt> = claimed
        .iter()
        .map(|one| ended(one, 6, Outcome::Cancelled, AfterAttempt::End(FinalState::Cancelled)))
        .collect();
    assert_eq!(queue.state(id).await, JobState::Running);
    queue.write(move |conn| finish::finish(conn, node, &ends)).await;
    assert_eq!(queue.state(id).await, JobState::Cancelled);
}

async fn a_batch_of_one_step_leaves_nothing_to_be_done(queue: Queue) {
    let small = queue.submit(0, batch(3)).await;
    let large = queue.submit(0, batch(ITEMS)).await;
    let by = OrderedBy { actor: Actor::named("test"), context: queue.context(5) };
    let ids = [small.0, large.0];
    let done =
        queue.write(move |conn| by_hand::carry_out(conn, Order::Cancel, &ids, None, &by)).await;
    assert_eq!(done.came, [Came::Done, Came::Requested]);
    assert_eq!(done.unfinished, [large]);
    let context = queue.context(6);
    let is_over = batch_orders::finish(&queue.store, large, context, |_| {}).await.unwrap();
    assert!(is_over);
    assert_eq!(queue.state(large).await, JobState::Cancelled);
    assert_eq!(queue.job(small).await.finished_at, Some(at(5)));
}
