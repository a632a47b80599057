//! How many jobs at once and how fast: what files declare, what operators set, and what runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use jiff::Timestamp;
use serde_json::json;

use super::access::Changer;
use super::extract::Body;
use super::problem::{FieldError, Problem};
use super::state::App;
use super::wire::{Limit, LimitName, LimitRequest, List, Tripped, time};
use crate::jobs::{Kind, kind};
use crate::model::{AuditEvent, Breaker, Concurrency, Event, ScheduleId};
use crate::queue::names;
use crate::store::audit::append_event;
use crate::store::breakers;
use crate::store::limits::{self, SetLimit, StoredLimit};
use crate::store::queues::{self, QueueState};

/// The limits that count now, and how many jobs run under each.
#[utoipa::path(get, path = "/api/v1/limits", responses((status = 200, body = List<Limit>)))]
pub(super) async fn index(State(app): State<App>) -> Result<axum::Json<List<Limit>>, Problem> {
    let read = |conn: &mut _| {
        let (stored, breakers) = (limits::list(conn)?, breakers::list(conn)?);
        Ok((stored, breakers, queues::list(conn)?, limits::running(conn)?))
    };
    let (stored, breakers, queues, running) = app.store.read(read).await?;
    let mut rows = Rows::default();
    let declared = app.settings.limits(app.catalog().kinds());
    for name in declared.names() {
        let row = rows.of(name);
        (row.max, row.declared) = (declared.max(name), declared.max(name));
        let rate = declared.rate(name).map(|rate| rate.to_string());
        (row.rate, row.declared_rate) = (rate.clone(), rate);
        let breaker = declared.breaker(name).map(|breaker| breaker.to_string());
        (row.breaker, row.declared_breaker) = (breaker.clone(), breaker);
    }
    for part in &running {
        if let Some(Concurrency { key, max }) = &part.subqueue.concurrency {
            let row = rows.of(&format!("key:{key}"));
            (row.max, row.declared) = (Some(*max), Some(*max));
        }
    }
    for QueueState { name, set, set_by, .. } in queues {
        if let (Some(rate), Some((at, by))) = (set.rate, set_by) {
            let set = SetLimit { rate: Some(rate), ..SetLimit::default() };
            rows.of(&format!("queue:{name}")).set(set, at, by);
        }
    }
    for StoredLimit { name, set, set_at, set_by } in stored {
        rows.of(&name).set(set, set_at, set_by);
    }
    for (name, state) in breakers {
        let Some(row) = rows.0.get_mut(&name) else { continue };
        let breaker: Option<Breaker> = row.breaker.as_deref().and_then(|text| text.parse().ok());
        row.tripped =
            breaker.zip(state.trip).map(|(breaker, trip)| Tripped::new(&name, breaker, trip));
    }
    for part in &running {
        for name in names(&part.subqueue) {
            if let Some(row) = rows.0.get_mut(&name) {
                row.running += part.count;
            }
        }
    }
    Ok(axum::Json(List { items: rows.0.into_values().collect(), next_cursor: None }))
}

/// Limits by name, as they are put together.
#[derive(Default)]
struct Rows(BTreeMap<String, Limit>);

impl Rows {
    fn of(&mut self, name: &str) -> &mut Limit {
        let empty = || Limit { name: name.to_owned(), ..Limit::default() };
        self.0.entry(name.to_owned()).or_insert_with(empty)
    }
}

impl Limit {
    fn set(&mut self, set: SetLimit, at: Timestamp, by: String) {
        self.max = set.max.or(self.max);
        self.rate = set.rate.map(|rate| rate.to_string()).or_else(|| self.rate.take());
        let breaker = set.breaker.map(|breaker| breaker.to_string());
        self.breaker = breaker.or_else(|| self.breaker.take());
        (self.set_at, self.set_by) = (Some(time(at)), Some(by));
    }
}

