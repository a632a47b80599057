use std::collections::BTreeSet;
use std::path::Path;

use jiff::tz::TimeZone;

use super::*;
use crate::model::{FinalState, JobId, JsonText, Labels, Pause, Priority, RetryPolicy};
use crate::schedule::{
    Blackout, CatchUp, CatchUpPolicy, ContentHash, CronExpression, DstPolicy, Overlap, Rule, Run,
    Source, Trigger, When,
};

pub(super) const SPREAD: Spread<'_> = Spread { host: "alpha", seed: "installation" };

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(super) fn every(seconds: u64) -> Trigger {
    Trigger::Every { period: Duration::from_secs(seconds) }
}

pub(super) fn schedule(trigger: Trigger) -> Schedule {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    Schedule {
        id: "backup".parse().unwrap(),
        source: Source {
            file: Path::new("backup.toml").into(),
            line: 1,
            references: Box::default(),
        },
        description: String::new(),
        enabled: true,
        tags: Vec::new(),
        owner: None,
        runbook: None,
        when: When {
            rule: Rule { zone, triggers: vec![trigger], dst: DstPolicy::default() },
            jitter: Duration::ZERO,
            offset: Duration::ZERO,
            catch_up: CatchUp::default(),
            not_before: None,
            not_after: None,
            blackout: Vec::new(),
        },
        run: Run {
            priority: Priority::default(),
            queue: "default".to_owned(),
            timeout: None,
            total_timeout: None,
            overlap: Overlap::Skip,
            retry: RetryPolicy::default(),
            requires: Vec::new(),
            requires_wait: None,
            labels: Labels::default(),
            concurrency: None,
            limited_kind: false,
            node: crate::model::NodeChoice::Any,
        },
        kind: "command".to_owned(),
        params: JsonText::from(&serde_json::Value::Null),
        hash: ContentHash::default(),
    }
}

fn catching_up(
    trigger: Trigger,
    policy: CatchUpPolicy,
    window: Option<Duration>,
    max: u32,
) -> Schedule {
    let mut schedule = schedule(trigger);
    schedule.when.catch_up = CatchUp { policy, window, max };
    schedule
}

pub(super) fn ledger(decided_until: Timestamp) -> Ledger {
    Ledger { decided_until, last_end: None, last_success: None, pause: None }
}

fn pause(since: &str, until: Option<&str>) -> Option<Box<Pause>> {
    Some(Box::new(Pause {
        since: at(since),
        until: until.map(at),
        by: "cli:alice(1000)".to_owned(),
        reason: "moving house".to_owned(),
    }))
}

fn decide_idle(schedule: &Schedule, ledger: &Ledger, now: Timestamp) -> Due {
    decide(&Entry { schedule, ledger, live: false, ends: &[] }, &SPREAD, now)
}

/// Verdicts with the minute of their instants.
fn seen(due: &Due) -> Vec<(String, Verdict)> {
    due.decisions
        .iter()
        .map(|decision| (decision.nominal_at.strftime("%H:%M").to_string(), decision.verdict))
        .collect()
}

fn seen_as<const N: usize>(expected: [(&str, Verdict); N]) -> Vec<(String, Verdict)> {
    expected.into_iter().map(|(minute, verdict)| (minute.to_owned(), verdict)).collect()
}

use Verdict::{Coalesced, Enqueue, Missed, SkippedBlackout, SkippedPaused};

#[test]
fn an_instant_on_time_is_due_once_and_the_next_wakeup_follows_it() {
    let schedule = schedule(every(600));
    let before = ledger(at("2026-01-01T10:00Z"));
    let due = decide_idle(&schedule, &before, at("2026-01-01T10:09:59.999999Z"));
    assert_eq!(due.decisions, []);
    assert_eq!(due.next.unwrap().fire_at, at("2026-01-01T10:10Z"));

    let now = at("2026-01-01T10:10Z");
    let due = decide_idle(&schedule, &before, now);
    assert_eq!(seen(&due), seen_as([("10:10", Enqueue)]));
    assert_eq!(due.decisions[0].reason, "due");
    assert_eq!(due.next.unwrap().fire_at, at("2026-01-01T10:20Z"));
    assert_eq!(decide_idle(&schedule, &ledger(now), now).decisions, []);
}

