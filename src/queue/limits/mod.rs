//! Which of the jobs that wait may start: pure, given what runs, what the limits are, what the rates have left and what waits.

mod room;

use std::collections::{BTreeMap, BTreeSet};

pub use room::{Full, Room};

use crate::model::{Breaker, NodeId, QueueSettings, Rate, Subqueue};

/// What holds jobs back. Limits, rates and breakers are found by name (`queue:docs`, `kind:pdf`, `key:host`) and count on all nodes
/// together; a queue's workers count on one node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    max: BTreeMap<String, u32>,
    rates: BTreeMap<String, Rate>,
    breakers: BTreeMap<String, Breaker>,
    workers: BTreeMap<String, u32>,
    /// The kinds that files declare; `None` where that does not matter.
    kinds: Option<BTreeSet<String>>,
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

    /// Says which kinds files declare. Jobs of others wait for a node that has them, or for their file to come back: a node that took them
    /// could only fail them.
    pub fn set_kinds(&mut self, kinds: impl Iterator<Item = String>) {
        self.kinds = Some(kinds.collect());
    }

    /// Whether the jobs of a part are of a kind that can be run here. What no file has to declare always can.
    #[must_use]
    pub fn know(&self, part: &Subqueue) -> bool {
        match (&self.kinds, &part.kind) {
            (Some(kinds), Some(kind)) => kinds.contains(kind),
            _ => true,
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
mod tests;
