//! PostgreSQL fails over to a standby that lacks the last moment.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::daemon::{Daemon, Home, eventually, items};
use crate::harness::standby::Pair;

/// A lease that does not end while a standby takes over, and a heartbeat that notices it soon.
const SETTINGS: &str = "[lease]\nduration = \"60s\"\nheartbeat = \"1s\"\n[workers]\ncount = 8\n";

/// How the standby takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// The primary dies, and for a while nobody takes writes.
    DeathFirst,
    /// The standby takes writes already, so that the next connection is as good as the last one.
    PromotionFirst,
}

fn node(pair: &Pair) -> Daemon {
    let mut home = Home::new();
    home.variable("SEXTON_DATABASE__URL", PathBuf::from(pair.url()));
    home.settings(SETTINGS);
    home.schedule(
        "tick",
        "[when]\nevery = \"1s\"\n[run]\noverlap = \"allow\"\n[command]\nargv = [\"true\"]\n",
    );
    Daemon::start_in(home)
}

fn submit(daemon: &Daemon, script: &str, more: &Value) -> i64 {
    let mut job = json!({ "kind": "command", "params": { "shell": script }, "max_attempts": 3 });
    job.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
    let made = daemon.post("/api/v1/jobs", &job);
    made["id"].as_i64().unwrap_or_else(|| panic!("no job: {made}"))
}

/// A script that waits at a gate, writes down that it runs, and tells when it is not the only one that does.
fn alone(daemon: &Daemon, name: &str) -> String {
    let path = |what: &str| daemon.path(format!("{name}.{what}")).display().to_string();
    format!(
        "exec 9>{}; flock -n 9 || echo again >> {}; echo $$ >> {}; {}; echo end >> {}",
        path("lock"),
        path("twice"),
        path("pids"),
        daemon.gate(name),
        path("ends"),
    )
}

fn lines(daemon: &Daemon, file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(daemon.path(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn fail_over(order: Order) {
    let Some(mut pair) = Pair::start() else { return };
    let daemon = node(&pair);
    let done: Vec<i64> = (0..5).map(|_| submit(&daemon, "true", &json!({}))).collect();
    done.iter().for_each(|id| drop(daemon.job_in(*id, "completed")));
    let long = submit(&daemon, &alone(&daemon, "long"), &json!({}));
    let first = submit(&daemon, &alone(&daemon, "first"), &json!({}));
    let second = submit(&daemon, &alone(&daemon, "second"), &json!({ "depends_on": [first] }));
    for id in [long, first] {
        daemon.job_in(id, "running");
    }
    eventually("both run", || (lines(&daemon, "first.pids").len() == 1).then_some(()));

    pair.cut_off_standby();
    // All of this is acknowledged, and the standby will not know of it.
    daemon.open("first");
    daemon.job_in(first, "completed");
    daemon.job_in(second, "running");
    let lost = submit(&daemon, &alone(&daemon, "lost"), &json!({}));
    daemon.job_in(lost, "running");
    eventually("they run", || {
        let begun = ["second.pids", "lost.pids"].map(|file| lines(&daemon, file).len());
        (begun == [1, 1]).then_some(())
    });

    match order {
        Order::DeathFirst => {
            pair.kill_primary();
            eventually("the node notices", || {
                let status = daemon.cli(["workers", "--json"]);
                daemon.output().contains("claiming is paused").then_some(status)
            });
            let status = daemon.cli(["status"]).exits(0).stdout;
            let told =
                [", failing, ", "! the database cannot be read: the database cannot be reached"];
            assert!(told.iter().all(|part| status.contains(part)), "{status}");
            let refused = daemon.cli(["jobs"]).exits(75).stderr;
            assert!(refused.contains("the database cannot be reached"), "{refused}");
            pair.promote();
        }
        Order::PromotionFirst => {
            pair.promote();
            pair.kill_primary();
        }
    }

    // What the standby has not heard of is not ours any more: its programs end, and only then is anything begun again.
    let of = |file: &str, place: usize| lines(&daemon, file).get(place).cloned();
    let (gone, stale) = (of("lost.pids", 0).unwrap(), of("second.pids", 0).unwrap());
    eventually("the program of the job that was lost has ended", || (!runs(&gone)).then_some(()));
    eventually("the first run of the second job has ended", || (!runs(&stale)).then_some(()));
    daemon.job_in(first, "completed");
    eventually("the second job runs again", || of("second.pids", 1));
    let refused = daemon.cli(["job", &lost.to_string()]);
    assert_ne!(refused.code, 0, "it was acknowledged and is gone: {refused:?}");

    daemon.open("long");
    daemon.open("second");
    let long = daemon.job_in(long, "completed");
    assert_eq!(long["attempts"].as_array().map(Vec::len), Some(1), "it went on: {long:#}");
    daemon.job_in(second, "completed");
    for name in ["long", "first", "second"] {
        assert_eq!(lines(&daemon, &format!("{name}.twice")), [""; 0], "{name} ran twice at once");
    }
    assert_eq!(lines(&daemon, "second.ends").len(), 1);
    assert_eq!(lines(&daemon, "lost.ends").len(), 0);
    for id in done {
        assert_eq!(daemon.job(id)["state"], "completed", "what was replicated is there");
    }
    let next = submit(&daemon, "true", &json!({}));
    daemon.job_in(next, "completed");
    let nodes = daemon.cli(["nodes", "--json"]).exits(0).json();
    assert_eq!(items(&nodes).len(), 1, "it is the node that it was: {nodes:#}");
    assert!(daemon.output().contains("the database does not know"), "{}", daemon.output());
    every_second_has_its_row(&daemon);
}

/// Also those that the standby lacked.
fn every_second_has_its_row(daemon: &Daemon) {
    let rows = daemon.get("/api/v1/occurrences?schedule=tick&limit=1000");
    let rows = items(&rows);
    let second = |row: &Value| -> i64 {
        let at = row["nominal_at"].as_str().expect("an instant");
        at.parse::<jiff::Timestamp>().expect("an instant").as_second()
    };
    let (last, first) = (second(&rows[0]), second(rows.last().expect("a row")));
    let told: i64 = rows.iter().map(|row| row["instants"].as_i64().expect("a number")).sum();
    assert_eq!(told, last - first + 1, "{rows:#?}");
}

#[test]
fn m4_a_node_goes_on_with_a_standby_that_lacks_the_last_moment() {
    fail_over(Order::DeathFirst);
}

#[test]
fn m4_a_node_that_never_waits_for_the_standby_notices_what_it_lacks_as_well() {
    fail_over(Order::PromotionFirst);
}
