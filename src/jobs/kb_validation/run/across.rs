//! What only all files together can say. It is worked out in every run from what is known of each file, read now or
//! remembered, so it is right however few files have changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

use super::Run;
use crate::jobs::kb_validation::finding::{Position, Report};
use crate::jobs::kb_validation::links::Site;
use crate::jobs::kb_validation::markdown::Page;
use crate::jobs::kb_validation::path;
use crate::jobs::kb_validation::rule::Rule;
use crate::jobs::kb_validation::scan::{FileEntry, Scan};
use crate::model::{ByteSize, HumanDuration};

/// Reports by the path they are about.
type Reports = BTreeMap<String, Vec<Report>>;

/// Pages that readers come to by themselves.
const ENTRANCES: [&str; 2] = ["index", "readme"];

impl Run<'_> {
    /// Everything that is not said of one file by its bytes alone.
    pub(super) fn across(&self, scan: &Scan) -> Reports {
        let mut reports = Reports::new();
        for (path, report) in &scan.odd {
            add(&mut reports, path, report.clone());
        }
        let present = scan.files.iter().filter(|file| self.seen.contains_key(&file.path));
        for file in present {
            self.outside_of_content(file, &mut reports);
        }
        self.required_and_forbidden(scan, &mut reports);
        self.pages(scan, &mut reports);
        self.checksums(&mut reports);
        self.duplicates(&mut reports);
        reports
    }

    fn outside_of_content(&self, file: &FileEntry, reports: &mut Reports) {
        let rules = &self.params.files;
        let size = file.stamp.size;
        if let Some(max) = rules.max_size.filter(|max| size > max.0) {
            let message = format!("larger than {max}");
            let report =
                Report::new(Rule::TooLarge, message).hint(format!("it has {}", ByteSize(size)));
            add(reports, &file.path, report);
        }
        if size == 0 {
            add(reports, &file.path, Report::new(Rule::EmptyFile, "the file is empty"));
        }
        let modified = Timestamp::from_nanosecond(i128::from(file.stamp.modified)).ok();
        let age = modified
            .and_then(|at| std::time::Duration::try_from(self.around.now.duration_since(at)).ok());
        if let Some((max, age)) = rules.max_age.zip(age).filter(|(max, age)| *age > max.get()) {
            let whole_hours = HumanDuration::from_secs(age.as_secs() / 3600 * 3600);
            let report = Report::new(Rule::TooOld, format!("not changed for longer than {max}"));
            add(reports, &file.path, report.hint(format!("it was changed {whole_hours} ago")));
        }
        if let Some(names) = self.plan.names.as_ref().filter(|names| !names.is_match(&file.path)) {
            let report = Report::new(Rule::BadName, "the path is not as files.names wants it");
            add(reports, &file.path, report.hint(format!("it must match {names}")));
        }
    }

    fn required_and_forbidden(&self, scan: &Scan, reports: &mut Reports) {
        for required in &self.plan.required {
            if !self.seen.keys().any(|path| required.is_match(path)) {
                let pattern = required.glob().glob();
                let report = Report::new(Rule::MissingFile, format!("no file matches `{pattern}`"));
                add(reports, ".", report);
            }
        }
        let odd = scan.odd.iter().map(|(path, _)| path);
        let all = self.seen.keys().chain(&scan.folders).chain(odd);
        for path in all.filter(|path| self.plan.forbid.is_match(path)) {
            add(reports, path, Report::new(Rule::ForbiddenFile, "it must not be here"));
        }
    }

    fn pages(&self, scan: &Scan, reports: &mut Reports) {
        let pages: BTreeMap<&str, &Page> = self
            .seen
            .iter()
            .filter_map(|(path, seen)| {
                Some((path.as_str(), seen.entry.as_ref()?.content.as_ref()?.page.as_ref()?))
            })
            .collect();
        // What is excluded, or behind a linked folder, was not met by the walk but may be linked to all the same.
        let exists = |path: &str| {
            path.is_empty()
                || self.seen.contains_key(path)
                || scan.folders.contains(path)
                || self.root.metadata(path).is_ok()
        };
        let site = Site { pages: &pages, exists: &exists };
        let mut linked: BTreeSet<String> = BTreeSet::new();
        for (path, page) in &pages {
            for report in site.check(path, page, self.plan.profile(path).links()) {
                add(reports, path, report);
            }
            linked.append(&mut site.linked_from(path, page));
        }
        for path in pages.keys().filter(|path| !linked.contains(**path)) {
            let is_entrance = ENTRANCES.contains(&path::stem(path).to_lowercase().as_str());
            if !is_entrance && self.plan.profile(path).reports_orphans() {
                add(reports, path, Report::new(Rule::Orphan, "no other page links to this one"));
            }
        }
        unique_fields(&pages, reports);
    }

    fn checksums(&self, reports: &mut Reports) {
        let Some(manifest) = &self.manifest else { return };
        let sums = self
            .seen
            .iter()
            .filter_map(|(path, seen)| {
                Some((path.as_str(), seen.entry.as_ref()?.digests.sha256.as_deref()?))
            })
            .collect();
        for (path, report) in manifest.check(&self.paths(), &sums) {
            add(reports, path, report);
        }
    }

    fn duplicates(&self, reports: &mut Reports) {
        if self.params.duplicates.is_none() {
            return;
        }
        let mut first: HashMap<&str, &str> = HashMap::new();
        for (path, seen) in &self.seen {
            let Some(entry) = seen.entry.as_ref().filter(|entry| entry.stamp.size > 0) else {
                continue;
            };
            if let Some(original) = first.get(entry.digests.blake3.as_str()) {
                let message = format!("the same content as {original}");
                add(reports, path, Report::new(Rule::DuplicateContent, message));
            } else {
                first.insert(&entry.digests.blake3, path);
            }
        }
    }
}

fn unique_fields(pages: &BTreeMap<&str, &Page>, reports: &mut Reports) {
    let mut first: HashMap<(&str, &str), (&str, Position)> = HashMap::new();
    for (path, page) in pages {
        for (field, (value, place)) in &page.unique {
            let Some((other, line)) =
                first.get(&(field, value)).map(|(path, place)| (*path, place.line))
            else {
                first.insert((field, value), (path, *place));
                continue;
            };
            let report =
                Report::new(Rule::FrontMatterUnique, format!("`{field}` is not unique: {value}"));
            add(reports, path, report.at(*place).hint(format!("first in {other} on line {line}")));
        }
    }
}

fn add(reports: &mut Reports, path: &str, report: Report) {
    reports.entry(path.to_owned()).or_default().push(report);
}
