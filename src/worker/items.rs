//! The items of a running job, in the store.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::jobs::Items;
use crate::model::{Chain, ItemReport, JobId, NodeId, OpenItem};
use crate::store::{Store, StoreError, whole_batches};

/// How many items are read at once.
const PAGE_ITEMS: i64 = 5000;

/// Those of one attempt.
#[derive(Debug)]
pub(super) struct StoredItems {
    pub(super) store: Store,
    pub(super) node: NodeId,
    pub(super) job: JobId,
    /// Which execution of the job: only what its owner says of them is kept.
    pub(super) attempt: u32,
}

impl StoredItems {
    async fn all_open(&self) -> Result<Vec<OpenItem>, StoreError> {
        let mut items: Vec<OpenItem> = Vec::new();
        let job = self.job;
        loop {
            let after = items.last().map(|item| item.position);
            let read = self
                .store
                .read(move |conn| whole_batches::open_items(conn, job, after, PAGE_ITEMS))
                .await?;
            if read.is_empty() {
                return Ok(items);
            }
            items.extend(read);
        }
    }
}

impl Items for StoredItems {
    fn open(&self) -> BoxFuture<'_, Result<Vec<OpenItem>, String>> {
        async { self.all_open().await.map_err(|error| Chain(&error).to_string()) }.boxed()
    }

    fn record(&self, reports: Arc<Vec<ItemReport>>) -> BoxFuture<'_, Result<(), String>> {
        let (node, job, attempt) = (self.node, self.job, self.attempt);
        let write = self
            .store
            .write_results(move |conn| whole_batches::record(conn, node, job, attempt, &reports));
        async { write.await.map(drop).map_err(|error| Chain(&error).to_string()) }.boxed()
    }
}
