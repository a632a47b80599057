//! The nodes of the database: which run, and which are to take nothing new.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use jiff::Timestamp;
use serde_json::json;

use super::access::Changer;
use super::extract::Path;
use super::problem::Problem;
use super::state::App;
use super::wire::{List, Node, time};
use crate::model::{Actor, AuditEvent, NodeId};
use crate::store::audit::append_event;
use crate::store::wakeups::News;
use crate::store::{Conn, StoreError, nodes};

/// How many nodes are listed.
const LISTED: i64 = 100;

/// The daemons of this database, newest first.
#[utoipa::path(get, path = "/api/v1/nodes", responses((status = 200, body = List<Node>)))]
pub(super) async fn nodes(State(app): State<App>) -> Result<axum::Json<List<Node>>, Problem> {
    let (rows, busy) =
        app.store.read(|conn| Ok((nodes::list(conn, LISTED)?, nodes::busy(conn)?))).await?;
    let now = app.clock.now();
    let items = rows.into_iter().map(|row| wire(row, &busy, now)).collect();
    Ok(axum::Json(List { items, next_cursor: None }))
}

fn wire(row: nodes::Node, busy: &BTreeMap<i64, i64>, now: Timestamp) -> Node {
    let running = busy.get(&row.id).copied().unwrap_or(0);
    let state = match row.stopped_at {
        Some(_) => "stopped",
        None if Timestamp::from(row.lease_until) < now => "lost",
        None => match (row.draining_since, running) {
            (None, _) => "running",
            (Some(_), 0) => "drained",
            (Some(_), _) => "draining",
        },
    };
    Node {
        id: row.id,
        name: row.name,
        instance: row.instance,
        version: row.version,
        pid: row.pid,
        labels: row.labels.split_whitespace().map(ToOwned::to_owned).collect(),
        revision: row.revision,
        clock_skew_ms: row.clock_skew_us.map(|micros| micros / 1000),
        running,
        draining_since: row.draining_since.map(|at| time(at.into())),
        draining_by: row.draining_by,
        started_at: time(row.started_at.into()),
        lease_until: time(row.lease_until.into()),
        stopped_at: row.stopped_at.map(|at| time(at.into())),
        state: state.to_owned(),
    }
}

/// Lets a node take nothing new; what runs on it goes on. It holds until it is resumed or stops.
#[utoipa::path(post, path = "/api/v1/nodes/{node}/drain", responses((status = 200, body = List<Node>)))]
pub(super) async fn drain_node(
    State(app): State<App>,
    Changer(actor): Changer,
    Path(node): Path<String>,
) -> Result<axum::Json<List<Node>>, Problem> {
    set_draining(app, &actor, node, true).await
}

/// Lets a node take work again.
#[utoipa::path(post, path = "/api/v1/nodes/{node}/resume", responses((status = 200, body = List<Node>)))]
pub(super) async fn resume_node(
    State(app): State<App>,
    Changer(actor): Changer,
    Path(node): Path<String>,
) -> Result<axum::Json<List<Node>>, Problem> {
    set_draining(app, &actor, node, false).await
}

async fn set_draining(
    app: App,
    actor: &Actor,
    name: String,
    drain: bool,
) -> Result<axum::Json<List<Node>>, Problem> {
    let live = Arc::clone(app.live()?);
    let (me, now) = (live.node, app.clock.now());
    let event = if drain { "node.drained" } else { "node.resumed" };
    let event = AuditEvent::new(event, actor, &format!("node:{name}"), &json!({}), now);
    let by = drain.then(|| actor.clone());
    let node = app
        .store
        .write(move |conn| {
            let node = find_running(conn, &name)?;
            nodes::set_draining(conn, node, by.as_ref(), now)?;
            append_event(conn, me, &event)?;
            Ok(node)
        })
        .await?;
    if node == me {
        live.pool.hold(drain);
        live.signals.work();
    } else {
        live.signals.tell_others(News::Orders);
    }
    nodes(State(app)).await
}

/// The running node of that number or name.
fn find_running(conn: &mut Conn, called: &str) -> Result<NodeId, StoreError> {
    let running = nodes::running(conn)?;
    let number = called.parse::<i64>().ok();
    let mut found = running.iter().filter(|node| node.name == called || Some(node.id) == number);
    match (found.next(), found.next()) {
        (Some(node), None) => Ok(NodeId(node.id)),
        (Some(_), Some(_)) => Err(StoreError::Conflict(format!(
            "several nodes are called `{}`: name one by its number",
            called.escape_debug()
        ))),
        (None, _) => {
            let known: Vec<String> =
                running.iter().map(|node| format!("{} ({})", node.name, node.id)).collect();
            Err(StoreError::NotFound(format!(
                "no node `{}` runs; those that do: {}",
                called.escape_debug(),
                known.join(", ")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::model::NodeIdentity;
    use crate::store::Purpose;
    use crate::store::testing::databases;

    /// Two that start in the same moment can both run.
    #[test]
    fn m7_of_two_nodes_of_one_name_the_number_says_which() {
        for database in databases() {
            let mut conn = database.store().url().connect(Purpose::Write).unwrap();
            let now = Timestamp::UNIX_EPOCH;
            let [first, second, other] =
                [("twin", "1"), ("twin", "2"), ("other", "3")].map(|(name, instance)| {
                    let identity = NodeIdentity { name: name.to_owned(), labels: Vec::new() };
                    let new = nodes::NewNode { identity, instance: instance.to_owned() };
                    nodes::register(&mut conn, &new, now, now).unwrap()
                });
            let refused = find_running(&mut conn, "twin").unwrap_err().to_string();
            assert!(refused.contains("`twin`: name one by its number"), "{refused}");
            for node in [first, second, other] {
                assert_eq!(find_running(&mut conn, &node.0.to_string()).unwrap(), node);
            }
            assert_eq!(find_running(&mut conn, "other").unwrap(), other);
        }
    }
}
