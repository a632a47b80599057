//! Kinds that files declare: submitted, scheduled, edited while the daemon runs.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::harness::daemon::{Daemon, Home, eventually, items};

const COUNT: &str = r#"#!/bin/sh
# Counts to the number it is given and remembers how far it got.
read -r input
printf 'attempt %s, from %s: %s\n' "$SEXTON_ATTEMPT" "${SEXTON_CHECKPOINT:-nothing}" "$input"
printf '{"progress": 50, "message": "counting"}\n{"checkpoint": %s}\n' "$SEXTON_INPUT_TO" >&3
[ -n "$SEXTON_CHECKPOINT" ] || exit 1
printf '{"result": {"counted": %s}}\n' "$SEXTON_INPUT_TO" >&3
"#;

const KIND: &str = r#"
description = "Counts"
[run]
queue = "counting"
priority = "high"
retries = { max = 2, delays = ["0s"] }
[command]
argv = ["./count"]
[params]
type = "object"
required = ["to"]
additionalProperties = false
properties.to = { type = "integer", minimum = 1 }
"#;

fn furnish(home: &mut Home) {
    let kinds = home.path("kinds");
    std::fs::create_dir(&kinds).expect("a folder");
    std::fs::write(kinds.join("count.toml"), KIND).expect("a kind file");
    let program = kinds.join("count");
    std::fs::write(&program, COUNT).expect("a program");
    std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    home.variable("SEXTON_KINDS__DIRS", kinds);
}

fn daemon() -> Daemon {
    let mut home = Home::new();
    furnish(&mut home);
    home.schedule("nightly", "[when]\ndaily = \"02:00\"\n[count]\nto = 3\n");
    Daemon::start_in(home)
}

#[test]
fn a_job_of_a_declared_kind_goes_on_at_its_checkpoint_and_keeps_its_result() {
    let daemon = daemon();
    let submit = ["submit", "count", "--params", "{\"to\": 5}", "--wait", "--json"];
    let job = daemon.cli(submit).exits(0).json();
    assert_eq!(job["queue"], "counting");
    assert_eq!(job["priority"], 8);
    assert_eq!(job["max_attempts"], 3);
    assert_eq!(job["attempt"], 2, "the first attempt failed: {job:#}");
    assert_eq!(job["result"]["output"], json!({ "counted": 5 }));
    let log = daemon.cli(["logs", &job["id"].to_string()]).exits(0).stdout;
    assert!(log.contains("attempt 2, from 5: {\"to\":5}"), "{log}");
    let scheduled = daemon.cli(["run", "nightly", "--wait", "--json"]).exits(0).json();
    assert_eq!(scheduled["result"]["output"], json!({ "counted": 3 }));
    assert_eq!(scheduled["queue"], "counting");
}

#[test]
fn params_that_the_schema_refuses_are_refused_where_they_are_submitted() {
    let daemon = daemon();
    let refused = daemon.cli(["submit", "count", "--params", "{\"to\": 0, \"by\": 2}"]).exits(2);
    insta::assert_snapshot!(refused.stderr);
    let refused = daemon.cli(["run", "nightly", "--params", "{\"to\": \"x\"}"]).exits(2);
    assert!(refused.stderr.contains("/params/to"), "{}", refused.stderr);
    let none = daemon.cli(["jobs", "--json"]).exits(0).json();
    assert_eq!(items(&none).len(), 0);
}

#[test]
fn kinds_are_listed_with_where_they_come_from_and_what_their_params_are() {
    let daemon = daemon();
    let list = daemon.cli(["kinds", "--json"]).exits(0).json();
    let names: Vec<_> = items(&list).iter().filter_map(|kind| kind["name"].as_str()).collect();
    assert_eq!(names.last(), Some(&"count"));
    let kind = daemon.cli(["kinds", "count", "--json"]).exits(0).json();
    assert_eq!(kind["params_schema"]["required"], json!(["to"]));
    assert!(kind["file"].as_str().is_some_and(|file| file.ends_with("kinds/count.toml")));
    daemon.cli(["kinds", "cuont"]).exits(4);
}

