//! `[run]`: how a schedule's jobs are treated.

use std::path::PathBuf;
use std::time::Duration;

use super::super::definition::{Defaults, Overlap, Reference, Requirement, Run};
use super::findings::Findings;
use super::reader::{Item, Table};
use super::retry;
use crate::model::{
    Concurrency, HumanDuration, Labels, MAX_LABELS, NodeChoice, Priority, ScheduleId, label_problem,
};

/// The longest `requires_wait`. What waits for longer than a week is not an instant of this week any more.
const MAX_WAIT: Duration = Duration::from_secs(7 * 86_400);

/// What the settings give to a schedule without `[run]`.
pub(super) fn default(defaults: &Defaults) -> Run {
    Run {
        priority: defaults.priority,
        queue: defaults.queue.clone(),
        timeout: defaults.timeout,
        total_timeout: None,
        overlap: Overlap::default(),
        retry: defaults.retry.clone(),
        requires: Vec::new(),
        requires_wait: None,
        labels: Labels::new(),
        concurrency: None,
        limited_kind: false,
        node: NodeChoice::Any,
    }
}

/// Reads `[run]`.
pub(super) fn read(
    mut table: Table<'_, '_>,
    defaults: &Defaults,
    references: &mut Vec<Reference>,
    findings: &mut Findings<'_>,
) -> Run {
    let mut run = default(defaults);
    if let Some(priority) = table.get("priority").and_then(|item| priority(&item, findings)) {
        run.priority = priority;
    }
    if let Some(queue) = table.get("queue").and_then(|item| queue(&item, findings)) {
        run.queue = queue;
    }
    if let Some(timeout) = table.get("timeout").and_then(|item| timeout(&item, findings)) {
        run.timeout = Some(timeout);
    }
    run.total_timeout =
        table.get("total_timeout").and_then(|item| some_time(&item, "for no limit", findings));
    let overlaps = [
        ("skip", Overlap::Skip),
        ("queue_one", Overlap::QueueOne),
        ("queue_all", Overlap::QueueAll),
        ("cancel_previous", Overlap::CancelPrevious),
        ("allow", Overlap::Allow),
    ];
    if let Some(overlap) = table.get("overlap").and_then(|item| item.choice(&overlaps, findings)) {
        run.overlap = overlap;
    }
    if let Some(item) = table.get("retries") {
        run.retry = retry::read(&item, &defaults.retry, findings);
    }
    if let Some(item) = table.get("requires") {
        let items = item.list("a list like [\"path:/data\"]", findings);
        run.requires =
            items.iter().filter_map(|item| requirement(item, references, findings)).collect();
    }
    if let Some(item) = table.get("requires_wait") {
        run.requires_wait = wait(&item, findings);
        if run.requires.is_empty() {
            item.bad_value("belongs to `requires`, which has nothing to wait for", findings);
        }
    }
    if let Some(item) = table.get("labels") {
        run.labels = labels(&item, findings);
    }
    if let Some(node) = table.get("node").and_then(|item| node(&item, findings)) {
        run.node = node;
    }
    let group = table.get("group").and_then(|item| group(&item, findings));
    if let Some(item) = table.get("concurrency") {
        if group.is_some() {
            item.bad_value(
                "a group is a concurrency of one already; only one of them can be meant",
                findings,
            );
        }
        run.concurrency = concurrency(&item, findings);
    }
    run.concurrency = group.or(run.concurrency);
    table.refuse(
        &[("history", "set `retention` in sexton.toml, which holds for all schedules")],
        findings,
    );
    table.finish(findings);
    run
}

pub(super) fn priority(item: &Item<'_, '_>, findings: &mut Findings<'_>) -> Option<Priority> {
    if item.value.get_ref().is_integer() {
        let level = item.integer(1, 10, findings)?;
        return Priority::new(i64::from(level)).ok();
    }
    item.parse("low, normal, high, critical or a number from 1 to 10", findings)
}

pub(super) fn queue(item: &Item<'_, '_>, findings: &mut Findings<'_>) -> Option<String> {
    let name = item.text("the name of a queue", findings)?;
    // The same rule as in the settings and over HTTP: a queue that they cannot name could be neither limited nor paused.
    if name.parse::<ScheduleId>().is_err() {
        let message = format!(
            "`{}` cannot be a queue's name: use 1 to 64 of a-z, 0-9, `-` and `_`, starting with a letter or digit",
            name.escape_debug()
        );
        item.bad_value(message, findings);
        return None;
    }
    Some(name.to_owned())
}

pub(super) fn timeout(item: &Item<'_, '_>, findings: &mut Findings<'_>) -> Option<HumanDuration> {
    some_time(item, "for that of its queue or of the settings", findings)
}

/// A length of time that is not nothing. `left_out` says what leaving it out is for.
fn some_time(
    item: &Item<'_, '_>,
    left_out: &str,
    findings: &mut Findings<'_>,
) -> Option<HumanDuration> {
    let time: HumanDuration = item.parse("a length of time like \"30m\"", findings)?;
    if time.get().is_zero() {
        let message = format!("must be longer than nothing; leave it out {left_out}");
        item.bad_value(message, findings);
        return None;
    }
    Some(time)
}

