//! Batches whose items are done in one run.

use serde_json::json;
use sexton::model::{
    AfterAttempt, BatchCounts, FinalState, ItemEnd, ItemReport, JobId, JobState, JsonText, NewItem,
    NewJob, Outcome,
};
use sexton::store::claim::ClaimedJob;
use sexton::store::whole_batches;
use sexton::store::{batches::ItemRecord, by_hand, replacement};

use crate::harness::{Queue, ended, job, on_both_backends, retried, succeeded};

on_both_backends![
    a_batch_in_one_run_is_one_job_and_its_items_are_counted,
    the_next_attempt_gets_what_is_not_completed,
    what_nothing_was_said_of_shares_the_end_of_the_job,
    only_the_owner_of_the_attempt_speaks_for_its_items,
    a_retry_by_hand_gets_only_what_is_left,
    what_replaces_it_gets_what_is_left,
    items_are_found_by_state_also_where_nothing_was_said,
    a_dropped_batch_takes_its_items_along,
];

fn whole(names: &[&str]) -> NewJob {
    let item = |name: &&str| NewItem {
        node: None,
        name: (*name).to_owned(),
        params: JsonText::from(&if *name == "b" { json!({"page": 2}) } else { json!({}) }),
    };
    let mut new = NewJob { items: names.iter().map(item).collect(), ..job() };
    new.settings.whole_batch = true;
    new
}

fn completed(position: i32) -> ItemReport {
    ItemReport { position, end: ItemEnd::Completed, result: Some(JsonText::from(&json!(position))) }
}

fn failed(position: i32) -> ItemReport {
    ItemReport { position, end: ItemEnd::Failed(Some("no".to_owned())), result: None }
}

async fn record(queue: &Queue, claimed: &ClaimedJob, reports: Vec<ItemReport>) -> bool {
    let (node, job, number) = (queue.node, claimed.id, claimed.number);
    queue.write(move |conn| whole_batches::record(conn, node, job, number, &reports)).await
}

async fn open(queue: &Queue, id: JobId) -> Vec<String> {
    let items = queue.read(move |conn| whole_batches::open_items(conn, id, None, 100)).await;
    items.into_iter().map(|item| item.name).collect()
}

async fn listed(queue: &Queue, id: JobId, state: Option<JobState>) -> Vec<ItemRecord> {
    let over = FinalState::of(queue.state(id).await);
    queue.read(move |conn| whole_batches::items(conn, id, over, state, None, 100)).await
}

fn states(items: &[ItemRecord]) -> Vec<(&str, JobState)> {
    items.iter().map(|item| (item.name.as_str(), item.state)).collect()
}

fn counts(total: u32, completed: u32, failed: u32, cancelled: u32) -> Option<BatchCounts> {
    Some(BatchCounts { total, completed, failed, cancelled })
}

fn gone_wrong(claimed: &ClaimedJob, second: i64) -> sexton::model::FinishedAttempt {
    ended(claimed, second, Outcome::Failure, AfterAttempt::End(FinalState::Failed))
}

async fn a_batch_in_one_run_is_one_job_and_its_items_are_counted(queue: Queue) {
    let id = queue.submit(0, whole(&["a", "b", "c"])).await;
    assert_eq!(queue.job(id).await.batch, counts(3, 0, 0, 0));
    let claimed = queue.claim_one(1).await;
    assert!(claimed.id == id && claimed.settings.whole_batch);
    let items = queue.read(move |conn| whole_batches::open_items(conn, id, Some(0), 1)).await;
    assert_eq!((items[0].position, items[0].name.as_str()), (1, "b"));
    assert_eq!(items[0].params.as_ref().map(JsonText::value), Some(json!({"page": 2})));
    assert!(record(&queue, &claimed, vec![completed(0), failed(1)]).await);
    let running = queue.job(id).await;
    assert_eq!((running.batch, running.progress), (counts(3, 1, 1, 0), Some(66)));
    // The last word on an item counts, within one record and from one to the next.
    assert!(record(&queue, &claimed, vec![failed(2), completed(2), completed(1)]).await);
    assert_eq!(queue.job(id).await.batch, counts(3, 3, 0, 0));
    queue.finish(succeeded(&claimed, 2)).await;
    let over = queue.job(id).await;
    assert_eq!((over.state, over.batch), (JobState::Completed, counts(3, 3, 0, 0)));
    let items = listed(&queue, id, None).await;
    assert_eq!(items[0].result, Some(json!(0)));
    assert_eq!((items[1].job.unwrap(), items[1].attempts, &items[1].error), (id, Some(1), &None));
}

async fn the_next_attempt_gets_what_is_not_completed(queue: Queue) {
    let id = queue.submit(0, whole(&["a", "b", "c"])).await;
    let first = queue.claim_one(1).await;
    record(&queue, &first, vec![completed(1), failed(2)]).await;
    // As after a daemon that was killed.
    let given_back = ended(&first, 2, Outcome::Interrupted, AfterAttempt::GiveBack);
    queue.finish(given_back).await;
    assert_eq!(open(&queue, id).await, ["a", "c"]);
    assert_eq!(queue.job(id).await.batch, counts(3, 1, 1, 0));
    let second = queue.claim_one(3).await;
    record(&queue, &second, vec![completed(2)]).await;
    queue.finish(retried(&second, 4, 5)).await;
    assert_eq!(open(&queue, id).await, ["a"]);
    queue.promote(5).await;
    let third = queue.claim_one(5).await;
    queue.finish(succeeded(&third, 6)).await;
    assert_eq!(queue.job(id).await.batch, counts(3, 3, 0, 0));
}

