//! What a report is made of: the rows of a window, in pages.

use std::error::Error;

use futures_util::future::BoxFuture;

use super::Window;
use crate::store::statistics::{self, Slice};
pub use crate::store::statistics::{
    AttemptFact, Cursor, FactPage as Page, OccurrenceFact, ResultFact,
};
use crate::store::{Conn, Store, StoreError};

/// The rows of a period could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the {what} of the period")]
pub struct SourceError {
    /// Which rows.
    pub what: &'static str,
    /// Why not.
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}

/// A page of rows, once it has been read.
pub type FuturePage<'a, T> = BoxFuture<'a, Result<Page<T>, SourceError>>;

/// Where the rows of a window come from.
///
/// Rows are asked for in pages and never held together, so a report over a million attempts needs the memory of one page.
/// Rows that end while a report is being made may or may not be in it; every row that had ended before is.
pub trait Source: Send + Sync + 'static {
    /// Attempts that ended in the window, in order of that time.
    fn attempts(&self, window: Window, after: Option<Cursor>) -> FuturePage<'_, AttemptFact>;

    /// Jobs that ended in the window, in order of that time.
    fn results(&self, window: Window, after: Option<Cursor>) -> FuturePage<'_, ResultFact>;

    /// Decisions that were made in the window, in order of that time.
    fn occurrences(&self, window: Window, after: Option<Cursor>) -> FuturePage<'_, OccurrenceFact>;
}

/// How many rows are read at a time: enough to make the way to the database cheap, few enough not to be felt in memory or by
/// other readers.
const PAGE_ROWS: i64 = 2000;

impl Source for Store {
    fn attempts(&self, window: Window, after: Option<Cursor>) -> FuturePage<'_, AttemptFact> {
        page(self, "attempts", window, after, statistics::attempts)
    }

    fn results(&self, window: Window, after: Option<Cursor>) -> FuturePage<'_, ResultFact> {
        page(self, "finished jobs", window, after, statistics::results)
    }

    fn occurrences(&self, window: Window, after: Option<Cursor>) -> FuturePage<'_, OccurrenceFact> {
        page(self, "schedule decisions", window, after, statistics::occurrences)
    }
}

fn page<'a, T: Send + 'static>(
    store: &'a Store,
    what: &'static str,
    window: Window,
    after: Option<Cursor>,
    read: fn(&mut Conn, Slice) -> Result<Page<T>, StoreError>,
) -> FuturePage<'a, T> {
    let slice = Slice { from: window.from, to: window.to, after, limit: PAGE_ROWS };
    Box::pin(async move {
        let page = store.read(move |conn| read(conn, slice)).await;
        page.map_err(|source| SourceError { what, source: Box::new(source) })
    })
}
