//! What the clocks of six zones do to rules. The expected instants are written from the zones' laws, not from
//! this program.

use jiff::tz::TimeZone;
use jiff::{Timestamp, civil::time};

use super::{DstPolicy, Gap, Repeat};
use crate::schedule::{CronExpression, Rule, Trigger, Weekdays};

fn cron(zone: &str, text: &str, dst: DstPolicy) -> Rule {
    let cron = CronExpression::parse(text, "seed").unwrap();
    Rule { zone: TimeZone::get(zone).unwrap(), triggers: vec![Trigger::Cron(cron)], dst }
}

/// Every instant strictly between two, in the zone's clock and offset, found forwards and backwards.
fn between(rule: &Rule, from: &str, until: &str) -> Vec<String> {
    let (from, until): (Timestamp, Timestamp) = (from.parse().unwrap(), until.parse().unwrap());
    let forwards: Vec<_> =
        std::iter::successors(rule.next_after(from, None), |at| rule.next_after(*at, None))
            .take_while(|at| *at < until)
            .collect();
    let mut backwards: Vec<_> =
        std::iter::successors(rule.previous_before(until), |at| rule.previous_before(*at))
            .take_while(|at| *at > from)
            .collect();
    backwards.reverse();
    assert_eq!(forwards, backwards, "both directions agree");
    forwards
        .into_iter()
        .map(|at| at.to_zoned(rule.zone.clone()).strftime("%m-%d %H:%M %:z").to_string())
        .collect()
}

const RUN_FIRST: DstPolicy = DstPolicy { gap: Gap::Run, repeat: Repeat::First };
const SKIP_LAST: DstPolicy = DstPolicy { gap: Gap::Skip, repeat: Repeat::Last };
const RUN_BOTH: DstPolicy = DstPolicy { gap: Gap::Run, repeat: Repeat::Both };

struct Case {
    zone: &'static str,
    cron: &'static str,
    dst: DstPolicy,
    from: &'static str,
    until: &'static str,
    expected: &'static [&'static str],
}

fn check(cases: &[Case]) {
    for case in cases {
        let rule = cron(case.zone, case.cron, case.dst);
        let found = between(&rule, case.from, case.until);
        assert_eq!(found, case.expected, "{} in {}", case.cron, case.zone);
    }
}

#[test]
fn d1_a_fixed_time_that_the_clocks_skip_runs_once_right_after_the_gap() {
    let berlin = |cron, dst, expected| Case {
        zone: "Europe/Berlin",
        cron,
        dst,
        from: "2026-03-28T00:00Z",
        until: "2026-03-30T12:00Z",
        expected,
    };
    check(&[
        berlin(
            "30 2 * * *",
            RUN_FIRST,
            &["03-28 02:30 +01:00", "03-29 03:00 +02:00", "03-30 02:30 +02:00"],
        ),
        berlin("30 2 * * *", SKIP_LAST, &["03-28 02:30 +01:00", "03-30 02:30 +02:00"]),
        // Everything the gap holds becomes one run, also together with a run at its end.
        berlin(
            "0,30 2 * * *",
            RUN_FIRST,
            &[
                "03-28 02:00 +01:00",
                "03-28 02:30 +01:00",
                "03-29 03:00 +02:00",
                "03-30 02:00 +02:00",
                "03-30 02:30 +02:00",
            ],
        ),
        berlin("0 2,3 29 3 *", RUN_FIRST, &["03-29 03:00 +02:00"]),
        berlin("0-59/15 2 29 3 *", RUN_FIRST, &["03-29 03:00 +02:00"]),
        Case {
            zone: "America/New_York",
            cron: "0 30 2 8 3 ? 2026",
            dst: RUN_FIRST,
            from: "2026-03-01T00:00Z",
            until: "2026-04-01T00:00Z",
            expected: &["03-08 03:00 -04:00"],
        },
        // The clocks of Lord Howe Island move by half an hour: 02:00 to 02:30.
        Case {
            zone: "Australia/Lord_Howe",
            cron: "15 2 * * *",
            dst: RUN_FIRST,
            from: "2026-10-02T20:00Z",
            until: "2026-10-05T00:00Z",
            expected: &["10-04 02:30 +11:00", "10-05 02:15 +11:00"],
        },
        // Midnight itself is skipped in Sao Paulo and Cairo; systemd loses the whole day there.
        Case {
            zone: "America/Sao_Paulo",
            cron: "0 0 * * *",
            dst: RUN_FIRST,
            from: "2018-11-02T12:00Z",
            until: "2018-11-05T12:00Z",
            expected: &["11-03 00:00 -03:00", "11-04 01:00 -02:00", "11-05 00:00 -02:00"],
        },
        Case {
            zone: "Africa/Cairo",
            cron: "@daily",
            dst: RUN_FIRST,
            from: "2026-04-22T22:30Z",
            until: "2026-04-25T12:00Z",
            expected: &["04-24 01:00 +03:00", "04-25 00:00 +03:00"],
        },
        // 2011-12-30 never happened in Samoa: the day's run comes at the first instant of the 31st.
        Case {
            zone: "Pacific/Apia",
            cron: "30 2 * * *",
            dst: RUN_FIRST,
            from: "2011-12-29T12:00Z",
            until: "2012-01-01T00:00Z",
            expected: &[
                "12-29 02:30 -10:00",
                "12-31 00:00 +14:00",
                "12-31 02:30 +14:00",
                "01-01 02:30 +14:00",
            ],
        },
        Case {
            zone: "Pacific/Apia",
            cron: "30 2 * * *",
            dst: SKIP_LAST,
            from: "2011-12-29T12:00Z",
            until: "2012-01-01T00:00Z",
            expected: &["12-29 02:30 -10:00", "12-31 02:30 +14:00", "01-01 02:30 +14:00"],
        },
    ]);
}

