//! Breakers: what failed attempts do to the jobs that wait behind them.
//!
//! On PostgreSQL breakers go by the database's clock, which a test cannot set. So time passes by moving what is stored back.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use sexton::model::{
    Actor, AfterAttempt, Concurrency, FinalState, JobId, JobSettings, JobState, NewJob, NodeId,
    Outcome,
};
use sexton::queue::{Limits, Turn};
use sexton::store::breakers::{self, Turned};
use sexton::store::claim::{Claim, ClaimRequest, ClaimedJob, claim};
use sexton::store::finish::{Rescued, finish, rescue};
use sexton::store::holds::{self, Hold};
use sexton::store::limits::SetLimit;
use sexton::store::{Store, StoreError, limits, queues};

use crate::harness::{Queue, at, ended, job, on_both_backends};

on_both_backends![
    failures_in_a_row_trip_a_breaker_and_nothing_starts_under_it,
    one_job_finds_out_whether_it_is_over_and_its_success_lets_all_start,
    a_probe_that_fails_trips_the_breaker_again,
    ends_that_are_nobodys_fault_say_nothing,
    a_success_between_them_makes_failures_start_anew,
    a_probe_that_was_cancelled_or_lost_its_node_is_followed_by_another,
    a_late_report_says_nothing,
    several_nodes_count_together_and_send_one_probe,
    a_breaker_that_has_tripped_outlives_the_daemon,
    a_breaker_is_reset_by_hand,
    what_is_set_comes_before_what_is_declared_and_begins_anew,
    a_breaker_that_cannot_be_read_stops_claims_until_it_is_replaced,
    jobs_without_a_breaker_and_jobs_that_succeed_leave_nothing_behind,
    a_job_that_is_held_back_says_by_what_and_why,
    an_attempt_that_is_taken_over_counts_as_well,
    d5_a_clock_that_was_set_back_does_not_prolong_the_rest,
];

fn under(name: &str, text: &str) -> Limits {
    let mut limits = Limits::default();
    limits.set_breaker(name, text.parse().unwrap());
    limits
}

fn with_key(key: &str) -> NewJob {
    let concurrency = Some(Concurrency { key: key.to_owned(), max: 100 });
    NewJob { settings: JobSettings { concurrency, ..JobSettings::default() }, ..job() }
}

async fn claim_under(queue: &Queue, limits: &Limits, slots: usize) -> Claim {
    queue.claim_telling(ClaimRequest { limits: limits.clone(), ..queue.request(1, slots) }).await
}

/// As if that much time had passed since a breaker tripped.
fn let_pass(queue: &Queue, seconds: i64) {
    let micros = seconds * 1_000_000;
    queue.database.execute(&format!("UPDATE breakers SET tripped_at = tripped_at - {micros}"));
}

/// Ends attempts as a pool does, all at once.
async fn end_on(
    (store, node): (&Store, NodeId),
    claimed: &[ClaimedJob],
    outcome: Outcome,
) -> Vec<Turned> {
    let next = match outcome {
        Outcome::Success => AfterAttempt::End(FinalState::Completed),
        Outcome::Cancelled => AfterAttempt::End(FinalState::Cancelled),
        _ => AfterAttempt::RetryAt(at(9000)),
    };
    let all: Vec<_> = claimed.iter().map(|one| ended(one, 1, outcome, next)).collect();
    let held_to: BTreeMap<JobId, _> =
        claimed.iter().map(|one| (one.id, one.held_to.clone())).collect();
    store
        .write(move |conn| {
            let finished = finish(conn, node, &all)?;
            breakers::note(conn, node, (&all, &finished), &held_to, at(1))
        })
        .await
        .unwrap()
}

async fn end(queue: &Queue, claimed: &[ClaimedJob], outcome: Outcome) -> Vec<Turned> {
    end_on((&queue.store, queue.node), claimed, outcome).await
}

/// A breaker that has tripped under `key:host`, after two failures of `count` jobs.
async fn tripped(queue: &Queue, count: usize) -> (Vec<JobId>, Limits) {
    let ids = queue.submit_all(0, vec![with_key("host"); count]).await;
    let limits = under("key:host", "2 for 1h");
    let claimed = claim_under(queue, &limits, 2).await.jobs;
    let turned = end(queue, &claimed, Outcome::Failure).await;
    assert_eq!(turned.len(), 1);
    assert_eq!((turned[0].name.as_str(), turned[0].turn), ("key:host", Turn::Tripped));
    assert_eq!(turned[0].why, "it was a failure");
    (ids, limits)
}

