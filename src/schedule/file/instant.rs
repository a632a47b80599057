//! Times in a schedule file: TOML date-times or the same in quotes, read in the schedule's zone where they name none.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};
use toml::de::DeValue;

use super::findings::Findings;
use super::reader::Item;

/// What an author wrote.
#[derive(Debug, Clone, Copy)]
enum Written {
    Instant(Timestamp),
    Local(DateTime),
    Day(Date),
}

/// How to write a time.
const EXPECTED: &str = "a date and time like 2026-12-01T03:00:00+01:00";

/// One instant. A day alone is refused: nobody can say which time of it is meant.
pub(super) fn instant(
    item: &Item<'_, '_>,
    zone: &TimeZone,
    findings: &mut Findings<'_>,
) -> Option<Timestamp> {
    let found = match written(item, findings)? {
        Written::Instant(instant) => Some(instant),
        Written::Local(local) => start_of(local, zone),
        Written::Day(_) => {
            item.bad_value(format!("a day alone names no time; write {EXPECTED}"), findings);
            return None;
        }
    };
    report_unrepresentable(found, item, findings)
}

/// The first instant of a range; a day begins at its midnight.
pub(super) fn range_start(
    item: &Item<'_, '_>,
    zone: &TimeZone,
    findings: &mut Findings<'_>,
) -> Option<Timestamp> {
    let found = start(written(item, findings)?, zone);
    report_unrepresentable(found, item, findings)
}

/// The last instant of a range; a day ends just before the next one begins, so that the day that is named belongs to the range.
pub(super) fn range_end(
    item: &Item<'_, '_>,
    zone: &TimeZone,
    findings: &mut Findings<'_>,
) -> Option<Timestamp> {
    let found = match written(item, findings)? {
        Written::Day(day) => {
            behind(day, zone).and_then(|next| next.checked_sub(SignedDuration::from_micros(1)).ok())
        }
        other => start(other, zone),
    };
    report_unrepresentable(found, item, findings)
}

/// A range written as `from/until`. A day named as the end belongs to the range, an instant does not.
pub(super) fn range(text: &str, zone: &TimeZone) -> Option<(Timestamp, Timestamp)> {
    let (from, until) = text.split_once('/')?;
    let from = start(read(from.trim())?, zone)?;
    let until = match read(until.trim())? {
        Written::Day(day) => behind(day, zone)?,
        other => start(other, zone)?,
    };
    Some((from, until))
}

/// A local time of day: `02:30` or `02:30:15`, or TOML's own local time.
pub(super) fn time_of_day(item: &Item<'_, '_>, findings: &mut Findings<'_>) -> Option<Time> {
    let expected = "a time of day like \"02:30\"";
    if let DeValue::Datetime(written) = item.value.get_ref()
        && written.date.is_none()
        && let Some(time) = written.time
    {
        // The calendar is read in whole seconds, so a part of one would be passed over in silence.
        if time.nanosecond.is_some_and(|part| part > 0) {
            item.bad_value(format!("{time} is finer than a second"), findings);
            return None;
        }
        return civil_time(time.hour, time.minute, time.second.unwrap_or(0));
    }
    let text = item.text(expected, findings)?;
    let time = clock_time(text);
    if time.is_none() {
        let message = format!("`{}` is not {expected}", text.escape_debug());
        item.bad_value(message, findings);
    }
    time
}

/// Exactly `HH:MM` or `HH:MM:SS`: jiff's own reader takes more than anybody means here.
fn clock_time(text: &str) -> Option<Time> {
    let number = |part: &str| {
        let is_number = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        if is_number { part.parse::<u8>().ok() } else { None }
    };
    let parts: Vec<u8> = text.split(':').map(number).collect::<Option<_>>()?;
    match parts[..] {
        [hour, minute] => civil_time(hour, minute, 0),
        [hour, minute, second] => civil_time(hour, minute, second),
        _ => None,
    }
}

