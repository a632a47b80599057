//! Batches that are dropped: as a whole, or not at all.

use serde_json::json;
use sexton::model::{
    Actor, Dependency, DependencyNeeds, FinalState, JobId, JobSettings, JobState, JsonText,
    NewItem, NewJob, OnDependencyFailure,
};
use sexton::store::by_hand::{self, Came, Dropped, Order, OrderedBy, STEP_JOBS};
use sexton::store::prune::{self, PruneJobs};
use sexton::store::removal::Redriven;
use sexton::store::{batch_orders, batches, history};

use crate::harness::{Queue, at, depending, job, on_both_backends};

on_both_backends![
    a_batch_is_dropped_behind_its_items,
    a_batch_of_which_an_item_lives_is_left_as_it_is,
    a_batch_of_which_an_item_is_waited_for_is_left_as_it_is,
    what_comes_to_life_while_its_batch_is_dropped_keeps_the_rest,
    who_waits_for_a_batch_that_is_being_dropped_keeps_the_rest,
    a_batch_that_is_retried_while_it_is_dropped_is_not_deleted,
];

/// Two steps: a whole one and a rest.
const ITEMS: usize = STEP_JOBS + 200;

fn by(queue: &Queue) -> OrderedBy {
    OrderedBy { actor: Actor::named("ada"), context: queue.context(50) }
}

/// A batch that was cancelled, and its items.
async fn cancelled(queue: &Queue, items: usize) -> (JobId, Vec<JobId>) {
    let item = |index: usize| NewItem {
        node: None,
        name: format!("item-{index}"),
        params: JsonText::from(&json!({})),
    };
    let batch = NewJob { items: (0..items).map(item).collect(), ..job() };
    let id = queue.submit(0, batch).await;
    queue.cancel(1, id).await;
    batch_orders::finish(&queue.store, id, queue.context(1), |_| {}).await.unwrap();
    assert_eq!(queue.state(id).await, JobState::Cancelled);
    let all = queue.read(move |conn| batches::items(conn, id, None, None, 10_000)).await;
    (id, all.into_iter().filter_map(|item| item.job).collect())
}

/// What comes of the order before its steps, which is what was foreseen.
async fn refused(queue: &Queue, id: JobId) -> Came {
    let foreseen =
        queue.read(move |conn| by_hand::foresee(conn, Order::Drop, id, None)).await.expect("why");
    let kept = queue.read(move |conn| by_hand::kept(conn, &[id.0])).await;
    assert_eq!(kept.get(&id.0), Some(&foreseen));
    let by = by(queue);
    let step =
        queue.write(move |conn| by_hand::carry_out(conn, Order::Drop, &[id.0], None, &by)).await;
    assert_eq!((step.unfinished, step.gone), (Vec::new(), Vec::new()));
    assert_eq!(step.came.first(), Some(&foreseen));
    foreseen
}

async fn step(queue: &Queue, id: JobId) -> Dropped {
    let by = by(queue);
    queue.write(move |conn| by_hand::drop_some(conn, id, &by)).await
}

/// Drops a batch that nothing keeps.
async fn drop_all(queue: &Queue, id: JobId) {
    let by = by(queue);
    let begun =
        queue.write(move |conn| by_hand::carry_out(conn, Order::Drop, &[id.0], None, &by)).await;
    assert_eq!((begun.came, begun.unfinished), (vec![Came::Done], vec![id]));
    assert_eq!(begun.gone, [0; 0], "that is done in steps");
    loop {
        match step(queue, id).await.came {
            None => {}
            Some(came) => return assert_eq!(came, Came::Done),
        }
    }
}

/// How many of the jobs there are.
async fn left(queue: &Queue, ids: &[JobId]) -> usize {
    let ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
    queue.read(move |conn| history::by_ids(conn, &ids)).await.len()
}

/// Deletes whatever was cancelled long ago and nothing keeps.
async fn delete_by_age(queue: &Queue) -> Vec<JobId> {
    let old = PruneJobs {
        state: FinalState::Cancelled,
        before: at(100),
        keep_per_schedule: 0,
        after: None,
        limit: 100,
    };
    queue.write(move |conn| prune::jobs(conn, old)).await.deleted
}

