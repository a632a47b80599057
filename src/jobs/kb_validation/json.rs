//! JSON: syntax as `serde_json` sees it, places and repeated keys as `jsonc-parser` does.

use std::collections::HashSet;

use jsonc_parser::ast;
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use serde_json::{Number, Value};

use super::finding::{Findings, Report};
use super::rule::Rule;
use super::text::Lines;
use super::tree::{Field, Node, Tree};

/// Nothing beyond RFC 8259.
const STRICT: ParseOptions = ParseOptions {
    allow_comments: false,
    allow_loose_object_property_names: false,
    allow_trailing_commas: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// Parses a file, reports what is wrong with it, and gives the tree when it is JSON.
pub(super) fn parse(lines: &Lines<'_>, findings: &mut Findings<'_>) -> Option<Tree> {
    let text = lines.text();
    // serde_json goes first: it is exact about the standard and refuses more than 128 levels, which keeps the
    // recursion below, in the schema validator and in dropping the trees within the stack.
    if let Err(error) = serde_json::from_str::<Value>(text) {
        findings.add(syntax_error(&error, lines));
        return None;
    }
    let parsed = match parse_to_ast(text, &CollectOptions::default(), &STRICT) {
        Ok(parsed) => parsed.value?,
        Err(error) => {
            let report = Report::new(Rule::JsonSyntax, error.kind().to_string());
            findings.add(report.at(lines.position(error.range().start)));
            return None;
        }
    };
    Some(build(parsed, lines, findings))
}

fn syntax_error(error: &serde_json::Error, lines: &Lines<'_>) -> Report {
    let message = error.to_string();
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(what, _)| what);
    let position = lines.position_of_byte(error.line(), error.column());
    let report = Report::new(Rule::JsonSyntax, message).at(position);
    if message.starts_with("recursion limit") {
        report.hint("it nests deeper than 128 levels")
    } else {
        report
    }
}

fn build(value: ast::Value<'_>, lines: &Lines<'_>, findings: &mut Findings<'_>) -> Tree {
    let offset = value.range().start;
    let node = match value {
        ast::Value::NullKeyword(_) => Node::Null,
        ast::Value::BooleanLit(literal) => Node::Bool(literal.value),
        ast::Value::NumberLit(literal) => number(literal.value),
        ast::Value::StringLit(literal) => Node::Text(literal.value.into_owned()),
        ast::Value::Array(array) => {
            let items = array.elements.into_iter();
            Node::List(items.map(|item| build(item, lines, findings)).collect())
        }
        ast::Value::Object(object) => {
            let mut seen = HashSet::with_capacity(object.properties.len());
            let mut fields = Vec::with_capacity(object.properties.len());
            for property in object.properties {
                let place = property.range.start;
                let key = property.name.into_string();
                if !seen.insert(key.clone()) {
                    let message =
                        format!("the key `{}` comes twice in one object", key.escape_debug());
                    findings
                        .add(Report::new(Rule::DuplicateKey, message).at(lines.position(place)));
                }
                fields.push(Field { key, value: build(property.value, lines, findings) });
            }
            Node::Map(fields)
        }
    };
    Tree { offset, node }
}

/// What `serde_json` accepted it can also read here; the text is a fallback that keeps this total.
fn number(literal: &str) -> Node {
    literal
        .parse::<Number>()
        .map_or_else(|_unreadable| Node::Text(literal.to_owned()), Node::Number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::finding::{Finding, Levels};
    use super::*;

    fn findings(text: &str) -> Vec<Finding> {
        let levels = Levels::default();
        let mut findings = Findings::new("a.json", &levels, 99);
        parse(&Lines::of(text), &mut findings);
        findings.finish().0
    }

    fn places(text: &str) -> Vec<(Rule, Option<u64>, Option<u64>)> {
        findings(text).iter().map(|found| (found.rule, found.line, found.col)).collect()
    }

    #[test]
    fn a_syntax_error_is_found_at_its_character() {
        assert_eq!(places("{\"ä\": tru}"), [(Rule::JsonSyntax, Some(1), Some(10))]);
        assert_eq!(places("{\n  \"a\": 1,\n}"), [(Rule::JsonSyntax, Some(3), Some(1))]);
        assert_eq!(places(""), [(Rule::JsonSyntax, Some(1), Some(1))]);
        for bad in [
            "[01]",
            "[1] x",
            "// c\n1",
            "{'a':1}",
            "[+1]",
            "[.5]",
            "[NaN]",
            "[\"\t\"]",
            "\"\\ud800\"",
        ] {
            assert_eq!(findings(bad).len(), 1, "{bad}");
        }
    }

    #[test]
    fn a_key_that_comes_twice_is_found_at_its_second_place() {
        let text = "{\"a\": {\"b\": 1,\n \"b\": 2}, \"b\": 3}";
        assert_eq!(places(text), [(Rule::DuplicateKey, Some(2), Some(2))]);
        assert_eq!(places("{\"a\": 1, \"\\u0061\": 2}"), [(Rule::DuplicateKey, Some(1), Some(10))]);
    }

    #[test]
    fn e5_a_nesting_bomb_is_a_finding() {
        for bomb in ["[".repeat(1_000_000), "{\"a\":".repeat(1_000_000)] {
            let found = findings(&bomb);
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].hint.as_deref(), Some("it nests deeper than 128 levels"));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_json_or_a_finding(text in "\\PC*", json in "[\\[\\]{}:,\"a1e.\\\\ \n-]*") {
            for text in [text, json] {
                let levels = Levels::default();
                let mut findings = Findings::new("a.json", &levels, 99);
                let tree = parse(&Lines::of(&text), &mut findings);
                let expected = serde_json::from_str::<Value>(&text).ok();
                prop_assert_eq!(tree.map(|tree| tree.to_json()), expected);
            }
        }
    }
}
