//! Dead letters and bulk changes, from the command line to the audit log.

use serde_json::{Value, json};

use crate::harness::daemon::{Daemon, eventually, items};

fn id(job: &Value) -> i64 {
    job["id"].as_i64().unwrap_or_else(|| panic!("no job: {job}"))
}

/// A dead letter.
fn failed(daemon: &Daemon, more: &[&str]) -> i64 {
    let job = daemon.submit("echo so; exit 3", &[&["--max-attempts", "1"], more].concat());
    daemon.job_in(id(&job), "failed");
    id(&job)
}

#[test]
fn i4_a_dead_letter_is_listed_with_why_and_done_again_with_other_params() {
    let daemon = Daemon::start(|_| {});
    let dead = failed(&daemon, &["--label", "order=7"]);
    let number = dead.to_string();
    let list = daemon.cli(["jobs", "--state", "failed"]).exits(0);
    assert!(list.stdout.contains("exited with code 3"), "{}", list.stdout);

    let wrong = daemon.cli(["retry", &number, "--params", "{\"shel\": \"true\"}"]).exits(2);
    assert!(wrong.stderr.contains("/params"), "{}", wrong.stderr);
    daemon.cli(["retry", &number, "--params", "{"]).exits(2);
    daemon.cli(["retry", "--state", "failed", "--params", "{\"shell\": \"true\"}"]).exits(2);
    daemon.cli(["retry", "999", "--params", "{\"shell\": \"true\"}"]).exits(4);

    let touched = daemon.cli(["retry", &number, "--params", "{\"shell\": \"true\"}", "--json"]);
    let touched = touched.exits(0).json();
    let new = items(&touched)[0]["replaced_by"].as_i64().expect("the job that does it");
    let job = daemon.job_in(new, "completed");
    assert_eq!((&job["retry_of"], &job["labels"]["order"]), (&json!(dead), &json!("7")));
    assert_eq!(daemon.job(dead)["replaced_by"], new);
    daemon.cli(["retry", &number]).exits(1);
    let list = daemon.cli(["jobs", "--state", "failed"]).exits(0);
    assert!(list.stdout.contains(&format!("done again as job {new}")), "{}", list.stdout);
    // Nothing is left to retry, and running jobs cannot be given other params.
    let none = daemon.cli(["retry", "--state", "failed", "--dry-run"]).exits(0);
    assert!(none.stdout.contains("0 jobs"), "{}", none.stdout);
    let running = daemon.submit(&daemon.gate("end"), &[]);
    daemon.job_in(id(&running), "running");
    daemon.cli(["retry", &id(&running).to_string(), "--params", "{\"shell\": \"true\"}"]).exits(1);
    let line = eventually("the audit log tells who did it", || {
        let told = daemon.cli(["audit", "--json"]).exits(0).json();
        items(&told).iter().find(|line| line["event"] == "job.retried").cloned()
    });
    assert_eq!(line["detail"], json!({"replaced_by": new, "changed_params": ["shell"]}));
    assert!(line["actor"].as_str().is_some_and(|actor| actor.starts_with("local:")), "{line}");
}

