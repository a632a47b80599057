//! Front matter: the block of YAML or TOML at the start of a Markdown page.

use super::finding::{Findings, Position, Report};
use super::markdown::Page;
use super::params::FrontMatter;
use super::rule::Rule;
use super::text::Lines;
use super::tree::{Node, Tree};
use super::{toml, yaml};

/// The block between the fences, and where the page's own text begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block<'a> {
    text: &'a str,
    offset: usize,
    is_toml: bool,
    pub(super) end: usize,
}

/// Finds the block: `---` around YAML or `+++` around TOML, from the very first line on.
pub(super) fn find(text: &str) -> Option<Block<'_>> {
    let first = text.split_inclusive('\n').next()?;
    let fence = first.trim_end();
    if !matches!(fence, "---" | "+++") {
        return None;
    }
    let offset = first.len();
    let mut end = offset;
    for line in text[offset..].split_inclusive('\n') {
        if line.trim_end() == fence {
            let block = &text[offset..end];
            return Some(Block {
                text: block,
                offset,
                is_toml: fence == "+++",
                end: end + line.len(),
            });
        }
        end += line.len();
    }
    None
}

/// Checks a block against the rules, and puts the values that must be unique into the page.
pub(super) fn check(
    block: Option<Block<'_>>,
    rules: &[&FrontMatter],
    lines: &Lines<'_>,
    page: &mut Page,
    findings: &mut Findings<'_>,
) {
    if rules.is_empty() {
        return;
    }
    let Some(block) = block else {
        if rules.iter().any(|rules| !rules.required.is_empty()) {
            let report = Report::new(Rule::FrontMatter, "the page has no front matter");
            findings.add(
                report
                    .at(Position { line: 1, col: Some(1) })
                    .hint("begin it with a block of YAML between two lines of ---"),
            );
        }
        return;
    };
    let tree = match parse(block) {
        Ok(tree) => tree,
        Err((message, offset)) => {
            let report = Report::new(
                Rule::FrontMatter,
                format!("the front matter cannot be read: {message}"),
            );
            findings.add(report.at(lines.position(block.offset + offset)));
            return;
        }
    };
    let place = |value: &Tree| lines.position(block.offset + value.offset);
    for rules in rules {
        for name in rules.required.iter().filter(|name| is_empty(tree.field(name))) {
            let report = Report::new(Rule::FrontMatter, format!("the front matter lacks `{name}`"));
            findings.add(report.at(Position { line: 1, col: Some(1) }));
        }
        for (name, value) in rules.dates.iter().filter_map(|name| Some((name, tree.field(name)?))) {
            if !is_date(value) {
                let message = format!("`{name}` is not a date such as 2026-12-31");
                findings.add(Report::new(Rule::FrontMatterDate, message).at(place(value)));
            }
        }
        for (name, value) in rules.unique.iter().filter_map(|name| Some((name, tree.field(name)?)))
        {
            page.unique.insert(name.clone(), (value.to_json().to_string(), place(value)));
        }
    }
}

fn parse(block: Block<'_>) -> Result<Tree, (String, usize)> {
    if block.is_toml {
        return toml::document(block.text);
    }
    let documents = yaml::documents(block.text)?;
    let empty = Tree { offset: 0, node: Node::Map(Vec::new()) };
    Ok(documents.into_iter().next().unwrap_or(empty))
}

fn is_empty(value: Option<&Tree>) -> bool {
    match value.map(|value| &value.node) {
        None | Some(Node::Null) => true,
        Some(Node::Text(text)) => text.trim().is_empty(),
        Some(_) => false,
    }
}

fn is_date(value: &Tree) -> bool {
    match &value.node {
        Node::Text(text) => {
            text.parse::<jiff::civil::DateTime>().is_ok() || text.parse::<jiff::Timestamp>().is_ok()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::finding::Levels;
    use super::*;

    fn checked(text: &str) -> (Vec<(Rule, Option<u64>)>, Page) {
        let rules: FrontMatter = serde_json::from_value(
            json!({"required": ["id", "title"], "unique": ["id"], "dates": ["updated"]}),
        )
        .unwrap();
        let levels = Levels::default();
        let mut findings = Findings::new("a.md", &levels, 99);
        let mut page = Page::default();
        check(find(text), &[&rules], &Lines::of(text), &mut page, &mut findings);
        let (found, _) = findings.finish();
        (found.iter().map(|found| (found.rule, found.line)).collect(), page)
    }

    #[test]
    fn fields_are_held_to_the_rules() {
        let good = "---\nid: 7\ntitle: T\nupdated: 2026-01-02\n---\n# T\n";
        let (found, page) = checked(good);
        assert_eq!(found, []);
        assert_eq!(page.unique["id"], ("7".to_owned(), Position { line: 2, col: Some(5) }));
        assert_eq!(&good[find(good).unwrap().end..], "# T\n");
        let bad = "+++\nid = ''\nupdated = 'soon'\n+++\n";
        let (front, date) = (Rule::FrontMatter, Rule::FrontMatterDate);
        assert_eq!(checked(bad).0, [(front, Some(1)), (front, Some(1)), (date, Some(3))]);
        assert_eq!(checked("---\na: [\n---\n").0.len(), 1);
        assert_eq!(checked("# T\n").0, [(front, Some(1))]);
        assert_eq!(checked("---\n---\n").0, [(front, Some(1)), (front, Some(1))]);
    }

    #[test]
    fn a_rule_across_the_page_is_not_front_matter() {
        assert_eq!(find("# T\n---\na: 1\n---\n"), None);
        assert_eq!(find("---\nno end\n"), None);
    }

    proptest! {
        #[test]
        fn any_text_has_front_matter_or_not(text in "(---\n)?[a-c: \n\\[+-]*(---\n)?\\PC*") {
            if let Some(block) = find(&text) {
                prop_assert!(text.is_char_boundary(block.end));
            }
            checked(&text);
        }
    }
}
