//! Commands that wait for jobs while the daemon comes and goes.

use std::fmt::Write as _;
use std::fs::File;
use std::process::Child;

use serde_json::json;

use crate::harness::daemon::{Answer, Daemon, Home, eventually};

/// A command that runs beside the test. What it prints and says goes to files.
struct Beside {
    name: &'static str,
    child: Child,
}

impl Beside {
    fn start(home: &Home, name: &'static str, arguments: &[&str]) -> Self {
        let file = |what: &str| File::create(home.path(format!("{name}.{what}"))).expect("a file");
        let mut command = home.command(arguments);
        let child = command.stdout(file("out")).stderr(file("err")).spawn().expect("it starts");
        Self { name, child }
    }

    /// What it has printed (`out`) or said (`err`) so far.
    fn so_far(&self, home: &Home, what: &str) -> String {
        std::fs::read_to_string(home.path(format!("{}.{what}", self.name))).expect("a file")
    }

    /// Waits until it has said that so many times.
    fn says(&self, home: &Home, text: &str, times: usize) {
        eventually(&format!("{} says `{text}`", self.name), || {
            (self.so_far(home, "err").matches(text).count() == times).then_some(())
        });
    }

    fn ends(mut self, home: &Home) -> Answer {
        let status = self.child.wait().expect("it can be waited for");
        let [stdout, stderr] = ["out", "err"].map(|what| self.so_far(home, what));
        Answer { code: status.code().unwrap_or(-1), stdout, stderr }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// What `seq` prints.
pub(super) fn counting(from: u32, to: u32) -> String {
    (from..=to).fold(String::new(), |mut lines, number| {
        writeln!(lines, "{number}").expect("a String");
        lines
    })
}

#[test]
fn who_waits_for_a_job_goes_on_when_the_daemon_is_killed_and_when_it_is_replaced() {
    let mut daemon = Daemon::start(|home| {
        let script =
            format!("seq 1 2000; {}; seq 2001 4000; {}; echo end", home.gate("a"), home.gate("b"));
        let file = format!("[command]\nshell = {}\n", json!(script));
        home.schedule("long", &file);
    });
    let run = Beside::start(&daemon, "run", &["run", "long", "--follow"]);
    run.says(&daemon, "job 1\n", 1);
    let logs = Beside::start(&daemon, "logs", &["logs", "1", "-f"]);
    let params = json!({ "shell": format!("{}; exit 3", daemon.gate("b")) }).to_string();
    let submit = ["submit", "command", "--params", &params, "--max-attempts", "1", "--wait"];
    let submit = Beside::start(&daemon, "submit", &submit);
    submit.says(&daemon, "job 2 pending\n", 1);
    let waiting = [&run, &logs, &submit];
    let has_read = |home: &Home, last: &str| {
        for reader in [&run, &logs] {
            eventually("it is read so far", || {
                reader.so_far(home, "out").ends_with(last).then_some(())
            });
        }
    };
    has_read(&daemon, "\n2000\n");
    daemon.kill();
    waiting.iter().for_each(|one| one.says(&daemon, "no answer about job", 1));
    daemon.open("a");
    daemon.start_again();
    has_read(&daemon, "\n4000\n");
    waiting.iter().for_each(|one| one.says(&daemon, "there are answers again", 1));
    daemon.hand_over();
    waiting.iter().for_each(|one| one.says(&daemon, "no answer about job", 2));
    daemon.open("b");
    daemon.start_again();
    let submit = submit.ends(&daemon).exits(1);
    assert!(submit.stdout.starts_with("job 2 failed"), "{submit:?}");
    assert_eq!(submit.stdout.lines().count(), 1, "{submit:?}");
    let whole = format!("{}end\n", counting(1, 4000));
    assert!(logs.ends(&daemon).exits(0).stdout == whole, "each line once");
    let run = run.ends(&daemon).exits(0);
    assert!(run.stdout == format!("{whole}job 1 completed\n"), "each line once");
}

#[test]
fn who_waits_for_a_job_and_wants_json_gets_one_document_and_the_number_at_once() {
    let daemon = Daemon::start(|home| home.schedule("quick", "[command]\nargv = [\"true\"]\n"));
    let run = daemon.cli(["run", "quick", "--wait", "--json"]).exits(0);
    assert_eq!((run.json()["state"].as_str(), run.stderr.as_str()), (Some("completed"), "job 1\n"));
    let submit = ["submit", "command", "--params", "{\"argv\": [\"true\"]}", "--wait", "--json"];
    let submit = daemon.cli(submit).exits(0);
    assert_eq!(submit.json()["state"], "completed");
    assert_eq!(submit.stderr, "job 2 pending\n");
}

#[test]
fn who_listens_to_a_daemon_that_stops_is_told() {
    let mut daemon = Daemon::start(|_| {});
    let events = Beside::start(&daemon, "events", &["events"]);
    eventually("it listens", || {
        daemon.submit("true", &[]);
        events.so_far(&daemon, "out").contains("jobs_submitted").then_some(())
    });
    daemon.terminate();
    let events = events.ends(&daemon).exits(5);
    assert!(events.stderr.contains("the daemon has stopped"), "{events:?}");
}
