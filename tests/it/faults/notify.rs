//! What systemd hears: `NOTIFY_SOCKET` is a socket of the test.

use std::os::unix::net::UnixDatagram;

use rustix::process::Signal;
use serde_json::json;

use super::process::{House, PATIENCE};

struct Systemd(UnixDatagram);

impl Systemd {
    /// The next message with this line; those before it are given too, in order.
    fn hears(&self, word: &str) -> Vec<String> {
        self.hears_that(word, |line| line == word)
    }

    /// The next message with such a line.
    fn hears_that(&self, what: &str, is_it: impl Fn(&str) -> bool) -> Vec<String> {
        let mut heard = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let length = self.0.recv(&mut buffer).unwrap_or_else(|error| {
                panic!("no {what} within {PATIENCE:?} ({error}), but {heard:?}")
            });
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let is_last = message.lines().any(&is_it);
            heard.push(message);
            if is_last {
                return heard;
            }
        }
    }
}

fn under_systemd() -> (House, Systemd) {
    let house = House::new();
    let path = house.path("notify.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let house = house.env("NOTIFY_SOCKET", &path.to_string_lossy());
    (house, Systemd(socket))
}

#[test]
fn ready_is_said_when_the_socket_serves_and_stopping_on_term() {
    let (house, systemd) = under_systemd();
    let mut daemon = house.spawn();
    systemd.hears("READY=1");
    assert!(house.is_served_by(&daemon), "whoever waits for READY may ask at once");

    daemon.signal(Signal::HUP);
    let heard = systemd.hears("READY=1");
    let reloading = heard.iter().find(|message| message.contains("RELOADING=1"));
    let reloading = reloading.unwrap_or_else(|| panic!("READY without RELOADING: {heard:?}"));
    let stamp = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    assert!(stamp.is_some_and(|stamp| stamp.parse::<u64>().is_ok()), "{reloading}");

    daemon.signal(Signal::TERM);
    let heard = systemd.hears("STOPPING=1");
    assert!(!heard.iter().any(|message| message.contains("READY=1")), "{heard:?}");
    assert!(daemon.wait().success(), "{}", daemon.log());
}

#[test]
fn e3_the_status_names_the_broken_file_however_the_reload_came_about() {
    let (house, systemd) = under_systemd();
    let good = "[command]\nargv = [\"true\"]\n";
    let broken = format!("{good}argvv = 1\n");
    house.schedule("bell", good);
    let daemon = house.spawn();
    systemd.hears("READY=1");
    let complains = |line: &str| line.starts_with("STATUS=") && line.contains("bell.toml:3:1");
    let is_content = |line: &str| line.starts_with("STATUS=1 schedules") && !line.contains("bell");

    // The daemon sees the file itself.
    house.schedule("bell", &broken);
    systemd.hears_that("complaint", complains);
    house.schedule("bell", good);
    systemd.hears_that("all-clear", is_content);

    // Somebody asks for it.
    house.schedule("bell", &broken);
    let answer = house.client().call("POST", "/api/v1/reload", None);
    assert!(matches!(answer, Some((422, _))), "{answer:?}");
    systemd.hears_that("complaint", complains);
    house.schedule("bell", good);
    systemd.hears_that("all-clear", is_content);

    // SIGHUP, where READY comes all the same.
    house.schedule("bell", &broken);
    daemon.signal(Signal::HUP);
    let heard = systemd.hears("READY=1");
    assert!(heard.last().is_some_and(|last| last.lines().any(complains)), "{heard:?}");
    daemon.stop();
}

#[test]
fn the_watchdog_is_fed_where_it_is_wanted() {
    let (house, systemd) = under_systemd();
    let house = house.env("WATCHDOG_USEC", "1000000");
    let daemon = house.spawn();
    systemd.hears("READY=1");
    for _ in 0..3 {
        systemd.hears("WATCHDOG=1");
    }
    daemon.stop();
}

#[test]
fn g7_a_notify_socket_that_is_gone_or_never_read_stops_nothing() {
    let (house, systemd) = under_systemd();
    let daemon = house.start();
    // Its queue holds about ten messages; nobody reads them.
    for _ in 0..50 {
        daemon.signal(Signal::HUP);
        house.client().get("/api/v1/status");
    }
    drop(systemd);
    daemon.signal(Signal::HUP);
    let job = house.client().submit("command", &json!({ "argv": ["env"] }));
    let job = house.client().reaches(job, "completed");
    let output = job["attempts"][0]["output_tail"].as_str().unwrap_or_default();
    assert!(output.contains("SEXTON_JOB_ID="), "{output}");
    assert!(!output.contains("NOTIFY_SOCKET"), "jobs must not speak for the service: {output}");
    daemon.stop();
}
