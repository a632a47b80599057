//! The schedules that come with a clone: each is valid, of another kind, and has a next run.

use std::collections::BTreeSet;
use std::path::PathBuf;

use jiff::Timestamp;
use sexton::catalog::{Reading, check};
use sexton::jobs::KINDS;
use sexton::schedule::{Defaults, Look, render_all};

#[test]
fn every_kind_of_the_examples_is_valid() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/kinds"));
    let reading = Reading { defaults: Defaults::default(), kinds: KINDS, kind_dirs: Vec::new() };
    let report = check(&[folder], &reading, "2026-11-23T00:00:00Z".parse().unwrap());
    assert_eq!(report.diagnostics, [], "{}", render_all(&report.diagnostics, Look::Plain));
    assert_eq!(report.files.len(), 11);
}

#[test]
fn every_shipped_schedule_is_valid_and_fires() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/schedules"));
    let reading = Reading { defaults: Defaults::default(), kinds: KINDS, kind_dirs: Vec::new() };
    let now: Timestamp = "2026-11-23T00:00:00Z".parse().unwrap();
    let report = check(&[folder], &reading, now);
    let diagnostics = render_all(&report.diagnostics, Look::Plain);
    assert!(report.diagnostics.is_empty(), "{diagnostics}");
    let kinds: BTreeSet<&str> =
        report.schedules.iter().map(|schedule| schedule.kind.as_str()).collect();
    let expected = ["cleanup", "command", "data_sync", "kb_validation", "stats_report"];
    assert_eq!(kinds, BTreeSet::from(expected));
    for schedule in &report.schedules {
        assert!(schedule.enabled, "{}", schedule.id);
        assert!(schedule.when.rule.next_after(now, None).is_some(), "{} never fires", schedule.id);
        assert!(!schedule.when.rule.describe().is_empty(), "{}", schedule.id);
    }
}
