//! Rates, and what operators set for queues.
//!
//! On PostgreSQL rates go by the database's clock, which a test cannot set. So time passes by moving what is stored back, and rates here
//! are so slow that the test's own time does not matter.

use std::num::NonZeroU16;

use jiff::{SignedDuration, Timestamp};
use sexton::model::{
    Actor, Concurrency, HumanDuration, JobId, JobSettings, NewJob, QueueChange, QueueSettings, Rate,
};
use sexton::queue::Limits;
use sexton::store::claim::{Claim, ClaimRequest, claim};
use sexton::store::limits::SetLimit;
use sexton::store::{StoreError, limits, queues};

use crate::harness::{Queue, at, job, on_both_backends, succeeded};

on_both_backends![
    no_more_jobs_start_than_a_queues_rate_says_and_all_do_in_time,
    two_nodes_share_a_rate,
    m6_a_node_whose_clock_is_ahead_gets_no_tokens_that_others_have_taken,
    jobs_that_a_rate_holds_back_stand_in_nobodys_way,
    a_job_that_several_rates_hold_back_takes_a_token_of_each,
    a_retry_counts_as_a_start,
    a_claim_tells_when_a_rate_lets_the_next_job_start,
    what_is_left_of_a_rate_outlives_the_daemon,
    a_raised_rate_counts_at_once,
    jobs_without_a_rate_leave_nothing_behind,
    a_bucket_that_was_full_for_long_is_forgotten,
    what_is_set_for_a_queue_comes_before_what_is_declared,
    a_setting_changes_alone_and_is_new_only_once,
    a_queues_settings_outlive_its_pause,
    a_rate_that_cannot_be_read_stops_claims_until_it_is_replaced,
    a_limit_of_a_rate_alone_holds_nothing_else_back,
];

fn rate(text: &str) -> Rate {
    text.parse().unwrap()
}

fn limited(name: &str, text: &str) -> Limits {
    let mut limits = Limits::default();
    limits.set_rate(name, rate(text));
    limits
}

fn with_key(key: &str) -> NewJob {
    let concurrency = Some(Concurrency { key: key.to_owned(), max: 100 });
    NewJob { settings: JobSettings { concurrency, ..JobSettings::default() }, ..job() }
}

fn of_limited_kind() -> NewJob {
    let settings = JobSettings { limited_kind: true, ..JobSettings::default() };
    NewJob { settings, ..job() }
}

/// As if that much time had passed since the last claim.
fn let_pass(queue: &Queue, seconds: i64) {
    let micros = seconds * 1_000_000;
    queue.database.execute(&format!("UPDATE rate_buckets SET full_at = full_at - {micros}"));
}

async fn claim_under(queue: &Queue, limits: &Limits) -> Claim {
    queue.claim_telling(ClaimRequest { limits: limits.clone(), ..queue.request(1, 100) }).await
}

async fn set(queue: &Queue, name: &'static str, change: QueueChange) -> bool {
    let by = Actor::named("operator");
    queue.write(move |conn| queues::set(conn, name, change, &by, at(5))).await
}

fn to_rate(text: Option<&str>) -> QueueChange {
    QueueChange { rate: Some(text.map(rate)), ..QueueChange::default() }
}

async fn no_more_jobs_start_than_a_queues_rate_says_and_all_do_in_time(queue: Queue) {
    let ids = queue.submit_all(0, vec![job(); 7]).await;
    let limits = limited("queue:default", "2/h burst 3");
    let mut started: Vec<JobId> = Vec::new();
    let mut counts = Vec::new();
    for passed in [0, 0, 1799, 1, 3600, 1800] {
        let_pass(&queue, passed);
        let claimed = claim_under(&queue, &limits).await.jobs;
        counts.push(claimed.len());
        started.extend(claimed.iter().map(|job| job.id));
    }
    assert_eq!(counts[..2], [3, 0], "the burst, and nothing after it");
    assert_eq!(counts[2] + counts[3], 1, "and from then on one each half hour");
    assert_eq!(counts[4..], [2, 1]);
    assert_eq!(started, ids, "in their order");
}

