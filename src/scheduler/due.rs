//! What is due: from schedules, what is remembered of them and the time, to decisions and the next wake-up.
//!
//! Nothing here reads a clock or a database. The caller records the decisions (whose `(schedule, nominal_at)` is
//! unique in the ledger) and by that moves `decided_until`; the next pass starts there. So it does not matter how the
//! time between two passes came about: downtime, suspend, a forward step of the clock and a slow disk are one case, a
//! gap, and the catch-up policy decides about it.
//!
//! **When the clock goes back**, instants up to `decided_until` stay decided. A step of up to [`CORRECTION_AFTER`] is
//! waited out, by fixed times and intervals alike: an interval's instants in the repeated stretch have the same
//! names as those that ran, and a name runs once. A longer step means that either the clock was wrong before or is wrong
//! now, which cannot be told from here. Such a schedule is reported as `ahead` and decides nothing, and the caller
//! chooses: at start it waits for a plausible time; later it takes the new time as the right one and sets
//! `decided_until` to it in the ledger. Rows that exist for instants of the old future still protect those.
//!
//! **Ends of other schedules' jobs** are given beside the ledger and come in any order, so no mark says which of them are decided: each is
//! noted until it is. What becomes of the instants that they make is decided with the others.
//!
//! **When a rule is edited**, the caller sets `decided_until` to the time of the edit, so that it never fires
//! instants from before it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::catch_up::{self, Candidate};
use super::exclusion::Exclusion;
use super::instants::{Earlier, Undecided, undecided};
use super::spread::Spread;
use crate::model::{Cause, Decision, JobEnd, Ledger, ScheduleId};
use crate::schedule::Schedule;

/// An instant that is decided later than this after it should have fired is late, and the catch-up policy's business.
pub const LATE_AFTER: Duration = Duration::from_secs(60);

/// A step of the clock that is longer than this is a correction. It is cronie's limit.
pub const CORRECTION_AFTER: Duration = Duration::from_secs(3 * 3600);

/// A schedule and what is remembered of it.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The schedule.
    pub schedule: &'a Schedule,
    /// Its ledger.
    pub ledger: &'a Ledger,
    /// Whether a job of it is not over. Only a period from the end of a run looks at it: it is not due meanwhile,
    /// so the caller asks again when the job is over.
    pub live: bool,
    /// Ends of other schedules' jobs that make this one due and are not decided about, in any order.
    pub ends: &'a [JobEnd],
}

impl Entry<'_> {
    pub(super) fn fire_at(&self, spread: &Spread<'_>, nominal: Timestamp) -> Timestamp {
        spread.fire_at(&self.schedule.id, &self.schedule.when, nominal)
    }

    /// When the instant that an end makes fires. It has happened, so one that seems to lie ahead (the clock was set back since) is due.
    fn fires_after(&self, spread: &Spread<'_>, end: &JobEnd, now: Timestamp) -> Timestamp {
        if end.at > now { now } else { self.fire_at(spread, end.at) }
    }
}

/// What is to be done about an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A job is to be made, if requirements and overlap allow.
    Enqueue,
    /// A later instant of the same pass stands for it.
    Coalesced,
    /// The schedule is paused.
    SkippedPaused,
    /// It is in a blackout, or outside `not_before`/`not_after`.
    SkippedBlackout,
    /// It passed while nobody could act on it.
    Missed,
}

impl Verdict {
    /// What goes into the ledger as it stands; `None` where a job is to be made and more has to be asked.
    #[must_use]
    pub fn settled(self) -> Option<Decision> {
        match self {
            Self::Enqueue => None,
            Self::Coalesced => Some(Decision::Coalesced),
            Self::SkippedPaused => Some(Decision::SkippedPaused),
            Self::SkippedBlackout => Some(Decision::SkippedBlackout),
            Self::Missed => Some(Decision::Missed),
        }
    }
}

/// A decision about an instant, or about several that share a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueDecision {
    /// Whose instant it is.
    pub schedule: ScheduleId,
    /// The instant the rule names; the oldest where several share the row.
    pub nominal_at: Timestamp,
    /// When it should have fired, with offset and jitter.
    pub fire_at: Timestamp,
    /// What is to be done.
    pub verdict: Verdict,
    /// What made the instant.
    pub cause: Cause,
    /// Why, in words for people.
    pub reason: String,
    /// How many instants the row stands for; at least that many where the reason says so.
    pub instants: i64,
}

