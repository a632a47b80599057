//! Several daemons on one PostgreSQL. Where there is no server, nothing is tested here.

use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::{Value, json};
use sexton::store::DatabaseUrl;

use super::jobs::outcomes;
use crate::harness::daemon::{Daemon, Home, eventually, items};
use crate::harness::{Proxy, TestDatabase};

/// Beats so rare that nothing in a test can be their doing.
const BY_MESSAGE_ALONE: &str = "[lease]\nduration = \"10m\"\nheartbeat = \"2m\"\n";

/// A lease that ends while a test waits for it.
const SHORT_LEASE: &str = "[lease]\nduration = \"3s\"\nheartbeat = \"1s\"\n";

/// A daemon on that database, of that name.
fn node(database: &TestDatabase, name: &str, settings: &str) -> Daemon {
    Daemon::start_in(home(database, name, settings))
}

fn home(database: &TestDatabase, name: &str, settings: &str) -> Home {
    let DatabaseUrl::Postgres(url) = database.url() else { panic!("only PostgreSQL is asked") };
    let mut home = Home::new();
    home.variable("SEXTON_DATABASE__URL", PathBuf::from(url));
    home.variable("SEXTON_NODE__NAME", PathBuf::from(name));
    home.settings(settings);
    home
}

fn submit(node: &Daemon, script: &str) -> i64 {
    let job = node.post(
        "/api/v1/jobs",
        &json!({ "kind": "command", "params": { "shell": script }, "max_attempts": 3 }),
    );
    job["id"].as_i64().unwrap_or_else(|| panic!("no job: {job}"))
}

/// The name of the node that ran the latest attempt.
fn ran_on(node: &Daemon, job: &Value) -> String {
    let number = job["attempts"].as_array().and_then(|all| all.last()).map(|last| &last["node"]);
    let nodes = node.cli(["nodes", "--json"]).exits(0).json();
    let found = items(&nodes).iter().find(|row| Some(&row["id"]) == number);
    found.unwrap_or_else(|| panic!("{job} {nodes}"))["name"].as_str().unwrap().to_owned()
}

#[test]
fn work_that_a_busy_node_has_no_room_for_is_done_by_another_at_once() {
    let Some(database) = TestDatabase::postgres() else { return };
    let one_worker = format!("{BY_MESSAGE_ALONE}[workers]\ncount = 1\n");
    let busy = node(&database, "busy", &one_worker);
    let long = submit(&busy, &busy.gate("gate"));
    busy.job_in(long, "running");
    let idle = node(&database, "idle", &one_worker);
    let next = submit(&busy, "true");
    let done = busy.job_in(next, "completed");
    assert_eq!(ran_on(&idle, &done), "idle");
    busy.open("gate");
    idle.job_in(long, "completed");
}

#[test]
fn a_job_is_cancelled_wherever_it_runs() {
    let Some(database) = TestDatabase::postgres() else { return };
    let runs = node(&database, "runs", BY_MESSAGE_ALONE);
    let id = submit(&runs, &runs.gate("never"));
    runs.job_in(id, "running");
    let asks = node(&database, "asks", BY_MESSAGE_ALONE);
    asks.cli(["cancel", &id.to_string()]).exits(0);
    asks.job_in(id, "cancelled");
}

#[test]
fn a_drained_node_takes_nothing_new_until_it_is_resumed() {
    let Some(database) = TestDatabase::postgres() else { return };
    let drained = node(&database, "drained", BY_MESSAGE_ALONE);
    let long = submit(&drained, &drained.gate("gate"));
    drained.job_in(long, "running");
    let other = node(&database, "other", BY_MESSAGE_ALONE);
    let state_is = |state: &str| {
        eventually(&format!("the node is {state}"), || {
            let nodes = other.cli(["nodes", "--json"]).exits(0).json();
            let row = items(&nodes).iter().find(|row| row["name"] == "drained").cloned();
            row.filter(|row| row["state"] == state)
        })
    };
    other.cli(["nodes", "drain", "drained"]).exits(0);
    assert_eq!(state_is("draining")["running"], 1, "what runs goes on");
    eventually("it has heard of it", || {
        drained.output().contains("told whether to take work").then_some(())
    });
    for _ in 0..5 {
        let id = submit(&drained, "true");
        assert_eq!(ran_on(&other, &other.job_in(id, "completed")), "other");
    }
    drained.open("gate");
    other.job_in(long, "completed");
    state_is("drained");
    other.cli(["nodes", "drain", "other"]).exits(0);
    let waits = submit(&other, "true");
    other.cli(["nodes", "resume", "drained"]).exits(0);
    assert_eq!(ran_on(&other, &other.job_in(waits, "completed")), "drained");
    let unknown = other.cli(["nodes", "drain", "nobody"]);
    assert!(unknown.code != 0 && unknown.stderr.contains("those that do: "), "{unknown:?}");
}

