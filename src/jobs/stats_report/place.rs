//! Where reports are written, and which files in a folder are a schedule's own reports. Pure.

use std::path::{Component, Path, PathBuf};

use jiff::civil::Date;
use serde::{Deserialize, Deserializer};

use crate::report::Format;

const SCHEDULE: &str = "{schedule}";
const DATE: &str = "{date}";
const EXTENSION: &str = "{ext}";

/// What stands for the schedule of a job that has none. No schedule can be called that.
const NO_SCHEDULE: &str = "_manual";

/// What stands for the date in the name of the link to the newest report.
const LATEST: &str = "latest";

/// A path with placeholders: `{schedule}` anywhere, `{date}` and `{ext}` in the file name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputTemplate {
    folder: String,
    file: String,
}

/// The folder and the file names of one schedule's reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) folder: PathBuf,
    file: String,
}

/// Why a text does not say where to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// There is nothing to call the file.
    #[error("it names no file")]
    NoFile,
    /// It could leave the folder it is meant for.
    #[error("`..` is not allowed: write the path as it is")]
    Parent,
    /// A control character.
    #[error("it has a control character in it")]
    Control,
    /// A word in braces that means nothing.
    #[error("`{0}` is no placeholder: use {{schedule}}, {{date}} or {{ext}}")]
    Unknown(String),
    /// A folder for each day would leave retention and the link to the newest report nothing to go by.
    #[error("`{0}` belongs into the file name, not into a folder's")]
    InFolder(&'static str),
    /// Which of the two dates counts could not be told.
    #[error("`{{date}}` is in it twice")]
    DateTwice,
}

impl Default for OutputTemplate {
    fn default() -> Self {
        Self { folder: SCHEDULE.to_owned(), file: format!("{DATE}.{EXTENSION}") }
    }
}

impl std::str::FromStr for OutputTemplate {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        if text.chars().any(char::is_control) {
            return Err(TemplateError::Control);
        }
        if Path::new(text).components().any(|part| part == Component::ParentDir) {
            return Err(TemplateError::Parent);
        }
        check_placeholders(text)?;
        let (folder, file) = match text.rsplit_once('/') {
            Some(("", file)) => ("/", file),
            Some((folder, file)) => (folder, file),
            None => ("", text),
        };
        if file.is_empty() || file == "." {
            return Err(TemplateError::NoFile);
        }
        for placeholder in [DATE, EXTENSION] {
            if folder.contains(placeholder) {
                return Err(TemplateError::InFolder(placeholder));
            }
        }
        if file.matches(DATE).count() > 1 {
            return Err(TemplateError::DateTwice);
        }
        Ok(Self { folder: folder.to_owned(), file: file.to_owned() })
    }
}

fn check_placeholders(text: &str) -> Result<(), TemplateError> {
    let mut rest = text.to_owned();
    for known in [SCHEDULE, DATE, EXTENSION] {
        rest = rest.replace(known, "");
    }
    match rest.find(['{', '}']) {
        Some(brace) => {
            let end = rest[brace..].find('}').map_or(rest.len(), |end| brace + end + 1);
            Err(TemplateError::Unknown(rest[brace..end].to_owned()))
        }
        None => Ok(()),
    }
}

impl<'de> Deserialize<'de> for OutputTemplate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl OutputTemplate {
    /// Whether each format has a file of its own.
    #[must_use]
    pub fn tells_formats_apart(&self) -> bool {
        self.file.contains(EXTENSION)
    }

    /// Where the reports of a schedule go. A relative folder is below `reports`.
    pub(super) fn place(&self, reports: &Path, schedule: Option<&str>) -> Place {
        let schedule = schedule.unwrap_or(NO_SCHEDULE);
        Place {
            folder: reports.join(self.folder.replace(SCHEDULE, schedule)),
            file: self.file.replace(SCHEDULE, schedule),
        }
    }
}

/// A report file among others in its folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DatedFile {
    pub(super) name: String,
    pub(super) date: Date,
    pub(super) format: Format,
}

impl Place {
    /// The name of a report's file.
    pub(super) fn file_name(&self, date: Date, format: Format) -> String {
        self.named(&date.to_string(), format)
    }

    /// The name of the link to the newest report. `None` where there is only one file, which is always the newest.
    pub(super) fn latest_name(&self, format: Format) -> Option<String> {
        self.file.contains(DATE).then(|| self.named(LATEST, format))
    }

    /// What a file of that name is, if it is one of these reports.
    pub(super) fn recognise(&self, name: &str) -> Option<DatedFile> {
        Format::ALL.into_iter().find_map(|format| {
            let pattern = self.file.replace(EXTENSION, format.extension());
            let (before, after) = pattern.split_once(DATE)?;
            let date: Date = name.strip_prefix(before)?.strip_suffix(after)?.parse().ok()?;
            // Only the one spelling that this place writes: `20261121.html` is somebody else's.
            let is_ours = self.file_name(date, format) == name;
            is_ours.then(|| DatedFile { name: name.to_owned(), date, format })
        })
    }

    fn named(&self, date: &str, format: Format) -> String {
        self.file.replace(DATE, date).replace(EXTENSION, format.extension())
    }
}