#[test]
fn dead_letters_are_dropped_with_their_logs_and_what_lives_is_not() {
    let daemon = Daemon::start(|_| {});
    // Prints so much that it has a log of its own.
    let params = json!({"shell": "seq 5000; exit 1"}).to_string();
    let submit = ["submit", "command", "--max-attempts", "1", "--json", "--params", &params];
    let long = id(&daemon.cli(submit).exits(0).json());
    daemon.job_in(long, "failed");
    let log = daemon.path(format!("data/runs/0/{long}-1.log"));
    assert!(log.exists());
    let waiting = id(&daemon.submit("true", &["--at", "1h"]));
    let refused = daemon.cli(["drop", &waiting.to_string()]).exits(1);
    assert!(refused.stdout.contains("only jobs that are over can be dropped"), "{refused:?}");
    daemon.cli(["drop", &long.to_string()]).exits(0);
    daemon.cli(["job", &long.to_string()]).exits(4);
    assert!(!log.exists());
    daemon.cli(["drop", &long.to_string()]).exits(4);

    let dead: Vec<i64> = (0..3).map(|_| failed(&daemon, &[])).collect();
    let refused = daemon.cli(["drop", "--state", "failed"]).exits(6);
    assert!(refused.stderr.contains("delete for good 3 jobs"), "{}", refused.stderr);
    for id in &dead {
        let is_row = |line: &str| line.trim_start().starts_with(&format!("{id} "));
        assert!(refused.stdout.lines().any(is_row), "{id} is not shown: {}", refused.stdout);
    }
    let refused = daemon.cli(["drop", "--state", "failed", "--json"]).exits(6);
    assert_eq!(refused.stdout, "", "no table where JSON is asked for");
    let kept = dead[2].to_string();
    daemon.cli(["retry", &kept, "--params", &daemon_gate(&daemon)]).exits(0);
    daemon.cli(["drop", "--state", "failed", "--yes"]).exits(0);
    let left = daemon.cli(["jobs", "--state", "failed", "--json"]).exits(0).json();
    assert_eq!(items(&left).len(), 0);
    let told = eventually("each is in the audit log", || {
        let told = daemon.cli(["audit", "--json"]).exits(0).json();
        let dropped = items(&told).iter().filter(|line| line["event"] == "job.dropped");
        let dropped: Vec<Value> = dropped.cloned().collect();
        (dropped.len() == 4).then_some(dropped)
    });
    assert!(told.iter().all(|line| line["detail"]["kind"] == "command"), "{told:#?}");
}

fn daemon_gate(daemon: &Daemon) -> String {
    json!({ "shell": daemon.gate("end") }).to_string()
}

#[test]
fn waiting_jobs_are_given_another_priority_and_running_ones_keep_theirs() {
    let daemon = Daemon::start(|home| home.settings("[workers]\ncount = 1\n"));
    let running = id(&daemon.submit(&daemon.gate("end"), &[]));
    daemon.job_in(running, "running");
    let order = daemon.path("order");
    let echo = |word: &str| format!("echo {word} $SEXTON_PRIORITY >> '{}'", order.display());
    let ids: Vec<i64> =
        ["a", "b", "c"].iter().map(|word| id(&daemon.submit(&echo(word), &[]))).collect();
    let kept = daemon.cli(["reprioritise", &running.to_string(), "--priority", "high"]).exits(1);
    assert!(kept.stdout.contains("a running one keeps its own"), "{kept:?}");
    daemon.cli(["reprioritise", &ids[2].to_string(), "--priority", "critical"]).exits(0);
    daemon.cli(["reprioritise", &ids[0].to_string(), "--priority", "11"]).exits(2);
    daemon.cli(["reprioritise", "--state", "pending", "--priority", "1"]).exits(6);
    let first = ids[0].to_string();
    daemon.cli(["reprioritise", &first, "--priority", "low"]).exits(0);
    let shown = daemon.job(ids[0]);
    assert_eq!((&shown["priority"], &shown["submitted_priority"]), (&json!(2), &json!(5)));
    daemon.open("end");
    ids.iter().for_each(|id| drop(daemon.job_in(*id, "completed")));
    assert_eq!(std::fs::read_to_string(order).unwrap(), "c 10\nb 5\na 2\n");
}

