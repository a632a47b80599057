//! Why an instant makes no job whatever the catch-up policy says: pauses, limits and blackouts.

use jiff::Timestamp;

use crate::model::Pause;
use crate::schedule::{Blackout, When};

/// Something that rules out an instant. Each is one stretch of time, so two instants that the same exclusion rules out have
/// nothing but ruled-out instants between them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Exclusion<'a> {
    /// Somebody paused the schedule.
    Paused(&'a Pause),
    /// It lies before `not_before`.
    TooEarly(Timestamp),
    /// It lies after `not_after`.
    TooLate(Timestamp),
    /// It lies in a blackout.
    Blackout(Blackout),
}

impl<'a> Exclusion<'a> {
    /// What rules out the instant that is nominally at `nominal` and fires at `fire_at`, as seen at `now`.
    ///
    /// Limits and blackouts speak of nominal instants, a pause of what would start: while one is in force nothing
    /// starts, whenever it was due, and one that has ended covers what would have fired in it.
    #[must_use]
    pub fn of(
        when: &When,
        pause: Option<&'a Pause>,
        nominal: Timestamp,
        fire_at: Timestamp,
        now: Timestamp,
    ) -> Option<Self> {
        let holds = |pause: &&Pause| {
            pause.is_active(now) || (pause.since <= fire_at && pause.is_active(fire_at))
        };
        let early = || when.not_before.filter(|limit| nominal < *limit).map(Self::TooEarly);
        let late = || when.not_after.filter(|limit| nominal > *limit).map(Self::TooLate);
        let blackout = || when.blackout.iter().find(|range| range.contains(nominal));
        early()
            .or_else(late)
            .or_else(|| blackout().copied().map(Self::Blackout))
            .or_else(|| pause.filter(holds).map(Self::Paused))
    }

    /// Why, in words for people.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Paused(pause) => {
                let until = pause.until.map_or_else(String::new, |until| format!(" until {until}"));
                let why = if pause.reason.is_empty() {
                    String::new()
                } else {
                    format!(": {}", pause.reason)
                };
                format!("paused by {} since {}{until}{why}", pause.by, pause.since)
            }
            Self::TooEarly(limit) => format!("before not_before = {limit}"),
            Self::TooLate(limit) => format!("after not_after = {limit}"),
            Self::Blackout(range) => {
                format!("in the blackout from {} until {}", range.from, range.until)
            }
        }
    }
}
