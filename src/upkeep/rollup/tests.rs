use super::*;
use crate::store::testing::{TestDatabase, databases};

/// A job with one attempt of `seconds` that ended then and had waited for 2 seconds.
async fn job(
    database: &TestDatabase,
    id: i64,
    schedule: &str,
    end: &str,
    seconds: i64,
    outcome: &str,
) {
    let end = end.parse::<Timestamp>().unwrap().as_microsecond();
    let start = end - seconds * 1_000_000;
    let due = start - 2_000_000;
    let state = if outcome == "success" { "completed" } else { "failed" };
    let statements = format!(
        "INSERT INTO jobs (submission, kind, schedule, queue, priority, rank, params, run_at, created_at, actor, node_id)
         VALUES ({id}, 'cleanup', {schedule}, 'default', 5, 0, '{{}}', {due}, {due}, 'scheduler', 1);
         INSERT INTO attempts (job_id, number, outcome, node_id, started_at, finished_at)
         VALUES ({id}, 1, '{outcome}', 1, {start}, {end});
         INSERT INTO job_results (job_id, state, finished_at, attempts, charged)
         VALUES ({id}, '{state}', {end}, 1, 1);"
    );
    database.sql(&statements).await;
}

async fn run(database: &TestDatabase, now: &str) -> Counts {
    run_once(database.store(), now.parse().unwrap()).await.unwrap()
}

async fn kept(database: &TestDatabase) -> Vec<DayRow> {
    let (from, to) = ("2026-01-01".parse().unwrap(), "2026-12-31".parse().unwrap());
    database.store().read(move |conn| statistics::days(conn, from, to)).await.unwrap()
}

#[tokio::test]
async fn every_day_that_is_over_is_summed_up_once_by_schedule_and_kind() {
    for database in databases() {
        job(&database, 1, "'nightly'", "2026-11-01T00:00:00Z", 10, "success").await;
        job(&database, 2, "'nightly'", "2026-11-01T23:59:59.999999Z", 30, "failure").await;
        job(&database, 3, "NULL", "2026-11-01T12:00:00Z", 1, "success").await;
        job(&database, 4, "'nightly'", "2026-11-20T12:00:00Z", 1, "success").await;
        job(&database, 5, "'nightly'", "2026-11-21T12:00:00Z", 1, "success").await;
        let counts = run(&database, "2026-11-21T13:00:00Z").await;
        assert_eq!(counts, Counts { days: 2, sums: 3 });
        let rows = kept(&database).await;
        let names: Vec<(&str, &str)> =
            rows.iter().map(|row| (row.day.as_str(), row.schedule.as_str())).collect();
        assert_eq!(
            names,
            [("2026-11-01", ""), ("2026-11-01", "nightly"), ("2026-11-20", "nightly")]
        );
        let nightly = &rows[1];
        assert_eq!((nightly.completed, nightly.failed, nightly.attempts), (1, 1, 2));
        assert_eq!((nightly.duration_total_us, nightly.duration_max_us), (40_000_000, 30_000_000));
        assert_eq!((nightly.wait_total_us, nightly.wait_max_us), (4_000_000, 2_000_000));
    }
}

#[tokio::test]
async fn doing_it_again_adds_nothing_and_pruned_rows_keep_their_sums() {
    for database in databases() {
        job(&database, 1, "'nightly'", "2026-11-01T12:00:00Z", 10, "success").await;
        run(&database, "2026-11-02T01:00:00Z").await;
        let before = kept(&database).await;
        database.sql("DELETE FROM attempts; DELETE FROM job_results; DELETE FROM jobs;").await;
        assert_eq!(run(&database, "2026-11-02T02:00:00Z").await, Counts::default());
        assert_eq!(run(&database, "2026-11-09T02:00:00Z").await, Counts::default());
        assert_eq!(kept(&database).await, before);
        let mark = database.store().read(statistics::rolled_up_before).await.unwrap();
        assert_eq!(mark, Some("2026-11-09".parse().unwrap()));
    }
}

#[tokio::test]
async fn a_day_settles_before_it_is_summed_up() {
    for database in databases() {
        job(&database, 1, "'nightly'", "2026-11-01T23:59:59Z", 10, "success").await;
        assert_eq!(run(&database, "2026-11-02T00:09:59Z").await, Counts::default());
        job(&database, 2, "'nightly'", "2026-11-01T23:59:58Z", 10, "success").await;
        run(&database, "2026-11-02T00:10:00Z").await;
        assert_eq!(kept(&database).await[0].completed, 2);
    }
}

#[tokio::test]
async fn an_interrupted_attempt_counts_but_its_time_does_not() {
    for database in databases() {
        job(&database, 1, "'nightly'", "2026-11-01T12:00:00Z", 10, "interrupted").await;
        run(&database, "2026-11-02T01:00:00Z").await;
        let rows = kept(&database).await;
        assert_eq!((rows[0].attempts, rows[0].duration_total_us), (1, 0));
    }
}

#[tokio::test]
async fn d4_days_that_were_passed_over_while_the_clock_was_ahead_are_summed_up_when_it_is_right() {
    for database in databases() {
        job(&database, 1, "'nightly'", "2026-11-01T12:00:00Z", 10, "success").await;
        run(&database, "2036-11-01T13:00:00Z").await;
        // The clock was put right. The day had begun, and goes on.
        job(&database, 2, "'nightly'", "2026-11-01T14:00:00Z", 10, "success").await;
        run(&database, "2026-11-01T15:00:00Z").await;
        let mark = database.store().read(statistics::rolled_up_before).await.unwrap();
        assert_eq!(mark, Some("2026-11-01".parse().unwrap()));
        job(&database, 3, "'nightly'", "2026-11-02T12:00:00Z", 10, "success").await;
        run(&database, "2026-11-03T01:00:00Z").await;
        let sums: Vec<i64> = kept(&database).await.iter().map(|row| row.completed).collect();
        assert_eq!(sums, [2, 1]);
    }
}
