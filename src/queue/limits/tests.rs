use jiff::Timestamp;
use proptest::prelude::*;

use super::super::{Bucket, Passage};
use super::*;
use crate::model::NodeId;

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
        kinds: None,
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
    Room::new(limits, slots).beside(&running, Some(HERE)).with_buckets(buckets.collect())
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
