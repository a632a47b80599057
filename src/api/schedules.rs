//! `/api/v1/schedules` and `/api/v1/occurrences`.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::access::Changer;
use super::ahead::ahead;
use super::extract::{Body, Path, Query};
use super::paging::{Paging, limit, list};
use super::problem::{FieldError, Problem};
use super::state::App;
use super::wire::{Last, List, Occurrence, Pause, PauseRequest, RunRequest, Schedule, time};
use crate::catalog::Catalog;
use crate::jobs::kind;
use crate::model::AuditEvent;
use crate::model::{self, Actor, Event, Ledger, ScheduleId};
use crate::schedule;
use crate::scheduler::{ByHand, Draws, Entry, NextFire, next_fire};
use crate::store::audit::append_event;
use crate::store::history::{self, LastRun, OccurrenceFilter};
use crate::store::schedules as ledgers;
use crate::store::wakeups::News;

/// How many schedules a page has, unless fewer are asked for: as a rule all of them.
const MAX_SCHEDULES: i64 = 10_000;

/// How many instants a single schedule is shown with.
const UPCOMING: usize = 5;

/// The page of the list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScheduleQuery {
    limit: Option<i64>,
    cursor: Option<String>,
}

/// Lists the loaded schedules by name.
#[utoipa::path(get, path = "/api/v1/schedules", responses((status = 200, body = List<Schedule>)))]
pub(super) async fn index(
    State(app): State<App>,
    Query(query): Query<ScheduleQuery>,
) -> Result<axum::Json<List<Schedule>>, Problem> {
    let catalog = app.catalog();
    let limit = limit(query.limit, MAX_SCHEDULES, MAX_SCHEDULES)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let after = query.cursor.unwrap_or_default();
    let all = catalog.schedules.values().filter(|schedule| schedule.id.as_str() > after.as_str());
    let page: Vec<_> = all.take(limit + 1).cloned().collect();
    let more = page.len() > limit;
    let page: Vec<Arc<schedule::Schedule>> = page.into_iter().take(limit).collect();
    let ids: Vec<String> = page.iter().map(|schedule| schedule.id.to_string()).collect();
    let (ledgers, mut last) = app
        .store
        .read(move |conn| {
            let ledgers = ledgers::ledgers(conn)?;
            let mut last = HashMap::new();
            for id in ids {
                if let Some(run) = history::last_run(conn, &id)? {
                    last.insert(id, run);
                }
            }
            Ok((ledgers, last))
        })
        .await?;
    let now = app.clock.now();
    let items: Vec<Schedule> = page
        .iter()
        .map(|schedule| {
            let id = schedule.id.as_str();
            view(&app, &catalog, schedule, ledgers.get(id), last.remove(id), now)
        })
        .collect();
    let next_cursor = if more { items.last().map(|row| row.id.clone()) } else { None };
    Ok(axum::Json(List { items, next_cursor }))
}

