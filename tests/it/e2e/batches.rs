//! Batches, from the command line to the last item.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::json;

use crate::harness::daemon::{Daemon, answer, eventually, items};

/// Appends its item's name to a file, and waits at a gate if it is the third.
fn script(daemon: &Daemon) -> String {
    let done = daemon.path("done");
    let gate = daemon.gate("third");
    format!(
        "if [ \"$SEXTON_ITEM\" = item-03 ]; then {gate}; fi; echo \"$SEXTON_ITEM\" >> '{}'",
        done.display()
    )
}

fn submit(daemon: &Daemon, count: usize) -> i64 {
    let lines: Vec<String> = (1..=count).map(|number| format!("item-{number:02}")).collect();
    std::fs::write(daemon.path("items"), lines.join("\n")).expect("a file");
    let params = json!({ "shell": script(daemon) }).to_string();
    let file = daemon.path("items");
    let submit = ["submit", "command", "--json", "--params", &params, "--items"];
    let arguments = submit.iter().map(AsRef::as_ref).chain([file.as_os_str()]);
    let batch = answer(&mut daemon.command(arguments)).exits(0).json();
    assert_eq!(batch["batch"]["total"], count);
    batch["id"].as_i64().expect("an id")
}

/// How often each item has run to its end.
fn done(daemon: &Daemon) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in std::fs::read_to_string(daemon.path("done")).unwrap_or_default().lines() {
        *counts.entry(line.to_owned()).or_default() += 1;
    }
    counts
}

#[test]
fn a_batch_goes_on_after_a_kill_and_repeats_no_item_that_was_finished() {
    let mut daemon = Daemon::start(|home| home.settings("[workers]\ncount = 2\n"));
    let id = submit(&daemon, 12);
    eventually("all but the item at the gate are recorded", || {
        let job = daemon.job(id);
        (job["batch"]["completed"] == 11).then_some(())
    });
    daemon.kill();
    daemon.open("third");
    daemon.start_again();
    let over = daemon.job_in(id, "completed");
    assert_eq!(over["result"]["completed"], 12);
    let done = done(&daemon);
    assert_eq!(done.len(), 12, "{done:?}");
    let others = done.iter().filter(|(name, _)| *name != "item-03");
    assert!(others.clone().all(|(_, count)| *count == 1), "{done:?}");
    let list = daemon.cli(["items", &id.to_string(), "--json", "--limit", "5"]).exits(0).json();
    assert_eq!(items(&list).len(), 5);
    assert_eq!(items(&list)[2]["name"], "item-03");
    assert_eq!(list["next_cursor"], "4");
}

#[test]
fn only_the_failed_items_of_a_batch_are_retried() {
    let daemon = Daemon::start(|_| {});
    let good = daemon.path("good");
    let shell = format!("[ $SEXTON_ITEM != b ] || test -e '{}'", good.display());
    let params = json!({ "shell": shell });
    let body = json!({
        "kind": "command", "params": params, "max_attempts": 1,
        "items": ["a", "b", { "name": "c", "params": { "shell": "exit 0" } }],
    });
    let submitted = daemon.post("/api/v1/jobs", &body);
    let id = submitted["id"].as_i64().expect("an id");
    let failed = daemon.job_in(id, "failed");
    assert_eq!(failed["error"], "of 3 items 1 failed and 0 were cancelled");
    let list =
        daemon.cli(["items", &id.to_string(), "--state", "failed", "--json"]).exits(0).json();
    assert_eq!(items(&list).iter().map(|item| &item["name"]).collect::<Vec<_>>(), ["b"]);
    daemon.open("good");
    daemon.cli(["retry", &id.to_string()]).exits(0);
    let over = daemon.job_in(id, "completed");
    assert_eq!(over["batch"], serde_json::Value::Null, "its result has the counts");
    let attempts = daemon.cli(["items", &id.to_string(), "--json"]).exits(0).json();
    let attempts: Vec<_> = items(&attempts).iter().map(|item| item["attempts"].as_i64()).collect();
    assert_eq!(attempts, [Some(1), Some(2), Some(1)]);
}

