//! One change of a zone's clocks, seen from a local time that it skips or repeats.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

/// What a local time is in a zone.
pub(super) enum Meaning {
    /// Exactly one instant.
    Once(Timestamp),
    /// No instant: the clocks skip it.
    Skipped(Change),
    /// Two instants: the clocks repeat it.
    Twice { first: Timestamp, last: Timestamp, change: Change },
}

/// A change of a zone's offset at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) at: Timestamp,
    pub(super) before: Offset,
    pub(super) after: Offset,
}

impl Change {
    /// What the clocks show when the change comes, read with the offset before it: where the skipped part starts,
    /// or where the repeated part ends.
    pub(super) fn clock_before(self) -> DateTime {
        self.before.to_datetime(self.at)
    }

    /// What the clocks show after the change: where the skipped part ends, or where the repeated part starts.
    pub(super) fn clock_after(self) -> DateTime {
        self.after.to_datetime(self.at)
    }

    /// One second before [`clock_before`](Self::clock_before).
    pub(super) fn clock_just_before(self) -> Option<DateTime> {
        Some(self.before.to_datetime(second(self.at.as_second().checked_sub(1)?)?))
    }

    /// One second before [`clock_after`](Self::clock_after).
    pub(super) fn clock_just_before_after(self) -> Option<DateTime> {
        Some(self.after.to_datetime(second(self.at.as_second().checked_sub(1)?)?))
    }
}

pub(super) fn second(seconds: i64) -> Option<Timestamp> {
    Timestamp::from_second(seconds).ok()
}

/// What `local` is in the zone; `None` outside the range of instants.
pub(super) fn meaning(zone: &TimeZone, local: DateTime) -> Option<Meaning> {
    Some(match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => Meaning::Once(offset.to_timestamp(local).ok()?),
        AmbiguousOffset::Gap { before, after } => {
            // Read with the offset after the change, a skipped time lies before the change.
            let from = after.to_timestamp(local).ok()?;
            Meaning::Skipped(change(zone, from, before, after)?)
        }
        AmbiguousOffset::Fold { before, after } => {
            let first = before.to_timestamp(local).ok()?;
            let last = after.to_timestamp(local).ok()?;
            Meaning::Twice { first, last, change: change(zone, first, before, after)? }
        }
    })
}

/// The first change to the offset `after` that follows an instant. Transitions that keep the offset (a zone may
/// change its abbreviation only) are passed over.
fn change(zone: &TimeZone, from: Timestamp, before: Offset, after: Offset) -> Option<Change> {
    let transition = zone.following(from).take(4).find(|next| next.offset() == after)?;
    Some(Change { at: transition.timestamp(), before, after })
}
