//! The `http` kind: one request, and a check of the answer.
//!
//! What is sent is put together in `request`, what came back is judged in `verdict`; both are pure. This file only
//! carries one to the server and the other to the record.

mod params;
mod request;
mod verdict;

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::ports::http::{HttpClient, Response, fetch, masked};
use super::{Answer, Context, Failure, Handler, Kind, check_as, escape_for_terminal, parse_params};
use params::HttpParams;
use request::Prepared;
use verdict::{Received, Verdict, judge};

/// The `http` kind.
pub const KIND: Kind = Kind::built_in(
    "http",
    "sends a request to a web server and checks the answer",
    check_as::<HttpParams>,
);

/// Sends requests for `http` jobs.
pub struct HttpHandler {
    client: Arc<dyn HttpClient>,
}

impl HttpHandler {
    /// A handler that sends through `client`.
    #[must_use]
    pub fn new(client: Arc<dyn HttpClient>) -> Self {
        Self { client }
    }

    async fn attempt(&self, context: &Context) -> Result<Value, Failure> {
        let params: HttpParams = parse_params(&context.job.params).map_err(|problems| {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            Failure::error(format!("the params are not valid: {}", problems.join("; "))).for_good()
        })?;
        let prepared = Prepared::new(&params, context.job.id)
            .map_err(|error| Failure::error(error.to_string()))?;
        if context.job.dry_run {
            return Ok(dry_run(context, &prepared));
        }
        self.exchange(context, &params, prepared).await
    }

    async fn exchange(
        &self,
        context: &Context,
        params: &HttpParams,
        prepared: Prepared,
    ) -> Result<Value, Failure> {
        let subject = prepared.subject();
        context.progress.report(None, subject.clone());
        let started = context.clock.since_boot();
        let Prepared { request, secrets } = prepared;
        let sent = fetch(self.client.as_ref(), request, &params.addresses(), params.follow).await;
        let mut response = sent.map_err(|error| {
            let failure = Failure::error(format!("{subject}: {}", error.chain()));
            if error.may_pass() { failure } else { failure.for_good() }
        })?;
        let max = usize::try_from(params.max_response.0).unwrap_or(usize::MAX);
        let (body, is_cut) = response
            .read_at_most(max)
            .await
            .map_err(|error| Failure::error(format!("{subject}: {}", error.chain())))?;
        let duration_ms = context.clock.since_boot().saturating_sub(started).as_millis();
        let received = received(&response, &body, is_cut);
        let blacked_out =
            |text: String| secrets.iter().fold(text, |text, secret| secret.redact(&text));
        let result = json!({
            "schema_version": 1,
            "status": received.status,
            "url": blacked_out(masked(&response.url)),
            "duration_ms": u64::try_from(duration_ms).unwrap_or(u64::MAX),
            "bytes": body.len(),
            "truncated": is_cut,
            "headers": safe_headers(&response, blacked_out),
            "body_tail": tail(&blacked_out(String::from_utf8_lossy(&body).into_owned())),
        });
        context.output.line(format!(
            "{subject} → {} in {duration_ms} ms, {} bytes",
            received.status,
            body.len()
        ));
        match judge(params, &received, context.clock.now()) {
            Verdict::AsExpected => Ok(result),
            Verdict::Miss { message, retry } => {
                let message = blacked_out(format!("{subject}: {message}"));
                Err(Failure { retry, ..Failure::answer(message) }.with_result(result))
            }
        }
    }
}

impl Handler for HttpHandler {
    fn run(&self, context: Context) -> BoxFuture<'_, Answer> {
        async move {
            tokio::select! {
                biased;
                () = context.stop.cancelled() => Answer::Stopped { result: None },
                outcome = self.attempt(&context) => match outcome {
                    Ok(result) => Answer::Done(result),
                    Err(failure) => failure.into(),
                },
            }
        }
        .boxed()
    }
}

fn received<'a>(response: &'a Response, body: &'a [u8], is_cut: bool) -> Received<'a> {
    Received {
        status: response.status.as_u16(),
        retry_after: response.header(&super::ports::http::header::RETRY_AFTER),
        body,
        is_cut,
    }
}

fn dry_run(context: &Context, prepared: &Prepared) -> Value {
    context.output.line("DRY RUN — nothing will be changed");
    context.output.line(format!("* {}", prepared.subject()));
    for (name, value) in &prepared.request.headers {
        let shown =
            if value.is_sensitive() { "[redacted]" } else { value.to_str().unwrap_or("[bytes]") };
        context.output.line(format!("* {name}: {shown}"));
    }
    let bytes = prepared.request.body.as_ref().map_or(0, bytes::Bytes::len);
    context.output.line(format!("* body of {bytes} bytes"));
    json!({ "schema_version": 1, "dry_run": true, "request": prepared.subject(), "body_bytes": bytes })
}

/// Header fields of answers that help an operator and carry no session.
const SAFE_HEADERS: [&str; 8] = [
    "content-type",
    "content-length",
    "date",
    "server",
    "etag",
    "last-modified",
    "retry-after",
    "x-request-id",
];

fn safe_headers(response: &Response, blacked_out: impl Fn(String) -> String) -> Value {
    let shown = SAFE_HEADERS.iter().filter_map(|name| {
        let value = response.headers.get(*name)?.to_str().ok()?;
        let value: String = value.chars().take(200).collect();
        Some(((*name).to_owned(), Value::String(blacked_out(value))))
    });
    Value::Object(shown.collect())
}

/// How much of the end of a body is kept, in bytes.
const TAIL_BYTES: usize = 2048;

/// The end of a text, without characters that would do something to a terminal.
fn tail(text: &str) -> String {
    let wanted = text.len().saturating_sub(TAIL_BYTES);
    let start = (wanted..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    escape_for_terminal(&text[start..])
}

#[cfg(test)]
mod tests;
