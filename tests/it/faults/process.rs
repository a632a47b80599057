//! A daemon in a directory of its own, and a client of its socket.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::http::call;

/// How long anything may take before a test gives up. Far longer than it ever takes; the machine may be busy with other tests.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// How often [`eventually`] looks.
const POLL: Duration = Duration::from_millis(10);

/// Asks until there is an answer, and panics with `what` when there is none in time.
pub(super) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, &mut ask)
}

/// The same with another bound.
pub(super) fn within<T>(bound: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < bound, "not within {bound:?}: {what}");
        std::thread::sleep(POLL);
    }
}

/// A directory with schedules, data and settings; daemons come and go in it.
pub(super) struct House {
    folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

impl House {
    pub(super) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("sexton-it-").tempdir().unwrap();
        std::fs::create_dir(folder.path().join("schedules")).unwrap();
        Self { folder, environment: Vec::new() }
    }

    /// Sets one of the daemon's settings (`SHUTDOWN__GRACE`) for everything started from here on.
    pub(super) fn set(mut self, key: &str, value: &str) -> Self {
        self.environment.push((format!("SEXTON_{key}"), value.to_owned()));
        self
    }

    /// Sets a variable of the environment.
    pub(super) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    pub(super) fn data(&self, below: &str) -> PathBuf {
        self.path("data").join(below)
    }

    /// Writes a schedule the way careful editors do: beside its place, then renamed.
    pub(super) fn schedule(&self, id: &str, text: &str) {
        let draft = self.path("draft");
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(draft, self.path("schedules").join(format!("{id}.toml"))).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.run(env!("CARGO_BIN_EXE_sexton"));
        command.args(arguments);
        command
    }

    /// A shell script that finds the program as `$0`.
    pub(super) fn in_shell(&self, script: &str) -> Command {
        let mut command = self.run("sh");
        command.args(["-c", script, env!("CARGO_BIN_EXE_sexton")]);
        command
    }

    /// Another program, in the folder and with the settings of the daemon.
    pub(super) fn run(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("TZ", "UTC")
            .env("SEXTON_DATA_DIR", self.path("data"))
            .env("SEXTON_SCHEDULES__DIRS", self.path("schedules"))
            .env("SEXTON_KINDS__DIRS", self.path("kinds"))
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    /// Runs a command of the program to its end.
    pub(super) fn sexton(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What a reading command prints with `--json`.
    pub(super) fn json(&self, arguments: &[&str]) -> Value {
        let output = self.sexton(&[arguments, &["--json"]].concat());
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", text(&output)))
    }

    /// Starts a daemon without waiting for anything.
    pub(super) fn spawn(&self) -> Daemon {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("stderr.log"))
            .unwrap();
        let child = self.command(&["serve"]).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Daemon { child, ended: None, log: self.path("stderr.log") }
    }

    /// Starts a daemon and waits until it serves.
    pub(super) fn start(&self) -> Daemon {
        let mut daemon = self.spawn();
        eventually("the daemon serves", || {
            assert!(!daemon.has_ended(), "it ended at once:\n{}", daemon.log());
            self.is_served_by(&daemon).then_some(())
        });
        daemon
    }

    /// Whether this very daemon answers on the socket, and takes work.
    pub(super) fn is_served_by(&self, daemon: &Daemon) -> bool {
        let status = self.client().try_get("/api/v1/status");
        status.is_some_and(|status| status["pid"] == json!(daemon.child.id()))
    }

    pub(super) fn client(&self) -> Client {
        Client { socket: self.data("sexton.sock") }
    }
}

/// What a program said, for messages.
pub(super) fn text(output: &Output) -> String {
    let say = String::from_utf8_lossy;
    format!("{}: {}{}", output.status, say(&output.stdout), say(&output.stderr))
}

/// A running daemon, which is ended with its jobs when it goes out of scope.
pub(super) struct Daemon {
    child: Child,
    ended: Option<ExitStatus>,
    log: PathBuf,
}

impl Daemon {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The end of what it and those before it in this house wrote to standard error.
    pub(super) fn log(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let from = log.len().saturating_sub(8000);
        String::from_utf8_lossy(&log.as_bytes()[from..]).into_owned()
    }

