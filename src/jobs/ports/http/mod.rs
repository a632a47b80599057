//! HTTP as the kinds need it: one request, one answer, and no way around the address policy.
//!
//! The trait sends exactly one request. Redirects are followed by [`fetch`], on top of the trait, so that every hop
//! goes through the same checks and tests can play a server without a network.

mod address;
mod client;
mod date;
mod redirect;
#[cfg(test)]
pub(crate) mod testing;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

pub use address::{AddressPolicy, Reach, refusal};
pub use client::client;
pub use date::{http_date, retry_after};
pub use redirect::fetch;
pub use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
pub use reqwest::{Method, StatusCode, Url};

use crate::model::HumanDuration;

/// Something that sends requests.
pub trait HttpClient: Send + Sync + 'static {
    /// Sends one request and answers as soon as the head of the response is there. Redirects are not followed.
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, HttpError>>;
}

/// One request.
#[derive(Debug, Clone)]
pub struct Request {
    /// What to do.
    pub method: Method,
    /// With what.
    pub url: Url,
    /// Header fields. Those marked sensitive are dropped when a redirect leaves the origin.
    pub headers: HeaderMap,
    /// The body, if there is one.
    pub body: Option<Bytes>,
    /// Which addresses it may connect to.
    pub reach: Reach,
    /// The longest silence: until the head of the response, and between two parts of its body.
    pub idle_timeout: Duration,
}

/// The head of a response, and its body as it arrives.
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// Header fields.
    pub headers: HeaderMap,
    /// Where it came from, after redirects.
    pub url: Url,
    /// The parts of the body.
    pub body: BoxStream<'static, Result<Bytes, HttpError>>,
}

/// Why there is no response, or not all of it. URLs in it carry no user, password or query.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// A rule of ours forbids the request; trying again changes nothing.
    #[error("{url} is refused: {reason}")]
    Refused {
        /// The masked URL.
        url: String,
        /// Why, and what to do about it.
        reason: String,
    },
    /// No connection: name resolution, TCP or TLS.
    #[error("cannot connect to {url}")]
    Connect {
        /// The masked URL.
        url: String,
        /// What went wrong below.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Nothing came for too long.
    #[error("{url} sent nothing for {waited} (`idle_timeout` allows more)")]
    Silent {
        /// The masked URL.
        url: String,
        /// How long it was waited for.
        waited: HumanDuration,
    },
    /// The exchange broke off.
    #[error("the exchange with {url} broke off")]
    Broken {
        /// The masked URL.
        url: String,
        /// What went wrong below.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl HttpError {
    /// Whether another attempt could go differently.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        !matches!(self, Self::Refused { .. })
    }

    /// The whole chain of causes in one line.
    #[must_use]
    pub fn chain(&self) -> String {
        chain(self)
    }
}

impl Response {
    /// A header field as text, if it is there and is text.
    #[must_use]
    pub fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Reads at most `max` bytes of the body, and says whether there was more.
    ///
    /// # Errors
    /// When the body breaks off or stays silent for too long.
    pub async fn read_at_most(&mut self, max: usize) -> Result<(Vec<u8>, bool), HttpError> {
        let mut bytes = Vec::new();
        while let Some(part) = self.body.next().await {
            let part = part?;
            let room = max - bytes.len();
            bytes.extend_from_slice(&part[..part.len().min(room)]);
            if part.len() > room {
                return Ok((bytes, true));
            }
        }
        Ok((bytes, false))
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("url", &masked(&self.url))
            .finish_non_exhaustive()
    }
}

/// An error and all its causes in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let texts: Vec<String> = causes(error).map(ToString::to_string).collect();
    texts.join(": ")
}

/// An error and what lies below it, from the top.
fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |&cause| cause.source())
}

/// A URL as it may appear in messages: without user and password, and with only a sign that there is a query.
#[must_use]
pub fn masked(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let query = if url.query().is_some() { "?…" } else { "" };
    format!("{}://{host}{port}{}{query}", url.scheme(), url.path())
}

/// Reads a URL that a request may be sent to: `http` or `https`, with a host, without credentials in it.
///
/// # Errors
/// What is wrong with the text, without repeating secrets that may be in it.
pub fn parse_web_url(text: &str) -> Result<Url, String> {
    if let Some((scheme, _rest)) = text.split_once("://")
        && !["http", "https"].contains(&scheme.to_ascii_lowercase().as_str())
    {
        return Err(format!(
            "`{}://` is not supported; use http:// or https://",
            scheme.escape_default()
        ));
    }
    let url: Url = text.parse().map_err(|error| format!("not a URL: {error}"))?;
    if !["http", "https"].contains(&url.scheme()) {
        return Err("not a web address; it has to begin with http:// or https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it has a user or password in it, where every list of jobs would show it; \
                    name it as a secret (`basic` or `bearer`) instead"
            .to_owned());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j11_a_masked_url_shows_neither_user_nor_query() {
        let url: Url = "https://joe:hunter2@example.org:8443/a/b?token=canary#x".parse().unwrap();
        assert_eq!(masked(&url), "https://example.org:8443/a/b?…");
    }

    #[test]
    fn only_plain_web_addresses_are_read() {
        assert!(parse_web_url("https://example.org/x?y=1").is_ok());
        for bad in ["s3://bucket/x", "git+https://h/x", "ssh://h/x", "unix:/run/x", "example.org"] {
            assert!(parse_web_url(bad).is_err(), "{bad}");
        }
        let refused = parse_web_url("https://joe:canary@example.org/").unwrap_err();
        assert!(!refused.contains("canary"), "{refused}");
    }
}
