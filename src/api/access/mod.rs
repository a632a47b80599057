//! Who may do what: every request comes through here before its route sees it.
//!
//! What a route asks of those who use it is in [`Terms::of`] and nowhere else. A route that it does not name can be read with the role
//! `read` and used otherwise with the role `operate`, so one that is added and forgotten here is closed and not open.

mod browser;
mod failures;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{ConnectInfo, FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;

use super::problem::Problem;
use super::state::{App, Peer};
use crate::config::Anonymous;
use crate::model::{Actor, Role, TokenHash, TokenSecret};
use crate::store::tokens::{self, Shortage, StoredToken, Toll};
use failures::Failures;

/// What a route asks of those who use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Terms {
    /// The least role; none where everybody may.
    role: Option<Role>,
    /// What it takes of a token's rate.
    cost: Cost,
}

/// What a request takes of a token's rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cost {
    /// It only reads.
    Nothing,
    /// It is one change.
    One,
    /// As many as jobs are handed in, which the route takes in the transaction that makes them.
    EachJob,
}

impl Terms {
    fn of(method: &Method, route: &str) -> Self {
        let (role, cost) = match (method.as_str(), route) {
            ("GET" | "HEAD", "/healthz" | "/readyz") => (None, Cost::Nothing),
            ("GET" | "HEAD", "/api/v1/tokens") => (Some(Role::Operate), Cost::Nothing),
            ("GET" | "HEAD", _) => (Some(Role::Read), Cost::Nothing),
            ("POST", "/api/v1/jobs") => (Some(Role::Submit), Cost::EachJob),
            _ => (Some(Role::Operate), Cost::One),
        };
        Self { role, cost }
    }
}

/// Who asks, as far as the kernel or a token vouches for it.
#[derive(Debug, Clone)]
struct Caller {
    actor: Actor,
    role: Role,
    toll: Option<Toll>,
}

/// The guard of all routes.
#[derive(Clone)]
pub(super) struct Access {
    app: App,
    failures: Arc<Mutex<Failures>>,
}

impl Access {
    /// The guard of an app's routes.
    pub(super) fn new(app: App) -> Self {
        Self { app, failures: Arc::default() }
    }

    /// Lets a request through, with who asks, if it may.
    async fn admit(&self, request: &mut Request) -> Result<(), Problem> {
        refuse_token_in(request.uri())?;
        let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
        let Terms { role: Some(least), cost } = Terms::of(request.method(), route) else {
            return Ok(());
        };
        let peer = peer(request.extensions());
        let headers = request.headers();
        let caller = match shown(headers) {
            Some(token) => self.identified(token, &peer).await?,
            None => self.without_token(&peer, headers, least)?,
        };
        if caller.role < least {
            let Caller { actor, role, .. } = caller;
            return Err(Problem::forbidden(format!(
                "{actor} has the role `{role}`, and this needs `{least}`"
            )));
        }
        if cost != Cost::Nothing {
            browser::refuse_foreign_page(headers)?;
        }
        if let (Cost::One, Some(toll)) = (cost, caller.toll.clone()) {
            let (taken, now) = (toll.clone(), self.app.clock.now());
            let charge = move |conn: &mut _| tokens::charge(conn, &taken, 1, now);
            let charged = self.app.store.write_quietly(charge).await?;
            charged.map_err(|shortage| too_fast(&toll, 1, shortage))?;
        }
        request.extensions_mut().insert(caller);
        Ok(())
    }

    /// Whose token it is.
    async fn identified(&self, shown: &[u8], peer: &Peer) -> Result<Caller, Problem> {
        let (hash, now) = (TokenHash::of(shown), self.app.clock.now());
        let source = match peer {
            Peer::Remote(address) => Some(address.ip()),
            Peer::Local { .. } | Peer::InProcess => None,
        };
        self.refuse_after_failures(source, &hash, now)?;
        let found = self.app.store.read(move |conn| tokens::of_secret(conn, &hash)).await?;
        let Some(token) = found.filter(|token| token.is_valid(now)) else {
            self.failures().failed(source, &hash, now);
            // No more often than the failures of a source are looked at.
            if let Some(address) = source {
                tracing::warn!(%address, "a token was shown that is not valid");
            }
            return Err(Problem::unauthorized(
                "the token is not valid: it is unknown, expired or revoked, or it is not in one header `Authorization: Bearer TOKEN`",
            ));
        };
        self.failures().succeeded(hash);
        if tokens::is_use_new(&token, now) {
            self.note_use(&token, now).await;
        }
        let StoredToken { name, role, rate, .. } = token;
        let (actor, token) = (name.actor(), name);
        Ok(Caller { actor, role, toll: rate.map(|rate| Toll { token, rate }) })
    }

