//! The schema: migrations there and back, the same in both databases, and as `schema.rs` says.

use std::collections::{BTreeMap, BTreeSet};

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, Nullable, Text};
use sexton::model::{AfterAttempt, Cause, Dependency, DependencyNeeds, FinalState, Outcome};
use sexton::store::{Conn, DatabaseUrl, Purpose, Store, StoreError, migrations};

use crate::harness::{
    Queue, TestDatabase, at, depending, ended, job, on_both_backends, retried, soon,
};

on_both_backends![
    migrations_go_down_and_up_again,
    c4_a_newer_schema_is_refused_with_both_versions_named,
    c4_a_newer_schema_is_refused_for_reading_too,
    m8_a_newer_version_that_only_added_lets_this_one_go_on,
    m8_several_nodes_that_start_at_once_migrate_once,
    a_database_without_a_schema_is_refused_for_reading,
    the_tables_are_as_schema_rs_says,
    the_views_show_states_as_words_and_times_as_text,
];

async fn migrations_go_down_and_up_again(queue: Queue) {
    queue.submit(0, job()).await;
    let Queue { store, database, .. } = queue;
    store.close();
    let mut conn = database.url().connect(Purpose::Write).expect("a connection");
    let before = columns(&mut conn);
    assert!(before.len() > 10, "{before:?}");
    assert_eq!(migrations::status(&mut conn).unwrap().pending, Vec::<String>::new());
    migrations::revert_all(&mut conn).expect("every down.sql works");
    assert_eq!(columns(&mut conn), BTreeMap::new(), "nothing is left behind");
    let again = migrations::migrate(&mut conn).expect("every up.sql works again");
    assert_eq!(again, migrations::status(&mut conn).unwrap().applied);
    assert_eq!(columns(&mut conn), before);
    assert!(migrations::migrate(&mut conn).unwrap().is_empty(), "a second time does nothing");
}

/// With what a migration does that takes something away.
fn pretend_a_newer_version_was_here(database: &TestDatabase) {
    database.execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('9999')");
    database.execute("UPDATE meta SET value = '9999' WHERE key = 'oldest_usable_schema'");
}

async fn m8_a_newer_version_that_only_added_lets_this_one_go_on(queue: Queue) {
    let id = queue.submit(0, job()).await;
    let database = &queue.database;
    database.execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('9999')");
    for table in ["jobs", "jobs_ready", "jobs_running", "attempts", "job_results", "nodes"] {
        database
            .execute(&format!("ALTER TABLE {table} ADD COLUMN from_the_future TEXT DEFAULT 'x'"));
    }
    // With the connections that were open before, and with new ones.
    let claimed = queue.claim_one(0).await;
    queue.finish(crate::harness::succeeded(&claimed, 0)).await;
    let queue = queue.reopen().await;
    assert_eq!(queue.state(id).await, sexton::model::JobState::Completed);
    queue.submit(2, job()).await;
    let claimed = queue.claim_one(2).await;
    queue.finish(crate::harness::succeeded(&claimed, 2)).await;
    drop(Store::open_read_only(queue.database.url()).expect("reading goes on as well"));
}

/// All nodes of a deployment start at once on a database that is not there yet.
async fn m8_several_nodes_that_start_at_once_migrate_once(queue: Queue) {
    let Queue { store, database, .. } = queue;
    store.close();
    if matches!(database.url(), DatabaseUrl::Sqlite(_)) {
        return; // The lock on the data directory lets only one daemon start.
    }
    let mut conn = database.url().connect(Purpose::Write).expect("a connection");
    migrations::revert_all(&mut conn).unwrap();
    let start = std::sync::Barrier::new(4);
    let applied: usize = std::thread::scope(|scope| {
        let nodes: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut conn = database.url().connect(Purpose::Write).expect("a connection");
                    start.wait();
                    migrations::migrate(&mut conn).expect("it is migrated").len()
                })
            })
            .collect();
        nodes.into_iter().map(|node| node.join().expect("no panic")).sum()
    });
    assert_eq!(applied, migrations::status(&mut conn).unwrap().applied.len());
}

