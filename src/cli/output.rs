//! What goes to stdout and stderr, and the exit codes.

use std::io::{self, Write};
use std::sync::OnceLock;

use comfy_table::{ContentArrangement, Table, presets};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

/// What the process ends with. The numbers are part of the contract (docs/cli.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// It worked.
    Ok = 0,
    /// It ran and failed: a job failed, a log does not verify.
    Failed = 1,
    /// The command line makes no sense; clap uses the same.
    Usage = 2,
    /// Warnings under `--strict`.
    Warnings = 3,
    /// There is no such thing.
    NotFound = 4,
    /// The daemon cannot be reached.
    NoDaemon = 5,
    /// A safety limit refused it.
    Refused = 6,
    /// The database is damaged or missing; to start again does not help.
    Data = 65,
    /// Standard output cannot be written. The number is sysexits' `EX_IOERR`.
    Output = 74,
    /// Somebody else has the lock; try again.
    TryAgain = 75,
    /// Settings or schedules are not valid.
    Config = 78,
}

/// An error of a command, with what the process ends with.
#[derive(Debug)]
pub(super) struct Failure {
    /// For the shell.
    pub(super) exit: Exit,
    /// For people.
    pub(super) message: String,
}

impl Failure {
    /// An error.
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }
}

/// What a command comes to.
pub(super) type Outcome = Result<Exit, Failure>;

/// Why something did not get to stdout. Commands print as they go and most have nothing left to do about it, so it is asked for once, at the end.
static LOST: OnceLock<io::Error> = OnceLock::new();

/// Writes to stdout. A reader that has gone away (`| head`) is no error; anything else is told by [`lost`].
pub(super) fn out(text: &str) {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    if let Err(error) = written
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        let _only_the_first_counts = LOST.set(error);
    }
}

/// That not all of the output could be written, and why.
pub(super) fn lost() -> Option<Failure> {
    let why = LOST.get()?;
    let message = format!("the output is not complete, stdout cannot be written: {why}");
    Some(Failure::new(Exit::Output, message))
}

/// A line on stdout.
pub(super) fn line(text: impl AsRef<str>) {
    out(&format!("{}\n", text.as_ref()));
}

/// A line on stderr: messages, never data.
pub(super) fn note(text: impl AsRef<str>) {
    let mut stderr = io::stderr().lock();
    let written = writeln!(stderr, "{}", text.as_ref());
    drop(written);
}

/// One JSON document on stdout.
pub(super) fn json(value: &impl Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => line(text),
        Err(error) => note(format!("the answer could not be written as JSON: {error}")),
    }
}

/// A table, as wide as the terminal or, where nobody knows how wide that is, as wide as it is.
pub(super) fn table(headers: &[&str], rows: Vec<Vec<String>>) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headers.iter().copied());
    for row in rows {
        table.add_row(row.into_iter().map(|cell| plain(&cell)));
    }
    let columns = table.width();
    line(fitted(table, columns));
}

/// The table in that many columns. There are none in a pipe, and a terminal of 0 does not know how many it has.
fn fitted(mut table: Table, columns: Option<u16>) -> String {
    match columns.filter(|&columns| columns > 0) {
        Some(columns) => {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(columns)
        }
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    table.trim_fmt()
}

/// Text from outside without control characters, which a terminal would obey.
#[must_use]
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c })
        .collect()
}

/// A time of the API (RFC 3339), in the machine's zone and with the distance from now.
#[must_use]
pub(super) fn when(text: Option<&str>, now: Timestamp) -> String {
    let Some(at) = text.and_then(|text| text.parse::<Timestamp>().ok()) else {
        return "-".to_owned();
    };
    let local = at.to_zoned(jiff::tz::TimeZone::system());
    format!("{} ({})", local.strftime("%a %d %b %H:%M:%S %Z"), distance(at, now))
}

/// How far an instant is from now: `in 3h 12m`, `5s ago`.
#[must_use]
pub(super) fn distance(at: Timestamp, now: Timestamp) -> String {
    let seconds = at.duration_since(now).as_secs();
    let text = rough(seconds.unsigned_abs());
    match seconds {
        0 => "now".to_owned(),
        1.. => format!("in {text}"),
        _ => format!("{text} ago"),
    }
}

fn rough(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// A field of a JSON object as text; `-` when it is absent or null.
#[must_use]
pub(super) fn text(value: &Value, field: &str) -> String {
    match value.get(field) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j10_control_characters_of_a_job_do_not_reach_the_terminal() {
        assert_eq!(plain("a\u{1b}]0;x\u{7}b"), "a\u{fffd}]0;x\u{fffd}b");
    }

    #[test]
    fn a_table_is_fitted_only_into_a_width_that_is_known() {
        let fitted_into = |columns| {
            let mut table = Table::new();
            table.load_style(presets::NOTHING).add_row(["a few words that go on and on", "42"]);
            fitted(table, columns)
        };
        assert_eq!(fitted_into(None).lines().count(), 1);
        assert_eq!(fitted_into(Some(0)), fitted_into(None));
        assert!(fitted_into(Some(20)).lines().all(|line| line.chars().count() <= 20));
    }

    #[test]
    fn distances_read_both_ways() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(distance("2026-01-01T03:12:40Z".parse().unwrap(), now), "in 3h 12m");
        assert_eq!(distance("2025-12-31T23:59:55Z".parse().unwrap(), now), "5s ago");
        assert_eq!(distance(now, now), "now");
    }
}
