//! What works without a daemon.

use std::fs::File;

use serde_json::Value;

use crate::harness::daemon::{Daemon, Home, answer, items};

const GREET: &str = "[command]\nargv = [\"echo\", \"hello\"]\n";

#[test]
fn without_daemon_and_database_every_command_that_needs_them_says_so_with_five() {
    let home = Home::new();
    for arguments in [
        &["status"][..],
        &["jobs"],
        &["schedules"],
        &["reload"],
        &["submit", "command", "--params", "{\"argv\":[\"true\"]}"],
        &["run", "x"],
        &["cancel", "1"],
        &["events"],
    ] {
        let answer = home.cli(arguments).exits(5);
        assert!(answer.stderr.contains("sexton.sock"), "{arguments:?}: {answer:?}");
        assert_eq!(answer.stdout, "", "{arguments:?}");
    }
}

#[test]
fn reading_falls_back_to_the_database_and_says_so_while_changing_is_refused() {
    let mut daemon = Daemon::start(|home| home.schedule("greet", GREET));
    let job = daemon.cli(["run", "greet", "--wait", "--json"]).exits(0).json();
    daemon.terminate();
    for arguments in
        [&["jobs", "--json"][..], &["schedules", "--json"], &["why", "greet", "--json"]]
    {
        let answer = daemon.cli(arguments).exits(0);
        assert!(answer.stderr.contains("not running"), "{arguments:?}: {answer:?}");
        assert_eq!(items(&answer.json()).len(), 1, "{arguments:?}");
    }
    assert_eq!(daemon.job(job["id"].as_i64().unwrap())["state"], "completed");
    assert_eq!(daemon.cli(["logs", &job["id"].to_string()]).exits(0).stdout, "hello\n");
    assert_eq!(daemon.cli(["status", "--json"]).exits(5).json()["running"], false);
    daemon.cli(["nodes", "--json"]).exits(0);
    daemon.cli(["stats", "--json"]).exits(0);
    daemon.cli(["audit", "--json"]).exits(0);
    daemon.cli(["run", "greet"]).exits(5);
    daemon.cli(["pause", "greet"]).exits(5);
    daemon.cli(["job", "999"]).exits(4);
}

fn times(answer: &Value) -> Vec<&str> {
    answer["times"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|time| time.as_str().expect("a time"))
        .collect()
}

#[test]
fn next_shows_both_changes_of_daylight_saving_with_their_offsets() {
    let home = Home::new();
    let next = |rule: &[&str], from: &str| {
        let fixed =
            ["next", "--json", "--timezone", "Europe/Berlin", "--count", "3", "--from", from];
        home.cli(fixed.iter().chain(rule)).exits(0).json()
    };
    let spring = next(&["--cron", "30 2 * * *"], "2026-03-28T00:00:00Z");
    assert_eq!(spring["timezone"], "Europe/Berlin");
    assert_eq!(
        times(&spring),
        ["2026-03-28T02:30:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]
    );
    let autumn = next(&["--daily", "02:30"], "2026-10-24T12:00:00Z");
    assert_eq!(
        times(&autumn),
        ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00", "2026-10-27T02:30:00+01:00"]
    );
    let wildcard = next(&["--cron", "30 * * * *"], "2026-10-25T00:00:00Z");
    assert_eq!(
        times(&wildcard),
        ["2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00", "2026-10-25T03:30:00+01:00"]
    );
    home.cli(["next", "--cron", "61 * * * *"]).exits(2);
    home.cli(["next", "--every", "0s"]).exits(2);
    home.cli(["next", "--cron", "* * * * *", "--timezone", "Europe/Berlni"]).exits(2);
    home.cli(["next", "nosuch"]).exits(4);
    let never = home.cli(["next", "--cron", "0 0 31 2 *", "--json"]).exits(0).json();
    assert_eq!(times(&never), [""; 0]);
}

#[test]
fn explain_says_the_rule_in_a_sentence_and_warns_of_daylight_saving() {
    let home = Home::new();
    home.schedule(
        "night",
        "[when]\ndaily = \"02:30\"\ntimezone = \"Europe/Berlin\"\n[command]\nargv = [\"true\"]\n",
    );
    let explained = home.cli(["explain", "night", "--json"]).exits(0).json();
    assert!(explained["sentence"].as_str().unwrap().contains("02:30"), "{explained:#}");
    assert_eq!(explained["dst_warnings"].as_array().unwrap().len(), 2, "{explained:#}");
    assert!(explained["file"].as_str().unwrap().ends_with("night.toml"));
    let text = home.cli(["explain", "night"]).exits(0).stdout;
    assert!(text.contains("daylight saving:") && text.contains("night.toml:"), "{text}");
    let utc = home.cli(["explain", "--cron", "*/15 * * * *", "--json"]).exits(0).json();
    assert_eq!(utc["dst_warnings"].as_array().unwrap().len(), 0);
}

#[test]
fn validate_shows_all_errors_of_all_files_in_one_pass() {
    let home = Home::new();
    home.schedule("good", GREET);
    assert_eq!(home.cli(["validate", "--json"]).exits(0).json()["valid"], true);
    home.schedule("one", "colour = 1\n[when]\nevery = \"often\"\n[command]\nargv = [\"x\"]\n");
    home.schedule("two", "[when\n");
    home.schedule("three", "[when]\ncron = \"0 0 31 2 *\"\n[command]\nargv = [\"x\"]\n");
    let report = home.cli(["validate", "--json"]).exits(78).json();
    assert_eq!(report["valid"], false);
    assert_eq!(report["files"], 4);
    let places: Vec<String> = report["diagnostics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| {
            let file = found["file"].as_str().unwrap().rsplit('/').next().unwrap();
            format!(
                "{} {file}:{}:{}",
                found["severity"].as_str().unwrap(),
                found["line"],
                found["col"]
            )
        })
        .collect();
    assert!(places.contains(&"error one.toml:1:1".to_owned()), "{places:?}");
    assert!(places.contains(&"error one.toml:3:9".to_owned()), "{places:?}");
    assert!(places.iter().any(|place| place.starts_with("error two.toml:1:")), "{places:?}");
    assert!(places.contains(&"warning three.toml:2:8".to_owned()), "{places:?}");

    let one = home.path("schedules/three.toml").display().to_string();
    home.cli(["validate", &one]).exits(0);
    home.cli(["validate", &one, "--strict"]).exits(3);
    home.cli(["validate", "/no/such/directory"]).exits(78);
    let piped = |file: &str| {
        let stdin = File::open(home.schedule_file(file)).unwrap();
        answer(home.command(["validate", "-"]).stdin(stdin))
    };
    piped("good").exits(0);
    assert!(piped("one").exits(78).stderr.contains("stdin.toml:3:9"));
}

