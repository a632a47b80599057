//! `sexton nodes`.

use serde_json::{Value, json};

use super::args::NodeAction;
use super::output::{Outcome, text, when};
use super::schedules::encode;
use super::session::Session;
use super::system::show_list;

pub(super) async fn nodes(session: &Session, action: Option<NodeAction>) -> Outcome {
    let list = match action {
        None => session.reader().await?.get("/api/v1/nodes").await?,
        Some(NodeAction::Drain { node }) => {
            let path = format!("/api/v1/nodes/{}/drain", encode(&node));
            session.daemon().await?.post(&path, &json!({})).await?
        }
        Some(NodeAction::Resume { node }) => {
            let path = format!("/api/v1/nodes/{}/resume", encode(&node));
            session.daemon().await?.post(&path, &json!({})).await?
        }
    };
    let now = session.now();
    let row = |row: &Value| {
        let labels: Vec<&str> = row
            .get("labels")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        vec![
            text(row, "id"),
            text(row, "name"),
            text(row, "state"),
            text(row, "running"),
            labels.join(" "),
            text(row, "version"),
            text(row, "revision"),
            text(row, "pid"),
            when(row.get("started_at").and_then(Value::as_str), now),
            when(row.get("stopped_at").and_then(Value::as_str), now),
        ]
    };
    let columns = [
        "NODE", "NAME", "STATE", "RUNNING", "LABELS", "VERSION", "REVISION", "PID", "STARTED",
        "STOPPED",
    ];
    show_list(session, &list, &columns, row)
}
