//! Queues: what is set for them in files and while the daemon runs.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::daemon::{Daemon, Home, eventually, items};
use crate::harness::http::call;

fn mail(daemon: &Daemon) -> Value {
    let list = daemon.cli(["queues", "--json"]).exits(0).json();
    items(&list).iter().find(|queue| queue["name"] == "mail").expect("the queue").clone()
}

fn to_mail(daemon: &Daemon) -> i64 {
    daemon.submit("true", &["--queue", "mail"])["id"].as_i64().expect("an id")
}

#[test]
fn a_queues_settings_are_changed_while_the_daemon_runs_and_outlive_it() {
    let mut home = Home::new();
    home.variable("SEXTON_QUEUES__MAIL__WORKERS", PathBuf::from("4"));
    let mut daemon = Daemon::start_in(home);
    let set = ["queues", "set", "mail", "--rate", "1/d burst 2", "--timeout", "5m"];
    daemon.cli(set).exits(0);
    let jobs: Vec<i64> = (0..3).map(|_| to_mail(&daemon)).collect();
    daemon.job_in(jobs[1], "completed");
    let expected = json!({ "workers": "file", "rate": "set", "timeout": "set" });
    let before = mail(&daemon);
    assert_eq!(before["origins"], expected);
    assert_eq!(before["workers"], 4);
    assert_eq!(before["rate"], "1/d burst 2");
    assert_eq!(before["timeout"], "5m");
    assert_eq!(before["ready"], 1);
    assert!(before["held_until"].is_string(), "{before:#}");
    let shown = daemon.cli(["queues"]).exits(0).stdout;
    assert!(shown.contains("waits for its rate until"), "{shown}");
    let limit = daemon.cli(["limits", "--json"]).exits(0).json();
    assert_eq!(items(&limit)[0]["name"], "queue:mail");
    assert_eq!(items(&limit)[0]["rate"], "1/d burst 2");

    daemon.kill();
    let down = daemon.cli(["queues", "--json"]).exits(0);
    assert!(down.stdout.contains("1/d burst 2"), "{down:?}");
    daemon.start_again();
    let other = daemon.submit("true", &[])["id"].as_i64().expect("an id");
    daemon.job_in(other, "completed");
    let after = mail(&daemon);
    assert_eq!((&after["rate"], &after["ready"]), (&before["rate"], &before["ready"]));
    assert_eq!(daemon.job(jobs[2])["state"], "pending");

    daemon.cli(["queues", "set", "mail", "--unset", "rate", "--workers", "1"]).exits(0);
    daemon.job_in(jobs[2], "completed");
    let last = mail(&daemon);
    assert_eq!(last["origins"], json!({ "workers": "set", "rate": null, "timeout": "set" }));
    // Again is nothing new, and not audited.
    daemon.cli(["queues", "set", "mail", "--workers", "1"]).exits(0);
    daemon.cli(["queues", "set", "mail", "--unset", "workers", "--unset", "timeout"]).exits(0);
    eventually("all changes are in the audit log", || {
        let told = daemon.cli(["audit", "--json"]).exits(0).json();
        let sets: Vec<&Value> =
            items(&told).iter().filter(|line| line["event"] == "queue.set").collect();
        let [last, second, first] = sets[..] else { return None };
        assert_eq!(first["detail"], json!({ "rate": "1/d burst 2", "timeout": "5m" }));
        assert_eq!(second["detail"], json!({ "rate": null, "workers": 1 }));
        assert_eq!(last["detail"], json!({ "workers": null, "timeout": null }));
        Some(())
    });
}

#[test]
fn a_limit_is_bounded_alike_wherever_it_is_written() {
    let daemon = Daemon::start(|_| {});
    let body = |max: u32| json!({ "kind": "command", "params": { "argv": ["true"] }, "concurrency": { "key": "z", "max": max } });
    for max in [1_000_001, u32::MAX] {
        let refused = daemon.cli(["limits", "set", "key:z", &max.to_string()]).exits(2);
        assert!(refused.stderr.contains("from 0 to 1000000"), "{}", refused.stderr);
        let refused = daemon.post("/api/v1/jobs", &body(max));
        assert_eq!(refused["errors"][0]["pointer"], "/concurrency", "{refused:#}");
        assert_eq!(refused["errors"][0]["detail"], "max must be from 1 to 1000000");
    }
    let list = daemon.cli(["limits", "--json"]).exits(0).json();
    assert_eq!(items(&list).len(), 0, "{list:#}");
    daemon.cli(["limits", "set", "key:z", "1000000"]).exits(0);
    let accepted = daemon.post("/api/v1/jobs", &body(1_000_000));
    daemon.job_in(accepted["id"].as_i64().expect("an id"), "completed");
}

