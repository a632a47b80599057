//! Schedule files that change under a running daemon, in all the ways in which files change.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::daemon::{Daemon, eventually, items};

fn says(word: &str) -> String {
    format!("[command]\nargv = [\"echo\", \"{word}\"]\n")
}

/// What the schedule `a` says in the daemon's memory.
fn word(daemon: &Daemon) -> Value {
    let answer = daemon.cli(["show", "a", "--json"]);
    if answer.code == 4 { Value::Null } else { answer.exits(0).json()["params"]["argv"][1].clone() }
}

#[track_caller]
fn eventually_says(daemon: &Daemon, expected: &str) {
    eventually(&format!("a says {expected}"), || (word(daemon) == expected).then_some(()));
}

/// The audit log's events about reloads, oldest first.
fn reloads(daemon: &Daemon) -> Vec<Value> {
    let list = daemon.cli(["audit", "--json", "--limit", "200"]).exits(0).json();
    let mut events: Vec<Value> =
        items(&list).iter().filter(|row| row["event"] == "schedules.reloaded").cloned().collect();
    events.reverse();
    events
}

fn never_removed(daemon: &Daemon) {
    for event in reloads(daemon) {
        assert_eq!(event["detail"]["diff"]["removed"], json!([]), "{event:#}");
    }
}

#[test]
fn h_a_file_written_in_place_and_one_renamed_over_are_loaded() {
    let daemon = Daemon::start(|home| home.schedule("a", &says("one")));
    assert_eq!(word(&daemon), "one");
    daemon.schedule("a", &says("two"));
    eventually_says(&daemon, "two");
    let temporary = daemon.path("schedules/.a.toml.tmp");
    for word in ["three", "four"] {
        fs::write(&temporary, says(word)).unwrap();
        fs::rename(&temporary, daemon.schedule_file("a")).unwrap();
        eventually_says(&daemon, word);
    }
    never_removed(&daemon);
}

#[test]
fn h_an_editor_that_moves_the_file_away_first_does_not_remove_the_schedule() {
    let daemon = Daemon::start(|home| home.schedule("a", &says("one")));
    let backup = daemon.path("schedules/a.toml~");
    for word in ["two", "three"] {
        fs::rename(daemon.schedule_file("a"), &backup).unwrap();
        daemon.schedule("a", &says(word));
        fs::remove_file(&backup).unwrap();
        eventually_says(&daemon, word);
    }
    never_removed(&daemon);
}

/// As Kubernetes publishes a ConfigMap: a folder for each version, `..data` points to one of them, the files point into it.
fn publish(schedules: &Path, version: &str, text: &str) {
    fs::create_dir(schedules.join(version)).expect("files can be made");
    fs::write(schedules.join(version).join("a.toml"), text).expect("files can be made");
    symlink(version, schedules.join("..data_tmp")).expect("files can be made");
    fs::rename(schedules.join("..data_tmp"), schedules.join("..data")).expect("files can be made");
}

#[test]
fn h_a_swapped_symlink_is_followed_time_after_time() {
    let daemon = Daemon::start(|home| {
        let schedules = home.path("schedules");
        publish(&schedules, "..v1", &says("one"));
        symlink("..data/a.toml", schedules.join("a.toml")).unwrap();
    });
    assert_eq!(word(&daemon), "one");
    for (version, word) in [("..v2", "two"), ("..v3", "three")] {
        publish(&daemon.path("schedules"), version, &says(word));
        eventually_says(&daemon, word);
    }
    never_removed(&daemon);
}

#[test]
fn h_a_directory_that_is_deleted_and_made_again_is_watched_again() {
    let daemon = Daemon::start(|home| home.schedule("a", &says("one")));
    for word in ["two", "three"] {
        fs::remove_dir_all(daemon.path("schedules")).unwrap();
        fs::create_dir(daemon.path("schedules")).unwrap();
        daemon.schedule("a", &says(word));
        eventually_says(&daemon, word);
    }
    daemon.schedule("a", &says("four"));
    eventually_says(&daemon, "four");
}

#[test]
fn h_a_directory_that_is_gone_takes_no_schedule_with_it() {
    let daemon = Daemon::start(|home| home.schedule("a", &says("one")));
    fs::rename(daemon.path("schedules"), daemon.path("elsewhere")).unwrap();
    daemon.cli(["reload"]).exits(78);
    assert_eq!(word(&daemon), "one");
    let status = daemon.cli(["status", "--json"]).exits(0).json();
    let directory = daemon.path("schedules").display().to_string();
    assert!(
        status["problems"][0].as_str().is_some_and(|why| why.contains(&directory)),
        "{status:#}"
    );
    fs::rename(daemon.path("elsewhere"), daemon.path("schedules")).unwrap();
    daemon.schedule("a", &says("two"));
    eventually_says(&daemon, "two");
}

