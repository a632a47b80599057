//! What holds for every rule, zone and instant.

use std::time::Duration;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::{CronExpression, DstPolicy, Gap, Repeat, Rule, Trigger, Weekdays};

const ZONES: [&str; 10] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "America/Sao_Paulo",
    "Africa/Cairo",
    "Asia/Kathmandu",
    "Africa/Casablanca",
    "Pacific/Chatham",
];

const CRONS: [&str; 16] = [
    "* * * * *",
    "*/15 * * * *",
    "30 2 * * *",
    "0,30 1-3 * * *",
    "0 */2 * * *",
    "*/30 2 25,28-31 3,10 *",
    "0 0 1 * *",
    "0 0 * * 0",
    "15 2 L * *",
    "0 3 15W * *",
    "45 23 * * 5L",
    "*/20 15 2 * * *",
    "0 0 29 2 *",
    "0 0 * * *",
    "0 0 30 2 *",
    "59 59 23 31 12 ? 2011-2030",
];

fn zone() -> impl Strategy<Value = TimeZone> {
    proptest::sample::select(&ZONES[..]).prop_map(|name| TimeZone::get(name).unwrap())
}

fn policy() -> impl Strategy<Value = DstPolicy> {
    let gap = prop_oneof![Just(Gap::Run), Just(Gap::Skip)];
    let repeat = prop_oneof![Just(Repeat::First), Just(Repeat::Last), Just(Repeat::Both)];
    (gap, repeat).prop_map(|(gap, repeat)| DstPolicy { gap, repeat })
}