async fn failures_in_a_row_trip_a_breaker_and_nothing_starts_under_it(queue: Queue) {
    let (ids, limits) = tripped(&queue, 5).await;
    let held = claim_under(&queue, &limits, 9).await;
    assert_eq!(held.jobs, []);
    let wait = held.opens_at.expect("it is known when").duration_since(at(1));
    let hour = SignedDuration::from_hours(1);
    let exact = queue.database.is_sqlite();
    assert!(wait == hour || (!exact && wait < hour && wait > hour / 2), "{wait:?}");
    let waiting = queue.job(ids[4]).await;
    assert_eq!((waiting.state, waiting.attempt), (JobState::Pending, 0));

    let others = [queue.submit(1, job()).await, queue.submit(1, with_key("other")).await];
    let started = claim_under(&queue, &limits, 9).await.jobs;
    assert_eq!(started.iter().map(|job| job.id).collect::<Vec<_>>(), others, "they pass by");
    let shown = queue.read(|conn| {
        let after = sexton::audit::Upto::default();
        sexton::store::audit::rows_after(
            conn,
            &sexton::store::audit::AuditSource::Everything,
            after,
            99,
        )
    });
    let events: Vec<_> = shown.await.events;
    let told = events.iter().find(|event| event.event == "breaker.tripped").expect("it is audited");
    assert_eq!(told.subject, "key:host");
}

async fn one_job_finds_out_whether_it_is_over_and_its_success_lets_all_start(queue: Queue) {
    let (ids, limits) = tripped(&queue, 6).await;
    let_pass(&queue, 3600);
    let claim = claim_under(&queue, &limits, 9).await;
    assert_eq!(claim.jobs.iter().map(|job| job.id).collect::<Vec<_>>(), [ids[2]]);
    let waiting = claim_under(&queue, &limits, 9).await;
    assert_eq!((waiting.jobs.len(), waiting.opens_at), (0, None), "its end tells, and not a time");
    let turned = end(&queue, &claim.jobs, Outcome::Success).await;
    assert_eq!(turned.iter().map(|turned| turned.turn).collect::<Vec<_>>(), [Turn::Reset]);
    assert_eq!(claim_under(&queue, &limits, 9).await.jobs.len(), 3);
    assert_eq!(stored(&queue).await, 0);
}

async fn a_probe_that_fails_trips_the_breaker_again(queue: Queue) {
    let (_, limits) = tripped(&queue, 4).await;
    let_pass(&queue, 3600);
    let probe = claim_under(&queue, &limits, 9).await.jobs;
    let turned = end(&queue, &probe, Outcome::Timeout).await;
    assert_eq!((turned[0].turn, turned[0].why.as_str()), (Turn::Tripped, "it was a timeout"));
    let_pass(&queue, 3599);
    assert_eq!(claim_under(&queue, &limits, 9).await.jobs.len(), 0, "for as long as before");
    let_pass(&queue, 1);
    assert_eq!(claim_under(&queue, &limits, 9).await.jobs.len(), 1);
}

async fn ends_that_are_nobodys_fault_say_nothing(queue: Queue) {
    queue.submit_all(0, vec![job(); 9]).await;
    let limits = under("queue:default", "1 for 1h");
    for outcome in [Outcome::Cancelled, Outcome::Interrupted, Outcome::Skipped, Outcome::Success] {
        let claimed = claim_under(&queue, &limits, 1).await.jobs;
        assert_eq!(end(&queue, &claimed, outcome).await, [], "{outcome}");
    }
    for outcome in [Outcome::Failure, Outcome::Error, Outcome::Timeout] {
        let claimed = claim_under(&queue, &limits, 1).await.jobs;
        assert_eq!(end(&queue, &claimed, outcome).await.len(), 1, "{outcome}");
        assert!(queue.write(|conn| breakers::reset(conn, "queue:default")).await);
    }
}

async fn a_success_between_them_makes_failures_start_anew(queue: Queue) {
    queue.submit_all(0, vec![job(); 9]).await;
    let limits = under("queue:default", "3 for 1h");
    let claimed = claim_under(&queue, &limits, 9).await.jobs;
    assert_eq!(end(&queue, &claimed[..2], Outcome::Failure).await, []);
    assert_eq!(end(&queue, &claimed[2..3], Outcome::Success).await, []);
    assert_eq!(end(&queue, &claimed[3..5], Outcome::Failure).await, []);
    assert_eq!(end(&queue, &claimed[5..6], Outcome::Failure).await.len(), 1);
    assert_eq!(end(&queue, &claimed[6..], Outcome::Failure).await, [], "they began before");
}

