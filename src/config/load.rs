//! From files, variables and options to checked settings. The only user of the `config` crate.
//!
//! `config` puts the layers together; it knows neither lines nor, once merged, which layer a value came from. So the
//! file is read with `toml` first, which knows both, and is checked alone; after the merge each problem is looked up by
//! its key among the variables, the options and the places in the file.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use config::{Config, Environment, File, FileFormat};
use jiff::tz::TimeZone;
use serde_json::Value;

use super::file::SettingsFile;
use super::keys::{KEYS, Key, PREFIX, SEPARATOR, Shape};
use super::raw::Raw;
use super::settings::Surroundings;
use super::{Origin, Settings, SettingsError, SettingsProblem};
use crate::jobs::{Problem, check_as, suggest};

/// The machine's settings. It need not exist.
pub const SYSTEM_FILE: &str = "/etc/sexton/sexton.toml";

/// Variables that start like settings and are something else: the option `--config`.
const NOT_SETTINGS: [&str; 1] = ["SEXTON_CONFIG"];

/// Set in the environment of every command that Sexton runs, among others that a `sexton` called there must not take for
/// settings.
const INSIDE_A_JOB: &str = "SEXTON_JOB_ID";

/// What settings are made from. Nothing else is looked at, so tests need not touch the process.
#[derive(Debug, Clone)]
pub struct Request {
    /// `--config`: a file that must exist.
    pub file: Option<PathBuf>,
    /// The file to read where `file` is `None`; it may be missing.
    pub system_file: PathBuf,
    /// The environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Options that stand for a setting: how they are written, the key, the value.
    pub flags: Vec<(String, String, String)>,
    /// What relative paths in variables and options start from.
    pub current_dir: PathBuf,
    /// The host's name, as `uname -n` says it.
    pub host: String,
    /// How many processors there are.
    pub processors: usize,
    /// The machine's zone.
    pub zone: TimeZone,
}

impl Request {
    /// The process's own environment, directory, processors and zone.
    ///
    /// # Errors
    /// When the current directory is gone.
    pub fn from_process(file: Option<PathBuf>) -> io::Result<Self> {
        Ok(Self {
            file,
            system_file: PathBuf::from(SYSTEM_FILE),
            environment: std::env::vars_os().collect(),
            flags: Vec::new(),
            current_dir: std::env::current_dir()?,
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            zone: TimeZone::try_system().unwrap_or(TimeZone::UTC),
        })
    }
}

/// Settings that can be used, and where they came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What the program works with.
    pub settings: Settings,
    /// The file that was read.
    pub file: Option<PathBuf>,
    origins: BTreeMap<String, Origin>,
}

impl Loaded {
    /// Where a setting's value came from.
    #[must_use]
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }
}

/// Reads, merges and checks.
///
/// # Errors
/// All problems of the file; or, once the file is right, all problems of the rest.
pub fn load(request: &Request) -> Result<Loaded, SettingsError> {
    let path = request.file.as_ref().unwrap_or(&request.system_file);
    let text = match std::fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound && request.file.is_none() => None,
        Err(source) => return Err(SettingsError::Unreadable { path: path.clone(), source }),
    };
    resolve(text.map(|text| (path.clone(), text)), request)
}

