//! What holds when two nodes are at the same rows at the same moment. SQLite has one writer, so only PostgreSQL is asked.
//!
//! Each test leaves a transaction of one node open, lets the other node act, waits until that one has either done so or waits for the
//! first, and only then lets the first commit: every interleaving that matters happens each time, and not by chance.

use std::sync::mpsc;

use diesel::prelude::*;
use diesel::sql_types::BigInt;
use sexton::model::{
    Actor, Cause, Decision, Dependency, DependencyNeeds, FinalState, JobId, JobState, NewJob,
    OverlapVerdict, ScheduleId,
};
use sexton::store::finish::{Finished, finish};
use sexton::store::prune::{self, PruneJobs};
use sexton::store::removal::{Cancelled, Redriven, cancel, redrive};
use sexton::store::schedules::{Definition, Instant, Plan, adopt, record};
use sexton::store::schema::meta;
use sexton::store::{Conn, Store, StoreError, claim, jobs};

use crate::harness::{Queue, at, depending, job, soon, succeeded};

macro_rules! between_nodes {
    ($($guarantee:ident),* $(,)?) => {
        mod postgres {
            $(#[test]
            fn $guarantee() {
                crate::harness::on_postgres(super::$guarantee);
            })*
        }
    };
}

between_nodes![
    a_job_that_becomes_due_is_promoted_once,
    a_job_that_another_node_is_claiming_is_asked_to_stop_and_not_closed,
    a_job_that_another_node_is_promoting_is_cancelled,
    a_job_that_another_node_is_finishing_is_not_cancelled_afterwards,
    a_failed_job_is_brought_back_once,
    the_last_two_dependencies_may_end_side_by_side,
    a_job_may_begin_to_wait_for_one_that_is_just_ending,
    a_job_that_somebody_begins_to_wait_for_is_claimed_afterwards,
    a_job_that_is_brought_back_is_not_pruned,
    two_runs_by_hand_do_not_both_find_the_schedule_idle,
    groups_that_wait_for_each_other_are_both_written,
    m2_the_server_ends_the_transaction_of_a_node_that_is_frozen,
];

/// The other node's transaction, which is committed when this is dropped.
struct Open<T> {
    commit: mpsc::Sender<()>,
    task: tokio::task::JoinHandle<Result<T, StoreError>>,
}

impl<T> Open<T> {
    async fn committed(self) -> T {
        drop(self.commit);
        self.task.await.expect("no panic").expect("it is written")
    }
}

/// Lets a node do something, and leaves its transaction open.
async fn left_open<T: Send + 'static>(
    store: &Store,
    mut what: impl FnMut(&mut Conn) -> Result<T, StoreError> + Send + 'static,
) -> Open<T> {
    let (commit, committed) = mpsc::channel::<()>();
    let (done, is_done) = tokio::sync::oneshot::channel();
    let mut done = Some(done);
    let store = store.clone();
    let task = tokio::spawn(async move {
        let written = store.write(move |conn| {
            let result = what(conn);
            if let Some(done) = done.take() {
                done.send(()).expect("the test waits for it");
            }
            // Ends when the test lets go of its end.
            let _let_go = committed.recv();
            result
        });
        written.await
    });
    is_done.await.expect("it does its work");
    Open { commit, task }
}

/// Lets a node do something while another one's transaction is open, and commits that when this one is done or waits for it.
async fn meanwhile<T: Send + 'static, U>(
    queue: &Queue,
    open: Open<U>,
    what: impl FnMut(&mut Conn) -> Result<T, StoreError> + Send + 'static,
) -> (U, T) {
    let store = queue.store.clone();
    let mine = tokio::spawn(async move { store.write(what).await });
    while !mine.is_finished() && !somebody_waits(queue).await {}
    let theirs = open.committed().await;
    (theirs, mine.await.expect("no panic").expect("it is written"))
}

/// Whether a transaction in this database waits for another one.
async fn somebody_waits(queue: &Queue) -> bool {
    #[derive(QueryableByName)]
    struct Waiting {
        #[diesel(sql_type = BigInt)]
        waiting: i64,
    }
    let asked = queue.read(|conn| {
        let query = "SELECT count(*) AS waiting FROM pg_stat_activity \
                     WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let Conn::Postgres(conn) = conn else { panic!("only PostgreSQL is asked") };
        Ok(diesel::sql_query(query).get_result::<Waiting>(conn)?.waiting)
    });
    asked.await > 0
}

fn failed(second: i64, claimed: &claim::ClaimedJob) -> sexton::model::FinishedAttempt {
    crate::harness::ended(
        claimed,
        second,
        sexton::model::Outcome::Failure,
        sexton::model::AfterAttempt::End(FinalState::Failed),
    )
}

