//! `/api/v1/jobs/{id}/log`: what an attempt prints, part by part.

use std::path::Path as File;

use axum::extract::State;
use serde::Deserialize;

use super::extract::{Path, Query};
use super::problem::Problem;
use super::state::App;
use super::wire::LogPart;
use crate::jobs::is_whole_output;
use crate::model::{JobId, JobState};
use crate::store::Conn;
use crate::store::history;
use crate::store::nodes::{self, Node};

/// Which part of which attempt's log.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogQuery {
    attempt: Option<u32>,
    offset: Option<u64>,
}

/// How much of a log one answer carries, in bytes.
const LOG_CHUNK_BYTES: u64 = 256 << 10;

/// A part of an attempt's log, which is in a file on the node that ran it. Where that is not here, what the database keeps of its end.
#[utoipa::path(get, path = "/api/v1/jobs/{id}/log", responses((status = 200, body = LogPart), (status = 404, body = Problem)))]
pub(super) async fn log(
    State(app): State<App>,
    Path(id): Path<i64>,
    Query(query): Query<LogQuery>,
) -> Result<axum::Json<LogPart>, Problem> {
    let both = move |conn: &mut Conn| {
        let Some(job) = history::job(conn, JobId(id))? else { return Ok(None) };
        let latest = u32::try_from(job.attempt).unwrap_or(0);
        let attempt = query.attempt.unwrap_or(latest);
        let kept = history::output_tail(conn, job.id, attempt)?;
        let runner = nodes::runner(conn, job.id)?;
        Ok(Some((job, latest, attempt, kept.unwrap_or_default(), runner)))
    };
    let found = app.store.read(both).await?;
    let (job, latest, attempt, kept, runner) =
        found.ok_or_else(|| Problem::not_found(format!("there is no job {id}")))?;
    // While it is not over, that one may come, and may be waited for.
    if query.attempt == Some(0) || attempt > latest && job.state.is_final() {
        return Err(Problem::not_found(format!("job {id} has no attempt {attempt}")));
    }
    let running = job.state == JobState::Running && i64::from(attempt) == i64::from(job.attempt);
    let elsewhere = runner.filter(|node| running && !is_own(&app, node)).map(|node| node.name);
    let path = app.paths.attempt_log(JobId(id), attempt);
    let offset = query.offset.unwrap_or(0);
    let read = tokio::task::spawn_blocking(move || read_chunk(&path, offset)).await;
    let (bytes, tail) = match read {
        Ok(Ok(bytes)) => (bytes, false),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            let kept = Kept::in_tail(&kept);
            (kept.after(offset).to_vec(), kept.is_end)
        }
        Ok(Err(error)) => {
            return Err(Problem::not_found(format!("the log of job {id} cannot be read: {error}")));
        }
        Err(_panicked) => (Vec::new(), false),
    };
    Ok(axum::Json(LogPart {
        job: id,
        state: job.state.to_string(),
        attempt,
        offset,
        next_offset: offset + bytes.len() as u64,
        running,
        is_final: job.state.is_final(),
        tail,
        elsewhere,
        text: String::from_utf8_lossy(&bytes).into_owned(),
    }))
}

/// Whether it is the node that answers. Without a daemon that is the one that would run here.
fn is_own(app: &App, node: &Node) -> bool {
    match &app.live {
        Some(live) => live.node.0 == node.id,
        None => app.settings.node.name == node.name,
    }
}

/// What the database keeps of an attempt's output.
#[derive(Debug, PartialEq, Eq)]
struct Kept<'a> {
    text: &'a str,
    /// Whether something stood before it.
    is_end: bool,
}

impl<'a> Kept<'a> {
    /// A tail that was cut begins within a line, as a rule. It is shown from the next one on, where there is one.
    fn in_tail(tail: &'a str) -> Self {
        let is_end = !is_whole_output(tail);
        let lines = tail.split_once('\n').map(|(_, lines)| lines).filter(|lines| !lines.is_empty());
        Self { text: lines.filter(|_| is_end).unwrap_or(tail), is_end }
    }

    fn after(&self, offset: u64) -> &'a [u8] {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        self.text.as_bytes().get(from..).unwrap_or_default()
    }
}

fn read_chunk(path: &File, offset: u64) -> std::io::Result<Vec<u8>> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = std::fs::File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(LOG_CHUNK_BYTES).read_to_end(&mut bytes)?;
    // A character that is cut in two is left for the next part, unless nothing else is there.
    if bytes.len() as u64 == LOG_CHUNK_BYTES
        && let Err(cut) = std::str::from_utf8(&bytes)
        && cut.error_len().is_none()
        && cut.valid_up_to() > 0
    {
        bytes.truncate(cut.valid_up_to());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_long_output_begins_with_a_whole_line() {
        let long = format!("half a line\nwhole\n{}\n", "x".repeat(4096));
        let kept = Kept::in_tail(&long[long.len() - 4096 - 8..]);
        assert!(kept.is_end && kept.text.starts_with("whole\nxxx") && kept.text.ends_with("x\n"));
        assert_eq!(kept.after(kept.text.len() as u64), b"");
        assert_eq!(kept.after(u64::MAX), b"");
        // One long line has no beginning that could be shown.
        for line in ["x".repeat(4096), format!("{}\n", "x".repeat(4095))] {
            assert_eq!(Kept::in_tail(&line), Kept { text: &line, is_end: true });
        }
    }

    #[test]
    fn an_output_that_its_tail_holds_is_shown_as_a_whole() {
        for whole in
            [String::new(), "first\nsecond\n".to_owned(), format!("a\n{}", "x".repeat(4090))]
        {
            assert_eq!(Kept::in_tail(&whole), Kept { text: &whole, is_end: false });
        }
    }
}
