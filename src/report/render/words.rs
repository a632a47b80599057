//! Numbers as people read them.

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// What stands where there is no number.
pub(super) const NONE: &str = "–";

/// With a comma after each three digits: `12,345`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1,234 jobs`, `1 job`.
pub(super) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// With one decimal, rounded down: 99.99 % is not all of it.
#[expect(clippy::cast_possible_truncation, reason = "a share times a thousand fits")]
pub(super) fn percent(share: Option<f64>) -> String {
    let Some(share) = share else { return NONE.to_owned() };
    // The nudge keeps shares such as 0.29, which no binary fraction equals, from falling a step too low.
    let thousandths = (share * 1000.0 + 1e-9).floor() as i64;
    match thousandths {
        1000 => "100 %".to_owned(),
        _ => format!("{}.{} %", thousandths / 10, thousandths % 10),
    }
}

/// In the two largest units that matter: `850 µs`, `12 ms`, `1.2 s`, `3 min 20 s`, `2 h 5 min`, `4 d 6 h`.
pub(super) fn length(micros: u64) -> String {
    let seconds = micros / 1_000_000;
    let pair = |large: u64, large_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large} {large_unit}"),
        _ => format!("{large} {large_unit} {small} {small_unit}"),
    };
    match micros {
        0..1000 => format!("{micros} µs"),
        1000..10_000 => format!("{}.{} ms", micros / 1000, micros / 100 % 10),
        10_000..1_000_000 => format!("{} ms", micros / 1000),
        1_000_000..60_000_000 => format!("{}.{} s", seconds, micros / 100_000 % 10),
        60_000_000..3_600_000_000 => pair(seconds / 60, "min", seconds % 60, "s"),
        3_600_000_000..86_400_000_000 => pair(seconds / 3600, "h", seconds / 60 % 60, "min"),
        _ => pair(seconds / 86_400, "d", seconds / 3600 % 24, "h"),
    }
}

/// The same, or a dash.
pub(super) fn length_or_none(micros: Option<u64>) -> String {
    micros.map_or_else(|| NONE.to_owned(), length)
}

/// Whole days by name, anything else with times, always in the report's zone.
pub(super) fn period(from: Timestamp, to: Timestamp, zone: &TimeZone) -> String {
    let local = |instant: Timestamp| instant.to_zoned(zone.clone());
    let (from, to) = (local(from), local(to));
    if !(is_midnight(&from) && is_midnight(&to)) || from == to {
        return format!("{} to {}", moment(&from), moment(&to));
    }
    // The last day is the one before the end, which does not belong to the period any more.
    let last = to.date().yesterday().unwrap_or_else(|_first_day| to.date());
    let first = from.date();
    let is_whole_month = first == first.first_of_month() && last == first.last_of_month();
    if is_whole_month {
        first.strftime("%B %Y").to_string()
    } else if first == last {
        first.strftime("%A, %-d %B %Y").to_string()
    } else {
        format!("{} to {}", first.strftime("%a, %-d %B %Y"), last.strftime("%a, %-d %B %Y"))
    }
}

fn is_midnight(at: &Zoned) -> bool {
    at.start_of_day().is_ok_and(|midnight| midnight == *at)
}

fn moment(at: &Zoned) -> String {
    at.strftime("%a, %-d %B %Y, %H:%M").to_string()
}

/// A moment of a list, to the second.
pub(super) fn instant(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%-d %b, %H:%M:%S").to_string()
}

/// Text with everything a reader could not see or would be deceived by made visible: control characters, and marks that
/// change the direction of what follows them (CVE-2021-42574).
pub(super) fn visible(text: &str) -> String {
    let is_deceptive = |letter: char| matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let show = |letter: char| match letter {
        '\n' | '\t' => letter,
        _ if letter.is_control() || is_deceptive(letter) => '\u{fffd}',
        _ => letter,
    };
    text.chars().map(show).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_a_comma_after_three_digits() {
        let shown: Vec<String> =
            [0, 12, 999, 1000, 12_345, 1_234_567].into_iter().map(count).collect();
        assert_eq!(shown, ["0", "12", "999", "1,000", "12,345", "1,234,567"]);
    }

    #[test]
    fn almost_all_is_never_shown_as_all() {
        for (share, shown) in
            [(1.0, "100 %"), (0.99999, "99.9 %"), (0.29, "29.0 %"), (0.0, "0.0 %")]
        {
            assert_eq!(percent(Some(share)), shown);
        }
        assert_eq!(percent(None), NONE);
    }

    #[test]
    fn lengths_are_shown_in_units_people_think_in() {
        for (micros, shown) in [
            (0, "0 µs"),
            (999, "999 µs"),
            (1234, "1.2 ms"),
            (12_345, "12 ms"),
            (59_999_999, "59.9 s"),
            (60_000_000, "1 min"),
            (200_000_000, "3 min 20 s"),
            (7_500_000_000, "2 h 5 min"),
            (370_000_000_000, "4 d 6 h"),
        ] {
            assert_eq!(length(micros), shown);
        }
    }

    #[test]
    fn a_period_of_whole_days_is_named_by_them() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let at = |text: &str| {
            let local: jiff::civil::DateTime = text.parse().unwrap();
            local.to_zoned(zone.clone()).unwrap().timestamp()
        };
        for (from, to, shown) in [
            ("2026-11-21T00:00", "2026-11-22T00:00", "Saturday, 21 November 2026"),
            (
                "2026-11-16T00:00",
                "2026-11-23T00:00",
                "Mon, 16 November 2026 to Sun, 22 November 2026",
            ),
            ("2026-10-01T00:00", "2026-11-01T00:00", "October 2026"),
            (
                "2026-11-21T06:30",
                "2026-11-22T06:30",
                "Sat, 21 November 2026, 06:30 to Sun, 22 November 2026, 06:30",
            ),
        ] {
            assert_eq!(period(at(from), at(to), &zone), shown);
        }
    }

    #[test]
    fn what_would_deceive_a_reader_is_made_visible() {
        assert_eq!(visible("a\u{202e}b\u{7}c\nd\u{2067}é"), "a\u{fffd}b\u{fffd}c\nd\u{fffd}é");
    }
}
