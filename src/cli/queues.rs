//! Commands about queues and limits.

use serde_json::{Map, Value, json};

use super::args::{LimitAction, QueueAction, QueueSet, QueueSetting};
use super::held::reason;
use super::output::{Exit, Failure, Outcome, note, text, when};
use super::schedules::{encode, items};
use super::session::Session;
use super::system::show_list;

pub(super) async fn queues(session: &Session, action: Option<QueueAction>) -> Outcome {
    let list = match action {
        None => session.reader().await?.get("/api/v1/queues").await?,
        Some(QueueAction::Pause { name, reason }) => {
            let path = format!("/api/v1/queues/{}/pause", encode(&name));
            session.daemon().await?.post(&path, &json!({ "reason": reason })).await?
        }
        Some(QueueAction::Resume { name }) => {
            let client = session.daemon().await?;
            let before = client.get("/api/v1/queues").await?;
            if field_of(&before, &name, "pause").is_none() {
                note(format!("queue `{name}` was not paused"));
            }
            let path = format!("/api/v1/queues/{}/resume", encode(&name));
            client.post(&path, &json!({})).await?
        }
        Some(QueueAction::Set(set)) => {
            let path = format!("/api/v1/queues/{}", encode(&set.name));
            let change = change(&set)?;
            session.daemon().await?.patch(&path, &change).await?
        }
    };
    let now = session.now();
    let row = |row: &Value| {
        let oldest = row.get("oldest_age_ms").and_then(Value::as_i64);
        vec![
            text(row, "name"),
            text(row, "ready"),
            text(row, "running"),
            setting(row, "workers"),
            setting(row, "rate"),
            setting(row, "timeout"),
            oldest.map_or_else(|| "-".to_owned(), |ms| format!("{}s", ms / 1000)),
            state(row, now),
        ]
    };
    let headers = ["QUEUE", "READY", "RUNNING", "WORKERS", "RATE", "TIMEOUT", "OLDEST", "STATE"];
    show_list(session, &list, &headers, row)
}

/// A field of one row of a list; none where there is no such row or its field is null.
fn field_of<'a>(list: &'a Value, name: &str, field: &str) -> Option<&'a Value> {
    let row = items(list).iter().find(|row| text(row, "name") == name)?;
    row.get(field).filter(|value| !value.is_null())
}

/// A setting with where it comes from.
fn setting(row: &Value, name: &str) -> String {
    match row.pointer(&format!("/origins/{name}")).and_then(Value::as_str) {
        Some(origin) => format!("{} ({origin})", text(row, name)),
        None => text(row, name),
    }
}

fn state(row: &Value, now: jiff::Timestamp) -> String {
    if let Some(pause) = row.get("pause").filter(|pause| !pause.is_null()) {
        return format!("paused by {}{}", text(pause, "by"), reason(pause));
    }
    let until = row.get("held_until").and_then(Value::as_str);
    let until = until.map(|until| format!(" until {}", when(Some(until), now)));
    let by = |field: &str| row.get(field).and_then(Value::as_str);
    match (by("held_by"), by("limited_by"), until) {
        (Some(breaker), _, until) => {
            format!("waits for the breaker of {breaker}{}", until.unwrap_or_default())
        }
        (None, Some(limit), _) => format!("waits for the limit of {limit}"),
        (None, None, Some(until)) => format!("waits for its rate{until}"),
        (None, None, None) => "open".to_owned(),
    }
}

/// The body that asks for a change, with null for what is taken back.
fn change(set: &QueueSet) -> Result<Value, Failure> {
    let given = [
        ("workers", QueueSetting::Workers, set.workers.map(|workers| json!(workers))),
        ("rate", QueueSetting::Rate, set.rate.map(|rate| json!(rate))),
        ("timeout", QueueSetting::Timeout, set.timeout.map(|timeout| json!(timeout))),
    ];
    let mut body = Map::new();
    for (name, setting, value) in given {
        let is_unset = set.unset.contains(&setting);
        if is_unset && value.is_some() {
            let message = format!("--{name} and --unset {name} contradict each other");
            return Err(Failure::new(Exit::Usage, message));
        }
        if let Some(value) = value.or_else(|| is_unset.then_some(Value::Null)) {
            body.insert(name.to_owned(), value);
        }
    }
    Ok(Value::Object(body))
}

pub(super) async fn limits(session: &Session, action: Option<LimitAction>) -> Outcome {
    let list = match action {
        None => session.reader().await?.get("/api/v1/limits").await?,
        Some(LimitAction::Set { name, max, rate, breaker }) => {
            let body = json!({ "name": name, "max": max, "rate": rate, "breaker": breaker });
            session.daemon().await?.post("/api/v1/limits", &body).await?
        }
        Some(LimitAction::Reset { name }) => {
            session.daemon().await?.post("/api/v1/limits/reset", &json!({ "name": name })).await?
        }
        Some(LimitAction::Unset { name }) => {
            let client = session.daemon().await?;
            let before = client.get("/api/v1/limits").await?;
            let after = client.post("/api/v1/limits", &json!({ "name": name })).await?;
            if field_of(&before, &name, "set_at") == field_of(&after, &name, "set_at") {
                note(format!("nothing was set for `{name}` with `sexton limits`"));
            }
            after
        }
    };
    let now = session.now();
    let row = |row: &Value| {
        let fields = ["name", "max", "rate", "breaker", "running", "declared", "declared_rate"];
        let last = [text(row, "declared_breaker"), text(row, "set_by"), tripped(row, now)];
        fields.iter().map(|field| text(row, field)).chain(last).collect()
    };
    let headers = [
        "LIMIT",
        "MAX",
        "RATE",
        "BREAKER",
        "RUNNING",
        "DECLARED MAX",
        "DECLARED RATE",
        "DECLARED BREAKER",
        "SET BY",
        "STATE",
    ];
    show_list(session, &list, &headers, row)
}

/// Whether a breaker has tripped, until when and why.
fn tripped(row: &Value, now: jiff::Timestamp) -> String {
    row.get("tripped")
        .filter(|tripped| !tripped.is_null())
        .map_or_else(|| "-".to_owned(), |tripped| format!("tripped, {}", trip(tripped, now)))
}

/// What a breaker that has tripped waits for, and why.
pub(super) fn trip(tripped: &Value, now: jiff::Timestamp) -> String {
    let until = tripped.get("until").and_then(Value::as_str);
    let waits = match tripped.get("probe").and_then(Value::as_i64) {
        Some(job) => format!("job {job} finds out whether it is over"),
        None => format!("rests until {}", when(until, now)),
    };
    format!("{waits}: {}", text(tripped, "why"))
}
