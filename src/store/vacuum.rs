//! Takes dead rows out of the queue's tables on PostgreSQL sooner than the server does by itself.
//!
//! A job that is claimed leaves its place in the queue, and PostgreSQL leaves the row and its entries in the indexes where they were until
//! somebody vacuums. The look for the first jobs begins at the low end of such an index, so it steps over all of them: a backlog of a million that
//! was worked off at 20,000 a second at first was worked off at 7,000 in the end, because the server looks for such tables once a minute.
//! To remember where the last claim ended instead would miss what another node submits before it.
//!
//! It is done on a connection that reads, so that no commit waits for it and a node has no connection more. Where the user may not vacuum, or
//! something else goes wrong, the server's own vacuum comes all the same.

use std::cell::Cell;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use super::condition::Fault;
use super::lane::{Class, Operation, WeakLane};
use super::{Conn, StoreError};
use crate::clock::{Clock, SystemClock};
use crate::model::Chain;

/// The tables whose rows come and go with each job.
const TABLES: &str = "'jobs_ready'::regclass, 'jobs_running'::regclass, 'jobs_scheduled'::regclass";

/// From how many dead rows on it is worth it. So many entries of an index fill about a hundred pages, over which a look steps in a fraction
/// of a millisecond; to vacuum more often costs more than that, because each time the whole index is read.
const DEAD_ROWS: i64 = 20_000;

/// How often a table is vacuumed at the most, by all nodes together, in seconds. What somebody's long transaction can still see cannot be taken out,
/// and is not to be tried without end.
const PAUSE_S: i64 = 5;

/// How often the server's statistics are looked at, which it brings up to date about as often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Has the tables looked at while there are commits.
pub(super) struct Vacuuming {
    readers: WeakLane,
    looked: Cell<Duration>,
}

impl Vacuuming {
    pub(super) fn on(readers: WeakLane) -> Self {
        Self { readers, looked: Cell::new(Duration::ZERO) }
    }

    /// Says that something was committed.
    pub(super) fn poke(&self) {
        let now = SystemClock.since_boot();
        if now.saturating_sub(self.looked.get()) >= LOOK_EVERY {
            self.looked.set(now);
            self.readers.offer(Box::new(Vacuum));
        }
    }
}

/// Looks, and vacuums what is worth it. Nobody waits for it.
struct Vacuum;

impl Operation for Vacuum {
    fn run(&mut self, conn: &mut Conn) -> bool {
        if let Conn::Postgres(conn) = conn
            && let Err(error) = vacuum(conn)
        {
            tracing::debug!(error = %Chain(&error), "the queue's tables could not be vacuumed; the server will do it");
        }
        true
    }

    fn fault(&self) -> Option<&Fault> {
        None
    }

    fn is_in_the_way(&self) -> bool {
        false
    }

    fn class(&self) -> Class {
        Class::Bare
    }

    fn answer(self: Box<Self>, _hindrance: Option<StoreError>) {}
}

#[derive(QueryableByName)]
struct Littered {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = BigInt)]
    dead: i64,
}

fn vacuum(conn: &mut PgConnection) -> QueryResult<()> {
    let littered: Vec<Littered> = diesel::sql_query(format!(
        "SELECT relid::regclass::text AS name, n_dead_tup AS dead FROM pg_stat_user_tables \
         WHERE relid IN ({TABLES}) AND n_dead_tup >= {DEAD_ROWS} \
         AND (last_vacuum IS NULL OR last_vacuum < now() - interval '{PAUSE_S} seconds')"
    ))
    .load(conn)?;
    for Littered { name, dead } in littered {
        // Nobody waits for a lock: not this one for another node that is at it, and nobody for the one that cutting the file would take.
        conn.batch_execute(&format!(
            "VACUUM (SKIP_LOCKED, INDEX_CLEANUP ON, TRUNCATE OFF) {name}"
        ))?;
        tracing::debug!(table = name, dead, "vacuumed");
    }
    Ok(())
}
