use std::collections::BTreeSet;

use jiff::civil::DateTime;
use proptest::prelude::*;

use super::{CronError, CronExpression};
use crate::schedule::local::LocalTimes;

fn parse(text: &str) -> CronExpression {
    CronExpression::parse(text, "seed").unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refuse(text: &str) -> CronError {
    CronExpression::parse(text, "seed").expect_err(text)
}

fn dt(text: &str) -> DateTime {
    text.parse().unwrap()
}

/// The first local times at or after `from`, as `2026-01-31 02:30`.
fn first(text: &str, from: &str, count: usize) -> Vec<String> {
    let cron = parse(text);
    let second = jiff::SignedDuration::from_secs(1);
    std::iter::successors(cron.at_or_after(dt(from)), |time| {
        cron.at_or_after(time.checked_add(second).ok()?)
    })
    .take(count)
    .map(|time| time.strftime("%Y-%m-%d %H:%M:%S").to_string().replace(":00 ", " "))
    .collect()
}

#[test]
fn e15_every_refused_expression_names_its_bytes_and_its_fault() {
    // expression, the bytes the error points at, a part of the message
    let table = [
        ("", "", "empty"),
        ("   ", "   ", "empty"),
        ("* * * *", "* * * *", "this has 4 fields"),
        ("* * * * * * * *", "* * * * * * * *", "this has 8 fields"),
        ("daily", "daily", "this has 1 field"),
        ("0 25 * * *", "25", "hour 25 is outside 0-23"),
        ("60 * * * *", "60", "minute 60 is outside 0-59"),
        ("* 24 * * *", "24", "hour 24 is outside 0-23"),
        ("* * 0 * *", "0", "day of month 0 is outside 1-31"),
        ("* * 32 * *", "32", "day of month 32 is outside 1-31"),
        ("* * * 0 *", "0", "month 0 is outside 1-12"),
        ("* * * 13 *", "13", "month 13 is outside 1-12"),
        ("* * * * 8", "8", "day of week 8 is outside 0-7"),
        ("60 0 0 * * *", "60", "second 60 is outside 0-59"),
        ("0 0 0 * * * 1969", "1969", "year 1969 is outside 1970-2199"),
        ("0 0 0 * * * 2200", "2200", "year 2200 is outside 1970-2199"),
        ("1-234/5678 * * * *", "234", "minute 234 is outside 0-59"),
        ("99999999999999999999 * * * *", "99999999999999999999", "is outside 0-59"),
        ("*/0 * * * *", "0", "never moves on"),
        ("*/61 * * * *", "61", "longer than the range 0-59"),
        ("10-20/12 * * * *", "12", "longer than the range 10-20"),
        ("*/ * * * *", "", "is not a step"),
        ("*/x * * * *", "x", "`x` is not a step"),
        ("*/+5 * * * *", "+5", "is not a step"),
        ("*/5/5 * * * *", "5/5", "is not a step"),
        ("/5 * * * *", "/5", "before `/` is missing"),
        ("5/15 * * * *", "5/15", "a single minute cannot have a step"),
        ("MON/2 * * * *", "MON", "is not a minute"),
        ("30-10 * * * *", "30-10", "runs backwards"),
        ("* * * * FRI-MON", "FRI-MON", "runs backwards"),
        ("* * * * 5-0", "5-0", "runs backwards"),
        ("* 22-2 * * *", "22-2", "runs backwards"),
        ("1,,2 * * * *", "", "an item of the minute list is empty"),
        (",1 * * * *", "", "an item of the minute list is empty"),
        ("1, * * * *", "", "an item of the minute list is empty"),
        ("1- * * * *", "", "a minute is missing here"),
        ("-1 * * * *", "", "a minute is missing here"),
        ("1-2-3 * * * *", "2-3", "is not a minute"),
        ("** * * * *", "**", "is not a minute"),
        ("*5 * * * *", "*5", "is not a minute"),
        ("? * * * *", "?", "is not a minute"),
        ("* * ?,5 * *", "?", "is not a day of month"),
        ("* * * JANUARY *", "JANUARY", "is not a month"),
        ("* * * FOO *", "FOO", "is not a month"),
        ("* * MON * *", "MON", "is not a day of month"),
        ("* * * * JAN", "JAN", "is not a day of week"),
        ("* * * * L", "L", "`L` alone"),
        ("* * * * +", "+", "is not a day of week"),
        ("* * L-31 * *", "31", "1 to 30 days"),
        ("* * L-0 * *", "0", "1 to 30 days"),
        ("* * L-+5 * *", "+5", "1 to 30 days"),
        ("* * L+1 * *", "L+1", "is not a day of month"),
        ("* * W * *", "", "a day of month is missing"),
        ("* * 32W * *", "32", "day of month 32 is outside"),
        ("* * 1-5W * *", "1-5", "is not a day of month"),
        ("* * 1L * *", "1L", "is not a day of month"),
        ("L * * * *", "L", "is not a minute"),
        ("* * * * 5#6", "6", "is not a week of the month"),
        ("* * * * 5#0", "0", "is not a week of the month"),
        ("* * * * 5#", "", "is not a week of the month"),
        ("* * * * #2", "", "a day of week is missing"),
        ("* * * * 1-5#2", "1-5", "is not a day of week"),
        ("* * * * 9L", "9", "day of week 9 is outside"),
        ("H(5) * * * *", "H(5)", "is not a hashed slot"),
        ("H(0-60) * * * *", "60", "minute 60 is outside 0-59"),
        ("H(30-10) * * * *", "H(30-10)", "runs backwards"),
        ("H/0 * * * *", "0", "never moves on"),
        ("Hx * * * *", "Hx", "is not a hashed slot"),
        ("0 0 0 * * * H", "H", "a year cannot be hashed"),
        ("@DAILY", "@DAILY", "not a known nickname"),
        ("@fortnightly", "@fortnightly", "not a known nickname"),
        ("@every 15m", "@every", "not a calendar rule"),
        ("@reboot", "@reboot", "not a time"),
        ("@daily 5", "5", "nothing may follow @daily"),
        ("0 2 * * *\n", "*\n", "is not a day of week"),
        ("0\u{a0}2 * * * * *", "0\u{a0}2", "is not a second"),
        ("é * * * *", "é", "is not a minute"),
        ("1.5 * * * *", "1.5", "is not a minute"),
    ];
    for (text, bytes, message) in table {
        let error = refuse(text);
        assert_eq!(&text[error.offset..error.offset + error.len], bytes, "{text}: {error}");
        assert!(error.message.contains(message), "{text}: {error}");
    }
    let long = "1,".repeat(2000);
    assert!(refuse(&long).message.contains("longer than"));
}

#[test]
fn a_refused_expression_comes_with_what_to_write_instead() {
    for (text, help) in [
        ("5/15 * * * *", "write 5-59/15 to step from 5"),
        ("@every 15m", "every = \"15m\""),
        ("* * * * L", "write 5L"),
        ("* * * JANUARY *", "names have three letters: JAN"),
        ("* * * FOO *", "a number 1-12 or a name JAN-DEC"),
    ] {
        let help_given = refuse(text).help.unwrap();
        assert!(help_given.contains(help), "{text}: {help_given}");
    }
}

#[test]
fn the_text_is_kept_as_written_with_single_spaces() {
    for (text, shown) in [
        (" 0  2\t* * mon-FRI ", "0 2 * * mon-FRI"),
        ("@midnight", "@midnight"),
        ("H H(0-5) * * ?", "H H(0-5) * * ?"),
    ] {
        assert_eq!(parse(text).to_string(), shown);
    }
}

#[test]
fn fields_mean_what_cronie_says_they_mean() {
    let table: [(&str, &str, &[&str]); 22] = [
        ("30 2 * * *", "2026-01-31T03:00", &["2026-02-01 02:30:00", "2026-02-02 02:30:00"]),
        ("@hourly", "2026-12-31T22:30", &["2026-12-31 23:00:00", "2027-01-01 00:00:00"]),
        ("@weekly", "2026-11-01T00:01", &["2026-11-08 00:00:00"]),
        ("@annually", "2026-01-01T00:00", &["2026-01-01 00:00:00", "2027-01-01 00:00:00"]),
        // Seconds lead, years trail.
        (
            "*/20 59 23 31 12 ? 2027-2199/2",
            "2026-01-01T00:00",
            &["2027-12-31 23:59:00", "2027-12-31 23:59:20"],
        ),
        // 0 and 7 are Sunday, and a range may end on it.
        ("0 0 * * 0", "2026-11-16T00:00", &["2026-11-22 00:00:00"]),
        ("0 0 * * 7", "2026-11-16T00:00", &["2026-11-22 00:00:00"]),
        ("0 0 * * 6-7", "2026-11-16T00:00", &["2026-11-21 00:00:00", "2026-11-22 00:00:00"]),
        ("0 0 * * sat-sun", "2026-11-16T00:00", &["2026-11-21 00:00:00", "2026-11-22 00:00:00"]),
        // Both day fields restricted: either suffices. 2026-11-13 is a Friday.
        ("0 0 1 * 5", "2026-11-02T00:00", &["2026-11-06 00:00:00", "2026-11-13 00:00:00"]),
        (
            "0 0 14 * 5",
            "2026-11-13T00:00",
            &["2026-11-13 00:00:00", "2026-11-14 00:00:00", "2026-11-20 00:00:00"],
        ),
        // A leading star makes it need both, with a step too. 2026-11-09 is the first odd Monday.
        ("0 0 */2 * 1", "2026-11-01T00:00", &["2026-11-09 00:00:00", "2026-11-23 00:00:00"]),
        (
            "0 0 13 * */5",
            "2026-02-01T00:00",
            &["2026-02-13 00:00:00", "2026-03-13 00:00:00", "2026-09-13 00:00:00"],
        ),
        ("0 0 L * *", "2028-02-01T00:00", &["2028-02-29 00:00:00", "2028-03-31 00:00:00"]),
        ("0 0 L-30 * *", "2026-02-01T00:00", &["2026-03-01 00:00:00", "2026-05-01 00:00:00"]),
        // 2026-08-15 is a Saturday, 2026-08-01 too: the first moves back, the second may not leave its month.
        ("0 0 15W * *", "2026-08-01T00:00", &["2026-08-14 00:00:00", "2026-09-15 00:00:00"]),
        ("0 0 1W * *", "2026-08-01T00:00", &["2026-08-03 00:00:00", "2026-09-01 00:00:00"]),
        // 2026-05-31 is a Sunday.
        ("0 0 LW * *", "2026-05-01T00:00", &["2026-05-29 00:00:00", "2026-06-30 00:00:00"]),
        ("0 0 31W * *", "2026-05-01T00:00", &["2026-05-29 00:00:00", "2026-07-31 00:00:00"]),
        ("0 0 * * 5L", "2026-11-01T00:00", &["2026-11-27 00:00:00", "2026-12-25 00:00:00"]),
        ("0 0 * * FRI#3", "2026-11-01T00:00", &["2026-11-20 00:00:00", "2026-12-18 00:00:00"]),
        // Not every month has a fifth Monday.
        ("0 0 * * 1#5", "2026-11-01T00:00", &["2026-11-30 00:00:00", "2027-03-29 00:00:00"]),
    ];
    for (text, from, expected) in table {
        assert_eq!(first(text, from, expected.len()), expected, "{text}");
    }
}

#[test]
fn d9_rare_days_are_found_and_impossible_ones_end_the_search() {
    assert_eq!(
        first("0 0 29 2 *", "2096-02-29T00:01", 2),
        ["2104-02-29 00:00:00", "2108-02-29 00:00:00"]
    );
    assert_eq!(first("0 0 29 2 */7", "2026-01-01T00:00", 1), ["2032-02-29 00:00:00"]);
    assert_eq!(
        first("0 0 31 * *", "2026-02-01T00:00", 2),
        ["2026-03-31 00:00:00", "2026-05-31 00:00:00"]
    );
    assert_eq!(first("0 0 * * *", "2038-01-19T03:14:08", 1), ["2038-01-20 00:00:00"]);
    for never in ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "0 0 L-30 2 *", "0 0 0 29 2 ? 2025-2027"] {
        let cron = parse(never);
        assert_eq!(cron.at_or_after(dt("2026-01-01T00:00")), None, "{never}");
        assert_eq!(cron.at_or_before(dt("2026-01-01T00:00")), None, "{never}");
        assert_eq!(cron.at_or_after(DateTime::MIN), None, "{never}");
        assert_eq!(cron.at_or_before(DateTime::MAX), None, "{never}");
    }
}