/// As [`load`], of a file that is read already: where it was and its text. Touches nothing but its arguments.
///
/// # Errors
/// As those of [`load`], except for a file that cannot be read.
pub fn resolve(
    file: Option<(PathBuf, String)>,
    request: &Request,
) -> Result<Loaded, SettingsError> {
    let file = file.map(|(path, text)| SettingsFile::parse(path, text)).transpose();
    let file = file.map_err(SettingsError::Invalid)?;
    if let Some(file) = &file {
        let mut problems: Vec<_> =
            check_as::<Raw>(&file.value).iter().map(|p| in_file(file, p)).collect();
        problems.sort_by_key(|problem| problem.origin.line());
        if !problems.is_empty() {
            return Err(SettingsError::Invalid(problems));
        }
    }
    let given = Given::collect(request).map_err(SettingsError::Invalid)?;
    let mut merged = merge(file.as_ref(), &given).map_err(SettingsError::Merge)?;
    given.give_types(&mut merged);

    let mut origins = given.origins;
    if let Some(file) = &file {
        for name in file.names().filter(|name| Key::of(name).is_some()) {
            if let Some((origin, _)) = file.key_at(name) {
                origins.entry(name.to_owned()).or_insert(origin);
            }
        }
    }
    let sources = Sources { file: file.as_ref(), origins: &origins };
    let wrong: Vec<_> = check_as::<Raw>(&merged).iter().map(|p| sources.explain(p)).collect();
    if !wrong.is_empty() {
        return Err(SettingsError::Invalid(wrong));
    }
    let raw: Raw =
        serde_json::from_value(merged).map_err(|error| SettingsError::Merge(error.into()))?;

    let file_path = file.as_ref().map(|file| request.current_dir.join(&file.path));
    let folder =
        file_path.as_deref().and_then(Path::parent).unwrap_or(request.current_dir.as_path());
    let around = Surroundings {
        installed: file.as_ref().is_some_and(|file| file.path == request.system_file),
        folder,
        host: request.host.clone(),
        processors: request.processors,
        zone: request.zone.clone(),
    };
    let base = |key: &str| match origins.get(key) {
        Some(Origin::File { .. }) => folder,
        _ => request.current_dir.as_path(),
    };
    match Settings::check(raw, &around, base) {
        Ok(settings) => Ok(Loaded { settings, file: file.map(|file| file.path), origins }),
        Err(complaints) => Err(SettingsError::Invalid(
            complaints
                .into_iter()
                .map(|(key, message)| sources.problem(key, message, None))
                .collect(),
        )),
    }
}

/// What the environment and the command line say, by key.
#[derive(Debug, Default)]
struct Given {
    variables: BTreeMap<String, String>,
    flags: BTreeMap<String, String>,
    origins: BTreeMap<String, Origin>,
}

impl Given {
    fn collect(request: &Request) -> Result<Self, Vec<SettingsProblem>> {
        let mut given = Self::default();
        let mut problems = Vec::new();
        let inside_a_job = request.environment.iter().any(|(name, _)| name == INSIDE_A_JOB);
        let mut seen = HashSet::new();
        for (variable, value) in &request.environment {
            let Some(variable) = variable.to_str() else { continue };
            // A program can be started with a variable twice. The first one counts, as it does for getenv(3).
            if !seen.insert(variable) {
                continue;
            }
            let Some(name) = variable.strip_prefix(PREFIX) else { continue };
            let foreign = inside_a_job && !name.contains(SEPARATOR);
            // An empty variable is the usual way to say "not set" in unit files and containers.
            if foreign || value.is_empty() || NOT_SETTINGS.contains(&variable) {
                continue;
            }
            let origin = Origin::Environment { variable: variable.to_owned() };
            let key = name.to_ascii_lowercase().replace(SEPARATOR, ".");
            match value.to_str() {
                _ if Key::of(&key).is_none() => problems.push(unknown_variable(variable, origin)),
                None => problems.push(SettingsProblem {
                    origin,
                    key,
                    message: "the value is not UTF-8".to_owned(),
                    help: None,
                    excerpt: None,
                }),
                Some(value) => {
                    given.variables.insert(variable.to_owned(), value.to_owned());
                    given.origins.insert(key, origin);
                }
            }
        }
        for (option, key, value) in &request.flags {
            given.flags.insert(key.clone(), value.clone());
            given.origins.insert(key.clone(), Origin::Flag { option: option.clone() });
        }
        if problems.is_empty() { Ok(given) } else { Err(problems) }
    }

    /// Variables and options are texts; where a number or a list is expected, they are read as such. What cannot be read
    /// stays a text, and the check says what was expected.
    fn give_types(&self, merged: &mut Value) {
        for (name, key) in
            self.origins.keys().filter_map(|name| Key::of(name).map(|key| (name, key)))
        {
            let pointer = format!("/{}", name.replace('.', "/"));
            let Some(value) = merged.pointer_mut(&pointer) else { continue };
            let Value::String(text) = &*value else { continue };
            let typed = match key.shape {
                Shape::Text => continue,
                Shape::Whole => text.trim().parse::<i64>().ok().map(Value::from),
                Shape::List => {
                    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                    Some(parts.collect::<Vec<_>>().into())
                }
            };
            if let Some(typed) = typed {
                *value = typed;
            }
        }
    }
}

