//! The items of a batch that is done in one run, as its handler gets at them.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::model::{ItemReport, OpenItem};

/// Where the items of a run come from, and where what came of them goes.
pub trait Items: Send + Sync + fmt::Debug + 'static {
    /// Those that are not completed, in order.
    ///
    /// # Errors
    /// Why they cannot be read.
    fn open(&self) -> BoxFuture<'_, Result<Vec<OpenItem>, String>>;

    /// Keeps what came of some. An attempt that no longer owns its job changes nothing.
    ///
    /// # Errors
    /// Why it cannot be kept now; nothing of it is.
    fn record(&self, reports: Arc<Vec<ItemReport>>) -> BoxFuture<'_, Result<(), String>>;
}