#[test]
fn an_edited_kind_counts_at_once_and_a_broken_one_changes_nothing() {
    let daemon = daemon();
    let file = daemon.path("kinds/count.toml");
    std::fs::write(&file, KIND.replace("minimum = 1", "minimum = 100")).expect("a kind file");
    daemon.cli(["reload"]).exits(78);
    daemon.cli(["submit", "count", "--params", "{\"to\": 5}"]).exits(2);
    let stale = daemon.cli(["show", "nightly", "--json"]).exits(0).json();
    assert_eq!(stale["stale"], true, "its params are not what the kind takes now");
    std::fs::write(&file, "[command\n").expect("a kind file");
    let report = daemon.cli(["reload", "--json"]).exits(78).json();
    assert!(
        report["diagnostics"][0].as_str().is_some_and(|told| told.contains("S010")),
        "{report:#}"
    );
    daemon.cli(["submit", "count", "--params", "{\"to\": 100}"]).exits(0);
    std::fs::write(&file, KIND).expect("a kind file");
    eventually("the edit is noticed without being told", || {
        let shown = daemon.cli(["show", "nightly", "--json"]).exits(0).json();
        (shown["stale"] == false).then_some(())
    });
}

#[test]
fn limits_are_set_while_the_daemon_runs_and_outlive_it() {
    let mut daemon = daemon();
    daemon.cli(["limits", "set", "kind:count", "0"]).exits(0);
    let held = daemon.cli(["submit", "count", "--params", "{\"to\": 5}", "--json"]).exits(0).json();
    daemon.terminate();
    daemon.start_again();
    let list = daemon.cli(["limits", "--json"]).exits(0).json();
    assert_eq!(items(&list)[0]["name"], "kind:count");
    assert_eq!(items(&list)[0]["max"], 0);
    // Another job goes past the one that is held back.
    daemon.cli(["submit", "command", "--params", "{\"argv\": [\"true\"]}", "--wait"]).exits(0);
    let id = held["id"].as_i64().expect("an id");
    assert_eq!(daemon.job(id)["state"], "pending");
    let shown = daemon.cli(["job", &id.to_string()]).exits(0).stdout;
    assert!(shown.contains("held by   kind:count: 0 run, and 0 may"), "{shown}");
    let queues = daemon.cli(["queues"]).exits(0).stdout;
    assert!(queues.contains("waits for the limit of kind:count"), "{queues}");
    daemon.cli(["limits", "unset", "kind:count"]).exits(0);
    daemon.job_in(id, "completed");
    eventually("both changes are in the audit log", || {
        let told = daemon.cli(["audit", "--json"]).exits(0).json();
        (items(&told)
            .iter()
            .filter(|line| line["event"].as_str().is_some_and(|event| event.starts_with("limit.")))
            .count()
            == 2)
            .then_some(())
    });
    daemon.cli(["limits", "set", "kinds:count", "1"]).exits(2);
}

#[test]
fn only_kinds_that_a_file_declares_can_be_limited() {
    let daemon = daemon();
    daemon.cli(["limits", "set", "kind:count", "1"]).exits(0);
    for (name, why) in [
        ("kind:command", "`command` is built in"),
        ("kind:cuont", "no file declares a kind `cuont`"),
    ] {
        for limit in [&["0"][..], &["--rate", "1/s"], &["--breaker", "5 for 1m"]] {
            let refused = daemon.cli([&["limits", "set", name], limit].concat()).exits(2);
            assert!(refused.stderr.contains(why), "{}", refused.stderr);
        }
    }
    // One whose file is gone can still be taken back.
    std::fs::remove_file(daemon.path("kinds/count.toml")).expect("it was there");
    daemon.cli(["reload"]).exits(78);
    daemon.cli(["limits", "set", "kind:count", "2"]).exits(2);
    daemon.cli(["limits", "unset", "kind:count"]).exits(0);
    let list = daemon.cli(["limits", "--json"]).exits(0).json();
    assert_eq!(items(&list).len(), 0, "{list:#}");
}