#[test]
fn m1_two_nodes_with_the_same_schedule_record_each_instant_once() {
    let Some(database) = TestDatabase::postgres() else { return };
    let schedule =
        "[when]\nevery = \"1s\"\n[run]\noverlap = \"allow\"\n[command]\nargv = [\"true\"]\n";
    let start = |name| {
        let node = node(&database, name, BY_MESSAGE_ALONE);
        node.schedule("each", schedule);
        node.cli(["reload"]).exits(0);
        node
    };
    let (first, second) = (start("first"), start("second"));
    let enough = |node: &Daemon| {
        let why = node.cli(["why", "each", "--json", "--limit", "100"]).exits(0).json();
        let rows = items(&why).clone();
        (rows.len() >= 6).then_some(rows)
    };
    let rows = eventually("some instants have passed", || enough(&first));
    let instants: std::collections::BTreeSet<&str> =
        rows.iter().map(|row| row["nominal_at"].as_str().unwrap()).collect();
    assert_eq!(instants.len(), rows.len(), "{rows:#?}");
    // Held back on one of them, it is held back on both.
    second.cli(["pause", "each", "--reason", "a test"]).exits(0);
    eventually("both nodes know of it", || {
        let rows = enough(&first)?;
        let decisions = rows.iter().take(3).map(|row| row["decision"].as_str().unwrap());
        decisions.eq(["skipped_paused"; 3]).then_some(())
    });
}

#[test]
fn m2_a_node_that_was_frozen_past_its_lease_finds_its_jobs_with_another() {
    let Some(database) = TestDatabase::postgres() else { return };
    let frozen = node(&database, "frozen", SHORT_LEASE);
    let id = submit(&frozen, &frozen.gate("gate"));
    frozen.job_in(id, "running");
    let other = node(&database, "other", SHORT_LEASE);
    frozen.signal(Signal::STOP);
    eventually("the other node has taken the job over", || {
        let job = other.job(id);
        (job["state"] == "running" && job["attempt"] == 2).then_some(())
    });
    frozen.open("gate");
    let done = other.job_in(id, "completed");
    frozen.signal(Signal::CONT);
    eventually("the node learns what has happened", || {
        let output = frozen.output();
        (output.contains("a late report was refused") && output.contains("declared dead"))
            .then_some(())
    });
    assert_eq!(outcomes(&done), [(1, "interrupted"), (2, "success")]);
    assert_eq!(other.job(id)["attempts"], done["attempts"], "nothing was added by the late one");
    // It lives again, and works.
    other.cli(["nodes", "drain", "other"]).exits(0);
    let next = submit(&frozen, "true");
    assert_eq!(ran_on(&other, &other.job_in(next, "completed")), "frozen");
}

#[test]
fn m3_connections_that_are_cut_lose_no_job_and_run_none_twice() {
    let Some(database) = TestDatabase::postgres() else { return };
    const JOBS: usize = 300;
    // With a lease that is not renewed in time a node rightly loses what it runs, which is not what is looked at here.
    let nodes = ["first", "second"].map(|name| node(&database, name, BY_MESSAGE_ALONE));
    let ran = nodes[0].path("ran");
    let script = format!("echo $SEXTON_JOB_ID >> '{}'", ran.display());
    let jobs: Vec<Value> =
        (0..JOBS).map(|_| json!({ "kind": "command", "params": { "shell": script } })).collect();
    nodes[0].post("/api/v1/jobs", &json!(jobs));
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    eventually("every job is over", || {
        database.execute(cut);
        let status = nodes[1].cli(["status", "--json"]);
        let jobs = &status.json()["jobs"];
        (jobs["completed"] == JOBS).then_some(())
    });
    let mut lines: Vec<i64> =
        std::fs::read_to_string(&ran).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    lines.sort_unstable();
    let attempts: Vec<i64> = lines.clone();
    lines.dedup();
    assert_eq!(lines.len(), JOBS, "each ran");
    assert_eq!(attempts.len(), JOBS, "and once");
}

