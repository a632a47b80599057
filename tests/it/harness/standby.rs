//! A PostgreSQL of a test's own with a standby that follows it, for what happens when the one dies and the other takes over.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::daemon::eventually;

/// Two servers, of which the second follows the first asynchronously. Both end with this.
pub(crate) struct Pair {
    pub(crate) primary: Server,
    pub(crate) standby: Server,
    // Last, so that nobody uses it any more when it is removed.
    _folder: TempDir,
}

/// A server with its socket in a directory and no port.
pub(crate) struct Server {
    directory: PathBuf,
    process: Option<Child>,
}

impl Pair {
    /// Both of them, with an empty database `sexton`; `None`, with a message, where it is not known how to start a server.
    pub(crate) fn start() -> Option<Self> {
        if std::env::var_os("SEXTON_TEST_POSTGRES_PROGRAMS").is_none() {
            assert!(
                std::env::var("CI").is_err(),
                "in CI the tests on PostgreSQL must not be skipped"
            );
            println!("skipped: scripts/with-postgres says where the server's programs are");
            return None;
        }
        // A socket's path may have at most 107 bytes.
        let folder = tempfile::Builder::new().prefix("sexton-pair").tempdir_in("/tmp").ok()?;
        open_to_all(folder.path());
        let place = |name: &str| {
            let directory = folder.path().join(name);
            std::fs::create_dir(&directory).expect("a directory");
            open_to_all(&directory);
            Server { directory, process: None }
        };
        let (mut primary, mut standby) = (place("primary"), place("standby"));
        let data = primary.data();
        primary.run("initdb", &["-D", &data, "-U", "sexton", "--auth=trust", "--no-sync"]);
        primary.start();
        primary.execute("postgres", "CREATE DATABASE sexton");
        let (from, data) = (primary.directory.display().to_string(), standby.data());
        let copy = ["-h", &from, "-U", "sexton", "-D", &data, "-R", "-c", "fast", "--no-sync"];
        standby.run("pg_basebackup", &copy);
        standby.start();
        Some(Self { primary, standby, _folder: folder })
    }

    /// A URL with both, of which whichever takes writes is used.
    pub(crate) fn url(&self) -> String {
        let hosts = [&self.primary, &self.standby].map(|one| one.directory.display().to_string());
        format!(
            "postgres://sexton@/sexton?host={}&target_session_attrs=read-write",
            hosts.join(",")
        )
    }

    /// Lets the standby have everything that is committed by now, and nothing that comes later.
    pub(crate) fn cut_off_standby(&self) {
        eventually("the standby has everything", || {
            self.primary.asks("sexton", "SELECT COALESCE(bool_and(replay_lsn >= pg_current_wal_lsn()), false) AS is_so FROM pg_stat_replication").then_some(())
        });
        self.standby.execute("postgres", "ALTER SYSTEM SET primary_conninfo = ''");
        self.standby.execute("postgres", "SELECT pg_reload_conf()");
        eventually("nobody follows the primary", || {
            self.primary
                .asks("sexton", "SELECT NOT EXISTS (SELECT FROM pg_stat_replication) AS is_so")
                .then_some(())
        });
    }

    /// Ends the primary without a warning.
    pub(crate) fn kill_primary(&mut self) {
        self.primary.kill();
    }

    /// Makes the standby a primary.
    pub(crate) fn promote(&self) {
        let data = self.standby.data();
        self.standby.run("pg_ctl", &["-D", &data, "-w", "-t", "60", "promote"]);
    }
}

fn open_to_all(directory: &Path) {
    let mode = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(directory, mode).expect("its mode");
}

#[derive(QueryableByName)]
struct Answer {
    #[diesel(sql_type = Bool)]
    is_so: bool,
}

impl Server {
    fn data(&self) -> String {
        self.directory.join("data").display().to_string()
    }

    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://sexton@/{database}?host={}", self.directory.display())
    }

    pub(crate) fn execute(&self, database: &str, sql: &str) {
        let mut conn = PgConnection::establish(&self.url(database)).expect("the server answers");
        conn.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// What a query says whose only column is called `is_so`.
    pub(crate) fn asks(&self, database: &str, sql: &str) -> bool {
        let mut conn = PgConnection::establish(&self.url(database)).expect("the server answers");
        let answer: Answer = diesel::sql_query(sql).get_result(&mut conn).expect("an answer");
        answer.is_so
    }

    /// One of PostgreSQL's programs, as the user who may start servers.
    fn program(&self, name: &str, more: &[&str]) -> Command {
        let programs = std::env::var("SEXTON_TEST_POSTGRES_PROGRAMS").expect("it was looked for");
        let user = std::env::var("SEXTON_TEST_POSTGRES_USER").unwrap_or_default();
        let user: Vec<&str> = user.split_whitespace().chain(more.iter().copied()).collect();
        let path = Path::new(&programs).join(name);
        let mut command = match user.split_first() {
            None => Command::new(path),
            Some(_) => {
                let mut command = Command::new("setpriv");
                command.args(user).arg(path);
                command
            }
        };
        command.current_dir(&self.directory).env_remove("LC_ALL").env("LANG", "C");
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, name: &str, arguments: &[&str]) {
        let output = self.program(name, &[]).args(arguments).output().expect("it can be started");
        assert!(output.status.success(), "{name}: {output:?}");
    }

    fn start(&mut self) {
        let log = std::fs::File::create(self.directory.join("log")).expect("a log");
        let mut command = self.program("postgres", &["--pdeathsig", "QUIT"]);
        command.args(["-D", &self.data(), "-k", &self.directory.display().to_string()]);
        for option in ["listen_addresses=", "fsync=off", "max_connections=50"] {
            command.args(["-c", option]);
        }
        let told = (log.try_clone().expect("its log"), log);
        self.process = Some(command.stdout(told.0).stderr(told.1).spawn().expect("it starts"));
        eventually("the server answers", || {
            PgConnection::establish(&self.url("postgres")).is_ok().then_some(())
        });
    }

    /// Ends it as a crash does: nothing more is written or sent.
    fn kill(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let pid = Pid::from_child(&process);
        // Not the signal that cannot be caught: the other processes of the server would not hear of it at once.
        let _gone = kill_process(pid, Signal::QUIT);
        let _status = process.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            let _closed = writeln!(std::io::stdout(), "{}:\n{log}", self.directory.display());
        }
        self.kill();
    }
}