#[test]
fn d2_a_fixed_time_that_comes_twice_runs_at_the_first() {
    let berlin = |cron, dst, expected| Case {
        zone: "Europe/Berlin",
        cron,
        dst,
        from: "2026-10-24T22:00Z",
        until: "2026-10-26T12:00Z",
        expected,
    };
    check(&[
        berlin("30 2 * * *", RUN_FIRST, &["10-25 02:30 +02:00", "10-26 02:30 +01:00"]),
        berlin("30 2 * * *", SKIP_LAST, &["10-25 02:30 +01:00", "10-26 02:30 +01:00"]),
        berlin(
            "30 2 * * *",
            RUN_BOTH,
            &["10-25 02:30 +02:00", "10-25 02:30 +01:00", "10-26 02:30 +01:00"],
        ),
        berlin("0,30 2 25 * *", RUN_FIRST, &["10-25 02:00 +02:00", "10-25 02:30 +02:00"]),
        berlin("0,30 2 25 * *", SKIP_LAST, &["10-25 02:00 +01:00", "10-25 02:30 +01:00"]),
        berlin(
            "0,30 2 25 * *",
            RUN_BOTH,
            &[
                "10-25 02:00 +02:00",
                "10-25 02:30 +02:00",
                "10-25 02:00 +01:00",
                "10-25 02:30 +01:00",
            ],
        ),
        berlin("0 3 25 * *", RUN_BOTH, &["10-25 03:00 +01:00"]),
        Case {
            zone: "Australia/Lord_Howe",
            cron: "45 1 * * *",
            dst: RUN_FIRST,
            from: "2026-04-03T20:00Z",
            until: "2026-04-05T20:00Z",
            expected: &["04-05 01:45 +11:00", "04-06 01:45 +10:30"],
        },
        // The clocks of Sao Paulo went back at midnight: 23:30 came twice, and so did the end of the day.
        Case {
            zone: "America/Sao_Paulo",
            cron: "30 23 * * *",
            dst: RUN_FIRST,
            from: "2018-02-17T12:00Z",
            until: "2018-02-19T12:00Z",
            expected: &["02-17 23:30 -02:00", "02-18 23:30 -03:00"],
        },
        Case {
            zone: "Africa/Cairo",
            cron: "30 23 * * *",
            dst: RUN_BOTH,
            from: "2026-10-29T12:00Z",
            until: "2026-10-30T12:00Z",
            expected: &["10-29 23:30 +03:00", "10-29 23:30 +02:00"],
        },
    ]);
}

#[test]
fn d2_wildcard_rules_keep_their_pace_through_both_changes() {
    let spring = between(
        &cron("Europe/Berlin", "*/15 * * * *", SKIP_LAST),
        "2026-03-29T00:29Z",
        "2026-03-29T01:31Z",
    );
    assert_eq!(
        spring,
        [
            "03-29 01:30 +01:00",
            "03-29 01:45 +01:00",
            "03-29 03:00 +02:00",
            "03-29 03:15 +02:00",
            "03-29 03:30 +02:00"
        ]
    );
    let autumn = between(
        &cron("Europe/Berlin", "30 * * * *", RUN_FIRST),
        "2026-10-24T23:00Z",
        "2026-10-25T03:00Z",
    );
    assert_eq!(
        autumn,
        ["10-25 01:30 +02:00", "10-25 02:30 +02:00", "10-25 02:30 +01:00", "10-25 03:30 +01:00"]
    );
    // A star in the minute is enough: the whole hour is gone through twice in autumn and not at all in spring.
    let hour = cron("Europe/Berlin", "*/30 2 * * *", RUN_FIRST);
    assert_eq!(between(&hour, "2026-03-29T00:00Z", "2026-03-29T12:00Z"), [""; 0]);
    assert_eq!(
        between(&hour, "2026-10-25T00:00Z", "2026-10-25T12:00Z").len(),
        3,
        "the bound itself is left out"
    );
    // Once a year, and that in a repeated hour: a year in between hides two changes from a search by offset.
    let yearly = cron("Europe/Berlin", "*/30 2 25 10 *", RUN_FIRST);
    assert_eq!(
        between(&yearly, "2026-10-24T00:00Z", "2027-10-24T00:00Z"),
        ["10-25 02:00 +02:00", "10-25 02:30 +02:00", "10-25 02:00 +01:00", "10-25 02:30 +01:00",]
    );
}