#[test]
fn a_hashed_slot_stays_in_its_range_and_depends_on_the_seed_alone() {
    let times = |seed: &str, text: &str| -> BTreeSet<(i8, i8)> {
        let cron = CronExpression::parse(text, seed).unwrap();
        let mut from = dt("2026-01-01T00:00");
        let mut times = BTreeSet::new();
        while let Some(at) = cron.at_or_after(from).filter(|at| at.day() == 1 && at.month() == 1) {
            times.insert((at.hour(), at.minute()));
            from = at.checked_add(jiff::SignedDuration::from_secs(1)).unwrap();
        }
        times
    };
    assert_eq!(times("a", "H H * * *"), times("a", "H H * * *"));
    let seeds: Vec<String> = (0..50).map(|seed| seed.to_string()).collect();
    let spread: BTreeSet<_> = seeds.iter().map(|seed| times(seed, "H H * * *")).collect();
    assert!(spread.len() > 40, "{} of 50 seeds differ", spread.len());
    for seed in &seeds {
        let one = times(seed, "H(10-19) H(3-4) * * *");
        assert!(
            one.len() == 1 && one.iter().all(|(h, m)| (3..=4).contains(h) && (10..=19).contains(m))
        );
        let paced: Vec<_> = times(seed, "H/15 5 * * *").into_iter().map(|(_, m)| m).collect();
        assert_eq!(paced.len(), 4, "{paced:?}");
        assert!(paced[0] < 15 && paced.windows(2).all(|pair| pair[1] - pair[0] == 15), "{paced:?}");
        // A hashed day exists in every month.
        assert_eq!(CronExpression::parse("0 0 H * *", seed).unwrap().days.numbers >> 29, 0);
    }
}

