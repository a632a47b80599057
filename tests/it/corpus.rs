//! What fuzzing found and kept: every input goes through the invariants again. How to search for more is in `fuzz/README.md`.

use std::path::Path;

#[path = "../../fuzz/invariants/mod.rs"]
mod invariants;

fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let input = std::fs::read(&path).unwrap();
        let holds = std::panic::catch_unwind(|| check(&input));
        assert!(holds.is_ok(), "{} breaks an invariant", path.display());
        count += 1;
    }
    assert!(count > 0, "{} is empty", folder.display());
}

#[test]
fn the_kept_schedule_files_hold_every_invariant() {
    replay("schedule_file", invariants::schedule_file::check);
}

#[test]
fn the_kept_cron_expressions_hold_every_invariant() {
    replay("cron", invariants::cron::check);
}

#[test]
fn the_kept_lengths_of_time_hold_every_invariant() {
    replay("duration", invariants::duration::check);
}

#[test]
fn the_kept_settings_hold_every_invariant() {
    replay("settings", invariants::settings::check);
}

#[test]
fn the_kept_request_bodies_hold_every_invariant() {
    replay("api_json", invariants::api_json::check);
}

#[test]
fn the_kept_audit_logs_hold_every_invariant() {
    replay("audit_verify", invariants::audit_verify::check);
}
