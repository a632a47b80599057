//! What is done to jobs by hand: other priorities, other params, deleted for good, one at a time or all that a filter chooses.

use std::collections::BTreeMap;

use serde_json::json;
use sexton::model::{
    Actor, AfterAttempt, Dependency, DependencyNeeds, FinalState, JobId, JobState, JsonText,
    NewItem, NewJob, Outcome, Priority, UniqueKey,
};
use sexton::store::by_hand::{self, Came, Order, OrderedBy};
use sexton::store::history::{self, Among, JobFilter, Page};
use sexton::store::priorities::{self, Reprioritised};
use sexton::store::removal::{Cancelled, Redriven};
use sexton::store::replacement::{self, Replaced};

use crate::harness::{
    Queue, at, depending, ended, job, on_both_backends, retried, soon, succeeded,
};

on_both_backends![
    a_waiting_job_moves_to_where_its_new_priority_puts_it,
    a_new_priority_holds_through_retries_and_gives_the_place_that_it_would_have_had,
    a_priority_that_is_changed_back_is_the_one_that_was_asked_for,
    a_job_that_runs_or_is_over_keeps_its_priority,
    a_job_with_another_priority_can_be_cancelled_and_brought_back,
    what_waits_of_a_batch_gets_its_new_priority,
    i4_a_dead_letter_is_done_again_with_other_params_as_another_job,
    what_replaces_a_job_takes_its_unique_key,
    what_replaces_an_item_counts_in_its_batch,
    what_lives_or_has_completed_is_not_replaced,
    a_dropped_job_leaves_nothing_but_its_line_in_the_audit_log,
    what_lives_is_not_dropped,
    who_cancels_is_told_before_what_it_would_come_to,
    who_retries_is_told_before_what_it_would_come_to,
    who_drops_is_told_before_what_it_would_come_to,
    who_reprioritises_is_told_before_what_it_would_come_to,
    an_order_leaves_alone_what_is_not_in_the_state_it_was_chosen_in,
    one_job_that_cannot_be_retried_does_not_keep_the_others_from_it,
    jobs_are_found_by_when_they_were_submitted,
];

fn priority(level: u8) -> Priority {
    Priority::new(level.into()).expect("a level")
}

fn by(queue: &Queue, second: i64) -> OrderedBy {
    OrderedBy { actor: Actor::named("ada"), context: queue.context(second) }
}

async fn reprioritise(queue: &Queue, second: i64, id: JobId, level: u8) -> Reprioritised {
    let context = queue.context(second);
    queue.write(move |conn| priorities::reprioritise(conn, id, priority(level), context)).await
}

async fn replace(queue: &Queue, second: i64, id: JobId, params: serde_json::Value) -> Replaced {
    let (context, params) = (queue.context(second), JsonText::from(&params));
    queue
        .write(move |conn| replacement::replace(conn, id, &params, &Actor::named("ada"), context))
        .await
}

async fn order(queue: &Queue, order: Order, ids: &[JobId], state: Option<JobState>) -> Vec<Came> {
    let (ids, by): (Vec<i64>, _) = (ids.iter().map(|id| id.0).collect(), by(queue, 50));
    queue.write(move |conn| by_hand::carry_out(conn, order, &ids, state, &by)).await.came
}

/// The audit log's events, as far as they are by hand.
async fn told(queue: &Queue) -> Vec<(String, String, serde_json::Value)> {
    let rows = queue
        .read(|conn| {
            sexton::store::audit::rows_after(
                conn,
                &sexton::store::audit::AuditSource::Everything,
                sexton::audit::Upto::default(),
                100,
            )
        })
        .await;
    let read = |text: &str| serde_json::from_str(text).expect("JSON");
    rows.events
        .into_iter()
        .map(|row| {
            assert_eq!(row.actor, "ada");
            (row.event, row.subject, read(&row.detail))
        })
        .collect()
}

