//! Which stretch of time a report is about. Pure: the reference instant and the zone are arguments.

use jiff::civil::{Date, DateTime};
use jiff::{SignedDuration, Timestamp, ToSpan, Zoned};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A stretch of time in words, which becomes a [`Window`] once it is known when and where it is asked for.
///
/// Days, weeks and months are those of the calendar of a zone: a day of a clock change has 23 or 25 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Period {
    /// From midnight until the reference instant.
    Today,
    /// The whole day before the reference instant's.
    #[default]
    Yesterday,
    /// The 24 elapsed hours before the reference instant.
    Last24h,
    /// From the same time of day seven days ago until the reference instant.
    Last7d,
    /// Monday to Sunday before the reference instant's week.
    LastWeek,
    /// The whole month before the reference instant's.
    LastMonth,
    /// Between two moments that were written down.
    Between {
        /// Where it begins.
        from: Moment,
        /// Where it ends; a date includes that whole day.
        to: Moment,
    },
}

/// A moment as people write it down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// A whole day: `2026-11-01`.
    Day(Date),
    /// A time of day in the report's zone: `2026-11-01T06:00`.
    Local(DateTime),
    /// An instant: `2026-11-01T06:00:00+01:00`.
    Instant(Timestamp),
}

/// From one instant (included) to another (excluded).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first instant that belongs to it.
    pub from: Timestamp,
    /// The first instant that does not.
    pub to: Timestamp,
}

/// The longest period that is taken, in days: ten years, which keeps the number of bars in a chart readable.
const LONGEST_DAYS: i64 = 3660;

/// Why a period has no window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeriodError {
    /// The end is not after the beginning.
    #[error("the period ends at {to}, which is not after its beginning at {from}")]
    Backwards {
        /// The beginning.
        from: Timestamp,
        /// The end.
        to: Timestamp,
    },
    /// It is unreasonably long.
    #[error("the period is longer than {LONGEST_DAYS} days: write several reports")]
    TooLong,
    /// The calendar ends before it does.
    #[error("the period reaches beyond the years -9999 to 9999: {0}")]
    OutOfRange(String),
}

impl From<jiff::Error> for PeriodError {
    fn from(error: jiff::Error) -> Self {
        Self::OutOfRange(error.to_string())
    }
}

impl Window {
    /// A window between two instants.
    ///
    /// # Errors
    /// When `to` is before `from`, or the window is longer than ten years.
    pub fn new(from: Timestamp, to: Timestamp) -> Result<Self, PeriodError> {
        if to < from {
            return Err(PeriodError::Backwards { from, to });
        }
        let window = Self { from, to };
        if window.length() > SignedDuration::from_hours(24 * LONGEST_DAYS) {
            return Err(PeriodError::TooLong);
        }
        Ok(window)
    }

    /// How much time passes in it.
    #[must_use]
    pub fn length(self) -> SignedDuration {
        self.from.duration_until(self.to)
    }

    /// Whether an instant belongs to it.
    #[must_use]
    pub fn contains(self, instant: Timestamp) -> bool {
        self.from <= instant && instant < self.to
    }
}

impl Period {
    /// The names of the periods that have one.
    pub const NAMES: [(&'static str, Self); 6] = [
        ("today", Self::Today),
        ("yesterday", Self::Yesterday),
        ("last-24h", Self::Last24h),
        ("last-7d", Self::Last7d),
        ("last-week", Self::LastWeek),
        ("last-month", Self::LastMonth),
    ];

    /// Its name, `custom` where it was written down as two moments.
    #[must_use]
    pub fn name(self) -> &'static str {
        let named = Self::NAMES.into_iter().find(|(_, period)| *period == self);
        named.map_or("custom", |(name, _)| name)
    }

