//! How many jobs at once: what files declare, what operators set, and what runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use serde_json::json;

use super::Body;
use super::problem::{FieldError, Problem};
use super::state::{App, Changer};
use super::wire::{Limit, LimitRequest, List, time};
use crate::model::{AuditEvent, Concurrency, ScheduleId};
use crate::queue::names;
use crate::store::audit::append_event;
use crate::store::limits;

/// The limits that count now, and how many jobs run under each.
#[utoipa::path(get, path = "/api/v1/limits", responses((status = 200, body = List<Limit>)))]
pub(super) async fn index(State(app): State<App>) -> Result<axum::Json<List<Limit>>, Problem> {
    let read = |conn: &mut _| Ok((limits::list(conn)?, limits::running(conn)?));
    let (stored, running) = app.store.read(read).await?;
    let empty = |name: &str| Limit {
        name: name.to_owned(),
        max: 0,
        declared: None,
        running: 0,
        set_at: None,
        set_by: None,
    };
    let mut rows: BTreeMap<String, Limit> = BTreeMap::new();
    for kind in app.catalog().kinds() {
        if let Some(max) = kind.defaults().concurrency {
            let name = format!("kind:{}", kind.name);
            rows.insert(name.clone(), Limit { max, declared: Some(max), ..empty(&name) });
        }
    }
    for (subqueue, _) in &running {
        if let Some(Concurrency { key, max }) = &subqueue.concurrency {
            let name = format!("key:{key}");
            let row = rows.entry(name.clone()).or_insert_with(|| empty(&name));
            (row.max, row.declared) = (*max, Some(*max));
        }
    }
    for limit in stored {
        let row = rows.entry(limit.name.clone()).or_insert_with(|| empty(&limit.name));
        row.max = limit.max;
        (row.set_at, row.set_by) = (Some(time(limit.set_at)), Some(limit.set_by));
    }
    for (subqueue, count) in &running {
        for name in names(subqueue) {
            if let Some(row) = rows.get_mut(&name) {
                row.running += count;
            }
        }
    }
    Ok(axum::Json(List { items: rows.into_values().collect(), next_cursor: None }))
}

/// Sets a limit, or lets what is declared count again where `max` is left out. It holds for all nodes, from the next claim on, and
/// stays until somebody changes it.
#[utoipa::path(post, path = "/api/v1/limits", request_body = LimitRequest, responses((status = 200, body = List<Limit>), (status = 422, body = Problem)))]
pub(super) async fn set(
    State(app): State<App>,
    Changer(actor): Changer,
    Body(LimitRequest { name, max }): Body<LimitRequest>,
) -> Result<axum::Json<List<Limit>>, Problem> {
    let live = Arc::clone(app.live()?);
    check(&name)?;
    let (now, node) = (app.clock.now(), live.node);
    let event = AuditEvent::new("limit.set", &actor, &name, &json!({ "max": max }), now);
    app.store
        .write(move |conn| {
            let is_changed = match max {
                Some(max) => limits::set(conn, &name, max, &actor, now).map(|()| true)?,
                None => limits::unset(conn, &name)?,
            };
            if is_changed { append_event(conn, node, &event) } else { Ok(()) }
        })
        .await?;
    live.signals.work();
    index(State(app)).await
}

fn check(name: &str) -> Result<(), Problem> {
    let is_legal = match name.split_once(':') {
        Some(("queue" | "kind", name)) => name.parse::<ScheduleId>().is_ok(),
        Some(("key", key)) => Concurrency { key: key.to_owned(), max: 1 }.problem().is_none(),
        _ => false,
    };
    if is_legal {
        return Ok(());
    }
    let detail =
        "a limit is queue:NAME, kind:NAME (of a kind that a file declares) or key:KEY".to_owned();
    let wrong = FieldError { pointer: "/name".to_owned(), detail };
    Err(Problem::invalid("this is no limit's name", vec![wrong]))
}
