//! `kill -9` at any moment: nothing accepted is lost, nothing runs twice without a row that says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use diesel::prelude::*;
use serde_json::{Value, json};
use sexton::store::schema::{attempts, jobs, occurrences};

use crate::harness::Dice;

use super::process::{
    Client, House, eventually, lines, nothing_is_left_of, outcomes, processes_with, text, within,
};

const KILLS: usize = 100;

/// So that draining takes seconds, however fast the machine is.
const MOST_SUBMISSIONS_A_LIFE: usize = 10;

/// Submits jobs that write their number to a file, as long as it may, and keeps the numbers of those that were acknowledged.
struct Submitter {
    client: Client,
    script: String,
    acknowledged: Mutex<Vec<i64>>,
    /// How many it may still submit; filled up with every life of the daemon.
    budget: AtomicUsize,
    is_over: AtomicBool,
}

impl Submitter {
    fn run(&self) {
        let mut is_kept = false;
        while !self.is_over.load(Ordering::Relaxed) {
            if self.budget.load(Ordering::Relaxed) == 0 {
                std::thread::sleep(Duration::from_millis(2));
                continue;
            }
            is_kept = !is_kept;
            let on_restart = if is_kept { "keep" } else { "kill" };
            let params = json!({ "shell": self.script, "on_restart": on_restart });
            let job = json!({ "kind": "command", "params": params });
            match self.client.call("POST", "/api/v1/jobs", Some(&job)) {
                Some((202, job)) => {
                    self.acknowledged.lock().unwrap().push(job["id"].as_i64().unwrap());
                    self.budget.fetch_sub(1, Ordering::Relaxed);
                }
                Some((status, answer)) => panic!("{status} {answer}"),
                // Killed, or not there yet: this one was not acknowledged.
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }
}

/// Ends the submitter also when the test fails, so that a failure is not a test that hangs.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a1_after_100_kills_every_acknowledged_job_ran_and_every_instant_has_a_row() {
    let mut dice = Dice::seeded();
    let house = House::new();
    house.schedule("tick", "[when]\nevery = \"1s\"\n\n[command]\nargv = [\"true\"]\n");
    let ran = house.path("ran");
    let submitter = Submitter {
        client: house.client(),
        script: format!("echo $SEXTON_JOB_ID >> {}; exec sleep 0.03", ran.display()),
        acknowledged: Mutex::default(),
        budget: AtomicUsize::new(0),
        is_over: AtomicBool::new(false),
    };
    std::thread::scope(|scope| {
        let _ends = Ends(&submitter.is_over);
        scope.spawn(|| submitter.run());
        for kill in 0..KILLS {
            submitter.budget.store(MOST_SUBMISSIONS_A_LIFE, Ordering::Relaxed);
            // One in four lives ends anywhere in the start, the others while they work.
            let daemon = if kill % 4 == 0 { house.spawn() } else { house.start() };
            std::thread::sleep(Duration::from_millis(dice.below(150)));
            daemon.kill();
        }
    });
    let acknowledged = submitter.acknowledged.into_inner().unwrap();
    assert!(acknowledged.len() > KILLS, "only {} jobs were accepted", acknowledged.len());

    let daemon = house.start();
    let client = house.client();
    let waiting = |status: &Value| {
        ["pending", "retrying", "blocked", "running"]
            .iter()
            .map(|state| status["jobs"][state].as_i64().unwrap_or(0))
            .sum::<i64>()
    };
    // On a busy machine a job can have met so many kills in a row that it is held back for a minute (A6).
    within(Duration::from_secs(240), "what is left is done", || {
        (waiting(&client.get("/api/v1/status")) == 0).then_some(())
    });

    let found: BTreeMap<i64, Value> = client
        .all("/api/v1/jobs")
        .into_iter()
        .map(|job| (job["id"].as_i64().unwrap(), job))
        .collect();
    let mut runs: BTreeMap<i64, i64> = BTreeMap::new();
    for line in lines(&ran) {
        *runs.entry(line.parse().unwrap()).or_default() += 1;
    }
    let mut given_back = 0;
    for id in &acknowledged {
        let job = found.get(id).unwrap_or_else(|| panic!("job {id} is lost"));
        assert_eq!(job["state"], "completed", "{job:#}");
        let count = runs.get(id).copied().unwrap_or(0);
        assert!(count >= 1, "job {id} is completed and never ran");
        assert!(count <= job["attempt"].as_i64().unwrap(), "job {id} ran {count} times: {job:#}");
        if job["params"]["on_restart"] == "keep" {
            assert_eq!(count, 1, "no kill ends or doubles a program that is kept: {job:#}");
        }
        if job["attempt"] != 1 {
            given_back += 1;
            let job = client.job(*id);
            let outcomes = outcomes(&job);
            let (last, before) = outcomes.split_last().unwrap();
            assert_eq!(*last, "success", "{job:#}");
            assert!(before.iter().all(|outcome| *outcome == "interrupted"), "{job:#}");
            let numbers = job["attempts"].as_array().unwrap().iter().map(|a| a["number"].as_i64());
            assert!(numbers.eq((1..).map(Some).take(outcomes.len())), "{job:#}");
        }
    }
    assert!(given_back > 0, "no kill ever met a running job: this showed nothing");
    every_second_has_one_row(&client);
    daemon.stop();
    the_audit_log_tells_of_every_row(&house);
    println!("{} jobs acknowledged, {given_back} of them given back", acknowledged.len());
}

pub(super) fn every_second_has_one_row(client: &Client) {
    let mut rows: Vec<(jiff::Timestamp, i64)> = client
        .all("/api/v1/occurrences?schedule=tick")
        .iter()
        .map(|row| {
            let at = row["nominal_at"].as_str().unwrap().parse().unwrap();
            (at, row["instants"].as_i64().unwrap())
        })
        .collect();
    rows.sort();
    assert!(rows.len() > 5, "{rows:?}");
    for pair in rows.windows(2) {
        let [(at, instants), (next, _)] = pair else { unreachable!("windows of two") };
        let expected = *at + jiff::SignedDuration::from_secs(*instants);
        assert_eq!(*next, expected, "instants are missing or there twice after {at}");
    }
}

fn the_audit_log_tells_of_every_row(house: &House) {
    let verified = house.sexton(&["audit", "verify"]);
    assert!(verified.status.success(), "{}", text(&verified));
    let mut told: BTreeMap<&str, i64> = BTreeMap::new();
    let mut subjects = BTreeSet::new();
    for line in lines(&house.data("log/audit.jsonl")) {
        let record: Value = serde_json::from_str(&line).unwrap();
        let event = record["event"].as_str().unwrap();
        let (of, count) = match event {
            "attempt.finished" => {
                let key = format!("{} {}", record["subject"], record["detail"]["number"]);
                assert!(subjects.insert(key), "told twice: {line}");
                ("attempts", 1)
            }
            "job.submitted" => ("jobs", record["detail"]["count"].as_i64().unwrap_or(1)),
            "schedule.paused" | "schedule.resumed" => continue,
            _ if event.starts_with("schedule.") => ("occurrences", 1),
            _ => continue,
        };
        *told.entry(of).or_default() += count;
    }
    let path = house.data("sexton.db");
    let mut conn = SqliteConnection::establish(&path.to_string_lossy()).unwrap();
    let rows: [(&str, i64); 3] = [
        ("attempts", attempts::table.count().get_result(&mut conn).unwrap()),
        (
            "jobs",
            jobs::table.filter(jobs::schedule.is_null()).count().get_result(&mut conn).unwrap(),
        ),
        ("occurrences", occurrences::table.count().get_result(&mut conn).unwrap()),
    ];
    assert_eq!(told.into_iter().collect::<Vec<_>>(), rows);
}

#[test]
fn a2_a_program_that_outlived_its_daemon_is_ended_before_its_job_runs_again() {
    let house = House::new();
    let daemon = house.start();
    let mark = format!("orphan-of-{}", daemon.pid());
    let [pid, twice] = ["pid", "twice"].map(|name| house.path(name).display().to_string());
    // The second attempt looks whether the program of the first one is still there.
    let script = format!(
        "if [ -e {pid} ]; then grep -qa . /proc/$(cat {pid})/cmdline && touch {twice}; exit 0; fi; \
         echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 120"
    );
    let job = house.client().submit(
        "command",
        &json!({
            "shell": script, "env": { "MARK": mark }, "on_restart": "kill",
        }),
    );
    eventually("the program runs", || std::fs::exists(&pid).unwrap().then_some(()));
    daemon.kill();
    assert_eq!(processes_with(&mark).len(), 1, "it goes on without its daemon");

    let daemon = house.start();
    let job = house.client().reaches(job, "completed");
    assert_eq!(outcomes(&job), ["interrupted", "success"], "{job:#}");
    assert!(!std::fs::exists(&twice).unwrap(), "both ran at the same time");
    nothing_is_left_of(&mark);
    daemon.stop();
}

#[test]
fn a1_a_job_that_was_cut_off_by_a_kill_is_not_charged_for_it() {
    let house = House::new();
    let daemon = house.start();
    let script = "[ $SEXTON_ATTEMPT = 3 ] || exec sleep 60";
    let params = json!({ "shell": script, "on_restart": "kill" });
    let job = json!({ "kind": "command", "params": params, "max_attempts": 1 });
    let id = house.client().submit_with(&job);
    house.client().reaches(id, "running");
    daemon.kill();
    let daemon = house.start();
    eventually("it runs again", || (house.client().job(id)["attempt"] == 2).then_some(()));
    house.client().reaches(id, "running");
    daemon.kill();
    let daemon = house.start();
    let job = house.client().reaches(id, "completed");
    assert_eq!(outcomes(&job), ["interrupted", "interrupted", "success"], "{job:#}");
    daemon.stop();
}
