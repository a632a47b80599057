//! The `[cleanup]` table.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::patterns::Patterns;
use super::roots::{self, RootError};
use crate::jobs::{Params, Problem};
use crate::model::{ByteSize, HumanDuration};

/// What to clean, and how much of it at most.
///
/// What is deleted matches *all* of `types`, `include`, `older_than` and `min_size`, and none of `exclude`, `protect`
/// and `keep`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cleanup {
    /// Directories to clean, absolute or relative to the daemon's working directory. They are never left.
    pub roots: Vec<String>,
    /// Patterns of what may be deleted; everything when there is none.
    pub include: Vec<String>,
    /// Patterns of what stays; an excluded directory is not entered.
    pub exclude: Vec<String>,
    /// The same, and said so in the result.
    pub protect: Vec<String>,
    /// What sorts of things may be deleted.
    pub types: Vec<EntryType>,
    /// How long ago the newest of the stamps in `age_by` must be.
    pub older_than: Option<HumanDuration>,
    /// The stamps that count.
    pub age_by: Vec<Stamp>,
    /// What is smaller stays.
    pub min_size: ByteSize,
    /// What stays although it matches.
    pub keep: Keep,
    /// Whether directories that are empty, or become so, are removed once their `mtime` is older than `older_than`.
    pub delete_empty_dirs: bool,
    /// Whether files and directories that another program has locked (flock) stay.
    pub skip_locked: bool,
    /// Bounds of the plan: past one of them nothing is deleted.
    pub limits: Limits,
    /// System directories that may be roots all the same, each by its exact path.
    pub allow_system_roots: Vec<String>,
    /// Known only to be refused with an explanation.
    pub follow_symlinks: bool,
    /// What of the daemon's own history is deleted.
    pub history: Option<History>,
}

/// A sort of thing that can be deleted. Devices, sockets and pipes never are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryType {
    /// A regular file.
    File,
    /// A symbolic link itself, never what it points to.
    Symlink,
}

/// A stamp of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stamp {
    /// The content was written. Anybody who may write can set it back.
    Mtime,
    /// Content, owner, mode or links changed. Nobody can set it back.
    Ctime,
    /// It was read.
    Atime,
    /// It was made, where the file system knows.
    Btime,
}

/// Which of the matching files of a group stay. A file stays when any of these wants it, as with restic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Keep {
    /// This many of the newest.
    pub newest: u32,
    /// The newest of each of the last so many days (UTC) that have one.
    pub daily: u32,
    /// The same for weeks from Monday.
    pub weekly: u32,
    /// The same for months.
    pub monthly: u32,
    /// Those not older than this, counted back from the newest of the group.
    pub within: Option<HumanDuration>,
    /// What makes a group.
    pub group_by: GroupBy,
}

/// What makes a group of files for [`Keep`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupBy {
    /// The files of one directory.
    #[default]
    Directory,
}

/// Bounds of the whole plan of one run.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Files and symbolic links; of directories as well no more than this.
    pub max_files: u64,
    /// Bytes of them.
    pub max_bytes: Option<ByteSize>,
    /// Share of the files seen below one root, from 0 to 1.
    pub max_fraction: Option<f64>,
    /// What to do past a limit.
    pub on_exceed: OnExceed,
}

/// What to do when a plan is past a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExceed {
    /// Nothing is deleted, and the job fails.
    #[default]
    Abort,
}

/// How long finished jobs are kept. What has no length here stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct History {
    /// Jobs that ended well.
    pub completed: Option<HumanDuration>,
    /// Jobs that failed for good.
    pub failed: Option<HumanDuration>,
    /// Jobs that were cancelled.
    pub cancelled: Option<HumanDuration>,
    /// The last so many of each schedule stay, however old.
    pub keep_last_per_schedule: u32,
}

impl Default for Cleanup {
    fn default() -> Self {
        Self {
            roots: Vec::new(),
            include: Vec::new(),
            exclude: Vec::new(),
            protect: Vec::new(),
            types: vec![EntryType::File],
            older_than: None,
            age_by: vec![Stamp::Mtime, Stamp::Ctime],
            min_size: ByteSize(0),
            keep: Keep::default(),
            delete_empty_dirs: false,
            skip_locked: true,
            limits: Limits::default(),
            allow_system_roots: Vec::new(),
            follow_symlinks: false,
            history: None,
        }
    }
}

