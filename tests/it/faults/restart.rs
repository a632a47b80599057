//! A daemon is restarted, replaced or killed while programs run: they go on, and are finished once.

use std::path::Path;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::database::database;
use super::process::{
    Daemon, House, eventually, lines, nothing_is_left_of, outcomes, processes_with,
};
use crate::harness::TestDatabase;
use sexton::store::DatabaseUrl;

fn address(database: &TestDatabase) -> String {
    match database.url() {
        DatabaseUrl::Postgres(url) => url.clone(),
        DatabaseUrl::Sqlite(path) => format!("sqlite:{}", path.display()),
    }
}

/// A program that notes its process in the file `ran`, says how far it is and goes on when the file `go` is there, after a minute at the
/// latest.
fn waits_for_go(house: &House, mark: &str) -> Value {
    let [ran, go] = ["ran", "go"].map(|name| house.path(name).display().to_string());
    let script = format!(
        "echo $$ >> {ran}; echo one; echo '{{\"progress\": 10, \"message\": \"half\"}}' >&3; \
         n=0; until [ -e {go} ] || [ $n -gt 600 ]; do sleep 0.1; n=$((n+1)); done; \
         echo '{{\"metric\": \"rows\", \"value\": 7}}' >&3; echo '{{\"result\": {{\"pages\": 3}}}}' >&3; echo two; exit 3"
    );
    json!({ "shell": script, "success_codes": [3], "env": { "MARK": mark } })
}

fn go(house: &House) {
    std::fs::write(house.path("go"), "").unwrap();
}

/// Starts a job that waits for `go`, and gives its number when it has said how far it is.
fn under_way(house: &House, mark: &str) -> i64 {
    let id = house.client().submit("command", &waits_for_go(house, mark));
    eventually("it says how far it is", || {
        (house.client().job(id)["progress"] == 10).then_some(())
    });
    id
}

