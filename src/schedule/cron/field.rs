//! The seven fields: what each is called, which numbers it takes and which names stand for them.

use super::CronError;
use super::piece::Piece;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Second,
    Minute,
    Hour,
    DayOfMonth,
    Month,
    DayOfWeek,
    Year,
}

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

impl Field {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::DayOfMonth => "day of month",
            Self::Month => "month",
            Self::DayOfWeek => "day of week",
            Self::Year => "year",
        }
    }

    /// The smallest and the largest number. Sunday is 0 and 7.
    pub(super) fn bounds(self) -> (u16, u16) {
        match self {
            Self::Second | Self::Minute => (0, 59),
            Self::Hour => (0, 23),
            Self::DayOfMonth => (1, 31),
            Self::Month => (1, 12),
            Self::DayOfWeek => (0, 7),
            Self::Year => (super::Years::FIRST, super::Years::LAST),
        }
    }

    /// The numbers that `*` stands for: as [`bounds`](Self::bounds), with one Sunday.
    pub(super) fn every(self) -> (u16, u16) {
        match self {
            Self::DayOfWeek => (0, 6),
            other => other.bounds(),
        }
    }

    /// The numbers that `H` chooses from; `None` where a hashed choice makes no sense. The days of the month end
    /// at 28, so that a slot exists in every month.
    pub(super) fn hashable(self) -> Option<(u16, u16)> {
        match self {
            Self::DayOfMonth => Some((1, 28)),
            Self::Year => None,
            other => Some(other.every()),
        }
    }

    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Month => &MONTHS,
            Self::DayOfWeek => &DAYS,
            _ => &[],
        }
    }

    /// Reads one number or name.
    pub(super) fn value(self, piece: Piece<'_>) -> Result<u16, CronError> {
        let (low, high) = self.bounds();
        let name = self.name();
        if piece.text.is_empty() {
            return Err(piece.error(format!("a {name} is missing here")));
        }
        if piece.text.bytes().all(|byte| byte.is_ascii_digit()) {
            return match piece.text.parse::<u16>() {
                Ok(number) if (low..=high).contains(&number) => Ok(number),
                _ => {
                    let number = piece.shown();
                    Err(piece.error(format!("{name} {number} is outside {low}-{high}")))
                }
            };
        }
        let names = self.names();
        match names.iter().position(|known| known.eq_ignore_ascii_case(piece.text)) {
            Some(index) => Ok(low + u16::try_from(index).unwrap_or(0)),
            None => Err(self.not_a_value(piece)),
        }
    }

    fn not_a_value(self, piece: Piece<'_>) -> CronError {
        let error = piece.error(format!("`{}` is not a {}", piece.shown(), self.name()));
        let (low, high) = self.bounds();
        let names = self.names();
        let begun =
            |known: &&&str| piece.text.get(..3).is_some_and(|s| s.eq_ignore_ascii_case(known));
        match (names.iter().find(begun), names.first().zip(names.last())) {
            (Some(known), _) => error.help(format!("names have three letters: {known}")),
            (None, Some((first, last))) => {
                error.help(format!("write a number {low}-{high} or a name {first}-{last}"))
            }
            (None, None) => error.help(format!("write a number {low}-{high}")),
        }
    }

    /// As [`value`](Self::value), for the end of a range: there `SUN` means the Sunday that ends the week.
    pub(super) fn range_end(self, piece: Piece<'_>) -> Result<u16, CronError> {
        let ends_on_sunday = self == Self::DayOfWeek && piece.text.eq_ignore_ascii_case(DAYS[0]);
        if ends_on_sunday { Ok(7) } else { self.value(piece) }
    }
}