async fn a_probe_that_was_cancelled_or_lost_its_node_is_followed_by_another(queue: Queue) {
    let (ids, limits) = tripped(&queue, 9).await;
    let_pass(&queue, 3600);
    let probe = claim_under(&queue, &limits, 9).await.jobs;
    assert_eq!(probe[0].id, ids[2]);
    assert_eq!(end(&queue, &probe, Outcome::Cancelled).await, []);
    let probe = claim_under(&queue, &limits, 9).await.jobs;
    assert_eq!(probe.iter().map(|job| job.id).collect::<Vec<_>>(), [ids[3]]);
    let dead = queue.node;
    let given_back = |_| Rescued::given_back();
    queue.write(move |conn| rescue(conn, dead, at(2), "its node died", given_back)).await;
    let probe = claim_under(&queue, &limits, 9).await.jobs;
    assert_eq!((probe.len(), probe[0].id, probe[0].number), (1, ids[3], 2), "from its old place");
    assert_eq!(end(&queue, &probe, Outcome::Success).await[0].turn, Turn::Reset);
}

async fn a_late_report_says_nothing(queue: Queue) {
    let (_, limits) = tripped(&queue, 4).await;
    let_pass(&queue, 3600);
    let probe = claim_under(&queue, &limits, 9).await.jobs;
    let dead = queue.node;
    let given_back = |_| Rescued::given_back();
    queue.write(move |conn| rescue(conn, dead, at(2), "its node died", given_back)).await;
    assert_eq!(end(&queue, &probe, Outcome::Success).await, [], "it is refused");
    assert_eq!(claim_under(&queue, &limits, 9).await.jobs.len(), 1, "and another probe starts");
}

/// On SQLite two stores on one file stand for two nodes.
async fn several_nodes_count_together_and_send_one_probe(queue: Queue) {
    let (other, node) = queue.another_node().await;
    queue.submit_all(0, vec![with_key("host"); 40]).await;
    let limits = under("key:host", "6 for 1h");
    let mine = ClaimRequest { limits: limits.clone(), ..queue.request(1, 5) };
    let theirs = ClaimRequest { node, ..mine.clone() };
    let both = || {
        let (mine, theirs) = (mine.clone(), theirs.clone());
        async {
            tokio::join!(
                queue.store.write(move |conn| claim(conn, &mine)),
                other.write(move |conn| claim(conn, &theirs)),
            )
        }
    };
    let (ours, others) = both().await;
    let (ours, others) = (ours.unwrap().jobs, others.unwrap().jobs);
    assert_eq!((ours.len(), others.len()), (5, 5));
    let (here, there) = tokio::join!(
        end_on((&queue.store, queue.node), &ours, Outcome::Failure),
        end_on((&other, node), &others, Outcome::Failure),
    );
    assert_eq!(here.len() + there.len(), 1, "it trips once: {here:?} {there:?}");
    let (ours, others) = both().await;
    assert_eq!(ours.unwrap().jobs.len() + others.unwrap().jobs.len(), 0);
    for _ in 0..5 {
        let_pass(&queue, 3600);
        let (ours, others) = both().await;
        let (ours, others) = (ours.unwrap().jobs, others.unwrap().jobs);
        assert_eq!(ours.len() + others.len(), 1, "one probe, whoever of them sends it");
        let (here, there) = tokio::join!(
            end_on((&queue.store, queue.node), &ours, Outcome::Failure),
            end_on((&other, node), &others, Outcome::Failure),
        );
        assert_eq!(here.len() + there.len(), 1);
    }
}

async fn a_breaker_that_has_tripped_outlives_the_daemon(queue: Queue) {
    let (_, limits) = tripped(&queue, 4).await;
    let queue = queue.reopen().await;
    assert_eq!(claim_under(&queue, &limits, 9).await.jobs.len(), 0);
    let_pass(&queue, 3600);
    assert_eq!(claim_under(&queue, &limits, 9).await.jobs.len(), 1);
}

async fn a_breaker_is_reset_by_hand(queue: Queue) {
    let (_, limits) = tripped(&queue, 4).await;
    assert!(queue.write(|conn| breakers::reset(conn, "key:host")).await);
    assert!(!queue.write(|conn| breakers::reset(conn, "key:host")).await);
    assert_eq!(claim_under(&queue, &limits, 9).await.jobs.len(), 2);
}

async fn set(queue: &Queue, breaker: &str) {
    let set = SetLimit { breaker: Some(breaker.parse().unwrap()), ..SetLimit::default() };
    let by = Actor::named("operator");
    queue.write(move |conn| limits::set(conn, "key:host", set, &by, at(0))).await;
}

