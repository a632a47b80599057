//! `/api/v1/jobs`: submitting and looking.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::{Changer, Payer, too_fast};
use super::extract::{Body, Path, Query};
use super::paging::{Paging, list};
use super::problem::Problem;
use super::schedules::instant;
use super::state::App;
use super::submission::{Submitted, check_submission};
use super::wire::{Attempt, HeldBy, ItemState, Job, List, Submission, WaitsFor, time};
use crate::model::{Actor, Event, FinalState, JobId, JobState, NewJob, sought_label};
use crate::queue::{Ageing, expected_end};
use crate::store::batches::{self, ItemRecord};
use crate::store::dependencies::waits_for;
use crate::store::history::{self, Among, JobFilter, JobRecord};
use crate::store::holds;
use crate::store::idempotency::{Key, Outcome, submit_once};
use crate::store::jobs::{SubmitContext, submit};
use crate::store::tokens::{Toll, charge};
use crate::store::whole_batches;
use crate::store::{Store, StoreError};

/// With how many of the jobs that it waits for, and of its attempts, a single job is shown.
const MAX_SHOWN: i64 = 100;

/// The filters of the list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JobQuery {
    state: Option<String>,
    kind: Option<String>,
    schedule: Option<String>,
    queue: Option<String>,
    /// `key=value`, several separated by commas.
    label: Option<String>,
    /// Submitted then or later.
    since: Option<String>,
    /// Submitted before.
    until: Option<String>,
    limit: Option<i64>,
    cursor: Option<String>,
}

impl JobQuery {
    fn filter(&self) -> Result<JobFilter, Problem> {
        let state: Option<JobState> =
            self.state.as_deref().map(str::parse).transpose().map_err(Problem::bad_request)?;
        Ok(JobFilter {
            among: state.map(Among::State).into_iter().collect(),
            kind: self.kind.clone(),
            schedule: self.schedule.clone(),
            queue: self.queue.clone(),
            labels: self
                .label
                .iter()
                .flat_map(|labels| labels.split(','))
                .map(sought_label)
                .collect::<Result<_, _>>()
                .map_err(Problem::bad_request)?,
            since: instant("since", self.since.as_deref())?,
            until: instant("until", self.until.as_deref())?,
            without_replaced: false,
            without_dry_runs: false,
            without_items_of_found: false,
        })
    }
}

/// Lists jobs, newest first.
#[utoipa::path(get, path = "/api/v1/jobs", responses((status = 200, body = List<Job>)))]
pub(super) async fn index(
    State(app): State<App>,
    Query(query): Query<JobQuery>,
) -> Result<axum::Json<List<Job>>, Problem> {
    let filter = query.filter()?;
    let paging = Paging::new(query.limit, query.cursor.as_deref())?;
    let rows = app.store.read(move |conn| history::jobs(conn, &filter, paging.page())).await?;
    Ok(axum::Json(list(rows, paging, |row| row.id.0, Job::from)))
}

/// One job with its latest finished attempts, up to 100 of them.
#[utoipa::path(get, path = "/api/v1/jobs/{id}", responses((status = 200, body = Job), (status = 404, body = Problem)))]
pub(super) async fn show(
    State(app): State<App>,
    Path(id): Path<i64>,
) -> Result<axum::Json<Job>, Problem> {
    let declared = app.settings.limits(app.catalog().kinds());
    let now = app.clock.now();
    let found = app
        .store
        .read(move |conn| {
            let job = history::job(conn, JobId(id))?;
            let attempts = history::attempts(conn, JobId(id), MAX_SHOWN)?;
            let waits_for = match &job {
                Some(job) if job.state == JobState::Blocked => waits_for(conn, job.id, MAX_SHOWN)?,
                _ => Vec::new(),
            };
            let holds = match &job {
                Some(job) if job.state == JobState::Pending && job.run_at <= now => {
                    holds::of_job(conn, &declared, job.id, now)?
                }
                _ => Vec::new(),
            };
            Ok(job.map(|job| (job, attempts, waits_for, holds)))
        })
        .await?;
    let (record, attempts, waits_for, holds) =
        found.ok_or_else(|| Problem::not_found(format!("there is no job {id}")))?;
    let mut job = estimated(&app, record);
    job.waits_for = waits_for.into_iter().map(WaitsFor::from).collect();
    job.held_by = holds.into_iter().map(HeldBy::from).collect();
    job.attempts = Some(attempts.into_iter().map(Attempt::from).collect());
    Ok(axum::Json(job))
}

