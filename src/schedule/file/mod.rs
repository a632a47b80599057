//! The schedule file: from text to definitions, or to everything that is wrong with it.
//!
//! A file with an error yields no schedule at all, so that half an edit never runs.

mod depth;
mod findings;
mod instant;
mod kind;
mod params;
mod reader;
mod retry;
mod run;
mod source;
mod syntax;
mod when;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use toml::de::DeTable;

pub use depth::too_deep;
pub use kind::{ParsedKind, parse_kind};
pub use params::is_secret_name;
pub use source::{MAX_FILE_BYTES, NotText, text_of};
pub use syntax::read_toml;

use self::findings::{Finding, Findings, Span};
use self::reader::{Item, Table, quoted};
use self::source::SourceText;
use super::definition::{
    CatchUp, CatchUpPolicy, ContentHash, Defaults, Overlap, Schedule, Source, When,
};
use super::diagnostic::{Code, Diagnostic};
use super::fields;
use crate::jobs::{Kind, suggest};
use crate::model::{JsonText, ScheduleId};

/// The most `[[schedule]]` entries of one file.
pub const MAX_SCHEDULES: usize = 10_000;
/// The longest text of a header key, in characters.
const MAX_DESCRIPTION_CHARS: usize = 2000;
const MAX_LINE_CHARS: usize = 500;
const MAX_TAGS: usize = 32;

/// What a file says.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// Its schedules; empty when the file has an error.
    pub schedules: Vec<Schedule>,
    /// Everything that is wrong with it, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

impl Parsed {
    /// Whether the file cannot be used.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }
}

/// Reads a schedule file.
///
/// `file` is how the file is called in messages, and its stem is the id of a schedule that has a file for itself. `now` decides
/// nothing but warnings.
#[must_use]
pub fn parse_file(
    file: &Arc<Path>,
    text: &str,
    defaults: &Defaults,
    kinds: &[Kind],
    now: Timestamp,
) -> Parsed {
    let source = SourceText::new(text.strip_prefix('\u{feff}').unwrap_or(text));
    let mut findings = Findings::new(file, &source);
    if refuse_depth(&source, &mut findings) {
        return Parsed { schedules: Vec::new(), diagnostics: findings.into_diagnostics() };
    }
    let (document, syntax_errors) = read_toml(source.text());

    let mut schedules =
        Reading { file, defaults, kinds, now }.document(document.get_ref(), &mut findings);

    add_syntax_errors(&syntax_errors, &mut findings);
    if findings.error_count() > 0 {
        schedules.clear();
    }
    Parsed { schedules, diagnostics: findings.into_diagnostics() }
}

/// Whether the file is nested too deep to be read at all, which is a finding.
fn refuse_depth(source: &SourceText<'_>, findings: &mut Findings<'_>) -> bool {
    let Some(offset) = depth::too_deep(source.text()) else { return false };
    let message = "tables and lists inside each other without end";
    findings.add(Finding::error(Code::TooDeep, &(offset..offset + 1), message));
    true
}

/// Adds what the parser of TOML could not read, and drops what was found behind the first such place.
fn add_syntax_errors(errors: &[toml::de::Error], findings: &mut Findings<'_>) {
    let first_break = errors.iter().map(|error| error.span().map_or(0, |span| span.start));
    if let Some(offset) = first_break.min() {
        findings.trust_only_before(offset);
    }
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        findings.add(Finding::error(Code::Syntax, &span, error.message()));
    }
}

/// What stays the same while a file is read.
struct Reading<'a> {
    file: &'a Arc<Path>,
    defaults: &'a Defaults,
    kinds: &'a [Kind],
    now: Timestamp,
}

