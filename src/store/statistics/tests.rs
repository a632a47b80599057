use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::model::{Decision, FinalState, Outcome};
use crate::store::testing::{TestDatabase, databases};
use crate::store::{Conn, StoreError};

const MIDNIGHT: &str = "2026-11-21T00:00:00Z";

fn at(second: i64) -> Timestamp {
    MIDNIGHT.parse::<Timestamp>().unwrap() + SignedDuration::from_secs(second)
}

/// Jobs 1 to `count`, each with one attempt that ended in the second of its number, two at a time. Every third failed,
/// every fifth was made by hand.
async fn fill(database: &TestDatabase, count: i64) {
    let mut sql = String::new();
    for id in 1..=count {
        let end = at(id / 2).as_microsecond();
        let start = end - 1000 * id;
        let (state, outcome) =
            if id % 3 == 0 { ("failed", "failure") } else { ("completed", "success") };
        let schedule = if id % 5 == 0 { "NULL" } else { "'nightly'" };
        sql.push_str(&format!(
            "INSERT INTO jobs (submission, kind, schedule, nominal_at, queue, priority, rank, params, run_at, created_at, actor, node_id)
             VALUES ({id}, 'cleanup', {schedule}, {start}, 'default', 5, 0, '{{}}', {start}, {start}, 'scheduler', 1);
             INSERT INTO attempts (job_id, number, outcome, node_id, started_at, finished_at)
             VALUES ({id}, 1, '{outcome}', 1, {start}, {end});
             INSERT INTO job_results (job_id, state, finished_at, attempts, charged, error)
             VALUES ({id}, '{state}', {end}, 1, 1, NULL);
             INSERT INTO occurrences (schedule, nominal_at, decision, reason, job_id, decided_at, revision, instants, actor, node_id)
             VALUES ('nightly', {id}, 'missed', 'down', NULL, {end}, 'r', 2, 'scheduler', 1);"
        ));
    }
    database.sql(&sql).await;
}

async fn all<T: Send + 'static>(
    database: &TestDatabase,
    (from, to): (Timestamp, Timestamp),
    limit: i64,
    read: fn(&mut Conn, Slice) -> Result<FactPage<T>, StoreError>,
) -> Vec<T> {
    let mut rows = Vec::new();
    let mut after = None;
    loop {
        let slice = Slice { from, to, after, limit };
        let page = database.store().read(move |conn| read(conn, slice)).await.unwrap();
        assert!(i64::try_from(page.rows.len()).unwrap() <= limit);
        rows.extend(page.rows);
        after = page.next;
        if after.is_none() {
            return rows;
        }
    }
}

#[tokio::test]
async fn pages_of_any_size_hold_every_row_of_the_slice_once_and_in_order() {
    for database in databases() {
        fill(&database, 23).await;
        // Seconds 2 to 9: jobs 4 to 19. Second 10, where the slice ends, is not part of it.
        let slice = (at(2), at(10));
        for limit in [1, 2, 3, 7, 16, 100] {
            let attempts = all(&database, slice, limit, attempts).await;
            let jobs: Vec<i64> = attempts.iter().map(|attempt| attempt.job.0).collect();
            assert_eq!(jobs, (4..=19).collect::<Vec<_>>(), "{limit}");
            let results = all(&database, slice, limit, results).await;
            let jobs: Vec<i64> = results.iter().map(|result| result.job.0).collect();
            assert_eq!(jobs, (4..=19).collect::<Vec<_>>(), "{limit}");
            let occurrences = all(&database, slice, limit, occurrences).await;
            let instants: Vec<i64> =
                occurrences.iter().map(|row| row.nominal_at.as_microsecond()).collect();
            assert_eq!(instants, (4..=19).collect::<Vec<_>>(), "{limit}");
        }
    }
}

#[tokio::test]
async fn rows_are_read_as_they_were_written() {
    for database in databases() {
        fill(&database, 6).await;
        let everything = (at(0), at(100));
        let attempts = all(&database, everything, 100, attempts).await;
        assert_eq!(attempts[5].outcome, Outcome::Failure);
        assert_eq!(attempts[5].duration_us(), 6000);
        assert_eq!((attempts[5].wait_us(), attempts[5].lateness_us()), (Some(0), Some(0)));
        assert_eq!(attempts[4].schedule, None);
        let results = all(&database, everything, 100, results).await;
        assert_eq!(results[5].state, FinalState::Failed);
        let occurrences = all(&database, everything, 100, occurrences).await;
        assert_eq!((occurrences[0].decision, occurrences[0].instants), (Decision::Missed, 2));
    }
}

#[tokio::test]
async fn a_value_of_another_version_is_an_error_that_names_it() {
    for database in databases() {
        fill(&database, 1).await;
        database.sql("UPDATE occurrences SET decision = 'postponed'").await;
        let slice = Slice { from: at(0), to: at(9), after: None, limit: 9 };
        let error = database.store().read(move |conn| occurrences(conn, slice)).await.unwrap_err();
        assert!(error.to_string().contains("`postponed` is not a decision"), "{error}");
    }
}

fn day(day: &str, completed: i64) -> DayRow {
    DayRow {
        day: day.to_owned(),
        schedule: "nightly".to_owned(),
        kind: "cleanup".to_owned(),
        completed,
        failed: 0,
        cancelled: 0,
        attempts: completed,
        duration_total_us: 0,
        duration_max_us: 0,
        wait_total_us: 0,
        wait_max_us: 0,
    }
}

#[tokio::test]
async fn sums_are_replaced_and_the_mark_never_goes_back() {
    for database in databases() {
        let store = database.store();
        let (later, earlier) = ("2026-11-22".parse().unwrap(), "2026-11-20".parse().unwrap());
        assert_eq!(store.read(rolled_up_before).await.unwrap(), None);
        for (completed, before) in [(1, later), (3, earlier)] {
            let rows = [day("2026-11-19", completed), day("2026-11-21", completed)];
            store.write(move |conn| keep_days(conn, &rows, before)).await.unwrap();
        }
        assert_eq!(store.read(rolled_up_before).await.unwrap(), Some(later));
        let kept = store.read(move |conn| days(conn, earlier, later)).await.unwrap();
        assert_eq!(kept, [day("2026-11-21", 3)]);
    }
}
