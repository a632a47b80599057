//! The daemon itself: status, health, workers, nodes, numbers, events, audit, reload.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::{Changer, Stranger};
use super::extract::Query;
use super::paging::{DEFAULT_LIMIT, MAX_LIMIT, limit};
use super::problem::Problem;
use super::schedules::upcoming;
use super::state::{App, Live};
use super::wire::{List, Status, Upcoming, Worker, time};
use crate::audit::{self, Filter};
use crate::catalog::Catalog;
use crate::model::{AuditEvent, Chain, Event, NodeId};
use crate::schedule::Diagnostic;
use crate::store::audit::append_event;
use crate::store::history::{self, Among, JobFilter, Page};
use crate::store::{Condition, Store, holds, nodes, schedules as ledgers};

/// How many coming runs the status shows.
const NEXT_RUNS: usize = 5;

/// How old the scheduler's last sign of life may be before the daemon counts as ill.
pub(crate) const TICK_OVERDUE: std::time::Duration = std::time::Duration::from_secs(10);

/// What the daemon is doing.
#[utoipa::path(get, path = "/api/v1/status", responses((status = 200, body = Status)))]
pub(super) async fn status(State(app): State<App>) -> Result<axum::Json<Status>, Problem> {
    let catalog = app.catalog();
    let declared = app.settings.limits(catalog.kinds());
    let read = move |conn: &mut _| {
        let unknown = holds::unknown_kinds(conn, &declared)?;
        Ok((history::counts(conn)?, ledgers::ledgers(conn)?, unknown))
    };
    // When the database is away, people ask most of all what the daemon has to say.
    let (counts, ledgers, unknown, unread) = match app.store.read(read).await {
        Ok((counts, ledgers, unknown)) => (counts, Some(ledgers), unknown, None),
        Err(error) if app.live.is_some() => (Vec::new(), None, BTreeSet::new(), Some(error)),
        Err(error) => return Err(error.into()),
    };
    let now = app.clock.now();
    let mut next: Vec<(Timestamp, String)> = catalog
        .schedules
        .values()
        .filter(|schedule| schedule.enabled)
        .filter_map(|schedule| {
            let ledger = ledgers.as_ref()?.get(schedule.id.as_str());
            let next = upcoming(schedule, ledger, now, &app.draws)?;
            Some((next.fire_at, schedule.id.to_string()))
        })
        .collect();
    next.sort();
    next.truncate(NEXT_RUNS);
    let live = app.live.as_deref();
    let pool = live.map(|live| live.pool.status());
    let mut problems = problems(&app, &catalog);
    let is_failing =
        unread.is_some() || live.is_some_and(|live| failing(&app.store, live).is_some());
    if let Some(error) = unread {
        problems.insert(0, format!("the database cannot be read: {}", Chain(&error)));
    }
    problems.extend(unknown.iter().map(|kind| {
        format!("jobs of the kind `{kind}` wait: no file in `kinds.dirs` of this node declares it")
    }));
    let settings = &app.settings;
    Ok(axum::Json(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        health: match problems.is_empty() {
            _ if is_failing => "failing",
            true => "ok",
            false => "degraded",
        }
        .to_owned(),
        problems,
        running: live.is_some(),
        pid: live.map(|_| std::process::id()),
        node: live.map(|live| live.node.0),
        started_at: live.map(|live| time(live.started_at)),
        data_dir: settings.data_dir.display().to_string(),
        database: app.store.url().to_string(),
        socket: settings.api.socket.display().to_string(),
        log_dir: settings.log.dir.display().to_string(),
        audit_log: settings.audit.dir.join(audit::FILE_NAME).display().to_string(),
        revision: catalog.revision.short().to_owned(),
        loaded_at: live.map(|_| time(catalog.loaded_at)),
        schedules: catalog.schedules.len(),
        stale: catalog.stale.len(),
        invalid_files: catalog.invalid.len() + catalog.broken_kinds().count(),
        workers: pool.as_ref().map_or(0, |pool| pool.slots),
        busy: pool.as_ref().map_or(0, |pool| pool.running.len()),
        jobs: counts.into_iter().map(|(state, count)| (state.to_string(), count)).collect(),
        next: next.into_iter().map(|(at, schedule)| Upcoming { schedule, at: time(at) }).collect(),
    }))
}