/// The next undecided instant of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextFire {
    /// The instant the rule names.
    pub nominal_at: Timestamp,
    /// When it fires, with offset and jitter.
    pub fire_at: Timestamp,
}

/// What is due of one schedule.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Due {
    /// In nominal order.
    pub decisions: Vec<DueDecision>,
    /// What comes after them.
    pub next: Option<NextFire>,
    /// Whether the ledger lies further ahead of the clock than [`CORRECTION_AFTER`]. Nothing is decided then.
    pub ahead: bool,
}

/// What is due of all schedules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pass {
    /// By schedule in the order given, and within a schedule in nominal order.
    pub decisions: Vec<DueDecision>,
    /// When to look again, if nothing else happens.
    pub next_wakeup: Option<Timestamp>,
    /// Schedules whose ledgers lie further ahead of the clock than [`CORRECTION_AFTER`].
    pub ahead: Vec<ScheduleId>,
}

/// Decides about every due instant of every schedule.
#[must_use]
pub fn due<'a>(
    entries: impl IntoIterator<Item = Entry<'a>>,
    spread: &Spread<'_>,
    now: Timestamp,
) -> Pass {
    let mut pass = Pass::default();
    for entry in entries {
        let due = decide(&entry, spread, now);
        if due.ahead {
            pass.ahead.push(entry.schedule.id.clone());
        }
        let fire_at = due.next.map(|next| next.fire_at);
        pass.next_wakeup = pass.next_wakeup.into_iter().chain(fire_at).min();
        pass.decisions.extend(due.decisions);
    }
    pass
}

/// Decides about every due instant of one schedule. A disabled schedule has none.
///
/// The work and the number of decisions are bounded for a gap of any length, by `LEDGER_ROWS_PER_GAP`.
#[must_use]
pub fn decide(entry: &Entry<'_>, spread: &Spread<'_>, now: Timestamp) -> Due {
    if !entry.schedule.enabled {
        return Due::default();
    }
    if is_ahead(entry.ledger, now) {
        return Due { ahead: true, ..Due::default() };
    }
    let (undecided, next) = undecided(entry, spread, now);
    let next = next.map(|(nominal_at, fire_at)| NextFire { nominal_at, fire_at });
    let (ends, to_come): (Vec<&JobEnd>, Vec<&JobEnd>) =
        entry.ends.iter().partition(|end| entry.fires_after(spread, end, now) <= now);
    let after_ends = to_come.into_iter().map(|end| next_after(entry, spread, end));
    Due {
        decisions: decisions(entry, spread, &undecided, &ends, now),
        next: next.into_iter().chain(after_ends).min_by_key(|next| next.fire_at),
        ahead: false,
    }
}

fn next_after(entry: &Entry<'_>, spread: &Spread<'_>, end: &JobEnd) -> NextFire {
    NextFire { nominal_at: end.at, fire_at: entry.fire_at(spread, end.at) }
}

/// The next undecided instant of a schedule, which may be past. It may also turn out to be skipped:
/// [`Exclusion::of`] tells.
#[must_use]
pub fn next_fire(entry: &Entry<'_>, spread: &Spread<'_>) -> Option<NextFire> {
    if !entry.schedule.enabled {
        return None;
    }
    let (_none_due, next) = undecided(entry, spread, Timestamp::MIN);
    let next = next.map(|(nominal_at, fire_at)| NextFire { nominal_at, fire_at });
    let after_ends = entry.ends.iter().map(|end| next_after(entry, spread, end));
    next.into_iter().chain(after_ends).min_by_key(|next| next.fire_at)
}

fn is_ahead(ledger: &Ledger, now: Timestamp) -> bool {
    let lead = ledger.decided_until.duration_since(now);
    SignedDuration::try_from(CORRECTION_AFTER).is_ok_and(|limit| lead > limit)
}

