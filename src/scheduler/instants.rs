//! Which instants of a schedule are due and undecided, however long the gap was.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::due::Entry;
use super::spread::Spread;
use crate::schedule::{CatchUpPolicy, Schedule};

/// How many instants of one gap get a row of their own, the newest ones. `catch_up = "all"` with a larger
/// `catch_up_max` raises it to that.
pub const LEDGER_ROWS_PER_GAP: usize = 1000;

/// How many of the older ones are counted for the row that sums them up. A second-by-second schedule that was down for ten
/// years has 315 million; nobody waits for that number.
const COUNTED_BEYOND: usize = 10_000;

/// The due instants that are not decided yet, oldest first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Undecided {
    /// Those before the rows, if there were too many.
    pub(super) earlier: Option<Earlier>,
    /// One each.
    pub(super) rows: Vec<Timestamp>,
    /// The one of the rows that was counted from the end of a run.
    pub(super) from_end: Option<Timestamp>,
}

/// Instants that share one row.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Earlier {
    pub(super) oldest: Timestamp,
    pub(super) newest: Timestamp,
    /// How many they are at least.
    pub(super) count: usize,
    /// Whether they are exactly that many.
    pub(super) exact: bool,
}

/// The due instants, and the instant that comes after them with the time at which it fires.
///
/// Instants are taken in nominal order: one whose jitter is short waits for an earlier one whose jitter is long.
pub(super) fn undecided(
    entry: &Entry<'_>,
    spread: &Spread<'_>,
    now: Timestamp,
) -> (Undecided, Option<(Timestamp, Timestamp)>) {
    let (newest, next) = newest_due(entry, spread, now);
    let mut due = newest.map_or_else(Undecided::default, |newest| walk_back(entry, newest));
    let Some((from_end, fires)) = from_end(entry, spread, now) else { return (due, next) };
    if fires > now {
        let next = next.filter(|(nominal, _)| *nominal <= from_end);
        return (due, next.or(Some((from_end, fires))));
    }
    if due.earlier.as_ref().is_some_and(|earlier| from_end <= earlier.newest) {
        return (due, next);
    }
    due.from_end = Some(from_end);
    if let Err(place) = due.rows.binary_search(&from_end) {
        due.rows.insert(place, from_end);
    }
    (due, next)
}

/// The newest instant of the calendar that is due, and the first that is not.
fn newest_due(
    entry: &Entry<'_>,
    spread: &Spread<'_>,
    now: Timestamp,
) -> (Option<Timestamp>, Option<(Timestamp, Timestamp)>) {
    let rule = &entry.schedule.when.rule;
    let mark = entry.ledger.decided_until;
    let first = rule.next_on_calendar(mark).map(|first| (first, entry.fire_at(spread, first)));
    if first.is_none_or(|(_, fires)| fires > now) {
        return (None, first);
    }
    // Whatever lies further back than the longest delay is due without looking at each.
    let mut newest = surely_due_until(entry, spread, now)
        .and_then(|bound| rule.previous_before(bound))
        .filter(|newest| *newest > mark);
    loop {
        let next = rule.next_on_calendar(newest.unwrap_or(mark));
        let next = next.map(|next| (next, entry.fire_at(spread, next)));
        match next {
            Some((nominal, fires)) if fires <= now => newest = Some(nominal),
            _ => return (newest, next),
        }
    }
}

/// Every nominal instant before this one has fired by `now`.
fn surely_due_until(entry: &Entry<'_>, spread: &Spread<'_>, now: Timestamp) -> Option<Timestamp> {
    let Schedule { id, when, .. } = entry.schedule;
    let longest = spread.offset(id, when).checked_add(when.jitter)?;
    now.checked_sub(SignedDuration::try_from(longest).ok()?).ok()
}

fn walk_back(entry: &Entry<'_>, newest: Timestamp) -> Undecided {
    let mark = entry.ledger.decided_until;
    let previous = |at: &Timestamp| {
        entry.schedule.when.rule.previous_before(*at).filter(|previous| *previous > mark)
    };
    let mut back = std::iter::successors(Some(newest), previous);
    let mut rows: Vec<Timestamp> = back.by_ref().take(most_rows(entry)).collect();
    rows.reverse();
    let earlier = back.next().map(|newest| {
        let count = 1 + back.by_ref().take(COUNTED_BEYOND).count();
        let exact = back.next().is_none();
        let oldest = entry.schedule.when.rule.next_on_calendar(mark).unwrap_or(newest);
        Earlier { oldest, newest, count, exact }
    });
    Undecided { earlier, rows, from_end: None }
}

fn most_rows(entry: &Entry<'_>) -> usize {
    let catch_up = &entry.schedule.when.catch_up;
    let caught_up = match catch_up.policy {
        CatchUpPolicy::All => usize::try_from(catch_up.max).unwrap_or(usize::MAX),
        CatchUpPolicy::None | CatchUpPolicy::Latest => 0,
    };
    caught_up.max(LEDGER_ROWS_PER_GAP)
}

/// The instant a period after the last end. There is none while a run is live, because its end is not known.
///
/// Where there was no run since the last decision (it was skipped), periods go on from that decision. Those that
/// passed unseen are no instants of their own: the latest stands for all.
fn from_end(
    entry: &Entry<'_>,
    spread: &Spread<'_>,
    now: Timestamp,
) -> Option<(Timestamp, Timestamp)> {
    if entry.live {
        return None;
    }
    let rule = &entry.schedule.when.rule;
    let period = rule.period_from_end()?;
    let mark = entry.ledger.decided_until;
    let after_a_run = entry.ledger.last_end.and_then(|end| rule.next_from_end(end, None));
    let nominal = match after_a_run.filter(|nominal| *nominal > mark) {
        Some(nominal) => nominal,
        None => latest_multiple(
            rule.next_from_end(mark, None)?,
            period,
            // The one that is waiting for its delay stays the same while it waits.
            surely_due_until(entry, spread, now).unwrap_or(Timestamp::MIN),
        ),
    };
    Some((nominal, entry.fire_at(spread, nominal)))
}

/// `first`, or the last instant a whole number of periods later that is not after `until`.
fn latest_multiple(first: Timestamp, period: Duration, until: Timestamp) -> Timestamp {
    let period = i64::try_from(period.as_micros()).unwrap_or(i64::MAX).max(1);
    let passed = until.as_microsecond().saturating_sub(first.as_microsecond()).max(0) / period;
    Timestamp::from_microsecond(first.as_microsecond() + passed * period).unwrap_or(first)
}