/// A job must not run on two nodes at once, and a node that hears nothing cannot know what the others think of it.
#[test]
fn m3_a_node_that_the_database_does_not_answer_stops_its_jobs_before_others_take_them() {
    let Some(database) = TestDatabase::postgres() else { return };
    let DatabaseUrl::Postgres(url) = database.url() else { panic!("only PostgreSQL is asked") };
    let (place, server) = url.split_once("?host=").expect("a socket");
    let proxy = Proxy::to(PathBuf::from(server));
    let mut home = Home::new();
    let through = format!("{place}?host={}", proxy.directory().display());
    home.variable("SEXTON_DATABASE__URL", PathBuf::from(through));
    home.variable("SEXTON_NODE__NAME", PathBuf::from("cut-off"));
    home.settings(SHORT_LEASE);
    let cut_off = Daemon::start_in(home);
    // Whoever finds the other one still at it says so.
    let [busy, both] = ["busy", "both"].map(|name| cut_off.path(name).display().to_string());
    let script = format!(
        "mkdir {busy} || touch {both}; trap 'rmdir {busy}; exit 1' TERM; {} ; rmdir {busy}",
        cut_off.gate("gate")
    );
    let id = submit(&cut_off, &script);
    cut_off.job_in(id, "running");
    eventually("it is at work", || std::fs::exists(&busy).unwrap().then_some(()));
    let other = node(&database, "other", SHORT_LEASE);
    proxy.silence(true);
    eventually("the other node has taken the job over", || {
        let job = other.job(id);
        (job["state"] == "running" && job["attempt"] == 2).then_some(())
    });
    cut_off.open("gate");
    let done = other.job_in(id, "completed");
    assert_eq!(ran_on(&other, &done), "other");
    assert!(!std::fs::exists(&both).unwrap(), "it ran twice at the same time");
    proxy.silence(false);
    other.cli(["nodes", "drain", "other"]).exits(0);
    let next = submit(&other, "true");
    assert_eq!(ran_on(&other, &other.job_in(next, "completed")), "cut-off", "it works again");
}

/// The program is dead by then although it may take ten seconds to end, which is longer than the lease; whoever keeps it.
#[test]
fn m3_a_program_that_ignores_being_told_to_end_is_dead_before_others_take_its_job() {
    let Some(database) = TestDatabase::postgres() else { return };
    let DatabaseUrl::Postgres(url) = database.url() else { panic!("only PostgreSQL is asked") };
    let (place, server) = url.split_once("?host=").expect("a socket");
    let proxy = Proxy::to(PathBuf::from(server));
    let mut home = Home::new();
    let through = format!("{place}?host={}", proxy.directory().display());
    home.variable("SEXTON_DATABASE__URL", PathBuf::from(through));
    home.variable("SEXTON_NODE__NAME", PathBuf::from("cut-off"));
    home.settings(SHORT_LEASE);
    let cut_off = Daemon::start_in(home);
    let ids = ["keep", "kill"].map(|on_restart| {
        let name = |what: &str| cut_off.path(format!("{on_restart}-{what}")).display().to_string();
        let [pid, both] = ["pid", "both"].map(name);
        // The second run looks whether the first one is alive: there, and no zombie that nobody has reaped yet.
        let script = format!(
            "if [ -e {pid} ]; then grep -qs '^State:[[:space:]][RSDTt]' /proc/$(cat {pid})/status && touch {both}; exit 0; fi; \
             trap '' TERM; echo $$ > {pid}.new; mv {pid}.new {pid}; while :; do sleep 0.05; done"
        );
        let params = json!({ "shell": script, "on_restart": on_restart });
        let job = cut_off.post(
            "/api/v1/jobs",
            &json!({ "kind": "command", "params": params, "max_attempts": 1 }),
        );
        eventually("it is at work", || std::fs::exists(&pid).unwrap().then_some(()));
        (job["id"].as_i64().unwrap(), both)
    });
    let other = node(&database, "other", SHORT_LEASE);
    proxy.silence(true);
    for (id, both) in &ids {
        let done = other.job_in(*id, "completed");
        assert_eq!(ran_on(&other, &done), "other");
        assert!(!std::fs::exists(both).unwrap(), "job {id} ran twice at the same time");
    }
    proxy.silence(false);
}

