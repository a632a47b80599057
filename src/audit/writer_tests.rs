use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::audit::{FILE_NAME, verify};
use crate::clock::{Clock as _, ManualClock};
use crate::model::{Actor, AuditEvent, JsonText, NewJob, NodeId};
use crate::queue::Ageing;
use crate::store::audit::append_event;
use crate::store::jobs::{SubmitContext, submit};
use crate::store::testing::{TestDatabase, databases};
use crate::store::{DatabaseUrl, Purpose};

struct Bench {
    folder: tempfile::TempDir,
    clock: ManualClock,
    store: Store,
    /// Goes after the store's handle.
    _database: Option<TestDatabase>,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder.path().join("sexton.db"));
        Self { folder, clock: clock(), store, _database: None }
    }

    fn on_each_database() -> impl Iterator<Item = Self> {
        databases().into_iter().map(|database| Self {
            folder: tempfile::tempdir().unwrap(),
            clock: clock(),
            store: database.store().clone(),
            _database: Some(database),
        })
    }

    async fn start(&self) -> AuditHandle {
        let options = Options {
            folder: self.folder.path().join("log"),
            source: AuditSource::Everything,
            jobs: AuditJobs::All,
        };
        start(self.store.clone(), Arc::new(self.clock.clone()), options).await.unwrap()
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("log").join(FILE_NAME)
    }

    fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn events(&self) -> Vec<String> {
        self.lines().iter().map(|line| line["event"].as_str().unwrap().to_owned()).collect()
    }

    async fn note(&self, event: &'static str) {
        let at = self.clock.now();
        self.store.write(move |conn| note(conn, event, at)).await.unwrap();
    }

    async fn submit(&self, count: usize) {
        let now = self.clock.now();
        let new =
            NewJob::new("http", JsonText::from(&json!({})), now, Actor::named("cli:alice(1000)"));
        let context = SubmitContext { now, node: NodeId(1), ageing: Ageing::DEFAULT };
        self.store
            .write(move |conn| submit(conn, &vec![new.clone(); count], context))
            .await
            .unwrap();
    }

    async fn report(&self) -> crate::audit::Report {
        let anchors = self.store.read(|conn| rows::anchors(conn, "")).await.unwrap();
        verify(std::fs::read(self.path()).unwrap().as_slice(), &anchors).unwrap()
    }
}

fn clock() -> ManualClock {
    ManualClock::new("2026-11-23T02:30:00Z".parse().unwrap())
}

fn open(path: &Path) -> Store {
    Store::open(&DatabaseUrl::Sqlite(path.to_owned())).unwrap()
}

fn vacuum_into(from: &Path, to: &Path) {
    use diesel::connection::SimpleConnection as _;
    let mut conn = DatabaseUrl::Sqlite(from.to_owned()).connect(Purpose::Write).unwrap();
    conn.batch_execute(&format!("VACUUM INTO '{}'", to.display())).unwrap();
}

