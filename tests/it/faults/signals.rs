//! What can be sent to the daemon, and what it does about it.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::crash::every_second_has_one_row;
use super::process::{Daemon, House, eventually, nothing_is_left_of, outcomes, processes_with};

/// A job that runs until the file `go` is there, at most a minute.
fn until_told(house: &House) -> Value {
    let go = house.path("go").display().to_string();
    json!({ "shell": format!("n=0; until [ -e {go} ] || [ $n -gt 600 ]; do sleep 0.1; n=$((n+1)); done") })
}

fn is_draining(house: &House) -> Option<()> {
    match house.client().call("GET", "/readyz", None) {
        Some((503, _)) => Some(()),
        _ => None,
    }
}

/// Ends before the grace period, or any test's patience, would have been over.
fn ends_soon(daemon: &mut Daemon) {
    let began = Instant::now();
    let status = daemon.wait();
    assert!(status.success(), "{status}:\n{}", daemon.log());
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

#[test]
fn g1_after_a_clean_stop_everything_is_in_the_database_file() {
    let house = House::new();
    let daemon = house.start();
    let job = house.client().submit("command", &json!({ "argv": ["true"] }));
    house.client().reaches(job, "completed");
    assert!(house.data("sexton.db-wal").exists(), "while it runs there is a log");
    daemon.stop();
    // The last connection that closes moves the log into the file and removes it. A copy of the file is a backup then.
    assert!(!house.data("sexton.db-wal").exists());
}

#[test]
fn g1_term_lets_running_jobs_end_and_starts_no_others() {
    let house = House::new().set("SHUTDOWN__GRACE", "60s").set("WORKERS__COUNT", "4");
    let mut daemon = house.start();
    let client = house.client();
    let first = client.submit("command", &until_told(&house));
    client.reaches(first, "running");
    daemon.signal(Signal::TERM);
    eventually("it says that it is not ready", || is_draining(&house));
    // What is submitted now is kept for the next daemon or refused, and never lost in between.
    let late = client.call(
        "POST",
        "/api/v1/jobs",
        Some(&json!({ "kind": "command", "params": { "argv": ["true"] } })),
    );
    std::fs::write(house.path("go"), "").unwrap();
    ends_soon(&mut daemon);

    let daemon = house.start();
    let first = client.job(first);
    assert_eq!((&first["state"], outcomes(&first)), (&json!("completed"), vec!["success"]));
    if let Some((202, late)) = late {
        let late = client.reaches(late["id"].as_i64().unwrap(), "completed");
        assert_eq!(outcomes(&late), ["success"]);
        assert!(late["started_at"].as_str() > first["finished_at"].as_str(), "{late:#}");
    }
    daemon.stop();
}

#[test]
fn g1_a_job_that_outlasts_the_grace_period_is_given_back_uncharged_and_runs_again() {
    let house = House::new().set("SHUTDOWN__GRACE", "1s");
    let mut daemon = house.start();
    let mark = format!("outlasts-{}", daemon.pid());
    let script = "[ $SEXTON_ATTEMPT = 2 ] || sleep 120";
    let params = json!({ "shell": script, "env": { "MARK": mark } });
    let submission = json!({ "kind": "command", "params": params, "max_attempts": 1 });
    let job = house.client().submit_with(&submission);
    house.client().reaches(job, "running");
    eventually("its program runs", || (processes_with(&mark).len() == 2).then_some(()));
    daemon.signal(Signal::TERM);
    ends_soon(&mut daemon);
    nothing_is_left_of(&mark);

    let daemon = house.start();
    let job = house.client().reaches(job, "completed");
    assert_eq!(outcomes(&job), ["interrupted", "success"], "{job:#}");
    daemon.stop();
}

#[test]
fn g2_a_second_term_skips_the_wait() {
    let house = House::new().set("SHUTDOWN__GRACE", "10m");
    let mut daemon = house.start();
    let job = house.client().submit("command", &until_told(&house));
    house.client().reaches(job, "running");
    daemon.signal(Signal::TERM);
    eventually("it drains", || is_draining(&house));
    assert!(!daemon.has_ended());
    daemon.signal(Signal::INT);
    ends_soon(&mut daemon);

    std::fs::write(house.path("go"), "").unwrap();
    let daemon = house.start();
    let job = house.client().reaches(job, "completed");
    assert_eq!(outcomes(&job), ["interrupted", "success"], "{job:#}");
    daemon.stop();
}

#[test]
fn g3_term_at_any_moment_of_the_start_ends_it_and_the_next_start_works() {
    let house = House::new();
    for delay in [0, 5, 10, 20, 40, 80, 160] {
        let mut daemon = house.spawn();
        std::thread::sleep(Duration::from_millis(delay));
        daemon.signal(Signal::TERM);
        let status = daemon.wait();
        use std::os::unix::process::ExitStatusExt;
        let before_it_listened = status.signal() == Some(Signal::TERM.as_raw());
        assert!(status.success() || before_it_listened, "{status}:\n{}", daemon.log());
    }
    house.start().stop();
}

#[test]
fn g4_a_hundred_hups_are_survived_and_the_last_state_is_in_force() {
    let house = House::new();
    let command = "[command]\nargv = [\"true\"]\n";
    house.schedule("first", command);
    let daemon = house.start();
    for round in 0..100 {
        if round == 50 {
            house.schedule("second", command);
        }
        daemon.signal(Signal::HUP);
    }
    let ids = || -> Vec<Value> {
        let list = house.client().get("/api/v1/schedules");
        list["items"].as_array().unwrap().iter().map(|schedule| schedule["id"].clone()).collect()
    };
    eventually("the new schedule is there", || (ids() == ["first", "second"]).then_some(()));

    // A broken file: what ran goes on, and the service says so instead of going down.
    house.schedule("second", "[command\n");
    daemon.signal(Signal::HUP);
    let status = eventually("it complains", || {
        let status = house.client().get("/api/v1/status");
        (status["health"] == "degraded").then_some(status)
    });
    assert_eq!((&status["stale"], &status["schedules"]), (&json!(1), &json!(2)), "{status:#}");
    assert_eq!(status["pid"], daemon.pid());
    daemon.stop();
}

#[test]
fn g4_a_hup_while_stopping_changes_nothing() {
    let house = House::new().set("SHUTDOWN__GRACE", "60s");
    let mut daemon = house.start();
    let job = house.client().submit("command", &until_told(&house));
    house.client().reaches(job, "running");
    daemon.signal(Signal::TERM);
    eventually("it drains", || is_draining(&house));
    house.schedule("late", "[command]\nargv = [\"true\"]\n");
    for _ in 0..20 {
        daemon.signal(Signal::HUP);
    }
    assert!(!daemon.has_ended(), "{}", daemon.log());
    std::fs::write(house.path("go"), "").unwrap();
    ends_soon(&mut daemon);
    let daemon = house.start();
    assert_eq!(outcomes(&house.client().job(job)), ["success"]);
    daemon.stop();
}

#[test]
fn g8_a_daemon_that_was_frozen_for_longer_than_its_lease_goes_on_and_doubles_nothing() {
    let house = House::new().set("LEASE__DURATION", "1s").set("LEASE__HEARTBEAT", "200ms");
    house.schedule("tick", "[when]\nevery = \"1s\"\n\n[command]\nargv = [\"true\"]\n");
    let daemon = house.start();
    let client = house.client();
    let running = client.submit("command", &until_told(&house));
    client.reaches(running, "running");
    daemon.signal(Signal::STOP);
    // Its job goes on meanwhile, and ends.
    std::fs::write(house.path("go"), "").unwrap();
    std::thread::sleep(Duration::from_secs(5));
    let thawed = jiff::Timestamp::now();
    daemon.signal(Signal::CONT);

    let job = client.reaches(running, "completed");
    assert_eq!(outcomes(&job), ["success"], "{job:#}");
    eventually("instants after the thaw are decided", || {
        let rows = client.try_get("/api/v1/occurrences?schedule=tick&limit=1")?;
        let newest: jiff::Timestamp = rows["items"][0]["nominal_at"].as_str()?.parse().ok()?;
        (newest > thawed + Duration::from_secs(1)).then_some(())
    });
    every_second_has_one_row(&client);
    assert_eq!(client.get("/api/v1/status")["health"], "ok");
    daemon.stop();
}

#[test]
fn g6_quit_stops_like_term_and_pipe_does_nothing() {
    let house = House::new();
    let mut daemon = house.start();
    daemon.signal(Signal::PIPE);
    let job = house.client().submit("command", &json!({ "argv": ["true"] }));
    house.client().reaches(job, "completed");
    daemon.signal(Signal::QUIT);
    ends_soon(&mut daemon);
    assert!(!house.data("sexton.sock").exists(), "clients are told at once");
}

#[test]
fn g6_usr1_opens_the_log_again_after_it_was_moved_away() {
    let house = House::new();
    let daemon = house.start();
    let log = || -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(house.data("log")).unwrap();
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        let is_log = |path: &std::path::PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("sexton.log"))
        };
        paths.retain(is_log);
        paths
    };
    let [file] = log().try_into().unwrap();
    let moved = house.path("moved.log");
    std::fs::rename(&file, &moved).unwrap();
    daemon.signal(Signal::USR1);
    eventually("a new log has lines", || {
        let fresh = log().pop()?;
        (std::fs::metadata(fresh).ok()?.len() > 0).then_some(())
    });
    let length = std::fs::metadata(&moved).unwrap().len();
    daemon.signal(Signal::HUP);
    eventually("the reload is in the new log", || {
        std::fs::read_to_string(log().pop()?).ok()?.contains("SIGHUP").then_some(())
    });
    assert_eq!(std::fs::metadata(&moved).unwrap().len(), length, "the old one is left alone");
    daemon.stop();
}