/// `node = "any"`, `"every"`, a node's name, or `"label:gpu"`.
fn node(item: &Item<'_, '_>, findings: &mut Findings<'_>) -> Option<NodeChoice> {
    let text = item.text("any, every, a node's name, or label:LABEL", findings)?;
    match text.parse() {
        Ok(choice) => Some(choice),
        Err(why) => {
            item.bad_value(why, findings);
            None
        }
    }
}

/// How long an instant waits for its requirements.
fn wait(item: &Item<'_, '_>, findings: &mut Findings<'_>) -> Option<HumanDuration> {
    let wait = some_time(item, "to wait not at all", findings)?;
    if wait.get() > MAX_WAIT {
        let message = format!("{wait} is longer than {}", HumanDuration(MAX_WAIT));
        item.bad_value(message, findings);
        return None;
    }
    Some(wait)
}

/// `group = "nightly"`: of all jobs of the group, one at a time.
fn group(item: &Item<'_, '_>, findings: &mut Findings<'_>) -> Option<Concurrency> {
    let name: ScheduleId = item.parse("the name of a group", findings)?;
    Some(Concurrency { key: format!("group:{name}"), max: 1 })
}

/// `concurrency = { key = "host:a", max = 2 }`.
fn concurrency(item: &Item<'_, '_>, findings: &mut Findings<'_>) -> Option<Concurrency> {
    let mut table = item.table("concurrency", findings)?;
    let (key, max) = (table.get("key"), table.get("max"));
    if key.is_none() || max.is_none() {
        item.bad_value("needs both `key` and `max`", findings);
    }
    table.finish(findings);
    let key = key.and_then(|key| key.text("a text in quotes", findings));
    let max = max.and_then(|max| max.integer(1, Concurrency::MAX, findings));
    let concurrency = Concurrency { key: key?.to_owned(), max: max? };
    match concurrency.problem() {
        Some(problem) => item.bad_value(problem, findings),
        None => return Some(concurrency),
    }
    None
}

fn requirement(
    item: &Item<'_, '_>,
    references: &mut Vec<Reference>,
    findings: &mut Findings<'_>,
) -> Option<Requirement> {
    let expected = "a requirement like \"path:/data\", \"mounted:/data\", \"free:/data>=5GiB\" or \"fresh:backup:24h\"";
    let text = item.text(expected, findings)?;
    if let Some(("fresh", rest)) = text.split_once(':') {
        return fresh(item, rest, references, findings);
    }
    let found = match text.split_once(':') {
        Some(("path", path)) => absolute(path).map(Requirement::Path),
        Some(("mounted", path)) => absolute(path).map(Requirement::Mounted),
        Some(("free", rest)) => rest.rsplit_once(">=").and_then(|(path, size)| {
            let at_least = size.trim().parse().ok()?;
            Some(Requirement::Free { path: absolute(path.trim_end())?, at_least })
        }),
        _ => None,
    };
    if found.is_none() {
        let message = format!("`{}` is not {expected}; paths are absolute", text.escape_debug());
        item.bad_value(message, findings);
    }
    found
}

/// `fresh:backup:24h`, of which `rest` is what follows `fresh:`.
fn fresh(
    item: &Item<'_, '_>,
    rest: &str,
    references: &mut Vec<Reference>,
    findings: &mut Findings<'_>,
) -> Option<Requirement> {
    let Some((schedule, within)) = rest.split_once(':') else {
        item.bad_value(
            "write `fresh:` with a schedule and a length of time, like \"fresh:backup:24h\"",
            findings,
        );
        return None;
    };
    let schedule: ScheduleId = match schedule.parse() {
        Ok(schedule) => schedule,
        Err(error) => {
            item.bad_value(error.to_string(), findings);
            return None;
        }
    };
    match within.parse::<HumanDuration>() {
        Ok(within) if !within.get().is_zero() => {
            let place = findings.source().place(&item.span());
            references.push(Reference { schedule: schedule.clone(), place });
            return Some(Requirement::Fresh { schedule, within });
        }
        Ok(_zero) => item.bad_value("nothing is fresher than no time at all", findings),
        Err(error) => item.bad_value(error.to_string(), findings),
    }
    None
}

fn absolute(path: &str) -> Option<PathBuf> {
    let is_absolute = path.starts_with('/') && !path.chars().any(char::is_control);
    is_absolute.then(|| PathBuf::from(path))
}

fn labels(item: &Item<'_, '_>, findings: &mut Findings<'_>) -> Labels {
    let Some(table) = item.table("labels", findings) else { return Labels::new() };
    let mut labels = Labels::new();
    for entry in table.others() {
        let Some(value) = entry.text("a text in quotes", findings) else { continue };
        if let Some(problem) = label_problem(&entry.name, value) {
            entry.bad_value(problem, findings);
        }
        labels.insert(entry.name, value.to_owned());
    }
    if labels.len() > MAX_LABELS {
        item.bad_value(format!("more than {MAX_LABELS} labels"), findings);
    }
    labels
}