#[test]
fn the_class_of_a_rule_is_decided_by_a_leading_star_in_minute_or_hour() {
    for (text, elapsed) in [
        ("30 2 * * *", false),
        ("0,30 1 * * *", false),
        ("0-59/15 2 * * *", false),
        ("* 30 2 * * *", false),
        ("H H * * *", false),
        ("*/15 * * * *", true),
        ("0 * * * *", true),
        ("* 2 * * *", true),
        ("0 */2 * * *", true),
        ("0 H/2 * * *", true),
    ] {
        assert_eq!(parse(text).follows_elapsed_time(), elapsed, "{text}");
    }
}

#[test]
fn expressions_are_described_in_words() {
    for (text, words) in [
        ("30 2 * * *", "every day at 02:30"),
        ("15 30 2 * * *", "every day at 02:30:15"),
        ("0 2,14 * * 1-5", "at 02:00 and 14:00 on Monday to Friday"),
        ("* * * * *", "every minute"),
        ("* * * * * *", "every second"),
        ("*/15 * * * *", "every 15 minutes"),
        ("*/7 * * * *", "at the minutes 0, 7, 14, 21, 28, 35, 42, 49 and 56 of every hour"),
        ("0 * * * *", "at minute 0 of every hour"),
        ("30 * * * * *", "at second 30 of every minute"),
        ("0 */2 * * *", "at minute 0 of every 2nd hour"),
        ("*/5 9-17 * * mon-fri", "every 5 minutes of the hours 9-17 on Monday to Friday"),
        ("0 0 1,15 * *", "at 00:00 on the days 1 and 15 of the month"),
        ("0 0 1 * 5", "at 00:00 on day 1 of the month and on Friday"),
        ("0 0 */10 * 1", "at 00:00 on the days 1, 11, 21 and 31 of the month if it is Monday"),
        ("0 0 L * *", "at 00:00 on the last day of the month"),
        (
            "0 0 15W,LW * *",
            "at 00:00 on the working day nearest to the 15th and the last working day of the month",
        ),
        ("0 0 * * 5#3", "at 00:00 on the 3rd Friday of the month"),
        ("0 0 * * 5L", "at 00:00 on the last Friday of the month"),
        (
            "0 0 * JAN,MAR-MAY sat,sun",
            "at 00:00 on Saturday and Sunday in January and March to May",
        ),
        ("0 0 12 1 1 ? 2027-2030", "at 12:00 on day 1 of the month in January in 2027-2030"),
    ] {
        assert_eq!(parse(text).describe(), words, "{text}");
    }
}

