//! The settings.
//!
//! An input is the text of a file and, behind a line `%%`, variables of the environment, one `NAME=VALUE` a line.

use std::collections::BTreeSet;
use std::path::PathBuf;

use jiff::tz::TimeZone;
use sexton::config::{Loaded, Origin, Request, SettingsError, SettingsProblem, resolve};

use super::text::{is_inert, text_of};

pub(crate) fn check(data: &[u8]) {
    let Some(text) = text_of(data) else { return };
    let (file, variables) = text.split_once("\n%%\n").unwrap_or((text, ""));
    match resolved(file, variables) {
        Ok(loaded) => {
            has_absolute_paths(&loaded);
            is_what_is_shown(&loaded);
        }
        Err(SettingsError::Invalid(problems)) => {
            assert!(!problems.is_empty(), "refused without a reason");
            let mut told = BTreeSet::new();
            for problem in &problems {
                points_into(file, problem);
                assert!(told.insert(problem.to_string()), "twice: {problem}");
            }
        }
        Err(other) => panic!("each layer was checked: {other:?}"),
    }
}

fn resolved(file: &str, variables: &str) -> Result<Loaded, SettingsError> {
    let pairs = variables.lines().filter_map(|line| line.split_once('='));
    let path = PathBuf::from("/etc/fuzz/sexton.toml");
    let request = Request {
        file: Some(path.clone()),
        system_file: PathBuf::from("/etc/sexton/sexton.toml"),
        environment: pairs.map(|(name, value)| (name.into(), value.into())).collect(),
        flags: Vec::new(),
        current_dir: PathBuf::from("/"),
        host: "host".to_owned(),
        processors: 4,
        zone: TimeZone::UTC,
    };
    resolve(Some((path, file.to_owned())), &request)
}

fn has_absolute_paths(loaded: &Loaded) {
    let settings = &loaded.settings;
    let lists = settings.schedule_dirs.iter().chain(&settings.kind_dirs);
    let single = [&settings.data_dir, &settings.api.socket, &settings.log.dir, &settings.audit.dir];
    for path in lists.chain(single) {
        assert!(path.is_absolute(), "{}", path.display());
    }
}

/// What `sexton config show` prints is a settings file, and means the same.
fn is_what_is_shown(loaded: &Loaded) {
    let shown = |loaded: &Loaded| -> Vec<(String, String)> {
        let entries = loaded.explain().into_iter();
        entries.filter_map(|entry| Some((entry.key, entry.value?))).collect()
    };
    let mut entries = shown(loaded);
    // A database's password is not shown, so its address is not complete.
    entries.retain(|(key, value)| key != "database.url" || value.starts_with("\"sqlite:"));
    let lines: Vec<String> =
        entries.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
    let again = resolved(&lines.concat(), "").unwrap_or_else(|error| {
        panic!("what is shown is refused: {error}\n{}", lines.concat());
    });
    let mut again = shown(&again);
    again.retain(|(key, _)| entries.iter().any(|(known, _)| known == key));
    assert_eq!(again, entries);
}

fn points_into(file: &str, problem: &SettingsProblem) {
    assert!(is_inert(&problem.to_string()), "{problem:?}");
    if let Origin::File { line, column, .. } = &problem.origin {
        let text = file.split('\n').nth(line - 1);
        let text = text.unwrap_or_else(|| panic!("line {line} of {file:?}: {problem}"));
        assert!(*column <= text.chars().count() + 1, "{line}:{column} of {file:?}: {problem}");
    }
}
