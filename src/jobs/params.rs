//! Checking a kind's params, wherever they come from: a table in a schedule file, the API, the command line.
//!
//! The same check serves all of them. It says *where* in the params something is wrong as a path, and the caller turns that
//! into a line and column or a JSON pointer.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::model::inert;

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
        Self { path, message: lines(&message.into()), help: None }
    }

    /// The same, with what to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(lines(&help.into()));
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
    let mut taken = Taken::default();
    // Each round removes one value, so this ends; the bound guards against a path that removes nothing.
    for _round in 0..256 {
        match serde_path_to_error::deserialize::<_, P>(&rest) {
            Ok(parsed) => {
                found.extend(parsed.problems());
                break;
            }
            Err(error) => {
                let mut problem = explain(&error);
                let is_missing = problem.message.starts_with("missing field");
                let removed = remove(&mut rest, &problem.path);
                problem.path = taken.place_before(&problem.path, removed);
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

/// The elements that were taken out of lists, so that those behind them can be told by their places in the params as given.
#[derive(Default)]
struct Taken(Vec<(Vec<Segment>, Vec<usize>)>);

impl Taken {
    /// Where a path into what is left leads in the params as given. When `removed`, the element at its end is taken out now.
    fn place_before(&mut self, path: &[Segment], removed: bool) -> Vec<Segment> {
        let mut place = Vec::with_capacity(path.len());
        for (depth, segment) in path.iter().enumerate() {
            let Segment::Index(index) = segment else {
                place.push(segment.clone());
                continue;
            };
            let gone = self.0.iter_mut().find(|(list, _)| *list == place);
            let before = gone.as_ref().map_or(*index, |(_, gone)| original(*index, gone));
            if removed && depth + 1 == path.len() {
                match gone {
                    Some((_, gone)) => {
                        gone.push(before);
                        gone.sort_unstable();
                    }
                    None => self.0.push((place.clone(), vec![before])),
                }
            }
            place.push(Segment::Index(before));
        }
        place
    }
}

/// The place of the `index`-th of the elements that are left. `gone` is in ascending order.
fn original(index: usize, gone: &[usize]) -> usize {
    gone.iter().fold(index, |place, gone| if *gone <= place { place + 1 } else { place })
}

/// Where serde stopped and why, in words that may be shown on a terminal: serde repeats names as they were written.
pub(crate) fn explain(error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
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
        return Problem { path, message: short(&in_plain_words(&message)), help };
    };
    // serde_path_to_error already points at the unknown field in maps, but at its parent in some containers.
    if path.last() != Some(&Segment::Key(unknown.to_owned())) {
        path.push(Segment::Key(unknown.to_owned()));
    }
    let help =
        suggest(unknown, &known).or_else(|| Some(format!("known keys: {}", known.join(", "))));
    let message = short(&format!("unknown key `{unknown}`"));
    Problem { path, message, help }
}

/// serde's message without the names of Rust's types, which mean nothing to whoever wrote the value.
fn in_plain_words(message: &str) -> String {
    // The last one: what comes before it may repeat the value.
    let Some((found, wanted)) = message.rsplit_once(", expected ") else {
        return message.to_owned();
    };
    let found = match found {
        "invalid type: map" => "invalid type: object",
        "invalid type: sequence" => "invalid type: list",
        other => other,
    };
    let wanted = match wanted {
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number that is not negative",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "an object",
        other if other.starts_with("struct ") || other.starts_with("internally tagged enum ") => {
            "an object"
        }
        other => other,
    };
    format!("{found}, expected {wanted}")
}

/// The longest message, in characters. serde repeats a wrong value in full, however long it is.
const MAX_MESSAGE_CHARS: usize = 500;

/// On one line, without what could disturb a terminal, and no longer than a reader needs.
fn short(message: &str) -> String {
    match message.char_indices().nth(MAX_MESSAGE_CHARS) {
        Some((end, _)) => inert(&message[..end]) + "…",
        None => inert(message),
    }
}

/// What a check says: some parsers explain themselves in several lines, and any message may repeat a value.
fn lines(message: &str) -> String {
    message.split('\n').map(inert).collect::<Vec<_>>().join("\n")
}

/// Takes serde's "unknown field `a`, expected one of `b`, `c`" apart. The unknown name may hold anything, backticks too.
fn unknown_name<'a>(message: &'a str, what: &str) -> Option<(&'a str, Vec<&'a str>)> {
    let rest = message.strip_prefix(what)?.strip_prefix(" `")?;
    let ends = ["`, expected ", "`, there are no "];
    let (unknown, known) = ends.iter().find_map(|end| rest.rsplit_once(end))?;
    Some((unknown, known.split('`').skip(1).step_by(2).collect()))
}

/// "did you mean", where a known name is close enough to what was written.
#[must_use]
pub fn suggest(written: &str, known: &[&str]) -> Option<String> {
    let allowed = |name: &str| name.len().max(3) / 3;
    // Names of so different a length cannot be close, and comparing takes time and memory in proportion to both.
    let length = written.chars().count();
    known
        .iter()
        .filter(|name| name.chars().count().abs_diff(length) <= allowed(name))
        .map(|name| (strsim::damerau_levenshtein(written, name), *name))
        .filter(|(distance, name)| *distance <= allowed(name))
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
    use crate::model::is_harmful;

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
                "limits.max_files: invalid type: string \"lots\", expected a whole number that is not negative",
                "older_then: unknown key `older_then` (did you mean `older_than`?)",
            ]
        );
    }

    #[test]
    fn j10_an_unknown_key_of_any_spelling_is_named_where_it_stands() {
        for key in ["a`b", "`, expected `", "`", "a.b/c~d", "\u{1b}[31m\u{202e}", "two\nlines"] {
            let params = json!({"older_than": "7d", "limits": {key: 1}});
            let found = check_as::<Sample>(&params);
            let [problem] = &found[..] else { panic!("{key:?}: {found:?}") };
            assert_eq!(params.pointer(&problem.pointer()), Some(&json!(1)), "{key:?}");
            assert!(!problem.message.chars().any(is_harmful), "{:?}", problem.message);
        }
    }

    #[test]
    fn j10_what_a_check_says_repeats_no_value_that_could_disturb_a_terminal() {
        let problem =
            Problem::at("roots.0", "`/tmp\t\u{1b}[31m` is no root\n(at all)").help("\u{202e}");
        assert_eq!(problem.message, "`/tmp\\u{9}\\u{1b}[31m` is no root\n(at all)");
        assert_eq!(problem.help.as_deref(), Some("\\u{202e}"));
    }

    #[test]
    fn a_wrong_value_of_any_length_makes_a_short_message() {
        let params = json!({"older_than": "7d", "limits": {"max_files": "x".repeat(1 << 20)}});
        let found = check_as::<Sample>(&params);
        assert_eq!(found.len(), 1);
        assert!(found[0].message.starts_with("invalid type: string \"xxx"));
        assert!(found[0].message.len() < 1000, "{} bytes", found[0].message.len());
    }

    #[test]
    fn every_wrong_element_of_a_list_is_reported_at_its_own_place() {
        #[derive(Debug, Deserialize)]
        #[expect(dead_code, reason = "only parsed")]
        struct Lists {
            rows: Vec<Vec<u8>>,
        }
        impl Params for Lists {}
        let params = json!({"rows": [["a", 1, "b", 2, "c"], "d", [3], [4, "e"]]});
        let found: Vec<String> = check_as::<Lists>(&params).iter().map(Problem::pointer).collect();
        assert_eq!(found, ["/rows/0/0", "/rows/0/2", "/rows/0/4", "/rows/1", "/rows/3/1"]);
    }

    #[test]
    fn a_name_far_longer_than_any_known_one_is_close_to_none() {
        assert_eq!(suggest("older_then", &["older_than"]).unwrap(), "did you mean `older_than`?");
        // Comparing it letter by letter with hundreds of time zones took minutes.
        assert_eq!(suggest(&"x".repeat(1 << 20), &["older_than"; 600]), None);
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
