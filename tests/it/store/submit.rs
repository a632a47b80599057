//! Accepting jobs.

use std::sync::Arc;

use sexton::model::{
    Dependency, DependencyNeeds, FinalState, HumanDuration, JobId, JobState, JsonText, Labels,
    NewJob, UniqueKey,
};
use sexton::store::StoreError;
use sexton::store::finish::{Finished, finish};
use sexton::store::jobs;
use sexton::store::prune::{self, PruneJobs};
use sexton::store::removal::Redriven;
use tokio::sync::Barrier;

use crate::harness::{Queue, at, depending, job, on_both_backends, soon, succeeded};

on_both_backends![
    a_job_that_would_wait_for_itself_is_refused,
    a_job_cannot_wait_for_one_that_comes_after_it,
    a_call_of_thousands_is_worked_off_as_submitted,
    an_acknowledged_job_survives_reopening,
    ids_increase_and_are_never_reused,
    a_job_comes_back_as_it_was_submitted,
    one_bad_job_takes_back_the_whole_submission,
    a_unique_key_is_held_while_its_job_lives,
    a_unique_key_with_a_period_is_held_beyond_the_end_of_its_job,
    a_redriven_job_holds_its_unique_key_again,
    a_job_is_not_redriven_past_the_holder_of_its_unique_key,
    two_nodes_that_submit_the_same_unique_key_get_the_same_job,
];

fn unique(key: &str, period_secs: Option<u64>) -> NewJob {
    let period = period_secs.map(HumanDuration::from_secs);
    NewJob { unique: Some(UniqueKey { key: key.to_owned(), period }), ..job() }
}

async fn an_acknowledged_job_survives_reopening(queue: Queue) {
    let id = queue.submit(0, job()).await;
    let queue = queue.reopen().await;
    assert_eq!(queue.state(id).await, JobState::Pending);
    assert_eq!(queue.claim_one(1).await.id, id);
}

async fn ids_increase_and_are_never_reused(queue: Queue) {
    let first = queue.submit_all(0, vec![job(), job(), job()]).await;
    assert!(first.is_sorted(), "{first:?}");
    for claimed in queue.claim(0, 3).await {
        queue.finish(succeeded(&claimed, 0)).await;
    }
    let everything = PruneJobs {
        state: FinalState::Completed,
        before: at(100),
        keep_per_schedule: 0,
        after: None,
        limit: 100,
    };
    let pruned = queue.write(move |conn| prune::jobs(conn, everything)).await;
    assert_eq!(pruned.deleted, first);
    let next = queue.submit(100, job()).await;
    assert!(next > first[2], "{next} after {first:?}");
}