/// A job with what can be said of its future. A batch takes as long as its items, how many at a time nobody can say before; how far it has come
/// since it could begin tells.
fn estimated(app: &App, record: JobRecord) -> Job {
    let is_of_jobs = record.batch.is_some() && !record.settings.whole_batch;
    let usual = app.live.as_ref().filter(|_| !is_of_jobs);
    let usual = usual.and_then(|live| live.durations.of(&record.kind));
    let percent = record.progress.and_then(|percent| u8::try_from(percent).ok());
    let began =
        record.started_at.or_else(|| is_of_jobs.then(|| record.run_at.max(record.created_at)));
    let end = match (record.state.is_final(), began) {
        (false, Some(started_at)) => expected_end(started_at, app.clock.now(), percent, usual),
        _ => None,
    };
    let is_over = record.state.is_final();
    let mut job = Job::from(record);
    job.expected_end = end.map(time);
    job.estimated_duration_ms = usual
        .filter(|_| !is_over)
        .map(|usual| u64::try_from(usual.as_millis()).unwrap_or(u64::MAX));
    job
}

/// Which items of a batch.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ItemsQuery {
    state: Option<String>,
    limit: Option<i64>,
    cursor: Option<String>,
}

/// The items of a batch, in order, each with what its job says now.
#[utoipa::path(get, path = "/api/v1/jobs/{id}/items", responses((status = 200, body = List<ItemState>), (status = 404, body = Problem)))]
pub(super) async fn items(
    State(app): State<App>,
    Path(id): Path<i64>,
    Query(query): Query<ItemsQuery>,
) -> Result<axum::Json<List<ItemState>>, Problem> {
    let paging = Paging::new(query.limit, query.cursor.as_deref())?;
    let state: Option<JobState> =
        query.state.as_deref().map(str::parse).transpose().map_err(Problem::bad_request)?;
    let page = paging.page();
    let after = page.before.map(|at| i32::try_from(at).unwrap_or(i32::MAX));
    let rows = app
        .store
        .read(move |conn| {
            let batch = JobId(id);
            if batches::counts(conn, batch)?.is_some() {
                return batches::items(conn, batch, state, after, page.limit).map(Some);
            }
            match history::job(conn, batch)? {
                Some(job) if job.settings.whole_batch => {
                    let over = FinalState::of(job.state);
                    whole_batches::items(conn, batch, over, state, after, page.limit).map(Some)
                }
                _ => Ok(None),
            }
        })
        .await?;
    let rows = rows.ok_or_else(|| Problem::not_found(format!("there is no batch {id}")))?;
    let view = |row: ItemRecord| ItemState {
        position: row.position,
        name: row.name,
        job_id: row.job.map(|job| job.0),
        state: row.state.to_string(),
        attempts: row.attempts,
        error: row.error,
        result: row.result,
    };
    Ok(axum::Json(list(rows, paging, |row| row.position.into(), view)))
}

/// Submits a job, or a list of jobs in one atomic call.
#[utoipa::path(post, path = "/api/v1/jobs", request_body = Submission,
    responses((status = 202, body = Job), (status = 422, body = Problem), (status = 429, body = Problem)))]
pub(super) async fn create(
    State(app): State<App>,
    Changer(actor): Changer,
    Payer(toll): Payer,
    headers: HeaderMap,
    Body(body): Body<Value>,
) -> Result<Response, Problem> {
    let live = Arc::clone(app.live()?);
    let now = app.clock.now();
    let key = idempotency_key(&headers, &body, &actor)?;
    let Submitted { jobs, is_bulk } =
        check_submission(body, app.catalog().kinds(), &app.settings.job_defaults(), now, &actor)?;
    let ageing = Ageing::new(app.settings.workers.ageing.get());
    let context = SubmitContext { now, node: live.node, ageing };
    let jobs = Arc::new(jobs);
    let rows = Arc::clone(&jobs);
    let write = hand_in(&app.store, rows, key, toll, context);
    let submitted = match live.signals.work_of(write).await?? {
        Outcome::Submitted(submitted) => submitted,
        Outcome::Repeated { jobs, at } => return repeated(&app, jobs, at, is_bulk).await,
        Outcome::Other => {
            let detail =
                "this Idempotency-Key was used for another request; take a new one".to_owned();
            return Err(Problem::invalid(detail, Vec::new()));
        }
    };
    let ids: Vec<JobId> = submitted.iter().map(|job| job.id).collect();
    let _nobody_listens = live.events.send(Event::JobsSubmitted { jobs: ids.clone() });
    if is_bulk {
        let items: Vec<Value> = ids.iter().map(|id| json!({ "id": id.0 })).collect();
        let body = json!({ "items": items });
        return Ok((StatusCode::ACCEPTED, axum::Json(body)).into_response());
    }
    let (Some(job), Some(done)) = (jobs.first(), submitted.first().copied()) else {
        return Err(Problem::bad_request("nothing was submitted"));
    };
    let id = done.id;
    let (status, record) = match done.state {
        Some(state) => (StatusCode::ACCEPTED, JobRecord::submitted(job.clone(), id, state, now)),
        // A taken unique key is no error: the answer is the job that has it.
        None => {
            let holder = app.store.read(move |conn| history::job(conn, id)).await?;
            let gone = || Problem::not_found(format!("job {id} is gone"));
            (StatusCode::OK, holder.ok_or_else(gone)?)
        }
    };
    let location = [(header::LOCATION, format!("/api/v1/jobs/{id}"))];
    Ok((status, location, axum::Json(estimated(&app, record))).into_response())
}

