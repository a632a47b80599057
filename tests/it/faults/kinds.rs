//! Each kind does its work from a schedule file, on real files and sockets.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::process::{House, outcomes, text};
use super::web::{Manner, Web};

/// Runs a schedule by hand to its end, and gives its job.
fn run(house: &House, schedule: &str) -> Value {
    let output = house.sexton(&["run", schedule, "--wait", "--json"]);
    let job: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{schedule}: {error}: {}", text(&output)));
    let expected = if job["state"] == "completed" { 0 } else { 1 };
    assert_eq!(output.status.code(), Some(expected), "{}", text(&output));
    house.client().job(job["id"].as_i64().unwrap())
}

fn completed(house: &House, schedule: &str) -> Value {
    let job = run(house, schedule);
    assert_eq!(job["state"], "completed", "{job:#}\n{}", log_of(house, &job));
    job
}

fn log_of(house: &House, job: &Value) -> String {
    house.client().get(&format!("/api/v1/jobs/{}/log", job["id"]))["text"].to_string()
}

fn write(path: &Path, content: &str, days_old: u64) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
    let age = Duration::from_secs(days_old * 86_400);
    let when = SystemTime::now() - age;
    std::fs::File::options().write(true).open(path).unwrap().set_modified(when).unwrap();
}

/// Every file below a folder, sorted, relative to it.
fn files(folder: &Path) -> Vec<String> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    walk(folder, &mut found);
    let relative = |path: PathBuf| path.strip_prefix(folder).unwrap().display().to_string();
    let mut names: Vec<String> = found.into_iter().map(relative).collect();
    names.sort();
    names
}

#[test]
fn cleanup_deletes_what_its_file_says_and_nothing_else() {
    let house = House::new();
    let root = house.path("uploads");
    for (name, days) in [
        ("old.tmp", 9),
        ("new.tmp", 1),
        ("old.txt", 9),
        ("keep/old.tmp", 9),
        ("deep/er/old.tmp", 9),
    ] {
        write(&root.join(name), "x", days);
    }
    let outside = house.path("outside");
    write(&outside.join("old.tmp"), "x", 9);
    std::os::unix::fs::symlink(&outside, root.join("link")).unwrap();
    house.schedule(
        "tidy",
        &format!(
            "[cleanup]\nroots = [{root:?}]\ninclude = [\"*.tmp\"]\nprotect = [\"keep/\"]\n\
             older_than = \"7d\"\nage_by = [\"mtime\"]\n"
        ),
    );
    let daemon = house.start();

    let dry = house.sexton(&["run", "tidy", "--dry-run", "--wait"]);
    assert!(dry.status.success(), "{}", text(&dry));
    assert!(root.join("old.tmp").exists(), "a dry run deletes nothing");

    let job = completed(&house, "tidy");
    assert_eq!(job["result"]["deleted"]["files"], 2, "{job:#}");
    assert_eq!(files(&root), ["keep/old.tmp", "link/old.tmp", "new.tmp", "old.txt"]);
    daemon.stop();
}

#[test]
fn kb_validation_with_findings_fails_at_once_and_says_where_they_are() {
    let house = House::new();
    let root = house.path("kb");
    write(&root.join("index.md"), "# Index\n\nSee [setup](setup.md) and [gone](gone.md).\n", 0);
    write(&root.join("setup.md"), "# Setup\n", 0);
    write(&root.join("data.json"), "{\"a\": 1,}\n", 0);
    house.schedule("kb", &format!("[run]\nretries = 5\n\n[kb_validation]\nroot = {root:?}\n"));
    let daemon = house.start();
    let job = run(&house, "kb");
    assert_eq!(job["state"], "failed", "{job:#}");
    assert_eq!(outcomes(&job), ["failure"], "findings are an answer: it is not tried again");
    let findings = job["result"]["findings"].as_array().unwrap();
    let mut places: Vec<_> = findings
        .iter()
        .map(|finding| (finding["path"].as_str(), finding["line"].as_i64()))
        .collect();
    places.sort();
    assert_eq!(places, [(Some("data.json"), Some(1)), (Some("index.md"), Some(3))], "{job:#}");

    write(&root.join("data.json"), "{\"a\": 1}\n", 0);
    write(&root.join("gone.md"), "# Here\n", 0);
    let job = completed(&house, "kb");
    assert_eq!(job["result"]["counts"]["error"], 0, "{job:#}");
    daemon.stop();
}

