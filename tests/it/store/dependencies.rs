//! What becomes of a job when others that it depends on do not complete.

use sexton::model::{
    Dependency, DependencyNeeds, FinalState, JobId, JobSettings, JobState, NewItem, NewJob,
    OnDependencyFailure,
};
use sexton::store::dependencies::{WaitsFor, waits_for};
use sexton::store::prune::{self, PruneJobs};
use sexton::store::removal::Redriven;

use crate::harness::{Queue, depending, ended, job, on_both_backends, succeeded};

on_both_backends![
    one_of_several_is_enough,
    a_job_is_cancelled_when_all_of_several_have_failed,
    one_of_several_and_others_besides_are_both_needed,
    a_job_that_runs_all_the_same_runs_after_the_failure,
    a_job_that_waits_is_released_by_the_retry_that_succeeds,
    a_job_that_waits_for_one_of_several_waits_for_the_retry_of_any,
    a_job_that_waits_can_be_cancelled,
    what_has_failed_already_is_waited_for_or_not_as_the_job_says,
    a_choice_of_jobs_that_are_all_over_and_failed_is_refused,
    a_job_is_not_needed_by_itself_and_as_one_of_several,
    a_failed_job_that_another_one_waits_for_is_not_deleted,
    a_job_waits_for_a_batch_that_is_completed_by_a_retry,
];

fn after(
    others: &[(JobId, DependencyNeeds)],
    on_dependency_failure: OnDependencyFailure,
) -> NewJob {
    let depends_on = others.iter().map(|(on, needs)| Dependency { on: *on, needs: *needs });
    let settings = JobSettings { on_dependency_failure, ..JobSettings::default() };
    depending(depends_on, NewJob { settings, ..job() })
}

fn any(others: &[JobId], on_failure: OnDependencyFailure) -> NewJob {
    let of: Vec<_> = others.iter().map(|on| (*on, DependencyNeeds::Any)).collect();
    after(&of, on_failure)
}

use DependencyNeeds::{Any, Finished, Success};
use OnDependencyFailure::{Cancel, Run, Wait};

/// Ends the ready job that was submitted first.
async fn end_next(queue: &Queue, second: i64, end: FinalState) -> JobId {
    let claimed = queue.claim(second, 1).await.remove(0);
    let attempt = match end {
        FinalState::Completed => succeeded(&claimed, second),
        other => ended(
            &claimed,
            second,
            sexton::model::Outcome::Failure,
            sexton::model::AfterAttempt::End(other),
        ),
    };
    queue.finish(attempt).await;
    claimed.id
}

async fn shown(queue: &Queue, id: JobId) -> Vec<WaitsFor> {
    queue.read(move |conn| waits_for(conn, id, 10)).await
}

async fn one_of_several_is_enough(queue: Queue) {
    let jobs = queue.submit_all(0, vec![job(), job(), job()]).await;
    let waiting = queue.submit(0, any(&jobs, Cancel)).await;
    end_next(&queue, 1, FinalState::Failed).await;
    assert_eq!(queue.state(waiting).await, JobState::Blocked);
    end_next(&queue, 2, FinalState::Completed).await;
    assert_eq!(queue.state(waiting).await, JobState::Pending);
    assert_eq!(shown(&queue, waiting).await, []);
    // What comes of the others is not its business any more.
    end_next(&queue, 3, FinalState::Failed).await;
    assert_eq!(queue.claim_one(4).await.id, waiting);
}

async fn a_job_is_cancelled_when_all_of_several_have_failed(queue: Queue) {
    let jobs = queue.submit_all(0, vec![job(), job()]).await;
    let waiting = queue.submit(0, any(&jobs, Cancel)).await;
    let runs = queue.submit(0, any(&jobs, Run)).await;
    let behind = queue.submit(0, after(&[(waiting, Success)], Cancel)).await;
    end_next(&queue, 1, FinalState::Failed).await;
    assert_eq!(queue.state(waiting).await, JobState::Blocked);
    let last = end_next(&queue, 2, FinalState::Failed).await;
    let cancelled = queue.job(waiting).await;
    assert_eq!(cancelled.state, JobState::Cancelled);
    assert_eq!(
        cancelled.error.unwrap(),
        format!(
            "none of the jobs of which one had to complete did; the last, job {last}, is failed"
        )
    );
    assert_eq!(queue.state(behind).await, JobState::Cancelled);
    assert_eq!(queue.claim_one(3).await.id, runs);
}