    pub(super) fn has_ended(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap();
        }
        self.ended.is_some()
    }

    pub(super) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// As `kill -9` or the kernel's out-of-memory killer do it: no goodbyes.
    pub(super) fn kill(mut self) {
        self.child.kill().unwrap();
        self.ended = Some(self.child.wait().unwrap());
    }

    /// Waits for its end.
    pub(super) fn wait(&mut self) -> ExitStatus {
        eventually("the daemon ends", || self.has_ended().then_some(()));
        self.ended.unwrap()
    }

    /// Stops it as systemd does, and expects it to be content.
    pub(super) fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert!(status.success(), "{status}:\n{}", self.log());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.has_ended() {
            return;
        }
        // Twice: the second skips the wait for jobs, which are then ended by the daemon itself.
        let pid = Pid::from_child(&self.child);
        let _gone = kill_process(pid, Signal::TERM);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(20) {
            if self.has_ended() {
                return;
            }
            let _gone = kill_process(pid, Signal::TERM);
            std::thread::sleep(Duration::from_millis(50));
        }
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// Speaks HTTP to the socket.
#[derive(Clone)]
pub(super) struct Client {
    socket: PathBuf,
}

impl Client {
    /// Asks, and gives the status and the document; `None` when nobody answered to the end.
    pub(super) fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Option<(u16, Value)> {
        call(&self.socket, PATIENCE, (method, path), body)
    }

    pub(super) fn try_get(&self, path: &str) -> Option<Value> {
        let (status, value) = self.call("GET", path, None)?;
        (status == 200).then_some(value)
    }

    pub(super) fn get(&self, path: &str) -> Value {
        let (status, value) = self.call("GET", path, None).expect("the daemon answers");
        assert_eq!(status, 200, "{path}: {value}");
        value
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Value {
        let (status, value) = self.call("POST", path, Some(body)).expect("the daemon answers");
        assert!((200..300).contains(&status), "{path} {body}: {status} {value}");
        value
    }

    /// Submits a job and gives its number.
    pub(super) fn submit(&self, kind: &str, params: &Value) -> i64 {
        self.submit_with(&json!({ "kind": kind, "params": params }))
    }

    pub(super) fn submit_with(&self, submission: &Value) -> i64 {
        self.post("/api/v1/jobs", submission)["id"].as_i64().unwrap()
    }

    pub(super) fn job(&self, id: i64) -> Value {
        self.get(&format!("/api/v1/jobs/{id}"))
    }

    /// Waits until a job is in a state.
    pub(super) fn reaches(&self, id: i64, state: &str) -> Value {
        let mut last = Value::Null;
        let began = Instant::now();
        loop {
            if let Some(job) = self.try_get(&format!("/api/v1/jobs/{id}")) {
                if job["state"] == state {
                    return job;
                }
                last = job;
            }
            assert!(began.elapsed() < PATIENCE, "job {id} does not become {state}: {last:#}");
            std::thread::sleep(POLL);
        }
    }

    /// Everything of a list, page by page.
    pub(super) fn all(&self, path: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let joint = if path.contains('?') { '&' } else { '?' };
            let page = self.get(&format!("{path}{joint}limit=500{cursor}"));
            items.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return items,
            }
        }
    }
}

/// The outcomes of a job's finished attempts, in order.
pub(super) fn outcomes(job: &Value) -> Vec<&str> {
    let attempts = job["attempts"].as_array().expect("a single job has its attempts");
    attempts.iter().map(|attempt| attempt["outcome"].as_str().unwrap()).collect()
}

/// The processes with this text in their environment or command line, zombies excepted: they have neither.
pub(super) fn processes_with(mark: &str) -> Vec<u32> {
    let has = |pid: u32, file: &str| {
        let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        bytes.windows(mark.len()).any(|window| window == mark.as_bytes())
    };
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| has(*pid, "environ") || has(*pid, "cmdline"))
        .collect()
}

/// Holds that no process has this text in its environment or command line.
pub(super) fn nothing_is_left_of(mark: &str) {
    let left = processes_with(mark);
    assert!(left.is_empty(), "these processes are left: {left:?}");
}

/// The lines of a file, none when it is not there.
pub(super) fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}