fn civil_time(hour: u8, minute: u8, second: u8) -> Option<Time> {
    let field = |value: u8| i8::try_from(value).ok();
    Time::new(field(hour)?, field(minute)?, field(second)?, 0).ok()
}

fn written(item: &Item<'_, '_>, findings: &mut Findings<'_>) -> Option<Written> {
    let (text, is_bare) = match item.value.get_ref() {
        DeValue::Datetime(value) => (value.to_string(), true),
        DeValue::String(text) => (text.to_string(), false),
        _ => {
            item.wrong_type(EXPECTED, findings);
            return None;
        }
    };
    let found = read(&text);
    if found.is_none() {
        let quoted = if is_bare { "without quotes " } else { "" };
        item.bad_value(format!("`{}` {quoted}is not {EXPECTED}", text.escape_debug()), findings);
    }
    found
}

fn read(text: &str) -> Option<Written> {
    // A date is tried first, exactly as long as one, because the readers of the longer forms fill in what is missing.
    if text.len() == "2026-12-01".len() {
        return text.parse().ok().map(Written::Day);
    }
    if text.contains('[') {
        let zoned = text.parse::<Zoned>().ok()?;
        return Some(Written::Instant(in_micros(zoned.timestamp())));
    }
    text.parse()
        .map(|instant| Written::Instant(in_micros(instant)))
        .or_else(|_no_offset| text.parse().map(Written::Local))
        .ok()
}

/// The store keeps microseconds, so an instant must not change when it goes there and back.
fn in_micros(instant: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(instant.as_microsecond()).unwrap_or(instant)
}

fn start(written: Written, zone: &TimeZone) -> Option<Timestamp> {
    match written {
        Written::Instant(instant) => Some(instant),
        Written::Local(local) => start_of(local, zone),
        Written::Day(day) => start_of(day.at(0, 0, 0, 0), zone),
    }
}

/// A local time that the clocks skip is the first one behind the gap, one that comes twice the first of the two.
fn start_of(local: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    zone.to_ambiguous_zoned(local).compatible().ok().map(|zoned| in_micros(zoned.timestamp()))
}

fn behind(day: Date, zone: &TimeZone) -> Option<Timestamp> {
    start_of(day.tomorrow().ok()?.at(0, 0, 0, 0), zone)
}

fn report_unrepresentable(
    found: Option<Timestamp>,
    item: &Item<'_, '_>,
    findings: &mut Findings<'_>,
) -> Option<Timestamp> {
    if found.is_none() {
        item.bad_value("is outside the years that can be computed with", findings);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_that_ends_a_range_belongs_to_it() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let (from, until) = range("2026-12-24/2026-12-27", &berlin).unwrap();
        assert_eq!(from, "2026-12-23T23:00:00Z".parse().unwrap());
        assert_eq!(until, "2026-12-27T23:00:00Z".parse().unwrap());
        let (_, until) = range("2026-12-24 / 2026-12-27T12:00", &berlin).unwrap();
        assert_eq!(until, "2026-12-27T11:00:00Z".parse().unwrap());
    }

    #[test]
    fn every_way_to_write_an_instant_gives_whole_microseconds() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let expected: Timestamp = "2026-12-01T02:00:00.123456Z".parse().unwrap();
        for text in [
            "2026-12-01T03:00:00.123456789",
            "2026-12-01T03:00:00.123456789+01:00",
            "2026-12-01T03:00:00.123456789+01:00[Europe/Berlin]",
        ] {
            assert_eq!(start(read(text).unwrap(), &berlin), Some(expected), "{text}");
        }
    }

    #[test]
    fn only_full_clock_times_are_times_of_day() {
        assert_eq!(clock_time("02:30").unwrap(), Time::constant(2, 30, 0, 0));
        assert_eq!(clock_time("23:59:59").unwrap(), Time::constant(23, 59, 59, 0));
        for bad in ["", "2:30", "24:00", "02:60", "02", "0230", "02:30:15.5", "02:30Z", "+2:30"] {
            assert!(clock_time(bad).is_none(), "{bad}");
        }
    }
}
