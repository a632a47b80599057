//! The disk under the database is full already when a daemon starts: that is no damage, and is tried again.

use std::process::{Child, Command, Stdio};

use serde_json::json;

use super::disk::{submit_anything, until_told, wait_for};
use super::process::{House, eventually, outcomes, text};

/// A house with a database in which something was done.
fn with_history() -> House {
    let house = House::new();
    let daemon = house.start();
    let job = house.client().submit("command", &json!({ "argv": ["true"] }));
    house.client().reaches(job, "completed");
    daemon.stop();
    house
}

/// Starts a daemon that can make no file larger, as on a full disk.
#[track_caller]
fn is_tried_again(house: &House) {
    let refused = house.in_shell("ulimit -f 0; exec \"$0\" serve").output().unwrap();
    let said = text(&refused);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("the database cannot be written"), "{said}");
    for damage in ["not sound", "damage", "restore"] {
        assert!(!said.contains(damage), "it speaks of `{damage}`: {said}");
    }
}

#[test]
fn b1_a_start_without_room_for_a_write_is_no_damage_and_the_next_one_with_room_works() {
    let house = with_history();
    is_tried_again(&house);
    let daemon = house.start();
    assert_eq!(house.client().all("/api/v1/jobs").len(), 1);
    assert_eq!(house.client().get("/api/v1/status")["health"], "ok");
    // With the log of one that was killed beside it.
    daemon.kill();
    is_tried_again(&house);
    house.start().stop();
}

#[test]
fn b1_a_start_on_a_damaged_database_is_refused_as_damage_on_a_full_disk_as_well() {
    let house = with_history();
    std::fs::write(house.data("sexton.db"), b"gone").unwrap();
    let refused = house.in_shell("ulimit -f 0; exec \"$0\" serve").output().unwrap();
    assert_eq!(refused.status.code(), Some(65), "{}", text(&refused));
}

/// Processes in namespaces of their own, all of which end with the first of them.
struct Apart(Child);

impl Drop for Apart {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// What mounts a file system that nobody else sees, without being root.
const APART: [&str; 7] =
    ["--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];

fn can_be_apart() -> bool {
    let tried = Command::new("unshare").args(APART).arg("true").stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}

/// A daemon on a small file system, which is killed and started again when that is full, and goes on when there is room. What is to
/// happen next is told by files.
const LIFE: &str = r#"
set -e
mount -t tmpfs -o size=40m,mode=755 tmpfs disk
when() { until [ -e "$1" ]; do sleep 0.1; done; }
"$0" serve 2>>stderr.log & first=$!
when full
kill -KILL $first
wait $first || true
dd if=/dev/zero of=disk/fill bs=4k 2>/dev/null || true
df disk | tail -1 >filled
"$0" serve 2>>stderr.log & second=$!
when room
rm disk/fill
when over
kill -TERM $second
wait $second
"#;

#[test]
fn b1_a_start_on_a_full_disk_gives_up_the_room_that_was_kept_and_records_results() {
    if !can_be_apart() {
        eprintln!("not shown: this machine lets nobody mount a file system of their own");
        return;
    }
    // The socket stays outside, where the test finds it.
    let house = House::new().set("DATA_DIR", "disk").set("API__SOCKET", "data/sexton.sock");
    for folder in ["disk", "data"] {
        std::fs::create_dir(house.path(folder)).unwrap();
    }
    let mut life = house.run("unshare");
    life.args(APART).args(["sh", "-c", LIFE, env!("CARGO_BIN_EXE_sexton")]);
    let mut life = Apart(life.stdout(Stdio::null()).spawn().unwrap());
    let client = house.client();
    let log = || std::fs::read_to_string(house.path("stderr.log")).unwrap_or_default();
    let first = eventually("the first daemon serves", || client.try_get("/api/v1/status"));
    let running = client.submit("command", &until_told(&house, "running"));
    wait_for(&house, "running-began");

    std::fs::write(house.path("full"), "").unwrap();
    wait_for(&house, "filled");
    let status = eventually("the second daemon serves", || {
        client.try_get("/api/v1/status").filter(|status| status["pid"] != first["pid"])
    });
    assert_eq!(status["health"], "failing", "{status:#}\n{}", log());
    assert_eq!(submit_anything(&house).0, 507, "{}", log());
    std::fs::write(house.path("running-go"), "").unwrap();
    let job = client.reaches(running, "completed");
    assert_eq!(outcomes(&job), ["success"], "{job:#}\n{}", log());

    std::fs::write(house.path("room"), "").unwrap();
    eventually("submissions are taken again", || (submit_anything(&house).0 == 202).then_some(()));
    std::fs::write(house.path("over"), "").unwrap();
    let ended = eventually("it stops", || life.0.try_wait().unwrap());
    assert!(ended.success(), "{ended}\n{}", log());
}