async fn a_waiting_job_moves_to_where_its_new_priority_puts_it(queue: Queue) {
    let ids = queue.submit_all(0, vec![job(), job(), job()]).await;
    assert_eq!(reprioritise(&queue, 1, ids[2], 8).await, Reprioritised::Done);
    assert_eq!(reprioritise(&queue, 1, ids[0], 2).await, Reprioritised::Done);
    let shown = queue.job(ids[2]).await;
    assert_eq!((shown.priority, shown.submitted_priority), (8, Some(5)));
    assert_eq!(queue.job(ids[1]).await.submitted_priority, None);
    let claimed = queue.claim(2, 10).await;
    let order: Vec<_> = claimed.iter().map(|job| (job.id, job.priority.level())).collect();
    assert_eq!(order, [(ids[2], 8), (ids[1], 5), (ids[0], 2)]);
    assert_eq!(reprioritise(&queue, 3, JobId(404), 8).await, Reprioritised::Unknown);
}

async fn a_new_priority_holds_through_retries_and_gives_the_place_that_it_would_have_had(
    queue: Queue,
) {
    let id = queue.submit(0, job()).await;
    let claimed = queue.claim_one(1).await;
    queue.finish(retried(&claimed, 1, 10)).await;
    let first = queue.submit(2, soon(20)).await;
    let after = Dependency { on: first, needs: DependencyNeeds::Finished };
    let blocked = queue.submit(2, depending([after], job())).await;
    for waiting in [id, first, blocked] {
        assert_eq!(reprioritise(&queue, 3, waiting, 9).await, Reprioritised::Done);
    }
    let plain = queue.submit(4, job()).await;
    queue.promote(10).await;
    let order = |claimed: &[sexton::store::claim::ClaimedJob]| {
        claimed.iter().map(|job| (job.id, job.priority.level())).collect::<Vec<_>>()
    };
    let claimed = queue.claim(11, 1).await;
    assert_eq!(order(&claimed), [(id, 9)], "before what came earlier into its level");
    queue.finish(ended(&claimed[0], 11, Outcome::Interrupted, AfterAttempt::GiveBack)).await;
    let claimed = queue.claim(12, 1).await;
    assert_eq!(order(&claimed), [(id, 9)], "and it keeps that place");
    queue.cancel(13, first).await;
    assert_eq!(order(&queue.claim(14, 10).await), [(blocked, 9), (plain, 5)]);
}

async fn a_priority_that_is_changed_back_is_the_one_that_was_asked_for(queue: Queue) {
    let ids = queue.submit_all(0, vec![job(), job()]).await;
    reprioritise(&queue, 1, ids[1], 10).await;
    reprioritise(&queue, 1, ids[1], 5).await;
    assert_eq!(queue.job(ids[1]).await.submitted_priority, None);
    let claimed: Vec<_> = queue.claim(2, 10).await.iter().map(|job| job.id).collect();
    assert_eq!(claimed, ids);
}

async fn a_job_that_runs_or_is_over_keeps_its_priority(queue: Queue) {
    let over = queue.through(0, job(), FinalState::Failed).await;
    let running = queue.submit(1, job()).await;
    queue.claim_one(2).await;
    let not_now = |state| Reprioritised::NotNow(state);
    assert_eq!(reprioritise(&queue, 3, running, 9).await, not_now(JobState::Running));
    assert_eq!(reprioritise(&queue, 3, over, 9).await, not_now(JobState::Failed));
    assert_eq!(queue.job(running).await.priority, 5);
}

async fn a_job_with_another_priority_can_be_cancelled_and_brought_back(queue: Queue) {
    let id = queue.submit(0, job()).await;
    reprioritise(&queue, 1, id, 10).await;
    assert_eq!(queue.cancel(2, id).await, Cancelled::Done);
    assert!(queue.claim(2, 10).await.is_empty());
    assert_eq!(queue.redrive(3, id).await, Redriven::Done);
    assert_eq!(queue.claim_one(4).await.priority.level(), 10);
}

fn batch(items: usize) -> NewJob {
    let item = |index: usize| NewItem {
        node: None,
        name: format!("item-{index}"),
        params: JsonText::from(&json!({ "index": index })),
    };
    NewJob { items: (0..items).map(item).collect(), ..job() }
}

async fn what_waits_of_a_batch_gets_its_new_priority(queue: Queue) {
    let id = queue.submit(0, batch(3)).await;
    let running = queue.claim(1, 1).await;
    assert_eq!(reprioritise(&queue, 2, id, 8).await, Reprioritised::Done);
    assert_eq!(queue.job(id).await.priority, 8);
    assert_eq!(queue.job(running[0].id).await.priority, 5, "it runs");
    let levels: Vec<_> =
        queue.claim(3, 10).await.iter().map(|item| item.priority.level()).collect();
    assert_eq!(levels, [8, 8]);
}

