//! The database is damaged, removed, replaced, or somebody else's.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::json;

use super::process::{Daemon, House, eventually, text};

fn database(house: &House) -> PathBuf {
    house.data("sexton.db")
}

fn log(house: &House) -> PathBuf {
    house.data("sexton.db-wal")
}

/// Runs a few jobs.
fn work(house: &House) {
    for _ in 0..3 {
        let job = house.client().submit("command", &json!({ "argv": ["true"] }));
        house.client().reaches(job, "completed");
    }
}

/// A house whose daemon did some work and was stopped.
fn with_history() -> House {
    let house = House::new();
    let daemon = house.start();
    work(&house);
    daemon.stop();
    house
}

/// A house whose daemon was backed up after some work, and did some more.
fn backed_up() -> (House, Daemon) {
    let house = House::new();
    let daemon = house.start();
    work(&house);
    db(&house, "backup");
    work(&house);
    (house, daemon)
}

fn db(house: &House, action: &str) {
    let done = house.sexton(&["db", action, &house.path("backup.db").display().to_string()]);
    assert!(done.status.success(), "{}", text(&done));
}

/// Holds that the daemon does not start, with this exit code, and says all of this.
#[track_caller]
fn is_refused(house: &House, code: i32, parts: &[&str]) {
    let refused = house.sexton(&["serve"]);
    let said = text(&refused);
    assert_eq!(refused.status.code(), Some(code), "{said}");
    for part in parts {
        assert!(said.contains(part), "it does not say `{part}`: {said}");
    }
}

/// The same, and that the database is left as it is.
#[track_caller]
fn is_refused_untouched(house: &House, parts: &[&str]) {
    let before = std::fs::read(database(house)).ok();
    is_refused(house, 65, parts);
    assert!(std::fs::read(database(house)).ok() == before, "the file was changed");
}

#[test]
fn c3_a_truncated_or_overwritten_database_is_refused_and_left_as_it_is() {
    let house = with_history();
    let whole = std::fs::read(database(&house)).unwrap();
    let half = whole[..whole.len() / 2 / 4096 * 4096].to_vec();
    let mut flipped = whole.clone();
    // Every other page from the third on: something that is read must be among them.
    for page in (2..whole.len() / 4096).step_by(2) {
        flipped[page * 4096..page * 4096 + 64].iter_mut().for_each(|byte| *byte ^= 0x5a);
    }
    let mut beheaded = whole.clone();
    beheaded[..100].fill(b'x');
    for damaged in [half, flipped, beheaded] {
        std::fs::write(database(&house), damaged).unwrap();
        is_refused_untouched(&house, &["sexton.db is not sound", "sexton db restore"]);
    }
    std::fs::write(database(&house), whole).unwrap();
    house.start().stop();
}

#[test]
fn c3_a_backup_that_is_restored_in_place_of_a_damaged_database_works_although_it_is_older() {
    let (house, daemon) = backed_up();
    daemon.stop();
    std::fs::write(database(&house), b"gone").unwrap();
    is_refused_untouched(&house, &["not sound"]);
    db(&house, "restore");

    let daemon = house.start();
    assert_eq!(house.client().all("/api/v1/jobs").len(), 3);
    work(&house);
    daemon.stop();
    house.start().stop();
}

#[test]
fn c3_a_log_that_was_removed_after_a_crash_is_noticed_by_what_the_audit_log_knows() {
    let house = House::new();
    let daemon = house.start();
    work(&house);
    eventually("the audit log has told of it", || {
        let log = std::fs::read_to_string(house.data("log/audit.jsonl")).ok()?;
        (log.matches("attempt.finished").count() >= 3).then_some(())
    });
    daemon.kill();
    let kept = house.path("kept");
    std::fs::rename(log(&house), &kept).unwrap();
    let bare = std::fs::read(database(&house)).unwrap();
    is_refused(&house, 65, &["lacks what the audit log", "attempts 1 to 3", "sexton db restore"]);

    // With its files put back as they were, nothing is missing.
    for suffix in ["-wal", "-shm"] {
        let _not_there = std::fs::remove_file(house.data(&format!("sexton.db{suffix}")));
    }
    std::fs::write(database(&house), bare).unwrap();
    std::fs::rename(&kept, log(&house)).unwrap();
    let daemon = house.start();
    assert_eq!(house.client().all("/api/v1/jobs").len(), 3);
    daemon.stop();
}

#[test]
fn c3_the_log_of_another_database_is_refused_and_nothing_of_it_gets_in() {
    let house = with_history();
    let other = House::new();
    let daemon = other.start();
    work(&other);
    daemon.kill();
    std::fs::copy(log(&other), log(&house)).unwrap();
    is_refused_untouched(&house, &["sexton.db-wal is the write-ahead log of another database"]);
    std::fs::remove_file(log(&house)).unwrap();
    house.start().stop();
}

