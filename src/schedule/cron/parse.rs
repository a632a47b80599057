//! From text to sets.

use super::days::Days;
use super::field::Field;
use super::piece::Piece;
use super::{CronError, CronExpression, Years, list};

/// The longest expression that is read, in bytes. Every field written out in full stays far below it.
const MAX_BYTES: usize = 2048;

pub(super) fn expression(text: &str, seed: &str) -> Result<CronExpression, CronError> {
    let whole = Piece::whole(text);
    if text.len() > MAX_BYTES {
        return Err(whole.error(format!("the expression is longer than {MAX_BYTES} bytes")));
    }
    let words = whole.words();
    if let Some(nickname) = words.first().filter(|word| word.text.starts_with('@')) {
        let fields = nickname_fields(*nickname)?;
        if let Some(extra) = words.get(1) {
            return Err(extra.error(format!("nothing may follow {}", nickname.text)));
        }
        let parsed = expression(fields, seed)?;
        return Ok(CronExpression { text: nickname.text.into(), ..parsed });
    }
    let (second, [minute, hour, day, month, weekday], year) = match *words {
        [a, b, c, d, e] => (None, [a, b, c, d, e], None),
        [second, a, b, c, d, e] => (Some(second), [a, b, c, d, e], None),
        [second, a, b, c, d, e, year] => (Some(second), [a, b, c, d, e], Some(year)),
        _ => return Err(field_count(whole, words.len())),
    };
    let normal = words.iter().map(|word| word.text).collect::<Vec<_>>().join(" ");
    Ok(CronExpression {
        text: normal.into(),
        seconds: second.map_or(Ok(1), |second| set(second, Field::Second, seed))?,
        minutes: set(minute, Field::Minute, seed)?,
        // The bounds of the two fields keep their bits within the narrower words.
        hours: set(hour, Field::Hour, seed)? as u32,
        days: days(day, weekday, seed)?,
        months: set(month, Field::Month, seed)? as u16,
        years: year.map(|year| years(year, seed)).transpose()?.flatten(),
        follows_elapsed_time: is_star(minute) || is_star(hour),
    })
}

fn nickname_fields(nickname: Piece<'_>) -> Result<&'static str, CronError> {
    Ok(match nickname.text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        "@every" => {
            return Err(nickname
                .error("@every is not a calendar rule")
                .help("write every = \"15m\" instead of cron = \"@every 15m\""));
        }
        "@reboot" => {
            return Err(nickname
                .error("@reboot is not a time")
                .help("work that belongs to the start of the machine belongs to a systemd unit"));
        }
        _ => {
            return Err(nickname
                .error(format!("`{}` is not a known nickname", nickname.shown()))
                .help(
                    "write @hourly, @daily, @midnight, @weekly, @monthly, @yearly or @annually",
                ));
        }
    })
}

fn field_count(whole: Piece<'_>, count: usize) -> CronError {
    let message = match count {
        0 => "the expression is empty".to_owned(),
        1 => "a cron expression has 5, 6 or 7 fields, this has 1 field".to_owned(),
        _ => format!("a cron expression has 5, 6 or 7 fields, this has {count} fields"),
    };
    whole.error(message).help(
        "five: minute hour day-of-month month day-of-week; six: a second before them; seven: a year after those",
    )
}

/// A field that starts with a star, or its hashed spelling `H/n`, keeps its pace rather than naming a time.
fn is_star(piece: Piece<'_>) -> bool {
    piece.text.starts_with(['*', '?']) || piece.text.starts_with("H/")
}

fn set(piece: Piece<'_>, field: Field, seed: &str) -> Result<u64, CronError> {
    let mut values = 0;
    for item in piece.split(&[',']) {
        list::item(item, field, seed, &mut |value| values |= 1 << value)?;
    }
    Ok(values)
}

fn years(piece: Piece<'_>, seed: &str) -> Result<Option<Box<Years>>, CronError> {
    let mut years = Years::default();
    for item in piece.split(&[',']) {
        list::item(item, Field::Year, seed, &mut |year| years.insert(year))?;
    }
    // A plain star means every year there is, not only those that can be named.
    Ok((piece.text != "*").then(|| Box::new(years)))
}

fn days(day: Piece<'_>, weekday: Piece<'_>, seed: &str) -> Result<Days, CronError> {
    let mut days = Days { any_day: is_star(day), any_weekday: is_star(weekday), ..Days::default() };
    for item in any(day).split(&[',']) {
        days.add_day(item, seed)?;
    }
    for item in any(weekday).split(&[',']) {
        days.add_weekday(item, seed)?;
    }
    Ok(days)
}

/// A lone `?` is another spelling of `*` in the two day fields.
fn any(piece: Piece<'_>) -> Piece<'_> {
    if piece.text == "?" { Piece::whole("*") } else { piece }
}
