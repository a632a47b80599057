//! Commands that look at files and rules, and never need a daemon.

use std::io::{IsTerminal, Read};
use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;

use super::args::{Explain, Next, Rule as RuleArgs, Validate};
use super::output::{Exit, Failure, Outcome, distance, json, line, note};
use super::session::{Session, reading};
use crate::catalog;
use crate::model::HumanDuration;
use crate::schedule::{
    CronExpression, Diagnostic, DstPolicy, Look, Rule, Schedule, Trigger, Weekdays, parse_file,
    render_all, zone_name,
};

/// How many instants `explain` shows.
const EXPLAINED: usize = 5;

/// How far ahead `explain` looks for daylight saving's effects, in days.
const DST_DAYS: i64 = 366;

pub(super) fn validate(session: &Session, args: &Validate) -> Outcome {
    let now = session.now();
    let (files, schedules, diagnostics) = if args.paths.iter().any(|path| path == Path::new("-")) {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| Failure::new(Exit::Usage, format!("stdin cannot be read: {error}")))?;
        let reading = reading(session.settings());
        let parsed = parse_file(
            &Path::new("stdin.toml").into(),
            &text,
            &reading.defaults,
            reading.kinds,
            now,
        );
        (1, parsed.schedules.len(), parsed.diagnostics)
    } else {
        let paths = if args.paths.is_empty() {
            session.settings().schedule_dirs.clone()
        } else {
            args.paths.clone()
        };
        let missing: Vec<_> = paths.iter().filter(|path| !path.exists()).collect();
        if !args.no_environment && !missing.is_empty() {
            let names: Vec<String> =
                missing.iter().map(|path| path.display().to_string()).collect();
            return Err(Failure::new(Exit::Config, format!("there is no {}", names.join(", "))));
        }
        let report = catalog::check(&paths, &reading(session.settings()), now);
        (report.files.len(), report.schedules.len(), report.diagnostics)
    };
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count();
    let warnings = diagnostics.len() - errors;
    if session.json {
        json(&json!({
            "valid": errors == 0,
            "files": files,
            "schedules": schedules,
            "errors": errors,
            "warnings": warnings,
            "diagnostics": diagnostics,
        }));
    } else {
        print(&diagnostics);
        line(format!(
            "{} in {}: {}",
            counted(schedules, "valid schedule"),
            counted(files, "file"),
            if errors == 0 { "valid" } else { "not valid" }
        ));
    }
    Ok(match (errors, warnings) {
        (1.., _) => Exit::Config,
        (0, 1..) if args.strict => Exit::Warnings,
        _ => Exit::Ok,
    })
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn print(diagnostics: &[Diagnostic]) {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let look = if colour { Look::Colour } else { Look::Plain };
    if !diagnostics.is_empty() {
        note(render_all(diagnostics, look).trim_end());
    }
}

pub(super) fn next(session: &Session, args: &Next) -> Outcome {
    let rule = rule(session, &args.rule)?;
    let from = match &args.from {
        Some(text) => session.instant(text, true)?,
        None => session.now(),
    };
    let instants = upcoming(&rule, from, usize::from(args.count));
    if session.json {
        let times: Vec<String> = instants.iter().map(|at| offset_time(*at, &rule.zone)).collect();
        json(&json!({ "timezone": zone_name(&rule.zone), "times": times }));
    } else {
        show(&instants, &rule, session.now());
    }
    Ok(Exit::Ok)
}

fn upcoming(rule: &Rule, from: Timestamp, count: usize) -> Vec<Timestamp> {
    let mut instants = Vec::with_capacity(count);
    let mut after = from;
    while instants.len() < count
        && let Some(next) = rule.next_after(after, Some(after))
    {
        instants.push(next);
        after = next;
    }
    instants
}

/// RFC 3339 with the zone's offset at that time.
fn offset_time(at: Timestamp, zone: &TimeZone) -> String {
    let offset = zone.to_offset(at);
    at.display_with_offset(offset).to_string()
}