#[test]
fn stats_report_writes_every_format_and_the_latest_link() {
    let house = House::new();
    house.schedule("daily", "[stats_report]\nperiod = \"last-24h\"\n");
    let daemon = house.start();
    for program in ["true", "true", "false"] {
        let job = json!({ "kind": "command", "params": { "argv": [program] }, "max_attempts": 1 });
        let id = house.client().submit_with(&job);
        house.client().reaches(id, if program == "true" { "completed" } else { "failed" });
    }
    let job = completed(&house, "daily");
    let folder = house.data("reports/daily");
    for extension in ["html", "md", "json", "csv"] {
        let latest = folder.join(format!("latest.{extension}"));
        let content = std::fs::read_to_string(&latest)
            .unwrap_or_else(|error| panic!("{}: {error}: {job:#}", latest.display()));
        assert!(content.contains("command"), "{extension}: {content}");
        assert!(latest.is_symlink());
    }
    let numbers = std::fs::read_to_string(folder.join("latest.json")).unwrap();
    let numbers: Value = serde_json::from_str(&numbers).unwrap();
    let totals = &job["result"]["totals"]["jobs"];
    assert_eq!((&totals["completed"], &totals["failed"]), (&json!(2), &json!(1)), "{totals}");
    assert_eq!(&numbers["summary"]["jobs"], totals, "{numbers:#}");
    daemon.stop();
}

#[test]
fn data_sync_makes_the_destination_like_the_source() {
    let house = House::new();
    let (from, to) = (house.path("from"), house.path("to"));
    write(&from.join("a.txt"), "a", 3);
    write(&from.join("sub/b.txt"), "b", 3);
    write(&to.join("a.txt"), "old a", 5);
    write(&to.join("gone.txt"), "gone", 5);
    house.schedule(
        "mirror",
        &format!("[data_sync]\nfrom = {from:?}\nto = {to:?}\nmode = \"mirror\"\n"),
    );
    let daemon = house.start();
    let job = completed(&house, "mirror");
    assert_eq!(files(&to), ["a.txt", "sub/b.txt"], "{job:#}");
    assert_eq!(std::fs::read_to_string(to.join("a.txt")).unwrap(), "a");
    let again = completed(&house, "mirror");
    assert_eq!(again["result"]["transferred"]["files"], 0, "{again:#}");
    daemon.stop();
}

#[test]
fn data_sync_fetches_from_the_web_and_http_checks_the_answer() {
    let (house, web) = (House::new(), Web::serve(Manner::Says("{\"status\": \"up\"}")));
    let to = house.path("fetched");
    house.schedule(
        "fetch",
        &format!(
            "[data_sync]\nfrom = [{:?}]\nto = {to:?}\nmode = \"copy\"\nallow_private = true\n",
            web.url("/state.json")
        ),
    );
    let check = |expected: &str| {
        format!(
            "[run]\nretries = 0\n\n[http]\nurl = {:?}\nallow_private = true\n\n\
             [http.expect]\njson = {{ \"/status\" = {expected:?} }}\n",
            web.url("/state.json")
        )
    };
    house.schedule("up", &check("up"));
    house.schedule("down", &check("down"));
    house.schedule("guarded", &format!("[run]\nretries = 0\n\n[http]\nurl = {:?}\n", web.url("/")));
    let daemon = house.start();
    completed(&house, "fetch");
    assert_eq!(std::fs::read_to_string(to.join("state.json")).unwrap(), "{\"status\": \"up\"}");
    let job = completed(&house, "up");
    assert_eq!(job["result"]["status"], 200, "{job:#}");
    assert_eq!(outcomes(&run(&house, "down")), ["failure"]);
    let guarded = run(&house, "guarded");
    assert_eq!(guarded["state"], "failed", "private addresses need to be allowed: {guarded:#}");
    daemon.stop();
}