async fn c4_a_newer_schema_is_refused_with_both_versions_named(queue: Queue) {
    let Queue { store, database, .. } = queue;
    store.close();
    pretend_a_newer_version_was_here(&database);
    let error = Store::open(database.url()).unwrap_err();
    let StoreError::TooNew { found, known } = &error else { panic!("{error:?}") };
    let newest = newest_migration();
    assert_eq!((found.as_str(), known.as_str()), ("9999", newest.as_str()));
    assert!(error.to_string().contains("9999") && error.to_string().contains(&newest), "{error}");
}

async fn c4_a_newer_schema_is_refused_for_reading_too(queue: Queue) {
    pretend_a_newer_version_was_here(&queue.database);
    let error = Store::open_read_only(queue.database.url()).unwrap_err();
    assert!(matches!(error, StoreError::TooNew { .. }), "{error:?}");
}

async fn a_database_without_a_schema_is_refused_for_reading(queue: Queue) {
    let Queue { store, database, .. } = queue;
    store.close();
    let mut conn = database.url().connect(Purpose::Write).expect("a connection");
    migrations::revert_all(&mut conn).unwrap();
    drop(conn);
    let error = Store::open_read_only(database.url()).unwrap_err();
    assert!(error.to_string().contains("sexton db migrate"), "{error}");
}

#[test]
fn an_empty_file_is_refused_for_reading_and_stays_empty() {
    let database = TestDatabase::sqlite();
    let DatabaseUrl::Sqlite(path) = database.url() else { unreachable!("it is SQLite") };
    std::fs::write(path, "").unwrap();
    let error = Store::open_read_only(database.url()).unwrap_err();
    assert!(error.to_string().contains("sexton db migrate"), "{error}");
    assert_eq!(std::fs::metadata(path).unwrap().len(), 0);
}

/// The folders of a set of migrations, in order.
fn migrations_of(set: &str) -> Vec<String> {
    let folder = format!("{}/migrations/{set}", env!("CARGO_MANIFEST_DIR"));
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn newest_migration() -> String {
    migrations_of("sqlite").last().expect("there are some").split('_').next().unwrap().to_owned()
}

#[test]
fn both_sets_of_migrations_have_the_same_numbers_and_names() {
    assert!(!migrations_of("sqlite").is_empty());
    assert_eq!(migrations_of("sqlite"), migrations_of("postgres"));
}

#[derive(Debug, QueryableByName)]
struct Column {
    #[diesel(sql_type = Text)]
    table_name: String,
    #[diesel(sql_type = Text)]
    column_name: String,
    #[diesel(sql_type = Text)]
    data_type: String,
    #[diesel(sql_type = Integer)]
    is_nullable: i32,
}

/// Every column of every table, in order, in the words of `schema.rs`. SQLite knows integers of one size only.
pub(super) fn columns(conn: &mut Conn) -> BTreeMap<String, Vec<(String, String)>> {
    let rows: Vec<Column> = match conn {
        Conn::Sqlite(conn) => diesel::sql_query(
            "SELECT t.name AS table_name, c.name AS column_name, c.type AS data_type, \
                    c.\"notnull\" = 0 AND c.pk = 0 AS is_nullable \
             FROM sqlite_master t JOIN pragma_table_info(t.name) c \
             WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite%' AND t.name NOT LIKE '\\_\\_%' ESCAPE '\\' \
             ORDER BY t.name, c.cid",
        )
        .load(conn)
        .unwrap(),
        Conn::Postgres(conn) => diesel::sql_query(
            "SELECT t.table_name::text, c.column_name::text, c.data_type::text, \
                    (c.is_nullable = 'YES')::int AS is_nullable \
             FROM information_schema.tables t \
             JOIN information_schema.columns c USING (table_schema, table_name) \
             WHERE t.table_schema = 'public' AND t.table_type = 'BASE TABLE' AND t.table_name NOT LIKE '\\_\\_%' \
             ORDER BY t.table_name, c.ordinal_position",
        )
        .load(conn)
        .unwrap(),
    };
    let mut tables: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for row in rows {
        let name = match row.data_type.as_str() {
            "text" | "TEXT" => "Text",
            "bigint" => "BigInt",
            "integer" => "Integer",
            "smallint" => "SmallInt",
            "INTEGER" => "an integer",
            other => panic!("{}.{} is {other}", row.table_name, row.column_name),
        };
        let kind = if row.is_nullable == 1 { format!("Nullable<{name}>") } else { name.to_owned() };
        tables.entry(row.table_name).or_default().push((row.column_name, kind));
    }
    tables
}

/// The same, read from the source of `schema.rs`.
fn declared() -> BTreeMap<String, Vec<(String, String)>> {
    let source = include_str!("../../../src/store/schema.rs");
    let mut tables = BTreeMap::new();
    for block in source.split("\ntable! {").skip(1) {
        let block = block.split("\n}").next().unwrap();
        let mut lines = block.lines().map(str::trim).filter(|line| !line.is_empty());
        let name = lines.next().unwrap().split(' ').next().unwrap().to_owned();
        let columns: Vec<(String, String)> = lines
            .filter_map(|line| line.strip_suffix(',')?.split_once(" -> "))
            .map(|(column, kind)| (column.to_owned(), kind.to_owned()))
            .collect();
        tables.insert(name, columns);
    }
    tables
}

async fn the_tables_are_as_schema_rs_says(queue: Queue) {
    let mut declared = declared();
    assert!(declared.len() > 10 && declared.values().all(|columns| !columns.is_empty()));
    if matches!(queue.database.url(), DatabaseUrl::Sqlite(_)) {
        for (_, kind) in declared.values_mut().flatten() {
            for size in ["BigInt", "Integer", "SmallInt"] {
                *kind = kind.replace(size, "an integer");
            }
        }
    }
    let real = queue.read(|conn| Ok(columns(conn))).await;
    assert_eq!(real, declared);
}

#[derive(Debug, QueryableByName)]
struct JobLine {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = Text)]
    run_at: String,
    #[diesel(sql_type = Nullable<Text>)]
    finished_at: Option<String>,
}

