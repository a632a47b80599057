use std::sync::Arc;

use jiff::SignedDuration;

use super::*;
use crate::audit::Head;
use crate::clock::ManualClock;
use crate::jobs::RunPaths;
use crate::model::HumanDuration;
use crate::store::Conn;
use crate::store::history::{JobFilter, Page, job_ids};
use crate::store::testing::{TestDatabase, sqlite};

const DAY: u64 = 86_400;

struct House {
    database: TestDatabase,
    wall: ManualClock,
    folder: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        let wall = ManualClock::new("2026-06-15T12:00:00Z".parse().unwrap());
        Self { database: sqlite(), wall, folder: tempfile::tempdir().unwrap() }
    }

    /// What a daemon that starts now keeps house with.
    async fn upkeep(&self) -> Upkeep {
        let store = self.database.store().clone();
        let remembered = remembered_clock(&store).await.unwrap();
        let paths = Arc::new(RunPaths::under(self.folder.path()));
        let week = HumanDuration::from_secs(7 * DAY);
        Upkeep {
            history: Arc::new(History::new(store.clone(), paths)),
            store,
            node: NodeId(1),
            clock: CautiousClock::new(Arc::new(self.wall.clone()), remembered),
            retention: Retention {
                completed: week,
                failed: week,
                cancelled: week,
                occurrences: week,
                statistics: week,
            },
            audit: watch::channel(AuditHealth { head: Head::EMPTY, failing: None }).1,
        }
    }

    /// A completed job that ended so many days ago.
    async fn job(&self, id: i64, days_ago: i64) {
        let at = (self.wall.now() - SignedDuration::from_hours(24 * days_ago)).as_microsecond();
        let statements = format!(
            "INSERT INTO jobs (id, submission, kind, queue, priority, rank, params, run_at, created_at, actor, node_id)
             VALUES ({id}, {id}, 'cleanup', 'default', 5, 0, '{{}}', {at}, {at}, 'test', 1);
             INSERT INTO job_results (job_id, state, finished_at, attempts, charged)
             VALUES ({id}, 'completed', {at}, 1, 1);"
        );
        self.database.sql(&statements).await;
    }

    async fn keep_house(&self, upkeep: &Upkeep) {
        upkeep.note_clock(upkeep.clock.doubt().is_some()).await.unwrap();
        upkeep.run_once(&CancellationToken::new()).await;
    }

    /// The ids of the jobs that are left.
    async fn left(&self) -> Vec<i64> {
        let page = Page { limit: 100, before: None };
        let all = move |conn: &mut Conn| job_ids(conn, &JobFilter::default(), page);
        self.database.store().read(all).await.unwrap()
    }
}

#[tokio::test]
async fn d4_after_a_jump_of_ten_years_retention_deletes_what_was_old_before_it_and_nothing_else() {
    let house = House::new();
    house.job(1, 8).await;
    house.job(2, 6).await;
    let upkeep = house.upkeep().await;
    house.wall.step_to(house.wall.now() + SignedDuration::from_hours(24 * 3650));
    house.keep_house(&upkeep).await;
    assert_eq!(house.left().await, [2]);

    // A restart does not make the jump the truth.
    let upkeep = house.upkeep().await;
    house.keep_house(&upkeep).await;
    assert_eq!(house.left().await, [2]);

    // A day later nobody has put the clock right, so it is right.
    house.wall.advance(Duration::from_secs(DAY));
    house.keep_house(&upkeep).await;
    assert_eq!(house.left().await, [0_i64; 0]);
}
