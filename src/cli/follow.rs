//! Following what a job prints, from attempt to attempt.

use serde::Deserialize;

use super::client::Client;
use super::jobs::log_path;
use super::output::{Exit, Failure, note, out, plain};
use super::wait::{POLL, Watcher};

/// A part of an attempt's log, as the API tells it.
#[derive(Debug, Deserialize)]
struct Part {
    /// Which attempt; 0 before the first one.
    attempt: u32,
    next_offset: u64,
    /// Whether that attempt runs.
    running: bool,
    /// Whether the job is over.
    #[serde(rename = "final")]
    is_over: bool,
    /// Whether it is from the end of a log whose beginning is not there.
    #[serde(default)]
    tail: bool,
    /// The node on which the attempt runs, where that is another one.
    #[serde(default)]
    elsewhere: Option<String>,
    text: String,
}

/// How far somebody has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reader {
    /// The only attempt that is of interest; `None`: all of them, one after the other.
    meant: Option<u32>,
    /// The attempt that is read; `None` before the first one has begun.
    attempt: Option<u32>,
    offset: u64,
}

impl Reader {
    fn new(meant: Option<u32>) -> Self {
        Self { meant, attempt: meant, offset: 0 }
    }

    /// Goes on behind a part.
    fn take(&mut self, part: &Part) {
        self.attempt = begun(part).or(self.attempt);
        self.offset = part.next_offset;
    }

    /// Goes on to the attempt of that part, where it is another one. Returns whether it is.
    fn turn_to(&mut self, latest: &Part) -> bool {
        let attempt = begun(latest);
        let is_other = attempt != self.attempt;
        if is_other {
            *self = Self { attempt, offset: 0, ..*self };
        }
        is_other
    }
}

/// Which attempt a part is of, once there is one.
fn begun(part: &Part) -> Option<u32> {
    (part.attempt > 0).then_some(part.attempt)
}

/// Shows a job's output until the job is over, each byte once, also where the daemon is restarted meanwhile.
pub(super) async fn follow_log(
    client: &Client,
    id: i64,
    attempt: Option<u32>,
) -> Result<(), Failure> {
    let watcher = Watcher::new(client, id);
    let mut reader = Reader::new(attempt);
    let mut told = None;
    loop {
        let part = read(&watcher, id, reader.attempt, reader.offset).await?;
        tell_tail(id, part.tail, reader.offset);
        if let Some(node) = &part.elsewhere
            && told.replace(part.attempt) != Some(part.attempt)
        {
            tell_elsewhere(id, node);
        }
        out(&plain(&part.text));
        reader.take(&part);
        if !part.text.is_empty() {
            continue;
        }
        // Also when the job is over: its last attempt may have come and gone since the one that is read.
        if !part.running && reader.meant.is_none() {
            let latest = read(&watcher, id, None, 0).await?;
            if reader.turn_to(&latest) {
                continue;
            }
        }
        if part.is_over && !part.running {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Says once that only the end of a log is shown.
pub(super) fn tell_tail(id: i64, is_tail: bool, offset: u64) {
    if is_tail && offset == 0 {
        note(format!(
            "note: the log file of job {id} is not on this node, or it is gone; these are its last 4 KiB"
        ));
    }
}

/// Says that an attempt runs on another node.
pub(super) fn tell_elsewhere(id: i64, node: &str) {
    note(plain(&format!(
        "note: job {id} runs on the node {node}, which has its log; what is kept of its end can be read here when it is over"
    )));
}

async fn read(
    watcher: &Watcher<'_>,
    id: i64,
    attempt: Option<u32>,
    offset: u64,
) -> Result<Part, Failure> {
    let part = watcher.get(&log_path(id, attempt, offset)).await?;
    serde_json::from_value(part).map_err(|error| {
        let message = format!("the log of job {id} cannot be understood: {error}");
        Failure::new(Exit::Failed, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(attempt: u32, text: &str) -> Part {
        let next_offset = text.len() as u64;
        Part {
            attempt,
            next_offset,
            running: false,
            is_over: false,
            tail: false,
            elsewhere: None,
            text: text.to_owned(),
        }
    }

    /// Its number was taken for one that has no output, and when the job was over at the next look, nothing was shown.
    #[test]
    fn a_job_that_has_not_begun_is_asked_for_without_a_number() {
        let mut reader = Reader::new(None);
        reader.take(&part(0, ""));
        assert!(!reader.turn_to(&part(0, "")), "it still has not begun");
        assert_eq!(reader, Reader::new(None));
        reader.take(&part(1, "by hand\n"));
        assert_eq!((reader.attempt, reader.offset), (Some(1), 8));
    }

    #[test]
    fn an_attempt_that_came_and_went_meanwhile_is_read_from_its_beginning() {
        let mut reader = Reader::new(None);
        reader.take(&part(1, "first\n"));
        assert!(reader.turn_to(&part(2, "second\n")));
        assert_eq!((reader.attempt, reader.offset), (Some(2), 0));
        assert!(!reader.turn_to(&part(2, "second\n")));
    }
}
