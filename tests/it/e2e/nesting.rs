//! JSON that is nested deep: what would not arrive everywhere is not taken in.

use serde_json::{Value, json};

use crate::harness::daemon::{Daemon, items};

/// The documented limit.
const LEVELS: usize = 64;

fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, _| json!([inner]))
}

fn text(levels: usize) -> String {
    format!("{}1{}", "[".repeat(levels), "]".repeat(levels))
}

#[test]
fn params_that_are_nested_too_deep_are_refused_where_they_are_and_the_deepest_ones_run() {
    let daemon = Daemon::start(|_| ());
    let params = |levels| json!({"argv": ["true"], "input": {"a": nested(levels)}});
    for levels in [LEVELS - 1, 120] {
        let job = json!({"kind": "command", "params": params(levels)});
        let refusal = daemon.post("/api/v1/jobs", &job);
        assert_eq!(refusal["errors"][0]["pointer"], "/params/input", "{refusal}");
        let detail = refusal["errors"][0]["detail"].as_str().unwrap();
        assert!(detail.contains("64 lists and objects"), "{detail}");
        let job = json!({"kind": "command", "params": {"argv": ["true"]}});
        let mut batch = job.clone();
        batch["items"] = json!(["a", {"name": "b", "params": params(levels)}]);
        let refusal = daemon.post("/api/v1/jobs", &json!([job, batch]));
        assert_eq!(refusal["errors"][0]["pointer"], "/1/items/1/params/input", "{refusal}");
    }
    let given = params(123).to_string();
    let refused = daemon.cli(["submit", "command", "--params", &given]).exits(2);
    assert!(refused.stderr.contains("/params/input"), "{refused:?}");

    let body = json!({"kind": "command", "params": params(LEVELS - 2), "max_attempts": 1});
    let id = daemon.post("/api/v1/jobs", &body)["id"].as_i64().expect("a job");
    daemon.job_in(id, "completed");
    let list = daemon.cli(["jobs", "--json"]).exits(0).json();
    assert_eq!(items(&list)[0]["params"], body["params"]);
}

#[test]
fn what_a_program_says_too_deep_is_counted_and_its_job_ends() {
    let daemon = Daemon::start(|_| ());
    for levels in [LEVELS + 1, 122, 124, 127, 5000] {
        let said = text(levels);
        let script = format!(
            "echo '{{\"result\": {said}}}' >&3; echo '{{\"checkpoint\": {said}}}' >&3; echo '{said}'"
        );
        let params = json!({"shell": script, "result": "last_line"});
        let body = json!({"kind": "command", "params": params, "max_attempts": 1});
        let id = daemon.post("/api/v1/jobs", &body)["id"].as_i64().expect("a job");
        let job = daemon.job_in(id, "completed");
        let result = &job["result"];
        assert_eq!(result["malformed_lines"], 2, "{levels}: {result}");
        assert_eq!(result["output"], Value::Null, "{levels}: {result}");
    }
    let script = format!("echo '{{\"result\": {}}}' >&3", text(LEVELS));
    let id = daemon.submit(&script, &[])["id"].as_i64().expect("a job");
    let job = daemon.job_in(id, "completed");
    assert_eq!(job["result"]["output"], nested(LEVELS));
}