impl Reading<'_> {
    fn document(&self, document: &DeTable<'_>, findings: &mut Findings<'_>) -> Vec<Schedule> {
        let mut root = Table::new("the file", 0..0, document);
        match root.get("schedule") {
            Some(entries) => {
                self.refuse_beside_entries(&root, findings);
                self.entries(&entries, findings)
            }
            None => {
                let id = self.id_from_file_name(findings);
                let schedule = self.schedule(id, root, 1, findings);
                schedule.into_iter().collect()
            }
        }
    }

    /// `schedules/cleanup-tmp.toml` is `cleanup-tmp`.
    fn id_from_file_name(&self, findings: &mut Findings<'_>) -> Option<ScheduleId> {
        let stem = self.file.file_stem().unwrap_or_default().to_string_lossy();
        let id = stem.parse::<ScheduleId>();
        id.map_err(|error| {
            let message = format!("the file's name is its schedule's: {error}");
            findings.add(
                Finding::error(Code::BadId, &(0..0), message)
                    .help("rename the file, or write [[schedule]] with an `id`".to_owned()),
            );
        })
        .ok()
    }

    fn refuse_beside_entries(&self, root: &Table<'_, '_>, findings: &mut Findings<'_>) {
        for item in root.others() {
            let message = format!("`{}` beside [[schedule]]", item.name.escape_debug());
            findings.add(Finding::error(Code::StrayHeader, &item.key_span, message).help(
                "in a file with [[schedule]], every setting belongs to one of them".to_owned(),
            ));
        }
    }

    fn entries(&self, entries: &Item<'_, '_>, findings: &mut Findings<'_>) -> Vec<Schedule> {
        let items = entries.list("a list of tables: [[schedule]]", findings);
        if items.is_empty() {
            entries.bad_value("needs at least one entry", findings);
        }
        if items.len() > MAX_SCHEDULES {
            let message = format!("more than {MAX_SCHEDULES} schedules in one file");
            findings.add(Finding::error(Code::TooMany, &items[MAX_SCHEDULES].span(), message));
        }
        let mut schedules = Vec::new();
        let mut lines: BTreeMap<ScheduleId, u32> = BTreeMap::new();
        for item in items.iter().take(MAX_SCHEDULES) {
            let Some(mut table) = item.table("[[schedule]]", findings) else { continue };
            let line = findings.source().line(item.span().start);
            let id = self.id_of_entry(&mut table, findings);
            if let Some((id, span)) = &id
                && let Some(first) = lines.insert(id.clone(), line)
            {
                let message = format!("`{id}` is already defined in line {first}");
                findings.add(Finding::error(Code::DuplicateId, span, message));
            }
            schedules.extend(self.schedule(id.map(|(id, _)| id), table, line, findings));
        }
        schedules
    }

    fn id_of_entry(
        &self,
        table: &mut Table<'_, '_>,
        findings: &mut Findings<'_>,
    ) -> Option<(ScheduleId, Span)> {
        let Some(item) = table.get("id") else {
            let message = "an entry of [[schedule]] needs an `id`";
            findings.add(Finding::error(Code::MissingKey, table.span(), message));
            return None;
        };
        match item.text("a name like \"cleanup-tmp\"", findings)?.parse() {
            Ok(id) => Some((id, item.span())),
            Err(error) => {
                findings.add(Finding::error(Code::BadId, &item.span(), error.to_string()));
                None
            }
        }
    }

    fn schedule(
        &self,
        id: Option<ScheduleId>,
        mut table: Table<'_, '_>,
        line: u32,
        findings: &mut Findings<'_>,
    ) -> Option<Schedule> {
        let line_of = |item: Option<Item<'_, '_>>, max, findings: &mut Findings<'_>| {
            item.and_then(|item| item.line(max, findings))
        };
        let description = line_of(table.get("description"), MAX_DESCRIPTION_CHARS, findings);
        let enabled = table.get("enabled").and_then(|item| item.boolean(findings));
        let tags = table.get("tags").map(|item| tags(&item, findings)).unwrap_or_default();
        let owner = line_of(table.get("owner"), MAX_LINE_CHARS, findings);
        let runbook = line_of(table.get("runbook"), MAX_LINE_CHARS, findings);
        // `H` in a cron expression takes its slot from the name. A name that could not be read is reported already, so what
        // stands in for it decides nothing.
        let seed = id.as_ref().map_or("", ScheduleId::as_str);
        let mut references = Vec::new();
        let when = match table.get("when").map(|item| item.table("[when]", findings)) {
            Some(Some(section)) => {
                when::read(section, seed, self.defaults, self.now, &mut references, findings)
            }
            Some(None) | None => when::manual(self.defaults),
        };
        let kind_table = self.kind_table(&mut table, findings);
        let own = kind_table.as_ref().map(|(kind, _)| self.defaults.under(kind.defaults()));
        let defaults = own.as_ref().unwrap_or(self.defaults);
        let mut run = match table.get("run").map(|item| item.table("[run]", findings)) {
            Some(Some(section)) => run::read(section, defaults, &mut references, findings),
            Some(None) | None => run::default(defaults),
        };
        run.limited_kind = kind_table.as_ref().is_some_and(|(kind, _)| kind.declared().is_some());
        if let Some(why) = skipped_catch_up(&when, run.overlap) {
            let finding = Finding::warning(Code::SkippedCatchUp, table.span(), why);
            findings.add(
                finding.help(
                    "write overlap = \"queue_all\" to run them one after the other, or \"allow\""
                        .to_owned(),
                ),
            );
        }
        table.refuse(
            &[
                ("notify", "send notices from the job itself, for now"),
                ("test", "check the next runs with `sexton next`, for now"),
            ],
            findings,
        );
        table.finish(findings);
        let (kind, item) = kind_table?;
        let params = params::read(&item, kind, findings)?;

        let mut schedule = Schedule {
            id: id?,
            source: Source { file: Arc::clone(self.file), line, references: references.into() },
            description: description.unwrap_or_default(),
            enabled: enabled.unwrap_or(true),
            tags,
            owner,
            runbook,
            when,
            run,
            kind: kind.name.clone().into_owned(),
            params: JsonText::from(&params),
            hash: ContentHash::default(),
        };
        schedule.hash = fields::hash(&schedule);
        Some(schedule)
    }

    /// The one table that says what to do.
    fn kind_table<'t, 'i>(
        &self,
        table: &mut Table<'t, 'i>,
        findings: &mut Findings<'_>,
    ) -> Option<(&Kind, Item<'t, 'i>)> {
        let found: Vec<(&Kind, Item<'t, 'i>)> = self
            .kinds
            .iter()
            .filter_map(|kind| Some((kind, table.get(kind.name.clone())?)))
            .collect();
        if let [_, others @ ..] = &found[..] {
            for (kind, item) in others {
                let message = format!("[{}] is the second thing to do in one schedule", kind.name);
                findings.add(
                    Finding::error(Code::KindTable, &item.key_span, message)
                        .help("a schedule does one thing; write two schedules".to_owned()),
                );
            }
        }
        if found.is_empty() {
            let names: Vec<&str> = self.kinds.iter().map(|kind| &*kind.name).collect();
            let unknown = table.others().find(|item| item.value.get_ref().is_table());
            let help = unknown
                .and_then(|item| suggest(&item.name, &names))
                .unwrap_or_else(|| format!("add one table: {}", quoted(&names)));
            let message = "this schedule does not say what to do";
            findings.add(Finding::error(Code::KindTable, table.span(), message).help(help));
        }
        found.into_iter().next()
    }
}

