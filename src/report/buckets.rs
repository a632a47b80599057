//! The bars of the throughput chart: hours, days or months of the report's zone. Pure.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

use super::numbers::{Bucket, BucketSize, Ended, Throughput};
use super::{PeriodError, Window};
use crate::model::FinalState;

/// Windows up to this long are shown by the hour: two days, one of them with 25 hours.
const HOURLY_UP_TO_HOURS: i64 = 49;
/// Windows up to this long are shown by the day: a quarter.
const DAILY_UP_TO_HOURS: i64 = 93 * 24;

/// Empty buckets that cover the window without gaps. The first and the last may reach beyond it.
///
/// # Errors
/// When the window is at an end of the calendar.
pub(super) fn empty(window: Window, zone: &TimeZone) -> Result<Throughput, PeriodError> {
    let hours = window.length().as_hours();
    let bucket = if hours <= HOURLY_UP_TO_HOURS {
        BucketSize::Hour
    } else if hours <= DAILY_UP_TO_HOURS {
        BucketSize::Day
    } else {
        BucketSize::Month
    };
    let mut buckets = Vec::new();
    let mut start = begin(bucket, &window.from.to_zoned(zone.clone()))?;
    while start.timestamp() < window.to {
        buckets.push(Bucket { from: start.timestamp(), jobs: Ended::default() });
        start = next(bucket, &start)?;
    }
    Ok(Throughput { bucket, buckets })
}

fn begin(bucket: BucketSize, at: &Zoned) -> Result<Zoned, jiff::Error> {
    match bucket {
        BucketSize::Hour => {
            // Going back in elapsed time stays within the hour when the clocks show that hour twice.
            let into_hour = i64::from(at.minute()) * 60 + i64::from(at.second());
            let whole_second = Timestamp::from_second(at.timestamp().as_second())?;
            Ok(whole_second.checked_sub(into_hour.seconds())?.to_zoned(at.time_zone().clone()))
        }
        BucketSize::Day => at.start_of_day(),
        BucketSize::Month => at.first_of_month()?.start_of_day(),
    }
}

fn next(bucket: BucketSize, start: &Zoned) -> Result<Zoned, jiff::Error> {
    match bucket {
        BucketSize::Hour => start.checked_add(1.hour()),
        // From noon, so that a day that begins at 01:00 does not pass that on to the next one.
        BucketSize::Day => {
            start.date().tomorrow()?.to_zoned(start.time_zone().clone())?.start_of_day()
        }
        BucketSize::Month => {
            let first = start.date().first_of_month().checked_add(1.month())?;
            first.to_zoned(start.time_zone().clone())?.start_of_day()
        }
    }
}

impl Throughput {
    /// Counts a job in the bucket it ended in. An instant before the first bucket is not counted.
    pub(super) fn count(&mut self, state: FinalState, at: Timestamp) {
        let after = self.buckets.partition_point(|bucket| bucket.from <= at);
        if let Some(bucket) = after.checked_sub(1).and_then(|index| self.buckets.get_mut(index)) {
            bucket.jobs.count(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn throughput(from: &str, to: &str, zone: &str) -> Throughput {
        let zone = TimeZone::get(zone).unwrap();
        let at = |text: &str| {
            let local: jiff::civil::DateTime = text.parse().unwrap();
            local.to_zoned(zone.clone()).unwrap().timestamp()
        };
        empty(Window::new(at(from), at(to)).unwrap(), &zone).unwrap()
    }

    #[test]
    fn a_day_of_a_clock_change_has_as_many_bars_as_hours() {
        for (from, to, bars) in [
            ("2026-03-29T00:00", "2026-03-30T00:00", 23),
            ("2026-10-25T00:00", "2026-10-26T00:00", 25),
            ("2026-11-21T06:30", "2026-11-22T06:30", 25),
        ] {
            let hours = throughput(from, to, "Europe/Berlin");
            assert_eq!(hours.bucket, BucketSize::Hour);
            assert_eq!(hours.buckets.len(), bars, "{from}");
        }
    }

    #[test]
    fn longer_windows_have_longer_bars() {
        let week = throughput("2026-03-23T00:00", "2026-03-30T00:00", "Europe/Berlin");
        assert_eq!((week.bucket, week.buckets.len()), (BucketSize::Day, 7));
        let year = throughput("2026-01-01T00:00", "2027-01-01T00:00", "Europe/Berlin");
        assert_eq!((year.bucket, year.buckets.len()), (BucketSize::Month, 12));
    }

    #[test]
    fn days_begin_at_midnight_again_after_one_that_did_not() {
        let days = throughput("2026-04-23T00:00", "2026-04-27T00:00", "Africa/Cairo");
        let zone = TimeZone::get("Africa/Cairo").unwrap();
        let hours: Vec<i8> =
            days.buckets.iter().map(|bucket| bucket.from.to_zoned(zone.clone()).hour()).collect();
        assert_eq!(hours, [0, 1, 0, 0]);
    }

    proptest! {
        #[test]
        fn every_instant_of_a_window_has_exactly_one_bucket(
            from in 631_152_000_i64..2_114_380_800,
            length in 1_i64..(400 * 86_400),
            share in 0.0_f64..1.0,
            zone in proptest::sample::select(vec!["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu"]),
        ) {
            let window = Window::new(
                Timestamp::from_second(from).unwrap(),
                Timestamp::from_second(from + length).unwrap(),
            ).unwrap();
            let mut throughput = empty(window, &TimeZone::get(zone).unwrap()).unwrap();
            prop_assert!(throughput.buckets.windows(2).all(|pair| pair[0].from < pair[1].from));
            prop_assert!(throughput.buckets[0].from <= window.from);
            let inside = Timestamp::from_second(from + (length as f64 * share) as i64).unwrap();
            throughput.count(FinalState::Completed, inside);
            let counted: u64 = throughput.buckets.iter().map(|bucket| bucket.jobs.completed).sum();
            prop_assert_eq!(counted, 1);
        }
    }
}
