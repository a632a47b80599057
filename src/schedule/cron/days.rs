//! Which days of a month an expression means.

use jiff::civil::Date;

use super::CronError;
use super::field::Field;
use super::list;
use super::piece::Piece;

/// The day-of-month and day-of-week fields. Bit `d` of a day set is day `d` of the month, bit `w` of a weekday set
/// is `w` days after Sunday.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Days {
    /// Days by number.
    pub(super) numbers: u32,
    /// Bit `k` is `L-k`: `k` days before the last day of the month.
    pub(super) from_last: u32,
    /// `15W`: the working day nearest to the day, within its month.
    pub(super) near: u32,
    /// `LW`: the last working day.
    pub(super) last_working_day: bool,
    /// The day-of-month field starts with a star.
    pub(super) any_day: bool,
    /// Weekdays that count in every week.
    pub(super) weekdays: u8,
    /// `5L`: weekdays that count in the last seven days.
    pub(super) last: u8,
    /// `5#3`: weekdays that count in the first, second, … seven days.
    pub(super) nth: [u8; 5],
    /// The day-of-week field starts with a star.
    pub(super) any_weekday: bool,
}

/// A month's shape, all that day matching depends on.
#[derive(Clone, Copy)]
struct Month {
    /// Days after Sunday on which the month starts.
    starts_on: u32,
    /// Its last day.
    length: u32,
}

impl Days {
    /// Reads one item of the day-of-month field.
    pub(super) fn add_day(&mut self, piece: Piece<'_>, seed: &str) -> Result<(), CronError> {
        if piece.text == "L" {
            self.from_last |= 1;
        } else if piece.text == "LW" {
            self.last_working_day = true;
        } else if let Some(back) = piece.strip_prefix('L').and_then(|rest| rest.strip_prefix('-')) {
            // Digits alone: the standard library's reader takes a plus sign too.
            let digits = back.text.bytes().all(|byte| byte.is_ascii_digit());
            match back.text.parse::<u32>() {
                Ok(back) if digits && (1..=30).contains(&back) => self.from_last |= 1 << back,
                _ => return Err(back.error("only 1 to 30 days before the last day can be named")),
            }
        } else if let Some(day) = piece.strip_suffix('W') {
            self.near |= 1 << Field::DayOfMonth.value(day)?;
        } else {
            list::item(piece, Field::DayOfMonth, seed, &mut |day| self.numbers |= 1 << day)?;
        }
        Ok(())
    }

    /// Reads one item of the day-of-week field.
    pub(super) fn add_weekday(&mut self, piece: Piece<'_>, seed: &str) -> Result<(), CronError> {
        if piece.text == "L" {
            return Err(piece
                .error("`L` alone does not name a day of the week")
                .help("write 5L or FRIL for the last Friday of the month"));
        }
        if let Some((day, count)) = piece.split_once('#') {
            let weekday = weekday_bit(Field::DayOfWeek.value(day)?);
            match count.text {
                "1" | "2" | "3" | "4" | "5" => {
                    self.nth[usize::from(count.text.as_bytes()[0] - b'1')] |= weekday;
                }
                "L" => self.last |= weekday,
                _ => {
                    return Err(count
                        .error(format!("`{}` is not a week of the month", count.shown()))
                        .help("write #1 to #5, or #L for the last"));
                }
            }
            return Ok(());
        }
        if let Some(day) = piece.strip_suffix('L') {
            self.last |= weekday_bit(Field::DayOfWeek.value(day)?);
            return Ok(());
        }
        list::item(piece, Field::DayOfWeek, seed, &mut |day| self.weekdays |= weekday_bit(day))
    }

    /// The days of one month, as a set.
    ///
    /// When both fields are restricted a day needs only one of them; a field that starts with a star (`*/2` too)
    /// makes it need both. This is cronie's reading.
    pub(super) fn of_month(&self, year: i16, month: i8) -> u32 {
        let Ok(first) = Date::new(year, month, 1) else {
            return 0;
        };
        let month = Month {
            starts_on: u32::from(first.weekday().to_sunday_zero_offset().unsigned_abs()),
            length: u32::from(first.days_in_month().unsigned_abs()),
        };
        let (by_number, by_weekday) = (self.by_number(month), self.by_weekday(month));
        if self.any_day || self.any_weekday {
            by_number & by_weekday
        } else {
            by_number | by_weekday
        }
    }

    fn by_number(&self, month: Month) -> u32 {
        let mut days = self.numbers & month.days();
        if self.from_last != 0 {
            // Reversing the word puts `L-k` at bit 31-k; the shift then aligns bit 0 with the last day.
            days |= (self.from_last.reverse_bits() >> (31 - month.length)) & month.days();
        }
        let mut near = self.near & month.days();
        while near != 0 {
            days |= 1 << month.working_day_near(near.trailing_zeros());
            near &= near - 1;
        }
        if self.last_working_day {
            days |= 1 << month.working_day_near(month.length);
        }
        days
    }

    fn by_weekday(&self, month: Month) -> u32 {
        let mut days = month.weeks_of(self.weekdays);
        days |= month.weeks_of(self.last) & !(month.days() >> 7);
        for (week, weekdays) in (0_u32..).zip(self.nth) {
            days |= month.weeks_of(weekdays) & (0b1111_1110 << (7 * week));
        }
        days & month.days()
    }
}

impl Month {
    fn days(self) -> u32 {
        u32::MAX >> (31 - self.length) & !1
    }

    /// All days of the month that fall on the weekdays.
    fn weeks_of(self, weekdays: u8) -> u32 {
        let weekdays = u64::from(weekdays);
        let week = (weekdays >> self.starts_on | weekdays << (7 - self.starts_on)) & 0b111_1111;
        let five_weeks = week | week << 7 | week << 14 | week << 21 | week << 28;
        (five_weeks << 1) as u32 & self.days()
    }

    /// Monday to Friday nearest to the day without leaving the month.
    fn working_day_near(self, day: u32) -> u32 {
        match (self.starts_on + day - 1) % 7 {
            6 if day > 1 => day - 1,
            6 => day + 2,
            0 if day < self.length => day + 1,
            0 => day - 2,
            _ => day,
        }
    }
}

fn weekday_bit(day: u16) -> u8 {
    1 << (day % 7)
}
