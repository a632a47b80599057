//! YAML 1.2, and the YAML 1.1 words that people still write.

use std::cell::Cell;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_saphyr::{Options, Spanned, from_multiple_with_options};

use super::finding::{Findings, Report};
use super::rule::Rule;
use super::text::Lines;
use super::tree::{Field, Node, Tree};

/// Deeper nesting than this is a finding. Every level costs the parser a few stack frames.
const MAX_DEPTH: usize = 100;

/// How many values aliases may stand for in all.
const MAX_REPLAYED: usize = 500_000;

/// How much text a file may expand to. Aliases make copies, so a small file can ask for terabytes.
const MAX_TEXT_BYTES: usize = 256 << 20;

/// Parses all documents of a file; documents without content are left out.
pub(super) fn parse(lines: &Lines<'_>, findings: &mut Findings<'_>) -> Option<Vec<Tree>> {
    match documents(lines.text()) {
        Ok(documents) => Some(documents),
        Err((message, offset)) => {
            findings.add(Report::new(Rule::YamlSyntax, message).at(lines.position(offset)));
            None
        }
    }
}

/// All documents, or what is wrong and at which byte.
pub(super) fn documents(text: &str) -> Result<Vec<Tree>, (String, usize)> {
    TEXT_LEFT.set(MAX_TEXT_BYTES);
    let mut documents =
        from_multiple_with_options::<Placed>(text, options(text.len())).map_err(|error| {
            let error = error.without_snippet();
            let message = error.to_string();
            // The place is told beside the message, so it is taken out of it.
            let end =
                message.find(" at line ").or_else(|| message.find("\n")).unwrap_or(message.len());
            let start =
                message.strip_prefix("error: ").map_or(0, |rest| message.len() - rest.len());
            let offset = error.location().map_or(0, |location| byte_offset(text, location));
            (message[start.min(end)..end].to_owned(), offset)
        })?;
    Ok(documents.drain(..).map(|placed| placed.into_tree(text)).collect())
}

fn options(length: usize) -> Options {
    // A file cannot hold more events than a few for each of its bytes, and its size is bounded. What is not
    // bounded by that is what aliases expand to and how deep it nests.
    let events = length.saturating_mul(4).saturating_add(1000);
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_events: events,
            max_nodes: events,
            max_documents: events,
            max_total_scalar_bytes: events,
            max_total_comment_bytes: events,
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_REPLAYED },
        with_snippet: false,
        emit_comments: false,
        reject_non_finite_typeless_float: false,
    }
}

thread_local! {
    /// serde gives a `Deserialize` no way to carry state, and the seeds that could do not reach through `Spanned`.
    static TEXT_LEFT: Cell<usize> = const { Cell::new(0) };
}

/// A value with its place, as the parser gives it.
struct Placed(Spanned<Value>);

enum Value {
    Plain(Node),
    List(Vec<Placed>),
    Map(Vec<(String, Placed)>),
}

impl Placed {
    fn into_tree(self, text: &str) -> Tree {
        let offset = byte_offset(text, self.0.referenced);
        let node = match self.0.value {
            Value::Plain(node) => node,
            Value::List(items) => {
                Node::List(items.into_iter().map(|item| item.into_tree(text)).collect())
            }
            Value::Map(fields) => Node::Map(
                fields
                    .into_iter()
                    .map(|(key, value)| Field { key, value: value.into_tree(text) })
                    .collect(),
            ),
        };
        Tree { offset, node }
    }
}

fn byte_offset(text: &str, location: serde_saphyr::Location) -> usize {
    let by_span = location.span().byte_offset().and_then(|offset| usize::try_from(offset).ok());
    by_span.unwrap_or_else(|| {
        // Errors come with a line and a character only.
        let index =
            |from_one: u64| usize::try_from(from_one.saturating_sub(1)).unwrap_or(usize::MAX);
        let start = text.split_inclusive('\n').take(index(location.line())).map(str::len).sum();
        let line = text[start..].chars().take_while(|c| *c != '\n');
        start + line.take(index(location.column())).map(char::len_utf8).sum::<usize>()
    })
}

impl<'de> Deserialize<'de> for Placed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

