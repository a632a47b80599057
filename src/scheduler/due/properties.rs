//! What holds however time is cut into passes.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::tests::{SPREAD, at, every, ledger, schedule};
use super::*;
use crate::model::Pause;
use crate::schedule::{CatchUp, CatchUpPolicy, CronExpression, Trigger};

fn trigger() -> impl Strategy<Value = Trigger> {
    let crons = ["*/15 * * * *", "30 2 * * *", "0,20 1-3 * * *", "0 */2 * * *", "7 * * * *"];
    prop_oneof![
        (300_u64..9000).prop_map(every),
        proptest::sample::select(crons.to_vec())
            .prop_map(|text| Trigger::Cron(CronExpression::parse(text, "x").unwrap())),
    ]
}

fn policy() -> impl Strategy<Value = CatchUp> {
    let policy = prop_oneof![
        Just(CatchUpPolicy::None),
        Just(CatchUpPolicy::Latest),
        Just(CatchUpPolicy::All)
    ];
    let window = proptest::option::of((60_u64..100_000).prop_map(Duration::from_secs));
    (policy, window, 1_u32..20).prop_map(|(policy, window, max)| CatchUp { policy, window, max })
}

prop_compose! {
    fn any_schedule()(
        trigger in trigger(),
        catch_up in policy(),
        jitter in prop_oneof![Just(0_u64), 1_u64..20_000],
        offset in prop_oneof![Just(0_u64), 1_u64..5000],
    ) -> Schedule {
        let mut schedule = schedule(trigger);
        schedule.when.catch_up = catch_up;
        schedule.when.jitter = Duration::from_secs(jitter);
        schedule.when.offset = Duration::from_secs(offset);
        schedule
    }
}

/// Lengths of the pauses between passes, in seconds: mostly short, sometimes a downtime, sometimes backwards.
fn steps() -> impl Strategy<Value = Vec<i64>> {
    let step = prop_oneof![5 => 1_i64..900, 3 => 900_i64..20_000, 1 => 20_000_i64..200_000, 1 => -9000_i64..0];
    proptest::collection::vec(step, 1..40)
}

/// Every pass's decisions, recorded the way the ledger does it, with the time of the last pass.
fn passes(
    schedule: &Schedule,
    steps: &[i64],
    start: Timestamp,
) -> (Vec<Vec<DueDecision>>, Ledger, Timestamp) {
    let mut ledger = ledger(start);
    let mut now = start;
    let mut passes = Vec::new();
    for step in steps {
        now += SignedDuration::from_secs(*step);
        let due =
            decide(&Entry { schedule, ledger: &ledger, live: false, ends: &[] }, &SPREAD, now);
        for decision in &due.decisions {
            ledger.decided_until = ledger.decided_until.max(decision.nominal_at);
        }
        if let Some(next) = due.next {
            assert!(next.nominal_at > ledger.decided_until);
        }
        passes.push(due.decisions);
    }
    (passes, ledger, now)
}

/// Two days before the clocks of Berlin change.
fn start() -> Timestamp {
    at("2026-10-23T01:00Z")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_instant_gets_exactly_one_decision_however_passes_fall(schedule in any_schedule(), steps in steps()) {
        let (passes, ledger, _) = passes(&schedule, &steps, start());
        let decided: Vec<_> = passes.iter().flatten().collect();
        // A gap of more than a thousand instants is summed up; these have fewer.
        prop_assert!(decided.iter().all(|one| one.instants == 1));
        let nominal: Vec<_> = decided.iter().map(|one| one.nominal_at).collect();
        prop_assert!(nominal.is_sorted() && nominal.iter().collect::<BTreeSet<_>>().len() == nominal.len());
        let rule = &schedule.when.rule;
        let named: Vec<_> = std::iter::successors(rule.next_after(start(), None), |at| rule.next_after(*at, None))
            .take_while(|at| *at <= ledger.decided_until)
            .collect();
        prop_assert_eq!(nominal, named);
    }

    #[test]
    fn nothing_fires_early_and_nothing_due_is_left(schedule in any_schedule(), steps in steps()) {
        let (_, ledger, now) = passes(&schedule, &steps, start());
        let entry = Entry { schedule: &schedule, ledger: &ledger, live: false, ends: &[] };
        if let Some(next) = next_fire(&entry, &SPREAD) {
            prop_assert!(next.fire_at > now, "{:?} is left at {now}", next);
        }
        let due = decide(&entry, &SPREAD, now);
        prop_assert_eq!(due.decisions, []);
        // Several steps back may add up to a correction.
        prop_assert!(due.ahead || due.next == next_fire(&entry, &SPREAD));
    }

    #[test]
    fn no_pass_runs_more_than_the_policy_allows(schedule in any_schedule(), steps in steps()) {
        let most = match schedule.when.catch_up.policy {
            CatchUpPolicy::None | CatchUpPolicy::Latest => 1,
            CatchUpPolicy::All => schedule.when.catch_up.max as usize,
        };
        for pass in passes(&schedule, &steps, start()).0 {
            let runs = pass.iter().filter(|one| one.verdict == Verdict::Enqueue);
            prop_assert!(runs.count() <= most);
        }
    }

    #[test]
    fn pausing_and_resuming_loses_no_instant(
        schedule in any_schedule(),
        steps in steps(),
        since in 0_i64..100_000,
        length in proptest::option::of(0_i64..200_000),
    ) {
        let unpaused: Vec<_> = passes(&schedule, &steps, start()).0.into_iter().flatten().map(|one| one.nominal_at).collect();
        let since = start() + SignedDuration::from_secs(since);
        let pause = Pause {
            since,
            until: length.map(|length| since + SignedDuration::from_secs(length)),
            by: "test".to_owned(),
            reason: String::new(),
        };
        let mut ledger = ledger(start());
        let mut now = start();
        let mut nominal = Vec::new();
        for step in &steps {
            now += SignedDuration::from_secs(*step);
            // The pause comes into force while the passes go on, as it does in life.
            ledger.pause = (now >= since).then(|| Box::new(pause.clone()));
            for one in decide(&Entry { schedule: &schedule, ledger: &ledger, live: false, ends: &[] }, &SPREAD, now).decisions {
                let in_force = now >= since && pause.is_active(now);
                prop_assert!(!in_force || one.verdict == Verdict::SkippedPaused);
                ledger.decided_until = ledger.decided_until.max(one.nominal_at);
                nominal.push(one.nominal_at);
            }
        }
        prop_assert_eq!(nominal, unpaused);
    }
}
