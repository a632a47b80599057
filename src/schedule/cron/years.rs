//! The set of years of a seventh field.

/// Years from 1970 to 2199.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Years([u64; 4]);

impl Years {
    pub(super) const FIRST: u16 = 1970;
    pub(super) const LAST: u16 = 2199;

    pub(super) fn insert(&mut self, year: u16) {
        let index = year - Self::FIRST;
        self.0[usize::from(index / 64)] |= 1 << (index % 64);
    }

    fn contains(&self, year: u16) -> bool {
        let index = year - Self::FIRST;
        self.0[usize::from(index / 64)] & (1 << (index % 64)) != 0
    }

    pub(super) fn at_or_after(&self, year: i16) -> Option<i16> {
        let first = u16::try_from(year).unwrap_or(0).max(Self::FIRST);
        (first..=Self::LAST).find(|year| self.contains(*year))?.try_into().ok()
    }

    pub(super) fn at_or_before(&self, year: i16) -> Option<i16> {
        let last = u16::try_from(year).unwrap_or(0).min(Self::LAST);
        (Self::FIRST..=last).rev().find(|year| self.contains(*year))?.try_into().ok()
    }

    /// The members in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u16> {
        (Self::FIRST..=Self::LAST).filter(|year| self.contains(*year))
    }
}
