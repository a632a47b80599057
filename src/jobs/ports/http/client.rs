//! The real client.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, StreamExt as _};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, ClientBuilder};

use super::address::{literal, refusal};
use super::{HttpClient, HttpError, Reach, Request, Response, causes, chain, masked};

/// How long name resolution, TCP and TLS may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an unused connection is kept. Jobs rarely ask the same server twice within seconds, except a sync.
const KEPT_IDLE: Duration = Duration::from_secs(5);

/// The client that talks to the network.
///
/// It costs nothing until the first request: reading the machine's CA certificates takes milliseconds and memory that
/// a daemon without web jobs should not pay for.
#[must_use]
pub fn client() -> Arc<dyn HttpClient> {
    Arc::new(WebClient { built: OnceLock::new() })
}

struct WebClient {
    built: OnceLock<Result<Clients, String>>,
}

/// One client per reach, each with connections of its own: a connection that was made without the address check must
/// not be reused where it applies.
struct Clients {
    public: Client,
    anywhere: Client,
    /// Why https cannot work on this machine, when it cannot.
    no_tls: Option<String>,
}

impl HttpClient for WebClient {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, HttpError>> {
        async move {
            let client = self.client_for(&request)?;
            check_literal(&request)?;
            exchange(client, request).await
        }
        .boxed()
    }
}

impl WebClient {
    fn client_for(&self, request: &Request) -> Result<&Client, HttpError> {
        let fail = |reason: &String| HttpError::Connect {
            url: masked(&request.url),
            source: reason.clone().into(),
        };
        let clients = self.built.get_or_init(build).as_ref().map_err(fail)?;
        if let Some(reason) = clients.no_tls.as_ref().filter(|_| request.url.scheme() == "https") {
            return Err(fail(reason));
        }
        Ok(match request.reach {
            Reach::Public => &clients.public,
            Reach::Anywhere => &clients.anywhere,
        })
    }
}

fn build() -> Result<Clients, String> {
    // A second provider is refused; whoever was first is as good.
    let _already_there = rustls::crypto::ring::default_provider().install_default();
    let both = |configure: fn(ClientBuilder) -> ClientBuilder| {
        let anywhere = configure(base()).build()?;
        let public = configure(base()).dns_resolver(PublicOnly).build()?;
        Ok::<_, reqwest::Error>((public, anywhere))
    };
    // Without CA certificates the builder fails as a whole, but plain http needs none.
    let (clients, no_tls) = match both(|builder| builder) {
        Ok(clients) => (clients, None),
        Err(error) => {
            let reason = format!(
                "https does not work on this machine ({}); install the package ca-certificates",
                chain(&error)
            );
            let clients =
                both(|builder| builder.tls_certs_only([])).map_err(|error| chain(&error))?;
            (clients, Some(reason))
        }
    };
    Ok(Clients { public: clients.0, anywhere: clients.1, no_tls })
}

/// Proxies from the environment are ignored: the address check would see the proxy's address and not the server's.
fn base() -> ClientBuilder {
    Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(KEPT_IDLE)
        .user_agent(concat!("sexton/", env!("CARGO_PKG_VERSION")))
}

/// Addresses written in the URL never reach a resolver, so they are checked here.
fn check_literal(request: &Request) -> Result<(), HttpError> {
    match (request.reach, literal(&request.url)) {
        (Reach::Public, Some(address)) => check(&request.url, address),
        _ => Ok(()),
    }
}

fn check(url: &super::Url, address: IpAddr) -> Result<(), HttpError> {
    match refusal(address) {
        None => Ok(()),
        Some(what) => Err(HttpError::Refused {
            url: masked(url),
            reason: Inside { address, what }.to_string(),
        }),
    }
}

/// A name or URL led to an address that is not public.
#[derive(Debug, thiserror::Error)]
#[error(
    "{address} is {what}; list the host in `allow_hosts` or set `allow_private = true` if it is meant"
)]
struct Inside {
    address: IpAddr,
    what: &'static str,
}

