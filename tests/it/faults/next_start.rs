//! What the next daemon makes of what the one before it left: killed between any two steps, by its own job, in the middle of catching
//! up, or with a long queue.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use jiff::{SignedDuration, Timestamp};
use rustix::fs::{CWD, FileType, Mode};
use serde_json::{Value, json};
use sexton::queue::MOST_LOSSES;

use super::crash::every_second_has_one_row;
use super::database::database;
use super::process::{House, eventually, lines, outcomes, processes_with};

/// The record of the first attempt of the first job.
fn run_record(house: &House) -> PathBuf {
    house.data("runs/running/1-1.pid")
}

/// A job that writes its number and its attempt to the file `ran`. Its program is not kept; those that are have [`super::restart`].
fn note(house: &House, then: &str) -> Value {
    let ran = house.path("ran").display().to_string();
    let script = format!("echo $SEXTON_JOB_ID-$SEXTON_ATTEMPT >> {ran}; {then}");
    json!({ "shell": script, "on_restart": "kill" })
}

#[test]
fn a2_a_job_that_was_claimed_and_not_started_runs_at_the_next_start() {
    let house = House::new();
    let daemon = house.start();
    // Opening a pipe for writing waits until somebody reads it, so the attempt stays where it is: claimed, and before its program.
    std::fs::create_dir_all(house.data("runs/running")).unwrap();
    rustix::fs::mknodat(CWD, run_record(&house), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
        .unwrap();
    let id = house.client().submit("command", &note(&house, ""));
    house.client().reaches(id, "running");
    daemon.kill();
    std::fs::remove_file(run_record(&house)).unwrap();
    assert!(lines(&house.path("ran")).is_empty());

    let daemon = house.start();
    let job = house.client().reaches(id, "completed");
    assert_eq!(outcomes(&job), ["interrupted", "success"], "{job:#}");
    assert_eq!(lines(&house.path("ran")), [format!("{id}-2")]);
    daemon.stop();
}

#[test]
fn a2_a_program_that_was_started_and_not_recorded_is_found_and_ended_before_its_job_runs_again() {
    let house = House::new();
    let daemon = house.start();
    let mark = format!("a2-{}", daemon.pid());
    let mut params = note(&house, "[ $SEXTON_ATTEMPT = 2 ] || exec sleep 120");
    params["env"] = json!({ "MARK": mark });
    let id = house.client().submit("command", &params);
    eventually("its program runs", || (!processes_with(&mark).is_empty()).then_some(()));
    let record = eventually("it is recorded", || {
        let text = std::fs::read_to_string(run_record(&house)).ok()?;
        (text.lines().count() == 2).then_some(text)
    });
    daemon.kill();
    // As if the daemon had died before the second line, the one that names the process.
    let first = record.lines().next().unwrap();
    std::fs::write(run_record(&house), format!("{first}\n")).unwrap();

    let daemon = house.start();
    let job = house.client().reaches(id, "completed");
    assert_eq!(outcomes(&job), ["interrupted", "success"], "{job:#}");
    let left = processes_with(&mark);
    assert!(left.is_empty(), "{left:?}");
    daemon.stop();
}

#[test]
fn a2_a_program_whose_end_was_not_recorded_is_marked_interrupted_and_runs_again() {
    let house = House::new();
    let daemon = house.start();
    let [go, over] = ["go", "over"].map(|name| house.path(name).display().to_string());
    let wait = format!(
        "n=0; until [ -e {go} ] || [ $n -gt 600 ]; do sleep 0.1; n=$((n+1)); done; touch {over}"
    );
    let id = house.client().submit("command", &note(&house, &wait));
    eventually("it runs", || (!lines(&house.path("ran")).is_empty()).then_some(()));
    // Nothing can be recorded while somebody else has the write lock.
    let mut other = database(&house);
    other.batch_execute("BEGIN IMMEDIATE").unwrap();
    std::fs::write(&go, "").unwrap();
    eventually("it has ended", || std::fs::exists(&over).unwrap().then_some(()));
    daemon.kill();
    drop(other);

    let daemon = house.start();
    let job = house.client().reaches(id, "completed");
    assert_eq!(outcomes(&job), ["interrupted", "success"], "{job:#}");
    assert_eq!(lines(&house.path("ran")), [format!("{id}-1"), format!("{id}-2")]);
    daemon.stop();
}

/// Makes a job that is held back come back now.
fn end_wait(house: &House, id: i64) {
    let now = format!("UPDATE jobs_scheduled SET run_at = 0 WHERE job_id = {id}");
    database(house).batch_execute(&now).unwrap();
    // The pool looks when something is submitted. If it is dead by now, the next one looks anyway.
    let job = json!({ "kind": "command", "params": { "argv": ["true"] } });
    let _answer = house.client().call("POST", "/api/v1/jobs", Some(&job));
}

#[test]
fn a6_a_job_that_kills_its_daemon_each_time_is_given_up_and_the_others_run() {
    let house = House::new().set("WORKERS__COUNT", "2");
    let mut daemon = house.start();
    let good = house.client().submit("command", &note(&house, "exec sleep 0.2"));
    let poison = house
        .client()
        // After a moment, so that the daemon can still answer.
        .submit(
            "command",
            &json!({ "shell": "sleep 0.2; kill -9 $PPID; sleep 60", "on_restart": "kill" }),
        );
    let mut deaths = 0;
    let job = loop {
        let began = Instant::now();
        let ended = eventually("the daemon dies or the job is over", || {
            if daemon.has_ended() {
                return Some(None);
            }
            // It was asked of a daemon that may be dying; no answer is no news.
            let (status, job) =
                house.client().call("GET", &format!("/api/v1/jobs/{poison}"), None)?;
            (status == 200 && job["state"] == "failed").then_some(Some(job))
        });
        assert!(began.elapsed() < Duration::from_secs(60));
        if let Some(job) = ended {
            break job;
        }
        deaths += 1;
        assert!(deaths <= MOST_LOSSES, "it kills its daemon for ever");
        daemon = house.spawn();
        eventually("the next daemon has taken over, or has died already", || {
            (house.is_served_by(&daemon) || daemon.has_ended()).then_some(())
        });
        if !daemon.has_ended() {
            end_wait(&house, poison);
        }
    };
    assert_eq!(deaths, MOST_LOSSES);
    assert_eq!(outcomes(&job), vec!["interrupted"; MOST_LOSSES as usize], "{job:#}");
    let why = job["error"].as_str().unwrap();
    assert!(why.contains("given up") && why.contains("the daemon died"), "{why}");
    house.client().reaches(good, "completed");
    daemon.stop();
}

#[test]
fn a9_a_kill_in_the_middle_of_catching_up_loses_no_instant_and_runs_none_twice() {
    let house = House::new();
    house.schedule(
        "tick",
        "[when]\nevery = \"1s\"\ncatch_up = \"all\"\ncatch_up_window = \"1h\"\ncatch_up_max = 500\n\n\
         [run]\noverlap = \"allow\"\n\n[command]\nargv = [\"true\"]\n",
    );
    let daemon = house.start();
    eventually("it has a ledger", || {
        let rows = house.client().try_get("/api/v1/occurrences?schedule=tick&limit=2")?;
        (rows["items"].as_array()?.len() == 2).then_some(())
    });
    daemon.kill();
    // As if it had been down for five minutes.
    let back = "UPDATE schedules SET decided_until = decided_until - 300000000; \
                DELETE FROM occurrences; DELETE FROM schedule_live; UPDATE jobs SET schedule = NULL, nominal_at = NULL";
    database(&house).batch_execute(back).unwrap();
    let mut daemon = house.spawn();
    for delay in [60, 120, 240, 480, 960] {
        std::thread::sleep(Duration::from_millis(delay));
        daemon.kill();
        daemon = house.spawn();
    }
    let client = house.client();
    let caught_up = || {
        let rows = client.try_get("/api/v1/occurrences?schedule=tick&limit=1")?;
        let newest: Timestamp = rows["items"][0]["nominal_at"].as_str()?.parse().ok()?;
        (Timestamp::now().duration_since(newest) < SignedDuration::from_secs(5)).then_some(())
    };
    eventually("it has caught up", caught_up);
    every_second_has_one_row(&client);
    let rows = client.all("/api/v1/occurrences?schedule=tick");
    assert!(rows.len() >= 300, "only {} instants were decided", rows.len());
    let jobs: Vec<i64> = rows.iter().filter_map(|row| row["job_id"].as_i64()).collect();
    let different: BTreeSet<i64> = jobs.iter().copied().collect();
    assert_eq!(different.len(), jobs.len(), "two instants share a job");
    daemon.stop();
}

#[test]
fn a1_a_hundred_thousand_pending_jobs_are_no_hindrance_to_a_start() {
    const PENDING: i64 = 100_000;
    let house = House::new().set("WORKERS__COUNT", "1");
    let daemon = house.start();
    let first = house.client().submit("command", &note(&house, ""));
    house.client().reaches(first, "completed");
    daemon.stop();
    // Copies of one job: submitting them one after the other would take longer than all the rest.
    let copies = format!(
        "WITH RECURSIVE copy (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM copy WHERE n < {PENDING}) \
         INSERT INTO jobs SELECT {first} + n, submission, kind, schedule, nominal_at, queue, priority, rank + n, params, labels, \
             settings, unique_key, run_at, created_at, actor, node_id FROM jobs, copy WHERE id = {first}; \
         INSERT INTO jobs_ready SELECT queue, rank, id, 0, 0 FROM jobs WHERE id > {first}"
    );
    database(&house).batch_execute(&copies).unwrap();

    let began = Instant::now();
    let daemon = house.start();
    let ready = began.elapsed();
    let client = house.client();
    client.reaches(first + 1, "completed");
    let first_end = began.elapsed();
    let began = Instant::now();
    let urgent = client.submit_with(&json!({
        "kind": "command", "params": { "argv": ["true"] }, "priority": "critical",
    }));
    client.reaches(urgent, "completed");
    println!(
        "ready after {ready:?}, first job done after {first_end:?}, an urgent one after {:?}",
        began.elapsed()
    );
    // Not a measurement: the bounds only tell a start that looks at every job from one that does not.
    assert!(ready < Duration::from_secs(20), "{ready:?}");
    let status = client.get("/api/v1/status");
    let waiting = status["jobs"]["pending"].as_i64().unwrap();
    assert!(waiting > PENDING / 2, "they are all there: {status:#}");
    let ran = lines(&house.path("ran"));
    let in_order: Vec<i64> =
        ran.iter().map(|line| line.split('-').next().unwrap().parse().unwrap()).collect();
    // One at a time: two workers would begin in this order, and get there in any.
    assert!(in_order.is_sorted(), "first come, first served: {ran:?}");
    daemon.stop();
}
