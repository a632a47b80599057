//! What the next changes of the clocks do to a rule, in words.

use jiff::Timestamp;
use jiff::civil::DateTime;

use super::change::{Change, second};
use super::{Gap, Repeat};
use crate::schedule::describe::clock_time;
use crate::schedule::local::{Daily, LocalTimes};
use crate::schedule::{Rule, Trigger, zone_name};

/// How many clock changes are looked at, and how many times are named at each. A rule with more has made its point.
const MAX_CHANGES: usize = 100;
const MAX_TIMES_PER_CHANGE: usize = 3;

impl Rule {
    /// What the clock changes after `from` and until `until` do to the fixed times of this rule, one sentence each:
    /// "2026-03-29: 02:30 does not exist in Europe/Berlin; runs at 03:00 instead".
    #[must_use]
    pub fn dst_warnings(&self, from: Timestamp, until: Timestamp) -> Vec<String> {
        self.clock_changes(from, until)
            .flat_map(|change| self.triggers.iter().map(move |trigger| (change, trigger)))
            .flat_map(|(change, trigger)| match trigger {
                Trigger::Daily { times, weekdays } => {
                    self.warnings_at(change, &Daily { times, weekdays: *weekdays })
                }
                Trigger::Cron(cron) if !cron.follows_elapsed_time() => {
                    self.warnings_at(change, cron)
                }
                _ => Vec::new(),
            })
            .collect()
    }

    fn clock_changes(&self, from: Timestamp, until: Timestamp) -> impl Iterator<Item = Change> {
        self.zone
            .following(from)
            .take(MAX_CHANGES)
            .take_while(move |next| next.timestamp() <= until)
            .filter_map(|next| {
                let at = next.timestamp();
                let before = self.zone.to_offset(second(at.as_second().checked_sub(1)?)?);
                (before != next.offset()).then_some(Change { at, before, after: next.offset() })
            })
    }

    fn warnings_at(&self, change: Change, times: &impl LocalTimes) -> Vec<String> {
        let skips = change.after > change.before;
        let (start, end) = if skips {
            (change.clock_before(), change.clock_after())
        } else {
            (change.clock_after(), change.clock_before())
        };
        let affected = std::iter::successors(times.at_or_after(start), |time| {
            times.at_or_after(time.checked_add(jiff::SignedDuration::from_secs(1)).ok()?)
        });
        affected
            .take_while(|time| *time < end)
            .take(MAX_TIMES_PER_CHANGE)
            .map(
                |time| if skips { self.skipped(change, time) } else { self.repeated(change, time) },
            )
            .collect()
    }

    fn skipped(&self, change: Change, time: DateTime) -> String {
        let (date, clock) = (time.date(), clock_time(time.time()));
        let zone = zone_name(&self.zone);
        let instead = change.clock_after();
        let fate = match self.dst.gap {
            Gap::Skip => "it does not run then".to_owned(),
            Gap::Run if instead.date() == date => {
                format!("runs at {} instead", clock_time(instead.time()))
            }
            Gap::Run => {
                format!("runs on {} at {} instead", instead.date(), clock_time(instead.time()))
            }
        };
        format!("{date}: {clock} does not exist in {zone}; {fate}")
    }

    fn repeated(&self, change: Change, time: DateTime) -> String {
        let (date, clock) = (time.date(), clock_time(time.time()));
        let zone = zone_name(&self.zone);
        let (before, after) = (change.before, change.after);
        let fate = match self.dst.repeat {
            Repeat::First => format!("runs at the first only ({before})"),
            Repeat::Last => format!("runs at the second only ({after})"),
            Repeat::Both => format!("runs at both ({before} and {after})"),
        };
        format!("{date}: {clock} comes twice in {zone}; {fate}")
    }
}
