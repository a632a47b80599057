//! The disk under the database is full, over its limit, or broken.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use serde_json::{Value, json};

use super::crash::every_second_has_one_row;
use super::database::database;
use super::process::{
    Daemon, House, eventually, nothing_is_left_of, outcomes, processes_with, within,
};

/// The largest size that a file of the daemon may grow to from now on, as a quota or a full disk would have it for the database: its
/// other files are much smaller. `None`: whatever it likes.
fn limit_files(daemon: &Daemon, bytes: Option<u64>) {
    let pid = Pid::from_raw(i32::try_from(daemon.pid()).unwrap());
    let old = prlimit(pid, Resource::Fsize, Rlimit { current: bytes, maximum: None });
    old.expect("the limit of one's own process can be lowered and raised again");
}

/// Lets nothing more be added to the database.
fn fill_disk(house: &House, daemon: &Daemon) {
    let log = std::fs::metadata(house.data("sexton.db-wal")).unwrap().len();
    assert!(log > 100_000, "the log is shorter than other files of the daemon: {log}");
    limit_files(daemon, Some(log));
}

/// A program that says `began`, and ends when the file `go` is there, after a minute at the latest.
pub(super) fn until_told(house: &House, name: &str) -> Value {
    let [began, go, ended] = ["began", "go", "ended"]
        .map(|what| house.path(&format!("{name}-{what}")).display().to_string());
    json!({ "shell": format!(
        "touch {began}; n=0; until [ -e {go} ] || [ $n -gt 600 ]; do sleep 0.1; n=$((n+1)); done; touch {ended}"
    ) })
}

pub(super) fn wait_for(house: &House, file: &str) {
    eventually(file, || house.path(file).exists().then_some(()));
}

pub(super) fn submit_anything(house: &House) -> (u16, Value) {
    let job = json!({ "kind": "command", "params": { "argv": ["true"] } });
    house.client().call("POST", "/api/v1/jobs", Some(&job)).expect("it goes on answering")
}

/// How often the daemon has said something.
fn said(house: &House, what: &str) -> usize {
    std::fs::read_to_string(house.path("stderr.log")).unwrap().matches(what).count()
}

#[test]
fn b1_b7_on_a_full_disk_what_runs_ends_nothing_starts_and_everything_goes_on_by_itself() {
    let house = House::new().set("WORKERS__COUNT", "2");
    house.schedule("tick", "[when]\nevery = \"1s\"\n\n[command]\nargv = [\"true\"]\n");
    let daemon = house.start();
    let client = house.client();
    let running = client.submit("command", &until_told(&house, "running"));
    wait_for(&house, "running-began");
    let soon = jiff::Timestamp::now() + Duration::from_secs(3);
    let due = client.submit_with(&json!({
        "kind": "command", "params": until_told(&house, "due"), "run_at": soon.to_string(),
    }));

    fill_disk(&house, &daemon);
    let (status, answer) = eventually("a submission is refused", || {
        let answer = submit_anything(&house);
        (answer.0 != 202).then_some(answer)
    });
    assert_eq!((status, &answer["type"]), (507, &json!("storage")), "{answer:#}");
    let health = client.call("GET", "/healthz", None).unwrap();
    assert_eq!((health.0, &health.1["status"]), (503, &json!("failing")), "{health:?}");
    assert_eq!(client.call("GET", "/readyz", None).unwrap().0, 503);
    let status = client.get("/api/v1/status");
    assert_eq!(status["health"], "failing", "{status:#}");
    assert!(status["problems"].to_string().contains("cannot be written"), "{status:#}");

    std::fs::write(house.path("running-go"), "").unwrap();
    wait_for(&house, "running-ended");
    // Longer than until the other job is due, and than several rounds of everything that tries again.
    let until = soon + Duration::from_secs(3);
    within(Duration::from_secs(30), "time passes", || {
        (jiff::Timestamp::now() > until).then_some(())
    });
    assert!(!house.path("due-began").exists(), "a start that cannot be recorded is no start");
    assert_eq!(
        client.job(running)["state"],
        "running",
        "its end is not recorded, and not forgotten"
    );
    assert_eq!(
        said(&house, "nothing new is taken until it can"),
        1,
        "it says so once:\n{}",
        daemon.log()
    );
    for line in ["could not be recorded", "the store refuses", "could not be renewed"] {
        assert!(said(&house, line) <= 1, "{line}:\n{}", daemon.log());
    }

    limit_files(&daemon, None);
    let job = client.reaches(running, "completed");
    assert_eq!(outcomes(&job), ["success"], "{job:#}");
    wait_for(&house, "due-began");
    std::fs::write(house.path("due-go"), "").unwrap();
    let job = client.reaches(due, "completed");
    assert_eq!(outcomes(&job), ["success"], "{job:#}");
    eventually("it is well again", || {
        (client.get("/api/v1/status")["health"] == "ok").then_some(())
    });
    assert_eq!(client.call("GET", "/healthz", None).unwrap().0, 200);
    assert_eq!(submit_anything(&house).0, 202);
    eventually("instants are decided again", || {
        let rows = client.get("/api/v1/occurrences?schedule=tick&limit=1");
        let newest = rows["items"][0]["nominal_at"].as_str()?.parse::<jiff::Timestamp>().ok()?;
        (newest > until).then_some(())
    });
    every_second_has_one_row(&client);
    daemon.stop();
    let verified = house.sexton(&["audit", "verify"]);
    assert!(verified.status.success(), "{}", super::process::text(&verified));
}

