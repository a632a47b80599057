//! Text that no database, list or log should hold.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use sexton::store::DatabaseUrl;

use crate::harness::TestDatabase;
use crate::harness::daemon::{Daemon, Home};
use crate::harness::http::call;

const PATIENCE: Duration = Duration::from_secs(30);

fn ask(daemon: &Daemon, what: (&str, &str), body: Option<&Value>) -> (u16, Value) {
    call(&daemon.path("data/sexton.sock"), PATIENCE, what, body).expect("the daemon answers")
}

fn start(variables: &[(&'static str, &str)]) -> Daemon {
    let mut home = Home::new();
    home.schedule("nightly", "[when]\ncron = \"0 0 29 2 *\"\n[command]\nargv = [\"true\"]\n");
    for (name, value) in variables {
        home.variable(name, PathBuf::from(value));
    }
    Daemon::start_in(home)
}

/// A reason is in lists and logs, whatever the database is.
fn reasons_are_refused(daemon: &Daemon) {
    for path in ["/api/v1/schedules/nightly/pause", "/api/v1/queues/mail/pause"] {
        for reason in ["a\u{0}b", "a\nb", "\u{1b}[31mred"] {
            let (status, said) = ask(daemon, ("POST", path), Some(&json!({ "reason": reason })));
            assert_eq!(
                (status, &said["errors"][0]["pointer"]),
                (422, &json!("/reason")),
                "{said:#}"
            );
        }
        let fine = json!({ "reason": "wegen Umbau: größer" });
        assert_eq!(ask(daemon, ("POST", path), Some(&fine)).0, 200);
    }
}

#[test]
fn a_reason_with_control_characters_is_refused() {
    let daemon = start(&[]);
    reasons_are_refused(&daemon);
    let said = daemon.cli(["pause", "nightly", "--reason", "a\nb"]).exits(2);
    assert!(said.stderr.contains("without control characters"), "{said:?}");
}

#[test]
fn text_with_nul_is_the_mistake_of_who_asks_and_no_trouble_of_the_database() {
    let Some(database) = TestDatabase::postgres() else { return };
    let DatabaseUrl::Postgres(url) = database.url() else { unreachable!("it is PostgreSQL") };
    let daemon = start(&[("SEXTON_DATABASE__URL", url)]);
    reasons_are_refused(&daemon);
    let filters = ["kind=a%00b", "queue=a%00b", "schedule=a%00b"];
    let lists = filters.iter().map(|filter| format!("/api/v1/jobs?{filter}"));
    for path in lists.chain(["/api/v1/occurrences?schedule=a%00b".to_owned()]) {
        let (status, said) = ask(&daemon, ("GET", &path), None);
        assert_eq!(status, 400, "{path}: {said:#}");
        assert!(said["detail"].as_str().is_some_and(|said| said.contains("NUL")), "{said:#}");
    }
    let (status, said) = ask(&daemon, ("GET", "/api/v1/jobs?label=k=a%00b"), None);
    assert_eq!(status, 400, "{said:#}");
    let order = json!({ "queue": "a\u{0}b" });
    let (status, said) = ask(&daemon, ("POST", "/api/v1/jobs/cancel"), Some(&order));
    assert_eq!(status, 400, "{said:#}");
    assert!(!daemon.output().contains("a request failed in the store"), "{}", daemon.output());
}
