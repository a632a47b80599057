//! What the package ships works with this version of the program.

use std::path::{Path, PathBuf};
use std::process::Command;

use sexton::config::{KEYS, Loaded, Origin, Request, load};

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(path)
}

fn load_as_the_machines(text: &str) -> Loaded {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let system_file = folder.path().join("sexton.toml");
    std::fs::write(&system_file, text).expect("a file in it");
    let request = Request {
        file: None,
        system_file,
        environment: Vec::new(),
        flags: Vec::new(),
        current_dir: folder.path().to_owned(),
        host: "host.example.org".to_owned(),
        processors: 4,
        zone: jiff::tz::TimeZone::get("Europe/Berlin").expect("a zone of every machine"),
    };
    load(&request).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The example with every setting in force: `#key = value` becomes `key = value`, prose (`# Text`) stays a comment.
fn in_force(example: &str) -> String {
    let is_setting = |rest: &str| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
    let line = |line: &str| match line.strip_prefix('#').filter(|rest| is_setting(rest)) {
        Some(setting) => format!("{setting}\n"),
        None => format!("{line}\n"),
    };
    example.lines().map(line).collect()
}

#[test]
fn the_example_settings_show_every_key_with_its_default() {
    let example = std::fs::read_to_string(shipped("config/sexton.toml")).unwrap();
    let defaults = load_as_the_machines("").settings;
    assert_eq!(load_as_the_machines(&example).settings, defaults, "as shipped it changes nothing");

    let mut shown = load_as_the_machines(&in_force(&example));
    for key in KEYS {
        let name = key.name.replace('*', "mail");
        assert_ne!(shown.origin(&name), Origin::Default, "{name} is not in the example");
    }
    // The two that are off by default.
    shown.settings.queues.clear();
    shown.settings.api.listen = None;
    assert_eq!(shown.settings, defaults);
}

#[test]
fn systemd_has_nothing_to_say_against_the_unit() {
    let unit = std::fs::read_to_string(shipped("systemd/sexton.service")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let installed = folder.path().join("sexton.service");
    // `verify` wants the program to exist.
    std::fs::write(&installed, unit.replace("/usr/bin/sexton", "/bin/true")).unwrap();
    let analyze = |arguments: &[&str]| {
        Command::new("systemd-analyze").args(arguments).arg(&installed).output()
    };
    let Ok(verify) = analyze(&["verify"]) else {
        println!("systemd-analyze is not installed: nothing checked");
        return;
    };
    let said = String::from_utf8_lossy(&verify.stderr);
    assert!(verify.status.success() && said.is_empty(), "{said}");
    let security = analyze(&["security", "--offline=true", "--threshold=15"]).unwrap();
    assert!(security.status.success(), "{}", String::from_utf8_lossy(&security.stdout));
}
