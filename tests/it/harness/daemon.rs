//! The built program in a directory of its own: commands without a daemon, and a daemon that never outlives its test.

use std::ffi::OsStr;
use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::http::call;

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_sexton");

/// How long `eventually` waits between two looks.
const STEP: Duration = Duration::from_millis(20);

/// How many looks `eventually` takes: at least 30 s, more where a look itself takes time.
const LOOKS: usize = 1500;

/// Looks until there is an answer, and panics when there is none for a long time.
///
/// The daemon is another process, so there is nothing in this one to wait for; this is the only place where tests sleep.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..LOOKS {
        if let Some(found) = look() {
            return found;
        }
        #[expect(clippy::disallowed_methods, reason = "another process cannot wake this one")]
        std::thread::sleep(STEP);
    }
    panic!("it did not happen: {what}");
}

/// A directory with settings, schedules and data of its own.
pub(crate) struct Home {
    directory: TempDir,
    environment: Vec<(&'static str, PathBuf)>,
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The exit code.
    pub(crate) code: i32,
    /// What it printed.
    pub(crate) stdout: String,
    /// What it said.
    pub(crate) stderr: String,
}

impl Answer {
    /// The document on stdout.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("stdout is not one JSON document: {error}\n{self:#?}"))
    }

    /// The same answer, where the exit code is as expected.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }
}

/// The rows of a list.
#[track_caller]
pub(crate) fn items(list: &Value) -> &Vec<Value> {
    list["items"].as_array().unwrap_or_else(|| panic!("not a list: {list}"))
}

impl Home {
    /// A directory with a folder for schedules and a zone that is the same on every machine.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(directory.path().join("schedules")).expect("a folder in it");
        let home = Self { directory, environment: Vec::new() };
        home.settings("");
        home
    }

    /// A path in it.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Sets a variable for everything that is run here.
    pub(crate) fn variable(&mut self, name: &'static str, value: PathBuf) {
        self.environment.push((name, value));
    }

    /// A schedule's file.
    pub(crate) fn schedule_file(&self, id: &str) -> PathBuf {
        self.path("schedules").join(format!("{id}.toml"))
    }

    /// Writes a schedule's file, in place where it exists.
    pub(crate) fn schedule(&self, id: &str, text: &str) {
        std::fs::write(self.schedule_file(id), text).expect("a schedule file");
    }

    /// Writes the settings.
    pub(crate) fn settings(&self, text: &str) {
        std::fs::write(self.path("sexton.toml"), text).expect("a settings file");
    }

    /// A script that runs until `open` is called with the same name, or the directory is gone.
    pub(crate) fn gate(&self, name: &str) -> String {
        let (gate, home) = (self.path(name), self.directory.path());
        format!(
            "until [ -e '{}' ] || [ ! -d '{}' ]; do sleep 0.05; done",
            gate.display(),
            home.display()
        )
    }

    /// Lets the scripts behind a gate go on.
    pub(crate) fn open(&self, gate: &str) {
        File::create(self.path(gate)).expect("a file");
    }

    /// The program with this directory's settings and nothing of the caller's environment.
    pub(crate) fn command<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("TZ", "UTC")
            .env("SEXTON_DATA_DIR", self.path("data"))
            .env("SEXTON_SCHEDULES__DIRS", self.path("schedules"))
            .env("SEXTON_SHUTDOWN__GRACE", "1s")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.directory.path())
            .arg("--config")
            .arg(self.path("sexton.toml"))
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn cli<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Answer {
        answer(&mut self.command(arguments))
    }
}

/// Runs a command to its end.
pub(crate) fn answer(command: &mut Command) -> Answer {
    let output = command.output().expect("the program starts");
    Answer {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).expect("stdout is text"),
        stderr: String::from_utf8(output.stderr).expect("stderr is text"),
    }
}

/// A running daemon in its home.
pub(crate) struct Daemon {
    home: Home,
    child: Child,
}

impl Deref for Daemon {
    type Target = Home;

    fn deref(&self) -> &Home {
        &self.home
    }
}

impl Daemon {
    /// Starts a daemon in a new home that `prepare` has furnished, and waits until it answers.
    pub(crate) fn start(prepare: impl FnOnce(&Home)) -> Self {
        let home = Home::new();
        prepare(&home);
        Self::start_in(home)
    }

    /// Starts a daemon in a home, and waits until it answers.
    pub(crate) fn start_in(home: Home) -> Self {
        let child = spawn(&home);
        let mut daemon = Self { home, child };
        daemon.wait_until_ready();
        daemon
    }

    /// Starts it again after `terminate` or `kill`.
    pub(crate) fn start_again(&mut self) {
        self.child = spawn(&self.home);
        self.wait_until_ready();
    }