fn trigger() -> impl Strategy<Value = Trigger> {
    let time = (0_i8..24, 0_i8..60).prop_map(|(hour, minute)| Time::constant(hour, minute, 0, 0));
    prop_oneof![
        4 => proptest::sample::select(&CRONS[..])
            .prop_map(|text| Trigger::Cron(CronExpression::parse(text, "seed").unwrap())),
        2 => (proptest::collection::vec(time, 1..3), 1_u8..128).prop_map(|(times, days)| {
            let weekdays = Weekdays::ALL.iter().enumerate().filter(|(day, _)| days & (1 << day) != 0);
            Trigger::Daily { times, weekdays: weekdays.map(|(_, day)| day).collect() }
        }),
        1 => (1_u64..10_000_000_000).prop_map(|micros| Trigger::Every { period: Duration::from_micros(micros) }),
        1 => instant().prop_map(Trigger::At),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    (zone(), proptest::collection::vec(trigger(), 1..3), policy())
        .prop_map(|(zone, triggers, dst)| Rule { zone, triggers, dst })
}

/// Anywhere from 1990 to 2110, often within a day of a change of the clocks, sometimes between two seconds.
fn instant() -> impl Strategy<Value = Timestamp> {
    let anywhere = 631_152_000_i64..4_417_977_600;
    let changes = [
        "2026-03-29T01:00Z",
        "2026-10-25T01:00Z",
        "2011-12-30T10:00Z",
        "2018-11-04T03:00Z",
        "2018-02-18T02:00Z",
    ];
    let near = (proptest::sample::select(changes.to_vec()), -90_000_i64..90_000)
        .prop_map(|(change, seconds)| change.parse::<Timestamp>().unwrap().as_second() + seconds);
    (prop_oneof![anywhere, near], prop_oneof![Just(0_i32), 0_i32..1_000_000_000])
        .prop_map(|(second, nanosecond)| Timestamp::new(second, nanosecond).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_next_instant_is_later_and_the_previous_one_earlier(rule in rule(), at in instant()) {
        prop_assert!(rule.next_after(at, None).is_none_or(|next| next > at));
        prop_assert!(rule.previous_before(at).is_none_or(|previous| previous < at));
    }

    #[test]
    fn next_and_previous_are_each_others_inverse(rule in rule(), at in instant()) {
        if let Some(next) = rule.next_after(at, None) {
            prop_assert!(rule.previous_before(next).is_none_or(|previous| previous <= at));
            if let Some(after) = rule.next_after(next, None) {
                prop_assert_eq!(rule.previous_before(after), Some(next));
            }
        }
        if let Some(previous) = rule.previous_before(at) {
            prop_assert!(rule.next_after(previous, None).is_none_or(|next| next >= at));
            if let Some(before) = rule.previous_before(previous) {
                prop_assert_eq!(rule.next_after(before, None), Some(previous));
            }
        }
    }

    #[test]
    fn a_later_start_never_finds_an_earlier_instant(rule in rule(), at in instant(), seconds in 0_i64..100_000) {
        let later = at.checked_add(SignedDuration::from_secs(seconds)).unwrap();
        let never = Timestamp::MAX;
        let (first, second) = (rule.next_after(at, None), rule.next_after(later, None));
        prop_assert!(first.unwrap_or(never) <= second.unwrap_or(never));
    }

    #[test]
    fn d1_d2_one_fixed_time_is_never_due_twice_on_one_local_day(zone in zone(), hour in 0_i8..24, minute in 0_i8..60, at in instant()) {
        let daily = Trigger::Daily { times: vec![Time::constant(hour, minute, 0, 0)], weekdays: Weekdays::ALL };
        let cron = CronExpression::parse(&format!("{minute} {hour} * * *"), "seed").unwrap();
        let rule = |trigger| Rule { zone: zone.clone(), triggers: vec![trigger], dst: DstPolicy::default() };
        let (daily, cron) = (rule(daily), rule(Trigger::Cron(cron)));
        let mut at = at;
        let mut last_day = None;
        for _ in 0..4 {
            let next = daily.next_after(at, None).unwrap();
            prop_assert_eq!(cron.next_after(at, None), Some(next), "daily and cron agree");
            let day = next.to_zoned(zone.clone()).date();
            let skipped_a_whole_day = zone.iana_name() == Some("Pacific/Apia") && day.to_string() == "2011-12-31";
            prop_assert!(last_day != Some(day) || skipped_a_whole_day);
            last_day = Some(day);
            at = next;
        }
    }

    #[test]
    fn wildcard_rules_are_due_exactly_when_the_clocks_show_it(zone in zone(), at in instant()) {
        let cron = CronExpression::parse("*/10 1-3 * * *", "seed").unwrap();
        let rule = Rule { zone: zone.clone(), triggers: vec![Trigger::Cron(cron)], dst: DstPolicy::default() };
        let minute = at.as_second().div_euclid(60);
        let shown = (minute + 1..minute + 1800)
            .map(|minute| Timestamp::from_second(minute * 60).unwrap())
            .find(|at| {
                let local = zone.to_datetime(*at);
                local.minute() % 10 == 0 && (1..=3).contains(&local.hour())
            });
        prop_assert_eq!(rule.next_after(at, None), shown);
    }
}

#[test]
fn a_period_from_the_end_counts_from_the_last_end_while_that_is_ahead() {
    let period = Duration::from_secs(600);
    let rule = Rule {
        zone: TimeZone::UTC,
        triggers: vec![Trigger::EveryFromEnd { period }],
        dst: DstPolicy::default(),
    };
    let at = |second| Timestamp::from_second(second).unwrap();
    assert_eq!(rule.next_after(at(1000), Some(at(900))), Some(at(1500)));
    assert_eq!(rule.next_after(at(1500), Some(at(900))), Some(at(2100)));
    assert_eq!(rule.next_after(at(1000), None), Some(at(1600)));
    assert_eq!(rule.previous_before(at(1000)), None);
    assert_eq!(rule.describe(), "10m after the end of the last run.");
}

#[test]
fn d9_a_rule_that_never_fires_is_told_from_one_that_has_fired() {
    let rule =
        |trigger| Rule { zone: TimeZone::UTC, triggers: vec![trigger], dst: DstPolicy::default() };
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let cron = |text| Trigger::Cron(CronExpression::parse(text, "seed").unwrap());
    assert!(rule(cron("0 0 31 2 *")).never_fires_after(now));
    assert!(rule(cron("0 0 0 1 1 ? 2020")).never_fires_after(now));
    assert!(!rule(cron("0 0 29 2 *")).never_fires_after(now));
    assert!(!rule(Trigger::At(Timestamp::UNIX_EPOCH)).never_fires_after(now));
}

#[test]
fn a_rule_is_described_in_one_sentence() {
    let rule = Rule {
        zone: TimeZone::get("Europe/Berlin").unwrap(),
        triggers: vec![
            Trigger::Every { period: Duration::from_secs(5400) },
            Trigger::Cron(CronExpression::parse("0 9 * * 1", "seed").unwrap()),
            Trigger::At("2026-07-01T10:00Z".parse().unwrap()),
        ],
        dst: DstPolicy::default(),
    };
    assert_eq!(
        rule.describe(),
        "Every 1h 30m, at 09:00 on Monday and once at 2026-07-01 12:00:00 (+02), Europe/Berlin time."
    );
}