#[test]
fn a_new_file_adds_a_schedule_and_a_deleted_one_takes_it_away_but_not_its_history() {
    let daemon = Daemon::start(|_| {});
    daemon.schedule("a", &says("one"));
    eventually_says(&daemon, "one");
    daemon.cli(["run", "a", "--wait"]).exits(0);
    fs::remove_file(daemon.schedule_file("a")).unwrap();
    eventually("a is gone", || (word(&daemon) == Value::Null).then_some(()));
    let ledger = daemon.cli(["why", "a", "--json"]).exits(0).json();
    assert_eq!(items(&ledger).len(), 1);
}

#[test]
fn reload_returns_when_the_new_definition_is_in_force_and_prints_what_changed() {
    let daemon = Daemon::start(|home| home.schedule("a", &says("0")));
    let mut version = 0;
    // The watcher may be faster, and then there is nothing left to print; that is a matter of milliseconds.
    let printed = eventually("reload itself sees the change", || {
        version += 1;
        daemon.schedule("a", &says(&version.to_string()));
        let reload = daemon.cli(["reload"]).exits(0);
        assert_eq!(word(&daemon), version.to_string());
        reload.stdout.contains("~ a").then_some(reload.stdout)
    });
    assert!(printed.contains("command.argv"), "{printed}");
    assert!(printed.contains(&format!("\"{}\"", version - 1)), "{printed}");
    let again = daemon.cli(["reload", "--json"]).exits(0).json();
    assert_eq!(again["ok"], true);
    assert_eq!(again["changed"], false);
}

#[test]
fn sighup_reloads_and_the_daemon_goes_on() {
    let daemon = Daemon::start(|home| home.schedule("a", &says("one")));
    daemon.schedule("a", &says("two"));
    daemon.signal(Signal::HUP);
    eventually_says(&daemon, "two");
    eventually("the log tells of it", || {
        daemon.output().contains("reloaded on SIGHUP").then_some(())
    });
    daemon.cli(["status"]).exits(0);
}

#[test]
fn h_a_broken_file_keeps_its_last_good_definition_running_and_says_where_it_is_broken() {
    let daemon = Daemon::start(|home| {
        home.schedule("a", &says("one"));
        home.schedule("b", &says("other"));
    });
    daemon.schedule("a", "[command]\nargv = [\"echo\", \"two\"]\n\n  argvv = 3\n");
    daemon.schedule("b", &says("changed"));
    let failed = daemon.cli(["reload"]).exits(78);
    assert!(failed.stderr.contains("a.toml:4:3"), "{failed:?}");
    let list = daemon.cli(["schedules", "--json"]).exits(0).json();
    let [a, b] = &items(&list)[..] else { panic!("{list:#}") };
    assert_eq!(a["stale"], true);
    assert!(a["error"].as_str().unwrap().contains("a.toml:4:3"), "{a:#}");
    assert_eq!(b["stale"], false);
    assert_eq!(daemon.cli(["show", "b", "--json"]).json()["params"]["argv"][1], "changed");
    let job = daemon.cli(["run", "a", "--wait", "--json"]).exits(0).json();
    assert_eq!(job["params"]["argv"][1], "one");
    let status = daemon.cli(["status", "--json"]).exits(0).json();
    assert_eq!(status["stale"], 1);

    daemon.schedule("a", &says("three"));
    eventually_says(&daemon, "three");
    let list = daemon.cli(["schedules", "--json"]).exits(0).json();
    assert_eq!(items(&list)[0]["stale"], false);
    assert_eq!(items(&list)[0]["error"], Value::Null);
}

#[test]
fn h_a_thousand_changed_files_arrive_as_one_reload() {
    const FILES: usize = 1000;
    let daemon = Daemon::start(|home| {
        (0..FILES).for_each(|n| home.schedule(&format!("s{n}"), &says("one")));
    });
    fs::create_dir(daemon.path("next")).unwrap();
    let name = |n: usize| format!("s{n}.toml");
    (0..FILES).for_each(|n| fs::write(daemon.path("next").join(name(n)), says("two")).unwrap());
    for n in 0..FILES {
        fs::rename(daemon.path("next").join(name(n)), daemon.path("schedules").join(name(n)))
            .unwrap();
    }
    let events = eventually("the reload is recorded", || {
        let events = reloads(&daemon);
        (!events.is_empty()).then_some(events)
    });
    let sizes: Vec<usize> = events
        .iter()
        .map(|event| event["detail"]["diff"]["changed"].as_array().map_or(0, Vec::len))
        .collect();
    assert_eq!(sizes, [FILES]);
}

#[test]
fn h_a_directory_that_is_a_symlink_may_be_pointed_elsewhere() {
    let daemon = Daemon::start(|home| {
        fs::remove_dir(home.path("schedules")).unwrap();
        for word in ["one", "two", "three"] {
            fs::create_dir(home.path(word)).unwrap();
            fs::write(home.path(word).join("a.toml"), says(word)).unwrap();
        }
        symlink("one", home.path("schedules")).unwrap();
    });
    assert_eq!(word(&daemon), "one");
    for word in ["two", "three"] {
        symlink(word, daemon.path("new")).unwrap();
        fs::rename(daemon.path("new"), daemon.path("schedules")).unwrap();
        eventually_says(&daemon, word);
    }
    never_removed(&daemon);
}
