//! The params of a `data_sync` job: the `[data_sync]` table.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use globset::{Glob, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Deserializer};

use super::names::file_name_of;
use crate::jobs::ports::http::{AddressPolicy, Url, parse_web_url};
use crate::jobs::{Params, Problem};
use crate::model::{ByteSize, HumanDuration};

/// The `[data_sync]` table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SyncParams {
    pub(super) from: Source,
    pub(super) to: PathBuf,
    pub(super) mode: Mode,
    /// Left out: `size+mtime` for a directory, `etag` for URLs.
    compare: Option<Compare>,
    #[serde(default)]
    include: Globs,
    #[serde(default)]
    exclude: Globs,
    #[serde(default)]
    pub(super) atomic: Atomic,
    #[serde(default = "yes")]
    pub(super) verify: bool,
    #[serde(default = "yes")]
    pub(super) resume: bool,
    pub(super) bandwidth: Option<Bandwidth>,
    /// The most that one run may transfer.
    pub(super) max_bytes: Option<ByteSize>,
    #[serde(default = "preserve_all")]
    preserve: Vec<Preserved>,
    #[serde(default)]
    pub(super) delete: DeleteRules,
    #[serde(default = "default_idle_timeout")]
    pub(super) idle_timeout: HumanDuration,
    #[serde(default)]
    allow_private: bool,
    #[serde(default)]
    allow_hosts: Vec<String>,
}

/// Where the data comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Folder(PathBuf),
    /// Files on the web, by the name that each gets.
    Web(BTreeMap<String, Url>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    /// The destination becomes like the source; what the source lacks is deleted.
    Mirror,
    /// New and changed files are copied, nothing is deleted.
    Copy,
    /// As copy, but a file is only replaced by a newer one.
    Update,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum Compare {
    #[serde(rename = "size+mtime")]
    SizeAndMtime,
    #[serde(rename = "checksum")]
    Checksum,
    #[serde(rename = "etag")]
    Etag,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Atomic {
    /// Each file appears as a whole.
    #[default]
    File,
    /// The whole directory changes at once.
    Tree,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Preserved {
    Mtime,
    Mode,
}

/// What may be deleted, checked on the plan.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct DeleteRules {
    pub(super) max_files: Option<u64>,
    /// Of the files at the destination, 0 to 1.
    pub(super) max_fraction: f64,
    /// Whether files that `include` and `exclude` keep out of the sync are deleted too.
    pub(super) excluded: bool,
    pub(super) allow_empty_source: bool,
}

impl Default for DeleteRules {
    fn default() -> Self {
        Self { max_files: None, max_fraction: 0.5, excluded: false, allow_empty_source: false }
    }
}

/// Bytes a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bandwidth(pub(super) u64);

/// Patterns for relative paths.
#[derive(Debug, Clone, Default)]
pub(super) struct Globs(Option<GlobSet>);

/// Which paths take part.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    include: Globs,
    exclude: Globs,
}

impl Filter {
    pub(super) fn covers(&self, path: &Path) -> bool {
        let is_included = self.include.0.as_ref().is_none_or(|globs| globs.is_match(path));
        is_included && !self.exclude.0.as_ref().is_some_and(|globs| globs.is_match(path))
    }
}

impl SyncParams {
    pub(super) fn filter(&self) -> Filter {
        Filter { include: self.include.clone(), exclude: self.exclude.clone() }
    }

    pub(super) fn compare(&self) -> Compare {
        self.compare.unwrap_or(match self.from {
            Source::Folder(_) => Compare::SizeAndMtime,
            Source::Web(_) => Compare::Etag,
        })
    }

    pub(super) fn addresses(&self) -> AddressPolicy {
        AddressPolicy { allow_private: self.allow_private, allow_hosts: self.allow_hosts.clone() }
    }

    pub(super) fn preserves(&self, what: Preserved) -> bool {
        self.preserve.contains(&what)
    }
}

impl Params for SyncParams {
    fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        found.extend(destination_problem(&self.to));
        match (&self.from, self.compare()) {
            (Source::Folder(_), Compare::Etag) => found.push(
                Problem::at("compare", "only web servers have ETags")
                    .help("use \"size+mtime\" or \"checksum\" for a directory"),
            ),
            (Source::Web(_), Compare::Checksum) => found.push(
                Problem::at("compare", "a web server does not tell checksums")
                    .help("use \"etag\" or \"size+mtime\" for URLs"),
            ),
            (_, Compare::SizeAndMtime) if !self.preserves(Preserved::Mtime) => found.push(
                Problem::at(
                    "preserve",
                    "comparing by `size+mtime` needs \"mtime\" to be preserved",
                )
                .help("otherwise every file would be copied every time"),
            ),
            _ => {}
        }
        if let Source::Folder(from) = &self.from
            && (from.starts_with(&self.to) || self.to.starts_with(from))
        {
            let message = "`from` and `to` must not be inside each other";
            found.push(Problem::at("to", message));
        }
        if !(0.0..=1.0).contains(&self.delete.max_fraction) {
            found.push(Problem::at("delete.max_fraction", "a fraction is between 0 and 1"));
        }
        found
    }
}

/// Directories that no sync should ever own. Something below them is fine.
const SYSTEM_FOLDERS: [&str; 18] = [
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/opt", "/proc", "/root",
    "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var",
];

