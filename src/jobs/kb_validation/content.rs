//! Everything that can be said of one file by its bytes alone.

use serde::{Deserialize, Serialize};

use super::finding::{Counts, Finding, Findings};
use super::markdown::Page;
use super::params::FileRules;
use super::plan::{Format, Profile};
use super::schema::Schemas;
use super::text::Lines;
use super::tree::Tree;
use super::{front_matter, json, markdown, table, text, toml, yaml};

/// What a file's bytes came to. It depends on nothing but them, the settings and the schemas, so it can be kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Content {
    pub(super) findings: Vec<Finding>,
    /// Findings that were counted and not kept.
    pub(super) uncounted: Counts,
    /// What other pages need to know, where this is one.
    pub(super) page: Option<Page>,
}

impl Content {
    /// Looks at a file's bytes, keeping at most `room` findings.
    pub(super) fn of(
        path: &str,
        bytes: &[u8],
        profile: &Profile<'_>,
        rules: &FileRules,
        schemas: &Schemas,
        room: usize,
    ) -> Self {
        let mut findings = Findings::new(path, &profile.levels, room);
        let text = text::check(bytes, rules, profile.must_be_utf8, &mut findings);
        let page = text.zip(profile.format).and_then(|(text, format)| {
            let lines = Lines::of(text);
            match format {
                Format::Markdown => Some(page(&lines, profile, &mut findings)),
                Format::Table(delimiter) => {
                    let rules =
                        profile.checks.iter().filter_map(|check| check.settings.table.as_ref());
                    let rules: Vec<_> = rules.collect();
                    table::check(text, delimiter, &rules, &mut findings);
                    None
                }
                Format::Json | Format::Yaml | Format::Toml => {
                    structure(path, &lines, format, profile, schemas, &mut findings);
                    None
                }
            }
        });
        let (findings, uncounted) = findings.finish();
        Self { findings, uncounted, page }
    }

    /// Lets go of findings past the first `room`, still counting them.
    pub(super) fn fit(&mut self, room: usize) {
        for finding in self.findings.drain(room.min(self.findings.len())..) {
            self.uncounted.add(finding.severity);
        }
    }
}

fn page(lines: &Lines<'_>, profile: &Profile<'_>, findings: &mut Findings<'_>) -> Page {
    let block = front_matter::find(lines.text());
    let mut page = markdown::read(block.map_or(0, |block| block.end), lines, findings);
    let rules: Vec<_> = profile.front_matter().collect();
    front_matter::check(block, &rules, lines, &mut page, findings);
    page
}

fn structure(
    path: &str,
    lines: &Lines<'_>,
    format: Format,
    profile: &Profile<'_>,
    schemas: &Schemas,
    findings: &mut Findings<'_>,
) {
    let documents: Vec<Tree> = match format {
        Format::Json => json::parse(lines, findings).into_iter().collect(),
        Format::Toml => toml::parse(lines, findings).into_iter().collect(),
        _ => yaml::parse(lines, findings).unwrap_or_default(),
    };
    let schemas: Vec<_> =
        profile.schemas(path).iter().filter_map(|(path, _)| schemas.get(path)).collect();
    for document in &documents {
        if !schemas.is_empty() {
            let value = document.to_json();
            for schema in &schemas {
                schema.check(document, &value, lines, findings);
            }
        }
        for selector in profile.checks.iter().flat_map(|check| &check.unique) {
            selector.check_unique(document, lines, findings);
        }
    }
}