impl Default for Limits {
    /// A plan of more than 100,000 files is one that somebody should look at; it also bounds the memory of a run.
    fn default() -> Self {
        Self { max_files: 100_000, max_bytes: None, max_fraction: None, on_exceed: OnExceed::Abort }
    }
}

impl Keep {
    /// Whether it keeps anything at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.newest == 0
            && self.daily == 0
            && self.weekly == 0
            && self.monthly == 0
            && self.within.is_none()
    }
}

impl Cleanup {
    /// The roots as absolute paths, each with its place in `roots`.
    pub(super) fn resolved_roots(
        &self,
        working_directory: &Path,
    ) -> impl Iterator<Item = Result<PathBuf, RootError>> {
        self.roots
            .iter()
            .map(move |root| roots::resolve(root, working_directory, &self.allow_system_roots))
    }

    fn chooses_files(&self) -> bool {
        self.older_than.is_some() || !self.keep.is_empty() || self.min_size > ByteSize(0)
    }

    fn root_problems(&self) -> Vec<Problem> {
        let working_directory = match std::env::current_dir() {
            Ok(directory) => directory,
            Err(error) => {
                return vec![Problem::at("roots", format!("no working directory: {error}"))];
            }
        };
        let mut found = Vec::new();
        let mut good: Vec<PathBuf> = Vec::new();
        for (index, root) in self.resolved_roots(&working_directory).enumerate() {
            let place = format!("roots.{index}");
            match root {
                Err(error) => {
                    found.push(Problem::at(&place, error.to_string()).help(error.help()));
                }
                Ok(root) => {
                    let other = good.iter().find(|other| overlap(other, &root));
                    found.extend(other.map(|other| {
                        let message = format!("this is `{}` or overlaps with it", other.display());
                        Problem::at(&place, message).help("name each tree once")
                    }));
                    good.push(root);
                }
            }
        }
        found
    }

    fn pattern_problems(&self) -> Vec<Problem> {
        [("include", &self.include), ("exclude", &self.exclude), ("protect", &self.protect)]
            .into_iter()
            .flat_map(|(key, patterns)| {
                patterns.iter().enumerate().filter_map(move |(index, pattern)| {
                    let error = Patterns::compile(std::slice::from_ref(pattern)).err()?;
                    Some(Problem::at(&format!("{key}.{index}"), error.to_string()))
                })
            })
            .collect()
    }

    fn policy_problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        if self.roots.is_empty() {
            if self.history.is_none() {
                let problem = Problem::at("", "there is nothing to clean");
                found.push(problem.help("add `roots`, or a `[cleanup.history]` table"));
            } else if self.chooses_files() {
                let problem = Problem::at("", "these rules have no `roots` to apply to");
                found.push(problem.help("add `roots`, or leave only `[cleanup.history]`"));
            }
        } else if !self.chooses_files() {
            let problem = Problem::at("", "no rule says what to delete, so everything would match");
            found.push(problem.help(
                "add `older_than = \"7d\"`, `min_size` or a `[cleanup.keep]` table such as `newest = 10`",
            ));
        }
        if self.delete_empty_dirs && self.older_than.is_none() {
            let problem = Problem::at("delete_empty_dirs", "nothing says how old they must be");
            found.push(problem.help("add `older_than`; a directory counts from its `mtime`"));
        }
        if self.older_than == Some(HumanDuration::default()) {
            let problem = Problem::at("older_than", "everything is older than no time at all");
            found.push(problem.help("for all but what is being written, use `1m` or more"));
        }
        if self.age_by.is_empty() {
            let problem = Problem::at("age_by", "without a stamp nothing has an age");
            found.push(problem.help("leave it out for `[\"mtime\", \"ctime\"]`"));
        }
        if self.types.is_empty() {
            let problem = Problem::at("types", "no sort of thing is left to delete");
            found.push(problem.help("leave it out for `[\"file\"]`"));
        }
        if self.follow_symlinks {
            let problem = Problem::at("follow_symlinks", "symbolic links are never followed");
            found.push(problem.help("list the real directory in `roots`"));
        }
        found
    }

    fn limit_problems(&self) -> Option<Problem> {
        let fraction = self.limits.max_fraction?;
        (!(fraction > 0.0 && fraction <= 1.0)).then(|| {
            Problem::at("limits.max_fraction", format!("{fraction} is not a share"))
                .help("use more than 0 and at most 1; 0.5 is half of the files")
        })
    }

    fn history_problems(&self) -> Option<Problem> {
        let history = self.history?;
        let lengths = [history.completed, history.failed, history.cancelled];
        lengths.iter().all(Option::is_none).then(|| {
            Problem::at("history", "no length of time says what to delete")
                .help("add `completed = \"30d\"`, `failed` or `cancelled`")
        })
    }
}

