//! Listening.
//!
//! `axum::serve` has no time-out before the first byte and no bound on connections, so this accepts by itself: a permit for each
//! connection, and a time within which the head of a request must have come.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::state::Peer;

/// How many connections are served at once, per listener.
const MAX_CONNECTIONS: usize = 512;

/// Within which the head of a request must have arrived.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);

/// How long to wait after the system had no file descriptor left for a new connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The socket's folder or the socket.
    #[error("cannot listen on the socket {}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The address.
    #[error("cannot listen on {address}")]
    Address {
        /// The address.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Opens the socket, for its owner and group only. A socket that a dead daemon left behind is replaced; the lock on the data directory has
/// already shown that no living one uses it.
///
/// # Errors
/// When it cannot be made.
pub fn bind_socket(path: &Path) -> Result<UnixListener, ServeError> {
    let failed = |source| ServeError::Socket { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    // Bound under another name and moved into place when its mode is right: between bind and chmod anybody could connect.
    let hidden = path.with_extension("binding");
    match std::fs::remove_file(&hidden) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&hidden).map_err(failed)?;
    std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
    std::fs::rename(&hidden, path).map_err(failed)?;
    Ok(listener)
}

/// Opens a TCP address.
///
/// # Errors
/// When it is taken or not ours.
pub async fn bind_tcp(address: std::net::SocketAddr) -> Result<TcpListener, ServeError> {
    let failed = |source| ServeError::Address { address: address.to_string(), source };
    TcpListener::bind(address).await.map_err(failed)
}

/// Serves the socket until `stop`.
pub async fn serve_socket(listener: UnixListener, router: Router, stop: CancellationToken) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Some(permit) = permit(&permits, &stop).await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let Ok(credentials) = stream.peer_cred() else { continue };
                let peer = Peer::local(credentials.uid());
                tokio::spawn(connection(stream, peer, router.clone(), stop.clone(), permit));
            }
            Err(error) => pause(&error).await,
        }
    }
}

/// Serves a TCP address until `stop`.
pub async fn serve_tcp(listener: TcpListener, router: Router, stop: CancellationToken) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Some(permit) = permit(&permits, &stop).await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, address)) => {
                let peer = Peer::Remote(address);
                tokio::spawn(connection(stream, peer, router.clone(), stop.clone(), permit));
            }
            Err(error) => pause(&error).await,
        }
    }
}

type Permit = tokio::sync::OwnedSemaphorePermit;

async fn permit(permits: &Arc<Semaphore>, stop: &CancellationToken) -> Option<Permit> {
    tokio::select! {
        permit = Arc::clone(permits).acquire_owned() => permit.ok(),
        () = stop.cancelled() => None,
    }
}

async fn pause(error: &std::io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

async fn connection<S>(
    stream: S,
    peer: Peer,
    router: Router,
    stop: CancellationToken,
    permit: Permit,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer.clone()));
        router.clone().oneshot(request)
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        // A client that goes away in the middle is nobody's problem.
        tracing::debug!(%error, "a connection ended early");
    }
    drop(permit);
}
