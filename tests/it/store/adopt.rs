//! Taking over attempts that outlived their daemon: by their number, and only while they own their jobs.

use sexton::model::{AttemptName, FinalState, JobState};
use sexton::queue::after_loss;
use sexton::store::adopt::{Adoption, adopt};
use sexton::store::finish::{Finished, finish, rescue};

use crate::harness::{Queue, at, job, on_both_backends, succeeded};

on_both_backends!(
    a5_an_attempt_that_is_taken_over_is_finished_by_its_new_node_alone,
    a2_an_attempt_that_was_recorded_is_neither_taken_over_nor_refused,
    m2_an_attempt_whose_job_was_given_away_is_refused,
    what_is_not_known_here_is_refused,
    a_cancel_that_came_meanwhile_is_told,
);

fn name(claimed: &sexton::store::claim::ClaimedJob) -> AttemptName {
    AttemptName { job: claimed.id, number: claimed.number }
}

async fn adopt_on(queue: &Queue, wanted: Vec<AttemptName>) -> (sexton::model::NodeId, Adoption) {
    let (_store, node) = queue.another_node().await;
    let adoption = queue.write(move |conn| adopt(conn, node, &wanted)).await;
    (node, adoption)
}

async fn a5_an_attempt_that_is_taken_over_is_finished_by_its_new_node_alone(queue: Queue) {
    queue.submit(0, job()).await;
    let claimed = queue.claim_one(1).await;
    let (node, adoption) = adopt_on(&queue, vec![name(&claimed)]).await;
    assert_eq!(adoption.refused, []);
    assert_eq!(adoption.adopted[0].job, claimed, "as when it was claimed");
    assert_eq!(adoption.adopted[0].started_at, at(1));
    // Its old node is dead. What it left is looked for, and this is not among it.
    let dead = queue.node;
    let rescued = queue
        .write(move |conn| rescue(conn, dead, at(2), "why", |loss| after_loss(loss, at(2))))
        .await;
    assert_eq!(rescued, []);
    assert_eq!(queue.finish(succeeded(&claimed, 1)).await, Finished::Fenced);
    let end = succeeded(&claimed, 1);
    let finished = queue.write(move |conn| finish(conn, node, std::slice::from_ref(&end))).await;
    assert!(matches!(finished[0], Finished::Recorded { state: JobState::Completed, .. }));
    assert_eq!(queue.attempts(claimed.id).await.len(), 1);
}

async fn a2_an_attempt_that_was_recorded_is_neither_taken_over_nor_refused(queue: Queue) {
    let id = queue.through(0, job(), FinalState::Completed).await;
    let (_, adoption) = adopt_on(&queue, vec![AttemptName { job: id, number: 1 }]).await;
    assert_eq!(adoption, Adoption::default());
}

async fn m2_an_attempt_whose_job_was_given_away_is_refused(queue: Queue) {
    queue.submit(0, job()).await;
    let first = queue.claim_one(1).await;
    let dead = queue.node;
    queue.write(move |conn| rescue(conn, dead, at(2), "why", |loss| after_loss(loss, at(2)))).await;
    let (_, waiting) = adopt_on(&queue, vec![name(&first)]).await;
    assert_eq!(waiting, Adoption { refused: vec![name(&first)], ..Adoption::default() });
    let second = queue.claim_one(3).await;
    assert_eq!(second.number, 2);
    let (_, running) = adopt_on(&queue, vec![name(&first)]).await;
    assert_eq!(running, Adoption { refused: vec![name(&first)], ..Adoption::default() });
    assert!(matches!(queue.finish(succeeded(&second, 3)).await, Finished::Recorded { .. }));
    let attempts = queue.attempts(first.id).await;
    let outcomes: Vec<&str> = attempts.iter().map(|attempt| attempt.outcome.as_str()).collect();
    assert_eq!(outcomes, ["interrupted", "success"]);
}

async fn what_is_not_known_here_is_refused(queue: Queue) {
    let nobody = AttemptName { job: sexton::model::JobId(77), number: 1 };
    let (_, adoption) = adopt_on(&queue, vec![nobody]).await;
    assert_eq!(adoption, Adoption { refused: vec![nobody], ..Adoption::default() });
}

async fn a_cancel_that_came_meanwhile_is_told(queue: Queue) {
    queue.submit(0, job()).await;
    let claimed = queue.claim_one(1).await;
    queue.cancel(2, claimed.id).await;
    let (_, adoption) = adopt_on(&queue, vec![name(&claimed)]).await;
    assert!(adoption.adopted[0].is_cancelled);
}
