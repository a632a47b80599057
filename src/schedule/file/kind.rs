//! The kind file: from text to a kind that jobs can be of, or to everything that is wrong with it.
//!
//! It is read with the same means as a schedule file, and its `[run]` and `[command]` are written alike.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::super::diagnostic::{Code, Diagnostic};
use super::findings::{Finding, Findings};
use super::reader::{Item, Table};
use super::source::SourceText;
use super::{MAX_LINE_CHARS, add_syntax_errors, params, read_toml, retry, run};
use crate::jobs::command::{self, CommandParams};
use crate::jobs::{Declared, ItemRuns, JobDefaults, KINDS, Kind, Origin, Schema, parse_params};
use crate::model::{Concurrency, RetryPolicy, ScheduleId};

/// What a kind file says.
#[derive(Debug, Clone)]
pub struct ParsedKind {
    /// Its kind; none when the file has an error.
    pub kind: Option<Kind>,
    /// Everything that is wrong with it, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads a kind file, whose stem is the kind's name.
#[must_use]
pub fn parse_kind(file: &Arc<Path>, text: &str) -> ParsedKind {
    let source = SourceText::new(text.strip_prefix('\u{feff}').unwrap_or(text));
    let mut findings = Findings::new(file, &source);
    if super::refuse_depth(&source, &mut findings) {
        return ParsedKind { kind: None, diagnostics: findings.into_diagnostics() };
    }
    let (document, syntax_errors) = read_toml(source.text());
    let root = Table::new("the file", 0..0, document.get_ref());
    let declared = declared(file, text, root, &mut findings);
    let name = name(file, &mut findings);
    add_syntax_errors(&syntax_errors, &mut findings);
    let is_sound = findings.error_count() == 0;
    let kind = name.zip(declared).filter(|_| is_sound).map(|(name, (summary, declared))| Kind {
        name: name.into(),
        summary: summary.into(),
        origin: Origin::File(Arc::new(declared)),
    });
    ParsedKind { kind, diagnostics: findings.into_diagnostics() }
}

/// `kinds/generate_pdf.toml` is `generate_pdf`. The names of a schedule's own keys are taken, because a kind's name is one as well.
fn name(file: &Path, findings: &mut Findings<'_>) -> Option<String> {
    const TAKEN: [&str; 11] = [
        "id",
        "description",
        "enabled",
        "tags",
        "owner",
        "runbook",
        "when",
        "run",
        "notify",
        "test",
        "schedule",
    ];
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let is_built_in = KINDS.iter().any(|kind| kind.name == stem);
    let why = match stem.parse::<ScheduleId>() {
        Err(_) => {
            "a kind's name has 1 to 64 of a-z, 0-9, `-` and `_` and starts with a letter or digit"
        }
        Ok(_) if is_built_in => "this is the name of a built-in kind",
        Ok(_) if TAKEN.contains(&stem.as_str()) => "this is a key of a schedule file",
        Ok(_) => return Some(stem),
    };
    let message = format!(
        "the file's name is its kind's, and `{}` cannot be one: {why}",
        stem.escape_debug()
    );
    findings.add(Finding::error(Code::BadId, &(0..0), message).help("rename the file".to_owned()));
    None
}

fn declared(
    file: &Arc<Path>,
    text: &str,
    mut root: Table<'_, '_>,
    findings: &mut Findings<'_>,
) -> Option<(String, Declared)> {
    let summary = root.get("description").and_then(|item| item.line(MAX_LINE_CHARS, findings));
    let defaults = match root.get("run").and_then(|item| item.table("[run]", findings)) {
        Some(table) => defaults(table, findings),
        None => JobDefaults::default(),
    };
    let command = match root.get("command") {
        Some(item) => command(file, &item, findings),
        None => {
            missing(
                &root,
                "[command]",
                "the program that does the work: argv = [\"./program\"]",
                findings,
            );
            None
        }
    };
    let schema = match root.get("params") {
        Some(item) => schema(&item, findings),
        None => {
            missing(
                &root,
                "[params]",
                "a JSON Schema of its params, such as type = \"object\"",
                findings,
            );
            None
        }
    };
    let items = root.get("items").map(|item| item_runs(&item, schema.as_ref(), findings));
    root.finish(findings);
    let hash = blake3::hash(text.as_bytes());
    let (file, items) = (Arc::clone(file), items.unwrap_or_default());
    let declared = Declared { file, hash, command: command?, schema: schema?, defaults, items };
    Some((summary.unwrap_or_default(), declared))
}

/// How a batch of the kind is run. With one run for all items the program finds them beside its params.
fn item_runs(
    item: &Item<'_, '_>,
    schema: Option<&Schema>,
    findings: &mut Findings<'_>,
) -> ItemRuns {
    match item.text("\"each\" or \"all\"", findings) {
        None | Some("each") => ItemRuns::Each,
        Some("all") => {
            if schema.is_some_and(|schema| schema.document().pointer("/properties/items").is_some())
            {
                let message = "the program gets the items of a batch as `items`, so none of its params can be called that";
                findings.add(
                    Finding::error(Code::BadValue, &item.span(), message)
                        .help("give the param `items` another name".to_owned()),
                );
            }
            ItemRuns::All
        }
        Some(_other) => {
            let message =
                "a batch has a run for each item (\"each\") or one for all of them (\"all\")";
            findings.add(Finding::error(Code::BadValue, &item.span(), message));
            ItemRuns::Each
        }
    }
}

fn missing(root: &Table<'_, '_>, table: &str, what: &str, findings: &mut Findings<'_>) {
    let message = format!("a kind needs {table}");
    findings
        .add(Finding::error(Code::MissingKey, root.span(), message).help(format!("write {what}")));
}

fn defaults(mut table: Table<'_, '_>, findings: &mut Findings<'_>) -> JobDefaults {
    let defaults = JobDefaults {
        queue: table.get("queue").and_then(|item| run::queue(&item, findings)),
        priority: table.get("priority").and_then(|item| run::priority(&item, findings)),
        timeout: table.get("timeout").and_then(|item| run::timeout(&item, findings)),
        retry: table
            .get("retries")
            .map(|item| retry::read(&item, &RetryPolicy::default(), findings)),
        concurrency: table
            .get("concurrency")
            .and_then(|item| item.integer(1, Concurrency::MAX, findings)),
        rate: table.get("rate").and_then(|item| item.parse("a rate like \"60/m\"", findings)),
        breaker: table
            .get("breaker")
            .and_then(|item| item.parse("a breaker like \"5 in 1m for 10m\"", findings)),
    };
    table.finish(findings);
    defaults
}

/// `[command]` without `input`, which is what each job brings. A program that is named by a relative path lies beside the kind's file.
fn command(file: &Path, item: &Item<'_, '_>, findings: &mut Findings<'_>) -> Option<CommandParams> {
    let mut value = params::read(item, &command::KIND, findings)?;
    if let Some(mut table) = item.table(&item.name, findings)
        && let Some(input) = table.get("input")
    {
        let message = "`input` is what each job of the kind brings: its params";
        findings.add(Finding::error(Code::StrayHeader, &input.key_span, message));
    }
    if let Some(Value::String(program)) = value.pointer_mut("/argv/0")
        && program.contains('/')
    {
        let folder = file.parent().unwrap_or(Path::new(""));
        let beside = program.trim_start_matches("./");
        *program = folder.join(beside).to_string_lossy().into_owned();
    }
    parse_params(&value).ok()
}

fn schema(item: &Item<'_, '_>, findings: &mut Findings<'_>) -> Option<Schema> {
    let document = params::tree(item, findings)?;
    match Schema::new(document) {
        Ok(schema) => Some(schema),
        Err(problem) => {
            findings.add(params::located(item, problem));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::diagnostic::{Look, render_all};
    use super::*;
    use crate::model::Priority;

    const GOOD: &str = r#"
description = "Generates a PDF"

[run]
queue = "documents"
priority = "high"
timeout = "10m"
rate = "30/m burst 5"
breaker = "5 in 1m for 10m"
retries = { max = 2, delays = ["1s", "2s"] }

[command]
argv = ["./bin/pdf", "--fast"]
final_codes = [65]

[params]
type = "object"
required = ["source"]
properties.source.type = "string"
"#;

    fn parse(name: &str, text: &str) -> ParsedKind {
        parse_kind(&Path::new(&format!("/etc/sexton/kinds/{name}.toml")).into(), text)
    }

    #[test]
    fn a_kind_file_declares_a_program_its_params_and_what_its_jobs_get() {
        let parsed = parse("generate_pdf", GOOD);
        assert_eq!(parsed.diagnostics, []);
        let kind = parsed.kind.unwrap();
        assert_eq!((&*kind.name, &*kind.summary), ("generate_pdf", "Generates a PDF"));
        let defaults = kind.defaults();
        assert_eq!(defaults.queue.as_deref(), Some("documents"));
        assert_eq!(defaults.priority, Some(Priority::new(8).unwrap()));
        assert_eq!(defaults.rate, Some("30/m burst 5".parse().unwrap()));
        assert_eq!(defaults.breaker, Some("5 in 1m for 10m".parse().unwrap()));
        assert_eq!(defaults.retry.as_ref().unwrap().max_attempts, 3);
        let declared = kind.declared().unwrap();
        assert_eq!(declared.command.argv, ["/etc/sexton/kinds/bin/pdf", "--fast"]);
        assert_eq!(kind.check(&json!({ "source": "a.md" })), []);
        assert_eq!(kind.check(&json!({ "source": 1 }))[0].pointer(), "/source");
        assert_eq!(kind.check(&json!([])).len(), 1, "a list is no set of named params");
    }

    #[test]
    fn everything_wrong_with_a_kind_file_is_told_at_its_place() {
        let text = GOOD
            .replace("\"high\"", "\"higher\"")
            .replace("30/m", "30 a minute")
            .replace("5 in 1m for 10m", "5 in 1m, 10m")
            .replace("final_codes = [65]", "final_code = [65]\ninput = {}")
            .replace("type = \"string\"", "type = \"strin\"");
        let parsed = parse("generate_pdf", &text);
        assert!(parsed.kind.is_none());
        insta::assert_snapshot!(render_all(&parsed.diagnostics, Look::Plain));
    }

    #[test]
    fn a_kind_cannot_take_the_name_of_something_else() {
        for name in ["command", "when", "Generate", "a b"] {
            let parsed = parse(name, GOOD);
            assert!(parsed.kind.is_none(), "{name}");
            assert_eq!(parsed.diagnostics[0].code, Code::BadId, "{name}");
        }
    }

    #[test]
    fn a_kind_says_whether_a_batch_has_one_run_or_one_for_each_item() {
        let runs = |line: &str| {
            let parsed = parse("x", &format!("{line}\n{GOOD}"));
            let codes: Vec<Code> = parsed.diagnostics.iter().map(|found| found.code).collect();
            (parsed.kind.map(|kind| kind.declared().unwrap().items), codes)
        };
        assert_eq!(runs(""), (Some(ItemRuns::Each), vec![]));
        assert_eq!(runs("items = \"each\""), (Some(ItemRuns::Each), vec![]));
        assert_eq!(runs("items = \"all\""), (Some(ItemRuns::All), vec![]));
        assert_eq!(runs("items = \"none\""), (None, vec![Code::BadValue]));
        let clash = GOOD.replace("source", "items");
        let parsed = parse("x", &format!("items = \"all\"\n{clash}"));
        assert_eq!(
            parsed.diagnostics[0].code,
            Code::BadValue,
            "the program could not tell them apart"
        );
    }

    #[test]
    fn a_kind_without_a_program_or_params_is_refused() {
        let parsed = parse("x", "description = \"x\"\n");
        assert!(parsed.kind.is_none());
        assert_eq!(parsed.diagnostics.len(), 2);
    }
}
