//! Patterns as in `.gitignore`, relative to a root.

use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};

/// A list of patterns, any of which may match.
///
/// A pattern without a slash matches a name at any depth; with a slash at its start or in its middle it is the path from
/// the root; with one at its end it is a directory. What matches a directory matches everything in it. `*` and `?` stop
/// at slashes, `**` does not. `{a,b}` is a choice. Unlike in `.gitignore` there is no `!`: what stays has its own list.
#[derive(Debug, Clone, Default)]
pub(super) struct Patterns {
    any: GlobSet,
    directories: GlobSet,
}

/// Why a text is not a pattern.
#[derive(Debug, thiserror::Error)]
pub(super) enum PatternError {
    #[error("an empty pattern matches nothing")]
    Empty,
    #[error("`!` does not negate here; what has to stay goes into `exclude`")]
    Negated,
    #[error("`{}` can never match: patterns are relative to the root and know no `.` or `..`", .0.escape_debug())]
    Unreachable(String),
    #[error("`{}` is not a pattern: {reason}", .pattern.escape_debug())]
    Glob { pattern: String, reason: String },
}

impl Patterns {
    pub(super) fn compile(patterns: &[String]) -> Result<Self, PatternError> {
        let mut any = GlobSetBuilder::new();
        let mut directories = GlobSetBuilder::new();
        for pattern in patterns {
            let anchored = anchored(pattern)?;
            let itself = anchored.trim_end_matches('/');
            let only_directories = itself.len() < anchored.len();
            let set = if only_directories { &mut directories } else { &mut any };
            set.add(glob(pattern, itself)?);
            any.add(glob(pattern, &format!("{itself}/**"))?);
        }
        let failed = |error: globset::Error| PatternError::Glob {
            pattern: patterns.join(", "),
            reason: error.kind().to_string(),
        };
        Ok(Self {
            any: any.build().map_err(failed)?,
            directories: directories.build().map_err(failed)?,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.any.is_empty()
    }

    /// Whether a path from the root, bytes with single slashes, matches.
    pub(super) fn matches(&self, path: &[u8], is_directory: bool) -> bool {
        let path = Candidate::from_bytes(path);
        self.any.is_match_candidate(&path)
            || (is_directory && self.directories.is_match_candidate(&path))
    }
}

/// The pattern from the root: without a slash before its last character it may be at any depth.
fn anchored(pattern: &str) -> Result<String, PatternError> {
    if pattern.trim_matches('/').is_empty() {
        return Err(PatternError::Empty);
    }
    if pattern.starts_with('!') {
        return Err(PatternError::Negated);
    }
    if pattern.split('/').any(|part| part == "." || part == "..") {
        return Err(PatternError::Unreachable(pattern.to_owned()));
    }
    let is_path = pattern.trim_end_matches('/').contains('/');
    Ok(if is_path { pattern.trim_start_matches('/').to_owned() } else { format!("**/{pattern}") })
}

fn glob(written: &str, pattern: &str) -> Result<globset::Glob, PatternError> {
    GlobBuilder::new(pattern).literal_separator(true).backslash_escape(true).build().map_err(
        |error| PatternError::Glob {
            pattern: written.to_owned(),
            reason: error.kind().to_string(),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(pattern: &str) -> Patterns {
        Patterns::compile(&[pattern.to_owned()]).unwrap()
    }

    #[test]
    fn patterns_mean_what_they_mean_in_gitignore() {
        for (pattern, matching, other) in [
            ("*.tmp", vec!["a.tmp", "x/y/a.tmp", ".tmp"], vec!["a.tmpx", "tmp"]),
            ("/*.tmp", vec!["a.tmp"], vec!["x/a.tmp"]),
            ("cache/**", vec!["cache/a", "cache/x/y"], vec!["cache", "x/cache/a"]),
            ("cache", vec!["cache", "cache/a", "x/cache/y/z"], vec!["caches"]),
            ("a/*.log", vec!["a/x.log"], vec!["a/b/x.log", "b/a/x.log"]),
            ("**/golden/**", vec!["golden/x", "a/golden/b/c"], vec!["golden", "a/goldens/b"]),
            ("{a,b}?", vec!["a1", "x/b2"], vec!["a", "ab1"]),
            ("[!a]x", vec!["bx"], vec!["ax"]),
        ] {
            let compiled = patterns(pattern);
            for path in matching {
                assert!(compiled.matches(path.as_bytes(), false), "{pattern} matches {path}");
            }
            for path in other {
                assert!(!compiled.matches(path.as_bytes(), false), "{pattern} leaves {path}");
            }
        }
    }

    #[test]
    fn a_slash_at_the_end_asks_for_a_directory() {
        let compiled = patterns("build/");
        assert!(compiled.matches(b"build", true));
        assert!(!compiled.matches(b"build", false));
        assert!(compiled.matches(b"x/build/a", false));
    }

    #[test]
    fn k7_names_that_are_not_text_match_too() {
        assert!(patterns("*.tmp").matches(b"dir/\xff\xfe\n.tmp", false));
        assert!(patterns("**").matches(b"\xff/-rf *", false));
    }

    #[test]
    fn what_cannot_match_is_refused() {
        for pattern in ["", "/", "!keep", "../x", "./x", "a/../b", "a[", "{a"] {
            assert!(Patterns::compile(&[pattern.to_owned()]).is_err(), "{pattern}");
        }
    }
}
