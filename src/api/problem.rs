//! Errors on the wire: `application/problem+json` (RFC 9457), one envelope for everything.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::jobs;
use crate::model::Chain;
use crate::store::{Fault, StoreError};

/// What went wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Problem {
    /// A stable word for programs: `not-found`, `invalid`, `conflict`, ….
    #[serde(rename = "type")]
    pub kind: String,
    /// The HTTP status.
    pub status: u16,
    /// The same for people, in a few words.
    pub title: String,
    /// What exactly, and what to do.
    pub detail: String,
    /// Every single thing that is wrong with the request's body.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// After how many seconds it may work, as in the header `Retry-After`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u32>,
}

/// Something wrong at one place of a body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FieldError {
    /// Where, as a JSON pointer.
    pub pointer: String,
    /// What.
    pub detail: String,
}

impl Problem {
    fn new(status: StatusCode, kind: &str, title: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: kind.to_owned(),
            status: status.as_u16(),
            title: title.to_owned(),
            detail: detail.into(),
            errors: Vec::new(),
            retry_after: None,
        }
    }

    /// 404.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    /// 400.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", "Bad request", detail)
    }

    /// 401.
    pub(super) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "A valid token is needed", detail)
    }

    /// 403.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "Forbidden", detail)
    }

    /// 405.
    pub(super) fn method_not_allowed(detail: impl Into<String>) -> Self {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Self::new(status, "method-not-allowed", "Method not allowed", detail)
    }

    /// 409.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "Conflict", detail)
    }

    /// 410.
    pub(super) fn gone(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "gone", "Gone", detail)
    }

    /// 413.
    pub(super) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Too large", detail)
    }

    /// 422, with every error of the body.
    pub fn invalid(detail: impl Into<String>, errors: Vec<FieldError>) -> Self {
        let problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "Invalid", detail);
        Self { errors, ..problem }
    }

    /// 422, from a kind's check of its params, which stand at `prefix` in the body.
    pub fn invalid_params(kind: &str, prefix: &str, problems: &[jobs::Problem]) -> Self {
        let errors = problems.iter().map(|problem| FieldError::of(prefix, problem)).collect();
        Self::invalid(format!("the params of kind `{kind}` are not valid"), errors)
    }

    /// 429, with when it may work.
    pub(super) fn too_many(detail: impl Into<String>, wait: SignedDuration) -> Self {
        let seconds = wait.as_secs() + i64::from(wait.subsec_nanos() > 0);
        let retry_after = Some(u32::try_from(seconds.max(1)).unwrap_or(u32::MAX));
        let status = StatusCode::TOO_MANY_REQUESTS;
        Self { retry_after, ..Self::new(status, "too-many", "Too many requests", detail) }
    }

    /// 503: it works on the daemon's side only, and the daemon does not run.
    pub fn needs_daemon() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "no-daemon",
            "The daemon is not running",
            "this needs the running daemon; start it with `sexton serve`",
        )
    }
}

impl FieldError {
    /// A problem of a value that stands at the pointer `prefix` in the body.
    pub(crate) fn of(prefix: &str, problem: &jobs::Problem) -> Self {
        Self {
            pointer: format!("{prefix}{}", problem.pointer()),
            detail: match &problem.help {
                Some(help) => format!("{} ({help})", problem.message),
                None => problem.message.clone(),
            },
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let detail = Chain(&error).to_string();
        match error {
            StoreError::NotFound(_) => Self::not_found(detail),
            StoreError::Conflict(_) => Self::conflict(detail),
            StoreError::Nul => Self::bad_request(detail),
            StoreError::Fault(Fault::NotWritable(_)) => Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "storage",
                "The store cannot be written",
                detail,
            ),
            other if other.is_transient() => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "Try again", detail)
            }
            _ => {
                tracing::error!(error = detail, "a request failed in the store");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error", detail)
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_string(&self).unwrap_or_default();
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        let mut answer = (status, kind, body).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let how = HeaderValue::from_static("Bearer realm=\"sexton\"");
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, how);
        }
        if let Some(seconds) = self.retry_after {
            answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        answer
    }
}
