//! The outside contract: fields, times and exit codes that scripts rely on.

use std::fs::File;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::jobs::outcomes;
use crate::harness::daemon::{Daemon, Home, answer, eventually, items};

const TICK: &str = r#"
description = "Says hello"
[when]
every = "1s"
[command]
argv = ["echo", "hello"]
"#;

const NIGHTLY: &str = r#"
description = "Never during a test"
[when]
cron = "0 0 29 2 *"
[run]
priority = "high"
[command]
argv = ["true"]
"#;

#[track_caller]
fn has_fields(object: &Value, fields: &[&str]) {
    let missing: Vec<&&str> = fields.iter().filter(|field| object.get(**field).is_none()).collect();
    assert!(missing.is_empty(), "{missing:?} missing in {object:#}");
}

/// RFC 3339 in UTC with microseconds: `2026-01-01T00:00:00.000000Z`.
#[track_caller]
fn is_time(value: &Value) {
    let text = value.as_str().unwrap_or_else(|| panic!("not a time: {value}"));
    assert!(text.parse::<jiff::Timestamp>().is_ok() && text.len() == 27, "{text}");
}

#[test]
fn a_schedule_runs_and_every_command_shows_it_with_the_promised_fields() {
    let mut daemon = Daemon::start(|home| {
        home.schedule("tick", TICK);
        home.schedule("nightly", NIGHTLY);
    });
    let status = daemon.cli(["status", "--json"]).exits(0).json();
    assert_eq!(status["running"], true);
    assert_eq!(status["health"], "ok", "{status:#}");
    assert_eq!(status["schedules"], 2);
    assert_eq!(status["invalid_files"], 0);

    let announced = daemon.output();
    for part in ["serves 2 schedules", "tick", "sexton.sock", "sexton why"] {
        assert!(announced.contains(part), "{part} is not in {announced}");
    }

    let row = daemon.decided("tick", "enqueued");
    has_fields(&row, &["schedule", "nominal_at", "decision", "reason", "job_id", "decided_at"]);
    is_time(&row["nominal_at"]);
    is_time(&row["decided_at"]);
    let job = daemon.job_in(row["job_id"].as_i64().unwrap(), "completed");
    has_fields(
        &job,
        &[
            "id",
            "kind",
            "schedule",
            "nominal_at",
            "queue",
            "priority",
            "state",
            "params",
            "labels",
            "attempt",
            "max_attempts",
            "run_at",
            "created_at",
            "started_at",
            "finished_at",
            "progress",
            "message",
            "result",
            "error",
        ],
    );
    assert_eq!(job["kind"], "command");
    assert_eq!(job["schedule"], "tick");
    assert_eq!(job["nominal_at"], row["nominal_at"]);
    ["nominal_at", "run_at", "created_at", "started_at", "finished_at"]
        .iter()
        .for_each(|field| is_time(&job[field]));
    let attempt = &job["attempts"][0];
    has_fields(
        attempt,
        &[
            "number",
            "outcome",
            "node",
            "started_at",
            "finished_at",
            "duration_ms",
            "exit_code",
            "error",
        ],
    );
    assert_eq!(attempt["number"], 1);
    assert_eq!(attempt["outcome"], "success");
    assert_eq!(attempt["exit_code"], 0);
    assert_eq!(daemon.cli(["logs", &job["id"].to_string()]).exits(0).stdout, "hello\n");

    let list = daemon.cli(["schedules", "--json"]).exits(0).json();
    has_fields(&list, &["items", "next_cursor"]);
    let [nightly, tick] = &items(&list)[..] else { panic!("{list:#}") };
    for schedule in [nightly, tick] {
        has_fields(
            schedule,
            &["id", "kind", "description", "enabled", "state", "stale", "error", "next", "last"],
        );
        is_time(&schedule["next"]);
        assert_eq!(schedule["state"], "active");
        assert_eq!(schedule["stale"], false);
    }
    assert_eq!(nightly["priority"], 8);
    assert_eq!(nightly["last"], Value::Null);
    assert_eq!(tick["last"]["decision"], "enqueued");

    let jobs = daemon.cli(["jobs", "--json", "--limit", "1"]).exits(0).json();
    assert_eq!(items(&jobs).len(), 1);

    eventually("the audit log tells of the job", || {
        let list = daemon.cli(["audit", "--json"]).exits(0).json();
        let told = items(&list).iter().any(|row| row["subject"].to_string().contains("tick"));
        told.then_some(())
    });
    daemon.cli(["audit", "verify"]).exits(0);
    assert!(daemon.terminate().success());
    daemon.cli(["audit", "verify"]).exits(0);
}

