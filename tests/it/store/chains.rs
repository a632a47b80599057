//! Jobs that depend on others and are brought back: they wait for the same as when they were submitted.

use serde_json::json;
use sexton::model::{
    Actor, AfterAttempt, Dependency, DependencyNeeds, FinalState, JobId, JobSettings, JobState,
    JsonText, NewItem, NewJob, OnDependencyFailure, Outcome,
};
use sexton::store::by_hand::{self, Came, Order, OrderedBy};
use sexton::store::dependencies::{Hopeless, WaitsFor, waits_for};
use sexton::store::prune::{self, PruneJobs};
use sexton::store::removal::Redriven;
use sexton::store::replacement::{Replaced, replace};

use crate::harness::{Queue, at, depending, ended, job, on_both_backends, succeeded};

on_both_backends![
    a_job_that_is_brought_back_waits_for_what_it_depends_on,
    a_chain_that_is_brought_back_runs_in_its_order,
    a_job_is_not_brought_back_before_what_it_needs,
    a_job_that_waits_or_runs_all_the_same_is_brought_back_as_it_says,
    a_job_that_only_needs_an_end_waits_for_the_next_one,
    a_job_that_has_run_and_waits_again_keeps_its_numbers,
    a_success_that_is_deleted_is_remembered_by_who_has_run,
    a_batch_that_is_brought_back_waits_for_what_it_depends_on,
    a_choice_is_looked_at_anew,
    who_waits_goes_on_with_what_does_the_work_with_other_params,
    a_chain_goes_on_behind_what_does_the_work_of_its_first,
    a_job_that_is_given_other_params_depends_on_the_same,
    what_another_one_waits_for_is_not_dropped,
    a_batch_that_another_one_waits_for_keeps_its_items,
];

use DependencyNeeds::{Any, Finished, Success};
use OnDependencyFailure::{Cancel, Run, Wait};

fn after(
    on: &[JobId],
    needs: DependencyNeeds,
    on_dependency_failure: OnDependencyFailure,
) -> NewJob {
    let settings = JobSettings { on_dependency_failure, ..JobSettings::default() };
    let on = on.iter().map(|on| Dependency { on: *on, needs });
    depending(on, NewJob { settings, ..job() })
}

