//! The settings worked out: globs and patterns compiled, and for every path the one answer to "what holds for it".

use globset::{Glob, GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};
use regex::Regex;

use super::finding::{Level, Levels};
use super::params::{Bom, Check, Encoding, FrontMatter, KbValidation, Links, Table};
use super::path;
use super::rule::Rule;
use super::select::Selector;
use crate::jobs::Problem;

/// The settings, ready to be used.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) required: Vec<GlobMatcher>,
    pub(super) forbid: GlobSet,
    pub(super) exclude: GlobSet,
    pub(super) names: Option<Regex>,
    checks: Vec<PlannedCheck>,
    levels: Levels,
    encoding: Encoding,
}

/// One `[[check]]`, ready to be used.
#[derive(Debug)]
pub(super) struct PlannedCheck {
    matches: GlobMatcher,
    pub(super) settings: Check,
    pub(super) unique: Vec<Selector>,
}

/// What holds for one path.
#[derive(Debug)]
pub(super) struct Profile<'a> {
    pub(super) checks: Vec<&'a PlannedCheck>,
    pub(super) levels: Levels,
    pub(super) format: Option<Format>,
    /// Whether the rules about text hold.
    pub(super) is_text: bool,
    pub(super) must_be_utf8: bool,
}

/// How a file is parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Yaml,
    Toml,
    /// With the byte that separates cells.
    Table(u8),
    Markdown,
}

/// Extensions of files that are text beside those that are parsed.
const TEXT_EXTENSIONS: [&str; 14] = [
    "txt", "rst", "adoc", "org", "html", "htm", "xml", "svg", "ini", "cfg", "conf", "ndjson",
    "jsonl", "tex",
];

impl Plan {
    /// Works the settings out.
    ///
    /// # Errors
    /// Everything in them that makes no sense, each with its place.
    pub(super) fn new(params: &KbValidation) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        if params.root.trim().is_empty() {
            problems.push(Problem::at("root", "the folder to validate has no name"));
        }
        let required = globs("required", &params.required, &mut problems);
        let forbid = globs("forbid", &params.forbid, &mut problems);
        let exclude = globs("exclude", &params.exclude, &mut problems);
        if !(1..=MAX_FINDINGS).contains(&params.max_findings) {
            let message = format!("must be between 1 and {MAX_FINDINGS}");
            problems.push(Problem::at("max_findings", message));
        }
        let names = params.files.names.as_deref().and_then(|pattern| {
            Regex::new(pattern)
                .map_err(|error| problems.push(Problem::at("files.names", error.to_string())))
                .ok()
        });
        let checks = params
            .check
            .iter()
            .enumerate()
            .filter_map(|(number, check)| {
                PlannedCheck::new(&format!("check.{number}"), check, &mut problems)
            })
            .collect();
        if let Some(checksums) = &params.checksums {
            below_root("checksums.manifest", &checksums.manifest, &mut problems);
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self {
            required: required.iter().map(Glob::compile_matcher).collect(),
            forbid: set("forbid", &forbid)?,
            exclude: set("exclude", &exclude)?,
            names,
            checks,
            levels: levels_for_all(params),
            encoding: params.files.encoding,
        })
    }

    /// What holds for a path. A later check overrides the severities of an earlier one.
    pub(super) fn profile(&self, path: &str) -> Profile<'_> {
        let checks: Vec<&PlannedCheck> =
            self.checks.iter().filter(|check| check.matches.is_match(path)).collect();
        let mut levels = self.levels.clone();
        for check in &checks {
            check.put_levels_into(&mut levels);
        }
        let extension = path::extension(path).to_ascii_lowercase();
        let format = format_of(&extension, &checks);
        let is_text = format.is_some() || TEXT_EXTENSIONS.contains(&extension.as_str());
        let must_be_utf8 = format.is_some() || self.encoding == Encoding::Utf8;
        Profile { checks, levels, format, is_text, must_be_utf8 }
    }
}

