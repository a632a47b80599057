//! Jobs of one order that have to do with each other: each is answered for, and noted, for what was done to itself.

use std::collections::BTreeMap;

use serde_json::json;
use sexton::model::{
    Actor, AfterAttempt, Dependency, DependencyNeeds, FinalState, JobId, JobSettings, JobState,
    JsonText, NewItem, NewJob, OnDependencyFailure, Outcome,
};
use sexton::store::by_hand::{self, Came, Order, OrderedBy};
use sexton::store::history::{self, JobFilter, Page};
use sexton::store::removal::Redriven;
use sexton::store::replacement::{self, Replaced};
use sexton::store::{audit, batches};

use crate::harness::{Queue, at, depending, ended, job, on_both_backends};

on_both_backends![
    each_of_a_chain_is_cancelled_by_itself,
    what_does_the_work_of_another_job_is_cancelled_behind_those_that_wait_for_it,
    items_come_before_their_batch_when_it_is_retried,
    items_that_are_named_beside_their_batch_are_cancelled_with_it,
    a_filter_chooses_no_item_beside_its_batch,
    an_item_that_is_younger_than_its_batch_is_chosen_by_its_own_time,
    the_items_that_go_with_a_batch_are_counted_once,
];

fn needing(on: JobId, on_dependency_failure: OnDependencyFailure) -> NewJob {
    let settings = JobSettings { on_dependency_failure, ..JobSettings::default() };
    let needs = Dependency { on, needs: DependencyNeeds::Success };
    depending([needs], NewJob { settings, ..job() })
}

fn batch(items: usize) -> NewJob {
    let item = |index: usize| NewItem {
        node: None,
        name: format!("item-{index}"),
        params: JsonText::from(&json!({})),
    };
    let labels = BTreeMap::from([("b".to_owned(), "1".to_owned())]);
    NewJob { items: (0..items).map(item).collect(), labels, ..job() }
}

async fn items(queue: &Queue, id: JobId) -> Vec<JobId> {
    let all = queue.read(move |conn| batches::items(conn, id, None, None, 100)).await;
    all.into_iter().filter_map(|item| item.job).collect()
}

/// Gives an order as the API does.
async fn order(queue: &Queue, order: Order, ids: &[JobId]) -> Vec<(JobId, Came)> {
    let ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
    let by = OrderedBy { actor: Actor::named("ada"), context: queue.context(50) };
    let ids = queue.read(move |conn| by_hand::in_turn(conn, order, ids)).await;
    let these = ids.clone();
    let step = queue.write(move |conn| by_hand::carry_out(conn, order, &these, None, &by)).await;
    ids.into_iter().map(JobId).zip(step.came).collect()
}

/// Whom the audit log tells of.
async fn told(queue: &Queue) -> Vec<String> {
    let everything = audit::AuditSource::Everything;
    let upto = sexton::audit::Upto::default();
    let rows = queue.read(move |conn| audit::rows_after(conn, &everything, upto, 100)).await;
    rows.events.into_iter().map(|row| row.subject).collect()
}

async fn found(queue: &Queue, order: Order, filter: JobFilter) -> Vec<JobId> {
    let among = order.possible().to_vec();
    let filter = JobFilter { among, without_items_of_found: true, ..filter };
    let page = Page { limit: 100, before: None };
    let ids = queue.read(move |conn| history::job_ids(conn, &filter, page)).await;
    ids.into_iter().map(JobId).collect()
}

fn marked() -> JobFilter {
    JobFilter { labels: vec!["b=1".to_owned()], ..JobFilter::default() }
}

async fn fail_all(queue: &Queue, second: i64) {
    for claimed in queue.claim(second, 100).await {
        let end = AfterAttempt::End(FinalState::Failed);
        queue.finish(ended(&claimed, second, Outcome::Failure, end)).await;
    }
}

async fn each_of_a_chain_is_cancelled_by_itself(queue: Queue) {
    let first = queue.submit(0, job()).await;
    let second = queue.submit(0, needing(first, OnDependencyFailure::Cancel)).await;
    let third = queue.submit(0, needing(second, OnDependencyFailure::Cancel)).await;
    let came = order(&queue, Order::Cancel, &[first, second, third]).await;
    assert_eq!(came, [(third, Came::Done), (second, Came::Done), (first, Came::Done)]);
    assert_eq!(told(&queue).await, ["job:3", "job:2", "job:1"]);
    assert_eq!(queue.job(third).await.error.as_deref(), Some("cancelled by ada"));
}

async fn what_does_the_work_of_another_job_is_cancelled_behind_those_that_wait_for_it(
    queue: Queue,
) {
    let first = queue.submit(0, job()).await;
    let waiting = queue.submit(0, needing(first, OnDependencyFailure::Wait)).await;
    fail_all(&queue, 1).await;
    let params = JsonText::from(&json!({ "a": 1 }));
    let context = queue.context(2);
    let replaced = queue
        .write(move |conn| {
            replacement::replace(conn, first, &params, &Actor::named("ada"), context)
        })
        .await;
    let Replaced::By(again) = replaced else { panic!("it is replaced: {replaced:?}") };
    let came = order(&queue, Order::Cancel, &[waiting, again]).await;
    assert_eq!(came, [(waiting, Came::Done), (again, Came::Done)]);
}

