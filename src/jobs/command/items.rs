//! A program that does all items of a batch in one run.
//!
//! It gets the items that are not completed and tells of each on its descriptor. What it has told is recorded while it runs, as many at once as have come
//! while the last record was written, so that a run that breaks off has done what it told of. What it does not mention shares the end of the run.
//!
//! The daemon knows the items and records what came of them. Whoever runs the program hears it, and tells the daemon where that is another process.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

use super::params::EnvValue;
use super::record::items_file;
use super::{CommandHandler, CommandParams};
use crate::jobs::{Answer, Context, Failure, Items};
use crate::model::{ItemEnd, ItemReport, JsonText, MAX_JSON_LEVELS, OpenItem, nests_deeper};

/// How many bytes of JSON the items may have to come with the params on standard input. More come in a file.
const MAX_INLINE_BYTES: usize = 1 << 20;

/// The longest result of an item, in bytes of JSON.
const MAX_RESULT_BYTES: usize = 4096;

/// How many reports are recorded at once at the most.
const MAX_RECORD: usize = 1000;

/// How long to wait before what could not be recorded is tried again.
const RECORD_PAUSE: Duration = Duration::from_secs(1);

/// The variable that names the file.
const FILE_VARIABLE: &str = "SEXTON_ITEMS_FILE";

/// What a program says of an item's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum SaidState {
    /// It is at it. That is for people who read along, and nothing is recorded.
    Running,
    Completed,
    Failed,
}

/// What a run is to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::jobs) struct GivenItems {
    items: Vec<OpenItem>,
    /// Where the program finds them, where that is not its input.
    file: Option<PathBuf>,
}

/// What is heard of the items of one run.
#[derive(Debug)]
pub(super) struct RunItems {
    /// The position of each in the batch.
    positions: Vec<i32>,
    /// Where in `positions` each name is.
    places: HashMap<String, usize>,
    heard: Mutex<Heard>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Heard {
    /// What was said last of each place, whether it is completed.
    ends: HashMap<usize, bool>,
    /// Of which places the last word was unclear, and why.
    doubts: HashMap<usize, String>,
    /// Why something unclear may have been said of each that is not mentioned.
    doubt_of_all: Option<String>,
    /// What the first that failed said.
    first_failure: Option<String>,
    /// What is not recorded yet, in the order in which it was said.
    pending: VecDeque<ItemReport>,
    /// Whether nothing more will be said.
    is_over: bool,
}

impl CommandHandler {
    /// Runs the program once for all items that are not completed.
    pub(in crate::jobs) async fn run_items(
        &self,
        context: &Context,
        mut params: CommandParams,
        port: &Arc<dyn Items>,
    ) -> Answer {
        let items = match port.open().await {
            Ok(items) => items,
            Err(why) => return Failure::error(format!("its items cannot be read: {why}")).into(),
        };
        let given = GivenItems::for_program(items, context, &mut params);
        if given.items.is_empty() {
            context.output.line("sexton: all items are completed, so nothing was run");
            let summary = RunItems::new(&given).summary();
            return Answer::Done(json!({ "schema_version": 1, "items": summary }));
        }
        self.run_as(context, &params, Some(given)).await
    }
}

impl GivenItems {
    /// Puts the items into the program's input, or tells it of the file that they will be in.
    fn for_program(
        mut items: Vec<OpenItem>,
        context: &Context,
        params: &mut CommandParams,
    ) -> Self {
        // What JSON adds to a name and its params: keys, quotes, braces and a comma.
        const FRAME_BYTES: usize = r#"{"name":"","params":},"#.len();
        let own = |item: &OpenItem| item.params.as_ref().map_or(0, |params| params.as_str().len());
        let bytes: usize = items.iter().map(|item| FRAME_BYTES + item.name.len() + own(item)).sum();
        if bytes <= MAX_INLINE_BYTES {
            let input: Vec<Value> = items.iter().map(given).collect();
            params.input.get_or_insert_default().insert("items".to_owned(), input.into());
            items.iter_mut().for_each(|item| item.params = None);
            return Self { items, file: None };
        }
        if context.job.dry_run {
            context.output.line(format!("items: {}, in a file", items.len()));
        }
        let path = items_file(&context.paths, context.job.name());
        let variable = EnvValue::Plain(path.to_string_lossy().into_owned());
        params.env.insert(FILE_VARIABLE.to_owned(), variable);
        Self { items, file: Some(path) }
    }