#[derive(Debug, QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    line: String,
}

/// The view's lines, with times as the database prints them.
fn lines(conn: &mut Conn, sql: &str) -> Vec<String> {
    let rows: Vec<Line> = match conn {
        Conn::Sqlite(conn) => diesel::sql_query(sql).load(conn).unwrap(),
        Conn::Postgres(conn) => diesel::sql_query(sql).load(conn).unwrap(),
    };
    rows.into_iter().map(|row| row.line).collect()
}

async fn the_views_show_states_as_words_and_times_as_text(queue: Queue) {
    use sexton::model::{Actor, Decision};
    use sexton::store::schedules::{Instant, Plan, record};
    let completed = queue.through(0, job(), FinalState::Completed).await;
    let failed = queue.through(0, job(), FinalState::Failed).await;
    let retrying = queue.submit(0, job()).await;
    let attempt = queue.claim_one(0).await;
    queue.finish(retried(&attempt, 0, 600)).await;
    let running = queue.submit(0, job()).await;
    let given_back = queue.claim_one(0).await;
    queue.finish(ended(&given_back, 0, Outcome::Interrupted, AfterAttempt::GiveBack)).await;
    queue.claim_one(0).await;
    let future = queue.submit(0, soon(60)).await;
    let needs = Dependency { on: future, needs: DependencyNeeds::Success };
    let blocked = queue.submit(0, depending([needs], job())).await;
    let expected = [
        (completed, "completed"),
        (failed, "failed"),
        (retrying, "retrying"),
        (running, "running"),
        (future, "pending"),
        (blocked, "blocked"),
    ];
    let text = "SELECT id, CAST(state AS TEXT) AS state, CAST(run_at AS TEXT) AS run_at, \
                CAST(finished_at AS TEXT) AS finished_at FROM jobs_v ORDER BY id";
    let jobs: Vec<JobLine> = queue
        .read(move |conn| {
            Ok(match conn {
                Conn::Sqlite(conn) => diesel::sql_query(text).load(conn)?,
                Conn::Postgres(conn) => diesel::sql_query(text).load(conn)?,
            })
        })
        .await;
    let states: Vec<(i64, &str)> = jobs.iter().map(|job| (job.id, job.state.as_str())).collect();
    assert_eq!(states, expected.map(|(id, state)| (id.0, state)));
    assert!(jobs[0].run_at.starts_with("2026-06-15"), "{}", jobs[0].run_at);
    assert!(jobs[0].run_at.contains("12:00:00"), "{}", jobs[0].run_at);
    assert!(jobs[0].finished_at.as_deref().is_some_and(|at| at.contains("12:00:01")));
    assert_eq!(jobs[3].finished_at, None);

    let attempts = "SELECT job_id || ' ' || number || ' ' || outcome || ' ' || duration_ms AS line \
                    FROM attempts_v ORDER BY job_id, number";
    let attempts = queue.read(move |conn| Ok(lines(conn, attempts))).await;
    assert_eq!(
        attempts,
        [
            format!("{completed} 1 success 1000"),
            format!("{failed} 1 failure 1000"),
            format!("{retrying} 1 failure 1000"),
            format!("{running} 1 interrupted 1000"),
        ]
    );

    let instant = Instant {
        schedule: "nightly".parse().unwrap(),
        nominal_at: at(3661),
        reason: "the daemon was down".to_owned(),
        revision: "abc".to_owned(),
        instants: 2,
        actor: Actor::scheduler(),
        cause: Cause::Hand,
        basis: None,
        plan: Plan::Settle(Decision::Missed),
    };
    let context = queue.context(4000);
    queue
        .write(move |conn| {
            record(conn, std::slice::from_ref(&instant), context, |_, _| {
                unreachable!("it makes no job")
            })
        })
        .await;
    let ledger = "SELECT schedule || ' ' || CAST(nominal_at AS TEXT) || ' ' || decision AS line \
                  FROM occurrences_v";
    let line = queue.read(move |conn| Ok(lines(conn, ledger))).await.remove(0);
    assert!(line.starts_with("nightly 2026-06-15"), "{line}");
    assert!(line.contains("13:01:01") && line.ends_with("missed"), "{line}");
}

