//! Commands about schedules.

use serde_json::{Value, json};

use super::args::{Page, Pause, Run, Why};
use super::follow::follow_log;
use super::held::reason;
use super::output::{Exit, Failure, Outcome, json, line, note, plain, table, text, when};
use super::session::Session;
use super::wait::finish;

/// How far around `--at` the ledger is shown, in seconds.
const AROUND_SECONDS: i64 = 3600;

/// A query string of the given pairs; what is absent is left out.
pub(super) fn query(pairs: &[(&str, Option<String>)]) -> String {
    let encoded: Vec<String> = pairs
        .iter()
        .filter_map(|(key, value)| Some(format!("{key}={}", encode(value.as_ref()?))))
        .collect();
    if encoded.is_empty() { String::new() } else { format!("?{}", encoded.join("&")) }
}

/// Percent-encodes everything but unreserved characters (RFC 3986).
pub(super) fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

pub(super) fn items(list: &Value) -> &[Value] {
    list.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

pub(super) fn paging(page: &Page) -> [(&'static str, Option<String>); 2] {
    [("limit", page.limit.map(|limit| limit.to_string())), ("cursor", page.cursor.clone())]
}

pub(super) fn tell_more(list: &Value) {
    if let Some(cursor) = list.get("next_cursor").and_then(Value::as_str) {
        note(format!("more: --cursor {cursor}"));
    }
}

pub(super) async fn list(session: &Session, page: &Page) -> Outcome {
    let path = format!("/api/v1/schedules{}", query(&paging(page)));
    let list = session.reader().await?.get(&path).await?;
    if session.json {
        json(&list);
        return Ok(Exit::Ok);
    }
    let now = session.now();
    let mut rows: Vec<&Value> = items(&list).iter().collect();
    // What comes next stands first; what never comes stands last.
    rows.sort_by_key(|row| {
        let next = row.get("next").and_then(Value::as_str).map(str::to_owned);
        (next.is_none(), next)
    });
    let rows = rows
        .into_iter()
        .map(|row| {
            let last = row.get("last").filter(|last| !last.is_null());
            let state = if row.get("stale") == Some(&Value::Bool(true)) {
                format!("{} (stale)", text(row, "state"))
            } else {
                text(row, "state")
            };
            vec![
                when(row.get("next").and_then(Value::as_str), now),
                text(row, "id"),
                text(row, "kind"),
                state,
                when(last.and_then(|last| last.get("nominal_at")).and_then(Value::as_str), now),
                last.map_or_else(|| "-".to_owned(), last_word),
            ]
        })
        .collect();
    table(&["NEXT", "SCHEDULE", "KIND", "STATE", "LAST", "RESULT"], rows);
    tell_more(&list);
    Ok(Exit::Ok)
}

fn last_word(last: &Value) -> String {
    match last.get("job_state").and_then(Value::as_str) {
        Some(state) if text(last, "decision") == "enqueued" => state.to_owned(),
        _ => text(last, "decision"),
    }
}

pub(super) async fn show(session: &Session, id: &str) -> Outcome {
    let path = format!("/api/v1/schedules/{}", encode(id));
    let schedule = session.reader().await?.get(&path).await?;
    if session.json {
        json(&schedule);
        return Ok(Exit::Ok);
    }
    print(session, &schedule);
    Ok(Exit::Ok)
}

fn print(session: &Session, schedule: &Value) {
    let now = session.now();
    line(format!("{}  {}", text(schedule, "id"), plain(&text(schedule, "description"))));
    line(format!("  rule      {} ({})", text(schedule, "rule"), text(schedule, "timezone")));
    line(format!(
        "  kind      {}  queue {}  priority {}",
        text(schedule, "kind"),
        text(schedule, "queue"),
        text(schedule, "priority")
    ));
    line(format!("  file      {}:{}", text(schedule, "file"), text(schedule, "line")));
    line(format!("  state     {}", text(schedule, "state")));
    if let Some(pause) = schedule.get("pause").filter(|pause| !pause.is_null()) {
        let until = pause.get("until").and_then(Value::as_str);
        let until =
            until.map_or_else(|| "somebody resumes it".to_owned(), |until| when(Some(until), now));
        line(format!(
            "  paused    by {} until {until}{}",
            text(pause, "by"),
            plain(&reason(pause))
        ));
    }
    if let Some(error) = schedule.get("error").and_then(Value::as_str) {
        line(format!("  STALE     {}", plain(error)));
    }
    line(format!("  next      {}", when(schedule.get("next").and_then(Value::as_str), now)));
    for instant in schedule.get("upcoming").and_then(Value::as_array).into_iter().flatten().skip(1)
    {
        line(format!("            {}", when(instant.as_str(), now)));
    }
    if let Some(last) = schedule.get("last").filter(|last| !last.is_null()) {
        line(format!(
            "  last      {}  {}: {}",
            when(last.get("nominal_at").and_then(Value::as_str), now),
            last_word(last),
            plain(&text(last, "reason"))
        ));
    }
    for (label, field) in [("owner", "owner"), ("runbook", "runbook")] {
        if schedule.get(field).is_some_and(Value::is_string) {
            line(format!("  {label:<9} {}", plain(&text(schedule, field))));
        }
    }
}

pub(super) async fn why(session: &Session, args: &Why) -> Outcome {
    let around = match &args.at {
        Some(at) => {
            let at = session.instant(at, true)?;
            let by = jiff::SignedDuration::from_secs(AROUND_SECONDS);
            Some((at - by, at + by))
        }
        None => None,
    };
    let [limit, cursor] = paging(&args.page);
    let path = format!(
        "/api/v1/occurrences{}",
        query(&[
            ("schedule", Some(args.id.clone())),
            ("from", around.map(|(from, _)| from.to_string())),
            ("until", around.map(|(_, until)| until.to_string())),
            limit,
            cursor,
        ])
    );
    let client = session.reader().await?;
    let list = client.get(&path).await?;
    if items(&list).is_empty() {
        // A schedule that never was and one that was never due are different answers.
        client.get(&format!("/api/v1/schedules/{}", encode(&args.id))).await?;
    }
    if session.json {
        json(&list);
        return Ok(Exit::Ok);
    }
    let now = session.now();
    let rows: Vec<Vec<String>> = items(&list)
        .iter()
        .map(|row| {
            vec![
                when(row.get("nominal_at").and_then(Value::as_str), now),
                text(row, "decision"),
                row.get("job_id")
                    .filter(|id| !id.is_null())
                    .map_or("-".to_owned(), |id| format!("job {id}")),
                text(row, "reason"),
            ]
        })
        .collect();
    if rows.is_empty() {
        note("nothing was due in that time");
    } else {
        table(&["INSTANT", "DECISION", "JOB", "WHY"], rows);
    }
    tell_more(&list);
    Ok(Exit::Ok)
}

pub(super) async fn pause(session: &Session, args: &Pause) -> Outcome {
    let until = args.until.as_deref().map(|text| session.ahead(text)).transpose()?;
    let body = json!({ "until": until, "reason": args.reason });
    let path = format!("/api/v1/schedules/{}/pause", encode(&args.id));
    changed(session, &path, &body).await
}

pub(super) async fn resume(session: &Session, id: &str) -> Outcome {
    changed(session, &format!("/api/v1/schedules/{}/resume", encode(id)), &json!({})).await
}

async fn changed(session: &Session, path: &str, body: &Value) -> Outcome {
    let schedule = session.daemon().await?.post(path, body).await?;
    if session.json {
        json(&schedule);
    } else {
        print(session, &schedule);
    }
    Ok(Exit::Ok)
}

pub(super) async fn run(session: &Session, args: &Run) -> Outcome {
    let params = args.params.as_deref().map(|text| parse_json("--params", text)).transpose()?;
    let at = args.at.as_deref().map(|text| session.instant(text, true)).transpose()?;
    let body = json!({ "params": params, "nominal_at": at.map(|at| at.to_string()), "dry_run": args.dry_run });
    let client = session.daemon().await?;
    let path = format!("/api/v1/schedules/{}/run", encode(&args.id));
    let recorded = client.post(&path, &body).await?;
    let Some(job) = recorded.get("job_id").and_then(Value::as_i64) else {
        if session.json {
            json(&recorded);
        }
        let message =
            format!("not run: {}: {}", text(&recorded, "decision"), text(&recorded, "reason"));
        return Err(Failure::new(Exit::Failed, message));
    };
    if !args.wait && !args.follow {
        if session.json {
            json(&recorded);
        } else {
            line(format!("job {job}"));
            note(format!("follow it with `sexton logs -f {job}`"));
        }
        return Ok(Exit::Ok);
    }
    note(format!("job {job}"));
    if args.follow && !session.json {
        follow_log(&client, job, None).await?;
    }
    finish(session, &client, job).await
}

/// Reads what was typed as JSON. `what` names it where it is none.
pub(super) fn parse_json(what: &str, text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text)
        .map_err(|error| Failure::new(Exit::Usage, format!("{what} is not JSON: {error}")))
}