async fn what_nothing_was_said_of_shares_the_end_of_the_job(queue: Queue) {
    for (end, expected) in [
        (FinalState::Completed, counts(2, 2, 0, 0)),
        (FinalState::Failed, counts(2, 1, 1, 0)),
        (FinalState::Cancelled, counts(2, 1, 0, 1)),
    ] {
        let id = queue.submit(0, whole(&["a", "b"])).await;
        let claimed = queue.claim_one(1).await;
        record(&queue, &claimed, vec![completed(0)]).await;
        assert_eq!(states(&listed(&queue, id, None).await)[1], ("b", JobState::Pending));
        queue.finish(ended(&claimed, 2, Outcome::Success, AfterAttempt::End(end))).await;
        assert_eq!(queue.job(id).await.batch, expected);
        assert_eq!(states(&listed(&queue, id, None).await)[1], ("b", end.state()));
    }
}

async fn only_the_owner_of_the_attempt_speaks_for_its_items(queue: Queue) {
    let id = queue.submit(0, whole(&["a"])).await;
    let first = queue.claim_one(1).await;
    queue.finish(retried(&first, 2, 3)).await;
    assert!(!record(&queue, &first, vec![completed(0)]).await);
    queue.promote(3).await;
    let second = queue.claim_one(3).await;
    assert!(!record(&queue, &first, vec![completed(0)]).await);
    assert_eq!(open(&queue, id).await, ["a"]);
    assert!(record(&queue, &second, vec![completed(0), completed(7)]).await, "there is no 7");
    assert_eq!(queue.job(id).await.batch, counts(1, 1, 0, 0));
}

async fn a_retry_by_hand_gets_only_what_is_left(queue: Queue) {
    let id = queue.submit(0, whole(&["a", "b", "c"])).await;
    let claimed = queue.claim_one(1).await;
    record(&queue, &claimed, vec![completed(0), failed(1)]).await;
    queue.finish(gone_wrong(&claimed, 2)).await;
    assert_eq!(queue.job(id).await.batch, counts(3, 1, 2, 0));
    queue.redrive(3, id).await;
    assert_eq!(queue.job(id).await.batch, counts(3, 1, 1, 0), "the silent one is open again");
    assert_eq!(open(&queue, id).await, ["b", "c"]);
}

async fn what_replaces_it_gets_what_is_left(queue: Queue) {
    let id = queue.submit(0, whole(&["a", "b", "c"])).await;
    let claimed = queue.claim_one(1).await;
    record(&queue, &claimed, vec![completed(0), failed(2)]).await;
    queue.finish(gone_wrong(&claimed, 2)).await;
    let (context, params) = (queue.context(3), JsonText::from(&json!({"slow": true})));
    let by = sexton::model::Actor::named("ada");
    let replaced =
        queue.write(move |conn| replacement::replace(conn, id, &params, &by, context)).await;
    let replacement::Replaced::By(new) = replaced else { panic!("{replaced:?}") };
    assert_eq!(open(&queue, new).await, ["b", "c"]);
    assert_eq!(queue.job(new).await.batch, counts(2, 0, 0, 0));
    let again = queue.claim_one(4).await;
    record(&queue, &again, vec![completed(1), completed(2)]).await;
    assert_eq!(queue.job(new).await.batch, counts(2, 2, 0, 0));
    assert_eq!(queue.job(id).await.batch, counts(3, 1, 2, 0), "what was stays");
}

async fn items_are_found_by_state_also_where_nothing_was_said(queue: Queue) {
    let id = queue.submit(0, whole(&["a", "b", "c"])).await;
    let claimed = queue.claim_one(1).await;
    record(&queue, &claimed, vec![completed(0), failed(1)]).await;
    let names = async |state| {
        let items = listed(&queue, id, Some(state)).await;
        items.into_iter().map(|item| item.name).collect::<Vec<_>>()
    };
    assert_eq!(names(JobState::Pending).await, ["c"]);
    assert_eq!(names(JobState::Failed).await, ["b"]);
    queue.finish(gone_wrong(&claimed, 2)).await;
    assert_eq!(names(JobState::Failed).await, ["b", "c"]);
    assert_eq!(names(JobState::Pending).await, [""; 0]);
    assert_eq!(names(JobState::Completed).await, ["a"]);
}

async fn a_dropped_batch_takes_its_items_along(queue: Queue) {
    let id = queue.submit(0, whole(&["a", "b"])).await;
    queue.cancel(1, id).await;
    let actor = sexton::model::Actor::named("ada");
    let by = by_hand::OrderedBy { actor, context: queue.context(2) };
    let came = queue
        .write(move |conn| by_hand::carry_out(conn, by_hand::Order::Drop, &[id.0], None, &by))
        .await;
    assert_eq!(came.came, [by_hand::Came::Done]);
    assert!(open(&queue, id).await.is_empty());
    assert_eq!(queue.read(move |conn| whole_batches::counts(conn, id, None)).await, None);
}