#[test]
fn c3_a_log_without_its_database_is_not_thrown_away() {
    let house = House::new();
    let daemon = house.start();
    work(&house);
    daemon.kill();
    std::fs::rename(database(&house), house.path("kept")).unwrap();
    let before = std::fs::read(log(&house)).unwrap();
    is_refused_untouched(&house, &["missing", "write-ahead log"]);
    assert!(std::fs::read(log(&house)).unwrap() == before);
    std::fs::rename(house.path("kept"), database(&house)).unwrap();
    let daemon = house.start();
    assert_eq!(house.client().all("/api/v1/jobs").len(), 3);
    daemon.stop();
}

#[test]
fn c3_a_backup_that_is_restored_beside_a_left_over_log_is_not_mixed_with_it() {
    let (house, daemon) = backed_up();
    daemon.kill();
    std::fs::remove_file(database(&house)).unwrap();
    db(&house, "restore");
    let daemon = house.start();
    assert_eq!(
        house.client().all("/api/v1/jobs").len(),
        3,
        "what the backup holds, and nothing else"
    );
    daemon.stop();
}

/// Holds that the daemon ends, because of this file, and that nothing was acknowledged meanwhile.
#[track_caller]
fn gives_up(house: &House, daemon: &mut Daemon, what: &str) {
    let job = json!({ "kind": "command", "params": { "argv": ["true"] } });
    let answer = house.client().call("POST", "/api/v1/jobs", Some(&job));
    assert!(answer.as_ref().is_none_or(|(status, _)| *status >= 500), "{answer:?}");
    let status = daemon.wait();
    assert_eq!(status.code(), Some(1), "{status}:\n{}", daemon.log());
    assert!(daemon.log().contains(what), "{}", daemon.log());
}

#[test]
fn c6_a_database_that_is_removed_while_it_is_open_ends_the_daemon_and_is_not_replaced() {
    let house = House::new();
    let mut daemon = house.start();
    work(&house);
    std::fs::rename(database(&house), house.path("kept")).unwrap();
    gives_up(&house, &mut daemon, "sexton.db was removed");
    is_refused_untouched(&house, &["missing"]);
    std::fs::rename(house.path("kept"), database(&house)).unwrap();
    let daemon = house.start();
    let jobs = house.client().all("/api/v1/jobs");
    // What was written when it was noticed was not acknowledged; it may be there or not.
    assert!(jobs.len() == 3 || jobs.len() == 4, "{jobs:#?}");
    daemon.stop();
}

#[test]
fn c6_a_database_or_log_that_is_replaced_while_it_is_open_ends_the_daemon() {
    for file in ["sexton.db", "sexton.db-wal"] {
        let house = House::new();
        let mut daemon = house.start();
        work(&house);
        std::fs::copy(house.data(file), house.path("copy")).unwrap();
        std::fs::rename(house.path("copy"), house.data(file)).unwrap();
        gives_up(&house, &mut daemon, &format!("{file} was replaced"));
    }
}

#[test]
fn c6_an_idle_daemon_notices_too() {
    let house = House::new().set("LEASE__DURATION", "1s").set("LEASE__HEARTBEAT", "200ms");
    let mut daemon = house.start();
    std::fs::remove_file(database(&house)).unwrap();
    let status = daemon.wait();
    assert_eq!(status.code(), Some(1), "{status}:\n{}", daemon.log());
}

#[test]
fn c7_a_database_or_directory_that_everybody_may_write_is_refused_with_the_remedy() {
    let house = with_history();
    for (file, mode) in [("sexton.db", 0o666), ("", 0o777)] {
        let path = house.data(file);
        let before = std::fs::metadata(&path).unwrap().permissions();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        is_refused(&house, 1, &[&format!("{mode:04o}"), "chmod o-w", "data"]);
        std::fs::set_permissions(&path, before).unwrap();
    }
    house.start().stop();
}

#[test]
fn c7_a_database_of_another_user_is_refused_and_both_are_named() {
    let house = with_history();
    // Only root can give a file away. Without it, `daemon::place` has the decision's own test.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let me = rustix::process::geteuid();
    rustix::fs::chown(database(&house), Some(rustix::fs::Uid::from_raw(4321)), None).unwrap();
    is_refused(&house, 1, &["sexton.db belongs to user 4321", "root (0)"]);
    rustix::fs::chown(database(&house), Some(me), None).unwrap();
    house.start().stop();
}

#[test]
fn a10_a_second_daemon_on_the_same_database_is_refused_wherever_its_data_directory_is() {
    let house = House::new();
    let daemon = house.start();
    let url = format!("sqlite:{}", database(&house).display());
    let other = House::new().set("DATABASE__URL", &url);
    is_refused(&other, 75, &["uses the database", &format!("process {}", daemon.pid())]);
    let job = house.client().submit("command", &json!({ "argv": ["true"] }));
    house.client().reaches(job, "completed");
    daemon.stop();
}