/// A node that took them could only fail them, and another one may have the file, or have it again in a moment.
#[test]
fn jobs_of_a_kind_whose_file_is_gone_wait_until_it_is_back_and_say_so() {
    let daemon = daemon();
    daemon.cli(["queues", "pause", "counting", "--reason", "an upgrade"]).exits(0);
    let submit = ["submit", "count", "--params", "{\"to\": 5}", "--json"];
    let id = daemon.cli(submit).exits(0).json()["id"].as_i64().expect("an id");
    let shown = || daemon.cli(["job", &id.to_string()]).exits(0).stdout;
    assert!(shown().contains("held by   queue counting: paused by "), "{}", shown());
    assert!(shown().contains(": an upgrade\n"), "{}", shown());
    let file = daemon.path("kinds/count.toml");
    std::fs::remove_file(&file).expect("it was there");
    daemon.cli(["reload"]).exits(78);
    daemon.cli(["queues", "resume", "counting"]).exits(0);
    let other = daemon.submit("true", &["--queue", "counting", "--wait"]);
    assert_eq!(other["state"], "completed", "what is not of that kind goes past it");
    assert_eq!(daemon.job(id)["held_by"], json!([{ "what": "kind", "kind": "count" }]));
    assert!(shown().contains("kind count: no file of this node declares it"), "{}", shown());
    let (health, _, problems) = standing(&daemon);
    assert_eq!(health, "degraded");
    let waits = "jobs of the kind `count` wait: ";
    assert!(problems.iter().any(|problem| problem.starts_with(waits)), "{problems:?}");
    std::fs::write(&file, KIND).expect("a kind file");
    daemon.job_in(id, "completed");
}

/// The daemon's health, how many of its files are broken, and what is wrong.
fn standing(daemon: &Daemon) -> (String, u64, Vec<String>) {
    let status = daemon.cli(["status", "--json"]).exits(0).json();
    let problems = status["problems"].as_array().expect("a list").iter();
    (
        status["health"].as_str().expect("a word").to_owned(),
        status["invalid_files"].as_u64().expect("a number"),
        problems.map(|problem| problem.as_str().expect("a text").to_owned()).collect(),
    )
}

#[test]
fn e3_a_kind_file_that_is_broken_is_a_problem_of_the_daemon_until_it_is_mended() {
    let mut home = Home::new();
    furnish(&mut home);
    let bad = home.path("kinds/bad.toml");
    std::fs::write(&bad, "oops = [\n").expect("a kind file");
    let daemon = Daemon::start_in(home);
    let (health, broken, problems) = standing(&daemon);
    assert_eq!((&*health, broken), ("degraded", 1));
    assert!(
        problems[0].contains("bad.toml is not loaded: ") && problems[0].contains("bad.toml:1:"),
        "{problems:#?}"
    );
    let shown = daemon.cli(["status"]).exits(0).stdout;
    assert!(shown.contains("bad.toml:1:") && shown.contains("1 broken files"), "{shown}");

    // One that could be used before keeps what it declared, and is broken all the same.
    let count = daemon.path("kinds/count.toml");
    std::fs::write(&count, KIND.replace("[command]", "[command")).expect("a kind file");
    daemon.cli(["reload"]).exits(78);
    let (health, broken, problems) = standing(&daemon);
    assert_eq!((&*health, broken, problems.len()), ("degraded", 2, 2));
    let kept = "kind `count` is what its file declared last: ";
    assert!(
        problems[1].starts_with(kept) && problems[1].contains("count.toml:7:"),
        "{problems:#?}"
    );

    std::fs::write(&count, KIND).expect("a kind file");
    std::fs::remove_file(&bad).expect("it was there");
    daemon.cli(["reload"]).exits(0);
    assert_eq!(standing(&daemon), ("ok".to_owned(), 0, Vec::new()));

    std::fs::rename(daemon.path("kinds"), daemon.path("elsewhere")).expect("a folder");
    daemon.cli(["reload"]).exits(78);
    let (health, broken, problems) = standing(&daemon);
    assert_eq!((&*health, broken), ("degraded", 0), "{problems:#?}");
    assert!(problems[0].contains("this directory of kinds is not there"), "{problems:#?}");
}

#[test]
fn kind_files_are_checked_without_a_daemon() {
    let mut home = Home::new();
    furnish(&mut home);
    home.cli(["validate"]).exits(0);
    let file = home.path("kinds/count.toml");
    std::fs::write(&file, KIND.replace("minimum = 1", "minimum = \"one\"")).expect("a kind file");
    for arguments in [vec!["validate"], vec!["validate", file.to_str().expect("a path")]] {
        let refused = home.cli(&arguments).exits(78);
        assert!(refused.stderr.contains("count.toml:13:"), "{}", refused.stderr);
    }
}
