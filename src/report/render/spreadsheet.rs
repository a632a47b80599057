//! CSV as of RFC 4180: one row for the period, the one before, each kind, each schedule and each bar of the chart.

use super::{Rendered, words};
use crate::report::Numbers;
use crate::report::numbers::{Bucket, Ended, Summary};

const HEADER: [&str; 25] = [
    "row",
    "name",
    "completed",
    "failed",
    "cancelled",
    "success_rate",
    "attempts",
    "retries",
    "recovered",
    "interrupted",
    "duration_p50_ms",
    "duration_p95_ms",
    "duration_max_ms",
    "duration_mean_ms",
    "wait_p50_ms",
    "wait_p95_ms",
    "wait_max_ms",
    "lateness_p50_ms",
    "lateness_p95_ms",
    "lateness_max_ms",
    "enqueued",
    "coalesced",
    "skipped",
    "missed",
    "timezone",
];

pub(super) fn csv(numbers: &Numbers) -> Rendered {
    let mut writer =
        csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    writer.write_record(HEADER)?;
    let zone = &numbers.period.timezone;
    let span = |from: jiff::Timestamp, to: jiff::Timestamp| format!("{from}/{to}");
    let period = span(numbers.period.from, numbers.period.to);
    writer.write_record(summary_row("period", &period, &numbers.summary, zone))?;
    if let Some(previous) = &numbers.previous {
        let period = span(previous.from, previous.to);
        writer.write_record(summary_row("previous", &period, &previous.summary, zone))?;
    }
    for kind in &numbers.kinds {
        writer.write_record(summary_row("kind", &kind.name, &kind.summary, zone))?;
    }
    for schedule in &numbers.schedules {
        writer.write_record(summary_row("schedule", &schedule.name, &schedule.summary, zone))?;
    }
    for bucket in &numbers.throughput.buckets {
        writer.write_record(bucket_row(bucket, zone))?;
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}

fn summary_row(row: &str, name: &str, summary: &Summary, zone: &str) -> Vec<String> {
    let mut cells = first_cells(row, name, summary.jobs, summary.success_rate);
    let counts = [summary.attempts, summary.retries, summary.recovered, summary.interrupted];
    cells.extend(counts.map(|number| number.to_string()));
    let lengths = [
        summary.duration.p50_us,
        summary.duration.p95_us,
        summary.duration.max_us,
        summary.duration.mean_us,
        summary.wait.p50_us,
        summary.wait.p95_us,
        summary.wait.max_us,
        summary.lateness.p50_us,
        summary.lateness.p95_us,
        summary.lateness.max_us,
    ];
    cells.extend(lengths.map(|micros| micros.map(milliseconds).unwrap_or_default()));
    let instants = [summary.enqueued, summary.coalesced, summary.skipped, summary.missed];
    cells.extend(instants.map(|number| number.to_string()));
    cells.push(text(zone));
    cells
}

fn bucket_row(bucket: &Bucket, zone: &str) -> Vec<String> {
    let from = bucket.from.to_string();
    let mut cells = first_cells("bucket", &from, bucket.jobs, bucket.jobs.success_rate());
    cells.resize(HEADER.len() - 1, String::new());
    cells.push(text(zone));
    cells
}

fn first_cells(row: &str, name: &str, jobs: Ended, success_rate: Option<f64>) -> Vec<String> {
    let rate = success_rate.map(|share| format!("{share:.6}")).unwrap_or_default();
    vec![
        row.to_owned(),
        text(name),
        jobs.completed.to_string(),
        jobs.failed.to_string(),
        jobs.cancelled.to_string(),
        rate,
    ]
}

fn milliseconds(micros: u64) -> String {
    format!("{}.{:03}", micros / 1000, micros % 1000)
}

/// A text that no spreadsheet takes for a formula (OWASP, "CSV injection"): what begins like one gets an apostrophe.
fn text(text: &str) -> String {
    let text = words::visible(text);
    match text.starts_with([
        '=', '+', '-', '@', '\t', '\r', '\n', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}',
    ]) {
        true => format!("'{text}"),
        false => text,
    }
}
