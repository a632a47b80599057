//! The texts that people read: help, manual, errors.

use crate::harness::daemon::{Home, answer};

/// Every command with a help text of its own.
const COMMANDS: [&str; 42] = [
    "",
    "serve",
    "validate",
    "next",
    "explain",
    "schedules",
    "show",
    "why",
    "pause",
    "resume",
    "run",
    "submit",
    "jobs",
    "job",
    "cancel",
    "retry",
    "logs",
    "stats",
    "queues",
    "queues pause",
    "queues set",
    "limits set",
    "workers",
    "nodes",
    "token",
    "token create",
    "token set",
    "token revoke",
    "events",
    "audit",
    "audit verify",
    "db",
    "db migrate",
    "db status",
    "db backup",
    "db check",
    "reload",
    "status",
    "doctor",
    "config show",
    "completions",
    "man",
];

#[test]
fn help_of_every_command() {
    let home = Home::new();
    let mut text = String::new();
    for command in COMMANDS {
        let words = command.split_whitespace().chain(["--help"]);
        let help = answer(home.command(words).env("COLUMNS", "100")).exits(0);
        assert_eq!(help.stderr, "");
        text.push_str(&format!("$ sexton {command} --help\n{}\n", help.stdout));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn errors_show_the_line_and_point_at_it() {
    let home = Home::new();
    home.schedule(
        "cleanup",
        "[when]\ndaily = [\"02:30\"]\n\n[cleanup]\nroots = [\"/srv/uploads\"]\nolder_then = \"7d\"\n",
    );
    home.schedule("report", "[when]\ncron = \"0 0 31 2 *\"\n[command]\nargv = [\"true\"]\n");
    let refused = home.cli(["validate"]).exits(78);
    let said = format!("{}{}", refused.stderr, refused.stdout);
    insta::assert_snapshot!(said.replace(&home.path("").display().to_string(), "/etc/sexton/"));
}

#[test]
fn next_as_json() {
    let home = Home::new();
    let rule = ["next", "--cron", "0 9 * * MON-FRI", "--timezone", "America/New_York"];
    let more = ["--from", "2026-03-05T12:00:00Z", "--count", "4", "--json"];
    insta::assert_snapshot!(home.cli(rule.iter().chain(&more)).exits(0).stdout);
}

#[test]
fn completions_and_manual_know_every_command() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = home.cli(["completions", shell]).exits(0).stdout;
        assert!(script.contains("sexton") && script.contains("validate"), "{shell}");
    }
    let manual = home.cli(["man"]).exits(0).stdout;
    assert!(manual.contains(".TH"), "{manual}");
    for command in ["serve", "validate", "submit", "reload"] {
        assert!(manual.contains(command), "{command}");
    }
}
