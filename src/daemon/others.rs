//! How an engine meets the other nodes of its database: in the time that all of them go by, and on the wire on which they wake each other.

use std::sync::Arc;

use jiff::Timestamp;

use crate::clock::{Clock as _, DatabaseClock, Sample, SharedClock};
use crate::store::wakeups::{Heard, Wakeups};
use crate::store::{Conn, DatabaseUrl, Store, StoreError, nodes};

/// Asks the database what time it is there.
pub type AskTime = Arc<dyn Fn(&mut Conn) -> Result<Timestamp, StoreError> + Send + Sync>;

/// Opens the wire to the other nodes. What is heard on it goes to the given listener.
pub type OpenWire = Box<dyn FnOnce(Heard) -> Result<Wakeups, StoreError> + Send>;

/// What an engine has that is not alone on its database.
pub struct Others {
    pub(super) time: DatabaseTime,
    pub(super) wire: OpenWire,
}

impl Others {
    /// Measures how far this machine's clock is off the database's, before anything is decided by it.
    ///
    /// # Errors
    /// When the database does not tell its time.
    pub async fn meet(
        store: &Store,
        own: &SharedClock,
        ask: AskTime,
        wire: OpenWire,
    ) -> Result<Self, StoreError> {
        let time = DatabaseTime { clock: Arc::new(DatabaseClock::new(Arc::clone(own))), ask };
        time.learn(time.sample(store).await?);
        Ok(Self { time, wire })
    }

    /// Those on a PostgreSQL. An SQLite database has one node.
    ///
    /// # Errors
    /// As those of [`Self::meet`].
    pub(super) async fn of(store: &Store, own: &SharedClock) -> Result<Option<Self>, StoreError> {
        let url = store.url().clone();
        if matches!(url, DatabaseUrl::Sqlite(_)) {
            return Ok(None);
        }
        let wire = Box::new(move |heard| Wakeups::open(&url, heard));
        Self::meet(store, own, Arc::new(nodes::database_time), wire).await.map(Some)
    }

    /// The time that all nodes go by.
    #[must_use]
    pub fn clock(&self) -> SharedClock {
        Arc::clone(&self.time.clock) as SharedClock
    }
}

/// The database's clock, as this node knows it.
#[derive(Clone)]
pub(super) struct DatabaseTime {
    clock: Arc<DatabaseClock>,
    ask: AskTime,
}

impl DatabaseTime {
    /// Asks the database for its time.
    pub(super) async fn sample(&self, store: &Store) -> Result<Sample, StoreError> {
        let (clock, ask) = (Arc::clone(&self.clock), Arc::clone(&self.ask));
        let look = move |conn: &mut Conn| {
            let asked_at = clock.now();
            let database = ask(conn)?;
            Ok(Sample { asked_at, database, answered_at: clock.now(), machine: clock.own().now() })
        };
        store.read(look).await
    }

    /// Puts the clock right by a sample, and says so.
    pub(super) fn learn(&self, sample: Sample) {
        if let Some(correction) = self.clock.learn(sample) {
            tracing::warn!(
                correction_ms = i64::try_from(correction.as_millis()).unwrap_or(i64::MAX),
                "the time here was not the database's; it is put right by that from now on"
            );
        }
    }
}
