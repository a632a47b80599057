use super::*;
use crate::config::{AuditJobs, Rotation};
use crate::store::DatabaseUrl;

fn request(folder: &Path) -> Request {
    Request {
        file: None,
        system_file: folder.join("no-such-file.toml"),
        environment: Vec::new(),
        flags: Vec::new(),
        current_dir: PathBuf::from("/clone"),
        host: "host.example".to_owned(),
        processors: 4,
        zone: TimeZone::get("Europe/Berlin").unwrap(),
    }
}

/// What loading `text` from a file says, with the folder's name taken out.
fn load_text(text: &str, environment: &[(&str, &str)]) -> Result<Loaded, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sexton.toml");
    std::fs::write(&path, text).unwrap();
    let environment = environment.iter().map(|(name, value)| (name.into(), value.into())).collect();
    let request = Request { file: Some(path), environment, ..request(folder.path()) };
    load(&request)
        .map_err(|error| error.to_string().replace(&folder.path().display().to_string(), "/etc"))
}

fn error_of(text: &str, environment: &[(&str, &str)]) -> String {
    load_text(text, environment).expect_err("the settings are wrong")
}

fn defaults() -> Loaded {
    load(&request(Path::new("/nonexistent"))).unwrap()
}

#[test]
fn in_a_clone_nothing_needs_to_be_set() {
    let settings = defaults().settings;
    assert_eq!(settings.data_dir, Path::new("/clone/var"));
    assert_eq!(settings.database, DatabaseUrl::Sqlite("/clone/var/sexton.db".into()));
    assert_eq!(settings.schedule_dirs, [Path::new("/clone/schedules")]);
    assert_eq!(settings.api.socket, Path::new("/clone/var/sexton.sock"));
    assert_eq!(settings.api.listen, None);
    assert_eq!(settings.audit.dir, Path::new("/clone/var/log"));
    assert_eq!(settings.workers.count.get(), 8);
    assert_eq!(settings.defaults.timezone.iana_name(), Some("Europe/Berlin"));
    assert_eq!(settings.defaults.retry, crate::model::RetryPolicy::default());
}

#[test]
fn the_machines_file_brings_the_machines_directories() {
    let folder = tempfile::tempdir().unwrap();
    let system_file = folder.path().join("sexton.toml");
    std::fs::write(&system_file, "").unwrap();
    let loaded = load(&Request { system_file, ..request(folder.path()) }).unwrap();
    assert_eq!(loaded.settings.data_dir, Path::new("/var/lib/sexton"));
    assert_eq!(loaded.settings.log.dir, Path::new("/var/log/sexton"));
    assert_eq!(loaded.settings.schedule_dirs, [Path::new("/etc/sexton/schedules")]);
    assert_eq!(loaded.settings.api.socket, Path::new("/run/sexton/sexton.sock"));
}

#[test]
fn a_file_that_was_asked_for_must_exist() {
    let folder = tempfile::tempdir().unwrap();
    let file = Some(folder.path().join("gone.toml"));
    let error = load(&Request { file, ..request(folder.path()) }).unwrap_err();
    assert!(matches!(error, SettingsError::Unreadable { .. }), "{error}");
}

#[test]
fn the_environment_overrides_the_file_and_options_override_both() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sexton.toml");
    std::fs::write(&path, "data_dir = 'file'\n[workers]\ncount = 3\n[audit]\njobs = 'failures'\n")
        .unwrap();
    let mut request = Request { file: Some(path.clone()), ..request(folder.path()) };
    request.environment = vec![
        ("SEXTON_WORKERS__COUNT".into(), "5".into()),
        ("SEXTON_SCHEDULES__DIRS".into(), "a, /b,".into()),
        ("SEXTON_QUEUES__MAIL__WORKERS".into(), "2".into()),
        ("SEXTON_LOG__ROTATION".into(), String::new().into()),
        ("HOME".into(), "/root".into()),
    ];
    request.flags = vec![("--workers".into(), "workers.count".into(), "6".into())];
    let loaded = load(&request).unwrap();
    let settings = &loaded.settings;
    assert_eq!(settings.workers.count.get(), 6);
    assert_eq!(settings.schedule_dirs, [Path::new("/clone/a"), Path::new("/b")]);
    assert_eq!(settings.queues["mail"].workers.map(std::num::NonZero::get), Some(2));
    assert_eq!(settings.data_dir, folder.path().join("file"));
    assert_eq!(settings.audit.jobs, AuditJobs::Failures);
    assert_eq!(settings.log.rotation, Rotation::Daily, "an empty variable is not set");

    assert_eq!(loaded.origin("workers.count"), Origin::Flag { option: "--workers".into() });
    assert_eq!(
        loaded.origin("schedules.dirs"),
        Origin::Environment { variable: "SEXTON_SCHEDULES__DIRS".into() }
    );
    assert_eq!(loaded.origin("audit.jobs"), Origin::File { path, line: 5, column: 1 });
    assert_eq!(loaded.origin("log.dir"), Origin::Default);
}

#[test]
fn all_problems_of_a_file_are_reported_with_their_places() {
    let text = r#"data_dri = "/x"
[database]
url = "mysql://me:canary@h/d"
[workers]
count = "lots"
reserved_high = -1
[queues.mail]
rate = "5 a second"
timeout = "90"
[log]
format = "xml"
levle = "info"
[defaults]
priority = "urgently"
"#;
    let error = error_of(text, &[]);
    assert!(!error.contains("canary"), "{error}");
    insta::assert_snapshot!(error);
}

