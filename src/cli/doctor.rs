//! `sexton doctor`: one line for each thing that has to be right, with what to do about it.

use std::path::Path;

use serde::Serialize;

use super::client::Client;
use super::output::{Exit, Outcome, json, line, plain};
use super::session::Session;
use super::system;
use crate::api::check_socket;
use crate::model::{ByteSize, Chain};
use crate::store::{DatabaseUrl, Purpose, durability, encoding, maintenance, migrations};

/// Free space below which the data directory counts as full.
const LOW_SPACE: ByteSize = ByteSize(200 << 20);

/// What was found about one thing.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    ok: bool,
    detail: String,
}

fn finding(check: &'static str, result: Result<String, String>) -> Finding {
    let ok = result.is_ok();
    let (Ok(detail) | Err(detail)) = result;
    Finding { check, ok, detail }
}

pub(super) async fn run(session: &Session) -> Outcome {
    let settings = session.settings();
    let mut findings = vec![finding("settings", Ok("valid".to_owned()))];
    let report = session.check_schedules();
    let errors: Vec<String> = report
        .diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.is_error())
        .map(ToString::to_string)
        .collect();
    let schedules = match errors.first() {
        None => Ok(format!("{} in {} files", report.schedules.len(), report.files.len())),
        Some(first) => {
            Err(format!("{} errors, the first: {first}; see `sexton validate`", errors.len()))
        }
    };
    findings.push(finding("schedules", schedules));
    for (check, dir) in [
        ("data directory", &settings.data_dir),
        ("log directory", &settings.log.dir),
        ("audit directory", &settings.audit.dir),
    ] {
        findings.push(finding(check, writable(dir)));
    }
    findings.push(finding("free space", space(&settings.data_dir)));
    findings.push(finding("database", database(session)));
    findings.push(finding("durability", durability(session)));
    findings.push(finding("audit log", audit_log(session).await));
    let served = Client::is_served(&settings.api.socket).await;
    let daemon = if let Err(error) = check_socket(&settings.api.socket) {
        Err(error.to_string())
    } else if served {
        Ok(format!("answers on {}", settings.api.socket.display()))
    } else {
        Err(format!(
            "does not answer on {}; start it with `sexton serve`",
            settings.api.socket.display()
        ))
    };
    findings.push(finding("daemon", daemon));
    findings.push(finding("file watching", inotify()));
    let healthy = findings.iter().all(|finding| finding.ok);
    if session.json {
        json(&serde_json::json!({ "healthy": healthy, "checks": findings }));
    } else {
        for Finding { check, ok, detail } in &findings {
            line(format!("{} {check:<16} {}", if *ok { "✓" } else { "✗" }, plain(detail)));
        }
    }
    Ok(if healthy { Exit::Ok } else { Exit::Failed })
}

fn writable(dir: &Path) -> Result<String, String> {
    match tempfile::tempfile_in(dir) {
        Ok(_file) => Ok(dir.display().to_string()),
        Err(error) => Err(format!(
            "{} cannot be written: {error}; make it and give it to the service's user",
            dir.display()
        )),
    }
}

fn space(dir: &Path) -> Result<String, String> {
    let space = rustix::fs::statvfs(dir)
        .map_err(|error| format!("{}: {}", dir.display(), std::io::Error::from(error)))?;
    let free = ByteSize(space.f_bavail.saturating_mul(space.f_frsize));
    if free < LOW_SPACE {
        return Err(format!(
            "only {free} on {}; claiming pauses when the disk is full",
            dir.display()
        ));
    }
    Ok(format!("{free} on {}", dir.display()))
}

fn database(session: &Session) -> Result<String, String> {
    let url = session.settings().database.clone();
    if let DatabaseUrl::Sqlite(path) = &url
        && !path.exists()
    {
        return Ok(format!("{url} will be made at the first start"));
    }
    let mut conn = url.connect(Purpose::Read).map_err(|error| Chain(&error).to_string())?;
    encoding::check(&mut conn, &url).map_err(|error| Chain(&error).to_string())?;
    let status = migrations::status(&mut conn).map_err(|error| Chain(&error).to_string())?;
    if !status.pending.is_empty() {
        return Err(format!("{url} lacks {}; run `sexton db migrate`", status.pending.join(", ")));
    }
    let problems = maintenance::check(&mut conn).map_err(|error| Chain(&error).to_string())?;
    match problems.first() {
        None => Ok(format!("{url} is sound")),
        Some(first) => Err(format!("{url} is damaged: {first}; restore a backup")),
    }
}

fn durability(session: &Session) -> Result<String, String> {
    let url = session.settings().database.clone();
    if matches!(url, DatabaseUrl::Sqlite(_)) {
        return Ok("what is acknowledged is on the disk (synchronous = FULL)".to_owned());
    }
    // One that does not answer is told of above.
    let Ok(mut conn) = url.connect(Purpose::Read) else {
        return Ok("not known while the database does not answer".to_owned());
    };
    let doubts = durability::doubts(&mut conn).map_err(|error| Chain(&error).to_string())?;
    match doubts.is_empty() {
        true => Ok("what is acknowledged is on the server's disk".to_owned()),
        false => Err(doubts.join("; ")),
    }
}

async fn audit_log(session: &Session) -> Result<String, String> {
    let path = session.settings().audit.dir.join(crate::audit::FILE_NAME);
    if !path.exists() {
        return Ok(format!("{} will be made at the first start", path.display()));
    }
    let files = std::slice::from_ref(&path);
    let report = system::verified(session, files).await.map_err(|failure| failure.message)?;
    match report.problems.len() {
        0 => Ok(format!("{} records, intact", report.lines)),
        count => Err(format!("{count} problems in {}; see `sexton audit verify`", path.display())),
    }
}

fn inotify() -> Result<String, String> {
    let read = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).ok()?;
        text.trim().parse::<u64>().ok()
    };
    match (read("max_user_instances"), read("max_user_watches")) {
        (Some(instances), Some(watches)) if instances < 16 || watches < 1024 => Err(format!(
            "inotify allows {instances} instances and {watches} watches; raise fs.inotify.* with sysctl"
        )),
        (Some(_), Some(watches)) => Ok(format!("inotify, {watches} watches")),
        _ => Ok("inotify's limits are not known here; changes are polled for as well".to_owned()),
    }
}
