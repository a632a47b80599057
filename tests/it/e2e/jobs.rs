//! Jobs: retries, limits, order, and what can be done to them by hand.

use std::fs::File;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::daemon::{Daemon, answer, eventually, items};
use crate::harness::http::{call, call_with};

fn id(job: &Value) -> i64 {
    job["id"].as_i64().expect("a job's id")
}

pub(super) fn outcomes(job: &Value) -> Vec<(i64, &str)> {
    let attempts = job["attempts"].as_array().expect("attempts");
    attempts
        .iter()
        .map(|attempt| {
            (
                attempt["number"].as_i64().expect("a number"),
                attempt["outcome"].as_str().expect("a word"),
            )
        })
        .collect()
}

#[test]
fn i4_a_job_that_fails_every_time_is_kept_as_a_dead_letter_and_can_be_tried_again() {
    let daemon = Daemon::start(|home| {
        let good = home.path("good");
        home.schedule(
            "fails",
            &format!(
                "[run]\nretries = {{ delays = [\"0s\", \"0s\"] }}\n[command]\nargv = [\"test\", \"-e\", \"{}\"]\n",
                good.display()
            ),
        );
    });
    let job = daemon.cli(["run", "fails", "--wait", "--json"]).exits(1).json();
    assert_eq!(job["state"], "failed");
    assert_eq!(job["max_attempts"], 3);
    assert_eq!(outcomes(&job), [(1, "failure"), (2, "failure"), (3, "failure")]);
    assert_eq!(job["attempts"][2]["exit_code"], 1);
    assert!(job["error"].is_string(), "{job:#}");
    let dead = daemon.cli(["jobs", "--state", "failed", "--json"]).exits(0).json();
    assert_eq!(items(&dead).iter().map(id).collect::<Vec<_>>(), [id(&job)]);

    daemon.open("good");
    let number = id(&job).to_string();
    daemon.cli(["retry", &number]).exits(0);
    let job = daemon.job_in(id(&job), "completed");
    assert_eq!(outcomes(&job).last(), Some(&(4, "success")));
    daemon.cli(["retry", &number]).exits(1);
    daemon.cli(["retry", "999"]).exits(4);
}

#[test]
fn an_attempt_that_takes_too_long_is_stopped_and_says_timeout() {
    let daemon = Daemon::start(|_| {});
    let shell = daemon.gate("never");
    let job = daemon.submit(&shell, &["--timeout", "1s", "--max-attempts", "1"]);
    let job = daemon.job_in(id(&job), "failed");
    assert_eq!(outcomes(&job), [(1, "timeout")]);
}

#[test]
fn a_unique_key_makes_one_live_job_and_is_free_again_after_it() {
    let daemon = Daemon::start(|_| {});
    let shell = daemon.gate("gate");
    let submit = || id(&daemon.submit(&shell, &["--unique", "import"]));
    let first = submit();
    assert_eq!(submit(), first);
    daemon.job_in(first, "running");
    assert_eq!(submit(), first);
    daemon.open("gate");
    daemon.job_in(first, "completed");
    let second = submit();
    assert_ne!(second, first);
    daemon.job_in(second, "completed");
}

#[test]
fn a_job_waits_for_those_it_depends_on_and_does_not_run_when_one_fails() {
    let daemon = Daemon::start(|_| {});
    let first = daemon.submit(&daemon.gate("gate"), &[]);
    let fails = daemon.submit(&format!("{}; false", daemon.gate("gate")), &["--max-attempts", "1"]);
    let [after, never] =
        [&first, &fails].map(|job| daemon.submit("true", &["--depends-on", &id(job).to_string()]));
    assert_eq!(after["state"], "blocked");
    assert_eq!(never["state"], "blocked");
    daemon.open("gate");
    let after = daemon.job_in(id(&after), "completed");
    let first = daemon.job(id(&first));
    assert!(after["started_at"].as_str() >= first["finished_at"].as_str());
    let never = daemon.job_in(id(&never), "cancelled");
    assert_eq!(outcomes(&never), []);
    assert!(never["error"].as_str().unwrap().contains(&id(&fails).to_string()), "{never:#}");
    let unknown = json!({ "argv": ["true"] }).to_string();
    daemon.cli(["submit", "command", "--params", &unknown, "--depends-on", "999"]).exits(4);
}

