//! Logs whose file is not there.

use super::waiting::counting;
use crate::harness::daemon::Daemon;

#[test]
fn only_the_end_of_a_log_whose_file_is_gone_is_shown_and_that_is_said() {
    let daemon = Daemon::start(|_| {});
    let long = daemon.submit("seq 1 5000", &[])["id"].as_i64().expect("a job");
    let short = daemon.submit("seq 1 500; sleep 1.5", &[])["id"].as_i64().expect("a job");
    let no_file = daemon.submit("seq 1 500", &[])["id"].as_i64().expect("a job");
    for id in [long, short, no_file] {
        daemon.job_in(id, "completed");
    }
    let logs = |id: i64, more: &[&str]| {
        let id = id.to_string();
        daemon.cli(["logs", &id].iter().chain(more)).exits(0)
    };
    assert_eq!(logs(long, &[]).stderr, "");
    assert_eq!(logs(long, &["--json"]).json()["tail"], false);
    std::fs::remove_dir_all(daemon.path("data/runs")).expect("logs");
    for more in [&[][..], &["-f"]] {
        let shown = logs(long, more);
        let first: u32 = shown.stdout.lines().next().expect("a line").parse().expect("a number");
        assert!(first > 4000 && shown.stdout == counting(first, 5000), "{shown:?}");
        assert_eq!(shown.stderr.matches("these are its last 4 KiB").count(), 1, "{shown:?}");
        for id in [short, no_file] {
            let whole = logs(id, more);
            assert_eq!((whole.stdout, whole.stderr), (counting(1, 500), String::new()));
        }
    }
    assert_eq!(logs(long, &["--json"]).json()["tail"], true);
}

#[test]
fn an_attempt_that_never_was_has_no_log() {
    let daemon = Daemon::start(|_| {});
    let fails =
        daemon.submit("echo once; exit 1", &["--max-attempts", "1"])["id"].as_i64().unwrap();
    daemon.job_in(fails, "failed");
    let logs = |attempt: &str| daemon.cli(["logs", &fails.to_string(), "--attempt", attempt]);
    assert_eq!(logs("1").exits(0).stdout, "once\n");
    for never in ["0", "2", "9"] {
        let refused = logs(never).exits(4);
        assert!(refused.stderr.contains(&format!("no attempt {never}")), "{refused:?}");
    }
}