#[test]
fn an_edited_audit_log_does_not_verify() {
    let mut daemon = Daemon::start(|home| home.schedule("nightly", NIGHTLY));
    daemon.terminate();
    let path = daemon.path("data/log/audit.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("daemon.started"), "{text}");
    std::fs::write(&path, text.replacen("daemon.started", "daemon.startled", 1)).unwrap();
    let report = daemon.cli(["audit", "verify", "--json"]).exits(1).json();
    assert_ne!(report["problems"].as_array().map_or(0, Vec::len), 0, "{report:#}");
}

#[test]
fn lists_are_paged_without_a_gap_or_a_double() {
    let daemon = Daemon::start(|_| {});
    let ids: Vec<i64> =
        (0..5).map(|_| daemon.submit("true", &[])["id"].as_i64().unwrap()).collect();
    let (mut seen, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let mut arguments = vec!["jobs", "--json", "--limit", "2"];
        arguments.extend(cursor.iter().flat_map(|cursor| ["--cursor", cursor.as_str()]));
        let page = daemon.cli(arguments).exits(0).json();
        seen.extend(items(&page).iter().map(|job| job["id"].as_i64().unwrap()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => break,
        }
    }
    seen.reverse();
    assert_eq!(seen, ids);
}

#[test]
fn a_second_daemon_on_the_same_data_is_turned_away_with_try_again() {
    let daemon = Daemon::start(|_| {});
    let second = daemon.cli(["serve"]).exits(75);
    assert!(second.stderr.contains("data"), "{}", second.stderr);
    daemon.cli(["status"]).exits(0);
}

#[test]
fn a_killed_daemon_gives_a_job_back_whose_program_is_not_kept_and_runs_it_again() {
    let mut daemon = Daemon::start(|_| {});
    let shell = format!("echo begun; {}", daemon.gate("gate"));
    let params = serde_json::json!({ "shell": shell, "on_restart": "kill" }).to_string();
    let job = daemon.cli(["submit", "command", "--json", "--params", &params]).exits(0).json();
    let id = job["id"].as_i64().unwrap();
    daemon.job_in(id, "running");
    daemon.kill();
    daemon.open("gate");
    daemon.start_again();
    let job = daemon.job_in(id, "completed");
    assert_eq!(outcomes(&job), [(1, "interrupted"), (2, "success")]);
    daemon.cli(["audit", "verify"]).exits(0);
}

#[test]
fn a_stopping_daemon_gives_back_what_does_not_end_in_its_grace_period_and_does_not_charge_it() {
    let mut daemon = Daemon::start(|_| {});
    let job = daemon.submit(&daemon.gate("gate"), &["--max-attempts", "1"]);
    let id = job["id"].as_i64().unwrap();
    daemon.job_in(id, "running");
    assert!(daemon.terminate().success());
    assert_eq!(daemon.job(id)["state"], "pending");
    daemon.open("gate");
    daemon.start_again();
    let job = daemon.job_in(id, "completed");
    assert_eq!(job["attempts"][0]["outcome"], "interrupted");
    assert_eq!(job["attempts"][1]["outcome"], "success");
}

#[test]
fn a_name_that_is_almost_right_is_answered_with_the_right_one() {
    let daemon = Daemon::start(|home| home.schedule("nightly", NIGHTLY));
    let answer = daemon.cli(["show", "nightyl"]).exits(4);
    assert!(answer.stderr.contains("did you mean `nightly`"), "{}", answer.stderr);
    let answer = daemon.cli(["why", "nightly", "--at", "2026-01-01T00:00:00Z"]).exits(0);
    assert!(answer.stderr.contains("nothing was due"), "{}", answer.stderr);
}

#[test]
fn output_that_cannot_be_written_is_an_error_and_a_reader_that_has_gone_is_none() {
    let daemon = Daemon::start(|_| {});
    let full = || File::options().write(true).open("/dev/full").expect("a device");
    let refused = |arguments: &[&str]| {
        let mut command = daemon.command(arguments);
        let ended = command.stdout(full()).stderr(Stdio::piped()).output().expect("it starts");
        (ended.status.code(), String::from_utf8(ended.stderr).expect("text"))
    };
    for arguments in [&["jobs", "--json"][..], &["status"], &["man"], &["completions", "bash"]] {
        let (code, said) = refused(arguments);
        assert_eq!(code, Some(74), "{arguments:?}: {said}");
        assert!(said.contains("stdout cannot be written: No space left on device"), "{said}");
    }
    // The secret is shown once.
    let (code, said) = refused(&["token", "create", "lost", "--role", "read"]);
    assert_eq!(code, Some(74), "{said}");
    assert!(said.contains("`sexton token revoke lost`"), "{said}");

    let mut piped = daemon.command(["jobs", "--json"]);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let ended = piped.stdout(writer).stderr(Stdio::piped()).output().expect("it starts");
    assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn a_daemon_does_not_start_with_something_else_on_the_descriptor_of_programs() {
    let home = Home::new();
    let serve = home.command(["serve"]);
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "exec \"$0\" \"$@\" 3>three"])
        .arg(serve.get_program())
        .args(serve.get_args());
    command.env_clear().envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let refused = answer(command.current_dir(home.path("")).stdin(Stdio::null())).exits(78);
    assert!(refused.stderr.contains("descriptor 3 is open already"), "{refused:?}");
}