    /// Writes the file, where there has to be one.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn lay_out(&self) -> io::Result<Option<ItemsFile>> {
        let Some(path) = &self.file else { return Ok(None) };
        ItemsFile::write(path.clone(), &self.items).map(Some)
    }
}

impl RunItems {
    pub(super) fn new(given: &GivenItems) -> Self {
        let items = given.items.iter();
        Self {
            positions: items.clone().map(|item| item.position).collect(),
            places: items.enumerate().map(|(place, item)| (item.name.clone(), place)).collect(),
            heard: Mutex::default(),
            news: Notify::new(),
        }
    }

    /// Takes what the program says of an item.
    ///
    /// # Errors
    /// Why the line cannot be taken as it is. What it says of the state counts even where its result does not.
    pub(super) fn hear(
        &self,
        name: &str,
        state: SaidState,
        error: Option<String>,
        result: Option<&Value>,
    ) -> Result<(), String> {
        let place =
            *self.places.get(name).ok_or("it is about an item that this run was not given")?;
        let end = match state {
            SaidState::Running => return Ok(()),
            SaidState::Completed => ItemEnd::Completed,
            SaidState::Failed => ItemEnd::Failed(error),
        };
        let is_too_deep = result.is_some_and(|result| nests_deeper(result, MAX_JSON_LEVELS));
        let result = result.map(JsonText::from);
        let fits = !is_too_deep
            && result.as_ref().is_none_or(|result| result.as_str().len() <= MAX_RESULT_BYTES);
        let result = result.filter(|_| fits);
        let mut heard = self.heard();
        heard.doubts.remove(&place);
        self.note(&mut heard, place, end, result);
        drop(heard);
        self.news.notify_one();
        if fits {
            Ok(())
        } else {
            Err(format!(
                "an item's result of more than {MAX_RESULT_BYTES} bytes, or of more than {MAX_JSON_LEVELS} lists and objects inside each other"
            ))
        }
    }

    /// Takes that what was said of an item is unclear. The end of the run cannot complete it then; another word can.
    pub(super) fn doubt(&self, name: &str, why: String) {
        if let Some(place) = self.places.get(name) {
            self.heard().doubts.insert(*place, why);
        }
    }

    /// Takes that something unclear was said of an item that cannot be made out.
    pub(super) fn doubt_all(&self, why: String) {
        self.heard().doubt_of_all.get_or_insert(why);
    }

    fn note(&self, heard: &mut Heard, place: usize, end: ItemEnd, result: Option<JsonText>) {
        if let ItemEnd::Failed(error) = &end
            && heard.first_failure.is_none()
        {
            let why = error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
            let name = self.places.iter().find(|(_, known)| **known == place);
            let name = name.map(|(name, _)| name.as_str()).unwrap_or_default();
            heard.first_failure = Some(format!("`{name}`{why}"));
        }
        heard.ends.insert(place, end == ItemEnd::Completed);
        heard.pending.push_back(ItemReport { position: self.positions[place], end, result });
    }

    /// Fails what the end of a run that succeeded cannot complete.
    fn fail_doubtful(&self, heard: &mut Heard) {
        let mut doubts = std::mem::take(&mut heard.doubts);
        for place in 0..self.positions.len() {
            let of_all = || heard.doubt_of_all.clone().filter(|_| !heard.ends.contains_key(&place));
            if let Some(why) = doubts.remove(&place).or_else(of_all) {
                self.note(heard, place, ItemEnd::Failed(Some(why)), None);
            }
        }
    }