async fn two_nodes_share_a_rate(queue: Queue) {
    let (other, node) = queue.another_node().await;
    queue.submit_all(0, vec![job(); 40]).await;
    let limits = limited("queue:default", "1/h burst 5");
    let mut started = 0;
    for _ in 0..6 {
        let mine = ClaimRequest { limits: limits.clone(), ..queue.request(1, 2) };
        let theirs = ClaimRequest { node, ..mine.clone() };
        let (ours, others) = tokio::join!(
            queue.store.write(move |conn| claim(conn, &mine)),
            other.write(move |conn| claim(conn, &theirs)),
        );
        started += ours.unwrap().jobs.len() + others.unwrap().jobs.len();
        assert!(started <= 5, "{started}");
    }
    assert_eq!(started, 5, "and none is left unused");
}

/// Only PostgreSQL has several nodes.
async fn m6_a_node_whose_clock_is_ahead_gets_no_tokens_that_others_have_taken(queue: Queue) {
    if queue.database.is_sqlite() {
        return;
    }
    queue.submit_all(0, vec![job(); 40]).await;
    let limits = limited("queue:default", "1/m burst 3");
    let mut started = 0;
    for second in [1, 301, 1, 601, 1] {
        let request = ClaimRequest { limits: limits.clone(), ..queue.request(second, 10) };
        let claim = queue.claim_telling(request).await;
        started += claim.jobs.len();
        let wait = claim.opens_at.expect("more are waiting").duration_since(at(second));
        assert!(wait > SignedDuration::ZERO && wait <= SignedDuration::from_mins(1), "{wait:?}");
    }
    assert_eq!(started, 3);
}

async fn jobs_that_a_rate_holds_back_stand_in_nobodys_way(queue: Queue) {
    queue.submit_all(0, vec![of_limited_kind(); 50]).await;
    queue.submit_all(0, vec![with_key("host"); 50]).await;
    let mut limits = limited("kind:noop", "1/h");
    limits.set_rate("key:host", rate("2/h burst 2"));
    assert_eq!(claim_under(&queue, &limits).await.jobs.len(), 3);
    let plain = queue.submit(1, job()).await;
    let other = queue.submit(1, with_key("other")).await;
    let next = claim_under(&queue, &limits).await.jobs;
    assert_eq!(next.iter().map(|job| job.id).collect::<Vec<_>>(), [plain, other]);
}

async fn a_job_that_several_rates_hold_back_takes_a_token_of_each(queue: Queue) {
    let mut limits = limited("queue:default", "1/h burst 3");
    limits.set_rate("key:host", rate("1/h burst 1"));
    queue.submit_all(0, vec![with_key("host"); 2]).await;
    assert_eq!(claim_under(&queue, &limits).await.jobs.len(), 1);
    queue.submit_all(0, vec![job(); 5]).await;
    assert_eq!(claim_under(&queue, &limits).await.jobs.len(), 2, "one token of three was taken");
}

async fn a_retry_counts_as_a_start(queue: Queue) {
    queue.submit(0, job()).await;
    let limits = limited("queue:default", "1/h");
    let first = claim_under(&queue, &limits).await.jobs.remove(0);
    let next = sexton::model::AfterAttempt::GiveBack;
    let outcome = sexton::model::Outcome::Interrupted;
    queue.finish(crate::harness::ended(&first, 2, outcome, next)).await;
    assert!(claim_under(&queue, &limits).await.jobs.is_empty());
    let_pass(&queue, 3600);
    assert_eq!(claim_under(&queue, &limits).await.jobs[0].id, first.id);
}

