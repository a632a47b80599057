//! What has to hold before a schedule's job is made: a path, a mount, free space.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::model::ByteSize;
use crate::schedule::Requirement;

/// The first requirement that is not met, in words; `None` when all are. Touches the file system, so it belongs on a blocking thread.
#[must_use]
pub(super) fn unmet(requirements: &[Requirement]) -> Option<String> {
    requirements.iter().find_map(|requirement| {
        let why = match requirement {
            Requirement::Path(path) => std::fs::metadata(path).err().map(|error| error.to_string()),
            Requirement::Mounted(path) => not_mounted(path),
            Requirement::Free { path, at_least } => lacks_space(path, *at_least),
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

#[cfg(test)]
mod tests {
    use super::*;

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
