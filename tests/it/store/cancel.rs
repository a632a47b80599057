//! Cancelling jobs, bringing ended ones back, and jobs that wait for others.

use sexton::model::{Dependency, DependencyNeeds, FinalState, JobId, JobState, NewJob};
use sexton::store::removal::{Cancelled, Redriven};

use crate::harness::{Queue, at, depending, job, on_both_backends, retried, soon, succeeded};

on_both_backends![
    a_waiting_job_is_cancelled_wherever_it_waits,
    a_running_job_is_asked_to_stop,
    a_job_that_is_over_or_unknown_is_not_cancelled,
    failed_and_cancelled_jobs_are_redriven_with_a_fresh_limit,
    a_retrying_job_is_let_go_at_once,
    what_is_not_over_or_completed_is_not_redriven,
    a_job_waits_for_the_success_of_another,
    a_job_that_needs_only_the_end_of_another_runs_when_it_fails,
    the_failure_of_one_cancels_the_chain_behind_it,
    a_fan_in_waits_for_all,
    a_future_job_that_is_released_early_still_waits_for_its_time,
    cancelling_a_blocked_job_cancels_what_waits_for_it,
    a_job_cannot_depend_on_the_success_of_one_that_failed,
    naming_a_dependency_twice_is_naming_it_once,
];

fn after(others: &[JobId], needs: DependencyNeeds) -> NewJob {
    depending(others.iter().map(|on| Dependency { on: *on, needs }), job())
}

async fn a_waiting_job_is_cancelled_wherever_it_waits(queue: Queue) {
    let ready = queue.submit(0, job()).await;
    let future = queue.submit(0, soon(60)).await;
    let blocked = queue.submit(0, after(&[future], DependencyNeeds::Finished)).await;
    for id in [ready, blocked, future] {
        assert_eq!(queue.cancel(1, id).await, Cancelled::Done);
        let cancelled = queue.job(id).await;
        assert_eq!(cancelled.state, JobState::Cancelled);
        assert_eq!(cancelled.error.as_deref(), Some("cancelled by test"));
        assert_eq!(cancelled.finished_at, Some(at(1)));
    }
    assert_eq!(queue.promote(60).await, 0);
    assert!(queue.claim(60, 10).await.is_empty());
}

async fn a_running_job_is_asked_to_stop(queue: Queue) {
    let id = queue.submit(0, job()).await;
    queue.claim_one(1).await;
    assert_eq!(queue.cancel(2, id).await, Cancelled::Requested);
    let running = queue.job(id).await;
    assert_eq!((running.state, running.cancel_requested), (JobState::Running, true));
}

async fn a_job_that_is_over_or_unknown_is_not_cancelled(queue: Queue) {
    let id = queue.through(0, job(), FinalState::Completed).await;
    assert_eq!(queue.cancel(5, id).await, Cancelled::AlreadyOver);
    assert_eq!(queue.state(id).await, JobState::Completed);
    assert_eq!(queue.cancel(5, JobId(404)).await, Cancelled::Unknown);
}

async fn failed_and_cancelled_jobs_are_redriven_with_a_fresh_limit(queue: Queue) {
    let failed = queue.through(0, job(), FinalState::Failed).await;
    assert_eq!(queue.redrive(5, failed).await, Redriven::Done);
    let pending = queue.job(failed).await;
    assert_eq!((pending.state, pending.finished_at), (JobState::Pending, None));
    let claimed = queue.claim_one(6).await;
    assert_eq!((claimed.number, claimed.charged), (2, 0), "attempts go on being counted");
    queue.finish(succeeded(&claimed, 6)).await;
    assert_eq!(queue.state(failed).await, JobState::Completed);

    let cancelled = queue.submit(7, job()).await;
    queue.cancel(7, cancelled).await;
    assert_eq!(queue.redrive(8, cancelled).await, Redriven::Done);
    assert_eq!(queue.claim_one(8).await.id, cancelled);
}

async fn a_retrying_job_is_let_go_at_once(queue: Queue) {
    let id = queue.submit(0, job()).await;
    let claimed = queue.claim_one(1).await;
    queue.finish(retried(&claimed, 1, 600)).await;
    assert_eq!(queue.redrive(2, id).await, Redriven::Done);
    let again = queue.claim_one(2).await;
    assert_eq!((again.number, again.charged), (2, 1));
}

async fn what_is_not_over_or_completed_is_not_redriven(queue: Queue) {
    let completed = queue.through(0, job(), FinalState::Completed).await;
    assert_eq!(queue.redrive(5, completed).await, Redriven::NotNow(JobState::Completed));
    let running = queue.submit(5, job()).await;
    queue.claim_one(5).await;
    assert_eq!(queue.redrive(6, running).await, Redriven::NotNow(JobState::Running));
    let future = queue.submit(6, soon(60)).await;
    assert_eq!(queue.redrive(6, future).await, Redriven::NotNow(JobState::Pending));
    let blocked = queue.submit(6, after(&[future], DependencyNeeds::Success)).await;
    assert_eq!(queue.redrive(6, blocked).await, Redriven::NotNow(JobState::Blocked));
    assert_eq!(queue.redrive(6, JobId(404)).await, Redriven::Unknown);
}

