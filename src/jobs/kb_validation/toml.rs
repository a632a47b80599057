//! TOML 1.1.

use ::toml::Spanned;
use ::toml::de::{DeTable, DeValue};
use serde_json::Number;

use super::finding::{Findings, Report};
use super::rule::Rule;
use super::text::Lines;
use super::tree::{Field, Node, Tree};

/// Deeper nesting than this is a finding. The parser bounds dotted keys and brackets, each by itself, so that their
/// product still reaches thousands of levels.
const MAX_DEPTH: usize = 100;

/// Parses a file, reports what is wrong with it, and gives the tree when it is TOML.
pub(super) fn parse(lines: &Lines<'_>, findings: &mut Findings<'_>) -> Option<Tree> {
    match document(lines.text()) {
        Ok(tree) => Some(tree),
        Err((message, offset)) => {
            findings.add(Report::new(Rule::TomlSyntax, message).at(lines.position(offset)));
            None
        }
    }
}

/// The document, or what is wrong and at which byte.
pub(super) fn document(text: &str) -> Result<Tree, (String, usize)> {
    let parsed = DeTable::parse(text)
        .map_err(|error| (error.message().to_owned(), error.span().map_or(0, |span| span.start)))?;
    let offset = parsed.span().start;
    let node =
        table(parsed.get_ref(), 1).map_err(|offset| ("nests too deep".to_owned(), offset))?;
    Ok(Tree { offset, node })
}

/// The tree of a table, or where it got too deep.
fn table(table: &DeTable<'_>, depth: usize) -> Result<Node, usize> {
    let fields = table.iter().map(|(key, value)| {
        Ok(Field { key: key.get_ref().to_string(), value: build(value, depth)? })
    });
    fields.collect::<Result<_, _>>().map(Node::Map)
}

fn build(value: &Spanned<DeValue<'_>>, depth: usize) -> Result<Tree, usize> {
    let offset = value.span().start;
    if depth > MAX_DEPTH {
        return Err(offset);
    }
    let node = match value.get_ref() {
        DeValue::String(text) => Node::Text(text.to_string()),
        DeValue::Integer(integer) => {
            let value = i64::from_str_radix(integer.as_str(), integer.radix());
            value.map_or_else(
                |_too_large| Node::Text(integer.to_string()),
                |value| Node::Number(value.into()),
            )
        }
        DeValue::Float(float) => {
            let value = float.as_str().parse().ok().and_then(Number::from_f64);
            value.map_or_else(|| Node::Text(float.to_string()), Node::Number)
        }
        DeValue::Boolean(value) => Node::Bool(*value),
        DeValue::Datetime(time) => Node::Text(time.to_string()),
        DeValue::Array(items) => {
            let items = items.iter().map(|item| build(item, depth + 1));
            Node::List(items.collect::<Result<_, _>>()?)
        }
        DeValue::Table(inner) => table(inner, depth + 1)?,
    };
    Ok(Tree { offset, node })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::deep_stack;
    use super::super::finding::{Finding, Levels};
    use super::*;

    fn findings(text: &str) -> Vec<Finding> {
        let levels = Levels::default();
        let mut findings = Findings::new("a.toml", &levels, 99);
        parse(&Lines::of(text), &mut findings);
        findings.finish().0
    }

    #[test]
    fn values_and_their_places_are_read() {
        let text = "a.b = 0x1F\nwhen = 2026-01-02\n[[c]]\nd = [1.5, true, 'x']\n";
        let tree = document(text).unwrap();
        assert_eq!(
            tree.to_json(),
            json!({"a": {"b": 31}, "when": "2026-01-02", "c": [{"d": [1.5, true, "x"]}]})
        );
        let value = tree.field("when").unwrap();
        assert!(text[value.offset..].starts_with("2026-01-02"));
    }

    #[test]
    fn what_is_not_toml_is_found_at_its_place() {
        for (text, line, col) in [("a = 1\nb = \n", 2, 5), ("a = 1\na = 2\n", 2, 1), ("[a\n", 1, 3)]
        {
            let found = findings(text);
            assert_eq!(found.len(), 1, "{text}");
            assert_eq!((found[0].line, found[0].col), (Some(line), Some(col)), "{found:?}");
        }
    }

    #[test]
    fn e5_a_nesting_bomb_is_a_finding() {
        let dotted = ["a"; 70].join(".");
        let product =
            format!("{dotted} = {}1{}", format!("{{{dotted} = ").repeat(70), "}".repeat(70));
        deep_stack(|| {
            assert_eq!(findings(&format!("a = {}", "[".repeat(100_000))).len(), 1);
            assert_eq!(findings(&format!("{} = 1", ["a"; 100_000].join("."))).len(), 1);
            assert_eq!(findings(&product)[0].message, "nests too deep");
        })
        .unwrap();
    }

    proptest! {
        #[test]
        fn any_text_is_toml_or_a_finding(text in "\\PC*", toml in "[a-c=\\[\\]{}.,'\"1 \n-]*") {
            findings(&text);
            findings(&toml);
        }
    }
}
