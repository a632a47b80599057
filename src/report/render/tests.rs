use std::ops::ControlFlow;

use super::*;
use crate::report::testing::{MemorySource, hostile, two_days};
use crate::report::{Period, Request, Scope, gather};

/// The report of 21 November 2026, made the following midnight.
async fn numbers(source: &MemorySource) -> Numbers {
    let reference: jiff::Zoned = "2026-11-22T00:00[Europe/Berlin]".parse().unwrap();
    let request = Request {
        period: Period::Yesterday,
        compare: true,
        scope: Scope::default(),
        host: "belfry".to_owned(),
        now: reference.timestamp(),
        reference,
    };
    gather(source, &request, |_rows| ControlFlow::Continue(())).await.unwrap()
}

async fn rendered(source: &MemorySource, format: Format) -> String {
    render(&numbers(source).await, format).unwrap()
}

#[tokio::test]
async fn a_day_looks_as_it_did_when_it_was_last_looked_at() {
    let source = two_days();
    for format in Format::ALL {
        let text = rendered(&source, format).await;
        insta::assert_snapshot!(format!("day_{}", format.extension()), text);
    }
}

#[tokio::test]
async fn an_empty_period_is_a_whole_report_that_says_so() {
    let source = MemorySource::default();
    let html = rendered(&source, Format::Html).await;
    assert!(html.contains("No job ended in this period."));
    assert!(html.ends_with("</html>\n"));
    for heading in ["Failed jobs", "By schedule", "Slowest", "<svg class=\"chart\""] {
        assert!(!html.contains(heading), "{heading}");
    }
    insta::assert_snapshot!("empty_md", rendered(&source, Format::Markdown).await);
    let json: serde_json::Value =
        serde_json::from_str(&rendered(&source, Format::Json).await).unwrap();
    assert_eq!(json["summary"]["success_rate"], serde_json::Value::Null);
    assert_eq!(json["throughput"]["buckets"].as_array().unwrap().len(), 24);
}

#[tokio::test]
async fn hostile_texts_stay_text_in_html() {
    let html = rendered(&hostile(), Format::Html).await;
    for markup in ["<script", "<img", "<b>", "\u{202e}", "\u{7}", "onerror=alert(1)>"] {
        assert!(!html.contains(markup), "{markup:?}");
    }
    assert!(html.contains("&lt;script&gt;"));
    assert!(html.contains("{{ 7 * 7 }}"), "what is reported is not a template");
}

#[tokio::test]
async fn hostile_texts_stay_in_their_cell_in_markdown() {
    let markdown = rendered(&hostile(), Format::Markdown).await;
    let line = markdown.lines().find(|line| line.contains("alert('x')")).unwrap();
    assert_eq!(line.replace("\\|", "").matches('|').count(), 6);
    assert!(!markdown.replace("\\<", "").contains('<'), "every angle bracket is escaped");
}

#[tokio::test]
async fn no_cell_of_a_spreadsheet_is_a_formula_and_every_row_is_as_long() {
    let text = rendered(&hostile(), Format::Csv).await;
    assert!(text.lines().count() > 4 && text.ends_with("\r\n"));
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    for row in reader.records() {
        for cell in &row.unwrap() {
            assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']), "{cell:?}");
        }
    }
}

#[tokio::test]
async fn a_report_needs_nothing_but_itself() {
    let html = rendered(&two_days(), Format::Html).await;
    for outside in ["http:", "https:", "<script", "<link", "<img", "@import", "url("] {
        assert!(!html.contains(outside), "{outside}");
    }
    for alternative in
        ["<title>", "<desc", "aria-label", "prefers-color-scheme: dark", "@media print"]
    {
        assert!(html.contains(alternative), "{alternative}");
    }
}

#[tokio::test]
async fn json_tells_its_version_and_times_with_microseconds() {
    let json: serde_json::Value =
        serde_json::from_str(&rendered(&two_days(), Format::Json).await).unwrap();
    assert_eq!(json["schema_version"], 1);
    assert_eq!(json["period"]["from"], "2026-11-20T23:00:00.000000Z");
    assert_eq!(json["period"]["timezone"], "Europe/Berlin");
}

#[tokio::test]
async fn the_store_is_a_source_and_an_empty_one_makes_an_empty_report() {
    use crate::report::Source;
    let database = crate::store::testing::sqlite();
    let reference: jiff::Zoned = "2026-11-22T00:00[UTC]".parse().unwrap();
    let window = Period::LastMonth.window(&reference).unwrap();
    assert_eq!(database.store().attempts(window, None).await.unwrap().rows, []);
    let request = Request {
        period: Period::LastMonth,
        compare: true,
        scope: Scope::default(),
        host: String::new(),
        now: reference.timestamp(),
        reference,
    };
    let numbers = gather(database.store(), &request, |_| ControlFlow::Continue(())).await.unwrap();
    assert_eq!(numbers.summary, crate::report::numbers::Summary::default());
    assert_eq!(numbers.throughput.buckets.len(), 31);
}
