//! Schedules that follow others or require their success, and jobs that depend on jobs that fail, as their users see them.

use serde_json::json;

use crate::harness::daemon::{Daemon, eventually};

const BY_HAND: &str = "[command]\nshell = \"test -e good\"\n[run]\nretries = { max = 0 }\n";

fn follows(on: &str) -> String {
    format!(
        "[when]\nafter = {{ schedule = \"dump\", on = \"{on}\" }}\n[command]\nargv = [\"true\"]\n"
    )
}

#[test]
fn a_chain_of_schedules_runs_one_after_the_other_and_says_why() {
    let daemon = Daemon::start(|home| {
        home.schedule("dump", "[command]\nargv = [\"true\"]\n");
        home.schedule("report", &follows("success"));
        home.schedule("alarm", &follows("failure"));
        home.schedule("last", &follows("finished").replace("dump", "report"));
    });
    let first = daemon.run("dump");
    let report = daemon.decided("report", "enqueued");
    let reason = report["reason"].as_str().unwrap();
    assert_eq!(reason, format!("after job {first} of `dump` completed: due"));
    assert_eq!(report["nominal_at"], daemon.job(first)["finished_at"]);
    daemon.decided("last", "enqueued");
    assert!(daemon.ledger("alarm").is_empty());
    let shown = daemon.cli(["show", "report", "--json"]).exits(0).json();
    assert_eq!((&shown["rule"], &shown["next"]), (&json!("After dump succeeded."), &json!(null)));
    let next = daemon.cli(["next", "report"]).exits(0);
    assert!(next.stderr.contains("After dump succeeded."), "{}", next.stderr);
}

#[test]
fn an_instant_waits_for_the_success_of_another_schedule_through_a_kill() {
    let mut daemon = Daemon::start(|home| {
        home.schedule("dump", "[command]\nargv = [\"true\"]\n");
        let waits = "[when]\nevery = \"2s\"\n[run]\nrequires = [\"fresh:dump:1h\"]\nrequires_wait = \"1h\"\noverlap = \"allow\"\n\
                     [command]\nargv = [\"true\"]\n";
        home.schedule("report", waits);
    });
    let waiting = daemon.decided("report", "waiting");
    let why = waiting["reason"].as_str().unwrap();
    assert!(why.contains("no job of `dump` has completed yet; it waits for that until"), "{why}");
    daemon.kill();
    daemon.start_again();
    daemon.run("dump");
    let made = eventually("what waited first is decided", || {
        let rows = daemon.ledger("report");
        rows.into_iter()
            .find(|row| row["nominal_at"] == waiting["nominal_at"] && row["decision"] == "enqueued")
    });
    assert!(made["reason"].as_str().unwrap().contains("it waited for its requirements"), "{made}");
    daemon.job_in(made["job_id"].as_i64().unwrap(), "completed");
    let rows = daemon.ledger("report");
    let rows_of_first = rows.iter().filter(|row| row["nominal_at"] == waiting["nominal_at"]);
    assert_eq!(rows_of_first.count(), 1, "the row that waited tells what became of it");
}

#[test]
fn a_job_waits_for_the_retry_of_one_that_failed_and_says_so() {
    let daemon = Daemon::start(|home| home.schedule("dump", BY_HAND));
    let failed = daemon.submit("test -e good", &["--max-attempts", "1"]);
    let failed = failed["id"].as_i64().unwrap();
    daemon.job_in(failed, "failed");
    let id = failed.to_string();
    let waits = ["--depends-on", &id, "--on-dependency-failure", "wait"];
    let waiting = daemon.submit("true", &waits)["id"].as_i64().unwrap();
    let shown = daemon.job(waiting);
    assert_eq!(
        (&shown["state"], &shown["on_dependency_failure"]),
        (&json!("blocked"), &json!("wait"))
    );
    assert_eq!(
        shown["waits_for"],
        json!([{"job_id": failed, "needs": "success", "ended": "failed"}])
    );
    let text = daemon.cli(["job", &waiting.to_string()]).exits(0).stdout;
    assert!(
        text.contains(&format!("waits for job {failed}, which is failed, to be retried")),
        "{text}"
    );

    let runs = daemon.submit("true", &["--depends-on", &id, "--on-dependency-failure", "run"]);
    daemon.job_in(runs["id"].as_i64().unwrap(), "completed");
    let completed = runs["id"].to_string();
    let (one, other) = (format!("{id}:any"), format!("{completed}:any"));
    let any = daemon.submit("true", &["--depends-on", &one, "--depends-on", &other]);
    daemon.job_in(any["id"].as_i64().unwrap(), "completed");

    let refused = daemon.post(
        "/api/v1/jobs",
        &json!({"kind": "command", "params": {"argv": ["true"]}, "on_dependency_failure": "wait"}),
    );
    assert_eq!(refused["errors"][0]["pointer"], "/on_dependency_failure", "{refused:#}");
    assert_eq!(daemon.cli(["cancel", &waiting.to_string()]).code, 0);
    daemon.job_in(waiting, "cancelled");
}
