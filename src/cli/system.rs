//! Commands about the daemon itself.

use std::io::Read;
use std::path::PathBuf;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::args::{Audit, AuditAction};
use super::output::{Exit, Failure, Outcome, json, line, note, plain, table, text, when};
use super::schedules::{encode, items, paging, query, tell_more};
use super::session::Session;
use crate::audit;
use crate::model::Chain;
use crate::store::Store;

pub(super) async fn status(session: &Session) -> Outcome {
    let status = session.reader().await?.get("/api/v1/status").await?;
    let running = status.get("running") == Some(&Value::Bool(true));
    if session.json {
        json(&status);
        return Ok(if running { Exit::Ok } else { Exit::NoDaemon });
    }
    let now = session.now();
    if running {
        line(format!(
            "sexton {} is running, process {}, {}, since {}",
            text(&status, "version"),
            text(&status, "pid"),
            text(&status, "health"),
            when(status.get("started_at").and_then(Value::as_str), now)
        ));
    } else {
        line("sexton is not running");
    }
    for problem in status.get("problems").and_then(Value::as_array).into_iter().flatten() {
        line(format!("  ! {}", plain(problem.as_str().unwrap_or_default())));
    }
    line(format!(
        "  schedules {} loaded, {} stale, {} broken files, revision {}",
        text(&status, "schedules"),
        text(&status, "stale"),
        text(&status, "invalid_files"),
        text(&status, "revision")
    ));
    line(format!("  workers   {} of {} busy", text(&status, "busy"), text(&status, "workers")));
    let counts: Vec<String> = status
        .get("jobs")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    if !counts.is_empty() {
        line(format!("  jobs      {}", counts.join(", ")));
    }
    for (label, field) in [
        ("data", "data_dir"),
        ("database", "database"),
        ("socket", "socket"),
        ("logs", "log_dir"),
        ("audit", "audit_log"),
    ] {
        line(format!("  {label:<9} {}", text(&status, field)));
    }
    for next in status.get("next").and_then(Value::as_array).into_iter().flatten() {
        let at = when(next.get("at").and_then(Value::as_str), now);
        line(format!("  next      {at}  {}", text(next, "schedule")));
    }
    Ok(if running { Exit::Ok } else { Exit::NoDaemon })
}

pub(super) async fn reload(session: &Session) -> Outcome {
    let client = session.daemon().await?;
    let (status, report) =
        client.post_keeping("/api/v1/reload", &json!({}), StatusCode::UNPROCESSABLE_ENTITY).await?;
    let ok = status == StatusCode::OK;
    if session.json {
        json(&report);
    } else {
        for diagnostic in report.get("diagnostics").and_then(Value::as_array).into_iter().flatten()
        {
            note(diagnostic.as_str().unwrap_or_default());
        }
        line(text(&report, "summary").trim_end());
        if !ok {
            note("some files are broken; their last good definitions stay in force");
        }
    }
    Ok(if ok { Exit::Ok } else { Exit::Config })
}

pub(super) async fn stats(session: &Session) -> Outcome {
    let stats = session.reader().await?.get("/api/v1/stats").await?;
    if session.json {
        json(&stats);
        return Ok(Exit::Ok);
    }
    let counts = stats.get("jobs").and_then(Value::as_object);
    let counts =
        counts.into_iter().flatten().map(|(state, count)| vec![state.clone(), count.to_string()]);
    table(&["JOBS", ""], counts.collect());
    line("");
    let day = stats.get("last_24h").and_then(|day| day.get("attempts")).and_then(Value::as_array);
    let rows = day
        .into_iter()
        .flatten()
        .map(|row| {
            ["kind", "outcome", "attempts", "mean_ms", "max_ms"]
                .iter()
                .map(|field| text(row, field))
                .collect()
        })
        .collect();
    table(&["KIND (24 h)", "OUTCOME", "ATTEMPTS", "MEAN ms", "MAX ms"], rows);
    Ok(Exit::Ok)
}

pub(super) async fn kinds(session: &Session, name: Option<String>) -> Outcome {
    let client = session.reader().await?;
    if let Some(name) = name {
        let kind = client.get(&format!("/api/v1/kinds/{}", encode(&name))).await?;
        if session.json {
            json(&kind);
            return Ok(Exit::Ok);
        }
        for field in [
            "name",
            "description",
            "file",
            "queue",
            "priority",
            "timeout",
            "max_attempts",
            "concurrency",
            "rate",
        ] {
            line(format!("{field:<14}{}", text(&kind, field)));
        }
        if let Some(schema) = kind.get("params_schema") {
            line(format!("params\n{}", plain(&format!("{schema:#}"))));
        }
        return Ok(Exit::Ok);
    }
    let list = client.get("/api/v1/kinds").await?;
    let row = |row: &Value| {
        vec![text(row, "name"), text(row, "description"), text(row, "queue"), text(row, "file")]
    };
    show_list(session, &list, &["KIND", "WHAT IT DOES", "QUEUE", "FILE"], row)
}

