//! Three nodes on one PostgreSQL, to which everything happens that can: kills, freezes beyond the lease, cut connections, and a server that
//! crashes. In the end nothing is lost, nothing is finished twice, no limit was ever exceeded, and every instant has its row.
//!
//! `scripts/chaos` runs it on a server of its own. `SEXTON_CHAOS_JOBS` says how much there is to do, `SEXTON_IT_SEED` repeats a run's choices.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use diesel::prelude::*;
use rustix::process::Signal;
use serde_json::{Value, json};
use sexton::queue::names as limit_names;
use sexton::store::schema::{attempts, batches, job_results, jobs, occurrences};
use sexton::store::{Conn, DatabaseUrl, Purpose, limits};

use crate::harness::daemon::{Daemon, Home};
use crate::harness::http::call_with;
use crate::harness::{Dice, TestDatabase};

/// A lease that ends while a node is frozen.
const SETTINGS: &str = "[lease]\nduration = \"3s\"\nheartbeat = \"1s\"\n[workers]\ncount = 8\n";

/// How many jobs one call submits.
const IN_A_CALL: usize = 50;

/// What no snapshot may ever show more of.
const LIMITS: [(&str, u32); 3] = [("queue:narrow", 3), ("key:pair", 2), ("key:single", 1)];

fn jobs_to_do() -> usize {
    std::env::var("SEXTON_CHAOS_JOBS").map_or(3000, |count| count.parse().expect("a number"))
}

/// The `index`-th job of a call: all that a queue can be asked for, in turn.
fn job(index: usize, ran: &Path) -> Value {
    let note = format!("echo $SEXTON_JOB_ID >> '{}'", ran.display());
    let mut job = json!({
        "kind": "command", "params": { "shell": note }, "priority": 1 + index % 10,
        "backoff": { "backoff": "fixed", "delay": "200ms" },
    });
    match index % 8 {
        0 => job["concurrency"] = json!({ "key": "pair", "max": 2 }),
        1 => job["concurrency"] = json!({ "key": "single", "max": 1 }),
        2 => job["queue"] = json!("narrow"),
        3 => {
            let fails_at_first = format!(
                "{note}; [ -e '{}'.$SEXTON_JOB_ID ] || {{ : > '{}'.$SEXTON_JOB_ID; exit 1; }}",
                ran.display(),
                ran.display()
            );
            job["params"] = json!({ "shell": fails_at_first });
        }
        4 => job["depends_on"] = json!([{ "index": index - 1 }]),
        5 => job["items"] = json!(["a", "b", "c"]),
        6 => job["depends_on"] = json!([{ "index": index - 1, "needs": "finished" }]),
        _ => {}
    }
    job
}

