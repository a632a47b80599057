//! A daemon on a copy of a data directory.

use std::process::Command;

use crate::harness::daemon::{Daemon, Home, eventually};

#[test]
fn m7_a_daemon_on_a_copied_data_directory_leaves_the_programs_of_the_original_alone() {
    let original = Daemon::start(|_| {});
    let job = original.submit(&original.gate("gate"), &["--max-attempts", "1"]);
    let id = job["id"].as_i64().expect("an id");
    original.job_in(id, "running");
    let home = Home::new();
    let (from, to) = (original.path("data"), home.path("data"));
    let copied = Command::new("cp").arg("-aT").args([&from, &to]).status();
    assert!(copied.expect("cp runs").success());
    let copy = Daemon::start_in(home);
    assert!(copy.output().contains("is a copy of one that is still there"), "{}", copy.output());
    // It has a database of its own, in which the job was interrupted, and runs it again.
    eventually("the copy has given it back", || {
        let attempts = copy.job(id)["attempts"].as_array().map(Vec::len);
        (attempts == Some(1)).then_some(())
    });
    assert_eq!(original.job(id)["state"], "running");
    original.open("gate");
    original.job_in(id, "completed");
    copy.job_in(id, "completed");
}
