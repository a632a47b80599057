//! Waiting for a job to be over, also while nobody can tell of it: its program goes on when the daemon is restarted, and so does who waits.

use std::time::Duration;

use serde_json::Value;

use super::client::Client;
use super::output::{Exit, Failure, Outcome, json, line, note, plain, text};
use super::session::Session;

/// How often a job that is waited for is looked at.
pub(super) const POLL: Duration = Duration::from_millis(200);

/// How long to wait before asking again where there was no answer.
const PAUSE: Duration = Duration::from_millis(500);

/// How long one answer may take. A daemon that is frozen, or whose database is, gives none.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// For how long there may be no answer until waiting is given up. A restart takes seconds, and an upgrade minutes.
const PATIENCE: Duration = Duration::from_secs(600);

/// Asks about a job, and asks again while the daemon or its database is away.
pub(super) struct Watcher<'a> {
    client: &'a Client,
    job: i64,
}

impl<'a> Watcher<'a> {
    pub(super) fn new(client: &'a Client, job: i64) -> Self {
        Self { client, job }
    }

    /// Gets a JSON document. Says once when there is no answer, and when there is one again.
    ///
    /// # Errors
    /// When the answer is an error, or there was none for very long.
    pub(super) async fn get(&self, path: &str) -> Result<Value, Failure> {
        let mut why = match self.ask(path).await {
            Err(failure) if is_not_now(&failure) => failure.message,
            answer => return answer,
        };
        // What a database says beyond that is advice for who runs it.
        let first = why.lines().next().unwrap_or_default();
        note(plain(&format!("note: no answer about job {}, waiting for one: {first}", self.job)));
        let asking = async {
            loop {
                tokio::time::sleep(PAUSE).await;
                match self.ask(path).await {
                    Err(failure) if is_not_now(&failure) => why = failure.message,
                    answer => break answer,
                }
            }
        };
        match tokio::time::timeout(PATIENCE, asking).await {
            Ok(answer) => {
                note("note: there are answers again");
                answer
            }
            Err(_too_long) => Err(self.given_up(&why)),
        }
    }

    async fn ask(&self, path: &str) -> Result<Value, Failure> {
        tokio::time::timeout(ANSWER_TIME, self.client.get(path)).await.unwrap_or_else(|_too_long| {
            let message = format!("the daemon has not answered for {} s", ANSWER_TIME.as_secs());
            Err(Failure::new(Exit::NoDaemon, message))
        })
    }

    /// Says how to go on: the job was accepted, and to submit it again would double it.
    fn given_up(&self, why: &str) -> Failure {
        let job = self.job;
        let minutes = PATIENCE.as_secs() / 60;
        let message = format!(
            "there has been no answer about job {job} for {minutes} minutes: {}\nThe job is not lost. \
             See what has become of it with `sexton job {job}`, or follow it with `sexton logs {job} -f`",
            why.trim_end()
        );
        Failure::new(Exit::NoDaemon, message)
    }
}

/// Whether somebody who asks later may get an answer: a daemon that is restarted refuses connections or breaks off its answers, and one whose
/// database is away says so.
fn is_not_now(failure: &Failure) -> bool {
    matches!(failure.exit, Exit::NoDaemon | Exit::TryAgain)
}

/// Waits until a job is over, and tells how it ended.
pub(super) async fn finish(session: &Session, client: &Client, job: i64) -> Outcome {
    let watcher = Watcher::new(client, job);
    let path = format!("/api/v1/jobs/{job}");
    let over = loop {
        let shown = watcher.get(&path).await?;
        let state = text(&shown, "state");
        if ["completed", "failed", "cancelled"].contains(&state.as_str()) {
            break shown;
        }
        tokio::time::sleep(POLL).await;
    };
    let completed = text(&over, "state") == "completed";
    if session.json {
        json(&over);
    } else {
        let error = over.get("error").and_then(Value::as_str).map(|error| format!(": {error}"));
        line(format!("job {job} {}{}", text(&over, "state"), plain(&error.unwrap_or_default())));
    }
    Ok(if completed { Exit::Ok } else { Exit::Failed })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use axum::response::IntoResponse;
    use serde_json::json;

    use super::*;
    use crate::api::Problem;
    use crate::store::StoreError;

    /// Somebody who answers like this, one time after the other, and the last way ever after; and how often that was asked.
    fn answering(answers: Vec<fn() -> axum::response::Response>) -> (Client, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let answer = move || async move {
            let number = count.fetch_add(1, Ordering::Relaxed);
            answers[number.min(answers.len() - 1)]()
        };
        (Client::Database(Box::new(Router::new().fallback(answer))), asked)
    }

    /// What is said while PostgreSQL is restarted.
    fn away() -> axum::response::Response {
        Problem::from(StoreError::NotCommitted("no connection".to_owned())).into_response()
    }

    fn here() -> axum::response::Response {
        axum::Json(json!({ "state": "completed" })).into_response()
    }

    #[tokio::test(start_paused = true)]
    async fn a_database_that_is_away_is_waited_for() {
        let (client, asked) = answering(vec![away, away, here]);
        let answer = Watcher::new(&client, 7).get("/").await;
        assert_eq!(answer.map_err(|failure| failure.message), Ok(json!({ "state": "completed" })));
        assert_eq!(asked.load(Ordering::Relaxed), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_that_is_gone_is_not_waited_for() {
        let gone = || Problem::not_found("there is no job 7").into_response();
        let (client, asked) = answering(vec![away, gone]);
        let failure = Watcher::new(&client, 7).get("/").await.unwrap_err();
        assert_eq!((failure.exit, asked.load(Ordering::Relaxed)), (Exit::NotFound, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_waited_for_very_long_is_told_how_to_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let refusing = Client::Daemon(folder.path().join("nobody.sock"));
        let (away, _asked) = answering(vec![away]);
        for client in [refusing, away] {
            let began = tokio::time::Instant::now();
            let failure = Watcher::new(&client, 7).get("/").await.unwrap_err();
            assert!(began.elapsed() >= PATIENCE && began.elapsed() < PATIENCE + ANSWER_TIME);
            assert_eq!(failure.exit, Exit::NoDaemon, "75 would say that it can be submitted again");
            for part in ["job 7", "`sexton job 7`", "`sexton logs 7 -f`"] {
                assert!(failure.message.contains(part), "{}", failure.message);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_that_takes_the_question_and_says_nothing_is_asked_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("frozen.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let failure = Watcher::new(&Client::Daemon(path), 7).get("/").await.unwrap_err();
        assert_eq!(failure.exit, Exit::NoDaemon);
        assert!(failure.message.contains("has not answered for 30 s"), "{}", failure.message);
    }
}
