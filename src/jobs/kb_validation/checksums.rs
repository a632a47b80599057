//! A manifest of SHA-256 sums, in the format of `sha256sum`.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::{Position, Report};
use super::path;
use super::rule::Rule;

/// What a manifest says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    /// Where it is.
    pub(super) path: String,
    /// The sum and the line of each path below the root. Of a path that comes twice, the last one counts.
    pub(super) listed: BTreeMap<String, (String, Position)>,
    /// Lines that cannot be used.
    bad: Vec<Report>,
}

impl Manifest {
    /// Reads a manifest. Its paths are relative to its own folder, as `sha256sum -c` run there takes them.
    pub(super) fn parse(manifest_path: &str, text: &str) -> Self {
        let mut manifest = Self { path: manifest_path.to_owned(), ..Self::default() };
        let lines = text.trim_start_matches('\u{feff}').lines().zip(1..);
        for (line, number) in lines.filter(|(line, _)| !line.trim().is_empty()) {
            let place = Position { line: number, col: None };
            let Some((sum, written)) = entry(line) else {
                let report = Report::new(Rule::ChecksumLine, "not a line of sha256sum").about(line);
                manifest
                    .bad
                    .push(report.at(place).hint("write 64 hex digits, two spaces and a path"));
                continue;
            };
            let outside = written.starts_with('/');
            match path::resolve(path::folder(manifest_path), &written).filter(|_| !outside) {
                Some(path) => {
                    manifest.listed.insert(path, (sum, place));
                }
                None => {
                    let message = format!("`{written}` leads out of the root and is refused");
                    manifest.bad.push(Report::new(Rule::ChecksumOutside, message).at(place));
                }
            }
        }
        manifest
    }

    /// Holds the files against the manifest: `sums` has what was computed for the listed files that exist, `files`
    /// everything there is. Gives reports with the paths they are about.
    pub(super) fn check<'a>(
        &'a self,
        files: &BTreeSet<&'a str>,
        sums: &BTreeMap<&str, &str>,
    ) -> Vec<(&'a str, Report)> {
        let mut reports: Vec<(&str, Report)> =
            self.bad.iter().map(|report| (self.path.as_str(), report.clone())).collect();
        for (path, (sum, place)) in &self.listed {
            if !files.contains(path.as_str()) {
                let report = Report::new(Rule::ChecksumMissing, format!("`{path}` does not exist"));
                reports.push((&self.path, report.at(*place)));
            } else if let Some(actual) = sums.get(path.as_str()).filter(|actual| *actual != sum) {
                let report =
                    Report::new(Rule::ChecksumMismatch, format!("the SHA-256 is {actual}"));
                let hint = format!("{} says {sum} on line {}", self.path, place.line);
                reports.push((path, report.about("sum").hint(hint)));
            }
        }
        let unlisted =
            files.iter().filter(|path| !self.listed.contains_key(**path) && **path != self.path);
        for path in unlisted {
            let message = format!("not listed in {}", self.path);
            reports.push((path, Report::new(Rule::ChecksumUnlisted, message)));
        }
        reports
    }
}

/// A line's sum in lower case, and its path. A line that starts with `\` has line breaks and backslashes escaped.
fn entry(line: &str) -> Option<(String, String)> {
    let (escaped, line) = match line.strip_prefix('\\') {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let (sum, rest) = line.split_at_checked(64)?;
    let path = rest.strip_prefix("  ").or_else(|| rest.strip_prefix(" *"))?;
    let is_sum = sum.bytes().all(|byte| byte.is_ascii_hexdigit());
    let path = if escaped { unescaped(path)? } else { path.to_owned() };
    (is_sum && !path.is_empty()).then(|| (sum.to_ascii_lowercase(), path))
}

fn unescaped(path: &str) -> Option<String> {
    let mut plain = String::with_capacity(path.len());
    let mut chars = path.chars();
    while let Some(c) = chars.next() {
        plain.push(match c {
            '\\' => match chars.next()? {
                'n' => '\n',
                'r' => '\r',
                '\\' => '\\',
                _ => return None,
            },
            other => other,
        });
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::finding::{Findings, Levels};
    use super::*;

    fn rules(manifest: &Manifest, files: &[&str], sums: &[(&str, &str)]) -> Vec<(String, Rule)> {
        let levels = Levels::default();
        let files = files.iter().copied().collect();
        let reports = manifest.check(&files, &sums.iter().copied().collect());
        let rule = |report: Report| {
            let mut findings = Findings::new("x", &levels, 9);
            findings.add(report);
            findings.finish().0[0].rule
        };
        reports.into_iter().map(|(path, report)| (path.to_owned(), rule(report))).collect()
    }

    #[test]
    fn files_are_held_against_the_manifest() {
        let (one, two) = ("1".repeat(64), "A".repeat(64));
        let text = format!("{one}  a.bin\n{two} *sub/b.bin\n\n\\{one}  new\\nline\n{one}  gone\n");
        let manifest = Manifest::parse("data/SUMS", &text);
        let files = ["data/SUMS", "data/a.bin", "data/new\nline", "data/sub/b.bin", "other"];
        let (lower, zero) = (two.to_lowercase(), "0".repeat(64));
        let sums = [
            ("data/a.bin", one.as_str()),
            ("data/sub/b.bin", lower.as_str()),
            ("data/new\nline", zero.as_str()),
        ];
        assert_eq!(
            rules(&manifest, &files, &sums),
            [
                ("data/SUMS".to_owned(), Rule::ChecksumMissing),
                ("data/new\nline".to_owned(), Rule::ChecksumMismatch),
                ("other".to_owned(), Rule::ChecksumUnlisted),
            ]
        );
    }

    #[test]
    fn paths_that_leave_the_root_are_refused_and_other_lines_told() {
        let sum = "0".repeat(64);
        let text =
            format!("{sum}  ../../etc/passwd\n{sum}  /etc/passwd\nhello\n{sum} x\n{sum}  ../ok\n");
        let manifest = Manifest::parse("data/SUMS", &text);
        let found: Vec<Rule> =
            rules(&manifest, &["ok"], &[]).into_iter().map(|(_, rule)| rule).collect();
        let (outside, line) = (Rule::ChecksumOutside, Rule::ChecksumLine);
        assert_eq!(found, [outside, outside, line, line]);
    }

    proptest! {
        #[test]
        fn any_text_is_a_manifest_or_findings(text in "\\PC*", lines in "(\\\\?[0-9a-f]{63,65}[ *]{1,3}[a./\\\\n]*\n)*") {
            Manifest::parse("a/SUMS", &text);
            for path in Manifest::parse("a/SUMS", &lines).listed.keys() {
                prop_assert!(!path.starts_with('/') && !path.split('/').any(|part| part == ".."));
            }
        }
    }
}