#[test]
fn i2_after_an_outage_of_eight_hours_a_minutely_schedule_runs_once_by_default() {
    let schedule = schedule(every(60));
    let due = decide_idle(&schedule, &ledger(at("2026-01-01T00:00Z")), at("2026-01-01T08:00:30Z"));
    assert_eq!(due.decisions.len(), 480, "every instant has its row");
    let (newest, others) = due.decisions.split_last().unwrap();
    assert_eq!((newest.verdict, newest.nominal_at), (Enqueue, at("2026-01-01T08:00Z")));
    assert!(newest.reason.contains("30s late; it stands for 479 earlier"), "{}", newest.reason);
    assert!(others.iter().all(|other| other.verdict == Coalesced && other.instants == 1));
    assert!(others[0].reason.contains("2026-01-01T08:00:00Z"), "{}", others[0].reason);
}

#[test]
fn i2_all_runs_the_newest_within_window_and_cap_oldest_first() {
    let hour = Duration::from_secs(3600);
    let mark = ledger(at("2026-01-01T00:00Z"));
    let now = at("2026-01-01T05:30Z");
    let capped = catching_up(every(3600), CatchUpPolicy::All, None, 2);
    assert_eq!(
        seen(&decide_idle(&capped, &mark, now)),
        seen_as([
            ("01:00", Missed),
            ("02:00", Missed),
            ("03:00", Missed),
            ("04:00", Enqueue),
            ("05:00", Enqueue)
        ])
    );
    let windowed = catching_up(every(3600), CatchUpPolicy::All, Some(3 * hour), 100);
    let due = decide_idle(&windowed, &mark, now);
    assert_eq!(
        seen(&due),
        seen_as([
            ("01:00", Missed),
            ("02:00", Missed),
            ("03:00", Enqueue),
            ("04:00", Enqueue),
            ("05:00", Enqueue)
        ])
    );
    assert!(
        due.decisions[0].reason.contains("older than catch_up_window = 3h"),
        "{}",
        due.decisions[0].reason
    );
    let due = decide_idle(&capped, &mark, now);
    assert!(
        due.decisions[0].reason.contains("more than catch_up_max = 2"),
        "{}",
        due.decisions[0].reason
    );
}

#[test]
fn i2_latest_outside_its_window_and_none_run_nothing_late() {
    let mark = ledger(at("2026-01-01T00:00Z"));
    let now = at("2026-01-01T02:30Z");
    let narrow = catching_up(every(3600), CatchUpPolicy::Latest, Some(Duration::from_secs(600)), 1);
    assert_eq!(
        seen(&decide_idle(&narrow, &mark, now)),
        seen_as([("01:00", Missed), ("02:00", Missed)])
    );
    let none = catching_up(every(3600), CatchUpPolicy::None, None, 1);
    let due = decide_idle(&none, &mark, now);
    assert_eq!(seen(&due), seen_as([("01:00", Missed), ("02:00", Missed)]));
    assert!(due.decisions[0].reason.contains("catch_up is none"));
    // One that is still on time is not caught up, it is simply due.
    let due = decide_idle(&none, &mark, at("2026-01-01T02:01Z"));
    assert_eq!(seen(&due), seen_as([("01:00", Missed), ("02:00", Enqueue)]));
    let due = decide_idle(&narrow, &mark, at("2026-01-01T02:01Z"));
    assert_eq!(seen(&due), seen_as([("01:00", Coalesced), ("02:00", Enqueue)]));
}

#[test]
fn d3_a_jump_of_two_hours_obeys_the_catch_up_policy() {
    for (policy, runs) in
        [(CatchUpPolicy::None, 1), (CatchUpPolicy::Latest, 1), (CatchUpPolicy::All, 5)]
    {
        let schedule = catching_up(every(600), policy, None, 5);
        let due = decide_idle(&schedule, &ledger(at("2026-01-01T10:00Z")), at("2026-01-01T12:00Z"));
        assert_eq!(due.decisions.len(), 12);
        let enqueued = due.decisions.iter().filter(|one| one.verdict == Enqueue).count();
        assert_eq!(enqueued, runs, "{policy:?}");
    }
}