/// One schedule with its next instants.
#[utoipa::path(get, path = "/api/v1/schedules/{id}", responses((status = 200, body = Schedule), (status = 404, body = Problem)))]
pub(super) async fn show(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<axum::Json<Schedule>, Problem> {
    let catalog = app.catalog();
    let schedule = find(&catalog, &id)?;
    let name = schedule.id.clone();
    let (ledger, last) = app
        .store
        .read(move |conn| {
            Ok((ledgers::ledger(conn, &name)?, history::last_run(conn, name.as_str())?))
        })
        .await?;
    let now = app.clock.now();
    let mut shown = view(&app, &catalog, &schedule, ledger.as_ref(), last, now);
    let last_end = ledger.and_then(|ledger| ledger.last_end);
    let mut instants = Vec::new();
    let mut after = now;
    while instants.len() < UPCOMING
        && let Some(next) = schedule.when.rule.next_after(after, last_end)
    {
        instants.push(time(next));
        after = next;
    }
    shown.upcoming = Some(instants);
    shown.params = Some(schedule.params.value());
    Ok(axum::Json(shown))
}

pub(super) fn find(catalog: &Catalog, id: &str) -> Result<Arc<schedule::Schedule>, Problem> {
    let found = id.parse::<ScheduleId>().ok().and_then(|id| catalog.get(&id).cloned());
    found.ok_or_else(|| {
        let known: Vec<&str> = catalog.schedules.keys().map(ScheduleId::as_str).collect();
        let hint =
            crate::jobs::suggest(id, &known).map(|hint| format!("; {hint}")).unwrap_or_default();
        Problem::not_found(format!("there is no schedule `{}`{hint}", id.escape_default()))
    })
}

/// When a schedule fires next; one that was never loaded by a daemon starts now.
pub(super) fn upcoming(
    schedule: &schedule::Schedule,
    ledger: Option<&Ledger>,
    now: Timestamp,
    draws: &Draws,
) -> Option<NextFire> {
    let fresh = Ledger { decided_until: now, last_end: None, last_success: None, pause: None };
    let ledger = ledger.unwrap_or(&fresh);
    next_fire(&Entry { schedule, ledger, live: false, ends: &[] }, &draws.spread())
}

fn view(
    app: &App,
    catalog: &Catalog,
    schedule: &schedule::Schedule,
    ledger: Option<&Ledger>,
    last: Option<LastRun>,
    now: Timestamp,
) -> Schedule {
    let pause = ledger
        .and_then(|ledger| ledger.pause.as_ref())
        .filter(|pause| pause.until.is_none_or(|until| until > now));
    let state = match (schedule.enabled, pause, schedule.when.is_manual()) {
        (false, ..) => "disabled",
        (_, Some(_), _) => "paused",
        (.., true) => "manual",
        _ => "active",
    };
    let stale = catalog.stale.get(&schedule.id);
    let next = upcoming(schedule, ledger, now, &app.draws);
    Schedule {
        id: schedule.id.to_string(),
        kind: schedule.kind.clone(),
        description: schedule.description.clone(),
        enabled: schedule.enabled,
        state: state.to_owned(),
        stale: stale.is_some(),
        error: stale.map(|broken| broken.error.to_string()),
        rule: schedule.when.rule.describe(),
        timezone: schedule::zone_name(&schedule.when.rule.zone),
        next: next.map(|next| time(next.fire_at)),
        last: last.map(last_view),
        pause: pause.map(|pause| Pause {
            since: time(pause.since),
            until: pause.until.map(time),
            by: pause.by.clone(),
            reason: pause.reason.clone(),
        }),
        tags: schedule.tags.clone(),
        owner: schedule.owner.clone(),
        runbook: schedule.runbook.clone(),
        file: schedule.source.file.display().to_string(),
        line: schedule.source.line,
        revision: schedule.hash.to_string(),
        priority: schedule.run.priority.level(),
        queue: schedule.run.queue.clone(),
        upcoming: None,
        params: None,
    }
}

fn last_view(last: LastRun) -> Last {
    let (job_id, job_state, finished_at) = match last.job {
        Some((id, state, finished)) => (Some(id.0), Some(state.to_string()), finished.map(time)),
        None => (None, None, None),
    };
    Last {
        nominal_at: time(last.occurrence.nominal_at.into()),
        decision: last.occurrence.decision,
        reason: last.occurrence.reason,
        job_id,
        job_state,
        finished_at,
    }
}

/// Runs a schedule now.
#[utoipa::path(post, path = "/api/v1/schedules/{id}/run", request_body = RunRequest,
    responses((status = 202, body = Occurrence), (status = 409, body = Problem)))]
pub(super) async fn run(
    State(app): State<App>,
    Changer(actor): Changer,
    Path(id): Path<String>,
    Body(request): Body<RunRequest>,
) -> Result<Response, Problem> {
    let live = Arc::clone(app.live()?);
    let catalog = app.catalog();
    let schedule = find(&catalog, &id)?;
    let kind = kind(catalog.kinds(), &schedule.kind);
    if let (Some(kind), Some(changes)) = (kind, &request.params) {
        let mut params = schedule.params.value();
        if let (Some(own), Some(changes)) = (params.as_object_mut(), changes.as_object()) {
            own.extend(changes.clone());
        }
        let problems = kind.check(&params);
        if !problems.is_empty() {
            return Err(Problem::invalid_params(&kind.name, "/params", &problems));
        }
    }
    let nominal_at = instant("nominal_at", request.nominal_at)?;
    let by_hand = ByHand { actor, params: request.params, nominal_at, dry_run: request.dry_run };
    let recorded = live.enqueuer.by_hand(&schedule, by_hand).await?;
    let body = json!({
        "schedule": recorded.schedule,
        "nominal_at": time(recorded.nominal_at),
        "decision": recorded.decision,
        "reason": recorded.reason,
        "job_id": recorded.job,
    });
    let status = if recorded.job.is_some() { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, axum::Json(body)).into_response())
}

