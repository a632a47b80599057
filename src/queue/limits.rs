//! Which of the jobs that wait may start: pure, given what runs, what the limits are and what waits.

use std::collections::BTreeMap;

use crate::model::Subqueue;

/// Limits by name: `queue:docs`, `kind:pdf`, `key:host`. They count on all nodes together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits(BTreeMap<String, u32>);

impl Limits {
    /// Adds a limit, or replaces the one of that name.
    pub fn set(&mut self, name: impl Into<String>, max: u32) {
        self.0.insert(name.into(), max);
    }

    /// Those that can hold back the jobs of a subqueue. A key brings a limit of its own, which one that is set by name replaces.
    fn of<'a>(&'a self, subqueue: &'a Subqueue) -> impl Iterator<Item = (String, u32)> + 'a {
        let concurrency = subqueue.concurrency.as_ref();
        let key =
            concurrency.map(|concurrency| (format!("key:{}", concurrency.key), concurrency.max));
        let set = |name: String, own: Option<u32>| {
            let max = self.0.get(&name).copied().or(own)?;
            Some((name, max))
        };
        let queue = set(format!("queue:{}", subqueue.queue), None);
        let kind = subqueue.kind.as_ref().and_then(|kind| set(format!("kind:{kind}"), None));
        let key = key.and_then(|(name, max)| set(name, Some(max)));
        queue.into_iter().chain(kind).chain(key)
    }

    /// Whether anything can hold back the jobs of one of these.
    pub fn concern<'a>(&self, mut subqueues: impl Iterator<Item = &'a Subqueue>) -> bool {
        subqueues.any(|subqueue| self.of(subqueue).next().is_some())
    }
}

/// Room for jobs, used up job by job.
#[derive(Debug, Clone)]
pub struct Room<'a> {
    limits: &'a Limits,
    /// How many run under each name that a limit can have.
    running: BTreeMap<String, u32>,
    slots: usize,
    normal_slots: usize,
    queue_slots: BTreeMap<String, usize>,
}

impl<'a> Room<'a> {
    /// Room for `slots` jobs of this node, of which `normal_slots` may be of a priority for which no workers are reserved.
    #[must_use]
    pub fn new(
        limits: &'a Limits,
        running: &[(Subqueue, u32)],
        (slots, normal_slots): (usize, usize),
        queue_slots: &BTreeMap<String, usize>,
    ) -> Self {
        let mut by_name: BTreeMap<String, u32> = BTreeMap::new();
        for (subqueue, count) in running {
            for name in names(subqueue) {
                let total = by_name.entry(name).or_default();
                *total = total.saturating_add(*count);
            }
        }
        Self { limits, running: by_name, slots, normal_slots, queue_slots: queue_slots.clone() }
    }

    /// How many jobs of a subqueue there is room for.
    #[must_use]
    pub fn of(&self, subqueue: &Subqueue) -> usize {
        let own = if subqueue.is_high { self.slots } else { self.slots.min(self.normal_slots) };
        let own = own.min(self.queue_slots.get(&subqueue.queue).copied().unwrap_or(usize::MAX));
        let under_limits = self.limits.of(subqueue).map(|(name, max)| {
            max.saturating_sub(self.running.get(&name).copied().unwrap_or(0)) as usize
        });
        under_limits.fold(own, usize::min)
    }

    /// Takes room for one job of a subqueue, if there is some.
    pub fn take(&mut self, subqueue: &Subqueue) -> bool {
        if self.of(subqueue) == 0 {
            return false;
        }
        self.slots -= 1;
        if !subqueue.is_high {
            self.normal_slots -= 1;
        }
        if let Some(slots) = self.queue_slots.get_mut(&subqueue.queue) {
            *slots -= 1;
        }
        for name in names(subqueue) {
            *self.running.entry(name).or_default() += 1;
        }
        true
    }
}

/// Every name under which the jobs of a subqueue count.
pub fn names(subqueue: &Subqueue) -> impl Iterator<Item = String> + use<> {
    let kind = subqueue.kind.as_ref().map(|kind| format!("kind:{kind}"));
    let key = subqueue.concurrency.as_ref().map(|concurrency| format!("key:{}", concurrency.key));
    [Some(format!("queue:{}", subqueue.queue)), kind, key].into_iter().flatten()
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
        let name = ("(queue|kind|key)", "[abc]").prop_map(|(of, name)| format!("{of}:{name}"));
        prop::collection::btree_map(name, 0_u32..5, 0..6).prop_map(Limits)
    }

    proptest! {
        #[test]
        fn what_starts_never_exceeds_a_limit(
            limits in any_limits(), waiting in prop::collection::vec(any_subqueue(), 0..40),
            slots in 0_usize..12, reserved in 0_usize..4, already in prop::collection::vec(any_subqueue(), 0..6),
        ) {
            let running: Vec<_> = already.iter().cloned().map(|one| (one, 1)).collect();
            let normal = slots.saturating_sub(reserved);
            let mut room = Room::new(&limits, &running, (slots, normal), &BTreeMap::new());
            let started: Vec<&Subqueue> = waiting.iter().filter(|one| room.take(one)).collect();
            prop_assert!(started.len() <= slots);
            prop_assert!(started.iter().filter(|one| !one.is_high).count() <= normal);
            // A job may bring a limit of its own for a key that others share, so it is held against what ran when it started.
            for (position, one) in started.iter().enumerate() {
                for (name, max) in limits.of(one) {
                    let until_then = already.iter().chain(started[..=position].iter().copied());
                    let count = until_then.filter(|other| names(other).any(|n| n == name)).count();
                    prop_assert!(count <= max as usize, "{} of {} {}", count, max, name);
                }
            }
        }

        #[test]
        fn nothing_waits_that_there_is_room_for(
            limits in any_limits(), waiting in prop::collection::vec(any_subqueue(), 0..40), slots in 0_usize..12,
        ) {
            let mut room = Room::new(&limits, &[], (slots, slots), &BTreeMap::new());
            let left: Vec<&Subqueue> = waiting.iter().filter(|one| !room.take(one)).collect();
            prop_assert!(left.iter().all(|one| room.of(one) == 0));
        }
    }
}