impl Params for Cleanup {
    fn problems(&self) -> Vec<Problem> {
        let mut found = self.policy_problems();
        found.extend(self.root_problems());
        found.extend(self.pattern_problems());
        found.extend(self.limit_problems());
        found.extend(self.history_problems());
        found
    }
}

fn overlap(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::jobs::check_as;

    fn problems(params: &Value) -> Vec<String> {
        check_as::<Cleanup>(params).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_empty_policy_is_refused_and_says_what_to_add() {
        let found = problems(&json!({"roots": ["var/tmp"]}));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("older_than"), "{found:?}");
        assert_eq!(problems(&json!({})).len(), 1);
        for policy in [
            json!({"older_than": "7d"}),
            json!({"min_size": "1GiB"}),
            json!({"keep": {"newest": 3}}),
        ] {
            let mut params = policy;
            params["roots"] = json!(["var/tmp"]);
            assert_eq!(problems(&params), [""; 0], "{params}");
        }
    }

    #[test]
    fn the_example_of_the_guide_is_right() {
        let guide = include_str!("../../../docs/kinds/cleanup.md");
        let example = guide.split("```").nth(1).and_then(|code| code.strip_prefix("toml\n"));
        let file: Value = toml::from_str(example.unwrap()).unwrap();
        assert_eq!(problems(&file["cleanup"]), [""; 0]);
    }

    #[test]
    fn history_alone_is_enough() {
        assert_eq!(problems(&json!({"history": {"completed": "30d"}})), [""; 0]);
        assert_eq!(problems(&json!({"history": {"keep_last_per_schedule": 5}})).len(), 1);
        let rules_without_roots = json!({"history": {"failed": "1d"}, "older_than": "1d"});
        assert_eq!(problems(&rules_without_roots).len(), 1);
    }

    #[test]
    fn keys_that_do_nothing_are_not_taken() {
        let base = json!({"roots": ["var/tmp"], "older_than": "7d"});
        for (key, value) in [
            ("trash", json!({"keep": "14d"})),
            ("action", json!("archive")),
            ("cross_filesystems", json!(true)),
            ("older_then", json!("7d")),
        ] {
            let mut params = base.clone();
            params[key] = value;
            let found = problems(&params);
            assert!(found[0].contains("unknown key"), "{key}: {found:?}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_at_its_place() {
        let base = json!({"roots": ["var/tmp"], "older_than": "7d"});
        for (key, value, place) in [
            ("follow_symlinks", json!(true), "follow_symlinks:"),
            ("limits", json!({"max_fraction": 1.5}), "limits.max_fraction:"),
            ("limits", json!({"max_fraction": 0}), "limits.max_fraction:"),
            ("limits", json!({"on_exceed": "truncate"}), "limits.on_exceed:"),
            ("include", json!(["ok", "a[b"]), "include.1:"),
            ("types", json!(["file", "device"]), "types.1:"),
            ("types", json!([]), "types:"),
            ("age_by", json!([]), "age_by:"),
            ("older_than", json!("0s"), "older_than:"),
            ("roots", json!(["var/tmp", "var/tmp/inner"]), "roots.1:"),
            ("roots", json!(["/etc"]), "roots.0:"),
        ] {
            let mut params = base.clone();
            params[key] = value;
            let found = problems(&params);
            assert_eq!(found.len(), 1, "{key}: {found:?}");
            assert!(found[0].starts_with(place), "{key}: {found:?}");
        }
    }
}
