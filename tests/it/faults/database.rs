//! The database belongs to somebody else for a while, or for good.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use serde_json::json;

use super::process::{House, outcomes, text};
use crate::harness::http::ask_socket;

pub(super) fn database(house: &House) -> SqliteConnection {
    let path = house.data("sexton.db");
    let mut conn = SqliteConnection::establish(&path.to_string_lossy()).unwrap();
    conn.batch_execute("PRAGMA busy_timeout = 30000").unwrap();
    conn
}

#[test]
fn a10_a_second_daemon_on_the_same_data_is_refused_with_75_and_told_who_has_it() {
    let house = House::new();
    let daemon = house.start();
    let refused = house.sexton(&["serve"]);
    assert_eq!(refused.status.code(), Some(75), "{}", text(&refused));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains(&format!("process {}", daemon.pid())), "{said}");
    // The first one noticed nothing: its socket is still its own.
    assert!(house.is_served_by(&daemon));
    let job = house.client().submit("command", &json!({ "argv": ["true"] }));
    house.client().reaches(job, "completed");
    daemon.stop();
}

#[test]
fn c1_while_another_process_holds_the_write_lock_nothing_is_lost() {
    let house = House::new();
    let daemon = house.start();
    let client = house.client();
    let release = house.path("release").display().to_string();
    let script =
        format!("n=0; until [ -e {release} ] || [ $n -gt 600 ]; do sleep 0.1; n=$((n+1)); done");
    let running = client.submit("command", &json!({ "shell": script }));
    client.reaches(running, "running");

    let mut other = database(&house);
    other.batch_execute("BEGIN IMMEDIATE").unwrap();
    // Longer than the daemon's busy time-out of five seconds: writes are not only late, they are refused.
    let (submitted, refused) = std::thread::scope(|scope| {
        let submit = || {
            let job = json!({ "kind": "command", "params": { "argv": ["true"] } });
            client.call("POST", "/api/v1/jobs", Some(&job)).expect("an answer, whichever")
        };
        let submitting: Vec<_> = (0..8).map(|_| scope.spawn(submit)).collect();
        std::fs::write(&release, "").unwrap();
        std::thread::sleep(std::time::Duration::from_secs(8));
        other.batch_execute("ROLLBACK").unwrap();
        let answers = submitting.into_iter().map(|thread| thread.join().unwrap());
        answers.partition::<Vec<_>, _>(|(status, _)| *status == 202)
    });
    assert!(refused.iter().all(|(status, _)| *status == 503), "{refused:?}");
    for (_, job) in &submitted {
        let job = client.reaches(job["id"].as_i64().unwrap(), "completed");
        assert_eq!(outcomes(&job), ["success"], "{job:#}");
    }
    // The program ended while nothing could be written. Its end was kept until it could.
    let job = client.reaches(running, "completed");
    assert_eq!(outcomes(&job), ["success"], "{job:#}");
    let again = client.submit("command", &json!({ "argv": ["true"] }));
    client.reaches(again, "completed");
    let patience = std::time::Duration::from_secs(30);
    let socket = house.data("sexton.sock");
    let metrics = ask_socket(&socket, patience, ("GET", "/metrics"), "", None).unwrap();
    let waits = metrics.body.lines().find_map(|line| line.strip_prefix("sexton_db_busy_total "));
    assert!(waits.unwrap().parse::<u64>().unwrap() >= 1, "{metrics:#?}");
    daemon.stop();
}

#[test]
fn c4_a_database_of_a_newer_version_is_refused_and_left_as_it_is() {
    let house = House::new();
    house.start().stop();
    database(&house)
        .batch_execute(
            "INSERT INTO __diesel_schema_migrations (version) VALUES ('9999'); \
             UPDATE meta SET value = '9999' WHERE key = 'oldest_usable_schema'",
        )
        .unwrap();
    let before = std::fs::read(house.data("sexton.db")).unwrap();
    let refused = house.sexton(&["serve"]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("9999"), "it names what it found: {said}");
    assert!(before == std::fs::read(house.data("sexton.db")).unwrap(), "nothing was written");
    let status = house.sexton(&["db", "status"]);
    assert!(!status.status.success() && text(&status).contains("9999"), "{}", text(&status));
}
