//! What a program says on its descriptor: one JSON object a line.
//!
//! A line that cannot be understood does not fail the job. It is counted, the first few are shown in the attempt's log,
//! and the result tells how many there were. Where it is about an item, that item is not taken for one of which nothing was said.

mod outline;

use std::collections::BTreeMap;
use std::io::PipeReader;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use self::outline::Outline;
use super::items::{RunItems, SaidState};
use crate::jobs::{Output, Progress};
use crate::model::{JsonText, MAX_JSON_LEVELS, MAX_RETRY_DELAY, inert, nests_deeper};

/// The longest line, in bytes. What is longer is skipped.
const MAX_LINE_BYTES: usize = 256 * 1024;

/// How much of a line that is skipped is looked at for the item that it is about, in bytes.
const HEAD_BYTES: usize = 4 * 1024;

/// The largest checkpoint, in bytes of JSON: a program gets it back in a variable, which holds 128 KiB at the most.
const MAX_CHECKPOINT_BYTES: usize = 64 * 1024;

/// The longest message or reason, in characters; more is cut.
const MAX_TEXT_CHARS: usize = 1000;

/// How many metrics a job may have.
const MAX_METRICS: usize = 100;

/// How many lines that cannot be understood are shown.
const MAX_SHOWN: u64 = 5;

/// How many log lines of an attempt go to the daemon's log as well; all of them are in the attempt's own.
const MAX_LOGGED: u32 = 1000;

/// What a program has said that counts when it has ended.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Said {
    pub(super) result: Option<Value>,
    pub(super) metrics: BTreeMap<String, f64>,
    pub(super) advice: Option<Advice>,
    /// Lines that could not be understood.
    pub(super) malformed: u64,
    /// Log lines.
    pub(super) logged: u32,
}

/// What is to happen next, in a program's own opinion.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Advice {
    /// If this attempt fails, the next one comes no earlier.
    RetryAfter(Duration),
    /// Not now: this attempt is not charged.
    Snooze { delay: Duration, reason: String },
    /// It fails for good.
    Final(String),
}

/// A line. Several things may be said in one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    progress: Option<f64>,
    message: Option<String>,
    #[serde(default, deserialize_with = "present")]
    checkpoint: Option<Value>,
    metric: Option<String>,
    value: Option<f64>,
    #[serde(default, deserialize_with = "present")]
    result: Option<Value>,
    log: Option<String>,
    level: Option<Level>,
    #[serde(default)]
    fields: Map<String, Value>,
    item: Option<String>,
    state: Option<SaidState>,
    error: Option<String>,
    retry_after: Option<f64>,
    snooze: Option<f64>,
    reason: Option<String>,
    r#final: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// A log line of a program, on its way to the daemon's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LogLine {
    level: Level,
    text: String,
    fields: Option<String>,
}

impl LogLine {
    /// Puts it into the log of this process.
    pub(super) fn to_log(&self) {
        let (text, fields) = (&self.text, self.fields.as_deref());
        match self.level {
            Level::Debug => tracing::debug!(fields, "{text}"),
            Level::Info => tracing::info!(fields, "{text}"),
            Level::Warn => tracing::warn!(fields, "{text}"),
            Level::Error => tracing::error!(fields, "{text}"),
        }
    }
}

/// A line that was understood.
struct Understood {
    percent: Option<u8>,
    message: Option<String>,
    checkpoint: Option<JsonText>,
    metric: Option<(String, f64)>,
    advice: Option<Advice>,
    /// The item that the result is of, with its state, and why it failed.
    item: Option<(String, SaidState, Option<String>)>,
    result: Option<Value>,
    log: Option<(Level, String, Map<String, Value>)>,
}

