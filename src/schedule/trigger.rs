//! One reason to be due, and its instants.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};

use super::dst::{self, DstPolicy, Reading};
use super::local::Daily;
use super::{CronExpression, Weekdays};
use crate::model::{OnEnd, ScheduleId};

/// One reason to be due.
#[derive(Debug, Clone, PartialEq)]
pub enum Trigger {
    /// Every so often, at whole multiples of the period since the Unix epoch in elapsed time: it never drifts.
    Every {
        /// The time from one instant to the next, in whole microseconds; shorter ones are taken as one.
        period: Duration,
    },
    /// A period after the end of the last run.
    EveryFromEnd {
        /// The time from the end of one run to the start of the next, in whole microseconds.
        period: Duration,
    },
    /// At fixed local times.
    Daily {
        /// The local times in any order; they are read in whole seconds.
        times: Vec<civil::Time>,
        /// The days on which they count.
        weekdays: Weekdays,
    },
    /// As a cron expression says.
    Cron(CronExpression),
    /// Once, to the microsecond.
    At(Timestamp),
    /// When a job of another schedule ends.
    After {
        /// The other schedule.
        schedule: ScheduleId,
        /// Which ends.
        on: OnEnd,
    },
}

impl Trigger {
    pub(super) fn next_after(
        &self,
        zone: &TimeZone,
        policy: DstPolicy,
        after: Timestamp,
    ) -> Option<Timestamp> {
        match self {
            Self::Every { period } => {
                let period = micros(*period);
                at_micros((floor_micros(after).div_euclid(period) + 1).checked_mul(period)?)
            }
            // It depends on runs: `Rule::next_from_end`.
            Self::EveryFromEnd { .. } => None,
            // It depends on runs of another schedule, whose ends are noted where they happen.
            Self::After { .. } => None,
            Self::Daily { times, weekdays } => {
                let daily = Daily { times, weekdays: *weekdays };
                dst::next_after(&daily, zone, Reading::Fixed(policy), after)
            }
            Self::Cron(cron) => dst::next_after(cron, zone, reading(cron, policy), after),
            Self::At(at) => at_micros(floor_micros(*at)).filter(|at| *at > after),
        }
    }

    pub(super) fn previous_before(
        &self,
        zone: &TimeZone,
        policy: DstPolicy,
        before: Timestamp,
    ) -> Option<Timestamp> {
        match self {
            Self::Every { period } => {
                let period = micros(*period);
                at_micros((ceil_micros(before) - 1).div_euclid(period).checked_mul(period)?)
            }
            Self::EveryFromEnd { .. } | Self::After { .. } => None,
            Self::Daily { times, weekdays } => {
                let daily = Daily { times, weekdays: *weekdays };
                dst::previous_before(&daily, zone, Reading::Fixed(policy), before)
            }
            Self::Cron(cron) => dst::previous_before(cron, zone, reading(cron, policy), before),
            Self::At(at) => at_micros(floor_micros(*at)).filter(|at| *at < before),
        }
    }
}

fn reading(cron: &CronExpression, policy: DstPolicy) -> Reading {
    if cron.follows_elapsed_time() { Reading::Elapsed } else { Reading::Fixed(policy) }
}

/// Instants are kept in whole microseconds, as the database keeps them: what is read back equals what was decided.
fn micros(period: Duration) -> i64 {
    i64::try_from(period.as_micros()).unwrap_or(i64::MAX).max(1)
}

/// An instant a period after another.
pub(super) fn later(base: Timestamp, period: Duration) -> Option<Timestamp> {
    at_micros(floor_micros(base).checked_add(micros(period))?)
}

fn at_micros(micros: i64) -> Option<Timestamp> {
    Timestamp::from_microsecond(micros).ok()
}

fn floor_micros(at: Timestamp) -> i64 {
    at.as_microsecond() - i64::from(at.subsec_nanosecond() % 1000 < 0)
}

fn ceil_micros(at: Timestamp) -> i64 {
    at.as_microsecond() + i64::from(at.subsec_nanosecond() % 1000 > 0)
}