#[test]
fn thousands_of_jobs_are_changed_in_steps_and_none_that_was_not_shown() {
    let daemon = Daemon::start(|_| {});
    let job = json!({
        "kind": "command", "params": {"argv": ["true"]}, "queue": "held", "labels": {"batch": "big"},
    });
    daemon
        .cli([
            "submit",
            "command",
            "--params",
            "{\"argv\":[\"true\"]}",
            "--queue",
            "held",
            "--wait",
        ])
        .exits(0);
    daemon.cli(["queues", "pause", "held"]).exits(0);
    let many: Vec<&Value> = std::iter::repeat_n(&job, 2500).collect();
    daemon.post("/api/v1/jobs", &json!(many));
    let filter = ["--label", "batch=big", "--yes"];
    let told = |verb: &[&str]| {
        let answer = daemon.cli(verb.iter().chain(&filter)).exits(0);
        assert!(answer.stdout.contains("2500 jobs done, 0 left alone"), "{answer:?}");
    };
    told(&["reprioritise", "--priority", "9"]);
    told(&["cancel"]);
    told(&["retry"]);
    let chosen = json!({"labels": ["batch=big"], "state": "pending", "dry_run": true});
    let chosen = daemon.post("/api/v1/jobs/cancel", &chosen);
    assert_eq!(
        (&chosen["count"], chosen["sample"].as_array().map(Vec::len)),
        (&json!(2500), Some(10))
    );
    assert_eq!(chosen["sample"][0]["priority"], 9, "a retry keeps the priority");
    told(&["cancel"]);
    told(&["drop"]);
    let left = daemon.cli(["jobs", "--json"]).exits(0).json();
    assert_eq!(items(&left).len(), 1);
    // By number or by filter, and never everything because nothing was said.
    for body in [
        json!({}),
        json!({"ids": [1], "kind": "command"}),
        json!({"state": "failed", "priority": 3}),
        json!({"since": "yesterday"}),
    ] {
        let problem = daemon.post("/api/v1/jobs/drop", &body);
        assert_eq!(problem["status"], 400, "{body}: {problem}");
    }
    // A look that has found nothing, sent back.
    let none = daemon.post("/api/v1/jobs/drop", &json!({"ids": [], "state": "completed"}));
    assert_eq!(none["count"], 0, "{none}");
    let left = daemon.cli(["jobs", "--json"]).exits(0).json();
    assert_eq!(items(&left).len(), 1);
    let long = daemon.post("/api/v1/jobs", &json!([{"kind": "x".repeat(17 << 20)}]));
    assert_eq!((&long["status"], &long["type"]), (&json!(413), &json!("too-large")));
}

#[test]
fn what_is_shown_before_an_order_is_what_can_be_done() {
    let daemon = Daemon::start(|_| {});
    let done = id(&daemon.submit("true", &["--label", "a=1"]));
    let other = id(&daemon.submit("true", &["--label", "a=1"]));
    daemon.job_in(done, "completed");
    daemon.job_in(other, "completed");
    let dead = failed(&daemon, &["--label", "a=1"]);
    let waiting = id(&daemon.submit("true", &["--label", "a=1", "--at", "1h"]));
    let dry = |verb: &str, more: &[&str]| {
        daemon.cli([&[verb], more, &["--label", "a=1", "-n"]].concat()).exits(0).stdout
    };
    let one = "1 job; nothing was changed\n";
    assert_eq!(dry("retry", &[]), one);
    assert_eq!(dry("cancel", &[]), one);
    assert_eq!(dry("reprioritise", &["--priority", "9"]), one);
    assert_eq!(dry("drop", &[]), "3 jobs; nothing was changed\n");
    assert_eq!(dry("drop", &["--state", "failed"]), one);
    let refused = daemon.cli(["retry", "--state", "completed", "-n"]).exits(2);
    assert!(refused.stderr.contains("failed, cancelled and retrying"), "{refused:?}");
    // The same over HTTP, with and without a look before.
    let of_filter = |verb: &str, is_dry: bool| {
        let body = json!({ "labels": ["a=1"], "dry_run": is_dry });
        daemon.post(&format!("/api/v1/jobs/{verb}"), &body)
    };
    let looked = of_filter("cancel", true);
    assert_eq!((&looked["count"], &looked["results"]), (&json!(1), &json!({ "selected": 1 })));
    assert_eq!(items(&looked)[0]["id"], waiting);
    // Each that is named is told of, as the order would.
    let [done, other, dead, waiting] = [done, other, dead, waiting].map(|id| id.to_string());
    let named = daemon.cli(["retry", &done, &other, "-n"]).exits(1).stdout;
    assert!(named.contains(&format!("job {done}: it is completed; failed, cancelled")), "{named}");
    assert!(named.ends_with("0 jobs; nothing was changed\n"), "{named}");
    let named = daemon.cli(["retry", &done, &dead, "999", "-n", "--json"]).exits(4).json();
    let expected = json!({ "not_now": 1, "selected": 1, "unknown": 1 });
    assert_eq!((&named["count"], &named["results"]), (&json!(3), &expected));
    let named = daemon.cli(["cancel", &done, &waiting, "-n"]).exits(1).stdout;
    assert!(named.contains(&format!("job {done}: it was over already")), "{named}");
    assert!(named.ends_with(one), "{named}");

    let cancelled = daemon.cli(["cancel", "--label", "a=1", "--yes"]).exits(0);
    assert_eq!(cancelled.stdout, "1 job done, 0 left alone\n");
    let retried = of_filter("retry", false);
    assert_eq!((&retried["count"], &retried["results"]), (&json!(2), &json!({ "done": 2 })));
    let none = daemon.cli(["cancel", "--label", "a=2", "--yes"]).exits(0);
    assert!(none.stderr.contains("no job passes the filter"), "{none:?}");
}

