//! A history that moves to another database.

use std::collections::{BTreeMap, BTreeSet};

use diesel::prelude::*;
use diesel::sql_types::Text;
use serde_json::json;
use sexton::audit::{Anchor, Head};
use sexton::model::{
    Actor, AfterAttempt, AuditEvent, Cause, Dependency, DependencyNeeds, FinalState,
    FinishedAttempt, JobId, JobSettings, JobState, JsonText, NewItem, NewJob, NodeIdentity, OnEnd,
    Outcome, OverlapVerdict, UniqueKey,
};
use sexton::store::audit::{add_anchor, append_event, ids_given, last_anchor};
use sexton::store::copy::{Copied, CopyError, Copying};
use sexton::store::schedules::{self, Definition, Instant, Plan};
use sexton::store::schema::{TABLES, job_labels};
use sexton::store::{Conn, DatabaseUrl, Purpose, StoreError, finish, idempotency, jobs, nodes};

use super::schema::columns;
use crate::harness::{
    Queue, TestDatabase, at, depending, ended, job, on_both_backends, retried, soon, succeeded,
};

on_both_backends![
    every_row_of_every_table_arrives_as_it_was,
    numbers_go_on_after_the_last_one_that_was_given_even_when_its_row_is_gone,
    jobs_go_on_in_the_copy_as_after_a_crash,
    a_copy_into_a_database_that_is_not_empty_is_refused_and_changes_nothing,
    a_copy_of_a_database_with_another_schema_is_refused_before_the_target_is_touched,
    a_copy_that_fails_half_way_leaves_an_empty_database,
    a_log_goes_on_under_the_name_that_the_other_database_has_for_it,
    a_database_is_not_copied_onto_itself,
    tables_longer_than_a_batch_arrive_whole,
];

/// Later than every lease of the tests.
const COPIED_AT: i64 = 1000;

fn try_copy(from: &DatabaseUrl, to: &DatabaseUrl) -> Result<Vec<Copied>, CopyError> {
    Copying::prepare(from, to)?.run(("", ""), at(COPIED_AT), &mut |_, _| {})
}

/// Empty databases of each kind there is.
fn targets() -> Vec<TestDatabase> {
    std::iter::once(TestDatabase::sqlite()).chain(TestDatabase::postgres()).collect()
}

fn writer(database: &TestDatabase) -> Conn {
    database.url().connect(Purpose::Write).expect("a connection")
}

/// Every row of every table as text. What both databases call a value looks the same.
fn rows(conn: &mut Conn) -> BTreeMap<String, BTreeSet<String>> {
    #[derive(QueryableByName)]
    struct Line {
        #[diesel(sql_type = Text)]
        line: String,
    }
    let tables = columns(conn);
    let dump = |(table, columns): (String, Vec<(String, String)>)| {
        let text =
            |(column, _): &(String, String)| format!("coalesce(CAST({column} AS TEXT), 'NULL')");
        let texts: Vec<String> = columns.iter().map(text).collect();
        let query = format!("SELECT {} AS line FROM {table}", texts.join(" || '|' || "));
        let lines: Vec<Line> = match conn {
            Conn::Sqlite(conn) => diesel::sql_query(query).load(conn).unwrap(),
            Conn::Postgres(conn) => diesel::sql_query(query).load(conn).unwrap(),
        };
        (table, lines.into_iter().map(|row| row.line).collect())
    };
    tables.into_iter().map(dump).collect()
}

