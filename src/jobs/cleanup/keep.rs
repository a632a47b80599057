//! Which files of a group stay, with the rules of restic's `forget`.

use std::ffi::OsStr;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::params::Keep;

/// The rule that keeps a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum KeepRule {
    Newest,
    Daily,
    Weekly,
    Monthly,
    Within,
}

/// For each member of a group, given by stamp and name, the first rule that keeps it.
///
/// Rules are OR-ed. Of two members with one stamp the one whose name sorts last counts as newer, so that the answer does
/// not depend on the order of a directory. Periods are those of UTC.
pub(super) fn kept(group: &[(Timestamp, &OsStr)], keep: &Keep) -> Vec<Option<KeepRule>> {
    let mut newest_first: Vec<usize> = (0..group.len()).collect();
    newest_first.sort_unstable_by(|a, b| group[*b].cmp(&group[*a]));
    let day = |index: &usize| TimeZone::UTC.to_datetime(group[*index].0).date();
    let mut by_rule = vec![None; group.len()];
    let mut mark = |index: usize, rule: KeepRule| {
        by_rule[index].get_or_insert(rule);
    };
    for index in newest_first.iter().take(keep.newest as usize) {
        mark(*index, KeepRule::Newest);
    }
    for index in newest_of_each(&newest_first, keep.daily, day) {
        mark(index, KeepRule::Daily);
    }
    for index in newest_of_each(&newest_first, keep.weekly, |index| monday_of(day(index))) {
        mark(index, KeepRule::Weekly);
    }
    for index in newest_of_each(&newest_first, keep.monthly, |index| day(index).first_of_month()) {
        mark(index, KeepRule::Monthly);
    }
    if let (Some(within), Some(newest)) = (keep.within, newest_first.first()) {
        let oldest = group[*newest].0.checked_sub(within.get()).unwrap_or(Timestamp::MIN);
        for index in newest_first.iter().take_while(|index| group[**index].0 >= oldest) {
            mark(*index, KeepRule::Within);
        }
    }
    by_rule
}

/// The newest of each of the last `periods` periods that have any.
fn newest_of_each(
    newest_first: &[usize],
    periods: u32,
    period: impl Fn(&usize) -> Date,
) -> Vec<usize> {
    let mut newest: Vec<usize> = newest_first.to_vec();
    newest.dedup_by_key(|index| period(index));
    newest.truncate(periods as usize);
    newest
}

fn monday_of(date: Date) -> Date {
    let since_monday = date.weekday().to_monday_zero_offset();
    date.checked_sub(jiff::Span::new().days(since_monday)).unwrap_or(date)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::HumanDuration;

    fn kept_of(stamps: &[&str], keep: &Keep) -> Vec<Option<KeepRule>> {
        let group: Vec<(Timestamp, &OsStr)> = stamps
            .iter()
            .map(|stamp| (format!("{stamp}:00Z").parse().unwrap(), OsStr::new(*stamp)))
            .collect();
        kept(&group, keep)
    }

    const DAYS: [&str; 6] = [
        "2026-03-02T10:00",
        "2026-03-01T22:00",
        "2026-03-01T10:00",
        "2026-02-27T10:00",
        "2026-02-20T10:00",
        "2025-12-31T10:00",
    ];

    #[test]
    fn a_day_a_week_and_a_month_keep_their_newest() {
        use KeepRule::{Daily, Monthly, Weekly};
        let keep = Keep { daily: 2, ..Keep::default() };
        assert_eq!(kept_of(&DAYS, &keep), [Some(Daily), Some(Daily), None, None, None, None]);
        let keep = Keep { weekly: 3, ..Keep::default() };
        let found = kept_of(&DAYS, &keep);
        assert_eq!(found, [Some(Weekly), Some(Weekly), None, None, Some(Weekly), None]);
        let keep = Keep { monthly: 9, ..Keep::default() };
        let found = kept_of(&DAYS, &keep);
        assert_eq!(found, [Some(Monthly), None, None, Some(Monthly), None, Some(Monthly)]);
    }

    #[test]
    fn within_counts_from_the_newest_so_that_stopped_backups_do_not_run_out() {
        let keep = Keep { within: Some(HumanDuration::from_secs(86_400)), ..Keep::default() };
        let found = kept_of(&DAYS, &keep);
        assert_eq!(found.iter().filter(|rule| rule.is_some()).count(), 3, "{found:?}");
    }

    #[test]
    fn rules_are_or_ed_and_the_first_one_is_named() {
        let keep = Keep { newest: 1, daily: 2, monthly: 3, ..Keep::default() };
        let found = kept_of(&DAYS, &keep);
        assert_eq!(found[0], Some(KeepRule::Newest));
        assert_eq!(found[1], Some(KeepRule::Daily));
        assert_eq!(found[3], Some(KeepRule::Monthly));
        assert_eq!(found[5], Some(KeepRule::Monthly));
    }
}
