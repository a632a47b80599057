use super::*;
use crate::jobs::KINDS;
use crate::model::{Backoff, HumanDuration};

fn check(body: Value) -> Result<Submitted, Problem> {
    let defaults = JobDefaults::default();
    check_submission(body, KINDS, &defaults, Timestamp::UNIX_EPOCH, &Actor::named("test"))
}

fn places(body: &Value) -> Vec<String> {
    let problem = check(body.clone()).expect_err("it is wrong");
    problem.errors.into_iter().map(|error| error.pointer).collect()
}

#[test]
fn every_pointer_of_a_refusal_leads_to_what_is_wrong() {
    let job = json!({"kind": "command", "params": {"argv": ["true"]}});
    for (body, place) in [
        (json!({"kind": "command", "depends_on": [1, "x"]}), "/depends_on/1"),
        (json!([job, {"kind": "command", "labels": {"a.b/c": 1}}]), "/1/labels/a.b~1c"),
        (json!([job, {"kind": "command", "a.b": 1}]), "/1/a.b"),
        (
            json!({"kind": "command", "params": {"argv": ["true"]}, "depends_on": [{"index": 0}]}),
            "/depends_on/0",
        ),
        (
            json!([job, {"kind": "command", "params": {"argv": ["true"]}, "depends_on": [{"index": 1}]}]),
            "/1/depends_on/0",
        ),
        (
            json!({"kind": "command", "params": {"argv": ["true"]}, "on_dependency_failure": "wait"}),
            "/on_dependency_failure",
        ),
        (json!({"kind": "command", "on_dependency_failure": "hope"}), "/on_dependency_failure"),
        (
            json!({"kind": "command", "depends_on": [{"job": 1, "needs": "luck"}]}),
            "/depends_on/0/needs",
        ),
        (json!({"kind": "command", "items": ["a", {"name": "b", "parms": {}}]}), "/items/1/parms"),
        (json!([job, {"kind": "command", "items": [{"name": "b"}, 7]}]), "/1/items/1"),
        (json!({"kind": "command", "items": [{"params": {}}]}), "/items/0"),
        (json!({"params": {}}), ""),
        (json!([job, 5]), "/1"),
        (json!([["command", {"argv": ["true"]}]]), "/0"),
        (json!({"kind": "command", "params": [["true"]]}), "/params"),
        (
            json!({"kind": "command", "params": {"argv": ["true"]}, "labels": {"a": "x\u{0}"}}),
            "/labels",
        ),
        (json!({"kind": "command", "params": {"argv": ["true"]}, "unique": "a\nb"}), "/unique"),
    ] {
        assert_eq!(places(&body), [place], "{body}");
        assert!(body.pointer(place).is_some(), "{place} leads nowhere in {body}");
    }
}

#[test]
fn a_refusal_of_an_item_says_what_one_is() {
    let body = json!({"kind": "command", "params": {"argv": ["true"]}, "items": ["a", 7]});
    let problem = check(body).expect_err("7 is no item");
    assert_eq!(
        problem.errors[0].detail,
        "invalid type: integer `7`, expected an item: its name, or an object with `name` and `params`"
    );
    let body = json!({"kind": "command", "items": [{"name": "a", "parms": {"z": 1}}]});
    let problem = check(body).expect_err("there is no such key");
    assert_eq!(problem.errors[0].detail, "unknown key `parms` (did you mean `params`?)");
}

