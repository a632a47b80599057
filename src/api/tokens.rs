//! `/api/v1/tokens`: making, changing and revoking them. Their secrets are in no answer but the one that makes them.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::json;

use super::access::Changer;
use super::ahead::ahead;
use super::extract::{Body, Path};
use super::problem::{FieldError, Problem};
use super::state::App;
use super::wire::{List, NewToken, Token, TokenChangeRequest, TokenRequest, time};
use crate::model::{AuditEvent, TokenChange, TokenName, TokenSecret};
use crate::store::audit::append_event;
use crate::store::tokens::{self, StoredToken};

fn view(token: StoredToken, now: Timestamp) -> Token {
    let state = match (&token.revoked, token.is_valid(now)) {
        (Some(_), _) => "revoked",
        (None, true) => "valid",
        (None, false) => "expired",
    };
    let (revoked_at, revoked_by) = token.revoked.map(|(at, by)| (time(at), by)).unzip();
    Token {
        name: token.name.to_string(),
        role: token.role.to_string(),
        state: state.to_owned(),
        rate: token.rate.map(|rate| rate.to_string()),
        created_at: time(token.created_at),
        created_by: token.created_by,
        expires_at: token.expires_at.map(time),
        last_used_at: token.last_used_at.map(time),
        revoked_at,
        revoked_by,
    }
}

async fn shown(app: &App, name: TokenName) -> Result<Token, Problem> {
    let token = app.store.read(move |conn| tokens::find(conn, &name)).await?;
    Ok(view(token, app.clock.now()))
}

/// All tokens by name, also those that are expired or revoked.
#[utoipa::path(get, path = "/api/v1/tokens", responses((status = 200, body = List<Token>)))]
pub(super) async fn index(State(app): State<App>) -> Result<axum::Json<List<Token>>, Problem> {
    let now = app.clock.now();
    let tokens = app.store.read(tokens::list).await?;
    let items = tokens.into_iter().map(|token| view(token, now)).collect();
    Ok(axum::Json(List { items, next_cursor: None }))
}

/// Makes a token. Its secret is in this answer and in no other.
#[utoipa::path(post, path = "/api/v1/tokens", request_body = TokenRequest,
    responses((status = 201, body = NewToken), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn create(
    State(app): State<App>,
    Changer(actor): Changer,
    Body(request): Body<TokenRequest>,
) -> Result<Response, Problem> {
    let live = Arc::clone(app.live()?);
    let TokenRequest { name, role, rate, expires_at } = request;
    let (node, now) = (live.node, app.clock.now());
    let name: TokenName = match name.parse() {
        Ok(name) => name,
        Err(error) => return Err(wrong("/name", &error)),
    };
    let expires_at = expires_at.map(|text| end(&text, now)).transpose()?;
    let secret = TokenSecret::of(rand::random());
    let detail = json!({ "role": role, "rate": rate, "expires_at": expires_at.map(time) });
    let event = AuditEvent::new("token.created", &actor, &subject(&name), &detail, now);
    let new = tokens::NewToken { name: name.clone(), hash: secret.hash(), role, rate, expires_at };
    app.store
        .write(move |conn| {
            tokens::create(conn, &new, &actor, now)?;
            append_event(conn, node, &event)
        })
        .await?;
    let made = NewToken { secret: secret.reveal(), token: shown(&app, name).await? };
    // Whatever stands between must not keep it.
    let head = [(header::CACHE_CONTROL, "no-store")];
    Ok((StatusCode::CREATED, head, axum::Json(made)).into_response())
}

/// Changes what may be done with a token, how fast and until when. It counts from the next request on, on all nodes.
#[utoipa::path(patch, path = "/api/v1/tokens/{name}", request_body = TokenChangeRequest,
    responses((status = 200, body = Token), (status = 404, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn change(
    State(app): State<App>,
    Changer(actor): Changer,
    Path(name): Path<String>,
    Body(request): Body<TokenChangeRequest>,
) -> Result<axum::Json<Token>, Problem> {
    let live = Arc::clone(app.live()?);
    let name = named(&name)?;
    let (node, now) = (live.node, app.clock.now());
    let expires_at = match &request.expires_at {
        Some(Some(text)) => Some(Some(end(text, now)?)),
        Some(None) => Some(None),
        None => None,
    };
    let change = TokenChange { role: request.role, rate: request.rate, expires_at };
    if change == TokenChange::default() {
        return Err(Problem::bad_request("give at least one of role, rate and expires_at"));
    }
    let event = AuditEvent::new("token.changed", &actor, &subject(&name), &json!(request), now);
    let token = name.clone();
    app.store
        .write(move |conn| match tokens::change(conn, &token, change)? {
            true => append_event(conn, node, &event),
            false => Ok(()),
        })
        .await?;
    Ok(axum::Json(shown(&app, name).await?))
}

/// Takes a token out of use, for good, from the next request on, on all nodes. Its name is not free again.
#[utoipa::path(post, path = "/api/v1/tokens/{name}/revoke",
    responses((status = 200, body = Token), (status = 404, body = Problem)))]
pub(super) async fn revoke(
    State(app): State<App>,
    Changer(actor): Changer,
    Path(name): Path<String>,
) -> Result<axum::Json<Token>, Problem> {
    let live = Arc::clone(app.live()?);
    let name = named(&name)?;
    let (node, now) = (live.node, app.clock.now());
    let event = AuditEvent::new("token.revoked", &actor, &subject(&name), &json!({}), now);
    let token = name.clone();
    app.store
        .write(move |conn| match tokens::revoke(conn, &token, &actor, now)? {
            true => append_event(conn, node, &event),
            false => Ok(()),
        })
        .await?;
    Ok(axum::Json(shown(&app, name).await?))
}

/// The token that an address names.
fn named(name: &str) -> Result<TokenName, Problem> {
    let unknown = |_| Problem::not_found(format!("there is no token `{}`", name.escape_default()));
    name.parse().map_err(unknown)
}

/// Until when a token is to be valid.
fn end(text: &str, now: Timestamp) -> Result<Timestamp, Problem> {
    match ahead(text, now) {
        Ok(at) if at > now => Ok(at),
        Ok(_past) => {
            Err(wrong("/expires_at", &"it lies in the past; to take a token out of use, revoke it"))
        }
        Err(error) => Err(wrong("/expires_at", &error)),
    }
}

fn wrong(pointer: &str, detail: &dyn std::fmt::Display) -> Problem {
    let error = FieldError { pointer: pointer.to_owned(), detail: detail.to_string() };
    Problem::invalid("the token is not valid", vec![error])
}

/// What the audit log calls a token, which is what it calls those who act with it.
fn subject(name: &TokenName) -> String {
    format!("token:{name}")
}