/// The processes that keep programs of this house.
fn keepers(house: &House) -> Vec<u32> {
    let mut found = processes_with(&house.path("data").display().to_string());
    found.retain(|pid| {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments.split(|byte| *byte == 0).nth(1) == Some(b"keep")
    });
    found
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

fn kill(daemon: Daemon) {
    daemon.kill();
}

fn hand_over(mut daemon: Daemon) {
    daemon.signal(Signal::USR2);
    let status = daemon.wait();
    assert!(status.success(), "{status}:\n{}", daemon.log());
}

/// As systemd restarts a service whose unit hands over first.
fn hand_over_and_term(mut daemon: Daemon) {
    daemon.signal(Signal::USR2);
    // It may have ended by then.
    let pid = Pid::from_raw(i32::try_from(daemon.pid()).unwrap()).unwrap();
    let _gone = kill_process(pid, Signal::TERM);
    let status = daemon.wait();
    assert!(status.success(), "{status}:\n{}", daemon.log());
}

/// Holds that the job has run once, and that everything it said is there.
fn is_whole(house: &House, job: &Value) {
    assert_eq!(outcomes(job), ["success"], "{job:#}");
    assert_eq!((&job["attempt"], &job["attempts"][0]["exit_code"]), (&json!(1), &json!(3)));
    assert_eq!(job["result"]["output"], json!({ "pages": 3 }), "{job:#}");
    assert_eq!(job["result"]["metrics"], json!({ "rows": 7.0 }), "{job:#}");
    assert_eq!(lines(&house.path("ran")).len(), 1, "one process, from the beginning to the end");
    let log = house.client().get(&format!("/api/v1/jobs/{}/log", job["id"]));
    assert_eq!(log["text"], "one\ntwo\n");
}

fn goes_on(end: impl FnOnce(Daemon)) {
    let house = House::new();
    let daemon = house.start();
    let mark = format!("goes-on-{}", daemon.pid());
    let id = under_way(&house, &mark);
    end(daemon);
    let process: u32 = lines(&house.path("ran"))[0].parse().unwrap();
    assert!(processes_with(&mark).contains(&process), "it goes on without its daemon");

    let daemon = house.start();
    let job = house.client().job(id);
    assert_eq!((&job["state"], &job["progress"]), (&json!("running"), &json!(10)), "{job:#}");
    assert_eq!(outcomes(&job), [""; 0], "{job:#}");
    let running = house.client().get("/api/v1/workers");
    assert!(running.to_string().contains(&format!("\"job_id\":{id},")), "{running:#}");
    go(&house);
    let job = house.client().reaches(id, "completed");
    is_whole(&house, &job);
    nothing_is_left_of(&mark);
    eventually("the keeper of the first daemon is gone", || {
        keepers(&house).is_empty().then_some(())
    });
    daemon.stop();
    assert!(house.sexton(&["audit", "verify"]).status.success());
}

#[test]
fn a5_a_job_whose_daemon_is_killed_goes_on_and_the_next_daemon_finishes_it() {
    goes_on(kill);
}

#[test]
fn a5_a_job_whose_daemon_hands_over_goes_on_and_the_next_daemon_finishes_it() {
    goes_on(hand_over);
}

#[test]
fn a5_a_term_right_after_the_order_to_hand_over_changes_nothing() {
    goes_on(hand_over_and_term);
}

#[test]
fn a5_a_job_outlives_several_daemons() {
    let house = House::new();
    let mut daemon = house.start();
    let id = under_way(&house, "several");
    for end in [kill, hand_over, kill, kill, hand_over] {
        end(daemon);
        daemon = house.start();
    }
    let others: Vec<i64> =
        (0..3).map(|_| house.client().submit("command", &json!({ "argv": ["true"] }))).collect();
    for other in others {
        house.client().reaches(other, "completed");
    }
    go(&house);
    is_whole(&house, &house.client().reaches(id, "completed"));
    daemon.stop();
    eventually("no keeper is left", || keepers(&house).is_empty().then_some(()));
}

#[test]
fn a2_a_job_that_ends_while_there_is_no_daemon_is_finished_with_what_it_came_to() {
    let house = House::new();
    let daemon = house.start();
    let mark = format!("alone-{}", daemon.pid());
    let id = under_way(&house, &mark);
    daemon.kill();
    go(&house);
    eventually("it has ended", || processes_with(&mark).is_empty().then_some(()));
    eventually("its keeper waits for nobody", || keepers(&house).is_empty().then_some(()));
    let ended = jiff::Timestamp::now();
    let apart = ended + Duration::from_millis(200);
    eventually("its end and the next start are apart", || {
        (jiff::Timestamp::now() > apart).then_some(())
    });

    let daemon = house.start();
    let job = house.client().reaches(id, "completed");
    is_whole(&house, &job);
    let finished: jiff::Timestamp = job["finished_at"].as_str().unwrap().parse().unwrap();
    assert!(finished <= ended, "when it ended, and not when that was read: {job:#}");
    daemon.kill();
    let daemon = house.start();
    is_whole(&house, &house.client().job(id));
    let left = std::fs::read_dir(house.data("runs/running")).unwrap().count();
    assert_eq!(left, 0, "no file is left of it");
    daemon.stop();
}

#[test]
fn a2_an_end_that_was_told_and_not_recorded_is_told_to_the_next_daemon() {
    let house = House::new();
    let daemon = house.start();
    let mark = format!("told-{}", daemon.pid());
    let id = under_way(&house, &mark);
    // Nothing can be recorded while somebody else has the write lock.
    let mut other = database(&house);
    other.batch_execute("BEGIN IMMEDIATE").unwrap();
    go(&house);
    eventually("it has ended", || processes_with(&mark).is_empty().then_some(()));
    daemon.kill();
    drop(other);
    let daemon = house.start();
    is_whole(&house, &house.client().reaches(id, "completed"));
    daemon.stop();
}

#[test]
fn a2_an_order_that_was_under_way_when_the_daemon_died_is_not_given_twice() {
    let house = House::new();
    let daemon = house.start();
    let first = house.client().submit("command", &json!({ "argv": ["true"] }));
    house.client().reaches(first, "completed");
    let [keeper] = keepers(&house).try_into().unwrap();
    signal(keeper, Signal::STOP);
    let id = house.client().submit("command", &waits_for_go(&house, "under-way"));
    house.client().reaches(id, "running");
    // The order has left the daemon when its socket has taken it; there is nothing to be seen of that from outside.
    std::thread::sleep(Duration::from_millis(500));
    daemon.kill();
    assert!(lines(&house.path("ran")).is_empty());
    let daemon = house.spawn();
    signal(keeper, Signal::CONT);
    eventually("the next daemon serves", || house.is_served_by(&daemon).then_some(()));
    go(&house);
    is_whole(&house, &house.client().reaches(id, "completed"));
    daemon.stop();
}

#[test]
fn a_job_that_was_taken_over_can_be_cancelled() {
    let house = House::new();
    let daemon = house.start();
    let mark = format!("cancelled-{}", daemon.pid());
    let id = under_way(&house, &mark);
    daemon.kill();
    let daemon = house.start();
    house.client().post("/api/v1/jobs/cancel", &json!({ "ids": [id] }));
    let job = house.client().reaches(id, "cancelled");
    assert_eq!(outcomes(&job), ["cancelled"], "{job:#}");
    nothing_is_left_of(&mark);
    daemon.stop();
}

#[test]
fn the_time_limit_of_a_job_counts_from_its_start_whoever_sees_to_it() {
    for is_alone in [false, true] {
        let house = House::new();
        let daemon = house.start();
        let mark = format!("late-{}", daemon.pid());
        let params = json!({ "argv": ["sleep", "120"], "env": { "MARK": mark } });
        let id = house.client().submit_with(&json!({
            "kind": "command", "params": params, "timeout": "4s", "max_attempts": 1,
        }));
        eventually("its program runs", || (!processes_with(&mark).is_empty()).then_some(()));
        daemon.kill();
        if is_alone {
            eventually("its keeper ends it", || processes_with(&mark).is_empty().then_some(()));
        }
        let daemon = house.start();
        let job = house.client().reaches(id, "failed");
        assert_eq!(outcomes(&job), ["timeout"], "{job:#}");
        let took = job["attempts"][0]["duration_ms"].as_i64().unwrap();
        assert!((4000..30_000).contains(&took), "{job:#}");
        nothing_is_left_of(&mark);
        daemon.stop();
    }
}

#[test]
fn a_stop_ends_programs_that_a_restart_would_keep() {
    let house = House::new().set("SHUTDOWN__GRACE", "1s");
    let daemon = house.start();
    let mark = format!("stopped-{}", daemon.pid());
    let id = under_way(&house, &mark);
    daemon.stop();
    nothing_is_left_of(&mark);
    eventually("its keeper has nothing to keep", || keepers(&house).is_empty().then_some(()));
    go(&house);
    let daemon = house.start();
    let job = house.client().reaches(id, "completed");
    assert_eq!(outcomes(&job), ["interrupted", "success"], "{job:#}");
    daemon.stop();
}

#[test]
fn a_job_that_is_not_to_be_kept_is_waited_for_and_then_given_back() {
    let house = House::new().set("SHUTDOWN__GRACE", "1s");
    let daemon = house.start();
    let mark = format!("not-kept-{}", daemon.pid());
    let script = "[ $SEXTON_ATTEMPT = 2 ] || exec sleep 120";
    let params = json!({ "shell": script, "env": { "MARK": mark }, "on_restart": "kill" });
    let id = house.client().submit("command", &params);
    eventually("its program runs", || (!processes_with(&mark).is_empty()).then_some(()));
    hand_over(daemon);
    nothing_is_left_of(&mark);
    let daemon = house.start();
    let job = house.client().reaches(id, "completed");
    assert_eq!(outcomes(&job), ["interrupted", "success"], "{job:#}");
    daemon.stop();
}

#[test]
fn a_job_of_a_declared_kind_is_finished_as_it_began_whatever_became_of_its_file() {
    let house = House::new();
    std::fs::create_dir(house.path("kinds")).unwrap();
    let [ran, go_on] = ["ran", "go"].map(|name| house.path(name).display().to_string());
    let script = format!("echo $$ > {ran}; until [ -e {go_on} ]; do sleep 0.1; done; exit 9");
    let kind = format!("[command]\nshell = {script:?}\nskip_codes = [9]\n\n[params]\n");
    std::fs::write(house.path("kinds/slow.toml"), kind).unwrap();
    let daemon = house.start();
    let id = house.client().submit("slow", &json!({}));
    eventually("it runs", || (!lines(Path::new(&ran)).is_empty()).then_some(()));
    daemon.kill();
    std::fs::remove_file(house.path("kinds/slow.toml")).unwrap();
    let daemon = house.start();
    go(&house);
    let job = house.client().reaches(id, "completed");
    assert_eq!((outcomes(&job), &job["result"]["skipped"]), (vec!["success"], &json!(true)));
    daemon.stop();
}

/// A house with a kind that does a batch in one run: it tells of an item, waits for `first`, tells of the next, waits for `second`, and
/// tells of the last.
fn house_with_batches() -> House {
    let house = House::new();
    std::fs::create_dir(house.path("kinds")).unwrap();
    let [ran, told, first, second] =
        ["ran", "told", "first", "second"].map(|name| house.path(name).display().to_string());
    let script = format!(
        r#"echo $$ >> {ran}; cat > /dev/null
        reaches() {{ n=0; until [ -e "$1" ] || [ $n -gt 600 ]; do sleep 0.1; n=$((n+1)); done; }}
        echo '{{"item": "a", "state": "completed"}}' >&3; reaches {first}
        echo '{{"item": "b", "state": "completed", "result": 2}}' >&3; echo b > {told}; reaches {second}
        echo '{{"item": "c", "state": "completed"}}' >&3"#
    );
    let kind = format!("items = \"all\"\n[command]\nshell = {script:?}\n\n[params]\n");
    std::fs::write(house.path("kinds/pages.toml"), kind).unwrap();
    house
}

/// Starts a batch in one run, and gives its number when the first item is recorded.
fn batch_under_way(house: &House) -> i64 {
    let id = house.client().submit_with(&json!({ "kind": "pages", "items": ["a", "b", "c"] }));
    completes_items(house, id, 1);
    id
}

fn completes_items(house: &House, id: i64, count: u32) {
    eventually("that many items are recorded", || {
        (house.client().job(id)["batch"]["completed"] == count).then_some(())
    });
}

fn batch_is_whole(house: &House, id: i64) {
    let job = house.client().reaches(id, "completed");
    assert_eq!(outcomes(&job), ["success"], "{job:#}");
    assert_eq!(lines(&house.path("ran")).len(), 1, "one process, from the beginning to the end");
    let summary = json!({ "given": 3, "completed": 3, "failed": 0, "not_mentioned": 0 });
    assert_eq!(job["result"]["items"], summary, "{job:#}");
    let items = house.client().get(&format!("/api/v1/jobs/{id}/items"));
    let second = &items["items"][1];
    assert_eq!((&second["state"], &second["result"]), (&json!("completed"), &json!(2)));
}

#[test]
fn a5_a_batch_in_one_run_goes_on_and_what_it_told_without_a_daemon_is_recorded_by_the_next() {
    for end in [kill, hand_over] {
        let house = house_with_batches();
        let daemon = house.start();
        let id = batch_under_way(&house);
        end(daemon);
        std::fs::write(house.path("first"), "").unwrap();
        eventually("it tells of an item", || house.path("told").exists().then_some(()));
        let daemon = house.start();
        completes_items(&house, id, 2);
        assert_eq!(house.client().job(id)["state"], "running");
        std::fs::write(house.path("second"), "").unwrap();
        batch_is_whole(&house, id);
        daemon.stop();
    }
}

#[test]
fn a2_a_batch_in_one_run_that_ends_without_a_daemon_is_recorded_with_all_of_its_items() {
    let house = house_with_batches();
    let daemon = house.start();
    let id = batch_under_way(&house);
    daemon.kill();
    std::fs::write(house.path("first"), "").unwrap();
    std::fs::write(house.path("second"), "").unwrap();
    eventually("its keeper has left what came of it and is gone", || {
        keepers(&house).is_empty().then_some(())
    });
    let daemon = house.start();
    batch_is_whole(&house, id);
    daemon.stop();
}

#[test]
fn m2_a_program_whose_job_was_given_to_another_attempt_is_ended_and_its_result_refused() {
    for has_ended in [false, true] {
        let house = House::new();
        let daemon = house.start();
        let mark = format!("superseded-{}", daemon.pid());
        let id = under_way(&house, &mark);
        daemon.kill();
        // As if another node had rescued the job and begun it again.
        let taken = format!("UPDATE jobs_running SET number = 2 WHERE job_id = {id}");
        database(&house).batch_execute(&taken).unwrap();
        if has_ended {
            go(&house);
            eventually("its keeper is gone", || keepers(&house).is_empty().then_some(()));
        }
        let daemon = house.start();
        eventually("the program is gone", || {
            let is_old = |pid: &u32| lines(&house.path("ran"))[0] == pid.to_string();
            (!processes_with(&mark).iter().any(is_old)).then_some(())
        });
        go(&house);
        let job = house.client().reaches(id, "completed");
        assert_eq!(outcomes(&job), ["interrupted", "success"], "{job:#}");
        let events = house.json(&["audit", "--limit", "200"]);
        let refused: Vec<&Value> = events["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|event| event["event"] == "attempt.refused")
            .collect();
        assert_eq!(refused.len(), 1, "{events:#}");
        assert_eq!(refused[0]["detail"]["number"], 1, "{refused:#?}");
        daemon.stop();
    }
}

#[test]
fn a_program_of_another_database_is_ended_and_its_job_is_not_confused_with_one_of_the_same_number()
{
    let house = House::new();
    let daemon = house.start();
    let mark = format!("foreign-{}", daemon.pid());
    let id = under_way(&house, &mark);
    daemon.kill();
    let seed = "UPDATE meta SET value = 'another' WHERE key = 'jitter_seed'";
    database(&house).batch_execute(seed).unwrap();
    let daemon = house.start();
    eventually("it runs again", || (lines(&house.path("ran")).len() == 2).then_some(()));
    go(&house);
    let job = house.client().reaches(id, "completed");
    assert_eq!(outcomes(&job), ["interrupted", "success"], "{job:#}");
    eventually("nothing is left", || processes_with(&mark).is_empty().then_some(()));
    daemon.stop();
}

#[test]
fn m2_a_job_that_another_node_rescues_never_runs_twice_at_once() {
    let Some(shared) = TestDatabase::postgres() else { return };
    let url = address(&shared);
    let node = |name: &str| {
        let house = House::new();
        house
            .set("NODE__NAME", name)
            .set("DATABASE__URL", &url)
            .set("LEASE__DURATION", "2s")
            .set("LEASE__HEARTBEAT", "500ms")
    };
    let (first, second) = (node("first"), node("second"));
    let daemon = first.start();
    let mark = format!("rescued-{}", daemon.pid());
    let [pid, twice] = ["pid", "twice"].map(|name| first.path(name).display().to_string());
    let script = format!(
        "if [ -e {pid} ]; then [ -e /proc/$(cat {pid}) ] && touch {twice}; exit 0; fi; \
         echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 120"
    );
    let params = json!({ "shell": script, "env": { "MARK": mark }, "kill_grace": "200ms" });
    let id = first.client().submit("command", &params);
    eventually("the program runs", || std::fs::exists(&pid).unwrap().then_some(()));
    let other = second.start();
    daemon.kill();
    let job = second.client().reaches(id, "completed");
    assert_eq!(outcomes(&job), ["interrupted", "success"], "{job:#}");
    assert!(!std::fs::exists(&twice).unwrap(), "both ran at the same time");
    let daemon = first.start();
    let job = first.client().job(id);
    assert_eq!(outcomes(&job), ["interrupted", "success"], "{job:#}");
    daemon.stop();
    other.stop();
}

#[test]
fn a1_a_job_is_taken_over_on_postgresql_before_others_rescue_it() {
    let Some(shared) = TestDatabase::postgres() else { return };
    let house = House::new().set("DATABASE__URL", &address(&shared));
    let daemon = house.start();
    let id = under_way(&house, "on-postgresql");
    daemon.kill();
    let daemon = house.start();
    go(&house);
    is_whole(&house, &house.client().reaches(id, "completed"));
    daemon.stop();
}

#[test]
fn a_job_whose_keeper_dies_is_an_error_and_leaves_nothing_running() {
    let house = House::new();
    let daemon = house.start();
    let mark = format!("kept-{}", daemon.pid());
    let params = waits_for_go(&house, &mark);
    let job = json!({ "kind": "command", "params": params, "max_attempts": 1 });
    let id = house.client().submit_with(&job);
    eventually("its program runs", || (!lines(&house.path("ran")).is_empty()).then_some(()));
    let [keeper] = keepers(&house).try_into().unwrap();
    signal(keeper, Signal::KILL);
    let job = house.client().reaches(id, "failed");
    assert_eq!(outcomes(&job), ["error"], "{job:#}");
    assert!(job["error"].as_str().unwrap().contains("kept its program"), "{job:#}");
    nothing_is_left_of(&mark);
    let next = house.client().submit("command", &json!({ "argv": ["true"] }));
    house.client().reaches(next, "completed");
    daemon.stop();
}

#[test]
fn a2_a_program_whose_keeper_and_daemon_have_died_is_ended_before_its_job_runs_again() {
    let house = House::new();
    let daemon = house.start();
    let mark = format!("both-{}", daemon.pid());
    let id = under_way(&house, &mark);
    let [keeper] = keepers(&house).try_into().unwrap();
    signal(keeper, Signal::STOP);
    daemon.kill();
    signal(keeper, Signal::KILL);
    let daemon = house.start();
    eventually("it runs again", || (lines(&house.path("ran")).len() == 2).then_some(()));
    let first: u32 = lines(&house.path("ran"))[0].parse().unwrap();
    assert!(!processes_with(&mark).contains(&first), "both run at the same time");
    go(&house);
    let job = house.client().reaches(id, "completed");
    assert_eq!(outcomes(&job), ["interrupted", "success"], "{job:#}");
    daemon.stop();
}

#[test]
fn a_keeper_that_is_told_to_end_ends_its_programs_and_their_jobs_run_again() {
    let house = House::new();
    let daemon = house.start();
    let mark = format!("term-{}", daemon.pid());
    let id = under_way(&house, &mark);
    daemon.kill();
    let [keeper] = keepers(&house).try_into().unwrap();
    signal(keeper, Signal::TERM);
    eventually("they are gone", || keepers(&house).is_empty().then_some(()));
    nothing_is_left_of(&mark);
    go(&house);
    let daemon = house.start();
    let job = house.client().reaches(id, "completed");
    assert_eq!(outcomes(&job), ["interrupted", "success"], "{job:#}");
    daemon.stop();
}
