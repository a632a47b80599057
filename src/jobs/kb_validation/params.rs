//! `[kb_validation]` as it is written. What it means is worked out in [`super::plan`].

use std::collections::BTreeMap;

use serde::Deserialize;

use super::finding::{Level, Severity};
use super::plan::Plan;
use super::rule::Rule;
use crate::jobs::{Params, Problem};
use crate::model::{ByteSize, HumanDuration};

/// The params of the kind `kb_validation`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KbValidation {
    /// The folder to validate. A relative one is looked up in the daemon's working directory.
    pub root: String,
    /// From which severity on findings make the job fail.
    #[serde(default)]
    pub fail_on: FailOn,
    /// Globs, each of which must match a file.
    #[serde(default)]
    pub required: Vec<String>,
    /// Globs that must match nothing.
    #[serde(default)]
    pub forbid: Vec<String>,
    /// Globs of what is not looked at; a folder that matches is not entered.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Whether files that did not change since the last run are skipped. Their findings are still reported.
    #[serde(default = "yes")]
    pub changed_only: bool,
    /// How often everything is read and checked again all the same.
    #[serde(default = "a_week")]
    pub full_every: HumanDuration,
    /// How many findings the result lists. All are counted.
    #[serde(default = "a_thousand")]
    pub max_findings: usize,
    /// Rules for every file.
    #[serde(default)]
    pub files: FileRules,
    /// Rules for the files that match.
    #[serde(default)]
    pub check: Vec<Check>,
    /// A manifest to hold the files against.
    pub checksums: Option<Checksums>,
    /// Whether equal files are found.
    pub duplicates: Option<Duplicates>,
}

/// `fail_on`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailOn {
    /// Errors fail the job.
    #[default]
    Error,
    /// Errors and warnings do.
    Warning,
    /// Findings are reported and the job succeeds.
    Never,
}

impl FailOn {
    /// The mildest severity that fails the job.
    #[must_use]
    pub const fn severity(self) -> Option<Severity> {
        match self {
            Self::Error => Some(Severity::Error),
            Self::Warning => Some(Severity::Warning),
            Self::Never => None,
        }
    }
}

/// `[kb_validation.files]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileRules {
    /// The largest a file may be.
    pub max_size: Option<ByteSize>,
    /// What an empty file is; not reported unless this is set.
    pub empty: Option<Level>,
    /// How long ago a file may have been changed last.
    pub max_age: Option<HumanDuration>,
    /// What text files must be encoded in.
    pub encoding: Encoding,
    /// Whether text files may start with a byte order mark; a warning unless this is set.
    pub bom: Option<Bom>,
    /// How lines of text files must end.
    pub newline: Newline,
    /// What a NUL byte in a text file is; an error unless this is set.
    pub nul_bytes: Option<Level>,
    /// A regular expression every path must match.
    pub names: Option<String>,
}

/// `files.encoding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum Encoding {
    /// UTF-8.
    #[default]
    #[serde(rename = "utf-8")]
    Utf8,
    /// Not looked at, except in files that are parsed, which are UTF-8 by their standards.
    #[serde(rename = "any")]
    Any,
}

/// `files.bom`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bom {
    /// It may be there.
    Allow,
    /// It is an error.
    Forbid,
}

/// `files.newline`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Newline {
    /// Not looked at.
    #[default]
    Any,
    /// LF.
    Lf,
    /// CR LF.
    Crlf,
}

/// `[[kb_validation.check]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// A glob of the files this is for.
    pub r#match: String,
    /// A JSON Schema below the root; `{stem}` stands for the file's name without its last extension.
    pub schema: Option<String>,
    /// What a key that comes twice in a JSON object is.
    pub duplicate_keys: Option<Level>,
    /// Paths such as `$.products[*].sku`, whose values must be unique in the file.
    #[serde(default)]
    pub unique: Vec<String>,
    /// Rules for tables.
    pub table: Option<Table>,
    /// Which links of a Markdown file are followed.
    pub links: Option<Links>,
    /// What the front matter of a Markdown file must have.
    pub front_matter: Option<FrontMatter>,
    /// What a page is that no other page links to; not reported unless this is set.
    pub orphans: Option<Level>,
    /// Severities of rules, by id or name.
    #[serde(default)]
    pub rules: BTreeMap<Rule, Level>,
}

