//! `/api/v1/jobs/{cancel,retry,drop,reprioritise}`: what is done by hand to one job or to a hundred thousand, all in one way.
//!
//! A filter chooses among the jobs that an order can be done to. A dry run tells which those are. Whoever then orders names them, so that what is done is what was shown; a job that has left the
//! state it was chosen in is left alone. The work is done in steps ([`by_hand`]). When the caller goes away, the step that runs is finished and the
//! next one not begun.

mod choose;
mod other_params;
mod outcome;
mod steps;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::extract::State;
use serde_json::Value;

use self::choose::{Chosen, choose};
use self::other_params::retry_with;
use self::outcome::touch;
use self::steps::{Done, step_by_step};
use super::access::Changer;
use super::extract::Body;
use super::problem::Problem;
use super::state::{App, Live};
use super::wire::{Job, Orders, Selection, Touched};
use crate::model::{Actor, Event, JobId, Priority};
use crate::queue::Ageing;
use crate::store::Conn;
use crate::store::by_hand::{self, Order, OrderedBy, foresee};
use crate::store::history;
use crate::store::jobs::SubmitContext;

/// How many of the chosen jobs a dry run shows.
const SAMPLE_JOBS: usize = 10;

/// Cancels jobs: waiting ones at once, running ones by telling them to stop.
#[utoipa::path(post, path = "/api/v1/jobs/cancel", request_body = Selection, responses((status = 200, body = Orders)))]
pub(super) async fn cancel(
    State(app): State<App>,
    Changer(actor): Changer,
    Body(selection): Body<Selection>,
) -> Result<axum::Json<Orders>, Problem> {
    order(&app, Order::Cancel, actor, &selection).await
}

/// Brings failed and cancelled jobs back, and lets retrying ones go at once. With `params`, another job does the work of a failed or
/// cancelled one.
#[utoipa::path(post, path = "/api/v1/jobs/retry", request_body = Selection,
    responses((status = 200, body = Orders), (status = 422, body = Problem)))]
pub(super) async fn retry(
    State(app): State<App>,
    Changer(actor): Changer,
    Body(selection): Body<Selection>,
) -> Result<axum::Json<Orders>, Problem> {
    match (&selection.params, selection.ids.as_deref().unwrap_or_default()) {
        (None, _) => order(&app, Order::Retry, actor, &selection).await,
        (Some(params), [id]) if !selection.dry_run => {
            only_with("priority", "reprioritise", selection.priority.as_ref())?;
            retry_with(&app, JobId(*id), params, actor).await
        }
        (Some(_), _) => Err(Problem::bad_request(
            "params are for one job, which is named in `ids`, and nothing can be tried out with them",
        )),
    }
}

/// Deletes jobs that are over, with their attempts and logs, for good.
#[utoipa::path(post, path = "/api/v1/jobs/drop", request_body = Selection, responses((status = 200, body = Orders)))]
pub(super) async fn drop_jobs(
    State(app): State<App>,
    Changer(actor): Changer,
    Body(selection): Body<Selection>,
) -> Result<axum::Json<Orders>, Problem> {
    order(&app, Order::Drop, actor, &selection).await
}

/// Gives waiting jobs another priority.
#[utoipa::path(post, path = "/api/v1/jobs/reprioritise", request_body = Selection,
    responses((status = 200, body = Orders), (status = 422, body = Problem)))]
pub(super) async fn reprioritise(
    State(app): State<App>,
    Changer(actor): Changer,
    Body(selection): Body<Selection>,
) -> Result<axum::Json<Orders>, Problem> {
    let priority = selection.priority.clone().ok_or_else(|| {
        Problem::bad_request("say which `priority`: low, normal, high, critical or 1 to 10")
    })?;
    let priority = serde_json::from_value::<Priority>(priority)
        .map_err(|error| Problem::bad_request(error.to_string()))?;
    order(&app, Order::Reprioritise(priority), actor, &selection).await
}

fn only_with(field: &str, verb: &str, value: Option<&Value>) -> Result<(), Problem> {
    match value {
        None => Ok(()),
        Some(_) => Err(Problem::bad_request(format!("`{field}` is only for {verb}"))),
    }
}

async fn order(
    app: &App,
    order: Order,
    actor: Actor,
    selection: &Selection,
) -> Result<axum::Json<Orders>, Problem> {
    // A field that is ignored would let somebody believe that it had been heeded.
    only_with("params", "retry", selection.params.as_ref())?;
    if !matches!(order, Order::Reprioritise(_)) {
        only_with("priority", "reprioritise", selection.priority.as_ref())?;
    }
    let live = Arc::clone(app.live()?);
    let chosen = choose(app, order, selection).await?;
    if selection.dry_run {
        return preview(app, order, chosen).await;
    }
    let by = OrderedBy { actor, context: context(app, &live) };
    let count = chosen.ids.len();
    let Done { touched, batch_items } = step_by_step(app, &live, order, chosen, &by).await?;
    announce(&live, order.event(), &by.actor, touched.len());
    let results = counted(&touched);
    let batch_items = (order == Order::Drop).then_some(batch_items);
    let (sample, next_cursor) = (Vec::new(), None);
    Ok(axum::Json(Orders { count, batch_items, results, items: touched, sample, next_cursor }))
}

/// How many came to what.
fn counted(touched: &[Touched]) -> BTreeMap<String, usize> {
    let mut results = BTreeMap::new();
    for one in touched {
        *results.entry(one.result.clone()).or_default() += 1;
    }
    results
}

fn context(app: &App, live: &Live) -> SubmitContext {
    let ageing = Ageing::new(app.settings.workers.ageing.get());
    SubmitContext { now: app.clock.now(), node: live.node, ageing }
}

async fn preview(app: &App, order: Order, chosen: Chosen) -> Result<axum::Json<Orders>, Problem> {
    let Chosen { ids, state, is_named } = chosen;
    let look = move |conn: &mut Conn| {
        // What a filter has chosen is in a state in which it can be done.
        let mut kept = match order {
            Order::Drop if !is_named => by_hand::kept(conn, &ids)?,
            _ => HashMap::new(),
        };
        let (mut items, mut tried) = (Vec::with_capacity(ids.len()), Vec::new());
        for id in &ids {
            let came = match is_named {
                true => foresee(conn, order, JobId(*id), state)?,
                false => kept.remove(id),
            };
            items.push(match came {
                Some(came) => touch(order, *id, &came),
                None => {
                    tried.push(*id);
                    selected(*id)
                }
            });
        }
        let batch_items = by_hand::items_with(conn, order, &tried)?;
        let mut newest = ids;
        newest.sort_unstable_by_key(|id| std::cmp::Reverse(*id));
        newest.truncate(SAMPLE_JOBS);
        Ok((items, batch_items, history::by_ids(conn, &newest)?))
    };
    let (items, batch_items, sample) = app.store.read(look).await?;
    Ok(axum::Json(Orders {
        count: items.len(),
        batch_items: Some(batch_items),
        results: counted(&items),
        items,
        sample: sample.into_iter().map(Job::from).collect(),
        next_cursor: None,
    }))
}

fn selected(id: i64) -> Touched {
    let (result, detail) = ("selected".to_owned(), "selected; nothing was changed".to_owned());
    Touched { id, result, detail, replaced_by: None }
}

fn announce(live: &Live, action: &str, actor: &Actor, jobs: usize) {
    let _nobody_listens = live.events.send(Event::ByHand {
        action: action.to_owned(),
        subject: format!("{jobs} jobs"),
        actor: actor.to_string(),
    });
}
