//! Goes through the record of changes once more: who was claimed, in which order, within which limits, and next to whom.

use std::collections::{BTreeMap, BTreeSet};

use sexton::schedule::Overlap;

use super::super::files::Files;
use super::super::history::{Change, History};
use super::super::trace::Trace;
use super::super::world::{NARROW_SLOTS, SLOTS};
use super::Wrong;

/// How many jobs wait for a worker at the most.
const MOST_AHEAD: u16 = 512;

#[derive(Default)]
struct Replay<'a> {
    queue_of: BTreeMap<i64, &'a str>,
    /// Rank and id: the order in which jobs are to be claimed.
    ready: BTreeMap<&'a str, BTreeSet<(i64, i64)>>,
    rank_of: BTreeMap<i64, i64>,
    running: BTreeMap<i64, i64>,
    executions: BTreeMap<i64, i64>,
    paused: BTreeSet<&'a str>,
    live: BTreeMap<&'a str, BTreeSet<i64>>,
    ever_live: BTreeSet<i64>,
    depends: BTreeMap<i64, Vec<(i64, &'a str)>>,
    /// Every state that a job has ended in so far.
    over: BTreeMap<i64, Vec<&'a str>>,
    /// Claimed since the last change that was no part of a claim.
    batch: Vec<i64>,
    /// How often a job was claimed for which there was no worker, and how often one was put back.
    ahead: u32,
    put_back: u32,
}

pub(super) fn check(history: &History, files: &Files, trace: &Trace, wrong: &mut Wrong) {
    let mut replay = Replay {
        queue_of: history.jobs.iter().map(|job| (job.id, job.queue.as_str())).collect(),
        ..Replay::default()
    };
    let policies = policies(history, files);
    for change in &history.record {
        if !matches!(change.what.as_str(), "ready-" | "running+") {
            replay.end_batch(wrong);
        }
        replay.take(change, &policies, wrong);
    }
    replay.end_batch(wrong);
    let Replay { ahead, put_back, .. } = replay;
    trace.line(format_args!("{ahead} jobs were claimed ahead, {put_back} were put back"));
}

/// What each schedule's job was to do about those that were live.
fn policies(history: &History, files: &Files) -> BTreeMap<i64, Overlap> {
    history
        .occurrences
        .iter()
        .filter_map(|row| {
            let version = files.versions.get(&(row.schedule.clone(), row.revision.clone()))?;
            Some((row.job_id?, version.run.overlap))
        })
        .collect()
}

impl<'a> Replay<'a> {
    fn take(&mut self, change: &'a Change, policies: &BTreeMap<i64, Overlap>, wrong: &mut Wrong) {
        match change.what.as_str() {
            "ready+" => {
                self.came_back(change, wrong);
                self.ready
                    .entry(change.text())
                    .or_default()
                    .insert((change.number(), change.job()));
                self.rank_of.insert(change.job(), change.number());
            }
            "ready-" => {
                self.ready
                    .entry(change.text())
                    .or_default()
                    .remove(&(change.number(), change.job()));
            }
            "running+" => self.claimed(change, wrong),
            "running-" => {
                self.running.remove(&change.job());
            }
            "depends" => {
                let needs = (change.number(), change.text());
                self.depends.entry(change.job()).or_default().push(needs);
            }
            "over+" => self.over.entry(change.job()).or_default().push(change.text()),
            "paused" => {
                self.paused.insert(change.text());
            }
            "resumed" => {
                self.paused.remove(change.text());
            }
            "live+" => self.joined(change, policies, wrong),
            "live-" => {
                self.live.entry(change.text()).or_default().remove(&change.job());
            }
            _ => {}
        }
    }

    /// A job that enters its queue again has been executed as often as it was claimed, or once less: what was claimed ahead and has not
    /// begun is put back as if it had never been claimed.
    fn came_back(&mut self, change: &Change, wrong: &mut Wrong) {
        let (job, begun) = (change.job(), change.b.unwrap_or(-1));
        let claimed = self.executions.get(&job).copied().unwrap_or(0);
        wrong.unless(begun == claimed || begun + 1 == claimed, || {
            format!("job {job} was claimed as attempt {claimed} and is ready after {begun}")
        });
        self.put_back += u32::from(begun + 1 == claimed);
        self.executions.insert(job, begun);
    }

    fn claimed(&mut self, change: &'a Change, wrong: &mut Wrong) {
        let (job, number, node) = (change.job(), change.number(), change.b.unwrap_or(-1));
        let queue = self.queue_of.get(&job).copied().unwrap_or_default();
        let before = self.executions.insert(job, number).unwrap_or(0);
        wrong.unless(number == before + 1, || {
            format!("job {job}: attempt {number} follows attempt {before}")
        });
        wrong.unless(self.running.insert(job, node).is_none(), || {
            format!("job {job} was claimed twice")
        });
        wrong.unless(!self.paused.contains(queue), || {
            format!("job {job} was claimed from {queue}, which is paused")
        });
        let of_node = self.running.iter().filter(|(_, owner)| **owner == node);
        let (all, narrow) = of_node.fold((0, 0), |(all, narrow), (job, _)| {
            (all + 1, narrow + u16::from(self.queue_of.get(job) == Some(&"narrow")))
        });
        self.ahead += u32::from(all > SLOTS);
        // Those of queues without workers of their own may wait for a worker of the node.
        wrong.unless(all <= SLOTS + MOST_AHEAD && narrow <= NARROW_SLOTS, || {
            format!("job {job} of {queue} was claimed as number {all} on its node, {narrow} of them narrow")
        });
        // Whoever brings a job back does not wait again.
        let is_back = self.over.contains_key(&job);
        for (on, needs) in self.depends.get(&job).into_iter().flatten().filter(|_| !is_back) {
            let ends = self.over.get(on).map_or(&[][..], Vec::as_slice);
            let is_met = match *needs {
                "success" => ends.contains(&"completed"),
                _ => !ends.is_empty(),
            };
            wrong.unless(is_met, || {
                format!("job {job} needs {needs} of job {on}, was claimed, and {on} is {ends:?}")
            });
        }
        self.batch.push(job);
    }

    /// Everything that was claimed goes before everything that was left, in its queue and in every other queue that had room.
    fn end_batch(&mut self, wrong: &mut Wrong) {
        for job in std::mem::take(&mut self.batch) {
            let key = (self.rank_of.get(&job).copied().unwrap_or(i64::MIN), job);
            let own = self.queue_of.get(&job).copied().unwrap_or_default();
            for (queue, waiting) in &self.ready {
                let has_room = *queue != "narrow" && !self.paused.contains(queue);
                let Some(first) = waiting.first().filter(|_| *queue == own || has_room) else {
                    continue;
                };
                wrong.unless(key < *first, || {
                    format!("job {job} of {own} was claimed before job {} of {queue}, whose turn it was", first.1)
                });
            }
        }
    }

    fn joined(&mut self, change: &'a Change, policies: &BTreeMap<i64, Overlap>, wrong: &mut Wrong) {
        let (job, schedule) = (change.job(), change.text());
        let live = self.live.entry(schedule).or_default();
        // One that comes back joins whoever is there; that was somebody's wish.
        if self.ever_live.insert(job) {
            let others = live.len();
            let most = match policies.get(&job) {
                Some(Overlap::Skip) => 0,
                Some(Overlap::QueueOne) => 1,
                _ => usize::MAX,
            };
            wrong.unless(others <= most, || {
                format!(
                    "job {job} of {schedule} ({:?}) joined live jobs {live:?}",
                    policies.get(&job)
                )
            });
        }
        live.insert(job);
    }
}
