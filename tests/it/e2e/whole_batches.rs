//! Batches whose items are done in one run of a declared kind's program.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::harness::daemon::{Daemon, Home, eventually, items};

const KIND: &str = r#"
description = "Imports pages"
items = "all"
[run]
retries = { max = 1, delays = ["0s"] }
[command]
argv = ["./import"]
final_codes = [65]
[params]
type = "object"
required = ["site"]
additionalProperties = false
properties.site = { type = "string" }
properties.page = { type = "integer" }
"#;

/// Does one item after the other, and notes each in a file. It waits at a gate before `c`, and fails `x`
/// until something is mended.
const IMPORT: &str = r#"#!/bin/sh
cat > "run-$SEXTON_ATTEMPT.json"
grep -o '"name":"[^"]*"' "run-$SEXTON_ATTEMPT.json" | cut -d'"' -f4 | while read -r name; do
    case $name in
    c) until [ -e gate ]; do sleep 0.05; done ;;
    x) [ -e mended ] || { echo '{"item": "x", "state": "failed", "error": "no such page"}' >&3; continue; } ;;
    esac
    echo "$name" >> done
    echo "{\"item\": \"$name\", \"state\": \"completed\", \"result\": \"page $name\"}" >&3
done
"#;

fn daemon() -> Daemon {
    daemon_with(KIND)
}

fn daemon_with(kind: &str) -> Daemon {
    let mut home = Home::new();
    let kinds = home.path("kinds");
    std::fs::create_dir(&kinds).expect("a folder");
    std::fs::write(kinds.join("import.toml"), kind).expect("a kind file");
    let program = kinds.join("import");
    std::fs::write(&program, IMPORT).expect("a program");
    std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    home.variable("SEXTON_KINDS__DIRS", kinds);
    Daemon::start_in(home)
}

fn submit(daemon: &Daemon, names: &Value) -> i64 {
    let body = json!({"kind": "import", "params": {"site": "docs"}, "items": names});
    let job = daemon.post("/api/v1/jobs", &body);
    job["id"].as_i64().unwrap_or_else(|| panic!("no job: {job:#}"))
}

