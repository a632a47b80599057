use std::path::PathBuf;

use super::*;
use crate::jobs::{JobInfo, testing};
use crate::report::testing::{MemorySource, two_days};

/// A run of the schedule `daily` made for midnight at the end of 21 November 2026 in Berlin, which runs an hour late.
fn context(params: Value) -> (Context, tempfile::TempDir) {
    let (mut context, folder) = testing::context("stats_report", params);
    let midnight: Timestamp = "2026-11-21T23:00:00Z".parse().unwrap();
    let job = JobInfo {
        schedule: Some(("daily".parse().unwrap(), midnight)),
        ..JobInfo::clone(&context.job)
    };
    context.job = Arc::new(job);
    (context.at("2026-11-22T00:00:00Z".parse().unwrap()), folder)
}

fn berlin() -> Value {
    json!({"timezone": "Europe/Berlin"})
}

async fn run(source: MemorySource, context: Context) -> Answer {
    StatsReportHandler::new(Arc::new(source)).run(context).await
}

fn done(answer: Answer) -> Value {
    match answer {
        Answer::Done(result) => result,
        other => panic!("it did not work: {other:?}"),
    }
}

fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_late_run_reports_on_the_day_it_was_made_for_in_every_format() {
    let (context, _folder) = context(berlin());
    let reports = context.paths.reports.join("daily");
    let result = done(run(two_days(), context).await);
    let written = ["csv", "html", "json", "md"];
    let expected: Vec<String> = written
        .iter()
        .map(|ext| format!("2026-11-21.{ext}"))
        .chain(written.iter().map(|ext| format!("latest.{ext}")))
        .collect();
    assert_eq!(names(&reports), expected);
    assert_eq!(result["totals"]["jobs"]["failed"], 3);
    assert_eq!(result["files"].as_array().unwrap().len(), 4);
    let latest: Value =
        serde_json::from_slice(&std::fs::read(reports.join("latest.json")).unwrap()).unwrap();
    assert_eq!(latest["period"]["to"], "2026-11-21T23:00:00.000000Z");
    assert_eq!(latest["generated_at"], "2026-11-22T00:00:00.000000Z");
    assert_eq!(latest["previous"]["summary"]["jobs"]["failed"], 0);
}

#[tokio::test]
async fn running_it_again_changes_nothing_but_the_time_it_was_made() {
    let (context, _folder) = context(berlin());
    let reports = context.paths.reports.join("daily");
    let first = done(run(two_days(), context.clone()).await);
    let before = names(&reports);
    assert_eq!(done(run(two_days(), context).await), first);
    assert_eq!(names(&reports), before);
}

#[tokio::test]
async fn a_dry_run_lists_what_it_would_do_and_does_none_of_it() {
    let (context, folder) = context(json!({"formats": ["html"], "keep": "30d"}));
    let reports = context.paths.reports.join("daily");
    std::fs::create_dir_all(&reports).unwrap();
    std::fs::write(reports.join("2026-01-01.html"), "old").unwrap();
    let result = done(run(two_days(), context.dry_run()).await);
    assert_eq!(names(&reports), ["2026-01-01.html"]);
    assert_eq!(names(folder.path()), ["reports"]);
    let path = |name: &str| json!(reports.join(name));
    assert_eq!(result["dry_run"], true);
    assert_eq!(result["files"][0]["path"], path("2026-11-20.html"));
    assert_eq!(result["latest"], json!([path("latest.html")]));
    assert_eq!(result["removed"], json!([path("2026-01-01.html")]));
}

#[tokio::test]
async fn retention_removes_its_own_old_reports_and_nothing_else() {
    let (context, _folder) = context(json!({"formats": ["json"], "keep": "30d"}));
    let reports = context.paths.reports.join("daily");
    std::fs::create_dir_all(reports.join("2020-01-01.md")).unwrap();
    for file in ["2026-01-01.json", "2026-01-01.html", "2026-01-01.pdf", "2026-11-01.json", "notes"]
    {
        std::fs::write(reports.join(file), "").unwrap();
    }
    std::os::unix::fs::symlink("notes", reports.join("2020-01-02.csv")).unwrap();
    let result = done(run(two_days(), context).await);
    assert_eq!(
        names(&reports),
        [
            "2020-01-01.md",
            "2020-01-02.csv",
            "2026-01-01.pdf",
            "2026-11-01.json",
            "2026-11-20.json",
            "latest.json",
            "notes"
        ]
    );
    assert_eq!(result["removed"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn an_older_report_made_later_does_not_become_the_latest() {
    let (context, _folder) = context(json!({"formats": ["json"]}));
    let reports = context.paths.reports.join("daily");
    std::fs::create_dir_all(&reports).unwrap();
    std::fs::write(reports.join("2026-11-30.json"), "newer").unwrap();
    done(run(two_days(), context).await);
    assert_eq!(std::fs::read_to_string(reports.join("latest.json")).unwrap(), "newer");
}

#[tokio::test]
async fn an_empty_period_is_reported_and_succeeds() {
    let (context, _folder) = context(json!({}));
    let result = done(run(MemorySource::default(), context).await);
    assert_eq!(result["totals"]["success_rate"], Value::Null);
    assert_eq!(result["files"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn a_job_that_no_schedule_made_reports_up_to_now() {
    let (context, _folder) =
        testing::context("stats_report", json!({"period": "today", "formats": ["json"]}));
    let path: PathBuf = context.paths.reports.join("_manual/2026-06-15.json");
    done(run(MemorySource::default(), context).await);
    let numbers: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(numbers["period"]["to"], "2026-06-15T12:00:00.000000Z");
}

#[tokio::test]
async fn a_stopped_run_says_so_and_writes_nothing() {
    let (context, folder) = context(json!({}));
    context.stop.cancel();
    let answer = run(two_days(), context).await;
    assert!(matches!(answer, Answer::Stopped { .. }), "{answer:?}");
    assert!(names(folder.path()).is_empty());
}

#[tokio::test]
async fn a_database_that_cannot_be_read_is_an_error_to_be_retried() {
    let (context, _folder) = context(json!({}));
    let source = MemorySource { broken: true, ..MemorySource::default() };
    let Answer::Failed(failure) = run(source, context).await else { panic!("it worked") };
    assert!(!failure.is_answer);
    assert_eq!(failure.retry, crate::jobs::RetryAdvice::ByPolicy);
    assert_eq!(failure.message, "cannot read the attempts of the period: the disk is gone");
}

#[tokio::test]
async fn a_folder_in_the_way_is_named_in_the_error() {
    let (context, _folder) = context(json!({"formats": ["html"]}));
    let in_the_way = context.paths.reports.join("daily/latest.html");
    std::fs::create_dir_all(in_the_way.join("full")).unwrap();
    let Answer::Failed(failure) = run(two_days(), context).await else { panic!("it worked") };
    assert!(failure.message.contains("latest.html"), "{}", failure.message);
}

#[tokio::test]
async fn params_of_another_version_are_refused_for_good() {
    let (context, _folder) = context(json!({"sections": ["summary"]}));
    let Answer::Failed(failure) = run(two_days(), context).await else { panic!("it worked") };
    assert_eq!(failure.retry, crate::jobs::RetryAdvice::Never);
    assert!(failure.message.contains("unknown key `sections`"), "{}", failure.message);
}