/// What to do in a folder of reports once the new ones are there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Tidying {
    /// Names of reports that have been kept long enough.
    pub(super) remove: Vec<String>,
    /// Names of links and of the reports they are to lead to.
    pub(super) latest: Vec<(String, String)>,
}

/// Plans retention and the links to the newest reports. `written` are never removed, whatever their date.
pub(super) fn tidy(
    place: &Place,
    present: impl IntoIterator<Item = String>,
    written: &[String],
    formats: &[Format],
    oldest_kept: Date,
) -> Tidying {
    let mut reports: Vec<DatedFile> =
        present.into_iter().filter_map(|name| place.recognise(&name)).collect();
    reports.sort_by(|a, b| (a.date, &a.name).cmp(&(b.date, &b.name)));
    let is_old = |file: &&DatedFile| file.date < oldest_kept && !written.contains(&file.name);
    let remove: Vec<String> = reports.iter().filter(is_old).map(|file| file.name.clone()).collect();
    // A report that was made up for later (a catch-up, a retry) must not hide a newer one.
    let newest = |format: &Format| {
        let report = reports.iter().rev().find(|file| file.format == *format)?;
        Some((place.latest_name(*format)?, report.name.clone()))
    };
    let latest = formats.iter().filter_map(newest).collect();
    Tidying { remove, latest }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(template: &str, schedule: Option<&str>) -> Place {
        template.parse::<OutputTemplate>().unwrap().place(Path::new("/var/reports"), schedule)
    }

    fn day(text: &str) -> Date {
        text.parse().unwrap()
    }

    #[test]
    fn a_path_is_below_the_reports_folder_unless_it_is_absolute() {
        let date = day("2026-11-21");
        for (template, folder, file) in [
            ("{schedule}/{date}.{ext}", "/var/reports/daily", "2026-11-21.md"),
            ("{schedule}-{date}.{ext}", "/var/reports/", "daily-2026-11-21.md"),
            ("/srv/www/{schedule}/r-{date}.{ext}", "/srv/www/daily", "r-2026-11-21.md"),
            ("/status.{ext}", "/", "status.md"),
        ] {
            let place = place(template, Some("daily"));
            assert_eq!(place.folder, Path::new(folder), "{template}");
            assert_eq!(place.file_name(date, Format::Markdown), file, "{template}");
        }
        assert_eq!(
            OutputTemplate::default().place(Path::new("r"), None).folder,
            Path::new("r/_manual")
        );
    }

    #[test]
    fn a_path_that_could_surprise_is_refused() {
        for (template, error) in [
            ("../{date}.{ext}", TemplateError::Parent),
            ("a/../../etc/{ext}", TemplateError::Parent),
            ("/srv/..", TemplateError::Parent),
            ("", TemplateError::NoFile),
            ("reports/", TemplateError::NoFile),
            ("{date}/report.{ext}", TemplateError::InFolder(DATE)),
            ("{ext}/report", TemplateError::InFolder(EXTENSION)),
            ("{date}-{date}.{ext}", TemplateError::DateTwice),
            ("{host}.{ext}", TemplateError::Unknown("{host}".to_owned())),
            ("{date.{ext}", TemplateError::Unknown("{date.".to_owned())),
            ("a\n{ext}", TemplateError::Control),
        ] {
            assert_eq!(template.parse::<OutputTemplate>(), Err(error), "{template}");
        }
    }

    #[test]
    fn only_names_that_it_writes_itself_are_recognised() {
        let place = place("{schedule}-{date}.{ext}", Some("daily"));
        for ours in ["daily-2026-11-21.html", "daily-2025-01-01.csv"] {
            assert_eq!(place.recognise(ours).unwrap().name, ours);
        }
        for foreign in [
            "daily-latest.html",
            "daily-20261121.html",
            "daily-2026-11-21.html.bak",
            "daily-2026-11-21.pdf",
            "weekly-2026-11-21.html",
            "daily-2026-11-31.html",
            "2026-11-21.html",
            "daily-.html",
        ] {
            assert_eq!(place.recognise(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn old_reports_go_and_the_newest_is_linked_even_when_an_older_one_was_just_written() {
        let place = place("{date}.{ext}", None);
        let present = [
            "2025-11-20.html",
            "2025-11-21.html",
            "2025-11-21.csv",
            "2026-11-21.html",
            "2024-01-01.html",
            "notes.txt",
            "latest.html",
        ]
        .map(str::to_owned);
        let tidying = tidy(
            &place,
            present,
            &["2024-01-01.html".to_owned()],
            &[Format::Html],
            day("2025-11-21"),
        );
        assert_eq!(tidying.remove, ["2025-11-20.html"]);
        assert_eq!(tidying.latest, [("latest.html".to_owned(), "2026-11-21.html".to_owned())]);
    }

    #[test]
    fn a_file_without_a_date_has_neither_retention_nor_a_link() {
        let place = place("status.{ext}", None);
        let present = ["status.html", "2020-01-01.html"].map(str::to_owned);
        let tidying = tidy(&place, present, &[], &Format::ALL, day("2026-01-01"));
        assert_eq!(tidying, Tidying::default());
    }
}