/// A history with something in every table, and jobs in every state. Returns the job that runs.
async fn fill(queue: &Queue) -> JobId {
    queue.through(0, job(), FinalState::Completed).await;
    queue.through(0, job(), FinalState::Failed).await;
    queue.through(0, job(), FinalState::Cancelled).await;
    queue.submit(0, job()).await;
    let retrying = queue.claim_one(0).await;
    let checkpoint = Some(JsonText::from(&json!({ "page": 7 })));
    queue.finish(FinishedAttempt { checkpoint, ..retried(&retrying, 0, 600) }).await;
    let item = |name: &str| NewItem {
        name: name.to_owned(),
        params: JsonText::from(&json!({})),
        node: None,
    };
    queue.submit(0, NewJob { items: vec![item("a"), item("b")], ..job() }).await;
    let items = queue.claim(0, 1).await;
    queue.finish(succeeded(&items[0], 0)).await;
    let whole_batch = JobSettings { whole_batch: true, ..JobSettings::default() };
    queue.submit(0, NewJob { items: vec![item("c")], settings: whole_batch, ..soon(9000) }).await;
    let mut labelled = job();
    labelled.labels.insert("user".to_owned(), "ädä".to_owned());
    labelled.unique = Some(UniqueKey { key: "only one".to_owned(), period: None });
    queue.submit(0, labelled).await;
    let future = queue.submit(0, soon(7200)).await;
    let needs = Dependency { on: future, needs: DependencyNeeds::Success };
    queue.submit(0, depending([needs], job())).await;
    let key = idempotency::Key { key: "once".to_owned(), request: "hash".to_owned() };
    let context = queue.context(0);
    queue.write(move |conn| idempotency::submit_once(conn, &key, &[soon(9000)], context)).await;

    let nightly = || "nightly".parse().expect("an id");
    let new = NewJob { schedule: Some((nightly(), at(1))), run_at: at(1), ..job() };
    let instant = Instant {
        schedule: nightly(),
        nominal_at: at(1),
        reason: "due".to_owned(),
        revision: "abc".to_owned(),
        instants: 1,
        actor: Actor::scheduler(),
        cause: Cause::Rule,
        basis: None,
        plan: Plan::Enqueue(Box::new(new)),
    };
    let definition = Definition {
        id: nightly(),
        rule: "every 1h".to_owned(),
        follows: vec![("dump".parse().expect("an id"), OnEnd::Success)],
    };
    let (node, context) = (queue.node, queue.context(1));
    queue
        .write(move |conn| {
            schedules::adopt(conn, std::slice::from_ref(&definition), at(0))?;
            schedules::record(conn, std::slice::from_ref(&instant), context, |_, _| {
                OverlapVerdict::Enqueue
            })?;
            nodes::jitter_seed_or(conn, "seed")?;
            let actor = Actor::named("test");
            append_event(conn, node, &AuditEvent::new("a.b", &actor, "it", &json!({}), at(2)))?;
            add_anchor(
                conn,
                "elsewhere",
                &Anchor { head: Head { seq: 3, ..Head::EMPTY }, at: at(3) },
            )
        })
        .await;
    queue.database.execute(
        "INSERT INTO queues (name, paused_at, paused_by, pause_reason) VALUES ('held', 5, 'me', 'a ''reason''');
         INSERT INTO job_priorities (job_id, priority, rank) VALUES (4, 9, 17);
         INSERT INTO job_replacements (job_id, replaced_by) VALUES (2, 4);
         INSERT INTO ends_to_follow (follower, ended_at, schedule, job_id, state) VALUES ('nightly', 8, 'dump', 3, 'completed');
         INSERT INTO waiting_instants (schedule, nominal_at, wait_until) VALUES ('nightly', 9, 10);
         INSERT INTO rate_buckets (name, full_at) VALUES ('queue:x', 7);
         INSERT INTO api_tokens VALUES ('ci', 'abc', 'submit', '1/m', 4, 'me', 6, 5, 7, 'you');
         INSERT INTO limits (name, max, set_at, set_by) VALUES ('queue:x', 3, 5, 'me');
         INSERT INTO breakers (name, failed_at, tripped_at, why) VALUES ('queue:x', '[]', 5, 'refused');
         INSERT INTO job_statistics VALUES ('2026-06-14', '', 'noop', 1, 2, 3, 4, 5, 6, 7, 9007199254740993)",
    );
    let running = queue.claim(2, 1).await.remove(0);
    let update = finish::ProgressUpdate {
        job: running.id,
        number: running.number,
        percent: Some(40),
        message: "under way".to_owned(),
        checkpoint: None,
    };
    queue.write(move |conn| finish::record_progress(conn, std::slice::from_ref(&update))).await;
    running.id
}

