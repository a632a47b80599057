//! Why instants were not run, grouped so that a thousand of them are a few lines. Pure.

use std::collections::HashMap;

use super::facts::OccurrenceFact;
use super::numbers::{NotRun, NotRunGroup};
use crate::model::Decision;

/// How many groups are kept while counting, which bounds the memory.
const KEPT: usize = 2000;
/// How many groups are listed.
const LISTED: usize = 100;

/// Counts instants by decision, schedule and reason.
#[derive(Debug, Default)]
pub(super) struct Reasons {
    groups: HashMap<(Decision, String, String), NotRunGroup>,
    overflow: u64,
}

impl Reasons {
    pub(super) fn add(&mut self, occurrence: &OccurrenceFact) {
        let key =
            (occurrence.decision, occurrence.schedule.clone(), mask_numbers(&occurrence.reason));
        if self.groups.len() >= KEPT && !self.groups.contains_key(&key) {
            self.overflow += occurrence.instants;
            return;
        }
        let group = self.groups.entry(key).or_insert_with(|| NotRunGroup {
            decision: occurrence.decision,
            schedule: occurrence.schedule.clone(),
            reason: occurrence.reason.clone(),
            instants: 0,
            latest_at: occurrence.nominal_at,
        });
        group.instants += occurrence.instants;
        if occurrence.nominal_at >= group.latest_at {
            group.latest_at = occurrence.nominal_at;
            group.reason.clone_from(&occurrence.reason);
        }
    }

    pub(super) fn finish(self) -> NotRun {
        let mut groups: Vec<NotRunGroup> = self.groups.into_values().collect();
        groups.sort_unstable_by(|a, b| {
            let by_size = b.instants.cmp(&a.instants);
            by_size.then_with(|| (&a.schedule, &a.reason).cmp(&(&b.schedule, &b.reason)))
        });
        let rest = groups.split_off(LISTED.min(groups.len()));
        let in_rest: u64 = rest.iter().map(|group| group.instants).sum();
        NotRun { groups, not_listed: self.overflow + in_rest }
    }
}

/// "job 17 still runs" and "job 18 still runs" are the same reason.
fn mask_numbers(reason: &str) -> String {
    let mut masked = String::with_capacity(reason.len());
    for letter in reason.chars() {
        if !letter.is_ascii_digit() {
            masked.push(letter);
        } else if !masked.ends_with('#') {
            masked.push('#');
        }
    }
    masked
}

#[cfg(test)]
mod tests {
    use jiff::{Timestamp, ToSpan};

    use super::*;

    fn skipped(schedule: &str, minute: i64, reason: String) -> OccurrenceFact {
        let start: Timestamp = "2026-11-21T00:00:00Z".parse().unwrap();
        OccurrenceFact {
            schedule: schedule.to_owned(),
            nominal_at: start + minute.minutes(),
            decision: Decision::SkippedOverlap,
            reason,
            instants: 1,
        }
    }

    #[test]
    fn reasons_that_differ_only_in_numbers_are_one_line_in_the_words_of_the_latest() {
        let mut reasons = Reasons::default();
        for minute in [3, 9, 5] {
            reasons.add(&skipped("sync", minute, format!("job {} still runs", 10 + minute)));
        }
        reasons.add(&skipped("sync", 1, "job 4 still waits".to_owned()));
        let not_run = reasons.finish();
        let lines: Vec<(u64, &str)> =
            not_run.groups.iter().map(|group| (group.instants, group.reason.as_str())).collect();
        assert_eq!(lines, [(3, "job 19 still runs"), (1, "job 4 still waits")]);
        assert_eq!(not_run.not_listed, 0);
    }

    #[test]
    fn ever_new_reasons_are_counted_and_not_kept() {
        let mut reasons = Reasons::default();
        for serial in 0..5000_u32 {
            // Letters, which are not masked: the worst a writer of reasons could do.
            let word: String =
                serial.to_string().bytes().map(|digit| char::from(digit - b'0' + b'a')).collect();
            reasons.add(&skipped("sync", 0, word));
        }
        assert_eq!(reasons.groups.len(), KEPT);
        let not_run = reasons.finish();
        assert_eq!(not_run.groups.len(), LISTED);
        assert_eq!(not_run.not_listed, 5000 - LISTED as u64);
    }
}
