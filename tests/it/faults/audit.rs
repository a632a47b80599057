//! The audit log after somebody had their hands on it.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::process::{House, lines, text};

fn log(house: &House) -> PathBuf {
    house.data("log/audit.jsonl")
}

fn put(house: &House, lines: &[String]) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(log(house), text).unwrap();
}

fn verify(house: &House) -> (i32, String) {
    let output = house.sexton(&["audit", "verify"]);
    (output.status.code().unwrap(), text(&output))
}

fn events(house: &House, event: &str) -> Vec<Value> {
    let records = lines(&log(house))
        .into_iter()
        .map(|line| serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")));
    records.filter(|record: &Value| record["event"] == event).collect()
}

fn run(house: &House, program: &str) {
    let job = json!({ "kind": "command", "params": { "argv": [program] }, "max_attempts": 1 });
    let id = house.client().submit_with(&job);
    house.client().reaches(id, if program == "true" { "completed" } else { "failed" });
}

/// A house whose daemon ran a few jobs and was stopped.
fn with_history() -> House {
    let house = House::new();
    let daemon = house.start();
    for _ in 0..3 {
        run(&house, "true");
    }
    daemon.stop();
    let (code, said) = verify(&house);
    assert_eq!(code, 0, "{said}");
    house
}

#[test]
fn every_line_that_was_edited_removed_or_moved_is_named() {
    let house = with_history();
    let whole = lines(&log(&house));
    assert!(whole.len() >= 8, "a start, a stop, three submissions and attempts: {whole:#?}");

    let mut edited = whole.clone();
    edited[3] = edited[3].replacen("local:", "loca1:", 1).replacen("success", "failure", 1);
    assert_ne!(edited, whole);
    let mut removed = whole.clone();
    removed.remove(4);
    let mut moved = whole.clone();
    moved.swap(2, 5);
    for (what, tampered, line) in
        [("edited", edited, 4), ("removed", removed, 5), ("moved", moved, 3)]
    {
        put(&house, &tampered);
        let (code, said) = verify(&house);
        assert_eq!(code, 1, "{what}: {said}");
        assert!(said.contains(&format!("audit.jsonl:{line} ")), "{what}, line {line}: {said}");
    }
    put(&house, &whole);
    assert_eq!(verify(&house).0, 0, "put back as it was, it is intact");
}

#[test]
fn a_cut_off_end_is_noticed_and_what_it_told_is_told_again() {
    let house = with_history();
    let whole = lines(&log(&house));
    put(&house, &whole[..whole.len() - 4]);
    let (code, said) = verify(&house);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("ends too early"), "{said}");

    house.start().stop();
    assert_eq!(events(&house, "audit.records_missing").len(), 1);
    assert_eq!(events(&house, "attempt.finished").len(), 3, "the database still knows them");
    assert_eq!(events(&house, "daemon.stopped").len(), 2);
    let (code, said) = verify(&house);
    assert_eq!(code, 1, "what was cut stays a finding: {said}");
}

#[test]
fn an_unfinished_line_is_cut_off_at_the_next_start_and_nothing_is_missing() {
    let house = with_history();
    let whole = std::fs::read(log(&house)).unwrap();
    // As a crash in the middle of a write leaves it: the last line is half there.
    std::fs::write(log(&house), &whole[..whole.len() - 40]).unwrap();
    house.start().stop();
    assert_eq!(events(&house, "audit.line_cut").len(), 1);
    assert_eq!(events(&house, "attempt.finished").len(), 3);
    assert_eq!(events(&house, "daemon.stopped").len(), 2);
}

#[test]
fn a_log_that_was_moved_away_is_continued_in_a_new_one() {
    let house = with_history();
    let daemon = house.start();
    std::fs::rename(log(&house), house.path("audit.jsonl.1")).unwrap();
    run(&house, "true");
    daemon.stop();
    assert_eq!(events(&house, "audit.file_started").len(), 1);
    assert_eq!(events(&house, "attempt.finished").len(), 1);
    let (code, said) = verify(&house);
    assert_eq!(code, 0, "an anchor vouches for where it begins: {said}");

    let both = |older: &str| {
        let output = house.sexton(&["audit", "verify", older, "data/log/audit.jsonl"]);
        (output.status.code(), text(&output))
    };
    assert_eq!(both("audit.jsonl.1").0, Some(0), "{}", both("audit.jsonl.1").1);
    let mut older = lines(&house.path("audit.jsonl.1"));
    older.pop();
    std::fs::write(house.path("shorter"), older.join("\n") + "\n").unwrap();
    assert_eq!(both("shorter").0, Some(1), "a record between the two is missing");
}

#[test]
fn with_failures_only_attempts_that_succeeded_have_no_line() {
    let house = House::new().set("AUDIT__JOBS", "failures");
    let daemon = house.start();
    run(&house, "true");
    run(&house, "false");
    run(&house, "true");
    daemon.stop();
    let attempts = events(&house, "attempt.finished");
    assert_eq!(attempts.len(), 1, "{attempts:#?}");
    assert_eq!(attempts[0]["detail"]["outcome"], "failure");
    assert_eq!(events(&house, "job.submitted").len(), 3, "everything else has its line");
    assert_eq!(verify(&house).0, 0);
}