    fn refuse_after_failures(
        &self,
        source: Option<IpAddr>,
        hash: &TokenHash,
        now: Timestamp,
    ) -> Result<(), Problem> {
        match self.failures().held_until(source, hash, now) {
            Some(until) => Err(Problem::too_many(
                "too many tokens from this address were not valid; correct the token, and wait",
                until.duration_since(now),
            )),
            None => Ok(()),
        }
    }

    /// It is only for people, so a database that takes no writes does not keep anybody from reading.
    async fn note_use(&self, token: &StoredToken, now: Timestamp) {
        let name = token.name.clone();
        let note = move |conn: &mut _| tokens::note_use(conn, &name, now);
        if let Err(error) = self.app.store.write_quietly(note).await {
            tracing::debug!(%error, token = %token.name, "the use of a token could not be noted");
        }
    }

    /// The socket is for those whom its file lets in; what comes over TCP may be from anybody.
    fn without_token(
        &self,
        peer: &Peer,
        headers: &HeaderMap,
        least: Role,
    ) -> Result<Caller, Problem> {
        let role = match (peer, self.app.settings.api.anonymous) {
            (Peer::Local { .. } | Peer::InProcess, _) => Role::Operate,
            (Peer::Remote(_), Anonymous::Read) if least == Role::Read => {
                browser::refuse_other_names(headers)?;
                Role::Read
            }
            (Peer::Remote(_), _) => return Err(Problem::unauthorized(NEEDS_TOKEN)),
        };
        Ok(Caller { actor: peer.actor(), role, toll: None })
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const NEEDS_TOKEN: &str = "over TCP this needs a token in the header `Authorization: Bearer TOKEN`; \
    `sexton token create NAME --role ROLE` makes one on the machine of the daemon";

/// The guard, as a layer around all routes.
pub(super) async fn guard(
    State(access): State<Access>,
    mut request: Request,
    next: Next,
) -> Response {
    match access.admit(&mut request).await {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// The token that a request shows. One that is shown in another way than it should be is empty, which is no token's text, and so costs the
/// same to refuse as a wrong one.
fn shown(headers: &HeaderMap) -> Option<&[u8]> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let first = given.next()?;
    if given.next().is_some() {
        return Some(b"");
    }
    let (scheme, token) = first.as_bytes().split_at_checked("Bearer ".len()).unwrap_or_default();
    Some(if scheme.eq_ignore_ascii_case(b"Bearer ") { token.trim_ascii() } else { b"" })
}

/// Addresses end up in logs of proxies and histories of browsers, so a token is never looked for there.
fn refuse_token_in(uri: &Uri) -> Result<(), Problem> {
    let is_named = |part: &str| {
        let name = part.split('=').next().unwrap_or_default();
        ["token", "access_token", "authorization"].contains(&name)
    };
    let is_secret = |rest: &str| rest.bytes().take(64).filter(u8::is_ascii_hexdigit).count() == 64;
    let mut parts = uri.query().unwrap_or_default().split('&');
    let all = uri.path_and_query().map_or("", |all| all.as_str());
    if parts.any(is_named) || all.split(TokenSecret::PREFIX).skip(1).any(is_secret) {
        return Err(Problem::bad_request(
            "a token in an address is not taken, because addresses are written to logs: revoke it, and show the next one in the \
             header `Authorization: Bearer TOKEN`",
        ));
    }
    Ok(())
}

/// A token's rate does not let it do so much now.
pub(super) fn too_fast(toll: &Toll, count: u32, shortage: Shortage) -> Problem {
    let Toll { token, rate } = toll;
    match shortage {
        Shortage::For(wait) => Problem::too_many(
            format!("the token `{token}` may do no more than {rate}; nothing was done"),
            wait,
        ),
        Shortage::Ever => {
            let most = rate.burst();
            let detail = format!(
                "{count} jobs are too many: with the rate {rate} the token `{token}` may hand in {most} at once; divide \
                 them, or give the token a greater burst"
            );
            Problem::invalid(detail, Vec::new())
        }
    }
}

/// The extractor of who asks for a change.
pub(super) struct Changer(pub(super) Actor);

impl FromRequestParts<App> for Changer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Problem> {
        caller(parts).map(|caller| Self(caller.actor.clone()))
    }
}

/// The extractor of what each job that is handed in takes of a token's rate, where it has one.
pub(super) struct Payer(pub(super) Option<Toll>);

impl FromRequestParts<App> for Payer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Problem> {
        caller(parts).map(|caller| Self(caller.toll.clone()))
    }
}

/// The extractor of whether nobody knows who asks, on routes that are for everybody. Such an answer does not tell what is where.
pub(super) struct Stranger(pub(super) bool);

impl FromRequestParts<App> for Stranger {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Infallible> {
        Ok(Self(matches!(peer(&parts.extensions), Peer::Remote(_))))
    }
}

fn peer(extensions: &Extensions) -> Peer {
    let peer = extensions.get::<ConnectInfo<Peer>>();
    peer.map_or(Peer::InProcess, |info| info.0.clone())
}

/// Whom the guard has let through.
fn caller(parts: &Parts) -> Result<&Caller, Problem> {
    let nobody = || Problem::forbidden("nobody has looked at who asks");
    parts.extensions.get::<Caller>().ok_or_else(nobody)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn terms(method: &Method, route: &str) -> (Option<Role>, Cost) {
        let Terms { role, cost } = Terms::of(method, route);
        (role, cost)
    }

    #[test]
    fn a_route_that_is_not_named_is_closed() {
        assert_eq!(terms(&Method::GET, "/new"), (Some(Role::Read), Cost::Nothing));
        assert_eq!(terms(&Method::GET, ""), (Some(Role::Read), Cost::Nothing));
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            assert_eq!(terms(&method, "/new"), (Some(Role::Operate), Cost::One));
        }
        assert_eq!(terms(&Method::POST, "/healthz"), (Some(Role::Operate), Cost::One));
    }

