//! Transfers from web servers.

use std::collections::BTreeMap;
use std::path::Path;

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::attempt::{Attempt, Halt, Trouble};
use super::incoming::{Finish, Incoming};
use super::memory::{Memory, MemoryFile};
use super::params::{Preserved, SyncParams};
use super::plan::{Entry, Facts, Listing};
use super::root::Root;
use crate::jobs::ports::http::{
    HeaderMap, HeaderValue, HttpClient, HttpError, Method, Reach, Request, Response, StatusCode,
    Url, fetch, header, http_date, masked, retry_after,
};
use crate::jobs::{Failure, RetryAdvice};

/// Redirects that are followed.
const FOLLOW: u32 = 5;

/// A client and what every request needs.
pub(super) struct Web<'a> {
    pub(super) client: &'a dyn HttpClient,
    pub(super) params: &'a SyncParams,
}

/// What the servers said about the files, and a line for each in the result.
pub(super) struct Probed {
    pub(super) listing: Listing,
    pub(super) sources: Vec<Value>,
}

impl Web<'_> {
    /// Asks every server about its file without fetching it. One that does not answer well fails the whole.
    pub(super) fn probe(
        &self,
        attempt: &Attempt<'_>,
        urls: &BTreeMap<String, Url>,
    ) -> Result<Probed, Halt> {
        let mut probed = Probed { listing: Listing::default(), sources: Vec::new() };
        for (name, url) in urls {
            attempt.context.progress.report(None, format!("asking about {}", masked(url)));
            let response = attempt
                .wait(self.send(Method::HEAD, url, HeaderMap::new()))?
                .map_err(|error| unreachable_source(&error))?;
            let facts = match response.status {
                status if status.is_success() => facts_of(&response),
                // A server without HEAD is no obstacle: the download itself will tell.
                StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => Facts::default(),
                _ => return Err(bad_status(attempt, url, &response).into()),
            };
            let status = response.status.as_u16();
            probed.sources.push(json!({"url": masked(url), "status": status, "etag": facts.tag}));
            probed.listing.entries.insert(name.into(), Entry::File(facts));
        }
        Ok(probed)
    }

    /// Fetches one file into place, going on where an earlier run was cut off.
    pub(super) fn download(
        &self,
        attempt: &mut Attempt<'_>,
        target: &Root,
        (name, url): (&str, &Url),
        announced: &Entry,
        (memory, file): (&mut Memory, &MemoryFile),
    ) -> Result<(), Trouble> {
        let partial = self.partial(target, name, url, memory)?;
        let (mut response, mut incoming) = match partial {
            Some((partial, etag)) => self.go_on(attempt, target, name, url, partial, &etag)?,
            None => (
                self.get(attempt, url, HeaderMap::new())?,
                Incoming::create(target, name.as_ref())?,
            ),
        };
        let etag = response.header(&header::ETAG).map(str::to_owned);
        memory.begun(name, url, etag.as_deref());
        file.save(memory).map_err(|failure| Trouble::File(failure.message))?;
        while let Some(part) = attempt.wait(response.body.next())? {
            let part = part.map_err(|error| Trouble::File(error.chain()))?;
            incoming.write(&part)?;
            attempt.moved(part.len())?;
        }
        let size = incoming.size();
        check_size(&response, announced, size)?;
        if is_already_there(target, name, &incoming) {
            incoming.discard()?;
            attempt.tally.unchanged += 1;
        } else {
            let mtime = response.header(&header::LAST_MODIFIED).and_then(http_date);
            incoming.finish(Finish {
                mtime: mtime.filter(|_| self.params.preserves(Preserved::Mtime)),
                mode: None,
                verify: self.params.verify,
            })?;
            attempt.file_done();
        }
        if let Some(mtime) = target.look(name.as_ref())?.facts.mtime {
            memory.placed(name, url, etag.as_deref(), size, mtime);
        }
        file.save(memory).map_err(|failure| Trouble::File(failure.message))
    }

    /// What there is of a download that was cut off, with the ETag it belongs to.
    fn partial(
        &self,
        target: &Root,
        name: &str,
        url: &Url,
        memory: &Memory,
    ) -> Result<Option<(Incoming, String)>, Trouble> {
        let etag = memory.unfinished(name, url).filter(|_| self.params.resume);
        let Some(etag) = etag else { return Ok(None) };
        let partial = Incoming::resume(target, name.as_ref())?;
        Ok(partial.map(|partial| (partial, etag.to_owned())))
    }

    /// Asks for the rest of a file. A server that has another version by now, or knows no ranges, sends it whole.
    fn go_on(
        &self,
        attempt: &Attempt<'_>,
        target: &Root,
        name: &str,
        url: &Url,
        partial: Incoming,
        etag: &str,
    ) -> Result<(Response, Incoming), Trouble> {
        let mut headers = HeaderMap::new();
        let range = format!("bytes={}-", partial.size());
        for (name, value) in [(header::RANGE, range.as_str()), (header::IF_RANGE, etag)] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
        let response = self.exchange(attempt, url, headers)?;
        let begins = format!("bytes {}-", partial.size());
        let is_the_rest = response.status == StatusCode::PARTIAL_CONTENT
            && response.header(&header::CONTENT_RANGE).is_some_and(|r| r.starts_with(&begins))
            && response.header(&header::ETAG).is_none_or(|now| now == etag);
        if is_the_rest {
            return Ok((response, partial));
        }
        match response.status {
            StatusCode::OK => Ok((response, Incoming::create(target, name.as_ref())?)),
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                let incoming = Incoming::create(target, name.as_ref())?;
                Ok((self.get(attempt, url, HeaderMap::new())?, incoming))
            }
            // What is there stays there for the next run.
            status => Err(bad_answer(url, status)),
        }
    }

    fn get(
        &self,
        attempt: &Attempt<'_>,
        url: &Url,
        headers: HeaderMap,
    ) -> Result<Response, Trouble> {
        let response = self.exchange(attempt, url, headers)?;
        if response.status == StatusCode::OK {
            return Ok(response);
        }
        Err(bad_answer(url, response.status))
    }

    fn exchange(
        &self,
        attempt: &Attempt<'_>,
        url: &Url,
        headers: HeaderMap,
    ) -> Result<Response, Trouble> {
        let sent = attempt.wait(self.send(Method::GET, url, headers))?;
        sent.map_err(|error| Trouble::File(error.chain()))
    }

    async fn send(
        &self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
    ) -> Result<Response, HttpError> {
        let request = Request {
            method,
            url: url.clone(),
            headers,
            body: None,
            reach: Reach::Public,
            idle_timeout: self.params.idle_timeout.get(),
        };
        fetch(self.client, request, &self.params.addresses(), FOLLOW).await
    }
}