impl Profile<'_> {
    /// The schemas the file is held against, each with whether the path was made from the file's own name.
    pub(super) fn schemas(&self, path: &str) -> Vec<(String, bool)> {
        if !matches!(self.format, Some(Format::Json | Format::Yaml | Format::Toml)) {
            return Vec::new();
        }
        let templates = self.checks.iter().filter_map(|check| check.settings.schema.as_deref());
        templates
            .map(|template| (template.replace(STEM, path::stem(path)), template.contains(STEM)))
            .collect()
    }

    /// The links to follow: those any check asks for, or all where none says.
    pub(super) fn links(&self) -> Links {
        let asked: Vec<Links> =
            self.checks.iter().filter_map(|check| check.settings.links).collect();
        if asked.is_empty() {
            return Links::default();
        }
        Links {
            local: asked.iter().any(|links| links.local),
            anchors: asked.iter().any(|links| links.anchors),
            images: asked.iter().any(|links| links.images),
        }
    }

    pub(super) fn front_matter(&self) -> impl Iterator<Item = &FrontMatter> {
        self.checks.iter().filter_map(|check| check.settings.front_matter.as_ref())
    }

    pub(super) fn reports_orphans(&self) -> bool {
        self.checks.iter().any(|check| check.settings.orphans.is_some())
    }
}

/// Stands for a file's name without its last extension.
const STEM: &str = "{stem}";

/// More would make the result too large to be kept.
const MAX_FINDINGS: usize = 100_000;