impl Understood {
    /// # Errors
    /// Why the line says nothing.
    fn of(line: &[u8]) -> Result<Self, String> {
        if line.trim_ascii_start().first() != Some(&b'{') {
            return Err("it is no JSON object".to_owned());
        }
        let line: Line = serde_json::from_slice(line).map_err(|error| inert(&error.to_string()))?;
        let says_nothing = line.progress.is_none()
            && line.message.is_none()
            && line.checkpoint.is_none()
            && line.metric.is_none()
            && line.result.is_none()
            && line.log.is_none()
            && line.item.is_none()
            && line.retry_after.is_none()
            && line.snooze.is_none()
            && line.r#final.is_none();
        if says_nothing {
            return Err("it says nothing that is known".to_owned());
        }
        let percent = line.progress.map(percent).transpose()?;
        let checkpoint = line.checkpoint.as_ref().map(JsonText::from);
        if checkpoint.as_ref().is_some_and(|text| text.as_str().len() > MAX_CHECKPOINT_BYTES) {
            return Err(format!("a checkpoint of more than {MAX_CHECKPOINT_BYTES} bytes"));
        }
        refuse_depth("a checkpoint", line.checkpoint.as_ref())?;
        let metric = metric(line.metric, line.value)?;
        let advice = advice(line.retry_after, line.snooze, line.reason, line.r#final)?;
        let item = match (line.item, line.state) {
            (None, None) if line.error.is_none() => {
                refuse_depth("a result", line.result.as_ref())?;
                None
            }
            (None, _) => return Err("`state` and `error` are about an `item`".to_owned()),
            (Some(_), None) => return Err("an item needs its `state`".to_owned()),
            (Some(name), Some(state)) => Some((name, state, line.error.as_deref().map(cut))),
        };
        let level = line.level.unwrap_or(Level::Info);
        Ok(Self {
            percent,
            message: line.message.as_deref().map(cut),
            checkpoint,
            metric,
            advice,
            item,
            result: line.result,
            log: line.log.map(|text| (level, cut(&text), line.fields)),
        })
    }
}

/// Takes log lines to the daemon's log.
pub(super) type LogSink = Arc<dyn Fn(LogLine) + Send + Sync>;

/// A value that is there, `null` included.
pub(super) fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// Listens to one program.
#[derive(Clone)]
pub(super) struct Listener {
    said: Arc<Mutex<Said>>,
    progress: Progress,
    output: Output,
    log: LogSink,
    items: Option<Arc<RunItems>>,
}

impl Listener {
    pub(super) fn new(
        progress: Progress,
        output: Output,
        log: LogSink,
        items: Option<Arc<RunItems>>,
    ) -> Self {
        Self { said: Arc::default(), progress, output, log, items }
    }

    /// What was said so far.
    pub(super) fn said(&self) -> Said {
        self.state().clone()
    }

    /// Listens until nobody can say anything any more.
    pub(super) async fn listen(self, pipe: PipeReader) {
        let Ok(mut pipe) = pipe::Receiver::from_owned_fd(OwnedFd::from(pipe)) else { return };
        let mut lines = Lines::default();
        let mut chunk = vec![0; 4096];
        while let Ok(length @ 1..) = pipe.read(&mut chunk).await {
            for line in lines.add(&chunk[..length]) {
                self.hear(&line);
            }
        }
        if let Some(line) = lines.rest() {
            self.hear(&line);
        }
    }

    fn hear(&self, line: &Result<Vec<u8>, TooLong>) {
        let told = match line {
            Ok(line) if line.trim_ascii().is_empty() => return,
            Ok(line) => self.take(line).map_err(|why| (why, shown(line))),
            Err(TooLong(head)) => {
                let why = format!("longer than {MAX_LINE_BYTES} bytes");
                self.make_out(head, true, &why);
                Err((why, String::new()))
            }
        };
        if let Err((why, line)) = told {
            let mut said = self.state();
            said.malformed += 1;
            let count = said.malformed;
            drop(said);
            if count <= MAX_SHOWN {
                self.output.line(format!(
                    "sexton: a line of the program was not understood: {why}: {line}"
                ));
            }
        }
    }

    /// # Errors
    /// Why not all of the line counts.
    fn take(&self, line: &[u8]) -> Result<(), String> {
        match Understood::of(line) {
            Ok(understood) => self.act_on(understood),
            Err(why) => {
                self.make_out(line, false, &why);
                Err(why)
            }
        }
    }