fn unknown_variable(variable: &str, origin: Origin) -> SettingsProblem {
    // A queue's name is anybody's choice, so it is taken from what was written.
    let queue = variable
        .strip_prefix("SEXTON_QUEUES__")
        .and_then(|rest| rest.split(SEPARATOR).next())
        .unwrap_or("NAME");
    let known: Vec<String> =
        KEYS.iter().map(|key| Key::variable(key.name).replace('*', queue)).collect();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let help = suggest(variable, &known);
    SettingsProblem {
        origin,
        key: String::new(),
        message: "there is no setting of this name".to_owned(),
        help: Some(help.unwrap_or_else(|| "`sexton config show` lists all settings".to_owned())),
        excerpt: None,
    }
}

fn merge(
    file: Option<&SettingsFile>,
    given: &Given,
) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
    let mut layers = Config::builder();
    if let Some(file) = file {
        layers = layers.add_source(File::from_str(&file.text, FileFormat::Toml));
    }
    let variables = given.variables.clone().into_iter().collect();
    layers = layers.add_source(
        Environment::with_prefix(PREFIX.trim_end_matches('_'))
            .prefix_separator("_")
            .separator(SEPARATOR)
            .source(Some(variables)),
    );
    for (key, value) in &given.flags {
        layers = layers.set_override(key, value.as_str())?;
    }
    Ok(layers.build()?.try_deserialize()?)
}

/// Where merged values came from, to say so in an error.
struct Sources<'a> {
    file: Option<&'a SettingsFile>,
    origins: &'a BTreeMap<String, Origin>,
}

impl Sources<'_> {
    fn explain(&self, problem: &Problem) -> SettingsProblem {
        let key = dotted(problem);
        self.problem(key.clone(), expectation(&key, &problem.message), problem.help.clone())
    }

    fn problem(&self, key: String, message: String, help: Option<String>) -> SettingsProblem {
        // A wrong element of a list belongs to the variable that gave the list.
        let parent = key.rsplit_once('.').map_or("", |(parent, _)| parent);
        let given = self.origins.get(&key).or_else(|| self.origins.get(parent));
        let in_file = self.file.and_then(|file| file.value_at(&key));
        let (origin, excerpt) = match (given, in_file) {
            (Some(given @ (Origin::Environment { .. } | Origin::Flag { .. })), _) => {
                (given.clone(), None)
            }
            (_, Some(place)) => place,
            (given, None) => (given.cloned().unwrap_or(Origin::Default), None),
        };
        SettingsProblem { origin, key, message, help, excerpt }
    }
}

fn in_file(file: &SettingsFile, problem: &Problem) -> SettingsProblem {
    let key = dotted(problem);
    let is_unknown = problem.message.starts_with("unknown key");
    let place = if is_unknown { file.key_at(&key) } else { file.value_at(&key) };
    let (origin, excerpt) = place
        .unwrap_or_else(|| (Origin::File { path: file.path.clone(), line: 1, column: 1 }, None));
    let message = expectation(&key, &problem.message);
    SettingsProblem { origin, key, message, help: problem.help.clone(), excerpt }
}

fn dotted(problem: &Problem) -> String {
    let parts: Vec<String> = problem.path.iter().map(ToString::to_string).collect();
    parts.join(".")
}

/// serde says "expected u16"; people are told what the key takes.
fn expectation(key: &str, message: &str) -> String {
    let is_serde = ["invalid type", "invalid value", "unknown variant"]
        .iter()
        .any(|start| message.starts_with(start));
    match (Key::of(key), message.split_once(", expected")) {
        (Some(key), Some((found, _))) if is_serde => format!("{found}, expected {}", key.expects),
        _ => message.to_owned(),
    }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
