//! What there is room for beside what runs.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::super::{Bucket, Passage};
use super::{Limits, Running, names};
use crate::model::{NodeId, Subqueue};

/// What lets no job of a part of a queue start for now, however many workers are free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Full {
    /// As many run under that name as may.
    Limit {
        /// `queue:NAME`, `kind:NAME` or `key:KEY`.
        name: String,
        /// How many may.
        max: u32,
        /// How many do; more than may where the limit was lowered.
        running: u32,
    },
    /// As many jobs of the queue run on the node as may.
    Workers {
        /// The queue.
        queue: String,
        /// How many may.
        max: u32,
    },
    /// As many have started under that name as may until then.
    Rate {
        /// `queue:NAME`, `kind:NAME` or `key:KEY`.
        name: String,
        /// When the next one may.
        until: Timestamp,
    },
}

/// Room for jobs, used up job by job.
#[derive(Debug, Clone)]
pub struct Room<'a> {
    limits: &'a Limits,
    /// How many run under each name that a limit can have.
    running: BTreeMap<String, u32>,
    /// How many of each queue run on this node.
    running_here: BTreeMap<String, u32>,
    /// What is left of each rate.
    buckets: BTreeMap<String, Bucket>,
    /// What each breaker lets start.
    passages: BTreeMap<String, Passage>,
    slots: usize,
    normal_slots: usize,
    /// How many jobs beyond those there is room for as long as nothing but a worker is missing.
    ahead: usize,
}

impl<'a> Room<'a> {
    /// Room for `slots` jobs of a node on which nothing runs yet, of which `normal_slots` may be of a priority for which no workers are
    /// reserved.
    #[must_use]
    pub fn new(limits: &'a Limits, (slots, normal_slots): (usize, usize)) -> Self {
        Self {
            limits,
            running: BTreeMap::new(),
            running_here: BTreeMap::new(),
            buckets: BTreeMap::new(),
            passages: BTreeMap::new(),
            slots,
            normal_slots,
            ahead: 0,
        }
    }

    /// The same with room for as many jobs more that no limit, no rate and no breaker concerns. They are in order with all others: where one comes first that
    /// waits for a worker alone, and that cannot be taken ahead because a limit counts what runs, it ends this room.
    #[must_use]
    pub fn with_ahead(mut self, ahead: usize) -> Self {
        self.ahead = ahead;
        self
    }

    /// What is left of it on that node beside what runs; of no node in particular what is left on all of them together.
    #[must_use]
    pub fn beside(mut self, running: &[Running], node: Option<NodeId>) -> Self {
        for Running { subqueue, node: where_it_runs, count } in running {
            for name in names(subqueue) {
                add(&mut self.running, name, *count);
            }
            if Some(*where_it_runs) == node {
                add(&mut self.running_here, subqueue.queue.clone(), *count);
            }
        }
        self
    }

    /// The same with what is left of the rates, by name.
    #[must_use]
    pub fn with_buckets(mut self, buckets: BTreeMap<String, Bucket>) -> Self {
        self.buckets = buckets;
        self
    }

    /// The same with what each breaker lets start, by name.
    #[must_use]
    pub fn with_passages(mut self, passages: BTreeMap<String, Passage>) -> Self {
        self.passages = passages;
        self
    }

    /// How many jobs of a subqueue there is room for.
    #[must_use]
    pub fn of(&self, subqueue: &Subqueue) -> usize {
        self.within_time(subqueue).fold(self.but_for_time(subqueue), usize::min)
    }

    /// How many waiting jobs of a subqueue have to be known to tell which ones to take, where those that no limit concerns wait in `plain` subqueues.
    #[must_use]
    pub fn to_look_at(&self, subqueue: &Subqueue, plain: usize) -> usize {
        let here = self.of(subqueue);
        match self.ahead {
            0 => here,
            _ if self.limits.concern(subqueue) => {
                here + usize::from(self.but_for_workers(subqueue) > here)
            }
            // Most often they are as many in each, and seldom all in one.
            ahead => here + ahead.min((2 * ahead).div_ceil(plain.max(1))),
        }
    }

    /// From here on nothing is taken for which there is no worker.
    pub fn end_ahead(&mut self) {
        self.ahead = 0;
    }

    fn but_for_time(&self, subqueue: &Subqueue) -> usize {
        let own = if subqueue.is_high { self.slots } else { self.slots.min(self.normal_slots) };
        self.within_limits(subqueue).fold(own, usize::min)
    }

    /// How many jobs of a subqueue there would be room for with any number of workers.
    fn but_for_workers(&self, subqueue: &Subqueue) -> usize {
        let here = self.within_limits(subqueue).chain(self.within_time(subqueue));
        here.min().unwrap_or(usize::MAX)
    }

    /// What each rate and each breaker leaves room for.
    fn within_time<'s>(&'s self, subqueue: &'s Subqueue) -> impl Iterator<Item = usize> + 's {
        let left = self.rated(subqueue).map(|bucket| bucket.left() as usize);
        let passing = self.passages(subqueue).map(|(_, passage)| match passage {
            Passage::All => usize::MAX,
            Passage::Probe => 1,
            Passage::After(_) | Passage::AfterProbe => 0,
        });
        left.chain(passing)
    }

