//! Reads a period from a source and makes its numbers.

use std::ops::ControlFlow;

use jiff::{Timestamp, Zoned};

use super::facts::{FuturePage, Page};
use super::numbers::{Change, Numbers, PeriodNumbers, Previous, SCHEMA_VERSION, Scope};
use super::tally::{Tally, Totals};
use super::{Cursor, Period, PeriodError, Source, SourceError, Window};

/// What a report is to be about.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Which stretch of time.
    pub period: Period,
    /// The instant it is relative to, in the zone whose days count.
    pub reference: Zoned,
    /// Whether to compare with the period before.
    pub compare: bool,
    /// What it is restricted to.
    pub scope: Scope,
    /// The machine the report is made on.
    pub host: String,
    /// When it is made.
    pub now: Timestamp,
}

/// Why there are no numbers.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// The period has no window.
    #[error("the period cannot be worked out")]
    Period(#[from] PeriodError),
    /// The rows could not be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The watcher said so.
    #[error("it was stopped")]
    Stopped,
}

/// Makes the numbers of a period. `watch` is told after each page how many rows were read in all, and can stop it.
///
/// # Errors
/// When the period has no window, the rows cannot be read, or `watch` breaks off.
pub async fn gather(
    source: &dyn Source,
    request: &Request,
    watch: impl FnMut(u64) -> ControlFlow<()> + Send,
) -> Result<Numbers, GatherError> {
    let window = request.period.window(&request.reference)?;
    let mut reader = Reader { source, request, watch, rows: 0 };
    let totals = reader.read(window).await?;
    let previous = if request.compare {
        let window = request.period.previous(&request.reference)?;
        let summary = reader.read(window).await?.summary;
        let change = Change::between(&summary, &totals.summary);
        Some(Previous { from: window.from, to: window.to, summary, change })
    } else {
        None
    };
    let zone = request.reference.time_zone();
    Ok(Numbers {
        schema_version: SCHEMA_VERSION,
        generated_at: request.now,
        host: request.host.clone(),
        period: PeriodNumbers {
            name: request.period.name(),
            timezone: zone.iana_name().unwrap_or("UTC").to_owned(),
            from: window.from,
            to: window.to,
        },
        scope: request.scope.clone(),
        summary: totals.summary,
        previous,
        outcomes: totals.outcomes,
        kinds: totals.kinds,
        schedules: totals.schedules,
        throughput: totals.throughput,
        durations: totals.durations,
        not_run: totals.not_run,
        slowest: totals.slowest,
        failures: totals.failures,
    })
}

struct Reader<'a, W> {
    source: &'a dyn Source,
    request: &'a Request,
    watch: W,
    rows: u64,
}

impl<'a, W: FnMut(u64) -> ControlFlow<()> + Send> Reader<'a, W> {
    async fn read(&mut self, window: Window) -> Result<Totals, GatherError> {
        let source = self.source;
        let zone = self.request.reference.time_zone();
        let mut tally = Tally::new(window, zone, self.request.scope.clone())?;
        self.pages(|after| source.attempts(window, after), |row| tally.attempt(row)).await?;
        self.pages(|after| source.results(window, after), |row| tally.result(row)).await?;
        self.pages(|after| source.occurrences(window, after), |row| tally.occurrence(row)).await?;
        Ok(tally.finish())
    }

    async fn pages<T: 'a>(
        &mut self,
        fetch: impl Fn(Option<Cursor>) -> FuturePage<'a, T>,
        mut take: impl FnMut(&T),
    ) -> Result<(), GatherError> {
        let mut after = None;
        loop {
            let Page { rows, next } = fetch(after).await?;
            rows.iter().for_each(&mut take);
            self.rows += rows.len() as u64;
            if (self.watch)(self.rows).is_break() {
                return Err(GatherError::Stopped);
            }
            match next {
                Some(_) => after = next,
                None => return Ok(()),
            }
        }
    }
}
