//! Sets of small numbers in one machine word.

/// The smallest member that is not below `from`.
pub(super) fn at_or_above(set: u64, from: u32) -> Option<u32> {
    let rest = set & u64::MAX.checked_shl(from)?;
    (rest != 0).then(|| rest.trailing_zeros())
}

/// The largest member that is not above `to`, which is below 64.
pub(super) fn at_or_below(set: u64, to: u32) -> Option<u32> {
    let rest = set & (u64::MAX >> (63 - to.min(63)));
    rest.checked_ilog2()
}