async fn a_job_comes_back_as_it_was_submitted(queue: Queue) {
    let labels: Labels = [("context", "123"), ("user", "älice \"x\"")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    let new = NewJob {
        params: JsonText::from(
            &serde_json::json!({"text": "nul \u{0} and quote '", "list": [1, 2.5, null]}),
        ),
        labels,
        queue: "reports".to_owned(),
        schedule: Some(("nightly".parse().unwrap(), at(-5))),
        ..soon(60)
    };
    let id = queue.submit(0, new.clone()).await;
    let stored = queue.job(id).await;
    assert_eq!(stored.params, new.params.value());
    assert_eq!(stored.labels, new.labels);
    assert_eq!(stored.queue, "reports");
    assert_eq!(stored.schedule.as_deref(), Some("nightly"));
    assert_eq!(stored.nominal_at, Some(at(-5)));
    assert_eq!((stored.run_at, stored.created_at), (at(60), at(0)));
    assert_eq!(stored.actor, "test");
    assert_eq!(stored.attempt, 0);
}

async fn one_bad_job_takes_back_the_whole_submission(queue: Queue) {
    use sexton::model::{Dependency, DependencyNeeds, JobId};
    let missing = Dependency { on: JobId(404), needs: DependencyNeeds::Success };
    let bad = depending([missing], job());
    let error = queue.try_submit(0, vec![job(), bad]).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no job 404 to depend on");
    assert!(queue.claim(0, 10).await.is_empty());
}

async fn a_job_that_would_wait_for_itself_is_refused(queue: Queue) {
    let before = queue.submit(0, job()).await;
    let own = JobId(before.0 + 1);
    let on_itself = Dependency { on: own, needs: DependencyNeeds::Success };
    let new = depending([on_itself], job());
    let refused = queue.try_submit(0, vec![new]).await.unwrap_err().to_string();
    // A write that fails is run a second time, and by then PostgreSQL has given the number away: there is no such job then.
    let expected = ["job 2 cannot depend on itself", "there is no job 2 to depend on"];
    assert!(expected.contains(&refused.as_str()), "{refused}");
    assert_eq!(queue.claim(0, 10).await.len(), 1, "only the first one is there");
}

async fn a_job_cannot_wait_for_one_that_comes_after_it(queue: Queue) {
    let before = queue.submit(0, job()).await;
    // Numbers can be guessed; the second one is submitted by the same call.
    for ahead in 2..5 {
        let on = Dependency { on: JobId(before.0 + ahead), needs: DependencyNeeds::Success };
        let new = depending([on], job());
        let refused = queue.try_submit(0, vec![new, job(), job(), job()]).await;
        assert!(matches!(refused, Err(StoreError::NotFound(_))), "{refused:?}");
    }
    assert_eq!(queue.claim(0, 10).await.len(), 1, "only the first one is there");
}

async fn a_call_of_thousands_is_worked_off_as_submitted(queue: Queue) {
    const JOBS: usize = 2_345;
    let late = |index: usize| if index.is_multiple_of(5) { soon(9) } else { job() };
    let params = |index: usize| JsonText::from(&serde_json::json!({ "index": index }));
    let new = (0..JOBS).map(|index| NewJob { params: params(index), ..late(index) });
    let ids = queue.submit_all(0, new.collect()).await;
    assert!(ids.is_sorted() && ids.len() == JOBS);
    let first = queue.claim(0, JOBS).await;
    assert_eq!(first.len(), JOBS - JOBS.div_ceil(5));
    assert_eq!(queue.promote(9).await, JOBS.div_ceil(5));
    let second = queue.claim(9, JOBS).await;
    let claimed: Vec<_> = first.into_iter().chain(second).collect();
    for one in &claimed {
        let index = ids.binary_search(&one.id).unwrap();
        assert_eq!(one.params, serde_json::json!({ "index": index }));
    }
    let reports: Vec<_> = claimed.iter().map(|one| succeeded(one, 9)).collect();
    let node = queue.node;
    let finished = queue.write(move |conn| finish(conn, node, &reports)).await;
    let done = Finished::Recorded { state: JobState::Completed, ended_schedule: None };
    assert_eq!(finished, vec![done; JOBS]);
    for place in [0, 999, 1000, 2000, JOBS - 1] {
        assert_eq!(queue.state(ids[place]).await, JobState::Completed);
        assert_eq!(queue.attempts(ids[place]).await.len(), 1);
    }
    assert_eq!(queue.claim(10, 10).await, []);
}

async fn a_unique_key_is_held_while_its_job_lives(queue: Queue) {
    let first = queue.submit(0, unique("k", None)).await;
    let again = queue.try_submit(0, vec![unique("k", None)]).await.unwrap()[0];
    assert_eq!((again.id, again.state), (first, None));
    let claimed = queue.claim_one(1).await;
    assert_eq!(queue.submit(1, unique("k", None)).await, first, "while it runs");
    queue.finish(succeeded(&claimed, 1)).await;
    assert!(queue.submit(2, unique("k", None)).await > first, "once it is over");
}

async fn a_unique_key_with_a_period_is_held_beyond_the_end_of_its_job(queue: Queue) {
    let first = queue.submit(0, unique("k", Some(60))).await;
    let claimed = queue.claim_one(1).await;
    queue.finish(succeeded(&claimed, 1)).await;
    assert_eq!(queue.submit(59, unique("k", Some(60))).await, first);
    assert!(queue.submit(60, unique("k", Some(60))).await > first, "when the period is over");
}

async fn a_redriven_job_holds_its_unique_key_again(queue: Queue) {
    let first = queue.through(0, unique("k", None), FinalState::Failed).await;
    queue.redrive(2, first).await;
    assert_eq!(queue.submit(3, unique("k", None)).await, first);
}

async fn a_job_is_not_redriven_past_the_holder_of_its_unique_key(queue: Queue) {
    let first = queue.through(0, unique("k", None), FinalState::Failed).await;
    let second = queue.submit(2, unique("k", None)).await;
    assert_eq!(queue.redrive(3, first).await, Redriven::KeyTakenBy(second));
    assert_eq!(queue.state(first).await, JobState::Failed);
}

async fn two_nodes_that_submit_the_same_unique_key_get_the_same_job(queue: Queue) {
    let (other, _node) = queue.another_node().await;
    let barrier = Arc::new(Barrier::new(2));
    let tasks = [queue.store.clone(), other].map(|store| {
        let (context, barrier) = (queue.context(0), Arc::clone(&barrier));
        tokio::spawn(async move {
            let mut ids = Vec::new();
            for round in 0..30 {
                let new = [unique(&format!("key {round}"), None)];
                barrier.wait().await;
                let done = store.write(move |conn| jobs::submit(conn, &new, context)).await;
                ids.push(done.expect("the loser is not an error")[0].id);
            }
            ids
        })
    });
    let [ours, theirs] = tasks;
    assert_eq!(ours.await.unwrap(), theirs.await.unwrap());
    assert_eq!(queue.claim(0, 100).await.len(), 30);
}