async fn a_job_that_becomes_due_is_promoted_once(queue: Queue) {
    queue.submit(0, soon(5)).await;
    let (other, _) = queue.another_node().await;
    let promote = |conn: &mut Conn| jobs::promote(conn, at(5), 1000);
    let open = left_open(&other, promote).await;
    let (theirs, mine) = meanwhile(&queue, open, promote).await;
    assert_eq!((theirs, mine), (1, 0));
    queue.claim_one(5).await;
}

async fn a_job_that_another_node_is_claiming_is_asked_to_stop_and_not_closed(queue: Queue) {
    let id = queue.submit(0, job()).await;
    let (other, node) = queue.another_node().await;
    let request = claim::ClaimRequest { node, ..queue.request(1, 1) };
    let open = left_open(&other, move |conn| claim::claim(conn, &request)).await;
    let by = Actor::named("test");
    let (claimed, cancelled) =
        meanwhile(&queue, open, move |conn| cancel(conn, id, &by, at(1))).await;
    assert_eq!(cancelled, Cancelled::Requested);
    let attempt = succeeded(&claimed.jobs[0], 1);
    let finished = other.write(move |conn| finish(conn, node, std::slice::from_ref(&attempt)));
    assert!(matches!(finished.await.unwrap()[0], Finished::Recorded { .. }));
}

async fn a_job_that_another_node_is_promoting_is_cancelled(queue: Queue) {
    let id = queue.submit(0, soon(5)).await;
    let (other, _) = queue.another_node().await;
    let open = left_open(&other, |conn| jobs::promote(conn, at(5), 1000)).await;
    let by = Actor::named("test");
    let (promoted, cancelled) =
        meanwhile(&queue, open, move |conn| cancel(conn, id, &by, at(5))).await;
    assert_eq!((promoted, cancelled), (1, Cancelled::Done));
    assert_eq!(queue.claim(6, 1).await, []);
}

async fn a_job_that_another_node_is_finishing_is_not_cancelled_afterwards(queue: Queue) {
    let id = queue.submit(0, job()).await;
    let claimed = queue.claim_one(0).await;
    let (other, _) = queue.another_node().await;
    let (node, attempt) = (queue.node, succeeded(&claimed, 0));
    let open =
        left_open(&other, move |conn| finish(conn, node, std::slice::from_ref(&attempt))).await;
    let by = Actor::named("test");
    let (_, cancelled) = meanwhile(&queue, open, move |conn| cancel(conn, id, &by, at(1))).await;
    assert_eq!(cancelled, Cancelled::AlreadyOver);
    assert_eq!(queue.state(id).await, JobState::Completed);
}

async fn a_failed_job_is_brought_back_once(queue: Queue) {
    let id = queue.through(0, job(), FinalState::Failed).await;
    let (other, _) = queue.another_node().await;
    let context = queue.context(5);
    let again = move |conn: &mut Conn| redrive(conn, id, context);
    let open = left_open(&other, again).await;
    let (theirs, mine) = meanwhile(&queue, open, again).await;
    assert_eq!(theirs, Redriven::Done);
    assert_eq!(mine, Redriven::NotNow(JobState::Pending));
    queue.claim_one(5).await;
}

fn after(on: JobId) -> Dependency {
    Dependency { on, needs: DependencyNeeds::Success }
}

async fn the_last_two_dependencies_may_end_side_by_side(queue: Queue) {
    let first = queue.submit_all(0, vec![job(), job()]).await;
    let depends_on = first.iter().copied().map(after);
    let last = queue.submit(0, depending(depends_on, job())).await;
    let claimed = queue.claim(0, 2).await;
    let (other, _) = queue.another_node().await;
    let node = queue.node;
    let ends = |attempt: sexton::model::FinishedAttempt| {
        move |conn: &mut Conn| finish(conn, node, std::slice::from_ref(&attempt))
    };
    let open = left_open(&other, ends(succeeded(&claimed[0], 0))).await;
    meanwhile(&queue, open, ends(succeeded(&claimed[1], 0))).await;
    assert_eq!(queue.claim_one(2).await.id, last);
}

async fn a_job_may_begin_to_wait_for_one_that_is_just_ending(queue: Queue) {
    let first = queue.submit(0, job()).await;
    let claimed = queue.claim_one(0).await;
    let (other, _) = queue.another_node().await;
    let (node, attempt) = (queue.node, succeeded(&claimed, 0));
    let open =
        left_open(&other, move |conn| finish(conn, node, std::slice::from_ref(&attempt))).await;
    let new = depending([after(first)], job());
    let context = queue.context(1);
    let submit = move |conn: &mut Conn| jobs::submit(conn, std::slice::from_ref(&new), context);
    let (_, submitted) = meanwhile(&queue, open, submit).await;
    assert_eq!(queue.claim_one(2).await.id, submitted[0].id);
}

