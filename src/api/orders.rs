//! `/api/v1/jobs/{cancel,retry,drop,reprioritise}`: what is done by hand to one job or to a hundred thousand, all in one way.
//!
//! A filter chooses among the jobs that an order can be done to. A dry run tells which those are. Whoever then orders names them, so that what is done is what was shown; a job that has left the
//! state it was chosen in is left alone. The work is done in steps ([`by_hand`]). When the caller goes away, the step that runs is finished and the
//! next one not begun.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use axum::extract::State;
use serde_json::{Value, json};

use super::access::Changer;
use super::extract::Body;
use super::problem::Problem;
use super::schedules::instant;
use super::state::{App, Live};
use super::wire::{Job, Orders, Selection, Touched};
use crate::jobs::{kind, remove_logs};
use crate::model::{Actor, AuditEvent, Event, JobId, JobState, JsonText, Priority};
use crate::queue::Ageing;
use crate::store::Conn;
use crate::store::audit::append_event;
use crate::store::batch_orders;
use crate::store::by_hand::{self, Came, Order, OrderedBy, STEP_JOBS, Step, foresee};
use crate::store::dependencies::Hopeless;
use crate::store::history::{self, Among, JobFilter, Page};
use crate::store::jobs::SubmitContext;
use crate::store::replacement::{Replaced, replace};

/// How many jobs one order may be for.
const MAX_SELECTION: usize = 100_000;

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

