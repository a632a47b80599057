//! Commands that do something to jobs: to those that are named, or to all that pass a filter.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use serde_json::{Value, json};

use super::args::{Reprioritise, Retry, Select};
use super::client::Client;
use super::jobs::{filter, jobs_table, priority, read_params};
use super::output::{Exit, Failure, Outcome, json, line, note, text};
use super::schedules::items;
use super::session::Session;

/// How many jobs one request is about. Between two of them the command can be ended.
const REQUEST_JOBS: usize = 10_000;

/// How many of the jobs that a filter chose and that nothing was done to are shown.
const SHOWN: usize = 10;

pub(super) async fn cancel(session: &Session, select: &Select) -> Outcome {
    Verb { word: "cancel", question: "cancel", body: json!({}) }.carry_out(session, select).await
}

pub(super) async fn discard(session: &Session, select: &Select) -> Outcome {
    Verb { word: "drop", question: "delete for good", body: json!({}) }
        .carry_out(session, select)
        .await
}

pub(super) async fn retry(session: &Session, args: &Retry) -> Outcome {
    let Some(params) = &args.params else {
        let verb = Verb { word: "retry", question: "retry", body: json!({}) };
        return verb.carry_out(session, &args.select).await;
    };
    let body = json!({ "ids": args.select.ids, "params": read_params(params)? });
    let touched = session.daemon().await?.post("/api/v1/jobs/retry", &body).await?;
    tell(session, &touched, true)
}

pub(super) async fn reprioritise(session: &Session, args: &Reprioritise) -> Outcome {
    let body = json!({ "priority": priority(&args.priority) });
    let verb = Verb { word: "reprioritise", question: "give another priority to", body };
    verb.carry_out(session, &args.select).await
}

/// What is to be done.
struct Verb {
    word: &'static str,
    question: &'static str,
    /// What the request says beside the jobs.
    body: Value,
}

impl Verb {
    async fn carry_out(&self, session: &Session, select: &Select) -> Outcome {
        let client = session.daemon().await?;
        let is_named = !select.ids.is_empty();
        let mut body = self.body.clone();
        if is_named {
            body["ids"] = json!(select.ids);
        }
        for (key, value) in filter(session, &select.filter)? {
            match (key, value) {
                ("label", _) => body["labels"] = json!(select.filter.labels),
                (_, Some(value)) => body[key] = json!(value),
                (_, None) => {}
            }
        }
        if is_named && !select.dry_run {
            let touched = client.post(&self.path(), &body).await?;
            return tell(session, &touched, true);
        }
        body["dry_run"] = json!(true);
        let chosen = client.post(&self.path(), &body).await?;
        if select.dry_run {
            if session.json {
                json(&chosen);
            } else {
                show_each(&chosen, is_named);
                line(format!("{}; nothing was changed", count(&chosen)));
            }
            return Ok(exit_of(&chosen));
        }
        if items(&chosen).is_empty() {
            note("no job passes the filter");
            return Ok(Exit::Ok);
        }
        if came_to(&chosen, "selected") == 0 {
            return tell(session, &chosen, false);
        }
        let question = format!("{} {}?", self.question, count(&chosen));
        if !select.yes && !confirmed(session, &chosen, &question)? {
            return Err(Failure::new(Exit::Refused, "nothing was changed"));
        }
        let touched = self.do_what_was_shown(&client, &chosen, select, session.json).await?;
        tell(session, &touched, false)
    }

    fn path(&self) -> String {
        format!("/api/v1/jobs/{}", self.word)
    }

