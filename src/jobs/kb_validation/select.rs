//! A small part of JSONPath: `$`, names and `[*]`.

use std::collections::HashMap;
use std::str::FromStr;

use super::finding::{Findings, Report};
use super::rule::Rule;
use super::text::Lines;
use super::tree::{Node, Tree};

/// A path such as `$.products[*].sku` or `$['odd name'][*]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Selector {
    written: String,
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Every,
}

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || {
            let written = text.escape_default();
            format!(
                "`{written}` is not a path: write it like $.products[*].sku or $['odd name'][*]"
            )
        };
        let mut rest = text.strip_prefix('$').ok_or_else(refuse)?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, after) = next_step(rest).ok_or_else(refuse)?;
            steps.push(step);
            rest = after;
        }
        Ok(Self { written: text.to_owned(), steps })
    }
}

fn next_step(rest: &str) -> Option<(Step, &str)> {
    if let Some(after) = rest.strip_prefix("[*]") {
        return Some((Step::Every, after));
    }
    if let Some(after) = rest.strip_prefix("['") {
        let (key, after) = after.split_once("']")?;
        return Some((Step::Key(key.to_owned()), after));
    }
    let name = rest.strip_prefix('.')?;
    let end = name.find(['.', '[']).unwrap_or(name.len());
    let (key, after) = name.split_at(end);
    (!key.is_empty() && key != "*").then(|| (Step::Key(key.to_owned()), after))
}

impl Selector {
    /// The values the path leads to, in the order of the file. What is missing is left out.
    fn select<'a>(&self, root: &'a Tree) -> Vec<&'a Tree> {
        self.steps.iter().fold(vec![root], |places, step| {
            places.into_iter().flat_map(|place| step.from(place)).collect()
        })
    }

    /// Reports values that come twice. Equal means equal as JSON, so the number 1 and the text "1" differ.
    pub(super) fn check_unique(&self, root: &Tree, lines: &Lines<'_>, findings: &mut Findings<'_>) {
        let mut first: HashMap<String, usize> = HashMap::new();
        for place in self.select(root) {
            let value = place.to_json().to_string();
            let Some(before) = first.get(&value) else {
                first.insert(value, place.offset);
                continue;
            };
            let line = lines.position(*before).line;
            let report =
                Report::new(Rule::NotUnique, format!("{} is not unique: {value}", self.written));
            findings.add(
                report
                    .at(lines.position(place.offset))
                    .about(format!("{} {value}", self.written))
                    .hint(format!("first on line {line}")),
            );
        }
    }
}

impl Step {
    fn from<'a>(&self, place: &'a Tree) -> Vec<&'a Tree> {
        match (self, &place.node) {
            (Self::Key(key), Node::Map(fields)) => {
                fields.iter().filter(|field| field.key == *key).map(|field| &field.value).collect()
            }
            (Self::Every, Node::List(items)) => items.iter().collect(),
            (Self::Every, Node::Map(fields)) => fields.iter().map(|field| &field.value).collect(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::finding::Levels;
    use super::super::json;
    use super::*;

    fn places(selector: &str, text: &str) -> Vec<(Option<u64>, String)> {
        let levels = Levels::default();
        let mut findings = Findings::new("a.json", &levels, 99);
        let lines = Lines::of(text);
        let tree = json::parse(&lines, &mut findings).unwrap();
        let selector: Selector = selector.parse().unwrap();
        selector.check_unique(&tree, &lines, &mut findings);
        let (found, _) = findings.finish();
        found.into_iter().map(|found| (found.line, found.hint.unwrap_or_default())).collect()
    }

    #[test]
    fn a_value_that_comes_twice_is_found_with_both_places() {
        let text = "{\"products\": [\n{\"sku\": \"a\"},\n{\"sku\": \"b\"},\n{\"sku\": \"a\"}, {}]}";
        assert_eq!(places("$.products[*].sku", text), [(Some(4), "first on line 2".to_owned())]);
        assert_eq!(places("$['products'][*].name", text), []);
        assert_eq!(places("$[*]", "[1, \"1\", 1.0, 1]"), [(Some(1), "first on line 1".to_owned())]);
    }

    #[test]
    fn what_is_not_a_path_is_refused() {
        for bad in ["", "products", "$products", "$.", "$..a", "$.a[", "$.a[0]", "$['a", "$.*"] {
            assert!(bad.parse::<Selector>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_path_or_refused(text in "\\PC{0,20}", path in "[$.a\\[\\]*']{0,12}") {
            let _ = text.parse::<Selector>();
            let _ = path.parse::<Selector>();
        }
    }
}