fn decisions(
    entry: &Entry<'_>,
    spread: &Spread<'_>,
    undecided: &Undecided,
    ends: &[&JobEnd],
    now: Timestamp,
) -> Vec<DueDecision> {
    let pause = entry.ledger.pause.as_deref();
    let when = &entry.schedule.when;
    let exclusion = |nominal, fire_at| Exclusion::of(when, pause, nominal, fire_at, now);
    let of_the_rule = undecided
        .rows
        .iter()
        .map(|nominal| Row::new(candidate(entry, spread, *nominal, undecided.from_end, now), None));
    let of_ends = ends.iter().map(|end| {
        let fire_at = entry.fires_after(spread, end, now);
        Row::new(
            Candidate { nominal_at: end.at, fire_at, fresh: is_fresh(fire_at, now) },
            Some(end),
        )
    });
    let mut rows: Vec<Row<'_>> = of_the_rule.chain(of_ends).collect();
    rows.sort_by_key(|row| row.candidate.nominal_at);
    for row in &mut rows {
        row.exclusion = exclusion(row.candidate.nominal_at, row.candidate.fire_at);
    }
    let free: Vec<Candidate> =
        rows.iter().filter(|row| row.exclusion.is_none()).map(|row| row.candidate).collect();
    let verdicts = catch_up::verdicts(&when.catch_up, &free, now);

    let mut decisions = Vec::with_capacity(rows.len() + 1);
    if let Some(earlier) = &undecided.earlier {
        let fire_at = |nominal| entry.fire_at(spread, nominal);
        let at_both_ends =
            [earlier.oldest, earlier.newest].map(|nominal| exclusion(nominal, fire_at(nominal)));
        let (verdict, reason) = match at_both_ends {
            [Some(first), Some(last)] if first == last => excluded(&first),
            _ => catch_up::summary(verdicts.last(), when.catch_up.policy),
        };
        decisions.push(DueDecision {
            schedule: entry.schedule.id.clone(),
            nominal_at: earlier.oldest,
            fire_at: fire_at(earlier.oldest),
            verdict,
            cause: Cause::Rule,
            reason: format!("{}: {reason}", range(earlier)),
            instants: i64::try_from(earlier.count).unwrap_or(i64::MAX),
        });
    }
    let mut verdicts = verdicts.into_iter();
    decisions.extend(rows.iter().filter_map(|row| {
        let (verdict, reason) = match &row.exclusion {
            Some(exclusion) => excluded(exclusion),
            None => verdicts.next()?,
        };
        let (cause, reason) = match row.end {
            Some(end) => (Cause::End, format!("after {end}: {reason}")),
            None => (Cause::Rule, reason),
        };
        Some(DueDecision {
            schedule: entry.schedule.id.clone(),
            nominal_at: row.candidate.nominal_at,
            fire_at: row.candidate.fire_at,
            verdict,
            cause,
            reason,
            instants: 1,
        })
    }));
    decisions
}

/// A due instant on its way to a decision.
struct Row<'a> {
    candidate: Candidate,
    /// The end that made it, if it was one.
    end: Option<&'a JobEnd>,
    exclusion: Option<Exclusion<'a>>,
}

impl<'a> Row<'a> {
    fn new(candidate: Candidate, end: Option<&'a JobEnd>) -> Self {
        Self { candidate, end, exclusion: None }
    }
}

/// A period from the end of a run is never late: nothing was missed, since the next one counts from its run's end.
fn candidate(
    entry: &Entry<'_>,
    spread: &Spread<'_>,
    nominal_at: Timestamp,
    from_end: Option<Timestamp>,
    now: Timestamp,
) -> Candidate {
    let fire_at = entry.fire_at(spread, nominal_at);
    let fresh = is_fresh(fire_at, now) || from_end == Some(nominal_at);
    Candidate { nominal_at, fire_at, fresh }
}

fn is_fresh(fire_at: Timestamp, now: Timestamp) -> bool {
    Duration::try_from(now.duration_since(fire_at)).unwrap_or_default() <= LATE_AFTER
}

fn excluded(exclusion: &Exclusion<'_>) -> (Verdict, String) {
    let verdict = match exclusion {
        Exclusion::Paused(_) => Verdict::SkippedPaused,
        Exclusion::TooEarly(_) | Exclusion::TooLate(_) | Exclusion::Blackout(_) => {
            Verdict::SkippedBlackout
        }
    };
    (verdict, exclusion.reason())
}

fn range(earlier: &Earlier) -> String {
    let Earlier { oldest, newest, count, exact } = earlier;
    let least = if *exact { "" } else { "at least " };
    format!("{least}{count} instants from {oldest} to {newest}")
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
