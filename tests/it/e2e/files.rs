//! What is in files and changes while the daemon runs: schedules of running jobs, environments, time zones.

use std::fs;

use crate::harness::daemon::{Daemon, Home, eventually, items};

fn has(daemon: &Daemon, id: &str) -> bool {
    let list = daemon.cli(["schedules", "--json"]).exits(0).json();
    items(&list).iter().any(|schedule| schedule["id"] == id)
}

fn runs(daemon: &Daemon, id: &str) -> usize {
    daemon.ledger(id).iter().filter(|row| row["decision"] == "enqueued").count()
}

#[test]
fn e13_an_edit_that_takes_away_a_running_jobs_schedule_lets_it_end_and_makes_no_other() {
    let every = "[when]\nevery = \"1s\"\n[run]\noverlap = \"allow\"\n";
    let daemon = Daemon::start(|home| {
        let gate = home.gate("gate");
        home.schedule("a", &format!("{every}[command]\nshell = \"\"\"{gate}\"\"\"\n"));
        home.schedule("other", &format!("{every}[command]\nargv = [\"true\"]\n"));
    });
    let job = daemon.decided("a", "enqueued")["job_id"].as_i64().unwrap();
    daemon.job_in(job, "running");
    fs::remove_file(daemon.schedule_file("a")).unwrap();
    eventually("the schedule is gone", || (!has(&daemon, "a")).then_some(()));
    let made = daemon.ledger("a").len();
    daemon.open("gate");
    let job = daemon.job_in(job, "completed");
    assert_eq!(job["schedule"], "a");
    assert_eq!(job["attempts"][0]["outcome"], "success");
    // Two instants of the other one are two that the deleted one no longer has.
    let before = runs(&daemon, "other");
    eventually("time passes", || (runs(&daemon, "other") >= before + 2).then_some(()));
    assert_eq!(daemon.ledger("a").len(), made);
}

#[test]
fn e16_an_environment_has_its_limits_and_is_never_the_daemons() {
    let big = "x".repeat(100_000);
    let daemon = Daemon::start(|home| {
        let seen = home.path("seen");
        home.schedule(
            "big",
            &format!(
                "[command]\nshell = \"\"\"printf %s \"$BIG\" | wc -c > '{0}'; echo \"$LD_PRELOAD\" >> '{0}'\"\"\"\n\
                 [command.env]\nBIG = \"{big}\"\nLD_PRELOAD = \"/nowhere/evil.so\"\nPATH = \"/usr/bin:/bin\"\n",
                seen.display()
            ),
        );
    });
    daemon.cli(["run", "big", "--wait"]).exits(0);
    let seen = fs::read_to_string(daemon.path("seen")).unwrap();
    assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), ["100000", "/nowhere/evil.so"]);
    let own = fs::read(format!("/proc/{}/environ", daemon.pid())).unwrap();
    let own = String::from_utf8_lossy(&own);
    assert!(!own.contains("evil.so") && !own.contains("BIG="), "{own}");

    let long = "x".repeat(200_000);
    daemon.schedule(
        "bad",
        &format!(
            "[command]\nargv = [\"true\"]\n[command.env]\n\"A=B\" = \"x\"\nLONG = \"{long}\"\n"
        ),
    );
    let refused = daemon.cli(["reload"]).exits(78).stderr;
    for (place, why) in
        [("bad.toml:4:9", "cannot be a variable's name"), ("bad.toml:5:8", "128 KiB")]
    {
        assert!(refused.contains(place) && refused.contains(why), "{place}: {refused}");
    }
    assert!(has(&daemon, "big") && !has(&daemon, "bad"));
}

/// A zone that is that many hours east of UTC all year, as a file of the zone database.
fn zone(hours: u8) -> Vec<u8> {
    let name = format!("+{hours:02}\0");
    let header = {
        let mut header = b"TZif2".to_vec();
        header.extend([0; 15]);
        // No indicators, leap seconds or transitions; one type; its name.
        for count in [0, 0, 0, 0, 1, u32::try_from(name.len()).unwrap()] {
            header.extend(count.to_be_bytes());
        }
        header.extend((i32::from(hours) * 3600).to_be_bytes());
        header.extend([0, 0]);
        header.extend(name.as_bytes());
        header
    };
    // The same in 32 and in 64 bits, then the rule for all time to come.
    [&header[..], &header[..], format!("\n<+{hours:02}>-{hours}\n").as_bytes()].concat()
}

#[test]
fn d8_new_rules_of_a_time_zone_are_in_force_after_a_reload() {
    let mut home = Home::new();
    let zones = home.path("zones");
    fs::create_dir_all(zones.join("Test")).unwrap();
    fs::write(zones.join("Test/Place"), zone(1)).unwrap();
    home.variable("TZDIR", zones.clone());
    let noon = |zone: &str| {
        format!("[when]\ndaily = \"12:00\"\ntimezone = \"{zone}\"\n[command]\nargv = [\"true\"]\n")
    };
    home.schedule("a", &noon("Test/Place"));
    home.schedule("b", &noon("Test/Place"));
    let daemon = Daemon::start_in(home);
    let next = |id: &str| {
        let shown = daemon.cli(["show", id, "--json"]).exits(0).json();
        shown["next"].as_str().unwrap().split_once('T').unwrap().1.to_owned()
    };
    assert_eq!(next("a"), "11:00:00.000000Z");

    // As package managers do it: another file of that name.
    fs::write(zones.join("new"), zone(3)).unwrap();
    fs::rename(zones.join("new"), zones.join("Test/Place")).unwrap();
    let reload = daemon.cli(["reload"]).exits(0);
    assert!(reload.stdout.contains("Test/Place by newer rules"), "{reload:?}");
    assert_eq!(next("a"), "09:00:00.000000Z");
    let again = daemon.cli(["reload", "--json"]).exits(0).json();
    assert_eq!(again["changed"], false, "{again:#}");

    // A zone that is not known is the error of the file that names it.
    daemon.schedule("b", &noon("Test/Gone"));
    let refused = daemon.cli(["reload"]).exits(78).stderr;
    assert!(refused.contains("b.toml:3:12") && refused.contains("Test/Gone"), "{refused}");
    fs::write(zones.join("new"), zone(4)).unwrap();
    fs::rename(zones.join("new"), zones.join("Test/Place")).unwrap();
    daemon.cli(["reload"]).exits(78);
    assert_eq!(
        (next("a"), next("b")),
        ("08:00:00.000000Z".to_owned(), "09:00:00.000000Z".to_owned())
    );
}