/// Sets a limit: how many jobs at once, how fast they may start, after how many failures none does. What is left out stays as it is; where
/// all are left out, what is declared counts again. It holds for all nodes, from the next claim on, and stays until somebody changes it.
#[utoipa::path(post, path = "/api/v1/limits", request_body = LimitRequest, responses((status = 200, body = List<Limit>), (status = 422, body = Problem)))]
pub(super) async fn set(
    State(app): State<App>,
    Changer(actor): Changer,
    Body(LimitRequest { name, max, rate, breaker }): Body<LimitRequest>,
) -> Result<axum::Json<List<Limit>>, Problem> {
    let live = Arc::clone(app.live()?);
    let set = SetLimit { max, rate, breaker };
    check(&name, set, app.catalog().kinds())?;
    let (now, node) = (app.clock.now(), live.node);
    let mut detail = json!({ "max": max, "rate": rate });
    if let Some(breaker) = breaker {
        detail["breaker"] = json!(breaker);
    }
    let event = if set == SetLimit::default() { "limit.unset" } else { "limit.set" };
    let event = AuditEvent::new(event, &actor, &name, &detail, now);
    app.store
        .write(move |conn| {
            let is_changed = if set == SetLimit::default() {
                limits::unset(conn, &name)?
            } else {
                limits::set(conn, &name, set, &actor, now).map(|()| true)?
            };
            if is_changed { append_event(conn, node, &event) } else { Ok(()) }
        })
        .await?;
    live.signals.work();
    index(State(app)).await
}

/// Lets everything start again under a name whose breaker has tripped, without waiting for its probe.
#[utoipa::path(post, path = "/api/v1/limits/reset", request_body = LimitName, responses((status = 200, body = List<Limit>), (status = 404, body = Problem)))]
pub(super) async fn reset(
    State(app): State<App>,
    Changer(actor): Changer,
    Body(LimitName { name }): Body<LimitName>,
) -> Result<axum::Json<List<Limit>>, Problem> {
    let live = Arc::clone(app.live()?);
    let (event, node) =
        (AuditEvent::new("breaker.reset", &actor, &name, &json!({}), app.clock.now()), live.node);
    let of = name.clone();
    let has_tripped = app
        .store
        .write(move |conn| {
            let has_tripped = breakers::reset(conn, &of)?;
            if has_tripped {
                append_event(conn, node, &event)?;
            }
            Ok(has_tripped)
        })
        .await?;
    if !has_tripped {
        let name = name.escape_default();
        return Err(Problem::not_found(format!("no breaker `{name}` has tripped")));
    }
    let _nobody_listens = live.events.send(Event::BreakerReset { name });
    live.signals.work();
    index(State(app)).await
}

/// Refuses what would be listed and count for nothing. To take a limit back, it is enough that there could be one of that name.
fn check(name: &str, set: SetLimit, kinds: &[Kind]) -> Result<(), Problem> {
    let wrong = |what: &str, pointer: &str, detail: String| {
        let wrong = FieldError { pointer: pointer.to_owned(), detail };
        Err(Problem::invalid(what, vec![wrong]))
    };
    let is_legal = match name.split_once(':') {
        Some(("queue" | "kind", name)) => name.parse::<ScheduleId>().is_ok(),
        Some(("key", key)) => Concurrency { key: key.to_owned(), max: 1 }.problem().is_none(),
        _ => false,
    };
    if !is_legal {
        let detail = "a limit is queue:NAME, kind:NAME (of a kind that a file declares) or key:KEY";
        return wrong("this is no limit's name", "/name", detail.to_owned());
    }
    match (name.split_once(':'), set) {
        (_, SetLimit { max: None, rate: None, breaker: None }) => Ok(()),
        (_, SetLimit { max: Some(max), .. }) if max > Concurrency::MAX => {
            let detail = format!(
                "max must be from 0 to {}; `sexton limits unset` takes a limit back",
                Concurrency::MAX
            );
            wrong("so many can be no limit", "/max", detail)
        }
        (Some(("queue", queue)), SetLimit { rate: Some(rate), .. }) => {
            let detail = format!(
                "a queue's rate is one of its settings: `sexton queues set {queue} --rate '{rate}'`"
            );
            wrong("this is no limit of a queue", "/rate", detail)
        }
        (Some(("kind", name)), _) => match kind(kinds, name) {
            Some(kind) if kind.declared().is_some() => Ok(()),
            Some(_) => {
                let detail = format!(
                    "`{name}` is built in, and only kinds that files declare have limits: limit the queue of its jobs (queue:NAME) or give them a key (key:KEY)"
                );
                wrong("this kind has no limits", "/name", detail)
            }
            None => {
                let detail = format!("no file declares a kind `{name}`; `sexton kinds` lists all");
                wrong("there is no such kind", "/name", detail)
            }
        },
        _ => Ok(()),
    }
}
