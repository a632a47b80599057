//! The HTTP interface, on the Unix socket and, when asked for, on TCP.
//!
//! The command line is a client of it, so what it can do is what the routes can do. Changes are taken on the socket only, where the
//! kernel vouches for who asks.

mod jobs;
mod paging;
mod problem;
mod schedules;
mod serve;
mod state;
mod system;
pub mod wire;

use axum::extract::{FromRequest, Request};
use axum::routing::get;
use serde::de::DeserializeOwned;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use problem::{FieldError, Problem};
pub use serve::{ServeError, bind_socket, bind_tcp, serve_socket, serve_tcp};
pub use state::{App, Live, Peer};
pub(crate) use system::TICK_OVERDUE;

/// How large a request's body may be, in bytes: 10,000 submissions of a kilobyte each.
const MAX_BODY_BYTES: usize = 16 << 20;

/// All routes.
pub fn router(app: App) -> axum::Router {
    let (router, mut document) = OpenApiRouter::new()
        .routes(routes!(jobs::index, jobs::create))
        .routes(routes!(jobs::cancel_many))
        .routes(routes!(jobs::retry_many))
        .routes(routes!(jobs::show))
        .routes(routes!(jobs::log))
        .routes(routes!(schedules::index))
        .routes(routes!(schedules::show))
        .routes(routes!(schedules::run))
        .routes(routes!(schedules::pause))
        .routes(routes!(schedules::resume))
        .routes(routes!(schedules::occurrences))
        .routes(routes!(system::status))
        .routes(routes!(system::healthz))
        .routes(routes!(system::readyz))
        .routes(routes!(system::metrics))
        .routes(routes!(system::queues))
        .routes(routes!(system::pause_queue))
        .routes(routes!(system::resume_queue))
        .routes(routes!(system::workers))
        .routes(routes!(system::nodes))
        .routes(routes!(system::stats))
        .routes(routes!(system::reload))
        .routes(routes!(system::events))
        .routes(routes!(system::audit))
        .split_for_parts();
    "Sexton".clone_into(&mut document.info.title);
    env!("CARGO_PKG_VERSION").clone_into(&mut document.info.version);
    let document = axum::Json(document);
    router
        .route("/api/v1/openapi.json", get(move || std::future::ready(document.clone())))
        .fallback(|| {
            std::future::ready(Problem::not_found(
                "there is nothing at this address; see /api/v1/openapi.json",
            ))
        })
        .layer(axum::extract::DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(app)
}

/// A JSON body whose errors are problem documents. An empty body counts as `{}`.
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = axum::body::Bytes::from_request(request, state)
            .await
            .map_err(|error| Problem::bad_request(format!("the body cannot be read: {error}")))?;
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        let mut reader = serde_json::Deserializer::from_slice(text);
        let parsed = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let pointer = format!("/{}", error.path().to_string().replace('.', "/"));
            let detail = error.inner().to_string();
            Problem::invalid("the body is not valid", vec![FieldError { pointer, detail }])
        })?;
        Ok(Self(parsed))
    }
}
