//! Which directories may be cleaned at all.

use std::path::{Component, Path, PathBuf};

/// Why a text is refused as a root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum RootError {
    #[error("an empty path is no root")]
    Empty,
    #[error("`{}` leaves its directory with `..`", .0.escape_debug())]
    Parent(String),
    #[error("`{}` has `{}` in it, which nothing expands here", .0.escape_debug(), .1)]
    Shell(String, char),
    #[error("`{}` is a system directory", .0.display())]
    System(PathBuf),
}

impl RootError {
    /// What to do about it.
    pub(super) fn help(&self) -> String {
        match self {
            Self::Empty => "name a directory, such as `/var/lib/app/uploads`".to_owned(),
            Self::Parent(_) | Self::Shell(..) => {
                "write the real path; patterns belong in `include`".to_owned()
            }
            Self::System(path) if path.parent().is_none() => {
                "name the directory with the files, at least two levels down".to_owned()
            }
            Self::System(path) => format!(
                "name a directory of your own below it, or add `allow_system_roots = [\"{}\"]`",
                path.display()
            ),
        }
    }
}

/// What a shell, or a person, would expand. A root with one of these in its name cannot be cleaned; that costs less
/// than a root that is not what its writer thought (`rm -rf "$STEAMROOT/"*` with nothing in the variable).
const EXPANDED_BY_SHELLS: [char; 6] = ['$', '~', '*', '?', '[', '{'];

/// The system's own, with everything below: nothing in them is anybody's to clean by age.
const TREES: [&str; 17] = [
    "/bin",
    "/boot",
    "/dev",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/sbin",
    "/sys",
    "/usr/bin",
    "/usr/include",
    "/usr/lib",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/sbin",
    "/usr/share",
];

/// Shared by many programs: a directory below may be cleaned, these as a whole may not. So may not anything directly
/// below `/` and the home directories themselves.
const SHARED: [&str; 12] = [
    "/run/lock",
    "/run/systemd",
    "/run/user",
    "/usr/local",
    "/var/cache",
    "/var/lib",
    "/var/lock",
    "/var/log",
    "/var/mail",
    "/var/run",
    "/var/spool",
    "/var/tmp",
];

/// A root as an absolute path without `.` and doubled slashes, if it may be cleaned.
pub(super) fn resolve(
    root: &str,
    working_directory: &Path,
    allowed: &[String],
) -> Result<PathBuf, RootError> {
    if root.trim().is_empty() || root.contains('\0') {
        return Err(RootError::Empty);
    }
    if let Some(found) = root.chars().find(|c| EXPANDED_BY_SHELLS.contains(c)) {
        return Err(RootError::Shell(root.to_owned(), found));
    }
    let written = Path::new(root);
    if written.components().any(|part| part == Component::ParentDir) {
        return Err(RootError::Parent(root.to_owned()));
    }
    // Collecting components drops `.`, doubled and trailing slashes; `join` takes an absolute path as it is.
    let path: PathBuf =
        working_directory.join(written).components().filter(|c| *c != Component::CurDir).collect();
    let is_allowed = path.parent().is_some() && allowed.iter().any(|one| Path::new(one) == path);
    if is_system(&path) && !is_allowed {
        return Err(RootError::System(path));
    }
    Ok(path)
}

fn is_system(path: &Path) -> bool {
    let depth = path.components().filter(|part| matches!(part, Component::Normal(_))).count();
    let is_home = path.parent() == Some(Path::new("/home"));
    depth < 2
        || is_home
        || SHARED.iter().any(|shared| path == Path::new(shared))
        || TREES.iter().any(|tree| path.starts_with(tree))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(root: &str) -> Result<PathBuf, RootError> {
        resolve(root, Path::new("/srv/clone"), &[])
    }

    #[test]
    fn k6_system_directories_are_refused() {
        for root in [
            "/",
            "//",
            "/.",
            "/home",
            "/home/",
            "/etc",
            "/usr",
            "/var",
            "/boot",
            "/root",
            "/bin",
            "/lib",
            "/lib64",
            "/sbin",
            "/opt",
            "/srv",
            "/dev",
            "/proc",
            "/sys",
            "/run",
            "/tmp",
            "/mnt",
            "/var/tmp",
            "/var/lib",
            "/home/anna",
            "/proc/1/root",
            "/boot/grub",
            "/usr/lib/x",
            "/var/./tmp/",
        ] {
            assert!(matches!(resolved(root), Err(RootError::System(_))), "{root}");
        }
    }

    #[test]
    fn k6_what_a_shell_would_expand_is_refused() {
        for root in ["~", "~/tmp", "$EMPTY/*", "${X}/cache", "/data/*", "/data/[a]", "/data/{a,b}"]
        {
            assert!(matches!(resolved(root), Err(RootError::Shell(..))), "{root}");
        }
        for root in ["", " ", "\0"] {
            assert_eq!(resolved(root), Err(RootError::Empty));
        }
        for root in ["..", "/data/app/..", "/data/app/../../etc", "var/../.."] {
            assert!(matches!(resolved(root), Err(RootError::Parent(_))), "{root}");
        }
    }

    #[test]
    fn a_root_is_absolute_or_relative_to_the_working_directory() {
        for (root, path) in [
            ("var/tmp", "/srv/clone/var/tmp"),
            ("./var/tmp/", "/srv/clone/var/tmp"),
            (".", "/srv/clone"),
            ("/var/lib/app/uploads", "/var/lib/app/uploads"),
            ("/home/anna//downloads/", "/home/anna/downloads"),
            ("/tmp/app", "/tmp/app"),
            ("/bin-archive/old", "/bin-archive/old"),
        ] {
            assert_eq!(resolved(root), Ok(PathBuf::from(path)));
        }
        assert!(resolve("tmp", Path::new("/"), &[]).is_err(), "a daemon started in /");
    }

    #[test]
    fn a_system_directory_is_allowed_by_its_exact_path_and_the_root_of_all_never() {
        let allow = |root: &str, allowed: &str| {
            resolve(root, Path::new("/srv/clone"), &[allowed.to_owned()]).is_ok()
        };
        assert!(allow("/var/tmp", "/var/tmp"));
        assert!(allow("/var/tmp/", "/var/tmp"));
        assert!(!allow("/var/tmp", "/var"));
        assert!(!allow("/", "/"));
    }
}