    /// The window it means at `reference`, in the reference's zone.
    ///
    /// # Errors
    /// When it was written down backwards or too long, or is beyond the calendar.
    pub fn window(self, reference: &Zoned) -> Result<Window, PeriodError> {
        let now = reference.timestamp();
        let today = reference.date();
        let (from, to) = match self {
            Self::Today => (midnight(reference, today)?, now),
            Self::Yesterday => {
                (midnight(reference, today.checked_sub(1.day())?)?, midnight(reference, today)?)
            }
            Self::Last24h => (now.checked_sub(24.hours())?, now),
            Self::Last7d => (reference.checked_sub(7.days())?.timestamp(), now),
            Self::LastWeek => {
                let monday = monday(today)?;
                (midnight(reference, monday.checked_sub(1.week())?)?, midnight(reference, monday)?)
            }
            Self::LastMonth => {
                let first = today.first_of_month();
                (midnight(reference, first.checked_sub(1.month())?)?, midnight(reference, first)?)
            }
            Self::Between { from, to } => {
                let (from, to) = (from.begin(reference)?, to.end(reference)?);
                if from == to {
                    return Err(PeriodError::Backwards { from, to });
                }
                (from, to)
            }
        };
        Window::new(from, to)
    }

    /// The window to compare with: the one before of the same kind. `today` is compared with yesterday until the same
    /// time of day, and two moments that were written down with as much time right before them.
    ///
    /// # Errors
    /// As [`Period::window`].
    pub fn previous(self, reference: &Zoned) -> Result<Window, PeriodError> {
        let window = self.window(reference)?;
        match self {
            Self::Today => {
                let yesterday = reference.checked_sub(1.day())?;
                let from = midnight(reference, reference.date().checked_sub(1.day())?)?;
                // In a zone that left out a whole day, "yesterday at this time" is today.
                Window::new(from, yesterday.timestamp().min(window.from))
            }
            Self::Yesterday | Self::LastWeek | Self::LastMonth => {
                // One instant before this window lies in the one before it.
                let earlier = match self {
                    Self::Yesterday => reference.checked_sub(1.day())?.date(),
                    Self::LastWeek => reference.date().checked_sub(1.week())?,
                    _ => reference.date().first_of_month().checked_sub(1.month())?,
                };
                let noon = earlier.at(12, 0, 0, 0).to_zoned(reference.time_zone().clone())?;
                self.window(&noon).map(|previous| Window { to: window.from, ..previous })
            }
            Self::Last24h | Self::Between { .. } => {
                Window::new(window.from.checked_sub(window.length())?, window.from)
            }
            Self::Last7d => Window::new(reference.checked_sub(14.days())?.timestamp(), window.from),
        }
    }
}

/// The first instant of a day. Where clocks skip midnight, that is later than 00:00.
fn midnight(reference: &Zoned, day: Date) -> Result<Timestamp, jiff::Error> {
    Ok(day.to_zoned(reference.time_zone().clone())?.start_of_day()?.timestamp())
}

fn monday(day: Date) -> Result<Date, jiff::Error> {
    day.checked_sub(i64::from(day.weekday().to_monday_zero_offset()).days())
}

impl Moment {
    fn begin(self, reference: &Zoned) -> Result<Timestamp, jiff::Error> {
        match self {
            Self::Day(day) => midnight(reference, day),
            Self::Local(local) => Ok(local.to_zoned(reference.time_zone().clone())?.timestamp()),
            Self::Instant(instant) => Ok(instant),
        }
    }

    fn end(self, reference: &Zoned) -> Result<Timestamp, jiff::Error> {
        match self {
            Self::Day(day) => midnight(reference, day.checked_add(1.day())?),
            Self::Local(_) | Self::Instant(_) => self.begin(reference),
        }
    }
}

