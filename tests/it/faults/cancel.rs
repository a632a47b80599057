//! Stopping what runs: cancelled at once, and with everything that belongs to it.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::process::{House, eventually, nothing_is_left_of, outcomes, processes_with};
use super::web::{Manner, Web};

/// Far below what the work would take, far above what a busy machine needs.
const PROMPTLY: Duration = Duration::from_secs(20);

/// Cancels a job as soon as it runs, and gives it as it ended.
fn cancelled_while_running(house: &House, kind: &str, params: &Value) -> Value {
    let client = house.client();
    let id = client.submit(kind, params);
    client.reaches(id, "running");
    let began = Instant::now();
    let touched = client.post("/api/v1/jobs/cancel", &json!({ "ids": [id] }));
    assert_eq!(touched["items"][0]["result"], "requested", "{kind}: {touched}");
    let job = client.reaches(id, "cancelled");
    assert!(began.elapsed() < PROMPTLY, "{kind}: {:?}", began.elapsed());
    assert_eq!(outcomes(&job), ["cancelled"], "{job:#}");
    job
}

/// Many files that cost next to nothing: names of a few.
fn many_files(folder: &Path, name: &str, content: &str) {
    for directory in 0..25 {
        let directory = folder.join(directory.to_string());
        std::fs::create_dir_all(&directory).unwrap();
        let first = directory.join(format!("0-{name}"));
        std::fs::write(&first, content).unwrap();
        for number in 1..1000 {
            std::fs::hard_link(&first, directory.join(format!("{number}-{name}"))).unwrap();
        }
    }
}

#[test]
fn a_cancelled_command_is_gone_with_all_its_processes() {
    let house = House::new();
    let daemon = house.start();
    cancelled_while_running(&house, "command", &json!({ "argv": ["sleep", "120"] }));
    daemon.stop();
}

#[test]
fn h2_a_tree_that_ignores_term_and_forks_away_is_gone_after_cancel() {
    let house = House::new();
    let daemon = house.start();
    let mark = format!("stubborn-{}", daemon.pid());
    // Four processes: a shell that ignores TERM, its child, and a grandchild in a session of its own whose parent has ended.
    let script = "trap '' TERM; (setsid sh -c 'trap \"\" TERM; sleep 120 & wait; sleep 120' &); sleep 120; sleep 120";
    let params = json!({ "shell": script, "env": { "MARK": mark }, "kill_grace": "1s" });
    let client = house.client();
    let id = client.submit("command", &params);
    eventually("the whole tree runs", || (processes_with(&mark).len() == 4).then_some(()));
    client.post("/api/v1/jobs/cancel", &json!({ "ids": [id] }));
    let job = client.reaches(id, "cancelled");
    assert_eq!(outcomes(&job), ["cancelled"], "{job:#}");
    nothing_is_left_of(&mark);
    daemon.stop();
}

#[test]
fn h1_a_command_that_hangs_ends_as_timeout() {
    let house = House::new();
    let daemon = house.start();
    let mark = format!("hangs-{}", daemon.pid());
    let params = json!({ "argv": ["sleep", "120"], "env": { "MARK": mark } });
    let job = json!({ "kind": "command", "params": params, "timeout": "1s", "max_attempts": 1 });
    let id = house.client().submit_with(&job);
    let job = house.client().reaches(id, "failed");
    assert_eq!(outcomes(&job), ["timeout"], "{job:#}");
    nothing_is_left_of(&mark);
    daemon.stop();
}

#[test]
fn a_request_that_is_never_answered_can_be_cancelled() {
    let (house, web) = (House::new(), Web::serve(Manner::Silent));
    let daemon = house.start();
    let params = json!({ "url": web.url("/"), "allow_private": true });
    cancelled_while_running(&house, "http", &params);
    daemon.stop();
}

#[test]
fn a_download_that_never_ends_can_be_cancelled_and_leaves_no_half_file() {
    let (house, web) = (House::new(), Web::serve(Manner::Trickles));
    let daemon = house.start();
    let to = house.path("mirror");
    let params =
        json!({ "from": [web.url("/large.bin")], "to": to, "mode": "copy", "allow_private": true });
    cancelled_while_running(&house, "data_sync", &params);
    assert!(!to.join("large.bin").exists(), "a part never has the whole's name");
    daemon.stop();
}

#[test]
fn a_cleanup_of_many_files_can_be_cancelled() {
    let house = House::new();
    let root = house.path("tree");
    many_files(&root, "old.tmp", "old");
    let daemon = house.start();
    let params = json!({ "roots": [root], "min_size": "1B" });
    cancelled_while_running(&house, "cleanup", &params);
    let left: usize = std::fs::read_dir(&root)
        .unwrap()
        .map(|directory| std::fs::read_dir(directory.unwrap().path()).unwrap().count())
        .sum();
    assert!(left > 0, "it was over before it was cancelled: this showed nothing");
    daemon.stop();
}

#[test]
fn a_validation_of_many_files_can_be_cancelled() {
    let house = House::new();
    let root = house.path("kb");
    many_files(&root, "page.md", "# Page\n\n[next](1-page.md#page)\n");
    let daemon = house.start();
    cancelled_while_running(&house, "kb_validation", &json!({ "root": root }));
    daemon.stop();
}
