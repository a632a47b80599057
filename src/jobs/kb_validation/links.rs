//! Where links lead: between files, so it is worked out in every run from what all pages say.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::Report;
use super::markdown::{Link, Page};
use super::params::Links;
use super::path;
use super::rule::Rule;
use crate::jobs::suggest;

/// All pages and files of a run.
pub(super) struct Site<'a> {
    pub(super) pages: &'a BTreeMap<&'a str, &'a Page>,
    /// Whether there is a file or folder at a path below the root.
    pub(super) exists: &'a dyn Fn(&str) -> bool,
}

/// What is wrong with a link.
#[derive(Debug, PartialEq, Eq)]
enum Trouble {
    Empty,
    Outside,
    NoFile,
    NoAnchor { page: String, anchor: String },
}

impl Site<'_> {
    /// Everything wrong with the links of a page.
    pub(super) fn check(&self, path: &str, page: &Page, wanted: Links) -> Vec<Report> {
        let asked = page.links.iter().filter(|link| {
            if link.is_image { wanted.images } else { wanted.local || wanted.anchors }
        });
        asked
            .filter_map(|link| {
                let trouble = self.follow(path, link).err()?;
                let is_anchor = matches!(trouble, Trouble::NoAnchor { .. });
                let is_wanted =
                    link.is_image || if is_anchor { wanted.anchors } else { wanted.local };
                is_wanted.then(|| self.report(link, &trouble))
            })
            .collect()
    }

    /// The pages a page links to.
    pub(super) fn linked_from(&self, path: &str, page: &Page) -> BTreeSet<String> {
        let targets = page.links.iter().filter_map(|link| target(path, &link.target).ok());
        targets.map(|(target, _)| target).filter(|target| target != path).collect()
    }

    fn follow(&self, path: &str, link: &Link) -> Result<(), Trouble> {
        let (target, anchor) = target(path, &link.target)?;
        if target != path && !(self.exists)(&target) {
            return Err(Trouble::NoFile);
        }
        let Some(anchor) = anchor.filter(|anchor| !anchor.is_empty() && anchor != "top") else {
            return Ok(());
        };
        // Fragments of other files, such as #L10 of a source, mean something only to those who show them.
        match self.pages.get(target.as_str()) {
            Some(page) if !page.anchors.contains(&anchor) => {
                Err(Trouble::NoAnchor { page: target, anchor })
            }
            _ => Ok(()),
        }
    }

    fn report(&self, link: &Link, trouble: &Trouble) -> Report {
        let written = &link.target;
        let report = match trouble {
            Trouble::Empty => Report::new(Rule::EmptyLink, "the link has no target"),
            Trouble::Outside => {
                Report::new(Rule::LinkOutside, format!("`{written}` leads out of the root"))
                    .hint("nothing is checked there")
            }
            Trouble::NoFile if link.is_image => {
                Report::new(Rule::BrokenImage, format!("the image `{written}` does not exist"))
            }
            Trouble::NoFile => Report::new(
                Rule::BrokenLink,
                format!("`{written}` leads to a file that does not exist"),
            ),
            Trouble::NoAnchor { page, anchor } => {
                let report = Report::new(
                    Rule::BrokenAnchor,
                    format!("`{written}` leads to a heading that does not exist"),
                );
                match self.nearest(page, anchor) {
                    Some(hint) => report.hint(hint),
                    None => report,
                }
            }
        };
        report.at(link.position)
    }

    fn nearest(&self, page: &str, anchor: &str) -> Option<String> {
        let anchors: Vec<&str> =
            self.pages.get(page)?.anchors.iter().map(String::as_str).take(1000).collect();
        suggest(&anchor.to_lowercase(), &anchors)
    }
}

/// The path and fragment a written target means on a page.
fn target(page: &str, written: &str) -> Result<(String, Option<String>), Trouble> {
    let (file, anchor) = match written.split_once('#') {
        Some((file, anchor)) => (file, Some(path::percent_decoded(anchor))),
        None => (written, None),
    };
    let file = file.split_once('?').map_or(file, |(file, _query)| file);
    if file.is_empty() {
        return if anchor.is_some() { Ok((page.to_owned(), anchor)) } else { Err(Trouble::Empty) };
    }
    let path =
        path::resolve(path::folder(page), &path::percent_decoded(file)).ok_or(Trouble::Outside)?;
    Ok((path, anchor))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::finding::{Findings, Levels};
    use super::super::markdown;
    use super::super::text::Lines;
    use super::*;

    fn read(text: &str) -> Page {
        let levels = Levels::default();
        markdown::read(0, &Lines::of(text), &mut Findings::new("x", &levels, 99))
    }

    fn found(text: &str, wanted: Links) -> Vec<(Rule, Option<String>)> {
        let (page, other) = (read(text), read("# Über uns\n# Install\n"));
        let pages = BTreeMap::from([("docs/a.md", &page), ("docs/sub/b c.md", &other)]);
        let exists =
            |path: &str| ["docs/a.md", "docs/sub/b c.md", "docs/sub", "img.png"].contains(&path);
        let site = Site { pages: &pages, exists: &exists };
        let levels = Levels::default();
        let mut findings = Findings::new("docs/a.md", &levels, 99);
        site.check("docs/a.md", &page, wanted).into_iter().for_each(|report| findings.add(report));
        findings.finish().0.into_iter().map(|found| (found.rule, found.hint)).collect()
    }

    #[test]
    fn good_links_are_quiet() {
        let text = "# Here\n[a](#here) [b](sub/b%20c.md#install) [c](<sub/b c.md#%C3%9Cber-uns>) [d](sub/) [e](/img.png)\n\
                    [f](../img.png?raw=1) [g](../img.png#L10) ![h](../img.png) [i](#top) [j](a.md)\n";
        assert_eq!(found(&text.replace("%C3%9C", "%C3%BC"), Links::default()), []);
    }

    #[test]
    fn broken_links_are_told_apart() {
        let text =
            "[a](no.md) [b](sub/b%20c.md#instal) ![c](no.png) [d](../../x.md) [e]() [f](#no)";
        let rules: Vec<Rule> =
            found(text, Links::default()).into_iter().map(|(rule, _)| rule).collect();
        assert_eq!(
            rules,
            [
                Rule::BrokenLink,
                Rule::BrokenAnchor,
                Rule::BrokenImage,
                Rule::LinkOutside,
                Rule::EmptyLink,
                Rule::BrokenAnchor
            ]
        );
        assert_eq!(
            found("[b](sub/b%20c.md#instal)", Links::default()),
            [(Rule::BrokenAnchor, Some("did you mean `install`?".to_owned()))]
        );
    }

    #[test]
    fn only_what_is_wanted_is_followed() {
        let text = "[a](no.md) [b](#no) ![c](no.png)";
        let none = Links { local: false, anchors: false, images: false };
        assert_eq!(found(text, none), []);
        assert_eq!(found(text, Links { anchors: true, ..none }), [(Rule::BrokenAnchor, None)]);
        assert_eq!(found(text, Links { images: true, ..none }), [(Rule::BrokenImage, None)]);
    }

    proptest! {
        #[test]
        fn any_target_leads_somewhere_or_is_a_finding(target in "[a-c/.#?%0-9 äÄ]{0,20}") {
            let page = Page {
                links: vec![Link {
                    target,
                    position: super::super::finding::Position { line: 1, col: None },
                    is_image: false,
                }],
                ..Page::default()
            };
            let pages = BTreeMap::from([("docs/a.md", &page)]);
            let site = Site { pages: &pages, exists: &|_| false };
            site.check("docs/a.md", &page, Links::default());
        }
    }
}
