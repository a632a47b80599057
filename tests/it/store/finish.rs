//! The end of an attempt, and what it means for its job.

use sexton::model::{
    AfterAttempt, Dependency, DependencyNeeds, FinalState, FinishedAttempt, JobState, JsonText,
    NewJob, Outcome, Priority,
};
use sexton::queue::{MOST_LOSSES, after_loss};
use sexton::store::claim::ClaimedJob;
use sexton::store::finish::{self, Finished, ProgressUpdate, Rescued};
use sexton::store::{Conn, nodes, removal};

use crate::harness::{
    Queue, at, beat, depending, ended, job, on_both_backends, retried, soon, succeeded,
};

on_both_backends![
    a_finished_job_keeps_its_result_and_its_attempt,
    a_stale_report_is_fenced_and_changes_nothing,
    another_nodes_report_is_fenced,
    one_fenced_report_does_not_hinder_the_others,
    a_report_that_comes_twice_counts_once,
    of_two_attempts_of_a_job_only_the_one_that_owns_it_counts,
    ends_of_jobs_that_others_wait_for_may_be_reported_together,
    a_failed_attempt_waits_is_promoted_and_runs_again,
    only_charged_outcomes_count_against_the_limit,
    an_interrupted_attempt_gives_the_job_its_old_place_back,
    what_a_dead_node_ran_is_rescued_as_interrupted,
    a6_a_job_that_kills_its_daemon_is_held_back_then_given_up_and_can_be_redriven,
    an_interruption_by_a_shutdown_is_no_loss,
    a_rescued_job_whose_cancel_was_requested_is_cancelled,
    a_cancel_that_comes_while_the_attempt_ends_wins_over_its_retry,
    a_success_wins_over_a_cancel_that_came_too_late,
    progress_is_stored_for_the_attempt_that_owns_the_job,
    a_checkpoint_comes_back_with_every_later_attempt,
    a_checkpoint_of_an_attempt_that_does_not_own_its_job_is_not_kept,
    d4_a_retry_that_was_put_off_by_a_clock_far_ahead_goes_at_once_when_the_clock_is_right,
    d6_a_node_that_was_declared_dead_lives_again_and_what_it_claims_can_be_rescued,
    a_node_that_stopped_without_recording_an_attempt_is_still_looked_after,
    i5_attempts_and_the_time_of_the_next_one_survive_a_restart,
];

fn recorded(state: JobState) -> Finished {
    Finished::Recorded { state, ended_schedule: None }
}

async fn a_finished_job_keeps_its_result_and_its_attempt(queue: Queue) {
    let id = queue.submit(0, job()).await;
    let claimed = queue.claim_one(1).await;
    assert_eq!((claimed.number, claimed.charged), (1, 0));
    assert_eq!(queue.state(id).await, JobState::Running);
    let report = FinishedAttempt {
        exit_code: Some(0),
        result: Some(serde_json::json!({"deleted": 3})),
        output_tail: Some("done\n".to_owned()),
        checkpoint: None,
        ..succeeded(&claimed, 2)
    };
    assert_eq!(queue.finish(report).await, recorded(JobState::Completed));
    let stored = queue.job(id).await;
    assert_eq!(stored.state, JobState::Completed);
    assert_eq!(stored.result, Some(serde_json::json!({"deleted": 3})));
    assert_eq!((stored.started_at, stored.finished_at), (Some(at(2)), Some(at(3))));
    assert_eq!((stored.attempt, stored.error), (1, None));
    let attempts = queue.attempts(id).await;
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0].outcome, "success");
    assert_eq!(attempts[0].node_id, queue.node.0);
    assert_eq!(attempts[0].exit_code, Some(0));
    assert_eq!(attempts[0].output_tail.as_deref(), Some("done\n"));
}

async fn a_stale_report_is_fenced_and_changes_nothing(queue: Queue) {
    let id = queue.submit(0, job()).await;
    let first = queue.claim_one(1).await;
    queue.finish(ended(&first, 1, Outcome::Interrupted, AfterAttempt::GiveBack)).await;
    let second = queue.claim_one(3).await;
    assert_eq!(second.number, 2);
    assert_eq!(queue.finish(succeeded(&first, 4)).await, Finished::Fenced);
    assert_eq!(queue.state(id).await, JobState::Running);
    assert_eq!(queue.attempts(id).await.len(), 1);
    assert_eq!(queue.finish(succeeded(&second, 4)).await, recorded(JobState::Completed));
    assert_eq!(queue.finish(succeeded(&second, 4)).await, Finished::Fenced, "it reports once");
}