/// Holds a schedule back.
#[utoipa::path(post, path = "/api/v1/schedules/{id}/pause", request_body = PauseRequest, responses((status = 200, body = Schedule), (status = 422, body = Problem)))]
pub(super) async fn pause(
    State(app): State<App>,
    Changer(actor): Changer,
    Path(id): Path<String>,
    Body(request): Body<PauseRequest>,
) -> Result<axum::Json<Schedule>, Problem> {
    let live = Arc::clone(app.live()?);
    let schedule = find(&app.catalog(), &id)?;
    let now = app.clock.now();
    let until = request.until.as_deref().map(|text| ahead(text, now)).transpose();
    let until =
        until.map_err(|error| Problem::bad_request(format!("until is not an instant: {error}")))?;
    if until.is_some_and(|until| until <= now) {
        return Err(Problem::bad_request("until lies in the past"));
    }
    let pause = model::Pause {
        since: now,
        until,
        by: actor.to_string(),
        reason: pause_reason(request.reason)?,
    };
    let detail = json!({ "until": until.map(time), "reason": pause.reason });
    let event = AuditEvent::new("schedule.paused", &actor, &subject(&schedule.id), &detail, now);
    let (name, node) = (schedule.id.clone(), live.node);
    app.store
        .write(move |conn| {
            ledgers::pause(conn, &name, &pause)?;
            append_event(conn, node, &event)
        })
        .await?;
    announce(&live, "schedule.paused", &schedule.id, &actor);
    show(State(app), Path(id)).await
}

/// Lets a schedule go on.
#[utoipa::path(post, path = "/api/v1/schedules/{id}/resume", responses((status = 200, body = Schedule)))]
pub(super) async fn resume(
    State(app): State<App>,
    Changer(actor): Changer,
    Path(id): Path<String>,
) -> Result<axum::Json<Schedule>, Problem> {
    let live = Arc::clone(app.live()?);
    let schedule = find(&app.catalog(), &id)?;
    let event = AuditEvent::new(
        "schedule.resumed",
        &actor,
        &subject(&schedule.id),
        &json!({}),
        app.clock.now(),
    );
    let (name, node) = (schedule.id.clone(), live.node);
    let was_paused = app
        .store
        .write(move |conn| {
            let was_paused = ledgers::resume(conn, &name)?;
            if was_paused {
                append_event(conn, node, &event)?;
            }
            Ok(was_paused)
        })
        .await?;
    if was_paused {
        announce(&live, "schedule.resumed", &schedule.id, &actor);
    }
    show(State(app), Path(id)).await
}

fn announce(live: &super::state::Live, action: &str, id: &ScheduleId, actor: &Actor) {
    live.ledger_changed.notify_one();
    live.signals.tell_others(News::Ledger);
    let _nobody_listens = live.events.send(Event::ByHand {
        action: action.to_owned(),
        subject: id.to_string(),
        actor: actor.to_string(),
    });
}

/// An instant that a request gives, RFC 3339.
pub(super) fn instant(
    name: &str,
    text: Option<impl AsRef<str>>,
) -> Result<Option<Timestamp>, Problem> {
    text.map(|text| text.as_ref().parse())
        .transpose()
        .map_err(|error| Problem::bad_request(format!("{name} is not an instant: {error}")))
}

/// The filters of the ledger.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OccurrenceQuery {
    schedule: Option<String>,
    from: Option<String>,
    until: Option<String>,
    decision: Option<String>,
    limit: Option<i64>,
    cursor: Option<String>,
}

/// Lists what was decided about due instants, newest first.
#[utoipa::path(get, path = "/api/v1/occurrences", responses((status = 200, body = List<Occurrence>)))]
pub(super) async fn occurrences(
    State(app): State<App>,
    Query(query): Query<OccurrenceQuery>,
) -> Result<axum::Json<List<Occurrence>>, Problem> {
    let paging = Paging::new(query.limit, query.cursor.as_deref())?;
    let filter = OccurrenceFilter {
        schedule: query.schedule,
        from: instant("from", query.from)?,
        until: instant("until", query.until)?,
        decision: query.decision,
    };
    let rows =
        app.store.read(move |conn| history::occurrences(conn, &filter, paging.page())).await?;
    Ok(axum::Json(list(rows, paging, |row| row.id, Occurrence::from)))
}

/// What the audit log calls a schedule.
fn subject(id: &ScheduleId) -> String {
    format!("schedule:{id}")
}

/// Why something is paused, which is shown in lists and logs, and which PostgreSQL cannot keep with NUL in it.
///
/// # Errors
/// When there are control characters in it.
pub(super) fn pause_reason(given: Option<String>) -> Result<String, Problem> {
    let reason = given.unwrap_or_default();
    if !reason.chars().any(char::is_control) {
        return Ok(reason);
    }
    let detail = "a reason is one line without control characters".to_owned();
    let wrong = FieldError { pointer: "/reason".to_owned(), detail };
    Err(Problem::invalid("the pause is not valid", vec![wrong]))
}