pub(super) fn show_list(
    session: &Session,
    list: &Value,
    headers: &[&str],
    row: impl Fn(&Value) -> Vec<String>,
) -> Outcome {
    if session.json {
        json(list);
    } else {
        table(headers, items(list).iter().map(row).collect());
        tell_more(list);
    }
    Ok(Exit::Ok)
}

pub(super) async fn workers(session: &Session) -> Outcome {
    let list = session.reader().await?.get("/api/v1/workers").await?;
    let now = session.now();
    let row = |row: &Value| {
        let progress = row.get("progress").filter(|progress| !progress.is_null());
        vec![
            text(row, "job_id"),
            text(row, "kind"),
            text(row, "schedule"),
            text(row, "queue"),
            text(row, "attempt"),
            when(row.get("started_at").and_then(Value::as_str), now),
            progress.map_or_else(String::new, |progress| format!("{progress}%")),
            row.get("message").and_then(Value::as_str).unwrap_or_default().to_owned(),
        ]
    };
    show_list(
        session,
        &list,
        &["JOB", "KIND", "SCHEDULE", "QUEUE", "ATTEMPT", "SINCE", "", "DOING"],
        row,
    )
}

pub(super) async fn events(session: &Session) -> Outcome {
    session.daemon().await?.follow("/api/v1/events", |event| line(event)).await?;
    // They have no end of their own.
    Err(Failure::new(Exit::NoDaemon, "the daemon has stopped, and no more events come from it"))
}

pub(super) async fn audit(session: &Session, args: &Audit) -> Outcome {
    if let Some(AuditAction::Verify { files }) = &args.action {
        return verify(session, files).await;
    }
    let since = args.since.as_deref().map(|text| session.instant(text, true)).transpose()?;
    let [limit, cursor] = paging(&args.page);
    let path = format!(
        "/api/v1/audit{}",
        query(&[
            ("since", since.map(|since| since.to_string())),
            ("who", args.who.clone()),
            limit,
            cursor,
        ])
    );
    let list = session.reader().await?.get(&path).await?;
    let now = session.now();
    let row = |row: &Value| {
        vec![
            text(row, "seq"),
            when(row.get("time").and_then(Value::as_str), now),
            text(row, "event"),
            text(row, "actor"),
            text(row, "subject"),
        ]
    };
    show_list(session, &list, &["SEQ", "TIME", "EVENT", "ACTOR", "SUBJECT"], row)
}

/// Holds files of one log, oldest first, against themselves and against the anchors in the database. Works with and without the daemon.
pub(super) async fn verified(
    session: &Session,
    files: &[PathBuf],
) -> Result<audit::Report, Failure> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        Failure::new(Exit::Failed, Chain(error).to_string())
    };
    let store =
        Store::open_read_only(&session.settings().database).map_err(|error| failed(&error))?;
    let log = crate::daemon::audit_source(session.settings());
    let anchors = store
        .read(move |conn| crate::store::audit::anchors(conn, log.log()))
        .await
        .map_err(|error| failed(&error))?;
    // Files of one log are one log: the chain goes on from each to the next.
    let mut log: Box<dyn Read> = Box::new(std::io::empty());
    for path in files {
        let file = std::fs::File::open(path).map_err(|error| {
            let message = format!("cannot read the audit log {}: {error}", path.display());
            Failure::new(Exit::Failed, message)
        })?;
        log = Box::new(log.chain(file));
    }
    audit::verify(std::io::BufReader::with_capacity(1 << 20, log), &anchors)
        .map_err(|error| failed(&error))
}

async fn verify(session: &Session, files: &[PathBuf]) -> Outcome {
    let current = [session.settings().audit.dir.join(audit::FILE_NAME)];
    let files = if files.is_empty() { &current } else { files };
    let report = verified(session, files).await?;
    let name = match files {
        [one] => one.display().to_string(),
        several => format!("{} files", several.len()),
    };
    let intact = report.is_intact();
    if session.json {
        json(&report);
    } else {
        for problem in &report.problems {
            let record = problem.seq.map(|seq| format!(" (record {seq})")).unwrap_or_default();
            line(plain(&format!("{name}:{}{record}: {}", problem.line, problem.what)));
        }
        let verdict = if intact { "intact" } else { "NOT INTACT" };
        line(plain(&format!("{name}: {} records, {verdict}", report.lines)));
    }
    Ok(if intact { Exit::Ok } else { Exit::Failed })
}

pub(super) fn config(session: &Session) -> Outcome {
    let entries = session.loaded.explain();
    if session.json {
        let rows: Vec<Value> = entries
            .iter()
            .map(|entry| json!({ "key": entry.key, "value": entry.value, "origin": entry.origin.to_string() }))
            .collect();
        json(&json!({ "items": rows, "next_cursor": null }));
        return Ok(Exit::Ok);
    }
    let rows = entries
        .into_iter()
        .map(|entry| {
            vec![
                entry.key,
                entry.value.unwrap_or_else(|| "off".to_owned()),
                entry.origin.to_string(),
            ]
        })
        .collect();
    table(&["KEY", "VALUE", "FROM"], rows);
    Ok(Exit::Ok)
}