async fn another_nodes_report_is_fenced(queue: Queue) {
    let id = queue.submit(0, job()).await;
    let claimed = queue.claim_one(1).await;
    let (store, node) = queue.another_node().await;
    let report = succeeded(&claimed, 1);
    let answer = store
        .write(move |conn| finish::finish(conn, node, std::slice::from_ref(&report)))
        .await
        .unwrap();
    assert_eq!(answer, [Finished::Fenced]);
    assert_eq!(queue.state(id).await, JobState::Running);
}

async fn one_fenced_report_does_not_hinder_the_others(queue: Queue) {
    queue.submit_all(0, vec![job(), job()]).await;
    let claimed = queue.claim(1, 2).await;
    let stale = FinishedAttempt { number: 7, ..succeeded(&claimed[0], 1) };
    let reports = [stale, succeeded(&claimed[1], 1)];
    let node = queue.node;
    let answers = queue.write(move |conn| finish::finish(conn, node, &reports)).await;
    assert_eq!(answers, [Finished::Fenced, recorded(JobState::Completed)]);
}

async fn a_report_that_comes_twice_counts_once(queue: Queue) {
    let id = queue.submit(0, job()).await;
    let claimed = queue.claim_one(1).await;
    let (node, report) = (queue.node, succeeded(&claimed, 2));
    let reports = vec![report.clone(), report];
    let finished = queue.write(move |conn| finish::finish(conn, node, &reports)).await;
    assert_eq!(finished, [recorded(JobState::Completed), Finished::Fenced]);
    assert_eq!(queue.attempts(id).await.len(), 1);
}

async fn of_two_attempts_of_a_job_only_the_one_that_owns_it_counts(queue: Queue) {
    let id = queue.submit(0, job()).await;
    let first = queue.claim_one(1).await;
    queue.finish(retried(&first, 1, 2)).await;
    queue.promote(2).await;
    let second = queue.claim_one(2).await;
    let node = queue.node;
    let reports = vec![succeeded(&first, 3), retried(&second, 3, 9), succeeded(&first, 4)];
    let finished = queue.write(move |conn| finish::finish(conn, node, &reports)).await;
    assert_eq!(finished, [Finished::Fenced, recorded(JobState::Retrying), Finished::Fenced]);
    assert_eq!(queue.attempts(id).await.len(), 2);
    assert_eq!(queue.state(id).await, JobState::Retrying);
}

async fn ends_of_jobs_that_others_wait_for_may_be_reported_together(queue: Queue) {
    let first = queue.submit_all(0, vec![job(), job(), job()]).await;
    let needs = |needs: &[DependencyNeeds]| {
        let on = first.iter().zip(needs).map(|(on, needs)| Dependency { on: *on, needs: *needs });
        depending(on, job())
    };
    use DependencyNeeds::{Any, Finished as Over, Success};
    // The first one completes, the second one fails, the third one completes.
    let any = queue.submit(0, needs(&[Any, Any, Any])).await;
    let over = queue.submit(0, needs(&[Success, Over, Success])).await;
    let all = queue.submit(0, needs(&[Success, Success, Success])).await;
    let after = Dependency { on: all, needs: Over };
    let last = queue.submit(0, depending([after], job())).await;
    let claimed = queue.claim(0, 10).await;
    assert_eq!(claimed.len(), 3);
    let failure = AfterAttempt::End(FinalState::Failed);
    let reports = vec![
        succeeded(&claimed[0], 1),
        ended(&claimed[1], 1, Outcome::Failure, failure),
        succeeded(&claimed[2], 1),
    ];
    let node = queue.node;
    queue.write(move |conn| finish::finish(conn, node, &reports)).await;
    assert_eq!(queue.state(all).await, JobState::Cancelled);
    let ready: Vec<_> = queue.claim(2, 10).await.into_iter().map(|job| job.id).collect();
    assert_eq!(ready, [any, over, last]);
}

async fn a_failed_attempt_waits_is_promoted_and_runs_again(queue: Queue) {
    let id = queue.submit(0, job()).await;
    let first = queue.claim_one(1).await;
    assert_eq!(queue.finish(retried(&first, 1, 30)).await, recorded(JobState::Retrying));
    let waiting = queue.job(id).await;
    assert_eq!((waiting.state, waiting.run_at), (JobState::Retrying, at(30)));
    assert_eq!(waiting.error.as_deref(), Some("it was a failure"));
    assert!(queue.claim(29, 10).await.is_empty());
    queue.promote(30).await;
    assert_eq!(queue.state(id).await, JobState::Pending);
    let second = queue.claim_one(30).await;
    assert_eq!((second.number, second.charged), (2, 1));
    queue.finish(succeeded(&second, 30)).await;
    let outcomes: Vec<(i32, String)> = queue
        .attempts(id)
        .await
        .into_iter()
        .map(|attempt| (attempt.number, attempt.outcome))
        .collect();
    assert_eq!(outcomes, [(1, "failure".to_owned()), (2, "success".to_owned())]);
}

