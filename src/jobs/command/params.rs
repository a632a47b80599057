//! `[command]`: what is run and how its end is read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use rustix::process::Resource;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::environment::{self, DEFAULT_PASS_ENV};
use crate::jobs::secret::SecretRef;
use crate::jobs::{DEFAULT_MAX_OUTPUT, Params, Problem};
use crate::model::{ByteSize, HumanDuration};

/// The table `[command]` of a schedule file.
///
/// What has gone into a [`Program`](crate::jobs::ports::process::Program) by the time it is handed to another process is not written
/// with the rest, secrets least of all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandParams {
    /// The program and its arguments, without a shell. This or `shell`.
    #[serde(default, skip_serializing)]
    pub argv: Vec<String>,
    /// A script for `/bin/sh -c`. This or `argv`.
    #[serde(default, skip_serializing)]
    pub shell: Option<String>,
    /// Where it starts; the daemon's own working directory unless given.
    #[serde(default, skip_serializing)]
    pub cwd: Option<PathBuf>,
    /// Variables of its environment. Values may be secret references.
    #[serde(default, skip_serializing)]
    pub env: BTreeMap<String, EnvValue>,
    /// Variables it gets from the daemon's environment; all others are dropped.
    #[serde(default = "default_pass_env", skip_serializing)]
    pub pass_env: Vec<String>,
    /// Given to the program as JSON on standard input, and its plain values in `SEXTON_INPUT_*`.
    #[serde(default)]
    pub input: Option<Map<String, Value>>,
    /// How long the program has between SIGTERM and SIGKILL when it is stopped.
    #[serde(default = "default_kill_grace")]
    pub kill_grace: HumanDuration,
    /// What happens to processes that the program leaves behind when it ends.
    #[serde(default)]
    pub leftovers: Leftovers,
    /// What happens to the program when the daemon is restarted or dies.
    #[serde(default)]
    pub on_restart: OnRestart,
    /// Exit codes that mean success.
    #[serde(default = "default_success_codes")]
    pub success_codes: BTreeSet<u8>,
    /// Exit codes that mean there was nothing to do: success, with a note.
    #[serde(default)]
    pub skip_codes: BTreeSet<u8>,
    /// Exit codes that make trying again pointless.
    #[serde(default)]
    pub final_codes: BTreeSet<u8>,
    /// Where given, the only exit codes that are tried again.
    #[serde(default)]
    pub retry_codes: BTreeSet<u8>,
    /// File mode bits that new files do not get; the daemon's own unless given.
    #[serde(default, skip_serializing)]
    pub umask: Option<Umask>,
    /// Its priority for the processor, -20 (first) to 19 (last).
    #[serde(default)]
    pub nice: Option<i8>,
    /// Limits on each of its processes.
    #[serde(default)]
    pub limits: Limits,
    /// How much of its output is kept.
    #[serde(default = "default_max_output")]
    pub max_output: ByteSize,
    /// Where the job's result comes from.
    #[serde(default)]
    pub result: ResultFrom,
}

/// A variable's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvValue {
    /// The text itself.
    Plain(String),
    /// Where the text is; it is read when the program starts.
    Secret(SecretRef),
}

impl<'de> Deserialize<'de> for EnvValue {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if SecretRef::is_meant(&text) {
            return text.parse().map(Self::Secret).map_err(serde::de::Error::custom);
        }
        Ok(Self::Plain(text))
    }
}

/// What happens to processes that outlive the program that started them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leftovers {
    /// They are ended like the program itself: SIGTERM, `kill_grace`, SIGKILL.
    #[default]
    Kill,
    /// They stay. For programs that start a service on purpose. A job that is stopped takes them along all the same.
    Leave,
}

/// What happens to a program when its daemon is restarted or dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnRestart {
    /// It goes on, and the next daemon takes it over.
    #[default]
    Keep,
    /// It is ended, and its job runs again.
    Kill,
}

/// Where a job's own part of its result comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResultFrom {
    /// There is none.
    #[default]
    None,
    /// The last line of standard output, where that is JSON.
    LastLine,
}

/// File mode bits that new files do not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Umask(u16);

impl fmt::Display for Umask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl<'de> Deserialize<'de> for Umask {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_octal = (3..=4).contains(&text.len()) && !text.starts_with('+');
        match u16::from_str_radix(&text, 8) {
            Ok(bits) if is_octal && bits <= 0o777 => Ok(Self(bits)),
            _ => Err(serde::de::Error::custom(format!(
                "`{}` is not a umask: write it in octal, like \"027\"",
                text.escape_default()
            ))),
        }
    }
}

/// Resource limits (`setrlimit(2)`), each for every single process. They are set right after the program was started,
/// soft and hard alike.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Address space.
    pub memory: Option<ByteSize>,
    /// Processor time, in whole seconds.
    pub cpu_time: Option<HumanDuration>,
    /// The largest file it may write.
    pub file_size: Option<ByteSize>,
    /// Open file descriptors.
    pub open_files: Option<u64>,
    /// Processes and threads of the daemon's user, in all.
    pub processes: Option<u64>,
    /// Core dumps.
    pub core: Option<ByteSize>,
}

impl Limits {
    /// The limits that are set, with the names they have in the file.
    pub(super) fn set(&self) -> impl Iterator<Item = (&'static str, Resource, u64)> {
        [
            ("memory", Resource::As, self.memory.map(|size| size.0)),
            ("cpu_time", Resource::Cpu, self.cpu_time.map(|time| time.0.as_secs().max(1))),
            ("file_size", Resource::Fsize, self.file_size.map(|size| size.0)),
            ("open_files", Resource::Nofile, self.open_files),
            ("processes", Resource::Nproc, self.processes),
            ("core", Resource::Core, self.core.map(|size| size.0)),
        ]
        .into_iter()
        .filter_map(|(name, resource, value)| Some((name, resource, value?)))
    }
}