    /// What the end of the program means for the job. A run that succeeded and said that items failed has failed: they are tried again like it.
    pub(super) fn conclude(&self, answer: Answer) -> Answer {
        let mut heard = self.heard();
        if matches!(answer, Answer::Done(_)) {
            self.fail_doubtful(&mut heard);
        }
        let failed = heard.ends.values().filter(|is_completed| !**is_completed).count();
        let answer = match answer {
            Answer::Done(result) if failed > 0 => {
                // The job goes on, so what shares the end of this run has to be said.
                for (place, position) in self.positions.iter().enumerate() {
                    if !heard.ends.contains_key(&place) {
                        let (position, end) = (*position, ItemEnd::Completed);
                        heard.pending.push_back(ItemReport { position, end, result: None });
                    }
                }
                let (total, first) = (self.positions.len(), heard.first_failure.as_deref());
                let why = format!(
                    "of {total} items {failed} failed, the first of them {}",
                    first.unwrap_or_default()
                );
                Failure::answer(why).with_result(result).into()
            }
            answer => answer,
        };
        heard.is_over = true;
        drop(heard);
        self.news.notify_one();
        self.with_summary(answer)
    }

    fn with_summary(&self, mut answer: Answer) -> Answer {
        let result = match &mut answer {
            Answer::Done(result) => Some(result),
            Answer::Failed(failure) => failure.result.as_mut(),
            Answer::Stopped { result } | Answer::Ended { result, .. } => result.as_mut(),
            Answer::Snooze { .. } => None,
        };
        if let Some(Value::Object(result)) = result {
            result.insert("items".to_owned(), self.summary());
        }
        answer
    }

    /// How many items the run was given, and what was said of them.
    fn summary(&self) -> Value {
        let heard = self.heard();
        let completed = heard.ends.values().filter(|is_completed| **is_completed).count();
        json!({
            "given": self.positions.len(),
            "completed": completed,
            "failed": heard.ends.len() - completed,
            "not_mentioned": self.positions.len() - heard.ends.len(),
        })
    }

    /// Has `record` keep what is heard, until the run is over and all of it is kept.
    pub(super) async fn record_all<F: Future<Output = ()>>(
        &self,
        record: impl Fn(Arc<Vec<ItemReport>>) -> F,
    ) {
        loop {
            let reports: Vec<_> = {
                let heard = self.heard();
                if heard.pending.is_empty() && heard.is_over {
                    return;
                }
                heard.pending.iter().take(MAX_RECORD).cloned().collect()
            };
            let count = reports.len();
            if count == 0 {
                self.news.notified().await;
                continue;
            }
            record(Arc::new(reports)).await;
            // Not before: what is on its way is not kept yet.
            self.heard().pending.drain(..count);
        }
    }

    /// What is not kept yet, in the order in which it was said.
    pub(super) fn unrecorded(&self) -> Vec<ItemReport> {
        self.heard().pending.iter().cloned().collect()
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Records what came of items. What the store does not take now is offered again, because the last word on an item has to stay the last.
pub(super) async fn record(port: &dyn Items, reports: Arc<Vec<ItemReport>>) {
    let mut is_refused = false;
    while let Err(why) = port.record(Arc::clone(&reports)).await {
        if !std::mem::replace(&mut is_refused, true) {
            tracing::warn!(why, "what came of items cannot be recorded and is kept until it can");
        }
        tokio::time::sleep(RECORD_PAUSE).await;
    }
}

/// An item as the program gets it.
fn given(item: &OpenItem) -> Value {
    let mut given = Map::from_iter([("name".to_owned(), json!(item.name))]);
    if let Some(params) = &item.params {
        given.insert("params".to_owned(), params.value());
    }
    given.into()
}

/// The items of a run in a file, as a JSON array with an item on each line. It goes away when this is dropped; one that is left behind goes with
/// the record of its attempt.
#[derive(Debug)]
pub(super) struct ItemsFile {
    path: PathBuf,
}

impl ItemsFile {
    fn write(path: PathBuf, items: &[OpenItem]) -> io::Result<Self> {
        // Made first, so that a part of it goes away as well.
        let written = Self { path };
        fill(&written.path, items)?;
        Ok(written)
    }
}

fn fill(path: &Path, items: &[OpenItem]) -> io::Result<()> {
    /// The same as [`given`], without a tree for each.
    #[derive(Serialize)]
    struct Given<'a> {
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        params: Option<&'a RawValue>,
    }
    let mut file = BufWriter::new(File::create(path)?);
    for (index, item) in items.iter().enumerate() {
        file.write_all(if index == 0 { b"[\n" } else { b",\n" })?;
        let params = item.params.as_ref();
        let params = params.map(|params| serde_json::from_str(params.as_str())).transpose()?;
        serde_json::to_writer(&mut file, &Given { name: &item.name, params })?;
    }
    file.write_all(b"\n]\n")?;
    file.flush()
}

impl Drop for ItemsFile {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt;
    use futures_util::future::BoxFuture;
    use tempfile::TempDir;

