//! The kind table: from TOML to the JSON that a kind's params are, and from a problem in them back to the text.

use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::diagnostic::Code;
use super::findings::{Finding, Findings, Span};
use super::reader::Item;
use crate::jobs::{Kind, Problem, Segment};

/// The deepest nesting of a kind table. No kind has more than a handful of levels.
const MAX_DEPTH: usize = 32;

/// Reads a kind table and lets the kind check it.
pub(super) fn read(item: &Item<'_, '_>, kind: &Kind, findings: &mut Findings<'_>) -> Option<Value> {
    let params = tree(item, findings)?;
    for problem in kind.check(&params) {
        findings.add(located(item, problem));
    }
    warn_of_secrets(item.value, findings);
    Some(params)
}

/// A table as JSON.
pub(super) fn tree(item: &Item<'_, '_>, findings: &mut Findings<'_>) -> Option<Value> {
    item.table(&item.name, findings)?;
    json(item.value, 1, findings)
}

/// `None` when something has no place in JSON, which is reported; the rest is read all the same.
fn json(value: &Spanned<DeValue<'_>>, depth: usize, findings: &mut Findings<'_>) -> Option<Value> {
    if depth > MAX_DEPTH {
        let message = format!("more than {MAX_DEPTH} tables or lists inside each other");
        findings.add(Finding::error(Code::TooDeep, &value.span(), message));
        return None;
    }
    let converted = match value.get_ref() {
        DeValue::String(text) => Some(Value::String(text.to_string())),
        DeValue::Boolean(value) => Some(Value::Bool(*value)),
        DeValue::Datetime(value) => Some(Value::String(value.to_string())),
        DeValue::Integer(written) => i64::from_str_radix(written.as_str(), written.radix())
            .map(Number::from)
            .or_else(|_negative| {
                u64::from_str_radix(written.as_str(), written.radix()).map(Number::from)
            })
            .ok()
            .map(Value::Number),
        DeValue::Float(written) => {
            written.as_str().parse().ok().and_then(Number::from_f64).map(Value::Number)
        }
        DeValue::Array(values) => {
            let items: Vec<Option<Value>> =
                values.iter().map(|value| json(value, depth + 1, findings)).collect();
            return items.into_iter().collect::<Option<Vec<_>>>().map(Value::Array);
        }
        DeValue::Table(table) => return object(table, depth, findings).map(Value::Object),
    };
    if converted.is_none() {
        let message = "this number is too large to be kept exactly, or none at all";
        findings.add(Finding::error(Code::BadValue, &value.span(), message));
    }
    converted
}

fn object(
    table: &DeTable<'_>,
    depth: usize,
    findings: &mut Findings<'_>,
) -> Option<Map<String, Value>> {
    let fields: Vec<Option<(String, Value)>> = table
        .iter()
        .map(|(key, value)| Some((key.get_ref().to_string(), json(value, depth + 1, findings)?)))
        .collect();
    fields.into_iter().collect()
}

/// The kind's problem at its place in the file.
pub(super) fn located(item: &Item<'_, '_>, problem: Problem) -> Finding {
    let is_unknown = problem.message.starts_with("unknown key");
    let (code, message) = match problem.message.strip_prefix("missing field") {
        Some(rest) => (Code::MissingKey, format!("missing key{rest} in [{}]", item.name)),
        None if is_unknown => {
            (Code::UnknownKey, format!("{} in [{}]", problem.message, dotted(item, &problem)))
        }
        None if problem.path.is_empty() => {
            (Code::BadParams, format!("[{}]: {}", item.name, problem.message))
        }
        None => (Code::BadParams, problem.message.clone()),
    };
    let span = locate(item, &problem.path, is_unknown);
    Finding::error(code, &span, message).help(problem.help)
}

/// The tables on the way to the problem's last key: `cleanup.limits`.
fn dotted(item: &Item<'_, '_>, problem: &Problem) -> String {
    let parents = &problem.path[..problem.path.len().saturating_sub(1)];
    let parents = parents.iter().map(ToString::to_string);
    std::iter::once(item.name.clone()).chain(parents).collect::<Vec<_>>().join(".")
}

/// The text of the value at `path`, or of its key where the key is what is wrong. A path that leads nowhere (a key that is
/// missing) ends at the last table on the way.
fn locate(item: &Item<'_, '_>, path: &[Segment], wants_key: bool) -> Span {
    let (mut value, mut span) = (item.value, visible(item.value.span(), &item.key_span));
    for segment in path {
        let (key_span, next) = match (segment, value.get_ref()) {
            (Segment::Key(key), DeValue::Table(table)) => {
                let Some((name, next)) = table.get_key_value(key.as_str()) else { break };
                (name.span(), next)
            }
            (Segment::Index(index), DeValue::Array(values)) => {
                let Some(next) = values.get(*index) else { break };
                (span.clone(), next)
            }
            _ => break,
        };
        span = if wants_key { key_span } else { visible(next.span(), &key_span) };
        value = next;
    }
    span
}

/// A table without a header of its own has no text; its first mention stands for it.
fn visible(span: Span, key_span: &Span) -> Span {
    if span.is_empty() { key_span.clone() } else { span }
}

/// Whether a key of that name holds something that should not be read by everybody who may read the file.
#[must_use]
pub fn is_secret_name(name: &str) -> bool {
    const WORDS: [&str; 8] = [
        "password",
        "passwd",
        "secret",
        "token",
        "api_key",
        "apikey",
        "authorization",
        "credential",
    ];
    let name = name.to_ascii_lowercase().replace('-', "_");
    let last = name.rsplit('.').next().unwrap_or_default();
    WORDS.iter().any(|word| {
        last.strip_suffix(word).is_some_and(|rest| rest.is_empty() || rest.ends_with('_'))
    })
}

/// A text that says where the secret is instead of being it.
const REFERENCES: [&str; 3] = ["credential:", "file:", "env:"];

fn warn_of_secrets(value: &Spanned<DeValue<'_>>, findings: &mut Findings<'_>) {
    match value.get_ref() {
        DeValue::Table(table) => {
            for (key, value) in table {
                let is_inline = value.get_ref().as_str().is_some_and(|text| {
                    !text.is_empty() && !REFERENCES.iter().any(|prefix| text.starts_with(prefix))
                });
                if is_secret_name(key.get_ref()) && is_inline {
                    let message = format!(
                        "`{}` holds its secret in plain text",
                        key.get_ref().escape_debug()
                    );
                    let help = "put it elsewhere and write credential:NAME, file:PATH or env:NAME";
                    findings.add(
                        Finding::warning(Code::InlineSecret, &key.span(), message)
                            .help(help.to_owned()),
                    );
                } else {
                    warn_of_secrets(value, findings);
                }
            }
        }
        DeValue::Array(values) => {
            for value in values {
                warn_of_secrets(value, findings);
            }
        }
        _ => {}
    }
}