async fn what_is_set_comes_before_what_is_declared_and_begins_anew(queue: Queue) {
    let (_, declared) = tripped(&queue, 20).await;
    set(&queue, "3 in 1m for 2h").await;
    let listed = queue.read(limits::list).await.remove(0);
    let expected =
        SetLimit { breaker: Some("3 in 1m for 2h".parse().unwrap()), ..SetLimit::default() };
    assert_eq!(listed.set, expected);
    let claimed = claim_under(&queue, &declared, 3).await.jobs;
    assert_eq!(end(&queue, &claimed[..2], Outcome::Failure).await, [], "three it has to be");
    assert_eq!(end(&queue, &claimed[2..], Outcome::Failure).await.len(), 1);
    let_pass(&queue, 3600);
    assert_eq!(claim_under(&queue, &declared, 9).await.jobs.len(), 0, "it rests for two hours");
    assert!(queue.write(|conn| limits::unset(conn, "key:host")).await);
    assert_eq!(claim_under(&queue, &declared, 9).await.jobs.len(), 9);
}

async fn a_breaker_that_cannot_be_read_stops_claims_until_it_is_replaced(queue: Queue) {
    queue.submit(0, with_key("host")).await;
    set(&queue, "3 for 1h").await;
    queue.database.execute("UPDATE limits SET breaker = 'seldom'");
    let request = queue.request(1, 1);
    let refused = queue.store.write(move |conn| claim(conn, &request)).await.unwrap_err();
    assert!(matches!(refused, StoreError::Damaged { what: "breaker", .. }), "{refused:?}");
    assert!(refused.to_string().contains("key:host"), "{refused}");
    set(&queue, "3 for 1h").await;
    assert_eq!(queue.claim(1, 1).await.len(), 1);
}

async fn stored(queue: &Queue) -> usize {
    queue.read(breakers::list).await.len()
}

async fn jobs_without_a_breaker_and_jobs_that_succeed_leave_nothing_behind(queue: Queue) {
    queue.submit_all(0, vec![job(); 3]).await;
    let limits = under("key:host", "1 for 1h");
    let claimed = claim_under(&queue, &limits, 9).await.jobs;
    assert!(claimed.iter().all(|job| job.held_to.is_empty()));
    assert_eq!(end(&queue, &claimed, Outcome::Failure).await, []);
    queue.submit_all(0, vec![with_key("host"); 3]).await;
    let claimed = claim_under(&queue, &limits, 9).await.jobs;
    assert!(claimed.iter().all(|job| job.held_to.len() == 1));
    assert_eq!(end(&queue, &claimed, Outcome::Success).await, []);
    assert_eq!(stored(&queue).await, 0);
}

async fn a_job_that_is_held_back_says_by_what_and_why(queue: Queue) {
    let (ids, limits) = tripped(&queue, 4).await;
    let other = queue.submit(0, job()).await;
    let holding = async |id| {
        let limits = limits.clone();
        queue.read(move |conn| holds::of_job(conn, &limits, id, at(1))).await
    };
    let held = holding(ids[3]).await;
    let [Hold::Broken(broken)] = held.as_slice() else {
        panic!("it waits for a breaker: {held:?}")
    };
    assert_eq!((broken.name.as_str(), broken.trip.why.as_str()), ("key:host", "it was a failure"));
    assert_eq!(broken.breaker.to_string(), "2 for 1h");
    assert_eq!(holding(other).await, []);

    let held = async || {
        let limits = limits.clone();
        queue.read(move |conn| queues::held(conn, &limits, at(1))).await
    };
    assert_eq!(held().await.get("default"), None, "one of its jobs can start");
    let started = claim_under(&queue, &limits, 9).await.jobs;
    assert_eq!(started.iter().map(|job| job.id).collect::<Vec<_>>(), [other]);
    let of_queue = held().await.remove("default").expect("it is held");
    assert_eq!(of_queue.breaker.as_deref(), Some("key:host"));
    assert!(of_queue.until.is_some());
}

async fn an_attempt_that_is_taken_over_counts_as_well(queue: Queue) {
    let ids = queue.submit_all(0, vec![with_key("host"); 2]).await;
    let limits = under("key:host", "1 for 1h");
    let mut claimed = claim_under(&queue, &limits, 1).await.jobs;
    let expected = claimed[0].held_to.clone();
    let again = ids.clone();
    let mut held_to = queue.read(move |conn| breakers::of_running(conn, &limits, &again)).await;
    assert_eq!(held_to.keys().collect::<Vec<_>>(), [&ids[0]], "the other one does not run");
    claimed[0].held_to = held_to.remove(&ids[0]).unwrap();
    assert_eq!(claimed[0].held_to, expected);
    assert_eq!(end(&queue, &claimed, Outcome::Error).await.len(), 1);
}

async fn d5_a_clock_that_was_set_back_does_not_prolong_the_rest(queue: Queue) {
    let (_, limits) = tripped(&queue, 4).await;
    let_pass(&queue, -1_000_000);
    assert_eq!(claim_under(&queue, &limits, 9).await.jobs.len(), 0);
    let_pass(&queue, 3600);
    assert_eq!(claim_under(&queue, &limits, 9).await.jobs.len(), 1);
}
