//! When a schedule is due: one zone, and the union of its triggers.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::trigger::later;
use super::{DstPolicy, Trigger};
use crate::model::{OnEnd, ScheduleId};

/// When a schedule is due: the union of its triggers, read in one time zone.
///
/// Every instant that is shown or fired anywhere in the program comes from here.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// The zone in which local times are read.
    pub zone: TimeZone,
    /// What makes it due; an instant that two triggers share is one instant.
    pub triggers: Vec<Trigger>,
    /// What fixed times do when the clocks change.
    pub dst: DstPolicy,
}

impl Rule {
    /// The first instant strictly after `after`, if there is one.
    ///
    /// `last_end` is when the last run ended; only [`Trigger::EveryFromEnd`] looks at it. Where its period after
    /// that end is not in the future of `after` (or nothing ran yet), it counts from `after` instead.
    #[must_use]
    pub fn next_after(&self, after: Timestamp, last_end: Option<Timestamp>) -> Option<Timestamp> {
        let from_end = self.next_from_end(after, last_end);
        self.next_on_calendar(after).into_iter().chain(from_end).min()
    }

    /// As [`next_after`](Self::next_after), of the triggers that do not depend on runs.
    #[must_use]
    pub fn next_on_calendar(&self, after: Timestamp) -> Option<Timestamp> {
        self.triggers
            .iter()
            .filter_map(|trigger| trigger.next_after(&self.zone, self.dst, after))
            .min()
    }

    /// As [`next_after`](Self::next_after), of the triggers that count from the end of a run.
    #[must_use]
    pub fn next_from_end(
        &self,
        after: Timestamp,
        last_end: Option<Timestamp>,
    ) -> Option<Timestamp> {
        let period = self.period_from_end()?;
        let from_end = last_end.and_then(|end| later(end, period));
        from_end.filter(|next| *next > after).or_else(|| later(after, period))
    }

    /// Whether every trigger follows elapsed time: intervals and wildcard rules do, fixed times do not.
    #[must_use]
    pub fn follows_elapsed_time(&self) -> bool {
        self.triggers.iter().all(|trigger| match trigger {
            Trigger::Every { .. } | Trigger::EveryFromEnd { .. } | Trigger::After { .. } => true,
            Trigger::Cron(cron) => cron.follows_elapsed_time(),
            Trigger::Daily { .. } | Trigger::At(_) => false,
        })
    }

    /// The shortest period that counts from the end of a run, which decides alone where there are several.
    #[must_use]
    pub fn period_from_end(&self) -> Option<Duration> {
        let period = |trigger: &Trigger| match trigger {
            Trigger::EveryFromEnd { period } => Some(*period),
            _ => None,
        };
        self.triggers.iter().filter_map(period).min()
    }

    /// Whom it follows, and on which ends of their jobs.
    pub fn follows(&self) -> impl Iterator<Item = (&ScheduleId, OnEnd)> {
        self.triggers.iter().filter_map(|trigger| match trigger {
            Trigger::After { schedule, on } => Some((schedule, *on)),
            _ => None,
        })
    }

    /// The last instant strictly before `before`, if there is one. [`Trigger::EveryFromEnd`] has none: what it would
    /// have done in the past depends on runs that did not happen.
    #[must_use]
    pub fn previous_before(&self, before: Timestamp) -> Option<Timestamp> {
        let previous = |trigger: &Trigger| trigger.previous_before(&self.zone, self.dst, before);
        self.triggers.iter().filter_map(previous).max()
    }

    /// Whether the rule names no instant after `now` although it looks as if it did, as 31 February does.
    /// A one-off instant that has passed is not meant: having fired is not the same as never firing. Neither is a
    /// rule without triggers, which says that it waits to be asked, or one that waits for another schedule.
    #[must_use]
    pub fn never_fires_after(&self, now: Timestamp) -> bool {
        let repeats =
            |trigger: &Trigger| !matches!(trigger, Trigger::At(_) | Trigger::After { .. });
        !self.triggers.is_empty()
            && self.triggers.iter().all(repeats)
            && self.next_after(now, None).is_none()
    }
}
