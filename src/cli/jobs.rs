//! Commands about jobs.

use std::io::Read;
use std::path::Path;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::args::{Filter, Items, Jobs, Logs, Submit};
use super::follow::{follow_log, tell_elsewhere, tell_tail};
use super::held::held_by;
use super::output::{Exit, Failure, Outcome, json, line, note, out, plain, table, text, when};
use super::schedules::{items, paging, parse_json, query, tell_more};
use super::session::Session;
use super::wait::finish;

pub(super) async fn submit(session: &Session, args: &Submit) -> Outcome {
    let params = args.params.as_deref().map_or_else(|| Ok(json!({})), read_params)?;
    let at = args.at.as_deref().map(|text| session.ahead(text)).transpose()?;
    let mut labels = serde_json::Map::new();
    for label in &args.labels {
        let (key, value) = label.split_once('=').ok_or_else(|| {
            Failure::new(Exit::Usage, format!("`{label}` is not a label: write it as key=value"))
        })?;
        labels.insert(key.to_owned(), value.into());
    }
    let depends_on: Vec<Value> =
        args.depends_on.iter().map(|text| dependency(text)).collect::<Result<_, _>>()?;
    let batch = args.items.as_deref().map(read_items).transpose()?;
    let mut body = json!({
        "kind": args.kind,
        "params": params,
        "labels": labels,
        "depends_on": depends_on,
        "dry_run": args.dry_run,
    });
    let concurrency = args.concurrency.as_deref().map(concurrency).transpose()?;
    let priority = args.priority.as_deref().map(priority);
    for (key, value) in [
        ("priority", priority),
        ("queue", args.queue.as_ref().map(|queue| json!(queue))),
        ("run_at", at.map(|at| json!(at))),
        ("unique", args.unique.as_ref().map(|key| json!(key))),
        ("max_attempts", args.max_attempts.map(|max| json!(max))),
        ("timeout", args.timeout.as_ref().map(|timeout| json!(timeout))),
        ("concurrency", concurrency),
        ("node", args.node.as_ref().map(|node| json!(node))),
        ("items", batch),
        ("on_dependency_failure", args.on_dependency_failure.as_ref().map(|word| json!(word))),
    ] {
        if let Some(value) = value {
            body[key] = value;
        }
    }
    let client = session.daemon().await?;
    let (status, job) = client.post_for_status("/api/v1/jobs", &body).await?;
    let id = job.get("id").and_then(Value::as_i64).unwrap_or_default();
    // Nothing new was made then.
    let has_key = if status == StatusCode::OK { ", which has the unique key already" } else { "" };
    let accepted = format!("job {id} {}{has_key}", text(&job, "state"));
    if args.wait {
        note(accepted);
        return finish(session, &client, id).await;
    }
    if session.json {
        json(&job);
    } else {
        line(accepted);
    }
    Ok(Exit::Ok)
}

/// Params as they are written on the command line; `-` is stdin.
pub(super) fn read_params(text: &str) -> Result<Value, Failure> {
    let text: &str = if text == "-" { &read_stdin()? } else { text };
    parse_json("--params", text)
}

/// A priority as the daemon takes it: a number or a name.
pub(super) fn priority(text: &str) -> Value {
    text.parse::<i64>().map_or_else(|_name| json!(text), |level| json!(level))
}

fn read_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| Failure::new(Exit::Usage, format!("stdin cannot be read: {error}")))?;
    Ok(text)
}

pub(super) async fn list(session: &Session, args: &Jobs) -> Outcome {
    let [limit, cursor] = paging(&args.page);
    let mut pairs = filter(session, &args.filter)?;
    pairs.extend([limit, cursor]);
    let path = format!("/api/v1/jobs{}", query(&pairs));
    let list = session.reader().await?.get(&path).await?;
    if session.json {
        json(&list);
        return Ok(Exit::Ok);
    }
    jobs_table(session, items(&list));
    tell_more(&list);
    Ok(Exit::Ok)
}

/// Shows jobs, a line each.
pub(super) fn jobs_table(session: &Session, jobs: &[Value]) {
    let now = session.now();
    let rows = jobs
        .iter()
        .map(|job| {
            let moment = ["finished_at", "started_at", "run_at"]
                .into_iter()
                .find_map(|field| job.get(field).and_then(Value::as_str));
            vec![
                text(job, "id"),
                state_of(job),
                text(job, "kind"),
                text(job, "schedule"),
                text(job, "priority"),
                format!("{}/{}", text(job, "attempt"), text(job, "max_attempts")),
                when(moment, now),
                note_of(job),
            ]
        })
        .collect();
    table(&["JOB", "STATE", "KIND", "SCHEDULE", "PRIO", "ATTEMPT", "WHEN", "NOTE"], rows);
}

