//! A schedule whose job is not over, pauses, requirements, and runs by hand.

use std::fs::File;
use std::time::SystemTime;

use serde_json::json;

use crate::harness::daemon::{Daemon, Home, eventually, items};

/// A schedule whose jobs wait for the gate `gate`.
fn gated(home: &Home, overlap: &str, when: &str) -> String {
    format!(
        "{when}\n[run]\noverlap = \"{overlap}\"\n[command]\nshell = \"\"\"{}\"\"\"\n",
        home.gate("gate")
    )
}

const EVERY_SECOND: &str = "[when]\nevery = \"1s\"";

#[test]
fn i3_skip_leaves_a_row_that_names_the_job_in_the_way() {
    let daemon = Daemon::start(|home| home.schedule("long", &gated(home, "skip", EVERY_SECOND)));
    let first = daemon.decided("long", "enqueued")["job_id"].clone();
    let skipped = daemon.decided("long", "skipped_overlap");
    assert!(skipped["reason"].as_str().unwrap().contains(&format!("job {first}")), "{skipped}");
    assert_eq!(skipped["job_id"], json!(null));
    let jobs = daemon.cli(["jobs", "--schedule", "long", "--json"]).exits(0).json();
    assert_eq!(items(&jobs).len(), 1);
    daemon.open("gate");
    daemon.job_in(first.as_i64().unwrap(), "completed");
}