#[test]
fn b1_a_full_disk_does_not_keep_the_daemon_from_stopping_and_costs_no_job() {
    let house = House::new().set("SHUTDOWN__GRACE", "1s");
    let mut daemon = house.start();
    let client = house.client();
    let running = client.submit("command", &until_told(&house, "running"));
    wait_for(&house, "running-began");
    fill_disk(&house, &daemon);
    std::fs::write(house.path("running-go"), "").unwrap();
    wait_for(&house, "running-ended");
    daemon.signal(Signal::TERM);
    let status = daemon.wait();
    assert!(status.success(), "{status}:\n{}", daemon.log());
    assert!(daemon.log().contains("run again at the next start"), "{}", daemon.log());

    let daemon = house.start();
    let job = house.client().reaches(running, "completed");
    assert_eq!(outcomes(&job), ["success"], "its keeper knew what it came to: {job:#}");
    daemon.stop();
}

/// Makes the database answer a write as it does when the disk fails.
fn break_disk(house: &House) {
    let sql = "CREATE TRIGGER broken BEFORE INSERT ON jobs BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END";
    database(house).batch_execute(sql).unwrap();
}

#[test]
fn b4_after_a_failed_write_the_daemon_stops_at_once_and_the_next_one_reads_what_is_there() {
    let house = House::new();
    let mut daemon = house.start();
    let client = house.client();
    let mark = format!("b4-{}", daemon.pid());
    let script = format!("[ $SEXTON_ATTEMPT = 2 ] || exec sleep 120; : {mark}");
    let running = client.submit(
        "command",
        &json!({
            "shell": script, "env": { "MARK": mark }, "on_restart": "kill",
        }),
    );
    eventually("its program runs", || (!processes_with(&mark).is_empty()).then_some(()));
    let before: Vec<i64> =
        (0..3).map(|_| client.submit("command", &json!({ "argv": ["true"] }))).collect();

    break_disk(&house);
    let job = json!({ "kind": "command", "params": { "argv": ["true"] } });
    let answer = client.call("POST", "/api/v1/jobs", Some(&job));
    assert!(answer.as_ref().is_none_or(|(status, _)| *status >= 500), "{answer:?}");
    let status = daemon.wait();
    assert_eq!(status.code(), Some(1), "{status}:\n{}", daemon.log());
    assert!(daemon.log().contains("the disk failed under the database"), "{}", daemon.log());
    eventually("its programs are gone", || processes_with(&mark).is_empty().then_some(()));

    database(&house).batch_execute("DROP TRIGGER broken").unwrap();
    let daemon = house.start();
    let client = house.client();
    for id in before {
        client.reaches(id, "completed");
    }
    let job = client.reaches(running, "completed");
    assert_eq!(outcomes(&job), ["interrupted", "success"], "{job:#}");
    nothing_is_left_of(&mark);
    assert_eq!(client.all("/api/v1/jobs").len(), 4, "what was refused is not there");
    daemon.stop();
}