/// Submits everything, each call until it is acknowledged, under a key that makes a repetition harmless.
fn submit_all(sockets: &[PathBuf], ran: &Path, count: usize) {
    let body = json!((0..IN_A_CALL).map(|index| job(index, ran)).collect::<Vec<_>>());
    for number in 0..count / IN_A_CALL {
        let head = format!("Idempotency-Key: chaos-{number}\r\n");
        let mut turn = number;
        loop {
            turn += 1;
            let socket = &sockets[turn % sockets.len()];
            let patience = Duration::from_secs(10);
            let answer = call_with(socket, patience, ("POST", "/api/v1/jobs"), &head, Some(&body));
            match answer {
                Some((202 | 200, _)) => break,
                Some((status, answer)) if status < 500 => panic!("{status} {answer}"),
                // Killed, frozen, or without a database.
                _ => nap(20),
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "other processes cannot wake this one")]
fn nap(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// Looks at what runs, over and over, until told to stop. Returns how often it could.
fn watch_limits(url: &DatabaseUrl, is_over: &AtomicBool) -> usize {
    let mut snapshots = 0;
    let mut conn: Option<Conn> = None;
    while !is_over.load(Ordering::Relaxed) {
        nap(10);
        let open = conn.take().or_else(|| url.connect(Purpose::Read).ok());
        let Some(mut open) = open else { continue };
        let Ok(running) = limits::running(&mut open) else { continue };
        let mut counts: HashMap<String, u32> = HashMap::new();
        for part in &running {
            for name in limit_names(&part.subqueue) {
                *counts.entry(name).or_default() += part.count;
            }
        }
        for (name, max) in LIMITS {
            let count = counts.get(name).copied().unwrap_or(0);
            assert!(count <= max, "{count} run under {name}, which allows {max}");
        }
        snapshots += 1;
        conn = Some(open);
    }
    snapshots
}

/// Makes one thing go wrong after the other, until told to stop. All nodes run when it returns. Tells how often what happened.
fn wreak_havoc(
    nodes: &mut [Daemon],
    database: &TestDatabase,
    dice: &mut Dice,
    is_over: &AtomicBool,
) -> BTreeMap<&'static str, usize> {
    let restart = std::env::var("SEXTON_TEST_POSTGRES_RESTART").expect("scripts/chaos sets it");
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let mut happened: BTreeMap<&'static str, usize> = BTreeMap::new();
    while !is_over.load(Ordering::Relaxed) {
        nap(300 + dice.below(1500));
        let victim = &mut nodes[dice.below(3) as usize];
        let what = match dice.below(8) {
            0..=2 => {
                victim.kill();
                nap(dice.below(1000));
                victim.start_again();
                "kill"
            }
            3..=4 => {
                victim.signal(Signal::STOP);
                nap(500 + dice.below(6000));
                victim.signal(Signal::CONT);
                "freeze"
            }
            5..=6 => {
                database.execute(cut);
                "cut"
            }
            _ => {
                let status = Command::new(&restart).status().expect("it can be restarted");
                assert!(status.success(), "the server is back");
                "crash of the server"
            }
        };
        *happened.entry(what).or_default() += 1;
    }
    happened
}

fn connect(url: &DatabaseUrl) -> Conn {
    url.connect(Purpose::Read).expect("the server answers")
}

/// How many jobs are not over.
fn unfinished(url: &DatabaseUrl) -> Option<i64> {
    let mut conn = url.connect(Purpose::Read).ok()?;
    jobs::table
        .left_join(job_results::table.on(job_results::job_id.eq(jobs::id)))
        .filter(job_results::job_id.is_null())
        .filter(jobs::schedule.is_null())
        .count()
        .get_result(&mut conn)
        .ok()
}

#[test]
#[ignore = "it crashes the server that others use; scripts/chaos gives it one of its own"]
fn three_nodes_lose_nothing_and_double_nothing_whatever_happens_to_them() {
    let count = jobs_to_do() / IN_A_CALL * IN_A_CALL;
    let mut dice = Dice::seeded();
    let database = TestDatabase::postgres().expect("scripts/chaos provides a server");
    let DatabaseUrl::Postgres(url) = database.url() else { panic!("it is PostgreSQL") };
    let shared = tempfile::tempdir().unwrap();
    let ran = shared.path().join("ran");
    let mut nodes: Vec<Daemon> = ["a", "b", "c"]
        .into_iter()
        .map(|name| {
            let mut home = Home::new();
            home.variable("SEXTON_DATABASE__URL", PathBuf::from(url));
            home.variable("SEXTON_NODE__NAME", PathBuf::from(name));
            home.settings(SETTINGS);
            home.schedule("tick", "[when]\nevery = \"1s\"\n[command]\nargv = [\"true\"]\n");
            Daemon::start_in(home)
        })
        .collect();
    nodes[0].cli(["limits", "set", "queue:narrow", "3"]).exits(0);

    let sockets: Vec<PathBuf> = nodes.iter().map(|node| node.path("data/sexton.sock")).collect();
    let is_over = AtomicBool::new(false);
    let (havoc, snapshots) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch_limits(database.url(), &is_over));
        let submitter = scope.spawn(|| submit_all(&sockets, &ran, count));
        let (nodes, database, is_over) = (&mut nodes, &database, &is_over);
        let nemesis = scope.spawn(move || wreak_havoc(nodes, database, &mut dice, is_over));
        while !submitter.is_finished() || unfinished(database.url()) != Some(0) {
            nap(200);
            if watcher.is_finished() || nemesis.is_finished() {
                break; // One of them has found something.
            }
        }
        is_over.store(true, Ordering::Relaxed);
        submitter.join().expect("everything is submitted");
        (nemesis.join().expect("every node came back"), watcher.join().expect("limits hold"))
    });
    println!("{count} jobs, {snapshots} snapshots, {havoc:?}");
    assert!(snapshots > 100, "hardly anything was looked at: {snapshots}");
    nothing_is_lost_or_doubled(&database, count, &ran);
    every_second_has_one_row(&database);
}