#[test]
fn a_file_that_is_not_toml_says_where() {
    insta::assert_snapshot!(error_of("[log]\nlevel = info\n", &[]));
}

#[test]
fn what_only_the_whole_shows_names_key_and_origin() {
    let text = "[workers]\ncount = 2\nreserved_high = 2\n[lease]\nheartbeat = \"20s\"\n\
                [defaults]\ntimezone = \"Europe/Berlni\"\n[queues.\"Big Jobs\"]\nworkers = 1\n";
    insta::assert_snapshot!(error_of(text, &[]));
}

#[test]
fn a_wrong_variable_is_named() {
    let error = error_of(
        "[workers]\ncount = 2\n",
        &[
            ("SEXTON_WORKERS__COUNT", "many"),
            ("SEXTON_RETENTION__FAILED", "1 month"),
            ("SEXTON_AUDIT__JOBS", "some"),
            ("SEXTON_DATABASE__URL", "redis://:canary@h"),
        ],
    );
    assert!(!error.contains("canary"), "{error}");
    insta::assert_snapshot!(error);
}

#[test]
fn a_password_that_breaks_its_url_is_refused_with_how_to_write_it() {
    for password in ["can?ary", "can/ary", "can@ary"] {
        let url = format!("postgres://me:{password}@h/x");
        let error = error_of("", &[("SEXTON_DATABASE__URL", &url)]);
        assert!(error.contains("SEXTON_DATABASE__URL") && error.contains("? as %3F"), "{error}");
        assert!(!error.contains("ary"), "{error}");
    }
}

#[test]
fn a_node_that_could_not_be_chosen_is_refused() {
    for name in ["any", "every"] {
        let error = error_of(&format!("[node]\nname = \"{name}\"\n"), &[]);
        assert!(error.contains("node.name") && error.contains(&format!("`{name}`")), "{error}");
    }
    let labels = load_text("[node]\nlabels = [\"any\"]\n", &[]).unwrap().settings.node.labels;
    assert_eq!(labels, ["any"]);
}

#[test]
fn an_unknown_variable_is_refused_with_the_nearest_name() {
    let error = error_of(
        "",
        &[
            ("SEXTON_FOO", "1"),
            ("SEXTON_DATABSE__URL", "sqlite:x"),
            ("SEXTON_WORKERS_COUNT", "3"),
            ("SEXTON_QUEUES__MAIL__WORKER", "3"),
        ],
    );
    insta::assert_snapshot!(error);
}

#[test]
fn j10_a_variable_is_named_without_what_could_disturb_a_terminal() {
    for variable in ["SEXTON_\u{1b}[31mX", "SEXTON_QUEUES__MAIL\u{1b}[31m"] {
        let error = error_of("", &[(variable, "1")]);
        assert!(error.contains("\\u{1b}[31m") && !error.contains('\u{1b}'), "{error:?}");
    }
}

#[test]
fn of_a_variable_that_is_given_twice_the_first_one_counts() {
    let twice = [("SEXTON_WORKERS__COUNT", "3"), ("SEXTON_WORKERS__COUNT", "5")];
    let loaded = load_text("", &twice).unwrap();
    assert_eq!(loaded.settings.workers.count.get(), 3);
}

#[test]
fn inside_a_job_the_jobs_own_variables_are_not_settings() {
    let inside = [("SEXTON_JOB_ID", "7"), ("SEXTON_PARAM_PATH", "/x")];
    assert!(load_text("", &inside).is_ok());
    let error = error_of("", &[("SEXTON_JOB_ID", "7"), ("SEXTON_LOG__LEVLE", "debug")]);
    assert!(error.starts_with("SEXTON_LOG__LEVLE: "), "{error}");
}

#[test]
fn every_setting_is_explained_with_its_origin() {
    let text = "[queues.mail]\nworkers = 1\n[database]\nurl = 'postgres://me:canary@h/d'\n";
    let loaded = load_text(text, &[("SEXTON_API__LISTEN", "7373")]).unwrap();
    let entries = loaded.explain();
    let mut shown: Vec<&str> =
        entries.iter().filter_map(|entry| Key::of(&entry.key)).map(|key| key.name).collect();
    shown.dedup();
    let known: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
    assert_eq!(shown, known);

    let find = |key: &str| entries.iter().find(|entry| entry.key == key).unwrap();
    assert_eq!(find("database.url").value.as_deref(), Some("\"postgres://h/d\""));
    assert_eq!(find("api.listen").value.as_deref(), Some("\"127.0.0.1:7373\""));
    assert_eq!(find("queues.mail.timeout").value, None);
    assert!(!format!("{loaded:?}").contains("canary"));
}

#[test]
fn what_is_explained_can_be_written_back() {
    let loaded = defaults();
    let text: String = loaded
        .explain()
        .into_iter()
        .filter_map(|entry| Some(format!("{} = {}\n", entry.key, entry.value?)))
        .collect();
    assert_eq!(load_text(&text, &[]).unwrap().settings, loaded.settings);
}

#[test]
fn every_setting_and_its_variable_are_documented() {
    let documentation = include_str!("../../docs/settings.md");
    for key in KEYS {
        let name = key.name.replace('*', "NAME");
        assert!(documentation.contains(&format!("`{name}`")), "docs/settings.md lacks {name}");
        let variable = Key::variable(key.name).replace('*', "NAME");
        assert!(documentation.contains(&variable), "docs/settings.md lacks {variable}");
    }
}
