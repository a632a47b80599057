//! Programs that take all they can, are killed by the system, or turn on their daemon.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::process::{House, eventually, nothing_is_left_of, outcomes, processes_with};

#[test]
fn a7_a_program_that_the_kernel_kills_is_a_failure_and_says_so() {
    let house = House::new();
    let daemon = house.start();
    let mark = format!("a7-{}", daemon.pid());
    let job = json!({
        "kind": "command", "max_attempts": 1,
        "params": { "argv": ["sleep", "120"], "env": { "MARK": mark } },
    });
    let id = house.client().submit_with(&job);
    let pid = eventually("its program runs", || processes_with(&mark).first().copied());
    // As the out-of-memory killer does.
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
    let job = house.client().reaches(id, "failed");
    assert_eq!(outcomes(&job), ["failure"], "{job:#}");
    assert_eq!(job["result"]["signal"], "SIGKILL", "{job:#}");
    let error = job["attempts"][0]["error"].as_str().unwrap();
    assert!(error.contains("SIGKILL") && error.contains("out of memory"), "{error}");
    daemon.stop();
}

#[test]
fn h3_a_program_that_wants_all_memory_fails_within_its_limit_and_harms_nobody() {
    let house = House::new().set("WORKERS__COUNT", "2");
    let daemon = house.start();
    let client = house.client();
    let hog = json!({
        "kind": "command", "max_attempts": 1,
        "params": {
            "shell": "x=0123456789abcdef; while :; do x=$x$x; done",
            "limits": { "memory": "256MiB" },
        },
    });
    let hog = client.submit_with(&hog);
    let other = client.submit("command", &json!({ "argv": ["true"] }));
    client.reaches(other, "completed");
    let job = client.reaches(hog, "failed");
    assert_eq!(outcomes(&job), ["failure"], "{job:#}");
    assert!(house.is_served_by(&daemon));
    daemon.stop();
}

#[test]
fn h3_a_tree_of_processes_that_goes_on_forking_is_gone_after_a_cancel() {
    let house = House::new().set("WORKERS__COUNT", "2");
    let daemon = house.start();
    let client = house.client();
    let mark = format!("h3-{}", daemon.pid());
    // Each process starts two others and waits; five levels, and then some more all the time, until it is killed.
    let script = "grow() { if [ $1 -gt 0 ]; then grow $(($1 - 1)) & grow $(($1 - 1)) & fi; \
                  while :; do sleep 0.1; done; }; grow 5";
    let params = json!({ "shell": script, "env": { "MARK": mark }, "kill_grace": "100ms" });
    let bomb = client.submit("command", &params);
    eventually("it has grown", || (processes_with(&mark).len() >= 40).then_some(()));
    let other = client.submit("command", &json!({ "argv": ["true"] }));
    client.reaches(other, "completed");
    client.post("/api/v1/jobs/cancel", &json!({ "ids": [bomb] }));
    let job = client.reaches(bomb, "cancelled");
    assert_eq!(outcomes(&job), ["cancelled"], "{job:#}");
    nothing_is_left_of(&mark);
    daemon.stop();
}

#[test]
fn h12_a_job_that_stops_its_own_daemon_is_recorded_once() {
    let house = House::new();
    let mut daemon = house.start();
    let id = house.client().submit(
        "command",
        // Not kept: the parent of one that is would be its keeper.
        &json!({ "shell": "kill -TERM $PPID; sleep 0.3", "on_restart": "kill" }),
    );
    let began = Instant::now();
    assert!(daemon.wait().success(), "{}", daemon.log());
    assert!(began.elapsed() < Duration::from_secs(25), "it did not wait for the grace period");
    let daemon = house.start();
    let job = house.client().job(id);
    assert_eq!((&job["state"], outcomes(&job)), (&json!("completed"), vec!["success"]), "{job:#}");
    daemon.stop();
}
