//! The greatest few of many, without keeping the many.

use std::collections::BTreeMap;

/// Keeps the values with the greatest keys and counts the rest.
#[derive(Debug, Clone)]
pub(super) struct Top<K, T> {
    kept: BTreeMap<K, T>,
    limit: usize,
    dropped: u64,
}

impl<K: Ord, T> Top<K, T> {
    /// Keeps at most `limit` values.
    pub(super) fn new(limit: usize) -> Self {
        Self { kept: BTreeMap::new(), limit, dropped: 0 }
    }

    /// Offers a value, which is made only if it is kept.
    pub(super) fn offer(&mut self, key: K, value: impl FnOnce() -> T) {
        let is_full = self.kept.len() >= self.limit;
        if is_full && self.kept.first_key_value().is_none_or(|(least, _)| key <= *least) {
            self.dropped += 1;
            return;
        }
        self.kept.insert(key, value());
        if self.kept.len() > self.limit {
            self.kept.pop_first();
            self.dropped += 1;
        }
    }

    /// The values, the greatest first, and how many others there were.
    pub(super) fn finish(self) -> (Vec<T>, u64) {
        (self.kept.into_values().rev().collect(), self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_greatest_are_kept_in_order_and_the_rest_is_counted(
            keys in proptest::collection::hash_set(0_u32..1000, 0..100),
            limit in 0_usize..10,
        ) {
            let mut top = Top::new(limit);
            keys.iter().for_each(|key| top.offer(*key, || *key));
            let mut expected: Vec<u32> = keys.into_iter().collect();
            expected.sort_unstable_by(|a, b| b.cmp(a));
            let rest = expected.split_off(limit.min(expected.len()));
            prop_assert_eq!(top.finish(), (expected, rest.len() as u64));
        }
    }
}
