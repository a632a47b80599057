//! The engine inside another program.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use sexton::daemon::LockError;
use sexton::embed::{
    Answer, Cancelled, Client, ClientError, Context, EmbedError, Embedded, Failure, Handler, Job,
    JobId, JobState, Priority, StartError,
};
use tempfile::TempDir;
use tokio::sync::Notify;

use crate::harness::TestDatabase;

/// Answers with its params, fails where they say so, and waits for the gate where they say so.
struct Echo(Arc<Gate>);

#[derive(Default)]
struct Gate {
    open: Notify,
    /// Whether somebody stands before it. A job is `running` from its claim on, and begins a moment later.
    reached: Notify,
}

impl Handler for Echo {
    fn run(&self, context: Context) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            let params = &context.job.params;
            context.progress.steps(1, 2, "half way");
            if params["waits"] == true {
                self.0.reached.notify_one();
                tokio::select! {
                    () = self.0.open.notified() => {}
                    () = context.stop.cancelled() => return Answer::Stopped { result: None },
                }
            }
            match params["fails"].as_str() {
                Some(why) => Failure::answer(why).for_good().into(),
                None => Answer::Done(json!({ "echo": params, "attempt": context.job.attempt })),
            }
        })
    }
}

async fn start(folder: &TempDir) -> (Embedded, Client, Arc<Gate>) {
    let gate = Arc::<Gate>::default();
    let builder = Embedded::in_directory(folder.path()).kind("echo", Echo(Arc::clone(&gate)));
    let embedded = builder.start().await.expect("it starts");
    let client = embedded.client("test");
    (embedded, client, gate)
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn echo(params: Value) -> Job {
    Job::new("echo", params)
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_run_in_the_program_and_tell_what_came_of_them() {
    let folder = folder();
    let (embedded, client, _) = start(&folder).await;
    let job = echo(json!({ "x": 1 }))
        .priority(Priority::CRITICAL)
        .queue("own")
        .label("user", "ada")
        .max_attempts(3)
        .timeout(Duration::from_millis(90_500));
    let done = client.wait(client.submit(job).await.unwrap()).await.unwrap();
    assert_eq!((done.state, done.priority, done.queue.as_str()), (JobState::Completed, 10, "own"));
    assert_eq!(done.result, Some(json!({ "echo": { "x": 1 }, "attempt": 1 })));
    assert_eq!(done.labels["user"], "ada");
    assert_eq!(done.actor, "embed:test");
    assert_eq!(done.settings.timeout.unwrap().get(), Duration::from_millis(90_500));

    let failed = client.submit(echo(json!({ "fails": "it does not add up" }))).await.unwrap();
    let failed = client.wait(failed).await.unwrap();
    assert_eq!(failed.state, JobState::Failed);
    assert!(failed.error.unwrap().contains("it does not add up"));

    let call = vec![echo(json!({})), echo(json!({})).after_earlier(0)];
    let call = client.submit_all(call).await.unwrap();
    let never = client.submit(echo(json!({})).after(failed.id)).await.unwrap_err().to_string();
    assert!(never.contains("job 2 is failed"), "{never}");
    assert_eq!(client.wait(call[1]).await.unwrap().state, JobState::Completed);
    embedded.stop(Duration::from_secs(30)).await;
    let log = std::fs::read_to_string(folder.path().join("log/audit.jsonl")).unwrap();
    assert!(log.contains("embed:test") && log.contains("stopped by its program"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_followed_to_its_end() {
    let folder = folder();
    let (embedded, client, _) = start(&folder).await;
    let batch = echo(json!({ "all": true }))
        .item("good", json!({ "x": 1 }))
        .item("bad", json!({ "fails": "no" }));
    let id = client.submit(batch).await.unwrap();
    let mut watch = client.watch(id);
    let mut states = Vec::new();
    while let Some(job) = watch.next().await.unwrap() {
        states.push(job.state);
    }
    assert_eq!(states.last(), Some(&JobState::Failed));
    assert_eq!(watch.next().await.unwrap(), None, "it is over");
    let items = client.items(id).await.unwrap();
    let ends: Vec<_> = items.iter().map(|item| (item.name.as_str(), item.state)).collect();
    assert_eq!(ends, [("good", JobState::Completed), ("bad", JobState::Failed)]);
    assert_eq!(items[0].result.as_ref().unwrap()["echo"], json!({ "all": true, "x": 1 }));
    embedded.stop(Duration::from_secs(30)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_is_cancelled_and_what_is_over_says_so() {
    let folder = folder();
    let (embedded, client, _) = start(&folder).await;
    let id = client.submit(echo(json!({ "waits": true }))).await.unwrap();
    let mut watch = client.watch(id);
    let running = loop {
        let seen = watch.next().await.unwrap().expect("it is not over");
        if seen.state == JobState::Running {
            break seen;
        }
    };
    assert_eq!(running.attempt, 1);
    assert_eq!(client.cancel(id).await.unwrap(), Cancelled::Requested);
    assert_eq!(client.wait(id).await.unwrap().state, JobState::Cancelled);
    assert_eq!(client.cancel(id).await.unwrap(), Cancelled::AlreadyOver);
    let unknown = client.cancel(JobId(999)).await.unwrap_err();
    assert!(matches!(unknown, ClientError::NoJob(JobId(999))), "{unknown}");
    let unknown = client.wait(JobId(999)).await.unwrap_err();
    assert!(matches!(unknown, ClientError::NoJob(JobId(999))), "{unknown}");
    embedded.stop(Duration::from_secs(30)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_submitted_is_refused_as_a_whole_with_every_reason() {
    let folder = folder();
    let (embedded, client, _) = start(&folder).await;
    let unknown = client.submit(Job::new("command", json!({ "argv": ["true"] }))).await;
    let unknown = unknown.unwrap_err().to_string();
    assert!(unknown.contains("command") && unknown.contains("echo"), "{unknown}");
    let bad = echo(json!({})).queue("no/slash").label("a=b", "c").max_attempts(0);
    let ClientError::Refused(refusal) =
        client.submit_all(vec![echo(json!({})), bad]).await.unwrap_err()
    else {
        panic!("it is refused")
    };
    let places: Vec<&str> = refusal.errors().map(|(pointer, _)| pointer).collect();
    assert_eq!(places, ["/1/queue", "/1/labels", "/1/max_attempts"]);
    let first = client.submit(echo(json!({})).unique("one")).await.unwrap();
    assert_eq!(first, JobId(1), "nothing was kept of the call that was refused");
    embedded.stop(Duration::from_secs(30)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_still_runs_when_the_program_stops_runs_again_at_its_next_start() {
    let folder = folder();
    let (embedded, client, gate) = start(&folder).await;
    let id = client.submit(echo(json!({ "waits": true }))).await.unwrap();
    gate.reached.notified().await;
    let mut watch = client.watch(id);
    while watch.next().await.unwrap().expect("it is not over").state != JobState::Running {}
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.wait(id).await }
    });
    embedded.stop(Duration::ZERO).await;
    let log = folder.path().join("sexton.db-wal");
    assert!(!log.exists(), "the database is closed although there are clients");
    let ended = waiting.await.unwrap();
    assert!(matches!(ended, Err(ClientError::Stopped)), "{ended:?}");
    let late = client.submit(echo(json!({}))).await;
    assert!(matches!(late, Err(ClientError::Stopped)), "{late:?}");
    drop((client, watch));

    let (embedded, client, gate) = start(&folder).await;
    gate.open.notify_one();
    let done = client.wait(id).await.unwrap();
    assert_eq!((done.state, done.attempt), (JobState::Completed, 2));
    embedded.stop(Duration::from_secs(30)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_belongs_to_one_engine_and_a_kind_has_a_proper_name() {
    let folder = folder();
    let (embedded, _, _) = start(&folder).await;
    let second = Embedded::in_directory(folder.path()).start().await.map(drop).unwrap_err();
    let EmbedError::Start(StartError::Lock(LockError::Taken { dir, .. })) = &second else {
        panic!("{second:?}")
    };
    assert_eq!(dir, folder.path());
    embedded.stop(Duration::from_secs(30)).await;
    let bad = Embedded::in_directory(folder.path()).kind("no spaces", Echo(Arc::default()));
    let bad = bad.start().await.map(drop).unwrap_err();
    assert!(bad.to_string().contains("`no spaces`"), "{bad}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_runs_on_postgres() {
    let Some(database) = TestDatabase::postgres() else { return };
    let folder = folder();
    let builder = Embedded::in_directory(folder.path()).database(database.url().clone());
    let embedded = builder.kind("echo", Echo(Arc::default())).start().await.unwrap();
    let client = embedded.client("test");
    let done = client.wait(client.submit(echo(json!({}))).await.unwrap()).await.unwrap();
    assert_eq!(done.state, JobState::Completed);
    embedded.stop(Duration::from_secs(30)).await;
    assert!(!folder.path().join("sexton.db").exists());
}

#[test]
fn the_example_does_what_it_says() {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_sexton"));
    let example = program.parent().expect("a folder").join("examples/embed");
    let output = Command::new(&example).output().unwrap_or_else(|error| {
        panic!("{}: {error}; `cargo build --example embed` makes it", example.display())
    });
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    for part in [
        "job 1: audit.md completed",
        "completed Some(Object {\"cancelled\"",
        "until tomorrow",
        "cancelled",
        "refused: ",
        "count_letters",
        "stopped",
    ] {
        assert!(said.contains(part), "{part} is missing in:\n{said}");
    }
    let sums: Vec<&str> = said.lines().filter(|line| line.contains(" words in ")).collect();
    assert_eq!(sums.len(), 1, "{said}");
}
