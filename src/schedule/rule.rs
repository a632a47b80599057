//! When a schedule is due: one zone, and the union of its triggers.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};

use super::{CronExpression, DstPolicy, Weekdays};

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

/// One reason to be due.
#[derive(Debug, Clone, PartialEq)]
pub enum Trigger {
    /// Every so often, at whole multiples of the period since the Unix epoch in elapsed time: it never drifts.
    Every {
        /// The time from one instant to the next; at least a microsecond, shorter ones are taken as that.
        period: Duration,
    },
    /// A period after the end of the last run.
    EveryFromEnd {
        /// The time from the end of one run to the start of the next.
        period: Duration,
    },
    /// At fixed local times.
    Daily {
        /// The local times, in any order.
        times: Vec<civil::Time>,
        /// The days on which they count.
        weekdays: Weekdays,
    },
    /// As a cron expression says.
    Cron(CronExpression),
    /// Once.
    At(Timestamp),
}

impl Rule {
    /// The first instant strictly after `after`, if there is one.
    ///
    /// `last_end` is when the last run ended; only [`Trigger::EveryFromEnd`] looks at it.
    #[must_use]
    pub fn next_after(&self, _after: Timestamp, _last_end: Option<Timestamp>) -> Option<Timestamp> {
        None
    }

    /// The last instant strictly before `before`, if there is one. [`Trigger::EveryFromEnd`] has none: what it would
    /// have done in the past depends on runs that did not happen.
    #[must_use]
    pub fn previous_before(&self, _before: Timestamp) -> Option<Timestamp> {
        None
    }

    /// One English sentence.
    #[must_use]
    pub fn describe(&self) -> String {
        String::new()
    }

    /// Whether the rule names no instant after `now` although it looks as if it did, as 31 February does.
    /// A one-off instant that has passed is not meant: having fired is not the same as never firing.
    #[must_use]
    pub fn never_fires_after(&self, now: Timestamp) -> bool {
        !self.triggers.iter().any(|trigger| matches!(trigger, Trigger::At(_)))
            && self.next_after(now, None).is_none()
    }

    /// What the clock changes between the two instants do to this rule, one sentence each.
    #[must_use]
    pub fn dst_warnings(&self, _from: Timestamp, _until: Timestamp) -> Vec<String> {
        Vec::new()
    }
}
