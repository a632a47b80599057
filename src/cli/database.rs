//! `sexton db`.

use std::path::Path;

use serde_json::json;

use super::args::Db;
use super::client::Client;
use super::output::{Exit, Failure, Outcome, json, line, note, table};
use super::session::Session;
use crate::audit;
use crate::config::Settings;
use crate::daemon::{audit_source, take_database, take_lock};
use crate::model::Chain;
use crate::store::copy::{Copied, CopyError, Copying};
use crate::store::{DatabaseUrl, Purpose, StoreError, encoding, maintenance, migrations};

/// After how many rows of a table the copy says how far it is.
const ROWS_A_NOTE: usize = 100_000;

pub(super) async fn run(session: &Session, command: Db) -> Outcome {
    let url = session.settings().database.clone();
    let failed = |error: StoreError| Failure::new(exit_of(&error), Chain(&error).to_string());
    match command {
        Db::Migrate => {
            let mut conn = url.connect(Purpose::Write).map_err(failed)?;
            encoding::check(&mut conn, &url).map_err(failed)?;
            let applied = migrations::migrate(&mut conn).map_err(failed)?;
            if session.json {
                json(&json!({ "applied": applied }));
            } else if applied.is_empty() {
                line("the schema is up to date");
            } else {
                line(format!("applied {}", applied.join(", ")));
            }
            Ok(Exit::Ok)
        }
        Db::Status => {
            let mut conn = url.connect(Purpose::Read).map_err(failed)?;
            let status = migrations::status(&mut conn).map_err(failed)?;
            if session.json {
                json(&json!({ "database": url.to_string(), "schema": status }));
            } else {
                line(format!("{url}"));
                line(format!("  applied  {}", status.applied.join(", ")));
                line(format!("  pending  {}", status.pending.join(", ")));
            }
            Ok(if status.pending.is_empty() { Exit::Ok } else { Exit::Failed })
        }
        Db::Check => {
            let mut conn = url.connect(Purpose::Read).map_err(failed)?;
            let problems = maintenance::check(&mut conn).map_err(failed)?;
            if session.json {
                json(&json!({ "sound": problems.is_empty(), "problems": problems }));
            } else if problems.is_empty() {
                line("no damage found");
            } else {
                problems.iter().for_each(line);
                note("restore a backup with `sexton db restore FILE`");
            }
            Ok(if problems.is_empty() { Exit::Ok } else { Exit::Failed })
        }
        Db::Backup { file } => {
            let mut conn = url.connect(Purpose::Read).map_err(failed)?;
            maintenance::backup(&mut conn, &file).map_err(failed)?;
            report(session, "backed up to", &file)
        }
        Db::Restore { file } => restore(session, &url, &file).await,
        Db::Copy { from, to } => copy(session, &from, &to).await,
    }
}

fn exit_of(error: &StoreError) -> Exit {
    match error {
        StoreError::Busy => Exit::TryAgain,
        StoreError::TooNew { .. } => Exit::Config,
        StoreError::Unsound { .. } => Exit::Data,
        _ => Exit::Failed,
    }
}

fn report(session: &Session, what: &str, file: &Path) -> Outcome {
    if session.json {
        json(&json!({ "file": file }));
    } else {
        line(format!("{what} {}", file.display()));
    }
    Ok(Exit::Ok)
}

async fn restore(session: &Session, url: &DatabaseUrl, file: &Path) -> Outcome {
    let DatabaseUrl::Sqlite(path) = url else {
        return Err(Failure::new(Exit::Usage, "restore a PostgreSQL database with pg_restore"));
    };
    if Client::is_served(&session.settings().api.socket).await {
        return Err(Failure::new(
            Exit::TryAgain,
            "the daemon is running; stop it before restoring",
        ));
    }
    let taken = |error| Failure::new(Exit::TryAgain, Chain(&error).to_string());
    let _lock = take_lock(&session.settings().data_dir).await.map_err(taken)?;
    let _database = take_database(url).await.map_err(taken)?;
    let failed = |error: StoreError| Failure::new(Exit::Failed, Chain(&error).to_string());
    let audited = audit::last_head(&session.settings().audit.dir)
        .map_err(|error| Failure::new(Exit::Failed, Chain(&error).to_string()))?
        .map_or(0, |head| head.seq);
    let kept = maintenance::restore(file, path, audited, session.now()).map_err(failed)?;
    if let Some(kept) = kept {
        note(format!("the database that was there is kept as {}", kept.display()));
    }
    report(session, "restored from", file)
}

async fn copy(session: &Session, from: &str, to: &str) -> Outcome {
    let url = |text: &str| {
        let parsed = text.parse::<DatabaseUrl>();
        parsed.map_err(|error| Failure::new(Exit::Usage, error.to_string()))
    };
    let (from, to) = (url(from)?, url(to)?);
    let copying = Copying::prepare(&from, &to).map_err(|error| not_copied(&error))?;
    let taken = |error| Failure::new(Exit::TryAgain, Chain(&error).to_string());
    let _locks =
        (take_database(&from).await.map_err(taken)?, take_database(&to).await.map_err(taken)?);
    let log_of = |url: &DatabaseUrl| {
        audit_source(&Settings { database: url.clone(), ..session.settings().clone() })
    };
    let (from_log, to_log) = (log_of(&from), log_of(&to));
    let mut progress = |table: &str, rows: usize| {
        if rows.is_multiple_of(ROWS_A_NOTE) {
            note(format!("{table}: {rows} rows so far"));
        }
    };
    let copied = copying
        .run((from_log.log(), to_log.log()), session.now(), &mut progress)
        .map_err(|error| not_copied(&error))?;
    if session.json {
        json(&json!({ "from": from.to_string(), "to": to.to_string(), "tables": copied }));
        return Ok(Exit::Ok);
    }
    let rows = copied.iter().map(|table| vec![table.table.to_owned(), table.rows.to_string()]);
    table(&["TABLE", "ROWS"], rows.collect());
    line(format!("copied {from} to {to}: the numbers of rows agree"));
    for Copied { table, changed, .. } in copied.iter().filter(|table| table.changed > 0) {
        note(format!(
            "{changed} texts of {table} had a NUL, which PostgreSQL cannot keep: U+FFFD stands in its place now"
        ));
    }
    note(format!("set `database.url` to the copy, and start no daemon on {from} any more"));
    Ok(Exit::Ok)
}

fn not_copied(error: &CopyError) -> Failure {
    let exit = match error {
        CopyError::Same(_) => Exit::Usage,
        CopyError::InUse { .. } => Exit::TryAgain,
        CopyError::NotEmpty { .. } | CopyError::Foreign(_) => Exit::Refused,
        CopyError::Source { source, .. }
        | CopyError::Target { source, .. }
        | CopyError::Table { source, .. }
        | CopyError::Transaction(source) => exit_of(source),
        CopyError::Incomplete { .. } => Exit::Failed,
    };
    Failure::new(exit, Chain(error).to_string())
}