#[test]
fn a_chain_over_batches_is_submitted_in_one_call() {
    let daemon = Daemon::start(|_| {});
    let log = daemon.path("log");
    let step = |word: &str| json!({ "shell": format!("echo {word} >> '{}'", log.display()) });
    let body = json!([
        { "kind": "command", "params": step("parse"), "items": ["a", "b", "c"] },
        { "kind": "command", "params": step("process"), "items": ["a", "b"], "depends_on": [{ "index": 0 }] },
        { "kind": "command", "params": step("import"), "depends_on": [{ "index": 1 }] },
        { "kind": "command", "params": step("tidy"), "depends_on": [{ "index": 2, "needs": "finished" }] },
    ]);
    let submitted = daemon.post("/api/v1/jobs", &body);
    let ids: Vec<i64> = items(&submitted).iter().filter_map(|job| job["id"].as_i64()).collect();
    daemon.job_in(ids[3], "completed");
    let log = std::fs::read_to_string(log).expect("a file");
    let words: Vec<&str> = log.lines().collect();
    assert_eq!(words, ["parse", "parse", "parse", "process", "process", "import", "tidy"]);
}

#[test]
fn items_that_cannot_be_meant_are_refused_with_their_place() {
    let daemon = Daemon::start(|_| {});
    for (items, place) in [
        (json!([]), "/items"),
        (json!(["a", "a"]), "/items/1"),
        (json!(["a", ""]), "/items/1"),
        (json!(["a", { "name": "b", "params": { "argv": 1 } }]), "/items/1/params/argv"),
        (json!(["a", { "name": "b", "parms": { "z": 1 } }]), "/items/1/parms"),
        (json!(["a", 7]), "/items/1"),
    ] {
        let body = json!({ "kind": "command", "params": { "argv": ["true"] }, "items": items });
        let problem = daemon.post("/api/v1/jobs", &body);
        assert_eq!(problem["errors"][0]["pointer"], place, "{problem:#}");
    }
    std::fs::write(daemon.path("items"), "a\n\n{\"name\": \n").expect("a file");
    let file = daemon.path("items");
    let submit = ["submit", "command", "--params", r#"{"argv": ["true"]}"#, "--items"];
    let mut command = daemon.command(submit);
    let refused = answer(command.arg(file)).exits(2);
    assert!(refused.stderr.contains("line 3 of the items is not JSON"), "{refused:?}");
}

#[test]
fn the_items_of_a_schedule_for_every_node_know_which_instant_they_are_for() {
    let daemon = Daemon::start(|home| {
        home.schedule(
            "everywhere",
            "[when]\ndaily = \"02:00\"\n[run]\nnode = \"every\"\nretries = { max = 0 }\n[command]\n\
             shell = \"echo $SEXTON_SCHEDULE at $SEXTON_NOMINAL_AT; exit 1\"\n",
        );
    });
    let batch = daemon.run("everywhere");
    let made_for = daemon.job_in(batch, "failed")["nominal_at"].clone();
    let made_for: Timestamp = made_for.as_str().expect("an instant").parse().expect("an instant");
    let expected = format!("everywhere at {made_for}");
    let listed = daemon.cli(["items", &batch.to_string(), "--json"]).exits(0).json();
    let item = items(&listed)[0]["job_id"].as_i64().expect("its job").to_string();
    let told = daemon.cli(["logs", &item]).exits(0).stdout;
    assert!(told.contains(&expected), "{expected}: {told}");

    // Also what does its work with other params.
    let params = "{\"shell\": \"echo again $SEXTON_SCHEDULE at $SEXTON_NOMINAL_AT\"}";
    let touched = daemon.cli(["retry", &item, "--params", params, "--json"]).exits(0).json();
    let again = items(&touched)[0]["replaced_by"].as_i64().expect("a job");
    daemon.job_in(again, "completed");
    let told = daemon.cli(["logs", &again.to_string()]).exits(0).stdout;
    assert!(told.contains(&format!("again {expected}")), "{expected}: {told}");
}