/// The filter as the daemon takes it in an address.
pub(super) fn filter(
    session: &Session,
    filter: &Filter,
) -> Result<Vec<(&'static str, Option<String>)>, Failure> {
    let Filter { state, kind, schedule, queue, labels, since, until } = filter;
    let instant = |text: &Option<String>| {
        let at = text.as_deref().map(|text| session.instant(text, true)).transpose();
        at.map(|at| at.map(|at| at.to_string()))
    };
    Ok(vec![
        ("state", state.clone()),
        ("kind", kind.clone()),
        ("schedule", schedule.clone()),
        ("queue", queue.clone()),
        ("label", (!labels.is_empty()).then(|| labels.join(","))),
        ("since", instant(since)?),
        ("until", instant(until)?),
    ])
}

/// The state, and whether it is that of work at all.
fn state_of(job: &Value) -> String {
    let is_dry_run = job.get("dry_run").and_then(Value::as_bool).unwrap_or_default();
    format!("{}{}", text(job, "state"), if is_dry_run { " (dry run)" } else { "" })
}

/// What there is to say of a job: who does its work now, why it did not end well, or how far it is.
fn note_of(job: &Value) -> String {
    let error = job.get("error").and_then(Value::as_str);
    match (job.get("replaced_by").and_then(Value::as_i64), error) {
        (Some(other), _) => format!("done again as job {other}: {}", error.unwrap_or_default()),
        (None, Some(error)) => error.to_owned(),
        (None, None) => progress(job),
    }
}

fn progress(job: &Value) -> String {
    let message = job.get("message").and_then(Value::as_str).unwrap_or_default();
    match job.get("progress").and_then(Value::as_i64) {
        Some(percent) => format!("{percent}% {message}"),
        None => message.to_owned(),
    }
}

pub(super) async fn show(session: &Session, id: i64) -> Outcome {
    let job = session.reader().await?.get(&format!("/api/v1/jobs/{id}")).await?;
    if session.json {
        json(&job);
        return Ok(Exit::Ok);
    }
    let now = session.now();
    line(format!("job {id}  {}  {}", text(&job, "kind"), state_of(&job)));
    for (label, field) in [
        ("schedule", "schedule"),
        ("for", "nominal_at"),
        ("batch", "batch_id"),
        ("item", "item"),
        ("queue", "queue"),
        ("node", "node"),
        ("unique", "unique_key"),
        ("priority", "priority"),
        ("was", "submitted_priority"),
        ("retry of", "retry_of"),
        ("done as", "replaced_by"),
        ("by", "actor"),
        ("created", "created_at"),
        ("run at", "run_at"),
        ("started", "started_at"),
        ("ends", "expected_end"),
        ("finished", "finished_at"),
        ("error", "error"),
    ] {
        let Some(value) = job.get(field).filter(|value| !value.is_null()) else { continue };
        let is_time = field.ends_with("_at") || field == "expected_end";
        let shown = if is_time { when(value.as_str(), now) } else { plain(&text(&job, field)) };
        line(format!("  {label:<9} {shown}"));
    }
    if let Some(labels) = job.get("labels").and_then(Value::as_object).filter(|all| !all.is_empty())
    {
        let labels: Vec<String> =
            labels.keys().map(|key| format!("{key}={}", text(&job["labels"], key))).collect();
        line(format!("  labels    {}", plain(&labels.join(", "))));
    }
    for other in job.get("waits_for").and_then(Value::as_array).into_iter().flatten() {
        line(format!("  waits for {}", waited_for(other)));
    }
    for hold in job.get("held_by").and_then(Value::as_array).into_iter().flatten() {
        line(format!("  held by   {}", plain(&held_by(hold, now))));
    }
    if !progress(&job).is_empty() {
        line(format!("  progress  {}", plain(&progress(&job))));
    }
    if let Some(batch) = job.get("batch") {
        let [total, completed, failed, cancelled] =
            ["total", "completed", "failed", "cancelled"].map(|field| text(batch, field));
        line(format!(
            "  items     {completed} of {total} completed, {failed} failed, {cancelled} cancelled"
        ));
    }
    line(format!("  params    {}", text(&job, "params")));
    if job.get("result").is_some_and(|result| !result.is_null()) {
        line(format!("  result    {}", plain(&text(&job, "result"))));
    }
    let attempts = job.get("attempts").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let first = attempts.first().and_then(|attempt| attempt.get("number")?.as_i64());
    if let Some(first) = first.filter(|first| *first > 1) {
        line(format!("  … and {} earlier ones", first - 1));
    }
    for attempt in attempts {
        let error = attempt.get("error").and_then(Value::as_str).unwrap_or_default();
        line(format!(
            "  attempt {}: {} after {} ms, {} {}",
            text(attempt, "number"),
            text(attempt, "outcome"),
            text(attempt, "duration_ms"),
            when(attempt.get("finished_at").and_then(Value::as_str), now),
            plain(error),
        ));
    }
    Ok(Exit::Ok)
}