#[test]
fn d4_a_jump_of_ten_years_is_bounded_for_a_schedule_of_every_second() {
    for trigger in [every(1), Trigger::Cron(CronExpression::parse("* * * * * *", "x").unwrap())] {
        for policy in [CatchUpPolicy::None, CatchUpPolicy::Latest, CatchUpPolicy::All] {
            let schedule = catching_up(trigger.clone(), policy, None, 100);
            let due = decide_idle(
                &schedule,
                &ledger(at("2026-01-01T00:00Z")),
                at("2036-01-01T00:00:00.5Z"),
            );
            assert_eq!(due.decisions.len(), 1001);
            let summary = &due.decisions[0];
            assert_eq!(summary.nominal_at, at("2026-01-01T00:00:01Z"));
            assert_eq!(summary.instants, 10_001);
            assert!(
                summary.reason.starts_with(
                    "at least 10001 instants from 2026-01-01T00:00:01Z to 2035-12-31T23:43:20Z: "
                ),
                "{}",
                summary.reason
            );
            let expected = if policy == CatchUpPolicy::Latest { Coalesced } else { Missed };
            assert_eq!(summary.verdict, expected);
            let enqueued = due.decisions.iter().filter(|one| one.verdict == Enqueue).count();
            assert_eq!(enqueued, if policy == CatchUpPolicy::All { 100 } else { 1 });
        }
    }
}

#[test]
fn d4_a_gap_somewhat_over_the_limit_is_counted_exactly() {
    let schedule = schedule(every(1));
    let due = decide_idle(&schedule, &ledger(at("2026-01-01T00:00Z")), at("2026-01-01T00:20Z"));
    assert_eq!(due.decisions.len(), 1001);
    assert_eq!(due.decisions[0].instants, 200);
    assert!(
        due.decisions[0].reason.starts_with("200 instants from"),
        "{}",
        due.decisions[0].reason
    );
    assert_eq!(due.decisions[1].nominal_at, at("2026-01-01T00:03:21Z"));
}

#[test]
fn d5_after_the_clock_went_back_no_instant_is_decided_again() {
    let schedule = schedule(every(600));
    let mark = ledger(at("2026-01-01T13:00Z"));
    let due = decide_idle(&schedule, &mark, at("2026-01-01T10:00Z"));
    assert_eq!((due.decisions.len(), due.ahead), (0, false));
    assert_eq!(due.next.unwrap().fire_at, at("2026-01-01T13:10Z"));
}

#[test]
fn d5_d7_a_ledger_far_ahead_of_the_clock_is_reported_and_decides_nothing() {
    let schedule = schedule(every(600));
    let mark = ledger(at("2026-01-01T13:00:01Z"));
    let entry = Entry { schedule: &schedule, ledger: &mark, live: false, ends: &[] };
    for now in [at("2026-01-01T10:00Z"), Timestamp::UNIX_EPOCH] {
        let pass = due([entry], &SPREAD, now);
        assert_eq!((pass.decisions.len(), pass.next_wakeup), (0, None));
        assert_eq!(pass.ahead, std::slice::from_ref(&schedule.id));
    }
    // The caller took the new time as the right one: the schedule goes on from it.
    let now = at("2026-01-01T10:00Z");
    let corrected = ledger(now);
    let entry = Entry { ledger: &corrected, ..entry };
    assert_eq!(due([entry], &SPREAD, now).next_wakeup, Some(at("2026-01-01T10:10Z")));
}

#[test]
fn e14_a_schedule_adopted_now_owes_nothing_for_the_past() {
    let schedule = schedule(every(600));
    let now = at("2026-01-01T10:15Z");
    let due = decide_idle(&schedule, &ledger(now), now);
    assert_eq!(due.decisions, []);
    assert_eq!(due.next.unwrap().nominal_at, at("2026-01-01T10:20Z"));
}

