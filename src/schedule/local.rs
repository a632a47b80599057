//! Local times as a rule names them, before a zone says which instants they are.

use jiff::civil::{DateTime, Time};

use super::Weekdays;

/// A set of local times in whole seconds, searched in both directions.
///
/// Both bounds are inclusive and carry whole seconds.
pub(super) trait LocalTimes {
    fn at_or_after(&self, from: DateTime) -> Option<DateTime>;
    fn at_or_before(&self, from: DateTime) -> Option<DateTime>;
}

/// The local times of [`Trigger::Daily`](super::Trigger::Daily).
pub(super) struct Daily<'r> {
    pub(super) times: &'r [Time],
    pub(super) weekdays: Weekdays,
}

impl Daily<'_> {
    /// The times in whole seconds, which is what a calendar is read in.
    fn times(&self) -> impl Iterator<Item = Time> {
        self.times.iter().map(|time| Time::constant(time.hour(), time.minute(), time.second(), 0))
    }
}

impl LocalTimes for Daily<'_> {
    fn at_or_after(&self, from: DateTime) -> Option<DateTime> {
        let today = || self.times().filter(|time| *time >= from.time()).min();
        if self.weekdays.contains(from.date().weekday())
            && let Some(time) = today()
        {
            return Some(from.date().to_datetime(time));
        }
        let first = self.times().min()?;
        let mut date = from.date();
        for _day in 0..7 {
            date = date.tomorrow().ok()?;
            if self.weekdays.contains(date.weekday()) {
                return Some(date.to_datetime(first));
            }
        }
        None
    }

    fn at_or_before(&self, from: DateTime) -> Option<DateTime> {
        let today = || self.times().filter(|time| *time <= from.time()).max();
        if self.weekdays.contains(from.date().weekday())
            && let Some(time) = today()
        {
            return Some(from.date().to_datetime(time));
        }
        let last = self.times().max()?;
        let mut date = from.date();
        for _day in 0..7 {
            date = date.yesterday().ok()?;
            if self.weekdays.contains(date.weekday()) {
                return Some(date.to_datetime(last));
            }
        }
        None
    }
}
