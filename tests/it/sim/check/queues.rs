//! Goes through the record of changes once more: who was claimed, in which order, within which limits, and next to whom.

use std::collections::{BTreeMap, BTreeSet};

use sexton::model::Subqueue;
use sexton::queue::names;
use sexton::schedule::Overlap;

use super::super::files::Files;
use super::super::history::{Change, History};
use super::super::life::{CAPPED, CAPPED_MAX, NARROW_SLOTS, SLOTS};
use super::super::trace::Trace;
use super::Wrong;

/// The queue that has workers of its own.
const NARROW: &str = "narrow";

/// How many jobs wait for a worker at the most.
const MOST_AHEAD: usize = 512;

#[derive(Default)]
struct Replay<'a> {
    /// Rank and id, by part of a queue: the order in which jobs are to be claimed.
    ready: BTreeMap<&'a str, BTreeSet<(i64, i64)>>,
    rank_of: BTreeMap<i64, i64>,
    running: BTreeMap<i64, Running>,
    executions: BTreeMap<i64, i64>,
    paused: BTreeSet<&'a str>,
    /// What people have set, by the name of the limit.
    limits: BTreeMap<&'a str, u32>,
    live: BTreeMap<&'a str, BTreeSet<i64>>,
    ever_live: BTreeSet<i64>,
    depends: BTreeMap<i64, Vec<(i64, &'a str)>>,
    /// Every state that a job has ended in so far.
    over: BTreeMap<i64, Vec<&'a str>>,
    /// Claimed since the last change that was no part of a claim.
    batch: Vec<(i64, Subqueue)>,
    /// How often a job was claimed for which there was no worker, and how often one was put back.
    ahead: u32,
    put_back: u32,
}

/// A job that runs, or waits for a worker.
struct Running {
    node: i64,
    part: Subqueue,
}

pub(super) fn check(history: &History, files: &Files, trace: &Trace, wrong: &mut Wrong) {
    let mut replay = Replay::default();
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
            "limit" => {
                let max = u32::try_from(change.number()).expect("nobody sets a rate");
                self.limits.insert(change.text(), max);
            }
            "unlimited" => {
                self.limits.remove(change.text());
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
        let part = part(change.text());
        let before = self.executions.insert(job, number).unwrap_or(0);
        wrong.unless(number == before + 1, || {
            format!("job {job}: attempt {number} follows attempt {before}")
        });
        wrong.unless(!self.paused.contains(part.queue.as_str()), || {
            format!("job {job} was claimed from {}, which is paused", part.queue)
        });
        let running = Running { node, part: part.clone() };
        wrong.unless(self.running.insert(job, running).is_none(), || {
            format!("job {job} was claimed twice")
        });
        self.is_within_limits(job, node, &part, wrong);
        // One that is brought back as well: it waits for what has not come to what is needed of it by then.
        for (on, needs) in self.depends.get(&job).into_iter().flatten() {
            let ends = self.over.get(on).map_or(&[][..], Vec::as_slice);
            let is_met = match *needs {
                "success" => ends.contains(&"completed"),
                _ => !ends.is_empty(),
            };
            wrong.unless(is_met, || {
                format!("job {job} needs {needs} of job {on}, was claimed, and {on} is {ends:?}")
            });
        }
        self.batch.push((job, part));
    }

    /// After a claim nothing runs beyond what is allowed, on its node and everywhere.
    fn is_within_limits(&mut self, job: i64, node: i64, part: &Subqueue, wrong: &mut Wrong) {
        let here: Vec<&Subqueue> = self
            .running
            .values()
            .filter(|running| running.node == node)
            .map(|running| &running.part)
            .collect();
        let narrow = here.iter().filter(|other| other.queue == NARROW).count();
        let (all, slots) = (here.len(), usize::from(SLOTS));
        // Those that no limit concerns may wait for a worker of the node. How many run is what handlers note.
        wrong.unless(all <= slots + MOST_AHEAD && narrow <= usize::from(NARROW_SLOTS), || {
            format!("job {job} of {part} was claimed as number {all} on its node, {narrow} of them narrow")
        });
        self.ahead += u32::from(all > slots);
        for name in names(part) {
            let Some(max) = self.max(&name, part) else { continue };
            let everywhere = self
                .running
                .values()
                .filter(|running| names(&running.part).any(|other| other == name));
            let count = everywhere.count();
            wrong.unless(count <= max as usize, || {
                format!("job {job} was claimed as number {count} under {name}, which allows {max}")
            });
        }
    }

    /// How many jobs may run under a name where a job of that part is one of them.
    fn max(&self, name: &str, part: &Subqueue) -> Option<u32> {
        let brought = part.concurrency.as_ref().filter(|_| name.starts_with("key:"));
        let declared = (name == format!("kind:{CAPPED}")).then_some(CAPPED_MAX);
        self.limits.get(name).copied().or(declared).or(brought.map(|brought| brought.max))
    }

    /// Whether nothing holds back a job of one part that did not hold back a job of the other as well.
    fn has_room(&self, waiting: &Subqueue, claimed: &Subqueue) -> bool {
        let is_held = waiting.queue == NARROW
            || self.paused.contains(waiting.queue.as_str())
            || names(waiting).any(|name| self.max(&name, waiting).is_some());
        // There may have been room for urgent ones alone.
        let is_left_out = claimed.is_high && !waiting.is_high;
        waiting == claimed || !is_held && !is_left_out
    }

    /// Everything that was claimed goes before everything that was left, in its queue and in every other queue that had room.
    fn end_batch(&mut self, wrong: &mut Wrong) {
        for (job, claimed) in std::mem::take(&mut self.batch) {
            let key = (self.rank_of.get(&job).copied().unwrap_or(i64::MIN), job);
            for (name, waiting) in &self.ready {
                let Some(first) = waiting.first() else { continue };
                if self.has_room(&part(name), &claimed) {
                    wrong.unless(key < *first, || {
                        format!("job {job} of {claimed} was claimed before job {} of {name}, whose turn it was", first.1)
                    });
                }
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

fn part(name: &str) -> Subqueue {
    let Ok(part) = name.parse::<Subqueue>();
    part
}