#[test]
fn a_pause_skips_with_its_reason_and_ends_by_itself() {
    let schedule = schedule(every(600));
    let mut ledger = ledger(at("2026-01-01T10:00Z"));
    ledger.pause = pause("2026-01-01T10:05Z", Some("2026-01-01T10:15Z"));
    let due = decide_idle(&schedule, &ledger, at("2026-01-01T10:10Z"));
    assert_eq!(seen(&due), seen_as([("10:10", SkippedPaused)]));
    assert_eq!(
        due.decisions[0].reason,
        "paused by cli:alice(1000) since 2026-01-01T10:05:00Z until 2026-01-01T10:15:00Z: moving house"
    );
    ledger.decided_until = at("2026-01-01T10:10Z");
    assert_eq!(
        seen(&decide_idle(&schedule, &ledger, at("2026-01-01T10:20Z"))),
        seen_as([("10:20", Enqueue)])
    );
    // After a downtime that outlasted it, it covers what would have fired in it and nothing else.
    ledger.decided_until = at("2026-01-01T09:50Z");
    assert_eq!(
        seen(&decide_idle(&schedule, &ledger, at("2026-01-01T10:30Z"))),
        seen_as([
            ("10:00", Coalesced),
            ("10:10", SkippedPaused),
            ("10:20", Coalesced),
            ("10:30", Enqueue)
        ])
    );
}

#[test]
fn nothing_starts_during_a_pause_even_if_it_was_due_before() {
    let schedule = schedule(every(600));
    let mut ledger = ledger(at("2026-01-01T09:50Z"));
    ledger.pause = pause("2026-01-01T10:05Z", None);
    assert_eq!(
        seen(&decide_idle(&schedule, &ledger, at("2026-01-01T10:05:01Z"))),
        seen_as([("10:00", SkippedPaused)])
    );
}

#[test]
fn d4_a_pause_over_a_gap_of_years_is_summed_up_as_a_pause() {
    let schedule = schedule(every(1));
    let mut ledger = ledger(at("2026-01-01T10:00Z"));
    ledger.pause = pause("2026-01-01T09:00Z", None);
    let due = decide_idle(&schedule, &ledger, at("2030-01-01T10:00Z"));
    assert!(due.decisions.iter().all(|one| one.verdict == SkippedPaused));
    assert!(due.decisions[0].instants > 1);
}

#[test]
fn limits_and_blackouts_skip_with_their_reason() {
    let mut schedule = schedule(every(3600));
    schedule.when.not_before = Some(at("2026-01-01T02:00Z"));
    schedule.when.not_after = Some(at("2026-01-01T05:00Z"));
    schedule.when.blackout =
        vec![Blackout { from: at("2026-01-01T03:00Z"), until: at("2026-01-01T04:00Z") }];
    let due = decide_idle(&schedule, &ledger(at("2026-01-01T00:00Z")), at("2026-01-01T06:00Z"));
    assert_eq!(
        seen(&due),
        seen_as([
            ("01:00", SkippedBlackout),
            ("02:00", Coalesced),
            ("03:00", SkippedBlackout),
            ("04:00", Coalesced),
            ("05:00", Enqueue),
            ("06:00", SkippedBlackout),
        ])
    );
    assert_eq!(due.decisions[0].reason, "before not_before = 2026-01-01T02:00:00Z");
    assert!(due.decisions[2].reason.starts_with("in the blackout from 2026-01-01T03:00:00Z"));
    assert_eq!(due.decisions[5].reason, "after not_after = 2026-01-01T05:00:00Z");
}

#[test]
fn a_disabled_schedule_is_never_due() {
    let mut schedule = schedule(every(600));
    schedule.enabled = false;
    let mark = ledger(at("2026-01-01T00:00Z"));
    assert_eq!(decide_idle(&schedule, &mark, at("2026-01-02T00:00Z")), Due::default());
    assert_eq!(
        next_fire(&Entry { schedule: &schedule, ledger: &mark, live: false, ends: &[] }, &SPREAD),
        None
    );
}