#[test]
fn i3_queue_one_lets_one_job_wait_and_skips_the_others() {
    let daemon =
        Daemon::start(|home| home.schedule("long", &gated(home, "queue_one", EVERY_SECOND)));
    let skipped = daemon.decided("long", "skipped_overlap");
    assert!(skipped["reason"].as_str().unwrap().contains("waits"), "{skipped}");
    let jobs = daemon.cli(["jobs", "--schedule", "long", "--json"]).exits(0).json();
    let states: Vec<&str> = items(&jobs).iter().map(|job| job["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["blocked", "running"]);
    let waiting = items(&jobs)[0]["id"].as_i64().unwrap();
    daemon.open("gate");
    daemon.job_in(waiting, "completed");
}

#[test]
fn i3_cancel_previous_stops_the_running_job_and_then_runs() {
    let daemon = Daemon::start(|home| home.schedule("long", &gated(home, "cancel_previous", "")));
    let first = daemon.run("long");
    daemon.job_in(first, "running");
    let second = daemon.run("long");
    let first = daemon.job_in(first, "cancelled");
    let running = daemon.job_in(second, "running");
    assert!(running["started_at"].as_str() >= first["finished_at"].as_str());
    daemon.open("gate");
    daemon.job_in(second, "completed");
}

#[test]
fn a_run_by_hand_beside_a_live_job_is_refused_with_the_reason() {
    let daemon = Daemon::start(|home| home.schedule("long", &gated(home, "skip", "")));
    let first = daemon.run("long");
    daemon.job_in(first, "running");
    let refused = daemon.cli(["run", "long"]).exits(1);
    assert!(refused.stderr.contains(&format!("job {first}")), "{}", refused.stderr);
    let recorded = daemon.cli(["run", "long", "--json"]).exits(1).json();
    assert_eq!(recorded["decision"], "skipped_overlap");
    daemon.open("gate");
    daemon.job_in(first, "completed");
}

const TICK: &str = "[when]\nevery = \"1s\"\n[command]\nargv = [\"true\"]\n";

#[test]
fn a_paused_schedule_says_who_and_why_in_every_row_until_it_is_resumed() {
    let daemon = Daemon::start(|home| home.schedule("tick", TICK));
    daemon.decided("tick", "enqueued");
    let paused =
        daemon.cli(["pause", "tick", "--reason", "disk full", "--until", "2h", "--json"]).exits(0);
    let paused = paused.json();
    assert_eq!(paused["state"], "paused");
    assert_eq!(paused["pause"]["reason"], "disk full");
    assert!(paused["pause"]["until"].is_string());
    let skipped = daemon.decided("tick", "skipped_paused");
    assert!(skipped["reason"].as_str().unwrap().contains("disk full"), "{skipped}");
    assert_eq!(daemon.cli(["resume", "tick", "--json"]).exits(0).json()["state"], "active");
    let newest = |decision: &str| {
        let rows = daemon.ledger("tick");
        let row = rows.into_iter().find(|row| row["decision"] == decision);
        row.map(|row| row["nominal_at"].as_str().unwrap().to_owned())
    };
    eventually("it runs again", || (newest("enqueued") > newest("skipped_paused")).then_some(()));
    let list = daemon.cli(["audit", "--json"]).exits(0).json();
    for event in ["schedule.paused", "schedule.resumed"] {
        assert!(items(&list).iter().any(|row| row["event"] == event), "{event}: {list:#}");
    }
}

#[test]
fn a_pause_ends_by_itself_and_survives_a_restart_before_that() {
    let mut daemon = Daemon::start(|home| home.schedule("tick", TICK));
    daemon.cli(["pause", "tick", "--until", "1h"]).exits(0);
    daemon.terminate();
    daemon.start_again();
    let state = |daemon: &Daemon| daemon.cli(["show", "tick", "--json"]).json()["state"].clone();
    assert_eq!(state(&daemon), "paused");
    daemon.cli(["pause", "tick", "--until", "1s"]).exits(0);
    eventually("the pause is over", || (state(&daemon) == "active").then_some(()));
    daemon.decided("tick", "enqueued");
    daemon.cli(["pause", "tick", "--until", "2020-01-01T00:00:00Z"]).exits(2);
}

#[test]
fn an_unmet_requirement_is_a_recorded_skip_until_it_is_met() {
    let daemon = Daemon::start(|home| {
        let path = home.path("wanted");
        let requires = format!("requires = [\"path:{}\"]", path.display());
        let text = TICK.replace("[command]", &format!("[run]\n{requires}\n[command]"));
        home.schedule("tick", &text);
    });
    let skipped = daemon.decided("tick", "skipped_requirement");
    assert!(skipped["reason"].as_str().unwrap().contains("wanted"), "{skipped}");
    daemon.open("wanted");
    daemon.decided("tick", "enqueued");
}

#[test]
fn a_run_by_hand_waits_takes_params_and_tells_how_it_ended() {
    let daemon = Daemon::start(|home| {
        home.schedule("greet", "[command]\nargv = [\"echo\", \"from the file\"]\n");
        home.schedule("fails", "[run]\nretries = 0\n[command]\nargv = [\"false\"]\n");
    });
    let schedule = daemon.cli(["show", "greet", "--json"]).exits(0).json();
    assert_eq!(schedule["state"], "manual");
    assert_eq!(schedule["next"], json!(null));
    let job = daemon.cli(["run", "greet", "--wait", "--json"]).exits(0).json();
    assert_eq!(job["state"], "completed");

    let other = ["run", "greet", "--follow", "--params", r#"{"argv":["echo","by hand"]}"#];
    let followed = daemon.cli(other).exits(0);
    assert!(followed.stdout.contains("by hand\n"), "{followed:?}");
    daemon.cli(["run", "greet", "--params", r#"{"argvv":["x"]}"#]).exits(2);
    daemon.cli(["run", "greet", "--params", "no json"]).exits(2);

    let failed = daemon.cli(["run", "fails", "--wait", "--json"]).exits(1).json();
    assert_eq!(failed["state"], "failed");
    assert_eq!(failed["attempts"][0]["exit_code"], 1);
    let at = ["run", "greet", "--at", "2026-01-02T03:04:05Z", "--wait", "--json"];
    assert_eq!(daemon.cli(at).exits(0).json()["nominal_at"], "2026-01-02T03:04:05.000000Z");
}

#[test]
fn a_dry_run_changes_nothing() {
    let daemon = Daemon::start(|home| {
        std::fs::create_dir(home.path("old")).unwrap();
        let file = File::create(home.path("old/file.tmp")).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let root = home.path("old");
        home.schedule(
            "sweep",
            &format!(
                "[cleanup]\nroots = [\"{}\"]\ninclude = [\"*.tmp\"]\nolder_than = \"1h\"\nage_by = [\"mtime\"]\n",
                root.display()
            ),
        );
    });
    let job = daemon.cli(["run", "sweep", "--dry-run", "--wait", "--json"]).exits(0).json();
    assert_eq!(job["dry_run"], true);
    assert!(daemon.path("old/file.tmp").exists());
    daemon.cli(["run", "sweep", "--wait"]).exits(0);
    assert!(!daemon.path("old/file.tmp").exists());
}