async fn i4_a_dead_letter_is_done_again_with_other_params_as_another_job(queue: Queue) {
    let labels = BTreeMap::from([("team".to_owned(), "docs".to_owned())]);
    let old = NewJob { labels, queue: "mail".to_owned(), ..job() };
    let old = queue.through(0, old, FinalState::Failed).await;
    let Replaced::By(new) = replace(&queue, 5, old, json!({"to": "b"})).await else {
        panic!("it is replaced")
    };
    let (before, after) = (queue.job(old).await, queue.job(new).await);
    assert_eq!((before.state, before.replaced_by), (JobState::Failed, Some(new)));
    assert_eq!(before.params, json!({}), "what was asked for stays");
    assert_eq!((after.state, after.settings.retry_of), (JobState::Pending, Some(old)));
    assert_eq!((after.params, after.actor.as_str()), (json!({"to": "b"}), "ada"));
    assert_eq!((after.queue.as_str(), after.labels["team"].as_str()), ("mail", "docs"));
    assert_eq!(queue.redrive(6, old).await, Redriven::ReplacedBy(new));
    assert_eq!(replace(&queue, 6, old, json!({})).await, Replaced::AlreadyBy(new));
    let left = JobFilter {
        among: vec![Among::State(JobState::Failed)],
        without_replaced: true,
        ..JobFilter::default()
    };
    let page = Page { limit: 10, before: None };
    assert!(queue.read(move |conn| history::job_ids(conn, &left, page)).await.is_empty());
    let claimed = queue.claim_one(7).await;
    assert_eq!((claimed.id, claimed.number, claimed.charged), (new, 1, 0));
    // One that fails as well can be replaced in its turn.
    queue.finish(ended(&claimed, 8, Outcome::Failure, AfterAttempt::End(FinalState::Failed))).await;
    assert!(matches!(replace(&queue, 9, new, json!({"to": "c"})).await, Replaced::By(_)));
}

async fn what_replaces_a_job_takes_its_unique_key(queue: Queue) {
    let unique = |period: Option<&str>| {
        let period = period.map(|text| text.parse().expect("a duration"));
        NewJob { unique: Some(UniqueKey { key: "order-7".to_owned(), period }), ..job() }
    };
    let old = queue.through(0, unique(Some("1h")), FinalState::Failed).await;
    let Replaced::By(new) = replace(&queue, 5, old, json!({"a": 1})).await else {
        panic!("it is replaced")
    };
    assert_eq!(queue.submit(6, unique(None)).await, new, "a live job has the key");
    queue.cancel(7, new).await;
    let other = queue.submit(8, unique(None)).await;
    assert_eq!(replace(&queue, 9, new, json!({"a": 2})).await, Replaced::KeyTakenBy(other));
    assert_eq!(queue.redrive(9, new).await, Redriven::KeyTakenBy(other));
    assert_eq!(queue.state(new).await, JobState::Cancelled);
}

async fn what_replaces_an_item_counts_in_its_batch(queue: Queue) {
    let id = queue.submit(0, batch(2)).await;
    let claimed = queue.claim(1, 10).await;
    let failed =
        |item, second| ended(item, second, Outcome::Failure, AfterAttempt::End(FinalState::Failed));
    queue.finish(failed(&claimed[0], 2)).await;
    let Replaced::By(new) = replace(&queue, 3, claimed[0].id, json!({"index": 7})).await else {
        panic!("it is replaced")
    };
    queue.finish(succeeded(&claimed[1], 4)).await;
    assert_eq!(queue.state(id).await, JobState::Running, "it waits for the new one");
    let again = queue.claim_one(5).await;
    assert_eq!((again.id, again.settings.item.as_deref()), (new, Some("item-0")));
    queue.finish(failed(&again, 6)).await;
    assert_eq!(queue.state(id).await, JobState::Failed);
    assert_eq!(replace(&queue, 7, id, json!({})).await, Replaced::IsBatch);
    // After the batch is over it is the item's job that changes, and a retry of the batch takes that up.
    let Replaced::By(newer) = replace(&queue, 7, new, json!({"index": 8})).await else {
        panic!("it is replaced")
    };
    assert_eq!(queue.state(id).await, JobState::Failed);
    assert_eq!(queue.redrive(8, id).await, Redriven::Done);
    let last = queue.claim_one(9).await;
    assert_eq!(last.id, newer);
    queue.finish(succeeded(&last, 10)).await;
    assert_eq!(queue.state(id).await, JobState::Completed);
}

