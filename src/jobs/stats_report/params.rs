//! The fields of `[stats_report]`.

use jiff::tz::TimeZone;
use serde::Deserialize;

use super::place::OutputTemplate;
use crate::jobs::{Params, Problem};
use crate::model::HumanDuration;
use crate::report::{Format, Period, Scope};

/// A report on a period, written to files.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StatsReport {
    /// Which stretch of time, relative to the instant the job was made for.
    pub period: Period,
    /// The IANA zone whose days, weeks and months count. UTC unless set.
    pub timezone: Option<String>,
    /// What to compare with.
    pub compare: Compare,
    /// What it is restricted to.
    pub scope: Scope,
    /// What it is written as.
    pub formats: Vec<Format>,
    /// Where it is written to; a relative path is below the daemon's `reports` folder.
    pub output: OutputTemplate,
    /// How long its dated files are kept.
    pub keep: HumanDuration,
}

/// What a report compares its numbers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compare {
    /// The period before.
    #[default]
    Previous,
    /// Nothing.
    None,
}

/// A year.
const DEFAULT_KEEP: HumanDuration = HumanDuration::from_secs(365 * 86_400);
/// Files are dated by day, so a shorter time means nothing.
const SHORTEST_KEEP: HumanDuration = HumanDuration::from_secs(86_400);

impl Default for StatsReport {
    fn default() -> Self {
        Self {
            period: Period::default(),
            timezone: None,
            compare: Compare::default(),
            scope: Scope::default(),
            formats: Format::ALL.to_vec(),
            output: OutputTemplate::default(),
            keep: DEFAULT_KEEP,
        }
    }
}

impl StatsReport {
    /// The zone whose days count.
    ///
    /// # Errors
    /// When this machine does not know it.
    pub fn zone(&self) -> Result<TimeZone, jiff::Error> {
        self.timezone.as_deref().map_or(Ok(TimeZone::UTC), TimeZone::get)
    }
}

impl Params for StatsReport {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.zone().is_err() {
            let name = self.timezone.as_deref().unwrap_or_default();
            let problem = Problem::at(
                "timezone",
                format!("`{}` is not a time zone known here", name.escape_default()),
            );
            problems.push(problem.help("use an IANA name like Europe/Berlin or UTC"));
        }
        if self.formats.is_empty() {
            problems.push(Problem::at("formats", "no format: nothing would be written"));
        }
        let has_duplicates =
            self.formats.iter().enumerate().any(|(at, one)| self.formats[..at].contains(one));
        if has_duplicates {
            problems.push(Problem::at("formats", "a format is listed twice"));
        }
        if self.formats.len() > 1 && !self.output.tells_formats_apart() {
            let problem = Problem::at("output", "several formats would be written to one file");
            problems.push(problem.help("put `{ext}` into its file name"));
        }
        if self.keep < SHORTEST_KEEP {
            let problem =
                Problem::at("keep", "it is shorter than a day, and reports are dated by day");
            problems.push(problem.help("use at least 1d"));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::jobs::{check_as, parse_params};

    fn problems(params: &serde_json::Value) -> Vec<String> {
        check_as::<StatsReport>(params).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_empty_table_is_yesterdays_report_in_every_format() {
        let params: StatsReport = parse_params(&json!({})).unwrap();
        assert_eq!(params.period, Period::Yesterday);
        assert_eq!(params.formats, Format::ALL);
        assert_eq!(params.compare, Compare::Previous);
    }

    #[test]
    fn every_mistake_is_reported_at_its_field() {
        let found = problems(&json!({
            "period": "yesterdy",
            "timezone": "Europe/Bärlin",
            "formats": ["html", "html"],
            "output": "report.html",
            "keep": "1h",
            "deliver": {"email": {}},
        }));
        for expected in
            ["period: ", "timezone: ", "formats: ", "output: ", "keep: ", "deliver: unknown key"]
        {
            assert!(
                found.iter().any(|problem| problem.starts_with(expected)),
                "{expected}: {found:?}"
            );
        }
        assert!(
            found.iter().any(|problem| problem.contains("did you mean `yesterday`")),
            "{found:?}"
        );
    }

    #[test]
    fn a_scope_has_no_tags() {
        let found = problems(&json!({"scope": {"tags": ["prod"]}}));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("scope.tags: unknown key"), "{found:?}");
    }
}