async fn every_row_of_every_table_arrives_as_it_was(queue: Queue) {
    fill(&queue).await;
    let there = queue.read(|conn| Ok(rows(conn))).await;
    let names: BTreeSet<&str> = TABLES.iter().map(|table| table.name).collect();
    assert_eq!(
        names,
        there.keys().map(String::as_str).collect(),
        "the copy knows every table of a fresh database"
    );
    for (table, rows) in &there {
        assert!(!rows.is_empty(), "nothing shows that {table} is copied: give it a row in `fill`");
    }
    for target in targets() {
        let copied = try_copy(queue.database.url(), target.url()).unwrap();
        let counts: BTreeMap<&str, i64> =
            copied.iter().map(|copied| (copied.table, copied.rows)).collect();
        let arrived = rows(&mut writer(&target));
        assert_eq!(arrived, there);
        for (table, rows) in &arrived {
            assert_eq!(counts[table.as_str()], i64::try_from(rows.len()).unwrap(), "{table}");
        }
    }
}

async fn numbers_go_on_after_the_last_one_that_was_given_even_when_its_row_is_gone(queue: Queue) {
    fill(&queue).await;
    let last = queue.submit(0, job()).await;
    queue.database.execute(&format!(
        "DELETE FROM jobs_ready WHERE job_id = {last}; DELETE FROM jobs WHERE id = {last}; DELETE FROM attempts"
    ));
    let given = queue.read(ids_given).await;
    for target in targets() {
        try_copy(queue.database.url(), target.url()).unwrap();
        let copy = Queue::open(target).await;
        assert_eq!(copy.read(ids_given).await, given);
        assert_eq!(copy.submit(0, job()).await, JobId(last.0 + 1));
        assert_eq!(copy.node.0, queue.node.0 + 1);
        let claimed = copy.claim(5, 1).await.remove(0);
        copy.finish(succeeded(&claimed, 5)).await;
        assert_eq!(copy.read(ids_given).await.attempts, given.attempts + 1);
    }
}

async fn jobs_go_on_in_the_copy_as_after_a_crash(queue: Queue) {
    let running = fill(&queue).await;
    let first = queue.node;
    for target in targets() {
        try_copy(queue.database.url(), target.url()).unwrap();
        let copy = Queue::open(target).await;
        assert_eq!(copy.state(running).await, JobState::Running);
        let others = copy
            .read({
                let me = copy.node;
                move |conn| nodes::others(conn, me)
            })
            .await;
        assert_eq!(others.iter().map(|node| node.id).collect::<Vec<_>>(), [first.0]);
        let rescued = copy
            .write(move |conn| {
                finish::rescue(conn, first, at(3), "lost", |_| finish::Rescued::given_back())
            })
            .await;
        assert_eq!(rescued, [running]);
        let attempts = copy.attempts(running).await;
        assert_eq!(attempts.last().map(|attempt| attempt.outcome.as_str()), Some("interrupted"));
        // Everything else goes its way: what waited is claimed and ends, and what depended on it follows.
        copy.promote(10_000).await;
        let mut ends = 0;
        loop {
            let claimed = copy.claim(10_000, 100).await;
            if claimed.is_empty() {
                break;
            }
            for attempt in claimed {
                let end = AfterAttempt::End(FinalState::Completed);
                copy.finish(ended(&attempt, 10_000, Outcome::Success, end)).await;
                ends += 1;
            }
        }
        assert!(ends >= 7, "{ends}");
        let unfinished =
            "SELECT id FROM jobs_v WHERE state NOT IN ('completed', 'failed', 'cancelled')";
        let left = copy.read(move |conn| Ok(lines(conn, unfinished))).await;
        assert_eq!(left, Vec::<i64>::new());
    }
}