async fn what_lives_or_has_completed_is_not_replaced(queue: Queue) {
    let completed = queue.through(0, job(), FinalState::Completed).await;
    let running = queue.submit(5, job()).await;
    let claimed = queue.claim_one(6).await;
    let waiting = queue.submit(6, job()).await;
    let not_now = |state| Replaced::NotNow(state);
    assert_eq!(replace(&queue, 7, completed, json!({})).await, not_now(JobState::Completed));
    assert_eq!(replace(&queue, 7, running, json!({})).await, not_now(JobState::Running));
    assert_eq!(replace(&queue, 7, waiting, json!({})).await, not_now(JobState::Pending));
    queue.finish(retried(&claimed, 8, 60)).await;
    assert_eq!(replace(&queue, 9, running, json!({})).await, not_now(JobState::Retrying));
    assert_eq!(replace(&queue, 9, JobId(404), json!({})).await, Replaced::Unknown);
}

async fn a_dropped_job_leaves_nothing_but_its_line_in_the_audit_log(queue: Queue) {
    let labels = BTreeMap::from([("team".to_owned(), "docs".to_owned())]);
    let id = queue.through(0, NewJob { labels, ..job() }, FinalState::Failed).await;
    assert_eq!(order(&queue, Order::Drop, &[id], None).await, [Came::Done]);
    assert_eq!(queue.read(move |conn| history::job(conn, id)).await, None);
    assert!(queue.attempts(id).await.is_empty());
    assert_eq!(order(&queue, Order::Drop, &[id], None).await, [Came::Unknown]);
    let told = told(&queue).await;
    let (event, subject, detail) = &told[0];
    assert_eq!((event.as_str(), subject.as_str()), ("job.dropped", "job:1"));
    assert_eq!(
        (&detail["state"], &detail["kind"], &detail["submitted_by"], &detail["attempts"]),
        (&json!("failed"), &json!("noop"), &json!("test"), &json!(1))
    );
    assert_eq!(told.len(), 1, "what was not done is not told");
}

async fn what_lives_is_not_dropped(queue: Queue) {
    let running = queue.submit(0, job()).await;
    let claimed = queue.claim_one(1).await;
    let waiting = queue.submit(1, job()).await;
    let came = order(&queue, Order::Drop, &[running, waiting], None).await;
    assert_eq!(came, [Came::NotNow(JobState::Running), Came::NotNow(JobState::Pending)]);
    queue.finish(retried(&claimed, 2, 60)).await;
    let came = order(&queue, Order::Drop, &[running], None).await;
    assert_eq!(came, [Came::NotNow(JobState::Retrying)]);
    assert_eq!(queue.claim_one(3).await.id, waiting);
}

async fn who_cancels_is_told_before_what_it_would_come_to(queue: Queue) {
    is_foreseen(&queue, Order::Cancel, &[Came::AlreadyOver]).await;
}

async fn who_retries_is_told_before_what_it_would_come_to(queue: Queue) {
    use JobState::{Blocked, Completed, Pending, Running};
    is_foreseen(&queue, Order::Retry, &[Completed, Running, Pending, Blocked].map(Came::NotNow))
        .await;
}

async fn who_drops_is_told_before_what_it_would_come_to(queue: Queue) {
    use JobState::{Blocked, Pending, Retrying, Running};
    is_foreseen(&queue, Order::Drop, &[Retrying, Running, Pending, Blocked].map(Came::NotNow))
        .await;
}

async fn who_reprioritises_is_told_before_what_it_would_come_to(queue: Queue) {
    use JobState::{Cancelled, Completed, Failed, Running};
    let order = Order::Reprioritise(priority(9));
    is_foreseen(&queue, order, &[Completed, Failed, Running, Cancelled].map(Came::NotNow)).await;
}