impl std::str::FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let has_time = text.contains(['T', 't', ' ']);
        let moment = if let Ok(instant) = text.parse::<Timestamp>() {
            Some(Self::Instant(instant))
        } else if has_time {
            text.parse().ok().map(Self::Local)
        } else {
            text.parse().ok().map(Self::Day)
        };
        moment.ok_or_else(|| {
            format!(
                "`{}` is not a moment: write it like 2026-11-01, 2026-11-01T06:00 or 2026-11-01T06:00:00+01:00",
                text.chars().take(100).collect::<String>().escape_default()
            )
        })
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrMoments;

        impl<'de> Visitor<'de> for NameOrMoments {
            type Value = Period;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a period's name or a table with `from` and `to`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Period, E> {
                const NAMES: &[&str] =
                    &["today", "yesterday", "last-24h", "last-7d", "last-week", "last-month"];
                let named = Period::NAMES.into_iter().find(|(name, _)| *name == text);
                named.map(|(_, period)| period).ok_or_else(|| E::unknown_variant(text, NAMES))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Period, A::Error> {
                #[derive(Deserialize)]
                #[serde(deny_unknown_fields)]
                struct Moments {
                    from: Moment,
                    to: Moment,
                }
                let fields = de::value::MapAccessDeserializer::new(map);
                let Moments { from, to } = Moments::deserialize(fields)?;
                Ok(Period::Between { from, to })
            }
        }

        deserializer.deserialize_any(NameOrMoments)
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Zoned {
        text.parse().unwrap()
    }

    fn window(period: Period, reference: &str) -> String {
        let reference = at(reference);
        show(period.window(&reference).unwrap(), &reference)
    }

    fn previous(period: Period, reference: &str) -> String {
        let reference = at(reference);
        show(period.previous(&reference).unwrap(), &reference)
    }

    fn show(window: Window, reference: &Zoned) -> String {
        let local = |instant: Timestamp| {
            instant.to_zoned(reference.time_zone().clone()).strftime("%F %H:%M").to_string()
        };
        format!("{} .. {}", local(window.from), local(window.to))
    }

    #[test]
    fn every_name_means_the_window_it_says() {
        let sunday = "2026-11-22T06:30[Europe/Berlin]";
        for (period, this, before) in [
            (
                Period::Today,
                "2026-11-22 00:00 .. 2026-11-22 06:30",
                "2026-11-21 00:00 .. 2026-11-21 06:30",
            ),
            (
                Period::Yesterday,
                "2026-11-21 00:00 .. 2026-11-22 00:00",
                "2026-11-20 00:00 .. 2026-11-21 00:00",
            ),
            (
                Period::Last24h,
                "2026-11-21 06:30 .. 2026-11-22 06:30",
                "2026-11-20 06:30 .. 2026-11-21 06:30",
            ),
            (
                Period::Last7d,
                "2026-11-15 06:30 .. 2026-11-22 06:30",
                "2026-11-08 06:30 .. 2026-11-15 06:30",
            ),
            (
                Period::LastWeek,
                "2026-11-09 00:00 .. 2026-11-16 00:00",
                "2026-11-02 00:00 .. 2026-11-09 00:00",
            ),
            (
                Period::LastMonth,
                "2026-10-01 00:00 .. 2026-11-01 00:00",
                "2026-09-01 00:00 .. 2026-10-01 00:00",
            ),
        ] {
            assert_eq!(window(period, sunday), this, "{period:?}");
            assert_eq!(previous(period, sunday), before, "{period:?}");
        }
    }

    #[test]
    fn a_report_at_midnight_is_about_the_day_that_just_ended() {
        assert_eq!(
            window(Period::Yesterday, "2026-11-22T00:00[UTC]"),
            "2026-11-21 00:00 .. 2026-11-22 00:00"
        );
    }

    #[test]
    fn a_day_of_a_clock_change_has_23_or_25_hours() {
        for (reference, hours) in [
            ("2026-03-30T05:00[Europe/Berlin]", 23),
            ("2026-10-26T05:00[Europe/Berlin]", 25),
            ("2026-03-31T05:00[Europe/Berlin]", 24),
        ] {
            let length = Period::Yesterday.window(&at(reference)).unwrap().length();
            assert_eq!(length, SignedDuration::from_hours(hours), "{reference}");
            let elapsed = Period::Last24h.window(&at(reference)).unwrap().length();
            assert_eq!(elapsed, SignedDuration::from_hours(24), "{reference}");
        }
    }

    #[test]
    fn a_day_without_midnight_begins_when_the_clocks_jumped() {
        assert_eq!(
            window(Period::Today, "2026-04-24T12:00[Africa/Cairo]"),
            "2026-04-24 01:00 .. 2026-04-24 12:00"
        );
    }

    #[test]
    fn a_day_that_never_was_is_an_empty_window() {
        let reference = at("2011-12-31T12:00[Pacific/Apia]");
        let window = Period::Yesterday.window(&reference).unwrap();
        assert_eq!(window.from, window.to);
        assert!(Period::Today.previous(&reference).is_ok());
    }

    #[test]
    fn two_moments_are_taken_as_written_and_a_last_day_counts_in_whole() {
        let read = |json| serde_json::from_value::<Period>(json).unwrap();
        let days = read(serde_json::json!({"from": "2026-11-01", "to": "2026-11-02"}));
        let reference = "2026-12-01T00:00[Europe/Berlin]";
        assert_eq!(window(days, reference), "2026-11-01 00:00 .. 2026-11-03 00:00");
        assert_eq!(previous(days, reference), "2026-10-30 00:00 .. 2026-11-01 00:00");
        let times =
            read(serde_json::json!({"from": "2026-11-01T06:00", "to": "2026-11-01T12:00:00Z"}));
        assert_eq!(window(times, reference), "2026-11-01 06:00 .. 2026-11-01 13:00");
    }

    #[test]
    fn a_period_that_cannot_be_is_refused() {
        let read = |json| serde_json::from_value::<Period>(json);
        let reference = at("2026-12-01T00:00[UTC]");
        for (from, to) in [
            ("2026-11-02", "2026-11-01"),
            ("2026-11-01T06:00", "2026-11-01T06:00"),
            ("1990-01-01", "2026-01-01"),
        ] {
            let period = read(serde_json::json!({"from": from, "to": to})).unwrap();
            assert!(period.window(&reference).is_err(), "{from} {to}");
        }
        for bad in [
            serde_json::json!("tomorrow"),
            serde_json::json!({"from": "2026-11-01"}),
            serde_json::json!({"from": "2026-11-01", "to": "noon"}),
            serde_json::json!({"from": "2026-11-01", "to": "2026-11-02", "until": 1}),
            serde_json::json!(7),
        ] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }

    fn any_reference() -> impl Strategy<Value = Zoned> {
        // 1990 to 2037: real rules and, past the database's last entry, the zone's POSIX rule.
        let instants = 631_152_000_i64..2_114_380_800;
        let zones = proptest::sample::select(vec![
            "UTC",
            "Europe/Berlin",
            "America/New_York",
            "Australia/Lord_Howe",
            "Africa/Cairo",
            "Asia/Kathmandu",
            "America/Sao_Paulo",
            "Pacific/Apia",
        ]);
        (instants, zones).prop_map(|(second, zone)| {
            Timestamp::from_second(second).unwrap().to_zoned(TimeZone::get(zone).unwrap())
        })
    }

    proptest! {
        #[test]
        fn every_window_is_over_by_the_reference_and_follows_its_previous_one(reference in any_reference()) {
            for (name, period) in Period::NAMES {
                let window = period.window(&reference).unwrap();
                let previous = period.previous(&reference).unwrap();
                prop_assert!(window.from <= window.to, "{name}");
                prop_assert!(window.to <= reference.timestamp(), "{name}");
                prop_assert!(previous.from <= previous.to, "{name}");
                if period == Period::Today {
                    prop_assert!(previous.to <= window.from, "{name}");
                } else {
                    prop_assert_eq!(previous.to, window.from, "{}", name);
                }
            }
        }

        #[test]
        fn days_tile_the_time_line_whatever_the_clocks_do(reference in any_reference()) {
            let today = Period::Today.window(&reference).unwrap();
            let yesterday = Period::Yesterday.window(&reference).unwrap();
            prop_assert_eq!(yesterday.to, today.from);
            prop_assert!(yesterday.length() <= SignedDuration::from_hours(25));
            let eight_days_of_hours = SignedDuration::from_hours(8 * 24);
            let week = Period::LastWeek.window(&reference).unwrap();
            prop_assert!(week.length() < eight_days_of_hours);
            prop_assert!(week.to <= today.from);
        }
    }
}
