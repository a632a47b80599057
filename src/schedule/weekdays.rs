//! A set of days of the week.

use std::fmt;
use std::ops::BitOr;
use std::str::FromStr;

use jiff::civil::Weekday;

/// A set of days of the week: `mon-fri`, `sat,sun`, `friday`. Never empty when it was read from text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Weekdays(u8);

/// Why a text is not a set of weekdays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a weekday: write mon, tue, wed, thu, fri, sat or sun, or a range like mon-fri", .0.escape_default())]
pub struct WeekdaysError(String);

/// Monday first, which is the order of the bits.
const NAMES: [&str; 7] =
    ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

impl Weekdays {
    /// No day at all.
    pub const NONE: Self = Self(0);
    /// Every day of the week.
    pub const ALL: Self = Self(0b111_1111);

    /// Whether the day belongs to the set.
    #[must_use]
    pub fn contains(self, day: Weekday) -> bool {
        self.0 & Self::from(day).0 != 0
    }

    /// Whether no day belongs to the set.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The days, Monday first.
    pub fn iter(self) -> impl Iterator<Item = Weekday> {
        Weekday::Monday.cycle_forward().take(7).filter(move |day| self.contains(*day))
    }
}

impl Default for Weekdays {
    fn default() -> Self {
        Self::ALL
    }
}

impl From<Weekday> for Weekdays {
    fn from(day: Weekday) -> Self {
        Self(1 << day.to_monday_zero_offset())
    }
}

impl BitOr for Weekdays {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl FromIterator<Weekday> for Weekdays {
    fn from_iter<I: IntoIterator<Item = Weekday>>(days: I) -> Self {
        days.into_iter().map(Self::from).fold(Self::NONE, Self::bitor)
    }
}

impl FromStr for Weekdays {
    type Err = WeekdaysError;

    /// Reads names (three letters or in full, any case), ranges that may wrap (`sat-mon`), and comma-separated lists.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split(',').map(|item| range(item.trim())).try_fold(Self::NONE, |all, item| {
            item.map(|days| all | days)
                .ok_or_else(|| WeekdaysError(text.chars().take(100).collect()))
        })
    }
}

fn range(item: &str) -> Option<Weekdays> {
    let (first, last) = match item.split_once('-') {
        Some((first, last)) => (day(first.trim_end())?, day(last.trim_start())?),
        None => (day(item)?, day(item)?),
    };
    let length = first.until(last).unsigned_abs() + 1;
    Some(first.cycle_forward().take(usize::from(length)).collect())
}

fn day(name: &str) -> Option<Weekday> {
    let matches =
        |full: &&str| name.eq_ignore_ascii_case(full) || name.eq_ignore_ascii_case(&full[..3]);
    let index = NAMES.iter().position(matches)?;
    Weekday::from_monday_zero_offset(i8::try_from(index).ok()?).ok()
}

impl fmt::Display for Weekdays {
    /// Runs of three or more days as a range: `mon-fri`, `mon,wed`, `sat,sun`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let mut index = 0;
        while index < 7 {
            let length = (index..7).take_while(|day| self.0 & (1 << day) != 0).count();
            match length {
                0 => {
                    index += 1;
                    continue;
                }
                1 => write!(f, "{separator}{}", &NAMES[index][..3])?,
                2 => write!(f, "{separator}{},{}", &NAMES[index][..3], &NAMES[index + 1][..3])?,
                _ => write!(
                    f,
                    "{separator}{}-{}",
                    &NAMES[index][..3],
                    &NAMES[index + length - 1][..3]
                )?,
            }
            separator = ",";
            index += length;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weekdays_are_read_and_written_alike() {
        for (text, shown) in [
            ("mon", "mon"),
            ("Monday-FRI", "mon-fri"),
            ("sat, sun", "sat,sun"),
            ("fri-mon", "mon,fri-sun"),
            ("mon,wed,fri", "mon,wed,fri"),
            ("tue-tue", "tue"),
        ] {
            let days: Weekdays = text.parse().unwrap();
            assert_eq!(days.to_string(), shown, "{text}");
            assert_eq!(shown.parse::<Weekdays>().unwrap(), days, "{text}");
        }
        for bad in ["", "m", "mond", "mon-", "mon,,tue", "1", "mon-fri-sun", "mön"] {
            assert!(bad.parse::<Weekdays>().is_err(), "{bad}");
        }
    }
}