/// The jobs of an order.
struct Chosen {
    ids: Vec<i64>,
    /// Jobs that go with them: the items of batches that are dropped.
    items: Vec<i64>,
    /// The state in which they were chosen, and still have to be.
    state: Option<JobState>,
    /// Whether they were named one by one, so that some may be such as nothing can be done to.
    is_named: bool,
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
    let batch_items = (order == Order::Drop).then_some(chosen.items.len());
    let count = chosen.ids.len();
    if selection.dry_run {
        return preview(app, order, chosen, batch_items).await;
    }
    let by = OrderedBy { actor, context: context(app, &live) };
    let Chosen { ids, items, state, .. } = chosen;
    // Items first: what is left of a batch when that breaks off can be dropped again.
    step_by_step(app, &live, order, &items, None, &by).await?;
    let touched = step_by_step(app, &live, order, &ids, state, &by).await?;
    announce(&live, order.event(), &by.actor, touched.len());
    let results = counted(&touched);
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

fn without_repeats(ids: &[i64]) -> Vec<i64> {
    let mut seen = HashSet::with_capacity(ids.len());
    ids.iter().copied().filter(|id| seen.insert(*id)).collect()
}

async fn choose(app: &App, order: Order, selection: &Selection) -> Result<Chosen, Problem> {
    let state: Option<JobState> =
        selection.state.as_deref().map(str::parse).transpose().map_err(Problem::bad_request)?;
    let filter = JobFilter {
        among: state.map(Among::State).into_iter().collect(),
        kind: selection.kind.clone(),
        schedule: selection.schedule.clone(),
        queue: selection.queue.clone(),
        labels: selection.labels.clone(),
        since: instant("since", selection.since.as_deref())?,
        until: instant("until", selection.until.as_deref())?,
        without_replaced: false,
    };
    // An empty list is one, too: it is what somebody sends whose look has found nothing, and must not mean everything.
    let is_named = selection.ids.is_some();
    let only_state = JobFilter { among: filter.among.clone(), ..JobFilter::default() };
    if is_named && filter != only_state {
        return Err(Problem::bad_request(
            "jobs are chosen by number or by a filter; beside numbers only `state` can be given",
        ));
    }
    if !is_named && filter == JobFilter::default() {
        return Err(Problem::bad_request(
            "name jobs, or say which ones by state, kind, schedule, queue, label, since or until",
        ));
    }
    let named = selection.ids.as_deref().map(without_repeats);
    let filter = JobFilter {
        // Each that is named is answered for.
        among: if is_named { filter.among } else { within(order, state)? },
        // What another job does already is no work that is left.
        without_replaced: order == Order::Retry,
        ..filter
    };
    let most = i64::try_from(MAX_SELECTION).unwrap_or(i64::MAX);
    let (ids, items) = app
        .store
        .read(move |conn| {
            let ids = match named {
                Some(named) => named,
                None => {
                    let page = Page { limit: most + 1, before: None };
                    let mut ids = history::job_ids(conn, &filter, page)?;
                    // Oldest first, except that items are dropped before their batches, which are older.
                    if order != Order::Drop {
                        ids.reverse();
                    }
                    ids
                }
            };
            let ids = match order {
                Order::Retry => by_hand::behind_what_they_depend_on(conn, ids)?,
                _ => ids,
            };
            let mut items = Vec::new();
            if order == Order::Drop {
                let named: HashSet<i64> = ids.iter().copied().collect();
                items = by_hand::items_of(conn, &ids, state)?;
                items.retain(|item| !named.contains(item));
            }
            Ok((ids, items))
        })
        .await?;
    if ids.len() > MAX_SELECTION {
        return Err(Problem::bad_request(format!(
            "more than {MAX_SELECTION} jobs at once; choose fewer, for example with since and until"
        )));
    }
    Ok(Chosen { ids, items, state, is_named })
}

/// Among which jobs a filter chooses for an order: those to which it can be done, and in that state where one is asked for.
fn within(order: Order, state: Option<JobState>) -> Result<Vec<Among>, Problem> {
    let Some(state) = state else { return Ok(order.possible().to_vec()) };
    let among = order.possible_in(state).map(|among| vec![among]);
    among.ok_or_else(|| Problem::bad_request(format!("{}, and not {state} ones", possible(order))))
}

async fn preview(
    app: &App,
    order: Order,
    chosen: Chosen,
    batch_items: Option<usize>,
) -> Result<axum::Json<Orders>, Problem> {
    let Chosen { ids, state, is_named, .. } = chosen;
    let look = move |conn: &mut Conn| {
        let mut items = Vec::with_capacity(ids.len());
        for id in &ids {
            // What a filter has chosen was looked at by then.
            let came = if is_named { foresee(conn, order, JobId(*id), state)? } else { None };
            items.push(came.map_or_else(|| selected(*id), |came| touch(order, *id, &came)));
        }
        let mut newest = ids;
        newest.sort_unstable_by_key(|id| std::cmp::Reverse(*id));
        newest.truncate(SAMPLE_JOBS);
        Ok((items, history::by_ids(conn, &newest)?))
    };
    let (items, sample) = app.store.read(look).await?;
    Ok(axum::Json(Orders {
        count: items.len(),
        batch_items,
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

/// Carries out an order, and tells at each step those whom it concerns.
async fn step_by_step(
    app: &App,
    live: &Live,
    order: Order,
    ids: &[i64],
    state: Option<JobState>,
    by: &OrderedBy,
) -> Result<Vec<Touched>, Problem> {
    let mut touched = Vec::with_capacity(ids.len());
    for step in ids.chunks(STEP_JOBS) {
        let (these, asked) = (step.to_vec(), by.clone());
        let write =
            app.store.write(move |conn| by_hand::carry_out(conn, order, &these, state, &asked));
        let Step { mut came, to_stop, unfinished } = write.await.map_err(|error| {
            let mut problem = Problem::from(error);
            if !touched.is_empty() {
                problem.detail = format!(
                    "{}; {} of {} jobs were done before that, and the same order can be given again",
                    problem.detail,
                    touched.len(),
                    ids.len()
                );
            }
            problem
        })?;
        live.signals.cancel(to_stop);
        live.signals.work();
        for batch in unfinished {
            let stop = |jobs| {
                live.signals.cancel(jobs);
                live.signals.work();
            };
            let is_over = batch_orders::finish(&app.store, batch, by.context, stop).await?;
            let place = step.iter().position(|id| *id == batch.0);
            if let Some(came) = place.and_then(|place| came.get_mut(place))
                && is_over
            {
                *came = Came::Done;
            }
        }
        let done = step.iter().zip(came);
        if order == Order::Drop {
            let gone = done.clone().filter(|(_, came)| *came == Came::Done).map(|(id, _)| *id);
            delete_logs(app, gone.collect()).await;
        }
        touched.extend(done.map(|(id, came)| touch(order, *id, &came)));
    }
    Ok(touched)
}

/// Logs go after the rows, as when history is pruned: one that is left over by a crash in between is only a file.
async fn delete_logs(app: &App, gone: Vec<i64>) {
    let paths = Arc::clone(&app.paths);
    let removal = tokio::task::spawn_blocking(move || {
        gone.iter().for_each(|id| remove_logs(&paths, JobId(*id)));
    });
    if removal.await.is_err() {
        tracing::error!("the logs of dropped jobs could not be removed");
    }
}

fn touch(order: Order, id: i64, came: &Came) -> Touched {
    let (word, detail) = match came {
        Came::Done => ("done", done(order).to_owned()),
        Came::Blocked => {
            ("done", "blocked again until what it depends on has been done".to_owned())
        }
        Came::Requested => ("requested", "its running attempt was told to stop".to_owned()),
        Came::AlreadyOver => ("already_over", "it was over already".to_owned()),
        Came::NotNow(state) => ("not_now", format!("it is {state}; {}", why_not(order, *state))),
        Came::ItemLives(item) => {
            ("not_now", format!("its item's job {item} is not over; cancel that first"))
        }
        Came::Hopeless(why) => ("not_now", hopeless(why)),
        Came::WaitedFor(waiting) => (
            "not_now",
            format!("job {waiting} waits for it or for its batch; cancel that one first"),
        ),
        Came::ReplacedBy(job) => {
            ("not_now", format!("job {job} does its work with other params; retry that one"))
        }
        Came::KeyTakenBy(job) => {
            ("not_now", format!("job {job} has its unique key now; when that is over, try again"))
        }
        Came::Unknown => ("unknown", format!("there is no job {id}")),
    };
    let replaced_by = match came {
        Came::ReplacedBy(job) => Some(job.0),
        _ => None,
    };
    Touched { id, result: word.to_owned(), detail, replaced_by }
}

/// What to do first about a job that depends on others.
fn hopeless(why: &Hopeless) -> String {
    match why {
        Hopeless::Ended(on, state) => {
            format!("job {on}, which it depends on, is {state}; retry that first")
        }
        Hopeless::NoneOf(last) => format!(
            "none of the jobs of which one must complete will, the last of them is job {last}; retry one of them first"
        ),
        Hopeless::Gone(on) => format!(
            "job {on}, which must complete before it, does not exist any more; submit the work again without it"
        ),
    }
}

fn done(order: Order) -> &'static str {
    match order {
        Order::Cancel => "cancelled before it ran",
        Order::Retry => "pending again",
        Order::Drop => "deleted",
        Order::Reprioritise(_) => "has the new priority",
    }
}

/// Why it was not done to a job in that state.
fn why_not(order: Order, state: JobState) -> &'static str {
    if order.possible().contains(&Among::State(state)) {
        return "it was chosen in another state and left alone";
    }
    possible(order)
}

/// To which jobs it can be done.
fn possible(order: Order) -> &'static str {
    match order {
        Order::Cancel => "only jobs that are not over can be cancelled",
        Order::Retry => "failed, cancelled and retrying jobs can be retried",
        Order::Drop => "only jobs that are over can be dropped, cancel it first",
        Order::Reprioritise(_) => {
            "pending, retrying and blocked jobs can be given another priority, a running one keeps its own"
        }
    }
}

/// Lets another job do the work of one that ended badly.
async fn retry_with(
    app: &App,
    id: JobId,
    params: &Value,
    actor: Actor,
) -> Result<axum::Json<Orders>, Problem> {
    let live = Arc::clone(app.live()?);
    let found = app.store.read(move |conn| history::job(conn, id)).await?;
    let old = found.ok_or_else(|| Problem::not_found(format!("there is no job {id}")))?;
    let catalog = app.catalog();
    let kind = kind(catalog.kinds(), &old.kind).ok_or_else(|| {
        let detail = format!(
            "job {id} is of the kind `{}`, which does not exist any more, so its params cannot be checked",
            old.kind
        );
        Problem::invalid(detail, Vec::new())
    })?;
    let problems = kind.check(params);
    if !problems.is_empty() {
        return Err(Problem::invalid_params(&kind.name, "/params", &problems));
    }
    let changed = changed_params(&old.params, params);
    let (context, text, by) = (context(app, &live), JsonText::from(params), actor.clone());
    let write = app.store.write(move |conn| {
        let replaced = replace(conn, id, &text, &by, context)?;
        if let Replaced::By(job) = &replaced {
            let detail = json!({ "replaced_by": job.0, "changed_params": changed });
            let subject = format!("job:{id}");
            let event = AuditEvent::new(Order::Retry.event(), &by, &subject, &detail, context.now);
            append_event(conn, context.node, &event)?;
        }
        Ok(replaced)
    });
    let touched = match live.signals.work_of(write).await? {
        Replaced::By(job) => {
            announce(&live, Order::Retry.event(), &actor, 1);
            let _nobody_listens = live.events.send(Event::JobsSubmitted { jobs: vec![job] });
            Touched {
                id: id.0,
                result: "done".to_owned(),
                detail: format!("job {job} does it with the new params"),
                replaced_by: Some(job.0),
            }
        }
        Replaced::NotNow(JobState::Retrying) => {
            let mut touched = touch(Order::Retry, id.0, &Came::NotNow(JobState::Retrying));
            "it is retrying; only failed and cancelled jobs can be given other params, cancel it first"
                .clone_into(&mut touched.detail);
            touched
        }
        Replaced::NotNow(state) => touch(Order::Retry, id.0, &Came::NotNow(state)),
        Replaced::AlreadyBy(job) => touch(Order::Retry, id.0, &Came::ReplacedBy(job)),
        Replaced::KeyTakenBy(job) => touch(Order::Retry, id.0, &Came::KeyTakenBy(job)),
        Replaced::Hopeless(why) => touch(Order::Retry, id.0, &Came::Hopeless(why)),
        Replaced::Unknown => touch(Order::Retry, id.0, &Came::Unknown),
        Replaced::IsBatch => Touched {
            id: id.0,
            result: "not_now".to_owned(),
            detail: "it is a batch; its items can be retried with other params, one by one"
                .to_owned(),
            replaced_by: None,
        },
    };
    Ok(axum::Json(Orders {
        count: 1,
        batch_items: None,
        results: BTreeMap::from([(touched.result.clone(), 1)]),
        items: vec![touched],
        sample: Vec::new(),
        next_cursor: None,
    }))
}

/// The names of the params that are not what they were. Their values stay out of the audit log, as those of submissions do.
fn changed_params(old: &Value, new: &Value) -> Vec<String> {
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return Vec::new() };
    let names = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name)));
    names.filter(|name| old.get(*name) != new.get(*name)).cloned().collect()
}

fn announce(live: &Live, action: &str, actor: &Actor, jobs: usize) {
    let _nobody_listens = live.events.send(Event::ByHand {
        action: action.to_owned(),
        subject: format!("{jobs} jobs"),
        actor: actor.to_string(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_changed_params_are_told_and_their_values_are_not() {
        let (old, new) =
            (json!({"a": 1, "b": "secret", "c": 3}), json!({"a": 1, "b": "s", "d": 4}));
        assert_eq!(changed_params(&old, &new), ["b", "c", "d"]);
        assert_eq!(changed_params(&old, &old), [""; 0]);
    }
}
