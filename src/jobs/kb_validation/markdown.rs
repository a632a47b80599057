//! Markdown: what a page links to and what can be linked to in it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::LazyLock;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use regex::Regex;
use serde::{Deserialize, Serialize};

use super::finding::{Findings, Position, Report};
use super::rule::Rule;
use super::text::Lines;

/// What other pages need to know of a page. It is kept between runs, so that links are followed in every run however
/// few pages have changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Page {
    pub(super) links: Vec<Link>,
    /// Everything a `#fragment` may name.
    pub(super) anchors: BTreeSet<String>,
    /// Values of the front matter that must be unique among pages, each with its place.
    pub(super) unique: BTreeMap<String, (String, Position)>,
}

/// A link as it is written, without those that leave for the web.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Link {
    pub(super) target: String,
    pub(super) position: Position,
    pub(super) is_image: bool,
}

/// A page with more links than this is generated, and following all would take memory without bound.
const MAX_LINKS: usize = 100_000;

/// Reads a page. `start` is where its text begins, after the front matter.
pub(super) fn read(start: usize, lines: &Lines<'_>, findings: &mut Findings<'_>) -> Page {
    let mut reader = Reader {
        start,
        lines,
        page: Page::default(),
        slugs: Slugs::default(),
        heading: None,
        images: 0,
    };
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_HEADING_ATTRIBUTES;
    for (event, range) in Parser::new_ext(&lines.text()[start..], options).into_offset_iter() {
        reader.take(event, start + range.start);
    }
    let mut page = reader.page;
    if page.links.len() > MAX_LINKS {
        page.links.truncate(MAX_LINKS);
        let message =
            format!("the page has more than {MAX_LINKS} links; the others are not followed");
        findings.add(Report::new(Rule::NotChecked, message));
    }
    page
}

struct Reader<'a> {
    start: usize,
    lines: &'a Lines<'a>,
    page: Page,
    slugs: Slugs,
    /// The text of the heading that is being read.
    heading: Option<String>,
    /// How many images the reader is in; their descriptions are no part of a heading's anchor.
    images: u32,
}

impl Reader<'_> {
    fn take(&mut self, event: Event<'_>, offset: usize) {
        match event {
            Event::Start(Tag::Link { dest_url, .. }) => self.link(&dest_url, offset, false),
            Event::Start(Tag::Image { dest_url, .. }) => {
                self.images += 1;
                self.link(&dest_url, offset, true);
            }
            Event::End(TagEnd::Image) => self.images = self.images.saturating_sub(1),
            Event::Start(Tag::Heading { id, .. }) => {
                self.page.anchors.extend(id.map(|id| id.to_string()));
                self.heading = Some(String::new());
            }
            Event::End(TagEnd::Heading(_)) => {
                let text = self.heading.take().unwrap_or_default();
                let slug = self.slugs.next(&text);
                self.page.anchors.insert(slug);
            }
            Event::Text(text) | Event::Code(text) => {
                if let Some(heading) = self.heading.as_mut().filter(|_| self.images == 0) {
                    heading.push_str(&text);
                }
            }
            Event::SoftBreak | Event::HardBreak => {
                self.heading.iter_mut().for_each(|heading| heading.push(' '));
            }
            Event::Html(html) | Event::InlineHtml(html) => self.html(&html, offset),
            _ => {}
        }
    }

    fn link(&mut self, target: &str, offset: usize, is_image: bool) {
        if self.page.links.len() <= MAX_LINKS && !is_external(target) {
            let position = self.lines.position(offset.max(self.start));
            self.page.links.push(Link { target: target.to_owned(), position, is_image });
        }
    }

    fn html(&mut self, html: &str, offset: usize) {
        for found in HTML_ATTRIBUTE.captures_iter(html) {
            let value = found.get(3).or(found.get(4)).map_or("", |value| value.as_str());
            let place = offset + found.get(0).map_or(0, |all| all.start());
            match found[2].to_ascii_lowercase().as_str() {
                "id" | "name" => {
                    self.page.anchors.insert(value.to_owned());
                }
                "src" => self.link(value, place, found[1].eq_ignore_ascii_case("img")),
                _ => self.link(value, place, false),
            }
        }
    }
}

/// The attributes of `<a>`, `<img>` and others that make or follow a link. Markdown leaves HTML as it is, and all that is
/// wanted of it is these; a tag with two of them, such as `<a id=".." href="..">`, gives the last one.
static HTML_ATTRIBUTE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r#"(?is)<([a-z][a-z0-9]*)\b[^<>]*?\s(id|name|href|src)\s*=\s*(?:"([^"<>]*)"|'([^'<>]*)')"#,
    )
    .expect("the pattern is a constant that the tests use")
});

