//! Items every field has: `*`, numbers, ranges, steps and hashed slots.

use super::CronError;
use super::field::Field;
use super::piece::Piece;

/// Reads one item that is not special to a field and gives each of its values to `put`.
pub(super) fn item(
    piece: Piece<'_>,
    field: Field,
    seed: &str,
    put: &mut dyn FnMut(u16),
) -> Result<(), CronError> {
    let (range, step) = match piece.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (piece, None),
    };
    if range.text.is_empty() {
        let message = match step {
            Some(_) => format!("the range of {}s before `/` is missing", field.name()),
            None => format!("an item of the {} list is empty", field.name()),
        };
        return Err(piece.error(message).help("remove the stray comma or slash"));
    }
    if let Some(slots) = hashed(range, field)? {
        let Some(step) = step else {
            put(slots.0 + slot(seed, field, slots.1 - slots.0 + 1));
            return Ok(());
        };
        let step = self::step(step, slots)?;
        let first = slots.0 + slot(seed, field, step);
        every(first, slots.1, step, put);
        return Ok(());
    }
    let (first, last) = match (range.text, range.split_once('-')) {
        ("*", _) => field.every(),
        (_, Some((first, last))) => ascending(range, field.value(first)?, field.range_end(last)?)?,
        (_, None) => {
            let value = field.value(range)?;
            if let Some(step) = step {
                let (name, high) = (field.name(), field.every().1);
                return Err(piece
                    .error(format!("a single {name} cannot have a step"))
                    .help(format!("write {value}-{high}/{} to step from {value}", step.shown())));
            }
            (value, value)
        }
    };
    let step = step.map_or(Ok(1), |step| self::step(step, (first, last)))?;
    every(first, last, step, put);
    Ok(())
}

fn every(first: u16, last: u16, step: u16, put: &mut dyn FnMut(u16)) {
    (first..=last).step_by(usize::from(step)).for_each(put);
}

fn ascending(range: Piece<'_>, first: u16, last: u16) -> Result<(u16, u16), CronError> {
    if first <= last {
        return Ok((first, last));
    }
    Err(range
        .error(format!("the range {} runs backwards", range.shown()))
        .help("write the part before and the part after the turn as two items"))
}

fn step(piece: Piece<'_>, (first, last): (u16, u16)) -> Result<u16, CronError> {
    let width = last - first + 1;
    let digits = !piece.text.is_empty() && piece.text.bytes().all(|byte| byte.is_ascii_digit());
    match piece.text.parse::<u16>() {
        Ok(step) if digits && (1..=width).contains(&step) => Ok(step),
        Ok(0) => Err(piece.error("a step of 0 never moves on").help("the smallest step is 1")),
        _ if digits => {
            let shown = piece.shown();
            Err(piece
                .error(format!(
                    "step {shown} is longer than the range {first}-{last} it steps over"
                ))
                .help("steps start anew in each range; for longer pauses use `every = ` instead"))
        }
        _ => Err(piece.error(format!("`{}` is not a step", piece.shown()))),
    }
}

/// The range a hashed slot is chosen from, where the item is `H` or `H(first-last)`.
fn hashed(piece: Piece<'_>, field: Field) -> Result<Option<(u16, u16)>, CronError> {
    let Some(rest) = piece.strip_prefix('H') else {
        return Ok(None);
    };
    let Some(all) = field.hashable() else {
        return Err(piece.error(format!("a {} cannot be hashed", field.name())));
    };
    if rest.text.is_empty() {
        return Ok(Some(all));
    }
    let inner = rest.strip_prefix('(').and_then(|inner| inner.strip_suffix(')'));
    let Some((first, last)) = inner.and_then(|inner| inner.split_once('-')) else {
        return Err(piece
            .error(format!("`{}` is not a hashed slot", piece.shown()))
            .help(format!("write H, H({}-{}) or H/{}", all.0, all.1, all.1.min(15))));
    };
    ascending(piece, field.value(first)?, field.value(last)?).map(Some)
}

/// A number below `slots` that depends on the seed and the field alone, so that `H` stays where it is across
/// restarts, reloads and machines, and differs between the fields of one expression.
fn slot(seed: &str, field: Field, slots: u16) -> u16 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(field.name().as_bytes());
    hasher.update(b"\0");
    hasher.update(seed.as_bytes());
    let mut head = [0; 8];
    head.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u16::try_from(u64::from_le_bytes(head) % u64::from(slots)).unwrap_or(0)
}