/// What is run: `argv` and `shell` made one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Invocation<'a> {
    /// A program and its arguments.
    Argv {
        /// As written.
        program: &'a str,
        /// The rest.
        arguments: &'a [String],
    },
    /// A script for the shell.
    Shell(&'a str),
}

impl Invocation<'_> {
    /// What messages call it.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Argv { program, .. } => program,
            Self::Shell(_) => "shell script",
        }
    }
}

impl CommandParams {
    /// What is run, if exactly one of the two is given.
    pub(super) fn invocation(&self) -> Result<Invocation<'_>, Problem> {
        match (self.argv.split_first(), &self.shell) {
            (Some((program, arguments)), None) => Ok(Invocation::Argv { program, arguments }),
            (None, Some(script)) => Ok(Invocation::Shell(script)),
            (None, None) => Err(Problem::at("", "there is nothing to run")
                .help("give `argv = [\"program\", \"argument\"]`, or `shell = \"script\"`")),
            (Some(_), Some(_)) => Err(Problem::at("shell", "both `argv` and `shell` are given")
                .help("keep the one that is meant")),
        }
    }
}

impl Params for CommandParams {
    fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        match self.invocation() {
            Err(problem) => found.push(problem),
            Ok(Invocation::Argv { program: "", .. }) => {
                found.push(Problem::at("argv.0", "the program's name is empty"));
            }
            Ok(Invocation::Shell(script)) if script.trim().is_empty() => {
                found.push(Problem::at("shell", "the script is empty"));
            }
            Ok(_) => {}
        }
        let texts = self.argv.iter().enumerate().map(|(at, text)| (format!("argv.{at}"), text));
        for (path, text) in texts.chain(self.shell.iter().map(|text| ("shell".to_owned(), text))) {
            if text.contains('\0') {
                found.push(Problem::at(&path, "a NUL character cannot be given to a program"));
            }
        }
        found.extend(environment::problems(self));
        if let Some(nice) = self.nice.filter(|nice| !(-20..=19).contains(nice)) {
            found.push(Problem::at("nice", format!("{nice} is not within -20 to 19")));
        }
        found.extend(self.code_problems());
        found
    }
}

impl CommandParams {
    /// A code in two lists says two things.
    fn code_problems(&self) -> Vec<Problem> {
        let lists = [
            ("success_codes", &self.success_codes),
            ("skip_codes", &self.skip_codes),
            ("final_codes", &self.final_codes),
            ("retry_codes", &self.retry_codes),
        ];
        let mut found = Vec::new();
        for (index, (name, codes)) in lists.iter().enumerate() {
            for (other, others) in &lists[..index] {
                found.extend(codes.intersection(others).map(|code| {
                    Problem::at(name, format!("exit code {code} is in `{other}` too"))
                        .help("keep it in one of them")
                }));
            }
        }
        found
    }
}

fn default_pass_env() -> Vec<String> {
    DEFAULT_PASS_ENV.map(str::to_owned).to_vec()
}

fn default_kill_grace() -> HumanDuration {
    HumanDuration::from_secs(10)
}

fn default_success_codes() -> BTreeSet<u8> {
    BTreeSet::from([0])
}

fn default_max_output() -> ByteSize {
    DEFAULT_MAX_OUTPUT
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::jobs::check_as;

    fn problems(params: &Value) -> Vec<String> {
        check_as::<CommandParams>(params).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn one_of_argv_and_shell_is_needed_and_only_one_allowed() {
        assert!(problems(&json!({"argv": ["true"]})).is_empty());
        assert!(problems(&json!({"shell": "true"})).is_empty());
        assert!(problems(&json!({}))[0].starts_with("there is nothing to run"));
        assert!(
            problems(&json!({"argv": ["true"], "shell": "true"}))[0].starts_with("shell: both")
        );
        assert_eq!(problems(&json!({"argv": [""]})), ["argv.0: the program's name is empty"]);
        assert_eq!(problems(&json!({"shell": " \n"})), ["shell: the script is empty"]);
    }

    #[test]
    fn every_mistake_is_named_with_its_place() {
        let params = json!({
            "argv": ["echo", "a\0b"],
            "env": {"A=B": "x", "SEXTON_JOB_ID": "1"},
            "pass_env": ["NOTIFY_SOCKET", "LISTEN_FDS"],
            "final_codes": [0, 3],
            "retry_codes": [3],
            "umask": "9",
            "nice": 20,
        });
        let found = problems(&params);
        let places: Vec<&str> = found.iter().filter_map(|text| text.split(": ").next()).collect();
        assert_eq!(
            places,
            [
                "umask",
                "argv.1",
                "env.A=B",
                "env.SEXTON_JOB_ID",
                "pass_env.0",
                "pass_env.1",
                "nice",
                "final_codes",
                "retry_codes",
            ]
        );
    }

    #[test]
    fn a_umask_is_octal_text() {
        let umask = |text: &str| serde_json::from_value::<Umask>(json!(text));
        assert_eq!(umask("027").unwrap().to_string(), "0027");
        for bad in ["", "27", "+27", "1777", "089", "0o27"] {
            assert!(umask(bad).is_err(), "{bad}");
        }
    }
}
