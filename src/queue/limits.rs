//! Which of the jobs that wait may start: pure, given what runs, what the limits are, what the rates have left and what waits.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Bucket, Passage};
use crate::model::{Breaker, NodeId, QueueSettings, Rate, Subqueue};

/// What holds jobs back. Limits, rates and breakers are found by name (`queue:docs`, `kind:pdf`, `key:host`) and count on all nodes
/// together; a queue's workers count on one node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    max: BTreeMap<String, u32>,
    rates: BTreeMap<String, Rate>,
    breakers: BTreeMap<String, Breaker>,
    workers: BTreeMap<String, u32>,
}

/// How many jobs of a part of a queue run on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// The part.
    pub subqueue: Subqueue,
    /// Where they run.
    pub node: NodeId,
    /// How many.
    pub count: u32,
}

impl Limits {
    /// Sets how many may run at once under that name, or replaces it.
    pub fn set_max(&mut self, name: impl Into<String>, max: u32) {
        self.max.insert(name.into(), max);
    }

    /// Sets how fast jobs may start under that name, or replaces it.
    pub fn set_rate(&mut self, name: impl Into<String>, rate: Rate) {
        self.rates.insert(name.into(), rate);
    }

    /// Sets after how many failures nothing starts under that name, or replaces it.
    pub fn set_breaker(&mut self, name: impl Into<String>, breaker: Breaker) {
        self.breakers.insert(name.into(), breaker);
    }

    /// Sets what is set for a queue, and leaves the rest as it is.
    pub fn set_queue(&mut self, queue: &str, settings: QueueSettings) {
        if let Some(workers) = settings.workers {
            self.workers.insert(queue.to_owned(), workers.get().into());
        }
        if let Some(rate) = settings.rate {
            self.set_rate(queue_name(queue), rate);
        }
    }