async fn a_claim_tells_when_a_rate_lets_the_next_job_start(queue: Queue) {
    let limits = limited("queue:default", "60/h");
    let after = |claim: &Claim| claim.opens_at.map(|at: Timestamp| at.duration_since(self::at(1)));
    assert_eq!(after(&claim_under(&queue, &limits).await), None, "nothing waits");
    let ids = queue.submit_all(0, vec![job(); 2]).await;
    let claim = claim_under(&queue, &limits).await;
    assert_eq!(claim.jobs.len(), 1);
    let wait = after(&claim).expect("one more waits");
    let minute = SignedDuration::from_mins(1);
    let exact = queue.database.is_sqlite();
    assert!(wait == minute || (!exact && wait < minute && wait > minute / 2), "{wait:?}");

    // While a limit holds it back as well, the end of a job is what it waits for.
    let mut narrow = limits.clone();
    narrow.set_max("queue:default", 1);
    assert_eq!(after(&claim_under(&queue, &narrow).await), None);
    queue.finish(succeeded(&claim.jobs[0], 2)).await;
    assert!(after(&claim_under(&queue, &narrow).await).is_some());

    let paused = Actor::named("operator");
    queue.write(move |conn| queues::pause(conn, "default", &paused, "", at(2))).await;
    assert_eq!(after(&claim_under(&queue, &limits).await), None, "it is paused");
    queue.write(|conn| queues::resume(conn, "default")).await;
    let_pass(&queue, 60);
    let last = claim_under(&queue, &limits).await;
    assert_eq!((last.jobs[0].id, last.jobs.len()), (ids[1], 1));
}

async fn what_is_left_of_a_rate_outlives_the_daemon(queue: Queue) {
    queue.submit_all(0, vec![job(); 9]).await;
    let limits = limited("queue:default", "1/h burst 4");
    assert_eq!(claim_under(&queue, &limits).await.jobs.len(), 4);
    let queue = queue.reopen().await;
    assert!(claim_under(&queue, &limits).await.jobs.is_empty());
}

async fn a_raised_rate_counts_at_once(queue: Queue) {
    queue.submit_all(0, vec![job(); 9]).await;
    assert_eq!(claim_under(&queue, &limited("queue:default", "1/d burst 3")).await.jobs.len(), 3);
    let raised = limited("queue:default", "60/h");
    assert!(claim_under(&queue, &raised).await.jobs.is_empty());
    let_pass(&queue, 60);
    assert_eq!(claim_under(&queue, &raised).await.jobs.len(), 1, "and not after three days");
}

async fn buckets(queue: &Queue) -> i64 {
    use diesel::prelude::*;
    let count = sexton::store::schema::rate_buckets::table.count();
    queue.read(move |conn| Ok(count.get_result(conn)?)).await
}

async fn jobs_without_a_rate_leave_nothing_behind(queue: Queue) {
    queue.submit_all(0, vec![job(); 3]).await;
    let limits = limited("queue:other", "1/h");
    assert_eq!(claim_under(&queue, &limits).await.jobs.len(), 3);
    assert_eq!(buckets(&queue).await, 0);
}

async fn a_bucket_that_was_full_for_long_is_forgotten(queue: Queue) {
    queue.submit(0, job()).await;
    claim_under(&queue, &limited("queue:default", "1/s")).await;
    let prune = |now| move |conn: &mut _| sexton::store::prune::leftovers(conn, now, at(0));
    queue.write(prune(at(3600))).await;
    assert_eq!(buckets(&queue).await, 1);
    queue.write(prune(at(10 * 366 * 86_400))).await;
    assert_eq!(buckets(&queue).await, 0);
}

async fn what_is_set_for_a_queue_comes_before_what_is_declared(queue: Queue) {
    queue.submit_all(0, vec![job(); 20]).await;
    let mut declared = Limits::default();
    let settings = QueueSettings {
        workers: NonZeroU16::new(2),
        rate: Some(rate("1/h burst 9")),
        timeout: None,
    };
    declared.set_queue("default", settings);
    assert_eq!(claim_under(&queue, &declared).await.jobs.len(), 2);
    let change = QueueChange {
        workers: Some(NonZeroU16::new(5)),
        timeout: Some(Some(HumanDuration::from_secs(7))),
        ..QueueChange::default()
    };
    assert!(set(&queue, "default", change).await);
    let claimed = claim_under(&queue, &declared).await.jobs;
    assert_eq!(claimed.len(), 3, "two run already");
    assert!(claimed.iter().all(|job| job.queue_timeout == Some(HumanDuration::from_secs(7))));
    let unlimited =
        QueueChange { workers: Some(NonZeroU16::new(99)), ..to_rate(Some("1/h burst 2")) };
    assert!(set(&queue, "default", unlimited).await);
    assert!(claim_under(&queue, &declared).await.jobs.is_empty(), "five were more than two");
    let_pass(&queue, 7200);
    assert_eq!(claim_under(&queue, &declared).await.jobs.len(), 2);
}