fn waiting_for(on: JobId) -> NewJob {
    let settings =
        JobSettings { on_dependency_failure: OnDependencyFailure::Wait, ..JobSettings::default() };
    let needs = Dependency { on, needs: DependencyNeeds::Success };
    depending([needs], NewJob { settings, ..job() })
}

async fn a_batch_is_dropped_behind_its_items(queue: Queue) {
    let (id, items) = cancelled(&queue, ITEMS).await;
    let first = step(&queue, id).await;
    assert_eq!((first.gone.len(), first.came), (STEP_JOBS, None));
    assert_eq!(queue.state(id).await, JobState::Cancelled, "what is left can be dropped again");
    drop_all(&queue, id).await;
    assert_eq!(left(&queue, &items).await, 0);
    assert_eq!(queue.read(move |conn| batches::counts(conn, id)).await, None);
    assert_eq!(step(&queue, id).await.came, Some(Came::Unknown));
}

async fn a_batch_of_which_an_item_lives_is_left_as_it_is(queue: Queue) {
    let (id, items) = cancelled(&queue, 5).await;
    assert_eq!(queue.redrive(3, items[2]).await, Redriven::Done);
    assert_eq!(refused(&queue, id).await, Came::ItemLives(items[2]));
    assert_eq!(left(&queue, &items).await, 5);
    assert_eq!(delete_by_age(&queue).await, [items[0], items[1], items[3], items[4]]);
    assert_eq!(left(&queue, &[id, items[2]]).await, 2, "it has its batch still");
    queue.cancel(4, items[2]).await;
    drop_all(&queue, id).await;
    assert_eq!(left(&queue, &items).await, 0);
}

async fn a_batch_of_which_an_item_is_waited_for_is_left_as_it_is(queue: Queue) {
    let (id, items) = cancelled(&queue, 3).await;
    let waiting = queue.submit(3, waiting_for(items[1])).await;
    assert_eq!(refused(&queue, id).await, Came::WaitedFor(waiting));
    assert_eq!(refused(&queue, items[1]).await, Came::WaitedFor(waiting));
    assert_eq!(delete_by_age(&queue).await, [items[0], items[2]]);
    assert_eq!(left(&queue, &[id, items[1]]).await, 2);
    queue.cancel(4, waiting).await;
    drop_all(&queue, id).await;
    assert_eq!(left(&queue, &items).await, 0);
}

async fn what_comes_to_life_while_its_batch_is_dropped_keeps_the_rest(queue: Queue) {
    let (id, items) = cancelled(&queue, ITEMS).await;
    step(&queue, id).await;
    let lives = items[STEP_JOBS + 50];
    assert_eq!(queue.redrive(3, lives).await, Redriven::Done);
    let second = step(&queue, id).await;
    assert_eq!((second.gone.len(), second.came), (50, Some(Came::ItemLives(lives))));
    assert_eq!(left(&queue, &items).await, ITEMS - STEP_JOBS - 50);
    assert_eq!(refused(&queue, id).await, Came::ItemLives(lives));
    queue.cancel(4, lives).await;
    drop_all(&queue, id).await;
    assert_eq!(left(&queue, &items).await, 0);
}

async fn who_waits_for_a_batch_that_is_being_dropped_keeps_the_rest(queue: Queue) {
    let (id, items) = cancelled(&queue, ITEMS).await;
    step(&queue, id).await;
    let waiting = queue.submit(3, waiting_for(id)).await;
    let second = step(&queue, id).await;
    assert_eq!(second, Dropped { gone: Vec::new(), came: Some(Came::WaitedFor(waiting)) });
    assert_eq!(left(&queue, &items).await, ITEMS - STEP_JOBS);
}

async fn a_batch_that_is_retried_while_it_is_dropped_is_not_deleted(queue: Queue) {
    let (id, items) = cancelled(&queue, ITEMS).await;
    step(&queue, id).await;
    assert_eq!(queue.redrive(3, id).await, Redriven::Done);
    let second = step(&queue, id).await;
    assert_eq!(second, Dropped { gone: Vec::new(), came: Some(Came::NotNow(JobState::Running)) });
    assert_eq!(left(&queue, &items).await, ITEMS - STEP_JOBS);
}