/// Holds for jobs in all states: those that a filter chooses for the order are those of which nothing else is foreseen than that it is tried, it
/// is foreseen for the others what it comes to, and that is one of `others`.
async fn is_foreseen(queue: &Queue, what: Order, others: &[Came]) {
    let completed = queue.through(0, job(), FinalState::Completed).await;
    let failed = queue.through(0, job(), FinalState::Failed).await;
    let retrying = queue.submit(0, job()).await;
    queue.finish(retried(&queue.claim_one(0).await, 0, 600)).await;
    let running = queue.submit(0, job()).await;
    queue.claim_one(0).await;
    let cancelled = queue.submit(0, job()).await;
    queue.cancel(0, cancelled).await;
    let (pending, future) = (queue.submit(0, job()).await, queue.submit(0, soon(60)).await);
    let needs = Dependency { on: pending, needs: DependencyNeeds::Success };
    let blocked = queue.submit(0, depending([needs], job())).await;
    let open = queue.submit(0, batch(1)).await;
    let unknown = JobId(999_999);
    // What waits for another one stands before it, which would take it along.
    let ids =
        [completed, failed, retrying, running, cancelled, blocked, pending, future, open, unknown];

    let filter = JobFilter { among: what.possible().to_vec(), ..JobFilter::default() };
    let page = Page { limit: 100, before: None };
    let chosen = queue.read(move |conn| history::job_ids(conn, &filter, page)).await;
    let mut came: Vec<Came> = Vec::new();
    for id in ids {
        let foreseen = queue.read(move |conn| by_hand::foresee(conn, what, id, None)).await;
        assert_eq!(foreseen.is_none(), chosen.contains(&id.0), "{what:?} {id}: {foreseen:?}");
        let done = order(queue, what, &[id], None).await.remove(0);
        let Some(foreseen) = foreseen else {
            assert!(matches!(done, Came::Done | Came::Requested), "{what:?} {id}: {done:?}");
            continue;
        };
        assert_eq!(done, foreseen, "{what:?} {id}");
        came.push(done);
    }
    assert_eq!(came.pop(), Some(Came::Unknown));
    came.dedup();
    assert_eq!(came.iter().filter(|came| !others.contains(came)).count(), 0, "{came:?}");
    assert!(others.iter().all(|other| came.contains(other)), "{came:?}");
    let elsewhere = Some(JobState::Blocked);
    let moved = queue.read(move |conn| by_hand::foresee(conn, what, running, elsewhere)).await;
    assert!(matches!(moved, Some(Came::NotNow(_))), "{moved:?}");
}

async fn an_order_leaves_alone_what_is_not_in_the_state_it_was_chosen_in(queue: Queue) {
    let ids = queue.submit_all(0, vec![job(), job()]).await;
    let claimed = queue.claim(1, 1).await;
    assert_eq!(claimed[0].id, ids[0]);
    let came = order(&queue, Order::Cancel, &ids, Some(JobState::Pending)).await;
    assert_eq!(came, [Came::NotNow(JobState::Running), Came::Done]);
    assert!(!queue.job(ids[0]).await.cancel_requested);
}

async fn one_job_that_cannot_be_retried_does_not_keep_the_others_from_it(queue: Queue) {
    let unique = UniqueKey { key: "nightly".to_owned(), period: None };
    let keyed = NewJob { unique: Some(unique), ..job() };
    let first = queue.through(0, keyed.clone(), FinalState::Failed).await;
    let second = queue.through(2, job(), FinalState::Failed).await;
    let holder = queue.submit(4, keyed).await;
    let came = order(&queue, Order::Retry, &[first, second], Some(JobState::Failed)).await;
    assert_eq!(came, [Came::KeyTakenBy(holder), Came::Done]);
    assert_eq!(queue.state(first).await, JobState::Failed);
    assert_eq!(queue.state(second).await, JobState::Pending);
}

async fn jobs_are_found_by_when_they_were_submitted(queue: Queue) {
    let mut ids = Vec::new();
    for second in [0, 10, 20] {
        ids.push(queue.submit(second, job()).await.0);
    }
    let found = async |since: Option<i64>, until: Option<i64>| {
        let filter =
            JobFilter { since: since.map(at), until: until.map(at), ..JobFilter::default() };
        let page = Page { limit: 10, before: None };
        queue.read(move |conn| history::job_ids(conn, &filter, page)).await
    };
    assert_eq!(found(Some(10), None).await, [ids[2], ids[1]]);
    assert_eq!(found(None, Some(10)).await, [ids[0]]);
    assert_eq!(found(Some(5), Some(15)).await, [ids[1]]);
}
