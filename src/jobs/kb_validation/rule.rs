//! Every rule there is, in one list.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::finding::Severity;
use crate::jobs::suggest;

/// Writes the list once and derives everything from it.
macro_rules! rules {
    ($($variant:ident $id:literal $name:literal $severity:ident $summary:literal;)*) => {
        /// A rule. Its id never changes meaning and is never given to another rule.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule {
            $(#[doc = $summary] $variant,)*
        }

        impl Rule {
            /// Every rule, in the order of ids.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The stable id, such as `B020`.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self { $(Self::$variant => $id,)* }
            }

            /// A name that people remember, such as `json-syntax`. It may stand wherever the id may.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// How bad it is unless the settings say otherwise.
            #[must_use]
            pub const fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)* }
            }

            /// What it finds.
            #[must_use]
            pub const fn summary(self) -> &'static str {
                match self { $(Self::$variant => $summary,)* }
            }
        }
    };
}

rules! {
    MissingFile "B001" "missing-file" Error "No file matches an entry of `required`.";
    ForbiddenFile "B002" "forbidden-file" Error "A file or folder matches an entry of `forbid`.";
    TooLarge "B003" "too-large" Error "A file is larger than `files.max_size`.";
    EmptyFile "B004" "empty-file" Warning "A file has no bytes; reported where `files.empty` is set.";
    TooOld "B005" "too-old" Warning "A file was last changed longer ago than `files.max_age`.";
    BadName "B006" "bad-name" Error "A path does not match `files.names`, or is not UTF-8.";
    NotAFile "B007" "not-a-file" Warning "A pipe, socket or device; it is never opened.";
    BadSymlink "B008" "bad-symlink" Warning "A symbolic link leads out of the root or nowhere; it is not followed.";
    Unreadable "B009" "unreadable" Error "A file or folder cannot be read.";
    Encoding "B010" "encoding" Error "A text file is not UTF-8.";
    NulByte "B011" "nul-byte" Error "A text file has NUL bytes.";
    Bom "B012" "bom" Warning "A text file starts with a byte order mark.";
    Newline "B013" "newline" Error "A line does not end as `files.newline` says.";
    NotChecked "B014" "not-checked" Warning "A file is too large to be parsed, so its content is not checked.";
    JsonSyntax "B020" "json-syntax" Error "A file is not JSON (RFC 8259), or nests deeper than 128 levels.";
    DuplicateKey "B021" "duplicate-key" Error "A JSON object has the same key twice; readers disagree which one counts.";
    YamlSyntax "B022" "yaml-syntax" Error "A file is not YAML, has a key twice, nests too deep or expands too far.";
    TomlSyntax "B023" "toml-syntax" Error "A file is not TOML, or nests too deep.";
    Schema "B024" "schema" Error "A value does not fit the JSON Schema.";
    NoSchema "B025" "no-schema" Info "There is no schema for the file's name, so it is not checked against one.";
    NotUnique "B026" "not-unique" Error "A value that must be unique comes twice.";
    TableSyntax "B030" "table-syntax" Error "A table has no header, a broken quote, or a row with too few or too many cells.";
    MissingColumn "B031" "missing-column" Error "A table lacks a column.";
    DuplicateRow "B032" "duplicate-row" Error "A cell of a column that must be unique comes twice.";
    CellType "B033" "cell-type" Error "A cell is not of its column's type.";
    RowCount "B034" "row-count" Error "A table has too few or too many rows.";
    BadRowsTolerated "B035" "bad-rows-tolerated" Info "A table has bad rows, but not more than `table.bad_rows_max`.";
    BrokenLink "B040" "broken-link" Error "A link leads to a file that does not exist.";
    BrokenAnchor "B041" "broken-anchor" Error "A link leads to a heading that does not exist.";
    BrokenImage "B042" "broken-image" Error "An image does not exist.";
    LinkOutside "B043" "link-outside" Warning "A link leads out of the root, where nothing is checked.";
    EmptyLink "B044" "empty-link" Warning "A link has no target.";
    FrontMatter "B045" "front-matter" Error "Front matter is missing, unreadable, or lacks a field.";
    FrontMatterDate "B046" "front-matter-date" Error "A front matter field is not a date.";
    FrontMatterUnique "B047" "front-matter-unique" Error "Two pages have the same value in a unique front matter field.";
    Orphan "B048" "orphan" Warning "No other page links to a page; reported where `orphans` is set.";
    ChecksumMismatch "B050" "checksum-mismatch" Error "A file's SHA-256 differs from the manifest's.";
    ChecksumMissing "B051" "checksum-missing" Error "A file in the manifest does not exist.";
    ChecksumUnlisted "B052" "checksum-unlisted" Warning "A file is not in the manifest; reported where `checksums.unlisted` is set.";
    ChecksumLine "B053" "checksum-line" Error "A line of the manifest cannot be read.";
    ChecksumOutside "B054" "checksum-outside" Error "A path in the manifest leads out of the root; it is refused.";
    DuplicateContent "B060" "duplicate-content" Warning "Two files have the same content; reported where `duplicates` is set.";
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

/// Why a text is not a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no rule `{}`{}", .written.escape_default(), .help.as_deref().map(|help| format!("; {help}")).unwrap_or_default())]
pub struct UnknownRule {
    written: String,
    help: Option<String>,
}

impl FromStr for Rule {
    type Err = UnknownRule;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_called = |rule: &&Self| rule.id().eq_ignore_ascii_case(text) || rule.name() == text;
        Self::ALL.iter().find(is_called).copied().ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|rule| rule.name()).collect();
            UnknownRule { written: text.chars().take(100).collect(), help: suggest(text, &names) }
        })
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_are_unique_and_in_order() {
        assert!(Rule::ALL.windows(2).all(|pair| pair[0].id() < pair[1].id()));
        let names: std::collections::BTreeSet<&str> =
            Rule::ALL.iter().map(|rule| rule.name()).collect();
        assert_eq!(names.len(), Rule::ALL.len());
    }

    #[test]
    fn a_rule_is_found_by_id_and_by_name() {
        assert_eq!("b012".parse(), Ok(Rule::Bom));
        assert_eq!("bom".parse(), Ok(Rule::Bom));
        let error = "json-sintax".parse::<Rule>().unwrap_err().to_string();
        assert_eq!(error, "there is no rule `json-sintax`; did you mean `json-syntax`?");
    }

    #[test]
    fn the_documentation_lists_every_rule_with_its_severity() {
        let page = include_str!("../../../docs/kinds/kb_validation.md");
        for rule in Rule::ALL {
            let row = format!(
                "| {} | {} | {} | {} |",
                rule,
                rule.name(),
                rule.severity(),
                rule.summary()
            );
            assert!(page.contains(&row), "docs/kinds/kb_validation.md lacks the row\n{row}");
        }
    }
}