async fn only_charged_outcomes_count_against_the_limit(queue: Queue) {
    queue.submit(0, job()).await;
    let steps = [
        (0, Outcome::Skipped, AfterAttempt::SnoozeUntil(at(1))),
        (0, Outcome::Interrupted, AfterAttempt::GiveBack),
        (0, Outcome::Failure, AfterAttempt::RetryAt(at(1))),
        (1, Outcome::Error, AfterAttempt::RetryAt(at(1))),
        (2, Outcome::Timeout, AfterAttempt::RetryAt(at(1))),
        (3, Outcome::Success, AfterAttempt::End(FinalState::Completed)),
    ];
    for (number, (charged, outcome, next)) in (1..).zip(steps) {
        queue.promote(1).await;
        let claimed = queue.claim_one(1).await;
        assert_eq!((claimed.number, claimed.charged), (number, charged), "before the {outcome}");
        queue.finish(ended(&claimed, 1, outcome, next)).await;
    }
}

async fn an_interrupted_attempt_gives_the_job_its_old_place_back(queue: Queue) {
    let first = queue.submit(0, job()).await;
    let claimed = queue.claim_one(1).await;
    queue.submit(2, NewJob { run_at: at(2), ..job() }).await;
    let given_back = ended(&claimed, 2, Outcome::Interrupted, AfterAttempt::GiveBack);
    assert_eq!(queue.finish(given_back).await, recorded(JobState::Pending));
    let next = queue.claim(3, 1).await;
    assert_eq!(next[0].id, first, "it goes before what came later");
    assert_eq!((next[0].number, next[0].charged), (2, 0));
}

async fn what_a_dead_node_ran_is_rescued_as_interrupted(queue: Queue) {
    let ids = queue.submit_all(0, vec![job(), job()]).await;
    queue.claim(1, 1).await;
    let (dead_store, dead) = queue.another_node().await;
    let request = sexton::store::claim::ClaimRequest { node: dead, ..queue.request(1, 1) };
    let lost = dead_store
        .write(move |conn| sexton::store::claim::claim(conn, &request))
        .await
        .unwrap()
        .jobs
        .remove(0);
    let rescued = queue
        .write(move |conn| {
            finish::rescue(conn, dead, at(60), "the node died", |_| Rescued::given_back())
        })
        .await;
    assert_eq!(rescued, [ids[1]]);
    assert_eq!(queue.state(ids[0]).await, JobState::Running, "ours is left alone");
    let attempts = queue.attempts(ids[1]).await;
    assert_eq!(attempts[0].outcome, "interrupted");
    assert_eq!(attempts[0].error.as_deref(), Some("the node died"));
    let again = queue.claim_one(61).await;
    assert_eq!((again.id, again.number, again.charged), (ids[1], 2, 0));

    let late = succeeded(&lost, 62);
    let answer = dead_store
        .write(move |conn| finish::finish(conn, dead, std::slice::from_ref(&late)))
        .await
        .unwrap();
    assert_eq!(answer, [Finished::Fenced], "the node comes back too late");
    assert!(queue.write(move |conn| nodes::heartbeat(conn, dead, &beat(90))).await);
    queue.write(move |conn| nodes::mark_stopped(conn, dead, at(91))).await;
    assert!(!queue.write(move |conn| nodes::heartbeat(conn, dead, &beat(120))).await);
}

async fn a6_a_job_that_kills_its_daemon_is_held_back_then_given_up_and_can_be_redriven(
    queue: Queue,
) {
    let id = queue.submit(0, job()).await;
    let node = queue.node;
    let mut now = 0;
    let lose = async |now: i64| {
        // Whether its daemon is back first, or another node notices, changes nothing.
        let why = if now % 240 == 0 { finish::DAEMON_ENDED } else { finish::NODE_SILENT };
        let rescue = move |conn: &mut Conn| {
            finish::rescue(conn, node, at(now), why, |losses| after_loss(losses, at(now)))
        };
        assert_eq!(queue.write(rescue).await, [id]);
    };
    for loss in 1..=MOST_LOSSES {
        now += 120;
        queue.promote(now).await;
        assert_eq!(queue.claim_one(now).await.number, loss);
        lose(now).await;
        let expected = match loss {
            1..=3 => JobState::Pending,
            MOST_LOSSES => JobState::Failed,
            _ => JobState::Retrying,
        };
        assert_eq!(queue.state(id).await, expected, "after loss {loss}");
    }
    assert!(queue.job(id).await.error.is_some_and(|why| why.contains("given up")));
    assert!(queue.attempts(id).await.iter().all(|attempt| attempt.outcome == "interrupted"));

    // Somebody has mended it: it has all its lives again.
    queue.redrive(now, id).await;
    queue.claim_one(now).await;
    lose(now).await;
    assert_eq!(queue.state(id).await, JobState::Pending);
}

