//! What a reload changed, in the words of the files' authors.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::snapshot::{Broken, Catalog};
use super::zones;
use crate::model::ScheduleId;
use crate::schedule::{Schedule, fields, is_secret_name, zone_name};

/// The difference between two snapshots.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Diff {
    /// Schedules that are new.
    pub added: Vec<ScheduleId>,
    /// Schedules that are gone. Their history stays, and so do their running jobs.
    pub removed: Vec<ScheduleId>,
    /// Schedules that mean something else than before.
    pub changed: Vec<Changed>,
    /// Schedules that run on an earlier definition from now on.
    pub stale: Vec<Stale>,
    /// Schedules that ran on an earlier definition until now.
    pub recovered: Vec<ScheduleId>,
    /// Why and since when a file cannot be used, for files that define nothing that is in force.
    pub invalid: Vec<Broken>,
    /// Kinds that files declare, by name, and what became of them. Jobs that run go on as they began.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub kinds: BTreeMap<String, KindChange>,
}

/// What became of a kind that a file declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KindChange {
    /// It is new.
    Added,
    /// Its file says something else than before.
    Changed,
    /// It is gone: jobs of it fail.
    Removed,
}

/// A schedule whose file broke.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stale {
    /// Which one.
    pub id: ScheduleId,
    /// Why and since when.
    #[serde(flatten)]
    pub broken: Broken,
}

/// A schedule that means something else than before.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Changed {
    /// Which one.
    pub id: ScheduleId,
    /// What of it, by field name.
    pub fields: Vec<FieldChange>,
    /// How its next run moves; none where it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_run: Option<Moved>,
}

/// One field of a definition. Values are text as people read it; secrets are hidden.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FieldChange {
    /// As in the file: `when.daily`, `command.argv`.
    pub field: String,
    /// Before; none when it was absent.
    pub from: Option<String>,
    /// Now; none when it is absent.
    pub to: Option<String>,
}

/// The next run before and after. None: there is none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Moved {
    /// When it would have run.
    pub from: Option<Timestamp>,
    /// When it runs now.
    pub to: Option<Timestamp>,
    /// In whose time people are shown it.
    #[serde(skip)]
    zone: TimeZone,
}