    /// Takes what a line that was not understood says of an item all the same.
    fn make_out(&self, line: &[u8], is_cut: bool, why: &str) {
        let Some(items) = &self.items else { return };
        let outline = Outline::of(line);
        match (outline.item(), outline.state()) {
            (Some(name), Some(state)) if is_cut || outline.is_whole() => {
                let error = outline.error().map_or_else(|| unclear(why), cut);
                // It is counted already.
                let _again = items.hear(&name, state, Some(error), outline.result().as_ref());
            }
            (Some(name), _) => items.doubt(&name, unclear(why)),
            (None, _) if is_cut && outline.conceals_its_item() => {
                items.doubt_all(format!(
                    "a line that may be about it could not be understood: {why}"
                ));
            }
            (None, _) => {}
        }
    }

    /// # Errors
    /// Why not all of it counts.
    fn act_on(&self, line: Understood) -> Result<(), String> {
        // First, because a line about an item that is refused says nothing else either.
        if let Some((name, state, error)) = line.item {
            let items = self.items.as_ref().ok_or("this run has no items")?;
            items.hear(&name, state, error, line.result.as_ref())?;
        } else if line.result.is_some() {
            self.state().result = line.result;
        }
        if line.percent.is_some() || line.message.is_some() {
            self.progress.update(line.percent, line.message);
        }
        if let Some(checkpoint) = line.checkpoint {
            self.progress.checkpoint(checkpoint);
        }
        let mut said = self.state();
        if let Some((name, value)) = line.metric {
            if said.metrics.len() >= MAX_METRICS && !said.metrics.contains_key(&name) {
                return Err(format!("more than {MAX_METRICS} metrics"));
            }
            said.metrics.insert(name, value);
        }
        said.advice = line.advice.or_else(|| said.advice.take());
        if let Some((level, text, fields)) = line.log {
            let is_first = said.logged < MAX_LOGGED;
            said.logged = said.logged.saturating_add(1);
            drop(said);
            self.log(level, &text, fields, is_first);
        }
        Ok(())
    }

    fn log(&self, level: Level, text: &str, fields: Map<String, Value>, to_daemon: bool) {
        let fields = (!fields.is_empty()).then(|| Value::Object(fields).to_string());
        let text = inert(text);
        let word = match level {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        };
        self.output.line(match &fields {
            Some(fields) => format!("{word}: {text} {fields}"),
            None => format!("{word}: {text}"),
        });
        if to_daemon {
            (self.log)(LogLine { level, text, fields });
        }
    }