fn bad_answer(url: &Url, status: StatusCode) -> Trouble {
    Trouble::File(format!("{} answered {}", masked(url), status.as_u16()))
}

/// A response whose length is only told by the end of the connection looks whole when it was cut. What the server said
/// before can tell.
fn check_size(response: &Response, announced: &Entry, size: u64) -> Result<(), Trouble> {
    let Entry::File(facts) = announced else { return Ok(()) };
    let is_told = response.headers.contains_key(header::CONTENT_LENGTH);
    match facts.size.filter(|announced| !is_told && *announced != size) {
        Some(announced) => Err(Trouble::File(format!(
            "{size} bytes came of {announced} that the server announced"
        ))),
        None => Ok(()),
    }
}

fn facts_of(response: &Response) -> Facts {
    Facts {
        size: response.header(&header::CONTENT_LENGTH).and_then(|size| size.parse().ok()),
        mtime: response.header(&header::LAST_MODIFIED).and_then(http_date),
        tag: response.header(&header::ETAG).map(str::to_owned),
        ..Facts::default()
    }
}

/// Whether the file in place has the very content that came in. Then it is left alone, and so is its age.
fn is_already_there(target: &Root, name: &str, incoming: &Incoming) -> bool {
    let has_size =
        |path: &Path| target.look(path).is_ok_and(|seen| seen.facts.size == Some(incoming.size()));
    let path = Path::new(name);
    has_size(path)
        && target.file(path).is_ok_and(|file| {
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(file).is_ok() && hasher.finalize() == incoming.digest()
        })
}

fn unreachable_source(error: &HttpError) -> Failure {
    let failure = Failure::error(format!("cannot read the source: {}", error.chain()));
    if error.may_pass() { failure } else { failure.for_good() }
}

fn bad_status(attempt: &Attempt<'_>, url: &Url, response: &Response) -> Failure {
    let status = response.status;
    let message = format!("cannot read the source: {} answered {}", masked(url), status.as_u16());
    let failure = Failure::answer(message);
    if status.is_client_error() && !matches!(status.as_u16(), 408 | 425 | 429) {
        return failure.for_good();
    }
    let wait = response
        .header(&header::RETRY_AFTER)
        .and_then(|value| retry_after(value, attempt.context.clock.now()));
    Failure { retry: wait.map_or(RetryAdvice::ByPolicy, RetryAdvice::After), ..failure }
}
