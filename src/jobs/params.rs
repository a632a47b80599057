//! Checking a kind's params, wherever they come from: a table in a schedule file, the API, the command line.
//!
//! The same check serves all of them. It says *where* in the params something is wrong as a path, and the caller turns that
//! into a line and column or a JSON pointer.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::Value;

/// A kind's params after parsing.
pub trait Params: DeserializeOwned {
    /// What types cannot say: fields that exclude each other, patterns that do not compile, roots that are refused.
    fn problems(&self) -> Vec<Problem> {
        Vec::new()
    }
}

/// Something wrong in a kind's params.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, from the params' own root; empty for the whole.
    pub path: Vec<Segment>,
    /// What.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// One step of a path into params.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// A field of an object.
    Key(String),
    /// An element of an array, from 0.
    Index(usize),
}

impl Problem {
    /// A problem at a dotted path of keys and indices, such as `limits.max_files` or `check.0.match`.
    #[must_use]
    pub fn at(path: &str, message: impl Into<String>) -> Self {
        let segment = |part: &str| match part.parse() {
            Ok(index) => Segment::Index(index),
            Err(_not_a_number) => Segment::Key(part.to_owned()),
        };
        let path = path.split('.').filter(|part| !part.is_empty()).map(segment).collect();
        Self { path, message: message.into(), help: None }
    }

    /// The same, with what to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The path as a JSON pointer (RFC 6901).
    #[must_use]
    pub fn pointer(&self) -> String {
        let escape = |part: String| part.replace('~', "~0").replace('/', "~1");
        self.path.iter().map(|segment| format!("/{}", escape(segment.to_string()))).collect()
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => f.write_str(key),
            Self::Index(index) => index.fmt(f),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path: Vec<String> = self.path.iter().map(ToString::to_string).collect();
        if !path.is_empty() {
            write!(f, "{}: ", path.join("."))?;
        }
        f.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

/// Parses params that were checked when they were submitted.
///
/// # Errors
/// All problems, where there are any after all (a job from an older version).
pub fn parse_params<P: Params>(params: &Value) -> Result<P, Vec<Problem>> {
    match serde_path_to_error::deserialize::<_, P>(params) {
        Ok(parsed) => {
            let problems = parsed.problems();
            if problems.is_empty() { Ok(parsed) } else { Err(problems) }
        }
        Err(_first) => Err(check_as::<P>(params)),
    }
}

/// All problems of `params` as a `P`, not only the first.
///
/// serde stops at the first error, so the offending field is taken out and the rest is read again. Once something was
/// taken out, "missing field" says nothing any more and is left out.
#[must_use]
pub fn check_as<P: Params>(params: &Value) -> Vec<Problem> {
    let mut rest = params.clone();
    let mut found: Vec<Problem> = Vec::new();
    // Each round removes one value, so this ends; the bound guards against a path that removes nothing.
    for _round in 0..256 {
        match serde_path_to_error::deserialize::<_, P>(&rest) {
            Ok(parsed) => {
                found.extend(parsed.problems());
                break;
            }
            Err(error) => {
                let problem = explain(&error);
                let is_missing = problem.message.starts_with("missing field");
                let removed = remove(&mut rest, &problem.path);
                if !is_missing || found.is_empty() {
                    found.push(problem);
                }
                if is_missing || !removed {
                    break;
                }
            }
        }
    }
    found
}

fn explain(error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let mut path: Vec<Segment> = error
        .path()
        .iter()
        .filter_map(|segment| match segment {
            serde_path_to_error::Segment::Seq { index } => Some(Segment::Index(*index)),
            serde_path_to_error::Segment::Map { key } => Some(Segment::Key(key.clone())),
            serde_path_to_error::Segment::Enum { .. } | serde_path_to_error::Segment::Unknown => {
                None
            }
        })
        .collect();
    let message = error.inner().to_string();
    let Some((unknown, known)) = unknown_name(&message, "unknown field") else {
        let help = unknown_name(&message, "unknown variant")
            .and_then(|(unknown, known)| suggest(unknown, &known));
        return Problem { path, message, help };
    };
    // serde_path_to_error already points at the unknown field in maps, but at its parent in some containers.
    if path.last() != Some(&Segment::Key(unknown.to_owned())) {
        path.push(Segment::Key(unknown.to_owned()));
    }
    let help =
        suggest(unknown, &known).or_else(|| Some(format!("known keys: {}", known.join(", "))));
    Problem { path, message: format!("unknown key `{unknown}`"), help }
}

/// Takes serde's "unknown field `a`, expected one of `b`, `c`" apart.
fn unknown_name<'a>(message: &'a str, what: &str) -> Option<(&'a str, Vec<&'a str>)> {
    let rest = message.strip_prefix(what)?;
    let mut quoted = rest.split('`').skip(1).step_by(2);
    Some((quoted.next()?, quoted.collect()))
}

/// "did you mean", where a known name is close enough to what was written.
#[must_use]
pub fn suggest(written: &str, known: &[&str]) -> Option<String> {
    known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(written, name), *name))
        .filter(|(distance, name)| *distance <= (name.len().max(3) / 3))
        .min()
        .map(|(_, name)| format!("did you mean `{name}`?"))
}

fn remove(value: &mut Value, path: &[Segment]) -> bool {
    let Some((last, parents)) = path.split_last() else { return false };
    let mut place = value;
    for segment in parents {
        let next = match segment {
            Segment::Key(key) => place.get_mut(key),
            Segment::Index(index) => place.get_mut(*index),
        };
        match next {
            Some(next) => place = next,
            None => return false,
        }
    }
    match (last, place) {
        (Segment::Key(key), Value::Object(fields)) => fields.remove(key).is_some(),
        (Segment::Index(index), Value::Array(items)) if *index < items.len() => {
            items.remove(*index);
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Sample {
        older_than: String,
        #[serde(default)]
        limits: Limits,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Limits {
        max_files: u32,
    }

    impl Params for Sample {}

    #[test]
    fn every_problem_is_reported_with_its_place() {
        let params = json!({"older_then": "7d", "limits": {"max_files": "lots"}});
        let found: Vec<String> =
            check_as::<Sample>(&params).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "limits.max_files: invalid type: string \"lots\", expected u32",
                "older_then: unknown key `older_then` (did you mean `older_than`?)",
            ]
        );
    }

    #[test]
    fn a_pointer_escapes_what_rfc_6901_says() {
        let problem = Problem {
            path: vec![Segment::Key("a/b~c".into()), Segment::Index(2)],
            ..Problem::at("", "x")
        };
        assert_eq!(problem.pointer(), "/a~1b~0c/2");
    }
}