/// A field as a set of numbers, and the text that lists them.
fn field(low: u32, high: u32) -> impl Strategy<Value = (BTreeSet<u32>, String)> {
    prop_oneof![
        2 => Just(((low..=high).collect::<BTreeSet<u32>>(), "*".to_owned())),
        3 => proptest::collection::btree_set(low..=high, 1..4).prop_map(|set| {
            let list: Vec<String> = set.iter().map(u32::to_string).collect();
            (set, list.join(","))
        }),
        1 => (low..=high, low..=high).prop_map(|(a, b)| {
            let (a, b) = (a.min(b), a.max(b));
            ((a..=b).collect(), format!("{a}-{b}"))
        }),
        1 => (1..=(high - low + 1)).prop_map(move |step| {
            ((low..=high).step_by(step as usize).collect(), format!("*/{step}"))
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_text_is_read_or_refused_with_bytes_that_exist(text in "\\PC*") {
        if let Err(error) = CronExpression::parse(&text, "seed") {
            prop_assert!(text.get(error.offset..error.offset + error.len).is_some());
        }
    }

    #[test]
    fn any_text_of_the_right_letters_is_read_or_refused(text in "[0-9*/,LWH#@?()A-C \\-]{0,30}") {
        match CronExpression::parse(&text, "seed") {
            Err(error) => prop_assert!(text.get(error.offset..error.offset + error.len).is_some()),
            Ok(cron) => {
                let again = CronExpression::parse(&cron.to_string(), "seed").unwrap();
                prop_assert_eq!(&again, &cron, "printing and reading again changes nothing");
                let _described = cron.describe();
                let start = dt("2026-01-01T00:00");
                prop_assert!(cron.at_or_after(start).is_none_or(|at| at >= start));
                prop_assert!(cron.at_or_before(start).is_none_or(|at| at <= start));
            }
        }
    }

    #[test]
    fn the_search_finds_what_walking_every_minute_finds(
        (minutes, minute) in field(0, 59),
        (hours, hour) in field(0, 23),
        (days, day) in field(1, 31),
        (months, month) in field(1, 12),
        (weekdays, weekday) in field(0, 6),
        start in 0_i64..60 * 60 * 24 * 365 * 8,
    ) {
        let cron = parse(&format!("{minute} {hour} {day} {month} {weekday}"));
        let both = day.starts_with('*') || weekday.starts_with('*');
        let matches = |at: DateTime| {
            let part = |value: i8| u32::from(value.unsigned_abs());
            let by_day = days.contains(&part(at.day()));
            let by_weekday = weekdays.contains(&part(at.date().weekday().to_sunday_zero_offset()));
            let day = if both { by_day && by_weekday } else { by_day || by_weekday };
            day && minutes.contains(&part(at.minute()))
                && hours.contains(&part(at.hour()))
                && months.contains(&part(at.month()))
        };
        let start = dt("2024-01-01T00:00").checked_add(jiff::SignedDuration::from_mins(start / 60)).unwrap();
        let minutes_on = |count: i64| start.checked_add(jiff::SignedDuration::from_mins(count)).unwrap();
        // Ten days of minutes: what lies further away must at least match and lie beyond them.
        let horizon = 60 * 24 * 10;
        let walked = (0..horizon).map(minutes_on).find(|at| matches(*at));
        let found = cron.at_or_after(start);
        match walked {
            Some(_) => prop_assert_eq!(found, walked),
            None => prop_assert!(found.is_none_or(|at| at >= minutes_on(horizon) && matches(at))),
        }
        let walked = (0..horizon).map(|count| minutes_on(-count)).find(|at| matches(*at));
        let found = cron.at_or_before(start);
        match walked {
            Some(_) => prop_assert_eq!(found, walked),
            None => prop_assert!(found.is_none_or(|at| at <= minutes_on(-horizon) && matches(at))),
        }
    }
}