    /// Orders it for the jobs that were chosen, by their numbers, so that none is touched that came afterwards.
    async fn do_what_was_shown(
        &self,
        client: &Client,
        chosen: &Value,
        select: &Select,
        keeps_all: bool,
    ) -> Result<Value, Failure> {
        let ids: Vec<&Value> = items(chosen).iter().filter_map(|job| job.get("id")).collect();
        let mut results: BTreeMap<String, u64> = BTreeMap::new();
        let (mut all, mut done) = (Vec::new(), 0);
        for part in ids.chunks(REQUEST_JOBS) {
            let mut body = self.body.clone();
            body["ids"] = json!(part);
            body["state"] = json!(select.filter.state);
            let mut touched = client.post(&self.path(), &body).await?;
            done += part.len();
            for (word, count) in
                touched.get("results").and_then(Value::as_object).into_iter().flatten()
            {
                *results.entry(word.clone()).or_default() += count.as_u64().unwrap_or(0);
            }
            if let Some(Value::Array(rows)) = touched.get_mut("items").map(Value::take) {
                // A hundred thousand lines are only kept where they are asked for.
                all.extend(rows.into_iter().filter(|row| keeps_all || !is_done(row)));
            }
            if done < ids.len() {
                note(format!("{done} of {} jobs", ids.len()));
            }
        }
        Ok(json!({ "count": ids.len(), "results": results, "items": all, "next_cursor": null }))
    }
}

/// `3 jobs`, and what goes with them.
fn count(chosen: &Value) -> String {
    let number = |field: &str| chosen.get(field).and_then(Value::as_u64).unwrap_or(0);
    let jobs = jobs(came_to(chosen, "selected"));
    match number("batch_items") {
        0 => jobs,
        items => format!("{jobs} and the {items} items of their batches"),
    }
}

fn jobs(count: u64) -> String {
    match count {
        1 => "1 job".to_owned(),
        count => format!("{count} jobs"),
    }
}

/// How many jobs came to that.
fn came_to(touched: &Value, word: &str) -> u64 {
    touched.pointer(&format!("/results/{word}")).and_then(Value::as_u64).unwrap_or(0)
}

/// Shows what was chosen and asks on the terminal. Without one, `--yes` is needed.
fn confirmed(session: &Session, chosen: &Value, question: &str) -> Result<bool, Failure> {
    if !session.json {
        show(session, chosen);
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(
            Exit::Refused,
            format!("{question} Say --yes to do it without being asked"),
        ));
    }
    note(format!("{question} [y/N]"));
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    Ok(read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// The newest of the jobs that were chosen, and how many more there are.
fn show(session: &Session, chosen: &Value) {
    let sample = chosen.get("sample").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    jobs_table(session, sample);
    let more = items(chosen).len().saturating_sub(sample.len());
    if more > 0 {
        line(format!("… and {more} older ones"));
    }
}

/// Whether something was done to a job, or would be.
fn is_done(row: &Value) -> bool {
    matches!(text(row, "result").as_str(), "done" | "requested" | "selected")
}

/// Shows each job that was named, or some of those of a filter that nothing is done to.
fn show_each(touched: &Value, is_named: bool) {
    let shown = items(touched).iter().filter(|row| is_named || !is_done(row));
    for row in shown.take(if is_named { usize::MAX } else { SHOWN }) {
        line(format!("job {}: {}", text(row, "id"), text(row, "detail")));
    }
}

/// Shows what came of it: each job that was named, or of a filter's how many came to what and some of those that nothing was done to.
fn tell(session: &Session, touched: &Value, is_named: bool) -> Outcome {
    if session.json {
        json(touched);
    } else {
        show_each(touched, is_named);
        if !is_named {
            let done = came_to(touched, "done") + came_to(touched, "requested");
            line(format!(
                "{} done, {} left alone",
                jobs(done),
                left(touched) + came_to(touched, "unknown")
            ));
        }
    }
    Ok(exit_of(touched))
}

/// How many of the jobs that there are nothing was done to.
fn left(touched: &Value) -> u64 {
    came_to(touched, "not_now") + came_to(touched, "already_over")
}

/// What it ends with: whether all was done, or would be.
fn exit_of(touched: &Value) -> Exit {
    match (came_to(touched, "unknown"), left(touched)) {
        (0, 0) => Exit::Ok,
        (0, _) => Exit::Failed,
        _ => Exit::NotFound,
    }
}