/// `[kb_validation.check.table]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Table {
    /// What separates cells: one ASCII character.
    pub delimiter: Option<char>,
    /// Columns that must be there.
    pub required: Vec<String>,
    /// Columns in which no value may come twice.
    pub unique: Vec<String>,
    /// Types of columns. An empty cell fits every type.
    pub types: BTreeMap<String, CellType>,
    /// The fewest and the most rows, not counting the header.
    pub rows: Option<(u64, u64)>,
    /// The share of rows, 0 to 1, that may have the wrong number of cells or cells of the wrong type.
    pub bad_rows_max: f64,
}

/// What the cells of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CellType {
    /// A decimal number: `1`, `-2.5`, `1e6`.
    Number,
    /// A whole number.
    Integer,
    /// A calendar date: `2026-12-31`.
    Date,
    /// `true` or `false`, in any case.
    Bool,
}

/// `links`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Links {
    /// Links to files.
    pub local: bool,
    /// The `#heading` part of links.
    pub anchors: bool,
    /// Images.
    pub images: bool,
}

impl Default for Links {
    fn default() -> Self {
        Self { local: true, anchors: true, images: true }
    }
}

/// `front_matter`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FrontMatter {
    /// Fields that must be there.
    pub required: Vec<String>,
    /// Fields whose values may not come twice among all pages.
    pub unique: Vec<String>,
    /// Fields that must be dates.
    pub dates: Vec<String>,
}

/// `[kb_validation.checksums]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checksums {
    /// A file below the root, in the format of `sha256sum`. Its paths are relative to its own folder.
    pub manifest: String,
    /// What a file that the manifest does not list is.
    #[serde(default = "off")]
    pub unlisted: Level,
}

/// `[kb_validation.duplicates]`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Duplicates {
    /// What makes files equal.
    #[serde(default)]
    pub by: DuplicateBy,
    /// What a duplicate is.
    #[serde(default = "warning")]
    pub severity: Level,
}

/// `duplicates.by`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DuplicateBy {
    /// The same bytes.
    #[default]
    Content,
}

const fn yes() -> bool {
    true
}

const fn off() -> Level {
    Level::Off
}

const fn warning() -> Level {
    Level::Warning
}

const fn a_thousand() -> usize {
    1000
}

const fn a_week() -> HumanDuration {
    HumanDuration::from_secs(7 * 24 * 3600)
}

impl Params for KbValidation {
    fn problems(&self) -> Vec<Problem> {
        Plan::new(self).err().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::jobs::check_as;

    fn problems(params: &Value) -> Vec<String> {
        check_as::<KbValidation>(params).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn everything_the_documentation_shows_is_accepted() {
        let page = include_str!("../../../docs/kinds/kb_validation.md");
        let examples: Vec<&str> = page
            .split("```toml\n")
            .skip(1)
            .filter_map(|rest| rest.split_once("```").map(|(toml, _)| toml))
            .collect();
        assert!(!examples.is_empty());
        for example in examples {
            let file: Value = toml::from_str(example).unwrap();
            assert_eq!(problems(&file["kb_validation"]), Vec::<String>::new(), "{example}");
        }
    }

    #[test]
    fn every_problem_is_reported_with_its_place() {
        let params = json!({
            "root": "",
            "required": ["a[", "ok/**"],
            "max_findings": 0,
            "files": {"names": "("},
            "check": [
                {"match": "*.json", "schema": "../x.json", "unique": ["products"]},
                {"match": "*.csv", "table": {"delimiter": "é", "rows": [5, 1], "bad_rows_max": 2.0}},
            ],
            "checksums": {"manifest": "/etc/SHA256SUMS"},
        });
        let found = problems(&params);
        let places: Vec<&str> =
            found.iter().filter_map(|problem| problem.split(": ").next()).collect();
        assert_eq!(
            places,
            [
                "root",
                "required.0",
                "max_findings",
                "files.names",
                "check.0.schema",
                "check.0.unique.0",
                "check.1.table.delimiter",
                "check.1.table.rows",
                "check.1.table.bad_rows_max",
                "checksums.manifest",
            ],
            "{found:#?}"
        );
    }

    #[test]
    fn unknown_keys_rules_and_words_are_refused_with_a_suggestion() {
        let params = json!({"root": "docs", "fail_one": "error", "check": [{"match": "*", "rules": {"B999": "off"}}]});
        let found = problems(&params);
        assert!(
            found.iter().any(|problem| problem.contains("did you mean `fail_on`?")),
            "{found:?}"
        );
        assert!(
            found.iter().any(|problem| problem.contains("there is no rule `B999`")),
            "{found:?}"
        );
    }
}
