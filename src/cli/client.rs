//! The command line's way to the daemon: HTTP over its Unix socket, or the same routes in this process over the database.

use std::path::{Path, PathBuf};

use axum::Router;
use axum::body::Body;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize as _;
use serde_json::Value;
use tokio::net::UnixStream;
use tower::ServiceExt;

use super::output::{Exit, Failure};
use crate::api::Problem;

/// Who answers.
pub(super) enum Client {
    /// The daemon.
    Daemon(PathBuf),
    /// Nobody but the database: reading works, changing does not.
    Database(Box<Router>),
}

impl Client {
    /// Whether a daemon answers on the socket.
    pub(super) async fn is_served(socket: &Path) -> bool {
        UnixStream::connect(socket).await.is_ok()
    }

    /// Gets a JSON document.
    ///
    /// # Errors
    /// When nobody answers, or the answer is an error.
    pub(super) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.call(Method::GET, path, None).await.map(|(_, value)| value)
    }

    /// Posts a JSON document and gets one.
    ///
    /// # Errors
    /// When nobody answers, or the answer is an error.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.post_for_status(path, body).await.map(|(_, value)| value)
    }

    /// [`post`](Self::post) with the status, where there are several that are no errors.
    ///
    /// # Errors
    /// When nobody answers, or the answer is an error.
    pub(super) async fn post_for_status(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<(StatusCode, Value), Failure> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// Changes something by a JSON document and gets one.
    ///
    /// # Errors
    /// When nobody answers, or the answer is an error.
    pub(super) async fn patch(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.call(Method::PATCH, path, Some(body)).await.map(|(_, value)| value)
    }

    /// [`post`](Self::post) with the status; an error status is an answer here when `keep` says so.
    ///
    /// # Errors
    /// When nobody answers, or the answer is an error.
    pub(super) async fn post_keeping(
        &self,
        path: &str,
        body: &Value,
        keep: StatusCode,
    ) -> Result<(StatusCode, Value), Failure> {
        let (status, bytes) = self.exchange(Method::POST, path, Some(body)).await?;
        if status == keep {
            return Ok((status, parse(path, &bytes)?));
        }
        check(path, status, &bytes)
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value), Failure> {
        let (status, bytes) = self.exchange(method, path, body).await?;
        check(path, status, &bytes)
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Vec<u8>), Failure> {
        let bytes = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "sexton")
            .header("content-type", "application/json");
        let broken = |error: &dyn std::fmt::Display| {
            Failure::new(Exit::NoDaemon, format!("the daemon's answer broke off: {error}"))
        };
        match self {
            Self::Daemon(socket) => {
                let request = request
                    .body(Full::new(bytes::Bytes::from(bytes)))
                    .map_err(|error| broken(&error))?;
                let mut sender = connect(socket).await?;
                let answer = sender.send_request(request).await.map_err(|error| broken(&error))?;
                let status = answer.status();
                let body = answer.into_body().collect().await.map_err(|error| broken(&error))?;
                Ok((status, body.to_bytes().to_vec()))
            }
            Self::Database(router) => {
                let request = request.body(Body::from(bytes)).map_err(|error| broken(&error))?;
                let answer = match router.as_ref().clone().oneshot(request).await {
                    Ok(answer) => answer,
                    Err(never) => match never {},
                };
                let status = answer.status();
                let body = answer.into_body().collect().await.map_err(|error| broken(&error))?;
                Ok((status, body.to_bytes().to_vec()))
            }
        }
    }

    /// Follows server-sent events: calls `each` with the data of every event until the daemon closes the stream.
    ///
    /// # Errors
    /// When there is no daemon, or it goes away.
    pub(super) async fn follow(
        &self,
        path: &str,
        mut each: impl FnMut(&str),
    ) -> Result<(), Failure> {
        let Self::Daemon(socket) = self else { return Err(no_daemon_running()) };
        let broken = |error: &dyn std::fmt::Display| {
            Failure::new(Exit::NoDaemon, format!("the daemon's answer broke off: {error}"))
        };
        let request = Request::builder()
            .uri(path)
            .header("host", "sexton")
            .body(Full::new(bytes::Bytes::new()))
            .map_err(|error| broken(&error))?;
        let mut sender = connect(socket).await?;
        let answer = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let mut body = answer.into_body();
        let mut pending = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| broken(&error))?;
            pending.extend_from_slice(frame.data_ref().map(AsRef::as_ref).unwrap_or_default());
            while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                if let Some(data) = String::from_utf8_lossy(&line).trim_end().strip_prefix("data: ")
                {
                    each(data);
                }
            }
        }
        Ok(())
    }
}

type Sender = hyper::client::conn::http1::SendRequest<Full<bytes::Bytes>>;

async fn connect(socket: &Path) -> Result<Sender, Failure> {
    let refused = |error: &dyn std::fmt::Display| {
        let message = format!("cannot reach the daemon on {}: {error}", socket.display());
        Failure::new(Exit::NoDaemon, message)
    };
    let stream = UnixStream::connect(socket).await.map_err(|error| refused(&error))?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| refused(&error))?;
    tokio::spawn(async move {
        // Its error comes out of the request as well.
        let _ended = connection.await;
    });
    Ok(sender)
}

fn parse(path: &str, bytes: &[u8]) -> Result<Value, Failure> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    // It is the daemon's, which has read what is in it within that limit. Jobs of earlier versions are wrapped once too often for it.
    reader.disable_recursion_limit();
    Value::deserialize(&mut reader).and_then(|value| reader.end().map(|()| value)).map_err(
        |error| Failure::new(Exit::NoDaemon, format!("the answer to {path} is not JSON: {error}")),
    )
}

fn check(path: &str, status: StatusCode, bytes: &[u8]) -> Result<(StatusCode, Value), Failure> {
    if status.is_success() {
        return Ok((status, parse(path, bytes)?));
    }
    let Ok(problem) = serde_json::from_slice::<Problem>(bytes) else {
        return Err(Failure::new(Exit::Failed, format!("the daemon answered {status} to {path}")));
    };
    let mut message = problem.detail.clone();
    for error in &problem.errors {
        message.push_str(&format!("\n  {}: {}", error.pointer, error.detail));
    }
    Err(Failure::new(exit_of(&problem), message))
}

fn exit_of(problem: &Problem) -> Exit {
    match problem.kind.as_str() {
        "not-found" => Exit::NotFound,
        "no-daemon" => Exit::NoDaemon,
        "busy" | "storage" | "too-many" => Exit::TryAgain,
        "invalid" | "bad-request" => Exit::Usage,
        _ => Exit::Failed,
    }
}

/// There is no daemon, and this needs one.
#[must_use]
pub(super) fn no_daemon_running() -> Failure {
    Failure::new(Exit::NoDaemon, "the daemon is not running; start it with `sexton serve`")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_is_read_however_deep_a_job_of_an_earlier_version_is_nested() {
        let params = (0..127).fold(json!(1), |inner, _| json!([inner]));
        let list = json!({ "items": [{ "params": params }] });
        assert_eq!(parse("/jobs", list.to_string().as_bytes()).ok(), Some(list));
        assert!(parse("/jobs", b"{} {}").is_err());
    }
}