fn done(daemon: &Daemon) -> Vec<String> {
    let text = std::fs::read_to_string(daemon.path("done")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn listed(daemon: &Daemon, id: i64) -> Vec<(String, String)> {
    let list = daemon.cli(["items", &id.to_string(), "--json"]).exits(0).json();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    items(&list).iter().map(|item| (text(&item["name"]), text(&item["state"]))).collect()
}

#[test]
fn a_run_that_is_killed_with_its_daemon_is_followed_by_one_with_what_was_left() {
    let kind = KIND.replace("[command]", "[command]\non_restart = \"kill\"");
    let mut daemon = daemon_with(&kind);
    let names = json!(["a", {"name": "b", "params": {"page": 2}}, "c", "d"]);
    let id = submit(&daemon, &names);
    eventually("two items are recorded while the third is at the gate", || {
        let job = daemon.job(id);
        (job["batch"]["completed"] == 2).then_some(())
    });
    let job = daemon.job(id);
    assert_eq!((&job["state"], &job["progress"]), (&json!("running"), &json!(50)));
    daemon.kill();
    daemon.start_again();
    daemon.open("gate");
    let over = daemon.job_in(id, "completed");
    assert_eq!(over["batch"]["completed"], 4);
    assert_eq!(over["result"]["items"]["given"], 2, "{over:#}");
    assert_eq!(done(&daemon), ["a", "b", "c", "d"]);
    let first: Value =
        serde_json::from_slice(&std::fs::read(daemon.path("run-1.json")).unwrap()).unwrap();
    assert_eq!(
        (&first["site"], &first["items"]),
        (
            &json!("docs"),
            &json!([
                {"name": "a"}, {"name": "b", "params": {"page": 2}}, {"name": "c"}, {"name": "d"},
            ])
        )
    );
    let list = daemon.cli(["items", &id.to_string(), "--json"]).exits(0).json();
    assert_eq!(
        (&items(&list)[3]["result"], &items(&list)[3]["attempts"]),
        (&json!("page d"), &json!(2))
    );
}

#[test]
fn items_that_failed_are_tried_again_by_policy_and_by_hand_and_no_others() {
    let daemon = daemon();
    let id = submit(&daemon, &json!(["a", "x", "b"]));
    let failed = daemon.job_in(id, "failed");
    assert_eq!(
        failed["error"], "of 1 items 1 failed, the first of them `x`: no such page",
        "the second attempt was given what the first had left"
    );
    assert_eq!(failed["batch"], json!({"total": 3, "completed": 2, "failed": 1, "cancelled": 0}));
    let list = daemon.cli(["items", &id.to_string(), "--state", "failed", "--json"]);
    let list = list.exits(0).json();
    assert_eq!(items(&list).len(), 1);
    assert_eq!(items(&list)[0]["error"], "no such page");
    daemon.open("mended");
    daemon.cli(["retry", &id.to_string()]).exits(0);
    daemon.job_in(id, "completed");
    assert_eq!(done(&daemon), ["a", "b", "x"]);
    let states = listed(&daemon, id);
    assert!(states.iter().all(|(_, state)| state == "completed"), "{states:?}");
}

#[test]
fn a_cancelled_run_keeps_what_it_did_and_what_is_left_can_be_done_later() {
    let daemon = daemon();
    let id = submit(&daemon, &json!(["a", "c", "d"]));
    eventually("the first item is recorded", || {
        (daemon.job(id)["batch"]["completed"] == 1).then_some(())
    });
    daemon.cli(["cancel", &id.to_string()]).exits(0);
    let over = daemon.job_in(id, "cancelled");
    assert_eq!(over["batch"], json!({"total": 3, "completed": 1, "failed": 0, "cancelled": 2}));
    let expected = [("a", "completed"), ("c", "cancelled"), ("d", "cancelled")];
    assert_eq!(listed(&daemon, id), expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    daemon.open("gate");
    daemon.cli(["retry", &id.to_string()]).exits(0);
    daemon.job_in(id, "completed");
    assert_eq!(done(&daemon), ["a", "c", "d"]);
}

#[test]
fn params_of_the_batch_and_of_each_item_are_held_against_the_schema() {
    let daemon = daemon();
    for (params, names, place) in [
        (json!({}), json!(["a"]), "/params/site"),
        (json!({"site": 1}), json!(["a"]), "/params/site"),
        (
            json!({"site": "x"}),
            json!(["a", {"name": "b", "params": {"page": "1"}}]),
            "/items/1/params/page",
        ),
        (
            json!({"site": "x"}),
            json!(["a", {"name": "b", "params": {"pages": 1}}]),
            "/items/1/params/pages",
        ),
    ] {
        let body = json!({"kind": "import", "params": params, "items": names});
        let problem = daemon.post("/api/v1/jobs", &body);
        assert_eq!(problem["status"], 422, "{problem:#}");
        let pointer = problem["errors"][0]["pointer"].as_str().unwrap_or_default();
        assert!(place.starts_with(pointer) || pointer.starts_with(place), "{place}: {problem:#}");
    }
    let kind = daemon.cli(["kinds", "import", "--json"]).exits(0).json();
    assert_eq!(kind["items"], "all");
    std::fs::write(
        daemon.path("kinds/import.toml"),
        KIND.replace("properties.page", "properties.items"),
    )
    .expect("a kind file");
    let refused = daemon.cli(["validate"]).exits(78);
    assert!(refused.stderr.contains("none of its params can be called that"), "{}", refused.stderr);
}

#[test]
fn no_param_that_the_items_would_replace_is_taken_in() {
    let daemon = daemon_with(&KIND.replace("additionalProperties = false\n", ""));
    let lost = json!({"site": "x", "items": "x"});
    let own = json!([{"name": "a", "params": {"items": [1]}}]);
    for (params, names, place) in [
        (lost.clone(), json!(["a"]), "/params/items"),
        (lost, Value::Null, "/params/items"),
        (json!({"site": "x"}), own, "/items/0/params/items"),
    ] {
        let body = json!({"kind": "import", "params": params, "items": names});
        let problem = daemon.post("/api/v1/jobs", &body);
        assert_eq!(problem["errors"][0]["pointer"], place, "{body}: {problem:#}");
    }
}