#[test]
fn one_worker_takes_the_most_urgent_job_first_and_equals_in_order() {
    let daemon = Daemon::start(|home| home.settings("[workers]\ncount = 1\nreserved_high = 0\n"));
    let blocker = daemon.submit(&daemon.gate("gate"), &[]);
    daemon.job_in(id(&blocker), "running");
    let order = daemon.path("order");
    for (name, priority) in
        [("low", "low"), ("n1", "5"), ("critical", "critical"), ("n2", "normal"), ("high", "high")]
    {
        let shell = format!("echo {name} >> '{}'", order.display());
        daemon.submit(&shell, &["--priority", priority]);
    }
    daemon.open("gate");
    let text = eventually("all have run", || {
        let text = std::fs::read_to_string(&order).unwrap_or_default();
        (text.lines().count() == 5).then_some(text)
    });
    assert_eq!(text.lines().collect::<Vec<_>>(), ["critical", "high", "n1", "n2", "low"]);
}

#[test]
fn waiting_jobs_are_cancelled_at_once_and_running_ones_are_stopped() {
    let daemon = Daemon::start(|home| home.settings("[workers]\ncount = 1\nreserved_high = 0\n"));
    let running = daemon.submit(&daemon.gate("never"), &[]);
    daemon.job_in(id(&running), "running");
    let waiting = daemon.submit("true", &[]);
    let later = daemon.submit("true", &["--at", "2h"]);
    for job in [&waiting, &later] {
        let number = id(job).to_string();
        daemon.cli(["cancel", &number]).exits(0);
        assert_eq!(daemon.job(id(job))["state"], "cancelled");
        daemon.cli(["cancel", &number]).exits(1);
    }
    daemon.cli(["cancel", &id(&running).to_string()]).exits(0);
    let job = daemon.job_in(id(&running), "cancelled");
    assert_eq!(outcomes(&job), [(1, "cancelled")]);
    daemon.cli(["cancel", "999"]).exits(4);
}

#[test]
fn labels_find_jobs_and_bulk_changes_ask_first() {
    let daemon = Daemon::start(|_| {});
    let label = |labels: &[&str]| {
        let mut more = vec!["--at", "1h"];
        labels.iter().for_each(|label| more.extend(["--label", label]));
        id(&daemon.submit("true", &more))
    };
    let (red, both, _none) = (label(&["colour=red"]), label(&["colour=red", "size=1"]), label(&[]));
    let found = |arguments: &[&str]| {
        let list = daemon.cli(["jobs", "--json"].iter().chain(arguments)).exits(0).json();
        items(&list).iter().map(id).collect::<Vec<_>>()
    };
    assert_eq!(found(&["--label", "colour=red"]), [both, red]);
    assert_eq!(found(&["--label", "colour=red", "--label", "size=1"]), [both]);
    assert_eq!(found(&["--label", "colour=blue"]), [0; 0]);

    let refused = daemon.cli(["cancel", "--label", "colour=red"]).exits(6);
    assert!(refused.stderr.contains("cancel 2 jobs"), "{}", refused.stderr);
    daemon.cli(["cancel", "--label", "colour=red", "--dry-run"]).exits(0);
    assert_eq!(found(&["--state", "cancelled"]), [0; 0]);
    daemon.cli(["cancel", "--label", "colour=red", "--yes"]).exits(0);
    assert_eq!(found(&["--state", "cancelled"]), [both, red]);
    daemon.cli(["cancel"]).exits(2);
}

