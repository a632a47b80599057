//! What has to hold before a schedule's job is made: a path, a mount, free space, the success of another schedule.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use crate::model::{ByteSize, HumanDuration, ScheduleId};
use crate::schedule::Requirement;

/// When jobs of schedules last completed, and what time it is.
#[derive(Debug, Clone)]
pub(super) struct Successes {
    pub(super) last: HashMap<ScheduleId, Timestamp>,
    pub(super) now: Timestamp,
}

/// The schedules whose success is required.
pub(super) fn required(requirements: &[Requirement]) -> Vec<ScheduleId> {
    let named = requirements.iter().filter_map(|requirement| match requirement {
        Requirement::Fresh { schedule, .. } => Some(schedule.clone()),
        Requirement::Path(_) | Requirement::Mounted(_) | Requirement::Free { .. } => None,
    });
    named.collect()
}

/// Where it takes a look at the file system, which belongs on a blocking thread.
pub(super) fn paths(requirements: &[Requirement]) -> Vec<PathBuf> {
    let at = |requirement: &Requirement| match requirement {
        Requirement::Path(path) | Requirement::Mounted(path) | Requirement::Free { path, .. } => {
            Some(path.clone())
        }
        Requirement::Fresh { .. } => None,
    };
    requirements.iter().filter_map(at).collect()
}

/// The first requirement that is not met, in words; `None` when all are. See [`paths`].
#[must_use]
pub(super) fn unmet(requirements: &[Requirement], successes: &Successes) -> Option<String> {
    requirements.iter().find_map(|requirement| {
        let why = match requirement {
            Requirement::Path(path) => std::fs::metadata(path).err().map(|error| error.to_string()),
            Requirement::Mounted(path) => not_mounted(path),
            Requirement::Free { path, at_least } => lacks_space(path, *at_least),
            Requirement::Fresh { schedule, within } => not_fresh(schedule, *within, successes),
        };
        why.map(|why| format!("{requirement} is not met: {why}"))
    })
}

/// A mount point is on another device than its parent, or is its own parent.
fn not_mounted(path: &Path) -> Option<String> {
    let own = match std::fs::metadata(path) {
        Ok(own) => own,
        Err(error) => return Some(error.to_string()),
    };
    let parent = match std::fs::metadata(path.join("..")) {
        Ok(parent) => parent,
        Err(error) => return Some(error.to_string()),
    };
    let is_root = own.dev() == parent.dev() && own.ino() == parent.ino();
    let same_device = own.dev() == parent.dev();
    (same_device && !is_root).then(|| "nothing is mounted there".to_owned())
}

fn lacks_space(path: &Path, at_least: ByteSize) -> Option<String> {
    match rustix::fs::statvfs(path) {
        // What an unprivileged process may use, not what root could.
        Ok(space) => {
            let free = ByteSize(space.f_bavail.saturating_mul(space.f_frsize));
            (free < at_least).then(|| format!("only {free} are free"))
        }
        Err(error) => Some(std::io::Error::from(error).to_string()),
    }
}

fn not_fresh(schedule: &ScheduleId, within: HumanDuration, of: &Successes) -> Option<String> {
    let Some(last) = of.last.get(schedule) else {
        return Some(format!("no job of `{schedule}` has completed yet"));
    };
    let age = Duration::try_from(of.now.duration_since(*last)).unwrap_or_default();
    let ago = HumanDuration::from_secs(age.as_secs());
    (age > within.get()).then(|| format!("`{schedule}` last completed at {last}, {ago} ago"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unmet(requirements: &[Requirement]) -> Option<String> {
        super::unmet(requirements, &at_noon(&[]))
    }

    /// At noon, with jobs of these schedules having last completed so many minutes before.
    fn at_noon(last: &[(&str, i64)]) -> Successes {
        let now: Timestamp = "2026-06-15T12:00:00Z".parse().unwrap();
        let before = |minutes: i64| now - jiff::SignedDuration::from_mins(minutes);
        let last = last.iter().map(|(id, ago)| (id.parse().unwrap(), before(*ago))).collect();
        Successes { last, now }
    }

    #[test]
    fn a_success_is_fresh_for_as_long_as_is_said_and_no_longer() {
        let fresh = [Requirement::Fresh {
            schedule: "backup".parse().unwrap(),
            within: "1h".parse().unwrap(),
        }];
        let why = |last: &[(&str, i64)]| super::unmet(&fresh, &at_noon(last));
        assert_eq!(why(&[("backup", 60)]), None);
        assert_eq!(why(&[("backup", -5)]), None, "the clock was set back since");
        let late = why(&[("backup", 61), ("other", 1)]).unwrap();
        assert!(late.starts_with("fresh:backup:1h is not met: `backup` last completed"), "{late}");
        assert!(late.ends_with("1h 1m ago"), "{late}");
        assert!(why(&[("other", 1)]).unwrap().ends_with("no job of `backup` has completed yet"));
    }

    #[test]
    fn an_unmet_requirement_says_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let there = Requirement::Path(folder.path().to_owned());
        let gone = Requirement::Path(folder.path().join("gone"));
        assert_eq!(unmet(std::slice::from_ref(&there)), None);
        assert!(unmet(&[there, gone]).unwrap().contains("gone is not met"));
        let path = folder.path().to_owned();
        assert_eq!(unmet(&[Requirement::Free { path: path.clone(), at_least: ByteSize(1) }]), None);
        let all = Requirement::Free { path: path.clone(), at_least: ByteSize(u64::MAX) };
        assert!(unmet(&[all]).unwrap().contains("are free"));
        assert!(unmet(&[Requirement::Mounted(path)]).unwrap().contains("nothing is mounted"));
        assert_eq!(unmet(&[Requirement::Mounted("/".into())]), None);
    }
}