fn nothing_is_lost_or_doubled(database: &TestDatabase, count: usize, ran: &Path) {
    let mut conn = connect(database.url());
    let batch_ids: BTreeSet<i64> =
        batches::table.select(batches::job_id).load(&mut conn).unwrap().into_iter().collect();
    let rows: Vec<(i64, Option<String>)> = jobs::table
        .left_join(job_results::table.on(job_results::job_id.eq(jobs::id)))
        .filter(jobs::schedule.is_null())
        .order(jobs::id)
        .select((jobs::id, job_results::state.nullable()))
        .load(&mut conn)
        .unwrap();
    let batches_made = (0..IN_A_CALL).filter(|index| index % 8 == 5).count();
    let expected = count + count / IN_A_CALL * batches_made * 3;
    assert_eq!(
        rows.len(),
        expected,
        "what was acknowledged is there, and what was repeated is not"
    );
    let wrong: Vec<_> =
        rows.iter().filter(|(_, end)| end.as_deref() != Some("completed")).collect();
    assert!(
        wrong.is_empty(),
        "{} jobs did not complete: {:?}",
        wrong.len(),
        &wrong[..wrong.len().min(5)]
    );

    let lines = std::fs::read_to_string(ran).unwrap();
    let have_run: BTreeSet<i64> = lines.lines().filter_map(|line| line.parse().ok()).collect();
    let told: Vec<(i64, i32, String)> = attempts::table
        .order((attempts::job_id, attempts::number))
        .select((attempts::job_id, attempts::number, attempts::outcome))
        .load(&mut conn)
        .unwrap();
    let mut of_job: BTreeMap<i64, Vec<(i32, String)>> = BTreeMap::new();
    for (job, number, outcome) in told {
        of_job.entry(job).or_default().push((number, outcome));
    }
    for (id, _) in rows.iter().filter(|(id, _)| !batch_ids.contains(id)) {
        let attempts = &of_job[id];
        assert!(have_run.contains(id), "job {id} completed and never ran: {attempts:?}");
        assert!(
            attempts.iter().map(|(number, _)| *number).eq(1..=attempts.len() as i32),
            "{attempts:?}"
        );
        let (last, before) = attempts.split_last().unwrap();
        assert_eq!(last.1, "success", "job {id}: {attempts:?}");
        let failures = before.iter().filter(|(_, outcome)| outcome == "failure").count();
        let given_back = before.iter().filter(|(_, outcome)| outcome == "interrupted").count();
        assert_eq!(failures + given_back, before.len(), "job {id}: {attempts:?}");
        assert!(failures <= 1, "job {id}: {attempts:?}");
    }
}

fn every_second_has_one_row(database: &TestDatabase) {
    let rows: Vec<(i64, i64)> = occurrences::table
        .filter(occurrences::schedule.eq("tick"))
        .order(occurrences::nominal_at)
        .select((occurrences::nominal_at, occurrences::instants))
        .load(&mut connect(database.url()))
        .unwrap();
    assert!(rows.len() > 5, "{rows:?}");
    for pair in rows.windows(2) {
        let [(at, instants), (next, _)] = pair else { unreachable!("windows of two") };
        assert_eq!(*next, at + instants * 1_000_000, "instants are missing or there twice");
    }
}