fn take_text<E: de::Error>(text: &str) -> Result<String, E> {
    let left = TEXT_LEFT.get();
    let Some(left) = left.checked_sub(text.len()) else {
        return Err(E::custom("aliases expand to too much text"));
    };
    TEXT_LEFT.set(left);
    Ok(text.to_owned())
}

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Plain(Node::Null))
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Plain(Node::Bool(value)))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Plain(Node::Number(value.into())))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Plain(Node::Number(value.into())))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Plain(number(Number::from_i128(value), value)))
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Value, E> {
        Ok(Value::Plain(number(Number::from_u128(value), value)))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Plain(number(Number::from_f64(value), value)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Plain(Node::Text(take_text(text)?)))
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Value, E> {
        self.visit_str(&String::from_utf8_lossy(bytes))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(key) = entries.next_key::<String>()? {
            take_text::<A::Error>(&key)?;
            fields.push((key, entries.next_value()?));
        }
        Ok(Value::Map(fields))
    }
}

/// JSON has no infinities and no integers past 64 bits; those become text.
fn number(number: Option<Number>, written: impl fmt::Display) -> Node {
    number.map_or_else(|| Node::Text(written.to_string()), Node::Number)
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
        let mut findings = Findings::new("a.yaml", &levels, 99);
        parse(&Lines::of(text), &mut findings);
        findings.finish().0
    }

    #[test]
    fn values_and_their_places_are_read() {
        let text = "ä: 1\nlist:\n  - true\n  - {name: ~, on: 1.5}\n---\n- second\n";
        let documents = documents(text).unwrap();
        assert_eq!(
            documents[0].to_json(),
            json!({"ä": 1, "list": [true, {"name": null, "on": 1.5}]})
        );
        assert_eq!(documents[1].to_json(), json!(["second"]));
        let item = documents[0].field("list").and_then(|list| list.item(1)).unwrap();
        assert_eq!(&text[item.offset..=item.offset], "{");
        let name = item.field("on").unwrap();
        assert_eq!(&text[name.offset..name.offset + 3], "1.5");
        assert_eq!(super::documents("").unwrap(), []);
    }

    #[test]
    fn what_is_not_yaml_is_found_at_its_place() {
        for (text, line) in
            [("a: 1\nb: [1, 2\n", 2), ("a: 1\nb: 2\na: 3\n", 3), ("a: b: c\n", 1), ("a: *b\n", 1)]
        {
            let found = findings(text);
            assert_eq!(found.len(), 1, "{text}");
            assert_eq!((found[0].rule, found[0].line), (Rule::YamlSyntax, Some(line)), "{found:?}");
            assert!(
                !found[0].message.contains("line") && !found[0].message.is_empty(),
                "{found:?}"
            );
        }
    }

    #[test]
    fn what_other_tools_write_is_accepted() {
        for text in [
            "a: !Ref b\n",
            "!!binary aGk=\n",
            "a: .inf\nb: .nan\n",
            "1: a\n2: b\n",
            "n: 99999999999999999999\n",
        ] {
            assert_eq!(findings(text), [], "{text}");
        }
    }

    #[test]
    fn e5_an_alias_bomb_is_a_finding() {
        let mut laughs = "a0: &a0 [lol, lol]\n".to_owned();
        for level in 1..40 {
            let before = format!("*a{}", level - 1);
            laughs.push_str(&format!("a{level}: &a{level} [{before}, {before}]\n"));
        }
        assert_eq!(findings(&laughs).len(), 1);
        let copies = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), "*a, ".repeat(2000));
        assert_eq!(findings(&copies).len(), 1);
    }

    #[test]
    fn e5_a_nesting_bomb_is_a_finding() {
        let deep = format!("{}{}", "[".repeat(MAX_DEPTH - 1), "]".repeat(MAX_DEPTH - 1));
        deep_stack(|| {
            for bomb in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000)] {
                assert_eq!(findings(&bomb).len(), 1);
            }
            assert_eq!(findings(&deep), []);
        })
        .unwrap();
    }

    proptest! {
        #[test]
        fn any_text_is_yaml_or_a_finding(text in "\\PC*", yaml in "[-\\[\\]{}:,&*!|>a1'\" \n#~?<]*") {
            deep_stack(|| (findings(&text), findings(&yaml))).unwrap();
        }
    }
}
