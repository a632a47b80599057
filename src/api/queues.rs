//! Queues: how full they are, what is set for them, and what operators change of that.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use serde_json::json;

use super::access::Changer;
use super::extract::{Body, Path};
use super::problem::{FieldError, Problem};
use super::schedules::pause_reason;
use super::state::App;
use super::wire::{List, Origin, Pause, PauseRequest, Queue, QueueOrigins, QueueRequest, time};
use crate::model::{AuditEvent, QueueChange, QueueSettings, ScheduleId};
use crate::store::audit::append_event;
use crate::store::queues::{self, QueueState};

/// The queues that hold jobs, have settings of their own or are paused.
#[utoipa::path(get, path = "/api/v1/queues", responses((status = 200, body = List<Queue>)))]
pub(super) async fn index(State(app): State<App>) -> Result<axum::Json<List<Queue>>, Problem> {
    let now = app.clock.now();
    let declared = app.settings.limits(app.catalog().kinds());
    let read = move |conn: &mut _| Ok((queues::list(conn)?, queues::held(conn, &declared, now)?));
    let (states, held) = app.store.read(read).await?;
    let nothing = |name: &String| QueueState {
        name: name.clone(),
        ready: 0,
        running: 0,
        oldest_run_at: None,
        paused: None,
        set: QueueSettings::default(),
        set_by: None,
    };
    let always = app.settings.queues.keys().cloned().chain(["default".to_owned()]);
    let mut rows: BTreeMap<String, QueueState> =
        always.map(|name| (name.clone(), nothing(&name))).collect();
    rows.extend(states.into_iter().map(|state| (state.name.clone(), state)));
    let view = |state: QueueState| {
        let declared = app.settings.queues.get(&state.name).copied().unwrap_or_default();
        let in_force = state.set.or(declared);
        Queue {
            ready: state.ready,
            running: state.running,
            workers: in_force.workers.map(|count| usize::from(count.get())),
            rate: in_force.rate.map(|rate| rate.to_string()),
            timeout: in_force.timeout.map(|timeout| timeout.to_string()),
            origins: QueueOrigins {
                workers: origin(state.set.workers.is_some(), declared.workers.is_some()),
                rate: origin(state.set.rate.is_some(), declared.rate.is_some()),
                timeout: origin(state.set.timeout.is_some(), declared.timeout.is_some()),
            },
            set_at: state.set_by.as_ref().map(|(at, _)| time(*at)),
            set_by: state.set_by.map(|(_, by)| by),
            oldest_age_ms: state
                .oldest_run_at
                .map(|at| i64::try_from(now.duration_since(at).as_millis()).unwrap_or(i64::MAX)),
            held_until: held.get(&state.name).and_then(|held| held.until).map(time),
            held_by: held.get(&state.name).and_then(|held| held.breaker.clone()),
            limited_by: held.get(&state.name).and_then(|held| held.limit.clone()),
            pause: state.paused.map(Pause::from),
            name: state.name,
        }
    };
    let items = rows.into_values().map(view).collect();
    Ok(axum::Json(List { items, next_cursor: None }))
}

fn origin(is_set: bool, is_declared: bool) -> Option<Origin> {
    match (is_set, is_declared) {
        (true, _) => Some(Origin::Set),
        (false, true) => Some(Origin::File),
        (false, false) => None,
    }
}

/// Changes what is set for a queue, over what the settings say. What is left out stays as it is, and for null what the settings say counts
/// again. It holds for all nodes, from the next claim on, and stays until somebody changes it.
#[utoipa::path(patch, path = "/api/v1/queues/{name}", request_body = QueueRequest, responses((status = 200, body = List<Queue>), (status = 422, body = Problem)))]
pub(super) async fn change(
    State(app): State<App>,
    Changer(actor): Changer,
    Path(name): Path<String>,
    Body(request): Body<QueueRequest>,
) -> Result<axum::Json<List<Queue>>, Problem> {
    let live = Arc::clone(app.live()?);
    check_name(&name)?;
    let QueueRequest { workers, rate, timeout } = request;
    let change = QueueChange { workers, rate, timeout };
    if change == QueueChange::default() {
        return Err(Problem::bad_request("give at least one of workers, rate and timeout"));
    }
    if timeout.flatten().is_some_and(|timeout| timeout.get().is_zero()) {
        let detail = "no job can finish in no time; null takes the timeout back".to_owned();
        let wrong = FieldError { pointer: "/timeout".to_owned(), detail };
        return Err(Problem::invalid("the settings are not valid", vec![wrong]));
    }
    let (now, node) = (app.clock.now(), live.node);
    let event = AuditEvent::new("queue.set", &actor, &subject(&name), &json!(request), now);
    app.store
        .write(move |conn| match queues::set(conn, &name, change, &actor, now)? {
            true => append_event(conn, node, &event),
            false => Ok(()),
        })
        .await?;
    live.signals.work();
    index(State(app)).await
}

/// Stops claims from a queue.
#[utoipa::path(post, path = "/api/v1/queues/{name}/pause", request_body = PauseRequest, responses((status = 200, body = List<Queue>), (status = 422, body = Problem)))]
pub(super) async fn pause(
    State(app): State<App>,
    Changer(actor): Changer,
    Path(name): Path<String>,
    Body(request): Body<PauseRequest>,
) -> Result<axum::Json<List<Queue>>, Problem> {
    let live = Arc::clone(app.live()?);
    if request.until.is_some() {
        return Err(Problem::bad_request(
            "a queue is paused until somebody resumes it; leave `until` out",
        ));
    }
    check_name(&name)?;
    let now = app.clock.now();
    let reason = pause_reason(request.reason)?;
    let event =
        AuditEvent::new("queue.paused", &actor, &subject(&name), &json!({ "reason": reason }), now);
    let node = live.node;
    app.store
        .write(move |conn| {
            queues::pause(conn, &name, &actor, &reason, now)?;
            append_event(conn, node, &event)
        })
        .await?;
    index(State(app)).await
}

/// Lets claims from a queue go on.
#[utoipa::path(post, path = "/api/v1/queues/{name}/resume", responses((status = 200, body = List<Queue>)))]
pub(super) async fn resume(
    State(app): State<App>,
    Changer(actor): Changer,
    Path(name): Path<String>,
) -> Result<axum::Json<List<Queue>>, Problem> {
    let live = Arc::clone(app.live()?);
    let event =
        AuditEvent::new("queue.resumed", &actor, &subject(&name), &json!({}), app.clock.now());
    let node = live.node;
    app.store
        .write(move |conn| match queues::resume(conn, &name)? {
            true => append_event(conn, node, &event),
            false => Ok(()),
        })
        .await?;
    live.signals.work();
    index(State(app)).await
}

/// What the audit log calls a queue, as `sexton limits` does.
fn subject(name: &str) -> String {
    format!("queue:{name}")
}

fn check_name(name: &str) -> Result<(), Problem> {
    match name.parse::<ScheduleId>() {
        Ok(_legal) => Ok(()),
        Err(_) => Err(Problem::bad_request("a queue's name has 1 to 64 of a-z, 0-9, - and _")),
    }
}
