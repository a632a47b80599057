//! Every end of a job is noted for those that follow such ends, once, and everything that is noted becomes an instant.

use std::collections::{BTreeMap, BTreeSet};

use super::super::evidence::Evidence;
use super::super::history::{Change, History, micros};
use super::Wrong;

/// How long an end that was not announced may go unnoticed.
const UNNOTICED: std::time::Duration = std::time::Duration::from_secs(20);

#[derive(Default)]
struct Replay<'a> {
    /// The schedule of each job that has one and was no dry run.
    schedule_of: BTreeMap<i64, &'a str>,
    /// Who follows a schedule, and on which ends.
    followers: BTreeSet<(&'a str, &'a str, &'a str)>,
    /// Noted and not decided about: follower and time, with whom it followed.
    open: BTreeMap<(&'a str, i64), &'a str>,
    /// What has to be noted in the same transaction: what is rolled back is not recorded, so what was forgotten never comes.
    expected: BTreeSet<(&'a str, i64)>,
    /// Forgotten by a decision, so that there must be one.
    decided: BTreeSet<(&'a str, i64)>,
}

pub(super) fn check(history: &History, evidence: &Evidence, wrong: &mut Wrong) {
    let is_real = |settings: &Option<String>| {
        !settings.as_ref().is_some_and(|text| text.contains("\"dry_run\":true"))
    };
    let real = history.jobs.iter().filter(|job| is_real(&job.settings));
    let mut replay = Replay {
        schedule_of: real.filter_map(|job| Some((job.id, job.schedule.as_deref()?))).collect(),
        ..Replay::default()
    };
    let mut is_settled = false;
    for change in &history.record {
        if let Some(settled) = &evidence.settled
            && change.seq > settled.seq
            && !std::mem::replace(&mut is_settled, true)
        {
            replay.is_nothing_left(evidence, wrong);
        }
        replay.take(change, wrong);
    }
    replay.is_noted(wrong);
    let rows: BTreeSet<(&str, i64)> =
        history.occurrences.iter().map(|row| (row.schedule.as_str(), row.nominal_at)).collect();
    for (follower, at) in replay.decided.difference(&rows) {
        wrong.say(format!("{follower}: the end at {} vanished without a row", micros(*at)));
    }
}

impl<'a> Replay<'a> {
    fn take(&mut self, change: &'a Change, wrong: &mut Wrong) {
        if matches!(change.what.as_str(), "follows+" | "follows-") {
            self.is_noted(wrong);
        }
        let relation = || {
            let (follower, on) = change.u.as_deref()?.split_once('/')?;
            Some((change.text(), follower, on))
        };
        match change.what.as_str() {
            "follows+" => self.followers.extend(relation()),
            "follows-" => {
                relation().map(|relation| self.followers.remove(&relation));
            }
            "over+" => self.ended(change),
            "end+" => {
                let end = (change.text(), change.number());
                wrong.unless(self.expected.remove(&end), || {
                    format!("{} has to follow an end that it does not follow", end.0)
                });
                self.open.insert(end, change.u.as_deref().unwrap_or_default());
            }
            "end-" => {
                let end = (change.text(), change.number());
                let followed = self.open.remove(&end).unwrap_or_default();
                let still_follows = self
                    .followers
                    .iter()
                    .any(|(of, follower, _)| (*of, *follower) == (followed, end.0));
                if still_follows {
                    self.decided.insert(end);
                }
            }
            _ => {}
        }
    }

    fn ended(&mut self, change: &'a Change) {
        let Some(schedule) = self.schedule_of.get(&change.job()) else { return };
        let at = change.b.expect("an end has a time");
        let also = match change.text() {
            "completed" => "success",
            "failed" => "failure",
            _ => "finished",
        };
        let meant = self
            .followers
            .iter()
            .filter(|(of, _, on)| of == schedule && (*on == also || *on == "finished"))
            .map(|(_, follower, _)| (*follower, at));
        // Two ends in one microsecond are one instant.
        let new: Vec<_> = meant.filter(|end| !self.open.contains_key(end)).collect();
        self.expected.extend(new);
    }

    fn is_noted(&mut self, wrong: &mut Wrong) {
        for (follower, at) in std::mem::take(&mut self.expected) {
            wrong.say(format!("the end at {} was not noted for {follower}", micros(at)));
        }
    }

    /// When everything that was due had been decided, only what waits for its delay is open.
    fn is_nothing_left(&self, evidence: &Evidence, wrong: &mut Wrong) {
        let Some(settled) = &evidence.settled else { return };
        for (follower, at) in self.open.keys() {
            let schedule =
                settled.in_force.iter().find(|schedule| schedule.id.as_str() == *follower);
            let Some(schedule) = schedule.filter(|schedule| schedule.enabled) else { continue };
            let slowest = schedule.when.jitter + schedule.when.offset + UNNOTICED;
            let due_by = micros(*at) + jiff::SignedDuration::try_from(slowest).expect("minutes");
            wrong.unless(due_by > settled.at, || {
                format!("{follower}: nobody has decided about the end at {}", micros(*at))
            });
        }
    }
}
