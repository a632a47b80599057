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
    /// The path of the socket is longer than the kernel takes.
    #[error(
        "the path of the socket {} has {bytes} bytes and may have at most {max}: set `api.socket` (SEXTON_API__SOCKET) to a shorter one, \
         such as /run/sexton/sexton.sock, for the daemon and for those who ask it; `data_dir` may stay as it is",
        path.display()
    )]
    TooLong {
        /// The socket.
        path: PathBuf,
        /// How long its path is.
        bytes: usize,
        /// How long it may be.
        max: usize,
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

/// How long the path of a socket may be in bytes: `sun_path` has 108, and a zero ends it.
const MAX_SOCKET_PATH: usize = 107;

/// Refuses a path on which no socket can be made, before anything else is begun.
///
/// # Errors
/// When it is too long.
pub fn check_socket(path: &Path) -> Result<(), ServeError> {
    let bytes = path.as_os_str().len();
    let longer = hidden(path).as_os_str().len().saturating_sub(bytes);
    let max = MAX_SOCKET_PATH - longer;
    if bytes <= max {
        return Ok(());
    }
    Err(ServeError::TooLong { path: path.to_owned(), bytes, max })
}

/// The name under which a socket is made: its ending is no longer than `sock`.
fn hidden(path: &Path) -> PathBuf {
    path.with_extension("new")
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
    let hidden = hidden(path);
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

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream as StdUnixStream;

    use super::*;

    /// The path of a file in `folder`, filled up to this many bytes.
    fn path_of(bytes: usize, folder: &Path, ending: &str) -> PathBuf {
        let taken = folder.as_os_str().len() + 1 + ending.len();
        folder.join(format!("{}{ending}", "s".repeat(bytes - taken)))
    }

    #[tokio::test]
    async fn a_path_is_refused_as_too_long_exactly_when_no_socket_can_be_reached_there() {
        let folder = tempfile::tempdir().unwrap();
        for ending in [".sock", "", ".s"] {
            for bytes in 100..=110 {
                let path = path_of(bytes, folder.path(), ending);
                let told = check_socket(&path);
                let listener = bind_socket(&path);
                let is_reached = listener.is_ok() && StdUnixStream::connect(&path).is_ok();
                assert_eq!(told.is_ok(), is_reached, "{bytes}{ending}: {told:?}");
            }
        }
        let said = check_socket(&path_of(108, folder.path(), ".sock")).unwrap_err().to_string();
        for part in ["108 bytes", "at most 107", "`api.socket`"] {
            assert!(said.contains(part), "{said}");
        }
    }
}