    /// Starts it again, after it has ended, on another database.
    pub(crate) fn start_again_on(&mut self, url: &str) {
        self.home.variable("SEXTON_DATABASE__URL", url.into());
        self.start_again();
    }

    fn wait_until_ready(&mut self) {
        eventually("the daemon answers", || {
            if let Some(status) = self.child.try_wait().expect("it can be asked for") {
                panic!("the daemon ended at once: {status}\n{}", self.output());
            }
            (self.home.cli(["status"]).code == 0).then_some(())
        });
    }

    /// What it has printed and said so far, over all its runs.
    pub(crate) fn output(&self) -> String {
        std::fs::read_to_string(self.home.path("serve.out")).unwrap_or_default()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the daemon runs");
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.child.wait().expect("it can be waited for")
    }

    /// Asks it to hand over to the next one, and waits until it has ended.
    pub(crate) fn hand_over(&mut self) -> ExitStatus {
        self.signal(Signal::USR2);
        self.child.wait().expect("it can be waited for")
    }

    /// Kills it without a warning.
    pub(crate) fn kill(&mut self) -> ExitStatus {
        self.signal(Signal::KILL);
        self.child.wait().expect("it can be waited for")
    }

    /// One of its jobs, with its attempts.
    #[track_caller]
    pub(crate) fn job(&self, id: i64) -> Value {
        self.cli(["job", &id.to_string(), "--json"]).exits(0).json()
    }

    /// Asks over the socket, and gives the document, an answer or a problem.
    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: &Value) -> Value {
        self.ask(("POST", path), Some(body))
    }

    /// The same without a body.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Value {
        self.ask(("GET", path), None)
    }

    #[track_caller]
    fn ask(&self, what: (&str, &str), body: Option<&Value>) -> Value {
        let socket = self.path("data/sexton.sock");
        let answer = call(&socket, Duration::from_secs(30), what, body);
        answer.expect("the daemon answers").1
    }

    /// Waits until a job is in a state.
    #[track_caller]
    pub(crate) fn job_in(&self, id: i64, state: &str) -> Value {
        let mut seen = Value::Null;
        eventually(&format!("job {id} is {state}"), || {
            seen = self.job(id);
            (seen["state"] == state).then(|| seen.clone())
        })
    }

    /// A schedule's ledger, newest first.
    #[track_caller]
    pub(crate) fn ledger(&self, schedule: &str) -> Vec<Value> {
        let list = self.cli(["why", schedule, "--json", "--limit", "200"]).exits(0).json();
        items(&list).clone()
    }

    /// Waits until a schedule's ledger has a row with this decision.
    #[track_caller]
    pub(crate) fn decided(&self, schedule: &str, decision: &str) -> Value {
        eventually(&format!("{schedule} has a row that says {decision}"), || {
            self.ledger(schedule).into_iter().find(|row| row["decision"] == decision)
        })
    }

    /// Runs a schedule by hand and answers its job's id.
    #[track_caller]
    pub(crate) fn run(&self, schedule: &str) -> i64 {
        let recorded = self.cli(["run", schedule, "--json"]).exits(0).json();
        recorded["job_id"].as_i64().expect("a job")
    }

    /// Submits a command for `/bin/sh` with more arguments of `submit`, and answers the job.
    #[track_caller]
    pub(crate) fn submit(&self, shell: &str, more: &[&str]) -> Value {
        let params = serde_json::json!({ "shell": shell }).to_string();
        let arguments = ["submit", "command", "--json", "--params", &params];
        self.cli(arguments.iter().chain(more)).exits(0).json()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // The gentle way first, because it ends the programs of its jobs as well; the second time it does not wait for them.
            let _told = kill_process(Pid::from_child(&self.child), Signal::TERM);
            let _told = kill_process(Pid::from_child(&self.child), Signal::TERM);
            let mut looks = 0;
            while looks < LOOKS / 3 && matches!(self.child.try_wait(), Ok(None)) {
                looks += 1;
                #[expect(
                    clippy::disallowed_methods,
                    reason = "as in `eventually`, without its panic"
                )]
                std::thread::sleep(STEP);
            }
            let _killed = self.child.kill();
            let _reaped = self.child.wait();
        }
        if std::thread::panicking() {
            #[expect(clippy::print_stdout, reason = "shown with the test that failed")]
            {
                println!("--- the daemon said ---\n{}", self.output());
            }
        }
    }
}

fn spawn(home: &Home) -> Child {
    let open =
        || File::options().create(true).append(true).open(home.path("serve.out")).expect("a file");
    home.command(["serve"]).stdout(open()).stderr(open()).spawn().expect("the program starts")
}