#[derive(QueryableByName)]
struct Named {
    #[diesel(sql_type = Text)]
    name: String,
}

/// The names of all tables, indexes and views of an SQLite database, Diesel's own excepted.
fn names(conn: &mut Conn) -> BTreeSet<String> {
    let Conn::Sqlite(conn) = conn else { panic!("only SQLite has this table") };
    let all = "SELECT name FROM sqlite_master WHERE sql IS NOT NULL \
               AND name NOT LIKE '\\_\\_diesel%' ESCAPE '\\' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
    let found: Vec<Named> = diesel::sql_query(all).load(conn).unwrap();
    found.into_iter().map(|row| row.name).collect()
}

/// Breaks the first migration at each of its statements in turn, by something that has the name of what it is about to make.
#[test]
fn c5_a_migration_that_stops_at_any_statement_leaves_nothing_and_works_when_it_is_tried_again() {
    let whole = TestDatabase::sqlite();
    drop(whole.open());
    let all = names(&mut whole.url().connect(Purpose::Write).unwrap());
    assert!(all.len() > 20, "{all:?}");
    for name in &all {
        let database = TestDatabase::sqlite();
        database.execute(&format!("CREATE TABLE \"{name}\" (obstacle INTEGER)"));
        let mut conn = database.url().connect(Purpose::Write).unwrap();
        let error = migrations::migrate(&mut conn).unwrap_err();
        assert!(error.to_string().contains(name.as_str()), "{name}: {error}");
        if migrations::status(&mut conn).unwrap().applied.is_empty() {
            assert_eq!(
                names(&mut conn),
                BTreeSet::from([name.clone()]),
                "half a migration is left"
            );
        }
        database.execute(&format!("DROP TABLE \"{name}\""));
        migrations::migrate(&mut conn).unwrap();
        assert_eq!(names(&mut conn), all, "{name}");
    }
}
