//! Time zones are files as well: an upgrade of tzdata changes them while the daemon runs, and with them the instants of schedules
//! whose own files stay as they are.

use std::collections::HashMap;
use std::ffi::OsString;
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::next::Reading;
use super::snapshot::{Catalog, LoadedFile};
use crate::schedule::Schedule;

/// Makes the next look at a zone read its file. The library keeps zones for some minutes, and looking for all names again costs more than
/// an idle daemon should, so this is for reloads that somebody asks for.
pub(super) fn look_again() {
    jiff::tz::db().reset();
}

/// `catalog` without what is known of the files whose schedules are read in a zone that has other rules by now, so that those files are
/// read again.
pub(super) fn forget_outdated(catalog: &Arc<Catalog>) -> Arc<Catalog> {
    let mut zones = Zones::default();
    let mut is_outdated = |file: &LoadedFile| {
        let read = file.in_force.iter().chain(file.defined.iter().flatten());
        read.map(|schedule| &schedule.when.rule.zone).any(|zone| zones.renewed(zone).is_some())
    };
    let outdated: Vec<_> = catalog.files.iter().filter(|(_, file)| is_outdated(file)).collect();
    if outdated.is_empty() {
        return Arc::clone(catalog);
    }
    let outdated: Vec<OsString> = outdated.into_iter().map(|(name, _)| name.clone()).collect();
    Arc::new(catalog.without_what_is_known_of(&outdated))
}

/// How files are read, with the present rules of the zone that they may leave out.
pub(super) fn renew(reading: &Reading) -> Reading {
    let mut reading = reading.clone();
    if let Some(renewed) = Zones::default().renewed(&reading.defaults.timezone) {
        reading.defaults.timezone = renewed;
    }
    reading
}

/// Whether the zone of a schedule has other rules than before under the same name.
pub(super) fn has_other_rules(before: &Schedule, after: &Schedule) -> bool {
    let (before, after) = (&before.when.rule.zone, &after.when.rule.zone);
    before.iana_name() == after.iana_name() && before != after
}

/// The system's zones, each looked up once.
#[derive(Default)]
struct Zones(HashMap<String, Option<TimeZone>>);

impl Zones {
    /// The zone as it is now, where that is not what `zone` is. One that is gone stays as it was: the schedules that use it run, and the
    /// next edit of their file will name it.
    fn renewed(&mut self, zone: &TimeZone) -> Option<TimeZone> {
        let name = zone.iana_name()?;
        if !self.0.contains_key(name) {
            self.0.insert(name.to_owned(), TimeZone::get(name).ok());
        }
        self.0.get(name)?.as_ref().filter(|now| *now != zone).cloned()
    }
}
