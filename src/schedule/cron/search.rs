//! The next and the previous local time that an expression names, in a world without clock changes.

use jiff::civil::{Date, DateTime, Time};

use super::CronExpression;
use super::bits::{at_or_above, at_or_below};
use crate::schedule::local::LocalTimes;

/// How many years are searched. The calendar repeats itself after 400 years, weekdays included: what does not
/// happen within them never does.
const CALENDAR_PERIOD_YEARS: i16 = 400;

impl LocalTimes for CronExpression {
    fn at_or_after(&self, from: DateTime) -> Option<DateTime> {
        let date = self.date_at_or_after(from.date())?;
        if date > from.date() {
            return Some(date.to_datetime(self.first_time()?));
        }
        if let Some(time) = self.time_at_or_after(from.time()) {
            return Some(date.to_datetime(time));
        }
        let date = self.date_at_or_after(date.tomorrow().ok()?)?;
        Some(date.to_datetime(self.first_time()?))
    }

    fn at_or_before(&self, from: DateTime) -> Option<DateTime> {
        let date = self.date_at_or_before(from.date())?;
        if date < from.date() {
            return Some(date.to_datetime(self.last_time()?));
        }
        if let Some(time) = self.time_at_or_before(from.time()) {
            return Some(date.to_datetime(time));
        }
        let date = self.date_at_or_before(date.yesterday().ok()?)?;
        Some(date.to_datetime(self.last_time()?))
    }
}

impl CronExpression {
    fn date_at_or_after(&self, from: Date) -> Option<Date> {
        let mut year = self.year_at_or_after(from.year())?;
        let last_year = year.saturating_add(CALENDAR_PERIOD_YEARS);
        let (mut month, mut day) =
            if year == from.year() { (from.month(), from.day()) } else { (1, 1) };
        while year <= last_year {
            while let Some(found) = at_or_above(u64::from(self.months), month.unsigned_abs().into())
            {
                let found = i8::try_from(found).ok()?;
                if found > month {
                    (month, day) = (found, 1);
                }
                let days = u64::from(self.days.of_month(year, month));
                if let Some(day) = at_or_above(days, day.unsigned_abs().into()) {
                    return Date::new(year, month, i8::try_from(day).ok()?).ok();
                }
                (month, day) = (month + 1, 1);
            }
            year = self.year_at_or_after(year.checked_add(1)?)?;
            (month, day) = (1, 1);
        }
        None
    }

    fn date_at_or_before(&self, from: Date) -> Option<Date> {
        let mut year = self.year_at_or_before(from.year())?;
        let first_year = year.saturating_sub(CALENDAR_PERIOD_YEARS);
        let (mut month, mut day) =
            if year == from.year() { (from.month(), from.day()) } else { (12, 31) };
        while year >= first_year {
            while let Some(found) = at_or_below(u64::from(self.months), month.unsigned_abs().into())
            {
                let found = i8::try_from(found).ok()?;
                if found < month {
                    (month, day) = (found, 31);
                }
                let days = u64::from(self.days.of_month(year, month));
                if let Some(day) = at_or_below(days, day.unsigned_abs().into()) {
                    return Date::new(year, month, i8::try_from(day).ok()?).ok();
                }
                (month, day) = (month - 1, 31);
            }
            year = self.year_at_or_before(year.checked_sub(1)?)?;
            (month, day) = (12, 31);
        }
        None
    }

    fn year_at_or_after(&self, year: i16) -> Option<i16> {
        self.years.as_ref().map_or(Some(year), |years| years.at_or_after(year))
    }

    fn year_at_or_before(&self, year: i16) -> Option<i16> {
        self.years.as_ref().map_or(Some(year), |years| years.at_or_before(year))
    }

    fn first_time(&self) -> Option<Time> {
        self.time_at_or_after(Time::midnight())
    }

    fn last_time(&self) -> Option<Time> {
        self.time_at_or_before(Time::constant(23, 59, 59, 0))
    }

    fn time_at_or_after(&self, from: Time) -> Option<Time> {
        let (from_hour, from_minute, from_second) = parts(from);
        let hour = at_or_above(self.hours.into(), from_hour)?;
        if hour > from_hour {
            return time(hour, first(self.minutes)?, first(self.seconds)?);
        }
        if let Some(minute) = at_or_above(self.minutes, from_minute) {
            if minute > from_minute {
                return time(hour, minute, first(self.seconds)?);
            }
            if let Some(second) = at_or_above(self.seconds, from_second) {
                return time(hour, minute, second);
            }
            if let Some(minute) = at_or_above(self.minutes, from_minute + 1) {
                return time(hour, minute, first(self.seconds)?);
            }
        }
        let hour = at_or_above(self.hours.into(), from_hour + 1)?;
        time(hour, first(self.minutes)?, first(self.seconds)?)
    }

    fn time_at_or_before(&self, from: Time) -> Option<Time> {
        let (from_hour, from_minute, from_second) = parts(from);
        let hour = at_or_below(self.hours.into(), from_hour)?;
        if hour < from_hour {
            return time(hour, last(self.minutes)?, last(self.seconds)?);
        }
        if let Some(minute) = at_or_below(self.minutes, from_minute) {
            if minute < from_minute {
                return time(hour, minute, last(self.seconds)?);
            }
            if let Some(second) = at_or_below(self.seconds, from_second) {
                return time(hour, minute, second);
            }
            let before = from_minute.checked_sub(1);
            if let Some(minute) = before.and_then(|minute| at_or_below(self.minutes, minute)) {
                return time(hour, minute, last(self.seconds)?);
            }
        }
        let hour = at_or_below(self.hours.into(), from_hour.checked_sub(1)?)?;
        time(hour, last(self.minutes)?, last(self.seconds)?)
    }
}

fn parts(time: Time) -> (u32, u32, u32) {
    let part = |value: i8| u32::from(value.unsigned_abs());
    (part(time.hour()), part(time.minute()), part(time.second()))
}

fn time(hour: u32, minute: u32, second: u32) -> Option<Time> {
    let part = |value: u32| i8::try_from(value).ok();
    Time::new(part(hour)?, part(minute)?, part(second)?, 0).ok()
}

fn first(set: u64) -> Option<u32> {
    at_or_above(set, 0)
}

fn last(set: u64) -> Option<u32> {
    at_or_below(set, 63)
}
