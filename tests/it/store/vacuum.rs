//! What PostgreSQL leaves behind of rows that are gone.

use diesel::prelude::*;
use diesel::sql_types::BigInt;
use sexton::store::{Conn, StoreError};
use tokio::runtime::Runtime;

use crate::harness::daemon::eventually;
use crate::harness::{Queue, TestDatabase, job};

#[derive(QueryableByName)]
struct Vacuumed {
    #[diesel(sql_type = BigInt)]
    times: i64,
}

/// How often somebody has vacuumed the table of waiting jobs; what the server does of its own accord does not count.
fn vacuumed(conn: &mut Conn) -> Result<i64, StoreError> {
    let count = diesel::sql_query(
        "SELECT vacuum_count AS times FROM pg_stat_user_tables WHERE relid = 'jobs_ready'::regclass",
    );
    Ok(count.get_result::<Vacuumed>(conn)?.times)
}

#[test]
fn the_places_that_claimed_jobs_leave_behind_are_cleared_away_while_the_queue_is_at_work() {
    let Some(database) = TestDatabase::postgres() else { return };
    let runtime = Runtime::new().unwrap();
    let queue = runtime.block_on(Queue::open(database));
    for _ in 0..21 {
        runtime.block_on(queue.submit_all(0, vec![job(); 1000]));
    }
    queue.database.execute("DELETE FROM jobs_ready");
    eventually("somebody vacuums", || {
        // Each commit is an occasion to look.
        runtime.block_on(queue.submit(0, job()));
        (runtime.block_on(queue.read(vacuumed)) > 0).then_some(())
    });
}