/// Everything that is wrong right now.
pub(crate) fn problems(app: &App, catalog: &Catalog) -> Vec<String> {
    let mut problems: Vec<String> = Vec::new();
    problems.extend(catalog.stale.iter().map(|(id, broken)| {
        format!("schedule `{id}` runs on its last good definition: {}", broken.error)
    }));
    let not_loaded =
        |file: &Path, error: &Diagnostic| format!("{} is not loaded: {error}", file.display());
    problems.extend(catalog.invalid.iter().map(|(file, it)| not_loaded(file, &it.error)));
    problems.extend(catalog.broken_kinds().map(|(kept, error)| match kept {
        Some(kind) => format!("kind `{}` is what its file declared last: {error}", kind.name),
        None => not_loaded(&error.file, error),
    }));
    problems.extend(catalog.lost_directories().map(ToString::to_string));
    if let Some(live) = &app.live {
        let pool = live.pool.status();
        let refused = |error| format!("claiming is paused because the store refuses: {error}");
        problems.extend(failing(&app.store, live).or(pool.store_error.map(refused)));
        if pool.draining {
            problems.push(
                "this node takes nothing new: it is stopping, or `sexton nodes drain` has told it so"
                    .to_owned(),
            );
        }
        problems.extend((live.complaints)());
    }
    problems
}

/// Why the daemon cannot do what it is there for, where that is so.
fn failing(store: &Store, live: &Live) -> Option<String> {
    match &*store.condition().borrow() {
        Condition::NotWritable(why) => Some(format!(
            "the database cannot be written ({why}): nothing new is taken or started until it can, what runs goes on, and its results are kept"
        )),
        Condition::Lost(why) => Some(why.clone()),
        Condition::Sound if live.alarm.since_last_tick() > TICK_OVERDUE => {
            Some("the scheduler has stopped ticking".to_owned())
        }
        Condition::Sound => None,
    }
}

