//! What handlers take from a request. Whatever is wrong with it is told as a problem document, like everything else.

use axum::extract::{self, FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use serde::de::DeserializeOwned;

use super::MAX_BODY_BYTES;
use super::problem::{FieldError, Problem};
use crate::jobs::explain;
use crate::model::ByteSize;

/// What stands in the address.
pub(super) struct Path<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = extract::Path::<T>::from_request_parts(parts, state).await;
        let extract::Path(taken) = path.map_err(|_unreadable| {
            let path = parts.uri.path();
            Problem::not_found(format!("`{path}` leads to nothing: jobs have numbers"))
        })?;
        Ok(Self(taken))
    }
}

/// What stands behind the question mark.
pub(super) struct Query<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = extract::Query::<T>::from_request_parts(parts, state).await;
        let extract::Query(taken) = query.map_err(|error| {
            let why = error.body_text();
            let why = why.split_once(": ").map_or(&*why, |(_what_axum_did, why)| why);
            Problem::bad_request(format!("the query of the address cannot be used: {why}"))
        })?;
        Ok(Self(taken))
    }
}

/// Refuses a query where none is asked for: what changes something says what in its body, and `?dry_run=true` behind its address would be
/// taken for a rehearsal.
pub(super) async fn refuse_unasked_query(
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let is_question = matches!(*request.method(), Method::GET | Method::HEAD);
    match request.uri().query() {
        Some(query) if !is_question && !query.is_empty() => Err(Problem::bad_request(
            "this takes nothing behind a question mark; what it can be told stands in the body",
        )),
        _ => Ok(next.run(request).await),
    }
}

/// A JSON body. An empty one counts as `{}`.
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = axum::body::Bytes::from_request(request, state).await.map_err(|error| {
            match error.status() {
                StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large(format!(
                    "a request is at most {}; send it in several",
                    ByteSize(MAX_BODY_BYTES as u64)
                )),
                _ => Problem::bad_request(format!("the body cannot be read: {error}")),
            }
        })?;
        read_body(&bytes).map(Self)
    }
}

/// What a body says, as every route reads it. An empty one counts as `{}`.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn read_body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { bytes };
    let mut reader = serde_json::Deserializer::from_slice(text);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let problem = explain(&error);
        Problem::invalid("the body is not valid", vec![FieldError::of("", &problem)])
    })
}