#[test]
fn a_batch_that_lives_is_not_dropped_and_neither_are_its_items() {
    let daemon = Daemon::start(|_| {});
    let gate = daemon.gate("end");
    let batch = daemon.post(
        "/api/v1/jobs",
        &json!({ "kind": "command", "items": [
            { "name": "quick", "params": { "argv": ["true"] } },
            { "name": "slow", "params": { "shell": gate } },
        ]}),
    );
    let batch = id(&batch);
    eventually("one item is over", || (daemon.job(batch)["batch"]["completed"] == 1).then_some(()));
    let looked = daemon.cli(["drop", &batch.to_string(), "-n", "--json"]).exits(1).json();
    assert_eq!(looked["batch_items"], 0, "{looked}");
    daemon.cli(["drop", &batch.to_string()]).exits(1);
    let left = daemon.cli(["items", &batch.to_string(), "--json"]).exits(0).json();
    let quick = items(&left)[0]["job_id"].as_i64().expect("a job");
    assert_eq!(daemon.job(quick)["state"], "completed");
}

/// A batch in a queue that is paused, so that its items wait, with the mark `b=1`.
fn waiting_batch(daemon: &Daemon, items: usize) -> i64 {
    daemon.cli(["queues", "pause", "held"]).exits(0);
    let names: Vec<String> = (0..items).map(|index| format!("item-{index}")).collect();
    let params = json!({ "argv": ["true"] });
    id(&daemon.post(
        "/api/v1/jobs",
        &json!({
            "kind": "command", "params": params, "items": names, "queue": "held",
            "labels": { "b": "1" },
        }),
    ))
}

/// The jobs that the audit log tells to have been treated so.
fn audited(daemon: &Daemon, event: &str, count: usize) -> Vec<String> {
    eventually("they are in the audit log", || {
        let told = daemon.cli(["audit", "--json"]).exits(0).json();
        let told = items(&told).iter().filter(|line| line["event"] == event);
        let told: Vec<String> =
            told.map(|line| line["subject"].as_str().expect("a subject").to_owned()).collect();
        (told.len() >= count).then_some(told)
    })
}