    /// Every name that something is set for on all nodes.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.max.keys().chain(self.rates.keys()).chain(self.breakers.keys())
    }

    /// How many may run at once under that name.
    #[must_use]
    pub fn max(&self, name: &str) -> Option<u32> {
        self.max.get(name).copied()
    }

    /// How fast jobs may start under that name.
    #[must_use]
    pub fn rate(&self, name: &str) -> Option<Rate> {
        self.rates.get(name).copied()
    }

    /// After how many failures nothing starts under that name.
    #[must_use]
    pub fn breaker(&self, name: &str) -> Option<Breaker> {
        self.breakers.get(name).copied()
    }

    /// How many of a part may run at once under each of its names. A key brings a limit of its own, which one that is set by name replaces.
    fn of<'a>(&'a self, subqueue: &'a Subqueue) -> impl Iterator<Item = (String, u32)> + 'a {
        names(subqueue).filter_map(|name| {
            let brought = subqueue.concurrency.as_ref().filter(|_| name.starts_with(KEY));
            let max = self.max(&name).or(brought.map(|concurrency| concurrency.max))?;
            Some((name, max))
        })
    }

    /// Whether it matters what runs of the jobs of one of these.
    pub fn need_what_runs<'a>(&self, mut subqueues: impl Iterator<Item = &'a Subqueue>) -> bool {
        subqueues
            .any(|part| self.workers.contains_key(&part.queue) || self.of(part).next().is_some())
    }

    /// Whether it matters what other nodes do with the jobs of one of these.
    pub fn need_other_nodes<'a>(&self, mut subqueues: impl Iterator<Item = &'a Subqueue>) -> bool {
        subqueues.any(|part| {
            self.of(part).next().is_some() || names(part).any(|name| self.rates.contains_key(&name))
        })
    }

    /// Whether a limit, a rate or a breaker has a say in when the jobs of a part start.
    #[must_use]
    pub fn concern(&self, part: &Subqueue) -> bool {
        let is_bare = self.max.is_empty()
            && self.rates.is_empty()
            && self.workers.is_empty()
            && self.breakers.is_empty();
        if is_bare && part.concurrency.is_none() {
            return false;
        }
        let one = || std::iter::once(part);
        self.need_what_runs(one())
            || self.need_other_nodes(one())
            || names(part).any(|name| self.breakers.contains_key(&name))
    }

    /// The rates that the jobs of these are held to, by name.
    pub fn rates<'a>(
        &self,
        subqueues: impl Iterator<Item = &'a Subqueue>,
    ) -> BTreeMap<String, Rate> {
        if self.rates.is_empty() {
            return BTreeMap::new();
        }
        let rated = |name: String| self.rate(&name).map(|rate| (name, rate));
        subqueues.flat_map(names).filter_map(rated).collect()
    }

    /// Whether there is any breaker.
    #[must_use]
    pub fn have_breakers(&self) -> bool {
        !self.breakers.is_empty()
    }

    /// The breakers that the jobs of these are held to, by name.
    pub fn breakers<'a>(
        &self,
        subqueues: impl Iterator<Item = &'a Subqueue>,
    ) -> BTreeMap<String, Breaker> {
        if self.breakers.is_empty() {
            return BTreeMap::new();
        }
        let held = |name: String| self.breaker(&name).map(|breaker| (name, breaker));
        subqueues.flat_map(names).filter_map(held).collect()
    }
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

    /// What is left of it on that node beside what runs.
    #[must_use]
    pub fn beside(mut self, running: &[Running], node: NodeId) -> Self {
        for Running { subqueue, node: where_it_runs, count } in running {
            for name in names(subqueue) {
                add(&mut self.running, name, *count);
            }
            if *where_it_runs == node {
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

/// What the name of a key's limit starts with.
const KEY: &str = "key:";

/// The name of a queue's own limit and rate.
fn queue_name(queue: &str) -> String {
    format!("queue:{queue}")
}

/// Every name under which the jobs of a subqueue count.
pub fn names(subqueue: &Subqueue) -> impl Iterator<Item = String> + use<> {
    let kind = subqueue.kind.as_ref().map(|kind| format!("kind:{kind}"));
    let key = subqueue.concurrency.as_ref().map(|concurrency| format!("{KEY}{}", concurrency.key));
    [Some(queue_name(&subqueue.queue)), kind, key].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_subqueue() -> impl Strategy<Value = Subqueue> {
        let part = |max: usize| prop::sample::select(["a", "b", "c"][..max].to_vec());
        (part(2), any::<bool>(), prop::option::of(part(3)), prop::option::of((part(3), 1_u32..4)))
            .prop_map(|(queue, high, kind, key)| {
                let mut text = queue.to_owned();
                if high {
                    text += "/high";
                }
                if let Some(kind) = kind {
                    text += &format!("/kind:{kind}");
                }
                if let Some((key, max)) = key {
                    text += &format!("/key:{max}:{key}");
                }
                text.parse().unwrap()
            })
    }

    fn any_limits() -> impl Strategy<Value = Limits> {
        let name = || ("(queue|kind|key)", "[abc]").prop_map(|(of, name)| format!("{of}:{name}"));
        let rate = (1_u32..4).prop_map(|burst| format!("6/m burst {burst}").parse().unwrap());
        let max = prop::collection::btree_map(name(), 0_u32..5, 0..6);
        let rates = prop::collection::btree_map(name(), rate, 0..4);
        let workers = prop::collection::btree_map("[ab]", 1_u32..4, 0..2);
        let breakers = BTreeMap::new();
        (max, rates, workers).prop_map(move |(max, rates, workers)| Limits {
            max,
            rates,
            breakers: breakers.clone(),
            workers,
        })
    }

    const HERE: NodeId = NodeId(1);
    const ELSEWHERE: NodeId = NodeId(2);

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    /// Room on a node beside jobs of those parts, of which every other one runs elsewhere, after the rates were left alone for long.
    fn room<'a>(limits: &'a Limits, already: &[Subqueue], slots: (usize, usize)) -> Room<'a> {
        let running = already.iter().cloned().zip([HERE, ELSEWHERE].into_iter().cycle());
        let running: Vec<Running> =
            running.map(|(subqueue, node)| Running { subqueue, node, count: 1 }).collect();
        let buckets = limits.rates.iter();
        let buckets = buckets.map(|(name, rate)| (name.clone(), Bucket::new(*rate, None, now())));
        Room::new(limits, slots).beside(&running, HERE).with_buckets(buckets.collect())
    }

    proptest! {
        #[test]
        fn what_starts_never_exceeds_a_limit(
            limits in any_limits(), waiting in prop::collection::vec(any_subqueue(), 0..40),
            slots in 0_usize..12, reserved in 0_usize..4, already in prop::collection::vec(any_subqueue(), 0..6),
        ) {
            let normal = slots.saturating_sub(reserved);
            let mut room = room(&limits, &already, (slots, normal));
            let started: Vec<&Subqueue> = waiting.iter().filter(|one| room.take(one)).collect();
            prop_assert!(started.len() <= slots);
            prop_assert!(started.iter().filter(|one| !one.is_high).count() <= normal);
            let of_name = |all: &[&Subqueue], name: &str| {
                all.iter().filter(|one| names(one).any(|other| other == name)).count()
            };
            // A job may bring a limit of its own for a key that others share, so it is held against what ran when it started.
            for (position, one) in started.iter().enumerate() {
                let until_then: Vec<&Subqueue> =
                    already.iter().chain(started[..=position].iter().copied()).collect();
                for (name, max) in limits.of(one) {
                    let count = of_name(&until_then, &name);
                    prop_assert!(count <= max as usize, "{} of {} {}", count, max, name);
                }
                let here: Vec<&Subqueue> =
                    already.iter().step_by(2).chain(started[..=position].iter().copied()).collect();
                if let Some(max) = limits.workers.get(&one.queue) {
                    let count = here.iter().filter(|other| other.queue == one.queue).count();
                    prop_assert!(count <= *max as usize, "{} of {} here {}", count, max, one.queue);
                }
            }
            for (name, rate) in &limits.rates {
                prop_assert!(of_name(&started, name) <= rate.burst() as usize, "{}", name);
            }
        }

        /// What is taken with room ahead is what would be taken with as many workers more, up to the first that only they would take.
        #[test]
        fn what_is_taken_ahead_comes_before_everything_that_is_left(
            limits in any_limits(), waiting in prop::collection::vec(any_subqueue(), 0..40), already in prop::collection::vec(any_subqueue(), 0..6),
            slots in 0_usize..6, reserved in 0_usize..3, ahead in 0_usize..12,
        ) {
            let normal = slots.saturating_sub(reserved);
            let mut with = room(&limits, &already, (slots, normal)).with_ahead(ahead);
            let mut without = room(&limits, &already, (slots, normal));
            let taken: Vec<bool> = waiting.iter().map(|one| with.take(one)).collect();
            let for_workers: Vec<bool> = waiting.iter().map(|one| without.take(one)).collect();
            let mut more = 0;
            for (position, one) in waiting.iter().enumerate() {
                prop_assert!(taken[position] || !for_workers[position], "workers get what they would have got");
                if taken[position] && !for_workers[position] {
                    prop_assert!(!limits.concern(one));
                    more += 1;
                    // Whatever came before and is left is held back by something else than a worker.
                    for earlier in waiting[..position].iter().zip(&taken).filter(|(_, is_taken)| !**is_taken) {
                        prop_assert!(limits.concern(earlier.0));
                    }
                }
            }
            prop_assert!(more <= ahead);
            if let Some(left) = (0..waiting.len()).find(|position| !taken[*position] && !limits.concern(&waiting[*position])) {
                let ended_it = waiting[..left].iter().zip(&taken).any(|(one, is_taken)| !is_taken && limits.concern(one));
                prop_assert!(more == ahead || ended_it);
            }
        }

        #[test]
        fn nothing_waits_that_there_is_room_for(
            limits in any_limits(), waiting in prop::collection::vec(any_subqueue(), 0..40), slots in 0_usize..12,
        ) {
            let mut room = room(&limits, &[], (slots, slots));
            let (started, left): (Vec<&Subqueue>, Vec<_>) = waiting.iter().partition(|one| room.take(one));
            for one in &left {
                prop_assert_eq!(room.of(one), 0);
                // Each for a reason that can be named.
                let under = |name: &str| started.iter().filter(|other| names(other).any(|n| n == name)).count();
                let is_full = started.len() == slots
                    || limits.of(one).any(|(name, max)| under(&name) >= max as usize)
                    || limits.workers.get(&one.queue).is_some_and(|max| under(&queue_name(&one.queue)) >= *max as usize);
                let is_late = names(one).any(|name| limits.rate(&name).is_some_and(|rate| under(&name) == rate.burst() as usize));
                prop_assert!(is_full || is_late);
                prop_assert_eq!(room.opens_at([*one].into_iter()).is_some(), is_late && !is_full);
            }
        }
    }

    #[test]
    fn who_is_held_back_by_several_rates_waits_for_the_last_of_them() {
        let mut limits = Limits::default();
        limits.set_rate("queue:docs", "1/s".parse().unwrap());
        limits.set_rate("key:host", "1/m".parse().unwrap());
        let [plain, keyed]: [Subqueue; 2] =
            ["docs", "docs/key:9:host"].map(|text| text.parse().unwrap());
        let mut room = room(&limits, &[], (9, 9));
        assert_eq!(room.opens_at([&keyed].into_iter()), None);
        assert!(room.take(&keyed) && !room.take(&plain));
        let after = |seconds| Some(now() + jiff::SignedDuration::from_secs(seconds));
        assert_eq!(room.opens_at([&keyed].into_iter()), after(60));
        assert_eq!(room.opens_at([&keyed, &plain].into_iter()), after(1));
    }

    #[test]
    fn what_a_breaker_holds_back_waits_until_it_has_rested_and_then_one_job_starts() {
        let limits = Limits::default();
        let [plain, keyed]: [Subqueue; 2] =
            ["docs", "docs/key:9:host"].map(|text| text.parse().unwrap());
        let with = |passage| {
            let passages = BTreeMap::from([("key:host".to_owned(), passage)]);
            room(&limits, &[], (9, 9)).with_passages(passages)
        };
        let after = |seconds| now() + jiff::SignedDuration::from_secs(seconds);
        let mut resting = with(Passage::After(after(5)));
        assert!(!resting.take(&keyed) && resting.take(&plain), "other jobs pass by");
        assert_eq!(resting.opens_at([&plain, &keyed].into_iter()), Some(after(5)));
        assert_eq!(resting.broken_by(&keyed).as_deref(), Some("key:host"));
        assert_eq!(resting.broken_by(&plain), None);

        let mut rested = with(Passage::Probe);
        assert_eq!((rested.of(&keyed), rested.broken_by(&keyed)), (1, None));
        assert!(rested.take(&keyed) && !rested.take(&keyed) && rested.take(&plain));
        assert_eq!(rested.opens_at([&keyed].into_iter()), None, "the end of the probe tells");

        let mut closed = with(Passage::All);
        assert!(closed.take(&keyed) && closed.take(&keyed));
    }

    #[test]
    fn who_is_held_back_by_a_rate_and_a_breaker_waits_for_the_later_of_them() {
        let mut limits = Limits::default();
        limits.set_rate("queue:docs", "1/m".parse().unwrap());
        let keyed: Subqueue = "docs/key:9:host".parse().unwrap();
        let after = |seconds| now() + jiff::SignedDuration::from_secs(seconds);
        for (rests, expected) in [(5, 60), (90, 90)] {
            let passages = BTreeMap::from([("key:host".to_owned(), Passage::After(after(rests)))]);
            let mut room = room(&limits, &[], (9, 9));
            assert!(room.take(&keyed));
            let room = room.with_passages(passages);
            assert_eq!(room.opens_at([&keyed].into_iter()), Some(after(expected)));
        }
    }
}