/// Whether it works: the scheduler ticks, and the database's disk takes what is written. A restart does not bring back a server that is away: that is waited for,
/// and `/readyz` says so.
#[utoipa::path(get, path = "/healthz", responses((status = 200, body = Value), (status = 503, body = Value)))]
pub(super) async fn healthz(State(app): State<App>, Stranger(is_stranger): Stranger) -> Response {
    let why = match &app.live {
        Some(live) => failing(&app.store, live),
        None => Some("the daemon is not running".to_owned()),
    };
    match why {
        None => axum::Json(json!({ "status": "ok" })).into_response(),
        Some(why) => {
            let why = (!is_stranger).then_some(why);
            let body = axum::Json(json!({ "status": "failing", "why": why }));
            (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
        }
    }
}

/// Whether it can take work: the store answers and the scheduler ticks.
#[utoipa::path(get, path = "/readyz", responses((status = 200, body = Value), (status = 503, body = Value)))]
pub(super) async fn readyz(State(app): State<App>, Stranger(is_stranger): Stranger) -> Response {
    let answers = app.store.read(|conn| nodes::list(conn, 1).map(|_| ())).await.is_ok();
    let works = app.live.as_ref().is_some_and(|live| {
        let pool = live.pool.status();
        failing(&app.store, live).is_none() && pool.store_error.is_none() && !pool.draining
    });
    let status = if answers && works { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let problems = (!is_stranger).then(|| problems(&app, &app.catalog()));
    let body = json!({ "ready": answers && works, "problems": problems });
    (status, axum::Json(body)).into_response()
}

/// Numbers for Prometheus.
#[utoipa::path(get, path = "/metrics", responses((status = 200, body = String)))]
pub(super) async fn metrics(State(app): State<App>) -> Result<Response, Problem> {
    let text = (app.live()?.metrics)().await;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// What the workers do.
#[utoipa::path(get, path = "/api/v1/workers", responses((status = 200, body = List<Worker>)))]
pub(super) async fn workers(State(app): State<App>) -> Result<axum::Json<List<Worker>>, Problem> {
    let among = vec![Among::State(crate::model::JobState::Running)];
    let filter = JobFilter { among, ..JobFilter::default() };
    let page = Page { limit: 1000, before: None };
    let running = app.store.read(move |conn| history::jobs(conn, &filter, page)).await?;
    let node = app.live.as_ref().map_or(0, |live| live.node.0);
    let items = running
        .into_iter()
        .rev()
        .map(|job| Worker {
            node,
            job_id: job.id.0,
            kind: job.kind,
            queue: job.queue,
            schedule: job.schedule,
            attempt: u32::try_from(job.attempt).unwrap_or(0),
            started_at: job.started_at.map(time).unwrap_or_default(),
            progress: job.progress,
            message: job.message,
        })
        .collect();
    Ok(axum::Json(List { items, next_cursor: None }))
}

/// Counts of jobs by state, and numbers of the last day by kind.
#[utoipa::path(get, path = "/api/v1/stats", responses((status = 200, body = Value)))]
pub(super) async fn stats(State(app): State<App>) -> Result<axum::Json<Value>, Problem> {
    let now = app.clock.now();
    let day_ago = now - jiff::SignedDuration::from_hours(24);
    let (counts, numbers) = app
        .store
        .read(move |conn| Ok((history::counts(conn)?, history::day_numbers(conn, day_ago, now)?)))
        .await?;
    let jobs: BTreeMap<String, i64> =
        counts.into_iter().map(|(state, count)| (state.to_string(), count)).collect();
    Ok(axum::Json(json!({
        "jobs": jobs,
        "last_24h": { "from": time(day_ago), "until": time(now), "attempts": numbers },
    })))
}

/// What a reload did. It is written straight to text: ten thousand changed schedules are four megabytes of it.
#[derive(serde::Serialize)]
struct Reloaded<'a> {
    changed: bool,
    diagnostics: Vec<String>,
    diff: &'a crate::catalog::Diff,
    ok: bool,
    revision: &'a str,
    schedules: usize,
    summary: String,
}

/// Loads the schedule files again; answers when that has succeeded or failed.
#[utoipa::path(post, path = "/api/v1/reload", responses((status = 200, body = Value), (status = 422, body = Value)))]
pub(super) async fn reload(
    State(app): State<App>,
    Changer(actor): Changer,
) -> Result<Response, Problem> {
    let live = Arc::clone(app.live()?);
    let report = live.reloader.reload().await.map_err(|_stopping| Problem::needs_daemon())?;
    record_by_hand(&app, live.node, "daemon.reload_requested", &actor).await?;
    let status = if report.ok { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    let diagnostics: Vec<String> = report
        .diagnostics
        .iter()
        .map(|diagnostic| crate::schedule::render(diagnostic, crate::schedule::Look::Plain))
        .collect();
    let body = Reloaded {
        changed: report.changed,
        diagnostics,
        diff: &report.diff,
        ok: report.ok,
        revision: report.revision.short(),
        schedules: report.schedules,
        summary: report.diff.to_string(),
    };
    Ok((status, axum::Json(body)).into_response())
}

async fn record_by_hand(
    app: &App,
    node: NodeId,
    event: &str,
    actor: &crate::model::Actor,
) -> Result<(), Problem> {
    let event = AuditEvent::new(event, actor, "daemon", &json!({}), app.clock.now());
    Ok(app.store.write(move |conn| append_event(conn, node, &event)).await?)
}

/// What happens from now on, as server-sent events. A listener that is too slow is told how many it missed.
#[utoipa::path(get, path = "/api/v1/events", responses((status = 200, content_type = "text/event-stream", body = String)))]
pub(super) async fn events(
    State(app): State<App>,
) -> Result<Sse<impl Stream<Item = Result<axum::response::sse::Event, Infallible>>>, Problem> {
    let live = Arc::clone(app.live()?);
    let receiver = live.events.subscribe();
    let stream =
        futures_util::stream::unfold((receiver, live), |(mut receiver, live)| async move {
            let event = next_event(&mut receiver, &live).await?;
            Some((Ok(event), (receiver, live)))
        });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}

async fn next_event(
    receiver: &mut tokio::sync::broadcast::Receiver<Event>,
    live: &Live,
) -> Option<axum::response::sse::Event> {
    use tokio::sync::broadcast::error::RecvError;
    let received = tokio::select! {
        received = receiver.recv() => received,
        () = live.stopping.cancelled() => return None,
    };
    let event = axum::response::sse::Event::default();
    match received {
        Ok(happened) => event.json_data(&happened).ok(),
        Err(RecvError::Lagged(missed)) => {
            event.json_data(json!({ "event": "missed", "count": missed })).ok()
        }
        Err(RecvError::Closed) => None,
    }
}

/// The filters of the audit log.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditQuery {
    since: Option<String>,
    who: Option<String>,
    limit: Option<i64>,
    cursor: Option<u64>,
}

/// Lines of the audit log, newest first.
#[utoipa::path(get, path = "/api/v1/audit", responses((status = 200, body = Value)))]
pub(super) async fn audit(
    State(app): State<App>,
    Query(query): Query<AuditQuery>,
) -> Result<axum::Json<Value>, Problem> {
    let since = query
        .since
        .map(|text| text.parse::<Timestamp>())
        .transpose()
        .map_err(|error| Problem::bad_request(format!("since is not an instant: {error}")))?;
    let limit = limit(query.limit, DEFAULT_LIMIT, MAX_LIMIT)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let filter = Filter { since, who: query.who, ..Filter::default() };
    let path = app.settings.audit.dir.join(audit::FILE_NAME);
    let before = query.cursor;
    let asked =
        tokio::task::spawn_blocking(move || audit::read::page(&path, &filter, before, limit)).await;
    let page = match asked {
        Ok(Ok(page)) => page,
        Ok(Err(error)) => {
            return Err(Problem::not_found(format!("the audit log cannot be read: {error}")));
        }
        Err(_panicked) => return Err(Problem::not_found("the audit log cannot be read")),
    };
    let next_cursor = page.next.map(|seq| seq.to_string());
    Ok(axum::Json(json!({ "items": page.items, "next_cursor": next_cursor })))
}