fn destination_problem(to: &Path) -> Option<Problem> {
    let is_plain = |part: Component<'_>| {
        matches!(part, Component::Normal(_) | Component::RootDir | Component::CurDir)
    };
    if to.as_os_str().is_empty() || to.file_name().is_none() && to != Path::new("/") {
        return Some(Problem::at("to", "it has to name a directory"));
    }
    if !to.components().all(is_plain) {
        return Some(Problem::at("to", "`..` is not allowed in a destination"));
    }
    SYSTEM_FOLDERS.iter().any(|folder| to == Path::new(folder)).then(|| {
        Problem::at("to", format!("{} belongs to the system", to.display()))
            .help("name a directory of its own below it")
    })
}

fn yes() -> bool {
    true
}

fn preserve_all() -> Vec<Preserved> {
    vec![Preserved::Mtime, Preserved::Mode]
}

fn default_idle_timeout() -> HumanDuration {
    HumanDuration::from_secs(60)
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a directory, a URL, or a list of URLs")]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parsed = match OneOrMore::deserialize(deserializer)? {
            OneOrMore::One(text) if !is_url(&text) => folder(&text),
            OneOrMore::One(text) => web(&[text]),
            OneOrMore::More(texts) => web(&texts),
        };
        parsed.map_err(serde::de::Error::custom)
    }
}

/// A scheme of two letters or more, so that `git+https://` and `s3://` are refused as what they are.
fn is_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _rest)| scheme.len() > 1 && !scheme.contains('/'))
}

fn folder(text: &str) -> Result<Source, String> {
    if text.is_empty() {
        return Err("the source is empty; name a directory or a URL".to_owned());
    }
    Ok(Source::Folder(text.into()))
}

fn web(texts: &[String]) -> Result<Source, String> {
    if texts.is_empty() {
        return Err("the list of URLs is empty".to_owned());
    }
    let mut files = BTreeMap::new();
    for text in texts {
        let url = parse_web_url(text)?;
        let name = file_name_of(&url)?;
        if files.insert(name.clone(), url).is_some() {
            return Err(format!("two URLs would both be saved as `{name}`"));
        }
    }
    Ok(Source::Web(files))
}

impl<'de> Deserialize<'de> for Globs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let patterns = Vec::<String>::deserialize(deserializer)?;
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            set.add(Glob::new(&pattern).map_err(serde::de::Error::custom)?);
        }
        set.build().map(|set| Self(Some(set))).map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Bandwidth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let size = text.trim().strip_suffix("/s").map(str::parse::<ByteSize>);
        match size {
            Some(Ok(ByteSize(bytes))) if bytes > 0 => Ok(Self(bytes)),
            _ => Err(serde::de::Error::custom(format!(
                "`{}` is not a bandwidth: write it like 20MiB/s",
                text.escape_default()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::jobs::{check_as, parse_params};

    fn problems(params: &Value) -> Vec<String> {
        check_as::<SyncParams>(params).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_full_table_is_read() {
        let params = json!({
            "from": "/srv/source", "to": "/srv/target", "mode": "mirror", "compare": "checksum",
            "include": ["**"], "exclude": ["drafts/**"], "atomic": "tree", "verify": true,
            "bandwidth": "20MiB/s", "resume": true, "max_bytes": "1GiB", "preserve": ["mode"],
            "delete": {"max_files": 100, "max_fraction": 0.2, "excluded": false, "allow_empty_source": false},
        });
        assert_eq!(problems(&params), [""; 0]);
        let params: SyncParams = parse_params(&params).unwrap();
        assert_eq!(params.bandwidth, Some(Bandwidth(20 << 20)));
        assert!(!params.filter().covers(Path::new("drafts/a/b")));
    }

    #[test]
    fn what_is_not_supported_is_refused_with_its_name() {
        for (from, expected) in [
            (json!("s3://bucket/prefix"), "`s3://` is not supported"),
            (json!("git+https://h/x"), "`git+https://` is not supported"),
            (json!(["ssh://h/x"]), "`ssh://` is not supported"),
            (json!([]), "the list of URLs is empty"),
            (json!(["https://h/a/x", "https://h/b/x"]), "both be saved as `x`"),
            (json!("https://h/"), "names no file"),
        ] {
            let found = problems(&json!({"from": from, "to": "/srv/x", "mode": "copy"}));
            assert!(found.iter().any(|problem| problem.contains(expected)), "{from}: {found:?}");
        }
    }

    #[test]
    fn dangerous_or_contradicting_params_are_refused() {
        let base = json!({"from": "/srv/a", "to": "/srv/b", "mode": "mirror"});
        for (change, expected) in [
            (json!({"to": "/"}), "belongs to the system"),
            (json!({"to": "/home/"}), "belongs to the system"),
            (json!({"to": "x/../../etc"}), "`..`"),
            (json!({"to": ""}), "has to name"),
            (json!({"to": "/srv/a/b"}), "inside each other"),
            (json!({"from": "/srv/b/c"}), "inside each other"),
            (json!({"compare": "etag"}), "only web servers"),
            (json!({"from": "https://h/x", "compare": "checksum"}), "does not tell checksums"),
            (json!({"preserve": []}), "needs \"mtime\""),
            (json!({"bandwidth": "fast"}), "20MiB/s"),
            (json!({"delete": {"max_fraction": 2.0}}), "between 0 and 1"),
            (json!({"check_with": "x"}), "unknown key `check_with`"),
        ] {
            let mut params = base.clone();
            params.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            let found = problems(&params);
            assert!(found.iter().any(|problem| problem.contains(expected)), "{change}: {found:?}");
        }
    }
}