#[test]
fn a_short_output_needs_no_file_to_be_read() {
    let house = House::new();
    let daemon = house.start();
    let client = house.client();
    let params = json!({ "shell": "echo short; exit 3" });
    let job = client.submit_with(&json!({
        "kind": "command", "params": params, "max_attempts": 2,
        "backoff": { "backoff": "delays", "delays": ["0s"] },
    }));
    client.reaches(job, "failed");
    // On a slow machine the attempts lasted long enough to get files.
    std::fs::remove_dir_all(house.data("runs")).unwrap();
    for query in ["", "?attempt=1", "?attempt=2"] {
        let log = client.get(&format!("/api/v1/jobs/{job}/log{query}"));
        assert_eq!((&log["text"], &log["next_offset"]), (&json!("short\n"), &json!(6)), "{log:#}");
    }
    assert_eq!(client.get(&format!("/api/v1/jobs/{job}/log?offset=2"))["text"], "ort\n");
    let never = client.call("GET", &format!("/api/v1/jobs/{job}/log?attempt=3"), None);
    assert_eq!(never.expect("an answer").0, 404);
    daemon.stop();
}

#[test]
fn cleanup_of_the_history_prunes_finished_jobs_with_their_logs() {
    let house = House::new();
    house.schedule("prune", "[cleanup.history]\ncompleted = \"1s\"\n");
    let daemon = house.start();
    let client = house.client();
    // More than the database keeps by itself.
    let [old, failed] = ["seq 2000", "seq 2000; exit 3"].map(|script| {
        let params = json!({ "shell": script });
        client.submit_with(&json!({ "kind": "command", "params": params, "max_attempts": 1 }))
    });
    client.reaches(old, "completed");
    client.reaches(failed, "failed");
    let logs = || -> Vec<String> {
        let files = files(&house.data("runs")).into_iter();
        files.filter(|name| name.ends_with(".log")).collect()
    };
    assert_eq!(logs().len(), 2, "{:?}", logs());
    std::thread::sleep(Duration::from_millis(1100));
    let job = completed(&house, "prune");
    assert_eq!(job["result"]["history"]["deleted"]["completed"], 1, "{job:#}");
    assert_eq!(client.call("GET", &format!("/api/v1/jobs/{old}"), None).unwrap().0, 404);
    assert_eq!(client.job(failed)["state"], "failed", "what the rule does not name stays");
    let left = logs();
    assert!(!left.contains(&format!("0/{old}-1.log")), "{left:?}");
    assert!(left.contains(&format!("0/{failed}-1.log")), "{left:?}");
    let log = client.get(&format!("/api/v1/jobs/{failed}/log"));
    assert!(log["text"].as_str().unwrap().ends_with("1999\n2000\n"), "{log:#}");
    daemon.stop();
}

#[test]
fn a_schedule_fires_by_itself_and_the_ledger_says_so() {
    let house = House::new();
    let out = house.path("out").display().to_string();
    house.schedule(
        "beat",
        &format!(
            "[when]\nevery = \"1s\"\n\n[command]\nshell = \"echo $SEXTON_NOMINAL_AT >> {out}\"\n"
        ),
    );
    let daemon = house.start();
    super::process::eventually("it ran twice", || {
        (super::process::lines(Path::new(&out)).len() >= 2).then_some(())
    });
    let why = house.json(&["why", "beat"]);
    let rows = why["items"].as_array().unwrap();
    assert!(rows.iter().filter(|row| row["decision"] == "enqueued").count() >= 2, "{why:#}");
    daemon.stop();
}