#[test]
fn d2_intervals_follow_elapsed_time_and_never_drift() {
    let period = std::time::Duration::from_secs(25 * 60);
    let rule = Rule {
        zone: TimeZone::get("Europe/Berlin").unwrap(),
        triggers: vec![Trigger::Every { period }],
        dst: RUN_FIRST,
    };
    let mut at: Timestamp = "2026-10-24T00:00Z".parse().unwrap();
    for _ in 0..200 {
        let next = rule.next_after(at, None).unwrap();
        assert_eq!(next.as_second() % (25 * 60), 0);
        assert!(next > at && next.as_second() - at.as_second() <= 25 * 60);
        at = next;
    }
}

#[test]
fn d9_the_rules_of_a_zone_hold_past_2100() {
    check(&[
        Case {
            zone: "Europe/Berlin",
            cron: "30 2 * * *",
            dst: RUN_FIRST,
            from: "2150-03-28T12:00Z",
            until: "2150-03-30T12:00Z",
            expected: &["03-29 03:00 +02:00", "03-30 02:30 +02:00"],
        },
        Case {
            zone: "Europe/Berlin",
            cron: "0 0 29 2 *",
            dst: RUN_FIRST,
            from: "2096-03-01T00:00Z",
            until: "2109-01-01T00:00Z",
            expected: &["02-29 00:00 +01:00", "02-29 00:00 +01:00"],
        },
    ]);
}

#[test]
fn daily_times_follow_the_same_rules_as_cron() {
    let rule = Rule {
        zone: TimeZone::get("Europe/Berlin").unwrap(),
        triggers: vec![Trigger::Daily {
            times: vec![time(14, 0, 0, 0), time(2, 30, 0, 0)],
            weekdays: "sun,mon".parse().unwrap(),
        }],
        dst: RUN_FIRST,
    };
    assert_eq!(
        between(&rule, "2026-03-27T00:00Z", "2026-04-01T00:00Z"),
        ["03-29 03:00 +02:00", "03-29 14:00 +02:00", "03-30 02:30 +02:00", "03-30 14:00 +02:00"]
    );
    assert_eq!(rule.describe(), "At 02:30 and 14:00 on mon,sun, Europe/Berlin time.");
    let none = Rule {
        triggers: vec![Trigger::Daily { times: vec![time(2, 0, 0, 0)], weekdays: Weekdays::NONE }],
        ..rule
    };
    assert!(none.never_fires_after(Timestamp::UNIX_EPOCH));
}

#[test]
fn d1_d2_a_preview_says_what_the_clock_changes_do() {
    let year = |rule: &Rule| {
        rule.dst_warnings(
            "2026-01-01T00:00Z".parse().unwrap(),
            "2027-01-01T00:00Z".parse().unwrap(),
        )
    };
    assert_eq!(
        year(&cron("Europe/Berlin", "30 2 * * *", RUN_FIRST)),
        [
            "2026-03-29: 02:30 does not exist in Europe/Berlin; runs at 03:00 instead",
            "2026-10-25: 02:30 comes twice in Europe/Berlin; runs at the first only (+02)",
        ]
    );
    assert_eq!(
        year(&cron("Europe/Berlin", "30 2 * * *", SKIP_LAST)),
        [
            "2026-03-29: 02:30 does not exist in Europe/Berlin; it does not run then",
            "2026-10-25: 02:30 comes twice in Europe/Berlin; runs at the second only (+01)",
        ]
    );
    for silent in ["30 4 * * *", "*/15 * * * *", "30 2 1 * *"] {
        assert_eq!(year(&cron("Europe/Berlin", silent, RUN_FIRST)), [""; 0], "{silent}");
    }
    assert_eq!(year(&cron("UTC", "30 2 * * *", RUN_FIRST)), [""; 0]);
    let apia = cron("Pacific/Apia", "30 2 * * *", RUN_FIRST);
    assert_eq!(
        apia.dst_warnings(
            "2011-12-01T00:00Z".parse().unwrap(),
            "2012-01-01T00:00Z".parse().unwrap()
        ),
        ["2011-12-30: 02:30 does not exist in Pacific/Apia; runs on 2011-12-31 at 00:00 instead",]
    );
}

#[test]
fn the_ends_of_time_are_no_trouble() {
    for text in ["* * * * * *", "30 2 * * *", "0 0 29 2 *", "0 0 30 2 *", "*/7 */5 L * 5#3"] {
        for zone in ["UTC", "Pacific/Apia", "America/Sao_Paulo"] {
            let rule = cron(zone, text, RUN_BOTH);
            for at in [Timestamp::MIN, Timestamp::MAX, Timestamp::UNIX_EPOCH] {
                assert!(rule.next_after(at, None).is_none_or(|next| next > at));
                assert!(rule.previous_before(at).is_none_or(|previous| previous < at));
                let _warned = rule.dst_warnings(at, Timestamp::MAX);
            }
        }
    }
}