    use super::*;
    use crate::clock::SystemClock;
    use crate::jobs::ports::process::adopt_orphans;
    use crate::jobs::testing::context;

    /// Keeps what is recorded, after it has refused a few times.
    #[derive(Debug, Default)]
    struct Kept {
        items: Vec<OpenItem>,
        refusals: AtomicUsize,
        reports: Mutex<Vec<ItemReport>>,
    }

    impl Kept {
        fn of(names: &[&str]) -> Arc<Self> {
            let item = |(position, name): (i32, &&str)| OpenItem {
                position,
                name: (*name).to_owned(),
                params: (*name == "b").then(|| JsonText::from(&json!({"page": 2}))),
            };
            Arc::new(Self { items: (0..).zip(names).map(item).collect(), ..Self::default() })
        }

        fn reports(&self) -> Vec<(i32, ItemEnd)> {
            let reports = self.reports.lock().unwrap();
            reports.iter().map(|report| (report.position, report.end.clone())).collect()
        }
    }

    impl Items for Kept {
        fn open(&self) -> BoxFuture<'_, Result<Vec<OpenItem>, String>> {
            async { Ok(self.items.clone()) }.boxed()
        }

        fn record(&self, reports: Arc<Vec<ItemReport>>) -> BoxFuture<'_, Result<(), String>> {
            async move {
                let refuses = |left: usize| left.checked_sub(1);
                let order = Ordering::SeqCst;
                if self.refusals.fetch_update(order, order, refuses).is_ok() {
                    return Err("not now".to_owned());
                }
                self.reports.lock().unwrap().extend_from_slice(&reports);
                Ok(())
            }
            .boxed()
        }
    }

    async fn run(kept: &Arc<Kept>, script: &str) -> (Answer, Context, TempDir) {
        adopt_orphans().unwrap();
        let (mut context, folder) = context("imports", json!({}));
        context.clock = Arc::new(SystemClock);
        // In a test another number than 3 can be the free one.
        let script = format!("FD=/proc/self/fd/$SEXTON_PROTOCOL_FD; {script}");
        let params = json!({ "shell": script, "cwd": folder.path(), "input": {"site": "docs"} });
        let params: CommandParams = serde_json::from_value(params).unwrap();
        let port: Arc<dyn Items> = Arc::clone(kept) as Arc<dyn Items>;
        context.items = Some(Arc::clone(&port));
        let answer = CommandHandler::new().run_items(&context, params, &port).await;
        (answer, context, folder)
    }

    fn completed(position: i32) -> (i32, ItemEnd) {
        (position, ItemEnd::Completed)
    }

    fn failed(position: i32, why: &str) -> (i32, ItemEnd) {
        (position, ItemEnd::Failed(Some(why.to_owned())))
    }

    #[tokio::test]
    async fn a_program_gets_the_items_beside_its_params_and_what_it_tells_is_recorded() {
        let kept = Kept::of(&["a", "b", "c"]);
        let script = r#"cat > got
            echo '{"item": "a", "state": "running"}' >"$FD"
            echo '{"item": "a", "state": "completed", "result": {"rows": 3}}' >"$FD"
            echo '{"item": "b", "state": "failed", "error": "no such page"}' >"$FD"
            echo '{"item": "b", "state": "completed", "progress": 60}' >"$FD""#;
        let (answer, _context, folder) = run(&kept, script).await;
        let got: Value =
            serde_json::from_slice(&std::fs::read(folder.path().join("got")).unwrap()).unwrap();
        let items = json!([{"name": "a"}, {"name": "b", "params": {"page": 2}}, {"name": "c"}]);
        assert_eq!(got, json!({"site": "docs", "items": items}));
        let Answer::Done(result) = answer else { panic!("{answer:?}") };
        let summary = json!({"given": 3, "completed": 2, "failed": 0, "not_mentioned": 1});
        assert_eq!(result["items"], summary);
        assert_eq!(kept.reports(), [completed(0), failed(1, "no such page"), completed(1)]);
        let first = kept.reports.lock().unwrap()[0].result.clone();
        assert_eq!(first.unwrap().value(), json!({"rows": 3}));
    }

    #[tokio::test]
    async fn a_run_that_succeeds_with_failed_items_has_failed_and_completed_what_it_did_not_mention()
     {
        let kept = Kept::of(&["a", "b", "c"]);
        let script = r#"echo '{"item": "b", "state": "failed", "error": "too long"}' >"$FD""#;
        let (answer, ..) = run(&kept, script).await;
        let Answer::Failed(failure) = answer else { panic!("{answer:?}") };
        assert_eq!(failure.message, "of 3 items 1 failed, the first of them `b`: too long");
        assert_eq!(kept.reports(), [failed(1, "too long"), completed(0), completed(2)]);
    }

    #[tokio::test]
    async fn a_run_that_fails_leaves_open_what_it_did_not_mention() {
        let kept = Kept::of(&["a", "b", "c"]);
        let script = r#"echo '{"item": "a", "state": "completed"}' >"$FD"; exit 1"#;
        let (answer, ..) = run(&kept, script).await;
        let Answer::Failed(failure) = answer else { panic!("{answer:?}") };
        assert_eq!(failure.result.unwrap()["items"]["not_mentioned"], 2);
        assert_eq!(kept.reports(), [completed(0)]);
    }

    #[tokio::test]
    async fn lines_about_items_that_cannot_be_meant_are_counted_and_complete_nothing() {
        let kept = Kept::of(&["a", "b"]);
        let script = format!(
            r#"echo '{{"item": "x", "state": "completed"}}' >"$FD"
            echo '{{"item": "a"}}' >"$FD"
            echo '{{"item": 7, "state": "completed"}}' >"$FD"
            echo '{{"item": "a", "state": "done"}}' >"$FD"
            echo '{{"item": "b", "state": "completed", "result": "{}"}}' >"$FD""#,
            "x".repeat(MAX_RESULT_BYTES)
        );
        let (answer, context, _folder) = run(&kept, &script).await;
        let Answer::Failed(failure) = answer else { panic!("{answer:?}") };
        assert_eq!(failure.result.unwrap()["malformed_lines"], 5);
        let [said, doubted] = &kept.reports()[..] else { panic!("{:?}", kept.reports()) };
        assert_eq!(*said, completed(1), "its state counts, its result was too long");
        assert_is_unclear(doubted, 0);
        let log = context.output.summary().tail.unwrap();
        assert!(log.contains("an item that this run was not given"), "{log}");
    }

    #[track_caller]
    fn assert_is_unclear((position, end): &(i32, ItemEnd), expected: i32) {
        let ItemEnd::Failed(Some(why)) = end else { panic!("{end:?}") };
        assert!(why.starts_with("what the program said of it could not be understood: "), "{why}");
        assert_eq!(*position, expected, "{why}");
    }

    #[tokio::test]
    async fn the_end_of_a_run_completes_no_item_of_which_something_unclear_was_said() {
        let kept = Kept::of(&["a", "b", "c", "d", "e", "7", "g", "h"]);
        let script = r#"long() { head -c 270000 /dev/zero | tr '\0' x; }
            echo '{"item": "b", "state": "failed", "error": "no", "code": 7}' >"$FD"
            echo '{"item": "c", "state": "failed", "error": "'"$(long)"'"}' >"$FD"
            echo '{"item": "d", "state": "completed", "result": 4, "code": 7}' >"$FD"
            echo '{"item": "e", "state": "done"}' >"$FD"
            echo '{"item": 7, "state": "done"}' >"$FD"
            echo '{"item": "g"}' >"$FD"
            echo '{"item": "h", "state": "completed", ' >"$FD"
            echo '{"item": "h", "note": "is done next"}' >"$FD"
            echo '{"item": "h", "state": "completed"}' >"$FD""#;
        let (answer, ..) = run(&kept, script).await;
        let Answer::Failed(failure) = answer else { panic!("{answer:?}") };
        assert!(failure.message.starts_with("of 8 items 5 failed"), "{}", failure.message);
        assert_eq!(failure.result.unwrap()["malformed_lines"], 8);
        let reports = kept.reports();
        let [b, c, d, h, e, seven, g, a] = &reports[..] else { panic!("{reports:?}") };
        assert_eq!([b, d, h, a], [&failed(1, "no"), &completed(3), &completed(7), &completed(0)]);
        for (report, position) in [(c, 2), (e, 4), (seven, 5), (g, 6)] {
            assert_is_unclear(report, position);
        }
        let kept_result = kept.reports.lock().unwrap()[2].result.clone();
        assert_eq!(kept_result.unwrap().value(), json!(4));
    }

    #[tokio::test]
    async fn a_line_too_long_to_say_which_item_has_failed_lets_the_end_complete_none() {
        let kept = Kept::of(&["a", "b", "c"]);
        let script = r#"long=$(head -c 270000 /dev/zero | tr '\0' x)
            echo '{"item": "a", "state": "completed"}' >"$FD"
            echo '{"error": "'"$long"'", "item": "b", "state": "failed"}' >"$FD""#;
        let (answer, ..) = run(&kept, script).await;
        assert!(matches!(answer, Answer::Failed(_)), "{answer:?}");
        let why = "a line that may be about it could not be understood: longer than 262144 bytes";
        assert_eq!(kept.reports(), [completed(0), failed(1, why), failed(2, why)]);
        let kept = Kept::of(&["a", "b"]);
        let script = r#"long=$(head -c 270000 /dev/zero | tr '\0' x)
            echo '{"log": "'"$long"'"}' >"$FD""#;
        let (answer, ..) = run(&kept, script).await;
        assert!(matches!(answer, Answer::Done(_)), "it is about no item: {answer:?}");
    }

    #[tokio::test]
    async fn a_hundred_thousand_items_come_in_a_file_that_goes_with_the_run() {
        let names: Vec<String> = (0..100_000).map(|number| format!("item-{number:06}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let kept = Kept::of(&names);
        let script = r#"cat > got; echo "$SEXTON_ITEMS_FILE"; wc -l < "$SEXTON_ITEMS_FILE"
            sed -n 's/^{"name":\("[^"]*"\).*/{"item":\1,"state":"completed"}/p' "$SEXTON_ITEMS_FILE" >"$FD""#;
        let (answer, context, folder) = run(&kept, script).await;
        let Answer::Done(result) = answer else { panic!("{answer:?}") };
        assert_eq!(result["items"]["completed"], 100_000);
        assert_eq!(kept.reports().len(), 100_000);
        let log = context.output.summary().tail.unwrap();
        let (file, lines) = log.split_once('\n').unwrap();
        assert_eq!(lines.trim(), "100002");
        assert!(!Path::new(file).exists(), "{file}");
        let got = std::fs::read_to_string(folder.path().join("got")).unwrap();
        assert_eq!(got, r#"{"site":"docs"}"#);
    }

    #[tokio::test]
    async fn a_run_with_nothing_left_to_do_starts_no_program() {
        let (answer, ..) = run(&Kept::of(&[]), "exit 1").await;
        let Answer::Done(result) = answer else { panic!("{answer:?}") };
        assert_eq!(result["items"]["given"], 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_store_refuses_is_offered_again_in_its_order() {
        let kept = Kept::of(&["a", "b"]);
        kept.refusals.store(3, Ordering::SeqCst);
        let run = RunItems::new(&GivenItems { items: kept.items.clone(), file: None });
        run.hear("a", SaidState::Failed, Some("no".to_owned()), None).unwrap();
        run.hear("a", SaidState::Completed, None, None).unwrap();
        let later = async {
            tokio::time::sleep(RECORD_PAUSE / 2).await;
            run.hear("b", SaidState::Completed, None, None).unwrap();
            run.conclude(Answer::Done(json!({})))
        };
        let port: &dyn Items = &*kept;
        let (answer, ()) = tokio::join!(later, run.record_all(|reports| record(port, reports)));
        assert!(matches!(answer, Answer::Done(_)), "the last word on an item counts: {answer:?}");
        assert_eq!(kept.reports(), [failed(0, "no"), completed(0), completed(1)]);
    }
}
