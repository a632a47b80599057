//! A wire between a daemon and PostgreSQL that can be cut without either end noticing, as a network can.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};

use tempfile::TempDir;

/// Where PostgreSQL's socket is in its directory.
const SOCKET: &str = ".s.PGSQL.5432";

/// The wire. Its threads end with the connections, which end with the daemon.
pub(crate) struct Proxy {
    folder: TempDir,
    is_silent: Arc<(Mutex<bool>, Condvar)>,
}

impl Proxy {
    /// A wire to the server whose socket is in that directory.
    pub(crate) fn to(server: PathBuf) -> Self {
        let folder = tempfile::Builder::new().tempdir_in("/tmp").expect("a short path");
        let listener = UnixListener::bind(folder.path().join(SOCKET)).expect("a socket");
        let is_silent: Arc<(Mutex<bool>, Condvar)> = Arc::default();
        let silence = Arc::clone(&is_silent);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                let Ok(server) = UnixStream::connect(server.join(SOCKET)) else { continue };
                let (back, forth) = (client.try_clone(), server.try_clone());
                let (Ok(back), Ok(forth)) = (back, forth) else { continue };
                for (from, to) in [(client, forth), (server, back)] {
                    let silence = Arc::clone(&silence);
                    std::thread::spawn(move || carry(from, to, &silence));
                }
            }
        });
        Self { folder, is_silent }
    }

    /// The directory of the socket on this side.
    pub(crate) fn directory(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Holds everything up in both directions from now on, or lets it through again.
    pub(crate) fn silence(&self, is_silent: bool) {
        let (silent, changed) = &*self.is_silent;
        *silent.lock().expect("no thread panics with it") = is_silent;
        changed.notify_all();
    }
}

fn carry(mut from: UnixStream, mut to: UnixStream, silence: &(Mutex<bool>, Condvar)) {
    let mut bytes = [0; 65536];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        let silent = silence.0.lock().expect("no thread panics with it");
        let let_through = silence.1.wait_while(silent, |silent| *silent);
        drop(let_through.expect("no thread panics with it"));
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _closed = to.shutdown(std::net::Shutdown::Both);
}
