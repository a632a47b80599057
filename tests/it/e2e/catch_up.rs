//! Instants that passed while nobody was there.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use sexton::clock::{Clock, SystemClock};

use crate::harness::daemon::{Daemon, eventually};

const DOWN: SignedDuration = SignedDuration::from_secs(4);

fn schedule(catch_up: &str) -> String {
    format!(
        "[when]\nevery = \"1s\"\ncatch_up = \"{catch_up}\"\n[run]\noverlap = \"allow\"\n[command]\nargv = [\"true\"]\n"
    )
}

fn instant(row: &serde_json::Value) -> Timestamp {
    row["nominal_at"].as_str().and_then(|text| text.parse().ok()).expect("an instant")
}

#[test]
fn k_every_instant_of_a_downtime_has_exactly_one_row_under_every_policy() {
    let policies = ["all", "latest", "none"];
    let mut daemon = Daemon::start(|home| {
        policies.iter().for_each(|policy| home.schedule(policy, &schedule(policy)));
    });
    policies.iter().for_each(|policy| drop(daemon.decided(policy, "enqueued")));
    assert!(daemon.terminate().success());
    let down = SystemClock.now();
    eventually("some seconds pass", || (SystemClock.now() >= down + DOWN).then_some(()));
    let up = SystemClock.now();
    daemon.start_again();

    for policy in policies {
        let rows = eventually("an instant after the downtime is decided", || {
            let rows = daemon.ledger(policy);
            rows.iter().any(|row| instant(row) > up).then_some(rows)
        });
        let instants: BTreeSet<Timestamp> = rows.iter().map(instant).collect();
        assert_eq!(instants.len(), rows.len(), "{policy}: an instant has two rows");
        let (first, last) = (*instants.first().unwrap(), *instants.last().unwrap());
        let seconds = usize::try_from(last.duration_since(first).as_secs()).unwrap();
        assert_eq!(rows.len(), seconds + 1, "{policy}: an instant has no row: {instants:?}");

        let gap: Vec<_> = rows
            .iter()
            .filter(|row| (down..up).contains(&instant(row)))
            .map(|row| row["decision"].as_str().unwrap())
            .collect();
        assert!(gap.len() >= 3, "{policy}: {gap:?}");
        // Newest first; the newest may still be on time.
        let expected = match policy {
            "all" => "enqueued",
            "latest" => "coalesced",
            _ => "missed",
        };
        assert!(gap[1..].iter().all(|decision| *decision == expected), "{policy}: {gap:?}");
        assert!(rows.iter().all(|row| row["reason"].as_str().is_some_and(|why| !why.is_empty())));
        assert!(rows.iter().all(|row| (row["decision"] == "enqueued") == row["job_id"].is_i64()));
    }
}