#[test]
fn offset_and_jitter_delay_by_amounts_that_are_drawn_once() {
    let mut schedule = schedule(every(3600));
    schedule.when.offset = Duration::from_secs(600);
    schedule.when.jitter = Duration::from_secs(300);
    let hour = |hour: i64| Timestamp::from_second(hour * 3600).unwrap();
    let delay = |spread: &Spread<'_>, at: Timestamp| {
        spread.fire_at(&schedule.id, &schedule.when, at).duration_since(at)
    };
    let beta = Spread { host: "beta", ..SPREAD };
    let reseeded = Spread { seed: "another", ..SPREAD };
    let mut jitters = BTreeSet::new();
    for count in 0..100 {
        let at = hour(count);
        assert_eq!(delay(&SPREAD, at), delay(&SPREAD, at));
        assert!(delay(&SPREAD, at) < SignedDuration::from_secs(900));
        assert_eq!(
            SPREAD.jitter(&schedule.id, &schedule.when, at),
            beta.jitter(&schedule.id, &schedule.when, at),
            "nodes agree on an instant's jitter"
        );
        jitters.insert(SPREAD.jitter(&schedule.id, &schedule.when, at));
    }
    assert!(jitters.len() > 95, "each instant draws anew");
    assert_ne!(
        SPREAD.offset(&schedule.id, &schedule.when),
        beta.offset(&schedule.id, &schedule.when)
    );
    assert_ne!(delay(&SPREAD, hour(1)), delay(&reseeded, hour(1)));

    let mark = ledger(hour(10));
    let fire_at = SPREAD.fire_at(&schedule.id, &schedule.when, hour(11));
    let just_before = fire_at.checked_sub(SignedDuration::from_micros(1)).unwrap();
    assert_eq!(decide_idle(&schedule, &mark, just_before).decisions, []);
    assert_eq!(decide_idle(&schedule, &mark, just_before).next.unwrap().fire_at, fire_at);
    let due = decide_idle(&schedule, &mark, fire_at);
    assert_eq!((due.decisions[0].nominal_at, due.decisions[0].fire_at), (hour(11), fire_at));
}

fn from_end(seconds: u64) -> Schedule {
    schedule(Trigger::EveryFromEnd { period: Duration::from_secs(seconds) })
}

#[test]
fn a_period_from_the_end_waits_for_the_end_and_is_never_late() {
    let schedule = from_end(600);
    let mut ledger = ledger(at("2026-01-01T10:00Z"));
    let decide_live = |ledger: &Ledger, now| {
        decide(&Entry { schedule: &schedule, ledger, live: true, ends: &[] }, &SPREAD, now)
    };

    // Adopted at 10:00, so first due a period later; while that run is live nothing follows.
    assert_eq!(
        seen(&decide_idle(&schedule, &ledger, at("2026-01-01T10:10Z"))),
        seen_as([("10:10", Enqueue)])
    );
    ledger.decided_until = at("2026-01-01T10:10Z");
    assert_eq!(decide_live(&ledger, at("2026-01-01T12:00Z")), Due::default());

    ledger.last_end = Some(at("2026-01-01T10:47Z"));
    let due = decide_idle(&schedule, &ledger, at("2026-01-01T10:50Z"));
    assert_eq!((due.decisions.len(), due.next.unwrap().nominal_at), (0, at("2026-01-01T10:57Z")));

    // Down for ten days: one run, whatever the policy says, and it is named after the instant it was owed at.
    for policy in [CatchUpPolicy::None, CatchUpPolicy::Latest, CatchUpPolicy::All] {
        let mut schedule = schedule.clone();
        schedule.when.catch_up = CatchUp { policy, window: Some(Duration::from_secs(1)), max: 100 };
        let due = decide_idle(&schedule, &ledger, at("2026-01-11T10:00Z"));
        assert_eq!(seen(&due), seen_as([("10:57", Enqueue)]), "{policy:?}");
        assert_eq!(due.next, None, "the next one counts from the end of this run");
    }
}