/// Whether what `catch_up` makes is skipped by `overlap`, and how.
fn skipped_catch_up(when: &When, overlap: Overlap) -> Option<String> {
    let CatchUp { policy, max, .. } = when.catch_up;
    let makes_several = policy == CatchUpPolicy::All && max > 1 && !when.rule.triggers.is_empty();
    let which = match overlap {
        Overlap::Skip => "only the first of them runs under overlap = \"skip\"",
        Overlap::QueueOne => "only the first two of them run under overlap = \"queue_one\"",
        Overlap::CancelPrevious => {
            "each of them ends the one before under overlap = \"cancel_previous\""
        }
        Overlap::QueueAll | Overlap::Allow => return None,
    };
    makes_several.then(|| format!("catch_up = \"all\" makes several jobs at once, and {which}"))
}

fn tags(item: &Item<'_, '_>, findings: &mut Findings<'_>) -> Vec<String> {
    let items = item.list("a list like [\"disk\", \"prod\"]", findings);
    if items.len() > MAX_TAGS {
        item.bad_value(format!("more than {MAX_TAGS} tags"), findings);
    }
    let mut tags: Vec<String> =
        items.iter().filter_map(|tag| tag.line(MAX_LINE_CHARS, findings)).collect();
    tags.sort();
    tags.dedup();
    tags
}