async fn an_interruption_by_a_shutdown_is_no_loss(queue: Queue) {
    let id = queue.submit(0, job()).await;
    let node = queue.node;
    for round in 1..=3 * i64::from(MOST_LOSSES) {
        let claimed = queue.claim_one(round).await;
        if round % 2 == 0 {
            let back = ended(&claimed, round, Outcome::Interrupted, AfterAttempt::GiveBack);
            queue.finish(back).await;
        } else {
            let rescue = move |conn: &mut Conn| {
                let now = at(round);
                finish::rescue(conn, node, now, "the node died", |loss| after_loss(loss, now))
            };
            queue.write(rescue).await;
        }
        assert_eq!(queue.state(id).await, JobState::Pending, "round {round}");
    }
}

async fn a_rescued_job_whose_cancel_was_requested_is_cancelled(queue: Queue) {
    let id = queue.submit(0, job()).await;
    queue.claim_one(1).await;
    queue.cancel(2, id).await;
    let node = queue.node;
    queue
        .write(move |conn| {
            finish::rescue(conn, node, at(60), "the node died", |_| Rescued::given_back())
        })
        .await;
    assert_eq!(queue.state(id).await, JobState::Cancelled);
}

async fn a_cancel_that_comes_while_the_attempt_ends_wins_over_its_retry(queue: Queue) {
    let id = queue.submit(0, job()).await;
    let claimed = queue.claim_one(1).await;
    queue.cancel(2, id).await;
    assert!(queue.job(id).await.cancel_requested);
    assert_eq!(queue.finish(retried(&claimed, 2, 30)).await, recorded(JobState::Cancelled));
    assert_eq!(queue.promote(31).await, 0);
}

async fn a_success_wins_over_a_cancel_that_came_too_late(queue: Queue) {
    let id = queue.submit(0, NewJob { priority: Priority::HIGH, ..job() }).await;
    let claimed = queue.claim_one(1).await;
    queue.cancel(2, id).await;
    let done = ended(&claimed, 2, Outcome::Success, AfterAttempt::End(FinalState::Completed));
    assert_eq!(queue.finish(done).await, recorded(JobState::Completed));
}

async fn progress_is_stored_for_the_attempt_that_owns_the_job(queue: Queue) {
    let id = queue.submit(0, job()).await;
    queue.claim_one(1).await;
    let update = |number, percent, message: &str| ProgressUpdate {
        job: id,
        number,
        percent,
        message: message.to_owned(),
        checkpoint: None,
    };
    let updates = [update(1, Some(42), "half way"), update(2, Some(99), "not the owner")];
    queue.write(move |conn| finish::record_progress(conn, &updates)).await;
    let running = queue.job(id).await;
    assert_eq!((running.progress, running.message.as_deref()), (Some(42), Some("half way")));
}

fn checkpoint(page: i64) -> Option<JsonText> {
    Some(JsonText::from(&serde_json::json!({ "page": page })))
}

fn keep(claimed: &ClaimedJob, page: i64) -> ProgressUpdate {
    ProgressUpdate {
        job: claimed.id,
        number: claimed.number,
        percent: None,
        message: String::new(),
        checkpoint: checkpoint(page),
    }
}

async fn a_checkpoint_comes_back_with_every_later_attempt(queue: Queue) {
    queue.submit(0, job()).await;
    let first = queue.claim_one(1).await;
    assert_eq!(first.checkpoint, None);
    let update = keep(&first, 1);
    queue.write(move |conn| finish::record_progress(conn, std::slice::from_ref(&update))).await;
    let interrupted = ended(&first, 2, Outcome::Interrupted, AfterAttempt::GiveBack);
    queue.finish(interrupted).await;
    let second = queue.claim_one(3).await;
    assert_eq!(second.checkpoint, checkpoint(1), "as a killed daemon left it");
    let failed = FinishedAttempt { checkpoint: checkpoint(2), ..retried(&second, 4, 5) };
    queue.finish(failed).await;
    queue.promote(5).await;
    let third = queue.claim_one(5).await;
    assert_eq!(third.checkpoint, checkpoint(2), "as the attempt itself left it");
    queue.finish(ended(&third, 6, Outcome::Failure, AfterAttempt::End(FinalState::Failed))).await;
    queue.redrive(7, third.id).await;
    assert_eq!(queue.claim_one(8).await.checkpoint, checkpoint(2), "a redrive goes on there");
}