#[test]
fn a_period_from_the_end_that_was_skipped_for_days_leaves_one_row() {
    let mut schedule = from_end(600);
    schedule.when.offset = Duration::from_secs(3000);
    let mut ledger = ledger(at("2026-01-01T10:00Z"));
    ledger.pause = pause("2026-01-01T09:00Z", None);
    let now = at("2026-01-08T10:07Z");
    let due = decide_idle(&schedule, &ledger, now);
    assert_eq!(due.decisions.len(), 1);
    assert_eq!(due.decisions[0].verdict, SkippedPaused);
    assert!(due.decisions[0].fire_at <= now);
    ledger.decided_until = due.decisions[0].nominal_at;
    assert_eq!(
        decide_idle(&schedule, &ledger, now).decisions.len(),
        0,
        "and the pass after it has no work"
    );
    let entry = Entry { schedule: &schedule, ledger: &ledger, live: false, ends: &[] };
    assert!(next_fire(&entry, &SPREAD).unwrap().fire_at > now);
}

#[test]
fn d1_a_daily_run_in_a_gap_is_due_once_across_passes() {
    let cron = Trigger::Cron(CronExpression::parse("30 2 * * *", "x").unwrap());
    let schedule = schedule(cron);
    let mut mark = ledger(at("2026-03-28T12:00Z"));
    let mut runs = 0;
    let mut now = mark.decided_until;
    while now < at("2026-03-29T12:00Z") {
        now += SignedDuration::from_mins(7);
        let due = decide_idle(&schedule, &mark, now);
        runs += due.decisions.iter().filter(|one| one.verdict == Enqueue).count();
        if let Some(last) = due.decisions.last() {
            assert_eq!(last.nominal_at, at("2026-03-29T01:00Z"));
            mark.decided_until = last.nominal_at;
        }
    }
    assert_eq!(runs, 1);
}

#[test]
fn d10_ten_thousand_schedules_due_at_once_are_decided_in_one_pass() {
    let mut schedules: Vec<Schedule> = (0..10_000).map(|_| schedule(every(3600))).collect();
    for (index, schedule) in schedules.iter_mut().enumerate() {
        schedule.id = format!("s{index}").parse().unwrap();
    }
    let mark = ledger(at("2026-01-01T00:00Z"));
    let entries =
        schedules.iter().map(|schedule| Entry { schedule, ledger: &mark, live: false, ends: &[] });
    let pass = due(entries, &SPREAD, at("2026-01-01T01:00Z"));
    assert_eq!(pass.decisions.len(), 10_000);
    assert!(pass.decisions.iter().all(|one| one.verdict == Enqueue));
    assert_eq!(pass.next_wakeup, Some(at("2026-01-01T02:00Z")));
}

fn end(at_text: &str, job: i64, state: FinalState) -> JobEnd {
    let schedule = "dump".parse().unwrap();
    JobEnd { at: at(at_text), schedule, job: JobId(job), state }
}

fn follower(policy: CatchUpPolicy) -> Schedule {
    let after =
        Trigger::After { schedule: "dump".parse().unwrap(), on: crate::model::OnEnd::Finished };
    catching_up(after, policy, None, 100)
}

fn decide_after(schedule: &Schedule, ledger: &Ledger, ends: &[JobEnd], now: &str) -> Due {
    decide(&Entry { schedule, ledger, live: false, ends }, &SPREAD, at(now))
}

#[test]
fn the_end_of_another_schedules_job_is_an_instant_wherever_the_mark_is() {
    let schedule = follower(CatchUpPolicy::Latest);
    let ends = [end("2026-06-15T10:00:00.000123Z", 12, FinalState::Failed)];
    for mark in ["2026-06-15T09:00Z", "2026-06-15T10:30Z"] {
        let due = decide_after(&schedule, &ledger(at(mark)), &ends, "2026-06-15T10:00:01Z");
        let [decision] = &due.decisions[..] else { panic!("{due:?}") };
        assert_eq!((decision.nominal_at, decision.cause), (ends[0].at, Cause::End));
        assert_eq!(decision.verdict, Verdict::Enqueue);
        assert_eq!(decision.reason, "after job 12 of `dump` failed: due");
        assert_eq!(due.next, None);
    }
}