/// Whether a target leaves for the web, or is for a program such as the mail reader.
pub(super) fn is_external(target: &str) -> bool {
    let scheme = target.split_once(':').map_or("", |(scheme, _)| scheme);
    let is_scheme = scheme.len() > 1
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    is_scheme || target.starts_with("//")
}

/// Gives headings the anchors that GitHub gives them.
#[derive(Debug, Default)]
struct Slugs {
    taken: HashMap<String, u32>,
}

impl Slugs {
    /// The anchor of the next heading: a repeated one gets `-1`, `-2` and so on.
    fn next(&mut self, heading: &str) -> String {
        let slug = slug(heading);
        let mut candidate = slug.clone();
        while self.taken.contains_key(&candidate) {
            let count = self.taken.entry(slug.clone()).or_default();
            *count += 1;
            candidate = format!("{slug}-{count}");
        }
        self.taken.insert(candidate.clone(), 0);
        candidate
    }
}

/// As github-slugger does it: lower case, only letters, digits, marks, `-` and `_`, every space a `-`.
fn slug(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, '-' | '_' | ' ');
    let lower = heading.trim().chars().flat_map(char::to_lowercase);
    lower.filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::finding::Levels;
    use super::*;

    fn page(text: &str) -> Page {
        let levels = Levels::default();
        let mut findings = Findings::new("a.md", &levels, 99);
        read(0, &Lines::of(text), &mut findings)
    }

    fn anchors(text: &str) -> Vec<String> {
        page(text).anchors.into_iter().collect()
    }

    fn targets(text: &str) -> Vec<(String, u64, bool)> {
        let links = page(text).links.into_iter();
        links.map(|link| (link.target, link.position.line, link.is_image)).collect()
    }

    #[test]
    fn headings_get_the_anchors_github_gives_them() {
        for (heading, anchor) in [
            ("# Getting Started!", "getting-started"),
            ("## The `code` & *more*", "the-code--more"),
            ("# Über uns", "über-uns"),
            ("# a_b - c.d", "a_b---cd"),
            ("# [Link](x.md) text", "link-text"),
            ("# ![alt](x.png) text", "text"),
            ("Setext\n======", "setext"),
            ("# 1.2.3 (2026-01-01)", "123-2026-01-01"),
            ("# 日本語 見出し", "日本語-見出し"),
        ] {
            assert_eq!(anchors(heading), [anchor], "{heading}");
        }
        assert_eq!(anchors("# A\n# A\n# A-1\n# A"), ["a", "a-1", "a-1-1", "a-2"]);
        assert_eq!(anchors("<a id=\"x\"></a> <p name='y'>\n\n# T {#own}"), ["own", "t", "x", "y"]);
    }

    #[test]
    fn links_are_found_with_their_lines_and_external_ones_are_not() {
        let text = "[a](b.md#c) ![i](d.png)\n\n[r][ref] <img src=\"e.svg\"> <a href='f.html'>\n\n\
                    [w](https://x.org) [m](mailto:a@b.c) [p](//cdn/x)\n```\n[no](code.md)\n```\n\n[ref]: g.md\n";
        assert_eq!(
            targets(text),
            [
                ("b.md#c".to_owned(), 1, false),
                ("d.png".to_owned(), 1, true),
                ("g.md".to_owned(), 3, false),
                ("e.svg".to_owned(), 3, true),
                ("f.html".to_owned(), 3, false),
            ]
        );
    }

    #[test]
    fn a_drive_letter_is_no_scheme_and_a_path_with_a_colon_is_none() {
        assert!(is_external("https://x") && is_external("tel:1") && is_external("//x"));
        assert!(!is_external("a/b:c.md") && !is_external("#x:y") && !is_external("b.md"));
    }

    #[test]
    fn e5_brackets_without_end_are_read_in_reasonable_time() {
        for bomb in
            ["[".repeat(50_000), "> ".repeat(20_000), "![](".repeat(20_000), "*a ".repeat(20_000)]
        {
            page(&bomb);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_page(text in "\\PC*", page_text in "[\\[\\]()#!<>a=\"' \n`*_-]*") {
            page(&text);
            page(&page_text);
        }

        #[test]
        fn no_two_headings_share_an_anchor(headings in proptest::collection::vec("[aA1 -]{1,4}", 1..20)) {
            let mut slugs = Slugs::default();
            let anchors: BTreeSet<String> = headings.iter().map(|heading| slugs.next(heading)).collect();
            prop_assert_eq!(anchors.len(), headings.len());
        }
    }
}