#[test]
fn a_paused_queue_holds_its_jobs_and_no_others() {
    let daemon = Daemon::start(|_| {});
    let _once = daemon.submit("true", &["--queue", "mail"]);
    daemon.cli(["queues", "pause", "mail", "--reason", "smtp is down"]).exits(0);
    let held = daemon.submit("true", &["--queue", "mail"]);
    let other = daemon.submit("true", &[]);
    daemon.job_in(id(&other), "completed");
    assert_eq!(daemon.job(id(&held))["state"], "pending");
    let list = daemon.cli(["queues", "--json"]).exits(0).json();
    let mail = items(&list).iter().find(|queue| queue["name"] == "mail").unwrap();
    assert_eq!(mail["pause"]["reason"], "smtp is down");
    daemon.cli(["queues", "resume", "mail"]).exits(0);
    daemon.job_in(id(&held), "completed");
}

#[test]
fn a_command_gets_its_input_and_reports_result_and_output() {
    let daemon = Daemon::start(|_| {});
    let shell = r#"cat; echo "$SEXTON_INPUT_NAME $SEXTON_ATTEMPT" >&2; echo; echo '{"rows":3}'"#;
    let params = json!({ "shell": shell, "input": { "name": "kb" }, "result": "last_line" });
    std::fs::write(daemon.path("params.json"), params.to_string()).unwrap();
    let mut submit = daemon.command(["submit", "command", "--params", "-", "--wait", "--json"]);
    let job = answer(submit.stdin(File::open(daemon.path("params.json")).unwrap())).exits(0).json();
    assert_eq!(job["result"]["output"]["rows"], 3, "{job:#}");
    let log = daemon.cli(["logs", &id(&job).to_string()]).exits(0).stdout;
    assert!(log.contains(r#"{"name":"kb"}"#) && log.contains("kb 1"), "{log}");
}

#[test]
fn what_makes_no_sense_is_refused_with_its_exit_code() {
    let daemon = Daemon::start(|_| {});
    for (arguments, code) in [
        (&["show", "nosuch"][..], 4),
        (&["why", "nosuch"], 4),
        (&["run", "nosuch"], 4),
        (&["pause", "nosuch"], 4),
        (&["job", "999"], 4),
        (&["logs", "999"], 4),
        (&["jobs", "--state", "bogus"], 2),
        (&["jobs", "--cursor", "bogus"], 2),
        (&["submit", "nosuchkind"], 2),
        (&["submit", "command", "--params", "{\"argvv\":[]}"], 2),
        (&["submit", "command", "--params", "{\"argv\":[\"true\"]}", "--priority", "11"], 2),
        (&["submit", "command", "--params", "{\"argv\":[\"true\"]}", "--label", "x"], 2),
        (&["frobnicate"], 2),
        (&[], 2),
    ] {
        let answer = daemon.cli(arguments);
        assert_eq!(answer.code, code, "{arguments:?}: {answer:#?}");
        assert!(!answer.stderr.is_empty() && answer.stdout.is_empty(), "{arguments:?}: {answer:?}");
    }
    let jobs = daemon.cli(["jobs", "--json"]).exits(0).json();
    assert_eq!(items(&jobs).len(), 0);
}

#[test]
fn a_job_that_waits_for_its_next_attempt_says_until_when_and_can_be_hurried() {
    let daemon = Daemon::start(|home| {
        let good = home.path("good").display().to_string();
        home.schedule(
            "slow",
            &format!("[run]\nretries = {{ delays = [\"1h\"] }}\n[command]\nargv = [\"test\", \"-e\", \"{good}\"]\n"),
        );
    });
    let number = daemon.run("slow");
    let job = daemon.job_in(number, "retrying");
    let at = |field: &str| job[field].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(at("run_at").duration_since(at("created_at")).as_secs() >= 3600, "{job:#}");
    daemon.open("good");
    daemon.cli(["retry", &number.to_string()]).exits(0);
    let job = daemon.job_in(number, "completed");
    assert_eq!(outcomes(&job), [(1, "failure"), (2, "success")]);
}

#[test]
fn events_tell_of_a_job_while_it_happens() {
    let daemon = Daemon::start(|_| {});
    let told = daemon.path("events");
    let listener = daemon.command(["events"]).stdout(File::create(&told).unwrap()).spawn();
    let mut listener = listener.unwrap();
    let seen = eventually("a job is told of from its submission to its end", || {
        // What happened before the listener was there is not told, so there is a new job at every look.
        let job = daemon.submit("true", &[]);
        daemon.job_in(id(&job), "completed");
        let text = std::fs::read_to_string(&told).unwrap();
        (text.contains("jobs_submitted") && text.contains("attempt_finished")).then_some(text)
    });
    listener.kill().unwrap();
    listener.wait().unwrap();
    let whole = &seen[..=seen.rfind('\n').unwrap()];
    for line in whole.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert!(event["event"].is_string(), "{line}");
    }
}

#[test]
fn a_submission_can_be_repeated_under_its_key_without_being_done_twice() {
    let daemon = Daemon::start(|_| {});
    let socket = daemon.path("data/sexton.sock");
    let body = json!({ "kind": "command", "params": { "argv": ["true"] } });
    let submit = |key: &str, body: &Value| {
        let head = format!("Idempotency-Key: {key}\r\n");
        let patience = Duration::from_secs(30);
        call_with(&socket, patience, ("POST", "/api/v1/jobs"), &head, Some(body))
            .expect("an answer")
    };
    let (status, first) = submit("order-1", &body);
    assert_eq!(status, 202);
    daemon.job_in(id(&first), "completed");
    let (status, again) = submit("order-1", &body);
    assert_eq!((status, id(&again)), (202, id(&first)));
    assert_eq!(again["state"], "completed", "as it is now");
    let (status, problem) =
        submit("order-1", &json!({ "kind": "command", "params": { "argv": ["false"] } }));
    assert_eq!(status, 422, "{problem:#}");
    let (_, bulk) = submit("order-2", &json!([body, body]));
    assert_eq!(submit("order-2", &json!([body, body])).1, bulk);
    daemon.cli(["drop", &id(&first).to_string()]).exits(0);
    let (status, gone) = submit("order-1", &body);
    assert_eq!((status, &gone["type"]), (410, &json!("gone")), "{gone:#}");
    let twice = submit("order-3\r\nIdempotency-Key: order-4", &body);
    assert_eq!(twice.0, 400, "{:#}", twice.1);
    let all = daemon.cli(["jobs", "--json"]).exits(0).json();
    assert_eq!(items(&all).len(), 2);
}

#[test]
fn a_repeated_submission_that_found_its_unique_key_taken_is_answered_as_before() {
    let daemon = Daemon::start(|_| {});
    let socket = daemon.path("data/sexton.sock");
    let holder = daemon.submit("true", &["--unique", "nightly", "--at", "1h"]);
    let body = json!({ "kind": "command", "params": { "argv": ["true"] }, "unique": "nightly" });
    let submit = || {
        let (head, patience) = ("Idempotency-Key: order-1\r\n", Duration::from_secs(30));
        call_with(&socket, patience, ("POST", "/api/v1/jobs"), head, Some(&body))
            .expect("an answer")
    };
    for _ in 0..2 {
        let (status, found) = submit();
        assert_eq!((status, id(&found)), (200, id(&holder)));
    }
}

#[test]
fn a_submission_gets_what_the_settings_say_of_jobs_that_say_nothing() {
    let daemon = Daemon::start(|home| {
        home.settings("[defaults]\nqueue = \"slow\"\npriority = \"low\"\nretries = 7\n");
    });
    let plain = daemon.submit("true", &[]);
    let told = [&plain["queue"], &plain["priority"], &plain["max_attempts"]];
    assert_eq!(told, [&json!("slow"), &json!(2), &json!(8)]);
    let own =
        daemon.submit("true", &["--queue", "quick", "--priority", "9", "--max-attempts", "1"]);
    let told = [&own["queue"], &own["priority"], &own["max_attempts"]];
    assert_eq!(told, [&json!("quick"), &json!(9), &json!(1)]);
}

#[test]
fn whatever_is_wrong_with_an_address_is_told_as_a_problem() {
    let daemon = Daemon::start(|_| {});
    let socket = daemon.path("data/sexton.sock");
    let job = json!({ "kind": "command", "params": { "argv": ["true"] } });
    for (method, path, status, why) in [
        ("GET", "/api/v1/jobs/abc", 404, "`/api/v1/jobs/abc` leads to nothing"),
        ("GET", "/api/v1/jobs?stat=failed", 400, "unknown field `stat`"),
        ("GET", "/api/v1/jobs?limit=many", 400, "limit"),
        ("GET", "/api/v1/nothing", 404, "openapi.json"),
        ("DELETE", "/api/v1/jobs/1", 405, "openapi.json"),
        ("POST", "/api/v1/jobs?dry_run=true", 400, "stands in the body"),
    ] {
        let answer = call(&socket, Duration::from_secs(30), (method, path), Some(&job));
        let (told, problem) = answer.expect("an answer");
        assert_eq!((told, &problem["status"]), (status, &json!(status)), "{path}: {problem:#}");
        assert!(problem["detail"].as_str().is_some_and(|it| it.contains(why)), "{problem:#}");
    }
    let none = daemon.cli(["jobs", "--json"]).exits(0).json();
    assert_eq!(items(&none).len(), 0, "a rehearsal that was misspelt is none");
}

#[test]
fn how_long_a_job_will_take_is_learned_from_others_of_its_kind() {
    let mut daemon = Daemon::start(|_| {});
    let first = daemon.submit("sleep 0.3", &["--wait"]);
    assert_eq!(first["estimated_duration_ms"], Value::Null);
    daemon.terminate();
    daemon.start_again();
    eventually("the history was read", || {
        let job = daemon.submit(&daemon.gate("end"), &["--at", "1h"]);
        let estimate = job["estimated_duration_ms"].as_u64()?;
        assert!((300..10_000).contains(&estimate), "{job:#}");
        Some(())
    });
}

#[test]
fn what_a_job_was_submitted_with_is_shown_and_a_taken_unique_key_is_told() {
    let daemon = Daemon::start(|home| home.settings("[node]\nlabels = [\"gpu\"]\n"));
    let submit = [
        "submit",
        "command",
        "--params",
        "{\"argv\": [\"true\"]}",
        "--at",
        "1h",
        "--unique",
        "nightly",
        "--label",
        "team=a",
        "--label",
        "order=7",
        "--node",
        "label:gpu",
    ];
    assert_eq!(daemon.cli(submit).exits(0).stdout, "job 1 pending\n");
    let again = daemon.cli(submit).exits(0).stdout;
    assert_eq!(again, "job 1 pending, which has the unique key already\n");
    let shown = daemon.cli(["job", "1"]).exits(0).stdout;
    for line in
        ["  node      label:gpu\n", "  unique    nightly\n", "  labels    order=7, team=a\n"]
    {
        assert!(shown.contains(line), "{line} is not in {shown}");
    }
    let plain = daemon.submit("true", &[]);
    let shown = daemon.cli(["job", &id(&plain).to_string()]).exits(0).stdout;
    for label in ["node", "unique", "labels", "item"] {
        assert!(!shown.contains(&format!("  {label} ")), "{label} is in {shown}");
    }
    let waited = daemon.cli([&submit[..], &["--wait"]].concat().iter().map(|text| match *text {
        "nightly" => "other",
        "1h" => "0s",
        other => other,
    }));
    assert_eq!(waited.exits(0).stdout, "job 3 completed\n");
}