async fn a_job_waits_for_the_success_of_another(queue: Queue) {
    let first = queue.submit(0, job()).await;
    let second = queue.submit(0, after(&[first], DependencyNeeds::Success)).await;
    assert_eq!(queue.state(second).await, JobState::Blocked);
    let claimed = queue.claim_one(1).await;
    assert_eq!(claimed.id, first);
    queue.finish(succeeded(&claimed, 1)).await;
    assert_eq!(queue.claim_one(2).await.id, second);
    let late = queue.submit(3, after(&[first], DependencyNeeds::Success)).await;
    assert_eq!(queue.state(late).await, JobState::Pending, "what has completed holds nobody up");
}

async fn a_job_that_needs_only_the_end_of_another_runs_when_it_fails(queue: Queue) {
    let first = queue.submit(0, job()).await;
    let second = queue.submit(0, after(&[first], DependencyNeeds::Finished)).await;
    queue.cancel(1, first).await;
    assert_eq!(queue.claim_one(2).await.id, second);
}

async fn the_failure_of_one_cancels_the_chain_behind_it(queue: Queue) {
    let first = queue.submit(0, job()).await;
    let second = queue.submit(0, after(&[first], DependencyNeeds::Success)).await;
    let third = queue.submit(0, after(&[second], DependencyNeeds::Success)).await;
    let anyway = queue.submit(0, after(&[third], DependencyNeeds::Finished)).await;
    queue.cancel(1, first).await;
    for (id, cause) in [(second, first), (third, second)] {
        let cancelled = queue.job(id).await;
        assert_eq!(cancelled.state, JobState::Cancelled);
        let why = format!("job {cause}, which it depends on, is cancelled");
        assert_eq!(cancelled.error, Some(why));
    }
    assert_eq!(queue.claim_one(2).await.id, anyway);
}

async fn a_fan_in_waits_for_all(queue: Queue) {
    let parts = queue.submit_all(0, vec![job(), job(), job()]).await;
    let whole = queue.submit(0, after(&parts, DependencyNeeds::Success)).await;
    for claimed in queue.claim(1, 10).await {
        assert_eq!(queue.state(whole).await, JobState::Blocked);
        queue.finish(succeeded(&claimed, 1)).await;
    }
    assert_eq!(queue.claim_one(2).await.id, whole);
}

async fn a_future_job_that_is_released_early_still_waits_for_its_time(queue: Queue) {
    let first = queue.submit(0, job()).await;
    let later = NewJob { run_at: at(60), ..after(&[first], DependencyNeeds::Success) };
    let second = queue.submit(0, later).await;
    let claimed = queue.claim_one(1).await;
    queue.finish(succeeded(&claimed, 1)).await;
    assert_eq!(queue.state(second).await, JobState::Pending);
    assert!(queue.claim(2, 10).await.is_empty());
    assert_eq!(queue.promote(60).await, 1);
}

async fn cancelling_a_blocked_job_cancels_what_waits_for_it(queue: Queue) {
    let first = queue.submit(0, job()).await;
    let second = queue.submit(0, after(&[first], DependencyNeeds::Success)).await;
    let third = queue.submit(0, after(&[second], DependencyNeeds::Success)).await;
    queue.cancel(1, second).await;
    assert_eq!(queue.state(third).await, JobState::Cancelled);
    let claimed = queue.claim_one(2).await;
    queue.finish(succeeded(&claimed, 2)).await;
    assert!(queue.claim(3, 10).await.is_empty(), "the end of the first wakes nobody");
}

async fn a_job_cannot_depend_on_the_success_of_one_that_failed(queue: Queue) {
    let failed = queue.through(0, job(), FinalState::Failed).await;
    let refused =
        queue.try_submit(5, vec![after(&[failed], DependencyNeeds::Success)]).await.unwrap_err();
    assert!(refused.to_string().contains("is failed and will not complete"), "{refused}");
}

async fn naming_a_dependency_twice_is_naming_it_once(queue: Queue) {
    let first = queue.submit(0, job()).await;
    let mut new = after(&[first], DependencyNeeds::Finished);
    new.settings.depends_on.push(Dependency { on: first, needs: DependencyNeeds::Success });
    let second = queue.submit(0, new).await;
    queue.cancel(1, first).await;
    assert_eq!(queue.state(second).await, JobState::Cancelled, "the stricter need counts");
}