#[test]
fn a_backoff_says_only_what_is_not_as_usual() {
    let policy = |backoff: Value| {
        let body = json!({"kind": "command", "params": {"argv": ["true"]}, "backoff": backoff});
        match check(body) {
            Ok(submitted) => Ok(submitted.jobs[0].settings.retry.clone().expect("it was given")),
            Err(problem) => Err(problem.errors[0].detail.clone()),
        }
    };
    let delays = policy(json!({"backoff": "delays", "delays": [0, "30s", 300]})).expect("right");
    assert_eq!(delays.max_attempts, 4, "one for each delay, and the first");
    let lengths = [0, 30, 300].map(HumanDuration::from_secs).to_vec();
    assert_eq!(delays.backoff, Backoff::Delays { delays: lengths });
    let grows = policy(json!({"backoff": "exponential", "base": "1h"})).expect("right");
    let (base, max_delay) = (HumanDuration::from_secs(3600), HumanDuration::from_secs(3600));
    let expected = Backoff::Exponential { base, factor: 2.0, max_delay, jitter: true };
    assert_eq!((grows.max_attempts, grows.backoff), (3, expected));
    for (backoff, why) in [
        (json!("fixed"), "must be an object"),
        (json!({"backoff": "fixed"}), "missing field `delay`"),
        (json!({"backoff": "exponential", "base": 0}), "longer than nothing"),
        (json!({"backoff": "exponential", "max_delay": "1s"}), "shorter than base"),
        (json!({"backoff": "delays", "delays": []}), "must not be empty"),
        (
            json!({"backoff": "fixed", "delay": -1}),
            "invalid type: integer `-1`, expected a length of time",
        ),
    ] {
        let refused = policy(backoff.clone()).expect_err("it is wrong");
        assert!(refused.contains(why), "{backoff}: {refused}");
    }
}

#[test]
fn a_refusal_of_a_dependency_says_what_one_is() {
    let detail = |on: Value| {
        let body = json!({"kind": "command", "params": {"argv": ["true"]}, "depends_on": [on]});
        check(body).expect_err("it is wrong").errors[0].detail.clone()
    };
    assert_eq!(
        detail(json!("7")),
        "invalid type: string \"7\", expected a job: its number, or an object with `job` or `index`, and `needs`"
    );
    assert_eq!(detail(json!({"job": "7"})), "invalid type: string \"7\", expected a whole number");
    assert_eq!(detail(json!({"jb": 7})), "unknown key `jb` (did you mean `job`?)");
}

#[test]
fn long_params_of_a_batch_are_not_multiplied_without_end() {
    let items: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    let shell = |bytes: usize| json!({"shell": "x".repeat(bytes)});
    let body = |bytes| json!({"kind": "command", "params": shell(bytes), "items": items});
    assert_eq!(check(body(100_000)).expect("10 MB").jobs[0].items.len(), 100);
    assert_eq!(places(&body(1_000_000)), ["/items/67"], "that is where 64 MiB are over");
}

#[test]
fn what_a_schedule_file_may_not_say_is_refused_here_too() {
    let labels: serde_json::Map<String, Value> =
        (0..33).map(|number| (format!("label-{number}"), json!("x"))).collect();
    let exponential = |factor: f64| {
        let mut backoff = json!({"backoff": "exponential", "base": "1s", "max_delay": "1m"});
        backoff["factor"] = json!(factor);
        backoff["jitter"] = json!(false);
        backoff
    };
    for (field, value, place) in [
        ("labels", Value::Object(labels), "/labels"),
        ("unique", json!(""), "/unique"),
        ("unique", json!("x".repeat(257)), "/unique"),
        ("timeout", json!("0s"), "/timeout"),
        ("total_timeout", json!("0s"), "/total_timeout"),
        ("max_attempts", json!(0), "/max_attempts"),
        ("max_attempts", json!(u32::MAX), "/max_attempts"),
        ("backoff", exponential(0.5), "/backoff"),
        ("backoff", exponential(1e300), "/backoff"),
    ] {
        let mut body = json!({"kind": "command", "params": {"argv": ["true"]}});
        body[field] = value;
        assert_eq!(places(&body), [place], "{body}");
    }
}

#[test]
fn an_instant_is_kept_as_the_database_keeps_it() {
    let body = json!({
        "kind": "command",
        "params": {"argv": ["true"]},
        "run_at": "2026-12-01T00:00:00.123456789Z",
    });
    let run_at = check(body).expect("it is right").jobs[0].run_at;
    assert_eq!(run_at, "2026-12-01T00:00:00.123456Z".parse().expect("it is an instant"));
}

#[test]
fn a_distance_counts_from_the_time_of_the_daemon() {
    let job = |run_at: &str| {
        let body = json!({"kind": "command", "params": {"argv": ["true"]}, "run_at": run_at});
        check(body).expect("it is right").jobs[0].run_at
    };
    assert_eq!(job("2h").duration_since(job("0s")).as_secs(), 7200);
    assert_eq!(
        places(&json!({"kind": "command", "params": {"argv": ["true"]}, "run_at": "soon"})),
        ["/run_at"]
    );
}