fn lines(conn: &mut Conn, query: &str) -> Vec<i64> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        id: i64,
    }
    let rows: Vec<Row> = match conn {
        Conn::Sqlite(conn) => diesel::sql_query(query).load(conn).unwrap(),
        Conn::Postgres(conn) => diesel::sql_query(query).load(conn).unwrap(),
    };
    rows.into_iter().map(|row| row.id).collect()
}

async fn a_copy_into_a_database_that_is_not_empty_is_refused_and_changes_nothing(queue: Queue) {
    fill(&queue).await;
    for target in targets() {
        let filled = Queue::open(target).await;
        filled.submit(0, job()).await;
        let before = filled.read(|conn| Ok(rows(conn))).await;
        let refused = try_copy(queue.database.url(), filled.database.url()).unwrap_err();
        assert!(
            matches!(refused, CopyError::NotEmpty { table: "nodes", rows: 1, .. }),
            "{refused}"
        );
        assert_eq!(filled.read(|conn| Ok(rows(conn))).await, before);
    }
}

async fn a_copy_of_a_database_with_another_schema_is_refused_before_the_target_is_touched(
    queue: Queue,
) {
    let Queue { store, database, .. } = queue;
    store.close();
    database.execute("DELETE FROM __diesel_schema_migrations WHERE version = '0005'");
    for target in targets() {
        let refused = try_copy(database.url(), target.url()).unwrap_err();
        assert!(
            matches!(&refused, CopyError::Source { source: StoreError::Migration(why), .. } if why.contains("0005")),
            "{refused:?}"
        );
        match target.url() {
            DatabaseUrl::Sqlite(path) => assert!(!path.exists()),
            DatabaseUrl::Postgres(_) => assert_eq!(columns(&mut writer(&target)), BTreeMap::new()),
        }
    }
}

async fn a_copy_that_fails_half_way_leaves_an_empty_database(queue: Queue) {
    fill(&queue).await;
    for target in targets() {
        drop(target.open());
        let empty = rows(&mut writer(&target));
        let given = ids_given(&mut writer(&target)).unwrap();
        // One of the last tables takes no row, and not because of what is in it.
        target.execute("ALTER TABLE audit_events RENAME COLUMN subject TO subjects");
        let failed = try_copy(queue.database.url(), target.url()).unwrap_err();
        assert!(matches!(failed, CopyError::Table { table: "audit_events", .. }), "{failed:?}");
        target.execute("ALTER TABLE audit_events RENAME COLUMN subjects TO subject");
        assert_eq!(rows(&mut writer(&target)), empty);
        assert_eq!(ids_given(&mut writer(&target)).unwrap(), given);
        try_copy(queue.database.url(), target.url()).expect("it can be tried again");
    }
}

async fn a_log_goes_on_under_the_name_that_the_other_database_has_for_it(queue: Queue) {
    let head = Head { seq: 9, ..Head::EMPTY };
    queue
        .write(move |conn| {
            add_anchor(conn, "", &Anchor { head, at: at(3) })?;
            add_anchor(conn, "other host", &Anchor { head: Head { seq: 5, ..head }, at: at(3) })
        })
        .await;
    for target in targets() {
        let copying = Copying::prepare(queue.database.url(), target.url()).unwrap();
        copying.run(("", "host"), at(COPIED_AT), &mut |_, _| {}).unwrap();
        let mut conn = writer(&target);
        let mut seq = |log| last_anchor(&mut conn, log).unwrap().map(|anchor| anchor.head.seq);
        assert_eq!((seq("host"), seq(""), seq("other host")), (Some(9), None, Some(5)));
    }
}

async fn a_database_is_not_copied_onto_itself(queue: Queue) {
    fill(&queue).await;
    let refused = try_copy(queue.database.url(), queue.database.url()).unwrap_err();
    assert!(matches!(refused, CopyError::Same(_)), "{refused:?}");
}