async fn a_job_that_somebody_begins_to_wait_for_is_claimed_afterwards(queue: Queue) {
    let first = queue.submit(0, job()).await;
    let (other, node) = queue.another_node().await;
    let new = depending([after(first)], job());
    let context = queue.context(1);
    let submit = move |conn: &mut Conn| jobs::submit(conn, std::slice::from_ref(&new), context);
    let open = left_open(&other, submit).await;
    let request = claim::ClaimRequest { node, ..queue.request(1, 1) };
    let (submitted, claimed) =
        meanwhile(&queue, open, move |conn| claim::claim(conn, &request)).await;
    assert_eq!(claimed.jobs, [], "it could end before anybody knows who waits for it");
    let claimed = queue.claim_one(2).await;
    queue.finish(succeeded(&claimed, 2)).await;
    assert_eq!(queue.claim_one(3).await.id, submitted[0].id);
}

async fn a_job_that_is_brought_back_is_not_pruned(queue: Queue) {
    let id = queue.submit(0, job()).await;
    let claimed = queue.claim_one(0).await;
    queue.finish(failed(0, &claimed)).await;
    let (other, _) = queue.another_node().await;
    let context = queue.context(100);
    let open = left_open(&other, move |conn| redrive(conn, id, context)).await;
    let old = PruneJobs {
        state: FinalState::Failed,
        before: at(50),
        keep_per_schedule: 0,
        after: None,
        limit: 100,
    };
    let (redriven, pruned) = meanwhile(&queue, open, move |conn| prune::jobs(conn, old)).await;
    assert_eq!(redriven, Redriven::Done);
    assert_eq!(pruned.deleted, []);
    assert_eq!(queue.claim_one(100).await.id, id);
}

async fn two_runs_by_hand_do_not_both_find_the_schedule_idle(queue: Queue) {
    let id: ScheduleId = "nightly".parse().unwrap();
    let definition = Definition { id: id.clone(), rule: "r".to_owned(), follows: Vec::new() };
    queue.write(move |conn| adopt(conn, std::slice::from_ref(&definition), at(0))).await;
    let (other, _) = queue.another_node().await;
    let context = queue.context(1);
    let run = |second: i64| {
        let nominal_at = at(second);
        let instant = Instant {
            schedule: id.clone(),
            nominal_at,
            reason: "by hand".to_owned(),
            revision: "r".to_owned(),
            instants: 1,
            actor: Actor::named("test"),
            cause: Cause::Hand,
            basis: None,
            plan: Plan::Enqueue(Box::new(NewJob {
                schedule: Some((id.clone(), nominal_at)),
                ..job()
            })),
        };
        move |conn: &mut Conn| {
            record(conn, std::slice::from_ref(&instant), context, |_, live| match live {
                [] => OverlapVerdict::Enqueue,
                [..] => OverlapVerdict::Skip("another one runs".to_owned()),
            })
        }
    };
    let open = left_open(&other, run(1)).await;
    let (theirs, mine) = meanwhile(&queue, open, run(2)).await;
    assert_eq!(theirs[0].decision, Decision::Enqueued);
    assert_eq!(mine[0].decision, Decision::SkippedOverlap);
}

async fn groups_that_wait_for_each_other_are_both_written(queue: Queue) {
    queue
        .write(|conn| {
            for key in ["a", "b"] {
                let row = (meta::key.eq(key), meta::value.eq(""));
                diesel::insert_into(meta::table).values(row).execute(conn)?;
            }
            Ok(())
        })
        .await;
    let (other, _) = queue.another_node().await;
    let both = std::sync::Arc::new(std::sync::Barrier::new(2));
    let write = |store: Store, keys: [&'static str; 2], who: &'static str| {
        let both = std::sync::Arc::clone(&both);
        let mut is_first = true;
        tokio::spawn(async move {
            let what = move |conn: &mut Conn| {
                for key in keys {
                    let added = meta::value.concat(who);
                    diesel::update(meta::table.find(key))
                        .set(meta::value.eq(added))
                        .execute(conn)?;
                    if std::mem::take(&mut is_first) {
                        both.wait();
                    }
                }
                Ok(())
            };
            store.write(what).await
        })
    };
    let here = write(queue.store.clone(), ["a", "b"], "1");
    let there = write(other, ["b", "a"], "2");
    here.await.unwrap().expect("it is written");
    there.await.unwrap().expect("it is written");
    let values: Vec<String> = queue
        .read(|conn| {
            let rows = meta::table.filter(meta::key.eq_any(["a", "b"])).order(meta::key);
            Ok(rows.select(meta::value).load(conn)?)
        })
        .await;
    assert!(values.iter().all(|value| value == "12" || value == "21"), "{values:?}");
}

async fn m2_the_server_ends_the_transaction_of_a_node_that_is_frozen(queue: Queue) {
    #[derive(QueryableByName)]
    struct Setting {
        #[diesel(sql_type = BigInt)]
        ms: i64,
    }
    let ask = "SELECT setting::bigint AS ms FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout'";
    let setting: Setting =
        queue.write(move |conn| Ok(diesel::sql_query(ask).get_result(conn)?)).await;
    assert_eq!(setting.ms, 20_000, "by itself a server waits for ever");
}