    fn state(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn percent(value: f64) -> Result<u8, String> {
    if !(0.0..=100.0).contains(&value) {
        return Err(format!("progress goes from 0 to 100, and this is {value}"));
    }
    // In range, and rounded down: 100 is reached when it is reached.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is from 0 to 100"
    )]
    let whole = value as u8;
    Ok(whole)
}

fn metric(name: Option<String>, value: Option<f64>) -> Result<Option<(String, f64)>, String> {
    let legal = |name: &str| {
        (1..=100).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
    };
    match (name, value) {
        (None, None) => Ok(None),
        (Some(name), Some(value)) if legal(&name) => Ok(Some((name, value))),
        (Some(_), Some(_)) => {
            Err("a metric's name has 1 to 100 of letters, digits, `_`, `.` and `-`".to_owned())
        }
        _ => Err("a metric needs both `metric` and `value`".to_owned()),
    }
}

fn advice(
    retry_after: Option<f64>,
    snooze: Option<f64>,
    reason: Option<String>,
    is_final: Option<String>,
) -> Result<Option<Advice>, String> {
    let delay = |seconds: f64| {
        let delay = Duration::try_from_secs_f64(seconds)
            .map_err(|_out_of_range| format!("{seconds} is not a number of seconds to wait"))?;
        Ok::<_, String>(delay.min(MAX_RETRY_DELAY))
    };
    match (retry_after, snooze, is_final) {
        (None, None, None) => Ok(None),
        (Some(seconds), None, None) => Ok(Some(Advice::RetryAfter(delay(seconds)?))),
        (None, Some(seconds), None) => Ok(Some(Advice::Snooze {
            delay: delay(seconds)?,
            reason: cut(&reason.unwrap_or_else(|| "the program asked for it".to_owned())),
        })),
        (None, None, Some(why)) if why.trim().is_empty() => {
            Ok(Some(Advice::Final("the program said so, and not why".to_owned())))
        }
        (None, None, Some(why)) => Ok(Some(Advice::Final(cut(&why)))),
        _ => Err("only one of `retry_after`, `snooze` and `final` can be meant".to_owned()),
    }
}

fn refuse_depth(what: &str, value: Option<&Value>) -> Result<(), String> {
    if value.is_some_and(|value| nests_deeper(value, MAX_JSON_LEVELS)) {
        return Err(format!(
            "{what} of more than {MAX_JSON_LEVELS} lists and objects inside each other"
        ));
    }
    Ok(())
}

/// Why an item has failed of which something unclear was said.
fn unclear(why: &str) -> String {
    format!("what the program said of it could not be understood: {why}")
}

fn cut(text: &str) -> String {
    let text: String = text.chars().take(MAX_TEXT_CHARS).collect();
    inert(&text)
}

/// The beginning of a line that was not understood.
fn shown(line: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(line).chars().take(100).collect();
    inert(&text)
}

/// A line that was skipped, with its beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TooLong(Vec<u8>);

/// Puts lines together from whatever pieces they come in.
#[derive(Debug, Default)]
struct Lines {
    line: Vec<u8>,
    is_too_long: bool,
}

impl Lines {
    fn add(&mut self, bytes: &[u8]) -> Vec<Result<Vec<u8>, TooLong>> {
        let mut complete = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (piece, false),
            };
            self.is_too_long |= self.line.len() + text.len() > MAX_LINE_BYTES;
            let room = if self.is_too_long {
                HEAD_BYTES.saturating_sub(self.line.len())
            } else {
                text.len()
            };
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if self.is_too_long {
                self.line.truncate(HEAD_BYTES);
            }
            if ends {
                complete.extend(self.rest());
            }
        }
        complete
    }

    /// What has come of a line so far, as a line.
    fn rest(&mut self) -> Option<Result<Vec<u8>, TooLong>> {
        if std::mem::take(&mut self.is_too_long) {
            return Some(Err(TooLong(std::mem::take(&mut self.line))));
        }
        (!self.line.is_empty()).then(|| Ok(std::mem::take(&mut self.line)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn heard(lines: &[&str]) -> (Said, crate::jobs::ProgressReport, String) {
        let (progress, receiver) = Progress::channel();
        let output = Output::tail_only();
        let log: LogSink = Arc::new(|line| line.to_log());
        let listener = Listener::new(progress, output.clone(), log, None);
        for line in lines {
            listener.hear(&Ok(line.as_bytes().to_vec()));
        }
        let report = receiver.borrow().clone();
        (listener.said(), report, output.finish().tail.unwrap_or_default())
    }

    #[test]
    fn a_program_tells_how_far_it_is_and_where_to_go_on() {
        let (_, report, _) = heard(&[
            r#"{"progress": 42.9, "message": "half\u001b[2J"}"#,
            r#"{"checkpoint": {"page": 7}}"#,
            r#"{"progress": 50}"#,
        ]);
        assert_eq!(report.percent, Some(50));
        assert_eq!(report.message, "half\\u{1b}[2J", "a message stays until there is another");
        assert_eq!(report.checkpoint.unwrap().value(), json!({"page": 7}));
    }

    #[test]
    fn a_program_tells_its_result_its_metrics_and_what_is_to_happen_next() {
        let (said, ..) = heard(&[
            r#"{"metric": "rows", "value": 3}"#,
            r#"{"metric": "rows", "value": 4.5}"#,
            r#"{"result": {"ok": true}}"#,
            r#"{"retry_after": 90}"#,
        ]);
        assert_eq!(said.result, Some(json!({"ok": true})));
        assert_eq!(said.metrics, BTreeMap::from([("rows".to_owned(), 4.5)]));
        assert_eq!(said.advice, Some(Advice::RetryAfter(Duration::from_secs(90))));
        assert_eq!(said.malformed, 0);
        let (said, ..) = heard(&[r#"{"snooze": 1e18, "reason": "closed"}"#]);
        let forever = Advice::Snooze { delay: MAX_RETRY_DELAY, reason: "closed".to_owned() };
        assert_eq!(said.advice, Some(forever));
    }

    #[test]
    fn lines_that_cannot_be_understood_are_counted_and_the_first_ones_shown() {
        let wrong = [
            "hello",
            "[]",
            "{}",
            r#"{"progres": 1}"#,
            r#"{"progress": 101}"#,
            r#"{"progress": -1}"#,
            r#"{"metric": "a"}"#,
            r#"{"metric": "a b", "value": 1}"#,
            r#"{"level": "info"}"#,
            r#"{"retry_after": -1}"#,
            r#"{"snooze": 1, "final": "x"}"#,
            r#"{"progress": 1, "x": 2}"#,
            r#"{"item": "a", "state": "completed"}"#,
            r#"{"item": "a"}"#,
            r#"{"state": "failed"}"#,
            r#"{"item": "a", "state": "done"}"#,
        ];
        let (said, report, log) = heard(&wrong);
        assert_eq!(said, Said { malformed: wrong.len() as u64, ..Said::default() });
        assert_eq!(report, crate::jobs::ProgressReport::default());
        insta::assert_snapshot!(log);
    }

    #[test]
    fn a_checkpoint_that_would_not_come_back_is_refused() {
        let long = format!(r#"{{"checkpoint": "{}"}}"#, "x".repeat(MAX_CHECKPOINT_BYTES));
        let (said, report, _) = heard(&[&long]);
        assert_eq!((said.malformed, report.checkpoint), (1, None));
    }

    #[test]
    fn what_is_nested_too_deep_to_be_passed_on_is_counted_and_not_kept() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        for levels in [MAX_JSON_LEVELS + 1, 124, 1000] {
            let nested = nested(levels);
            let lines =
                [format!(r#"{{"result": {nested}}}"#), format!(r#"{{"checkpoint": {nested}}}"#)];
            let (said, report, _) = heard(&lines.each_ref().map(String::as_str));
            assert_eq!(said, Said { malformed: 2, ..Said::default() }, "{levels} levels");
            assert_eq!(report.checkpoint, None, "{levels} levels");
        }
        let (said, ..) = heard(&[&format!(r#"{{"result": {}}}"#, nested(MAX_JSON_LEVELS))]);
        assert!(said.result.is_some(), "{said:?}");
    }

    #[test]
    fn log_lines_stand_in_the_attempts_log_with_their_fields() {
        let (_, _, log) = heard(&[
            r#"{"log": "page \u001b[31m done", "level": "warn", "fields": {"page": 3}}"#,
            r#"{"log": "plain"}"#,
        ]);
        assert_eq!(log, "warn: page \\u{1b}[31m done {\"page\":3}\ninfo: plain\n");
    }

    #[test]
    fn an_endless_line_is_skipped_and_the_next_one_heard() {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for _ in 0..100 {
            found.extend(lines.add(&[b'x'; 10_000]));
            assert!(lines.line.len() <= MAX_LINE_BYTES);
        }
        found.extend(lines.add(b"\n{}\n"));
        assert_eq!(found, [Err(TooLong(vec![b'x'; HEAD_BYTES])), Ok(b"{}".to_vec())]);
    }

    proptest! {
        #[test]
        fn lines_are_the_same_however_they_are_cut(text in "[a\n]{0,40}", cuts in prop::collection::vec(0usize..40, 0..6)) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            let (mut lines, mut found, mut start) = (Lines::default(), Vec::new(), 0);
            for cut in cuts.into_iter().chain([bytes.len()]) {
                found.extend(lines.add(&bytes[start..cut]));
                start = cut;
            }
            found.extend(lines.rest());
            let expected: Vec<_> = text.split('\n').filter(|line| !line.is_empty()).map(|line| Ok(line.as_bytes().to_vec())).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn nothing_that_is_said_can_do_harm(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let (progress, _receiver) = Progress::channel();
            let listener = Listener::new(progress, Output::tail_only(), Arc::new(|_| {}), None);
            listener.hear(&Ok(line));
        }
    }
}
