//! `sexton db`.

use std::path::Path;

use serde_json::json;

use super::args::Db;
use super::client::Client;
use super::output::{Exit, Failure, Outcome, json, line, note};
use super::session::Session;
use crate::audit;
use crate::daemon::{take_database, take_lock};
use crate::model::Chain;
use crate::store::{DatabaseUrl, Purpose, StoreError, maintenance, migrations};

pub(super) async fn run(session: &Session, command: Db) -> Outcome {
    let url = session.settings().database.clone();
    let failed = |error: StoreError| {
        let exit = match error {
            StoreError::Busy => Exit::TryAgain,
            StoreError::TooNew { .. } => Exit::Config,
            StoreError::Unsound { .. } => Exit::Data,
            _ => Exit::Failed,
        };
        Failure::new(exit, Chain(&error).to_string())
    };
    match command {
        Db::Migrate => {
            let mut conn = url.connect(Purpose::Write).map_err(failed)?;
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