#[test]
fn a_setting_of_a_queue_that_cannot_be_meant_is_refused_and_changes_nothing() {
    let daemon = Daemon::start(|_| {});
    for (arguments, why) in [
        (&["queues", "set", "mail"][..], "--rate"),
        (&["queues", "set", "mail", "--rate", "often"], "it has no `/`"),
        (&["queues", "set", "mail", "--rate", "5/parsec"], "after the `/` stands a length of time"),
        (&["queues", "set", "mail", "--rate", "0/m"], "a pause"),
        (&["queues", "set", "mail", "--rate", "1/s", "--unset", "rate"], "contradict"),
        (&["queues", "set", "mail", "--workers", "0"], "--workers"),
        (&["queues", "set", "mail", "--timeout", "0s"], "/timeout"),
        (&["queues", "set", "mail", "--unset", "name"], "--unset"),
        (&["queues", "set", "Big Mail", "--workers", "1"], "a queue's name"),
        (&["limits", "set", "queue:mail", "--rate", "1/s"], "sexton queues set mail --rate '1/s'"),
        (&["limits", "set", "key:host"], "--rate"),
    ] {
        let refused = daemon.cli(arguments).exits(2);
        assert!(refused.stderr.contains(why), "{arguments:?}: {}", refused.stderr);
    }
    let socket = daemon.path("data/sexton.sock");
    let patch = |body: Value| {
        let asked = ("PATCH", "/api/v1/queues/mail");
        call(&socket, Duration::from_secs(30), asked, Some(&body)).expect("an answer")
    };
    for (body, place) in [
        (json!({ "rate": "5/x" }), "/rate"),
        (json!({ "rate": 5 }), "/rate"),
        (json!({ "workers": 0 }), "/workers"),
        (json!({ "workers": 70_000 }), "/workers"),
        (json!({ "timeout": "0s" }), "/timeout"),
        (json!({ "burst": 1 }), "/burst"),
    ] {
        let (status, problem) = patch(body.clone());
        assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!(place)), "{body}");
    }
    assert_eq!(patch(json!({})).0, 400);
    let list = daemon.cli(["queues", "--json"]).exits(0).json();
    assert!(items(&list).iter().all(|queue| queue["name"] != "mail"), "{list:#}");
}

#[test]
fn a_queues_timeout_holds_for_the_jobs_of_schedules_that_do_not_say() {
    let daemon = Daemon::start(|home| {
        home.schedule("lasts", "[run]\nqueue = \"mail\"\n[command]\nargv = [\"sleep\", \"600\"]\n");
    });
    daemon.cli(["queues", "set", "mail", "--timeout", "200ms"]).exits(0);
    let made = daemon.cli(["run", "lasts", "--json"]).exits(0).json();
    eventually("the attempt is stopped", || {
        let job = daemon.job(made["job_id"].as_i64().expect("an id"));
        (job["attempts"][0]["outcome"] == "timeout").then_some(())
    });
}

#[test]
fn a_keys_rate_is_set_while_the_daemon_runs() {
    let daemon = Daemon::start(|_| {});
    daemon.cli(["limits", "set", "key:host", "--rate", "1/d"]).exits(0);
    let of_host = || {
        let job = daemon.submit("true", &["--concurrency", "host=5"]);
        job["id"].as_i64().expect("an id")
    };
    let (first, second) = (of_host(), of_host());
    daemon.job_in(first, "completed");
    let other = daemon.submit("true", &[])["id"].as_i64().expect("an id");
    daemon.job_in(other, "completed");
    assert_eq!(daemon.job(second)["state"], "pending");
    daemon.cli(["limits", "set", "key:host", "3"]).exits(0);
    let list = daemon.cli(["limits", "--json"]).exits(0).json();
    assert_eq!(items(&list)[0]["max"], 3);
    assert_eq!(items(&list)[0]["rate"], "1/d", "what is not given stays");
    daemon.cli(["limits", "unset", "key:host"]).exits(0);
    daemon.job_in(second, "completed");
}

#[test]
fn where_there_is_nothing_to_take_back_that_is_said() {
    let daemon = Daemon::start(|_| {});
    let taken_back = |order: &[&str]| daemon.cli(order).exits(0).stderr;
    let resume = ["queues", "resume", "mail"];
    assert_eq!(taken_back(&resume), "queue `mail` was not paused\n");
    daemon.cli(["queues", "pause", "mail"]).exits(0);
    assert_eq!(taken_back(&resume), "");
    let unset = ["limits", "unset", "key:host"];
    let nothing = "nothing was set for `key:host` with `sexton limits`\n";
    assert_eq!(taken_back(&unset), nothing);
    daemon.cli(["limits", "set", "key:host", "2"]).exits(0);
    assert_eq!(taken_back(&unset), "");
    // What is set for a queue is no limit that could be unset.
    daemon.cli(["queues", "set", "mail", "--rate", "9/m"]).exits(0);
    assert!(taken_back(&["limits", "unset", "queue:mail"]).contains("nothing was set"));
}