impl PlannedCheck {
    fn new(place: &str, check: &Check, problems: &mut Vec<Problem>) -> Option<Self> {
        let glob = compile(&format!("{place}.match"), &check.r#match, problems);
        if let Some(schema) = &check.schema {
            below_root(&format!("{place}.schema"), schema, problems);
        }
        let mut unique = Vec::new();
        for (number, written) in check.unique.iter().enumerate() {
            match written.parse() {
                Ok(selector) => unique.push(selector),
                Err(error) => {
                    problems.push(Problem::at(&format!("{place}.unique.{number}"), error));
                }
            }
        }
        if let Some(table) = &check.table {
            table_problems(&format!("{place}.table"), table, problems);
        }
        Some(Self { matches: glob?.compile_matcher(), settings: check.clone(), unique })
    }

    fn put_levels_into(&self, levels: &mut Levels) {
        if let Some(level) = self.settings.duplicate_keys {
            levels.set(Rule::DuplicateKey, level);
        }
        if let Some(level) = self.settings.orphans {
            levels.set(Rule::Orphan, level);
        }
        for (rule, level) in &self.settings.rules {
            levels.set(*rule, *level);
        }
    }
}

fn levels_for_all(params: &KbValidation) -> Levels {
    let mut levels = Levels::default();
    levels.set(Rule::EmptyFile, params.files.empty.unwrap_or(Level::Off));
    if let Some(level) = params.files.nul_bytes {
        levels.set(Rule::NulByte, level);
    }
    match params.files.bom {
        Some(Bom::Allow) => levels.set(Rule::Bom, Level::Off),
        Some(Bom::Forbid) => levels.set(Rule::Bom, Level::Error),
        None => {}
    }
    if let Some(checksums) = &params.checksums {
        levels.set(Rule::ChecksumUnlisted, checksums.unlisted);
    }
    if let Some(duplicates) = &params.duplicates {
        levels.set(Rule::DuplicateContent, duplicates.severity);
    }
    levels
}

fn format_of(extension: &str, checks: &[&PlannedCheck]) -> Option<Format> {
    let table = checks.iter().find_map(|check| check.settings.table.as_ref());
    let delimiter = |default: u8| {
        let chosen = table.and_then(|table| table.delimiter);
        Format::Table(chosen.and_then(|c| u8::try_from(c).ok()).unwrap_or(default))
    };
    match extension {
        "json" | "geojson" | "webmanifest" => Some(Format::Json),
        "yaml" | "yml" => Some(Format::Yaml),
        "toml" => Some(Format::Toml),
        "csv" => Some(delimiter(b',')),
        "tsv" => Some(delimiter(b'\t')),
        "md" | "markdown" => Some(Format::Markdown),
        _ => table.map(|_| delimiter(b',')),
    }
}

fn table_problems(place: &str, table: &Table, problems: &mut Vec<Problem>) {
    let is_usable = |c: char| c.is_ascii() && !matches!(c, '"' | '\n' | '\r' | '\0');
    if table.delimiter.is_some_and(|c| !is_usable(c)) {
        let place = format!("{place}.delimiter");
        problems.push(Problem::at(
            &place,
            "must be one ASCII character other than a quote or line end",
        ));
    }
    if table.rows.is_some_and(|(fewest, most)| fewest > most) {
        let problem =
            Problem::at(&format!("{place}.rows"), "the fewest rows are more than the most");
        problems.push(problem.help("write [fewest, most]"));
    }
    if !(0.0..=1.0).contains(&table.bad_rows_max) {
        let problem =
            Problem::at(&format!("{place}.bad_rows_max"), "must be a share between 0 and 1");
        problems.push(problem.help("one row in a thousand is 0.001"));
    }
}

fn below_root(place: &str, written: &str, problems: &mut Vec<Problem>) {
    if path::resolve("", written).is_none_or(|path| path.is_empty()) || written.starts_with('/') {
        let message = format!("`{}` is not a path below the root", written.escape_default());
        problems.push(
            Problem::at(place, message).help("write it relative to `root`, without leaving it"),
        );
    }
}

fn globs(place: &str, patterns: &[String], problems: &mut Vec<Problem>) -> Vec<Glob> {
    let numbered = patterns.iter().enumerate();
    numbered
        .filter_map(|(number, pattern)| compile(&format!("{place}.{number}"), pattern, problems))
        .collect()
}

fn compile(place: &str, pattern: &str, problems: &mut Vec<Problem>) -> Option<Glob> {
    // As in shells and .gitignore: `*` stays within a folder, `**` goes across.
    let glob = GlobBuilder::new(pattern).literal_separator(true).backslash_escape(true).build();
    glob.map_err(|error| problems.push(Problem::at(place, error.to_string()))).ok()
}

fn set(place: &str, globs: &[Glob]) -> Result<GlobSet, Vec<Problem>> {
    let mut builder = GlobSetBuilder::new();
    for glob in globs {
        builder.add(glob.clone());
    }
    builder.build().map_err(|error| vec![Problem::at(place, error.to_string())])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::finding::Severity;
    use super::*;

    fn plan(params: serde_json::Value) -> Plan {
        Plan::new(&serde_json::from_value(params).unwrap()).unwrap()
    }

    #[test]
    fn a_path_without_checks_gets_the_defaults_of_its_extension() {
        let plan = plan(json!({"root": "kb", "check": [{"match": "x/**"}]}));
        for (path, format) in [
            ("a.json", Some(Format::Json)),
            ("a/b.YML", Some(Format::Yaml)),
            ("a.tsv", Some(Format::Table(b'\t'))),
            ("readme.md", Some(Format::Markdown)),
            ("logo.png", None),
            ("Makefile", None),
        ] {
            assert_eq!(plan.profile(path).format, format, "{path}");
        }
        assert!(plan.profile("notes.txt").is_text);
        assert!(!plan.profile("logo.png").is_text);
    }

    #[test]
    fn severities_of_a_check_hold_for_its_files_only_and_the_last_one_wins() {
        let plan = plan(json!({"root": "kb", "files": {"bom": "forbid"}, "check": [
            {"match": "**/*.json", "duplicate_keys": "warning", "rules": {"bom": "off"}},
            {"match": "old/**", "duplicate_keys": "info"},
        ]}));
        let severity = |path: &str, rule| plan.profile(path).levels.severity(rule);
        assert_eq!(severity("a.json", Rule::DuplicateKey), Some(Severity::Warning));
        assert_eq!(severity("old/a.json", Rule::DuplicateKey), Some(Severity::Info));
        assert_eq!(severity("a.json", Rule::Bom), None);
        assert_eq!(severity("a.yaml", Rule::Bom), Some(Severity::Error));
        assert_eq!(severity("a.yaml", Rule::EmptyFile), None);
    }

    #[test]
    fn a_schema_follows_the_name_of_its_file() {
        let plan = plan(json!({"root": "kb", "check": [
            {"match": "data/*.json", "schema": "schemas/{stem}.schema.json"},
            {"match": "**/*.json", "schema": "schemas/all.json"},
        ]}));
        let schemas = |path: &str| plan.profile(path).schemas(path);
        let all = ("schemas/all.json".to_owned(), false);
        assert_eq!(
            schemas("data/bom.v2.json"),
            [("schemas/bom.v2.schema.json".to_owned(), true), all.clone()]
        );
        assert_eq!(schemas("x/y.json"), [all]);
        assert_eq!(schemas("x/y.md"), []);
    }
}