async fn one_of_several_and_others_besides_are_both_needed(queue: Queue) {
    let jobs = queue.submit_all(0, vec![job(), job(), job()]).await;
    let needs = [(jobs[0], Any), (jobs[1], Any), (jobs[2], Finished)];
    let waiting = queue.submit(0, after(&needs, Cancel)).await;
    end_next(&queue, 1, FinalState::Completed).await;
    end_next(&queue, 2, FinalState::Completed).await;
    assert_eq!(queue.state(waiting).await, JobState::Blocked);
    let left = WaitsFor { job: jobs[2], needs: "finished".to_owned(), ended: None };
    assert_eq!(shown(&queue, waiting).await, [left]);
    end_next(&queue, 3, FinalState::Failed).await;
    assert_eq!(queue.claim_one(4).await.id, waiting);
}

async fn a_job_that_runs_all_the_same_runs_after_the_failure(queue: Queue) {
    let first = queue.submit(0, job()).await;
    let second = queue.submit(0, after(&[(first, Success)], Run)).await;
    end_next(&queue, 1, FinalState::Failed).await;
    assert_eq!(queue.claim_one(2).await.id, second);
}

async fn a_job_that_waits_is_released_by_the_retry_that_succeeds(queue: Queue) {
    let first = queue.submit(0, job()).await;
    let waiting = queue.submit(0, after(&[(first, Success)], Wait)).await;
    let behind = queue.submit(0, after(&[(waiting, Success)], Cancel)).await;
    end_next(&queue, 1, FinalState::Failed).await;
    let why =
        WaitsFor { job: first, needs: "success".to_owned(), ended: Some("failed".to_owned()) };
    for second in [2, 3] {
        assert_eq!(queue.state(waiting).await, JobState::Blocked);
        assert_eq!(shown(&queue, waiting).await, std::slice::from_ref(&why));
        assert!(queue.claim(second, 10).await.is_empty());
        assert_eq!(queue.redrive(second, first).await, Redriven::Done);
        assert_eq!(shown(&queue, waiting).await[0].ended, None, "it may complete again");
        assert_eq!(end_next(&queue, second, FinalState::Failed).await, first);
    }
    let queue = queue.reopen().await;
    queue.redrive(5, first).await;
    end_next(&queue, 5, FinalState::Completed).await;
    assert_eq!(queue.state(waiting).await, JobState::Pending);
    assert_eq!(end_next(&queue, 6, FinalState::Completed).await, waiting);
    assert_eq!(queue.claim_one(7).await.id, behind);
}

async fn a_job_that_waits_for_one_of_several_waits_for_the_retry_of_any(queue: Queue) {
    let jobs = queue.submit_all(0, vec![job(), job()]).await;
    let waiting = queue.submit(0, any(&jobs, Wait)).await;
    end_next(&queue, 1, FinalState::Failed).await;
    end_next(&queue, 2, FinalState::Failed).await;
    assert_eq!(queue.state(waiting).await, JobState::Blocked);
    assert_eq!(shown(&queue, waiting).await.len(), 2);
    queue.redrive(3, jobs[0]).await;
    end_next(&queue, 3, FinalState::Completed).await;
    assert_eq!(queue.claim_one(4).await.id, waiting);
    // The other one is nobody's business any more: its retry does not run the job again.
    queue.redrive(5, jobs[1]).await;
    end_next(&queue, 5, FinalState::Completed).await;
    assert!(queue.claim(6, 10).await.is_empty());
}

async fn a_job_that_waits_can_be_cancelled(queue: Queue) {
    let first = queue.submit(0, job()).await;
    let waiting = queue.submit(0, after(&[(first, Success)], Wait)).await;
    end_next(&queue, 1, FinalState::Failed).await;
    queue.cancel(2, waiting).await;
    assert_eq!(queue.state(waiting).await, JobState::Cancelled);
    queue.redrive(3, first).await;
    end_next(&queue, 3, FinalState::Completed).await;
    assert!(queue.claim(4, 10).await.is_empty());
}