async fn items_come_before_their_batch_when_it_is_retried(queue: Queue) {
    let id = queue.submit(0, batch(2)).await;
    let items = items(&queue, id).await;
    fail_all(&queue, 1).await;
    let after = queue.submit(2, needing(id, OnDependencyFailure::Wait)).await;
    queue.cancel(3, after).await;
    let came = order(&queue, Order::Retry, &[after, id, items[0]]).await;
    assert_eq!(came, [(items[0], Came::Done), (id, Came::Done), (after, Came::Blocked)]);
    assert_eq!(queue.state(items[1]).await, JobState::Pending);
    assert_eq!(queue.state(id).await, JobState::Running);
}

async fn items_that_are_named_beside_their_batch_are_cancelled_with_it(queue: Queue) {
    let id = queue.submit(0, batch(3)).await;
    let items = items(&queue, id).await;
    queue.cancel(1, items[0]).await;
    assert_eq!(queue.claim(2, 1).await[0].id, items[1]);
    let all: Vec<i64> = items.iter().chain([&id]).map(|id| id.0).collect();
    let with_it = queue.read(move |conn| by_hand::cancelled_with_others(conn, &all)).await;
    assert_eq!(with_it, [items[1].0, items[2].0].into(), "the first one was over");
    let alone = [items[2].0];
    let with_it = queue.read(move |conn| by_hand::cancelled_with_others(conn, &alone)).await;
    assert!(with_it.is_empty(), "its batch is not named");
    assert_eq!(order(&queue, Order::Cancel, &[id]).await, [(id, Came::Requested)]);
    let asked: Vec<i64> = items.iter().map(|id| id.0).collect();
    let came = queue.read(move |conn| by_hand::came_with_others(conn, &asked[1..])).await;
    assert_eq!(came, [Came::Requested, Came::Done]);
}

async fn a_filter_chooses_no_item_beside_its_batch(queue: Queue) {
    let id = queue.submit(0, batch(3)).await;
    let items = items(&queue, id).await;
    let other = queue.submit(0, NewJob { labels: batch(0).labels, ..job() }).await;
    assert_eq!(found(&queue, Order::Cancel, marked()).await, [other, id]);
    // An item that is over before its batch has nobody that it could go with.
    queue.cancel(1, items[0]).await;
    assert_eq!(found(&queue, Order::Drop, marked()).await, [items[0]]);
    assert_eq!(found(&queue, Order::Retry, marked()).await, [items[0]]);
    fail_all(&queue, 2).await;
    assert_eq!(found(&queue, Order::Drop, marked()).await, [other, id]);
    assert_eq!(found(&queue, Order::Retry, marked()).await, [other, id]);
    assert_eq!(queue.redrive(3, items[1]).await, Redriven::Done);
    assert_eq!(found(&queue, Order::Cancel, marked()).await, [items[1]], "its batch is over");
}

async fn an_item_that_is_younger_than_its_batch_is_chosen_by_its_own_time(queue: Queue) {
    let id = queue.submit(0, batch(2)).await;
    let items = items(&queue, id).await;
    fail_all(&queue, 1).await;
    let (item, context) = (items[0], queue.context(10));
    let replaced = queue
        .write(move |conn| {
            let params = JsonText::from(&json!({}));
            replacement::replace(conn, item, &params, &Actor::named("ada"), context)
        })
        .await;
    let Replaced::By(again) = replaced else { panic!("it is replaced: {replaced:?}") };
    queue.cancel(11, again).await;
    let since = |second| JobFilter { since: Some(at(second)), ..marked() };
    assert_eq!(found(&queue, Order::Retry, since(5)).await, [again]);
    assert!(!found(&queue, Order::Retry, since(0)).await.contains(&again));
    let until = JobFilter { until: Some(at(5)), ..marked() };
    assert_eq!(found(&queue, Order::Drop, until).await, [item, id], "it is no item any more");
}

async fn the_items_that_go_with_a_batch_are_counted_once(queue: Queue) {
    let id = queue.submit(0, batch(3)).await;
    let items = items(&queue, id).await;
    queue.cancel(1, items[0]).await;
    let with = async |order, ids: &[JobId]| {
        let ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
        queue.read(move |conn| by_hand::items_with(conn, order, &ids)).await
    };
    assert_eq!(with(Order::Cancel, &[id]).await, 2);
    assert_eq!(with(Order::Cancel, &[id, items[1]]).await, 1);
    assert_eq!(with(Order::Cancel, &[items[1]]).await, 0);
    fail_all(&queue, 2).await;
    assert_eq!(with(Order::Retry, &[id]).await, 3);
    assert_eq!(with(Order::Drop, &[id]).await, 3);
    assert_eq!(order(&queue, Order::Drop, &[items[0]]).await, [(items[0], Came::Done)]);
    assert_eq!(with(Order::Drop, &[id]).await, 2);
}