/// Its audit log would be held against what the other one's left in the database.
#[test]
fn m7_a_second_node_of_a_name_does_not_start_while_the_first_one_is_alive() {
    let Some(database) = TestDatabase::postgres() else { return };
    let mut first = node(&database, "twin", SHORT_LEASE);
    let twin = home(&database, "twin", SHORT_LEASE);
    let refused = twin.cli(["serve"]).exits(75);
    assert!(
        refused.stderr.contains("`twin`") && refused.stderr.contains("node.name"),
        "{refused:?}"
    );
    submit(&first, "true");
    first.cli(["audit", "verify"]).exits(0);
    let nodes = first.cli(["nodes", "--json"]).exits(0).json();
    assert_eq!(items(&nodes).len(), 1, "{nodes:#}");
    // As a container that was lost with its machine, and is started on another one.
    first.kill();
    let second = Daemon::start_in(twin);
    assert!(second.output().contains("its lease is over"), "{}", second.output());
    second.job_in(submit(&second, "true"), "completed");
}

/// Where the program of a job prints is known to its node alone.
#[test]
fn a_log_that_is_on_another_node_is_said_to_be_there() {
    let Some(database) = TestDatabase::postgres() else { return };
    let runs = node(&database, "runs", BY_MESSAGE_ALONE);
    let id = submit(&runs, &format!("echo here; {}", runs.gate("gate")));
    runs.job_in(id, "running");
    let asks = node(&database, "asks", BY_MESSAGE_ALONE);
    let logs = |node: &Daemon, more: &[&str]| {
        let id = id.to_string();
        node.cli(["logs", &id].iter().chain(more)).exits(0)
    };
    let told = logs(&asks, &[]);
    assert!(told.stdout.is_empty() && told.stderr.contains("runs on the node runs"), "{told:?}");
    assert_eq!(logs(&asks, &["--json"]).json()["elsewhere"], "runs");
    assert_eq!(logs(&runs, &["--json"]).json().get("elsewhere"), None);
    std::thread::scope(|scope| {
        let follows = scope.spawn(|| logs(&asks, &["-f"]));
        asks.cli(["logs", &id.to_string()]).exits(0);
        runs.open("gate");
        let followed = follows.join().unwrap();
        assert_eq!(followed.stdout, "here\n");
        assert!(followed.stderr.matches("runs on the node runs").count() <= 1, "{followed:?}");
    });
    assert_eq!(logs(&asks, &["--json"]).json().get("elsewhere"), None);
}

#[test]
fn m10_what_all_nodes_left_running_is_done_by_the_one_that_comes_back() {
    let Some(database) = TestDatabase::postgres() else { return };
    let mut nodes = ["first", "second"].map(|name| node(&database, name, SHORT_LEASE));
    let ids = [0, 1].map(|index| submit(&nodes[index], &nodes[index].gate("gate")));
    for id in ids {
        nodes[0].job_in(id, "running");
    }
    for node in &mut nodes {
        node.kill();
        node.open("gate");
    }
    nodes[0].start_again();
    for id in ids {
        nodes[0].job_in(id, "completed");
    }
}

/// The lock on its directory shows that the one before it is dead, and its lease need not be waited for.
#[test]
fn m7_a_node_that_was_killed_and_starts_again_is_not_its_own_namesake() {
    let Some(database) = TestDatabase::postgres() else { return };
    let mut only = node(&database, "only", BY_MESSAGE_ALONE);
    only.kill();
    only.start_again();
    let nodes = only.cli(["nodes", "--json"]).exits(0).json();
    let states: Vec<&str> =
        items(&nodes).iter().map(|node| node["state"].as_str().expect("a state")).collect();
    assert_eq!(states, ["running", "stopped"], "{nodes:#}");
    let status = only.cli(["status", "--json"]).exits(0).json();
    assert_eq!(status["problems"], json!([]));
    only.cli(["nodes", "drain", "only"]).exits(0);
    eventually("it says that it takes nothing", || {
        let status = only.cli(["status"]).exits(0).stdout;
        status.contains("takes nothing new").then_some(())
    });
}