fn note(conn: &mut crate::store::Conn, event: &str, at: jiff::Timestamp) -> Result<(), StoreError> {
    let event = AuditEvent::new(event, &Actor::system(), "x", &json!({}), at);
    append_event(conn, NodeId(1), &event)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_submits_many_jobs_is_one_line() {
    for bench in Bench::on_each_database() {
        let audit = bench.start().await;
        bench.submit(1).await;
        bench.submit(20).await;
        audit.flush().await.unwrap();
        let lines = bench.lines();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["subject"], "job:1");
        assert_eq!(lines[1]["subject"], "job:2-21");
        assert_eq!(lines[1]["detail"]["count"], 20);
        assert_eq!(lines[1]["actor"], "cli:alice(1000)");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_what_was_committed_before_a_crash_has_its_line_after_the_next_start() {
    for bench in Bench::on_each_database() {
        let audit = bench.start().await;
        bench.note("one").await;
        audit.flush().await.unwrap();
        audit.stop().await.unwrap();
        // The daemon dies between these commits and their lines.
        bench.note("two").await;
        bench.clock.advance(Duration::from_secs(1));
        bench.submit(3).await;

        let audit = bench.start().await;
        audit.flush().await.unwrap();
        audit.stop().await.unwrap();
        assert_eq!(bench.events(), ["one", "two", "job.submitted"]);
        let audit = bench.start().await;
        audit.stop().await.unwrap();
        assert_eq!(bench.events().len(), 3, "and only once");
        let report = bench.report().await;
        assert!(report.is_intact() && report.anchors_confirmed == 2, "{report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_rolled_back_has_no_line() {
    let bench = Bench::new();
    let audit = bench.start().await;
    let at = bench.clock.now();
    let refused: Result<(), _> = bench
        .store
        .write(move |conn| {
            note(conn, "never", at)?;
            Err(StoreError::Conflict("on second thought".into()))
        })
        .await;
    assert!(refused.is_err());
    bench.note("after").await;
    audit.flush().await.unwrap();
    assert_eq!(bench.events(), ["after"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_follow_commits_without_being_asked_for() {
    let bench = Bench::new();
    let audit = bench.start().await;
    let mut health = audit.health();
    bench.note("one").await;
    health.wait_for(|health| health.head.seq == 1).await.unwrap();
    assert_eq!(bench.events(), ["one"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn b2_a_log_that_cannot_be_written_says_so_and_loses_nothing() {
    let bench = Bench::new();
    let audit = bench.start().await;
    let mut health = audit.health();
    bench.note("one").await;
    audit.flush().await.unwrap();
    std::fs::rename(bench.folder.path().join("log"), bench.folder.path().join("moved")).unwrap();
    bench.note("two").await;
    health.wait_for(|health| health.failing.is_some()).await.unwrap();
    assert!(matches!(audit.flush().await, Err(AuditError::Failing(_))));

    std::fs::rename(bench.folder.path().join("moved"), bench.folder.path().join("log")).unwrap();
    health.wait_for(|health| health.failing.is_none()).await.unwrap();
    assert_eq!(bench.events(), ["one", "two"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_moved_away_while_it_runs_is_continued_and_vouched_for() {
    let bench = Bench::new();
    let audit = bench.start().await;
    bench.note("one").await;
    audit.flush().await.unwrap();
    std::fs::rename(bench.path(), bench.path().with_extension("old")).unwrap();
    bench.note("two").await;
    audit.flush().await.unwrap();
    audit.stop().await.unwrap();
    assert_eq!(bench.events(), ["audit.file_started", "two"]);
    let report = bench.report().await;
    assert!(report.is_intact() && report.first_seq == Some(2), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_database_under_the_same_log_is_told_and_told_from_its_beginning() {
    let mut bench = Bench::new();
    let audit = bench.start().await;
    bench.note("old").await;
    bench.note("old").await;
    audit.stop().await.unwrap();
    bench.store = open(&bench.folder.path().join("other.db"));
    bench.note("new").await;
    let audit = bench.start().await;
    audit.flush().await.unwrap();
    assert_eq!(bench.events(), ["old", "old", "audit.database_changed", "new"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_of_the_database_is_told_and_its_new_rows_have_lines() {
    let mut bench = Bench::new();
    let audit = bench.start().await;
    bench.note("one").await;
    audit.stop().await.unwrap();
    let copy = bench.folder.path().join("copy.db");
    vacuum_into(&bench.folder.path().join("sexton.db"), &copy);
    let audit = bench.start().await;
    bench.note("two").await;
    audit.stop().await.unwrap();

    bench.store = open(&copy);
    let audit = bench.start().await;
    bench.note("three").await;
    audit.flush().await.unwrap();
    assert_eq!(bench.events(), ["one", "two", "audit.database_rewound", "three"]);
}

#[test]
fn rows_that_need_no_line_are_not_read_again_after_a_restart() {
    let head = Head { seq: 4, upto: [1, 2, 3, 4].into(), ..Head::EMPTY };
    let known = Anchor {
        head: Head { upto: [1, 9, 3, 4].into(), ..head },
        at: jiff::Timestamp::UNIX_EPOCH,
    };
    let (upto, surprise) = resume_point(&head, Some(&known), [9, 9, 9, 9].into());
    assert_eq!((upto, surprise), ([1, 9, 3, 4].into(), None));
}
