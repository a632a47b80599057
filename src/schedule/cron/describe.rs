//! An expression in words.

use super::CronExpression;
use super::days::Days;
use super::years::Years;
use crate::schedule::words::{joined, ordinal};

/// More times of day than this are described by their fields instead of listed.
const MAX_LISTED_TIMES: u32 = 6;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A phrase like "at 02:30 on Monday to Friday in January".
pub(super) fn describe(cron: &CronExpression) -> String {
    let days = days(&cron.days);
    let mut phrase = match listed_times(cron) {
        Some(times) if days.is_none() => format!("every day at {times}"),
        Some(times) => format!("at {times}"),
        None => times_by_field(cron),
    };
    if let Some(days) = days {
        phrase += &format!(" on {days}");
    }
    if cron.months & ALL_MONTHS != ALL_MONTHS {
        let names = named(cron.months >> 1, &MONTHS);
        phrase += &format!(" in {}", joined(&names, "and"));
    }
    if let Some(years) = &cron.years {
        phrase += &format!(" in {}", joined(&year_ranges(years), "and"));
    }
    phrase
}

const ALL_MONTHS: u16 = 0b1_1111_1111_1110;

fn listed_times(cron: &CronExpression) -> Option<String> {
    let count = cron.hours.count_ones() * cron.minutes.count_ones();
    if cron.seconds.count_ones() != 1 || count > MAX_LISTED_TIMES {
        return None;
    }
    let second = cron.seconds.trailing_zeros();
    let mut times = Vec::new();
    for hour in members(cron.hours.into()) {
        for minute in members(cron.minutes) {
            times.push(match second {
                0 => format!("{hour:02}:{minute:02}"),
                _ => format!("{hour:02}:{minute:02}:{second:02}"),
            });
        }
    }
    Some(joined(&times, "and"))
}

fn times_by_field(cron: &CronExpression) -> String {
    let fields = [
        ("second", cron.seconds, 59),
        ("minute", cron.minutes, 59),
        ("hour", cron.hours.into(), 23),
    ];
    // The seconds of a five-field expression go without saying.
    let said = if cron.seconds == 1 { &fields[1..] } else { &fields[..] };
    let mut phrase = String::new();
    let mut inner_repeats = false;
    for &(unit, set, last) in said {
        let (part, repeats) = field(unit, set, last, phrase.is_empty());
        let adds_nothing = inner_repeats && part == format!("every {unit}");
        if !adds_nothing {
            match (phrase.is_empty(), repeats) {
                (true, true) => {}
                (true, false) => phrase += "at ",
                (false, _) => phrase += " of ",
            }
            phrase += &part;
        }
        inner_repeats = repeats;
    }
    phrase
}

/// One time field in words, and whether it repeats evenly through the whole field.
fn field(unit: &str, set: u64, last: u32, leads: bool) -> (String, bool) {
    let count = set.count_ones();
    if count == last + 1 {
        return (format!("every {unit}"), true);
    }
    match even_step(set, last) {
        Some(step) if leads => (format!("every {step} {unit}s"), true),
        Some(step) => (format!("every {} {unit}", ordinal(step)), true),
        None if count == 1 => (format!("{unit} {}", set.trailing_zeros()), false),
        None => (format!("the {unit}s {}", joined(&ranges(set), "and")), false),
    }
}

/// The step of a set that starts at 0 and goes on evenly around the clock.
fn even_step(set: u64, last: u32) -> Option<u32> {
    let mut values = members(set);
    let (first, second) = (values.next()?, values.next()?);
    let step = second - first;
    let even = (0..=last).step_by(step as usize).fold(0, |all, value| all | 1 << value);
    (first == 0 && set == even && (last + 1).is_multiple_of(step)).then_some(step)
}

fn days(days: &Days) -> Option<String> {
    let by_number = by_number(days);
    let by_weekday = by_weekday(days);
    match (by_number, by_weekday) {
        (None, None) => None,
        (Some(numbers), None) if days.any_weekday => Some(numbers),
        (None, Some(weekdays)) if days.any_day => Some(weekdays),
        (Some(numbers), Some(weekdays)) if days.any_day || days.any_weekday => {
            Some(format!("{numbers} if it is {weekdays}"))
        }
        (Some(numbers), Some(weekdays)) => Some(format!("{numbers} and on {weekdays}")),
        // One field lists every day without a star: either field suffices, so every day counts.
        _ => None,
    }
}

fn by_number(days: &Days) -> Option<String> {
    const ALL: u32 = !1;
    if days.numbers == ALL {
        return None;
    }
    let mut parts = Vec::new();
    match days.numbers.count_ones() {
        0 => {}
        1 => parts.push(format!("day {}", days.numbers.trailing_zeros())),
        _ => parts.push(format!("the days {}", joined(&ranges(days.numbers.into()), "and"))),
    }
    for day in members(days.near.into()) {
        parts.push(format!("the working day nearest to the {}", ordinal(day)));
    }
    if days.last_working_day {
        parts.push("the last working day".to_owned());
    }
    for back in members(days.from_last.into()) {
        parts.push(match back {
            0 => "the last day".to_owned(),
            1 => "the day before the last day".to_owned(),
            _ => format!("the day {back} days before the last day"),
        });
    }
    Some(format!("{} of the month", joined(&parts, "and")))
}

fn by_weekday(days: &Days) -> Option<String> {
    const ALL: u8 = 0b111_1111;
    if days.weekdays == ALL {
        return None;
    }
    let mut parts = Vec::new();
    // Monday comes first for people, and Sunday ends a range that reaches it.
    let from_monday = u16::from(days.weekdays >> 1) | u16::from(days.weekdays & 1) << 6;
    let names: Vec<&str> = WEEKDAYS.iter().copied().cycle().skip(1).take(7).collect();
    parts.extend(named(from_monday, &names));
    for (week, weekdays) in (1..).zip(days.nth) {
        for day in members(weekdays.into()) {
            parts.push(format!("the {} {} of the month", ordinal(week), WEEKDAYS[day as usize]));
        }
    }
    for day in members(days.last.into()) {
        parts.push(format!("the last {} of the month", WEEKDAYS[day as usize]));
    }
    Some(joined(&parts, "and"))
}

fn members(set: u64) -> impl Iterator<Item = u32> {
    (0..64).filter(move |value| set & (1 << value) != 0)
}

/// Runs of three and more as `first-last`.
fn ranges(set: u64) -> Vec<String> {
    runs(members(set))
        .into_iter()
        .flat_map(|run| spelled(run, |value| value.to_string(), "-"))
        .collect()
}

fn named(set: u16, names: &[&str]) -> Vec<String> {
    let name = |index: u32| names[index as usize].to_owned();
    runs(members(set.into())).into_iter().flat_map(|run| spelled(run, name, " to ")).collect()
}

fn year_ranges(years: &Years) -> Vec<String> {
    let years = runs(years.iter().map(u32::from));
    years.into_iter().flat_map(|run| spelled(run, |year| year.to_string(), "-")).collect()
}

fn spelled((first, last): (u32, u32), name: impl Fn(u32) -> String, to: &str) -> Vec<String> {
    match last - first {
        0 => vec![name(first)],
        1 => vec![name(first), name(last)],
        _ => vec![format!("{}{to}{}", name(first), name(last))],
    }
}

fn runs(values: impl Iterator<Item = u32>) -> Vec<(u32, u32)> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for value in values {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == value => *last = value,
            _ => runs.push((value, value)),
        }
    }
    runs
}
