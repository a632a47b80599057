//! The environment of a program: built from nothing.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use serde_json::{Map, Value};

use super::params::{CommandParams, EnvValue};
use crate::jobs::secret::SecretError;
use crate::jobs::{JobInfo, Problem, Segment};

/// What is taken over from the daemon's environment unless `pass_env` says otherwise.
pub(super) const DEFAULT_PASS_ENV: [&str; 4] = ["PATH", "LANG", "TZ", "HOME"];

/// The search path when the daemon has none or must not pass its own on.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The longest `NAME=value` that the kernel takes, in bytes, with its final NUL (`MAX_ARG_STRLEN`, `execve(2)`).
const MAX_ENTRY_BYTES: usize = 128 * 1024;

/// Whether a variable is between the daemon and its own supervisor. A job that had them could report the daemon as
/// stopped, take its sockets, or read its credentials.
fn is_the_daemons_own(name: &str) -> bool {
    name == "NOTIFY_SOCKET"
        || name == "CREDENTIALS_DIRECTORY"
        || ["LISTEN_", "WATCHDOG_", "SEXTON_"].iter().any(|prefix| name.starts_with(prefix))
}

fn fits(name: &str, value: &str) -> bool {
    name.len() + value.len() + 2 <= MAX_ENTRY_BYTES
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

/// What is wrong with `env` and `pass_env`.
pub(super) fn problems(params: &CommandParams) -> Vec<Problem> {
    let mut found = Vec::new();
    for (name, value) in &params.env {
        let at = |message: String| Problem {
            path: vec![Segment::Key("env".to_owned()), Segment::Key(name.clone())],
            ..Problem::at("", message)
        };
        if !is_name(name) {
            found.push(at("this cannot be a variable's name".to_owned()));
        } else if is_the_daemons_own(name) {
            found.push(at(format!("`{name}` is set by Sexton or its supervisor")));
        }
        let EnvValue::Plain(value) = value else { continue };
        if value.contains('\0') {
            found.push(at("a NUL character cannot be in a variable".to_owned()));
        }
        if !fits(name, value) {
            found.push(
                at("this is longer than a variable can be (128 KiB)".to_owned())
                    .help("pass it in `input`, which the program gets on standard input"),
            );
        }
    }
    for (index, name) in params.pass_env.iter().enumerate() {
        let at = |message: &str| Problem::at(&format!("pass_env.{index}"), message);
        if !is_name(name) {
            found.push(at("this cannot be a variable's name"));
        } else if is_the_daemons_own(name) {
            found.push(at(&format!("`{name}` is never passed on to jobs")));
        }
    }
    found
}

/// Everything the program finds in its environment. Later parts win: the search path, what is passed on, what the job
/// is, its input, and last what the schedule's author wrote.
///
/// # Errors
/// When a secret cannot be read.
pub(super) fn environment(
    params: &CommandParams,
    job: &JobInfo,
    inherited: impl Fn(&str) -> Option<OsString>,
) -> Result<BTreeMap<OsString, OsString>, SecretError> {
    let mut all: BTreeMap<OsString, OsString> =
        BTreeMap::from([("PATH".into(), DEFAULT_PATH.into())]);
    for name in params.pass_env.iter().filter(|name| !is_the_daemons_own(name)) {
        if let Some(value) = inherited(name) {
            all.insert(name.into(), value);
        }
    }
    let mut put = |name: String, value: String| all.insert(name.into(), value.into());
    for (name, value) in params.input.iter().flat_map(plain_inputs) {
        put(name, value);
    }
    for (name, value) in about(job) {
        put(name.to_owned(), value);
    }
    for (name, value) in &params.env {
        let value = match value {
            EnvValue::Plain(text) => text.clone(),
            EnvValue::Secret(reference) => reference.resolve()?.expose().to_owned(),
        };
        put(name.clone(), value);
    }
    Ok(all)
}

/// What a program may want to know of its job.
fn about(job: &JobInfo) -> Vec<(&'static str, String)> {
    let mut about = vec![
        ("SEXTON_JOB_ID", job.id.to_string()),
        ("SEXTON_KIND", job.kind.clone()),
        ("SEXTON_ATTEMPT", job.attempt.to_string()),
        ("SEXTON_MAX_ATTEMPTS", job.max_attempts.to_string()),
        ("SEXTON_ATTEMPTS_LEFT", job.attempts_left.to_string()),
        ("SEXTON_QUEUE", job.queue.clone()),
        ("SEXTON_PRIORITY", job.priority.level().to_string()),
        ("SEXTON_DRY_RUN", u8::from(job.dry_run).to_string()),
    ];
    if let Some((schedule, nominal_at)) = &job.schedule {
        about.push(("SEXTON_SCHEDULE", schedule.to_string()));
        about.push(("SEXTON_NOMINAL_AT", nominal_at.to_string()));
    }
    if let Some(item) = &job.item {
        about.push(("SEXTON_ITEM", item.clone()));
    }
    if let Some(checkpoint) = &job.checkpoint {
        about.push(("SEXTON_CHECKPOINT", checkpoint.as_str().to_owned()));
    }
    about
}

/// `SEXTON_INPUT_NAME=value` for texts, numbers and truth values, with the name in capitals and everything that is not a
/// letter or digit as `_`, several as one. What is nested, too long or holds NUL is only in the JSON on standard input. So is what
/// shares its variable with another key: a program must not get one in place of the other.
fn plain_inputs(input: &Map<String, Value>) -> Vec<(String, String)> {
    let mut by_name: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for (key, value) in input {
        by_name.entry(variable(key)).or_default().push(value);
    }
    let single = |(name, values): (String, Vec<&Value>)| match values.as_slice() {
        [value] => Some((name, plain(value)?)),
        _ => None,
    };
    let can_be_passed =
        |(name, value): &(String, String)| fits(name, value) && !value.contains('\0');
    by_name.into_iter().filter_map(single).filter(can_be_passed).collect()
}

/// Two underscores in a row separate the levels of a setting's name, so here they become one: a `sexton` that is called
/// by a job must not take the job's input for its settings.
fn variable(key: &str) -> String {
    let mut name = "SEXTON_INPUT_".to_owned();
    for letter in key.chars() {
        match letter {
            _ if letter.is_ascii_alphanumeric() => name.push(letter.to_ascii_uppercase()),
            _ if name.ends_with('_') => {}
            _ => name.push('_'),
        }
    }
    name
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Where programs are looked for.
pub(super) fn search_path(environment: &BTreeMap<OsString, OsString>) -> &OsStr {
    environment.get(OsStr::new("PATH")).map_or(OsStr::new(DEFAULT_PATH), OsString::as_os_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::jobs::testing::context;

    fn environment_of(params: serde_json::Value) -> BTreeMap<String, String> {
        let (context, _folder) = context("command", params.clone());
        let params: CommandParams = serde_json::from_value(params).unwrap();
        let inherited = |name: &str| Some(format!("the daemon's {name}").into());
        let text = |text: OsString| text.into_string().unwrap();
        environment(&params, &context.job, inherited)
            .unwrap()
            .into_iter()
            .map(|(name, value)| (text(name), text(value)))
            .collect()
    }

    #[test]
    fn h11_the_environment_holds_what_is_allowed_and_nothing_else() {
        let all = environment_of(json!({
            "argv": ["true"], "pass_env": ["HOME", "NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY"],
            "env": {"MODE": "fast"},
        }));
        let names: Vec<&str> = all.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "HOME",
                "MODE",
                "PATH",
                "SEXTON_ATTEMPT",
                "SEXTON_ATTEMPTS_LEFT",
                "SEXTON_DRY_RUN",
                "SEXTON_JOB_ID",
                "SEXTON_KIND",
                "SEXTON_MAX_ATTEMPTS",
                "SEXTON_PRIORITY",
                "SEXTON_QUEUE",
            ]
        );
        assert_eq!(all["HOME"], "the daemon's HOME");
        assert_eq!(all["PATH"], DEFAULT_PATH);
    }

    #[test]
    fn plain_inputs_become_variables_and_ambiguous_ones_do_not() {
        let all = environment_of(json!({
            "argv": ["true"],
            "input": {
                "file-name": "a b", "count": 3, "deep": {"x": 1}, "list": [1], "none": null,
                "nul": "\0", "_two__words": "x", "a.b": 1, "a_b": 2, "job_id": "; rm -rf /",
            },
        }));
        let inputs: Vec<(&str, &str)> = all
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix("SEXTON_INPUT_")?, value.as_str())))
            .collect();
        assert_eq!(
            inputs,
            [("COUNT", "3"), ("FILE_NAME", "a b"), ("JOB_ID", "; rm -rf /"), ("TWO_WORDS", "x"),]
        );
    }

    #[test]
    fn j11_a_secret_that_is_missing_is_named_and_not_replaced_by_its_reference() {
        let params = json!({"argv": ["true"], "env": {"TOKEN": "env:SEXTON_TEST_NO_SUCH_SECRET"}});
        let (context, _folder) = context("command", params.clone());
        let params: CommandParams = serde_json::from_value(params).unwrap();
        let error = environment(&params, &context.job, |_| None).unwrap_err();
        assert!(error.to_string().contains("env:SEXTON_TEST_NO_SUCH_SECRET"), "{error}");
    }
}
