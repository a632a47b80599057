//! A directory with schedules and data, and the daemon that lives in it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sexton::clock::{Clock, SystemClock};
use tempfile::TempDir;

/// The program that is measured, unless `SEXTON_BENCH_PROGRAM` names another one: the one that `cargo bench` has just built.
const PROGRAM: &str = env!("CARGO_BIN_EXE_sexton");

/// How long the daemon may take to say that it is ready.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits.
#[expect(clippy::disallowed_methods, reason = "what is measured runs in another process meanwhile")]
pub(crate) fn wait(duration: Duration) {
    std::thread::sleep(duration);
}

/// The time since some moment in the past, for measuring with.
pub(crate) fn clock() -> Duration {
    SystemClock.since_boot()
}

/// A directory for one daemon. The schedules have a part of it for themselves, because the daemon listens to what happens beside
/// them.
/// It lies below `target`, on the disk that the working copy is on: `/tmp` may be memory, where a sync
/// costs nothing.
pub(crate) struct House {
    directory: TempDir,
    workers: usize,
}

impl House {
    /// With room for that many jobs at a time.
    pub(crate) fn with_workers(workers: usize) -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let house = Self { directory, workers };
        house.write_schedules("first", std::iter::empty());
        house.use_schedules("first");
        house
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A directory with nothing in it, another one for each number.
    pub(crate) fn empty(&self, number: usize) -> PathBuf {
        let folder = self.path("empty").join(number.to_string());
        fs::create_dir_all(&folder).expect("a directory");
        folder
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path("data/sexton.db")
    }

    /// Writes a set of schedules, by id and text, beside the one that is in force.
    pub(crate) fn write_schedules(
        &self,
        set: &str,
        schedules: impl Iterator<Item = (String, String)>,
    ) {
        let folder = self.path("sets").join(set);
        fs::create_dir_all(&folder).expect("a directory");
        for (id, text) in schedules {
            fs::write(folder.join(format!("{id}.toml")), text).expect("a schedule file");
        }
    }

    /// Puts a set of schedules in force in one step.
    pub(crate) fn use_schedules(&self, set: &str) {
        let fresh = self.path("sets/fresh");
        symlink(set, &fresh).expect("a link");
        fs::rename(&fresh, self.path("sets/in-force")).expect("a link in its place");
    }

    /// Starts the daemon and waits until it is ready.
    pub(crate) fn start(&self) -> Daemon {
        let notices = self.path("notices");
        // Left over by an earlier start, if there was one.
        let _gone_already = fs::remove_file(&notices);
        let ready = UnixDatagram::bind(&notices).expect("a socket");
        ready.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        let messages = || File::create(self.path("messages")).expect("a file");
        let began = clock();
        let program = std::env::var_os("SEXTON_BENCH_PROGRAM").unwrap_or_else(|| PROGRAM.into());
        let child = Command::new(program)
            .arg("serve")
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("TZ", "UTC")
            // As in packaging/systemd/sexton.service.
            .env("MIMALLOC_PURGE_DELAY", "0")
            .env("NOTIFY_SOCKET", &notices)
            .env("SEXTON_DATA_DIR", self.path("data"))
            .env("SEXTON_SCHEDULES__DIRS", self.path("sets/in-force"))
            .env("SEXTON_WORKERS__COUNT", self.workers.to_string())
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(messages())
            .spawn()
            .expect("the program starts");
        let mut daemon =
            Daemon { child, took: Duration::ZERO, socket: self.path("data/sexton.sock") };
        let mut notice = [0; 4096];
        loop {
            match ready.recv(&mut notice) {
                Ok(length) if notice[..length].starts_with(b"READY=1") => break,
                Ok(_other) => {}
                Err(error) => {
                    panic!("the daemon is not ready: {error}; {}", daemon.complaint(self))
                }
            }
        }
        daemon.took = clock() - began;
        daemon
    }
}

/// A running daemon.
pub(crate) struct Daemon {
    child: Child,
    /// From the start of the process until it said that it was ready.
    pub(crate) took: Duration,
    socket: PathBuf,
}

impl Daemon {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends an empty POST over the daemon's socket and returns the answer's status when all of it is there.
    pub(crate) fn post(&self, path: &str) -> u16 {
        let mut stream = UnixStream::connect(&self.socket).expect("the daemon's socket");
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: sexton\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).expect("the request goes out");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        let text = String::from_utf8_lossy(&answer);
        text.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status")
    }

    /// Asks it to end and waits until it has.
    pub(crate) fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("the daemon runs");
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "the daemon ended with {status}");
    }

    fn complaint(&self, house: &House) -> String {
        last_lines(&house.path("messages"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // After `stop` there is nothing left to kill; this is for a measurement that failed.
        let _ended_already = self.child.kill();
        let _reaped_already = self.child.wait();
    }
}

fn last_lines(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}
