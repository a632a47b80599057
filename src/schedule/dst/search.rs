//! From local times to instants, through the changes of a zone's clocks.
//!
//! Taking the first (or the last) of the instants that a repeated time has, and the end of the gap for one that is
//! skipped, maps local times to instants *in order*. So a search needs to look only at local times from a known
//! one on, and the first that maps to the far side of the bound is the answer. What happens at both instants of
//! a repeated time is the union of the two maps.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::change::{Meaning, meaning, second};
use super::{DstPolicy, Gap, Repeat};
use crate::schedule::local::LocalTimes;

/// How many skipped or repeated stretches one search passes over: two a year for longer than the calendar's period.
const MAX_CHANGES: usize = 1024;

/// Two changes of a zone never lie closer together than this, so equal offsets at both ends of a shorter stretch
/// mean that it holds no change.
const CHANGES_LIE_APART_SECONDS: i64 = 24 * 3600;

/// Which instant of a repeated local time is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    First,
    Last,
}

/// Which instants a local time stands for.
#[derive(Clone, Copy)]
pub(in crate::schedule) enum Reading {
    /// Every instant at which the clocks show it.
    Elapsed,
    /// As a policy says.
    Fixed(DstPolicy),
}

impl Reading {
    fn gap(self) -> Gap {
        match self {
            Self::Elapsed => Gap::Skip,
            Self::Fixed(policy) => policy.gap,
        }
    }

    fn pass(self) -> Option<Pass> {
        match self {
            Self::Elapsed | Self::Fixed(DstPolicy { repeat: Repeat::Both, .. }) => None,
            Self::Fixed(DstPolicy { repeat: Repeat::First, .. }) => Some(Pass::First),
            Self::Fixed(DstPolicy { repeat: Repeat::Last, .. }) => Some(Pass::Last),
        }
    }
}

/// The first instant strictly after `after`.
pub(in crate::schedule) fn next_after(
    times: &impl LocalTimes,
    zone: &TimeZone,
    reading: Reading,
    after: Timestamp,
) -> Option<Timestamp> {
    let after = second(floor_second(after))?;
    if let Some(pass) = reading.pass() {
        return next_on_pass(times, zone, reading.gap(), pass, after);
    }
    if let Some(near) = next_without_change(times, zone, after) {
        return Some(near);
    }
    let first = next_on_pass(times, zone, reading.gap(), Pass::First, after);
    let last = next_on_pass(times, zone, reading.gap(), Pass::Last, after);
    first.into_iter().chain(last).min()
}

/// The last instant strictly before `before`.
pub(in crate::schedule) fn previous_before(
    times: &impl LocalTimes,
    zone: &TimeZone,
    reading: Reading,
    before: Timestamp,
) -> Option<Timestamp> {
    let before = second(ceil_second(before))?;
    if let Some(pass) = reading.pass() {
        return previous_on_pass(times, zone, reading.gap(), pass, before);
    }
    if let Some(near) = previous_without_change(times, zone, before) {
        return Some(near);
    }
    let first = previous_on_pass(times, zone, reading.gap(), Pass::First, before);
    let last = previous_on_pass(times, zone, reading.gap(), Pass::Last, before);
    first.into_iter().chain(last).max()
}

/// The answer where it is near and no change lies in between, which is nearly always for rules that keep a pace.
fn next_without_change(
    times: &impl LocalTimes,
    zone: &TimeZone,
    after: Timestamp,
) -> Option<Timestamp> {
    let offset = zone.to_offset(after);
    let start = offset.to_datetime(second(after.as_second() + 1)?);
    let found = offset.to_timestamp(times.at_or_after(start)?).ok()?;
    let near = found.as_second() - after.as_second() < CHANGES_LIE_APART_SECONDS;
    (near && zone.to_offset(found) == offset).then_some(found)
}

fn previous_without_change(
    times: &impl LocalTimes,
    zone: &TimeZone,
    before: Timestamp,
) -> Option<Timestamp> {
    let offset = zone.to_offset(before);
    let start = offset.to_datetime(second(before.as_second() - 1)?);
    let found = offset.to_timestamp(times.at_or_before(start)?).ok()?;
    let near = before.as_second() - found.as_second() < CHANGES_LIE_APART_SECONDS;
    (near && zone.to_offset(found) == offset).then_some(found)
}

fn next_on_pass(
    times: &impl LocalTimes,
    zone: &TimeZone,
    gap: Gap,
    pass: Pass,
    after: Timestamp,
) -> Option<Timestamp> {
    let offset = zone.to_offset(after);
    let mut start = offset.to_datetime(second(after.as_second() + 1)?);
    if pass == Pass::Last
        && let Some(Meaning::Twice { first, change, .. }) = meaning(zone, offset.to_datetime(after))
        && first == after
    {
        // During the first pass the whole repeated stretch is still to come.
        start = change.clock_after();
    }
    for _change in 0..MAX_CHANGES {
        let local = times.at_or_after(start)?;
        let (found, resume) = match meaning(zone, local)? {
            Meaning::Once(at) => (Some(at), None),
            Meaning::Skipped(change) => {
                ((gap == Gap::Run).then_some(change.at), Some(change.clock_after()))
            }
            Meaning::Twice { first, last, change } => {
                (Some(if pass == Pass::First { first } else { last }), Some(change.clock_before()))
            }
        };
        if let Some(found) = found.filter(|found| *found > after) {
            return Some(found);
        }
        start = resume?;
    }
    None
}

fn previous_on_pass(
    times: &impl LocalTimes,
    zone: &TimeZone,
    gap: Gap,
    pass: Pass,
    before: Timestamp,
) -> Option<Timestamp> {
    let offset = zone.to_offset(before);
    let mut start = offset.to_datetime(second(before.as_second() - 1)?);
    if pass == Pass::First
        && let Some(Meaning::Twice { last, change, .. }) = meaning(zone, offset.to_datetime(before))
        && last == before
    {
        // During the second pass the whole repeated stretch has been gone through.
        start = change.clock_just_before()?;
    }
    for _change in 0..MAX_CHANGES {
        let local = times.at_or_before(start)?;
        let (found, resume) = match meaning(zone, local)? {
            Meaning::Once(at) => (Some(at), None),
            Meaning::Skipped(change) => {
                ((gap == Gap::Run).then_some(change.at), change.clock_just_before())
            }
            Meaning::Twice { first, last, change } => (
                Some(if pass == Pass::First { first } else { last }),
                change.clock_just_before_after(),
            ),
        };
        if let Some(found) = found.filter(|found| *found < before) {
            return Some(found);
        }
        start = resume?;
    }
    None
}

/// The calendar is read in whole seconds; an instant between two of them comes after the earlier one.
fn floor_second(at: Timestamp) -> i64 {
    at.as_second() - i64::from(at.subsec_nanosecond() < 0)
}

fn ceil_second(at: Timestamp) -> i64 {
    at.as_second() + i64::from(at.subsec_nanosecond() > 0)
}
