//! Instants that the wall clock shows for the second time, because it was set back.
//!
//! A fixed time that has run does not run again: its name is in the ledger. What follows elapsed time has to keep its pace all the same,
//! and not be silent until the clock is where it was. So its instants in the repeated stretch get names of their own, a microsecond
//! or a few beside the first ones, as the second 02:30 of an autumn night is another instant than the first.
//!
//! It is remembered in memory: after a restart within the stretch the rest of it is waited out, up to three hours of it.

use jiff::{SignedDuration, Timestamp};

use crate::model::Ledger;
use crate::schedule::Rule;

/// A stretch of instants that come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Again {
    /// The last of them.
    pub(super) until: Timestamp,
    /// How often the clock has been set back over it.
    pub(super) times: i64,
}

impl Again {
    /// The stretch up to `last`, after the clock was set back over it, and over `before` already.
    pub(super) fn over(last: Timestamp, before: Option<Self>) -> Self {
        match before {
            Some(before) => Self { until: before.until.max(last), times: before.times + 1 },
            None => Self { until: last, times: 1 },
        }
    }

    /// What an instant of the stretch is called this time.
    pub(super) fn name(self, nominal: Timestamp) -> Timestamp {
        if nominal > self.until {
            return nominal;
        }
        nominal.checked_add(SignedDuration::from_micros(self.times)).unwrap_or(nominal)
    }
}

/// What becomes of a ledger when the clock has gone back by `by` to `now`, where the schedule is to keep its pace; `None` where nothing comes
/// again, or where it is waited out.
///
/// The next instant comes at least half a period after the last one, as time really passed: a clock that is set back by a second must
/// not run a schedule twice within it.
pub(super) fn keep_pace(
    rule: &Rule,
    ledger: &Ledger,
    before: Option<Again>,
    by: SignedDuration,
    now: Timestamp,
) -> Option<(Ledger, Again)> {
    if !rule.follows_elapsed_time() {
        return None;
    }
    let last = ledger.decided_until;
    let back = |at: Timestamp| at.checked_sub(by).unwrap_or(Timestamp::MIN);
    let period =
        rule.next_after(last, None).map_or(SignedDuration::ZERO, |next| next.duration_since(last));
    let mark = back(last).checked_add(period / 2).unwrap_or(last).max(now);
    if mark >= last {
        return None;
    }
    let last_end = ledger.last_end.map(|end| if end > now { back(end) } else { end });
    let ledger = Ledger { decided_until: mark, last_end, ..ledger.clone() };
    Some((ledger, Again::over(last, before)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::tz::TimeZone;

    use super::*;
    use crate::schedule::{CronExpression, DstPolicy, Trigger};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn rule(trigger: Trigger) -> Rule {
        Rule { zone: TimeZone::UTC, triggers: vec![trigger], dst: DstPolicy::default() }
    }

    fn next(rule: &Rule, last: &str, by: SignedDuration, now: &str) -> Option<Timestamp> {
        let ledger =
            Ledger { decided_until: at(last), last_end: None, last_success: None, pause: None };
        let (ledger, again) = keep_pace(rule, &ledger, None, by, at(now))?;
        Some(again.name(rule.next_on_calendar(ledger.decided_until)?))
    }

    #[test]
    fn d5_an_interval_goes_on_at_its_pace_with_a_name_of_its_own() {
        let every = rule(Trigger::Every { period: Duration::from_secs(600) });
        let hours = SignedDuration::from_hours(3);
        // The last run was a minute ago, and the next is due in nine.
        let found = next(&every, "2026-01-01T13:00:00Z", hours, "2026-01-01T10:01:00Z");
        assert_eq!(found, Some(at("2026-01-01T10:10:00.000001Z")));
    }

    #[test]
    fn d5_a_small_step_back_does_not_run_an_interval_twice() {
        let every = rule(Trigger::Every { period: Duration::from_secs(600) });
        let step = SignedDuration::from_secs(2);
        let found = next(&every, "2026-01-01T13:00:00Z", step, "2026-01-01T12:59:59Z");
        assert_eq!(found, None, "the ledger protects the instant that ran already");
    }

    #[test]
    fn d5_a_fixed_time_is_not_run_again() {
        for text in ["30 2 * * *", "0,30 10-12 * * *"] {
            let cron = rule(Trigger::Cron(CronExpression::parse(text, "x").unwrap()));
            let hour = SignedDuration::from_hours(1);
            assert_eq!(next(&cron, "2026-01-01T12:00:00Z", hour, "2026-01-01T11:01:00Z"), None);
        }
        let star = rule(Trigger::Cron(CronExpression::parse("*/15 * * * *", "x").unwrap()));
        let hour = SignedDuration::from_hours(1);
        let found = next(&star, "2026-01-01T12:00:00Z", hour, "2026-01-01T11:01:00Z");
        assert_eq!(found, Some(at("2026-01-01T11:15:00.000001Z")));
    }

    #[test]
    fn d5_each_time_over_the_same_stretch_has_its_own_names() {
        let every = rule(Trigger::Every { period: Duration::from_secs(600) });
        let ledger = Ledger {
            decided_until: at("2026-01-01T13:00Z"),
            last_end: None,
            last_success: None,
            pause: None,
        };
        let hour = SignedDuration::from_hours(1);
        let now = at("2026-01-01T12:05Z");
        let (ledger, first) = keep_pace(&every, &ledger, None, hour, now).unwrap();
        let decided = Ledger { decided_until: at("2026-01-01T12:40Z"), ..ledger };
        let again = at("2026-01-01T12:11Z");
        let step = SignedDuration::from_mins(30);
        let (_, second) = keep_pace(&every, &decided, Some(first), step, again).unwrap();
        assert_eq!(second, Again { until: at("2026-01-01T13:00Z"), times: 2 });
    }
}