    /// What each limit leaves room for.
    fn within_limits<'s>(&'s self, subqueue: &'s Subqueue) -> impl Iterator<Item = usize> + 's {
        let workers = self.limits.workers.get(&subqueue.queue);
        let here = workers.map(|max| less(*max, self.running_here.get(&subqueue.queue)));
        let everywhere =
            self.limits.of(subqueue).map(|(name, max)| less(max, self.running.get(&name)));
        here.into_iter().chain(everywhere)
    }

    /// What is left of each rate that the jobs of a subqueue are held to.
    fn rated(&self, subqueue: &Subqueue) -> impl Iterator<Item = &Bucket> {
        // Without rates, which is how most claims are, no name is put together.
        let names = (!self.buckets.is_empty()).then(|| names(subqueue));
        names.into_iter().flatten().filter_map(|name| self.buckets.get(&name))
    }

    /// What each breaker lets start that the jobs of a subqueue are held to.
    fn passages(&self, subqueue: &Subqueue) -> impl Iterator<Item = (String, Passage)> {
        let names = (!self.passages.is_empty()).then(|| names(subqueue));
        names.into_iter().flatten().filter_map(|name| {
            let passage = *self.passages.get(&name)?;
            Some((name, passage))
        })
    }

    /// Takes room for one job of a subqueue, if there is some.
    pub fn take(&mut self, subqueue: &Subqueue) -> bool {
        if self.of(subqueue) == 0 {
            return self.take_ahead(subqueue);
        }
        self.slots -= 1;
        if !subqueue.is_high {
            self.normal_slots -= 1;
        }
        for name in names(subqueue) {
            if let Some(bucket) = self.buckets.get_mut(&name) {
                bucket.take();
            }
            if let Some(passage) = self.passages.get_mut(&name)
                && *passage == Passage::Probe
            {
                *passage = Passage::AfterProbe;
            }
            add(&mut self.running, name, 1);
        }
        if self.limits.workers.contains_key(&subqueue.queue) {
            add(&mut self.running_here, subqueue.queue.clone(), 1);
        }
        true
    }

    fn take_ahead(&mut self, subqueue: &Subqueue) -> bool {
        if self.ahead > 0 && self.limits.concern(subqueue) {
            if self.but_for_workers(subqueue) > 0 {
                self.end_ahead();
            }
            return false;
        }
        let is_room = self.ahead > 0;
        self.ahead = self.ahead.saturating_sub(1);
        is_room
    }

    /// When a rate or a breaker lets the next job of one of these start, as far as it is time alone that holds them back.
    pub fn opens_at<'s>(&self, subqueues: impl Iterator<Item = &'s Subqueue>) -> Option<Timestamp> {
        let held = subqueues.filter(|subqueue| self.but_for_time(subqueue) > 0);
        held.filter_map(|subqueue| self.opens_part_at(subqueue)).min()
    }

    fn opens_part_at(&self, subqueue: &Subqueue) -> Option<Timestamp> {
        let mut latest = self.rated(subqueue).filter_map(Bucket::next_at).max();
        for (_, passage) in self.passages(subqueue) {
            match passage {
                Passage::All | Passage::Probe => {}
                Passage::After(rested) => latest = latest.max(Some(rested)),
                // Its end is what tells, and not a time.
                Passage::AfterProbe => return None,
            }
        }
        latest
    }

    /// The breaker that lets no job of a subqueue start, if there is one.
    #[must_use]
    pub fn broken_by(&self, subqueue: &Subqueue) -> Option<String> {
        let holds = |passage| matches!(passage, Passage::After(_) | Passage::AfterProbe);
        self.passages(subqueue).find(|(_, passage)| holds(*passage)).map(|(name, _)| name)
    }

    /// The limits and rates that let no job of a subqueue start.
    #[must_use]
    pub fn full(&self, subqueue: &Subqueue) -> Vec<Full> {
        let running = |name: &str| self.running.get(name).copied().unwrap_or(0);
        let limits = self
            .limits
            .of(subqueue)
            .map(|(name, max)| Full::Limit { running: running(&name), name, max })
            .filter(|full| matches!(full, Full::Limit { max, running, .. } if running >= max));
        let queue = &subqueue.queue;
        let here = self.running_here.get(queue);
        let workers = self.limits.workers.get(queue).filter(|max| less(**max, here) == 0);
        let workers = workers.map(|max| Full::Workers { queue: queue.clone(), max: *max });
        let rates = names(subqueue).filter_map(|name| {
            let until = self.buckets.get(&name)?.next_at()?;
            Some(Full::Rate { name, until })
        });
        limits.chain(workers).chain(rates).collect()
    }

    /// What each breaker lets start, after what was taken.
    #[must_use]
    pub fn all_passages(&self) -> &BTreeMap<String, Passage> {
        &self.passages
    }

    /// What is left of the rates.
    #[must_use]
    pub fn buckets(&self) -> &BTreeMap<String, Bucket> {
        &self.buckets
    }
}

fn less(max: u32, used: Option<&u32>) -> usize {
    max.saturating_sub(used.copied().unwrap_or(0)) as usize
}

fn add(counts: &mut BTreeMap<String, u32>, name: String, count: u32) {
    let total = counts.entry(name).or_default();
    *total = total.saturating_add(count);
}
