//! Chance that can be repeated.

use sexton::clock::{Clock, SystemClock};

/// SplitMix64: a seed that is printed makes a failure's choices repeatable.
pub(crate) struct Dice(u64);

impl Dice {
    /// From `SEXTON_IT_SEED`, or from the time; says which.
    pub(crate) fn seeded() -> Self {
        let seed: u64 = std::env::var("SEXTON_IT_SEED").ok().map_or_else(
            || SystemClock.now().as_nanosecond() as u64,
            |seed| seed.parse().expect("a seed is a number"),
        );
        println!("SEXTON_IT_SEED={seed} repeats the choices");
        Self(seed)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
