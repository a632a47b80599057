//! The `data_sync` kind: makes a local directory like a directory or files on the web.
//!
//! A run looks at both sides, decides everything (`plan`, pure), holds the decision against the limits, and only then
//! touches the destination: transfers first, deletes last and only if nothing went wrong before.

mod attempt;
mod incoming;
mod listing;
mod local;
mod memory;
mod names;
mod pace;
mod params;
mod plan;
mod report;
mod root;
mod run;
#[cfg(test)]
mod tests;
mod tree;
mod web;

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::ports::http::HttpClient;
use super::{Answer, Context, Handler, Kind, check_as};
use params::SyncParams;

/// The `data_sync` kind.
pub const KIND: Kind = Kind::built_in(
    "data_sync",
    "makes a local directory like a directory or files on the web",
    check_as::<SyncParams>,
);

/// Runs `data_sync` jobs.
pub struct DataSyncHandler {
    client: Arc<dyn HttpClient>,
}

impl DataSyncHandler {
    /// A handler that fetches through `client`.
    #[must_use]
    pub fn new(client: Arc<dyn HttpClient>) -> Self {
        Self { client }
    }
}

impl Handler for DataSyncHandler {
    fn run(&self, context: Context) -> BoxFuture<'_, Answer> {
        let client = Arc::clone(&self.client);
        async move {
            context
                .blocking(move |context| match run::sync(context, client.as_ref()) {
                    Ok(result) => Answer::Done(result),
                    Err(halt) => halt.into(),
                })
                .await
        }
        .boxed()
    }
}
