//! Finding keepers, starting one, and talking to it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWrite, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::mpsc;

use super::messages::{self, Held, Line, Order, Word};
use super::{Entry, Inner, Source};
use crate::jobs::RunPaths;
use crate::jobs::ports::process::apart_from_channels;

/// How long a keeper may take to say what it has.
const HELLO_TIME: Duration = Duration::from_secs(10);

/// The way to a keeper.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) pid: i32,
    pub(super) orders: mpsc::UnboundedSender<Line>,
}

impl Link {
    /// # Errors
    /// When the keeper has ended, or a path in the order is no text.
    pub(super) fn send(&self, order: &Order) -> io::Result<()> {
        let sent = self.orders.send(messages::line(order)?);
        sent.map_err(|_closed| io::Error::other("the keeper of programs has ended"))
    }
}

impl Inner {
    /// The keeper of this daemon's own commands.
    pub(super) async fn own(self: &Arc<Self>) -> io::Result<Link> {
        let mut own = self.own.lock().await;
        if let Some(link) = own.as_ref().filter(|link| !link.orders.is_closed()) {
            return Ok(link.clone());
        }
        let link = self.attach(self.launch().await?).await?;
        Ok(own.insert(link).clone())
    }

    /// Starts a keeper and connects to it.
    async fn launch(&self) -> io::Result<UnixStream> {
        let folder = self.paths.keepers();
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.map_err(|error| {
            io::Error::new(error.kind(), format!("cannot make {}: {error}", folder.display()))
        })?;
        let name = format!("{}.sock", uuid::Uuid::new_v4().simple());
        // The socket is there and listened to before the keeper is, so there is nothing to wait for.
        let near = Near::new(&folder, &name)?;
        let listener: OwnedFd = std::os::unix::net::UnixListener::bind(&near.path)?.into();
        let mut command = tokio::process::Command::new(own_program());
        command
            .arg0("sexton")
            .arg("keep")
            .arg(&self.paths.data)
            .arg(&name)
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| is_about_memory(name)))
            .stdin(listener)
            .stdout(Stdio::null())
            // Only a panic would be said there; and what is no journal may be a pipe whose reader waits for its end.
            .stderr(match crate::telemetry::logs::stderr_is_journal() {
                true => Stdio::inherit(),
                false => Stdio::null(),
            });
        let started = apart_from_channels(|| command.spawn());
        let mut child = match started {
            Ok(child) => child,
            Err(error) => {
                let _gone = std::fs::remove_file(folder.join(&name));
                return Err(error);
            }
        };
        self.visits().started.spawn(async move {
            // How it ended is seen from its connection.
            let _ended = child.wait().await;
        });
        UnixStream::connect(&near.path).await
    }

    /// Connects to the keeper of an earlier daemon, if it is still there.
    pub(super) async fn meet(self: &Arc<Self>, socket: &Path) -> io::Result<()> {
        let (Some(folder), Some(name)) = (socket.parent(), socket.file_name()) else {
            return Ok(());
        };
        let near = Near::new(folder, name)?;
        match UnixStream::connect(&near.path).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(socket)
            }
            stream => match self.attach(stream?).await {
                // It had nothing left to keep and was about to end; results are in its files.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
                attached => attached.map(|_link| ()),
            },
        }
    }

    /// Asks a keeper what it has, and listens to it from then on.
    async fn attach(self: &Arc<Self>, stream: UnixStream) -> io::Result<Link> {
        let (words, to_keeper) = stream.into_split();
        let (orders, ordered) = mpsc::unbounded_channel();
        let writing = tokio::spawn(write_lines(to_keeper, ordered));
        let hello = messages::line(&Order::Hello { patience: self.patience })?;
        let _just_made = orders.send(hello);
        let mut words = BufReader::new(words).lines();
        let (pid, held) = match tokio::time::timeout(HELLO_TIME, inventory(&mut words)).await {
            Ok(held) => held?,
            Err(_late) => return Err(io::ErrorKind::TimedOut.into()),
        };
        let link = Link { pid, orders };
        for held in held {
            self.hold(held, Source::Keeper(link.clone()));
        }
        let (inner, orders) = (Arc::clone(self), link.orders.clone());
        let mut visits = self.visits();
        visits.links.push(link.clone());
        visits.readers.spawn(async move {
            while let Ok(Some(word)) = words.next_line().await {
                match serde_json::from_str(&word) {
                    Ok(word) => inner.pass_on(word),
                    // It is of another version.
                    Err(error) if error.is_data() => {}
                    Err(error) => tracing::warn!(
                        %error,
                        "what a keeper of programs says cannot be read and is left out"
                    ),
                }
            }
            writing.abort();
            if inner.visits().is_leaving {
                return;
            }
            let mut attempts = inner.attempts();
            let of_it = |entry: &&mut Entry| {
                entry.link().is_some_and(|link| link.orders.same_channel(&orders))
            };
            attempts.values_mut().filter(of_it).for_each(|entry| entry.words = None);
        });
        drop(visits);
        Ok(link)
    }
}

/// What a keeper has, which is the first thing that it says.
async fn inventory(words: &mut Lines<BufReader<OwnedReadHalf>>) -> io::Result<(i32, Vec<Held>)> {
    let Some(first) = words.next_line().await? else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    match serde_json::from_str(&first)? {
        Word::Holding { pid, attempts } => Ok((pid, attempts)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Writes what comes, as many at once as there are, until nobody can read or say anything any more.
pub(super) async fn write_lines(
    mut to: impl AsyncWrite + Unpin,
    mut lines: mpsc::UnboundedReceiver<Line>,
) {
    while let Some(mut text) = lines.recv().await {
        while let Ok(line) = lines.try_recv() {
            text.extend(line);
        }
        if to.write_all(&text).await.is_err() {
            return;
        }
    }
}

/// The sockets in the folder of keepers.
pub(super) fn sockets(paths: &RunPaths) -> Vec<PathBuf> {
    let entries = match std::fs::read_dir(paths.keepers()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            let folder = paths.keepers();
            tracing::error!(%error, folder = %folder.display(), "keepers of programs could not be looked for");
            return Vec::new();
        }
    };
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// A short way to a file: a socket's address holds 108 bytes, which a data directory may exceed.
struct Near {
    path: PathBuf,
    _folder: OwnedFd,
}

impl Near {
    fn new(folder: &Path, name: impl AsRef<Path>) -> io::Result<Self> {
        let folder: OwnedFd = std::fs::File::open(folder)?.into();
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
        Ok(Self { path, _folder: folder })
    }
}

/// This very program: under its own name where the file is still the one that runs, and as the kernel holds it after an upgrade.
fn own_program() -> PathBuf {
    let running = Path::new("/proc/self/exe");
    let identity = |path: &Path| path.metadata().ok().map(|file| (file.dev(), file.ino()));
    match std::env::current_exe() {
        Ok(path) if identity(&path).is_some() && identity(&path) == identity(running) => path,
        _ => running.to_owned(),
    }
}

/// The unit keeps the daemon's memory small with them.
fn is_about_memory(name: &std::ffi::OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with("MIMALLOC_") || name.starts_with("MALLOC_"))
}