async fn end(queue: &Queue, second: i64, id: JobId, end: FinalState) {
    let claimed = queue.claim_one(second).await;
    assert_eq!(claimed.id, id);
    let outcome = match end {
        FinalState::Completed => Outcome::Success,
        _ => Outcome::Failure,
    };
    queue.finish(ended(&claimed, second, outcome, AfterAttempt::End(end))).await;
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

/// Three jobs in a row; the first has failed, and the others are cancelled.
async fn failed_chain(queue: &Queue) -> [JobId; 3] {
    let first = queue.submit(0, job()).await;
    let second = queue.submit(0, after(&[first], Success, Cancel)).await;
    let third = queue.submit(0, after(&[second], Success, Cancel)).await;
    end(queue, 1, first, FinalState::Failed).await;
    for id in [second, third] {
        assert_eq!(queue.state(id).await, JobState::Cancelled);
    }
    [first, second, third]
}

async fn a_job_that_is_brought_back_waits_for_what_it_depends_on(queue: Queue) {
    let first = queue.submit(0, job()).await;
    let second = queue.submit(0, after(&[first], Success, Cancel)).await;
    let running = queue.claim_one(1).await;
    queue.cancel(2, second).await;
    assert_eq!(queue.redrive(3, second).await, Redriven::Blocked);
    assert_eq!(queue.state(second).await, JobState::Blocked);
    let shown = queue.read(move |conn| waits_for(conn, second, 10)).await;
    assert_eq!(shown, [WaitsFor { job: first, needs: "success".to_owned(), ended: None }]);
    assert_eq!(queue.redrive(3, second).await, Redriven::NotNow(JobState::Blocked));
    assert!(queue.claim(3, 10).await.is_empty());
    queue.finish(succeeded(&running, 4)).await;
    assert_eq!(queue.claim_one(5).await.id, second);
}

async fn a_chain_that_is_brought_back_runs_in_its_order(queue: Queue) {
    let [first, second, third] = failed_chain(&queue).await;
    let came = order(&queue, Order::Retry, &[third, second, first]).await;
    assert_eq!(came, [(first, Came::Done), (second, Came::Blocked), (third, Came::Blocked)]);
    let queue = queue.reopen().await;
    for (second, id) in [(60, first), (61, second), (62, third)] {
        end(&queue, second, id, FinalState::Completed).await;
    }
    assert!(queue.claim(63, 10).await.is_empty());
}

async fn a_job_is_not_brought_back_before_what_it_needs(queue: Queue) {
    let [first, second, third] = failed_chain(&queue).await;
    let ended = |on, state| Redriven::Hopeless(Hopeless::Ended(on, state));
    assert_eq!(queue.redrive(2, second).await, ended(first, JobState::Failed));
    assert_eq!(queue.redrive(2, third).await, ended(second, JobState::Cancelled));
    let came = order(&queue, Order::Retry, &[third, second]).await;
    let why =
        [Hopeless::Ended(first, JobState::Failed), Hopeless::Ended(second, JobState::Cancelled)];
    assert_eq!(came, [(second, Came::Hopeless(why[0])), (third, Came::Hopeless(why[1]))]);
    assert_eq!(queue.state(second).await, JobState::Cancelled, "nothing was changed");
    order(&queue, Order::Drop, &[first]).await;
    assert_eq!(queue.redrive(4, second).await, Redriven::Hopeless(Hopeless::Gone(first)));
    assert!(queue.claim(5, 10).await.is_empty());
}

async fn a_job_that_waits_or_runs_all_the_same_is_brought_back_as_it_says(queue: Queue) {
    let first = queue.submit(0, job()).await;
    let waits = queue.submit(0, after(&[first], Success, Wait)).await;
    let runs = queue.submit(0, after(&[first], Success, Run)).await;
    queue.cancel(1, waits).await;
    queue.cancel(1, runs).await;
    end(&queue, 2, first, FinalState::Failed).await;
    assert_eq!(queue.redrive(3, waits).await, Redriven::Blocked);
    assert_eq!(queue.redrive(3, runs).await, Redriven::Done);
    end(&queue, 4, runs, FinalState::Failed).await;
    // While the other one is tried again, it is waited for.
    queue.redrive(5, first).await;
    assert_eq!(queue.redrive(5, runs).await, Redriven::Blocked);
    end(&queue, 6, first, FinalState::Completed).await;
    let claimed: Vec<JobId> = queue.claim(7, 10).await.into_iter().map(|job| job.id).collect();
    assert_eq!(claimed, [waits, runs]);
}

async fn a_job_that_only_needs_an_end_waits_for_the_next_one(queue: Queue) {
    let first = queue.submit(0, job()).await;
    let second = queue.submit(0, after(&[first], Finished, Cancel)).await;
    end(&queue, 1, first, FinalState::Failed).await;
    end(&queue, 2, second, FinalState::Failed).await;
    let came = order(&queue, Order::Retry, &[first, second]).await;
    assert_eq!(came, [(first, Came::Done), (second, Came::Blocked)]);
    end(&queue, 51, first, FinalState::Failed).await;
    end(&queue, 52, second, FinalState::Failed).await;
    // By itself it has nothing to wait for.
    assert_eq!(queue.redrive(53, second).await, Redriven::Done);
}

async fn a_job_that_has_run_and_waits_again_keeps_its_numbers(queue: Queue) {
    let first = queue.submit(0, job()).await;
    let second = queue.submit(0, after(&[first], Finished, Cancel)).await;
    end(&queue, 1, first, FinalState::Failed).await;
    end(&queue, 2, second, FinalState::Failed).await;
    queue.redrive(3, first).await;
    for now in [4, 5] {
        assert_eq!(queue.redrive(now, second).await, Redriven::Blocked);
        let blocked = queue.job(second).await;
        assert_eq!((blocked.state, blocked.attempt), (JobState::Blocked, 1));
        queue.cancel(now, second).await;
        assert_eq!(queue.job(second).await.attempt, 1);
    }
    queue.redrive(6, second).await;
    end(&queue, 7, first, FinalState::Completed).await;
    let again = queue.claim_one(8).await;
    assert_eq!((again.id, again.number), (second, 2));
    queue.finish(succeeded(&again, 9)).await;
    assert_eq!(queue.attempts(second).await.len(), 2);
}

async fn a_success_that_is_deleted_is_remembered_by_who_has_run(queue: Queue) {
    let first = queue.submit(0, job()).await;
    let second = queue.submit(0, after(&[first], Success, Cancel)).await;
    end(&queue, 1, first, FinalState::Completed).await;
    end(&queue, 2, second, FinalState::Failed).await;
    order(&queue, Order::Drop, &[first]).await;
    assert_eq!(queue.redrive(3, second).await, Redriven::Done);
    end(&queue, 4, second, FinalState::Failed).await;
    let params = JsonText::from(&json!({}));
    let context = queue.context(5);
    let replaced = queue
        .write(move |conn| replace(conn, second, &params, &Actor::named("ada"), context))
        .await;
    let Replaced::By(other) = replaced else { panic!("{replaced:?}") };
    assert_eq!(queue.claim_one(6).await.id, other);
}

fn batch(items: usize, on: JobId) -> NewJob {
    let item = |index: usize| NewItem {
        node: None,
        name: format!("item-{index}"),
        params: JsonText::from(&json!({})),
    };
    let batch = after(&[on], Success, Cancel);
    NewJob { items: (0..items).map(item).collect(), ..batch }
}

async fn a_batch_that_is_brought_back_waits_for_what_it_depends_on(queue: Queue) {
    let first = queue.submit(0, job()).await;
    let id = queue.submit(0, batch(2, first)).await;
    end(&queue, 1, first, FinalState::Failed).await;
    assert_eq!(queue.state(id).await, JobState::Failed);
    let why = Hopeless::Ended(first, JobState::Failed);
    assert_eq!(queue.redrive(2, id).await, Redriven::Hopeless(why));
    assert_eq!(queue.state(id).await, JobState::Failed);
    let came = order(&queue, Order::Retry, &[id, first]).await;
    assert_eq!(came, [(first, Came::Done), (id, Came::Done)]);
    end(&queue, 51, first, FinalState::Completed).await;
    let items = queue.claim(52, 10).await;
    assert_eq!(items.len(), 2);
    queue.finish(succeeded(&items[0], 53)).await;
    let failed = AfterAttempt::End(FinalState::Failed);
    queue.finish(ended(&items[1], 53, Outcome::Failure, failed)).await;
    assert_eq!(queue.state(id).await, JobState::Failed);
    // Where what it depended on has been deleted, what has run goes on.
    order(&queue, Order::Drop, &[first]).await;
    assert_eq!(queue.redrive(54, id).await, Redriven::Done);
    end(&queue, 55, items[1].id, FinalState::Completed).await;
    assert_eq!(queue.state(id).await, JobState::Completed);
}

async fn a_choice_is_looked_at_anew(queue: Queue) {
    let jobs = queue.submit_all(0, vec![job(), job()]).await;
    let one_of = queue.submit(0, after(&jobs, Any, Cancel)).await;
    for (second, id) in [(1, jobs[0]), (2, jobs[1])] {
        let claimed = queue.claim(second, 1).await.remove(0);
        assert_eq!(claimed.id, id);
        let failed = AfterAttempt::End(FinalState::Failed);
        queue.finish(ended(&claimed, second, Outcome::Failure, failed)).await;
    }
    let hopeless = Redriven::Hopeless(Hopeless::NoneOf(jobs[1]));
    assert_eq!(queue.redrive(3, one_of).await, hopeless);
    queue.redrive(4, jobs[0]).await;
    assert_eq!(queue.redrive(5, one_of).await, Redriven::Blocked);
    end(&queue, 6, jobs[0], FinalState::Completed).await;
    assert_eq!(queue.claim_one(7).await.id, one_of);
}

async fn given_other_params(queue: &Queue, second: i64, id: JobId) -> Replaced {
    let (params, context) = (JsonText::from(&json!({"index": 7})), queue.context(second));
    queue.write(move |conn| replace(conn, id, &params, &Actor::named("ada"), context)).await
}

async fn replaced(queue: &Queue, second: i64, id: JobId) -> JobId {
    match given_other_params(queue, second, id).await {
        Replaced::By(other) => other,
        other => panic!("{other:?}"),
    }
}

async fn who_waits_goes_on_with_what_does_the_work_with_other_params(queue: Queue) {
    let first = queue.submit(0, job()).await;
    let waiting = queue.submit(0, after(&[first], Success, Wait)).await;
    end(&queue, 1, first, FinalState::Failed).await;
    let other = replaced(&queue, 2, first).await;
    let shown = queue.read(move |conn| waits_for(conn, waiting, 10)).await;
    assert_eq!(shown, [WaitsFor { job: other, needs: "success".to_owned(), ended: None }]);
    // Even where it takes one more.
    end(&queue, 3, other, FinalState::Failed).await;
    assert_eq!(queue.state(waiting).await, JobState::Blocked);
    let last = replaced(&queue, 4, other).await;
    let late = queue.submit(4, after(&[first], Success, Cancel)).await;
    assert_eq!(queue.state(late).await, JobState::Blocked, "who comes later waits for it as well");
    end(&queue, 5, last, FinalState::Completed).await;
    let claimed: Vec<JobId> = queue.claim(6, 10).await.into_iter().map(|job| job.id).collect();
    assert_eq!(claimed, [waiting, late]);
    let free = queue.submit(7, after(&[other], Success, Wait)).await;
    assert_eq!(queue.state(free).await, JobState::Pending);
}

async fn a_chain_goes_on_behind_what_does_the_work_of_its_first(queue: Queue) {
    let [first, second, third] = failed_chain(&queue).await;
    let other = replaced(&queue, 2, first).await;
    end(&queue, 3, other, FinalState::Failed).await;
    // The first one is younger than the others now, and comes first all the same.
    let came = order(&queue, Order::Retry, &[second, third, other]).await;
    assert_eq!(came, [(other, Came::Done), (second, Came::Blocked), (third, Came::Blocked)]);
    for (second, id) in [(60, other), (61, second), (62, third)] {
        end(&queue, second, id, FinalState::Completed).await;
    }
}

async fn a_job_that_is_given_other_params_depends_on_the_same(queue: Queue) {
    let [first, second, third] = failed_chain(&queue).await;
    let why = Hopeless::Ended(first, JobState::Failed);
    assert_eq!(given_other_params(&queue, 2, second).await, Replaced::Hopeless(why));
    queue.redrive(3, first).await;
    let other = replaced(&queue, 4, second).await;
    assert_eq!(queue.state(other).await, JobState::Blocked);
    assert_eq!(queue.redrive(5, third).await, Redriven::Blocked);
    for (second, id) in [(6, first), (7, other), (8, third)] {
        end(&queue, second, id, FinalState::Completed).await;
    }
}

async fn what_another_one_waits_for_is_not_dropped(queue: Queue) {
    let first = queue.submit(0, job()).await;
    let waiting = queue.submit(0, after(&[first], Success, Wait)).await;
    end(&queue, 1, first, FinalState::Failed).await;
    let other = queue.through(2, job(), FinalState::Failed).await;
    let came = order(&queue, Order::Drop, &[first, other]).await;
    assert_eq!(came, [(first, Came::WaitedFor(waiting)), (other, Came::Done)]);
    queue.redrive(3, first).await;
    end(&queue, 4, first, FinalState::Completed).await;
    assert_eq!(queue.state(waiting).await, JobState::Pending);
    assert_eq!(order(&queue, Order::Drop, &[first]).await, [(first, Came::Done)]);
}

async fn a_batch_that_another_one_waits_for_keeps_its_items(queue: Queue) {
    let item = |name: &str| NewItem { name: name.to_owned(), params: job().params, node: None };
    let batch = queue.submit(0, NewJob { items: vec![item("a")], ..job() }).await;
    let waiting = queue.submit(0, after(&[batch], Success, Wait)).await;
    let running = queue.claim_one(1).await;
    let failed = AfterAttempt::End(FinalState::Failed);
    queue.finish(ended(&running, 2, Outcome::Failure, failed)).await;
    let came = order(&queue, Order::Drop, &[running.id, batch]).await;
    let kept = Came::WaitedFor(waiting);
    assert_eq!(came, [(running.id, kept.clone()), (batch, kept)]);
    let all = PruneJobs {
        state: FinalState::Failed,
        before: at(1000),
        keep_per_schedule: 0,
        after: None,
        limit: 10,
    };
    assert_eq!(queue.write(move |conn| prune::jobs(conn, all)).await.deleted, []);
    queue.cancel(3, waiting).await;
    let came = order(&queue, Order::Drop, &[running.id, batch]).await;
    assert_eq!(came, [(running.id, Came::Done), (batch, Came::Done)]);
}