/// Resolves names, and fails on a name with any address that is not public.
///
/// The connector uses the very addresses that passed here, so a name that changes its mind afterwards (DNS rebinding)
/// gains nothing.
struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let inside = found.iter().find_map(|socket| {
                refusal(socket.ip()).map(|what| Inside { address: socket.ip(), what })
            });
            match inside {
                Some(inside) => Err(inside.into()),
                None => Ok(Box::new(found.into_iter()) as Addrs),
            }
        })
    }
}

async fn exchange(client: &Client, request: Request) -> Result<Response, HttpError> {
    let Request { method, url, headers, body, reach, idle_timeout } = request;
    let mut builder = client.request(method, url.clone()).headers(headers);
    if let Some(body) = body {
        builder = builder.body(body);
    }
    let name = masked(&url);
    let response = match tokio::time::timeout(idle_timeout, builder.send()).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Err(explain(name, error)),
        Err(_elapsed) => return Err(HttpError::Silent { url: name, waited: idle_timeout.into() }),
    };
    if let (Reach::Public, Some(peer)) = (reach, response.remote_addr()) {
        check(&url, peer.ip())?;
    }
    Ok(Response {
        status: response.status(),
        headers: response.headers().clone(),
        url,
        body: body_of(response, name, idle_timeout),
    })
}

fn body_of(
    response: reqwest::Response,
    name: String,
    idle_timeout: Duration,
) -> BoxStream<'static, Result<Bytes, HttpError>> {
    stream::unfold(Some((response, name)), move |state| async move {
        let (mut response, name) = state?;
        match tokio::time::timeout(idle_timeout, response.chunk()).await {
            Ok(Ok(Some(part))) => Some((Ok(part), Some((response, name)))),
            Ok(Ok(None)) => None,
            Ok(Err(error)) => Some((Err(explain(name, error)), None)),
            Err(_elapsed) => {
                Some((Err(HttpError::Silent { url: name, waited: idle_timeout.into() }), None))
            }
        }
    })
    .boxed()
}

fn explain(url: String, error: reqwest::Error) -> HttpError {
    // The error's own text would show the URL with its query.
    let error = error.without_url();
    if let Some(inside) = causes(&error).find_map(|cause| cause.downcast_ref::<Inside>()) {
        return HttpError::Refused { url, reason: inside.to_string() };
    }
    let is_connect = error.is_connect();
    let source = Box::new(error);
    if is_connect { HttpError::Connect { url, source } } else { HttpError::Broken { url, source } }
}

#[cfg(test)]
mod tests {
    use reqwest::Method;
    use reqwest::header::HeaderMap;

    use super::*;

    fn get(url: &str, reach: Reach) -> Request {
        Request {
            method: Method::GET,
            url: url.parse().unwrap(),
            headers: HeaderMap::new(),
            body: None,
            reach,
            idle_timeout: Duration::from_secs(5),
        }
    }

    async fn refused(url: &str) -> String {
        match client().send(get(url, Reach::Public)).await {
            Err(HttpError::Refused { reason, .. }) => reason,
            other => panic!("{url} was not refused: {other:?}"),
        }
    }

    #[tokio::test]
    async fn l1_a_literal_inside_address_is_refused_before_any_connection() {
        for url in ["http://127.0.0.1:1/", "http://2130706433/", "http://[::ffff:127.0.0.1]/"] {
            assert!(refused(url).await.contains("loopback"), "{url}");
        }
    }

    #[tokio::test]
    async fn l2_a_name_that_leads_inside_is_refused_after_resolution() {
        assert!(refused("http://localhost:1/").await.contains("allow_private"));
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_given_up() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/x?token=canary", listener.local_addr().unwrap());
        let request =
            Request { idle_timeout: Duration::from_millis(20), ..get(&url, Reach::Anywhere) };
        let error = client().send(request).await.unwrap_err();
        assert!(matches!(error, HttpError::Silent { .. }), "{error:?}");
        assert!(!format!("{error:?} {}", error.chain()).contains("canary"));
    }

    #[tokio::test]
    async fn j11_an_error_shows_no_query() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/x?token=canary", listener.local_addr().unwrap());
        drop(listener);
        let error = client().send(get(&url, Reach::Anywhere)).await.unwrap_err();
        assert!(matches!(error, HttpError::Connect { .. }), "{error:?}");
        assert!(!format!("{error:?} {}", error.chain()).contains("canary"));
    }
}