#[test]
fn ends_that_nobody_acted_on_in_time_are_caught_up_by_the_policy() {
    let ends = [
        end("2026-06-15T10:00Z", 1, FinalState::Completed),
        end("2026-06-15T10:10Z", 2, FinalState::Completed),
    ];
    let mark = ledger(at("2026-06-15T09:00Z"));
    let verdicts = |policy| {
        let due = decide_after(&follower(policy), &mark, &ends, "2026-06-15T12:00Z");
        due.decisions.iter().map(|decision| decision.verdict).collect::<Vec<_>>()
    };
    assert_eq!(verdicts(CatchUpPolicy::All), [Verdict::Enqueue, Verdict::Enqueue]);
    assert_eq!(verdicts(CatchUpPolicy::Latest), [Verdict::Coalesced, Verdict::Enqueue]);
    assert_eq!(verdicts(CatchUpPolicy::None), [Verdict::Missed, Verdict::Missed]);
}

#[test]
fn an_end_is_skipped_in_a_pause_and_in_a_blackout_like_any_other_instant() {
    let mut schedule = follower(CatchUpPolicy::All);
    let (from, until) = (at("2026-06-15T10:00Z"), at("2026-06-15T10:05Z"));
    schedule.when.blackout = vec![Blackout { from, until }];
    let mut mark = ledger(at("2026-06-15T09:00Z"));
    mark.pause = pause("2026-06-15T10:08Z", None);
    let ends = [
        end("2026-06-15T10:01Z", 1, FinalState::Completed),
        end("2026-06-15T10:10Z", 2, FinalState::Completed),
    ];
    let due = decide_after(&schedule, &mark, &ends, "2026-06-15T10:10:01Z");
    let verdicts: Vec<Verdict> = due.decisions.iter().map(|one| one.verdict).collect();
    assert_eq!(verdicts, [Verdict::SkippedBlackout, Verdict::SkippedPaused]);
    assert!(
        due.decisions[0].reason.starts_with("after job 1 of `dump` completed: in the blackout")
    );
}

#[test]
fn what_follows_an_end_has_its_offset_and_jitter() {
    let mut schedule = follower(CatchUpPolicy::Latest);
    schedule.when.jitter = Duration::from_secs(600);
    let ends = [end("2026-06-15T10:00Z", 1, FinalState::Completed)];
    let mark = ledger(at("2026-06-15T09:00Z"));
    let due = decide_after(&schedule, &mark, &ends, "2026-06-15T10:00Z");
    assert!(due.decisions.is_empty(), "{due:?}");
    let next = due.next.unwrap();
    assert_eq!(next.fire_at, SPREAD.fire_at(&schedule.id, &schedule.when, ends[0].at));
    assert!(next.fire_at > ends[0].at, "the draw of this seed is not zero");
    let entry = Entry { schedule: &schedule, ledger: &mark, live: false, ends: &ends };
    assert_eq!(next_fire(&entry, &SPREAD), Some(next));
    assert_eq!(
        seen(&decide(&entry, &SPREAD, next.fire_at)),
        [("10:00".to_owned(), Verdict::Enqueue)]
    );
}

#[test]
fn an_end_that_the_clock_puts_ahead_is_due_now() {
    let schedule = follower(CatchUpPolicy::None);
    let ends = [end("2026-06-15T15:00Z", 1, FinalState::Completed)];
    let due = decide_after(&schedule, &ledger(at("2026-06-15T09:00Z")), &ends, "2026-06-15T10:00Z");
    assert_eq!(due.decisions[0].verdict, Verdict::Enqueue);
    assert_eq!(due.decisions[0].fire_at, at("2026-06-15T10:00Z"));
}

#[test]
fn an_end_takes_nothing_from_the_calendar_of_the_same_schedule() {
    let mut schedule = follower(CatchUpPolicy::All);
    schedule.when.rule.triggers.push(every(3600));
    schedule.when.jitter = Duration::from_secs(1800);
    let ends = [end("2026-06-15T10:00:00.5Z", 1, FinalState::Completed)];
    let mark = ledger(at("2026-06-15T09:00Z"));
    // Late enough for both, whatever their delays are.
    let due = decide_after(&schedule, &mark, &ends, "2026-06-15T10:40Z");
    let causes: Vec<Cause> = due.decisions.iter().map(|one| one.cause).collect();
    assert_eq!(causes, [Cause::Rule, Cause::End]);
    assert_eq!(due.next.unwrap().nominal_at, at("2026-06-15T11:00Z"));
}
