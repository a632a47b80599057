//! Sums up each day that is over, so that its numbers outlive its rows.
//!
//! It has to come before pruning: what pruning deletes cannot be summed up any more. A day is summed up once, from its
//! rows, and the mark of what is done moves with the sums in one transaction; a run that breaks off is done again.

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

use crate::model::FinalState;
use crate::store::statistics::{self, AttemptFact, Cursor, DayRow, FactPage, ResultFact, Slice};
use crate::store::{Conn, Store, StoreError};

/// How long after its midnight a day is over. An attempt is recorded some moments after its end, longer when the disk was
/// full; what comes later than this is in no day's sums.
const SETTLING: SignedDuration = SignedDuration::from_mins(10);
/// How many rows are read at a time.
const PAGE_ROWS: i64 = 2000;

/// What a run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Days that were summed up. Days on which nothing ended are passed over.
    pub days: usize,
    /// Sums that were kept, one for each schedule and kind on each day.
    pub sums: usize,
}

/// Sums up every day (UTC) that is over and not summed up yet.
///
/// # Errors
/// When the database refuses. What was summed up until then is kept.
pub async fn run_once(store: &Store, now: Timestamp) -> Result<Counts, StoreError> {
    let current = (now - SETTLING).to_zoned(TimeZone::UTC).date();
    let mut counts = Counts::default();
    let mut done_before = store.read(statistics::rolled_up_before).await?;
    if done_before.is_some_and(|mark| mark > current) {
        store.write(move |conn| statistics::set_mark_back(conn, current)).await?;
        done_before = Some(current);
    }
    loop {
        let from = done_before.map_or(Timestamp::MIN, midnight);
        let next = store.read(move |conn| statistics::first_end(conn, from)).await?;
        let day = next.map(|at| at.to_zoned(TimeZone::UTC).date()).filter(|day| *day < current);
        let Some(day) = day else { break };
        let sums = sum_up(store, day).await?;
        counts.days += 1;
        counts.sums += sums.len();
        let before = day.saturating_add(1.day());
        store.write(move |conn| statistics::keep_days(conn, &sums, before)).await?;
        done_before = Some(before);
    }
    if done_before.is_none_or(|before| before < current) {
        store.write(move |conn| statistics::keep_days(conn, &[], current)).await?;
    }
    Ok(counts)
}

fn midnight(day: Date) -> Timestamp {
    day.to_zoned(TimeZone::UTC).map_or(Timestamp::MAX, |midnight| midnight.timestamp())
}

async fn sum_up(store: &Store, day: Date) -> Result<Vec<DayRow>, StoreError> {
    let window = (midnight(day), midnight(day.saturating_add(1.day())));
    let mut sums = Sums { day: day.to_string(), rows: BTreeMap::new() };
    pages(store, window, statistics::attempts, |attempt| sums.attempt(attempt)).await?;
    pages(store, window, statistics::results, |result| sums.result(result)).await?;
    Ok(sums.rows.into_values().collect())
}

async fn pages<T: Send + 'static>(
    store: &Store,
    (from, to): (Timestamp, Timestamp),
    read: fn(&mut Conn, Slice) -> Result<FactPage<T>, StoreError>,
    mut take: impl FnMut(&T),
) -> Result<(), StoreError> {
    let mut after: Option<Cursor> = None;
    loop {
        let slice = Slice { from, to, after, limit: PAGE_ROWS };
        let page = store.read(move |conn| read(conn, slice)).await?;
        page.rows.iter().for_each(&mut take);
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

/// The database has no unsigned numbers.
fn signed(micros: u64) -> i64 {
    i64::try_from(micros).unwrap_or(i64::MAX)
}

struct Sums {
    day: String,
    rows: BTreeMap<(String, String), DayRow>,
}

impl Sums {
    fn attempt(&mut self, attempt: &AttemptFact) {
        let row = self.row(attempt.schedule.as_deref(), &attempt.kind);
        row.attempts += 1;
        if attempt.outcome.is_charged() {
            let took = signed(attempt.duration_us());
            row.duration_total_us = row.duration_total_us.saturating_add(took);
            row.duration_max_us = row.duration_max_us.max(took);
        }
        if let Some(waited) = attempt.wait_us().map(signed) {
            row.wait_total_us = row.wait_total_us.saturating_add(waited);
            row.wait_max_us = row.wait_max_us.max(waited);
        }
    }

    fn result(&mut self, result: &ResultFact) {
        let row = self.row(result.schedule.as_deref(), &result.kind);
        match result.state {
            FinalState::Completed => row.completed += 1,
            FinalState::Failed => row.failed += 1,
            FinalState::Cancelled => row.cancelled += 1,
        }
    }

    fn row(&mut self, schedule: Option<&str>, kind: &str) -> &mut DayRow {
        let key = (schedule.unwrap_or_default().to_owned(), kind.to_owned());
        self.rows.entry(key).or_insert_with_key(|(schedule, kind)| DayRow {
            day: self.day.clone(),
            schedule: schedule.clone(),
            kind: kind.clone(),
            completed: 0,
            failed: 0,
            cancelled: 0,
            attempts: 0,
            duration_total_us: 0,
            duration_max_us: 0,
            wait_total_us: 0,
            wait_max_us: 0,
        })
    }
}

#[cfg(test)]
mod tests;
