//! `sexton db copy`: people who grow out of SQLite.

use std::path::Path;

use serde_json::Value;
use sexton::store::DatabaseUrl;

use super::jobs::outcomes;
use crate::harness::TestDatabase;
use crate::harness::daemon::{Daemon, Home, eventually, items};

/// A lease that a test can wait for.
const LEASE: &str = "[lease]\nduration = \"3s\"\nheartbeat = \"1s\"\n";

/// The URL as the program takes it, password and all.
fn url(database: &TestDatabase) -> String {
    match database.url() {
        DatabaseUrl::Sqlite(path) => sqlite(path),
        DatabaseUrl::Postgres(url) => url.clone(),
    }
}

fn sqlite(path: &Path) -> String {
    format!("sqlite:{}", path.display())
}

fn audited(home: &Home, event: &str) -> usize {
    let log = std::fs::read_to_string(home.path("data/log/audit.jsonl")).expect("an audit log");
    log.lines().filter(|line| line.contains(&format!("\"event\":\"{event}\""))).count()
}

/// How often each job's submission and each attempt is told of; one is the right number for all of them.
fn told_twice(home: &Home) -> Vec<String> {
    let log = std::fs::read_to_string(home.path("data/log/audit.jsonl")).expect("an audit log");
    let mut seen = std::collections::BTreeSet::new();
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let about = |line: &Value| match line["event"].as_str() {
        Some("job.submitted") => Some(format!("{} submitted", line["subject"])),
        Some("attempt.finished") => {
            Some(format!("{} {}", line["subject"], line["detail"]["number"]))
        }
        _ => None,
    };
    lines.filter_map(|line| about(&line)).filter(|what| !seen.insert(what.clone())).collect()
}

fn id(job: &Value) -> i64 {
    job["id"].as_i64().expect("a job")
}

#[test]
fn what_was_submitted_under_sqlite_runs_on_postgres_and_back_again() {
    let Some(server) = TestDatabase::postgres() else { return };
    let mut daemon = Daemon::start(|home| {
        home.settings(LEASE);
        home.schedule("greet", "[command]\nargv = [\"echo\", \"hello\"]\n");
    });
    let done = daemon.submit("echo done", &["--wait"]);
    daemon.run("greet");
    let gate = daemon.gate("gate");
    let running = id(&daemon.submit(&gate, &[]));
    daemon.job_in(running, "running");
    let waiting = id(&daemon.submit("true", &["--depends-on", &running.to_string()]));
    let later = id(&daemon.submit("true", &["--at", "2h", "--label", "moved=yes"]));
    let from = sqlite(&daemon.path("data/sexton.db"));

    let refused = daemon.cli(["db", "copy", &from, &url(&server)]).exits(75);
    assert!(refused.stderr.contains(&format!("process {}", daemon.pid())), "{refused:?}");
    daemon.kill();
    let copied = daemon.cli(["db", "copy", &from, &url(&server), "--json"]).exits(0).json();
    let jobs = copied["tables"].as_array().unwrap().iter().find(|table| table["table"] == "jobs");
    assert_eq!(jobs.unwrap()["rows"], 5);
    let again = daemon.cli(["db", "copy", &from, &url(&server)]).exits(6);
    assert!(again.stderr.contains("is not empty"), "{again:?}");

    daemon.start_again_on(&url(&server));
    daemon.open("gate");
    let job = daemon.job_in(running, "completed");
    // Its program outlived the daemon, and the one on the other database goes on with it.
    assert_eq!(outcomes(&job), [(1, "success")]);
    daemon.job_in(waiting, "completed");
    assert_eq!(daemon.job(id(&done))["state"], "completed");
    let labelled = daemon.cli(["jobs", "--label", "moved=yes", "--json"]).exits(0).json();
    assert_eq!(id(&items(&labelled)[0]), later);
    let next = daemon.submit("true", &["--wait"]);
    assert_eq!(id(&next), later + 1);
    assert_eq!(daemon.ledger("greet").len(), 1);
    assert_eq!(daemon.cli(["logs", &id(&done).to_string()]).exits(0).stdout, "done\n");

    daemon.terminate();
    let back = daemon.path("back/sexton.db");
    // The first daemon was killed, so that on the server it counts as alive until its lease is over.
    eventually("the source is free", || {
        let copied = daemon.cli(["db", "copy", &url(&server), &sqlite(&back)]);
        (copied.code == 0).then_some(())
    });
    daemon.start_again_on(&sqlite(&back));
    let last = daemon.submit("true", &["--wait"]);
    assert_eq!(id(&last), later + 2);
    daemon.terminate();
    daemon.cli(["audit", "verify"]).exits(0);
    for notice in ["audit.database_changed", "audit.database_rewound"] {
        assert_eq!(audited(&daemon, notice), 0, "{notice}");
    }
    assert_eq!(told_twice(&daemon), Vec::<String>::new());
    assert_eq!(audited(&daemon, "daemon.started"), 3);
}

#[test]
fn what_cannot_be_copied_is_refused_with_the_reason_and_no_password() {
    let home = Home::new();
    let (here, there) = (sqlite(&home.path("data/sexton.db")), sqlite(&home.path("new/copy.db")));
    let refused = home.cli(["db", "copy", &here, &there]).exits(1);
    assert!(refused.stderr.contains("data/sexton.db"), "{refused:?}");
    assert!(!home.path("data/sexton.db.lock").exists() && !home.path("new").exists());

    home.cli(["db", "migrate"]).exits(0);
    home.cli(["db", "copy", &here, &here]).exits(2);
    let nobody = "postgres://me:s3cret@127.0.0.1:1/x";
    for arguments in [[&here, nobody], [nobody, &here]] {
        let refused = home.cli(["db", "copy"].iter().chain(&arguments)).exits(1);
        assert!(refused.stderr.contains("127.0.0.1:1/x"), "{refused:?}");
        assert!(!refused.stderr.contains("s3cret"), "{refused:?}");
    }
    for bad in ["mysql://me:s3cret@h/x", "postgres://me:s3c/ret@h/x", "data/sexton.db"] {
        let refused = home.cli(["db", "copy", &here, bad]).exits(2);
        assert!(!refused.stderr.contains("s3c"), "{refused:?}");
    }
    let copied = home.cli(["db", "copy", &here, &there]).exits(0);
    assert!(copied.stdout.contains("job_results"), "{copied:?}");
    std::fs::write(home.path("torn.db"), "no database").unwrap();
    home.cli(["db", "copy", &sqlite(&home.path("torn.db")), &sqlite(&home.path("x.db"))]).exits(65);
    assert!(!home.path("x.db").exists());
    for (name, content) in
        [("junk.db", "junk\n".to_owned()), ("letter.db", "no database".repeat(1000))]
    {
        std::fs::write(home.path(name), &content).unwrap();
        let refused = home.cli(["db", "copy", &here, &sqlite(&home.path(name))]).exits(6);
        assert!(refused.stderr.contains("left as it is"), "{refused:?}");
        assert_eq!(std::fs::read_to_string(home.path(name)).unwrap(), content);
        assert!(!home.path(format!("{name}.lock")).exists());
    }
}