    #[test]
    fn j3_only_one_bearer_header_shows_a_token() {
        let shown = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, HeaderValue::from_static(value));
            }
            super::shown(&headers).map(<[u8]>::to_vec)
        };
        assert_eq!(shown(&[]), None);
        assert_eq!(shown(&["Bearer abc"]), Some(b"abc".to_vec()));
        assert_eq!(shown(&["bearer   abc "]), Some(b"abc".to_vec()));
        for wrong in [
            &[""][..],
            &["Bearer"],
            &["Bearer "],
            &["abc"],
            &["Basic YTpi"],
            &["Bearer a", "Bearer a"],
        ] {
            assert_eq!(shown(wrong), Some(Vec::new()), "{wrong:?}");
        }
    }

    #[test]
    fn j4_a_token_in_an_address_is_refused() {
        let secret = TokenSecret::of([7; 32]).reveal();
        for address in [
            format!("/api/v1/jobs?access_token={secret}"),
            format!("/api/v1/jobs?kind={secret}"),
            format!("/api/v1/jobs/{secret}"),
            "/api/v1/jobs?limit=1&token=abc".to_owned(),
        ] {
            let refused = refuse_token_in(&address.parse().unwrap()).unwrap_err();
            assert_eq!(refused.status, 400);
            assert!(!refused.detail.contains(&secret), "{}", refused.detail);
        }
        for address in ["/api/v1/jobs", "/api/v1/jobs?kind=sexton_backup&label=token=x", "*"] {
            assert_eq!(refuse_token_in(&address.parse().unwrap()), Ok(()), "{address}");
        }
    }
}