async fn what_has_failed_already_is_waited_for_or_not_as_the_job_says(queue: Queue) {
    let failed = queue.through(0, job(), FinalState::Failed).await;
    let runs = queue.submit(1, after(&[(failed, Success)], Run)).await;
    assert_eq!(queue.state(runs).await, JobState::Pending);
    let waiting = queue.submit(1, after(&[(failed, Success)], Wait)).await;
    assert_eq!(queue.state(waiting).await, JobState::Blocked);
    let refused = queue.try_submit(1, vec![after(&[(failed, Success)], Cancel)]).await;
    assert!(refused.unwrap_err().to_string().contains("will not complete"));
    // With one that has completed, nothing is left to wait for.
    assert_eq!(queue.claim_one(2).await.id, runs);
    let completed = queue.through(3, job(), FinalState::Completed).await;
    for policy in [Cancel, Run, Wait] {
        let free = queue.submit(4, any(&[failed, completed], policy)).await;
        assert_eq!(queue.state(free).await, JobState::Pending, "{policy:?}");
    }
}

async fn a_choice_of_jobs_that_are_all_over_and_failed_is_refused(queue: Queue) {
    let mut failed = Vec::new();
    for second in 0..2 {
        failed.push(queue.through(second, job(), FinalState::Failed).await);
    }
    let refused = queue.try_submit(3, vec![any(&failed, Cancel)]).await;
    assert!(refused.unwrap_err().to_string().starts_with("none of the jobs of which one must"));
    assert_eq!(queue.state(queue.submit(3, any(&failed, Wait)).await).await, JobState::Blocked);
    assert_eq!(queue.state(queue.submit(3, any(&failed, Run)).await).await, JobState::Pending);
}

async fn a_job_is_not_needed_by_itself_and_as_one_of_several(queue: Queue) {
    let first = queue.submit(0, job()).await;
    for needs in [Success, Finished] {
        let both = after(&[(first, Any), (first, needs)], Cancel);
        let refused = queue.try_submit(0, vec![both]).await.unwrap_err();
        assert!(refused.to_string().contains("as one of several"), "{refused}");
    }
    let twice = queue.submit(0, any(&[first, first], Cancel)).await;
    end_next(&queue, 1, FinalState::Completed).await;
    assert_eq!(queue.claim_one(2).await.id, twice);
}

async fn a_failed_job_that_another_one_waits_for_is_not_deleted(queue: Queue) {
    let first = queue.submit(0, job()).await;
    let waiting = queue.submit(0, after(&[(first, Success)], Wait)).await;
    end_next(&queue, 1, FinalState::Failed).await;
    let other = queue.through(2, job(), FinalState::Failed).await;
    let all = PruneJobs {
        state: FinalState::Failed,
        before: crate::harness::at(1000),
        keep_per_schedule: 0,
        after: None,
        limit: 10,
    };
    assert_eq!(queue.write(move |conn| prune::jobs(conn, all)).await.deleted, [other]);
    queue.cancel(3, waiting).await;
    assert_eq!(queue.write(move |conn| prune::jobs(conn, all)).await.deleted, [first]);
}

async fn a_job_waits_for_a_batch_that_is_completed_by_a_retry(queue: Queue) {
    let item = |name: &str| NewItem { name: name.to_owned(), params: job().params, node: None };
    let batch = queue.submit(0, NewJob { items: vec![item("a"), item("b")], ..job() }).await;
    let waiting = queue.submit(0, after(&[(batch, Success)], Wait)).await;
    end_next(&queue, 1, FinalState::Completed).await;
    let failed = end_next(&queue, 2, FinalState::Failed).await;
    assert_eq!(queue.state(batch).await, JobState::Failed);
    assert_eq!(queue.state(waiting).await, JobState::Blocked);
    // The item by itself first, so that there is nothing left to do when the batch is retried.
    queue.redrive(3, failed).await;
    assert_eq!(end_next(&queue, 3, FinalState::Completed).await, failed);
    assert_eq!(queue.state(waiting).await, JobState::Blocked);
    queue.redrive(4, batch).await;
    assert_eq!(queue.state(batch).await, JobState::Completed);
    assert_eq!(queue.claim_one(5).await.id, waiting);
}
