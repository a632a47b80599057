//! A dry run leaves nothing behind that others go by.

use serde_json::{Value, json};

use crate::harness::daemon::{Daemon, eventually, items};

/// Submits a command to a queue that is paused, or not, with more arguments.
fn submit(daemon: &Daemon, more: &[&str]) -> Value {
    daemon.submit("true", more)
}

fn id(job: &Value) -> i64 {
    job["id"].as_i64().expect("an id")
}

#[test]
fn a_dry_run_takes_no_unique_key_and_needs_none_that_is_free() {
    let daemon = Daemon::start(|_| {});
    daemon.cli(["queues", "pause", "held", "--reason", "x"]).exits(0);
    let keyed: [&str; 4] = ["--queue", "held", "--unique", "once"];
    let dry = id(&submit(&daemon, &[&keyed[..], &["--dry-run"]].concat()));
    let real = id(&submit(&daemon, &keyed));
    assert_ne!(dry, real, "the work itself is made");
    assert_eq!(id(&submit(&daemon, &keyed)), real);
    assert_ne!(id(&submit(&daemon, &[&keyed[..], &["--dry-run"]].concat())), real);
    daemon.cli(["queues", "resume", "held"]).exits(0);
    for job in [dry, real] {
        daemon.job_in(job, "completed");
    }
    let shown = daemon.cli(["jobs"]).exits(0).stdout;
    assert_eq!(shown.matches("(dry run)").count(), 2, "{shown}");
    assert!(daemon.cli(["job", &dry.to_string()]).exits(0).stdout.contains("completed (dry run)"));
}

#[test]
fn nothing_real_can_depend_on_a_dry_run() {
    let daemon = Daemon::start(|_| {});
    let dry = id(&submit(&daemon, &["--dry-run"])).to_string();
    let after = ["--depends-on", dry.as_str()];
    let refused =
        daemon.cli(["submit", "command", "--params", r#"{"argv":["true"]}"#].iter().chain(&after));
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains(&format!("job {dry} is a dry run")), "{refused:?}");
    let planned = id(&submit(&daemon, &[&after[..], &["--dry-run"]].concat()));
    daemon.job_in(planned, "completed");
    let both = json!([
        { "kind": "command", "params": { "argv": ["true"] }, "dry_run": true },
        { "kind": "command", "params": { "argv": ["true"] }, "depends_on": [{ "index": 0 }] },
    ]);
    let reply = daemon.post("/api/v1/jobs", &both);
    assert!(reply["detail"].as_str().is_some_and(|told| told.contains("a dry run")), "{reply}");
}

#[test]
fn a_dry_run_is_in_nobodys_way_and_is_no_run_of_its_schedule() {
    let daemon = Daemon::start(|home| {
        let held = "[run]\noverlap = \"skip\"\nqueue = \"held\"\n[command]\nargv = [\"true\"]\n";
        home.schedule("held", held);
        let gate = home.gate("gate");
        let run = format!(
            "[run]\noverlap = \"cancel_previous\"\n[command]\nshell = \"\"\"{gate}\"\"\"\n"
        );
        home.schedule("long", &run);
    });
    // One that waits does not let an instant be skipped.
    daemon.cli(["queues", "pause", "held", "--reason", "x"]).exits(0);
    let dry = daemon.cli(["run", "held", "--dry-run", "--json"]).exits(0).json();
    assert!(dry["reason"].as_str().unwrap().starts_with("dry run by hand by"), "{dry}");
    let real = daemon.cli(["run", "held", "--json"]).exits(0).json();
    assert_eq!(real["decision"], "enqueued", "{real}");
    // And none is skipped or takes a run's place because work is going on.
    daemon.cli(["run", "held", "--dry-run", "--json"]).exits(0);
    assert_eq!(
        items(&daemon.cli(["jobs", "--schedule", "held", "--json"]).exits(0).json()).len(),
        3
    );
    let running = daemon.run("long");
    daemon.job_in(running, "running");
    daemon.cli(["run", "long", "--dry-run", "--wait"]).exits(0);
    assert_eq!(daemon.job(running)["state"], "running");
    let last = &daemon.cli(["show", "long", "--json"]).exits(0).json()["last"];
    assert_eq!((&last["job_id"], &last["job_state"]), (&json!(running), &json!("running")));
    daemon.open("gate");
    daemon.job_in(running, "completed");
}

#[test]
fn a_dry_run_is_not_learned_from_and_not_measured() {
    let daemon = Daemon::start(|home| {
        home.schedule("report", "[command]\nargv = [\"true\"]\n");
    });
    daemon.cli(["run", "report", "--dry-run", "--wait"]).exits(0);
    assert_eq!(daemon.cli(["show", "report", "--json"]).exits(0).json()["last"], json!(null));
    let stats = daemon.cli(["stats", "--json"]).exits(0).json();
    assert_eq!(stats["last_24h"]["attempts"], json!([]), "{stats}");
    // What is learned first is what is told first. It is learned a moment after the end of a job, in their order.
    // Were the dry run's moment among it, it would be a fifth of what the real one took.
    let slow = r#"{"argv":["sleep","0.1"]}"#;
    daemon.cli(["run", "report", "--wait", "--params", slow]).exits(0);
    let ahead = id(&submit(&daemon, &["--at", "1h"]));
    let learned =
        eventually("something is learned", || daemon.job(ahead)["estimated_duration_ms"].as_i64());
    assert!(learned >= 100, "{learned} ms");
}

#[test]
fn i1_a_dry_run_as_the_probe_of_a_breaker_finds_nothing_out() {
    let daemon = Daemon::start(|_| {});
    daemon.cli(["limits", "set", "key:host", "--breaker", "2 in 1m for 1s"]).exits(0);
    let fails = ["submit", "command", "--params", r#"{"argv":["false"]}"#, "--max-attempts", "1"];
    let held = ["--concurrency", "host=1", "--wait"];
    for _ in 0..2 {
        daemon.cli(fails.iter().chain(&held)).exits(1);
    }
    // It waits for its turn, which is the breaker's next probe, and is done.
    daemon.cli(fails.iter().chain(&held).chain(&["--dry-run"])).exits(0);
    let list = daemon.cli(["limits", "--json"]).exits(0).json();
    let limit = items(&list).iter().find(|limit| limit["name"] == "key:host").expect("it");
    assert!(limit["tripped"].is_object(), "{limit}");
    // The next one is a probe again, and tells.
    daemon
        .cli(["submit", "command", "--params", r#"{"argv":["true"]}"#].iter().chain(&held))
        .exits(0);
    let list = daemon.cli(["limits", "--json"]).exits(0).json();
    let limit = items(&list).iter().find(|limit| limit["name"] == "key:host").expect("it");
    assert!(limit["tripped"].is_null(), "{limit}");
}
