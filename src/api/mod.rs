//! The HTTP interface, on the Unix socket and, when asked for, on TCP.
//!
//! The command line is a client of it, so what it can do is what the routes can do. Who asks is vouched for by the kernel on the socket and
//! by a token over TCP; [`access`] is what decides.

mod access;
mod ahead;
mod extract;
mod jobs;
mod kinds;
mod limits;
mod logs;
mod nodes;
mod orders;
mod paging;
mod problem;
mod queues;
mod schedules;
mod serve;
mod state;
mod submission;
mod system;
mod tokens;
pub mod wire;

use axum::http::header::CONTENT_TYPE;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use access::{Access, guard};
pub use extract::read_body;
use extract::refuse_unasked_query;
pub use problem::{FieldError, Problem};
pub use serve::{ServeError, bind_socket, bind_tcp, check_socket, serve_socket, serve_tcp};
pub(crate) use state::user_name;
pub use state::{App, Live, Peer};
pub(crate) use submission::check_submissions;
pub use submission::{MAX_SUBMISSION, Submitted, check_submission};
pub(crate) use system::{TICK_OVERDUE, problems};

/// How large a request's body may be, in bytes: 10,000 submissions of a kilobyte each.
const MAX_BODY_BYTES: usize = 16 << 20;

/// All routes, with the description of each.
fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(jobs::index, jobs::create))
        .routes(routes!(orders::cancel))
        .routes(routes!(orders::retry))
        .routes(routes!(orders::drop_jobs))
        .routes(routes!(orders::reprioritise))
        .routes(routes!(jobs::show))
        .routes(routes!(jobs::items))
        .routes(routes!(logs::log))
        .routes(routes!(kinds::index))
        .routes(routes!(kinds::show))
        .routes(routes!(limits::index, limits::set))
        .routes(routes!(limits::reset))
        .routes(routes!(queues::index))
        .routes(routes!(queues::change))
        .routes(routes!(queues::pause))
        .routes(routes!(queues::resume))
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
        .routes(routes!(nodes::drain_node))
        .routes(routes!(nodes::resume_node))
        .routes(routes!(system::workers))
        .routes(routes!(nodes::nodes))
        .routes(routes!(system::stats))
        .routes(routes!(system::reload))
        .routes(routes!(system::events))
        .routes(routes!(system::audit))
        .routes(routes!(tokens::index, tokens::create))
        .routes(routes!(tokens::change))
        .routes(routes!(tokens::revoke))
}

/// The routes and their OpenAPI document.
fn described() -> (axum::Router<App>, utoipa::openapi::OpenApi) {
    let (router, mut document) = routes().split_for_parts();
    "Sexton".clone_into(&mut document.info.title);
    env!("CARGO_PKG_VERSION").clone_into(&mut document.info.version);
    (router, document)
}

/// The whole interface, ready to be served.
pub fn router(app: App) -> axum::Router {
    let (router, document) = described();
    // As text it takes a tenth of the memory that it takes as a tree, and answering is copying a pointer.
    let document = axum::body::Bytes::from(serde_json::to_vec(&document).unwrap_or_default());
    let document = ([(CONTENT_TYPE, "application/json")], document);
    let nothing = || {
        std::future::ready(Problem::not_found(
            "there is nothing at this address; see /api/v1/openapi.json",
        ))
    };
    let other_method = || {
        std::future::ready(Problem::method_not_allowed(
            "nothing at this address is asked for in that way; see /api/v1/openapi.json",
        ))
    };
    router
        .route("/api/v1/openapi.json", get(move || std::future::ready(document.clone())))
        .fallback(nothing)
        .method_not_allowed_fallback(other_method)
        .layer(from_fn(refuse_unasked_query))
        .layer(axum::extract::DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(from_fn_with_state(Access::new(app.clone()), guard))
        .with_state(app)
}

#[cfg(test)]
mod tests {
    /// Run it with `SEXTON_WRITE_OPENAPI=1` to write the file anew.
    #[test]
    fn the_document_in_docs_is_the_one_that_is_served() {
        let (_routes, document) = super::described();
        let served = serde_json::to_value(&document).unwrap();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
        if std::env::var_os("SEXTON_WRITE_OPENAPI").is_some() {
            std::fs::write(path, format!("{served:#}\n")).unwrap();
        }
        let kept: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert!(kept == served, "docs/openapi.json is not what is served");
    }
}
