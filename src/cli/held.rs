//! What keeps a job from starting, in words.

use serde_json::Value;

use super::output::{text, when};
use super::queues::trip;

/// One of the things that hold a job back, as the API tells it.
pub(super) fn held_by(hold: &Value, now: jiff::Timestamp) -> String {
    let field = |name| text(hold, name);
    match hold.get("what").and_then(Value::as_str).unwrap_or_default() {
        "pause" => {
            let pause = &hold["pause"];
            let since = when(pause.get("since").and_then(Value::as_str), now);
            let by = text(pause, "by");
            format!("queue {}: paused by {by} {since}{}", field("queue"), reason(pause))
        }
        "kind" => format!("kind {}: no file of this node declares it", field("kind")),
        "node" => match hold.get("node").and_then(Value::as_str) {
            Some(node) => format!("node {node}: none that runs and takes work is meant by that"),
            None => "every node that runs is draining, and takes nothing new".to_owned(),
        },
        "limit" => format!("{}: {} run, and {} may", field("name"), field("running"), field("max")),
        "workers" => {
            format!(
                "queue {}: as many of its jobs run on each node as may ({})",
                field("queue"),
                field("max")
            )
        }
        "rate" => {
            let until = when(hold.get("until").and_then(Value::as_str), now);
            format!("the rate of {}: the next one may start {until}", field("name"))
        }
        "breaker" => format!("the breaker of {}: {}", field("breaker"), trip(hold, now)),
        other => other.to_owned(),
    }
}

/// Why something is paused, to stand behind that it is; nothing where nobody said.
pub(super) fn reason(pause: &Value) -> String {
    let reason = text(pause, "reason");
    if reason.is_empty() { reason } else { format!(": {reason}") }
}
