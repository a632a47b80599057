//! A settings file and where in it each key stands.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::Value;
use toml::de::{DeTable, DeValue};

use super::{Origin, SettingsProblem};
use crate::model::is_harmful;
use crate::schedule::{read_toml, too_deep};

/// A file that is TOML. Whether its keys and values make sense is not known yet.
#[derive(Debug)]
pub(super) struct SettingsFile {
    pub(super) path: PathBuf,
    pub(super) text: String,
    pub(super) value: Value,
    places: BTreeMap<String, Place>,
}

/// Byte ranges in the text.
#[derive(Debug, Clone)]
struct Place {
    key: Range<usize>,
    value: Range<usize>,
}

impl SettingsFile {
    /// Reads TOML, and says everything that is wrong with it at once.
    pub(super) fn parse(path: PathBuf, text: String) -> Result<Self, Vec<SettingsProblem>> {
        if let Some(offset) = too_deep(&text) {
            let (origin, excerpt) = point_at(&path, &text, &(offset..offset + 1));
            let message = "tables and lists inside each other without end".to_owned();
            return Err(vec![SettingsProblem {
                origin,
                key: String::new(),
                message,
                help: None,
                excerpt,
            }]);
        }
        let refuse = |error: &toml::de::Error| syntax_problem(&path, &text, error);
        let (table, errors) = read_toml(&text);
        if !errors.is_empty() {
            return Err(errors.iter().map(refuse).collect());
        }
        let mut places = BTreeMap::new();
        collect_places(table.get_ref(), "", &mut places);
        let value = toml::from_str(&text).map_err(|error| vec![refuse(&error)])?;
        Ok(Self { path, text, value, places })
    }

    /// The names of everything that is written in the file, tables included.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// Where the value of `name` stands, and its line for an error.
    pub(super) fn value_at(&self, name: &str) -> Option<(Origin, Option<String>)> {
        self.places.get(name).map(|place| self.point(name, &place.value))
    }

    /// Where `name` itself stands, and its line for an error.
    pub(super) fn key_at(&self, name: &str) -> Option<(Origin, Option<String>)> {
        self.places.get(name).map(|place| self.point(name, &place.key))
    }

    fn point(&self, name: &str, span: &Range<usize>) -> (Origin, Option<String>) {
        let (origin, excerpt) = point_at(&self.path, &self.text, span);
        // The URL may hold a password (case J11).
        (origin, excerpt.filter(|_| !name.starts_with("database")))
    }
}

fn syntax_problem(path: &Path, text: &str, error: &toml::de::Error) -> SettingsProblem {
    let span = error.span().unwrap_or(0..0);
    let (origin, excerpt) = point_at(path, text, &span);
    let message = error.message().to_owned();
    // TOML reads an unquoted word as the start of a number or of `true`, and complains about that.
    let is_word = |text: &str| text.starts_with(|c: char| c.is_ascii_alphabetic());
    let help = text
        .get(span)
        .filter(|marked| is_word(marked))
        .map(|_| "a text is written in quotes".to_owned());
    SettingsProblem { origin, key: String::new(), message, help, excerpt }
}

fn collect_places(table: &DeTable<'_>, prefix: &str, places: &mut BTreeMap<String, Place>) {
    for (key, value) in table {
        let name = if prefix.is_empty() {
            key.get_ref().to_string()
        } else {
            format!("{prefix}.{}", key.get_ref())
        };
        match value.get_ref() {
            DeValue::Table(inner) => collect_places(inner, &name, places),
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let place = Place { key: item.span(), value: item.span() };
                    places.insert(format!("{name}.{index}"), place);
                }
            }
            _ => {}
        }
        places.insert(name, Place { key: key.span(), value: value.span() });
    }
}

/// The line and column of a byte range, and the line with the range marked.
fn point_at(path: &Path, text: &str, span: &Range<usize>) -> (Origin, Option<String>) {
    let start =
        (0..=span.start.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let line_text = text[line_start..].lines().next().unwrap_or("");
    let line = text[..line_start].matches('\n').count() + 1;
    let column = text[line_start..start].chars().count() + 1;
    let end = span.end.clamp(start, line_start + line_text.len().max(start - line_start));
    let marked = text.get(start..end).map_or(1, |marked| marked.chars().count().max(1));
    let origin = Origin::File { path: path.to_owned(), line, column };
    // A line that may hold a password (case J11), or that is too long to help, is not repeated.
    let quotable = !line_text.contains("://") && line_text.chars().count() <= 120;
    let excerpt = quotable.then(|| {
        let shown: String =
            line_text.chars().map(|c| if is_harmful(c) { ' ' } else { c }).collect();
        let gutter = line.to_string();
        let blank = " ".repeat(gutter.len());
        let indent = " ".repeat(column - 1);
        let carets = "^".repeat(marked);
        format!("  {gutter} | {shown}\n  {blank} | {indent}{carets}")
    });
    (origin, excerpt)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_file_that_nests_without_end_is_refused_and_not_the_end_of_the_process() {
        let deep = format!("a = {}", "{a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a = ".repeat(79));
        for text in [deep, format!("a = {}", "[".repeat(100_000))] {
            let problems = SettingsFile::parse("f".into(), text).unwrap_err();
            assert_eq!(problems.len(), 1);
            assert!(problems[0].message.contains("without end"), "{}", problems[0]);
        }
    }

    #[test]
    fn what_the_parser_says_twice_is_told_once() {
        let problems = SettingsFile::parse("f".into(), "={=".to_owned()).unwrap_err();
        let mut told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        told.dedup();
        assert_eq!(told.len(), problems.len(), "{told:?}");
    }

    #[test]
    fn j10_a_line_is_shown_without_what_could_disturb_a_terminal() {
        let text = "a = # \u{202e}\u{1b}[31m".to_owned();
        let problems = SettingsFile::parse("f".into(), text).unwrap_err();
        let shown = problems[0].to_string();
        assert!(!shown.chars().any(|c| c != '\n' && is_harmful(c)), "{shown:?}");
    }

    proptest! {
        #[test]
        fn no_text_and_no_range_makes_pointing_panic(
            text in "[a-z=\"\n\r\t é漢]{0,40}", start in 0_usize..60, length in 0_usize..60,
        ) {
            point_at("f".as_ref(), &text, &(start..start + length));
        }

        #[test]
        fn no_text_makes_parsing_panic(text in "\\PC{0,60}") {
            drop(SettingsFile::parse("f".into(), text));
        }
    }
}