/// Another job, and what is needed of it.
fn waited_for(other: &Value) -> String {
    let (job, needs) = (text(other, "job_id"), text(other, "needs"));
    let what = match needs.as_str() {
        "finished" => "to be over",
        "any" => "to complete, or another one like it",
        _ => "to complete",
    };
    match other.get("ended").and_then(Value::as_str) {
        Some(ended) => format!("job {job}, which is {ended}, to be retried and {}", &what[3..]),
        None => format!("job {job} {what}"),
    }
}

pub(super) async fn logs(session: &Session, args: &Logs) -> Outcome {
    let client = session.reader().await?;
    if args.follow {
        follow_log(&client, args.id, args.attempt).await?;
        return Ok(Exit::Ok);
    }
    let mut offset = 0;
    loop {
        let part = client.get(&log_path(args.id, args.attempt, offset)).await?;
        let next = part.get("next_offset").and_then(Value::as_u64).unwrap_or(offset);
        tell_tail(args.id, part.get("tail") == Some(&Value::Bool(true)), offset);
        if let Some(node) = part.get("elsewhere").and_then(Value::as_str) {
            tell_elsewhere(args.id, node);
        }
        if session.json {
            json(&part);
            return Ok(Exit::Ok);
        }
        out(&plain(part.get("text").and_then(Value::as_str).unwrap_or_default()));
        if next == offset {
            return Ok(Exit::Ok);
        }
        offset = next;
    }
}

pub(super) fn log_path(id: i64, attempt: Option<u32>, offset: u64) -> String {
    let pairs = [("attempt", attempt.map(|n| n.to_string())), ("offset", Some(offset.to_string()))];
    format!("/api/v1/jobs/{id}/log{}", query(&pairs))
}

/// `host:a=2`: the number comes last, because a key may hold anything.
fn concurrency(text: &str) -> Result<Value, Failure> {
    let parts = text.rsplit_once('=').and_then(|(key, max)| Some((key, max.parse::<u32>().ok()?)));
    let (key, max) = parts.ok_or_else(|| {
        let message = format!("`{text}` is not a limit: write it as KEY=MAX, like host:a=2");
        Failure::new(Exit::Usage, message)
    })?;
    Ok(json!({ "key": key, "max": max }))
}

/// `812`, or `812:finished`.
fn dependency(text: &str) -> Result<Value, Failure> {
    let (id, needs) = text.split_once(':').unwrap_or((text, "success"));
    match (id.parse::<i64>(), needs) {
        (Ok(id), "success" | "finished" | "any") => Ok(json!({ "job": id, "needs": needs })),
        _ => {
            let message = format!(
                "`{text}` is no job to wait for: write its number, NUMBER:finished or NUMBER:any"
            );
            Err(Failure::new(Exit::Usage, message))
        }
    }
}

/// A batch's items: one on each line, as a name or as JSON.
fn read_items(file: &Path) -> Result<Value, Failure> {
    let text = if file == Path::new("-") {
        read_stdin()?
    } else {
        std::fs::read_to_string(file).map_err(|error| {
            let message = format!("the items cannot be read from {}: {error}", file.display());
            Failure::new(Exit::Usage, message)
        })?
    };
    let lines = (1..).zip(text.lines().map(str::trim)).filter(|(_, line)| !line.is_empty());
    let item = |(number, line): (usize, &str)| match line.starts_with('{') {
        true => parse_json(&format!("line {number} of the items"), line),
        false => Ok(json!(line)),
    };
    Ok(Value::Array(lines.map(item).collect::<Result<_, _>>()?))
}

pub(super) async fn batch_items(session: &Session, args: &Items) -> Outcome {
    let [limit, cursor] = paging(&args.page);
    let path = format!(
        "/api/v1/jobs/{}/items{}",
        args.id,
        query(&[("state", args.state.clone()), limit, cursor])
    );
    let list = session.reader().await?.get(&path).await?;
    if session.json {
        json(&list);
        return Ok(Exit::Ok);
    }
    let row = |row: &Value| {
        ["name", "job_id", "state", "attempts", "error"]
            .iter()
            .map(|field| text(row, field))
            .collect()
    };
    table(&["ITEM", "JOB", "STATE", "ATTEMPTS", "ERROR"], items(&list).iter().map(row).collect());
    tell_more(&list);
    Ok(Exit::Ok)
}