#[test]
fn config_show_tells_where_each_setting_came_from() {
    let home = Home::new();
    home.settings("# mine\n[workers]\ncount = 3\n");
    let list = home.cli(["config", "show", "--json"]).exits(0).json();
    let entry = |key: &str| items(&list).iter().find(|entry| entry["key"] == key).unwrap();
    assert_eq!(entry("workers.count")["value"], "3");
    let origin = entry("workers.count")["origin"].as_str().unwrap();
    assert!(origin.contains("sexton.toml:3:"), "{origin}");
    let origin = entry("data_dir")["origin"].as_str().unwrap();
    assert!(origin.contains("SEXTON_DATA_DIR"), "{origin}");
    assert_eq!(entry("log.keep")["origin"], "default");
}

#[test]
fn an_unknown_setting_is_named_and_stops_every_command_with_seventy_eight() {
    let home = Home::new();
    home.settings("[workers]\ncuont = 3\n");
    for command in ["serve", "status", "validate"] {
        let refused = home.cli([command]).exits(78);
        assert!(refused.stderr.contains("workers.cuont"), "{refused:?}");
        assert!(refused.stderr.contains("sexton.toml:2:1"), "{refused:?}");
    }
    home.settings("");
    let refused = answer(home.command(["status"]).env("SEXTON_LOG__LEVLE", "debug")).exits(78);
    assert!(refused.stderr.contains("SEXTON_LOG__LEVLE"), "{refused:?}");
}

#[test]
fn a_list_in_the_environment_is_separated_by_commas() {
    let home = Home::new();
    home.schedule("first", GREET);
    std::fs::create_dir(home.path("more")).unwrap();
    std::fs::write(home.path("more/second.toml"), GREET).unwrap();
    let dirs = format!("{},{}", home.path("schedules").display(), home.path("more").display());
    let report =
        answer(home.command(["validate", "--json"]).env("SEXTON_SCHEDULES__DIRS", dirs)).exits(0);
    assert_eq!(report.json()["schedules"], 2);
}

#[test]
fn a_database_is_backed_up_while_it_is_used_and_restored_when_it_is_not() {
    let mut daemon = Daemon::start(|home| home.schedule("greet", GREET));
    daemon.cli(["run", "greet", "--wait"]).exits(0);
    let backup = daemon.path("copy.db").display().to_string();
    daemon.cli(["db", "backup", &backup]).exits(0);
    daemon.cli(["db", "backup", &backup]).exits(1);
    daemon.cli(["run", "greet", "--wait"]).exits(0);
    let status = daemon.cli(["db", "status", "--json"]).exits(0).json();
    assert_eq!(status["schema"]["pending"].as_array().unwrap().len(), 0);
    assert_eq!(daemon.cli(["db", "check", "--json"]).exits(0).json()["sound"], true);
    daemon.cli(["db", "restore", &backup]).exits(75);
    daemon.terminate();
    daemon.cli(["db", "restore", &backup]).exits(0);
    let jobs = daemon.cli(["jobs", "--json"]).exits(0).json();
    assert_eq!(items(&jobs).len(), 1, "the copy was made before the second run");
    daemon.start_again();
    daemon.cli(["run", "greet", "--wait"]).exits(0);
    daemon.cli(["db", "check"]).exits(0);
}

#[test]
fn doctor_names_what_is_wrong_and_is_content_with_a_running_daemon() {
    let mut daemon = Daemon::start(|home| home.schedule("greet", GREET));
    let report = daemon.cli(["doctor", "--json"]).exits(0).json();
    assert_eq!(report["healthy"], true, "{report:#}");
    daemon.terminate();
    daemon.schedule("greet", "argv = 1\n");
    let log = daemon.path("data/log/audit.jsonl");
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::write(&log, text.replacen("daemon.started", "daemon.startled", 1)).unwrap();
    let report = daemon.cli(["doctor", "--json"]).exits(1).json();
    let wrong: Vec<&str> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["ok"] == false)
        .map(|check| check["check"].as_str().unwrap())
        .collect();
    assert_eq!(wrong, ["schedules", "audit log", "daemon"]);
}