async fn a_checkpoint_of_an_attempt_that_does_not_own_its_job_is_not_kept(queue: Queue) {
    queue.submit(0, job()).await;
    let first = queue.claim_one(1).await;
    let late = ProgressUpdate { number: 7, ..keep(&first, 1) };
    queue.write(move |conn| finish::record_progress(conn, std::slice::from_ref(&late))).await;
    queue.finish(ended(&first, 2, Outcome::Interrupted, AfterAttempt::GiveBack)).await;
    assert_eq!(queue.claim_one(3).await.checkpoint, None);
}

async fn d4_a_retry_that_was_put_off_by_a_clock_far_ahead_goes_at_once_when_the_clock_is_right(
    queue: Queue,
) {
    const DAY: i64 = 86_400;
    let ids = queue.submit_all(0, vec![job(), job()]).await;
    let [far, near] = &queue.claim(1, 2).await[..] else { panic!("two jobs") };
    queue.finish(retried(far, 2, 3650 * DAY)).await;
    queue.finish(retried(near, 2, 6 * DAY)).await;
    let future = queue.submit(3, soon(3650 * DAY)).await;
    let hurried = queue.write(|conn| removal::hurry_overdue_retries(conn, at(10))).await;
    assert_eq!(
        hurried, 1,
        "neither one that waits as long as any may, nor what was asked for then"
    );
    assert_eq!(queue.promote(10).await, 1);
    assert_eq!(queue.claim_one(10).await.id, ids[0]);
    assert_eq!(queue.state(ids[1]).await, JobState::Retrying);
    assert_eq!(queue.state(future).await, JobState::Pending);
}

async fn d6_a_node_that_was_declared_dead_lives_again_and_what_it_claims_can_be_rescued(
    queue: Queue,
) {
    let node = queue.node;
    let (other, me) = queue.another_node().await;
    queue.write(move |conn| nodes::mark_stopped(conn, node, at(60))).await;
    assert!(
        !queue.write(move |conn| nodes::heartbeat(conn, node, &beat(100))).await,
        "it must know"
    );
    assert!(queue.write(move |conn| nodes::heartbeat(conn, node, &beat(105))).await);
    let id = queue.submit(61, job()).await;
    queue.claim_one(62).await;
    let seen = other.read(move |conn| nodes::others(conn, me)).await.unwrap();
    assert!(seen.iter().any(|seen| seen.id == node.0), "others look after it again");
    let now = at(200);
    let rescue = move |conn: &mut Conn| {
        finish::rescue(conn, node, now, "it died", |loss| after_loss(loss, now))
    };
    let rescued = other.write(rescue).await.unwrap();
    assert_eq!(rescued, [id]);
}

async fn a_node_that_stopped_without_recording_an_attempt_is_still_looked_after(queue: Queue) {
    let (other, me) = queue.another_node().await;
    let (node, id) = (queue.node, queue.submit(0, job()).await);
    queue.claim_one(1).await;
    queue.write(move |conn| nodes::mark_stopped(conn, node, at(2))).await;
    let left = other.read(move |conn| nodes::others(conn, me)).await.unwrap();
    assert_eq!(left.iter().map(|left| left.id).collect::<Vec<_>>(), [node.0]);
    let rescue = move |conn: &mut Conn| {
        finish::rescue(conn, node, at(3), "it died", |loss| after_loss(loss, at(3)))
    };
    assert_eq!(other.write(rescue).await.unwrap(), [id]);
    assert_eq!(other.read(move |conn| nodes::others(conn, me)).await.unwrap(), []);
}

async fn i5_attempts_and_the_time_of_the_next_one_survive_a_restart(queue: Queue) {
    let id = queue.submit(0, job()).await;
    let first = queue.claim_one(1).await;
    queue.finish(retried(&first, 2, 100)).await;
    let queue = queue.reopen().await;
    assert_eq!(queue.state(id).await, JobState::Retrying);
    assert_eq!(queue.job(id).await.run_at, at(100));
    assert_eq!(queue.promote(99).await, 0);
    assert_eq!(queue.promote(100).await, 1);
    let second = queue.claim_one(100).await;
    assert_eq!((second.number, second.charged), (2, 1));
}
