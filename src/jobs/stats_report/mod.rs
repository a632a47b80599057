//! `stats_report`: the numbers of a period as files.

mod files;
mod params;
mod place;

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp, Zoned};
use serde_json::{Value, json};

pub use params::{Compare, StatsReport};
pub use place::{OutputTemplate, TemplateError};

use super::{Answer, Context, Failure, Handler, Kind, Problem, check_as, parse_params};
use crate::report::{self, Format, GatherError, Numbers, Request, Source};
use place::{Place, Tidying, tidy};

/// The kind.
pub const KIND: Kind = Kind::built_in(
    "stats_report",
    "reports on the jobs of a period as HTML, Markdown, JSON and CSV files",
    check_as::<StatsReport>,
);

/// Makes reports from a source of rows.
#[derive(Clone)]
pub struct StatsReportHandler {
    source: Arc<dyn Source>,
}

impl StatsReportHandler {
    /// A handler that reports on what `source` holds.
    #[must_use]
    pub fn new(source: Arc<dyn Source>) -> Self {
        Self { source }
    }

    async fn report(&self, context: Context) -> Answer {
        match self.plan(&context).await {
            Ok(plan) => context.blocking(move |context| carry_out(&plan, context)).await,
            Err(answer) => answer,
        }
    }

    async fn plan(&self, context: &Context) -> Result<Plan, Answer> {
        let params: StatsReport =
            parse_params(&context.job.params).map_err(|problems| refuse(&problems))?;
        let reference = reference(context, &params)?;
        let request = Request {
            period: params.period,
            compare: params.compare == Compare::Previous,
            scope: params.scope,
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            now: context.clock.now(),
            reference,
        };
        let watch = |rows: u64| {
            context.progress.report(None, format!("read {rows} rows"));
            if context.must_stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let numbers = match report::gather(&*self.source, &request, watch).await {
            Ok(numbers) => numbers,
            Err(GatherError::Stopped) => return Err(Answer::Stopped { result: None }),
            Err(error @ GatherError::Period(_)) => {
                return Err(Failure::error(chain(&error)).for_good().into());
            }
            Err(error @ GatherError::Source(_)) => return Err(Failure::error(chain(&error)).into()),
        };
        let schedule = context.job.schedule.as_ref().map(|(id, _)| id.as_str());
        Ok(Plan {
            place: params.output.place(&context.paths.reports, schedule),
            date: last_day(&numbers, &request.reference),
            oldest_kept: request.reference.saturating_sub(params.keep.get()).date(),
            formats: params.formats,
            numbers,
        })
    }
}

impl fmt::Debug for StatsReportHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatsReportHandler").finish_non_exhaustive()
    }
}

impl Handler for StatsReportHandler {
    fn run(&self, context: Context) -> BoxFuture<'_, Answer> {
        Box::pin(self.report(context))
    }
}

/// What is to be written where.
struct Plan {
    numbers: Numbers,
    formats: Vec<Format>,
    place: Place,
    date: Date,
    oldest_kept: Date,
}

fn refuse(problems: &[Problem]) -> Answer {
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    Failure::error(format!("the params are wrong: {}", problems.join("; "))).for_good().into()
}

/// The instant the period is relative to: the one the job was made for, so that a report that runs late, again or as a
/// catch-up is still about its own day. For a job without one, now.
fn reference(context: &Context, params: &StatsReport) -> Result<Zoned, Answer> {
    let instant: Timestamp =
        context.job.schedule.as_ref().map_or_else(|| context.clock.now(), |(_, nominal)| *nominal);
    match params.zone() {
        Ok(zone) => Ok(instant.to_zoned(zone)),
        Err(error) => Err(Failure::error(chain(&error)).for_good().into()),
    }
}

/// A report is dated by the last day it covers, some of it at least.
fn last_day(numbers: &Numbers, reference: &Zoned) -> Date {
    let end = numbers.period.to;
    let last = if numbers.period.from < end {
        end.saturating_sub(SignedDuration::from_micros(1)).unwrap_or(end)
    } else {
        end
    };
    last.to_zoned(reference.time_zone().clone()).date()
}

fn carry_out(plan: &Plan, context: &Context) -> Answer {
    let mut written: Vec<Value> = Vec::new();
    let mut names: Vec<String> = Vec::new();
    let total = plan.formats.len() as u64;
    for format in &plan.formats {
        if context.must_stop() {
            return Answer::Stopped { result: Some(json!({ "files": written })) };
        }
        let name = plan.place.file_name(plan.date, *format);
        context.progress.steps(names.len() as u64, total, format!("writing {name}"));
        let content = match report::render(&plan.numbers, *format) {
            Ok(content) => content,
            Err(error) => return Failure::error(chain(&error)).for_good().into(),
        };
        let path = plan.place.folder.join(&name);
        if !context.job.dry_run
            && let Err(error) = write(&plan.place.folder, &name, &content)
        {
            return not_possible("write", &path, &error);
        }
        context.output.line(format!(
            "{} {}",
            verb(context, "wrote", "would write"),
            path.display()
        ));
        written.push(json!({ "path": path, "format": format, "bytes": content.len() }));
        names.push(name);
    }
    match tidy_up(plan, &names, context) {
        Ok(tidying) => Answer::Done(result(plan, &written, &tidying, context)),
        Err(answer) => answer,
    }
}

fn write(folder: &Path, name: &str, content: &str) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    files::replace(folder, name, content.as_bytes())
}

fn tidy_up(plan: &Plan, written: &[String], context: &Context) -> Result<Tidying, Answer> {
    let folder = &plan.place.folder;
    let mut present: BTreeSet<String> = files::names(folder)
        .map_err(|error| not_possible("list", folder, &error))?
        .into_iter()
        .collect();
    // After a real run these are there already; a dry run is planned as if they were.
    present.extend(written.iter().cloned());
    let mut tidying = tidy(&plan.place, present, written, &plan.formats, plan.oldest_kept);
    if context.job.dry_run {
        return Ok(tidying);
    }
    for (name, target) in &tidying.latest {
        files::link(folder, name, target)
            .map_err(|error| not_possible("replace", &folder.join(name), &error))?;
    }
    // A report that cannot be removed is said and left: the reports that were asked for are there.
    tidying.remove.retain(|name| match std::fs::remove_file(folder.join(name)) {
        Ok(()) => true,
        Err(error) => {
            context.output.line(format!("cannot remove the old report {name}: {error}"));
            false
        }
    });
    Ok(tidying)
}

fn result(plan: &Plan, written: &[Value], tidying: &Tidying, context: &Context) -> Value {
    let full = |name: &String| plan.place.folder.join(name);
    json!({
        "dry_run": context.job.dry_run,
        "period": plan.numbers.period,
        "totals": plan.numbers.summary,
        "files": written,
        "latest": tidying.latest.iter().map(|(name, _)| full(name)).collect::<Vec<_>>(),
        "removed": tidying.remove.iter().map(full).collect::<Vec<_>>(),
    })
}

fn verb(context: &Context, real: &'static str, dry: &'static str) -> &'static str {
    if context.job.dry_run { dry } else { real }
}

fn not_possible(what: &str, path: &Path, error: &io::Error) -> Answer {
    Failure::error(format!("cannot {what} {}: {error}", path.display())).into()
}

/// An error with its causes, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests;