async fn tables_longer_than_a_batch_arrive_whole(queue: Queue) {
    queue.submit_all(0, vec![job(); 2_345]).await;
    for target in targets() {
        let mut told = Vec::new();
        let copying = Copying::prepare(queue.database.url(), target.url()).unwrap();
        let copied = copying.run(("", ""), at(COPIED_AT), &mut |table, rows| {
            if table == "jobs" {
                told.push(rows);
            }
        });
        assert!(copied.unwrap().contains(&Copied { table: "jobs", rows: 2_345, changed: 0 }));
        assert_eq!(told, [1000, 2000, 2345]);
    }
}

#[tokio::test]
async fn a_node_that_is_alive_on_postgres_is_named_and_nothing_is_copied() {
    let Some(database) = TestDatabase::postgres() else { return };
    let queue = Queue::open(database).await;
    let target = TestDatabase::sqlite();
    let copy = |second| {
        let copying = Copying::prepare(queue.database.url(), target.url()).unwrap();
        copying.run(("", ""), at(second), &mut |_, _| {})
    };
    let refused = copy(29).unwrap_err();
    let CopyError::InUse { node, until, .. } = &refused else { panic!("{refused:?}") };
    assert_eq!((node.as_str(), *until), ("host", at(30)));
    let DatabaseUrl::Sqlite(path) = target.url() else { unreachable!("it is SQLite") };
    assert!(!path.exists());
    copy(30).expect("its lease is over");
}

#[tokio::test]
async fn nobody_writes_to_either_database_while_it_is_copied() {
    let Some(from) = TestDatabase::postgres() else { return };
    let Some(to) = TestDatabase::postgres() else { return };
    let source = Queue::open(from).await;
    source.submit(0, job()).await;
    drop(to.open());
    let copying = Copying::prepare(source.database.url(), to.url()).unwrap();
    let mut tried = Vec::new();
    let copied = copying.run(("", ""), at(COPIED_AT), &mut |table, _| {
        if table == "jobs" {
            for database in [&source.database, &to] {
                let mut other = writer(database);
                let identity = NodeIdentity::default();
                let early = nodes::NewNode { identity, instance: "early".to_owned() };
                let Conn::Postgres(conn) = &mut other else { unreachable!("it is PostgreSQL") };
                diesel::sql_query("SET lock_timeout = '50ms'").execute(conn).unwrap();
                let refused = nodes::register(&mut other, &early, at(0), at(9)).unwrap_err();
                tried.push(matches!(refused, StoreError::Busy));
                let context = jobs::SubmitContext { ..source.context(0) };
                let refused = jobs::submit(&mut other, &[job()], context).unwrap_err();
                tried.push(matches!(refused, StoreError::Busy));
            }
        }
    });
    copied.unwrap();
    assert_eq!(tried, [true; 4]);
}

#[tokio::test]
async fn a_letter_that_postgres_cannot_keep_is_replaced_and_counted() {
    let source = Queue::open(TestDatabase::sqlite()).await;
    let id = source.submit(0, job()).await.0;
    source.database.execute(&format!(
        "INSERT INTO job_labels (label, job_id) VALUES ('k=a' || char(0) || 'b', {id}), ('k=c', {id})"
    ));
    for target in targets() {
        let copied = try_copy(source.database.url(), target.url()).unwrap();
        let changed: Vec<_> = copied.iter().filter(|table| table.changed > 0).collect();
        let mut conn = writer(&target);
        let labels: Vec<String> = job_labels::table
            .select(job_labels::label)
            .order(job_labels::label)
            .load(&mut conn)
            .unwrap();
        if target.is_sqlite() {
            assert!(changed.is_empty(), "{changed:?}");
            assert_eq!(labels, ["k=a\0b", "k=c"]);
        } else {
            assert_eq!(changed, [&Copied { table: "job_labels", rows: 2, changed: 1 }]);
            assert_eq!(labels, ["k=a\u{fffd}b", "k=c"]);
        }
    }
}