impl Diff {
    /// What makes `after` out of `before`, seen at `now`.
    #[must_use]
    pub fn between(before: &Catalog, after: &Catalog, now: Timestamp) -> Self {
        let only_in = |these: &Catalog, others: &Catalog| -> Vec<ScheduleId> {
            these
                .schedules
                .keys()
                .filter(|id| !others.schedules.contains_key(id))
                .cloned()
                .collect()
        };
        let both = after.schedules.iter().filter_map(|(id, now)| {
            let then = before.schedules.get(id)?;
            let differs = then.hash != now.hash || zones::has_other_rules(then, now);
            (!Arc::ptr_eq(then, now) && differs).then_some((then, now))
        });
        let is_new = |found: Option<&Broken>, broken: &Broken| {
            found.is_none_or(|found| found.error != broken.error)
        };
        Self {
            added: only_in(after, before),
            removed: only_in(before, after),
            changed: both.map(|(then, it)| changed(then, it, now)).collect(),
            stale: after
                .stale
                .iter()
                .filter(|(id, broken)| is_new(before.stale.get(id), broken))
                .map(|(id, broken)| Stale { id: id.clone(), broken: broken.clone() })
                .collect(),
            recovered: before
                .stale
                .keys()
                .filter(|id| after.schedules.contains_key(id) && !after.stale.contains_key(id))
                .cloned()
                .collect(),
            invalid: after
                .invalid
                .iter()
                .filter(|(file, broken)| is_new(before.invalid.get(*file), broken))
                .map(|(_, broken)| broken.clone())
                .collect(),
            kinds: kind_changes(before, after),
        }
    }

    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn kind_changes(before: &Catalog, after: &Catalog) -> BTreeMap<String, KindChange> {
    let mut then: BTreeMap<&str, _> =
        before.kinds.declared().map(|(name, declared)| (name, declared.hash)).collect();
    let mut changes = BTreeMap::new();
    for (name, declared) in after.kinds.declared() {
        let change = match then.remove(name) {
            Some(hash) if hash == declared.hash => continue,
            Some(_) => KindChange::Changed,
            None => KindChange::Added,
        };
        changes.insert(name.to_owned(), change);
    }
    changes.extend(then.into_keys().map(|name| (name.to_owned(), KindChange::Removed)));
    changes
}

fn changed(before: &Schedule, after: &Schedule, now: Timestamp) -> Changed {
    let next = |schedule: &Schedule| {
        if schedule.enabled { schedule.when.rule.next_after(now, None) } else { None }
    };
    let (from, to) = (next(before), next(after));
    let zone = after.when.rule.zone.clone();
    let mut changes = field_changes(fields(before), fields(after));
    if zones::has_other_rules(before, after) {
        changes.push(FieldChange {
            field: "when.timezone".to_owned(),
            from: Some(zone_name(&zone)),
            to: Some(format!("{} by newer rules", zone_name(&zone))),
        });
    }
    Changed {
        id: after.id.clone(),
        fields: changes,
        next_run: (from != to).then_some(Moved { from, to, zone }),
    }
}

fn field_changes(
    mut before: BTreeMap<String, String>,
    after: BTreeMap<String, String>,
) -> Vec<FieldChange> {
    let mut changes = Vec::new();
    for (field, to) in after {
        let from = before.remove(&field);
        if from.as_ref() != Some(&to) {
            changes.push(FieldChange { field, from, to: Some(to) });
        }
    }
    let gone = before.into_iter();
    changes.extend(gone.map(|(field, from)| FieldChange { field, from: Some(from), to: None }));
    changes.sort_by(|one, other| one.field.cmp(&other.field));
    changes.into_iter().map(hide_secret).collect()
}

/// The change is told, the values are not.
fn hide_secret(mut change: FieldChange) -> FieldChange {
    if change.field.split('.').any(is_secret_name) {
        for value in [&mut change.from, &mut change.to].into_iter().flatten() {
            "(hidden)".clone_into(value);
        }
    }
    change
}

/// Longer values are cut where people read them.
const MAX_SHOWN_CHARS: usize = 120;

impl fmt::Display for Diff {
    /// One line for each thing, as `sexton reload` prints it. Empty when nothing changed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for id in &self.added {
            writeln!(f, "+ {id}")?;
        }
        for id in &self.removed {
            writeln!(f, "- {id}")?;
        }
        for changed in &self.changed {
            write!(f, "{changed}")?;
        }
        for Stale { id, broken } in &self.stale {
            writeln!(f, "! {id} stays as it was: {}", broken.error)?;
        }
        for broken in &self.invalid {
            writeln!(f, "! not loaded: {}", broken.error)?;
        }
        for id in &self.recovered {
            writeln!(f, "= {id} is up to date again")?;
        }
        for (name, change) in &self.kinds {
            match change {
                KindChange::Added => writeln!(f, "+ kind {name}")?,
                KindChange::Changed => writeln!(f, "~ kind {name}")?,
                KindChange::Removed => writeln!(f, "- kind {name}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "~ {}", self.id)?;
        for change in &self.fields {
            let (from, to) = (shown(change.from.as_deref()), shown(change.to.as_deref()));
            writeln!(f, "    {}: {from} -> {to}", change.field)?;
        }
        let Some(moved) = &self.next_run else { return Ok(()) };
        let time = |instant: Option<Timestamp>| match instant {
            Some(at) => {
                at.to_zoned(moved.zone.clone()).strftime("%a %d %b %Y %H:%M:%S %Z").to_string()
            }
            None => "never".to_owned(),
        };
        writeln!(f, "    next run: {} -> {}", time(moved.from), time(moved.to))
    }
}

fn shown(value: Option<&str>) -> String {
    let Some(value) = value else { return "(none)".to_owned() };
    let mut text: String =
        value.chars().take(MAX_SHOWN_CHARS).flat_map(char::escape_debug).collect();
    if value.chars().count() > MAX_SHOWN_CHARS {
        text.push('…');
    }
    text.replace("\\\"", "\"").replace("\\'", "'")
}
