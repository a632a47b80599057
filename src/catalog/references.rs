//! Schedules that name others: circles, which are refused, and names that nobody has, which are told.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::snapshot::Broken;
use crate::jobs::suggest;
use crate::model::ScheduleId;
use crate::schedule::{Code, Diagnostic, Reference, Requirement, Schedule, Severity};

/// Of how many unknown names in one file is told: past this, nobody looks any further.
const MAX_TOLD: usize = 100;

/// What makes a circle of a schedule that joins others, which `find` looks up by name; none when nothing does.
///
/// Schedules that follow each other would make each other due for ever, and one that requires its own success would never have a first one.
pub(super) fn circle<'s>(
    schedule: &'s Schedule,
    find: impl Fn(&ScheduleId) -> Option<&'s Schedule>,
) -> Option<Diagnostic> {
    let error = |reference: Option<&Reference>, message: String| {
        let file = schedule.source.file.as_ref();
        let error = Diagnostic::about(file, Severity::Error, Code::Circle, message);
        match reference {
            Some(reference) => error.at(reference.place),
            None => error,
        }
    };
    // Those of `after` come before those of `requires`.
    let mut references = schedule.source.references.iter();
    let id = &schedule.id;
    let requires_itself = |requirement: &Requirement| matches!(requirement, Requirement::Fresh { schedule, .. } if schedule == id);
    if schedule.run.requires.iter().any(requires_itself) {
        let message =
            format!("`{id}` requires its own success, so it could never run a first time");
        let required = references.rfind(|reference| reference.schedule == *id);
        return Some(error(required, message));
    }
    let way = way_back(schedule, find)?;
    let first = way.first().map_or(id, |first| &first.id);
    let others: Vec<String> = way
        .iter()
        .map(|other| {
            let source = &other.source;
            format!("which follows `{}` ({}:{})", other.id, source.file.display(), source.line)
        })
        .collect();
    let message = match others.as_slice() {
        [] => format!("`{id}` follows itself, so its first run would never be its last"),
        [..] => {
            // "`c` follows `b` (…), which follows `a` (…), which follows `c`".
            let chain = others.join(", ").replacen("which follows", "follows", 1);
            format!("`{id}` {chain}, which follows `{id}`: they would run each other for ever")
        }
    };
    let followed = references.find(|reference| reference.schedule == *first);
    Some(error(followed, message).with_help("take one `after` out of the circle".to_owned()))
}

/// The schedules between a schedule and itself, in the order in which they are followed: none of them when it follows itself.
fn way_back<'s>(
    schedule: &'s Schedule,
    find: impl Fn(&ScheduleId) -> Option<&'s Schedule>,
) -> Option<Vec<&'s Schedule>> {
    let mut seen: HashSet<&ScheduleId> = HashSet::new();
    let mut ways: Vec<Vec<&'s Schedule>> = vec![Vec::new()];
    while let Some(way) = ways.pop() {
        let last = way.last().copied().unwrap_or(schedule);
        for (next, _) in last.when.rule.follows() {
            if *next == schedule.id {
                return Some(way);
            }
            if seen.insert(next)
                && let Some(next) = find(next)
            {
                ways.push(way.iter().copied().chain([next]).collect());
            }
        }
    }
    None
}

/// The schedules that the definitions of a file name and nobody defines, a warning each.
///
/// It is no error: files come one after the other, one that is broken right now may define it, and what the definition says besides is
/// right. Until somebody defines it, its jobs neither end nor succeed.
pub(super) fn unknown(
    definitions: &[Arc<Schedule>],
    known: &BTreeMap<ScheduleId, Arc<Schedule>>,
    invalid: &BTreeMap<PathBuf, Broken>,
) -> Vec<Diagnostic> {
    let mut names: Option<Vec<&str>> = None;
    let mut helps: HashMap<&ScheduleId, Option<String>> = HashMap::new();
    let mut found = Vec::new();
    for schedule in definitions {
        for reference in &schedule.source.references {
            if found.len() >= MAX_TOLD {
                return found;
            }
            let other = &reference.schedule;
            // A file that is refused as a whole defines its own all the same.
            if known.contains_key(other) || definitions.iter().any(|own| own.id == *other) {
                continue;
            }
            let help = helps.entry(other).or_insert_with(|| {
                let is_its_file =
                    |path: &&PathBuf| path.file_stem().is_some_and(|stem| stem == other.as_str());
                if let Some(path) = invalid.keys().find(is_its_file) {
                    return Some(format!(
                        "{} has an error and defines nothing yet",
                        path.display()
                    ));
                }
                let names =
                    names.get_or_insert_with(|| known.keys().map(ScheduleId::as_str).collect());
                suggest(other.as_str(), names)
            });
            let message =
                format!("there is no schedule `{other}` yet, and `{}` waits for it", schedule.id);
            let file = schedule.source.file.as_ref();
            let warning =
                Diagnostic::about(file, Severity::Warning, Code::UnknownSchedule, message)
                    .at(reference.place);
            found.push(match help {
                Some(help) => warning.with_help(help.clone()),
                None => warning,
            });
        }
    }
    found
}