fn show(instants: &[Timestamp], rule: &Rule, now: Timestamp) {
    let follows = rule.follows().next().is_some();
    match (instants.is_empty(), follows) {
        (true, false) => note("never"),
        (_, true) => {
            note(format!("{} When that will be is not known beforehand.", rule.describe()));
        }
        (false, false) => {}
    }
    for at in instants {
        let local = at.to_zoned(rule.zone.clone());
        line(format!("{}  {}", local.strftime("%a %Y-%m-%d %H:%M:%S %Z"), distance(*at, now)));
    }
}

pub(super) fn explain(session: &Session, args: &Explain) -> Outcome {
    let now = session.now();
    let schedule = args.rule.id.as_deref().map(|id| find(session, id)).transpose()?;
    let rule = rule(session, &args.rule)?;
    let instants = upcoming(&rule, now, EXPLAINED);
    let until = now + jiff::SignedDuration::from_hours(24 * DST_DAYS);
    let warnings = rule.dst_warnings(now, until);
    if session.json {
        let times: Vec<String> = instants.iter().map(|at| offset_time(*at, &rule.zone)).collect();
        json(&json!({
            "sentence": rule.describe(),
            "timezone": zone_name(&rule.zone),
            "times": times,
            "dst_warnings": warnings,
            "fields": schedule.as_deref().map(crate::schedule::fields),
            "file": schedule.as_ref().map(|schedule| schedule.source.file.to_path_buf()),
        }));
        return Ok(Exit::Ok);
    }
    line(format!("{} ({})", rule.describe(), zone_name(&rule.zone)));
    show(&instants, &rule, now);
    for warning in warnings {
        line(format!("daylight saving: {warning}"));
    }
    if let Some(schedule) = schedule {
        line(format!("from {}:{}", schedule.source.file.display(), schedule.source.line));
        for (field, value) in crate::schedule::fields(&schedule) {
            line(format!("  {field} = {value}"));
        }
    }
    Ok(Exit::Ok)
}

fn find(session: &Session, id: &str) -> Result<std::sync::Arc<Schedule>, Failure> {
    let report = session.check_schedules();
    let found = report.schedules.iter().find(|schedule| schedule.id.as_str() == id).cloned();
    found.ok_or_else(|| {
        print(&report.diagnostics);
        let known: Vec<&str> =
            report.schedules.iter().map(|schedule| schedule.id.as_str()).collect();
        let hint =
            crate::jobs::suggest(id, &known).map(|hint| format!("; {hint}")).unwrap_or_default();
        Failure::new(Exit::NotFound, format!("there is no valid schedule `{id}`{hint}"))
    })
}

fn rule(session: &Session, args: &RuleArgs) -> Result<Rule, Failure> {
    let usage = |message: String| Failure::new(Exit::Usage, message);
    let zone = match &args.timezone {
        Some(name) => TimeZone::get(name).map_err(|error| usage(format!("--timezone: {error}")))?,
        None => session.settings().defaults.timezone.clone(),
    };
    let trigger = if let Some(id) = &args.id {
        let mut rule = find(session, id)?.when.rule.clone();
        if args.timezone.is_some() {
            rule.zone = zone;
        }
        return Ok(rule);
    } else if let Some(text) = &args.cron {
        let parsed = CronExpression::parse(text, "");
        Trigger::Cron(parsed.map_err(|error| {
            let caret = format!("{}{}", " ".repeat(error.offset), "^".repeat(error.len.max(1)));
            let help = error.help.map(|help| format!(" ({help})")).unwrap_or_default();
            usage(format!("--cron: {}{help}\n  {text}\n  {caret}", error.message))
        })?)
    } else if let Some(text) = &args.every {
        let period: HumanDuration =
            text.parse().map_err(|error| usage(format!("--every: {error}")))?;
        if period.get().is_zero() {
            return Err(usage("--every: the period must be longer than zero".to_owned()));
        }
        Trigger::Every { period: period.get() }
    } else {
        let times: Result<Vec<jiff::civil::Time>, Failure> = args
            .daily
            .iter()
            .map(|text| {
                text.trim().parse().map_err(|error| usage(format!("--daily: `{text}`: {error}")))
            })
            .collect();
        Trigger::Daily { times: times?, weekdays: Weekdays::ALL }
    };
    Ok(Rule { zone, triggers: vec![trigger], dst: DstPolicy::default() })
}