/// Writes a submission: by itself where it brings a key or a token with a rate, and with all others that come at the same time where it does not.
async fn hand_in(
    store: &Store,
    jobs: Arc<Vec<NewJob>>,
    key: Option<Key>,
    toll: Option<Toll>,
    context: SubmitContext,
) -> Result<Result<Outcome, Problem>, StoreError> {
    if key.is_none() && toll.is_none() {
        return store
            .submit(jobs, context)
            .await
            .map(|submitted| Ok(Outcome::Submitted(submitted)));
    }
    let count = handed_in(&jobs);
    let write = store.write(move |conn| {
        if let Some(toll) = &toll
            && let Err(shortage) = charge(conn, toll, count, context.now)?
        {
            return Ok(Err(too_fast(toll, count, shortage)));
        }
        let outcome = match &key {
            Some(key) => submit_once(conn, key, &jobs, context)?,
            None => Outcome::Submitted(submit(conn, &jobs, context)?),
        };
        Ok(Ok(outcome))
    });
    write.await
}

/// How many jobs that is for the rate of a token: each item of a batch is one.
fn handed_in(jobs: &[NewJob]) -> u32 {
    let count: usize = jobs.iter().map(|job| job.items.len().max(1)).sum();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// How long an `Idempotency-Key` may be, in bytes.
const MAX_KEY_BYTES: usize = 255;

/// The key of a submission that may be repeated (draft-ietf-httpapi-idempotency-key-header). Each caller has keys of its own.
fn idempotency_key(
    headers: &HeaderMap,
    body: &Value,
    actor: &Actor,
) -> Result<Option<Key>, Problem> {
    let mut keys = headers.get_all("idempotency-key").iter();
    let Some(key) = keys.next() else { return Ok(None) };
    if keys.next().is_some() {
        return Err(Problem::bad_request("a request has one Idempotency-Key"));
    }
    let key = key.to_str().ok().filter(|key| (1..=MAX_KEY_BYTES).contains(&key.len()));
    let key = key.ok_or_else(|| {
        Problem::bad_request(format!(
            "an Idempotency-Key has 1 to {MAX_KEY_BYTES} visible characters"
        ))
    })?;
    let request = blake3::hash(body.to_string().as_bytes()).to_hex().to_string();
    Ok(Some(Key { key: format!("{actor} {key}"), request }))
}

/// The answer to a submission that was done before, at that instant: the same jobs, as they are now.
async fn repeated(
    app: &App,
    ids: Vec<JobId>,
    at: Timestamp,
    is_bulk: bool,
) -> Result<Response, Problem> {
    let replayed = [("idempotency-replayed", "true")];
    if is_bulk {
        let items: Vec<Value> = ids.iter().map(|id| json!({ "id": id.0 })).collect();
        let body = json!({ "items": items });
        return Ok((StatusCode::ACCEPTED, replayed, axum::Json(body)).into_response());
    }
    let id = ids.first().copied().ok_or_else(|| Problem::bad_request("nothing was submitted"))?;
    let record = app.store.read(move |conn| history::job(conn, id)).await?;
    let Some(record) = record else {
        let detail = format!(
            "this was submitted before, as job {id}, which was dropped since or is past its retention"
        );
        return Ok((replayed, Problem::gone(detail)).into_response());
    };
    let location = [(header::LOCATION, format!("/api/v1/jobs/{id}"))];
    let was_found = record.created_at < at;
    let status = if was_found { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, replayed, location, axum::Json(estimated(app, record))).into_response())
}