async fn stored(queue: &Queue) -> Vec<queues::QueueState> {
    queue.read(queues::list).await
}

async fn a_setting_changes_alone_and_is_new_only_once(queue: Queue) {
    let workers = QueueChange { workers: Some(NonZeroU16::new(3)), ..QueueChange::default() };
    assert!(set(&queue, "mail", workers).await);
    assert!(!set(&queue, "mail", workers).await);
    assert!(set(&queue, "mail", to_rate(Some("5/10s burst 2"))).await);
    let state = stored(&queue).await.remove(0);
    let expected = QueueSettings {
        workers: NonZeroU16::new(3),
        rate: Some(rate("5/10s burst 2")),
        timeout: None,
    };
    assert_eq!((state.name.as_str(), state.set), ("mail", expected));
    assert_eq!(state.set_by, Some((at(5), "operator".to_owned())));
    assert!(set(&queue, "mail", to_rate(None)).await);
    assert!(!set(&queue, "mail", to_rate(None)).await);
    assert_eq!(stored(&queue).await[0].set, QueueSettings { rate: None, ..expected });
    let none = QueueChange { workers: Some(None), ..QueueChange::default() };
    assert!(set(&queue, "mail", none).await);
    assert_eq!(stored(&queue).await, [], "a queue without anything is no queue");
}

async fn a_queues_settings_outlive_its_pause(queue: Queue) {
    set(&queue, "mail", to_rate(Some("1/h"))).await;
    let by = Actor::named("operator");
    queue.write(move |conn| queues::pause(conn, "mail", &by, "", at(6))).await;
    assert!(queue.write(|conn| queues::resume(conn, "mail")).await);
    assert!(!queue.write(|conn| queues::resume(conn, "mail")).await);
    let state = stored(&queue).await.remove(0);
    assert_eq!((state.paused, state.set.rate), (None, Some(rate("1/h"))));
}

async fn a_rate_that_cannot_be_read_stops_claims_until_it_is_replaced(queue: Queue) {
    queue.submit(0, job()).await;
    set(&queue, "default", to_rate(Some("1/h"))).await;
    queue.database.execute("UPDATE queues SET rate = 'often'");
    let request = queue.request(1, 1);
    let refused = queue.store.write(move |conn| claim(conn, &request)).await.unwrap_err();
    assert!(matches!(refused, StoreError::Damaged { what: "rate", .. }), "{refused:?}");
    assert!(refused.to_string().contains("queue default"), "{refused}");
    assert!(set(&queue, "default", to_rate(None)).await);
    assert_eq!(queue.claim(1, 1).await.len(), 1);
}

async fn a_limit_of_a_rate_alone_holds_nothing_else_back(queue: Queue) {
    queue.submit_all(0, vec![with_key("host"); 9]).await;
    let set = |max, text: Option<&str>| {
        let (by, rate) = (Actor::named("operator"), text.map(rate));
        queue.write(move |conn| {
            limits::set(conn, "key:host", SetLimit { max, rate, breaker: None }, &by, at(0))
        })
    };
    set(None, Some("1/h burst 4")).await;
    let listed = queue.read(limits::list).await.remove(0);
    assert_eq!((listed.set.max, listed.set.rate), (None, Some(rate("1/h burst 4"))));
    assert_eq!(queue.claim(1, 9).await.len(), 4);
    set(Some(2), None).await;
    let listed = queue.read(limits::list).await.remove(0);
    assert_eq!((listed.set.max, listed.set.rate), (Some(2), Some(rate("1/h burst 4"))));
    let_pass(&queue, 36_000);
    assert!(queue.claim(2, 9).await.is_empty(), "four run");
    queue.write(|conn| limits::unset(conn, "key:host")).await;
    assert_eq!(queue.claim(3, 9).await.len(), 5);
}