#[test]
fn a_batch_that_cannot_be_dropped_is_left_as_it_is() {
    let daemon = Daemon::start(|_| {});
    let batch = waiting_batch(&daemon, 5);
    let (number, item) = (batch.to_string(), (batch + 3).to_string());
    daemon.cli(["cancel", &number]).exits(0);
    daemon.cli(["retry", &item]).exits(0);
    let why = format!("job {batch}: its item's job {item} is not over; cancel that first");
    let all_are_there = || {
        (1..6).for_each(|index| {
            daemon.cli(["job", &(batch + index).to_string()]).exits(0);
        });
    };
    let named = ["drop", &number];
    let by_mark = ["drop", "--label", "b=1", "--yes"];
    for order in [&named[..], &by_mark[..]] {
        let looked = daemon.cli([order, &["--dry-run"]].concat()).exits(1).stdout;
        assert_eq!(looked, format!("{why}\n0 jobs; nothing was changed\n"), "{order:?}");
        let done = daemon.cli(order).exits(1).stdout;
        assert!(done.contains(&why), "{order:?}: {done}");
        all_are_there();
    }
    // A job that waits for one of the items keeps it and its batch.
    daemon.cli(["cancel", &item]).exits(0);
    let waiting = ["--depends-on", &item, "--on-dependency-failure", "wait"];
    let waiting = id(&daemon.submit("true", &waiting)).to_string();
    let done = daemon.cli(["drop", &number]).exits(1).stdout;
    assert!(done.contains(&format!("job {waiting} waits for it")), "{done}");
    all_are_there();
    daemon.cli(["cancel", &waiting]).exits(0);
    let looked = daemon.cli(["drop", "--label", "b=1", "--dry-run"]).exits(0).stdout;
    assert_eq!(looked, "1 job and the 5 items of their batches; nothing was changed\n");
    let dropped = daemon.cli(["drop", &number, "--json"]).exits(0).json();
    assert_eq!((&dropped["batch_items"], &dropped["results"]), (&json!(5), &json!({ "done": 1 })));
    daemon.cli(["job", &item]).exits(4);
    daemon.cli(["items", &number]).exits(4);
    assert_eq!(audited(&daemon, "job.dropped", 6).len(), 6);
}

#[test]
fn whatever_an_order_has_brought_about_is_done() {
    let daemon = Daemon::start(|_| {});
    let batch = waiting_batch(&daemon, 2500);
    let mark = ["--label", "b=1"];
    let after = |other: &str| {
        id(&daemon.submit("true", &[&mark[..], &["--depends-on", other]].concat())).to_string()
    };
    let second = after(&batch.to_string());
    let third = after(&second);
    let told = |verb: &str| {
        let looked = daemon.cli([&[verb, "--dry-run"], &mark[..]].concat()).exits(0).stdout;
        let done = daemon.cli([&[verb, "--yes"], &mark[..]].concat()).exits(0).stdout;
        (looked, done)
    };
    let looked = "3 jobs and the 2500 items of their batches; nothing was changed\n".to_owned();
    let done = "3 jobs done, 0 left alone\n".to_owned();
    assert_eq!(told("cancel"), (looked.clone(), done.clone()));
    assert_eq!(told("retry"), (looked.clone(), done.clone()));
    assert_eq!(daemon.job(batch)["batch"]["cancelled"], 0);
    let [first, last] = [batch + 1, batch + 2500].map(|id| id.to_string());
    let named = [&first, &batch.to_string(), &second, &last, &third];
    let named: Vec<&str> = named.into_iter().map(String::as_str).collect();
    let done_to = daemon.cli([&["cancel"], &named[..]].concat()).exits(0).stdout;
    assert_eq!(done_to.lines().count(), 5, "{done_to}");
    assert_eq!(daemon.job(batch)["state"], "cancelled");
    daemon.cli([&["retry"], &named[..]].concat()).exits(0);
    daemon.cli([&["cancel"], &named[..]].concat()).exits(0);
    let lines = audited(&daemon, "job.cancelled", 9);
    assert_eq!(lines.len(), 9, "one for each that was chosen, and for a batch with its items one");
    for id in [&batch.to_string(), &second, &third] {
        let subject = format!("job:{id}");
        assert_eq!(lines.iter().filter(|line| **line == subject).count(), 3, "{lines:?}");
    }
    assert_eq!(told("drop"), (looked, done));
}
